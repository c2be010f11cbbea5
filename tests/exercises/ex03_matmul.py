"""Chapter 03: the exercises and what grades them."""

import time
from fractions import Fraction
from functools import partial
from itertools import pairwise
from math import floor

import numpy as np

from nnzip import matmul, requantization
from nnzip.book.exercises import in_place_of
from nnzip.book.grading import Exercise, Wrong, expect
from nnzip.compression.integer import IntegerLayer, integer_network
from nnzip.data import load_mnist
from nnzip.nn.zoo import trained

IMAGES = 500  # test images that pass through the unlocked networks


def _run(network, arithmetic, product=None):
    data = load_mnist()
    integer = integer_network(trained(network), data.train_images[:1000], arithmetic=arithmetic)
    for layer in integer.layers:
        if product and isinstance(layer, IntegerLayer):
            layer.accumulate = partial(_sums, layer, product)
    return integer.trace(integer.quantize_input(data.test_images[:IMAGES]))


def _sums(layer, product, codes):  # uint8 [N, in] or [N, C, H, W] -> int32 [N, out] or [N, O, H', W']
    """Do as an integer layer does, its products by a student's function; the LeNets have no padding."""
    matrix, zero_point = layer.weight.reshape(len(layer.weight), -1).T, int(layer.input.zero_point)
    if layer.weight.ndim == 2:
        return product(codes, matrix, zero_point) + layer.bias
    view = np.lib.stride_tricks.sliding_window_view(codes, layer.weight.shape[2:], axis=(2, 3))  # [N, C, H', W', k, k]
    N, _, H, W = view.shape[:4]
    rows = view.transpose(0, 2, 3, 1, 4, 5).reshape(N * H * W, -1)
    return (product(rows, matrix, zero_point) + layer.bias).reshape(N, H, W, -1).transpose(0, 3, 1, 2)


def _in_network(network, reference, function, name, *, arithmetic="float_scale", product=None):
    """Say how an integer network does with a function in the place of nnzip's own."""
    right, labels = _run(network, arithmetic), load_mnist().test_labels[:IMAGES]
    start = time.perf_counter()
    with in_place_of(reference, function):
        own = _run(network, arithmetic, product)
    seconds = time.perf_counter() - start
    wrong, theirs = (np.count_nonzero(outputs[-1].argmax(axis=1) != labels) for outputs in (own, right))
    differ = sum(np.count_nonzero(a != b) for a, b in zip(own, right, strict=True))
    return (
        f"{network} in integers, with your {name}: {wrong} of {IMAGES} test images misread ({theirs} with nnzip's)\n"
        f"Of the {sum(output.size for output in right):,} integers that leave its layers, {differ:,} differ from "
        f"nnzip's. It took {seconds:.1f} s."
    )


def int8_matmul(a, b, *, a_zero_point=0, b_zero_point=0):  # [M, K], [K, N] -> int32 [M, N]
    """Return the exact product of two matrices of 8-bit codes, int8 or uint8, with their zero points.

        y[m, n] = sum_k (a[m, k] - a_zero_point) (b[k, n] - b_zero_point)

    Either zero point is one integer, or as many as there are rows of a (M,) or columns of b (N,).

    Examples
    --------
    >>> int8_matmul(np.array([[100, 100]], np.uint8), np.array([[100], [-28]], np.int8), a_zero_point=10)
    array([[6480]], dtype=int32)
    """
    return matmul.int8_matmul(a, b, a_zero_point=a_zero_point, b_zero_point=b_zero_point)


def _product(a, b, a_zero_points, b_zero_points):
    """The product in Python's integers, which cannot wrap; the zero points are lists, one for each row or column."""
    rows = [[code - zero for code in row] for row, zero in zip(a.tolist(), a_zero_points, strict=True)]
    columns = [[code - zero for code in column] for column, zero in zip(b.T.tolist(), b_zero_points, strict=True)]
    return [[sum(x * y for x, y in zip(row, column, strict=True)) for column in columns] for row in rows]


product = Exercise(
    int8_matmul,
    section="4. Zero points, without touching a code",
    difficulty=1,
    size="three lines",
    task="It need not be fast. The sums of the graded products all fit int32.",
    unlocks="the MLP in integers, every product of it yours",
)


@product.check
def sums_of_products(int8_matmul):
    """Without zero points it is the matrix product."""
    a, b = np.array([[1, 2, 3]], np.int8), np.array([[1, 0], [10, -1], [20, 5]], np.int8)
    expect(int8_matmul(a, b), [[81, 13]], "1 * 1 + 2 * 10 + 3 * 20, and 2 * -1 + 3 * 5")


@product.check
def no_wrap(int8_matmul):
    """127 times 127 is 16129, which no int8 holds."""
    a, b = np.array([[127, 127], [-128, -128]], np.int8), np.array([[127], [127]], np.int8)
    expect(int8_matmul(a, b), [[32258], [-32512]], "int8 @ int8 stays int8 and wraps: convert both to int32 first")
    a, b = np.full((1, 300), 255, np.uint8), np.full((300, 1), 255, np.uint8)
    expect(int8_matmul(a, b), [[300 * 255 * 255]], "300 * 255 * 255 passes int16, and is no float32 either: use int32")


@product.check
def zero_points_come_off_first(int8_matmul):
    """Each code has its zero point taken off before the products are made."""
    a, b = np.array([[12, 15]], np.uint8), np.array([[3], [5]], np.int8)
    expect(int8_matmul(a, b, a_zero_point=10), [[31]], "(12 - 10) * 3 + (15 - 10) * 5")
    expect(int8_matmul(a, b, b_zero_point=4), [[3]], "b has a zero point too: 12 * (3 - 4) + 15 * (5 - 4)")


@product.check
def both_zero_points(int8_matmul):
    """With both there are four terms, K times both zero points among them."""
    a, b = np.array([[12, 15], [10, 20]], np.uint8), np.array([[3], [5]], np.int8)
    likely = "multiplied out: a @ b - z_a sum_k b - z_b sum_k a + K z_a z_b"
    expect(int8_matmul(a, b, a_zero_point=10, b_zero_point=4), [[2 * -1 + 5 * 1], [0 * -1 + 10 * 1]], likely)


@product.check
def differences_of_nine_bits(int8_matmul):
    """A code less its zero point lies between -255 and 255: more than 8 bits hold."""
    a, b = np.array([[-128, 127], [0, 255]], np.int16), np.array([[-128, 127], [127, -128]], np.int8)
    likely = "code and zero point have 8 bits, their difference has 9: convert to int32 before you subtract"
    expect(int8_matmul(np.array([[9]], np.uint8), np.array([[5]], np.int8), a_zero_point=10), [[-5]], likely)
    got = int8_matmul(a[:1].astype(np.int8), b, a_zero_point=127, b_zero_point=-128)
    expect(got, [[0, -255 * 255]], likely)
    got = int8_matmul(a[1:].astype(np.uint8), b, a_zero_point=np.uint8(128), b_zero_point=np.int8(127))
    expect(got, [[-128 * -255, 127 * -255]], likely)


@product.check
def one_for_each_row_or_column(int8_matmul):
    """Zero points may differ from row to row of a and from column to column of b."""
    a, b = np.array([[5, 6], [5, 6]], np.uint8), np.array([[1, 1], [2, 2]], np.int8)
    got = int8_matmul(a, b, a_zero_point=np.array([0, 5]))
    expect(got, [[17, 17], [2, 2]], "shape (M,) must become (M, 1): NumPy would line it up with the columns")
    got = int8_matmul(a, b, b_zero_point=np.array([0, 1]))
    expect(got, [[17, 6], [17, 6]], "b's belong to its columns")


@product.check
def against_python(int8_matmul):
    """Matrices of extreme codes, of every pair of dtypes, worked out in Python's integers."""
    rng = np.random.default_rng(3)
    for left, right in ((np.int8, np.int8), (np.uint8, np.int8), (np.uint8, np.uint8), (np.int8, np.uint8)):
        low, high = (np.iinfo(left).min, np.iinfo(right).min), (np.iinfo(left).max, np.iinfo(right).max)
        a, b = rng.choice([low[0], high[0]], (3, 41)).astype(left), rng.choice([low[1], high[1]], (41, 5)).astype(right)
        zero_a, zero_b = rng.integers(low[0], high[0] + 1, 3), rng.integers(low[1], high[1] + 1, 5)
        exact = _product(a, b, zero_a.tolist(), zero_b.tolist())
        expect(int8_matmul(a, b, a_zero_point=zero_a, b_zero_point=zero_b), exact)


@product.check
def one_number(int8_matmul):
    """One row, one column, K = 1."""
    expect(int8_matmul(np.array([[-128]], np.int8), np.array([[255]], np.uint8), b_zero_point=255), [[0]])


@product.check
def as_int32(int8_matmul):
    """The sums are int32."""
    a, b = np.array([[1, 2]], np.uint8), np.array([[3], [4]], np.int8)
    expect(int8_matmul(a, b), [[11]], dtype=np.int32)
    expect(int8_matmul(a, b, a_zero_point=1, b_zero_point=np.array([4])), [[0]], dtype=np.int32)


@product.unlocked
def multiplies_in_the_mlp(function):
    def product(codes, matrix, zero_point):
        return function(codes, matrix, a_zero_point=zero_point)

    return _in_network("lenet_300_100", matmul.int8_matmul, function, "int8_matmul", product=product)


depth = Exercise(
    matmul.exact_depth,
    section="3. A float that is an integer",
    difficulty=2,
    size="six lines",
    task="b comes as an array, a_dtype as text, 'int8' or 'uint8'; bad input is not graded.",
    unlocks="the layers of both LeNets cut into blocks as your function says, multiplied in float32, and counted",
)


@depth.check
def by_hand(exact_depth):
    """It is the number of rows whose 128 sum |b| (int8 inputs) or 255 sum b (uint8 inputs) is at most 2^24."""
    likely = "2^24 / (128 * 127) = 1032.06: an int8 input can be -128; np.cumsum down the rows, then count"
    expect(exact_depth("int8", np.full((2000, 1), 127, np.int8)), 1032, likely)
    expect(
        exact_depth("uint8", np.full((300, 1), 255, np.uint8)), 258, "an uint8 input can be 255: 2^24 / 255^2 = 258.01"
    )


@depth.check
def the_end_included(exact_depth):
    """2048 products of -128 by 64 are 2^24, which is still a float32."""
    expect(exact_depth("int8", np.full((3000, 2), 64, np.int8)), 2048, "at most 2^24, not below it")


@depth.check
def all_rows_fit(exact_depth):
    """If no sum can pass 2^24, the answer is K, the number of rows."""
    expect(exact_depth("int8", np.ones((50, 3), np.int8)), 50, "never more than b has")
    expect(exact_depth("uint8", np.zeros((7, 2), np.int8)), 7, "weights of 0 add nothing")
    expect(exact_depth("uint8", np.array([[127]], np.int8)), 1)


@depth.check
def signs_for_unsigned_inputs(exact_depth):
    """An uint8 input is never negative, so weights of the other sign only take away: the larger side counts."""
    b = np.tile(np.array([[127], [-127]], np.int8), (1000, 1))
    likely = "255 times the larger of the positive and the negative sum: not their total, not their difference"
    expect(exact_depth("uint8", b), 1036, likely)
    expect(exact_depth("uint8", -b), 1036, likely)


@depth.check
def signs_for_signed_inputs(exact_depth):
    """An int8 input takes the weight's sign, so for it all weights count by their magnitude."""
    b = np.tile(np.array([[127], [-127]], np.int8), (1000, 1))
    expect(exact_depth("int8", b), 1032, "128 sum |b|: an input can be negative where the weight is")


@depth.check
def the_worst_column(exact_depth):
    """The column that is full first decides, whichever it is."""
    b = np.ones((1500, 4), np.int8)
    b[:, 2] = -128
    expect(exact_depth("int8", b), 1024, "np.max over the columns")
    b[:, 2], b[400:, 3] = 1, 127  # 128 (400 + 127 n) <= 2^24 up to n = 1028
    expect(exact_depth("int8", b), 1428, "the running sum of each column: np.cumsum over the rows")


@depth.check
def magnitude_of_the_lowest_code(exact_depth):
    """The magnitude of -128 is 128, not -128."""
    b = np.full((1030, 2), -128, np.int8)
    expect(
        exact_depth("uint8", b), 514, "np.abs and - of an int8 -128 are -128 again: convert first; 2^24 / (255 * 128)"
    )


@depth.check
def small_weights_last_longer(exact_depth):
    """With real weights, mostly small, the sum of what is there counts, not the largest."""
    b = np.full((1200, 1), 1, np.int8)
    b[0] = 127
    expect(exact_depth("uint8", b), 1200, "2^24 / (255 max|b|) is the worst case; here the weights are known")


@depth.check
def against_running_sums(exact_depth):
    """Random weights, their sums followed row by row in Python's integers."""
    rng = np.random.default_rng(5)
    for weights in (rng.integers(-128, 128, (3000, 3), np.int8), rng.integers(0, 256, (1500, 3), np.uint8)):
        for a_dtype in ("int8", "uint8"):
            expect(exact_depth(a_dtype, weights), min(_full(a_dtype, column) for column in weights.T.tolist()))


def _full(a_dtype, column):
    positive = negative = 0
    for k, weight in enumerate(column):
        positive, negative = positive + max(weight, 0), negative + max(-weight, 0)
        if (128 * (positive + negative) if a_dtype == "int8" else 255 * max(positive, negative)) > 2**24:
            return k
    return len(column)


@depth.unlocked
def cuts_the_layers(exact_depth):
    lines = ["sums that differ from the exact ones, of the largest inputs there are:"]
    for network in ("lenet_300_100", "lenet_5"):
        integer = integer_network(trained(network), load_mnist().train_images[:1000])
        for layer in (layer for layer in integer.layers if isinstance(layer, IntegerLayer)):
            b = layer.weight.reshape(len(layer.weight), -1).T  # [K, out]
            lines.append(f"{network}, weight {layer.weight.shape}: {_in_blocks(exact_depth, b)}")
    lines.append(f"the last one sixty times over: {_in_blocks(exact_depth, np.tile(b, (60, 1)))}")
    return "\n".join(lines)


def _in_blocks(exact_depth, b):
    a = np.concatenate([255 * (b.T > 0), 255 * (b.T < 0)]).astype(np.uint8)  # the worst for each column
    edges = [0]
    while edges[-1] < len(b):
        edges.append(edges[-1] + max(1, exact_depth("uint8", b[edges[-1] :])))
    blocks = [a[:, i:j].astype(np.float32) @ b[i:j].astype(np.float32) for i, j in pairwise(edges)]
    exact = a.astype(np.int64) @ b.astype(np.int64)
    wrong = np.count_nonzero(sum(block.astype(np.int64) for block in blocks) != exact)
    cuts = ", ".join(map(str, edges[1:-1])) or "nowhere"
    return f"K = {len(b):,}, cut at {cuts}, {wrong} of {exact.size:,}"


def fast_int8_matmul(a, b):  # int8 or uint8 [M, K], [K, N] -> int32 [M, N]
    """Return the exact product of two matrices of 8-bit codes about as fast as a product of floats.

        y[m, n] = sum_k a[m, k] b[k, n]

    NumPy has fast products for floats only. float32 holds every integer up to 2^24, float64 up to 2^53.

    Examples
    --------
    >>> fast_int8_matmul(np.full((1, 259), 255, np.uint8), np.full((259, 1), 255, np.uint8))
    array([[16841475]], dtype=int32)
    """
    return matmul.int8_matmul(a, b)


fast = Exercise(
    fast_int8_matmul,
    section="3. A float that is an integer",
    difficulty=2,
    size="six lines",
    task="Graded with sums that fit int32. int32 @ int32 is exact and does not pass: it takes fifty times as long.",
    unlocks="LeNet-5 in integers, every product of it yours, with the time it takes",
)


@fast.check
def small_products(fast_int8_matmul):
    """It is the matrix product."""
    a, b = np.array([[1, -2, 3], [127, 127, 127]], np.int8), np.array([[127, 0], [-128, 1], [2, 5]], np.int8)
    likely = "8-bit codes multiplied as they are wrap; of blocks, one that is not full counts too"
    expect(fast_int8_matmul(a, b), [[127 + 256 + 6, 13], [127, 762]], likely)


@fast.check
def every_depth(fast_int8_matmul):
    """K may be anything: the last block is whatever is left, and may be the only one."""
    for K in (1, 2, 127, 128, 129, 255, 256, 257, 258, 511, 512, 513, 1023, 1024, 1025, 1031):
        a, b = np.full((1, K), -1, np.int8), np.ones((K, 2), np.int8)
        b[:, 1] = np.arange(K) % 3
        exact = [[-K, -sum(k % 3 for k in range(K))]]
        expect(
            fast_int8_matmul(a, b), exact, f"K = {K}: every block there, the last one too, and nothing counted twice"
        )


@fast.check
def every_pair_of_dtypes(fast_int8_matmul):
    """int8 and uint8 in any pair, extreme codes, worked out in Python's integers."""
    rng = np.random.default_rng(8)
    for left, right in ((np.int8, np.int8), (np.uint8, np.int8), (np.uint8, np.uint8), (np.int8, np.uint8)):
        ends = [[np.iinfo(dtype).min, np.iinfo(dtype).max] for dtype in (left, right)]
        a, b = rng.choice(ends[0], (3, 300)).astype(left), rng.choice(ends[1], (300, 4)).astype(right)
        expect(fast_int8_matmul(a, b), _product(a, b, [0] * 3, [0] * 4), "uint8 codes above 127 are no int8")


@fast.check
def beyond_float32(fast_int8_matmul):
    """Sums above 2^24, and odd: there are no such float32 numbers."""
    likely = "float32 ends being exact at 2^24: blocks of K of which no sum can pass it, or float64"
    for K in (259, 1001):
        a = np.full((2, K), 255, np.uint8)
        expect(fast_int8_matmul(a, a.T), np.full((2, 2), K * 255 * 255), likely)
    a, b = np.full((3, 1041), 127, np.int8), np.full((1041, 2), 127, np.int8)
    expect(fast_int8_matmul(a, b), np.full((3, 2), 1041 * 127 * 127), likely)


@fast.check
def unsigned_blocks_are_shorter(fast_int8_matmul):
    """For uint8 codes a block of 1024 is too deep: 2^24 / 255^2 is 258."""
    a, b = np.full((1, 900), 255, np.uint8), np.full((900, 1), 255, np.uint8)
    b[-1] = 254
    likely = "float32 sums of 255 * 255 are exact up to K = 258"
    expect(fast_int8_matmul(a, b), [[899 * 255 * 255 + 255 * 254]], likely)
    expect(fast_int8_matmul(a, (b // 2).astype(np.int8)), [[900 * 255 * 127]], likely)


@fast.check
def deep_products(fast_int8_matmul):
    """Of 30,000 codes the blocks' sum passes 2^24 by far: it has to be added up as integers."""
    K = 30_001
    a, b = np.full((2, K), 255, np.uint8), np.full((K, 1), 255, np.uint8)
    b[::2] = 254
    exact = 255 * sum(b[:, 0].tolist())
    expect(fast_int8_matmul(a, b), [[exact], [exact]], "each block is exact as a float32, their sum is not")


@fast.check
def sums_as_int32(fast_int8_matmul):
    """The sums are int32."""
    expect(fast_int8_matmul(np.array([[1, 2]], np.uint8), np.array([[3], [4]], np.int8)), [[11]], dtype=np.int32)


@fast.check
def as_fast_as_floats(fast_int8_matmul):
    """512 x 2048 x 512 takes a small part of the time of int32 @ int32, and every sum is right."""
    rng = np.random.default_rng(9)
    a, b = rng.integers(100, 128, (512, 2048), np.int8), rng.integers(90, 128, (2048, 512), np.int8)
    some, block = a[:32, :256].astype(np.int32), b[:256].astype(np.int32)  # int32 @ int32 where it is at its best
    start = time.perf_counter()
    some @ block
    by_integers = (time.perf_counter() - start) * 16 * 8
    taken = []
    while (
        len(taken) < 2 and min(taken, default=np.inf) > by_integers / 2
    ):  # the first call may have had to share the CPU
        start = time.perf_counter()
        got = fast_int8_matmul(a, b)
        taken.append(time.perf_counter() - start)
    expect(got, (a.astype(np.float64) @ b.astype(np.float64)).astype(np.int32))  # exact: 2048 * 127^2 is below 2^53
    if min(taken) > by_integers / 2:
        raise Wrong(
            f"took:     {min(taken):.2f} s\nexpected: at most {by_integers / 2:.2f} s\n"
            "likely:   integer products have no fast routine in NumPy, and loops are slower still: multiply floats"
        )


@fast.unlocked
def multiplies_in_lenet_5(fast_int8_matmul):
    def product(codes, matrix, zero_point):
        return fast_int8_matmul(codes, matrix) - zero_point * matrix.sum(axis=0, dtype=np.int32)

    return _in_network("lenet_5", matmul.int8_matmul, fast_int8_matmul, "fast_int8_matmul", product=product)


requantize = Exercise(
    requantization.requantize,
    section="6. The way back to 8 bits",
    difficulty=1,
    size="four lines",
    task="Graded with rounding='half_even'; out_dtype comes as text, such as 'uint8', which np.dtype, np.iinfo and "
    "astype take. Bad input is not graded.",
    unlocks="LeNet-5 in integers, every code of it rounded by you",
)


def _code(total, multiplier, zero_point, low, high):
    """One code: the product of two float32 numbers is exact in Python's float, then rounded once to float32."""
    product = np.float32(float(np.float32(total)) * float(np.float32(multiplier)))
    return min(max(round(float(product)) + zero_point, low), high)  # Python rounds halves to even


@requantize.check
def times_the_multiplier(requantize):
    """A sum is multiplied and rounded, then the zero point is added."""
    acc = np.array([-1000, 0, 1000, 1234], np.int32)
    expect(
        requantize(acc, 0.01, 100, out_dtype="uint8"),
        [90, 100, 110, 112],
        "-1000 * 0.01 + 100 is 90: the clip comes last",
    )


@requantize.check
def to_nearest(requantize):
    """Every product goes to the nearest integer, halves to the even one."""
    acc = np.array([-7, -6, -5, -3, -2, -1, 1, 2, 3, 5, 6, 7], np.int32)
    likely = "np.rint rounds halves to even; a cast cuts off, floor rounds down"
    expect(requantize(acc, 0.25, 0, out_dtype="int8"), [-2, -2, -1, -1, 0, 0, 0, 0, 1, 1, 2, 2], likely)
    expect(requantize(acc[3:9], 0.5, 0, out_dtype="int8"), [-2, -1, 0, 0, 1, 2], likely)


@requantize.check
def rounded_before_the_zero_point(requantize):
    """The product is rounded, and only then is the zero point added."""
    acc = np.array([-3, -1, 1, 3], np.int32)
    expect(requantize(acc, 0.5, 3, out_dtype="int8"), [1, 3, 3, 5], "rint(0.5) + 3 is 3, rint(0.5 + 3) is 4")


@requantize.check
def clipped_before_the_cast(requantize):
    """What lies outside the dtype gets its last code: clip first, then cast."""
    acc = np.array([-300, -1, 256, 300, 2**31 - 1, -(2**31)], np.int32)
    likely = "a cast wraps 300 to 44: clip to np.iinfo(out_dtype) first"
    expect(requantize(acc, 1.0, 0, out_dtype="uint8"), [0, 0, 255, 255, 255, 0], likely)
    expect(requantize(acc, 1000.0, 0, out_dtype="int8"), [-128, -128, 127, 127, 127, -128], likely)


@requantize.check
def clipped_after_the_zero_point(requantize):
    """It is the code with its zero point that must lie in the dtype."""
    acc = np.array([-140, -20, 20, 140, 250], np.int32)
    expect(requantize(acc, 1.0, 128, out_dtype="uint8"), [0, 108, 148, 255, 255], "add the zero point, then clip")
    expect(requantize(acc, 1.0, -100, out_dtype="int8"), [-128, -120, -80, 40, 127], "add the zero point, then clip")


@requantize.check
def every_dtype(requantize):
    """The ends of int8, uint8, int16 and uint16 are the limits."""
    acc = np.array([-(10**6), 10**6], np.int32)
    for dtype in ("int8", "uint8", "int16", "uint16"):
        ends = [np.iinfo(dtype).min, np.iinfo(dtype).max]
        expect(requantize(acc, 1.0, 5, out_dtype=dtype), ends, "np.iinfo(out_dtype).min and .max", dtype=dtype)


@requantize.check
def a_multiplier_for_each_column(requantize):
    """Multipliers of shape (N,) belong to the last axis, whatever stands before it."""
    multiplier = np.array([0.5, 1.0, 0.1], np.float32)
    acc = np.array([[10, 10, 10], [-20, -20, -20]], np.int32)
    expect(requantize(acc, multiplier, 20, out_dtype="uint8"), [[25, 30, 21], [10, 0, 18]])
    images = np.arange(12, dtype=np.int32).reshape(2, 1, 2, 3) * 4
    right = [[[[0, 4, 1], [6, 16, 2]]], [[[12, 28, 3], [18, 40, 4]]]]
    expect(requantize(images, multiplier, 0, out_dtype="int8"), right)


@requantize.check
def multiplied_as_float32(requantize):
    """Sum and multiplier are float32, and so is their product: in float64 other codes come out near a tie."""
    acc = np.arange(-6000, 6001, 3, dtype=np.int32)
    multiplier = np.float32(0.07) * np.float32(0.03) / np.float32(0.21)
    right = [_code(total, multiplier, 0, -128, 127) for total in acc.tolist()]
    likely = "convert acc and multiplier to float32 before the product, as ONNX Runtime does"
    expect(requantize(acc, multiplier, 0, out_dtype="int8"), right, likely)
    expect(requantize(acc, float(multiplier), 0, out_dtype="int8"), right, likely)


@requantize.check
def sum_by_sum(requantize):
    """1,000 random sums, worked out one by one."""
    rng = np.random.default_rng(6)
    acc, multiplier = rng.integers(-60_000, 60_000, (250, 4), np.int32), rng.uniform(1e-4, 5e-3, 4).astype(np.float32)
    right = [[_code(t, m, 117, 0, 255) for t, m in zip(row, multiplier, strict=True)] for row in acc.tolist()]
    expect(requantize(acc, multiplier, 117, out_dtype="uint8"), right)


@requantize.unlocked
def rounds_in_lenet_5(requantize):
    def as_text(acc, multiplier, zero_point, *, out_dtype):
        return requantize(acc, multiplier, zero_point, out_dtype=np.dtype(out_dtype).name)

    return _in_network("lenet_5", requantization.requantize, as_text, "requantize")


fixed_point = Exercise(
    requantization.fixed_point_multiplier,
    section="6. The way back to 8 bits",
    difficulty=2,
    size="six lines",
    task="np.frexp is a good beginning. Bad input is not graded.",
    unlocks="LeNet-5 without a float, its multipliers taken apart by you",
)


def _taken_apart(m):
    """(m0, shift) of one number, in fractions."""
    exact, shift = Fraction(float(m)), 0
    while exact * 2 ** (31 + shift) < 2**30:
        shift += 1
    while exact * Fraction(2) ** (31 + shift) >= 2**31:
        shift -= 1
    m0 = floor(exact * Fraction(2) ** (31 + shift) + Fraction(1, 2))
    return (m0, shift) if m0 < 2**31 else (2**30, shift - 1)


@fixed_point.check
def a_fraction_and_a_shift(fixed_point_multiplier):
    """m = m0 * 2^-31 * 2^-shift, with m0 from 2^30 to 2^31 - 1."""
    expect(fixed_point_multiplier(0.75), (3 * 2**29, 0), "0.75 * 2^31 lies in the range as it is: no shift")
    expect(fixed_point_multiplier(0.5), (2**30, 0), "2^30 is in the range, 2^31 is not")
    expect(fixed_point_multiplier(0.1875), (3 * 2**29, 2), "0.1875 = 0.75 * 2^-2: a shift to the right by 2")


@fixed_point.check
def from_one_on(fixed_point_multiplier):
    """A multiplier of 1 or more has a negative shift, to the left."""
    expect(fixed_point_multiplier(1.0), (2**30, -1), "1 = 2^30 * 2^-31 * 2^1: shift is -1")
    expect(fixed_point_multiplier(6.0), (3 * 2**29, -3), "6 = 0.75 * 2^3: shift is -3")


@fixed_point.check
def to_the_nearest(fixed_point_multiplier):
    """m0 is rounded to the nearest integer."""
    for m in (1 / 3, 0.1, 2 / 3, 1e-5, 0.00123, 5.4321):
        expect(
            fixed_point_multiplier(m),
            _taken_apart(m),
            "int() cuts off: round; and compute in float64, as float32 has 24 bits and m0 has 31",
        )


@fixed_point.check
def the_carry(fixed_point_multiplier):
    """Just below a power of two m0 rounds up to 2^31, which no int32 holds: it is halved and the shift one less."""
    for m in (np.nextafter(1.0, 0.0), np.nextafter(0.25, 0.0), 1 - 2.0**-33):
        got = fixed_point_multiplier(float(m))
        expect(got, _taken_apart(m), "m0 = 2^31 becomes 2^30, and shift becomes shift - 1")


@fixed_point.check
def no_carry_too_soon(fixed_point_multiplier):
    """2^31 - 1 is the largest m0 and stays."""
    m = (2**31 - 1) / 2**31
    expect(fixed_point_multiplier(m), (2**31 - 1, 0), "carry only at 2^31 itself; float32 has too few bits for this m0")


@fixed_point.check
def arrays(fixed_point_multiplier):
    """An array gives two int32 arrays of its shape, each number with its own shift."""
    m = np.array([[0.75, 0.1875, 6.0], [np.nextafter(1.0, 0.0), 0.1, 1e-7]])
    pairs = [[_taken_apart(value) for value in row] for row in m]
    right = tuple(np.array([[pair[part] for pair in row] for row in pairs]) for part in (0, 1))
    expect(fixed_point_multiplier(m), right, "a shift for each number; the carry where it is needed only")
    expect(fixed_point_multiplier(m[0, :1]), (right[0][0, :1], right[1][0, :1]), "an array of one stays an array")
    expect(fixed_point_multiplier(m), right, "both fit int32, and that is what the chip has", dtype=np.int32)


@fixed_point.check
def float32_multipliers(fixed_point_multiplier):
    """A float32 multiplier comes back without a loss: its 24 bits fit into m0."""
    m = np.random.default_rng(4).uniform(1e-4, 2, 50).astype(np.float32)
    m0, shift = fixed_point_multiplier(m)
    back = [float(Fraction(int(a)) / Fraction(2) ** (31 + int(b))) for a, b in zip(m0, shift, strict=True)]
    expect(back, m.astype(np.float64), "m0 * 2^-31 * 2^-shift must be m itself")
    expect((m0, shift), tuple(np.array([_taken_apart(value) for value in m]).T), "m0 must be from 2^30 to 2^31 - 1")


@fixed_point.check
def the_range(fixed_point_multiplier):
    """From 2^-32 to below 2^30."""
    expect(fixed_point_multiplier(2.0**-32), (2**30, 31))
    expect(fixed_point_multiplier(2.0**30 - 1), _taken_apart(2.0**30 - 1))


@fixed_point.unlocked
def takes_multipliers_apart(function):
    reference = requantization.fixed_point_multiplier
    return _in_network("lenet_5", reference, function, "fixed_point_multiplier", arithmetic="fixed_point")


gemmlowp = Exercise(
    requantization.requantize_fixed_point,
    section="6. The way back to 8 bits",
    difficulty=3,
    size="twelve lines",
    task="Graded with double_rounding=True, m0 and shift as numbers or of shape (N,); out_dtype comes as text, such as "
    "'int8'. No floats are needed. Bad input is not graded.",
    unlocks="LeNet-5 without a float, as on a chip that has none, every code of it rounded by you",
)


def _steps(total, m0, shift):
    """Both roundings of one sum, in fractions: the first ties upwards, the second away from zero."""
    saturated = min(max(total * 2 ** max(-shift, 0), -(2**31)), 2**31 - 1)
    high = floor(Fraction(saturated * m0, 2**31) + Fraction(1, 2))
    size = floor(Fraction(abs(high), 2 ** max(shift, 0)) + Fraction(1, 2))
    return size if high > 0 else -size


@gemmlowp.check
def whole_steps(requantize_fixed_point):
    """Where nothing is rounded it is acc * m0 * 2^-31 * 2^-shift + zero_point."""
    acc = np.array([-8, 0, 4, 40], np.int32)
    likely = "m0 = 2^30 and shift = 1 are 2^30 * 2^-31 * 2^-1 = 1/4; the product needs int64, the zero point comes last"
    expect(requantize_fixed_point(acc, 2**30, 1, 10, out_dtype="int8"), [8, 10, 11, 20], likely)
    likely = "m0 = 2^30 and shift = 0 are 1/2; -4 + 10 is in uint8, so the clip comes after the zero point"
    expect(requantize_fixed_point(acc, 2**30, 0, 10, out_dtype="uint8"), [6, 10, 12, 30], likely, dtype=np.uint8)


@gemmlowp.check
def sixty_four_bits(requantize_fixed_point):
    """The product of two 32-bit numbers has 64 bits, whatever the dtypes are."""
    acc = np.array([2**20, -(2**20), 2**30, -(2**31)], np.int32)
    likely = "int32 * int32 stays int32 and wraps: convert acc to int64 first"
    m0, shift = np.array([3 * 2**29], np.int32), np.array([14], np.int32)
    expect(requantize_fixed_point(acc[:2], m0, shift, 0, out_dtype="int16"), [48, -48], likely)
    expect(requantize_fixed_point(acc, 3 * 2**29, 25, 0, out_dtype="int8"), [0, 0, 24, -48], likely)


@gemmlowp.check
def first_rounding_ties_up(requantize_fixed_point):
    """The first rounding, by 2^31, sends ties upwards: -0.5 to 0, 0.5 to 1."""
    acc = np.array([-5, -3, -2, -1, 1, 2, 3, 5], np.int32)
    likely = "floor(acc * m0 / 2^31 + 1/2): add 2^30, then >> 31"
    expect(requantize_fixed_point(acc, 2**30, 0, 0, out_dtype="int8"), [-2, -1, -1, 0, 1, 1, 2, 3], likely)


@gemmlowp.check
def second_rounding_ties_away(requantize_fixed_point):
    """The second rounding, by 2^shift, sends ties away from zero: -0.5 to -1, 0.5 to 1."""
    acc = np.array([-12, -8, -4, 4, 8, 12], np.int32)
    likely = "round |high|, then put the sign back; floor(high / 2^shift + 1/2) sends -0.5 to 0"
    expect(requantize_fixed_point(acc, 2**30, 2, 0, out_dtype="int8"), [-2, -1, -1, 1, 1, 2], likely)


@gemmlowp.check
def rounded_twice(requantize_fixed_point):
    """What the first rounding makes a tie, the second rounds away from zero, although the real product is below one."""
    acc = np.array([-7, -6, -5, -3, -2, -1, 1, 2, 3, 5, 6, 7], np.int32)
    right = [-2, -2, -1, -1, -1, 0, 1, 1, 1, 2, 2, 2]
    likely = "two roundings, not one: 1 * 0.25 becomes first 0.5, rounded 1, then 0.5, rounded 1"
    expect(requantize_fixed_point(acc, 2**30, 1, 0, out_dtype="int8"), right, likely)


@gemmlowp.check
def shift_of_zero(requantize_fixed_point):
    """With a shift of 0 there is no second rounding."""
    acc = np.arange(-9, 10, dtype=np.int32)
    right = [_steps(total, 2**31 - 1, 0) for total in acc.tolist()]
    expect(requantize_fixed_point(acc, 2**31 - 1, 0, 0, out_dtype="int8"), right, "1 << (shift - 1) fails for shift 0")


@gemmlowp.check
def negative_shifts(requantize_fixed_point):
    """A negative shift multiplies acc by 2^-shift, before the product."""
    acc = np.array([-5, -1, 0, 3, 7], np.int32)
    likely = "m = 3 is m0 = 3 * 2^29 and shift = -2: acc << 2 first"
    expect(requantize_fixed_point(acc, 3 * 2**29, -2, 1, out_dtype="int8"), [-14, -2, 1, 10, 22], likely)


@gemmlowp.check
def saturated_before_the_product(requantize_fixed_point):
    """What the shift to the left pushes out of int32 stays at its end, and so does the code."""
    acc = np.array([2**30, -(2**30), 2**31 - 1, 3], np.int32)
    likely = "in int64, then np.clip to int32's ends; int32 << 2 wraps to 0"
    expect(requantize_fixed_point(acc, 2**30, -2, 0, out_dtype="int8"), [127, -128, 127, 6], likely)
    acc = np.array([1000, -1000, 3, -3], np.int32)
    expect(requantize_fixed_point(acc, 2**30, -30, 0, out_dtype="int16"), [32767, -32768, 32767, -32768], likely)


@gemmlowp.check
def zero_point_clip_cast(requantize_fixed_point):
    """Zero point, clip, cast, in this order."""
    acc = np.array([-600, -300, 0, 200, 300, 600], np.int32)
    likely = "the zero point first, then the clip, the cast last"
    expect(requantize_fixed_point(acc, 2**30, 0, 128, out_dtype="uint8"), [0, 0, 128, 228, 255, 255], likely)
    expect(requantize_fixed_point(acc, 2**30, 0, -20, out_dtype="int8"), [-128, -128, -20, 80, 127, 127], likely)


@gemmlowp.check
def one_for_each_column(requantize_fixed_point):
    """Each column has its own multiplier and its own shift, to the left or to the right."""
    m0, shift = np.array([2**30, 3 * 2**29, 2**31 - 1], np.int32), np.array([1, -2, 0], np.int32)
    acc = np.array([[-6, -5, 4], [7, 11, -4]], np.int32)
    right = [
        [_steps(t, a, b) for t, a, b in zip(row, m0.tolist(), shift.tolist(), strict=True)] for row in acc.tolist()
    ]
    expect(requantize_fixed_point(acc, m0, shift, 0, out_dtype="int8"), right)
    expect(requantize_fixed_point(acc[:, None], m0, shift, 0, out_dtype="int8"), [[row] for row in right])


@gemmlowp.check
def no_floats(requantize_fixed_point):
    """A product of 62 bits, just below a tie: a float64 has 53 bits and rounds it up."""
    acc, m0, shift = np.array([1_872_146_611], np.int32), 1_201_963_397, 17
    likely = "multiply int64 integers, and shift with >>: a float64 does not hold the product"
    expect(requantize_fixed_point(acc, m0, shift, 0, out_dtype="int16"), [_steps(int(acc[0]), m0, shift)], likely)


@gemmlowp.check
def against_fractions(requantize_fixed_point):
    """2,000 random sums, worked out in fractions."""
    rng = np.random.default_rng(7)
    acc = rng.integers(-60_000, 60_000, (500, 4), np.int32)
    m0, shift = rng.integers(2**30, 2**31, 4, np.int64).astype(np.int32), np.array([3, 6, 9, 12], np.int32)
    pairs = list(zip(m0.tolist(), shift.tolist(), strict=True))
    right = [[_steps(t, a, b) + 7 for t, (a, b) in zip(row, pairs, strict=True)] for row in acc.tolist()]
    expect(requantize_fixed_point(acc, m0, shift, 7, out_dtype="int16"), np.clip(right, -(2**15), 2**15 - 1))


@gemmlowp.unlocked
def rounds_without_floats(function):
    def as_text(acc, m0, shift, zero_point, *, out_dtype):
        return function(acc, m0, shift, zero_point, out_dtype=np.dtype(out_dtype).name)

    reference = requantization.requantize_fixed_point
    return _in_network("lenet_5", reference, as_text, "requantize_fixed_point", arithmetic="fixed_point")
