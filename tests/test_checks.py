"""The door of every public function: what passes comes out as promised, the rest is one clear line."""

import math

import numpy as np
import pytest

from nnzip.checks import (
    check_choice,
    check_finite,
    check_integer,
    check_ndim,
    check_not_empty,
    check_number,
    check_same_shape,
    real_array,
)

# ---------------------------------------------------------------- arrays


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_float_array_passes_as_it_is(dtype):
    x = np.ones((2, 3), dtype)
    assert real_array(x) is x


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.uint64])
def test_integers_become_float64(dtype):
    x = np.array([0, 1, 100], dtype)
    assert real_array(x).dtype == np.float64 and real_array(x).tolist() == [0, 1, 100]


@pytest.mark.parametrize("x", [[1, 2], [[1.5], [2.5]], (1, 2.5), 3, 2.5, range(3), [np.float32(1), 2]])
def test_lists_tuples_and_numbers_become_arrays(x):
    assert real_array(x).dtype.kind == "f" and np.array_equal(real_array(x), np.array(x))


@pytest.mark.parametrize("x", [[True], [1j], ["1"], [None], [b"1"], [{}], "12", None, np.array(["2020"], "M8[Y]")])
def test_what_are_no_real_numbers_is_a_type_error(x):
    with pytest.raises(TypeError, match="images must hold real numbers, got dtype"):
        real_array(x, "images")


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        ([], {}, r"x must not be empty, got shape \(0,\)"),
        (np.ones((3, 0)), {}, r"x must not be empty, got shape \(3, 0\)"),
        ([1, math.nan, 3], {}, r"x must be finite, got nan at flat index 1 \(1 such values\)"),
        ([[1, 2], [math.inf, -math.inf]], {}, r"x must be finite, got inf at flat index 2 \(2 such values\)"),
        ([1, math.inf], {}, r"x must be finite, got inf at flat index 1 \(1 such values\)"),
        ([-math.inf, math.nan], {}, r"x must be finite, got -inf at flat index 0 \(2 such values\)"),
        ([[1], [2, 3]], {}, "x is not a rectangular array"),
        ([1], {"ndim": 2}, r"x must have 2 dimensions, got shape \(1,\)"),
        ([[1]], {"ndim": (1, 3)}, r"x must have 1 or 3 dimensions, got shape \(1, 1\)"),
        (1.0, {"ndim": 1}, r"x must have 1 dimensions, got shape \(\)"),
    ],
)
def test_arrays_that_do_not_fit_are_a_value_error(x, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        real_array(x, **options)
    assert "\n" not in str(caught.value)


def test_ndim_may_be_one_number_several_or_any():
    for ndim in (2, (1, 2), None):
        assert real_array([[1.0]], ndim=ndim).shape == (1, 1)
        check_ndim(np.ones((1, 1)), "x", ndim)
    assert real_array([0.0], ndim=(1,)).shape == (1,)


@pytest.mark.parametrize("layout", [np.asfortranarray, lambda x: x[:, ::-1], lambda x: x.T])
def test_the_index_of_the_bad_value_is_that_of_reading_row_by_row(layout):
    x = layout(np.arange(12.0).reshape(3, 4).copy())
    x[tuple(size - 1 for size in x.shape)] = math.nan
    with pytest.raises(ValueError, match="got nan at flat index 11 "):
        check_finite(x)


def test_finite_arrays_of_any_kind_of_number_pass():
    for x in (np.zeros(3), np.array([np.finfo(np.float64).max]), np.array([5], np.uint8), np.array(-0.0)):
        check_finite(x)
        check_not_empty(x)


def test_shapes_are_compared_whole():
    check_same_shape(np.ones((2, 3)), np.zeros((2, 3)), ("a", "b"))
    with pytest.raises(ValueError, match=r"a and b must have the same shape, got \(3,\) and \(1, 3\)"):
        check_same_shape(np.ones(3), np.ones((1, 3)), ("a", "b"))


# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize("value", [2, np.int8(2), np.uint64(2)])
def test_an_integer_of_any_kind_comes_out_as_int(value):
    assert type(check_integer(value, "bits", 2, 16)) is int and check_integer(value, "bits", 2, 16) == 2


@pytest.mark.parametrize("value", [True, False, np.True_, 2.0, np.float64(2), "2", None, [2], np.array(2)])
def test_nothing_else_is_an_integer(value):
    with pytest.raises(TypeError, match="bits must be an integer, got"):
        check_integer(value, "bits", 0)


@pytest.mark.parametrize(
    ("value", "high", "message"),
    [(1, 16, "bits must be from 2 to 16, got 1"), (17, 16, "from 2 to 16, got 17"), (-5, None, "at least 2, got -5")],
)
def test_an_integer_outside_its_range_names_the_range(value, high, message):
    with pytest.raises(ValueError, match=message):
        check_integer(value, "bits", 2, high)
    assert [check_integer(end, "bits", 2, 16) for end in (2, 16)] == [2, 16]
    assert check_integer(10**30, "bits", 2) == 10**30


@pytest.mark.parametrize("value", [1, 0.5, np.float32(0.5), np.int16(1), 0, 1.0])
def test_a_number_of_any_kind_comes_out_as_float(value):
    assert type(check_number(value, "rate", 0, 1)) is float and check_number(value, "rate", 0, 1) == value


@pytest.mark.parametrize("value", [True, np.False_, "0.5", None, [0.5], 1j, np.array([0.5])])
def test_nothing_else_is_a_number(value):
    with pytest.raises(TypeError, match="rate must be a number, got"):
        check_number(value, "rate", 0, 1)


@pytest.mark.parametrize(
    ("ends", "inside", "outside", "text"),
    [
        ({}, (0, 0.5, 1), (-1e-9, 1 + 1e-9), r"\[0, 1\]"),
        ({"open_low": True}, (1e-300, 1), (0, -1, 2), r"\(0, 1\]"),
        ({"open_high": True}, (0, 0.999), (1, 1.5, -1), r"\[0, 1\)"),
        ({"open_low": True, "open_high": True}, (0.5,), (0, 1), r"\(0, 1\)"),
    ],
)
def test_open_ends_are_outside(ends, inside, outside, text):
    for value in inside:
        assert check_number(value, "rate", 0, 1, **ends) == value
    for value in (*outside, math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match=f"rate must be in {text}, got"):
            check_number(value, "rate", 0, 1, **ends)


def test_a_choice_is_one_of_the_names():
    assert check_choice("mse", "method", ("minmax", "mse")) == "mse"
    assert check_choice("mse", "method", {"mse": 1}) == "mse"
    for wrong in ("ms", "", None, 5, ["mse"]):
        with pytest.raises(ValueError, match="method must be one of minmax, mse, got"):
            check_choice(wrong, "method", ("minmax", "mse"))
