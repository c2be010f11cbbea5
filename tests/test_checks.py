"""The door of every public function: what passes comes out as promised, the rest is one clear line."""

import math

import numpy as np
import pytest

from nnzip.checks import check_finite, number, one_of, real, real32, reals, same_shape, whole, wide

FLOATS = (np.float16, np.float32, np.float64)
ARRAYS = [np.array([0, 1, 100], dtype) for dtype in (*FLOATS, np.int8, np.uint8, np.int64, np.uint64)]


@pytest.mark.parametrize("x", [*ARRAYS, [1, 2], [[1.5], [2.5]], (1, 2.5), 3, 2.5, range(3), [np.float32(1), 2]])
def test_floats_pass_as_they_are_and_the_rest_becomes_float64(x):
    array = real(x)
    assert array is x if getattr(x, "dtype", None) in FLOATS else array.dtype == np.float64
    assert np.array_equal(array, np.array(x))


@pytest.mark.parametrize("kind", [real, real32, wide, reals(1), whole(0), number(0, 1)])
def test_what_is_no_number_is_a_type_error(kind):
    for wrong in ([True], True, "1", None, 1j):
        with pytest.raises(TypeError, match=r"^rate must "):
            kind(wrong, "rate")


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (np.ones((3, 0)), {}, r"x must not be empty, got shape \(3, 0\)"),
        ([1, math.nan, 3], {}, r"x must be finite, got nan at flat index 1 \(1 such values\)"),
        ([[1, 2], [math.inf, -math.inf]], {}, r"x must be finite, got inf at flat index 2 \(2 such values\)"),
        ([-math.inf, math.nan], {}, r"x must be finite, got -inf at flat index 0 \(2 such values\)"),
        ([1], {"ndim": 2}, r"x must have 2 dimensions, got shape \(1,\)"),
        ([[1]], {"ndim": (1, 3)}, r"x must have 1 or 3 dimensions, got shape \(1, 1\)"),
    ],
)
def test_arrays_that_do_not_fit_are_a_value_error(x, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        real(x, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("layout", [np.asfortranarray, lambda x: x[:, ::-1], lambda x: x.T])
def test_the_index_of_the_bad_value_is_that_of_reading_row_by_row(layout):
    x = layout(np.arange(12.0).reshape(3, 4).copy())
    x[tuple(size - 1 for size in x.shape)] = math.nan
    with pytest.raises(ValueError, match="got nan at flat index 11 "):
        check_finite(x)


def test_shapes_are_compared_whole():
    same_shape(np.ones((2, 3)), np.zeros((2, 3)), ("a", "b"))
    with pytest.raises(ValueError, match=r"a and b must have the same shape, got \(3,\) and \(1, 3\)"):
        same_shape(np.ones(3), np.ones((1, 3)), ("a", "b"))


# Numbers


@pytest.mark.parametrize("value", [2, np.int8(2), np.uint64(2)])
def test_an_integer_of_any_kind_comes_out_as_int(value):
    assert type(whole(2, 16)(value, "bits")) is int and whole(2, 16)(value, "bits") == 2


@pytest.mark.parametrize(
    ("value", "high", "message"),
    [(1, 16, "bits must be from 2 to 16, got 1"), (17, 16, "from 2 to 16, got 17"), (-5, None, "at least 2, got -5")],
)
def test_an_integer_outside_its_range_names_the_range(value, high, message):
    with pytest.raises(ValueError, match=message):
        whole(2, high)(value, "bits")
    assert [whole(2, 16)(end, "bits") for end in (2, 16)] == [2, 16]
    assert whole(2)(10**30, "bits") == 10**30


@pytest.mark.parametrize("value", [1, 0.5, np.float32(0.5), np.int16(1), 0, 1.0])
def test_a_number_of_any_kind_comes_out_as_float(value):
    assert type(number(0, 1)(value, "rate")) is float and number(0, 1)(value, "rate") == value


@pytest.mark.parametrize(
    ("ends", "inside", "outside"),
    [
        ("[]", (0, 0.5, 1), (-1e-9, 1 + 1e-9)),
        ("(]", (1e-300, 1), (0, -1, 2)),
        ("[)", (0, 0.999), (1, 1.5, -1)),
        ("()", (0.5,), (0, 1)),
    ],
)
def test_round_ends_are_outside(ends, inside, outside):
    kind = number(0, 1, ends)
    for value in inside:
        assert kind(value, "rate") == value
    for value in (*outside, math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError) as caught:
            kind(value, "rate")
        assert str(caught.value) == f"rate must be in {ends[0]}0, 1{ends[1]}, got {value}"


def test_a_choice_is_one_of_the_names():
    kind = one_of("minmax", "mse")
    assert kind("mse", "method") == "mse"
    for wrong in ("ms", "", None, 5, ["mse"]):
        with pytest.raises(ValueError, match="method must be one of minmax, mse, got"):
            kind(wrong, "method")
