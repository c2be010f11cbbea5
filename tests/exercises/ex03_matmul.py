"""Chapter 03: the exercises and what grades them."""

import time

import numpy as np

from nnzip import matmul, requantization
from nnzip.book.grading import Wrong, exercise, given
from nnzip.book.unlocking import in_place_of
from nnzip.compression.integer import integer_network
from nnzip.data import load_mnist
from nnzip.nn.zoo import trained

DTYPES = "int8", "uint8"


def _any_codes(rng, shape, *, extreme):
    """Codes of int8 or uint8, in rows or columns of memory: any, or only the smallest and the largest."""
    info = np.iinfo(rng.choice(DTYPES))
    codes = rng.choice([info.min, info.max], shape) if extreme else rng.integers(info.min, info.max + 1, shape)
    return np.asarray(codes, info.dtype, order=rng.choice(["C", "F"]))


def _any_product(rng, deepest):
    M, N = (3, 3) if rng.random() < 0.3 else rng.integers(1, 6, 2)
    K, extreme = int(rng.integers(1, deepest)), bool(rng.random() < 0.5)
    return _any_codes(rng, (M, K), extreme=extreme), _any_codes(rng, (K, N), extreme=extreme)


@exercise(
    section="5. Zero points, without touching a code",
    difficulty=1,
    size="three lines",
    task="It need not be fast. The sums of the graded products all fit int32.",
)
def int8_matmul(a, b, *, a_zero_point=0, b_zero_point=0):  # [M, K], [K, N] -> int32 [M, N]
    """Return the exact product of two matrices of 8-bit codes, int8 or uint8, with their zero points.

        y[m, n] = sum_k (a[m, k] - a_zero_point) (b[k, n] - b_zero_point)

    Either zero point is one integer, or as many as there are rows of a (M,) or columns of b (N,).

    >>> int8_matmul(np.array([[100, 100]], np.uint8), np.array([[100], [-28]], np.int8), a_zero_point=10)
    array([[6480]], dtype=int32)
    """
    return matmul.int8_matmul(a, b, a_zero_point=a_zero_point, b_zero_point=b_zero_point)


int8_matmul.case(
    "127 times 127 is 16129, which no int8 holds.",
    np.array([[127, 127], [-128, -128]], np.int8),
    np.array([[127], [127]], np.int8),
    gives=[[32258], [-32512]],
    likely="int8 @ int8 stays int8 and wraps: convert both to int32 first",
)
int8_matmul.case(
    "Each code has its zero point taken off before the products are made.",
    np.array([[12, 15], [10, 20]], np.uint8),
    np.array([[3], [5]], np.int8),
    a_zero_point=10,
    b_zero_point=4,
    gives=[[2 * -1 + 5 * 1], [0 * -1 + 10 * 1]],
    likely="multiplied out: a @ b - z_a sum_k b - z_b sum_k a + K z_a z_b",
)
int8_matmul.case(
    "A code less its zero point lies between -255 and 255: more than 8 bits hold.",
    np.array([[-128, 127]], np.int8),
    np.array([[-128, 127], [127, -128]], np.int8),
    a_zero_point=np.int8(127),
    b_zero_point=np.int8(-128),
    gives=[[0, -255 * 255]],
    likely="convert to int32 before you subtract",
)
int8_matmul.case(
    "Zero points may differ from row to row of a.",
    np.array([[5, 6], [5, 6]], np.uint8),
    np.array([[1, 1], [2, 2]], np.int8),
    a_zero_point=np.array([0, 5]),
    gives=[[17, 17], [2, 2]],
    likely="shape (M,) must become (M, 1): NumPy would line it up with the columns",
)


@int8_matmul.draw("a's zero points belong to its rows, b's to its columns; the sums are int32", dtype=True)
def any_product(rng):
    """Matrices of every pair of dtypes, their zero points one number or many, squares among them."""
    a, b = _any_product(rng, 300)
    points = []
    for codes, count in ((a, len(a)), (b, b.shape[1])):
        info, many = np.iinfo(codes.dtype), rng.random() < 0.5
        points.append(rng.integers(info.min, info.max + 1, count if many else None))
    return given(a, b, a_zero_point=points[0], b_zero_point=points[1])


@exercise(
    section="3. A float that is an integer", difficulty=2, size="six lines", task="a_dtype comes as text; no bad input."
)
def exact_depth(a_dtype, b):  # "int8" or "uint8", int8 or uint8 [K, N] -> int
    """Return for how many of the first rows of b float32 holds the sums of every a @ b exactly, whatever a's codes are.

    float32 holds all whole numbers up to 2^24. So it is the number of rows k for which, in every column,

        128 sum_k |b| <= 2^24        for int8 codes, which can have the sign of the weight
        255 max(sum of the positive, sum of the negative) <= 2^24        for uint8 codes, which are never negative

    >>> exact_depth("int8", np.full((2000, 1), 127, np.int8))
    1032
    """
    return matmul.exact_depth(np.dtype(a_dtype), b)


exact_depth.case(
    "An int8 code can be -128: 2^24 / (128 * 127) is 1032.06.",
    "int8",
    np.full((2000, 1), 127, np.int8),
    gives=1032,
    likely="np.cumsum down the rows, then count",
)
exact_depth.case(
    "2048 products of -128 by 64 are 2^24, which is still a float32.",
    "int8",
    np.full((3000, 2), 64, np.int8),
    gives=2048,
    likely="at most 2^24, not below it",
)
exact_depth.case(
    "The magnitude of -128 is 128, not -128.",
    "uint8",
    np.full((1030, 2), -128, np.int8),
    gives=514,
    likely="np.abs and - of an int8 -128 are -128 again: convert first; 2^24 / (255 * 128)",
)
exact_depth.case(
    "For uint8 codes weights of the other sign only take away: the larger side counts.",
    "uint8",
    np.tile(np.array([[127], [-127]], np.int8), (1000, 1)),
    gives=1036,
    likely="255 times the larger of the positive and the negative sum: not their total, not their difference",
)


@exact_depth.draw("the column that is full first decides; never more rows than b has")
def any_weights(rng):
    """Weights of one sign or of both, small or large, of one column or more, some of which no sum fills."""
    b = _any_codes(rng, (rng.integers(1, 3000), rng.integers(1, 4)), extreme=rng.random() < 0.4)
    small = (b // rng.integers(1, 5, b.shape[1])).astype(b.dtype)
    return given(str(rng.choice(DTYPES)), small * (rng.random(len(b)) < rng.choice([0.5, 1]))[:, None].astype(b.dtype))


@exercise(
    section="4. Blocks that are exact",
    difficulty=2,
    size="eight lines",
    task="One check takes the time: at most half of that of int32 @ int32.",
)
def fast_int8_matmul(a, b):  # int8 or uint8 [M, K], [K, N] -> int32 [M, N]
    """Return the exact product of two matrices of 8-bit codes about as fast as a product of floats.

        y[m, n] = sum_k a[m, k] b[k, n]

    NumPy has fast products for floats only. float32 holds every integer up to 2^24, float64 up to 2^53.

    >>> fast_int8_matmul(np.full((1, 259), 255, np.uint8), np.full((259, 1), 255, np.uint8))
    array([[16841475]], dtype=int32)
    """
    return matmul.int8_matmul(a, b, backend="numpy")


fast_int8_matmul.case(
    "It is the matrix product.",
    np.array([[1, -2, 3], [127, 127, 127]], np.int8),
    np.array([[127, 0], [-128, 1], [2, 5]], np.int8),
    gives=[[127 + 256 + 6, 13], [127, 762]],
    dtype=np.int32,
    likely="8-bit codes multiplied as they are wrap; a block that is not full counts too",
)
for K in (259, 1001):
    fast_int8_matmul.case(
        "Sums above 2^24, and odd: there are no such float32 numbers.",
        np.full((1, K), 255, np.uint8),
        np.full((K, 1), 255, np.uint8),
        gives=[[K * 255 * 255]],
        likely="blocks of at most 258 codes, or float64: float32 ends being exact at 2^24",
    )
fast_int8_matmul.case(
    "A block of 1024 int8 codes times uint8 weights is too deep.",
    np.full((1, 1023), -127, np.int8),
    np.full((1023, 1), 255, np.uint8),
    gives=[[-1023 * 127 * 255]],
    likely="2^24 / (128 * 255) is 514",
)


@fast_int8_matmul.draw("each block is exact as a float32, their sum is not: add them up as integers", dtype=True)
def any_deep_product(rng):
    """Every pair of dtypes, codes of every size, K from 1 to 3,000."""
    return given(*_any_product(rng, int(rng.choice([10, 600, 3000]))))


@fast_int8_matmul.check
def as_fast_as_floats(fast_int8_matmul):
    """512 x 2048 x 512 takes a small part of the time of int32 @ int32."""
    rng = np.random.default_rng(9)
    a, b = rng.integers(100, 128, (512, 2048), np.int8), rng.integers(90, 128, (2048, 512), np.int8)
    some, block = a[:32, :256].astype(np.int32), b[:256].astype(np.int32)  # int32 @ int32 where it is at its best
    start = time.perf_counter()
    some @ block
    by_integers = (time.perf_counter() - start) * 16 * 8
    taken = []
    while len(taken) < 2 and min(taken, default=np.inf) > by_integers / 2:  # the first may have had to share the CPU
        start = time.perf_counter()
        fast_int8_matmul(a, b)
        taken.append(time.perf_counter() - start)
    if min(taken) > by_integers / 2:
        raise Wrong(
            f"took:     {min(taken):.2f} s\nexpected: at most {by_integers / 2:.2f} s\n"
            "likely:   integer products have no fast routine in NumPy, and loops are slower still: multiply floats"
        )


@exercise(
    section="6. The way back to 8 bits",
    difficulty=1,
    size="four lines",
    task="out_dtype comes as text, which np.dtype, np.iinfo and astype take; no bad input.",
    parts=(),
)
def requantize(acc, multiplier, zero_point, *, out_dtype):  # int32 [..., N], number or [N] -> codes [..., N]
    """Return the codes of sums: the float32 product with the multiplier, rounded, ties to even, plus the zero point.

    What lies outside of the dtype gets its nearest end. Sums and multipliers are float32 numbers, and so is their
    product, as in ONNX Runtime.

    >>> requantize(np.array([-1000, 1000, 10**6]), 0.01, 100, out_dtype="uint8")
    array([ 90, 110, 255], dtype=uint8)
    """
    return requantization.requantize(acc, multiplier, zero_point, out_dtype=np.dtype(out_dtype))


requantize.case(
    "The product is rounded to even at halves, and only then is the zero point added.",
    np.array([-3, -1, 1, 3, 5], np.int32),
    0.5,
    3,
    out_dtype="int8",
    gives=[1, 3, 3, 5, 5],
    likely="np.rint(0.5) + 3 is 3, rint(0.5 + 3) is 4",
)
requantize.case(
    "Sum and multiplier are float32, and so is their product: in float64 this is another code.",
    np.array([50, -150], np.int32),
    0.07 * 0.03 / 0.21,
    0,
    out_dtype="int8",
    gives=[0, -2],
    likely="convert acc and multiplier to float32 before the product; int32 * float32 is float64",
)


def _codes_near_ties(rng):
    multiplier = np.float32(rng.choice([0.07, 0.5, 0.1])) * np.float32(0.03) / np.float32(0.21)
    return rng.integers(-8000, 8000, (2000, 1)).astype(np.int32), multiplier


@requantize.draw("a cast wraps: add zero_point, clip, then cast; multipliers (N,) belong to the last axis", dtype=True)
def any_sums(rng):
    """Sums with one multiplier or one for each column, some near ties, some at the ends of int32, every dtype."""
    dtype, zero_point = str(rng.choice(["int8", "uint8", "int16", "uint16"])), int(rng.integers(0, 100))
    if rng.random() < 0.4:
        return given(*_codes_near_ties(rng), zero_point, out_dtype=dtype)
    shape = tuple(rng.integers(1, 6, rng.integers(1, 5)))
    acc = rng.integers(-(2 ** int(rng.integers(8, 31))), 2 ** int(rng.integers(8, 31)), shape).astype(np.int32)
    multiplier = rng.uniform(1e-5, 0.1, shape[-1] if rng.random() < 0.6 else None)
    return given(acc, np.float32(multiplier), zero_point, out_dtype=dtype)


@exercise(
    section="6. The way back to 8 bits",
    difficulty=2,
    size="six lines",
    task="np.frexp is a good beginning; no bad input.",
    parts=("m0", "shift"),
)
def fixed_point_multiplier(m):  # positive number or [...] -> int, int or int32 [...], int32 [...]
    """Return m0 and shift, so that m is nearly m0 * 2^-31 * 2^-shift, with m0 from 2^30 to 2^31 - 1.

    m0 is rounded to the nearest integer; m lies from 2^-32 to below 2^30, and its shift may be negative.

    >>> fixed_point_multiplier(0.1875)
    (1610612736, 2)
    """
    return requantization.fixed_point_multiplier(m)


fixed_point_multiplier.case(
    "0.1875 is 0.75 * 2^-2: a shift to the right by 2.", 0.1875, gives=(3 * 2**29, 2), likely="m0 = 0.75 * 2^31"
)
fixed_point_multiplier.case(
    "A multiplier of 1 or more has a negative shift, to the left.",
    np.array([1.0, 6.0]),
    gives=([2**30, 3 * 2**29], [-1, -3]),
    dtype=np.int32,
    likely="1 = 2^30 * 2^-31 * 2^1: 2^30 is in the range, 2^31 is not",
)
fixed_point_multiplier.case(
    "Just below a power of two m0 rounds up to 2^31, which no int32 holds: it is halved and the shift one less.",
    float(np.nextafter(0.25, 0.0)),
    gives=(2**30, 1),
    likely="m0 = 2^31 becomes 2^30, and shift becomes shift - 1",
)
fixed_point_multiplier.case(
    "2^31 - 1 is the largest m0 and stays.", (2**31 - 1) / 2**31, gives=(2**31 - 1, 0), likely="carry at 2^31 alone"
)


@fixed_point_multiplier.draw(
    "a shift for each number; round, in float64, as float32 has 24 bits and m0 has 31", dtype=True
)
def any_multipliers(rng):
    """One number or an array of any shape, float32 or float64, from 2^-32 to 2^30."""
    m = 2 ** rng.uniform(-31, 29, rng.integers(1, 5, rng.integers(0, 4)))
    m = np.where(rng.random(np.shape(m)) < 0.2, np.nextafter(2 ** np.rint(np.log2(m)), 0), m)
    return given(m.astype(rng.choice(["float32", "float64"])) if np.ndim(m) else float(m))


@exercise(
    section="6. The way back to 8 bits",
    difficulty=3,
    size="twelve lines",
    task="out_dtype comes as text; no floats are needed; no bad input.",
)
def requantize_fixed_point(acc, m0, shift, zero_point, *, out_dtype):  # int32 [..., N] -> codes [..., N]
    """Return the codes of sums times m0 * 2^-31 * 2^-shift, in integers alone, rounded twice, as gemmlowp does.

    A negative shift multiplies acc by 2^-shift, saturated at the ends of int32. The product with m0 has 64 bits;
    divided by 2^31 it is rounded, halves upward. A positive shift then divides by 2^shift, rounded, halves away from
    zero. The zero point comes last, and what lies outside of the dtype gets its nearest end. m0 and shift are numbers,
    or one for each index of the last axis.

    >>> requantize_fixed_point(np.array([-3, -2, 2, 3], np.int32), 2**30, 1, 10, out_dtype="int8")  # times 1/4
    array([ 9,  9, 11, 11], dtype=int8)
    """
    return requantization.requantize_fixed_point(acc, m0, shift, zero_point, out_dtype=np.dtype(out_dtype))


requantize_fixed_point.case(
    "The first rounding, by 2^31, sends halves upwards: -0.5 to 0, 0.5 to 1.",
    np.array([-5, -3, -2, -1, 1, 2, 3, 5], np.int32),
    2**30,
    0,
    0,
    out_dtype="int8",
    gives=[-2, -1, -1, 0, 1, 1, 2, 3],
    likely="floor(acc * m0 / 2^31 + 1/2): add 2^30, then >> 31; int32 * int32 wraps, convert acc to int64",
)
requantize_fixed_point.case(
    "The second rounding, by 2^shift, sends halves away from zero: -0.5 to -1, 0.5 to 1.",
    np.array([-12, -8, -4, 4, 8, 12], np.int32),
    2**30,
    2,
    0,
    out_dtype="int8",
    gives=[-2, -1, -1, 1, 1, 2],
    likely="round |high|, then put the sign back; floor(high / 2^shift + 1/2) sends -0.5 to 0",
)
requantize_fixed_point.case(
    "What the first rounding makes a half, the second rounds away from zero: 1 * 0.25 becomes 1.",
    np.array([-3, -1, 1, 2, 5], np.int32),
    2**30,
    1,
    0,
    out_dtype="int8",
    gives=[-1, 0, 1, 1, 2],
    likely="two roundings, not one: first 0.5, rounded 1, then 0.5, rounded 1",
)
requantize_fixed_point.case(
    "What the shift to the left pushes out of int32 stays at its end, and so does the code.",
    np.array([1001, -1001, 3, -3, 0], np.int32),
    2**30,
    -30,
    0,
    out_dtype="int16",
    gives=[32767, -32768, 32767, -32768, 0],
    likely="in int64, then np.clip to int32's ends, before the product",
)
requantize_fixed_point.case(
    "A product of 62 bits, just below a half: a float64 has 53 bits and rounds it up.",
    np.array([1_872_146_611], np.int32),
    1_201_963_397,
    17,
    0,
    out_dtype="int16",
    gives=[7994],
    likely="multiply int64 integers, and shift with >>",
)


@requantize_fixed_point.draw(
    "each column has its own multiplier and its own shift, to the left or to the right", dtype=True
)
def any_columns(rng):
    """Sums of every size in arrays of one to four axes, shifts from -30 to 31, every dtype."""
    shape = tuple(rng.integers(1, 6, rng.integers(1, 5)))
    size = 2 ** int(rng.integers(4, 32))
    acc = rng.integers(-size, size, shape).clip(-(2**31), 2**31 - 1).astype(np.int32)
    many = shape[-1] if rng.random() < 0.6 else None
    m0 = np.where(rng.random(many) < 0.2, 2**31 - 1, rng.integers(2**30, 2**31, many)).astype(np.int32)
    shift = rng.integers(*((-30, 32) if rng.random() < 0.4 else (0, 16)), many)
    dtype = str(rng.choice(["int8", "uint8", "int16"]))
    return given(
        acc, m0 if many else int(m0), np.int32(shift) if many else int(shift), int(rng.integers(99)), out_dtype=dtype
    )


@requantize_fixed_point.unlocked("LeNet-5 without a float, as on a chip that has none, every code of it rounded by you")
def rounds_without_floats(function):
    def as_text(acc, m0, shift, zero_point, *, out_dtype):
        return function(acc, m0, shift, zero_point, out_dtype=np.dtype(out_dtype).name)

    data = load_mnist()
    images, labels = data.test_images[:500], data.test_labels[:500]
    network = integer_network(trained("lenet_5"), data.train_images[:1000], arithmetic="fixed_point")
    right = network.trace(network.quantize_input(images))
    with in_place_of(requantization.requantize_fixed_point, as_text):
        own = network.trace(network.quantize_input(images))
    differ, count = sum(np.count_nonzero(a != b) for a, b in zip(own, right, strict=True)), sum(a.size for a in right)
    wrong = np.count_nonzero(own[-1].argmax(axis=1) != labels)
    return (
        f"LeNet-5 in integers, every code rounded by your function: {wrong} of 500 test images misread\n"
        f"Of the {count:,} integers that leave its layers, {differ:,} differ from nnzip's."
    )
