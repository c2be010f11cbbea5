"""Pruned networks: by every criterion the sparsity asked for, masks that hold, and the given network left alone."""

import copy
import itertools

import numpy as np
import pytest
from layer_cases import in_float64, tiny_cnn

from nnzip.compression.pruning import (
    CRITERIA,
    SCOPES,
    apply_masks,
    gradual_pruning,
    hessian_diagonals,
    lottery_ticket,
    masks_of,
    prune_network,
    pruning_masks,
    saliencies,
    sparsity_of,
)
from nnzip.compression.quantization import quantize_activations, quantize_weights
from nnzip.nn.layers import Flatten, Linear
from nnzip.nn.network import Network, lenet_300_100, weights_of
from nnzip.nn.training import cross_entropy, evaluate
from nnzip.nn.zoo import trained

IMAGES = np.random.default_rng(0).normal(size=(60, 2, 9, 8)).astype(np.float32)  # more than a batch, and not two
LABELS = np.random.default_rng(1).integers(0, 3, 60)


def test_networks_with_rounded_inputs_can_be_pruned():
    network = quantize_activations(quantize_weights(tiny_cnn(), bits=8), IMAGES, bits=8)
    assert sparsity_of(network) < 0.1 and sparsity_of(prune_network(network, 1)) == 1


def test_half_of_the_weights_of_a_trained_network_are_not_missed(digits):
    # Han et al. 2015 (arXiv:1506.02626), figure 5: without retraining, the loss of accuracy starts beyond one half
    network = trained("lenet_300_100")
    errors = [evaluate(prune_network(network, s), digits.test_images, digits.test_labels) for s in (0, 0.5, 0.99)]
    assert abs(errors[1] - errors[0]) <= 0.01 < errors[2]


# ---------------------------------------------------------------- every criterion, in each layer and over all


@pytest.mark.parametrize("sparsity", [0, 0.35, 0.9, 1])
@pytest.mark.parametrize("criterion", CRITERIA)
def test_every_criterion_prunes_exactly(criterion, sparsity):
    network = tiny_cnn()
    before, scores = network.parameters(), saliencies(network, criterion, data=(IMAGES, LABELS))
    for scope in SCOPES:
        masks = pruning_masks(network, sparsity, criterion=criterion, scope=scope, data=(IMAGES, LABELS))
        assert list(masks) == ["0.weight", "3.weight", "5.weight", "7.weight"]
        assert all(mask.shape == before[name].shape and mask.dtype == bool for name, mask in masks.items())
        for names in [list(masks)] if scope == "network" else [[name] for name in masks]:  # who are compared
            removed, left = (np.concatenate([scores[n][masks[n] == kept] for n in names]) for kept in (False, True))
            assert len(removed) == round(sparsity * (len(removed) + len(left)))
            assert removed.max(initial=-np.inf) <= left.min(initial=np.inf)
        pruned = prune_network(network, sparsity, criterion=criterion, scope=scope, data=(IMAGES, LABELS))
        expected = {name: array * masks.get(name, True) for name, array in before.items()}
        np.testing.assert_equal(pruned.parameters(), expected)
    assert not network.gradients()  # nor does it remember the images


def test_random_comes_from_its_seed():
    one, same, other = (pruning_masks(tiny_cnn(), 0.5, criterion="random", seed=seed) for seed in (1, 1, 2))
    np.testing.assert_equal(one, same)
    assert not all(np.array_equal(one[name], other[name]) for name in one)


def test_sparsity_and_masks_of_a_network_are_those_of_its_weights():
    network = prune_network(tiny_cnn(), 0.5, scope="network")
    zeros = sum((w == 0).sum() for w in weights_of(network).values())
    assert sparsity_of(network) == zeros / sum(w.size for w in weights_of(network).values()) == 98 / 197
    np.testing.assert_equal(apply_masks(network, masks_of(network)).parameters(), network.parameters())
    assert sparsity_of(tiny_cnn()) == 0 and sparsity_of(prune_network(tiny_cnn(), 1)) == 1


# ---------------------------------------------------------------- what the criteria mean


def loss_of(network, images=IMAGES, labels=LABELS):
    return cross_entropy(network.forward(images), labels)[0]


def second_difference(function, array, index, step):
    value, heights = array[index], []
    for move in (step, 0, -step):
        array[index] = value + move
        heights.append(function())
    array[index] = value
    return (heights[0] - 2 * heights[1] + heights[2]) / step**2


def test_the_diagonal_hessian_is_that_of_finite_differences_in_every_layer():
    network, images, labels = in_float64(tiny_cnn()), IMAGES[:8].astype(np.float64), LABELS[:8]
    found = hessian_diagonals(network, images)
    for name, weight in weights_of(network).items():
        assert found[name].shape == weight.shape and (found[name] >= 0).all()
        for index in list(np.ndindex(weight.shape))[::3]:
            expected = second_difference(lambda: loss_of(network, images, labels), weight, index, 1e-4)
            assert found[name][index] == pytest.approx(expected, rel=1e-3, abs=1e-6 * found[name].max())


def test_the_diagonal_hessian_needs_no_labels_and_adds_up_over_batches():
    network = tiny_cnn()
    whole = hessian_diagonals(network, IMAGES)
    in_batches = saliencies(network, "obd", data=(IMAGES, LABELS))
    for name, weight in weights_of(network).items():
        np.testing.assert_allclose(in_batches[name], weight**2 * whole[name] / 2, rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("criterion", ["taylor", "stability"])
def test_taylor_is_the_slope_of_the_loss_on_the_way_to_zero_and_stability_the_mean_square_of_the_logits(criterion):
    network, images, labels = in_float64(tiny_cnn()), IMAGES[:40].astype(np.float64), LABELS[:40]  # one batch
    found = saliencies(network, criterion, data=(images, labels))
    for name, weight in weights_of(network).items():
        for index in list(np.ndindex(weight.shape))[::4]:
            value, ends = weight[index], []
            for share in (1 + 1e-5, 1 - 1e-5):
                weight[index] = share * value
                ends.append(loss_of(network, images, labels) if criterion == "taylor" else network.forward(images))
            weight[index] = value
            slope = (ends[0] - ends[1]) / 2e-5
            expected = abs(slope) if criterion == "taylor" else np.mean(np.sum(slope**2, axis=1))
            assert found[name][index] == pytest.approx(expected, rel=1e-3, abs=1e-7)


def test_activation_squared_is_the_change_of_the_layer_that_loses_the_weight():
    network = tiny_cnn()
    found = saliencies(network, "activation", data=(IMAGES, LABELS))
    x = IMAGES
    for i, layer in enumerate(network.layers):
        y = layer.forward(x)
        if layer.params:
            weight = layer.params["weight"]
            for index in list(np.ndindex(weight.shape))[::5]:
                value, weight[index] = weight[index], 0
                change = np.sum((layer.forward(x) - y).astype(np.float64) ** 2) / len(x)
                weight[index] = value
                assert found[f"{i}.weight"][index] ** 2 == pytest.approx(change, rel=1e-3), (i, index)
        x = y


# ---------------------------------------------------------------- masks through training


def gradual(network=None, **options):
    asked = {"sparsities": [0.3, 0.6, 0.9], "epochs_each": 1, "rate": 0.02, "progress": False} | options
    return gradual_pruning(network or tiny_cnn(), (IMAGES, LABELS), **asked)


@pytest.mark.parametrize("scope", SCOPES)
def test_gradual_pruning_gives_every_sparsity_exactly_and_only_ever_prunes_more(scope):
    network = tiny_cnn()
    before = copy.deepcopy(network.parameters())  # a generator runs later: nobody may have touched it
    found = list(gradual(network, scope=scope))
    assert [sparsity for sparsity, _ in found] == [0.3, 0.6, 0.9]
    for sparsity, pruned in found:
        sizes = [w.size for w in weights_of(pruned).values()]
        asked = round(sparsity * sum(sizes)) if scope == "network" else sum(round(sparsity * size) for size in sizes)
        assert round(sparsity_of(pruned) * sum(sizes)) == asked
        assert any(not np.array_equal(w, before[name]) for name, w in pruned.parameters().items())
    for (_, early), (_, late) in itertools.pairwise(found):
        assert all((masks_of(late)[name] <= mask).all() for name, mask in masks_of(early).items())
        assert not any(np.shares_memory(w, late.parameters()[name]) for name, w in early.parameters().items())
    np.testing.assert_equal(network.parameters(), before)


def test_gradual_pruning_comes_from_its_seed_and_what_is_done_to_a_result_stays_there():
    one = []
    for _, network in gradual():
        one.append(copy.deepcopy(network.parameters()))
        for array in network.parameters().values():
            array[...] = 7
    for before, (_, network) in zip(one, gradual(), strict=True):
        np.testing.assert_equal(network.parameters(), before)
    first, second = (next(iter(gradual(seed=seed)))[1].parameters() for seed in (0, 1))
    assert not all(np.array_equal(first[name], second[name]) for name in first)


def test_retraining_repairs_what_pruning_broke(digits):
    network = trained("lenet_300_100")
    [(_, repaired)] = gradual_pruning(
        network, digits[:2], sparsities=[0.9], epochs_each=1, rate=0.05, scope="layer", progress=False
    )
    broken, healed = (evaluate(n, *digits[2:]) for n in (prune_network(network, 0.9), repaired))
    assert healed < broken / 2


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"sparsities": [0.5, 0.3]}, ValueError, "sparsities must rise"),
        ({"epochs_each": [1, 2]}, ValueError, "with epochs for each"),
        ({"epochs_each": 0}, ValueError, "epochs must be at least 1"),
    ],
)
def test_plans_that_cannot_be_are_refused_before_any_training(options, error, message):
    with pytest.raises(error, match=message):
        next(gradual(**options))


def test_a_ticket_has_the_mask_of_the_trained_and_the_weights_of_the_first():
    trained_network, initial = tiny_cnn(seed=0), tiny_cnn(seed=1)
    for scope in SCOPES:
        ticket, masks = lottery_ticket(trained_network, initial, 0.7, scope=scope)
        np.testing.assert_equal(masks, masks_of(prune_network(trained_network, 0.7, scope=scope)))
        np.testing.assert_equal(ticket.parameters(), apply_masks(initial, masks).parameters())
    with pytest.raises(ValueError, match="must have the same shape"):
        lottery_ticket(trained("lenet_300_100"), Network([Flatten(), Linear(784, 3)]), 0.5)


def test_the_reference_networks_start_where_their_seed_says():
    # the ticket of `trained(..., seed=s)` is in `lenet_300_100(seed=s)`: training moves it less than a redraw
    after = weights_of(trained("lenet_300_100", seed=1))["1.weight"]
    moved = {seed: np.abs(after - weights_of(lenet_300_100(seed=seed))["1.weight"]).mean() for seed in (0, 1, 2)}
    assert moved[1] < 0.7 * min(moved[0], moved[2])


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"network": None}, TypeError, "network must be a Network, got NoneType"),
        ({"criterion": "taylor"}, ValueError, r"criterion 'taylor' needs data=\(images, labels\)"),
        ({"criterion": "obd", "data": (IMAGES, LABELS[:5])}, ValueError, r"labels must have shape \(\d+,\)"),
        (
            {"network": quantize_activations(tiny_cnn(), IMAGES, bits=8), "criterion": "obd", "data": (IMAGES, LABELS)},
            TypeError,
            "needs Linear and Conv2d, layer 0 is Rounded",
        ),
    ],
)
def test_what_cannot_be_pruned_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        prune_network(**{"network": tiny_cnn(), "sparsity": 0.5} | options)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"9.weight": np.ones(3, bool)}, "a mask's name must be one of"),
        ({"7.weight": np.ones(3, bool)}, "the mask and 7.weight must have the same shape"),
    ],
)
def test_masks_that_do_not_fit_are_refused(masks, message):
    with pytest.raises(ValueError, match=message):
        apply_masks(tiny_cnn(), masks)
