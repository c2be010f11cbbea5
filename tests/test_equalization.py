"""Scales that move between neighbours; exercise 10 holds what `equalize` and `bias_correction` give."""

import numpy as np
import pytest

from nnzip.equalization import bias_correction, equalize, smoothquant_scales


def test_a_second_time_changes_nothing():
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(7, 4)) * np.exp(2 * rng.normal(size=(7, 1)))
    once = equalize(weight, rng.normal(size=7), rng.normal(size=(3, 7)))
    assert all(np.allclose(again, before) for again, before in zip(equalize(*once), once, strict=True))


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
