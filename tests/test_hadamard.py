"""Hadamard matrices by integers and by SciPy, the fast transform against its definition, what a rotation keeps."""

import math

import numpy as np
import pytest

from nnzip.hadamard import (
    additions,
    factors,
    hadamard_matrix,
    hadamard_transform,
    incoherence,
    largest_block,
    random_signs,
    rotate,
    transform_by_butterfly,
    transform_by_definition,
    unrotate,
)

RNG = np.random.default_rng(0)
SIZES = (1, 2, 4, 8, 12, 20, 24, 28, 48, 64, 100, 256, 300, 500, 768, 784, 800, 1024)
TOLERANCE = {np.float16: 4e-3, np.float32: 2e-6, np.float64: 1e-14}  # a few units in the last place


# Which orders there are


def orders_by_number_theory(limit, largest_factor):
    """Close {1, 2, Paley's orders} under products, up to the limit."""
    primes = [p for p in range(2, largest_factor) if all(p % d for d in range(2, math.isqrt(p) + 1))]
    fields = {*primes, *(p * p for p in primes)}
    small = {2} | {q + 1 for q in fields if q % 4 == 3} | {2 * (q + 1) for q in fields if q % 4 == 1}
    small = [order for order in small if order <= largest_factor]
    reached, newest = {1}, {1}
    while newest:
        newest = {a * b for a in newest for b in small if a * b <= limit} - reached
        reached |= newest
    return reached


def is_order(n):
    try:
        return math.prod(factors(n)) == n
    except ValueError:
        return False


ORDERS = sorted(orders_by_number_theory(1024, 1024))


def test_the_orders_are_those_that_number_theory_gives():
    assert [n for n in range(1, 1025) if is_order(n)] == ORDERS


@pytest.mark.parametrize("n", [n for n in ORDERS if n <= 300] + [392, 396, 500, 676, 724, 784, 800, 1024, 1684])
def test_all_rows_are_orthogonal_in_integers(n):
    H = hadamard_matrix(n)
    assert H.dtype == np.int8 and H.shape == (n, n)
    assert np.all(np.abs(H) == 1)
    wide = H.astype(np.float64)  # sums of n ones: exact in float64, and fast
    assert np.array_equal(wide @ wide.T, n * np.eye(n))


@pytest.mark.oracle
def test_scipy_has_the_same_matrix_for_every_power_of_two():
    linalg = pytest.importorskip("scipy.linalg")
    for k in range(12):
        assert np.array_equal(hadamard_matrix(2**k), linalg.hadamard(2**k))


@pytest.mark.parametrize(("n", "below", "above"), [(3, 2, 4), (5, 4, 8), (92, 88, 96), (1023, 1020, 1024)])
def test_an_order_that_is_not_reached_names_its_neighbours(n, below, above):
    assert max(m for m in ORDERS if m < n) == below and min(m for m in ORDERS if m > n) == above
    message = f"no Hadamard matrix of order {n} is known here; the nearest orders are {below} and {above}"
    for function in (hadamard_matrix, factors, additions):
        with pytest.raises(ValueError, match=message):
            function(n)
    with pytest.raises(ValueError, match=message):
        hadamard_transform(np.ones((2, n)))


def test_the_largest_block_is_the_largest_order_of_factors_up_to_512():
    within = sorted(orders_by_number_theory(20_000, 512), reverse=True)
    for n in [*range(1, 400), *range(400, 20_001, 4)]:
        assert (block := largest_block(n)) == next(m for m in within if n % m == 0)
        assert additions(block) <= 550 * block  # of a * b <= 20,000 and a <= 512, a + b is largest for 512 and 39


# The transform


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("n", SIZES)
def test_the_fast_transform_is_the_definition(n, dtype):
    x = RNG.normal(size=(7, n)).astype(dtype)
    for inverse in (False, True):
        y = hadamard_transform(x, inverse=inverse)
        expected = transform_by_definition(x.astype(np.float64), inverse=inverse)
        assert y.dtype == dtype and y.shape == x.shape
        np.testing.assert_allclose(y, expected, atol=TOLERANCE[dtype] * np.abs(expected).max())


@pytest.mark.parametrize("shape", [(12,), (3, 12), (12, 3), (2, 12, 5), (12, 2, 20), (3, 2, 12, 4, 2)])
def test_every_axis_of_any_layout(shape):
    x = RNG.normal(size=shape)
    for axis in [i - s for i, n in enumerate(shape) if n in (12, 20) for s in (0, len(shape))]:
        expected = np.moveaxis(transform_by_definition(np.moveaxis(x, axis, -1)), -1, axis)
        layouts = (x, np.asfortranarray(x), np.repeat(x, 2, axis=0)[::2], np.broadcast_to(x, (1, *shape))[0])
        for same in layouts:
            np.testing.assert_allclose(hadamard_transform(same, axis=axis), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rows", [1, 31, 32, 33, 65])
def test_the_last_chunk_of_rows_may_be_smaller(rows):
    x = RNG.normal(size=(rows, 1024))  # 32 rows fill a chunk
    np.testing.assert_allclose(hadamard_transform(x), transform_by_definition(x), atol=1e-13)
    np.testing.assert_allclose(hadamard_transform(x.T, axis=0), transform_by_definition(x).T, atol=1e-13)


def test_long_rows_take_three_factors_and_more():
    n = 2**17  # 17 GB as a matrix, so by single columns
    for k in (0, 1, 77_777, n - 1):
        spike = np.zeros(n)
        spike[k] = 1
        signs = np.array([1 - 2 * ((j & k).bit_count() % 2) for j in range(n)])
        np.testing.assert_allclose(hadamard_transform(spike) * math.sqrt(n), signs, atol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 8, 128, 1024])
def test_the_butterfly_says_the_same(n):
    x = RNG.normal(size=(3, 2, n))
    np.testing.assert_allclose(transform_by_butterfly(x), transform_by_definition(x), atol=1e-13)
    assert transform_by_butterfly(x.astype(np.float32)).dtype == np.float32
    with pytest.raises(ValueError, match="cannot reshape array of size 12"):
        transform_by_butterfly(np.ones(12))


def test_zeros_stay_zeros_and_integers_become_float64():
    assert not hadamard_transform(np.zeros((3, 12))).any()
    y = hadamard_transform(np.arange(4))
    assert y.dtype == np.float64 and y.tolist() == [3, -1, -2, 0]  # [6, -2, -4, 0] / 2, by hand


@pytest.mark.parametrize("shape", [(6, 60), (60, 6), (2, 60, 3)])
def test_blocks_are_transformed_by_themselves(shape):
    x, axis = RNG.normal(size=shape), shape.index(60)
    for size in (1, 2, 4, 12, 20, 60):
        y = hadamard_transform(x, axis=axis, block_size=size)
        parts = np.split(x, 60 // size, axis=axis)
        expected = np.concatenate([hadamard_transform(part, axis=axis) for part in parts], axis=axis)
        np.testing.assert_allclose(y, expected, atol=1e-13)
        np.testing.assert_allclose(hadamard_transform(y, axis=axis, inverse=True, block_size=size), x, atol=1e-13)


def test_large_numbers_pass_and_those_that_cannot_be_summed_are_refused():
    x = np.full((2, 64), 4e37, np.float32)
    assert hadamard_transform(x)[0, 0] == pytest.approx(3.2e38)  # 8 times
    for column in range(4):  # whichever output it is that overflows
        pattern = hadamard_matrix(4)[:, column] * np.float32(3e38)
        with pytest.raises(ValueError, match="x is too large to be summed in float32"):
            hadamard_transform(np.stack([np.zeros(4, np.float32), pattern]))
        with pytest.raises(ValueError, match="x is too large to be summed in float16"):
            hadamard_transform((hadamard_matrix(4)[:, column] * 6e4).astype(np.float16))


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (np.ones((4, 4)), {"axis": 2}, "axis 2 is out of bounds for array of dimension 2"),
        (np.ones(12), {"block_size": 8}, "block_size must divide the length 12, got 8"),
        (np.ones(12), {"block_size": 0}, "block_size must divide the length 12, got 0"),
    ],
)
def test_what_cannot_be_transformed_is_refused(x, options, message):
    with pytest.raises(ValueError, match=message):
        hadamard_transform(x, **options)


# Signs, rotations


def test_signs_are_fair_independent_and_repeatable():
    signs = random_signs(10_000, seed=3)
    assert signs.dtype == np.int8 and set(signs.tolist()) == {-1, 1}
    assert abs(signs.mean()) < 0.04 and abs(np.mean(signs[1:] * signs[:-1])) < 0.04  # four standard deviations
    assert np.array_equal(signs, random_signs(10_000, seed=3))
    assert not np.array_equal(signs, random_signs(10_000, seed=4))


@pytest.mark.parametrize("n", SIZES)
def test_rotate_is_signs_then_hadamard_and_unrotate_undoes_it(n):
    x, signs = RNG.normal(size=(4, n)), random_signs(n, seed=n)
    rotation = signs[:, None] * hadamard_matrix(n) / math.sqrt(n)
    np.testing.assert_allclose(rotate(x, signs), x @ rotation, atol=1e-12)
    np.testing.assert_allclose(unrotate(x, signs), x @ rotation.T, atol=1e-12)
    np.testing.assert_allclose(unrotate(rotate(x, signs), signs), x, atol=1e-12)


def test_rotation_along_other_axes_and_in_blocks():
    x, signs = RNG.normal(size=(3, 24, 5)).astype(np.float32), random_signs(24, seed=0)
    for size in (None, 1, 4, 12, 24):
        y = rotate(x, signs, axis=1, block_size=size)
        assert y.dtype == np.float32
        moved = rotate(np.moveaxis(x, 1, 2), signs, block_size=size)
        np.testing.assert_allclose(y, np.moveaxis(moved, 2, 1), atol=1e-6)
        np.testing.assert_allclose(unrotate(y, signs, axis=-2, block_size=size), x, atol=1e-6)


@pytest.mark.parametrize("signs", [[1, -1], np.ones((2, 4)), [1, -1, 0, 1], [1, -1, 1j, 1], [1, -1, math.nan, 1]])
@pytest.mark.parametrize("function", [rotate, unrotate])
def test_signs_that_are_none_are_refused(function, signs):
    with pytest.raises(ValueError, match=r"signs must be 4 times \+1 or -1, got shape \("):
        function(np.ones((2, 4)), signs)


def test_a_result_is_the_callers_own():
    x = RNG.normal(size=(4, 24))
    assert not any(np.shares_memory(hadamard_transform(x, block_size=n), x) for n in (24, 1))
    hadamard_matrix(24)[...] = 0
    assert hadamard_matrix(24).any()


def test_a_rotation_flattens_outliers():
    x = RNG.normal(size=(64, 256))
    x[:, 7] *= 50
    assert incoherence(x) > 15
    assert incoherence(rotate(x, random_signs(256, seed=0))) < 6
