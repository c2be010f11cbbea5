"""Scales that move between neighbours, by hand and on layers: the float function stays; biases that undo a shift."""

import numpy as np
import pytest

from nnzip.equalization import bias_correction, equalize, smoothquant_scales
from nnzip.nn.layers import conv2d_by_definition


def two_layers(seed, width=7):
    rng = np.random.default_rng(seed)
    spread = np.exp(2 * rng.normal(size=(width, 1)))  # channels of very different sizes
    return rng.normal(size=(width, 4)) * spread, rng.normal(size=width), rng.normal(size=(3, width)), rng


def test_rows_become_as_large_as_the_columns_that_read_them():
    w, b, following, _ = two_layers(0)
    product = np.abs(w).max(axis=1) * np.abs(following).max(axis=0)
    new_w, _, new_following = equalize(w, b, following)
    assert np.allclose(np.abs(new_w).max(axis=1), np.abs(new_following).max(axis=0))
    assert np.allclose(np.abs(new_w).max(axis=1) * np.abs(new_following).max(axis=0), product)  # the best: eq. 7
    again = equalize(new_w, b, new_following)
    assert np.allclose(again[0], new_w) and np.allclose(again[2], new_following)


def test_a_convolution_before_a_convolution_and_before_a_linear():
    rng = np.random.default_rng(0)
    w, b = rng.normal(size=(3, 2, 2, 2)) * np.array([1.0, 20.0, 0.1])[:, None, None, None], rng.normal(size=3)
    x, second, bias = rng.normal(size=(2, 2, 5, 5)), rng.normal(size=(4, 3, 2, 2)), np.zeros(4)
    new = equalize(w, b, second)
    before = conv2d_by_definition(np.maximum(conv2d_by_definition(x, w, b), 0), second, bias)
    after = conv2d_by_definition(np.maximum(conv2d_by_definition(x, *new[:2]), 0), new[2], bias)
    assert np.allclose(after, before) and [a.shape for a in new] == [w.shape, b.shape, second.shape]
    flat = rng.normal(size=(5, 3 * 16))  # of 3 channels of 4 x 4, one after the other, as Flatten has them
    new = equalize(w, b, flat)
    y, y_new = conv2d_by_definition(x, w, b).reshape(2, -1), conv2d_by_definition(x, *new[:2]).reshape(2, -1)
    assert np.allclose(y_new @ new[2].T, y @ flat.T)


def test_dead_channels_stay_and_nothing_is_changed_in_place():
    w, b, following, _ = two_layers(1)
    w[0], following[:, 1], w[2], following[:, 2] = 0, 0, 0, 0
    given = [array.copy() for array in (w, b, following)]
    new = equalize(w, b, following)
    for before, after, now in zip(given, new, (w, b, following), strict=True):
        assert np.array_equal(before, now) and np.isfinite(after).all()
    assert np.array_equal(new[0][:3], w[:3]) and np.array_equal(new[1][:3], b[:3])
    assert np.array_equal(new[2][:, :3], following[:, :3])
    assert all(array.dtype == np.float32 for array in equalize(*(array.astype(np.float32) for array in given)))


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_smoothing_shares_the_outliers_out_and_keeps_the_product(alpha):
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(30, 6)) * [1, 50, 1, 0.1, 2, 1], rng.normal(size=(4, 6))
    s = smoothquant_scales(x, w, alpha=alpha)
    assert np.allclose((x / s) @ (w * s).T, x @ w.T)
    left, right = np.abs(x / s).max(axis=0), np.abs(w * s).max(axis=0)
    if alpha == 0.5:
        assert np.allclose(left, right)
    assert np.allclose(left, 1) if alpha == 1 else np.allclose(left ** (alpha / (1 - alpha)), right) or alpha == 0
    assert alpha > 0 or np.allclose(right, 1)


def test_smoothing_leaves_dead_inputs_alone_and_reads_channels():
    x, w = np.array([[0.0, 4.0, 2.0]]), np.array([[1.0, 0.0, 2.0]])
    assert smoothquant_scales(x, w).tolist() == [1.0, 1.0, 1.0]
    maps, filters = np.arange(24.0).reshape(2, 3, 2, 2), np.ones((5, 3, 1, 1))
    assert np.allclose(smoothquant_scales(maps, filters, alpha=1), [15, 19, 23])


def test_a_corrected_bias_leaves_no_mean_error():
    rng = np.random.default_rng(0)
    x, w, b = np.maximum(rng.normal(size=(50, 6)), 0), rng.normal(size=(4, 6)), rng.normal(size=4)
    rounded = np.rint(w)
    y, y_hat = x @ w.T + b, x @ rounded.T + b
    corrected = bias_correction(b, y, y_hat)
    assert np.allclose((x @ rounded.T + corrected).mean(axis=0), y.mean(axis=0))
    assert np.allclose(corrected - b, (w - rounded) @ x.mean(axis=0))  # what the paper writes: E[x] times the error
    maps, moved = rng.normal(size=(5, 4, 3, 2)), rng.normal(size=(5, 4, 3, 2))
    fixed = moved + (bias_correction(b, maps, moved) - b)[:, None, None]
    assert np.allclose(fixed.mean(axis=(0, 2, 3)), maps.mean(axis=(0, 2, 3)))
    assert (
        np.array_equal(bias_correction(b, y, y), b) and bias_correction(b.astype(np.float32), y, y).dtype == np.float32
    )


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("channels", lambda: equalize(np.ones((3, 2)), np.ones(2), np.ones((2, 3)))),
        ("channels", lambda: equalize(np.ones((3, 2)), np.ones(3), np.ones((2, 4)))),
        ("channels", lambda: equalize(np.ones((3, 2, 1, 1)), np.ones(3), np.ones((2, 6, 1, 1)))),
        ("inputs", lambda: smoothquant_scales([[1.0, 2.0]], [[1.0]])),
        ("same shape", lambda: bias_correction([1.0], [[1.0]], [[1.0], [2.0]])),
        ("outputs", lambda: bias_correction([1.0, 2.0], [[1.0]], [[1.0]])),
    ],
)
def test_what_does_not_fit_is_refused(message, call):
    with pytest.raises(ValueError, match=message):
        call()
