"""Deep Compression on tiny networks: as many parameters and values as asked for, no more, and a file that says so."""

import copy

import numpy as np
import pytest
from layer_cases import tiny_cnn

from nnzip.codebooks import kmeans
from nnzip.compression import deep_compression as module
from nnzip.compression.deep_compression import (
    RECIPES,
    Lessons,
    SharedValues,
    bits_each,
    compress,
    deep_compression,
    prune,
    saliency_per_bit,
    share,
    strongest,
)
from nnzip.files.archive import describe, load, save
from nnzip.nn.network import lenet_300_100
from nnzip.nn.training import Adam, evaluate, shifted
from nnzip.pruning import polynomial_schedule

RNG = np.random.default_rng(0)
DATA = RNG.normal(size=(300, 2, 9, 8)).astype(np.float32), RNG.integers(0, 3, 300)
FEW = {"keep": 30, "epochs": (6, 3), "values": 3}


@pytest.fixture(autouse=True)
def short_rounds(monkeypatch):
    monkeypatch.setattr(module, "ROUND", 2)
    monkeypatch.setattr(module, "BATCH", 50)


def lessons():
    return Lessons(tiny_cnn(), DATA, 0)


def test_few_parameters_of_few_values_are_left_and_the_file_gives_them_back(tmp_path):
    network, history = deep_compression(tiny_cnn(), tiny_cnn(), DATA, **FEW)
    parameters = network.parameters()
    assert 0 < sum(np.count_nonzero(array) for array in parameters.values()) <= 30
    for array in parameters.values():
        values = np.unique(array[array != 0])
        assert len(values) <= 3
        assert np.array_equal(values, values.astype(np.float16))
    size = save(network, tmp_path / "tiny.nnz")
    assert sum(part.bytes for part in describe(tmp_path / "tiny.nnz")) == size
    again = load(tmp_path / "tiny.nnz").parameters()
    assert all(np.array_equal(again[name], array) for name, array in parameters.items())
    assert [entry["stage"] for entry in history] == ["prune"] * 18 + ["share"] * 9  # 300 images, 100 in a round


def test_the_networks_given_stay_and_a_seed_gives_the_same_network_again():
    network, teacher = tiny_cnn(), tiny_cnn()
    before = copy.deepcopy(network.parameters())
    first, second, other = (
        deep_compression(network, teacher, DATA, **FEW, seed=seed)[0].parameters() for seed in (0, 0, 1)
    )
    for name, array in before.items():
        assert np.array_equal(network.parameters()[name], array) and np.array_equal(teacher.parameters()[name], array)
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert any(first[name].shape != other[name].shape or np.any(first[name] != other[name]) for name in first)


def test_parameters_go_by_the_schedule_and_stay_gone(monkeypatch):
    network = tiny_cnn()
    total = sum(array.size for array in network.parameters().values())
    taught, teach, seen = lessons(), Lessons.teach, []

    def watched(self, network, *arguments):
        before = {name: array == 0 for name, array in network.parameters().items()}
        record = teach(self, network, *arguments)
        seen.extend(not network.parameters()[name][gone].any() for name, gone in before.items())
        return record

    monkeypatch.setattr(Lessons, "teach", watched)
    history = prune(network, taught, 30, 4)
    assert all(seen) and len(seen) == 12 * 8  # rounds, arrays
    asked = [
        polynomial_schedule(step, begin_step=0, end_step=9, final_sparsity=1 - 30 / total) for step in range(1, 13)
    ]
    assert [entry["kept"] for entry in history] == [total - round(sparsity * total) for sparsity in asked]
    assert sum(np.count_nonzero(array) for array in network.parameters().values()) == 30


def test_a_single_round_prunes_too():
    network = tiny_cnn()
    assert prune(network, lessons(), 30, 0.01)[-1]["kept"] == 30


def test_the_rate_falls_as_a_cosine_once_nothing_is_pruned_any_more_and_while_values_are_shared(monkeypatch):
    seen = []
    monkeypatch.setattr(Adam, "step", lambda self, parameters, gradients, *, factor=1.0: seen.append(factor))
    monkeypatch.setattr(module, "saliency_per_bit", lambda network, optimizer: network.parameters())
    network = tiny_cnn()
    prune(network, lessons(), 30, 8 / 3)  # 8 rounds of 2 steps
    assert seen == pytest.approx([1.0] * 12 + [0.5 * (1 + np.cos(np.pi * step / 4)) for step in range(4)])
    seen.clear()
    share(network, lessons(), 3, 1)  # a step moves copies, then values
    assert seen[::2] == seen[1::2] == pytest.approx([0.5 * (1 + np.cos(np.pi * step / 6)) for step in range(6)])


@pytest.mark.parametrize("pixels", [0, 1, 2])
def test_the_teacher_has_seen_each_image_where_it_now_is(pixels, monkeypatch):
    monkeypatch.setattr(module, "PIXELS", pixels)
    drawn, found = lessons(), []
    everywhere = np.stack([shifted(DATA[0], *shift) for shift in drawn.shifts])
    for _ in range(2):
        images, labels, logits = drawn.draw()
        np.testing.assert_allclose(logits, tiny_cnn().logits(images), rtol=1e-4, atol=1e-5)
        same = [np.argwhere((everywhere == image).all(axis=(2, 3, 4))) for image in images]
        assert [len(at) for at in same] == [1] * 100
        shifts, numbers = np.concatenate(same).T
        assert len(set(numbers)) == 100 and len(set(shifts)) > 2 * pixels
        assert np.array_equal(labels, DATA[1][numbers])
        found.append(tuple(numbers))
    assert found[0] != found[1]


@pytest.mark.parametrize("shape", [(5, 7), (4, 3, 2, 2), (6,)])
def test_bits_are_those_of_independent_rows_and_columns(shape):
    mask = np.random.default_rng(2).random(shape) < 0.3
    rows, bits = mask.reshape(len(mask), -1), bits_each(mask, value_bits=3).reshape(len(mask), -1)
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            p = (rows[i].sum() + 0.5) * (rows[:, j].sum() + 0.5) / (mask.sum() + 1)
            assert bits[i, j] == pytest.approx(3 - np.log2(min(p, 0.5)))
    assert bits.shape == rows.shape and bits_each(mask).shape == shape


def test_what_is_pruned_first_is_small_has_small_gradients_or_lies_alone():
    network, optimizer = tiny_cnn(), Adam(0.1)
    parameters = network.parameters()
    optimizer.step(parameters, {name: np.ones_like(array) for name, array in parameters.items()})
    name = next(name for name, array in parameters.items() if array.ndim == 2)
    weight, square = parameters[name], optimizer.state[name][1]
    weight[...], square[...] = 1, 4
    weight[0, 0], square[0, 1] = 0.5, 1
    scores = saliency_per_bit(network, optimizer)[name]
    assert scores[0, :3] / scores[0, 2] == pytest.approx([0.25, 0.5, 1])
    weight[1:, :] = 0
    weight[1, 5] = 1
    scores = saliency_per_bit(network, optimizer)[name]
    assert 0 < scores[1, 5] < scores[0, 5] and scores[1, 4] == 0


def test_values_move_by_the_sum_of_the_gradients_that_share_them_and_parameters_may_change_theirs():
    weight = np.array([[1.0, 1.25, 0.0], [-1.0, -1.5, 1.5]], np.float32)
    parameters, values, free = {"0.weight": weight.copy()}, {"v": kmeans(weight[weight != 0], 2)}, weight[weight != 0]
    optimizer, by_hand = SharedValues(0.01, parameters, 2), Adam(0.01)
    assert np.array_equal(parameters["0.weight"], np.float32([[1.25, 1.25, 0], [-1.25, -1.25, 1.25]]))
    for gradient in RNG.normal(size=(5, 2, 3)).astype(np.float32):
        kept = gradient[weight != 0]
        by_hand.step(values, {"v": np.array([kept[free < 0].sum(), kept[free > 0].sum()])})
        optimizer.step(parameters, {"0.weight": gradient})
        low, high = values["v"].astype(np.float16)
        assert np.array_equal(parameters["0.weight"], np.float32([[high, high, 0], [low, low, high]]))
    for _ in range(300):  # the first one goes over to the negative value; those that shared it hold the value up
        optimizer.step(parameters, {"0.weight": np.array([[1, -0.5, 9], [0, 0, -0.5]], np.float32)})
    assert parameters["0.weight"][0, 0] < 0 < parameters["0.weight"][0, 1]
    assert parameters["0.weight"][0, 2] == 0


def test_the_strongest_units_are_left():
    network = lenet_300_100()
    network.parameters()["1.weight"][7] *= 100
    smaller = strongest(network, {1: 40, 3: 5})
    assert [smaller.layers[i].out_features for i in (1, 3, 5)] == [40, 5, 10]
    assert np.abs(smaller.parameters()["1.weight"]).max() == np.abs(network.parameters()["1.weight"][7]).max()
    assert strongest(network, {}) is not network


def test_a_thousand_images_leave_a_network_that_still_reads(monkeypatch, digits, test_set):
    for name, value in {"ROUND": 10, "BATCH": 100, "PIXELS": 0, "load_mnist": lambda: digits}.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setitem(RECIPES, "lenet_300_100", {"keep": 12_000, "epochs": (6, 2), "values": 6})
    network, history = compress("lenet_300_100", progress=False)
    assert evaluate(network, *test_set) < 0.08
    assert history[-1]["kept"] <= 12_000


def test_progress_is_said_on_standard_error(capsys):
    deep_compression(tiny_cnn(), tiny_cnn(), DATA, **{**FEW, "progress": True})
    out, err = capsys.readouterr()
    assert out == "" and "prune   18/18      30 parameters" in err and "share    9/9" in err


@pytest.mark.parametrize("wrong", [{"keep": 0}, {"values": 257}, {"epochs": (-1, 2)}, {"units": {0: 0}}])
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        deep_compression(tiny_cnn(), tiny_cnn(), DATA, **{**FEW, **wrong})
    with pytest.raises(ValueError, match="images must have 4 dimensions"):
        deep_compression(tiny_cnn(), tiny_cnn(), (DATA[0][0], DATA[1]), **FEW)
