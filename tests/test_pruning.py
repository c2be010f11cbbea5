"""Masks: the threshold itself is pruned, the number pruned is exact, and no other choice keeps more; saliencies."""

import itertools
import math

import numpy as np
import pytest

from nnzip.pruning import (
    activation,
    block_mask,
    gauss_newton_diag,
    global_magnitude_masks,
    global_masks,
    linear_schedule,
    magnitude,
    magnitude_mask,
    n_m_mask,
    obd,
    polynomial_schedule,
    saliency_mask,
    stability,
    taylor,
    threshold_mask,
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


@pytest.mark.parametrize(
    "w", [np.float16([[6e-5, 6e-5, 1e-4, 1e-4, 100, 100]]), np.float32([[2e-30, 1e-30, 1e-30, 3e-30, 1, 1]])]
)
def test_of_two_tiny_blocks_the_smaller_goes(w):
    mask = block_mask(w, 1 / 3, block_size=(1, 2))
    assert mask.tolist() == [[False, False, True, True, True, True]]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_weight_on_the_threshold_is_pruned(dtype):
    w = np.array([0.1, -0.1, 0.2, -0.2], dtype)
    assert threshold_mask(w, float(w[0])).tolist() == [False, False, True, True]
    if dtype != np.float16:  # below it the next float still is; in float16 0.1 is compared as float16
        assert threshold_mask(w, float(np.nextafter(w[0], dtype(0)))).all()


@pytest.mark.parametrize("sparsity", SPARSITIES)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 10, 99])
@pytest.mark.parametrize("values", [1, 2, 1000], ids=["all_equal", "two_magnitudes", "many"])
def test_the_number_of_pruned_weights_is_exact_even_under_ties(values, size, sparsity):
    w = np.random.default_rng(0).integers(1, values + 1, size) * np.random.default_rng(1).choice([-1.0, 1.0], size)
    mask = magnitude_mask(w, sparsity)
    assert abs((~mask).sum() - sparsity * size) <= 0.5
    if mask.any() and not mask.all():
        assert np.abs(w)[mask].min() >= np.abs(w)[~mask].max()


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


# ---------------------------------------------------------------- by any saliency, in one array and in many


@pytest.mark.parametrize("pruned", range(7))
@pytest.mark.parametrize("values", ["signed", "ties", "equal", "zero"])
def test_the_removed_saliency_is_the_least_of_all_masks(values, pruned):
    rng = np.random.default_rng(pruned)
    saliency = {
        "signed": rng.normal(size=(2, 3)),
        "ties": rng.integers(0, 3, (2, 3)).astype(float),
        "equal": np.full((2, 3), 0.7),
        "zero": np.zeros((2, 3)),
    }[values]
    mask = saliency_mask(saliency, pruned / 6)
    assert (~mask).sum() == pruned and mask.shape == saliency.shape
    least = min(sum(chosen) for chosen in itertools.combinations(saliency.ravel().tolist(), pruned))
    assert saliency[~mask].sum() == pytest.approx(least, abs=1e-12)


@pytest.mark.parametrize("pruned", range(8))
def test_the_removed_magnitude_is_the_least_over_all_layers_together(pruned):
    rng = np.random.default_rng(pruned)
    layers = {"a": rng.normal(size=(2, 2)), "b": 0.3 * rng.normal(size=3)}
    masks = global_magnitude_masks(layers, pruned / 7)
    removed = sum(np.abs(layers[name])[~mask].sum() for name, mask in masks.items())
    everything = np.abs(np.concatenate([array.ravel() for array in layers.values()]))
    least = min(sum(chosen) for chosen in itertools.combinations(everything.tolist(), pruned))
    assert list(masks) == ["a", "b"] and [mask.shape for mask in masks.values()] == [(2, 2), (3,)]
    assert sum((~mask).sum() for mask in masks.values()) == pruned
    assert removed == pytest.approx(least, abs=1e-12)


def test_what_cannot_be_ranked_is_named():
    with pytest.raises(ValueError, match=r"saliencies\['a'\] must be finite"):
        global_masks({"a": [1.0, math.nan]}, 0.5)


# ---------------------------------------------------------------- n of m


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
    with pytest.raises(ValueError, match="m must divide the rows, which have 6 weights, got 4"):
        n_m_mask(np.ones((2, 6)), 2, 4)  # 12 in all would do


def test_no_more_can_stay_than_there_are():
    with pytest.raises(ValueError, match="n must be from 0 to 4, got 5"):
        n_m_mask(np.ones((2, 8)), 5, 4)


# ---------------------------------------------------------------- blocks


@pytest.mark.parametrize("pruned", range(7))
def test_the_blocks_that_go_have_the_least_norm_of_all_choices(pruned):
    w = np.random.default_rng(pruned).normal(size=(4, 9))
    mask = block_mask(w, pruned / 6, block_size=(2, 3))
    blocks = [np.s_[i : i + 2, j : j + 3] for i in (0, 2) for j in (0, 3, 6)]
    norms = [np.linalg.norm(w[block]) for block in blocks]
    gone = [not mask[block].any() for block in blocks]
    assert all(len({*mask[block].flat}) == 1 for block in blocks)
    assert sum(gone) == pruned
    least = min(sum(chosen) for chosen in itertools.combinations(norms, pruned))
    assert sum(norm for norm, is_gone in zip(norms, gone, strict=True) if is_gone) == pytest.approx(least)


@pytest.mark.parametrize("unit", [0.0, 1e-30, 1e30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_blocks_of_tiny_huge_and_zero_weights_are_counted_exactly(dtype, unit):
    w = (np.arange(1, 9, dtype=dtype) * dtype(unit)).reshape(2, 4)
    mask = block_mask(w, 0.5, block_size=(1, 2))
    assert mask.tolist() == [[False] * 4, [True] * 4]
    mask[0, 0] = True  # the caller's own array


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


# ---------------------------------------------------------------- saliencies and what they promise


def linear_loss(w, x, target):
    """Half the squared error of a linear layer, averaged over samples, and its gradient by hand."""
    error = x @ w.T - target
    return 0.5 * np.sum(error**2) / len(x), error.T @ x / len(x)


def problem(seed=0, samples=20, n_in=5, n_out=3):
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=(samples, n_in)), rng.normal(size=(n_out, n_in))
    return w, x, x @ w.T


def without(w, index):
    w = w.copy()
    w[index] = 0
    return w


def test_taylor_is_the_change_of_a_linear_loss_and_of_any_loss_to_first_order():
    rng = np.random.default_rng(0)
    w, gradient = rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    for index in np.ndindex(w.shape):  # a loss sum(gradient * w), linear
        change = np.sum(gradient * without(w, index)) - np.sum(gradient * w)
        assert taylor(w, gradient)[index] == pytest.approx(abs(change))
    w, x, _ = problem()
    target, step = np.zeros((20, 3)), 1e-6
    loss, gradient = linear_loss(w, x, target)
    for index in np.ndindex(w.shape):  # going a share of the way to 0 changes the loss by that share of it
        nearer = w.copy()
        nearer[index] *= 1 - step
        assert abs(linear_loss(nearer, x, target)[0] - loss) / step == pytest.approx(
            taylor(w, gradient)[index], rel=1e-4
        )


def test_activation_prunes_what_hardly_any_input_reaches_and_magnitude_does_not():
    w, x = np.array([[1.0, 2.0]]), np.array([[5.0, 0.01], [5.0, -0.01]])
    assert saliency_mask(activation(w, x), 0.5).tolist() == [[True, False]]
    assert saliency_mask(magnitude(w), 0.5).tolist() == [[False, True]]


def test_activation_of_a_convolution_takes_its_windows():
    w = np.random.default_rng(0).normal(size=(2, 3, 2, 2)).astype(np.float32)
    x = np.random.default_rng(1).normal(size=(7, 12))
    assert activation(w, x).dtype == np.float32
    np.testing.assert_allclose(activation(w, x), activation(w.reshape(2, 12), x).reshape(w.shape))


def test_obd_is_exactly_what_a_quadratic_loss_loses_at_its_minimum():
    w, x, y = problem()
    hessian = np.tile(np.mean(x**2, axis=0), (3, 1))  # of the squared error: mean x_j^2, whatever the output
    for index in np.ndindex(w.shape):
        loss, _ = linear_loss(without(w, index), x, y)  # at w it is 0, and so is its gradient
        assert obd(w, hessian)[index] == pytest.approx(loss)


def test_a_squared_error_has_the_gauss_newton_diagonal_for_its_hessian():
    w, x, y = problem()
    identity = np.repeat(np.eye(3)[:, None], len(x), axis=1)  # [C, N, out]: every output is its own
    h, step = gauss_newton_diag(x, identity), 1e-3
    for index in np.ndindex(w.shape):
        up, down = w.copy(), w.copy()
        up[index] += step
        down[index] -= step
        second = (linear_loss(up, x, y)[0] - 2 * linear_loss(w, x, y)[0] + linear_loss(down, x, y)[0]) / step**2
        assert h[index] == pytest.approx(second, rel=1e-6)


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


def test_stability_of_the_last_layer_is_the_square_of_activation():
    w, x, _ = problem()
    identity = np.repeat(np.eye(3)[:, None], len(x), axis=1)
    np.testing.assert_allclose(stability(w, x, identity), activation(w, x) ** 2 / len(x))


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


# ---------------------------------------------------------------- schedules

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
