"""Chapter 05: the exercises and what grades them."""

from fractions import Fraction

import numpy as np

from nnzip import pruning as reference
from nnzip.book.exercises import in_place_of, signature_of
from nnzip.book.grading import Exercise, Wrong, brief, expect
from nnzip.compression.pruning import apply_masks, gradual_pruning, masks_of, prune_network, sparsity_of
from nnzip.data import load_mnist
from nnzip.nn.network import weights_of
from nnzip.nn.training import SGD, cross_entropy, evaluate
from nnzip.nn.zoo import trained


def _error_with(masks):  # of the MLP, in percent
    data = load_mnist()
    return f"{evaluate(apply_masks(trained('lenet_300_100'), masks), data.test_images, data.test_labels):.2%}"


def _smallest_first(values):  # the indices of a list from the smallest magnitude up, of equal ones the first first
    return sorted(range(len(values)), key=lambda i: (abs(float(values[i])), i))


def _without(size, gone):
    mask = np.ones(size, bool)
    mask[list(gone)] = False
    return mask


threshold_mask = Exercise(
    reference.threshold_mask,
    section="2. A mask",
    difficulty=1,
    size="one line",
    unlocks="the error of LeNet-300-100 after your pruning, at a threshold of one standard deviation a layer",
)


@threshold_mask.check
def above_the_threshold(threshold_mask):
    """What is larger than the threshold is kept, True."""
    likely = "True is what is kept; |w| is compared with the threshold as it is, without a square"
    expect(threshold_mask(np.array([0.125, 0.5, 0.75]), 0.25), [False, True, True], likely)


@threshold_mask.check
def negative_weights(threshold_mask):
    """A large negative weight is a large weight."""
    w = np.array([[-2.0, -0.5], [0.5, 2.0], [0.0, -1.5]])
    right = [[True, False], [False, True], [False, True]]
    expect(threshold_mask(w, 1.0), right, "it is |w|, as it is and in its shape, that the threshold is compared with")


@threshold_mask.check
def on_the_threshold(threshold_mask):
    """A weight on the threshold is pruned, on either side of zero."""
    w = np.array([-0.25, 0.25, 0.5, -0.5], np.float32)
    expect(threshold_mask(w, 0.25), [False, False, True, True], "greater, not greater or equal")


@threshold_mask.check
def nothing_and_all(threshold_mask):
    """A threshold of 0 prunes the zeros only, that of the largest weight prunes all."""
    w = np.array([[[-3.0, 0.0]], [[1e-30, 2.0]]])
    expect(threshold_mask(w, 0.0), w != 0, "|w| > 0 is true of the smallest weight that is not 0")
    expect(threshold_mask(w, 3.0), np.zeros(w.shape, bool), "the threshold is no fraction of the largest weight")


@threshold_mask.check
def true_and_false(threshold_mask):
    """A mask is an array of bool, of the shape of the weights."""
    w = np.array([[[[2.0]], [[-2.0]], [[0.5]]]], np.float32)
    likely = "neither the weights that are left, nor ones and zeros as floats: mask is what indexes w[mask]"
    expect(threshold_mask(w, 1.0), [[[[True]], [[True]], [[False]]]], likely, dtype=bool)


@threshold_mask.unlocked
def at_one_deviation(threshold_mask):
    weights = weights_of(trained("lenet_300_100"))
    masks = {name: threshold_mask(w, float(np.std(w))) for name, w in weights.items()}
    kept = sum(mask.sum() for mask in masks.values()) / sum(w.size for w in weights.values())
    return (
        f"With your threshold_mask at one standard deviation of each layer, {1 - kept:.1%} of the weights of "
        f"LeNet-300-100 go, and it errs on {_error_with(masks)} of the test images."
    )


magnitude_mask = Exercise(
    reference.magnitude_mask,
    section="2. A mask",
    difficulty=2,
    size="five lines",
    task="w is a float array, sparsity in [0, 1] the fraction that goes; round() is Python's.",
    unlocks="the signature figure of chapter 05, every layer pruned by your mask",
)


@magnitude_mask.check
def the_smallest_go(magnitude_mask):
    """The smallest magnitudes are pruned, False, the others kept."""
    w = np.array([-0.5, 0.125, 0.25, 0.375])
    likely = (
        "-0.5 is the largest of these four; sparsity is what goes; argsort says which is smallest, and gives no ranks"
    )
    expect(magnitude_mask(w, 0.25), [True, False, True, True], likely)
    expect(magnitude_mask(w, 0.5), [True, False, False, True], likely)


@magnitude_mask.check
def of_the_whole_array(magnitude_mask):
    """All weights of the array are ranked together, in its shape."""
    w = np.array([[1.0, -2.0, 3.0], [-40.0, 50.0, 60.0]])
    expect(magnitude_mask(w, 0.5), [[False] * 3, [True] * 3], "one ranking, not one a row; then reshape(w.shape)")


@magnitude_mask.check
def rounded_to_a_count(magnitude_mask):
    """Exactly round(sparsity * size) go, and round() takes halves to the even number."""
    for size, sparsity, gone in [(5, 0.5, 2), (7, 0.5, 4), (10, 0.27, 3), (10, 0.24, 2)]:
        likely = f"round({sparsity} * {size}) is {gone}; int() and floor cut off, ceil rounds up"
        right = np.arange(size) >= gone
        expect(magnitude_mask(np.arange(1.0, size + 1), sparsity), right, likely)


@magnitude_mask.check
def nothing_and_everything(magnitude_mask):
    """Sparsity 0 prunes nothing, sparsity 1 all."""
    w = np.array([[1.0, -2.0], [0.0, 4.0], [3.0, 0.0]])
    expect(magnitude_mask(w, 0.0), np.ones((3, 2), bool), "nothing goes, not even zeros; sorted[-1] is the largest")
    expect(magnitude_mask(w, 1.0), np.zeros((3, 2), bool), "order[-0:] is all of order, not nothing")


@magnitude_mask.check
def equal_weights(magnitude_mask):
    """Of equal magnitudes the first go, as many as it takes."""
    likely = "a threshold takes all equal weights or none: sort, and take so many"
    expect(magnitude_mask(np.array([1.0, -1.0, 1.0, -1.0]), 0.5), [False, False, True, True], likely)
    expect(magnitude_mask(np.zeros((3, 2)), 0.5), [[False, False], [False, True], [True, True]], likely)
    w = np.random.default_rng(5).integers(-3, 4, (40, 30)).astype(np.float32)
    right = _without(w.size, _smallest_first(w.ravel())[:700]).reshape(w.shape)
    expect(magnitude_mask(w, 700 / 1200), right, "equal ones stay in order if you sort with kind='stable'")


@magnitude_mask.check
def a_filter_bank(magnitude_mask):
    """Four axes, 90 % gone, against a sorted list."""
    w = np.random.default_rng(0).normal(size=(6, 3, 5, 2))
    right = _without(180, _smallest_first(w.ravel())[:162]).reshape(w.shape)
    expect(magnitude_mask(w, 0.9), right, "round(0.9 * 180) = 162", dtype=bool)


@magnitude_mask.unlocked
def draws_layers(magnitude_mask):
    with in_place_of(reference.saliency_mask, magnitude_mask):  # what the study gives |w| to
        return signature_of(reference.magnitude_mask, magnitude_mask, technique="per_channel")


global_masks = Exercise(
    reference.global_magnitude_masks,
    section="4. Layers differ",
    difficulty=2,
    size="ten lines",
    task="Exactly round(sparsity * all weights) go, of equal ones the first. A dict of arrays gives a dict of "
    "masks under the same names, a list gives a list.",
    unlocks="the signature figure of chapter 05, all layers pruned together by your masks",
)


def _same_masks(got, right, likely):
    if not isinstance(got, dict) or list(got) != list(right):
        raise Wrong(f"got:      {brief(got)}\nexpected: a dict of masks under the names {', '.join(right)}")
    for name, mask in right.items():
        expect(got[name], mask, f"in {name}: {likely}")


@global_masks.check
def one_ranking(global_magnitude_masks):
    """A layer of small weights loses more than one of large weights."""
    ws = {"0.weight": np.array([[-5.0, 6.0]]), "2.weight": np.array([[0.1], [-0.2]])}
    right = {"0.weight": [[True, True]], "2.weight": [[False], [False]]}
    _same_masks(
        global_magnitude_masks(ws, 0.5),
        right,
        "rank |w| of all layers together, in no unit of a layer; each layer has w.size of them",
    )


@global_masks.check
def a_list_gives_a_list(global_magnitude_masks):
    """A list of arrays gives a list of masks."""
    ws = [np.array([4.0, -1.0, 3.0]), np.array([[-2.0, 8.0]])]
    expect(global_magnitude_masks(ws, 0.4), [np.array([True, False, True]), np.array([[False, True]])])


@global_masks.check
def rounded_once(global_magnitude_masks):
    """The count is rounded once, over all layers, halves to even."""
    ws = [np.arange(1.0, 4.0), np.arange(4.0, 7.0), np.arange(7.0, 10.0)]
    for sparsity in (0.5, 0.4):
        likely = f"round({sparsity} * 9) is 4, once for all: no int(), no quantile, no sum of a count a layer"
        expect(global_magnitude_masks(ws, sparsity), np.arange(9).reshape(3, 3) >= 4, likely)


@global_masks.check
def layers_keep_their_shape(global_magnitude_masks):
    """Layers of any shape and size, against one sorted list."""
    rng = np.random.default_rng(1)
    shapes = {"0.weight": (4, 2, 3, 3), "3.weight": (5, 8), "5.weight": (7, 5)}
    ws = {name: rng.normal(scale=scale, size=shapes[name]) for name, scale in zip(shapes, (1.0, 3.0, 0.5), strict=True)}
    together = [v for w in ws.values() for v in w.ravel()]  # 72 + 40 + 35 = 147
    kept = _without(147, _smallest_first(together)[:118])  # round(0.8 * 147)
    right = dict(zip(ws, np.split(kept, [72, 112]), strict=True))
    right = {name: mask.reshape(shapes[name]) for name, mask in right.items()}
    _same_masks(global_magnitude_masks(ws, 0.8), right, "cut the long mask where the layers end, then reshape")


@global_masks.check
def equal_over_layers(global_magnitude_masks):
    """Of equal magnitudes the first go, in the order of the layers as they are given."""
    ws = {"5.weight": np.full((2, 3), -1.0), "1.weight": np.full(4, 1.0)}
    right = {"5.weight": [[False] * 3] * 2, "1.weight": [False, True, True, True]}
    _same_masks(global_magnitude_masks(ws, 0.7), right, "the dict's order is the order; a threshold takes all or none")
    rng = np.random.default_rng(2)
    ws = [rng.integers(-2, 3, size).astype(np.float32) for size in (100, 300)]
    kept = _without(400, _smallest_first(np.concatenate(ws))[:200])
    expect(global_magnitude_masks(ws, 0.5), [kept[:100], kept[100:]], "sort with kind='stable'")


@global_masks.check
def the_ends(global_magnitude_masks):
    """Sparsity 0 prunes nothing, sparsity 1 all; one layer alone is ranked by itself."""
    ws = [np.array([0.0, 1.0]), np.array([[2.0]])]
    expect(global_magnitude_masks(ws, 0.0), [np.array([True, True]), np.array([[True]])], "nothing goes at 0")
    expect(global_magnitude_masks(ws, 1.0), [np.array([False, False]), np.array([[False]])], "all goes at 1")
    expect(global_magnitude_masks([np.array([3.0, -1.0, 2.0])], 1 / 3), [[True, False, True]])


@global_masks.unlocked
def draws_network(global_magnitude_masks):
    with in_place_of(reference.global_masks, global_magnitude_masks):  # what the study gives |w| to
        return signature_of(reference.global_magnitude_masks, global_magnitude_masks, technique="global_magnitude")


activation = Exercise(
    reference.activation,
    section="3. Which weights?",
    difficulty=1,
    size="two lines",
    task="Graded with weights (out, in). The norm is to be worked out in float64.",
    unlocks="the signature figure of chapter 05, the weights chosen by your saliency",
)


@activation.check
def weight_times_norm(activation):
    """Each weight is multiplied by the norm of the input that it meets."""
    w, x = np.array([[1.0, -1.0], [2.0, 0.5]]), np.array([[3.0, 0.0], [4.0, 0.5]])
    likely = "|w| times sqrt(sum over the samples of x^2), which is one number for each column of x and of w"
    expect(activation(w, x), [[5, 0.5], [10, 0.25]], likely, tolerance=1e-12)


@activation.check
def over_all_samples(activation):
    """The norm is over the samples, however many there are, and grows with them."""
    w = np.array([[1.0, -1.0, 4.0], [2.0, 0.5, 0.0]])
    x = np.array([[3.0, -5.0, 1.0], [0.0, 12.0, 1.0], [-4.0, 0.0, 1.0], [0.0, 0.0, -1.0]])
    right = [[5, 13, 8], [10, 6.5, 0]]
    expect(activation(w, x), right, "sqrt(sum x^2) over the rows: no mean, no sum of |x|", tolerance=1e-12)


@activation.check
def a_dead_input(activation):
    """An input that is always 0 makes its weights worthless; a single sample is enough."""
    expect(activation(np.array([[9.0, 0.1]]), np.array([[0.0, -0.9]])), [[0, 0.09]], tolerance=1e-12)


@activation.check
def large_inputs(activation):
    """float32 squares of large numbers are infinite, so the norm is computed in float64."""
    x = np.array([[3e25, 0.0], [4e25, 1.0]], np.float32)
    likely = "convert x to float64 before squaring"
    got = activation(np.array([[1e-25, 1.0], [-2e-25, 0.0], [0.0, 3.0]], np.float32), x)
    expect(got, [[5, 1], [10, 0], [0, 3]], likely, tolerance=1e-5)  # 1e-25 is no float32


@activation.check
def against_the_output(activation):
    """Its square is what the layer's output changes by, squared and summed over the samples, if that weight goes."""
    rng = np.random.default_rng(3)
    w, x = rng.normal(size=(4, 5)), rng.normal(size=(7, 5))
    right = np.empty(w.shape)
    for i, j in np.ndindex(w.shape):
        pruned = w.copy()
        pruned[i, j] = 0
        right[i, j] = np.sqrt(np.sum((x @ pruned.T - x @ w.T) ** 2))
    expect(activation(w, x), right, tolerance=1e-9)


@activation.unlocked
def draws_aware(activation):
    return signature_of(reference.activation, activation, technique="activation_aware")


n_m_mask = Exercise(
    reference.n_m_mask,
    section="5. N:M and blocks",
    difficulty=2,
    size="five lines",
    unlocks="the error of LeNet-300-100 at 3:4, 2:4 and 1:4 with your masks",
)


def _n_of_m(w, n, m):  # group by group, from a sorted list
    kept = []
    for row in w.reshape(len(w), -1).tolist():
        for start in range(0, len(row), m):
            kept.extend(_without(m, _smallest_first(row[start : start + m])[: m - n]))
    return np.reshape(kept, w.shape)


@n_m_mask.check
def two_of_four(n_m_mask):
    """Two of every four are kept, wherever the large ones are."""
    w = np.array([[1.0, -4.0, 3.0, 2.0, 0.5, 0.0, 0.25, 5.0]])
    right = [[False, True, True, False, True, False, False, True]]
    expect(
        n_m_mask(w, 2, 4),
        right,
        "m neighbours are a group, ranked by |w|; argsort says which is smallest and gives no ranks",
    )


@n_m_mask.check
def n_is_what_stays(n_m_mask):
    """n are kept and m - n go."""
    w = np.array([[1.0, 2.0, 3.0, 4.0], [-8.0, 7.0, -6.0, 5.0]])
    expect(n_m_mask(w, 1, 4), [[False, False, False, True], [True, False, False, False]], "1:4 keeps one of four")
    expect(n_m_mask(w, 3, 4), [[False, True, True, True], [True, True, True, False]], "3:4 keeps three of four")


@n_m_mask.check
def along_the_rows(n_m_mask):
    """A group is m neighbours in a row."""
    w = np.array([[1.0, 2.0, 30.0, 40.0], [10.0, 5.0, 3.0, 4.0]])
    right = [[False, True, False, True], [True, False, False, True]]
    expect(n_m_mask(w, 1, 2), right, "groups lie along the last axis of a matrix, not down its columns")


@n_m_mask.check
def none_and_all(n_m_mask):
    """0:m keeps nothing, m:m keeps all, also zeros."""
    w = np.array([[0.0, 1.0, -2.0], [0.0, 0.0, 0.0]])
    expect(n_m_mask(w, 0, 3), np.zeros((2, 3), bool), "order[-0:] is all of order, not nothing")
    expect(n_m_mask(w, 3, 3), np.ones((2, 3), bool), "a zero has its place, too")
    expect(n_m_mask(w, 1, 1), np.ones((2, 3), bool), "groups of one")


@n_m_mask.check
def equal_in_a_group(n_m_mask):
    """Of equal ones the last are kept, and never more than n."""
    w = np.array([[1.0, -1.0, 1.0, -1.0], [2.0, 2.0, 0.0, 2.0]])
    likely = "a threshold keeps all equal ones: rank them, kind='stable', the smallest first"
    expect(n_m_mask(w, 2, 4), [[False, False, True, True], [False, True, False, True]], likely)
    w = np.random.default_rng(6).integers(-2, 3, (3, 128)).astype(np.float32)
    expect(n_m_mask(w, 20, 64), _n_of_m(w, 20, 64), likely)


@n_m_mask.check
def convolutions(n_m_mask):
    """The row of a filter is in * kH * kW numbers long, and groups run on over its axes."""
    w = np.random.default_rng(4).normal(size=(5, 4, 3, 2))
    likely = "a row of (out, in, kH, kW) is the filter, flat; m need not divide in, kH or kW"
    expect(n_m_mask(w, 2, 4), _n_of_m(w, 2, 4), likely, dtype=bool)
    expect(n_m_mask(w, 3, 8), _n_of_m(w, 3, 8), likely)


@n_m_mask.unlocked
def n_of_four(n_m_mask):
    weights = weights_of(trained("lenet_300_100"))
    lines = ["LeNet-300-100 with your n_m_mask on every layer:"]
    for n in (3, 2, 1):
        error = _error_with({name: n_m_mask(w, n, 4) for name, w in weights.items()})
        lines.append(f"{n}:4, {1 - n / 4:.0%} of the weights zero, errs on {error}")
    return "\n".join(lines)


block_mask = Exercise(
    reference.block_mask,
    section="5. N:M and blocks",
    difficulty=2,
    size="eight lines",
    task="Graded with one to four dimensions; of equal norms the first blocks go, row by row; norms in float64.",
    unlocks="the error of LeNet-300-100 after your pruning in blocks of 1, 4 and 28",
)


@block_mask.check
def whole_blocks(block_mask):
    """A block goes as a whole."""
    w = np.array([[1.0, 1.0, 5.0, 0.0], [1.0, 1.0, 0.0, 0.0]])
    right = [[False, False, True, True], [False, False, True, True]]
    expect(
        block_mask(w, 0.5, block_size=(2, 2)),
        right,
        "split both axes into (blocks, size); count blocks, not weights; the zeros of a block that stays, stay",
    )


@block_mask.check
def not_square(block_mask):
    """Blocks have their own height and width."""
    w = np.array([[1.0, 2.0, 8.0, 8.0, 0.5, 0.5], [9.0, 9.0, 0.0, 1.0, 7.0, 7.0]])
    right = [[False, False, True, True, False, False], [True, True, False, False, True, True]]
    expect(block_mask(w, 0.5, block_size=(1, 2)), right, "block_size is (rows, columns)")
    likely = "split each axis into (blocks, size): reshape to (2, 1, 3, 2), not to (2, 3, 1, 2)"
    w = np.array([[1.0, 9.0], [1.0, 0.0], [8.0, 2.0], [8.0, 2.0], [7.0, 3.0], [0.0, 3.0]])
    right = [[False, True], [False, True], [True, False], [True, False], [True, False], [True, False]]
    expect(block_mask(w, 0.5, block_size=(2, 1)), right, likely)


@block_mask.check
def by_the_l2_norm(block_mask):
    """Blocks are ranked by the root of their sum of squares."""
    w = np.array([[3.0, 0.0, 0.0, 0.0, 1.25, 1.25, 1.25, 1.25]])  # L2 3 and 2.5, L1 3 and 5
    right = [[True, True, True, True, False, False, False, False]]
    expect(block_mask(w, 0.5, block_size=(1, 4)), right, "the L1 norm and the mean would keep the other block")
    w = np.array([[3.0, 0.0, 0.0, 0.0, 2.0, 2.0, 2.0, 2.0]])  # L2 3 and 4, largest 3 and 2
    expect(block_mask(w, 0.5, block_size=(1, 4)), ~np.array(right), "not by the largest weight of a block")
    w = np.array([[-4.0, 4.0], [1.0, 1.0], [-3.0, -3.0]])
    right = [[True, True], [False, False], [True, True]]
    expect(block_mask(w, 1 / 3, block_size=(1, 2)), right, "signs must not cancel")


@block_mask.check
def filters_and_neurons(block_mask):
    """A block may be a filter, a channel of it, a neuron, or a single weight."""
    rng = np.random.default_rng(7)
    w = rng.normal(size=(4, 3, 2, 5)) * np.array([3.0, 0.1, 2.0, 1.0]).reshape(4, 1, 1, 1)
    right = np.ones(w.shape, bool)
    right[1] = False
    expect(block_mask(w, 0.25, block_size=(1, 3, 2, 5)), right, "(1, in, kH, kW) are whole filters")
    norms = [(float(np.sum(w[i, j] ** 2)), i, j) for i, j in np.ndindex(4, 3)]
    right = np.ones(w.shape, bool)
    for _, i, j in sorted(norms)[:6]:
        right[i, j] = False
    expect(block_mask(w, 0.5, block_size=(1, 1, 2, 5)), right, "(1, 1, kH, kW) are one channel of a filter")
    expect(block_mask(np.array([2.0, -1.0, 3.0]), 1 / 3, block_size=(1,)), [True, False, True])


@block_mask.check
def rounded_blocks(block_mask):
    """Exactly round(sparsity * blocks) blocks go, of equal ones the first."""
    likely = "round(0.5 * 5) = 2 blocks; a threshold takes all equal blocks or none"
    expect(block_mask(np.ones((1, 10)), 0.5, block_size=(1, 2)), [[False] * 4 + [True] * 6], likely)
    expect(block_mask(np.ones((6, 2)), 0.25, block_size=(2, 1)), [[False, False]] * 2 + [[True, True]] * 4, likely)
    expect(block_mask(np.zeros((2, 2)), 0.0, block_size=(1, 2)), np.ones((2, 2), bool), "nothing goes at 0")
    expect(block_mask(np.ones((2, 2)), 1.0, block_size=(2, 1)), np.zeros((2, 2), bool), "all goes at 1", dtype=bool)


@block_mask.check
def large_weights(block_mask):
    """float32 squares of large numbers are infinite, so norms are computed in float64."""
    w = np.array([[2e30, 2e30], [1e30, 1e30], [3e30, 0.0]], np.float32)
    right = [[True, True], [False, False], [True, True]]
    expect(block_mask(w, 1 / 3, block_size=(1, 2)), right, "convert to float64 before squaring")


@block_mask.unlocked
def in_runs(block_mask):
    first = weights_of(trained("lenet_300_100"))["1.weight"]
    lines = ["LeNet-300-100 with your block_mask on its first layer, 70 % zero, errs:"]
    for run in (1, 4, 28):
        error = _error_with({"1.weight": block_mask(first, 0.7, block_size=(1, run))})
        lines.append(f"in blocks of {run:2}: {error}")
    return "\n".join(lines)


polynomial_schedule = Exercise(
    reference.polynomial_schedule,
    section="6. Retraining",
    difficulty=1,
    size="five lines",
    unlocks="LeNet-300-100 pruned to 95 % along your schedule, retrained on 5,000 images",
)


@polynomial_schedule.check
def fast_then_slow(polynomial_schedule):
    """At half of the time a cubic schedule has done seven eighths of the way."""
    likely = "the power is of what is left, 1 - (t - t_0) / (t_1 - t_0)"
    asked = {"begin_step": 0, "end_step": 100, "final_sparsity": 1.0}
    for t, right in [(0, 0.0), (50, 0.875), (100, 1.0)]:
        expect(polynomial_schedule(t, **asked), right, likely, tolerance=1e-12)


@polynomial_schedule.check
def before_and_after(polynomial_schedule):
    """Nothing is pruned before begin_step; from end_step on the final sparsity stays."""
    asked = {"begin_step": 100, "end_step": 200, "initial_sparsity": 0.25, "final_sparsity": 0.75}
    likely = "0 before t_0, not the initial sparsity, and not a polynomial run backwards"
    for t in (0, 99):
        expect(polynomial_schedule(t, **asked), 0, likely)
    expect(polynomial_schedule(100, **asked), 0.25, "the initial sparsity at t_0 itself", tolerance=1e-12)
    likely = "it lasts t_1 - t_0 steps, and then there is no polynomial: (1 - 2)^3 is negative"
    for t in (200, 300):
        expect(polynomial_schedule(t, **asked), 0.75, likely, tolerance=1e-12)


@polynomial_schedule.check
def beyond_the_end(polynomial_schedule):
    """An even power does not come back down after the end."""
    asked = {"begin_step": 10, "end_step": 20, "final_sparsity": 0.5, "power": 2}
    for t in (20, 25, 1000):
        expect(polynomial_schedule(t, **asked), 0.5, "the final sparsity from t_1 on", tolerance=1e-12)


@polynomial_schedule.check
def powers(polynomial_schedule):
    """The power may be any positive number; 1 is a line."""
    asked = {"begin_step": 4, "end_step": 8, "final_sparsity": 0.8}
    expect(polynomial_schedule(5, **asked, power=1), 0.2, "t - t_0 of t_1 - t_0 steps are done", tolerance=1e-12)
    expect(polynomial_schedule(7, **asked, power=0.5), 0.4, "1 - 0.25^0.5 = 0.5 of the way", tolerance=1e-12)


@polynomial_schedule.check
def against_fractions(polynomial_schedule):
    """Every step from 0 to 30, in exact fractions."""
    for power in (1, 2, 3, 5):
        asked = {"begin_step": 3, "end_step": 17, "initial_sparsity": 0.125, "final_sparsity": 0.875, "power": power}
        for step in range(31):
            left = max(Fraction(17 - step, 14), Fraction(0))
            right = Fraction(7, 8) - Fraction(3, 4) * left**power if step >= 3 else Fraction(0)
            expect(polynomial_schedule(step, **asked), float(right), tolerance=1e-12)


@polynomial_schedule.unlocked
def along_the_schedule(polynomial_schedule):
    data = load_mnist()
    steps = range(1, 7)
    sparsities = [polynomial_schedule(t, begin_step=0, end_step=6, final_sparsity=0.95) for t in steps]
    part = data.train_images[:5000], data.train_labels[:5000]
    stages = gradual_pruning(
        trained("lenet_300_100"), part, sparsities=sparsities, epochs_each=1, rate=0.1, progress=False
    )
    lines = ["LeNet-300-100 along your schedule, one epoch on 5,000 images at each step:"]
    for sparsity, network in stages:
        lines.append(f"{sparsity:.1%} zero, test error {evaluate(network, data.test_images, data.test_labels):.2%}")
    return "\n".join(lines)


def masked_sgd_step(weight, grad, velocity, mask, rate, momentum):  # [...] four times, two numbers -> [...], [...]
    """Return weight and velocity after one step of SGD with momentum on a pruned layer; what is pruned stays pruned.

        v <- momentum v + grad        w <- w - rate v        and both are 0 where the mask is False

    The velocity may come from before the pruning, and the weight too: neither is 0 outside of the mask yet.

    Examples
    --------
    >>> w, v = masked_sgd_step(np.ones(2), np.ones(2), np.ones(2), np.array([True, False]), rate=0.5, momentum=0.5)
    >>> w.tolist(), v.tolist()
    ([0.25, 0.0], [1.5, 0.0])
    """
    optimizer, held = SGD(rate, momentum=momentum), {"weight": weight * mask}
    optimizer.state, optimizer.steps = {"weight": [velocity * mask]}, {"weight": 0}
    optimizer.step(held, {"weight": grad * mask})
    return held["weight"], optimizer.state["weight"][0]


masked_step = Exercise(
    masked_sgd_step,
    section="6. Retraining",
    difficulty=2,
    size="three lines",
    unlocks="LeNet-300-100 pruned to 95 % and retrained on 10,000 images by your steps",
)


@masked_step.check
def a_step_unpruned(masked_sgd_step):
    """With nothing pruned it is SGD with momentum."""
    w, grad, v = np.array([[1.0, -2.0, 0.5]]), np.array([[0.5, 1.0, 0.0]]), np.array([[2.0, 0.0, -4.0]])
    right = np.array([[0.625, -2.25, 1.0]]), np.array([[1.5, 1.0, -2.0]])
    likely = (
        "v = momentum * v + grad, without the rate; w - rate * v; where the mask is True; weight first, then velocity"
    )
    expect(masked_sgd_step(w, grad, v, np.ones((1, 3), bool), 0.25, 0.5), right, likely)


@masked_step.check
def gradients_do_not_bring_back(masked_sgd_step):
    """The gradient of a pruned weight changes nothing."""
    mask = np.array([[True, False], [False, True], [True, True]])
    got = masked_sgd_step(np.where(mask, 2.0, 0.0), np.ones((3, 2)), np.zeros((3, 2)), mask, 0.5, 0.5)
    expect(got, (np.where(mask, 1.5, 0.0), np.where(mask, 1.0, 0.0)), "True is kept; both results take the mask")


@masked_step.check
def momentum_does_not_bring_back(masked_sgd_step):
    """Old momentum does not bring a pruned weight back, and is forgotten."""
    mask = np.array([True, False])
    got = masked_sgd_step(np.array([1.0, 0.0]), np.zeros(2), np.array([4.0, 4.0]), mask, 0.25, 0.5)
    likely = "mask the whole velocity: with only the gradient masked, what is remembered still moves the weight"
    expect(got, (np.array([0.5, 0.0]), np.array([2.0, 0.0])), likely)


@masked_step.check
def weights_just_pruned(masked_sgd_step):
    """A weight that the mask has just taken becomes 0 in this step."""
    mask = np.array([False, True, False])
    got = masked_sgd_step(np.array([3.0, 3.0, -3.0]), np.zeros(3), np.zeros(3), mask, 0.5, 0.5)
    expect(got, (np.array([0.0, 3.0, 0.0]), np.zeros(3)), "mask the weight too: not moving it is not pruning it")


@masked_step.check
def without_momentum(masked_sgd_step):
    """At momentum 0 the old velocity does not matter."""
    got = masked_sgd_step(np.array([1.0]), np.array([2.0]), np.array([9.0]), np.array([True]), 0.25, 0.0)
    expect(got, (np.array([0.5]), np.array([2.0])), "v = 0 * v + grad: no factor 1 - momentum, no velocity ahead")


@masked_step.check
def many_steps(masked_sgd_step):
    """Thirty steps down a parabola, the rate and the mask changing, against each weight by itself."""
    rng = np.random.default_rng(8)
    weight, goal = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    last = rng.random((4, 3)) < 0.5  # which are pruned after ten steps
    right_w, right_v = weight.tolist(), np.zeros((4, 3)).tolist()
    velocity = np.zeros((4, 3))
    for step in range(30):
        mask, rate = last if step >= 10 else np.ones((4, 3), bool), 0.1 if step < 20 else 0.01
        weight, velocity = masked_sgd_step(weight, weight - goal, velocity, mask, rate, 0.9)
        for i, j in np.ndindex(4, 3):
            if mask[i, j]:
                right_v[i][j] = 0.9 * right_v[i][j] + (right_w[i][j] - goal[i, j])
                right_w[i][j] -= rate * right_v[i][j]
            else:
                right_w[i][j] = right_v[i][j] = 0.0
        likely = "the velocity holds no rate: when the rate falls, old steps fall with it"
        expect((weight, velocity), (np.array(right_w), np.array(right_v)), likely, tolerance=1e-10)


@masked_step.check
def float32_stays(masked_sgd_step):
    """float32 weights stay float32."""
    w, mask = np.array([[1.0, 2.0]], np.float32), np.array([[True, False]])
    got = masked_sgd_step(w, w, w, mask, 0.5, 0.5)
    expect(got, (np.float32([[0.25, 0]]), np.float32([[1.5, 0]])), "no array of float64 in between", dtype=np.float32)


@masked_step.unlocked
def retrains(masked_sgd_step):
    data = load_mnist()
    network = prune_network(trained("lenet_300_100"), 0.95, scope="network")
    before = evaluate(network, data.test_images, data.test_labels)
    masks, parameters = masks_of(network), network.parameters()
    velocity = {name: np.zeros_like(array) for name, array in parameters.items()}
    for start in range(0, 10_000, 100):
        images, labels = data.train_images[start : start + 100], data.train_labels[start : start + 100]
        network.backward(cross_entropy(network.forward(images), labels)[1])
        for name, grad in network.gradients().items():
            mask = masks.get(name, np.ones(grad.shape, bool))
            step = masked_sgd_step(parameters[name], grad, velocity[name], mask, 0.05, 0.9)
            parameters[name][...], velocity[name] = step
    after = evaluate(network, data.test_images, data.test_labels)
    return (
        f"LeNet-300-100 without 95 % of its weights errs on {before:.1%} of the test images; after 100 of your "
        f"steps, one epoch of 10,000 images, on {after:.2%}, and {sparsity_of(network):.1%} of its weights are zero."
    )
