"""Masks: the number pruned is exact, and no other choice keeps more; saliencies; schedules."""

import itertools
import math

import numpy as np
import pytest

from nnzip.pruning import (
    activation,
    block_mask,
    gauss_newton_diag,
    global_masks,
    linear_schedule,
    magnitude_mask,
    n_m_mask,
    obd,
    polynomial_schedule,
    saliency_mask,
    stability,
    taylor,
)
from nnzip.reconstruction import obs_saliency

SPARSITIES = (0, 0.1, 0.25, 1 / 3, 0.5, 0.7, 0.9, 1)


SMALL, LARGE = np.float16([[2e-4, 1e-4, 1e-3]]), np.float16([[200, 100, 1000]])  # their squares are no float16


@pytest.mark.parametrize("w", [SMALL, LARGE])
@pytest.mark.parametrize(
    "saliency",
    [
        lambda w: taylor(w, w),
        lambda w: obd(w, np.ones(w.shape, np.float16)),
        lambda w: activation(w, np.full((9, 3), w.max())),
        lambda w: stability(w, np.full((9, 3), w.max()), np.full((1, 9, 1), w.max())),
        lambda w: obs_saliency(w, np.eye(3)),
    ],
)
def test_float16_weights_are_ranked_by_wider_numbers(saliency, w):
    with np.errstate(all="raise"):
        scores = saliency(w)
    assert scores.dtype in (np.float32, np.float64) and np.isfinite(scores).all()
    assert saliency_mask(scores, 1 / 3).tolist() == [[True, False, True]]


def test_a_convolutions_float16_gradients_are_added_in_wider_numbers():
    x, responses = np.full((1, 4, 1), 200, np.float16), np.full((1, 1, 4, 1), 200, np.float16)
    assert gauss_newton_diag(x, responses).tolist() == [[160_000.0**2]]


# Masks


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("values", [0, 1, 3, 1000], ids=["zeros", "all_equal", "ties", "many"])
def test_exactly_so_many_of_the_smallest_go_the_first_of_equal_ones_before_the_others(values, order):
    rng = np.random.default_rng(0)
    for shape, sparsity in itertools.product([(1,), (7,), (10,), (6, 4), (3, 2, 5)], SPARSITIES):
        sizes = np.full(shape, 2) if values == 1 else rng.integers(0, values + 1, shape)
        w = np.asarray(sizes * rng.choice([-0.5, 0.5], shape), order=order)
        for mask, ranked in ((saliency_mask(w, sparsity), w), (magnitude_mask(w, sparsity), np.abs(w))):
            expected = np.ones(w.size, bool)
            expected[np.argsort(ranked, axis=None, kind="stable")[: round(sparsity * w.size)]] = False
            assert np.array_equal(mask, expected.reshape(shape))


def test_what_cannot_be_ranked_is_named():
    with pytest.raises(ValueError, match=r"saliencies\['a'\] must be finite"):
        global_masks({"a": [1.0, math.nan]}, 0.5)


@pytest.mark.parametrize(("n", "m"), [(0, 1), (1, 1), (1, 2), (1, 4), (2, 4), (3, 4), (4, 4), (4, 8), (0, 3)])
def test_every_group_keeps_its_n_largest_of_all_choices(n, m):
    w = np.random.default_rng(10 * n + m).normal(size=(5, 2 * m))
    groups, masks = np.abs(w).reshape(-1, m), n_m_mask(w, n, m).reshape(-1, m)
    for group, mask in zip(groups, masks, strict=True):
        best = max(sum(chosen) for chosen in itertools.combinations(group.tolist(), n))
        assert mask.sum() == n and group[mask].sum() == pytest.approx(best, abs=1e-12)


def test_rows_do_not_share_groups_and_convolutions_have_rows_too():
    w = np.random.default_rng(0).normal(size=(3, 2, 2, 3))
    assert np.array_equal(n_m_mask(w, 1, 4), n_m_mask(w.reshape(3, 12), 1, 4).reshape(w.shape))
    assert np.array_equal(n_m_mask(w[0, 0, 0], 1, 3), n_m_mask(w[0, 0], 1, 3)[0])  # one row
    assert np.array_equal(n_m_mask(np.asfortranarray(w), 1, 4), n_m_mask(w, 1, 4))


@pytest.mark.parametrize(
    ("n", "m", "message"), [(2, 4, "m must divide the rows, which have 6"), (3, 2, "n must be from 0 to 2, got 3")]
)
def test_groups_that_rows_do_not_have_are_refused(n, m, message):
    with pytest.raises(ValueError, match=message):
        n_m_mask(np.ones((2, 6)), n, m)  # of 4 there are three in all, but none in a row alone


@pytest.mark.parametrize("pruned", range(7))
def test_the_blocks_that_go_have_the_least_norms(pruned):
    w = np.random.default_rng(pruned).normal(size=(4, 9))
    norms = np.array([[np.linalg.norm(w[i : i + 2, j : j + 3]) for j in (0, 3, 6)] for i in (0, 2)])
    expected = np.kron(norms >= np.append(np.sort(norms, axis=None), np.inf)[pruned], np.ones((2, 3)))
    assert np.array_equal(block_mask(w, pruned / 6, block_size=(2, 3)), expected)


@pytest.mark.parametrize(
    "w",
    [
        np.float16([[1e-4, 1e-4, 6e-5, 6e-5, 100, 100]]),
        np.float32([[1e-30, 3e-30, 2e-30, 1e-30, 1, 1]]),
        1e200 * np.array([[1.0, 3.0, 2.0, 1.0, 4.0, 4.0]]),
    ],
)
def test_the_smallest_of_tiny_and_huge_blocks_goes(w):
    assert block_mask(w, 1 / 3, block_size=(1, 2)).tolist() == [[True, True, False, False, True, True]]


def test_of_zero_blocks_the_first_go_and_the_mask_is_the_callers_own():
    mask = block_mask(np.zeros((2, 2)), 0.5, block_size=(1, 1))
    assert mask.tolist() == [[False, False], [True, True]]
    mask[0, 0] = True


@pytest.mark.parametrize(
    ("block_size", "error", "message"),
    [
        ((2,), ValueError, "block_size must have 2 numbers"),
        (2, ValueError, "block_size must have 2 numbers"),
        ((3, 2), ValueError, r"block_size must divide the shape \(4, 6\), got \(3, 2\)"),
        ((0, 2), ValueError, "block_size must be at least 1"),
        ((2.0, 2), TypeError, "block_size must be an integer"),
    ],
)
def test_blocks_that_do_not_fit_are_refused(block_size, error, message):
    with pytest.raises(error, match=message):
        block_mask(np.ones((4, 6)), 0.5, block_size=block_size)


# Saliencies, of a layer alone; tests/test_compression_pruning.py has them of whole networks


def test_taylor_is_the_change_of_a_linear_loss():
    w, gradient = np.random.default_rng(0).normal(size=(2, 3, 4))  # a loss sum(gradient * w)
    for index in np.ndindex(w.shape):
        pruned = w.copy()
        pruned[index] = 0
        assert taylor(w, gradient)[index] == pytest.approx(abs(np.sum(gradient * pruned) - np.sum(gradient * w)))


def test_activation_of_a_convolution_takes_its_windows():
    w = np.random.default_rng(0).normal(size=(2, 3, 2, 2)).astype(np.float32)
    x = np.random.default_rng(1).normal(size=(7, 12))
    assert activation(w, x).dtype == np.float32
    np.testing.assert_allclose(activation(w, x), activation(w.reshape(2, 12), x).reshape(w.shape))


def test_obd_is_exactly_what_a_squared_error_loses_at_its_minimum():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(20, 5)), rng.normal(size=(3, 5))
    identity = np.repeat(np.eye(3)[:, None], len(x), axis=1)  # [C, N, out]: every output is its own
    for index in np.ndindex(w.shape):
        pruned = w.copy()
        pruned[index] = 0
        loss = 0.5 * np.sum((x @ pruned.T - x @ w.T) ** 2) / len(x)  # at w it is 0, and so is its gradient
        assert obd(w, gauss_newton_diag(x, identity))[index] == pytest.approx(loss)
    np.testing.assert_allclose(stability(w, x, identity), activation(w, x) ** 2 / len(x))


def test_the_same_weight_at_several_places_adds_up_before_it_is_squared():
    rng = np.random.default_rng(0)
    x, responses = rng.normal(size=(4, 6, 3)), rng.normal(size=(2, 4, 6, 5))  # N, P, in; C, N, P, out
    expected = np.zeros((5, 3))
    for c, n in np.ndindex(2, 4):
        expected += (responses[c, n].T @ x[n]) ** 2 / 4  # the gradient of output c of sample n by the weight
    np.testing.assert_allclose(gauss_newton_diag(x, responses), expected)
    one_place = gauss_newton_diag(x[:, :1], responses[:, :, :1])
    np.testing.assert_allclose(one_place, gauss_newton_diag(x[:, 0], responses[:, :, 0]))


def test_stability_is_the_mean_squared_move_of_the_outputs_when_a_weight_is_perturbed():
    rng = np.random.default_rng(0)
    w, x = rng.normal(size=(3, 4)), rng.normal(size=(6, 4))
    after = rng.normal(size=(2, 3))  # what comes behind: z = y after^T
    jacobian = np.repeat(after[:, None], len(x), axis=1)
    z = x @ w.T @ after.T
    for index in np.ndindex(w.shape):
        moves = []
        for sign in (1, -1):  # e = +-1, each half of the time: mean 0, mean square 1
            perturbed = w.copy()
            perturbed[index] *= 1 + sign
            moves.append(np.mean(np.sum((x @ perturbed.T @ after.T - z) ** 2, axis=1)))
        assert stability(w, x, jacobian)[index] == pytest.approx(np.mean(moves))


@pytest.mark.parametrize(
    ("function", "shapes", "message"),
    [
        (taylor, [(2,), (1,)], r"w and grad must have the same shape, got \(2,\) and \(1,\)"),
        (obd, [(2,), (1, 2)], "w and hessian_diag must have the same shape"),
        (activation, [(2, 3), (4, 2)], "x must end in 3 inputs"),
        (stability, [(2, 3), (4, 2), (1, 4, 2)], "x must end in 3 inputs"),
        (stability, [(2, 3), (4, 3), (4, 2)], r"shape \(C, 4, out\)"),
        (gauss_newton_diag, [(4, 3), (1, 5, 2)], r"shape \(C, 4, out\)"),
        (gauss_newton_diag, [(4, 6, 3), (1, 4, 2)], r"shape \(C, 4, 6, out\)"),
    ],
)
def test_saliencies_refuse_what_does_not_fit(function, shapes, message):
    with pytest.raises(ValueError, match=message):
        function(*map(np.ones, shapes))


# Schedules

RAMP = {"begin_step": 10, "end_step": 30, "initial_sparsity": 0.2, "final_sparsity": 0.8}


@pytest.mark.parametrize("schedule", [linear_schedule, polynomial_schedule])
def test_schedules_wait_begin_rise_and_stay(schedule):
    values = [schedule(step, **RAMP) for step in range(50)]
    assert values[:10] == [0] * 10 and values[10] == pytest.approx(0.2)
    assert all(early < late for early, late in itertools.pairwise(values[10:31]))
    assert all(value == pytest.approx(0.8) for value in values[30:])


def test_a_schedule_can_fall_and_stay_level():
    assert linear_schedule(5, begin_step=0, end_step=10, initial_sparsity=0.5, final_sparsity=0.1) == pytest.approx(0.3)
    assert polynomial_schedule(5, begin_step=0, end_step=10, initial_sparsity=0.5, final_sparsity=0.5) == 0.5


def test_a_schedule_must_have_time_to_rise():
    with pytest.raises(ValueError, match="end_step must be at least 11, got 10"):
        linear_schedule(1, **RAMP | {"end_step": 10})
