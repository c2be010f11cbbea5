"""Layers: forward is the definition, backward is the derivative, and nothing else is touched."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from layer_cases import CASES, CONVOLUTIONS, POOLINGS, SHORT, case, convolution, random_convolution, tiny_cnn

from nnzip.nn.layers import (
    Conv2d,
    Flatten,
    Linear,
    MaxPool2d,
    ReLU,
    conv2d_backward_by_definition,
    conv2d_by_definition,
    max_pool2d_backward_by_definition,
)
from nnzip.nn.network import Network
from nnzip.nn.training import gradient_check

# Central differences in float64 with steps of 1e-6 carry rounding errors of about 1e-9, which gradient_check measures
# against a thousandth of the largest entry or more: 1e-6, with a factor of ten to spare. A bug is of the order of 1.
CHECKED = 1e-5


def both_passes(layer, x, *, seed=4):
    """Return y, grad_x and the gradients of the parameters, for a random gradient at the output."""
    y = layer.forward(x)
    grad_y = np.random.default_rng(seed).normal(size=y.shape).astype(y.dtype)
    return y, layer.backward(grad_y), layer.grads


# ---------------------------------------------------------------- gradients


@pytest.mark.parametrize("name", CASES)
def test_backward_agrees_with_gradient_check(name):
    assert gradient_check(*case(name)) < CHECKED


@pytest.mark.parametrize("name", SHORT)
def test_backward_without_the_input_gradient_fills_the_same_gradients(name):
    layer, x = case(name)
    grad_y = np.random.default_rng(6).normal(size=layer.forward(x).shape)
    layer.backward(grad_y)
    expected = layer.grads.copy()
    layer.grads.clear()
    grad_x = layer.backward(grad_y, input_gradient=False)
    assert layer.grads.keys() == expected.keys() == layer.params.keys()
    assert all(np.array_equal(layer.grads[key], expected[key]) for key in expected)
    assert grad_x is None or not layer.params  # who has weights is spared the work


# ---------------------------------------------------------------- bugs planted for gradient_check


def planted(kind, bug):
    """Return a kind of layer whose backward hands its answer through bug(layer, grad_y, grad_x)."""

    class Planted(kind):
        def backward(self, grad_y, **options):
            return bug(self, grad_y, super().backward(grad_y, **options))

    return Planted


def changed(name, change):
    """A bug in the gradient of one parameter, the rest right."""

    def bug(layer, grad_y, grad_x):
        layer.grads[name] = change(layer.grads[name], grad_y)
        return grad_x

    return bug


TRANSPOSED = planted(Linear, changed("weight", lambda grad, grad_y: grad.T.copy()))
PLANTED = {
    "wrong_sign": (planted(Linear, lambda layer, grad_y, grad_x: -grad_x)(3, 4), (2, 3)),
    "transposed_inside_a_network": (Network([Linear(3, 3), ReLU(), TRANSPOSED(3, 3)]), (4, 3)),
    "bias_gradient_is_doubled": (planted(Linear, changed("bias", lambda grad, grad_y: 2 * grad))(3, 2), (4, 3)),
    "a_pixel_off": (planted(Conv2d, lambda layer, grad_y, grad_x: np.roll(grad_x, 1, axis=2))(1, 2, 3), (2, 1, 7, 7)),
    "relu_lets_everything_through": (planted(ReLU, lambda layer, grad_y, grad_x: grad_y)(), (3, 4)),
}


@pytest.mark.parametrize("name", PLANTED)
def test_gradient_check_finds_a_planted_bug(name):
    layer, shape = PLANTED[name]
    assert gradient_check(layer, np.random.default_rng(0).normal(size=shape)) > 0.1


def test_gradient_check_never_passes_nan_or_a_gradient_of_the_wrong_shape():
    nan = planted(Linear, changed("weight", lambda grad, grad_y: grad * np.nan))(3, 2)
    assert not gradient_check(nan, np.ones((4, 3))) < CHECKED
    for reshape in (lambda grad, grad_y: grad[None], lambda grad, grad_y: np.asarray(grad.sum())):
        with pytest.raises(ValueError, match="shape"):
            gradient_check(planted(Linear, changed("bias", reshape))(3, 1), np.ones((4, 3)))


def test_gradient_check_changes_neither_the_network_nor_the_input():
    network, x = tiny_cnn(), np.random.default_rng(0).normal(size=(2, 2, 9, 8)).astype(np.float32)
    x_before, before = x.copy(), copy.deepcopy(network.parameters())
    gradient_check(network, x)
    assert np.array_equal(x, x_before) and network.gradients() == {}
    for name, array in network.parameters().items():
        assert np.array_equal(array, before[name]) and array.dtype == np.float32


# ---------------------------------------------------------------- forward


def convolution_of_seven_loops(x, weight, bias, stride, padding):
    (N, C, H, W), (filters, _, k, _) = x.shape, weight.shape
    H_out, W_out = (H + 2 * padding - k) // stride + 1, (W + 2 * padding - k) // stride + 1
    y = np.zeros((N, filters, H_out, W_out))
    for n, o, i, j in np.ndindex(y.shape):
        y[n, o, i, j] = bias[o]
        for c, u, v in np.ndindex(C, k, k):
            row, column = stride * i + u - padding, stride * j + v - padding
            if 0 <= row < H and 0 <= column < W:
                y[n, o, i, j] += weight[o, c, u, v] * x[n, c, row, column]
    return y


@pytest.mark.parametrize("made", [*CONVOLUTIONS, *range(12)])
def test_a_convolution_is_its_definition_and_seven_loops_and_its_way_back_the_definitions(made):
    layer, shape = random_convolution(made) if isinstance(made, int) else convolution(made)
    x, how = np.random.default_rng(7).normal(size=shape), {"stride": layer.stride, "padding": layer.padding}
    weight, bias = (layer.params[key].astype(np.float64) for key in ("weight", "bias"))
    y, grad_x, grads = both_passes(layer, x, seed=4)
    expected = convolution_of_seven_loops(x, weight, bias, **how)
    np.testing.assert_allclose(conv2d_by_definition(x, weight, bias, **how), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(layer.products(x), expected - bias[:, None, None], rtol=1e-12, atol=1e-12)
    grad_y = np.random.default_rng(4).normal(size=y.shape)
    answers = conv2d_backward_by_definition(x, weight, grad_y, **how)
    for got, answer in zip((grad_x, grads["weight"], grads["bias"]), answers, strict=True):
        np.testing.assert_allclose(got, answer, rtol=1e-11, atol=1e-12)


def test_linear_is_a_sum_for_each_output():
    layer, x = case("linear")
    y = layer.forward(x)
    for n, o in np.ndindex(y.shape):
        terms = [float(w) * value for w, value in zip(layer.params["weight"][o], x[n], strict=True)]
        assert y[n, o] == pytest.approx(sum(terms) + float(layer.params["bias"][o]), rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("name", POOLINGS)
@pytest.mark.parametrize("values", [1, 2, 3], ids=["all_equal", "two_values", "three_values"])
def test_of_equal_maxima_the_one_of_the_definition_takes_the_whole_gradient(name, values):  # graded: the first
    size, shape = POOLINGS[name]
    rng = np.random.default_rng(9)
    for _ in range(5):
        x = rng.integers(0, values, shape).astype(np.float64)
        layer = MaxPool2d(size)
        grad_y = rng.normal(size=layer.forward(x).shape)
        assert np.array_equal(layer.backward(grad_y), max_pool2d_backward_by_definition(x, grad_y, size))


# ---------------------------------------------------------------- dtypes, memory, state


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", SHORT)
def test_the_float_type_of_the_input_is_kept_unless_the_weights_have_more(name, dtype):
    layer, x = case(name)
    y, grad_x, grads = both_passes(layer, x.astype(dtype))
    expected = np.result_type(dtype, *layer.params.values())
    assert y.dtype == grad_x.dtype == expected
    assert {array.dtype for array in grads.values()} <= {expected}
    assert all(array.dtype == np.float32 for array in layer.params.values())


@pytest.mark.parametrize("name", CASES)
def test_a_pass_changes_neither_its_inputs_nor_the_weights_nor_what_an_earlier_one_returned(name):
    layer, x = case(name)
    grad_y = np.random.default_rng(4).normal(size=layer.forward(x).shape)
    arrays = [x, grad_y, *layer.params.values(), layer.forward(x), layer.backward(grad_y), *layer.grads.values()]
    before = [array.copy() for array in arrays]
    both_passes(layer, -2 * x[::-1], seed=5)
    assert all(np.array_equal(*pair) for pair in zip(arrays, before, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_a_layer_that_has_seen_other_batches_acts_like_a_new_one(name):
    layer, x = case(name)
    fresh, _ = case(name)
    both_passes(layer, np.concatenate([x, x, x]))
    both_passes(layer, x[:1].astype(np.float32))
    for got, expected in zip(flat(both_passes(layer, x)), flat(both_passes(fresh, x)), strict=True):
        assert np.array_equal(got, expected)


def test_a_convolution_uses_its_memory_again_and_nothing_it_returned_lies_in_it():
    layer, x = case("conv_stride_and_padding")
    first, rows = layer.forward(x), layer.seen["rows"]
    second = layer.forward(-x)
    assert layer.seen["rows"] is rows and not np.shares_memory(first, rows) and not np.shares_memory(second, rows)
    assert pickle.loads(pickle.dumps(layer)).seen == copy.deepcopy(layer).seen == {}


def test_threads_may_predict_with_one_layer():
    layer = Conv2d(3, 8, 5, rng=0)
    batches = np.random.default_rng(0).normal(size=(60, 16, 3, 20, 20)).astype(np.float32)
    expected = [Conv2d(3, 8, 5, rng=0).forward(x) for x in batches]
    with ThreadPoolExecutor(4) as pool:
        assert all(map(np.array_equal, pool.map(layer.forward, batches), expected))


def flat(passes):
    y, grad_x, grads = passes
    return [y, grad_x, *grads.values()]


LAYOUTS = {
    "every_other": lambda x: x.repeat(2, axis=0)[::2],
    "backwards": lambda x: x[::-1].copy()[::-1],
    "fortran": np.asfortranarray,
    "inner_part": lambda x: np.pad(x, 1)[(slice(1, -1),) * x.ndim],
    "read_only": lambda x: (x.setflags(write=False), x)[1],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", SHORT)
def test_the_layout_in_memory_makes_no_difference(name, layout):
    layer, x = case(name)
    y = layer.forward(x)
    grad_y = np.random.default_rng(4).normal(size=y.shape)
    expected = [y, layer.backward(grad_y), *layer.grads.values()]
    other, _ = case(name)
    arrange = LAYOUTS[layout]
    got = [other.forward(arrange(x.copy())), other.backward(arrange(grad_y.copy())), *other.grads.values()]
    for array, right in zip(got, expected, strict=True):  # BLAS adds in another order: some last bits
        np.testing.assert_allclose(array, right, rtol=1e-12, atol=1e-13)


# ---------------------------------------------------------------- initial weights


@pytest.mark.parametrize(
    ("layer", "fan_in"), [(Linear(50, 4000), 50), (Conv2d(8, 1000, 5), 200)], ids=["linear", "conv"]
)
def test_initial_weights_are_uniform_with_variance_one_over_fan_in(layer, fan_in):
    weight, limit = layer.params["weight"].astype(np.float64), np.sqrt(3 / fan_in)
    assert layer.params["weight"].dtype == np.float32
    assert np.abs(weight).max() <= limit * (1 + 1e-6)
    # 200,000 draws: the mean is within 5 standard errors of 0, each quarter of the range within 5 of a quarter
    assert abs(weight.mean()) < 5 * np.sqrt(1 / fan_in / weight.size)
    quarters = np.histogram(weight, bins=4, range=(-limit * 1.000001, limit * 1.000001))[0] / weight.size
    assert np.abs(quarters - 0.25).max() < 5 * np.sqrt(0.25 * 0.75 / weight.size)
    assert not layer.params["bias"].any()


# ---------------------------------------------------------------- refusals

ones, KINDS = np.ones, [Linear(3, 2), Conv2d(1, 1, 1), ReLU(), MaxPool2d(2), Flatten()]


@pytest.mark.parametrize("layer", KINDS, ids=repr)
def test_backward_before_forward_is_refused(layer):
    with pytest.raises(ValueError, match="backward needs a forward pass first"):
        layer.backward(np.ones((1, 1)))


@pytest.mark.parametrize(
    ("layer", "x", "message"),
    [
        (Linear(3, 2), ones((4, 2)), r"takes x of shape \(N, 3\), got \(4, 2\)"),
        (Linear(3, 2), ones(3), r"must have 2 dimensions, got shape \(3,\)"),
        (Linear(3, 2), ones((0, 3)), r"must not be empty, got shape \(0, 3\)"),
        (Conv2d(3, 2, 3), ones((1, 2, 5, 5)), r"takes x of shape \(N, 3, H, W\), H and W >= 3, got \(1, 2, 5, 5\)"),
        (Conv2d(1, 2, 5, padding=1), ones((1, 1, 2, 5)), r"H and W >= 3, got \(1, 1, 2, 5\)"),
        (MaxPool2d(3), ones((1, 1, 3, 2)), r"H and W >= 3, got \(1, 1, 3, 2\)"),
        (ReLU(), ones((0, 4)), r"must not be empty"),
    ],
)
def test_an_input_of_the_wrong_shape_is_refused(layer, x, message):
    with pytest.raises(ValueError, match=message):
        layer.forward(x)


@pytest.mark.parametrize("layer", KINDS, ids=repr)
def test_an_input_that_is_not_float_is_refused(layer):
    for dtype in (np.uint8, bool, complex, object):
        with pytest.raises(TypeError, match="takes a float array, got dtype"):
            layer.forward(np.ones((2, 3) if isinstance(layer, Linear) else (2, 1, 3, 3)).astype(dtype))


@pytest.mark.parametrize("name", SHORT)
def test_a_gradient_of_another_shape_than_the_output_is_refused(name):
    layer, x = case(name)
    y = layer.forward(x)
    for wrong in (y[0], y[None], np.concatenate([y, y]), np.concatenate([y, y], axis=1)):
        with pytest.raises(ValueError, match="must have the output's shape"):
            layer.backward(wrong)


def test_a_layer_reads_as_it_is_built():
    for text in ("Linear(3, 2)", "Conv2d(1, 2, 3)", "Conv2d(1, 2, 3, stride=2, padding=1)", "ReLU()", "MaxPool2d(2)"):
        assert repr(eval(text)) == text
    assert repr(Flatten()) == "Flatten()"


@pytest.mark.parametrize("build", [lambda rng: Linear(3, 2, rng=rng), lambda rng: Conv2d(1, 2, 3, rng=rng)])
def test_a_seed_does_for_a_generator(build):
    expected, same, other, *unseeded = (
        build(rng).params["weight"] for rng in (np.random.default_rng(5), 5, 6, None, None)
    )
    assert np.array_equal(expected, same) and not np.array_equal(expected, other) and not np.array_equal(*unseeded)
