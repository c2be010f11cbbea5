"""Chapter 07: the exercises and what grades them."""

import itertools
import time
from functools import partial

import numpy as np

from nnzip import codebooks as reference
from nnzip.book.exercises import in_place_of
from nnzip.book.grading import Exercise, Wrong, expect
from nnzip.data import load_mnist
from nnzip.nn.network import weights_of
from nnzip.nn.training import SGD, cross_entropy, evaluate
from nnzip.nn.zoo import trained
from nnzip.quantization import sqnr_db


def _shared(network, codebook_of):
    """Return a copy of a network whose layers have a codebook each."""
    shared = network.copy()
    for weight in weights_of(shared).values():
        codebook = codebook_of(weight)
        weight[...] = reference.look_up(reference.assign(weight, codebook), codebook)
    return shared


def _errors(title, ways):
    network, data = trained("lenet_300_100"), load_mnist()
    lines = [f"LeNet-300-100, a codebook for each layer, {title}, 10,000 test images:"]
    for name, codebook_of in ways.items():
        error = evaluate(_shared(network, codebook_of), data.test_images, data.test_labels)
        lines.append(f"  {name:<22} {error:.2%} error")
    return "\n".join(lines)


def _fitted(k):
    return partial(reference.kmeans, k=k, init="k-means++")


nearest = Exercise(
    reference.assign,
    section="2. Codes and values",
    difficulty=1,
    size="two lines",
    task="One codebook for all, in ascending order; no bad input.",
    unlocks="networks of 4, 8 and 16 values a layer, with your codes",
)


@nearest.check
def the_nearest_value(assign):
    """A code is the place of the nearest value in the codebook."""
    codebook = np.array([-0.5, 0.0, 0.2, 0.6])
    expect(assign(np.array([0.35, -0.3, 0.05, 0.55, -0.2]), codebook), [2, 0, 1, 3, 1], "argmin of |x - c|")


@nearest.check
def uneven_codebooks(assign):
    """The border lies half-way between two values, not at a value."""
    codebook = np.array([0.0, 1.0, 10.0])
    expect(assign(np.array([0.4, 0.6, 5.4, 5.6]), codebook), [0, 1, 1, 2], "compare with the midpoints of neighbours")


@nearest.check
def a_tie_goes_to_the_lower(assign):
    """Half-way between two values the lower wins, above and below zero."""
    codebook = np.array([-2.0, 0.0, 2.0])
    likely = "np.searchsorted(borders, x) gives the left place; side='right' the right one"
    expect(assign(np.array([-1.0, 1.0, 0.0]), codebook), [0, 1, 1], likely)


@nearest.check
def beyond_the_ends(assign):
    """Numbers beyond the codebook get its first and last code."""
    expect(assign(np.array([-99.0, 99.0]), np.array([-1.0, 0.0, 1.0])), [0, 2], "no code may be k")
    expect(assign(np.array([-99.0, 99.0]), np.array([0.25])), [0, 0], "a codebook may have one value")


@nearest.check
def shape_and_type(assign):
    """The codes have the shape of the numbers, and are uint8."""
    x = np.array([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]], np.float32)
    expect(
        assign(x, np.array([0.0, 4.0])),
        [[0, 0, 0], [1, 1, 1]],
        "codes need no more than uint8; 2 is a tie, which goes to 0",
        dtype=np.uint8,
    )


@nearest.check
def two_hundred_fifty_six_values(assign):
    """The largest codebook that uint8 codes can have, and a hundred thousand numbers."""
    x = np.random.default_rng(0).integers(0, 256, 100_000)
    expect(assign(x + 0.25, np.arange(256.0)), x, "the last of 256 codes is 255")


@nearest.unlocked
def codes(assign):
    with in_place_of(reference.assign, lambda x, codebook: assign(x, np.asarray(codebook, np.float64))):
        return _errors("codes by your function", {f"{k} values by k-means": _fitted(k) for k in (4, 8, 16)})


def lloyd(x, start, *, iterations):  # [n], [k] -> float64 [k]
    """Return the values of k-means after so many of Lloyd's iterations.

    In each, every number goes to its nearest value (a tie to the lower), and every value becomes the mean of its
    numbers. A value that has none stays where it is.

    Parameters
    ----------
    x : float array (n,), in any order
    start : ascending float array (k,)
    iterations : int >= 0

    Examples
    --------
    >>> lloyd(np.array([10.0, 0.0, 1.0, 12.0]), np.array([0.0, 12.0]), iterations=1)
    array([ 0.5, 11. ])
    """
    return reference.lloyd(np.sort(x), np.asarray(start, np.float64), iterations)


iterate = Exercise(
    lloyd,
    section="3. k-means on a line",
    difficulty=2,
    size="ten lines",
    task="The last check asks that 150 iterations take no ten times as long as one: sort and sum up once, then an "
    "iteration never touches the numbers.",
    unlocks="a trained network's layers in 2 to 16 values by your function",
)


@iterate.check
def means_of_the_nearest(lloyd):
    """One iteration: the mean of the numbers nearest to each value."""
    x = np.array([10.0, 0.0, 1.0, 14.0, 12.0])
    expect(lloyd(x, np.array([0.0, 12.0]), iterations=1), [0.5, 12.0], "the numbers come in any order", tolerance=1e-12)


@iterate.check
def none_at_all(lloyd):
    """No iteration leaves the start as it is."""
    expect(lloyd(np.array([1.0, 2.0]), np.array([0.0, 5.0]), iterations=0), [0.0, 5.0])


@iterate.check
def a_value_without_numbers(lloyd):
    """A value to which no number is nearest stays where it is, at either end too."""
    x = np.array([0.0, 0.5, 10.0])
    likely = "the mean of nothing is 0 / 0: keep the old value"
    expect(lloyd(x, np.array([-9.0, 0.0, 5.0, 9.0, 20.0]), iterations=1), [-9.0, 0.25, 5.0, 10.0, 20.0], likely)


@iterate.check
def ties(lloyd):
    """A number half-way between two values counts for the lower."""
    x = np.array([0.0, 1.0, 1.0, 2.0, 3.0])
    likely = "the borders are midpoints; np.searchsorted(sorted x, borders, side='right') counts a tie to the lower"
    expect(lloyd(x, np.array([0.0, 2.0]), iterations=1), [2 / 3, 2.5], likely, tolerance=1e-12)


@iterate.check
def one_after_the_other(lloyd):
    """The second iteration begins with the values of the first."""
    x = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 20.0])
    start = np.array([0.0, 1.0])
    expect(lloyd(x, start, iterations=1), [0.0, 6.0], "nearest to 1 are 1, 2, 3, 4, 20", tolerance=1e-12)
    expect(lloyd(x, start, iterations=2), [1.5, 12.0], "0, 1, 2 and the tie 3 are nearest to 0", tolerance=1e-12)
    expect(lloyd(x, start, iterations=3), [2.0, 20.0], "borders move with the values", tolerance=1e-12)


@iterate.check
def sums_in_float64(lloyd):
    """One large number must not drown the small ones that are summed after it."""
    x = np.ones(40_000, np.float32)
    x[0] = -(2.0**26)
    likely = "prefix sums of float32 numbers: np.cumsum(x, dtype=np.float64)"
    expect(lloyd(x, np.array([-1e8, 3.0]), iterations=1), [-(2.0**26), 1.0], likely, tolerance=1e-9)


@iterate.check
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


@iterate.unlocked
def clusters(lloyd):
    def codebook_of(weight, k):
        start = np.linspace(weight.min(), weight.max(), k, dtype=np.float64)
        return lloyd(weight.ravel(), start, iterations=100)

    ways = {f"{k} values": partial(codebook_of, k=k) for k in (2, 4, 8, 16)}
    return _errors("100 of your iterations from even steps", ways)


best = Exercise(
    reference.optimal_codebook,
    section="4. Where to start, and what is best",
    difficulty=3,
    size="twenty lines",
    task="Graded by squared error, up to 400 numbers and 12 values; k n^2 steps are few enough.",
    unlocks="your optimum beside k-means, on a layer of a trained network",
)


def _squared_error(x, codebook):
    distances = np.abs(np.ravel(x)[:, None].astype(np.float64) - np.asarray(codebook, np.float64))
    return float(np.sum(distances.min(axis=1) ** 2))


def _least_error(x, k):
    """By brute force over all cuts of the sorted numbers into k intervals or fewer."""
    x, n = np.sort(np.asarray(x, np.float64)), len(x)
    cuts = (c for m in range(min(k, n)) for c in itertools.combinations(range(1, n), m))
    return min(sum(float(np.sum((part - part.mean()) ** 2)) for part in np.split(x, c)) for c in cuts)


def _is_best(optimal_codebook, x, k, likely):
    got = optimal_codebook(x, k)
    if np.shape(got) != (k,):
        expect(got, np.zeros(k), f"return {k} values")
    ours = _least_error(x, k)
    expect(_squared_error(x, got), ours, f"squared errors; {likely}", tolerance=1e-6 * (1 + ours))


@best.check
def two_groups(optimal_codebook):
    """The best values are the means of the best groups, in ascending order, as float32."""
    got = optimal_codebook(np.array([12.0, 0.0, 30.0, 1.0, 10.0]), 3)
    expect(got, [0.5, 11.0, 30.0], "sort, cut, take means", tolerance=1e-5, dtype=np.float32)


@best.check
def one_value(optimal_codebook):
    """One value is the mean."""
    expect(optimal_codebook(np.array([[1.0, 2.0], [6.0, 7.0]]), 1), [4.0], tolerance=1e-6)


@best.check
def where_lloyd_is_stuck(optimal_codebook):
    """From even steps Lloyd's iteration stops at an error of 5.5; 1.5 is possible."""
    x = np.array([0.0, 1.0, 2.0, 3.0, 100.0, 101.0])
    expect(
        optimal_codebook(x, 3), [0.5, 2.5, 100.5], "no iteration from a start finds it: try all cuts", tolerance=1e-4
    )


@best.check
def against_brute_force(optimal_codebook):
    """Nine random numbers, all cuts tried."""
    for seed, k in itertools.product(range(6), (2, 3, 5)):
        x = np.random.default_rng(seed).normal(size=9)
        _is_best(optimal_codebook, x, k, "the cost of a cluster is sum x^2 - (sum x)^2 / count, from i to before j")


@best.check
def heavy_tails(optimal_codebook):
    """Numbers of very different size: an outlier deserves a value of its own."""
    for seed in range(4):
        x = np.random.default_rng(seed).standard_cauchy(9) ** 3
        _is_best(optimal_codebook, x, 3, "every cut must be tried, from the first number to the last")


@best.check
def repeated_numbers(optimal_codebook):
    """Equal numbers count as often as they come."""
    _is_best(optimal_codebook, np.array([5.0, 5.0, 5.0, 5.0, 0.0, 6.0, 9.0]), 2, "weigh a number by its count")


@best.check
def fewer_numbers_than_values(optimal_codebook):
    """Three different numbers and five values: the largest is repeated, the error is 0."""
    expect(optimal_codebook(np.array([3.0, 1.0, 2.0, 3.0]), 5), [1.0, 2.0, 3.0, 3.0, 3.0], "repeat the largest")


@best.check
def known_optimum(optimal_codebook):
    """400 numbers in 12 groups of different sizes, far apart: no list of all cuts is short enough."""
    rng = np.random.default_rng(3)
    sizes = rng.multinomial(388, np.ones(12) / 12) + 1
    groups = [100 * i + rng.permutation(size) / size for i, size in enumerate(sizes)]
    right = [group.mean() for group in groups]
    got = optimal_codebook(rng.permutation(np.concatenate(groups)), 12)
    expect(got, right, "dynamic programming: the best of j numbers in m clusters, for all j", tolerance=1e-3)


@best.unlocked
def judges(optimal_codebook):
    x = trained("lenet_300_100").parameters()["5.weight"].ravel()[::3]
    lines = [f"Every third weight of LeNet-300-100's last layer ({x.size} of them), SQNR in dB:"]
    for k in (2, 4, 8):
        codebooks = [reference.kmeans(x, k, init=init) for init in reference.INITS] + [optimal_codebook(x, k)]
        gains = [sqnr_db(x, reference.look_up(reference.assign(x, c), c)) for c in codebooks]
        parts = zip((*reference.INITS, "your optimum"), gains, strict=True)
        lines.append(f"  {k} values: {', '.join(f'{name} {gain:.2f}' for name, gain in parts)}")
    return "\n".join(lines)


shifts = Exercise(
    reference.power_of_two_codebook,
    section="5. Values by rule",
    difficulty=2,
    size="six lines",
    unlocks="a network whose products are shifts",
)


@shifts.check
def three_bits(power_of_two_codebook):
    """At 3 bits there are three exponents of each sign, and 0."""
    likely = "2^(bits-1) - 1 exponents, from the largest downward"
    got = power_of_two_codebook(np.array([0.9, -0.1]), bits=3)
    expect(got, [-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0], likely, dtype=np.float32)


@shifts.check
def other_widths(power_of_two_codebook):
    """2^bits - 1 values: 3 at 2 bits, 15 at 4."""
    expect(power_of_two_codebook(np.array([1.0]), bits=2), [-1, 0, 1], "one exponent at 2 bits")
    powers = [2.0**-i for i in range(7)]
    expect(power_of_two_codebook(np.array([1.0]), bits=4), [-p for p in powers] + [0] + powers[::-1], "seven at 4 bits")


@shifts.check
def the_nearest_power(power_of_two_codebook):
    """The top is the power nearest to max|x|: 2.9 lies nearer to 2 than to 4, although its logarithm does not."""
    for largest, top in ((2.9, 2.0), (3.1, 4.0), (0.74, 0.5), (0.76, 1.0), (2.0, 2.0), (1 / 8, 1 / 8)):
        got = power_of_two_codebook(np.array([0.0, largest]), bits=2)
        expect(got, [-top, 0.0, top], "nearest means least |2^e - max|, not round(log2(max)), floor or ceil")


@shifts.check
def a_tie_goes_up(power_of_two_codebook):
    """Of two equally near powers it is the larger: 3 lies between 2 and 4."""
    expect(power_of_two_codebook(np.array([3.0]), bits=2), [-4, 0, 4], "max >= 1.5 * 2^e goes up")


@shifts.check
def magnitudes(power_of_two_codebook):
    """It is the largest magnitude that counts, in an array of any shape."""
    x = np.array([[0.1, -7.9], [0.5, 0.0]])
    expect(power_of_two_codebook(x, bits=3), [-8, -4, -2, 0, 2, 4, 8], "max of |x|: the largest is negative here")


@shifts.check
def zeros_only(power_of_two_codebook):
    """Zeros have no logarithm: the top is 1."""
    expect(power_of_two_codebook(np.zeros((2, 2)), bits=2), [-1, 0, 1], "log2(0) is -inf")


@shifts.check
def far_from_1(power_of_two_codebook):
    """Weights of any size, in float32 too."""
    got = power_of_two_codebook(np.array([1e-3], np.float32), bits=2)
    expect(got, [-(2.0**-10), 0, 2.0**-10], "2^-10 is 0.00098")
    got = power_of_two_codebook(np.array([1e6]), bits=2)
    expect(got, [-(2.0**20), 0, 2.0**20], "2^20 is 1,048,576")


@shifts.unlocked
def shifted(power_of_two_codebook):
    ways = {f"{bits} bits": partial(power_of_two_codebook, bits=bits) for bits in (2, 3, 4, 5, 6)}
    return _errors("0 and powers of two by your function", ways)


signs = Exercise(
    reference.ternary,
    section="6. One bit, three values",
    difficulty=2,
    size="six lines",
    task="With axis=None and axis=0.",
    unlocks="a ternary network",
)


@signs.check
def the_mean_of_the_large(ternary):
    """a is the mean of the magnitudes above 0.7 times the mean of all."""
    likely = "mean|w| is 0.64, the threshold 0.448; 1 and 2 are above it"
    expect(ternary(np.array([0.0, 0.1, -0.1, 1.0, -2.0])), [-1.5, 0.0, 1.5], likely, tolerance=1e-6)


@signs.check
def the_threshold(ternary):
    """The threshold counts: 0.6 lies below 0.7 of the mean, 0.8 above it."""
    w = np.array([0.6, -0.8, 1.0, -1.6])  # mean 1, threshold 0.7
    expect(ternary(w), [-3.4 / 3, 0.0, 3.4 / 3], "0.7 mean|w|, and not 0.5, or mean|w| itself", tolerance=1e-6)


@signs.check
def magnitudes_not_values(ternary):
    """Only magnitudes count: all weights may be negative."""
    expect(ternary(np.array([[-1.0, -3.0], [-0.1, -3.9]])), [-3.45, 0.0, 3.45], "|w| first", tolerance=1e-6)


@signs.check
def equal_magnitudes(ternary):
    """Of equal magnitudes all are large, and an array may have one element."""
    expect(ternary(np.array([0.5, -0.5, 0.5])), [-0.5, 0.0, 0.5], tolerance=1e-7)
    expect(ternary(np.array([-4.0])), [-4.0, 0.0, 4.0], tolerance=1e-6)


@signs.check
def a_codebook_for_each_row(ternary):
    """With axis=0 every row has its own."""
    w = np.array([[1.0, -1.0, 0.0], [10.0, 30.0, -50.0]])
    right = [[-1.0, 0.0, 1.0], [-40.0, 0.0, 40.0]]
    likely = "the threshold and the mean are those of the row"
    expect(ternary(w, axis=0), right, likely, tolerance=1e-5, dtype=np.float32)


@signs.check
def filters(ternary):
    """A convolution's weight has four axes, and a codebook for each of its filters."""
    w = np.zeros((3, 2, 2, 2))
    w[0] = 2.0
    w[1, 0, 0, 0], w[1, 1, 1, 1] = -8.0, 4.0
    w[2, :, 0] = 0.25
    right = [[-2.0, 0.0, 2.0], [-6.0, 0.0, 6.0], [-0.25, 0.0, 0.25]]
    expect(ternary(w, axis=0), right, "reshape to (filters, weights) first", tolerance=1e-6)


@signs.check
def a_row_of_zeros(ternary):
    """A row of zeros has the codebook (0, 0, 0), without a NaN."""
    expect(ternary(np.array([[0.0, 0.0], [1.0, 1.0]]), axis=0), [[0, 0, 0], [-1, 0, 1]], "0 / 0", tolerance=1e-7)
    expect(ternary(np.zeros(3)), [0, 0, 0], "0 / 0")


@signs.unlocked
def three_values(ternary):
    ways = {"k-means, 3 values": _fitted(3), "your three": ternary, "your three a row": partial(ternary, axis=0)}
    return _errors("rounded after training", ways)


shares = Exercise(
    reference.sum_by_cluster,
    section="8. Training the values",
    difficulty=1,
    size="one line",
    unlocks="a network of four values a layer, its values trained by your gradients",
)


@shares.check
def sums(sum_by_cluster):
    """The gradient of a value is the sum over the weights that share it."""
    grad, codes = np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.array([0, 2, 2, 0, 2], np.uint8)
    expect(
        sum_by_cluster(grad, codes, 3),
        [5.0, 0.0, 10.0],
        "the sum and not the mean; 0 where no weight is",
        tolerance=1e-12,
    )


@shares.check
def as_many_as_values(sum_by_cluster):
    """There is a gradient for every value, also beyond the largest code in use."""
    got = sum_by_cluster(np.array([1.0, 1.0]), np.array([1, 1], np.uint8), 4)
    expect(got, [0.0, 2.0, 0.0, 0.0], "np.bincount stops at the largest code: minlength=k", tolerance=1e-12)


@shares.check
def many_in_one(sum_by_cluster):
    """Codes that come again and again are all counted."""
    grad, codes = np.ones(1000), np.tile(np.array([0, 1, 1, 2], np.uint8), 250)
    likely = "total[codes] += grad adds once for each code: np.bincount or np.add.at"
    expect(sum_by_cluster(grad, codes, 3), [250.0, 500.0, 250.0], likely, tolerance=1e-9)


@shares.check
def matrices(sum_by_cluster):
    """Gradients and codes may have any shape, not square, of any memory order."""
    grad = np.arange(6.0).reshape(2, 3)
    codes = np.array([[0, 1, 0], [1, 1, 0]], np.uint8)
    expect(sum_by_cluster(grad, codes, 2), [7.0, 8.0], "ravel both", tolerance=1e-12)
    expect(sum_by_cluster(grad.T, codes.T, 2), [7.0, 8.0], "both must be read in the same order", tolerance=1e-12)


@shares.check
def cancelling(sum_by_cluster):
    """Gradients of both signs: no magnitudes."""
    grad, codes = np.array([0.5, -0.5, -2.0]), np.array([1, 1, 0], np.uint8)
    expect(sum_by_cluster(grad, codes, 2), [-2.0, 0.0], tolerance=1e-12)


@shares.check
def summed_in_float64(sum_by_cluster):
    """A thousand small gradients beside a large one: summed in float64, returned in the dtype of the gradients."""
    grad = np.concatenate([[2.0**24], np.ones(1000)]).astype(np.float32)
    likely = "in float32 2^24 + 1 is 2^24"
    got = sum_by_cluster(grad, np.zeros(1001, np.uint8), 1)
    expect(got, [2**24 + 1000], likely, dtype=np.float32)


@shares.unlocked
def trains(sum_by_cluster):
    network, data = trained("lenet_300_100"), load_mnist()
    weights, test = weights_of(network), data[2:]
    values = {name: reference.kmeans(w, 4, init="k-means++") for name, w in weights.items()}
    codes = {name: reference.assign(w, values[name]) for name, w in weights.items()}
    optimizer, lines = SGD(1e-4), ["LeNet-300-100, four values a layer, trained by your gradients, 10,000 test images:"]
    for step in range(101):
        for name, weight in weights.items():
            weight[...] = reference.look_up(codes[name], values[name])
        if step % 50 == 0:
            lines.append(f"  {128 * step:>6,} images: {evaluate(network, *test):.2%} error")
        batch = slice(128 * step, 128 * (step + 1))
        _, grad_logits = cross_entropy(network.forward(data.train_images[batch]), data.train_labels[batch])
        network.backward(grad_logits)
        found = {name: sum_by_cluster(network.gradients()[name], codes[name], 4) for name in weights}
        optimizer.step(values, found)
    return "\n".join(lines)
