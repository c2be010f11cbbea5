"""nnzip.matmul against its definition in int64, on codes and sums at the ends of their ranges."""

import sys
import types
from itertools import pairwise

import numpy as np
import pytest

from nnzip import matmul, matmul_native
from nnzip.matmul import exact_depth, exact_edges, int8_matmul, int8_matmul_by_definition, pack, product_in_blocks

DTYPES = (np.int8, np.uint8)
PAIRS = [(a, b) for a in DTYPES for b in DTYPES]
DEPTHS = dict(zip(PAIRS, (1024, 514, 514, 258), strict=True))  # K up to which float32 is exact for any codes
OVERFLOWS = dict(zip(PAIRS, (131_072, 65_794, 65_794, 33_026), strict=True))  # K that can pass int32
SHAPES = ((1, 1, 1), (3, 2, 4), (1, 300, 70), (9, 7, 1), (64, 784, 30), (513, 65, 17), (5, 2049, 3), (1, 6000, 5))


def extreme(dtype):
    """Return the code farthest from 0."""
    return np.iinfo(dtype).min or np.iinfo(dtype).max


def random_codes(rng, shape, dtype):
    """Return codes over the whole range, half of them at its ends."""
    codes = np.iinfo(dtype)
    inner = rng.integers(codes.min, codes.max, shape, endpoint=True)
    ends = rng.choice([codes.min, codes.max], shape)
    return np.where(rng.random(shape) < 0.5, inner, ends).astype(dtype)


def every_way(a, b, **options):
    """Yield the product by NumPy and by the automatic choice, of b as it is and packed."""
    for backend in ("numpy", "auto"):
        for right in (b, pack(b)):
            yield int8_matmul(a, right, backend=backend, **options)


@pytest.fixture
def fresh_choice():
    """Forget what is known of numkong and of BLAS, before and after."""
    caches = matmul_native._trouble, matmul_native._numkong_is_faster, matmul.float32_is_exact
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


@pytest.mark.parametrize("a_dtype, b_dtype", PAIRS)
def test_any_shape_and_any_zero_points(a_dtype, b_dtype):
    rng = np.random.default_rng(1)
    for M, K, N in (*SHAPES, *rng.integers(1, (10, 2100, 10), (40, 3))):
        a, b = random_codes(rng, (M, K), a_dtype), random_codes(rng, (K, N), b_dtype)
        edges = exact_edges(a_dtype, b)
        np.testing.assert_array_equal(product_in_blocks(a, b, edges), int8_matmul_by_definition(a, b))
        a_zero, b_zero = (random_codes(rng, rng.choice([1, n]), t) for n, t in ((M, a_dtype), (N, b_dtype)))
        expected = int8_matmul_by_definition(a, b, a_zero, b_zero)
        for result in every_way(a, b, a_zero_point=a_zero, b_zero_point=b_zero):
            assert result.dtype == np.int32
            np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("a_dtype, b_dtype", PAIRS)
@pytest.mark.parametrize("K", (1, 2, 257, 258, 259, 514, 515, 1023, 1024, 1025, 2048, 2049, 4097))
def test_all_codes_extreme(a_dtype, b_dtype, K):
    a, b = np.full((2, K), extreme(a_dtype), a_dtype), np.full((K, 3), extreme(b_dtype), b_dtype)
    for result in every_way(a, b):
        assert np.all(result == K * int(extreme(a_dtype)) * int(extreme(b_dtype)))


@pytest.mark.parametrize("a_dtype", DTYPES)
@pytest.mark.parametrize("K", (1032, 2064, 5000))
def test_partial_sums_far_larger_than_the_total(a_dtype, K):
    a = np.full((3, K), extreme(a_dtype), a_dtype)
    a[1, ::3] = 101  # odd numbers, which no float32 beyond 2^24 keeps
    columns = np.full((K, 3), 127, np.int8)
    columns[K // 2 :, 0] = -127  # first up, then down
    columns[1::2, 1] = -127  # up and down
    columns[: K // 2, 2] = -127
    for result in every_way(a, columns):
        np.testing.assert_array_equal(result, int8_matmul_by_definition(a, columns))


@pytest.mark.parametrize("a_dtype, b_dtype", PAIRS)
def test_int32_ends_where_it_ends(a_dtype, b_dtype):
    K = OVERFLOWS[a_dtype, b_dtype]
    a, b = np.full((1, K), extreme(a_dtype), a_dtype), np.full((K, 1), extreme(b_dtype), b_dtype)
    exact = K * int(extreme(a_dtype)) * int(extreme(b_dtype))
    for result in every_way(a, b, out_dtype=np.int64):
        assert result.item() == exact
    for result in every_way(a[:, 1:], b[1:]):
        assert result.item() == exact // K * (K - 1)
    for right in (b, pack(b)):
        with pytest.raises(OverflowError, match=rf"K = {K} .*2147483647.*int64"):
            int8_matmul(a, right)


def test_minus_2_to_the_31_fits_int32():
    K = 2**31 // (128 * 255) + 1
    a, b = np.full((1, K), 255, np.uint8), np.full((K, 1), -128, np.int8)
    rest = K * 255 * 128 - 2**31
    a[0, 0] -= rest // 128  # rest is a multiple of 128
    assert int8_matmul(a, b).item() == -(2**31)
    a, b = np.append(a, [[1]], axis=1).astype(np.uint8), np.append(b, [[-1]], axis=0).astype(np.int8)
    with pytest.raises(OverflowError, match=f"K = {K + 1}"):
        int8_matmul(a, b)


@pytest.mark.parametrize("a_dtype, b_dtype", PAIRS)
def test_zero_points_that_lead_past_int32_on_the_way(a_dtype, b_dtype):
    K = 33_500  # 255 * 255 * K does not fit
    ends = np.iinfo(a_dtype), np.iinfo(b_dtype)
    a, b = np.full((1, K), ends[0].max, a_dtype), np.full((K, 1), ends[1].max, b_dtype)
    with pytest.raises(OverflowError, match="K = 33500"):
        int8_matmul(a, b, a_zero_point=ends[0].min, b_zero_point=ends[1].min)
    for result in every_way(a, b, a_zero_point=ends[0].max, b_zero_point=ends[1].min):  # all zero after all
        assert result.item() == 0
    assert int8_matmul(a[:, :33_025], b[:33_025], a_zero_point=ends[0].min, b_zero_point=ends[1].min) == 33_025 * 65_025


def test_layouts_and_read_only_inputs_stay_as_they_are():
    rng = np.random.default_rng(2)
    a, b = random_codes(rng, (40, 60), np.uint8), random_codes(rng, (60, 30), np.int8)
    for left in (a, np.asfortranarray(a), a[::-1, ::-1], a[::3, ::2], np.broadcast_to(a[:1], (7, 60))):
        for right in (b, np.asfortranarray(b), b[::-1, ::-1], np.broadcast_to(b[:, :1], (60, 4))):
            right = right[: left.shape[1]]
            for view in (left, right):
                view.flags.writeable = False
            for result in every_way(left, right, a_zero_point=3):
                np.testing.assert_array_equal(result, int8_matmul_by_definition(left, right, 3))


def test_a_packed_matrix_is_a_copy():
    b = np.ones((4, 2), np.int8)
    packed = pack(b)
    b[:] = 5
    assert int8_matmul(np.ones((1, 4), np.int8), packed).tolist() == [[4, 4]]


# The depth up to which float32 is exact


def test_sparse_weights_are_split_by_the_cap_alone():
    b = np.zeros((100_000, 3), np.int8)
    b[::1000] = 127
    packed = pack(b)
    assert exact_depth(np.int8, packed) == exact_depth("int8", b) == 100_000
    assert exact_edges(np.int8, b) == packed.edges(np.dtype(np.int8)) == [*range(0, 100_000, 4096), 100_000]
    a = random_codes(np.random.default_rng(6), (4, 100_000), np.int8)
    np.testing.assert_array_equal(int8_matmul(a, packed, backend="numpy"), int8_matmul_by_definition(a, b))


@pytest.mark.parametrize("a_dtype, b_dtype", PAIRS)
def test_every_block_is_within_the_bound(a_dtype, b_dtype):
    b = random_codes(np.random.default_rng(7), (7000, 5), b_dtype)
    edges = exact_edges(a_dtype, b)
    assert edges[0] == 0 and edges[-1] == 7000 and np.all(np.diff(edges[:-1]) >= DEPTHS[a_dtype, b_dtype])
    for start, stop in pairwise(edges):
        assert exact_depth(a_dtype, b[start:stop]) == stop - start
        assert stop == 7000 or exact_depth(a_dtype, b[start : stop + 1]) == stop - start  # and not a row less


# Backends


def test_without_exact_floats_integers_do_it(monkeypatch):
    monkeypatch.setattr(matmul, "float32_is_exact", lambda: False)
    monkeypatch.setattr(matmul, "product_in_blocks", None)
    rng = np.random.default_rng(8)
    a, b = random_codes(rng, (5, 2000), np.uint8), random_codes(rng, (2000, 6), np.int8)
    for right in (b, pack(b)):
        result = int8_matmul(a, right, a_zero_point=7, b_zero_point=-3, backend="numpy")
        np.testing.assert_array_equal(result, int8_matmul_by_definition(a, b, 7, -3))


def test_inexact_floats_are_noticed(fresh_choice, monkeypatch):
    assert matmul.float32_is_exact()  # this machine's
    matmul.float32_is_exact.cache_clear()

    def rounded_once(a, b, dtype):  # as if sums were a bit short
        return a.astype(dtype) @ b.astype(dtype) * dtype(1 + 2**-23)

    monkeypatch.setattr(matmul, "matmul_as", rounded_once)
    assert not matmul.float32_is_exact()


def fake_numkong(dots_packed):
    return types.SimpleNamespace(from_dlpack=np.asarray, dots_pack=np.array, dots_packed=dots_packed)


def refuse(a, b, out, **rows):
    raise RuntimeError("no such instruction")


def saturate(a, b, out, **rows):
    out[:] = np.clip(a.astype(np.int32) @ b.T.astype(np.int32), -(2**15), 2**15)


@pytest.mark.parametrize(
    "module, trouble",
    [
        (None, "numkong.*pip install --upgrade numkong"),  # not installed
        (types.SimpleNamespace(), "dots_pack.*pip install --upgrade numkong"),  # too old
        (fake_numkong(refuse), "no such instruction"),
        (fake_numkong(saturate), "gives wrong int8 products"),
    ],
)
def test_without_a_numkong_that_works_numpy_multiplies(fresh_choice, monkeypatch, module, trouble):
    monkeypatch.setitem(sys.modules, "numkong", module)
    monkeypatch.setattr(matmul_native, "LARGE", 1)
    a = np.full((2, 200), 127, np.int8)
    assert np.all(int8_matmul(a, pack(a.T)) == 200 * 127**2)
    with pytest.raises(ImportError, match=f"numkong.*cannot be used: .*{trouble}"):
        int8_matmul(a, a.T, backend="numkong")


@pytest.fixture
def stand_in(fresh_choice, monkeypatch):
    """A numkong of NumPy, which wraps at 32 bits as the instructions do; gives the shapes of what it multiplied."""
    taken = []

    def dots_packed(a, b, out, start_row=0, end_row=None):
        assert a.dtype == b.dtype and a.flags.c_contiguous and b.flags.c_contiguous
        taken.append(a.shape)
        rows = slice(start_row, end_row)
        out[rows] = (a[rows].astype(np.int64) @ b.T.astype(np.int64)).astype(out.dtype)

    monkeypatch.setitem(sys.modules, "numkong", fake_numkong(dots_packed))
    return taken


def test_native_route_with_a_stand_in(stand_in, monkeypatch):
    monkeypatch.setattr(matmul_native, "SMALL", 1)  # threads for all
    rng = np.random.default_rng(9)
    for a_dtype, b_dtype in PAIRS:
        for M, K, N in SHAPES:
            a, b = random_codes(rng, (M, K), a_dtype), random_codes(rng, (K, N), b_dtype)
            zeros = {"a_zero_point": random_codes(rng, M, a_dtype), "b_zero_point": random_codes(rng, N, b_dtype)}
            for right in (b, np.asfortranarray(b), pack(b)):
                result = int8_matmul(a, right, backend="numkong", **zeros)
                np.testing.assert_array_equal(result, int8_matmul_by_definition(a, b, *zeros.values()))


def test_auto_takes_numkong_where_it_can_pay(stand_in, monkeypatch):
    monkeypatch.setattr(matmul_native, "_numkong_is_faster", lambda few_rows: True)
    monkeypatch.setattr(matmul_native, "LARGE", 4 * matmul_native.DEEP * 3)
    for M, K, packed, pays in (
        (4, matmul_native.DEEP, True, True),
        (3, matmul_native.DEEP, True, False),  # small
        (5, matmul_native.DEEP - 1, True, False),
        (4, matmul_native.DEEP, False, False),
        (256, matmul_native.DEEP, False, True),
    ):
        a, b = np.ones((M, K), np.int8), np.ones((K, 3), np.int8)
        int8_matmul(a, pack(b) if packed else b)
        assert ((M, K) in stand_in) == pays
        stand_in.clear()


@pytest.mark.parametrize("few_rows", (True, False))
@pytest.mark.parametrize("faster", ("numkong", "numpy"))
def test_auto_tries_once_and_takes_the_faster(stand_in, monkeypatch, faster, few_rows):
    seconds = iter([0.1, 0.2] if faster == "numkong" else [0.2, 0.1])  # of numkong and of NumPy
    monkeypatch.setattr(matmul_native, "repeat", lambda way, **times: [next(seconds), 0.3])
    monkeypatch.setattr(matmul_native, "LARGE", 1)
    a, b = np.ones((2 if few_rows else 64, 1024), np.int8), pack(np.ones((1024, 3), np.int8))
    for _ in range(2):  # the second time nothing is tried
        stand_in.clear()
        assert np.all(int8_matmul(a, b) == 1024)
        assert (a.shape in stand_in) == (faster == "numkong")
    assert next(seconds, None) is None


# Refusals

A, B = np.ones((2, 3), np.int8), np.ones((3, 4), np.uint8)
REFUSED = [
    (A.astype(np.float32), B, {}, TypeError, "a must be int8 or uint8, got float32"),
    (A, B.astype(np.int16), {}, TypeError, "b must be int8 or uint8, got int16"),
    (A[0], B, {}, ValueError, r"a must have 2 dimensions, got shape \(3,\)"),
    (A[:, :0], B[:0], {}, ValueError, r"a must not be empty, got shape \(2, 0\)"),
    (A, B[:2], {}, ValueError, r"a and b must meet in K, got shapes \(2, 3\) and \(2, 4\)"),
    (A, B, {"a_zero_point": 128}, ValueError, "a_zero_point must be from -128 to 127, got 128"),
    (A, B, {"a_zero_point": True}, TypeError, "a_zero_point must be integers, got dtype bool"),
    (A, B, {"a_zero_point": [1, 2, 3]}, ValueError, r"a_zero_point must be one number or have .*\(2,\), got .*\(3,\)"),
    (A, B, {"out_dtype": np.int16}, ValueError, "out_dtype must be one of int32, int64, got dtype.'int16'."),
    (A, B, {"backend": "cuda"}, ValueError, "backend must be one of auto, numpy, numkong, got 'cuda'"),
]


@pytest.mark.parametrize("a, b, options, error, message", REFUSED)
def test_refused(a, b, options, error, message):
    with pytest.raises(error, match=message):
        int8_matmul(a, b, **options)


def test_pack_and_exact_depth_refuse():
    with pytest.raises(TypeError, match="b must be int8 or uint8, got float64"):
        pack(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="a_dtype must be one of int8, uint8, got 'float32'"):
        exact_depth(np.float32, np.zeros((2, 2), np.int8))
