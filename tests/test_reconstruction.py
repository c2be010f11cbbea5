"""Second-order pruning and rounding of a layer: against least squares, the published loop, and all 2^n roundings."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from nnzip import reconstruction
from nnzip.quantization import QuantParams, choose_qparams, fake_quantize, quantize
from nnzip.reconstruction import (
    adaround,
    adaround_loss,
    best_rounding,
    damped,
    fit_scales,
    gptq,
    gptq_by_definition,
    input_hessian,
    obd_prune,
    obs_prune,
    obs_saliency,
    output_error,
    refit,
)

METHODS = (gptq, gptq_by_definition, adaround, best_rounding)
LAYOUTS = {
    "tensor": {},
    "channel": {"axis": 0},
    "inputs": {"axis": 1},
    "group": {"group_size": 3},
    "affine": {"axis": 0, "symmetric": False},
}


def layer(seed, out=5, n=9, samples=40):
    """Return a weight and correlated inputs: a few common causes, and noise."""
    rng = np.random.default_rng(seed)
    causes = rng.normal(size=(samples, 3)) @ rng.normal(size=(3, n))
    x = causes + 0.3 * rng.normal(size=(samples, n)) + rng.normal(size=n)
    return rng.normal(size=(out, n)), x


def squared_change(x, before, after):  # mean_n |(W' - W) x_n|^2, in so many words
    return np.mean(np.sum((x @ after.T - x @ before.T) ** 2, axis=1))


@pytest.mark.parametrize("seed", range(3))
def test_output_error_is_the_mean_squared_change_of_the_outputs(seed):
    w, x = layer(seed)
    moved = w + np.random.default_rng(9).normal(size=w.shape)
    assert np.isclose(output_error(w, moved, input_hessian(x, damping=0)), squared_change(x, w, moved))
    assert output_error(w, w, input_hessian(x)) == 0


def test_damping_adds_to_the_diagonal_alone_and_makes_anything_invertible():
    h = input_hessian(np.ones((2, 4)), damping=0)
    assert np.allclose(damped(h, 0.5), h + 0.5 * 2 * np.eye(4)) and np.array_equal(damped(h, 0), h)
    for x in (np.ones((3, 4)), np.zeros((3, 4)), np.eye(4)[:1], 1e-12 * np.ones((1, 4))):
        np.linalg.cholesky(input_hessian(x))


@pytest.mark.parametrize("seed", range(4))
def test_refit_is_the_constrained_least_squares_solution(seed):
    w, x = layer(seed)
    mask = np.random.default_rng(seed).random(w.shape) < [[0.2], [0.5], [0.8], [0.0], [1.0]]
    fitted = refit(w, mask, input_hessian(x, damping=0))
    for row, kept, got in zip(w, mask, fitted, strict=True):
        expected = np.zeros(9)
        expected[kept] = np.linalg.lstsq(x[:, kept], x @ row, rcond=None)[0]
        assert np.allclose(got, expected, atol=1e-9)
    assert np.array_equal(fitted[4], w[4]) and not fitted[3].any()


def test_a_saliency_of_the_surgeon_is_what_one_elimination_costs():
    w, x = layer(3, out=2, n=6)
    h = input_hessian(x, damping=0)
    saliency = obs_saliency(w, h)
    for i, j in np.ndindex(w.shape):
        mask = np.ones(w.shape, bool)
        mask[i, j] = False
        assert np.isclose(saliency[i, j], squared_change(x, w, refit(w, mask, h)))


def test_the_surgeon_never_loses_more_than_damage():
    for seed in range(20):
        w, x = layer(seed, out=1)
        h = input_hessian(x, damping=0)
        for sparsity in (1 / 9, 4 / 9, 8 / 9):
            damage, surgery = obd_prune(w, h, sparsity), obs_prune(w, h, sparsity)
            assert (damage == 0).sum() == (surgery == 0).sum() == round(9 * sparsity)
            assert np.allclose(surgery, refit(w, surgery != 0, h))
            assert output_error(w, refit(w, damage != 0, h), h) <= output_error(w, damage, h) + 1e-12
        first = (output_error(w, f(w, h, 1 / 9), h) for f in (obs_prune, obd_prune))
        assert next(first) <= next(first) + 1e-12  # of one weight the surgeon's choice is the best there is


def test_damage_takes_the_smallest_products():
    w, h = np.array([[1.0, -2.0, 3.0], [0.5, 4.0, -0.1]]), np.diag([100.0, 1.0, 4.0]) + 0.1
    order = np.argsort((w**2 * np.diag(h)).ravel())
    for count in range(7):
        expected = w.copy()
        expected.flat[order[:count]] = 0
        assert np.array_equal(obd_prune(w, h, count / 6), expected)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("bits", [2, 4])
def test_gptq_is_the_explicit_loop_in_any_blocks(layout, bits, monkeypatch):
    for seed, block in itertools.product(range(4), (1, 2, 4, 9, 100)):
        monkeypatch.setattr(reconstruction, "BLOCK", block)
        w, x = layer(seed)
        h, grid = input_hessian(x), choose_qparams(w, bits=bits, **LAYOUTS[layout])
        assert np.array_equal(gptq(w, h, grid), gptq_by_definition(w, h, grid))


def published(weight, hessian, scale, qmin, qmax, block_size):
    """Frantar et al. 2023, Algorithm 1: errors go to the rest of a block at once, to the rest of a row in one go."""
    upper = np.linalg.cholesky(np.linalg.inv(hessian)).T
    left, rounded = weight.copy(), np.empty_like(weight)
    for start in range(0, weight.shape[1], block_size):
        end = min(start + block_size, weight.shape[1])
        errors = np.empty((len(weight), end - start))
        for k in range(start, end):
            rounded[:, k] = np.clip(np.rint(left[:, k] / scale), qmin, qmax) * scale
            errors[:, k - start] = (left[:, k] - rounded[:, k]) / upper[k, k]
            left[:, k:end] -= np.outer(errors[:, k - start], upper[k, k:end])
        left[:, end:] -= errors @ upper[start:end, end:]
    return rounded


@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("block_size", [16, 50])
def test_gptq_is_the_published_algorithm(bits, block_size, monkeypatch):
    monkeypatch.setattr(reconstruction, "BLOCK", block_size)
    weight, x = layer(bits, out=20, n=70, samples=200)
    h, grid = input_hessian(x), choose_qparams(weight, bits=bits, axis=0)
    expected = published(weight, h, grid.scale.astype(np.float64), grid.qmin, grid.qmax, block_size)
    assert np.allclose(gptq(weight, h, grid), expected, rtol=1e-6, atol=0)  # the scales are float32, the codes equal


def test_descending_order_rounds_the_largest_diagonal_first():
    w, x = layer(1)
    x = x * np.array([1, 5, 2, 9, 4, 3, 8, 7, 6.0])
    h = input_hessian(x)
    order = np.argsort(-np.diag(h))
    for options in ({}, {"axis": 0}, {"group_size": 3}):
        grid = choose_qparams(w, bits=3, **options)
        if "group_size" not in options:  # a permuted layer has other groups
            permuted = gptq(w[:, order], h[np.ix_(order, order)], grid)
            assert np.array_equal(gptq(w, h, grid, order="descending")[:, order], permuted)
        first = gptq(w, h, grid, order="descending")[:, order[0]]
        assert np.array_equal(first, fake_quantize(w, grid)[:, order[0]])  # it had nothing to make up for


def test_masked_weights_become_zero_and_the_others_make_up_for_it():
    w, x = layer(3)
    h, grid = input_hessian(x), choose_qparams(w, bits=8, symmetric=False)
    mask = np.random.default_rng(0).random(w.shape) < 0.6
    for order in ("natural", "descending"):
        rounded = gptq(w, h, grid, mask=mask, order=order)
        assert not rounded[~mask].any() and np.array_equal(rounded, fake_quantize(rounded, grid))
        assert output_error(w, rounded, h) < output_error(w, fake_quantize(w * mask, grid), h)
    everything = gptq(w, h, grid, mask=np.ones(w.shape, bool))
    assert np.array_equal(everything, gptq(w, h, grid))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("method", METHODS)
def test_what_comes_out_lies_on_the_grid_to_the_bit(method, layout):
    w, x = layer(2, n=6)
    for weight in (w, w.astype(np.float32), 100 * w):  # the last is clipped nearly everywhere
        grid = choose_qparams(w, bits=3, **LAYOUTS[layout])
        before = weight.copy()
        rounded = method(weight, input_hessian(x), grid)
        assert rounded.dtype == np.float32 and rounded.shape == weight.shape
        assert np.array_equal(rounded, fake_quantize(rounded, grid)) and np.array_equal(weight, before)
        codes = quantize(rounded, grid)
        assert codes.min() >= grid.qmin and codes.max() <= grid.qmax


@pytest.mark.parametrize("method", METHODS)
def test_what_lies_on_the_grid_stays(method):
    grid = QuantParams(scale=0.5, zero_point=0, bits=4, signed=True, narrow=True)
    w = 0.5 * np.random.default_rng(0).integers(-7, 8, (4, 6))
    assert np.array_equal(method(w, input_hessian(layer(0, n=6)[1]), grid), w)
    assert not method(np.zeros((2, 6)), input_hessian(layer(0, n=6)[1]), grid).any()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("method", METHODS)
def test_without_correlations_nearest_is_best(method, layout):
    w = np.random.default_rng(0).normal(size=(5, 9)) + 0.5
    grid = choose_qparams(w, bits=3, **LAYOUTS[layout])
    h = np.diag(np.random.default_rng(1).random(9) + 0.5)
    assert np.array_equal(method(w, h, grid), fake_quantize(w, grid))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (6, 1)])
def test_one_row_and_one_input(method, shape):
    w, x = np.random.default_rng(0).normal(size=shape), np.random.default_rng(1).normal(size=(9, shape[1]))
    grid = choose_qparams(w, bits=3)
    rounded = method(w, input_hessian(x), grid)
    assert rounded.shape == shape
    if shape[1] == 1:
        assert np.array_equal(rounded, fake_quantize(w, grid))


@pytest.mark.parametrize("method", METHODS)
def test_inputs_that_say_little_are_no_obstacle_once_damped(method):
    w, x = layer(4, n=6)
    dead = x * np.array([1, 0, 1, 1, 0, 1])
    for inputs in (dead, 0 * x, np.repeat(x[:, :3], 2, axis=1), x[:1], np.ones((3, 6))):
        rounded = method(w, input_hessian(inputs), choose_qparams(w, bits=3))
        assert np.isfinite(rounded).all()
    at_dead = method(w, input_hessian(dead), choose_qparams(w, bits=3))[:, [1, 4]]
    assert np.array_equal(at_dead, fake_quantize(w, choose_qparams(w, bits=3))[:, [1, 4]])  # to nearest


def test_nearest_is_farther_from_the_best_than_the_learned_and_the_second_order_rounding():
    """Over small layers with correlated inputs, in the geometric mean of the ratio to the best of all 2^n."""
    ratios = {name: [] for name in ("nearest", "gptq", "adaround")}
    for seed in range(12):
        w, x = layer(seed, out=8, n=10, samples=60)
        h, grid = input_hessian(x, damping=0), choose_qparams(w, bits=4, axis=0)
        best = output_error(w, best_rounding(w, h, grid), h)
        found = {"nearest": fake_quantize(w, grid), "gptq": gptq(w, damped(h), grid), "adaround": adaround(w, h, grid)}
        for name, rounded in found.items():
            ratios[name].append(output_error(w, rounded, h) / best)
    means = {name: np.exp(np.mean(np.log(values))) for name, values in ratios.items()}
    assert min(ratios["adaround"] + ratios["nearest"]) >= 1 - 1e-6  # up or down: never below the best
    assert means["gptq"] < means["nearest"] / 1.5 and means["adaround"] < means["nearest"] / 1.5


def test_the_judge_knows_how_far_a_weight_beyond_the_grid_is():
    w, h = np.array([[6.0, 0.3]]), np.array([[2.0, 0.25], [0.25, 2.0]])
    grid = QuantParams(scale=1.0, zero_point=0, bits=3, signed=True, narrow=True)
    ways = [[3.0, 0.0], [3.0, 1.0]]
    assert best_rounding(w, h, grid).tolist() == [min(ways, key=lambda way: output_error(w, [way], h))] == [ways[1]]


def row_errors(before, after, hessian):
    return np.array([output_error([old], [new], hessian) for old, new in zip(before, after, strict=True)])


def test_scales_shrink_where_the_outputs_gain_and_nowhere_else():
    w, x = layer(6, out=6, n=12)
    h = input_hessian(x)
    for options in ({}, {"axis": 0}, {"group_size": 4}):
        grid = choose_qparams(w, bits=2, **options)
        shrunk = [replace(grid, scale=grid.scale * np.float32(shrink)) for shrink in (1.0, 0.9, 0.8, 0.7, 0.6)]
        *by_shrink, got = (row_errors(w, gptq(w, h, each), h) for each in (*shrunk, fit_scales(w, h, grid)))
        if options:
            assert np.allclose(got, np.min(by_shrink, axis=0))
        else:
            assert np.isclose(got.sum(), np.sum(by_shrink, axis=1).min())


@pytest.mark.parametrize("strength", [0.0, 0.7])
@pytest.mark.parametrize("beta", [2.0, 5.5])
def test_the_gradient_of_adaround_is_that_of_its_loss(strength, beta):
    rng = np.random.default_rng(0)
    target, v = rng.uniform(-4, 4, (3, 5)), rng.uniform(-1.5, 1.5, (3, 5))
    v[2, :3] = -4, 4, 3  # where the stretched sigmoid is clipped
    target[0, :2] = -3.99, 3.99  # clipped on one side or the other
    share, h = rng.uniform(0.5, 2, (3, 5)), input_hessian(rng.normal(size=(9, 5)))
    rest = (target, share, h, np.full((3, 5), -3), np.full((3, 5), 3), strength, beta)
    grad, step = adaround_loss(v, *rest)[1], 1e-6
    for i, j in np.ndindex(v.shape):
        e = np.zeros(v.shape)
        e[i, j] = step
        numeric = (adaround_loss(v + e, *rest)[0] - adaround_loss(v - e, *rest)[0]) / (2 * step)
        assert np.isclose(grad[i, j], numeric, rtol=1e-5, atol=1e-7)


def test_adaround_starts_at_the_float_weights_and_ends_up_or_down():
    w, x = layer(7)
    h, grid = input_hessian(x), choose_qparams(w, bits=4, axis=0)
    steps = w / grid.scale[:, None].astype(np.float64)
    rounded = quantize(adaround(w, h, grid), grid)
    assert ((rounded == np.floor(steps)) | (rounded == np.ceil(steps)) | (np.abs(steps) > 6.99)).all()
    clear = np.abs(steps - np.floor(steps) - 0.5) > 0.1
    one = adaround(w, h, grid, iterations=1)  # hardly moved yet: the fraction decides
    assert np.array_equal(one[clear], fake_quantize(w, grid)[clear])


def test_weights_in_float16_are_rounded_as_in_float32():
    w = np.array([[0.5, 1 - 2**-11, 2**-12, -1.0]], np.float16)  # fractions next to 0 and 1: logits far out
    grid = QuantParams(scale=1.0, zero_point=0, bits=4, signed=True)
    rounded = adaround(w, np.eye(4), grid, iterations=30)
    assert np.array_equal(rounded, adaround(w.astype(np.float32), np.eye(4), grid, iterations=30))
    assert rounded[0, 1:].tolist() == [1.0, 0.0, -1.0]


def test_a_weight_beyond_all_codes_is_clipped_though_its_ratio_is_no_float():
    grid = QuantParams(scale=2e-38, zero_point=0, bits=4, signed=True, narrow=True)
    w = np.array([[3e38, -3e38]], np.float32)
    assert np.array_equal(gptq(w, np.eye(2), grid), fake_quantize(w, grid))


SINGULAR = input_hessian(np.ones((3, 4)), damping=0)
GRID = QuantParams(scale=0.5, zero_point=0, bits=3, signed=True)


@pytest.mark.parametrize("method", [gptq, gptq_by_definition, lambda w, h, g: obs_prune(w, h, 0.5)])
def test_a_hessian_without_inverse_is_refused_with_the_remedy(method):
    for h in (SINGULAR, np.zeros((4, 4)), -np.eye(4), np.diag([1.0, 1.0, 0.0, 1.0])):
        with pytest.raises(ValueError, match=r"not positive definite.*damp"):
            method(np.ones((2, 4)), h, GRID)
    with pytest.raises(ValueError, match="damp"):
        refit(np.ones((2, 4)), np.ones((2, 4), bool), SINGULAR)


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (ValueError, r"hessian must be \(in, in\), got", lambda: gptq(np.ones((4, 3)), np.eye(4), GRID)),  # wrong axis
        (ValueError, r"hessian must be \(in, in\), got", lambda: obd_prune(np.ones((4, 3)), np.eye(1), 0.5)),
        (ValueError, r"hessian must be \(in, in\), got", lambda: refit(np.ones((4, 3)), np.ones((4, 3)), np.eye(4))),
        (ValueError, r"hessian must be \(in, in\), got", lambda: fit_scales(np.ones((4, 3)), np.eye(4), GRID)),
        (TypeError, "qparams must be QuantParams, got float", lambda: gptq([[1, 1]], np.eye(2), 0.5)),
        (TypeError, "qparams must be QuantParams, got NoneType", lambda: fit_scales([[1, 1]], np.eye(2), None)),
        (ValueError, "scales", lambda: gptq(np.ones((3, 2)), np.eye(2), choose_qparams(np.ones((4, 2)), axis=0))),
        (ValueError, "from 1 to 16", lambda: best_rounding(np.ones((1, 17)), np.eye(17), GRID)),
        (ValueError, "axis=1", lambda: fit_scales(np.ones((3, 2)), np.eye(2), choose_qparams(np.ones((3, 2)), axis=1))),
        (ValueError, "weight and mask must have the same shape", lambda: refit([[1, 1]], [[True]], np.eye(2))),
        (TypeError, "mask must be bool, got int", lambda: gptq([[1, 1]], np.eye(2), GRID, mask=[[1, 0]])),
        (ValueError, "same shape", lambda: output_error([[1, 1]], [[1, 1], [1, 1]], np.eye(2))),
    ],
)
def test_what_does_not_meet_is_refused_in_one_line(error, message, call):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
