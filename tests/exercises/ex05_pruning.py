"""Chapter 05: the exercises and what grades them."""

import numpy as np

from nnzip import pruning as reference
from nnzip.book.grading import Exercise, any_floats, any_shape, exercise, expect, given
from nnzip.book.unlocking import in_place_of, signature_of
from nnzip.nn.training import SGD


def _with_ties(rng, shape):
    """Weights of any size, or whole numbers, of which many have equal magnitudes."""
    if rng.random() < 0.5:
        return any_floats(rng, shape)
    return np.asarray(rng.integers(-3, 4, shape), rng.choice(["float32", "float64"]), order=rng.choice(["C", "F"]))


def _any_sparsity(rng):
    return float(rng.choice([0.0, 0.5, 1.0, rng.random()]))


@exercise(section="2. A mask", difficulty=1, size="one line")
def threshold_mask(w, threshold):  # [...] -> bool [...]
    """Return the mask, True for what is kept, of the weights whose magnitude lies above the threshold.

    A weight on the threshold is pruned.

    >>> threshold_mask(np.array([-0.5, 0.1, 0.25, 0.3]), 0.25).tolist()
    [True, False, False, True]
    """
    return reference.threshold_mask(w, threshold)


threshold_mask.case(
    "A large negative weight is a large weight; a weight on the threshold goes, on either side of zero.",
    np.array([[-2.0, -0.5], [1.0, 2.0], [0.0, -1.0]]),
    1.0,
    gives=[[True, False], [False, True], [False, False]],
    dtype=bool,
    likely="greater, not greater or equal; |w| as it is, without a square; True is what is kept",
)


@threshold_mask.draw("a mask has the shape of the weights; a threshold of 0 prunes the zeros only", dtype=True)
def any_threshold(rng):
    """Weights of any shape, some on the threshold, which may be 0, or above all of them."""
    w = _with_ties(rng, any_shape(rng))
    w = w * w.dtype.type(rng.choice([1, 1e-9]))
    return given(w, float(rng.choice([0.0, np.abs(w.ravel()[0]), np.abs(w).max(), 2 * np.abs(w).max()])))


@exercise(section="2. A mask", difficulty=2, size="five lines")
def magnitude_mask(w, sparsity):  # [...] -> bool [...]
    """Return the mask, True for what is kept, without the smallest magnitudes: exactly round(sparsity * size) go.

    Of equal ones the first go. sparsity is in [0, 1].

    >>> magnitude_mask(np.array([-0.5, 0.1, 0.25, 0.3]), 0.5).tolist()
    [True, False, False, True]
    """
    return reference.magnitude_mask(w, sparsity)


magnitude_mask.case(
    "The smallest magnitudes of the whole array go, False, the others stay.",
    np.array([[-0.5, 0.125], [0.25, 0.375]]),
    0.5,
    gives=[[True, False], [False, True]],
    dtype=bool,
    likely="rank |w| of all rows together: argsort sorts each row, ravel first; True is what is kept",
)


@magnitude_mask.check
def counts(magnitude_mask):
    """round() takes halves to the even number: at 0.5 go 2 of 5 weights, and 4 of 7."""
    for size, pruned in ((5, 2), (7, 4)):
        right = np.arange(size) >= pruned
        expect(magnitude_mask(np.arange(1.0, size + 1), 0.5), right, "round(): int(), floor and // cut off")


@magnitude_mask.draw(
    "a threshold takes all equal weights or none: sort with kind='stable', and take so many", dtype=True
)
def any_layer(rng):
    """Arrays of one to four axes, up to some thousands of weights, many of them equal."""
    return given(_with_ties(rng, any_shape(rng, most=int(rng.choice([6, 12])))), _any_sparsity(rng))


@magnitude_mask.unlocked("test error against bits and zeros, every layer pruned by your mask", "draws")
def draws_layers(magnitude_mask):
    with in_place_of(reference.saliency_mask, magnitude_mask):  # what the study gives |w| to
        return signature_of(reference.magnitude_mask, magnitude_mask, technique="per_channel", stem="05_pruning")


@exercise(section="4. Layers differ", difficulty=2, size="ten lines")
def global_magnitude_masks(ws, sparsity):  # dict or list of [...] -> the same of bool [...]
    """Prune the smallest magnitudes of all layers together, exactly round(sparsity * all weights).

    Of equal ones the first go, in the order in which the layers are given. A dict of arrays gives a dict of masks under
    the same names, a list gives a list.

    >>> masks = global_magnitude_masks([np.array([-5.0, 6.0]), np.array([0.1, -0.2])], 0.5)
    >>> [mask.tolist() for mask in masks]
    [[True, True], [False, False]]
    """
    return reference.global_magnitude_masks(ws, sparsity)


global_magnitude_masks.case(
    "A layer of small weights loses more than one of large weights.",
    {"0.weight": np.array([[-5.0, 6.0]]), "2.weight": np.array([[0.1], [-0.2]])},
    0.5,
    gives={"0.weight": [[True, True]], "2.weight": [[False], [False]]},
    likely="rank |w| of all layers together, in no unit of a layer; then cut the long mask where the layers end",
)
global_magnitude_masks.case(
    "The count is rounded once, over all layers: round(0.7 * 8) is 6.",
    [np.arange(1.0, 3.0), np.arange(3.0, 6.0), np.arange(6.0, 9.0)],
    0.7,
    gives=[np.array([False] * 2), np.array([False] * 3), np.array([False, True, True])],
    likely="round(), no int(), no quantile, no sum of a count a layer",
)


@global_magnitude_masks.draw(
    "of equal magnitudes the first go, in the order of the layers: sort with kind='stable'", dtype=True
)
def any_layers(rng):
    """One layer or several, of any shapes, in a dict or a list, many weights equal."""
    ws = [_with_ties(rng, any_shape(rng)) for _ in range(rng.integers(1, 5))]
    named = {f"{i}.weight": ws[i] for i in rng.permutation(len(ws))}
    return given(named if rng.random() < 0.5 else ws, _any_sparsity(rng))


@exercise(section="3. Which weights?", difficulty=1, size="two lines")
def activation(w, x):  # [out, in], [N, in] -> [out, in]
    """Return for each weight its magnitude times the L2 norm, over the N samples, of the input that it meets.

    The norms are worked out in float64; the answer has the dtype of the weights.

    >>> activation(np.array([[1.0, -1.0]]), np.array([[3.0, 0.0], [4.0, 0.5]])).tolist()
    [[5.0, 0.5]]
    """
    return reference.activation(w, x)


activation.case(
    "Each weight is multiplied by the norm of its input.",
    np.array([[1.0, -1.0], [2.0, 0.5]]),
    np.array([[3.0, 0.0], [4.0, 0.5]]),
    gives=[[5, 0.5], [10, 0.25]],
    tolerance=1e-12,
    likely="|w| times sqrt(sum over the samples of x^2), which is one number for each column of x and of w",
)
activation.case(
    "float32 squares of large inputs are infinite.",
    np.array([[1.0]], np.float32),
    np.array([[3e30], [4e30]], np.float32),
    gives=[[5e30]],
    tolerance=1e25,
    likely="convert x to float64 before squaring",
)


@activation.draw("no mean over the samples; in a square the columns are still those of x and of w", ulps=64)
def any_samples(rng):
    """Layers and samples of any sizes, squares among them."""
    N, outputs, inputs = [3, 3, 3] if rng.random() < 0.3 else rng.integers(1, 8, 3)
    w = any_floats(rng, (outputs, inputs))
    return given(w, any_floats(rng, (N, inputs), dtype=w.dtype))


n_m_mask = Exercise(
    reference.n_m_mask,
    section="3. N:M and blocks",
    notebook="05b",
    difficulty=2,
    size="five lines",
    task="m divides the rows. Convolution weights (out, in, kH, kW) come too; no bad input.",
)

n_m_mask.case(
    "Two of every four neighbours in a row are kept, wherever the large ones are.",
    np.array([[1.0, -4.0, 3.0, 2.0, 0.5, -0.1, 0.2, 0.3]]),
    2,
    4,
    gives=[[False, True, True, False, True, False, False, True]],
    dtype=bool,
    likely="groups are m neighbours of a row, ranked by |w|, n of them kept: reshape(-1, m)",
)
n_m_mask.case(
    "Of equal ones the last are kept, and never more than n.",
    np.array([[1.0, -1.0, 1.0, 1.0]]),
    2,
    4,
    gives=[[False, False, True, True]],
    likely="a comparison with the n-th largest keeps all equal ones: argsort with kind='stable', the last n",
)


@n_m_mask.draw("0:m keeps nothing, m:m keeps all; groups run on over the axes of a filter", dtype=True)
def any_pattern(rng):
    """Matrices and filters, groups of 1 to 6, from none of them kept to all, many weights equal."""
    m = int(rng.integers(1, 7))
    shape = (int(rng.integers(1, 7)), m * int(rng.integers(1, 5)))
    shape = (*shape, *rng.integers(1, 4, 2)) if rng.random() < 0.4 else shape
    return given(_with_ties(rng, shape), int(rng.integers(m + 1)), m)


block_mask = Exercise(
    reference.block_mask,
    section="3. N:M and blocks",
    notebook="05b",
    difficulty=2,
    size="eight lines",
    task="block_size has a number for each axis, which it divides. Of blocks of equal norm the first go.",
)

block_mask.case(
    "A block goes as a whole, that of the smallest L2 norm, whatever the signs.",
    np.array([[-4.0, 4.0], [1.0, 1.0], [-3.0, -3.0]]),
    1 / 3,
    block_size=(1, 2),
    gives=[[True, True], [False, False], [True, True]],
    dtype=bool,
    likely="the root of the sum of squares: signs must not cancel",
)
block_mask.case(
    "Blocks are not ranked by their largest weight: 4 small ones may be more than one large.",
    np.array([[3.0, 0.0, 0.0, 0.0], [2.0, 2.0, 2.0, 2.0]]),
    0.5,
    block_size=(1, 4),
    gives=[[False] * 4, [True] * 4],
)
block_mask.case(
    "float32 squares of large numbers are infinite, so norms are computed in float64.",
    np.array([[2e30, 2e30], [1e30, 1e30], [3e30, 0.0]], np.float32),
    1 / 3,
    block_size=(1, 2),
    gives=[[True, True], [False, False], [True, True]],
    likely="convert to float64 before squaring",
)


@block_mask.draw("exactly round(sparsity * blocks) go, of equal ones the first: sort with kind='stable'", dtype=True)
def any_blocks(rng):
    """Arrays of one to four axes in blocks of any size, up to some hundred of equal norm."""
    counts = any_shape(rng, most=8)
    sizes = tuple(map(int, rng.integers(1, 4, len(counts))))
    shape = tuple(count * size for count, size in zip(counts, sizes, strict=True))
    w = rng.choice([-2.0, -1.0, 1.0, 2.0], shape) if rng.random() < 0.5 else any_floats(rng, shape)
    return given(w, _any_sparsity(rng), block_size=sizes)


polynomial_schedule = Exercise(reference.polynomial_schedule, section="6. Retraining", difficulty=1, size="five lines")

polynomial_schedule.case(
    "At half of the time a cubic schedule has done seven eighths of the way.",
    50,
    begin_step=0,
    end_step=100,
    final_sparsity=1.0,
    gives=0.875,
    tolerance=1e-12,
    likely="the power is of what is left, 1 - (t - t_0) / (t_1 - t_0)",
)


@polynomial_schedule.draw(
    "from t_1 on the final sparsity stays: (1 - 2)^3 is negative, an even power comes back down", ulps=16
)
def any_step(rng):
    """Steps before, in and after schedules of any length and power."""
    begin, length = map(int, rng.integers(1, 40, 2))
    ends = {"begin_step": begin, "end_step": begin + length, "final_sparsity": float(rng.random())}
    step = int(rng.choice([begin, begin + length, begin + rng.integers(2 * length), rng.integers(begin + length)]))
    return given(step, **ends, initial_sparsity=float(rng.random()), power=float(rng.choice([0.5, 1, 2, 3, 5])))


@exercise(section="6. Retraining", difficulty=2, size="three lines", parts=("weight", "velocity"))
def masked_sgd_step(weight, grad, velocity, mask, rate, momentum):  # [...] four times, two numbers -> [...], [...]
    """Return weight and velocity after one step of SGD with momentum on a pruned layer; what is pruned stays pruned.

        v <- momentum v + grad        w <- w - rate v        and both are 0 where the mask is False

    The velocity may come from before the pruning, and the weight too: neither is 0 outside of the mask yet.

    >>> w, v = masked_sgd_step(np.ones(2), np.ones(2), np.ones(2), np.array([True, False]), rate=0.5, momentum=0.5)
    >>> w.tolist(), v.tolist()
    ([0.25, 0.0], [1.5, 0.0])
    """
    optimizer, held = SGD(rate, momentum=momentum), {"weight": weight * mask}
    optimizer.state, optimizer.steps = {"weight": [velocity * mask]}, {"weight": 0}
    optimizer.step(held, {"weight": grad * mask})
    return held["weight"], optimizer.state["weight"][0]


masked_sgd_step.case(
    "With nothing pruned it is SGD with momentum.",
    np.array([[1.0, -2.0, 0.5]]),
    np.array([[0.5, 1.0, 0.0]]),
    np.array([[2.0, 0.0, -4.0]]),
    np.ones((1, 3), bool),
    0.25,
    0.5,
    gives=([[0.625, -2.25, 1.0]], [[1.5, 1.0, -2.0]]),
    likely="v = momentum * v + grad, without the rate; w - rate * v; weight first, then velocity",
)
masked_sgd_step.case(
    "Neither the gradient nor old momentum brings a pruned weight back; one just pruned becomes 0.",
    np.array([1.0, 3.0, 0.0]),
    np.array([0.0, 1.0, 1.0]),
    np.array([4.0, 4.0, 4.0]),
    np.array([True, False, False]),
    0.25,
    0.5,
    gives=([0.5, 0, 0], [2, 0, 0]),
    likely="mask the whole velocity and the weight too: True is kept",
)


@masked_sgd_step.draw("no factor 1 - momentum, no array of float64 in between", ulps=4, dtype=True)
def any_masked_step(rng):
    """Layers of any shape and type, pruned or not, with or without momentum."""
    weight = any_floats(rng, any_shape(rng))
    grad, velocity = (any_floats(rng, weight.shape, dtype=weight.dtype) for _ in range(2))
    mask = rng.random(weight.shape) < rng.choice([0.5, 1])
    return given(weight, grad, velocity, mask, float(rng.uniform(0.01, 1)), float(rng.choice([0.0, 0.9])))


@masked_sgd_step.check
def a_falling_rate(masked_sgd_step):
    """When the rate falls, old steps fall with it: the velocity holds no rate."""
    one, kept = np.ones(1), np.ones(1, bool)
    weight, velocity = masked_sgd_step(one, one, 0 * one, kept, 1.0, 0.5)
    got = masked_sgd_step(weight, 0 * one, velocity, kept, 0.25, 0.5)
    expect(got, ([-0.125], [0.5]), "v = momentum * v + grad, and only then times the rate")
