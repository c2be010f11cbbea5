"""Softmax and the losses of distillation: their limits, and no number too large; the graders hold the formulas."""

import numpy as np
import pytest

from nnzip.distillation import (
    attention_loss,
    distillation_loss,
    hint_loss,
    kl_divergence,
    log_softmax,
    softmax,
)
from nnzip.nn.training import cross_entropy


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_float_type_is_kept(dtype):
    logits = np.array([[1, 2, 3], [0, 0, 0]], dtype)
    assert softmax(logits).dtype == dtype
    assert np.array_equal(softmax(logits)[1], np.full(3, 1 / 3, dtype))


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # a quotient of -infinity: a weight of 0
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    ("temperature", "expected"), [(5e-324, [0, 1]), (1e-50, [0, 1]), (1e50, [0.5, 0.5]), (1e308, [0.5, 0.5])]
)
def test_every_positive_temperature_is_served(temperature, expected, dtype):
    assert softmax(np.array([0, 1], dtype), temperature=temperature).tolist() == expected


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_the_largest_logits_overflow_nothing(dtype):
    logits = np.array([np.finfo(dtype).max, np.finfo(dtype).min, 0], dtype)
    assert softmax(logits).tolist() == [1, 0, 0]
    assert log_softmax(logits)[0] == 0 and np.isfinite(log_softmax(logits)).all()
    assert np.isfinite(log_softmax([1.0, 2.0], temperature=1e-320)).all()


# The distillation loss

STUDENT, TEACHER = np.random.default_rng(0).normal(0, 3, (2, 6, 4))
LABELS = np.array([0, 1, 2, 3, 0, 1])


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize("temperature", [1e-300, 1e-20, 1, 4, 1e20, 1e300])
def test_at_any_temperature_alpha_0_is_cross_entropy_and_no_gradient_is_nan(temperature):
    loss, gradient = distillation_loss(STUDENT, TEACHER, LABELS, temperature=temperature, alpha=0)
    expected = cross_entropy(STUDENT, LABELS)
    assert loss == pytest.approx(expected[0], rel=1e-12)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-10, atol=1e-15)
    assert np.isfinite(distillation_loss(STUDENT, TEACHER, LABELS, temperature=temperature)[1]).all()


@pytest.mark.parametrize("temperature", [1e3, 1e5])
def test_at_high_temperatures_it_matches_centred_logits(temperature):
    # Hinton et al. 2015, eq. 4: the gradient is (z - v) / (N T^2) of centred logits; T^2 and the number of rows removed
    N, classes = STUDENT.shape
    centred = [z - z.mean(axis=1, keepdims=True) for z in (STUDENT, TEACHER)]
    loss, gradient = distillation_loss(STUDENT, TEACHER, LABELS, temperature=temperature, alpha=1)
    np.testing.assert_allclose(gradient, (centred[0] - centred[1]) / (classes * N), atol=30 / temperature)
    assert loss == pytest.approx(np.sum((centred[0] - centred[1]) ** 2) / (2 * classes * N), rel=30 / temperature)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1e4, 1e30])
def test_large_logits_give_the_loss_and_its_gradient(size, dtype):
    student, teacher = np.array([[size, 0]], dtype), np.array([[0, size]], dtype)
    loss, gradient = distillation_loss(student, teacher, [0], temperature=2, alpha=0.5)
    assert loss == pytest.approx(0.5 * 4 * size / 2, rel=1e-6)  # the KL is size / T; the label agrees
    assert gradient.dtype == dtype and gradient.tolist() == [[0.5 * 2, -0.5 * 2]]  # and its slope is alpha T
    value, gradient = kl_divergence(teacher, student, temperature=2)
    assert value == pytest.approx(size / 2, rel=1e-6) and gradient.tolist() == [[0.5, -0.5]]


def test_integers_are_logits_too_and_the_gradient_is_the_students():
    assert kl_divergence([[0, 1]], [[1, 0]])[1].dtype == np.float64
    assert distillation_loss(STUDENT.astype(np.float32), TEACHER, LABELS)[1].dtype == np.float32


@pytest.mark.parametrize(
    "function", [distillation_loss, lambda student, teacher, labels: kl_divergence(teacher, student)]
)
def test_logits_that_do_not_fit_are_refused(function):
    with pytest.raises(ValueError, match=r"must have the same shape, got \(6, 3\) and \(6, 4\)"):
        function(STUDENT, TEACHER[:, :3], LABELS)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (LABELS[:5], ValueError, r"labels must have shape \(6,\), one for each row, got \(5,\)"),
        (LABELS.astype(float), TypeError, "labels must be integers, got dtype float64"),
        (LABELS + 1, ValueError, "labels must be from 0 to 3, got 1 to 4"),
    ],
)
def test_labels_that_name_no_class_are_refused(labels, error, message):
    with pytest.raises(error, match=message):
        distillation_loss(STUDENT, TEACHER, labels)


# Hints and attention

MAPS = np.random.default_rng(0).normal(size=(3, 4, 5, 2)), np.random.default_rng(1).normal(size=(3, 7, 5, 2))


@pytest.mark.parametrize("factor", [1e-150, -2.0, 1e150])
def test_where_a_layer_looks_does_not_depend_on_how_loud_it_is(factor):
    value, gradient = attention_loss(*MAPS)
    scaled = attention_loss(factor * MAPS[0], MAPS[1])
    assert scaled[0] == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(scaled[1], gradient / factor, rtol=1e-9)
    assert attention_loss(MAPS[0], factor * MAPS[1])[0] == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("loss", "student", "teacher", "message"),
    [
        (hint_loss, np.ones((2, 3)), np.ones((2, 4)), r"must have the same shape, got \(2, 4\) and \(2, 3\)"),
        (attention_loss, MAPS[0], MAPS[1][:2], r"without channels, .*\(3, 5, 2\) and \(2, 5, 2\)"),
    ],
)
def test_features_that_do_not_fit_are_refused(loss, student, teacher, message):
    with pytest.raises(ValueError, match=message):
        loss(student, teacher)
