"""Chapter 07: the exercises and what grades them."""

import itertools
import time

import numpy as np

from nnzip import codebooks as reference
from nnzip.book.grading import Exercise, Wrong, any_floats, any_shape, exercise, expect, given
from nnzip.data import load_mnist
from nnzip.nn.network import weights_of
from nnzip.nn.training import evaluate
from nnzip.nn.zoo import trained


@exercise(section="2. Codes and values", difficulty=1, size="two lines")
def assign(x, codebook):  # [...], ascending [k] -> uint8 [...]
    """Return for each number the place of the nearest value in the codebook; half-way between two it is the lower.

    >>> assign(np.array([0.35, -0.3, 0.1]), np.array([-0.5, 0.0, 0.2, 0.6]))
    array([2, 0, 1], dtype=uint8)
    """
    return reference.assign(x, codebook)


assign.case(
    "A code is the place of the nearest value; the border lies half-way between two values.",
    np.array([0.4, 0.6, 5.4, 5.6]),
    np.array([0.0, 1.0, 10.0]),
    gives=[0, 1, 1, 2],
    likely="compare with the midpoints of neighbours, not with the values",
)
assign.case(
    "Half-way between two values the lower wins, above and below zero.",
    np.array([-1.0, 1.0, 0.0]),
    np.array([-2.0, 0.0, 2.0]),
    gives=[0, 1, 1],
    likely="np.searchsorted(borders, x) gives the left place; side='right' the right one",
)


@assign.draw("codes are uint8, in the shape of the numbers; the last of 256 codes is 255", dtype=True)
def any_codebook(rng):
    """Numbers of any shape, some on borders and some beyond the ends, and codebooks of 1 to 256 values."""
    codebook = np.unique(np.round(rng.normal(scale=8, size=rng.integers(1, 400)) * 4) / 4)[:256]
    x = rng.uniform(codebook[0] - 2, codebook[-1] + 2, any_shape(rng, most=20 if rng.random() < 0.3 else 6))
    return given(np.where(rng.random(x.shape) < 0.5, np.round(8 * x) / 8, x), codebook)


@exercise(
    section="3. k-means on a line",
    difficulty=2,
    size="ten lines",
    task="The last check asks that 150 iterations take no ten times as long as one: sort and sum up once, then an "
    "iteration never touches the numbers.",
)
def lloyd(x, start, *, iterations):  # [n] in any order, ascending [k] -> float64 [k]
    """Return the values of k-means after so many of Lloyd's iterations.

    In each, every number goes to its nearest value (a tie to the lower), and every value becomes the mean of its
    numbers. A value that has none stays where it is.

    >>> lloyd(np.array([10.0, 0.0, 1.0, 12.0]), np.array([0.0, 12.0]), iterations=1)
    array([ 0.5, 11. ])
    """
    return reference.lloyd(np.sort(x), np.asarray(start, np.float64), iterations)


lloyd.case(
    "One iteration: the mean of the numbers nearest to each value.",
    np.array([10.0, 0.0, 1.0, 14.0, 12.0]),
    np.array([0.0, 12.0]),
    iterations=1,
    gives=[0.5, 12.0],
    tolerance=1e-12,
    likely="the numbers come in any order",
)
lloyd.case(
    "A value to which no number is nearest stays where it is, at either end too.",
    np.array([0.0, 0.5, 10.0]),
    np.array([-9.0, 0.0, 5.0, 9.0, 20.0]),
    iterations=1,
    gives=[-9.0, 0.25, 5.0, 10.0, 20.0],
    likely="the mean of nothing is 0 / 0: keep the old value",
)
lloyd.case(
    "A number half-way between two values counts for the lower.",
    np.array([0.0, 1.0, 1.0, 2.0, 3.0]),
    np.array([0.0, 2.0]),
    iterations=1,
    gives=[2 / 3, 2.5],
    tolerance=1e-12,
    likely="the borders are midpoints; searchsorted(sorted x, borders, side='right') counts a tie to the lower",
)
lloyd.case(
    "One large number must not drown the small ones that are summed after it.",
    np.concatenate([[-(2.0**26)], np.ones(40_000)]).astype(np.float32),
    np.array([-1e8, 3.0]),
    iterations=1,
    gives=[-(2.0**26), 1.0],
    tolerance=1e-9,
    likely="prefix sums of float32 numbers: np.cumsum(x, dtype=np.float64)",
)


@lloyd.draw("the second iteration begins with the values of the first", ulps=1000, dtype=True)
def any_numbers(rng):
    """Whole numbers, so that there are ties, or others, from any start, and 0 to 4 iterations."""
    x = rng.normal(scale=30, size=rng.integers(1, 60))
    if rng.random() < 0.5:
        x = np.round(x)
    start = rng.normal(scale=40, size=rng.integers(1, 9))
    return given(x, np.unique(np.round(start, int(rng.choice([0, 9])))), iterations=int(rng.integers(5)))


@lloyd.check
def an_iteration_is_cheap(lloyd):
    """150 iterations over 300,000 numbers take hardly longer than one: sorting them is what takes time."""
    x, start = np.random.default_rng(1).permutation(300_000).astype(np.float64), np.linspace(0, 3e5, 64)
    taken = []
    for iterations in (1, 1, 150):
        begin = time.perf_counter()
        lloyd(x, start, iterations=iterations)
        taken.append(time.perf_counter() - begin)
    if taken[2] > 10 * min(taken[:2]):
        raise Wrong(
            f"took:     {min(taken[:2]):.2f} s for one iteration, {taken[2]:.2f} s for 150\n"
            "likely:   a pass over the numbers in every iteration: search the sorted numbers for the borders, and take "
            "means from differences of prefix sums"
        )


@lloyd.unlocked("a trained network's layers in 2 to 16 values by your function")
def clusters(lloyd):
    network, data = trained("lenet_300_100"), load_mnist()
    lines = ["LeNet-300-100, a codebook for each layer, 100 of your iterations from even steps, 10,000 test images:"]
    for k in (2, 4, 8, 16):
        shared = network.copy()
        for weight in weights_of(shared).values():
            start = np.linspace(weight.min(), weight.max(), k, dtype=np.float64)
            codebook = lloyd(weight.ravel(), start, iterations=100)
            weight[...] = reference.look_up(reference.assign(weight, codebook), codebook)
        lines.append(f"  {k:2} values: {evaluate(shared, data.test_images, data.test_labels):.2%} error")
    return "\n".join(lines)


@exercise(
    section="4. Where to start, and what is best",
    difficulty=3,
    size="twenty lines",
    task="Graded by squared error, up to 400 numbers and 12 values; k n^2 steps are few enough.",
)
def optimal_codebook(x, k):  # [...] -> float32 [k]
    """Return the k values, in ascending order, of least squared error: what every other codebook is judged by.

        E(j, m) = min over i of E(i, m - 1) + the squared error of the sorted numbers i to j around their mean

    of j numbers in m groups. Of fewer numbers than k the largest is repeated. (Wang and Song 2011, Ckmeans.1d.dp.)

    >>> optimal_codebook(np.array([0.0, 1.0, 10.0, 12.0, 30.0]), 3)
    array([ 0.5, 11. , 30. ], dtype=float32)
    """
    return reference.optimal_codebook(x, k)


def _squared_error(x, codebook):
    distances = np.abs(np.ravel(x)[:, None].astype(np.float64) - np.asarray(codebook, np.float64))
    return float(np.sum(distances.min(axis=1) ** 2))


def _least_error(x, k):
    """By brute force over all cuts of the sorted numbers into k intervals or fewer."""
    x, n = np.sort(np.ravel(x).astype(np.float64)), np.size(x)
    cuts = (c for m in range(min(k, n)) for c in itertools.combinations(range(1, n), m))
    return min(sum(float(np.sum((part - part.mean()) ** 2)) for part in np.split(x, c)) for c in cuts)


optimal_codebook.case(
    "The best values are the means of the best groups, in ascending order, as float32.",
    np.array([[12.0, 0.0, 30.0], [1.0, 10.0, 30.0]]),
    3,
    gives=[0.5, 11.0, 30.0],
    tolerance=1e-5,
    dtype=np.float32,
    likely="sort, cut, take means",
)
optimal_codebook.case(
    "From even steps Lloyd's iteration stops at an error of 5.5; 1.5 is possible.",
    np.array([0.0, 1.0, 2.0, 3.0, 100.0, 101.0]),
    3,
    gives=[0.5, 2.5, 100.5],
    tolerance=1e-4,
    likely="no iteration from a start finds it: try all cuts",
)
optimal_codebook.case(
    "Three different numbers and five values: the largest is repeated, the error is 0.",
    np.array([3.0, 1.0, 2.0, 3.0]),
    5,
    gives=[1.0, 2.0, 3.0, 3.0, 3.0],
    dtype=np.float32,
)


@optimal_codebook.check
def against_brute_force(optimal_codebook, rng):
    """Nine random numbers: some with an outlier, some repeated, some far from 0; all cuts tried."""
    for _ in range(24):
        x, k = rng.normal(size=9) ** int(rng.integers(1, 8, endpoint=True)), int(rng.integers(1, 6))
        x = np.round(x) + rng.choice([0, 1e5]) if rng.random() < 0.4 else x
        got = optimal_codebook(x, k)
        if np.shape(got) != (k,):
            expect(got, np.zeros(k), f"return {k} values")
        ours, float32 = _least_error(x, k), (1e-6 * np.abs(x).max()) ** 2 * len(x)
        likely = "squared errors; the cost of a cluster is sum x^2 - (sum x)^2 / count, from i to before j"
        expect(_squared_error(x, got), ours, likely, tolerance=1e-6 * ours + float32)


@optimal_codebook.check
def known_optimum(optimal_codebook, rng):
    """400 numbers in 12 groups of different sizes, far apart: no list of all cuts is short enough."""
    sizes = rng.multinomial(388, np.ones(12) / 12) + 1
    groups = [100 * i + rng.permutation(size) / size for i, size in enumerate(sizes)]
    likely = "dynamic programming: the best of j numbers in m clusters, for all j"
    got = optimal_codebook(rng.permutation(np.concatenate(groups)), 12)
    expect(got, np.array([group.mean() for group in groups]), likely, tolerance=1e-3)


power_of_two_codebook = Exercise(
    reference.power_of_two_codebook, section="5. Values by rule", difficulty=2, size="six lines"
)

power_of_two_codebook.case(
    "At 3 bits there are three exponents of each sign, and 0.",
    np.array([0.9, -0.1]),
    bits=3,
    gives=[-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0],
    dtype=np.float32,
    likely="2^(bits-1) - 1 exponents, from the largest downward",
)
power_of_two_codebook.case(
    "The top is the power nearest to max|x|: 2.9 lies nearer to 2 than to 4, although its logarithm does not.",
    np.array([0.0, -2.9]),
    bits=2,
    gives=[-2, 0, 2],
    likely="nearest means least |2^e - max|, not round(log2(max)), floor or ceil",
)
power_of_two_codebook.case(
    "Zeros have no logarithm: the top is 1.", np.zeros((2, 2)), bits=2, gives=[-1, 0, 1], likely="log2(0) is -inf"
)


@power_of_two_codebook.draw("max of |x|, in an array of any shape", dtype=True)
def weights_of_any_size(rng):
    """Weights of any size and shape, some exactly between two powers, at 2 to 6 bits."""
    x = any_floats(rng, any_shape(rng))
    if rng.random() < 0.3:
        x = np.asarray(x / np.abs(x).max() * rng.choice([1.0, 1.5]) * 2.0 ** rng.integers(-8, 8), x.dtype)
    return given(x, bits=int(rng.integers(2, 7)))


@exercise(section="6. One bit, three values", difficulty=2, size="six lines")
def ternary(w, *, axis=None):  # [C, ...] -> float32 [3] or [C, 3]
    """Return the codebook (-a, 0, a) of ternary weights: a is the mean of the magnitudes above 0.7 mean|w|.

    Of all weights one codebook; with axis=0 one for each of the C rows. Zeros alone have a = 0. Source: Li and Liu 2016
    (arXiv:1605.04711), eqs. 5 and 6.

    >>> ternary(np.array([0.0, 0.1, -0.1, 1.0, -2.0]))
    array([-1.5,  0. ,  1.5], dtype=float32)
    """
    return reference.ternary(w, axis=axis)


ternary.case(
    "a is the mean of the magnitudes above 0.7 times the mean of all.",
    np.array([0.0, 0.1, -0.1, 1.0, -2.0]),
    gives=[-1.5, 0.0, 1.5],
    tolerance=1e-6,
    likely="mean|w| is 0.64, the threshold 0.448; 1 and 2 are above it",
)
ternary.case(
    "A row of zeros has the codebook (0, 0, 0), without a NaN; with axis=0 every row has its own.",
    np.array([[0.0, 0.0], [1.0, 1.0]]),
    axis=0,
    gives=[[0, 0, 0], [-1, 0, 1]],
    tolerance=1e-7,
    dtype=np.float32,
    likely="0 / 0",
)


@ternary.draw("|w| first; the threshold and the mean are those of the row, a filter or a neuron", ulps=16, dtype=True)
def any_weights(rng):
    """Weights of one to four axes, squares among them, some of equal magnitude."""
    w = any_floats(rng, any_shape(rng)) + rng.normal(scale=0.5)
    return given(np.sign(w) if rng.random() < 0.2 else w, **({"axis": 0} if rng.random() < 0.6 else {}))


@exercise(section="8. Training the values", difficulty=1, size="one line")
def sum_by_cluster(grad, codes, k):  # [...], uint8 [...] -> [k], of grad's dtype
    """Return the gradient of each of the k values of a codebook: the sum over all weights that have its code.

    Sums are taken in float64, so that small gradients beside a large one count.

    >>> sum_by_cluster(np.array([1.0, 2.0, 3.0]), np.array([0, 2, 2], np.uint8), 3)
    array([1., 0., 5.])
    """
    return reference.sum_by_cluster(grad, codes, k)


sum_by_cluster.case(
    "The gradient of a value is the sum over the weights that share it.",
    np.array([1.0, 2.0, 3.0, 4.0, 5.0]),
    np.array([0, 2, 2, 0, 2], np.uint8),
    4,
    gives=[5.0, 0.0, 10.0, 0.0],
    likely="the sum and not the mean; np.bincount stops at the largest code: minlength=k",
)
sum_by_cluster.case(
    "A thousand small gradients beside a large one, returned in their own dtype.",
    np.concatenate([[2.0**24], np.ones(1000)]).astype(np.float32),
    np.zeros(1001, np.uint8),
    1,
    gives=[2**24 + 1000],
    dtype=np.float32,
    likely="in float32 2^24 + 1 is 2^24; total[codes] += grad adds once for each code",
)


@sum_by_cluster.draw("ravel both, in the same order", ulps=64, dtype=True)
def any_gradients(rng):
    """Gradients and codes of one to four axes, in any order of memory."""
    grad, k = any_floats(rng, any_shape(rng)), int(rng.integers(1, 9))
    codes = np.asarray(rng.integers(0, k, grad.shape), np.uint8, order=rng.choice(["C", "F"]))
    return given(grad, codes, k)
