"""Codebooks: the nearest value, means of clusters, the least error of all partitions; powers of two, signs, shares."""

import itertools
import math
from statistics import NormalDist

import numpy as np
import pytest

from nnzip.codebooks import (
    INITS,
    NF4,
    assign,
    binary,
    kmeans,
    lloyd_by_definition,
    look_up,
    optimal_codebook,
    optimal_codebook_by_definition,
    power_of_two_codebook,
    sum_by_cluster,
)

DTYPES = (np.float16, np.float32, np.float64)
ARRAYS = {
    "zeros": np.zeros((2, 3)),
    "constant": np.full(5, -3.7),
    "one": np.array([2.5]),
    "two values": np.array([1.0, 1.0, 1.0, 5.0]),
    "all positive": np.arange(10.0, 16.0),
    "all negative": -np.arange(5.0, 7.0),
    "subnormal": np.array([1e-40, -1e-42, 0.0]),
    "huge": np.array([3e38, -3e38, 3.2e38, 0.0]),
    "far from 0": 1e6 + np.arange(8.0),
    "huge float32": np.float32([3e38, -3e38, 3.2e38, 0.0]),
    "float16": np.float16([1e-7, 6e4, -6e4, 0.1, 0.2]),
    "outlier": np.append(np.linspace(-1, 1, 99), 1e6),
    "int8": np.arange(-128, 128).astype(np.int8),
}
arrays = pytest.mark.parametrize("x", ARRAYS.values(), ids=ARRAYS)
inits = pytest.mark.parametrize("init", INITS)


def squared_error(x, codebook):
    """Of the nearest value for each number, looked for one by one."""
    return math.fsum(min((float(v) - float(c)) ** 2 for c in codebook) for v in np.ravel(x))


# Codes and values


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [1, 2, 3, 16, 255, 256])
def test_the_code_is_that_of_the_nearest_value(k, dtype):
    rng = np.random.default_rng(k)
    x = rng.normal(size=(40, 5)).astype(dtype)
    codebook = np.sort(rng.normal(size=k)).astype(np.float32)
    codes = assign(x, codebook)
    assert codes.dtype == np.uint8 and codes.shape == x.shape
    distances = np.abs(x.astype(np.float64)[..., None] - codebook.astype(np.float64))
    assert np.array_equal(codes, distances.argmin(axis=-1))


def test_the_next_float_after_a_tie_goes_to_the_upper():
    x = np.nextafter(np.float32(0.5), np.float32([0, 1]))
    assert assign(x, [0.0, 1.0]).tolist() == [0, 1]
    codebook = np.float32([1, np.nextafter(np.float32(1), np.float32(2))])  # between them lies no float32
    assert assign(codebook, codebook).tolist() == [0, 1]
    assert assign(codebook.astype(np.float64), codebook).tolist() == [0, 1]


def test_equal_values_share_the_first_code_that_reaches_them():
    assert assign([0.0, 5.0], [0.0, 0.0, 5.0]).tolist() == [0, 2]
    assert set(assign(np.full(4, 7.0), np.full(3, 7.0)).tolist()) == {0}


def test_a_codebook_for_each_row():
    x = np.random.default_rng(0).normal(size=(3, 4, 2))
    codebooks = np.sort(np.random.default_rng(1).normal(size=(3, 5)), axis=1)
    codes = assign(x, codebooks)
    assert codes.shape == x.shape and codes.dtype == np.uint8
    for row in range(3):
        assert np.array_equal(codes[row], assign(x[row], codebooks[row]))
        assert np.array_equal(look_up(codes, codebooks)[row], look_up(codes[row], codebooks[row]))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64])
def test_codes_of_any_integer_type_are_looked_up(dtype):
    assert look_up(np.array([[1], [0]], dtype), [-1.0, 4.0]).tolist() == [[4.0], [-1.0]]
    assert look_up(np.array([0, 1], dtype), [4.0, -1.0]).tolist() == [4.0, -1.0]  # values that passed each other


@pytest.mark.parametrize(
    ("x", "codebook", "message"),
    [
        ([1.0], [1.0, 0.0], "must ascend"),
        ([1.0], np.arange(257), r"at most 256 values, got shape \(257,\)"),
        ([1.0], [[0.0], [1.0]], r"a codebook for each row of an array of shape \(1,\), got 2"),
        (1.0, [[0.0]], "a codebook for each row"),
    ],
)
def test_assign_refuses_what_it_cannot_compare(x, codebook, message):
    with pytest.raises(ValueError, match=message):
        assign(x, codebook)


@pytest.mark.parametrize(("codes", "error"), [([2], ValueError), ([-1], ValueError), ([0.0], TypeError)])
def test_codes_that_are_not_in_the_codebook_are_refused(codes, error):
    for function, *args in ((look_up, codes, [0.0, 1.0]), (sum_by_cluster, [1.0], codes, 2)):
        with pytest.raises(error, match="codes must be"):
            function(*args)


def test_codes_of_more_or_fewer_rows_than_there_are_codebooks_are_refused():
    for codes in ([[0], [0], [0]], [[0]]):
        with pytest.raises(ValueError, match=r"a codebook for each row of an array of shape \(., 1\), got 2"):
            look_up(codes, [[0.0], [1.0]])


# k-means


@inits
@pytest.mark.parametrize("k", [1, 2, 5, 16])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_iteration_is_the_one_of_the_definition(dtype, k, init):
    x = np.random.default_rng(k).normal(size=(50, 4)).astype(dtype)
    for steps in range(4):
        before = kmeans(x, k, init=init, iterations=steps)
        after = kmeans(x, k, init=init, iterations=steps + 1)
        assert after.dtype == np.float32 and after.shape == (k,)
        expected = lloyd_by_definition(x.astype(np.float64), before.astype(np.float64))
        np.testing.assert_allclose(after, expected, rtol=2e-6, atol=1e-6)


def test_one_iteration_by_hand():
    assert lloyd_by_definition([0.0, 1.0, 10.0, 12.0, 14.0], [0.0, 10.0, 99.0]).tolist() == [0.5, 12.0, 99.0]


@pytest.mark.parametrize("init", ["density", "k-means++"])
def test_as_many_clusters_as_numbers_leave_no_error(init):
    x = np.array([4.0, -1.0, 2.5, 7.0])
    assert kmeans(x, 4, init=init).tolist() == optimal_codebook(x, 4).tolist() == [-1.0, 2.5, 4.0, 7.0]


def test_the_inits_start_where_they_say():
    x = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 100.0])
    assert kmeans(x, 5, iterations=0).tolist() == [0, 25, 50, 75, 100]
    assert kmeans(x, 2, init="density", iterations=0).tolist() == [2.0, 6.0]  # ranks 2 and 6 of 0 to 7
    assert kmeans(x, 8, init="density", iterations=0).tolist() == x.tolist()
    for seed in range(20):
        start = kmeans(x, 2, init="k-means++", iterations=0, seed=seed)
        assert set(start.tolist()) <= set(x.tolist()) and start[0] < start[1]


def test_k_means_plus_plus_draws_by_squared_distance():
    x = np.array([0.0, 1.0, 3.0])
    pairs = [tuple(kmeans(x, 2, init="k-means++", iterations=0, seed=seed).tolist()) for seed in range(3000)]
    assert pairs[7] == tuple(kmeans(x, 2, init="k-means++", iterations=0, seed=7).tolist())
    # first any of three; then 1 : 9 from 0, 1 : 4 from 1, 9 : 4 from 3
    expected = {(0, 1): (1 / 10 + 1 / 5) / 3, (0, 3): (9 / 10 + 9 / 13) / 3, (1, 3): (4 / 5 + 4 / 13) / 3}
    for pair, p in expected.items():
        assert abs(pairs.count(pair) / 3000 - p) < 4.5 * math.sqrt(p * (1 - p) / 3000)


@arrays
@inits
@pytest.mark.parametrize("k", [1, 3, 20])
def test_whatever_the_numbers_the_values_are_sorted_finite_and_within_their_range(k, init, x):
    with np.errstate(all="raise", under="ignore"):
        found = kmeans(x, k, init=init)
    assert found.shape == (k,) and found.dtype == np.float32
    assert np.isfinite(found).all() and (found[:-1] <= found[1:]).all()
    assert np.float32(x.min()) <= found[0] and found[-1] <= np.float32(x.max())
    assert squared_error(x, optimal_codebook(x, k)) <= squared_error(x, found) * (1 + 1e-6)


@pytest.mark.parametrize("function", [kmeans, optimal_codebook])
def test_neither_order_nor_shape_nor_layout_matters_and_the_numbers_stay(function):
    x = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
    x.setflags(write=False)
    found = function(x, 4)
    shuffled = np.random.default_rng(1).permutation(x.ravel())
    for same in (shuffled, x.T, np.asfortranarray(x), x.reshape(2, 3, 8)):
        assert np.array_equal(function(same, 4), found)
    np.testing.assert_allclose(function(-x, 4), -found[::-1], rtol=1e-6)
    np.testing.assert_allclose(function(1024 * x, 4), 1024 * found, rtol=1e-6)


# The optimum


@pytest.mark.parametrize("k", [2, 5, 9])
@pytest.mark.parametrize("n", [31, 32, 33])
def test_the_fast_search_finds_the_optimum_of_the_definition(n, k):
    for x in (np.random.default_rng(n).normal(size=n), np.random.default_rng(n).integers(0, n // 2, n)):
        plain, found = optimal_codebook_by_definition(x, k), optimal_codebook(x, k)
        assert squared_error(x, found) == pytest.approx(squared_error(x, plain), rel=1e-5)


def test_far_from_0_the_differences_still_count():
    x = np.float32([1e6, 1e6 + 1, 1e6 + 10, 1e6 + 12])
    assert optimal_codebook(x, 2).tolist() == [1e6 + 0.5, 1e6 + 11]
    x = np.float32(2**26 + 8 * np.repeat([0, 10, 12, 30, 34], [100_000, 1, 1, 1, 1]))
    assert (optimal_codebook(x, 3) - 2**26).tolist() == [0, 8 * 11, 8 * 32]


# By rule


def test_the_largest_float32_gets_the_largest_power_that_float32_has():
    assert power_of_two_codebook([3.4e38, 0.0], bits=3).max() == 2.0**127


def test_nf4_is_made_of_quantiles_of_the_normal_distribution():
    tail = (1 - 1 / 32 + 1 - 1 / 30) / 2  # where the outermost quantile lies, as the authors' code has it
    above, below = (np.vectorize(NormalDist().inv_cdf)(np.linspace(0.5, tail, n)) for n in (9, 8))
    np.testing.assert_allclose(NF4, np.append(-below[:0:-1], above) / above[-1], atol=2e-7)
    assert NF4.dtype == np.float32 and not NF4.flags.writeable


@pytest.mark.parametrize("axis", [None, 0])
def test_no_other_scale_and_no_other_signs_have_less_error(axis):
    w = np.random.default_rng(0).normal(size=(3, 2, 4)).astype(np.float32)
    scale, signs = binary(w, axis=axis)
    assert scale.shape == (() if axis is None else (3,)) and scale.dtype == np.float32 and signs.dtype == np.int8
    for rows, own in [(w, scale)] if axis is None else zip(w, scale, strict=True):
        rows = rows.ravel().astype(np.float64)
        best = np.sum((np.abs(rows) - own) ** 2)  # of the signs that agree
        assert best < min(np.sum((np.abs(rows) - own * factor) ** 2) for factor in (0.99, 1.01))
        if axis == 0:  # every choice of signs, each with its own best scale
            choices = np.array(list(itertools.product((-1, 1), repeat=8)))
            assert best == pytest.approx(np.min(rows @ rows - (choices @ rows) ** 2 / 8), rel=1e-5)
    assert np.array_equal(signs == 1, w >= 0)


def test_the_sign_of_zero_is_plus():
    scale, signs = binary(np.array([0.0, -0.0, -1.0]))
    assert signs.tolist() == [1, 1, -1] and scale == np.float32(1 / 3)
    scale, signs = binary(np.zeros((2, 2)), axis=0)
    assert scale.tolist() == [0, 0] and (signs == 1).all()


def test_each_gradient_needs_a_code():
    with pytest.raises(ValueError, match=r"grad and codes must have the same shape, got \(2,\) and \(1,\)"):
        sum_by_cluster([1.0, 2.0], [0], 2)


def test_a_sum_of_float16_gradients_is_no_float16():
    assert sum_by_cluster(np.full(100, 4096, np.float16), np.zeros(100, int), 2).tolist() == [409_600, 0]
