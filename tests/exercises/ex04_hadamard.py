"""Chapter 04: the exercises and what grades them."""

import math
from fractions import Fraction

import matplotlib.pyplot as plt
import numpy as np

from nnzip import hadamard as reference
from nnzip.book.grading import Exercise, expect
from nnzip.book.plots import error_curves
from nnzip.book.study import error_grid
from nnzip.book.techniques import FLOAT
from nnzip.compression.hadamard import Rotation, rotate_network
from nnzip.compression.quantization import quantize_weights
from nnzip.data import load_mnist
from nnzip.nn.layers import Linear
from nnzip.nn.training import evaluate
from nnzip.nn.zoo import trained
from nnzip.pruning import magnitude_mask
from nnzip.quantization import choose_qparams, fake_quantize, sqnr_db

ROUNDINGS = 1e-12  # sums in float64 of at most 64 numbers below 100 come out closer, in whatever order


def _sylvester(n):  # entry i, j is -1 to the number of ones that i and j have in common
    i, j = np.indices((n, n))
    common = sum((i >> k) & (j >> k) & 1 for k in range(n.bit_length()))
    return 1 - 2 * (common % 2)


def _rotation(signs):  # [n] -> [n, n], D H / sqrt(n) as it is written
    return np.diag(signs) @ _sylvester(len(signs)) / np.sqrt(len(signs))


def _power_of_two(n):
    if n < 1 or n & (n - 1):
        raise ValueError(f"the order must be a power of two, got {n}")
    return n


def _padded(x):  # [N, n, ...] -> [N, 2^k, ...], 784 to 1,024: zeros that no product sees
    n = x.shape[1]
    return np.pad(x, [(0, 2 ** math.ceil(math.log2(n)) - n if axis == 1 else 0) for axis in range(x.ndim)])


def _signs(weight):
    return reference.random_signs(_padded(weight).shape[1], seed=0)


def _in_turned_basis(network, turn, back, *, bits, sparsity=0):
    """Return a copy, its linear weights padded, turned, pruned, rounded with one scale, turned back and cut."""
    network = network.copy()
    for weight in (layer.params["weight"] for layer in network.layers if isinstance(layer, Linear)):
        signs = _signs(weight)
        turned = turn(_padded(weight.astype(np.float64)), signs)
        turned = turned * magnitude_mask(turned, sparsity)
        rounded = turned if bits == FLOAT else fake_quantize(turned, choose_qparams(turned, bits=bits))
        weight[...] = back(rounded, signs)[:, : weight.shape[1]]
    return network


# The matrices


def sylvester_matrix(n):  # -> int [n, n]
    """Return Sylvester's Hadamard matrix of order n, a power of two, in natural order.

        H_1 = [[1]]        H_2n = [[H_n, H_n], [H_n, -H_n]]

    Raises ValueError for an n that is no power of two.

    Examples
    --------
    >>> sylvester_matrix(4)
    array([[ 1,  1,  1,  1],
           [ 1, -1,  1, -1],
           [ 1,  1, -1, -1],
           [ 1, -1, -1,  1]], dtype=int8)
    """
    return reference.hadamard_matrix(_power_of_two(n))


sylvester = Exercise(
    sylvester_matrix,
    section="2. A matrix of +1 and -1",
    difficulty=1,
    size="six lines",
    task="The integer type is free; an n that is no power of two must be refused.",
    unlocks="pictures of your matrices, and the MLP's first layer turned by them in blocks of 1 to 1,024",
)


@sylvester.check
def smallest(sylvester_matrix):
    """Orders 1 and 2 are [[1]] and [[1, 1], [1, -1]]."""
    expect(sylvester_matrix(1), [[1]], "the doubling begins with [[1]]")
    expect(sylvester_matrix(2), [[1, 1], [1, -1]], "the minus is in the last of the four blocks; integers with a sign")


@sylvester.check
def doubled_once(sylvester_matrix):
    """Order 4 is made of four blocks of order 2."""
    right = [[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]
    expect(sylvester_matrix(4), right, "[[H, H], [H, -H]] with H of order 2, rows not sorted")


@sylvester.check
def natural_order(sylvester_matrix):
    """Entry i, j is -1 if the binary numbers i and j have an odd number of ones in common."""
    for n in (8, 16):
        likely = "orthogonal is not enough: doubling gives one order of rows and columns, the natural one"
        expect(sylvester_matrix(n), _sylvester(n), likely)


@sylvester.check
def order_1024(sylvester_matrix):
    """Ten doublings make order 1,024."""
    expect(sylvester_matrix(1024), _sylvester(1024))


@sylvester.check
def no_other_orders(sylvester_matrix):
    """Any other order is a ValueError, and 0 is no power of two."""
    for n in (3, 12, 1000):
        sylvester_matrix.must_raise(("ValueError",), n, likely="check n before the doubling, which ends at 2, 8 or 512")
    for n in (0, -4):
        sylvester_matrix.must_raise(("ValueError",), n, likely="0 & -1 is 0 too: ask for n >= 1 as well")


@sylvester.unlocked
def pictures(sylvester_matrix):
    figure, axes = plt.subplots(1, 5, figsize=(12, 2.8), layout="constrained")
    for axis, n in zip(axes, (4, 16, 64, 256), strict=False):
        axis.imshow(sylvester_matrix(n), cmap="gray", vmin=-1, vmax=1)
        axis.set_title(f"your order {n}", fontsize=9)
        axis.axis("off")
    weight = _padded(trained("lenet_300_100").parameters()["1.weight"])
    blocks = (1, 4, 16, 64, 256, 1024)
    for signs, label in ((1, "as they are"), (reference.random_signs(1024, seed=0), "random signs first")):
        turned = ((weight * signs).reshape(-1, n) @ np.asarray(sylvester_matrix(n)) / np.sqrt(n) for n in blocks)
        axes[-1].plot(range(len(blocks)), [reference.incoherence(w) for w in turned], marker="o", label=label)
    axes[-1].set_title("MLP, layer 1, incoherence", fontsize=9)
    axes[-1].set_xlabel("turned in blocks of")
    axes[-1].set_xticks(range(len(blocks)), blocks)
    axes[-1].set_ylim(0, None)
    axes[-1].legend(fontsize=8)
    return figure


def paley_matrix(q):  # -> int [q + 1, q + 1]
    """Return a Hadamard matrix of order n = q + 1 for a prime q = 3 (mod 4): Paley's first construction.

        H = I + [[ 0, 1 ],      Q[a, b] = chi(a - b),  a, b = 0 ... q - 1
                 [-1, Q ]]

    chi(d) is 0 if q divides d, +1 if d is the square of some number modulo q, -1 if it is not.

    Raises ValueError for a q that is no such prime: 5 is 1 (mod 4), 15 is no prime.

    Examples
    --------
    >>> paley_matrix(3)
    array([[ 1,  1,  1,  1],
           [-1,  1, -1,  1],
           [-1,  1,  1, -1],
           [-1, -1,  1,  1]], dtype=int8)
    """
    if q < 3 or q % 4 != 3 or any(q % d == 0 for d in range(2, math.isqrt(q) + 1)):
        raise ValueError(f"q must be a prime that is 3 modulo 4, got {q}")
    C = np.zeros((q + 1, q + 1), np.int8)
    C[0, 1:], C[1:, 0], C[1:, 1:] = 1, -1, reference._quadratic_characters(q)
    return C + np.eye(q + 1, dtype=np.int8)


paley = Exercise(
    paley_matrix,
    section="2. A matrix of +1 and -1",
    difficulty=3,
    size="twelve lines",
    task="Graded by entries of +1 and -1 and by H H^T = n I. So the normalization is free: you may negate or exchange "
    "rows and columns, and take any integer type. Another q must be refused.",
    unlocks="LeNet-5's layers of 20 and 500 inputs, turned by your matrices of order 20 and 500 and rounded",
)


@paley.check
def entries(paley_matrix):
    """The order is q + 1, and every entry is +1 or -1, the diagonal and the border too."""
    for q in (3, 7, 11):
        likely = "the border adds one row and column; I fills the zeros of the diagonal; chi is never q - 1"
        expect(np.abs(np.asarray(paley_matrix(q)).astype(np.int64)), np.ones((q + 1, q + 1)), likely)


@paley.check
def orthogonal(paley_matrix):
    """Every two rows agree in half of their places: H H^T = n I."""
    for q in (3, 7, 11, 19, 23):
        H = np.asarray(paley_matrix(q)).astype(np.int64)
        likely = "first row +1, first column -1 below the corner; chi((a - b) % q); squares of all of 1 ... q - 1"
        expect(H @ H.T, (q + 1) * np.eye(q + 1), likely)


@paley.check
def larger_primes(paley_matrix):
    """The same at orders 128 and 500, which int8 differences cannot count."""
    for q in (127, 499):
        H = np.asarray(paley_matrix(q)).astype(np.float64)  # sums of 500 ones: exact
        expect(np.abs(H), np.ones((q + 1, q + 1)), "squares of numbers up to q - 1 need more than 8 or 16 bits")
        expect(H @ H.T, (q + 1) * np.eye(q + 1), "squares of numbers up to q - 1 need more than 8 or 16 bits")


@paley.check
def one_modulo_four(paley_matrix):
    """Primes that are 1 modulo 4, and 2, are refused: there -1 is a square and Q is symmetric."""
    for q in (5, 13, 2):
        paley_matrix.must_raise(("ValueError",), q, likely="q % 4 must be 3")


@paley.check
def no_primes(paley_matrix):
    """What is 3 modulo 4 but no prime is refused: 15, 27, 35, 119, and -1, which Python counts as 3."""
    for q in (15, 27, 35, 119, -1):
        likely = "divide by everything up to the root, the root included; a power of a prime is no prime"
        paley_matrix.must_raise(("ValueError",), q, likely=likely)


@paley.unlocked
def turns_lenet(paley_matrix):
    parameters = trained("lenet_5").parameters()
    lines = []
    for name, weight in parameters.items():
        q = weight.shape[1] - 1 if name.endswith("weight") else 0
        if q in (19, 499):
            rows = np.moveaxis(weight, 1, -1)  # [out, n, ...] -> [out, ..., n]
            H = np.asarray(paley_matrix(q)).astype(np.float64)
            turned = rows @ H / np.sqrt(q + 1)
            before, after = (sqnr_db(w, fake_quantize(w, choose_qparams(w, bits=3))) for w in (rows, turned))
            was, now = reference.incoherence(rows), reference.incoherence(turned)
            lines.append(
                f"{name}, {q + 1} inputs: incoherence {was:.1f}, turned by your matrix {now:.1f}; "
                f"SQNR at 3 bits {before:.1f} dB, turned {after:.1f} dB"
            )
    return "\n".join(["LeNet-5, seed 0:", *lines])


# How uneven numbers are


incoherence = Exercise(
    reference.incoherence,
    section="3. What it does to an outlier",
    difficulty=1,
    size="four lines",
    task="NaN, infinity and empty arrays need not be refused.",
    unlocks="the incoherence of the reference networks' layers, before and after a rotation",
)


@incoherence.check
def the_two_ends(incoherence):
    """All of one size have 1, a single spike has sqrt(n)."""
    expect(incoherence(np.array([3.0, -3.0, 3.0, 3.0])), 1.0, "max|x| over the root mean square", tolerance=1e-14)
    spike = np.zeros(9)
    spike[4] = 5
    expect(incoherence(spike), 3.0, "the mean of the squares, not their sum; the root of it", tolerance=1e-14)


@incoherence.check
def mean_included(incoherence):
    """The mean is not subtracted: [1, 1, 1, 3] has 3 / sqrt(12 / 4)."""
    expect(incoherence(np.array([1.0, 1, 1, 3])), 3 / math.sqrt(3), "np.std subtracts the mean", tolerance=1e-14)


@incoherence.check
def magnitude(incoherence):
    """The largest magnitude may be that of a negative number."""
    expect(incoherence(np.array([-6.0, 2, 2, 2])), 6 / math.sqrt(12), "max of |x|, not max of x", tolerance=1e-14)


@incoherence.check
def of_the_whole_array(incoherence):
    """A matrix or a filter bank has one incoherence, of all its numbers."""
    x = np.array([[1.0, 1.0, 1.0], [2.0, -2.0, 5.0]])
    expect(incoherence(x), 5 / math.sqrt(6), "one number over all axes; size is that of the array", tolerance=1e-14)
    expect(incoherence(np.full((2, 1, 3, 5), -0.5)), 1.0, "one number over all axes", tolerance=1e-14)


@incoherence.check
def of_zeros(incoherence):
    """Nothing but zeros has 0, one number alone has 1."""
    expect(incoherence(np.zeros((2, 3))), 0.0, "0 / 0 is NaN: ask first")
    expect(incoherence(np.array([-7.0])), 1.0, tolerance=1e-14)


@incoherence.check
def of_any_scale(incoherence):
    """Squares of very large and very small numbers do not fit, their ratio does."""
    for scale in (1e200, 1e-200):
        x = scale * np.array([3.0, 4.0])
        expect(incoherence(x), 4 / math.sqrt(12.5), "divide by the largest before squaring", tolerance=1e-14)


@incoherence.check
def of_narrow_types(incoherence):
    """float16, float32 and int8 arrays are computed in float64."""
    expect(incoherence(np.full(3000, 300, np.float16)), 1.0, "300^2 is infinite in float16", tolerance=1e-14)
    expect(incoherence(np.full(10, 1e30, np.float32)), 1.0, "1e60 is infinite in float32", tolerance=1e-14)
    expect(incoherence(np.array([-128, 0, 0, 0], np.int8)), 2.0, "|-128| is -128 in int8", tolerance=1e-14)


@incoherence.unlocked
def of_the_layers(incoherence):
    lines = ["incoherence, by your function       as trained   rotated   sqrt(2 ln N)"]
    for name in ("lenet_300_100", "lenet_5"):
        for key, weight in trained(name).parameters().items():
            if key.endswith("weight") and reference.largest_block(weight.shape[1]) > 1:
                turned = Rotation(reference.random_signs(weight.shape[1], seed=0)).rotated_weight(weight)
                numbers = incoherence(weight), incoherence(turned), math.sqrt(2 * math.log(weight.size))
                lines.append(f"{name + ' ' + key:34}" + "".join(f"{number:11.2f}" for number in numbers))
    return "\n".join(lines)


# The fast transform


def fast_hadamard(x, *, axis=-1):  # [..., n, ...] -> [..., n, ...], n a power of two
    """Return x H / sqrt(n) along an axis, H Sylvester's matrix, in n log2 n additions a vector.

    A pass makes sums and differences of pairs, half apart: half = 1, 2, 4, ... n / 2.

        a, b = x[i], x[i + half]        x[i], x[i + half] = a + b, a - b

    Floats keep their type, integers become float64.

    Raises ValueError if n is no power of two.

    Examples
    --------
    >>> fast_hadamard(np.array([8.0, 0.0, 0.0, 4.0]))
    array([6., 2., 2., 6.])
    """
    _power_of_two(x.shape[axis])
    return reference.hadamard_transform(x, axis=axis)


fast = Exercise(
    fast_hadamard,
    section="10. Fast, in NumPy",
    difficulty=3,
    size="twelve lines",
    task="A length that is no power of two must be refused. No matrix is to be built: "
    "one call has 65,536 numbers, whose matrix would have 4,294,967,296 entries.",
    forbidden=("@", "matmul", "dot", "vdot", "inner", "tensordot", "einsum", "kron"),
    unlocks="the signature figure of the MLP, its weights rounded and pruned in the basis of your transform",
    seconds=10,
)


@fast.check
def a_pair(fast_hadamard):
    """Two numbers become their sum and difference over sqrt(2)."""
    expect(
        fast_hadamard(np.array([3.0, 1.0])),
        np.array([4, 2]) / np.sqrt(2),
        "a + b and a - b, over sqrt(n)",
        tolerance=1e-6,
    )


@fast.check
def four(fast_hadamard):
    """A spike becomes a row of H, over sqrt(n) = 2."""
    likely = "over sqrt(n), neither n nor nothing; pairs 1 apart, then 2 apart, in natural order"
    expect(fast_hadamard(np.array([8.0, 0, 0, 0])), [4, 4, 4, 4], likely, tolerance=1e-6)
    expect(fast_hadamard(np.array([0.0, 8, 0, 0])), [4, -4, 4, -4], likely, tolerance=1e-6)
    expect(fast_hadamard(np.array([0.0, 0, 8, 0])), [4, 4, -4, -4], likely, tolerance=1e-6)


@fast.check
def types(fast_hadamard):
    """float32 stays float32, float64 stays float64, integers become float64 before they are summed."""
    x = np.array([100, 100, 100, 100])
    likely = "np.sqrt(n) is a float64 scalar, which makes float32 float64: use x.dtype.type(...)"
    expect(fast_hadamard(x.astype(np.float32)), [200, 0, 0, 0], likely, tolerance=1e-3, dtype=np.float32)
    expect(fast_hadamard(x.astype(np.float64)), [200, 0, 0, 0], tolerance=1e-3, dtype=np.float64)
    expect(
        fast_hadamard(x.astype(np.int8)), [200, 0, 0, 0], "100 + 100 wraps in int8", tolerance=1e-3, dtype=np.float64
    )


@fast.check
def in_double_precision(fast_hadamard):
    """float64 is not computed in float32: 1 + 2^-40 is seen."""
    x = np.array([1 + 2.0**-40, 1.0])
    expect(fast_hadamard(x)[1], 2.0**-40 / np.sqrt(2), "a buffer of float32", tolerance=1e-15)


@fast.check
def as_defined(fast_hadamard):
    """Three vectors of 16 numbers, against x H / sqrt(n) as it is written."""
    x = np.random.default_rng(4).integers(-9, 10, (3, 16)).astype(float)
    expect(fast_hadamard(x), x @ _sylvester(16) / 4, "each row by itself, all passes", tolerance=ROUNDINGS)


@fast.check
def one_number(fast_hadamard):
    """Of one number H is [[1]]: nothing happens."""
    expect(fast_hadamard(np.array([[5.0], [-7.0], [2.0]])), [[5], [-7], [2]], "no pass, and sqrt(1) is 1")


@fast.check
def other_axes(fast_hadamard):
    """The axis may be any, counted from the end too, and goes back to its place."""
    expect(
        fast_hadamard(np.array([[1.0, 2], [3, 4]]), axis=0), np.array([[4, 6], [-2, -2]]) / np.sqrt(2), tolerance=1e-6
    )
    x = np.random.default_rng(5).integers(-9, 10, (4, 8, 2)).astype(float)
    H = {n: _sylvester(n) / np.sqrt(n) for n in (2, 4, 8)}
    likely = "moveaxis there, and moveaxis back: not a reshape"
    expect(fast_hadamard(x, axis=0), np.einsum("abc,ai->ibc", x, H[4]), likely, tolerance=ROUNDINGS)
    expect(fast_hadamard(x, axis=1), np.einsum("abc,bi->aic", x, H[8]), likely, tolerance=ROUNDINGS)
    expect(fast_hadamard(x, axis=-2), np.einsum("abc,bi->aic", x, H[8]), likely, tolerance=ROUNDINGS)
    odd = x[:3, :, :1]  # shape (3, 8, 1)
    likely = "only the axis that is transformed must be a power of two"
    expect(fast_hadamard(odd, axis=1), np.einsum("abc,bi->aic", odd, H[8]), likely, tolerance=ROUNDINGS)


@fast.check
def its_own_inverse(fast_hadamard):
    """H is symmetric and H H = n I, so the transform of the transform is x."""
    x = np.random.default_rng(6).normal(size=(2, 32))
    expect(fast_hadamard(fast_hadamard(x)), x, "divide by sqrt(n) each time", tolerance=ROUNDINGS)


@fast.check
def only_powers_of_two(fast_hadamard):
    """A length of 12, or of 3, is a ValueError."""
    for shape in ((12,), (4, 3)):
        fast_hadamard.must_raise(("ValueError",), np.ones(shape), likely="check n = x.shape[axis] first")


@fast.check
def large(fast_hadamard):
    """65,536 numbers, two of them not zero: the matrix would fill the memory, 16 passes take milliseconds."""
    n, (i, j) = 2**16, (12345, 54321)
    x = np.zeros(n, np.float32)
    x[i], x[j] = 256, 512  # sqrt(n) is 256: all sums are whole numbers
    k = np.arange(n)
    row = [sum((p >> bit) & (k >> bit) & 1 for bit in range(16)) % 2 for p in (i, j)]
    expect(
        fast_hadamard(x),
        (1 - 2 * row[0]) + 2 * (1 - 2 * row[1]),
        "passes over x, not a matrix of n x n",
        tolerance=1e-4,
    )


@fast.unlocked
def draws_with(fast_hadamard):
    def with_your_transform(network, data, *, bits, sparsity):
        def turn(weight, signs):
            return fast_hadamard(weight * signs)

        def back(weight, signs):
            return fast_hadamard(weight) * signs

        return _in_turned_basis(network, turn, back, bits=bits, sparsity=sparsity)

    network, data = trained("lenet_300_100"), load_mnist()
    records = []
    for technique in ("per_tensor", with_your_transform):
        for bits, sparsities in (((2, 3, 4, 8, FLOAT), (0,)), ((4,), (0.5, 0.8, 0.9))):
            records += error_grid(network, data, technique=technique, bits=bits, sparsities=sparsities)
    records = [{"network": "lenet_300_100", "seed": 0, **record} for record in records]
    return error_curves(records, names={"with_your_transform": "turned by your transform"})


# Random rotations


def rotate(x, signs, *, axis=-1):  # [..., n, ...], [n] -> [..., n, ...], n a power of two
    """Return x D H / sqrt(n) along an axis, D the diagonal matrix of signs: the signs first, then the transform.

    H is Sylvester's matrix. Floats keep their type, integers become float64.

    Examples
    --------
    >>> rotate(np.array([0.0, 8.0, 0.0, 0.0]), np.array([1, -1, -1, 1]))
    array([-4.,  4., -4.,  4.])
    """
    return reference.rotate(x, signs, axis=axis)


rotating = Exercise(
    rotate,
    section="3. What it does to an outlier",
    difficulty=2,
    size="five lines, after fast_hadamard or with a matrix",
    task="n is a power of two; no bad input.",
    unlocks="the outliers of chapter 04, section 3, shared out by your rotation",
)


@rotating.check
def signs_come_first(rotate):
    """A spike takes the sign of its own place, and becomes a row of H."""
    likely = "x D H: each number times its sign, then the transform; H D is another rotation"
    signs = np.array([1, -1, -1, 1])
    expect(rotate(np.array([0.0, 8, 0, 0]), signs), [-4, 4, -4, 4], likely, tolerance=ROUNDINGS)
    expect(rotate(np.array([0.0, 0, 0, 8]), signs), [4, -4, -4, 4], likely, tolerance=ROUNDINGS)


@rotating.check
def a_constant(rotate):
    """Without a minus a constant becomes a spike, with one it does not."""
    expect(rotate(np.full(4, 3.0), np.ones(4)), [6, 0, 0, 0], "the transform over sqrt(n)", tolerance=ROUNDINGS)
    expect(
        rotate(np.full(4, 3.0), np.array([1.0, 1, 1, -1])),
        [3, 3, 3, -3],
        "signs, then the transform",
        tolerance=ROUNDINGS,
    )


@rotating.check
def types_of_rotate(rotate):
    """float32 stays float32, whatever type the signs have; integers become float64 before the sign."""
    x, signs = np.array([100, 100, 100, -128]), np.array([1, 1, 1, -1])
    likely = "float32 times int64 is float64: cast the signs to the type of x"
    expect(rotate(x.astype(np.float32), signs), [214, -14, -14, 14], likely, tolerance=1e-3, dtype=np.float32)
    likely = "-128 times -1 is -128 in int8: convert x first"
    expect(
        rotate(x.astype(np.int8), signs.astype(np.int8)), [214, -14, -14, 14], likely, tolerance=1e-3, dtype=np.float64
    )


@rotating.check
def signs_then_transform(rotate):
    """Three vectors of 8 numbers, against x D H / sqrt(n) as it is written."""
    x, signs = np.random.default_rng(7).normal(size=(3, 8)), np.array([1, -1, 1, 1, -1, -1, 1, -1])
    expect(rotate(x, signs), x @ _rotation(signs), "the same signs for every row", tolerance=ROUNDINGS)


@rotating.check
def signs_along_the_axis(rotate):
    """Along axis 0 or 1 it is the vectors along that axis that are turned, with a sign for each place of it."""
    likely = "signs must lie along the axis: reshape them, [n] -> [n, 1, 1]; and the transform too"
    x, signs = np.arange(16.0).reshape(4, 4), np.array([1, 1, -1, 1])  # any axis would fit
    expect(rotate(x, signs, axis=-2), _rotation(signs).T @ x, likely, tolerance=ROUNDINGS)
    x, signs = np.random.default_rng(8).normal(size=(4, 2, 3)), np.array([-1, -1, 1, -1])
    expect(rotate(x, signs, axis=0), np.einsum("abc,ai->ibc", x, _rotation(signs)), likely, tolerance=ROUNDINGS)
    signs = np.array([-1, 1])
    expect(rotate(x, signs, axis=1), np.einsum("abc,bi->aic", x, _rotation(signs)), likely, tolerance=ROUNDINGS)


@rotating.check
def products_of_turned_arrays(rotate):
    """Two arrays turned with the same signs have the same products as before."""
    rng = np.random.default_rng(9)
    x, w, signs = rng.normal(size=(5, 16)), rng.normal(size=(3, 16)), np.where(rng.random(16) < 0.5, -1, 1)
    expect(np.asarray(rotate(x, signs)) @ np.asarray(rotate(w, signs)).T, x @ w.T, "over sqrt(n)", tolerance=ROUNDINGS)


@rotating.check
def only_a_sign(rotate):
    """Of one number only the sign is left."""
    expect(rotate(np.array([[3.0], [-5.0]]), np.array([-1])), [[-3], [5]])


@rotating.unlocked
def shares_outliers(rotate):
    rng = np.random.default_rng(0)
    signs, x = reference.random_signs(256, seed=0), rng.normal(size=256)
    x[[40, 200]] = 25, -18
    figure, axes = plt.subplots(1, 2, figsize=(10, 3), sharey=True, layout="constrained")
    for axis, values, name in zip(axes, (x, rotate(x, signs)), ("as it is", "turned by you"), strict=True):
        axis.vlines(range(256), 0, values, linewidth=1)
        noise = sqnr_db(values, fake_quantize(values, choose_qparams(values, bits=4)))
        told = f"incoherence {reference.incoherence(values):.1f}, SQNR at 4 bits {noise:.1f} dB"
        axis.set_title(f"{name}: {told}", fontsize=9)
        axis.set_xlabel("place")
    return figure


def unrotate(x, signs, *, axis=-1):  # [..., n, ...], [n] -> [..., n, ...], n a power of two
    """Return x H^T D / sqrt(n) along an axis, which undoes x D H / sqrt(n).

    H is Sylvester's matrix. Floats keep their type, integers become float64.

    Examples
    --------
    >>> unrotate(np.array([4.0, -4.0, 4.0, -4.0]), np.array([1, 1, -1, 1]))
    array([ 0.,  8., -0.,  0.])
    """
    return reference.unrotate(x, signs, axis=axis)


unrotating = Exercise(
    unrotate,
    section="5. The product stays",
    difficulty=2,
    size="five lines",
    task="n is a power of two; no bad input.",
    unlocks="the MLP rounded in a rotated basis to 2, 3 and 4 bits, and turned back by you",
)


@unrotating.check
def last_in_first_out(unrotate):
    """What rotate does last is undone first: the transform, then the signs."""
    likely = "(D H)^-1 is H^T D over n: with the signs first it is rotate once more"
    signs = np.array([1, -1, -1, 1])
    expect(unrotate(np.array([-4.0, 4, -4, 4]), signs), [0, 8, 0, 0], likely, tolerance=ROUNDINGS)
    expect(unrotate(np.array([8.0, 0, 0, 0]), signs), [4, -4, -4, 4], likely, tolerance=ROUNDINGS)


@unrotating.check
def types_of_unrotate(unrotate):
    """float32 stays float32, whatever type the signs have; integers become float64 before they are summed."""
    x, signs = np.array([100, 100, 100, 100]), np.array([-1, 1, 1, -1])
    likely = "float32 times int64 is float64: cast the signs to the type of x"
    expect(unrotate(x.astype(np.float32), signs), [-200, 0, 0, 0], likely, tolerance=1e-3, dtype=np.float32)
    likely = "100 + 100 wraps in int8: convert x first"
    expect(
        unrotate(x.astype(np.int8), signs.astype(np.int8)), [-200, 0, 0, 0], likely, tolerance=1e-3, dtype=np.float64
    )


@unrotating.check
def undoes(unrotate):
    """Three vectors of 8 numbers, turned as x D H / sqrt(n) is written, come back."""
    x, signs = np.random.default_rng(10).normal(size=(3, 8)), np.array([1, -1, 1, 1, -1, -1, 1, -1])
    expect(unrotate(x @ _rotation(signs), signs), x, "R^T = H^T D / sqrt(n)", tolerance=ROUNDINGS)


@unrotating.check
def undoes_other_axes(unrotate):
    """Along axis 0 and 1 too."""
    likely = "signs must lie along the axis: reshape them, [n] -> [n, 1, 1]; and the transform too"
    x, signs = np.arange(16.0).reshape(4, 4), np.array([1, 1, -1, 1])  # any axis would fit
    expect(unrotate(_rotation(signs).T @ x, signs, axis=0), x, likely, tolerance=ROUNDINGS)
    x, signs = np.random.default_rng(11).normal(size=(4, 2, 3)), np.array([-1, -1, 1, -1])
    turned = np.einsum("abc,ai->ibc", x, _rotation(signs))
    expect(unrotate(turned, signs, axis=0), x, likely, tolerance=ROUNDINGS)
    signs = np.array([-1, 1])
    turned = np.einsum("abc,bi->aic", x, _rotation(signs))
    expect(unrotate(turned, signs, axis=-2), x, likely, tolerance=ROUNDINGS)


@unrotating.check
def keeps_lengths(unrotate):
    """It is a rotation: the length of every vector stays."""
    x, signs = np.random.default_rng(12).normal(size=(5, 64)), np.where(np.arange(64) % 3, -1, 1)
    got = np.linalg.norm(unrotate(x, signs), axis=1)
    expect(got, np.linalg.norm(x, axis=1), "over sqrt(n), neither n nor nothing", tolerance=ROUNDINGS)


@unrotating.check
def only_a_sign_back(unrotate):
    """Of one number only the sign is left."""
    expect(unrotate(np.array([[3.0], [-5.0]]), np.array([-1])), [[-3], [5]])


@unrotating.unlocked
def turns_back(unrotate):
    network, data = trained("lenet_300_100"), load_mnist()
    lines = ["LeNet-300-100, seed 0, weights rounded with one scale a layer, test error:"]
    for bits in (4, 3, 2):
        plain = evaluate(quantize_weights(network, bits=bits, per_channel=False), *data[2:])
        turned = evaluate(_in_turned_basis(network, reference.rotate, unrotate, bits=bits), *data[2:])
        lines.append(
            f"{bits} bits: {plain:.2%} as trained, {turned:.2%} rounded in a rotated basis, turned back by you"
        )
    return "\n".join([*lines, "(inputs filled with zeros to 1,024, 512 and 128)"])


# A rotated layer


def rotated_weight(weight, signs):  # [out, n, ...], [n] -> [out, n, ...], n a power of two
    """Return the weight W R that computes with turned inputs x R what `weight` computes with x.

        y = x W^T = (x R) (W R)^T        R = D H / sqrt(n), H Sylvester's matrix

    A Linear's weight is [out, n]. A Conv2d's is [out, n, kH, kW]; its input channels are turned, at every tap alike.

    Examples
    --------
    >>> rotated_weight(np.array([[0.0, 8.0, 0.0, 0.0]]), np.array([1, -1, -1, 1]))
    array([[-4.,  4., -4.,  4.]])
    """
    return reference.rotate(weight.astype(np.float64), signs, axis=1)


layer_weight = Exercise(
    rotated_weight,
    section="5. The product stays",
    difficulty=2,
    size="three lines, after rotate",
    task="float64 weights; no bad input.",
    unlocks="the MLP with weights turned by you: its answers stay, and rounded to 3 bits it errs less",
)


@layer_weight.check
def rows_are_turned(rotated_weight):
    """A neuron that reads one input reads all of them after it."""
    weight, signs = np.array([[0.0, 8, 0, 0], [4.0, 4, 0, 0]]), np.array([1, -1, -1, 1])
    likely = "W D H / sqrt(n): the signs belong to the inputs, axis 1"
    expect(rotated_weight(weight, signs), [[-4, 4, -4, 4], [0, 4, 0, 4]], likely, tolerance=ROUNDINGS)


@layer_weight.check
def products_stay(rotated_weight):
    """A linear layer of 16 inputs and 3 outputs computes the same from turned inputs."""
    rng = np.random.default_rng(13)
    x, weight, signs = rng.normal(size=(5, 16)), rng.normal(size=(3, 16)), np.where(rng.random(16) < 0.5, -1, 1)
    got = np.asarray(rotated_weight(weight, signs))
    expect(x @ _rotation(signs) @ got.T, x @ weight.T, "the same R on both sides, not its inverse", tolerance=ROUNDINGS)


@layer_weight.check
def square(rotated_weight):
    """Where there are as many outputs as inputs, it is still the inputs that are turned."""
    weight, signs = np.arange(16.0).reshape(4, 4), np.array([1, 1, -1, 1])
    likely = "axis 1: R W turns the outputs"
    expect(rotated_weight(weight, signs), weight @ _rotation(signs), likely, tolerance=ROUNDINGS)


@layer_weight.check
def filters(rotated_weight):
    """A convolution of 4 channels computes the same at every place, and its weight keeps its shape."""
    rng = np.random.default_rng(14)
    x, weight, signs = rng.normal(size=(6, 4, 5, 2)), rng.normal(size=(3, 4, 5, 2)), np.array([-1, 1, 1, -1])
    turned = np.einsum("ncij,cd->ndij", x, _rotation(signs))
    got = np.asarray(rotated_weight(weight, signs))
    expect(got.shape, weight.shape, "a copy of the filters' shape, axis 1 of length n")
    likely = "the channels are axis 1: neither the last axis, nor all of c * kH * kW together"
    right = np.einsum("ncij,ocij->no", x, weight)
    expect(np.einsum("ncij,ocij->no", turned, got), right, likely, tolerance=ROUNDINGS)


@layer_weight.check
def filters_of_powers_of_two(rotated_weight):
    """Where kernels are as long as there are channels, it is still the channels that are turned."""
    weight, signs = np.arange(64.0).reshape(2, 2, 4, 4) ** 2 / 64, np.array([1, -1])
    right = np.stack([weight[:, 0] - weight[:, 1], weight[:, 0] + weight[:, 1]], axis=1) / np.sqrt(2)
    expect(rotated_weight(weight, signs), right, "axis 1 of [out, n, kH, kW]", tolerance=ROUNDINGS)


@layer_weight.check
def one_channel(rotated_weight):
    """With one channel there is nothing to mix, only a sign."""
    weight = np.arange(1.0, 7.0).reshape(2, 1, 3, 1)
    expect(rotated_weight(weight, np.array([-1])), -weight)


@layer_weight.unlocked
def same_answers(rotated_weight):
    network, data = trained("lenet_300_100"), load_mnist()
    answers = {}
    for bits in (32, 3):
        x = data.test_images
        for layer in network.layers:
            if isinstance(layer, Linear):
                signs, weight = _signs(layer.params["weight"]), _padded(layer.params["weight"].astype(np.float64))
                weight = rotated_weight(weight, signs)
                weight = weight if bits == 32 else fake_quantize(weight, choose_qparams(weight, bits=bits))
                x = reference.rotate(_padded(x), signs) @ weight.T + layer.params["bias"]
            else:
                x = layer.forward(x)
        answers[bits] = x
    logits = network.forward(data.test_images)
    away = np.abs(answers[32] - logits).max() / np.abs(logits).max()
    errors = [np.mean(y.argmax(axis=1) != data.test_labels) for y in answers.values()]
    plain = evaluate(quantize_weights(network, bits=3, per_channel=False), *data[2:])
    return (
        f"LeNet-300-100, inputs filled with zeros to 1,024, 512 and 128, weights turned by you: {errors[0]:.2%} test\n"
        f"error, no logit further away than {away:.0e} of the largest. Weights rounded to 3 bits, one scale a layer:\n"
        f"{plain:.2%} as trained, {errors[1]:.2%} turned."
    )


def quantize_rotated(weight, signs, *, bits=4):  # [out, n], [n] -> [out, n], n a power of two
    """Turn a weight, round it with one scale, and turn it back.

        V = W R        s = max|V| / (2^(bits-1) - 1)        answer: s rint(V / s) R^T

    R = D H / sqrt(n), H Sylvester's matrix. Zeros stay zeros.

    Examples
    --------
    >>> quantize_rotated(np.array([[3.875, 0.375, -6.375, 3.375]]), np.array([1, 1, -1, 1]))
    array([[ 3.5,  0.5, -6.5,  3.5]])
    """
    turned = reference.rotate(weight.astype(np.float64), signs)
    return reference.unrotate(fake_quantize(turned, choose_qparams(turned, bits=bits)).astype(np.float64), signs)


rounding = Exercise(
    quantize_rotated,
    section="6. A network with outliers",
    difficulty=2,
    size="six lines, after rotate and unrotate",
    task="float64 weights, no bad input; s may be float32 or float64, ties are not graded.",
    unlocks="the network of section 6, with 5 large columns, rounded to 4 bits by you",
)


@rounding.check
def by_hand(quantize_rotated):
    """[5, 4] with signs +, - is turned to [1, 9] / sqrt(2); one step at 2 bits is 9 / sqrt(2): [0, 9], turned back."""
    expect(
        quantize_rotated(np.array([[5.0, 4.0]]), np.array([1, -1]), bits=2),
        [[4.5, 4.5]],
        "turn, round to codes -1, 0, 1, turn back; the largest code is 2^(bits-1) - 1",
        tolerance=2e-6,  # a float32 scale
    )


@rounding.check
def rounds_to_nearest(quantize_rotated):
    """Turned weights [7, 3.6, -2.6, 0.4] have the codes [7, 4, -3, 0] at 4 bits."""
    signs = np.array([1, 1, -1, 1])
    back = _rotation(signs).T
    got = quantize_rotated(np.array([[7.0, 3.6, -2.6, 0.4]]) @ back, signs, bits=4)
    expect(got, np.array([[7.0, 4, -3, 0]]) @ back, "s is 1 here: rint, neither floor nor a cast", tolerance=2e-6)


@rounding.check
def one_scale(quantize_rotated):
    """One scale for the whole weight, made from the turned weights."""
    signs = np.array([-1, 1])
    back = _rotation(signs).T
    got = quantize_rotated(np.array([[7.0, 0.6], [2.7, -1.4], [0.2, -0.3]]) @ back, signs, bits=4)
    likely = "max|V| over all rows; and over V, not over the weight as it was"
    expect(got, np.array([[7.0, 1], [3, -1], [0, 0]]) @ back, likely, tolerance=2e-6)


@rounding.check
def on_the_grid(quantize_rotated):
    """Turned once more, the answer has the codes of 2^bits - 1 that are nearest to the turned weight."""
    weight, signs = np.random.default_rng(15).normal(size=(20, 32)), np.where(np.arange(32) % 5 < 2, -1, 1)
    turned = weight @ _rotation(signs)
    for bits in (2, 3, 8):
        step = Fraction(float(np.abs(turned).max())) / (2 ** (bits - 1) - 1)
        codes = [[round(Fraction(float(v)) / step) for v in row] for row in turned]
        right = np.array(codes) * float(step) @ _rotation(signs).T
        got = quantize_rotated(weight, signs, bits=bits)
        expect(got, right, "round in the turned basis; turn back with R^T, not with R", tolerance=1e-5)


@rounding.check
def outliers_cost_less(quantize_rotated):
    """Two columns 30 times larger: at 8 bits the rotation makes the mean squared error more than ten times smaller."""
    rng = np.random.default_rng(16)
    weight, signs = rng.normal(size=(48, 64)), np.where(rng.random(64) < 0.5, -1, 1)
    weight[:, [5, 40]] *= 30
    turned = weight @ _rotation(signs)
    steps = [np.abs(v).max() / 127 for v in (weight, turned)]  # R keeps lengths: the error of the turned weight is it
    plain, right = (float(np.mean((v - s * np.rint(v / s)) ** 2)) for v, s in zip((weight, turned), steps, strict=True))
    error = float(np.mean((np.asarray(quantize_rotated(weight, signs, bits=8)) - weight) ** 2))
    likely = f"{plain:.4f} is the error without a rotation: the outliers must be shared out before the rounding"
    expect(error, right, likely, tolerance=1e-3 * right)


@rounding.check
def zeros(quantize_rotated):
    """Nothing but zeros stays so."""
    expect(quantize_rotated(np.zeros((3, 4)), np.array([1, -1, 1, 1])), np.zeros((3, 4)), "max|V| = 0: 0 / 0 is NaN")


@rounding.unlocked
def five_large_columns(quantize_rotated):
    network, data = trained("lenet_300_100"), load_mnist()
    parameters = network.parameters()
    parameters["1.weight"][::60] /= 20  # section 6: five neurons smaller, what reads them larger, the same function
    parameters["1.bias"][::60] /= 20
    parameters["3.weight"][:, ::60] *= 20
    plain = evaluate(quantize_weights(network, bits=4, per_channel=False), *data[2:])
    theirs = evaluate(quantize_weights(rotate_network(network), bits=4, per_channel=False), *data[2:])
    before = evaluate(network, *data[2:])
    for layer in network.layers:
        if isinstance(layer, Linear):
            weight = layer.params["weight"]
            rounded = quantize_rotated(_padded(weight.astype(np.float64)), _signs(weight), bits=4)
            weight[...] = rounded[:, : weight.shape[1]]
    return (
        f"LeNet-300-100 with 5 large columns: {before:.2%} test error. Weights rounded to 4 bits, one scale a layer:\n"
        f"{plain:.2%} as they are, {evaluate(network, *data[2:]):.2%} in your rotated basis (inputs filled with zeros\n"
        f"to 1,024, 512 and 128), {theirs:.2%} in nnzip's."
    )
