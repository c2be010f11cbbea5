"""Chapter 04: the exercises and what grades them."""

import math

import numpy as np

from nnzip import hadamard as reference
from nnzip.book.grading import any_floats, any_shape, exercise, expect, given
from nnzip.compression.hadamard import rotate_network
from nnzip.compression.quantization import quantize_weights
from nnzip.data import load_mnist
from nnzip.nn.layers import Linear
from nnzip.nn.training import evaluate
from nnzip.nn.zoo import trained
from nnzip.quantization import choose_qparams, fake_quantize

ROUNDINGS = 1e-12


def _power_of_two(n):
    if n < 1 or n & (n - 1):
        raise ValueError(f"the order must be a power of two, got {n}")
    return n


def _any_signs(rng, n):
    return rng.choice([-1, 1], n).astype(rng.choice(["int8", "int32", "int64"]))


def _any_vectors(rng, *, axes=(1, 4)):
    """An array, and an axis of it whose length is a power of two; squares and cubes among them."""
    shape = any_shape(rng, axes=axes)
    axis, n = int(rng.integers(-len(shape), len(shape))), 2 ** int(rng.integers(0, 6))
    shape = [n] * len(shape) if rng.random() < 0.4 and n < 16 else list(shape)
    shape[axis] = n
    dtype = str(rng.choice(["int8", "float16", "float32", "float64"]))
    if dtype == "int8":
        return rng.choice([-128, 5, 127], shape).astype(dtype), axis
    return rng.normal(size=shape).astype(dtype) if dtype == "float16" else any_floats(rng, shape, dtype=dtype), axis


@exercise(
    section="2. A matrix of +1 and -1",
    difficulty=1,
    size="six lines",
    task="The integer type is free; an n that is no power of two must be refused.",
)
def sylvester_matrix(n):  # -> int [n, n]
    """Return Sylvester's Hadamard matrix of order n, a power of two, in natural order.

        H_1 = [[1]]        H_2n = [[H_n, H_n], [H_n, -H_n]]

    Raises ValueError for an n that is no power of two.

    >>> sylvester_matrix(4).tolist()
    [[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]
    """
    return reference.hadamard_matrix(_power_of_two(n))


sylvester_matrix.case("The doubling begins with [[1]].", 1, gives=[[1]])
for _n in (3, 12, 1000):
    sylvester_matrix.refuses(
        "Any other order is a ValueError.", _n, likely="check n before the doubling, which jumps over it"
    )
for _n in (0, -4):
    sylvester_matrix.refuses("0 is no power of two, nor is what is below it.", _n, likely="ask for n >= 1 too")


@sylvester_matrix.draw("[[H, H], [H, -H]]: rows not sorted, integers with a sign; orthogonal is not enough", count=5)
def any_order(rng):
    """Orders up to 1,024."""
    return given(2 ** int(rng.integers(1, 11)))


@exercise(
    section="3. The butterfly",
    difficulty=3,
    size="twelve lines",
    task="A length that is no power of two must be refused. No matrix is to be built: "
    "one call has 65,536 numbers, whose matrix would have 4,294,967,296 entries.",
    forbidden=("@", "matmul", "dot", "vdot", "inner", "tensordot", "einsum", "kron"),
    seconds=10,
)
def fast_hadamard(x, *, axis=-1):  # [..., n, ...] -> [..., n, ...], n a power of two
    """Return x H / sqrt(n) along an axis, H Sylvester's matrix, in n log2 n additions a vector.

    A pass makes sums and differences of pairs, half apart: half = 1, 2, 4, ... n / 2.

        a, b = x[i], x[i + half]        x[i], x[i + half] = a + b, a - b

    Floats keep their type, integers become float64.

    Raises ValueError if n is no power of two.

    >>> fast_hadamard(np.array([8.0, 0.0, 0.0, 4.0]))
    array([6., 2., 2., 6.])
    """
    _power_of_two(x.shape[axis])
    return reference.hadamard_transform(x, axis=axis)


fast_hadamard.case(
    "A spike becomes a row of H, over sqrt(n) = 2.",
    np.array([[8.0, 0, 0, 0], [0, 8, 0, 0], [0, 0, 8, 0]]),
    gives=[[4, 4, 4, 4], [4, -4, 4, -4], [4, 4, -4, -4]],
    tolerance=1e-6,
    likely="each row is a vector of its own, the last axis; pairs 1 apart, then 2 apart; over sqrt(n)",
)
fast_hadamard.case(
    "float32 stays float32.",
    np.array([8.0, 0, 0, 4], np.float32),
    gives=[6, 2, 2, 6],
    tolerance=1e-6,
    dtype=np.float32,
    likely="np.sqrt(n) is a float64 scalar, which makes float32 float64: x.dtype.type(...)",
)
fast_hadamard.case(
    "Integers become float64 before they are summed.",
    np.array([127, 127, 127, 127], np.int8),
    gives=[254, 0, 0, 0],
    tolerance=1e-12,
    dtype=np.float64,
    likely="127 + 127 is -2 in int8: astype(np.float64) first",
)
fast_hadamard.refuses("A length that is no power of two is refused.", np.ones((2, 784)), likely="784 is 28 x 28")


@fast_hadamard.draw("np.moveaxis(x, axis, -1) first, and back at the end; reshape keeps the order", ulps=64, dtype=True)
def any_vectors(rng):
    """Arrays of one to four axes along any of them, squares and cubes among them, floats of 16 to 64 bits and int8."""
    x, axis = _any_vectors(rng)
    return given(x, axis=axis)


@fast_hadamard.draw("n log2 n additions and no matrix", ulps=400, count=1)
def a_long_vector(rng):
    """65,536 numbers at once."""
    return given(rng.normal(size=(2, 65_536)))


@exercise(section="4. An image, and random signs", difficulty=2, size="three lines, after fast_hadamard")
def rotate(x, signs, *, axis=-1):  # [..., n, ...], [n] -> [..., n, ...], n a power of two
    """Return x R along an axis, R = D H / sqrt(n): the signs come first, D on the diagonal, then Sylvester's matrix.

    Floats keep their type, integers become float64.

    >>> rotate(np.array([0.0, 8.0, 0.0, 0.0]), np.array([1, -1, -1, 1]))
    array([-4.,  4., -4.,  4.])
    """
    return reference.rotate(x, signs, axis=axis)


rotate.case(
    "A spike keeps its sign times the signs of its row of H.",
    np.array([[0.0, 8.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]]),
    np.array([1, -1, -1, 1]),
    gives=[[-4, 4, -4, 4], [0, 0, 0, 2]],
    tolerance=ROUNDINGS,
    likely="x D H: the signs are multiplied before the transform, not after it",
)


@rotate.draw(
    "signs lie along the axis: reshape them, [n] -> [n, 1, 1]; int8 * int8 wraps", ulps=64, dtype=True, count=40
)
def any_rotation(rng):
    """Arrays of one to four axes along any of them, squares and cubes among them, any signs and types."""
    x, axis = _any_vectors(rng)
    return given(x, _any_signs(rng, x.shape[axis]), axis=axis)


@exercise(section="4. An image, and random signs", difficulty=2, size="three lines, after fast_hadamard")
def unrotate(x, signs, *, axis=-1):  # [..., n, ...], [n] -> [..., n, ...], n a power of two
    """Return x R^T along an axis, which undoes `rotate`: R = D H / sqrt(n), so that R^T = H^T D / sqrt(n).

    Floats keep their type, integers become float64.

    >>> unrotate(np.array([-4.0, 4.0, -4.0, 4.0]), np.array([1, -1, -1, 1])).round(12) + 0.0
    array([0., 8., 0., 0.])
    """
    return reference.unrotate(x, signs, axis=axis)


unrotate.case(
    "What comes back is what was rotated.",
    np.array([[-4.0, 4.0, -4.0, 4.0], [0.0, 0.0, 0.0, 2.0]]),
    np.array([1, -1, -1, 1]),
    gives=[[0, 8, 0, 0], [1, 1, 1, 1]],
    tolerance=ROUNDINGS,
    likely="the transform first, then the signs: the order is turned round",
)


unrotate.draw("signs lie along the axis, and so does the transform", ulps=64, dtype=True, count=40)(any_rotation)


@exercise(
    section="5. The product stays", difficulty=2, size="three lines after rotate", task="float64 weights; no bad input."
)
def rotated_weight(weight, signs):  # [out, n, ...], [n] -> [out, n, ...], n a power of two
    """Return the weight W R that computes with turned inputs x R what `weight` computes with x.

        y = x W^T = (x R) (W R)^T        R = D H / sqrt(n), H Sylvester's matrix

    A Linear's weight is [out, n]. A Conv2d's is [out, n, kH, kW]; its input channels are turned, at every tap alike.

    >>> rotated_weight(np.array([[0.0, 8.0, 0.0, 0.0]]), np.array([1, -1, -1, 1]))
    array([[-4.,  4., -4.,  4.]])
    """
    return reference.rotate(weight, signs, axis=1)


rotated_weight.case(
    "A neuron that reads one input reads all of them after it.",
    np.array([[0.0, 8, 0, 0], [4.0, 4, 0, 0]]),
    np.array([1, -1, -1, 1]),
    gives=[[-4, 4, -4, 4], [0, 4, 0, 4]],
    tolerance=ROUNDINGS,
    likely="W D H / sqrt(n): the signs belong to the inputs, axis 1",
)


@rotated_weight.draw(
    "axis 1 of [out, n] and of [out, n, kH, kW]: neither the outputs, nor n * kH * kW together", ulps=64, count=60
)
def any_weight(rng):
    """Linear layers and convolutions, squares among them, kernels as long as there are channels, one channel."""
    n = 2 ** int(rng.integers(0, 4))
    outputs = n if rng.random() < 0.3 else int(rng.integers(1, 6))
    window = () if rng.random() < 0.5 else [(n, n), (3, 3), (2, 5)][rng.integers(3)]
    return given(any_floats(rng, (outputs, n, *window), dtype="float64"), _any_signs(rng, n))


@exercise(section="6. Why rounding gets better", difficulty=1, size="four lines")
def incoherence(x):  # [...] -> float
    """Return the largest magnitude of an array over its root mean square, computed in float64; 0 of zeros.

    Squares of very large and very small numbers do not fit a float, but their ratio does.

    >>> float(incoherence(np.array([3.0, -3.0, 3.0, 3.0]))), float(incoherence(np.array([8.0, 0.0, 0.0, 0.0])))
    (1.0, 2.0)
    """
    return reference.incoherence(x.astype(np.float64))


incoherence.case(
    "The mean is not subtracted, and the largest magnitude may be that of a negative number.",
    np.array([[-6.0, -2], [-2, 2]]),
    gives=6 / math.sqrt(12),
    tolerance=1e-14,
    likely="max of |x|, not of x; the mean of the squares, not np.std, of all numbers together",
)
incoherence.case("Nothing but zeros has 0.", np.zeros((2, 3)), gives=0.0, likely="0 / 0 is NaN: ask first")
for _x in (1e200 * np.array([3.0, 4.0]), 1e-200 * np.array([3.0, 4.0])):
    incoherence.case(
        "Squares of very large and very small numbers do not fit, their ratio does.",
        _x,
        gives=4 / math.sqrt(12.5),
        tolerance=1e-14,
        likely="divide by the largest before squaring",
    )


@incoherence.draw("|-128| is -128 in int8, 300^2 infinite in float16: astype(np.float64) first", ulps=64)
def any_array(rng):
    """Arrays of one to four axes, spikes and constants, of floats of 16 to 64 bits, and of int8."""
    x = rng.normal(size=any_shape(rng)) ** int(rng.choice([1, 1, 3])) * rng.choice([1, 300]) + rng.choice([0, 50])
    dtype = rng.choice(["int8", "float16", "float32", "float64"])
    return given(np.clip(x, -128, 127).astype(dtype) if dtype == "int8" else x.astype(dtype))


@exercise(
    section="7. Two diseases, two cures",
    difficulty=2,
    size="six lines, after rotate and unrotate",
    task="float64 weights, no bad input; s may be float32 or float64, ties are not graded.",
)
def quantize_rotated(weight, signs, *, bits=4):  # [out, n], [n] -> [out, n], n a power of two
    """Turn a weight, round it with one scale, and turn it back.

        V = W R        s = max|V| / (2^(bits-1) - 1)        answer: s rint(V / s) R^T

    R = D H / sqrt(n), H Sylvester's matrix. Zeros stay zeros.

    >>> quantize_rotated(np.array([[3.875, 0.375, -6.375, 3.375]]), np.array([1, 1, -1, 1])).round(6)
    array([[ 3.5,  0.5, -6.5,  3.5]])
    """
    turned = reference.rotate(weight, signs)
    return reference.unrotate(fake_quantize(turned, choose_qparams(turned, bits=bits)), signs)  # float32


quantize_rotated.case(
    "[5, 4] with signs +, - is turned to [1, 9] / sqrt(2); one step at 2 bits is 9 / sqrt(2): [0, 9], turned back.",
    np.array([[5.0, 4.0]]),
    np.array([1, -1]),
    bits=2,
    gives=[[4.5, 4.5]],
    tolerance=2e-6,  # a float32 scale
    likely="turn, round to codes -1, 0, 1, turn back; the largest code is 2^(bits-1) - 1",
)
quantize_rotated.case(
    "Zeros stay zeros.", np.zeros((3, 4)), np.array([1, -1, 1, 1]), gives=np.zeros((3, 4)), likely="max|V| is 0: 0 / 0"
)


@quantize_rotated.draw("one scale, of all rows of V and not of the weight; turn back with R^T, not with R", ulps=64)
def any_rounding(rng):
    """Small and large weights, squares among them, at 2 to 8 bits, no number near a tie."""
    n, bits = 2 ** int(rng.integers(1, 6)), int(rng.integers(2, 9))
    outputs, last = n if rng.random() < 0.3 else int(rng.integers(1, 9)), 2 ** (bits - 1) - 1
    steps = rng.integers(-last, last + 1, (outputs, n)) + rng.uniform(-0.4, 0.4, (outputs, n))
    steps = np.clip(steps, -last, last - 0.6)
    steps[rng.integers(outputs), rng.integers(n)] = -last  # the largest, at one end only
    signs = _any_signs(rng, n)
    return given(reference.unrotate(steps * rng.choice([-1, 1]) * 10 ** rng.uniform(-6, 1), signs), signs, bits=bits)


@quantize_rotated.unlocked("the network of section 7, with 5 large columns, rounded to 4 bits by you")
def five_large_columns(quantize_rotated):
    network, data = trained("lenet_300_100"), load_mnist()
    parameters = network.parameters()
    parameters["1.weight"][::60] /= 20  # section 7: five neurons smaller, what reads them larger, the same function
    parameters["1.bias"][::60] /= 20
    parameters["3.weight"][:, ::60] *= 20
    plain = evaluate(quantize_weights(network, bits=4, per_channel=False), *data[2:])
    theirs = evaluate(quantize_weights(rotate_network(network), bits=4, per_channel=False), *data[2:])
    before = evaluate(network, *data[2:])
    for layer in network.layers:
        if isinstance(layer, Linear):
            weight = layer.params["weight"]
            n = weight.shape[1]
            padded = np.pad(weight.astype(np.float64), [(0, 0), (0, 2 ** math.ceil(math.log2(n)) - n)])
            signs = reference.random_signs(padded.shape[1], seed=0)
            weight[...] = quantize_rotated(padded, signs, bits=4)[:, :n]
    return (
        f"LeNet-300-100 with 5 large columns: {before:.2%} test error. Weights rounded to 4 bits, one scale a layer:\n"
        f"{plain:.2%} as they are, {evaluate(network, *data[2:]):.2%} rotated by you, inputs filled with zeros\n"
        f"to 1,024, 512 and 128, {theirs:.2%} rotated by nnzip, which fills nothing."
    )


@exercise(
    section="Appendix: Paley's matrix of order 12",
    difficulty=3,
    size="twelve lines",
    task="Graded by entries of +1 and -1 and by H H^T = n I. So the normalization is free: you may negate or exchange "
    "rows and columns, and take any integer type. Another q must be refused.",
)
def paley_matrix(q):  # -> int [q + 1, q + 1]
    """Return a Hadamard matrix of order n = q + 1 for a prime q = 3 (mod 4): Paley's first construction.

        H = I + [[ 0, 1 ],      Q[a, b] = chi(a - b),  a, b = 0 ... q - 1
                 [-1, Q ]]

    chi(d) is 0 if q divides d, +1 if d is the square of some number modulo q, -1 if it is not.

    Raises ValueError for a q that is no such prime: 5 is 1 (mod 4), 15 is no prime.

    >>> paley_matrix(3).tolist()
    [[1, 1, 1, 1], [-1, 1, -1, 1], [-1, 1, 1, -1], [-1, -1, 1, 1]]
    """
    if q < 3 or q % 4 != 3 or any(q % d == 0 for d in range(2, math.isqrt(q) + 1)):
        raise ValueError(f"q must be a prime that is 3 modulo 4, got {q}")
    chi = np.array([0] + [1 if pow(d, (q - 1) // 2, q) == 1 else -1 for d in range(1, q)])  # Euler's criterion
    H = np.ones((q + 1, q + 1), int)
    H[1:, 0], H[1:, 1:] = -1, chi[np.subtract.outer(np.arange(q), np.arange(q)) % q] + np.eye(q, dtype=int)
    return H


@paley_matrix.check
def orthogonal(paley_matrix):
    """Every entry is +1 or -1, and every two rows agree in half of their places: H H^T = n I."""
    for q in (3, 7, 11, 19, 127, 499):
        got, order = paley_matrix(q), (q + 1, q + 1)
        if np.shape(got) != order:
            expect(got, np.ones(order, int), "the border adds one row and one column to Q")
        H = np.asarray(got).astype(np.float64)  # sums of 500 ones: exact
        expect(np.abs(H), np.ones(order), "I fills the diagonal of Q, where chi is 0; integers with a sign")
        likely = "first row +1, first column -1 below the corner; chi((a - b) % q), squares of 1 ... q - 1 in int64"
        expect(H @ H.T, (q + 1) * np.eye(q + 1), likely)


for _q in (5, 13, 2):
    paley_matrix.refuses("Primes that are 1 modulo 4, and 2, are refused.", _q, likely="q % 4 must be 3")
for _q in (15, 27, 35, 119, 899, -1):
    paley_matrix.refuses(
        "What is 3 modulo 4 but no prime is refused: 15, 27, 35, 119, 899, and -1, which Python counts as 3.",
        _q,
        likely="divide by everything up to the root, the root included; a power of a prime is no prime",
    )
