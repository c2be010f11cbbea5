"""Softmax: the exponentials of plain Python, safe at any size and temperature."""

import math

import numpy as np
import pytest

from nnzip.distillation import log_softmax, softmax


def softmax_of_a_row(row, temperature):
    largest = max(row)
    weights = [math.exp((z - largest) / temperature) for z in row]
    return [weight / math.fsum(weights) for weight in weights]


@pytest.mark.parametrize("temperature", [0.1, 1.0, 4.0, 100])
def test_softmax_is_its_formula(temperature):
    logits = np.random.default_rng(0).normal(0, 5, (20, 7))
    expected = [softmax_of_a_row(row, temperature) for row in logits.tolist()]
    np.testing.assert_allclose(softmax(logits, temperature=temperature), expected, rtol=1e-13)


def test_a_temperature_divides_the_logits():
    logits = np.random.default_rng(0).normal(0, 5, (4, 3))
    np.testing.assert_allclose(softmax(logits, temperature=3.0), softmax(logits / 3.0), rtol=1e-13)


@pytest.mark.parametrize("shape", [(1,), (5,), (3, 1), (3, 5), (2, 3, 5)])
def test_every_row_along_the_last_axis_sums_to_one(shape):
    rows = softmax(np.random.default_rng(0).normal(0, 30, shape))
    assert rows.shape == shape and (rows >= 0).all()
    np.testing.assert_allclose(rows.sum(axis=-1), 1, rtol=1e-14)


def test_a_constant_added_to_all_logits_changes_nothing():
    logits = np.array([1.0, 2.5, -3.0])  # with 1024 added still exact
    assert np.array_equal(softmax(logits + 1024), softmax(logits))


def test_a_higher_temperature_is_softer_and_keeps_the_order():
    logits = np.array([3.0, 1.0, 2.0])
    rows = [softmax(logits, temperature=t) for t in (0.5, 1, 2, 8)]
    assert all((row.argsort() == logits.argsort()).all() for row in rows)
    largest = [row.max() for row in rows]
    assert largest == sorted(largest, reverse=True)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_float_type_is_kept_and_the_input_unchanged(dtype):
    logits = np.array([[1, 2, 3], [0, 0, 0]], dtype)
    logits.setflags(write=False)
    assert softmax(logits).dtype == dtype
    assert np.array_equal(softmax(logits)[1], np.full(3, 1 / 3, dtype))


def test_integers_and_lists_are_logits_too():
    assert softmax([[0, 0], [0, 0]]).tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert softmax(np.array([1, 2], np.int8)).dtype == np.float64


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("size", [1e4, -1e4])
def test_large_logits_do_not_overflow(size, dtype):
    expected = [1, 0, 0] if size > 0 else [0, 0.5, 0.5]
    assert softmax(np.array([size, 0, 0], dtype)).tolist() == expected


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # a quotient of -infinity: a weight of 0
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    ("temperature", "expected"), [(5e-324, [0, 1]), (1e-50, [0, 1]), (1e50, [0.5, 0.5]), (1e308, [0.5, 0.5])]
)
def test_every_positive_temperature_is_served(temperature, expected, dtype):
    assert softmax(np.array([0, 1], dtype), temperature=temperature).tolist() == expected


@pytest.mark.parametrize(
    ("logits", "options", "error", "message"),
    [
        ([1.0], {"temperature": 0}, ValueError, r"temperature must be in \(0, inf\), got 0"),
        ([1.0], {"temperature": -1.0}, ValueError, r"temperature must be in \(0, inf\), got -1.0"),
        ([1.0], {"temperature": math.inf}, ValueError, "temperature must be in"),
        ([1.0], {"temperature": math.nan}, ValueError, "temperature must be in"),
        ([1.0], {"temperature": "warm"}, TypeError, "temperature must be a number, got 'warm'"),
        ([1.0], {"temperature": True}, TypeError, "temperature must be a number, got True"),
        ([], {}, ValueError, "logits must not be empty"),
        (1.0, {}, ValueError, "logits must have at least one dimension"),
        ([1.0, math.nan], {}, ValueError, "logits must be finite, got nan"),
        ([1.0, math.inf], {}, ValueError, "logits must be finite, got inf"),
        (["a"], {}, TypeError, "logits must hold real numbers"),
        ([True], {}, TypeError, "logits must hold real numbers"),
    ],
)
def test_what_has_no_softmax_is_refused(logits, options, error, message):
    with pytest.raises(error, match=message):
        softmax(logits, **options)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_the_largest_logits_overflow_nothing(dtype):
    logits = np.array([np.finfo(dtype).max, np.finfo(dtype).min, 0], dtype)
    assert softmax(logits).tolist() == [1, 0, 0]
    assert log_softmax(logits)[0] == 0 and np.isfinite(log_softmax(logits)).all()


def test_the_smallest_temperature_overflows_nothing():
    assert softmax([1.0, 2.0], temperature=1e-320).tolist() == [0, 1]
    assert np.isfinite(log_softmax([1.0, 2.0], temperature=1e-320)).all()
