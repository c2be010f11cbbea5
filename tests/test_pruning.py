"""Masks: the threshold itself is pruned, the number pruned is exact, and no other choice keeps more."""

import itertools
import math

import numpy as np
import pytest

from nnzip.pruning import magnitude_mask, threshold_mask

SPARSITIES = (0, 0.1, 0.25, 1 / 3, 0.5, 0.7, 0.9, 1)


# ---------------------------------------------------------------- by threshold


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_weight_on_the_threshold_is_pruned(dtype):
    w = np.array([0.1, -0.1, 0.2, -0.2], dtype)
    assert threshold_mask(w, float(w[0])).tolist() == [False, False, True, True]
    if dtype != np.float16:  # below it the next float still is; in float16 0.1 is compared as float16
        assert threshold_mask(w, float(np.nextafter(w[0], dtype(0)))).all()


def test_at_threshold_0_only_zeros_are_pruned():
    assert threshold_mask([0.0, -0.0, 1e-300, -5.0], 0).tolist() == [False, False, True, True]


def test_a_threshold_compares_every_magnitude():
    w = np.random.default_rng(0).normal(size=(3, 4, 5))
    mask = threshold_mask(w, 0.7)
    assert mask.dtype == bool and mask.shape == w.shape
    assert all(mask[index] == (abs(w[index]) > 0.7) for index in np.ndindex(w.shape))


@pytest.mark.parametrize(
    ("w", "threshold", "error", "message"),
    [
        ([1.0], -0.1, ValueError, r"threshold must be in \[0, inf\), got -0.1"),
        ([1.0], math.nan, ValueError, "threshold must be in"),
        ([1.0], math.inf, ValueError, "threshold must be in"),
        ([1.0], "0.1", TypeError, "threshold must be a number"),
        ([math.nan], 0.1, ValueError, "w must be finite, got nan"),
        ([], 0.1, ValueError, "w must not be empty"),
        ([True], 0.1, TypeError, "w must hold real numbers"),
    ],
)
def test_threshold_mask_refuses_what_it_cannot_compare(w, threshold, error, message):
    with pytest.raises(error, match=message):
        threshold_mask(w, threshold)


# ---------------------------------------------------------------- by magnitude


@pytest.mark.parametrize("kept", range(9))
def test_no_other_mask_of_as_many_weights_keeps_more_magnitude(kept):
    w = np.random.default_rng(kept).normal(size=(2, 4))
    mask = magnitude_mask(w, 1 - kept / 8)
    assert mask.sum() == kept and mask.shape == w.shape and mask.dtype == bool
    best = max(sum(combination) for combination in itertools.combinations(np.abs(w).ravel().tolist(), kept))
    assert np.abs(w)[mask].sum() == pytest.approx(best, rel=1e-14)


@pytest.mark.parametrize("sparsity", SPARSITIES)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 10, 99])
@pytest.mark.parametrize("values", [1, 2, 1000], ids=["all_equal", "two_magnitudes", "many"])
def test_the_number_of_pruned_weights_is_exact_even_under_ties(values, size, sparsity):
    w = np.random.default_rng(0).integers(1, values + 1, size) * np.random.default_rng(1).choice([-1.0, 1.0], size)
    mask = magnitude_mask(w, sparsity)
    assert abs((~mask).sum() - sparsity * size) <= 0.5
    if mask.any() and not mask.all():
        assert np.abs(w)[mask].min() >= np.abs(w)[~mask].max()


def test_of_equal_weights_the_first_are_pruned():
    assert magnitude_mask([1.0, -1.0, 1.0, -1.0], 0.5).tolist() == [False, False, True, True]
    assert magnitude_mask([[2.0, 1.0], [1.0, 2.0]], 0.25).tolist() == [[True, False], [True, True]]


def test_sparsity_0_keeps_all_and_1_keeps_none():
    w = np.random.default_rng(0).normal(size=(3, 5))
    assert magnitude_mask(w, 0).all() and magnitude_mask(w, 0.0).all()
    assert not magnitude_mask(w, 1).any() and not magnitude_mask(w, 1.0).any()
    assert magnitude_mask(np.zeros(4), 0).all()  # zeros too: nothing was asked to go


def test_more_sparsity_prunes_a_superset():
    w = np.random.default_rng(0).integers(-3, 4, 50).astype(float)
    masks = [magnitude_mask(w, sparsity) for sparsity in SPARSITIES]
    assert all((late <= early).all() for early, late in itertools.pairwise(masks))


def test_neither_signs_nor_a_factor_nor_the_layout_matter():
    w = np.random.default_rng(0).normal(size=(6, 4))
    mask = magnitude_mask(w, 0.5)
    for same in (-w, np.abs(w), 1024 * w, np.asfortranarray(w), w.astype(np.float32)):
        assert np.array_equal(magnitude_mask(same, 0.5), mask)
    assert np.array_equal(magnitude_mask(w.T, 0.5), mask.T)


def test_the_weights_are_not_changed():
    w = np.random.default_rng(0).normal(size=(3, 4))
    w.setflags(write=False)
    magnitude_mask(w, 0.5)
    threshold_mask(w, 0.5)


@pytest.mark.parametrize(
    ("w", "sparsity", "error", "message"),
    [
        ([1.0], -0.01, ValueError, r"sparsity must be in \[0, 1\], got -0.01"),
        ([1.0], 1.01, ValueError, r"sparsity must be in \[0, 1\], got 1.01"),
        ([1.0], 90, ValueError, r"sparsity must be in \[0, 1\], got 90"),
        ([1.0], math.nan, ValueError, "sparsity must be in"),
        ([1.0], None, TypeError, "sparsity must be a number, got None"),
        ([1.0], True, TypeError, "sparsity must be a number, got True"),
        ([1.0, math.inf], 0.5, ValueError, "w must be finite, got inf"),
        (np.ones((0, 3)), 0.5, ValueError, r"w must not be empty, got shape \(0, 3\)"),
        ([1j], 0.5, TypeError, "w must hold real numbers"),
    ],
)
def test_magnitude_mask_refuses_what_it_cannot_rank(w, sparsity, error, message):
    with pytest.raises(error, match=message):
        magnitude_mask(w, sparsity)
