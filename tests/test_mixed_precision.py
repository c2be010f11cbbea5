"""Who gets how many bits: tables at their ends, costs against finite differences, bytes."""

import itertools

import numpy as np
import pytest
from layer_cases import in_float64, tiny_cnn, with_biases

from nnzip.coding import pack_bits
from nnzip.compression import mixed_precision as m
from nnzip.compression.pruning import prune_network
from nnzip.compression.quantization import quantize_weights
from nnzip.distillation import kl_divergence
from nnzip.nn.layers import Flatten, Linear, ReLU
from nnzip.nn.network import Network, lenet_300_100, weights_of
from nnzip.nn.zoo import trained

IMAGES = np.random.default_rng(0).normal(size=(20, 2, 9, 8))
METHODS = m.lagrangian, m.dynamic  # graded by all ways tried (exercises 11): here are the ends


@pytest.mark.parametrize("method", METHODS)
def test_degenerate_tables(method):
    assert method([[3.0]], [[5]], 5).tolist() == [0]
    assert method([[1, 1], [2, 2]], [[4, 4], [0, 0]], 4).shape == (2,)
    assert method is m.dynamic or method([[1, 1]], [[2, 1]], 9).tolist() == [1]  # no waste
    assert method([[0, -1e-300]], [[0, 10**6]], 10**6).tolist() == [1]
    assert method([[1e300, 0]], [[0, 1]], 1).tolist() == [1]
    assert method([[2, 1], [5, 1]], np.array([[1, 2], [1, 2]], np.uint8), 3).tolist() == [0, 1]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("costs", "sizes", "budget", "match"),
    [
        ([[1, 0]], [[3, 4]], 2, "budget must be at least 3, which the smallest options take"),
        ([[1, 0], [1, 0]], [[3, 4], [9, 5]], 7, "at least 8"),
        ([[1, 0]], [[-1, 2]], 2, "sizes must be from 0 to"),
        ([[1, 0]] * 3, [[2**62, 2**62]] * 3, 2, "sizes must be from 0 to"),  # whose sum would wrap
        ([[1, 0]], [[1, 2, 3]], 2, "costs and sizes must have the same shape"),
        (np.zeros((0, 2)), np.zeros((0, 2), int), 2, "empty"),
    ],
)
def test_tables_without_an_answer_are_refused(method, costs, sizes, budget, match):
    with pytest.raises(ValueError, match=match):
        method(costs, sizes, budget)
    with pytest.raises(TypeError, match="sizes must be integers"):
        method([[1, 0]], [[1.0, 2.0]], 2)


def test_tables_that_are_too_large_are_refused_before_they_are_made():
    with pytest.raises(ValueError, match="too many"):
        m.dynamic(np.zeros((1000, 2)), np.tile([0, 10**6 + 1], (1000, 1)) + np.eye(1000, 2, dtype=int), 10**9)
    with pytest.raises(ValueError, match="method must be one of lagrangian, dynamic"):
        m.allocate([[1]], [[1]], 1, method="greedy")


def small_network():
    return in_float64(with_biases(tiny_cnn()))


def test_sensitivities_are_what_each_layer_does_alone():
    network, options = small_network(), [(None, 0.0), (2, 0.0), (4, 0.5), (None, 0.7)]
    costs = m.sensitivities(network, IMAGES, options)
    said = network.copy().forward(IMAGES)
    for i, name in enumerate(weights_of(network)):
        for k, (bits, sparsity) in enumerate(options):
            changed = network.copy()
            weight = changed.parameters()[name]
            weight[...] = prune_network(network, sparsity).parameters()[name]
            if bits:
                weight[...] = quantize_weights(changed, bits=bits).parameters()[name]
            assert costs[i, k] == pytest.approx(kl_divergence(said, changed.forward(IMAGES))[0], rel=1e-6, abs=1e-12)
    assert costs.shape == (len(weights_of(network)), 4) and np.all(costs[:, 0] < 1e-12)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_second_derivatives_are_those_of_the_divergence(temperature):
    network = small_network()
    found = m.hessians(network, IMAGES, temperature=temperature)
    said, rng = network.copy().forward(IMAGES), np.random.default_rng(1)

    def divergence(changed):
        return temperature**2 * kl_divergence(said, changed.forward(IMAGES), temperature=temperature)[0]

    for name, weight in weights_of(network).items():
        assert found[name].shape == weight.shape
        for place in rng.choice(weight.size, 5, replace=False):
            total, step = 0, 1e-3
            for sign in (1, -1):
                changed = network.copy()
                changed.parameters()[name].flat[place] += sign * step
                total += divergence(changed)
            assert found[name].flat[place] == pytest.approx(total / step**2, rel=2e-3, abs=1e-7)


def parts_of(matrix, pieces):
    """Return where the pieces of a matrix are."""
    rows, columns = matrix.shape
    by_row, by_column = [np.s_[i, :] for i in range(rows)], [np.s_[:, j] for j in range(columns)]
    return {"layer": [np.s_[:, :]], "row": by_row, "column": by_column}[pieces]


@pytest.mark.parametrize("pieces", m.PIECES)
def test_a_menu_says_what_each_piece_costs_and_takes(pieces):
    network = small_network()
    hessian = {name: np.random.default_rng(2).random(w.shape) for name, w in weights_of(network).items()}
    offered = m.menu(network, hessian, pieces=pieces)
    widths = m.BITS[1:] if pieces == "layer" else m.BITS
    start = 0
    for name, weight in weights_of(network).items():
        w, h = weight.reshape(len(weight), -1), hessian[name].reshape(len(weight), -1)
        for part in parts_of(w, pieces):
            for k, b in enumerate(widths):
                rounded = offered.weights[name][k][part]
                assert offered.costs[start, k] == pytest.approx(0.5 * np.sum(h[part] * (w[part] - rounded) ** 2))
                if b == 0:
                    assert not rounded.any() and offered.sizes[start, k] == 1
                    continue
                for row in rounded if pieces == "layer" else [rounded]:  # symmetric grids of 2^b - 1 values
                    assert len(np.unique(np.abs(row))) <= 2 ** (b - 1)
                packed = len(pack_bits(np.zeros(w[part].size, int), b))
                scales = len(w) if pieces == "layer" else 1
                assert packed + 4 * scales <= offered.sizes[start, k] <= packed + 4 * scales + 1
            start += 1
        step = np.abs(w).max() / 127  # 8 bits are near, whatever part of the range was cut
        assert np.abs(offered.weights[name][-1] - w).mean() < step
    assert len(offered.costs) == len(offered.sizes) == start


@pytest.mark.parametrize("pieces", m.PIECES)
def test_what_is_served_is_what_was_chosen(pieces):
    network = small_network()
    offered = m.menu(network, {name: np.ones(w.shape) for name, w in weights_of(network).items()}, pieces=pieces)
    choice = np.random.default_rng(3).integers(0, offered.costs.shape[1], len(offered.costs))
    served, numbers = weights_of(offered.served(network, choice)), iter(choice)
    for name, options in offered.weights.items():
        for part in parts_of(options[0], pieces):
            expected = options[next(numbers)][part].astype(served[name].dtype)
            np.testing.assert_array_equal(served[name].reshape(options.shape[1:])[part], expected)
    assert not list(numbers)


def test_a_grid_is_never_worse_than_one_that_ends_at_the_largest_weight():
    w, h = np.random.default_rng(4).normal(size=(2, 30, 7)) ** 3
    h = np.abs(h)
    for axis, bits in itertools.product((0, 1), (2, 3, 5)):
        _, cost = m.best_grid(w, h, bits, axis)
        largest = np.abs(w).max(axis=1 - axis, keepdims=True)
        plain = np.rint(w / largest * (2 ** (bits - 1) - 1)) / (2 ** (bits - 1) - 1) * largest
        assert np.all(cost <= 0.5 * np.sum(h * (w - plain) ** 2, axis=1 - axis) * (1 + 1e-4))


def test_bytes_by_hand():
    assert m.piece_bytes(8, 3) == 8  # 24 + 32 + 4 bits
    assert m.piece_bytes(1, 0) == 1
    assert m.piece_bytes(6, 2, scales=3) == 14  # 12 + 96 + 4 bits
    layers = (784 * 300, 300), (300 * 100, 100), (100 * 10, 10)
    by_hand = sum(-(-(n * 5 + 32 * rows + 4) // 8) + 4 * rows for n, rows in layers)
    assert m.uniform_bytes(lenet_300_100(), 5) == by_hand


def least_bytes(network):
    """Return the bytes that columns take at the very least, from how many values each has."""
    total = 0
    for name, array in network.parameters().items():
        if name.endswith("bias"):
            total += 4 * array.size
            continue
        for column in array.reshape(len(array), -1).T:
            magnitudes = len(np.unique(np.abs(column[column != 0])))
            bits = int(np.ceil(np.log2(magnitudes + 1))) + 1 if magnitudes else 0
            total += (len(column) * bits + 32 * (bits > 0) + 4) / 8
    return total


@pytest.mark.parametrize("bits", [2, 6])
def test_mixed_precision_keeps_to_the_bytes_and_is_no_worse_than_uniform(bits, digits, monkeypatch):
    monkeypatch.setattr(m, "TRIED", ("column",))
    network, images = trained("lenet_300_100"), digits.train_images[:400]
    mixed = m.mixed_precision(network, images, bits=bits)
    assert least_bytes(mixed) <= m.uniform_bytes(network, bits)
    said = network.copy().forward(images)
    uniform = [quantize_weights(network, bits=bits, method=method) for method in ("minmax", "mse")]
    losses = [kl_divergence(said, other.forward(images))[0] for other in (mixed, *uniform)]
    assert losses[0] == min(losses)
    if bits < 6:
        assert losses[0] < 0.5 * min(losses[1:])


def test_a_budget_of_the_smallest_options_is_enough_and_one_byte_less_is_not(monkeypatch):
    monkeypatch.setattr(m, "TRIED", ("column",))
    network = small_network()
    columns = sum(w[0].size for w in weights_of(network).values())
    biases = sum(4 * len(w) for w in weights_of(network).values())
    least = columns + biases  # a byte for each width of 0, four for each bias
    served = m.mixed_precision(network, IMAGES, budget=least)
    assert not any(w.any() for w in weights_of(served).values())
    with pytest.raises(ValueError, match=f"at least {least} bytes"):
        m.mixed_precision(network, IMAGES, budget=least - 1)


def test_dead_inputs_get_no_bits():
    rng = np.random.default_rng(5)
    network = Network([Flatten(), Linear(12, 8, rng=rng), ReLU(), Linear(8, 3, rng=rng)])
    images = rng.random((50, 1, 3, 4)).astype(np.float32)
    images[:, :, 0, :] = 0  # of these four nobody will ever know the weights
    offered = m.menu(network, m.hessians(network, images), pieces="column")
    served = offered.served(network, m.lagrangian(offered.costs, offered.sizes, 150))
    weight = weights_of(served)["1.weight"]
    assert not weight[:, :4].any() and weight[:, 4:].any(axis=0).all()


def test_with_much_room_the_widest_uniform_grid_is_returned():
    network = small_network()
    mixed = m.mixed_precision(network, IMAGES, bits=16)
    for name, weight in weights_of(network).items():
        half_a_step = 0.5 / (2**15 - 1) * np.abs(weight).max()
        assert np.abs(weights_of(mixed)[name] - weight).max() <= 1.01 * half_a_step


def test_what_is_no_budget_or_hessian_is_refused():
    network = small_network()
    with pytest.raises(ValueError, match="give bits or budget, one of them"):
        m.mixed_precision(network, IMAGES, bits=4, budget=100)
    with pytest.raises(TypeError, match=r"hessian\["):
        m.menu(network, {}, pieces="row")
    for change, match in ((np.transpose, "same shape"), (lambda h: h * np.nan, "finite")):
        hessian = {name: change(np.ones_like(w)) for name, w in weights_of(network).items()}
        with pytest.raises(ValueError, match=match):
            m.menu(network, hessian, pieces="row")
