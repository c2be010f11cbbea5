"""Chapter 10: the exercises and what grades them."""

import itertools

import numpy as np

from nnzip import reconstruction
from nnzip.book.grading import Exercise, any_floats, exercise, expect, given
from nnzip.data import load_mnist
from nnzip.nn.network import weights_of
from nnzip.nn.training import evaluate
from nnzip.nn.zoo import trained
from nnzip.quantization import QuantParams, choose_qparams

WHOLE = QuantParams(scale=1.0, zero_point=0, bits=4, signed=True)


def _correlated(rng, inputs, samples=60):
    """Inputs with common causes, not one of them a copy of another: [samples, inputs]."""
    return rng.normal(size=(samples, 2)) @ rng.normal(size=(2, inputs)) + 0.4 * rng.normal(size=(samples, inputs))


def _hessian(rng, inputs):
    x = _correlated(rng, inputs)
    return 2 * x.T @ x / len(x)


def _any_grid(rng, weight):
    """A grid on which some weights are clipped, with one scale or one for each row."""
    bits, axis = int(rng.integers(2, 5)), [None, 0][rng.integers(2)]
    if rng.random() < 0.6:
        return choose_qparams(weight, bits=bits, axis=axis, symmetric=bool(rng.random() < 0.5))
    count = () if axis is None else len(weight)
    return QuantParams(rng.uniform(0.2, 1, count), rng.integers(0, 2**bits, count), bits, signed=False, axis=axis)


@exercise(section="2. What a layer loses", difficulty=1, size="three lines")
def input_hessian(x, *, damping=0.01):  # [N, in] -> float64 [in, in]
    """Return 2 / N times the sum over the samples of x_n^T x_n, damped, in float64 whatever x is.

    It is the second derivative of mean_n (x_n . d)^2 by d. Damping times the mean of the diagonal is added to the
    diagonal, and to nothing else.

    >>> input_hessian(np.array([[1.0, 2.0], [3.0, 0.0]]), damping=0.0).tolist()
    [[10.0, 2.0], [2.0, 4.0]]
    """
    return reconstruction.input_hessian(x, damping=damping)


input_hessian.case(
    "Without a word the damping is 0.01 times the mean of the diagonal, the same for every input.",
    np.array([[1.0, 2.0], [3.0, 0.0]]),
    gives=[[10.07, 2], [2, 4.07]],
    tolerance=1e-12,
    likely="H + damping * mean(diag(H)) * I; x^T x is (in, in), x x^T (samples, samples)",
)
input_hessian.case(
    "float32 inputs are multiplied in float64: 4097 squared has 25 bits.",
    np.array([[4097.0, 1.0], [4097.0, 3.0]], np.float32),
    damping=0.0,
    gives=[[2 * 4097**2, 4 * 4097], [4 * 4097, 10]],
    dtype=np.float64,
    likely="x.astype(np.float64) first",
)


@input_hessian.draw("a mean over samples, no sum; the mean is not taken out of the inputs: np.cov does that", ulps=100)
def any_inputs(rng):
    """One sample or many, inputs of any size with a mean, as many samples as inputs too, any damping."""
    N, inputs = [4, 4] if rng.random() < 0.3 else rng.integers(1, 9, 2)
    x = any_floats(rng, (N, inputs))
    x = (x + x.dtype.type(rng.choice([0, 3]))) * np.append(1, rng.random(inputs - 1) < 0.8)  # some are always 0
    return given(x, damping=float(rng.choice([0.0, 0.01, 0.3])))


obs_prune = Exercise(
    reconstruction.obs_prune,
    section="3. Pruning with second derivatives",
    difficulty=3,
    size="twelve lines",
    task="weight is (out, in), hessian (in, in) and float64, sparsity from 0 to 1. No bad input; H has an inverse.",
)

obs_prune.case(
    "Of two inputs that go together one weight goes, and the other takes over its work.",
    np.array([[1.0, 1.1], [1.0, -0.5]]),
    np.array([[1.0, 0.9], [0.9, 1.0]]),
    0.5,
    gives=[[0.0, 2.0], [0.55, 0.0]],
    tolerance=1e-12,
    likely="w <- w - w_p / [H^-1]_pp [H^-1]_p: 1.1 becomes 1.1 + 0.9 * 1.0",
)
obs_prune.case(
    "Where H is diagonal the smallest w^2 H_pp goes, and the others stay as they are.",
    np.array([[1.0, 2.0, -1.2]]),
    np.diag([9.0, 1.0, 4.0]),
    1 / 3,
    gives=[[1.0, 0.0, -1.2]],
    tolerance=1e-12,
    likely="the cost is w_p^2 / (2 [H^-1]_pp); here 4.5, 2 and 2.88",
)


@obs_prune.draw(
    "after a step H^-1 loses row and column p, and the next weight is chosen anew; each row begins with a copy",
    ulps=1e7,
)
def any_pruning(rng):
    """Layers of any size, rows of different sizes, weights that are 0 already, sparsities from 0 to 1."""
    outputs, inputs = map(int, rng.integers(1, 9, 2))
    weight = rng.normal(size=(outputs, inputs)) * 10.0 ** rng.integers(-1, 2, (outputs, 1))
    return given(
        weight * (rng.random(weight.shape) < 0.9), _hessian(rng, inputs), float(rng.choice([0, 0.4, 0.6, 0.8, 1]))
    )


@obs_prune.check
def zeros_and_type(obs_prune, rng):
    """What is pruned is exactly 0, also after the steps that follow, and float32 stays float32."""
    weight = rng.normal(size=(3, 12)).astype(np.float32)
    got = obs_prune(weight, _hessian(rng, 12), 0.75)
    expect(np.count_nonzero(np.asarray(got) == 0, axis=-1), [9, 9, 9], "each row has nine zeros: set them, exactly")
    expect(got, got, dtype=np.float32)


@exercise(
    section="4. GPTQ: the rest makes up for it",
    difficulty=3,
    size="ten lines",
    task="The loop as it stands in the formula will do; so will Cholesky factors. In float64.",
)
def gptq(weight, hessian, qparams):  # [out, in], [in, in] -> float [out, in]
    """Round the columns one after the other, the first first; those that are left make up for each error.

        w^_k = w_k rounded to the grid
        w <- w - (w_k - w^_k) / [H^-1]_kk [H^-1]_k        and H^-1 without row and column k is what is left

    Every row of the weight does so with its own errors and the same H^-1. The rounding is that of `quantize`: to
    nearest, then clipped to qmin and qmax. The answer has values on the grid, no codes.

    weight : float array (out, in)
    hessian : float64 array (in, in), which has an inverse
    qparams : QuantParams, with one scale, or one for each row (axis=0)

    >>> grid = QuantParams(scale=1.0, zero_point=0, bits=4, signed=True)
    >>> gptq(np.array([[0.4, 0.4]]), np.array([[2.0, 1.9], [1.9, 2.0]]), grid).tolist()
    [[0.0, 1.0]]
    """
    return reconstruction.gptq_by_definition(weight, hessian, qparams)


gptq.case(
    "Two inputs that go together: 0.4 and 0.4 are one whole, not none.",
    np.array([[0.4, 0.4], [0.6, 0.4], [-0.6, -0.2]]),
    np.array([[2.0, 1.9], [1.9, 2.0]]),
    WHOLE,
    gives=[[0, 1], [1, 0], [-1, 0]],
    tolerance=1e-6,
    likely="after column 0 becomes 0, column 1 is 0.4 + 0.95 * 0.4 = 0.78",
)
gptq.case(
    "The error that is passed on is that of the weight, not of its code.",
    np.array([[0.35, 0.0]]),
    np.array([[2.0, 1.5], [1.5, 2.0]]),
    QuantParams(scale=0.25, zero_point=0, bits=4, signed=True),
    gives=[[0.25, 0.0]],
    tolerance=1e-6,
    likely="0.35 becomes 0.25, and 0.1 * 0.75 is missing; 0.4 would be the error in steps",
)


@gptq.draw("what is clipped off is an error too; columns that are rounded already do not move again", ulps=64)
def any_rounding(rng):
    """Layers of any size, squares among them, some of many columns, one scale or one for each row, clipped weights."""
    outputs, inputs = [4, 4] if rng.random() < 0.2 else rng.integers(1, 9, 2)
    inputs = 40 if rng.random() < 0.2 else int(inputs)
    weight = rng.normal(size=(outputs, inputs))
    return given(weight.astype(rng.choice(["float32", "float64"])), _hessian(rng, inputs), _any_grid(rng, weight))


@gptq.unlocked("a whole network at 2 bits, rounded by you")
def a_network(gptq):
    network, data = trained("lenet_300_100"), load_mnist()
    lines, rounded, x = [], network.copy(), data.train_images[:1024]
    for layer in rounded.layers:
        if layer.params:
            weight = layer.params["weight"]
            grid = choose_qparams(weight, bits=2, axis=0, method="mse")
            layer.params["weight"] = np.float32(gptq(weight, reconstruction.input_hessian(x.reshape(len(x), -1)), grid))
        x = layer.forward(x)
    for name, one in (("as floats", network), ("2 bits by your gptq", rounded)):
        lines.append(f"  {name}: test error {evaluate(one, data.test_images, data.test_labels):.2%}")
    values = max(len(np.unique(row)) for weight in weights_of(rounded).values() for row in weight)
    return "\n".join(["LeNet-300-100:", *lines, f"  at most {values} values in a row"])


@exercise(section="6. AdaRound: learn which way", difficulty=2, size="ten lines", parts=("loss", "gradient"))
def soft_rounding_loss(v, target, hessian, *, strength, beta):  # [out, in] twice, [in, in] -> float, [out, in]
    """Return AdaRound's loss and its gradient by v, for weights counted in steps of the grid.

        h = clip(1.2 sigmoid(v) - 0.1, 0, 1)        d = floor(target) + h - target
        loss = 1/2 sum d H d^T + strength sum (1 - |2 h - 1|^beta)

    Where h is cut off, at 0 and at 1, its derivative is 0. target is w / s, H is symmetric, beta above 1.

    >>> loss, grad = soft_rounding_loss(np.zeros((1, 1)), np.array([[2.25]]), np.eye(1), strength=0.0, beta=2)
    >>> float(loss), grad.round(6).tolist()  # h is 0.5, its derivative 0.3
    (0.03125, [[0.075]])
    """
    ends = np.full(target.shape, np.inf)
    one = np.ones(target.shape)
    return reconstruction.adaround_loss(v, target, one, hessian, -ends, ends, strength, beta)


soft_rounding_loss.case(
    "The whole of H counts, and a row for itself: 1/2 sum over rows of d H d^T.",
    np.zeros((3, 2)),
    np.array([[0.4, 0.7], [3.5, 0.0], [-1.6, -0.5]]),  # d: (0.1, -0.2), (0, 0.5), (0.1, 0)
    np.array([[2.0, 1.0], [1.0, 4.0]]),
    strength=0.0,
    beta=2.0,
    gives=(0.5 * (0.14 + 1.0 + 0.02), 0.3 * np.array([[0.0, -0.7], [0.5, 2.0], [0.2, 0.1]])),
    tolerance=1e-12,
    likely="d H, not d times the diagonal; the gradient of 1/2 d H d^T is d H, times h'(0) = 0.3",
)
soft_rounding_loss.case(
    "|2 h - 1|^beta is a power of the magnitude: for h below one half it is no NaN.",
    np.array([[-1.0, 1.0]]),
    np.zeros((1, 2)),
    np.zeros((2, 2)),
    strength=1.0,
    beta=3.5,
    gives=(
        2 * (1 - (1.2 * np.tanh(0.5)) ** 3.5),
        3.5 * (1.2 * np.tanh(0.5)) ** 2.5 * 2.4 / (1 + np.e) / (1 + 1 / np.e) * np.array([[1, -1]]),
    ),
    tolerance=1e-12,
    likely="the descent goes to the nearer end: up from h above one half, down from below",
)


@soft_rounding_loss.draw("the chain: loss by h, times h by v, which is 0 where h is clipped to 0 or 1", ulps=1000)
def any_descent(rng):
    """Layers of any size, h inside and clipped, with both terms or one, any beta."""
    shape = tuple(map(int, rng.integers(1, 6, 2)))
    v, target = rng.uniform(-3.5, 3.5, shape), rng.uniform(-3, 3, shape)
    options = {"strength": float(rng.choice([0.0, 0.5])), "beta": float(rng.choice([2.0, 3.5, 20.0]))}
    return given(v, target, _hessian(rng, shape[1]), **options)


best_rounding = Exercise(
    reconstruction.best_rounding,
    section="7. How far from the best?",
    difficulty=2,
    size="eight lines",
    task="weight is (out, in) with up to 10 inputs, hessian (in, in). One scale, or one for each row (axis=0). "
    "Down is floor(w / s), up is one more, both clipped to the grid. A row's best has the least d H d^T. No bad input.",
)

best_rounding.case(
    "Two inputs that go together: the sum of the weights, 0.85, is nearly one whole; every row chooses for itself.",
    np.array([[0.4, 0.45], [-0.4, -0.45], [0.1, 0.2]]),
    np.array([[2.0, 1.9], [1.9, 2.0]]),
    WHOLE,
    gives=[[0, 1], [0, -1], [0, 0]],
    tolerance=1e-6,
    likely="of (0, 0), (0, 1), (1, 0) and (1, 1) it is the one with the least d H d^T, d = w^ - w",
)
best_rounding.case(
    "What is clipped off counts as an error, for which 0.2 should go up.",
    np.array([[2.9, 0.2]]),
    np.array([[2.0, 1.9], [1.9, 2.0]]),
    QuantParams(scale=1.0, zero_point=1, bits=2, signed=False),  # codes 0 to 3: -1 to 2
    gives=[[2, 1]],
    tolerance=1e-6,
    likely="clip floor(w / s) + zero_point + (0 or 1) to qmin and qmax; value = (code - zero_point) * s",
)


@best_rounding.check
def against_all_ways(best_rounding, rng):
    """Each weight goes up or down, and no other way is better: all of them tried."""
    for _ in range(12):
        outputs, inputs = int(rng.integers(1, 4)), int(rng.choice([1, 3, 5, 8]))
        weight, hessian = rng.normal(size=(outputs, inputs)), _hessian(rng, inputs)
        grid = _any_grid(rng, weight)
        scale, zero = (np.broadcast_to(part, outputs)[:, None] for part in (grid.scale, grid.zero_point))
        ends = [np.clip(np.floor(weight / scale) + up + zero, grid.qmin, grid.qmax) for up in (0, 1)]
        ends = [np.float32((end - zero) * scale) for end in ends]
        got = best_rounding(weight, hessian, grid)
        expect(np.shape(got), weight.shape, "the shape of the weight")
        expect(got, got, "the values are float32", dtype=np.float32)
        near = np.minimum(np.abs(got - ends[0]), np.abs(got - ends[1]))
        expect(near, np.zeros(weight.shape), "each goes up or down: how far each is from both", tolerance=1e-5)
        for row, low, high in zip(range(outputs), *ends, strict=True):
            ways = np.array(list(itertools.product(*zip(low, high, strict=True)))) - weight[row]
            least = np.min(np.sum(ways @ hessian * ways, axis=1))
            d = got[row] - weight[row]
            expect(float(d @ hessian @ d), least, f"d H d^T of row {row}", tolerance=1e-5 * (1 + least))
