"""Chapter 10: the exercises and what grades them."""

import itertools

import matplotlib.pyplot as plt
import numpy as np

from nnzip import equalization
from nnzip import reconstruction as reference
from nnzip.book import plots
from nnzip.book.exercises import in_place_of
from nnzip.book.grading import Exercise, Wrong, brief, expect
from nnzip.compression.quantization import quantize_weights
from nnzip.compression.reconstruction import correct_biases, equalize_network, reconstruct_weights
from nnzip.data import load_mnist
from nnzip.nn.training import evaluate
from nnzip.nn.zoo import trained
from nnzip.pruning import magnitude_mask
from nnzip.quantization import QuantParams, choose_qparams, fake_quantize

LINEAR = (1, 3, 5)  # of LeNet-300-100


def _test_error(network):
    data = load_mnist()
    return evaluate(network, data.test_images, data.test_labels)


def _inputs(network, layer, count=1024):
    """What enters a layer of the MLP, of the first training images: [count, in]."""
    x = load_mnist().train_images[:count]
    for before in network.layers[:layer]:
        x = before.forward(x)
    return x.reshape(len(x), -1).astype(np.float64)


def _correlated(seed, inputs, samples=40):
    """Inputs with common causes, not one of them a copy of another: [samples, inputs]."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, 2)) @ rng.normal(size=(2, inputs)) + 0.4 * rng.normal(size=(samples, inputs))
    return np.round(x, 3)


def _hessian(x):
    return 2 * np.einsum("ni,nj->ij", x, x) / len(x)


def _output_error(weight, changed, x):
    return float(np.mean(np.sum(((changed - weight) @ x.T) ** 2, axis=0)))


# ---------------------------------------------------------------- the Hessian

second_derivative = Exercise(
    reference.input_hessian,
    section="2. What a layer loses",
    difficulty=1,
    size="three lines",
    task="The mean of the diagonal, times the damping, is added to the diagonal and to nothing else. Computed in "
    "float64, whatever x is; no bad input.",
    unlocks="what your Hessian has seen of the images, as pictures, and a network rounded by it",
)


@second_derivative.check
def by_hand(input_hessian):
    """H = 2 mean_n x_n^T x_n: two samples, two inputs, no damping."""
    x = np.array([[1.0, 2.0], [3.0, 0.0]])
    expect(input_hessian(x, damping=0.0), [[10, 2], [2, 4]], "2 / N times the sum of x_n^T x_n", tolerance=1e-12)


@second_derivative.check
def a_row_for_each_input(input_hessian):
    """There is a row and a column for each input, for any number of samples."""
    x = np.array([[1.0, 0.0, 2.0], [0.0, 3.0, -2.0]])
    likely = "x^T x is (in, in); x x^T is (samples, samples)"
    expect(input_hessian(x, damping=0.0), [[1, 0, 2], [0, 9, -6], [2, -6, 8]], likely, tolerance=1e-12)
    expect(input_hessian(x[:, :1], damping=0.0), [[1.0]], likely, tolerance=1e-12)
    expect(input_hessian(x[:1], damping=0.0), [[2, 0, 4], [0, 0, 0], [4, 0, 8]], "one sample", tolerance=1e-12)


@second_derivative.check
def a_mean(input_hessian):
    """The same samples a hundred times over give the same H."""
    x = np.array([[1.0, -1.0, 0.5], [2.0, 0.0, 1.5]])
    right = [[5, -1, 3.5], [-1, 1, -0.5], [3.5, -0.5, 2.5]]
    expect(input_hessian(np.tile(x, (100, 1)), damping=0.0), right, "a mean over samples, no sum", tolerance=1e-11)


@second_derivative.check
def second_differences(input_hessian):
    """H is the second derivative of mean_n (x_n . d)^2 by d: its differences, in whole numbers."""
    x = np.random.default_rng(0).integers(-4, 5, (8, 3)).astype(np.float64)

    def loss(d):
        return np.mean((x @ d) ** 2)

    steps = np.eye(3)
    right = [[loss(a + b) - loss(a) - loss(b) for b in steps] for a in steps]
    expect(input_hessian(x, damping=0.0), right, "2 / N; inputs are not centred", tolerance=1e-11)


@second_derivative.check
def constant_inputs(input_hessian):
    """An input that is always 3 has H = 18: it is no variance."""
    likely = "the mean is not taken out of the inputs: np.cov does that"
    expect(input_hessian(np.full((5, 2), 3.0), damping=0.0), [[18, 18], [18, 18]], likely, tolerance=1e-11)


@second_derivative.check
def damping(input_hessian):
    """Damping times the mean of the diagonal is added to the diagonal, also where an input is always 0."""
    x = np.array([[2.0, 0.0, 1.0], [-2.0, 0.0, 2.0]])  # the diagonal of H is 8, 0, 5; mean 13/3
    likely = "H + damping * mean(diag(H)) * I: a part of the mean, the same for every input"
    right = np.array([[8, 0, -2], [0, 0, 0], [-2, 0, 5]]) + 0.3 * 13 / 3 * np.eye(3)
    expect(input_hessian(x, damping=0.3), right, likely, tolerance=1e-12)


@second_derivative.check
def one_percent(input_hessian):
    """Without a word the damping is 0.01."""
    x = np.array([[1.0, 2.0], [3.0, 0.0]])
    expect(input_hessian(x), [[10.07, 2], [2, 4.07]], "damping=0.01 by default", tolerance=1e-12)


@second_derivative.check
def in_float64(input_hessian):
    """float32 inputs are multiplied in float64: 4097 squared has 25 bits."""
    x = np.array([[4097.0, 1.0], [4097.0, 3.0]], np.float32)
    right = [[2 * 4097**2, 4 * 4097], [4 * 4097, 10]]
    expect(input_hessian(x, damping=0.0), right, "x.astype(np.float64) first", dtype=np.float64)


@second_derivative.unlocked
def pictures(input_hessian):
    network = trained("lenet_300_100")
    images = load_mnist().train_images[:1024]
    hessian = input_hessian(images.reshape(1024, -1), damping=0.0)
    with in_place_of(reference.input_hessian, input_hessian):
        errors = [
            _test_error(net)
            for net in (quantize_weights(network, bits=2), reconstruct_weights(network, images, bits=2))
        ]
    parts = {"the diagonal of your H": np.diag(hessian), "its row of the pixel in the middle": hessian[14 * 28 + 14]}
    figure, axes = plt.subplots(1, 2, figsize=(8, 4.2))
    for axis, (title, part) in zip(axes, parts.items(), strict=True):
        axis.imshow(part.reshape(28, 28), cmap="magma")
        axis.set(title=title, xticks=[], yticks=[])
    figure.suptitle("LeNet-300-100 at 2 bits: {:.2%} error to nearest, {:.2%} by GPTQ with your H".format(*errors))
    return figure


# ---------------------------------------------------------------- Optimal Brain Surgeon

surgeon = Exercise(
    reference.obs_prune,
    section="3. Pruning with second derivatives",
    difficulty=3,
    size="twelve lines",
    task="weight is (out, in), hessian (in, in) and float64, sparsity from 0 to 1. No bad input; H has an inverse.",
    unlocks="the last layer of a trained network, pruned by you",
)


def _refitted(row, zeros, x):
    """The row with these weights zero that changes the outputs least, by least squares on the inputs themselves."""
    kept = np.setdiff1d(np.arange(len(row)), zeros)
    fitted = np.zeros(len(row))
    fitted[kept] = np.linalg.lstsq(x[:, kept], x @ row, rcond=None)[0]
    return fitted


def _surgeon(row, count, x):
    """Of each step all ways are tried: zero one more weight, fit the others again from scratch."""
    zeros = []
    for _ in range(count):
        left = [p for p in range(len(row)) if p not in zeros]
        zeros.append(min(left, key=lambda p: _output_error(row, _refitted(row, [*zeros, p], x), x)))
    return _refitted(row, zeros, x)


@surgeon.check
def the_other_makes_up(obs_prune):
    """Of two inputs that go together one weight goes, and the other takes over its work."""
    h = np.array([[1.0, 0.9], [0.9, 1.0]])
    likely = "w <- w - w_p / [H^-1]_pp [H^-1]_p: 1.1 becomes 1.1 + 0.9 * 1.0"
    expect(obs_prune(np.array([[1.0, 1.1]]), h, 0.5), [[0.0, 2.0]], likely, tolerance=1e-12)
    expect(obs_prune(np.array([[1.0, -0.5]]), h, 0.5), [[0.55, 0.0]], likely, tolerance=1e-12)


@surgeon.check
def uncorrelated_inputs(obs_prune):
    """Where H is diagonal the smallest w^2 H_pp goes, and the others stay as they are."""
    h = np.diag([9.0, 1.0, 4.0])
    likely = "the cost is w_p^2 / (2 [H^-1]_pp); here 4.5, 2 and 2.88"
    expect(obs_prune(np.array([[1.0, 2.0, -1.2]]), h, 1 / 3), [[1.0, 0.0, -1.2]], likely, tolerance=1e-12)


@surgeon.check
def nothing_and_everything(obs_prune):
    """At sparsity 0 nothing moves; at 1 all weights are zero."""
    h = np.array([[2.0, 1.0, 0.0], [1.0, 2.0, 1.0], [0.0, 1.0, 2.0]])
    w = np.array([[1.0, -2.0, 3.0], [0.5, 0.0, -1.0]])
    expect(obs_prune(w, h, 0.0), w)
    expect(obs_prune(w, h, 1.0), np.zeros((2, 3)), "no weight is chosen twice, and what is pruned is 0, not 1e-17")


@surgeon.check
def which_goes_first(obs_prune):
    """Not the smallest weight, nor the smallest w^2 H_pp, but the one the others can stand in for: all tried."""
    for seed in (51, 174, 194, 277):  # where the three differ
        x = _correlated(seed, 5)
        row = np.random.default_rng(100 + seed).normal(size=5)
        right = _surgeon(row, 1, x)
        expect(obs_prune(row[None], _hessian(x), 0.2), right[None], "the cost divides by [H^-1]_pp", tolerance=1e-9)


@surgeon.check
def one_after_the_other(obs_prune):
    """After each weight the next is chosen anew, and all that are left are fitted again, by least squares."""
    likely = "after a step H^-1 loses row and column p: H^-1 <- H^-1 - [H^-1]_:p [H^-1]_p: / [H^-1]_pp"
    for seed, inputs, count in ((45, 6, 2), (55, 6, 2), (19, 6, 3), (20, 6, 3), (3, 7, 5), (10, 7, 5)):  # clear choices
        x = _correlated(seed, inputs)
        row = np.random.default_rng(200 + seed).normal(size=inputs)
        right = _surgeon(row, count, x)
        expect(obs_prune(row[None], _hessian(x), count / inputs), right[None], likely, tolerance=1e-9)


@surgeon.check
def every_row_for_itself(obs_prune):
    """Each row loses as many weights, its own choice, and no row works with the H^-1 that another has left behind."""
    x = _correlated(20, 6)
    w = np.random.default_rng(300).normal(size=(4, 6)) * np.array([[100.0], [1.0], [0.01], [1.0]])
    right = np.stack([_surgeon(row, 3, x) for row in w])
    expect(obs_prune(w, _hessian(x), 0.5), right, "each row begins with the whole H^-1: a copy", tolerance=1e-7)


@surgeon.check
def how_many(obs_prune):
    """Of n weights round(sparsity n) go: 2 of 3 at 0.6, 1 of 3 at 0.4."""
    h, w = np.diag([1.0, 2.0, 3.0]), np.array([[1.0, 1.0, 1.0]])
    expect(obs_prune(w, h, 0.6), [[0, 0, 1]], "0.6 * 3 is 1.8, which rounds to 2", tolerance=1e-12)
    expect(obs_prune(w, h, 0.4), [[0, 1, 1]], "0.4 * 3 is 1.2, which rounds to 1", tolerance=1e-12)


@surgeon.check
def zeros_go_first(obs_prune):
    """Weights that are zero cost nothing: they go first, and nothing moves."""
    x = _correlated(4, 4)
    w = np.array([[0.0, 1.5, 0.0, -2.0]])
    expect(obs_prune(w, _hessian(x), 0.5), w, "w_p = 0 makes the cost 0", tolerance=1e-12)


@surgeon.check
def zeros_and_type(obs_prune):
    """What is pruned is exactly 0, also after the steps that follow, and float32 stays float32."""
    x = _correlated(5, 12)
    w = np.random.default_rng(5).normal(size=(3, 12)).astype(np.float32)
    got = obs_prune(w, _hessian(x), 0.75)
    expect(np.count_nonzero(np.asarray(got) == 0, axis=-1), [9, 9, 9], "each row has nine zeros: set them, exactly")
    right = np.stack([_surgeon(row, 9, x) for row in w.astype(np.float64)])
    expect(got, right, "the dtype of the weight", tolerance=1e-4, dtype=np.float32)


@surgeon.unlocked
def pruned_last_layer(obs_prune):
    network = trained("lenet_300_100")
    weight = network.layers[5].params["weight"].astype(np.float64)
    hessian = _hessian(_inputs(network, 5)) + 1e-2 * np.eye(100)
    lines = ["LeNet-300-100, its last layer pruned (100 weights for each digit), 10,000 test images:"]
    for sparsity in (0.5, 0.7, 0.8, 0.9):
        errors = []
        for pruned in (weight * magnitude_mask(weight, sparsity), obs_prune(weight, hessian, sparsity)):
            changed = network.copy()
            changed.layers[5].params["weight"][...] = pruned
            errors.append(_test_error(changed))
        lines.append(f"  {sparsity:.0%} zero: {errors[0]:.2%} error by magnitude, {errors[1]:.2%} by your surgeon")
    return "\n".join(lines)


# ---------------------------------------------------------------- GPTQ


def gptq(weight, hessian, qparams):  # [out, in], [in, in] -> float [out, in]
    """Round the columns one after the other, the first first; those that are left make up for each error.

        w^_k = w_k rounded to the grid
        w <- w - (w_k - w^_k) / [H^-1]_kk [H^-1]_k        and H^-1 without row and column k is what is left

    Every row of the weight does so with its own errors and the same H^-1. The rounding is that of `quantize`: to
    nearest, then clipped to qmin and qmax.

    Parameters
    ----------
    weight : float array (out, in)
    hessian : float64 array (in, in), which has an inverse
    qparams : QuantParams, with one scale, or one for each row (axis=0)

    Returns
    -------
    float array (out, in): values on the grid, no codes

    Examples
    --------
    >>> grid = QuantParams(scale=1.0, zero_point=0, bits=4, signed=True)
    >>> gptq(np.array([[0.4, 0.4]]), np.array([[2.0, 1.9], [1.9, 2.0]]), grid).tolist()
    [[0.0, 1.0]]
    """
    return reference.gptq(weight, hessian, qparams)


column_by_column = Exercise(
    gptq,
    section="4. GPTQ: the rest makes up for it",
    difficulty=3,
    size="ten lines",
    task="The loop as it stands in the formula will do; so will Cholesky factors. In float64.",
    unlocks="a whole network at 2 bits, rounded by you",
)

WHOLE = QuantParams(scale=1.0, zero_point=0, bits=4, signed=True)


def _least_squares(weight, hessian, scale, low, high):
    """Column after column; the columns that are left are solved for from the beginning each time. Steps of the grid."""
    steps = np.zeros(weight.shape)
    for k in range(weight.shape[1]):
        left = weight[:, k]
        if k:
            missing = weight[:, :k] - steps[:, :k] * scale
            move = np.linalg.solve(hessian[k:, k:], hessian[k:, :k] @ missing.T)  # the best for the rest
            left = left + move[0]
        steps[:, k] = np.clip(np.rint(left / scale[:, 0]), low, high)
    return steps


def _on_the_grid(got, scale):
    steps = np.asarray(got) / scale
    wrong = np.abs(steps - np.rint(steps)) > 1e-4
    if np.any(wrong):
        raise Wrong(
            f"got:      {brief(np.asarray(got))}\nexpected: multiples of {brief(scale)}\n"
            f"          {np.count_nonzero(wrong)} of {wrong.size} are off the grid\n"
            "likely:   columns that are rounded already were moved again"
        )


@column_by_column.check
def the_second_makes_up(gptq):
    """Two inputs that go together: 0.4 and 0.4 are one whole, not none."""
    h = np.array([[2.0, 1.9], [1.9, 2.0]])
    likely = "after column 0 becomes 0, column 1 is 0.4 + 0.95 * 0.4 = 0.78"
    expect(gptq(np.array([[0.4, 0.4]]), h, WHOLE), [[0, 1]], likely, tolerance=1e-6)
    likely = "after column 0 becomes 1, column 1 is 0.4 - 0.95 * 0.4 = 0.02; -0.6 and -0.2 the other way round"
    expect(gptq(np.array([[0.6, 0.4], [-0.6, -0.2]]), h, WHOLE), [[1, 0], [-1, 0]], likely, tolerance=1e-6)


@column_by_column.check
def uncorrelated_inputs_round_to_nearest(gptq):
    """Where H is diagonal nothing can make up for anything: every weight goes to its nearest."""
    w = np.array([[0.4, -0.6, 1.3], [2.2, 0.3, -3.7]])
    likely = "the error goes along the rows of H^-1, here 0 but for the diagonal"
    expect(gptq(w, np.diag([5.0, 1.0, 0.2]), WHOLE), [[0, -1, 1], [2, 0, -4]], likely, tolerance=1e-6)
    expect(gptq(np.array([[1.3]]), np.array([[4.0]]), WHOLE), [[1]], "a layer of one input", tolerance=1e-6)


@column_by_column.check
def weights_on_the_grid(gptq):
    """Weights that lie on the grid stay, whatever H is."""
    x = _correlated(0, 4)
    w = np.array([[1.0, -3.0, 0.0, 7.0], [2.0, 0.0, -8.0, 5.0]])
    expect(gptq(w, _hessian(x), WHOLE), w, "no error, nothing to make up for", tolerance=1e-6)


@column_by_column.check
def steps_of_any_size(gptq):
    """The error is that of the weight, not of its code."""
    grid = QuantParams(scale=0.25, zero_point=0, bits=4, signed=True)
    h = np.array([[2.0, 1.5], [1.5, 2.0]])
    likely = "0.35 becomes 0.25, and 0.1 * 0.75 is missing: 0.06 becomes 0.135, nearer to 0.25 than to 0"
    expect(gptq(np.array([[0.35, 0.06]]), h, grid), [[0.25, 0.25]], likely, tolerance=1e-6)
    likely = "0.1 * 0.75 is missing, which rounds to 0; 0.4, the error in steps, is not what is passed on"
    expect(gptq(np.array([[0.35, 0.0]]), h, grid), [[0.25, 0.0]], likely, tolerance=1e-6)


@column_by_column.check
def a_scale_for_each_row(gptq):
    """With axis=0 each row has its own steps, in a square weight too."""
    grid = QuantParams(scale=[1.0, 0.25], zero_point=[0, 0], bits=4, signed=True, axis=0)
    h = np.array([[2.0, 1.5], [1.5, 2.0]])
    likely = "the scales go with the rows; a column k of the weight has one value for each"
    expect(gptq(np.array([[0.4, 0.3], [0.35, 0.06]]), h, grid), [[0, 1], [0.25, 0.25]], likely, tolerance=1e-6)


@column_by_column.check
def a_zero_point(gptq):
    """Codes 0 to 3 with zero point 1 stand for -1, 0, 1 and 2."""
    grid = QuantParams(scale=1.0, zero_point=1, bits=2, signed=False)
    w = np.array([[-0.8, 1.7, 0.2], [0.2, -0.4, 0.9]])
    likely = "clip rint(w / scale) + zero_point to qmin and qmax, and take the zero point off again"
    expect(gptq(w, np.eye(3), grid), [[-1, 2, 0], [0, 0, 1]], likely, tolerance=1e-6)


@column_by_column.check
def clipping_is_an_error_too(gptq):
    """What is clipped off is missing, and the others make up for it."""
    grid = QuantParams(scale=1.0, zero_point=0, bits=2, signed=True)  # -2 to 1
    h = np.array([[2.0, 1.0], [1.0, 2.0]])
    likely = "3 becomes 1, so that 2 is missing, half of it for column 1; the error is w_k - w^_k after clipping"
    expect(gptq(np.array([[3.0, -0.2], [-4.0, 0.3]]), h, grid), [[1, 1], [-2, -1]], likely, tolerance=1e-6)


@column_by_column.check
def only_the_sum_counts(gptq):
    """Eight inputs that are nearly the same: the sum of the weights is kept, although each of them would round to 0."""
    h = 2 * np.ones((8, 8)) + 1e-3 * np.eye(8)
    w = np.array([np.full(8, 0.3), np.full(8, 0.45), np.full(8, -0.2)])  # sums 2.4, 3.6, -1.6
    got = gptq(w, h, WHOLE)
    _on_the_grid(got, 1.0)
    expect(
        np.sum(got, axis=1),
        [2, 4, -2],
        "the sums of the rows; every column left takes its part of an error",
        tolerance=1e-4,
    )


@column_by_column.check
def against_least_squares(gptq):
    """Each column is rounded where least squares wants it, given the columns that are fixed: solved anew each time."""
    likely = "the first column first; after column k, H^-1 <- H^-1 - [H^-1]_:k [H^-1]_k: / [H^-1]_kk"
    for seed, (out, inputs) in itertools.product(range(3), ((3, 4), (4, 7), (1, 12))):
        x = _correlated(30 + seed, inputs)
        w = np.random.default_rng(400 + seed).normal(size=(out, inputs))
        grid = QuantParams(scale=np.full(out, 0.5), zero_point=np.zeros(out, int), bits=3, signed=True, axis=0)
        right = _least_squares(w, _hessian(x), np.full((out, 1), 0.5), -4, 3)
        got = gptq(w, _hessian(x), grid)
        _on_the_grid(got, 0.5)
        expect(got, 0.5 * right, likely, tolerance=1e-5)


@column_by_column.check
def nearly_singular(gptq):
    """Inputs that nearly repeat each other: H^-1 has entries of millions."""
    rng = np.random.default_rng(11)
    x = rng.normal(size=(64, 3)) @ rng.normal(size=(3, 9)) + 5e-4 * rng.normal(size=(64, 9))
    w = rng.normal(size=(5, 9))  # the nearest that a column comes to a border is 0.025 steps
    right = _least_squares(w, _hessian(x), np.full((5, 1), 0.25), -8, 7)
    got = gptq(w, _hessian(x), QuantParams(0.25, 0, 4, True))
    expect(got, 0.25 * right, "float32 is too coarse for H^-1 and what is subtracted from it", tolerance=1e-5)


@column_by_column.unlocked
def a_rounded_network(gptq):
    float_network = trained("lenet_300_100")
    network = float_network.copy()
    lines = [
        "LeNet-300-100 at 2 bits: squared error of a layer's outputs over that of rounding to nearest, same images:"
    ]
    for layer in LINEAR:
        weight, x = network.layers[layer].params["weight"], _inputs(network, layer)
        grid = choose_qparams(weight, bits=2, axis=0)
        seen = np.mean(x**2, axis=0) > 0  # a weight of a pixel that is always 0 has nothing to make up for
        h = _hessian(x[:, seen])
        nearest = fake_quantize(weight, grid)
        rounded = nearest.copy()
        rounded[:, seen] = gptq(weight[:, seen], h + 0.1 * np.mean(np.diag(h)) * np.eye(len(h)), grid)
        ratio = _output_error(weight, rounded, x) / _output_error(weight, nearest, x)
        lines.append(f"  {' x '.join(map(str, weight.shape))}: {ratio:.3f}")
        weight[...] = rounded
    errors = [_test_error(net) for net in (float_network, quantize_weights(float_network, bits=2), network)]
    lines.append("test error: float {:.2%}, to nearest {:.2%}, by your GPTQ {:.2%}".format(*errors))
    return "\n".join(lines)


# ---------------------------------------------------------------- AdaRound


def soft_rounding_loss(v, target, hessian, *, strength, beta):  # [out, in], [out, in], [in, in] -> float, [out, in]
    """Return AdaRound's loss and its gradient by v, for weights counted in steps of the grid.

        h = clip(1.2 sigmoid(v) - 0.1, 0, 1)        d = floor(target) + h - target
        loss = 1/2 sum d H d^T + strength sum (1 - |2 h - 1|^beta)

    Where h is cut off, at 0 and at 1, its derivative is 0.

    Parameters
    ----------
    v, target : float arrays (out, in); target is w / s
    hessian : float array (in, in), symmetric
    strength : float >= 0
    beta : float > 1

    Returns
    -------
    float and float array (out, in)

    Examples
    --------
    >>> loss, grad = soft_rounding_loss(np.zeros((1, 1)), np.array([[2.25]]), np.eye(1), strength=0.0, beta=2)
    >>> float(loss), grad.round(6).tolist()  # h is 0.5, its derivative 0.3
    (0.03125, [[0.075]])
    """
    everywhere = np.full(target.shape, np.inf)
    return reference.adaround_loss(v, target, np.ones(target.shape), hessian, -everywhere, everywhere, strength, beta)


soft = Exercise(
    soft_rounding_loss,
    section="6. AdaRound: learn which way",
    difficulty=2,
    size="ten lines",
    unlocks="two layers of a trained network, rounded by descent along your gradient",
)


@soft.check
def half_way(soft_rounding_loss):
    """At v = 0, h is 0.5 and its derivative 0.3: one weight of 2.25 steps, then one of -0.9."""
    got = soft_rounding_loss(np.zeros((1, 1)), np.array([[2.25]]), np.eye(1), strength=0.0, beta=2.0)
    expect(
        got,
        (0.03125, [[0.075]]),
        "d is 0.25, the loss d^2 / 2, the gradient d * 0.3; strength 0 leaves the second term out",
        tolerance=1e-12,
    )
    got = soft_rounding_loss(np.zeros((1, 1)), np.array([[-0.9]]), np.array([[2.0]]), strength=0.0, beta=2.0)
    expect(got, (0.16, [[0.24]]), "floor(-0.9) is -1, d is 0.4: a cast to int rounds to 0", tolerance=1e-12)


@soft.check
def cut_off(soft_rounding_loss):
    """Where 1.2 sigmoid(v) - 0.1 is below 0 or above 1, h is 0 or 1 and the gradient 0."""
    v, target = np.array([[-3.0, 3.0, -30.0, 30.0]]), np.array([[1.5, 1.5, 0.25, 0.25]])
    got = soft_rounding_loss(v, target, np.eye(4), strength=0.0, beta=2.0)
    right = (0.5 * (0.25 + 0.25 + 0.0625 + 0.5625), np.zeros((1, 4)))
    likely = "h = clip(1.2 sigmoid(v) - 0.1, 0, 1), for v = 3 clip(1.04): 1; its derivative there is 0"
    expect(got, right, likely, tolerance=1e-12)


@soft.check
def the_second_term(soft_rounding_loss):
    """sum 1 - |2 h - 1|^beta: nothing where h is 0 or 1, one for each h of 0.5, times the strength."""
    v, target = np.array([[-9.0, 0.0], [0.0, 9.0], [9.0, 0.0]]), np.array([[2.0, 0.5], [1.5, 0.0], [-1.0, 0.5]])
    h = np.zeros((2, 2))  # the first term is 0
    got = soft_rounding_loss(v, target, h, strength=0.7, beta=3.0)
    expect(got, (2.1, np.zeros((3, 2))), "three h of 0.5; there the term is flat", tolerance=1e-9)


@soft.check
def by_hand_with_both_terms(soft_rounding_loss):
    """At sigmoid(v) = 0.75, h is 0.8 and its derivative 0.225."""
    v = np.full((1, 1), np.log(3.0))
    got = soft_rounding_loss(v, np.array([[0.5]]), np.eye(1), strength=2.0, beta=2.0)
    # d is 0.3; 2 h - 1 is 0.6
    right = (0.045 + 2 * 0.64, [[(0.3 - 2 * 2 * 2 * 0.6) * 0.225]])
    expect(got, right, "the derivative of |u|^beta by h is 2 beta |u|^(beta - 1) sign(u), u = 2 h - 1", tolerance=1e-12)


@soft.check
def inputs_that_go_together(soft_rounding_loss):
    """The whole of H counts, and a row for itself: 1/2 sum over rows of d H d^T."""
    h, v = np.array([[2.0, 1.0], [1.0, 4.0]]), np.zeros((3, 2))
    target = np.array([[0.4, 0.7], [3.5, 0.0], [-1.6, -0.5]])  # d: (0.1, -0.2), (0, 0.5), (0.1, 0)
    right = (0.5 * (0.14 + 1.0 + 0.02), 0.3 * np.array([[0.0, -0.7], [0.5, 2.0], [0.2, 0.1]]))
    got = soft_rounding_loss(v, target, h, strength=0.0, beta=2.0)
    expect(got, right, "d H, not d times the diagonal; the gradient of 1/2 d H d^T is d H", tolerance=1e-12)


@soft.check
def finite_differences(soft_rounding_loss):
    """The gradient is that of the value: differences of your own loss, in both terms."""
    rng = np.random.default_rng(1)
    v, target = rng.uniform(-2.2, 2.2, (2, 3)), rng.uniform(-3, 3, (2, 3))
    x = _correlated(3, 3)
    for strength, beta in ((0.0, 2.0), (0.5, 2.0), (0.5, 7.5)):
        _, grad = soft_rounding_loss(v, target, _hessian(x), strength=strength, beta=beta)
        right = np.zeros(v.shape)
        for i in np.ndindex(v.shape):
            step = np.zeros(v.shape)
            step[i] = 1e-5
            ends = [
                soft_rounding_loss(w, target, _hessian(x), strength=strength, beta=beta)[0]
                for w in (v + step, v - step)
            ]
            right[i] = (ends[0] - ends[1]) / 2e-5
        expect(grad, right, f"strength {strength}, beta {beta}; the chain: loss by h, times h by v", tolerance=1e-6)


@soft.check
def up_and_down_alike(soft_rounding_loss):
    """The second term is the same for v and -v; its gradient changes the sign."""
    v = np.array([[0.5, 1.5, -1.0]])
    up, down = (soft_rounding_loss(w, 0 * v, np.zeros((3, 3)), strength=1.0, beta=3.5) for w in (v, -v))
    if not isinstance(up, tuple) or not isinstance(down, tuple):
        raise Wrong(f"got:      {brief(up)}\nexpected: loss and gradient")
    expect(
        up,
        (float(down[0]), -np.asarray(down[1])),
        "|2 h - 1|^beta: a power of the magnitude, which is no NaN",
        tolerance=1e-12,
    )
    expect(np.sign(up[1]), [[-1, -1, 1]], "the descent goes to the nearer end: up from 0.5, down from -1")


@soft.unlocked
def descent(soft_rounding_loss):
    network, calls = trained("lenet_300_100"), []

    def loss(v, target, share, hessian, low, high, strength, beta):
        calls.append(beta)
        return soft_rounding_loss(v, target, hessian, strength=strength, beta=beta)

    lines = ["LeNet-300-100, squared error of a layer's outputs, as a part of their own square:"]
    for layer, bits in itertools.product(LINEAR[1:], (2, 3)):
        weight, h = network.layers[layer].params["weight"], _hessian(_inputs(network, layer))
        grid = choose_qparams(weight, bits=bits, axis=0)
        with in_place_of(reference.adaround_loss, loss):
            ways = {"to nearest": fake_quantize(weight, grid), "learned": reference.adaround(weight, h, grid)}
        whole = reference.output_error(weight, 0 * weight, h)
        errors = ", ".join(f"{reference.output_error(weight, w, h) / whole:.1%} {name}" for name, w in ways.items())
        lines.append(f"  {' x '.join(map(str, weight.shape))}, {bits} bits: {errors}")
    return "\n".join([*lines, f"({len(calls):,} steps along your gradient)"])


# ---------------------------------------------------------------- the best of all

judge = Exercise(
    reference.best_rounding,
    section="7. How far from the best?",
    difficulty=2,
    size="eight lines",
    task="weight is (out, in) with up to 10 inputs, hessian (in, in). One scale, or one for each row (axis=0). "
    "Down is floor(w / s), up is one more, both clipped to the grid. A row's best has the least d H d^T. No bad input.",
    unlocks="how near GPTQ and AdaRound come to your best",
)


def _all_ways(weight, x, scale, low, high):
    """The least mean squared change of each row's outputs, over all ways up or down, by the inputs themselves."""
    best = []
    for row, s in zip(weight, scale, strict=True):
        ways = itertools.product(*[(np.floor(w / s), np.floor(w / s) + 1) for w in row])
        ways = np.clip(np.array(list(ways)), low, high) * s
        best.append(np.mean(((ways - row) @ x.T) ** 2, axis=1).min())
    return np.array(best)


@judge.check
def one_up_one_down(best_rounding):
    """Two inputs that go together: the sum of the weights, 0.85, is nearly one whole."""
    h = np.array([[2.0, 1.9], [1.9, 2.0]])
    likely = "of (0, 0), (0, 1), (1, 0) and (1, 1) it is (0, 1) with the least d H d^T, d = w^ - w"
    expect(best_rounding(np.array([[0.4, 0.45]]), h, WHOLE), [[0, 1]], likely, tolerance=1e-6)
    expect(best_rounding(np.array([[-0.4, -0.45]]), h, WHOLE), [[0, -1]], "floor(-0.4) is -1", tolerance=1e-6)


@judge.check
def uncorrelated_is_nearest(best_rounding):
    """Where H is diagonal the best is the nearest, for every weight."""
    w = np.array([[0.4, -0.6, 1.3, -2.2], [2.6, 0.3, -3.7, 4.9]])
    right = [[0, -1, 1, -2], [3, 0, -4, 5]]
    likely = "all 2^n ways of a row, for each row"
    expect(best_rounding(w, np.diag([5.0, 1.0, 0.2, 3.0]), WHOLE), right, likely, tolerance=1e-6)


@judge.check
def inputs_that_oppose(best_rounding):
    """Where one input rises as the other falls, both weights go the same way."""
    h = np.array([[2.0, -1.9], [-1.9, 2.0]])
    likely = "d H d^T, with the products of different inputs: d may be (0.6, 0.55), they cancel"
    expect(best_rounding(np.array([[0.4, 0.45], [0.55, 0.1]]), h, WHOLE), [[0, 0], [0, 0]], likely, tolerance=1e-6)


@judge.check
def a_row_for_itself(best_rounding):
    """Every row makes its own choice."""
    h = np.array([[2.0, 1.9], [1.9, 2.0]])
    w = np.array([[0.4, 0.45], [0.45, 0.4], [0.9, 0.8], [0.1, 0.2]])
    expect(best_rounding(w, h, WHOLE), [[0, 1], [1, 0], [1, 1], [0, 0]], "one choice for each row", tolerance=1e-6)


@judge.check
def scales(best_rounding):
    """With axis=0 each row has its own steps, in a square weight too."""
    grid = QuantParams(scale=[1.0, 0.25], zero_point=[0, 0], bits=4, signed=True, axis=0)
    h = np.array([[2.0, 1.9], [1.9, 2.0]])
    expect(
        best_rounding(np.array([[0.4, 0.45], [0.4, 0.45]]), h, grid),
        [[0, 1], [0.25, 0.5]],  # the sums nearest to 0.85 are 1 and 0.75; of two ways the one with the smaller moves
        "the scales go with the rows; the answer is values, not codes",
        tolerance=1e-6,
        dtype=np.float32,
    )


@judge.check
def inside_the_grid(best_rounding):
    """No code lies outside the grid, and the zero point counts."""
    grid = QuantParams(scale=1.0, zero_point=1, bits=2, signed=False)  # codes 0 to 3: -1 to 2
    likely = "clip floor(w / s) + zero_point + (0 or 1) to qmin and qmax; value = (code - zero_point) * s"
    w = np.array([[2.4, 0.2, -3.0], [-1.3, 1.8, 0.9]])
    expect(best_rounding(w, np.eye(3), grid), [[2, 0, -1], [-1, 2, 1]], likely, tolerance=1e-6)
    h = np.array([[2.0, 1.9], [1.9, 2.0]])
    likely = "what is clipped off counts as an error, for which 0.2 should go up"
    expect(best_rounding(np.array([[2.9, 0.2]]), h, grid), [[2, 1]], likely, tolerance=1e-6)


@judge.check
def against_all_ways(best_rounding):
    """No way up or down is better: all of them tried, on the inputs themselves."""
    for seed, (out, inputs) in itertools.product(range(3), ((3, 5), (2, 8), (1, 10))):
        x = _correlated(60 + seed, inputs)
        w = np.random.default_rng(500 + seed).normal(size=(out, inputs))
        scale = np.full(out, 0.5)
        grid = QuantParams(scale=scale, zero_point=np.zeros(out, int), bits=3, signed=True, axis=0)
        got = best_rounding(w, _hessian(x), grid)
        expect(np.zeros(np.shape(got)), np.zeros(w.shape), "the shape of the weight")
        down = np.clip(np.floor(w / 0.5), -4, 3) * 0.5
        up = np.clip(np.floor(w / 0.5) + 1, -4, 3) * 0.5
        expect(
            np.minimum(np.abs(got - down), np.abs(got - up)), np.zeros(w.shape), "each goes up or down", tolerance=1e-6
        )
        errors = np.mean(((got - w) @ x.T) ** 2, axis=1)
        expect(errors, _all_ways(w, x, scale, -4, 3), "mean squared changes of the rows' outputs", tolerance=1e-6)


@judge.unlocked
def judged(best_rounding):
    network = trained("lenet_300_100")
    x, weight = _inputs(network, 5), network.layers[5].params["weight"].astype(np.float64)
    most = np.argsort(-np.mean(x**2, axis=0))[:10]
    weight, h = weight[:, most], _hessian(x[:, most])
    damped = h + 0.01 * np.mean(np.diag(h)) * np.eye(10)
    ways = {
        "to nearest": lambda grid: fake_quantize(weight, grid),
        "GPTQ": lambda grid: reference.gptq(weight, damped, grid),
        "AdaRound": lambda grid: reference.adaround(weight, h, grid),
    }
    lines = ["LeNet-300-100, the ten largest inputs of its last layer: squared error of the outputs over your best's"]
    for bits in (2, 3, 4):
        grid = choose_qparams(weight, bits=bits, axis=0)
        best = reference.output_error(weight, best_rounding(weight, h, grid), h)
        parts = (f"{name} {reference.output_error(weight, way(grid), h) / best:.2f}" for name, way in ways.items())
        lines.append(f"  {bits} bits: {', '.join(parts)}")
    return "\n".join(lines)


# ---------------------------------------------------------------- scales and biases

equal_ranges = Exercise(
    equalization.equalize,
    section="10. Scales and biases",
    difficulty=2,
    size="ten lines",
    task="The last axis of next_weight holds channel 0's places, then channel 1's, as Flatten leaves them. Each of the "
    "three comes back in its own shape and dtype; no bad input.",
    unlocks="the weights of a network before and after, and its error with one scale a layer",
)


def _output(weight, bias, next_weight, x):
    return np.maximum(x @ weight.T + bias, 0) @ next_weight.T


@equal_ranges.check
def two_channels(equalize):
    """s = sqrt(4 / 1) and sqrt(1 / 4): the first channel shrinks, the second grows, and the next layer undoes it."""
    got = equalize(np.array([[4.0], [1.0]]), np.array([2.0, 1.0]), np.array([[1.0, 4.0]]))
    right = (np.array([[2.0], [2.0]]), np.array([1.0, 2.0]), np.array([[2.0, 2.0]]))
    expect(got, right, "weight / s, bias / s, next_weight * s, s = sqrt(r / r')", tolerance=1e-12)


@equal_ranges.check
def magnitudes(equalize):
    """The largest magnitude counts, of rows in the first layer and of columns in the next."""
    weight = np.array([[1.0, -8.0, 2.0], [0.5, 0.25, -0.125]])
    following = np.array([[0.5, 4.0], [-2.0, 1.0], [0.0, -8.0], [1.0, 0.5]])
    got = equalize(weight, np.array([6.0, -1.0]), following)  # s is 2 and 1/4
    right = (
        np.array([[0.5, -4.0, 1.0], [2.0, 1.0, -0.5]]),
        np.array([3.0, -4.0]),
        np.array([[1.0, 1.0], [-4.0, 0.25], [0.0, -2.0], [2.0, 0.125]]),
    )
    expect(got, right, "max|w|, over a row of weight and a column of next_weight", tolerance=1e-12)


@equal_ranges.check
def the_network_computes_the_same(equalize):
    """A ReLU lets a positive factor through: the outputs of the two layers are what they were."""
    rng = np.random.default_rng(2)
    layers = rng.normal(size=(5, 3)) * rng.uniform(0.01, 9, (5, 1)), rng.normal(size=5), rng.normal(size=(4, 5))
    x = rng.normal(size=(20, 3))
    got = equalize(*layers)
    expect(got, tuple(np.asarray(part) for part in got), "weight, bias and next_weight, a tuple of three")
    expect(_output(*got, x), _output(*layers, x), "the bias belongs to the channel too", tolerance=1e-9)


@equal_ranges.check
def ranges_meet(equalize):
    """Row i of the first and column i of the next have the same largest magnitude: sqrt(r r')."""
    rng = np.random.default_rng(3)
    weight, following = rng.normal(size=(6, 4)) * 10.0 ** rng.integers(-3, 4, (6, 1)), rng.normal(size=(3, 6))
    weight, _, following = equalize(old := weight, np.zeros(6), old_next := following)
    right = np.sqrt(np.abs(old).max(axis=1) * np.abs(old_next).max(axis=0))
    expect(np.abs(weight).max(axis=1), right, "the rows' largest", tolerance=1e-9)
    expect(np.abs(following).max(axis=0), right, "the columns' largest", tolerance=1e-9)


@equal_ranges.check
def dead_channels(equalize):
    """A channel without weights on either side stays as it is, without a NaN."""
    weight, bias = np.array([[0.0, 0.0], [3.0, -1.0], [4.0, 2.0]]), np.array([5.0, 6.0, 8.0])
    got = equalize(weight, bias, np.array([[7.0, 0.0, 1.0], [1.0, 0.0, -1.0]]))
    right = (
        np.array([[0.0, 0.0], [3.0, -1.0], [2.0, 1.0]]),
        np.array([5.0, 6.0, 4.0]),
        np.array([[7.0, 0.0, 2.0], [1.0, 0.0, -2.0]]),
    )
    expect(got, right, "s is 1 where r or r' is 0", tolerance=1e-12)


@equal_ranges.check
def behind_a_flatten(equalize):
    """Behind a Flatten each channel has several neighbouring columns, which share its s."""
    weight = np.array([[[[4.0]]], [[[1.0]]]])
    following = np.array([[1.0, 0.5, 0.25, 4.0, 2.0, 1.0], [0.0, -1.0, 0.5, 0.5, -4.0, 0.0]])
    got = equalize(weight, np.array([2.0, 2.0]), following)
    right = (np.array([[[[2.0]]], [[[2.0]]]]), np.array([1.0, 4.0]), following * [2, 2, 2, 0.5, 0.5, 0.5])
    expect(got, right, "columns 0 to 2 are channel 0's, 3 to 5 channel 1's", tolerance=1e-9)


@equal_ranges.check
def filters(equalize):
    """A convolution's weight is (channels, in, kH, kW), the next one's (out, channels, kH, kW)."""
    weight, following = np.zeros((2, 1, 2, 3)), np.zeros((3, 2, 2, 1))
    weight[0, 0, 1, 0], weight[1, 0, 0, 1], weight[1, 0, 1, 2] = -9.0, 2.0, -1.0
    following[1, 0, 1, 0], following[2, 1, 0, 0], following[0, 1, 1, 0] = 1.0, -8.0, 4.0  # s is 3 and 1/2
    s = np.array([3.0, 0.5])
    right = (weight / s[:, None, None, None], np.array([1.0, 6.0]), following * s[:, None, None])
    expect(
        equalize(weight, np.array([3.0, 3.0]), following), right, "one s for each channel, all places", tolerance=1e-9
    )


@equal_ranges.check
def own_types(equalize):
    """Each array comes back in the dtype it had."""
    weight, bias = np.array([[4.0], [1.0]], np.float32), np.array([2.0, 1.0], np.float32)
    got = equalize(weight, bias, np.array([[1.0, 4.0]], np.float32))
    expect(got, ([[2.0], [2.0]], [1.0, 2.0], [[2.0, 2.0]]), "float32 stays float32", tolerance=1e-6, dtype=np.float32)


@equal_ranges.unlocked
def ranges(equalize):
    network = trained("lenet_300_100")
    with in_place_of(equalization.equalize, equalize):
        equal = equalize_network(network)
    figure, axis = plt.subplots(figsize=(7.5, 4))
    for net, name, colour in ((network, "as trained", plots.COLOURS[0]), (equal, "equalized by you", plots.COLOURS[1])):
        rows = np.sort(np.abs(net.layers[1].params["weight"]).max(axis=1))[::-1]
        errors = [_test_error(quantize_weights(net, bits=bits, per_channel=False)) for bits in (4, 3)]
        axis.plot(rows / rows[0], color=colour, label="{}: {:.2%} error at 4 bits, {:.2%} at 3".format(name, *errors))
    axis.set(
        xlabel="neuron of LeNet-300-100's first layer, the largest first", ylabel="largest weight, over the layer's"
    )
    axis.set(ylim=(0, None), title="One scale a layer")
    axis.legend()
    return figure


means = Exercise(
    equalization.bias_correction,
    section="10. Scales and biases",
    difficulty=1,
    size="two lines",
    task="The means are taken in float64; no bad input.",
    unlocks="rounded networks, their biases corrected by you",
)


@means.check
def the_mean_error_goes(bias_correction):
    """The bias takes out the mean of y_hat - y: here 0.25 too much."""
    got = bias_correction(np.array([1.0]), np.array([[2.0], [4.0]]), np.array([[2.5], [4.0]]))
    expect(got, [0.75], "b - mean(y_hat - y): what is too much is taken off", tolerance=1e-12)


@means.check
def each_output(bias_correction):
    """Each output has its own mean, over the samples."""
    y = np.array([[0.0, 1.0, 2.0], [1.0, 1.0, 1.0]])
    y_hat = y + np.array([[1.0, -1.0, 0.5], [0.0, -3.0, -0.5]])
    got = bias_correction(np.array([10.0, 20.0, 30.0]), y, y_hat)
    expect(got, [9.5, 22.0, 30.0], "the mean over axis 0, one for each output", tolerance=1e-12)


@means.check
def as_many_samples_as_outputs(bias_correction):
    """Axis 0 counts the samples, axis 1 the outputs: with two of each the shapes do not tell."""
    y_hat = np.array([[1.0, 0.0], [3.0, 4.0]])
    expect(bias_correction(np.zeros(2), np.zeros((2, 2)), y_hat), [-2.0, -2.0], "the mean over axis 0", tolerance=1e-12)
    y_hat = np.array([[1.0, 5.0], [3.0, 7.0]])
    expect(bias_correction(np.zeros(2), np.zeros((2, 2)), y_hat), [-2.0, -6.0], "the mean over axis 0", tolerance=1e-12)


@means.check
def no_error_no_change(bias_correction):
    """Errors that cancel in the mean change nothing; neither does a layer that is exact."""
    y = np.array([[1.0, 2.0], [3.0, 5.0]])
    expect(bias_correction(np.array([0.5, -0.5]), y, y), [0.5, -0.5])
    y_hat = y + np.array([[1.0, -7.0], [-1.0, 7.0]])
    expect(bias_correction(np.array([0.5, -0.5]), y, y_hat), [0.5, -0.5], "errors have signs", tolerance=1e-12)


@means.check
def not_the_median(bias_correction):
    """One sample that is far off counts as much as it is off."""
    y_hat = np.array([[0.0], [0.0], [0.0], [8.0]])
    expect(bias_correction(np.array([1.0]), np.zeros((4, 1)), y_hat), [-1.0], "the mean: 8 / 4", tolerance=1e-12)


@means.check
def convolutions(bias_correction):
    """A convolution has one bias for each filter, all places share it: y is (N, out, H, W)."""
    y = np.ones((2, 3, 1, 4))
    shift = np.array(
        [[[[1, 1, 1, 1]], [[0, 0, 0, 0]], [[0, 0, 0, -8]]], [[[1, 1, 1, 1]], [[4, 0, 4, 0]], [[0, 0, 0, 0]]]]
    )
    got = bias_correction(np.array([1.0, 2.0, 3.0]), y, y + shift)
    expect(got, [0.0, 1.0, 4.0], "the mean over the samples and all places, axes 0, 2 and 3", tolerance=1e-12)


@means.check
def large_outputs(bias_correction):
    """Large outputs and small errors: 10,000 and 0.125, in float32."""
    y = np.full((3000, 2), 10_000.0, np.float32)
    y_hat = y + np.array([0.125, -0.25], np.float32)
    got = bias_correction(np.array([1.0, 1.0], np.float32), y, y_hat)
    expect(got, [0.875, 1.25], "float32 sums of 3,000 times 10,000 are rounded to 2", tolerance=1e-6)


@means.check
def type_of_the_bias(bias_correction):
    """A float32 bias stays float32."""
    y = np.array([[1.0], [2.0]], np.float32)
    expect(
        bias_correction(np.array([0.5], np.float32), y, y + 1),
        [-0.5],
        "the dtype of the bias",
        tolerance=1e-6,
        dtype=np.float32,
    )


@means.unlocked
def corrected(bias_correction):
    network, images = trained("lenet_300_100"), load_mnist().train_images[:1024]
    lines = ["LeNet-300-100, weights rounded to nearest, 10,000 test images: error as it is, and with your biases"]
    with in_place_of(equalization.bias_correction, bias_correction):
        for per_channel, bits in itertools.product((False, True), (2, 3)):
            rounded = quantize_weights(network, bits=bits, per_channel=per_channel)
            errors = _test_error(rounded), _test_error(correct_biases(network, rounded, images))
            scales = "a scale a neuron" if per_channel else "a scale a layer"
            lines.append(f"  {bits} bits, {scales}: {errors[0]:.2%}, {errors[1]:.2%}")
    return "\n".join(lines)
