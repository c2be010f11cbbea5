"""Deep Compression on tiny networks: as few parameters as the held-out images allow, and a file that says so."""

import copy
import itertools

import numpy as np
import pytest
from layer_cases import tiny_cnn

from nnzip.codebooks import kmeans
from nnzip.compression import deep_compression as module
from nnzip.compression.deep_compression import (
    RECIPES,
    Averaging,
    Lessons,
    SharedValues,
    bits_each,
    compress,
    deep_compression,
    narrow,
    prune,
    saliency_per_bit,
)
from nnzip.files.archive import describe, load, save
from nnzip.nn.layers import Flatten, Linear, ReLU
from nnzip.nn.network import Network
from nnzip.nn.training import Adam, evaluate, fit, shifted

RNG = np.random.default_rng(0)
DATA = RNG.normal(size=(300, 2, 9, 8)).astype(np.float32), RNG.integers(0, 3, 300)
FEW = {"tolerance": 0.3, "epochs": (2, 9, 3), "values": 3}
EASY = RNG.normal(size=(600, 1, 4, 4)).astype(np.float32)
EASY = EASY, np.where(EASY[:, 0, 0, 0] > 0, EASY[:, 0, 1, 1] > 0, 2).astype(int)  # three of the pixels say it


def counts(network):
    return sum(np.count_nonzero(array) for array in network.parameters().values())


def reader(seed):
    rng = np.random.default_rng(seed)
    return Network([Flatten(), Linear(16, 12, rng=rng), ReLU(), Linear(12, 3, rng=rng)])


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(module, "BATCH", 25)


def test_few_parameters_of_few_values_are_left_and_the_file_gives_them_back(tmp_path):
    network, history = deep_compression(tiny_cnn(), tiny_cnn(), DATA, **FEW)
    parameters = network.parameters()
    assert history[-1]["kept"] == counts(network) < counts(tiny_cnn())
    for array in parameters.values():
        values = np.unique(array[array != 0])
        assert len(values) <= 3 * (1 + (array.ndim == 4))
        assert np.array_equal(values, values.astype(np.float16))
    size = save(network, tmp_path / "tiny.nnz")
    assert sum(part.bytes for part in describe(tmp_path / "tiny.nnz")) == size
    again = load(tmp_path / "tiny.nnz").parameters()
    assert all(np.array_equal(again[name], array) for name, array in parameters.items())


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


def test_what_is_kept_errs_within_the_tolerance_and_a_harder_one_keeps_more():
    teacher, held_out, kept = reader(1), (EASY[0][500:], EASY[1][500:]), []
    fit(teacher, (EASY[0][:500], EASY[1][:500]), epochs=20, batch_size=25, optimizer=Adam(0.01))
    for tolerance in (0.03, 0.1, 0.4):
        recipe = {"tolerance": tolerance, "epochs": (10, 40, 5), "shift": 0}
        network, history = deep_compression(reader(0), teacher, EASY, **recipe)
        *stages, chosen = history
        assert evaluate(network, *held_out) == chosen["held_out_error"] <= chosen["limit"]
        assert chosen["limit"] == min(record["held_out_error"] for record in stages) + tolerance
        assert chosen["units"] == [len(network.layers[i].params["bias"]) for i in (1, 3)]
        assert chosen["stage"] == "chosen" and chosen["kept"] == counts(network)
        kept.append(chosen["kept"])
    assert kept[0] > kept[1] > kept[2]


def test_filters_have_twice_as_many_values():
    network = tiny_cnn()
    parameters = network.parameters()
    SharedValues(0.01, parameters, 3)
    assert {len(np.unique(array)) for array in parameters.values() if array.ndim == 4} == {6}
    assert {len(np.unique(array)) for array in parameters.values() if array.ndim == 2} == {3}


def test_the_held_out_error_is_the_mean_over_five_places():
    network, (images, labels) = reader(1), (array[500:] for array in EASY)
    padded = np.pad(images, [(0, 0), (0, 0), (2, 2), (2, 2)])  # the middle begins at (2, 2), a move by d at 2 - d
    places = (2, 2), (0, 2), (4, 2), (2, 0), (2, 4)
    errors = [np.mean(network.predict(padded[:, :, i : i + 4, j : j + 4]) != labels) for i, j in places]
    lessons = Lessons(network, EASY, 0.5, shift=2)
    assert lessons.judge("prune", network) == pytest.approx((np.mean(errors), np.mean(errors) + 0.75 * 0.5))
    assert len(set(errors)) > 1


def scripted(monkeypatch, **errors):
    """Let the held-out errors be these in each stage, the last one for ever; return what was judged."""
    judged = []

    def judge(self, stage, network):
        judged.append((stage, network.copy()))
        self.note(stage, network, held_out_error=0.1)
        own = errors[stage]
        return (own.pop(0) if len(own) > 1 else own[0]), 0.5

    monkeypatch.setattr(Lessons, "judge", judge)
    return judged


def test_pruning_waits_once_above_the_limit_and_then_goes_back(monkeypatch):
    judged = scripted(monkeypatch, prune=[0.1, 0.5, 0.6, 0.4, 0.7, 0.51])
    states, why = prune(tiny_cnn(), Lessons(tiny_cnn(), DATA), 20)
    assert "twice in a row" in why and len(judged) == 6
    kept = [counts(network) for _, network in judged]
    assert kept[0] > kept[1] > kept[2] == kept[3] > kept[4] == kept[5]
    assert [counts(state) for state in states] == [counts(tiny_cnn()), kept[0], kept[1], kept[3]]


def test_pruning_is_slow_near_the_limit_and_ends_with_its_epochs(monkeypatch):
    total = sum(array.size for array in tiny_cnn().parameters().values())
    for error, part in ((0.0, 1.0), (0.3, 0.4), (0.49, 0.2)):
        judged = scripted(monkeypatch, prune=[error])
        _, why = prune(tiny_cnn(), Lessons(tiny_cnn(), DATA, 1.0), 4)
        assert why == "all epochs of pruning are used"
        left = [total - round(total * (1 - (1 - module.PACE * part) ** i)) for i in (1, 2, 3)]
        assert [counts(network) for _, network in judged[1:]] == left


def test_what_was_pruned_stays_gone(monkeypatch):
    judged = scripted(monkeypatch, prune=[0.0])
    prune(tiny_cnn(), Lessons(tiny_cnn(), DATA), 6)
    for (_, before), (_, after) in itertools.pairwise(judged):
        for name, array in after.parameters().items():
            assert not array[before.parameters()[name] == 0].any() or array.ndim == 1


def test_units_go_until_the_limit_and_the_last_ones_come_back(monkeypatch):
    judged = scripted(monkeypatch, narrow=[0.1, 0.5, 0.51])
    network = narrow(reader(0), Lessons(reader(1), EASY, shift=0), 2)
    assert [judged_network.layers[1].out_features for _, judged_network in judged] == [12, 11, 10]
    assert network.layers[1].out_features == 11
    scripted(monkeypatch, narrow=[0.1])
    assert narrow(reader(0), Lessons(reader(1), EASY, shift=0), 1).layers[1].out_features == 5  # a tenth is none


def test_sharing_goes_back_until_the_error_is_within(monkeypatch):
    judged = scripted(monkeypatch, narrow=[0.1, 0.6], prune=[0.1], share=[0.6, 0.7, 0.4])
    network, history = deep_compression(tiny_cnn(), tiny_cnn(), DATA, **FEW)
    shared = [counts(network) for stage, network in judged if stage == "share"]
    assert shared[0] < shared[1] < shared[2] == history[-1]["kept"]
    assert "with shared values" in history[-1]["why"] and counts(network) == shared[2]


def test_nothing_is_learned_from_held_out_images(monkeypatch):
    monkeypatch.setattr(module, "evaluate", lambda network, images, labels: 0.1)
    other = [np.concatenate([array[:250], array[:50]]) for array in DATA]
    first, second = (deep_compression(tiny_cnn(), tiny_cnn(), data, **FEW)[0] for data in (DATA, other))
    for name, array in first.parameters().items():
        assert np.array_equal(array, second.parameters()[name])


def test_the_running_average_is_that_of_all_steps_and_later_of_the_last(monkeypatch):
    monkeypatch.setattr(module, "WINDOW", 4)
    network, optimizer, seen, wanted = tiny_cnn(), Averaging(0.1), [], 0
    parameters = network.parameters()
    for step in range(1, 7):
        optimizer.step(parameters, {name: np.ones_like(array) for name, array in parameters.items()})
        seen.append(parameters["0.weight"].copy())
        wanted = np.mean(seen, axis=0) if step <= 4 else 0.75 * wanted + 0.25 * seen[-1]
        settled = optimizer.settled(network).parameters()["0.weight"]
        np.testing.assert_allclose(settled, wanted, rtol=1e-5, atol=1e-6)


def test_the_rate_falls_only_while_values_are_shared(monkeypatch):
    seen, step = [], Adam.step
    monkeypatch.setattr(
        Adam, "step", lambda self, *arrays, factor=1.0: seen.append(factor) or step(self, *arrays, factor=factor)
    )
    scripted(monkeypatch, narrow=[0.1, 0.6], prune=[0.1], share=[0.1])
    deep_compression(tiny_cnn(), tiny_cnn(), DATA, **FEW)
    first = 10 * (2 + 9)  # then a step that shares moves copies, then values
    shared = seen[first:]
    assert seen[:first] == [1.0] * first
    assert shared[::2] == shared[1::2] == pytest.approx([0.5 * (1 + np.cos(np.pi * i / 30)) for i in range(30)])


@pytest.mark.parametrize("shift", [0, 1, 2])
def test_the_teacher_has_seen_each_image_where_it_now_is(shift, monkeypatch):
    lessons, heard = Lessons(tiny_cnn(), DATA, shift=shift), []
    monkeypatch.setattr(module, "distillation_loss", lambda logits, soft, labels, **options: heard.append(soft))
    rows = np.random.default_rng(3).permutation(250)[:60]
    images = lessons.move(lessons.images[rows], lessons.rng)
    lessons.loss(None, lessons.labels[rows], rows)
    np.testing.assert_allclose(heard[0], tiny_cnn().logits(images), rtol=1e-4, atol=1e-5)
    everywhere = np.stack([shifted(DATA[0][rows], *by) for by in itertools.product(range(-shift, shift + 1), repeat=2)])
    at = (everywhere == images).all(axis=(2, 3, 4))
    assert at.any(axis=0).all() and np.count_nonzero(at.any(axis=1)) > 2 * shift


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


def test_a_thousand_images_leave_a_network_that_still_reads(monkeypatch, digits, test_set):
    monkeypatch.setattr(module, "load_mnist", lambda: digits)
    monkeypatch.setitem(RECIPES, "lenet_300_100", {"tolerance": 0.08, "epochs": (6, 30, 3), "shift": 0})
    monkeypatch.setattr(module, "PACE", 0.2)
    network, history = compress("lenet_300_100", progress=False)
    assert evaluate(network, *test_set) < 0.15
    assert history[-1]["kept"] <= 12_000


def test_progress_is_said_on_standard_error(capsys):
    deep_compression(tiny_cnn(), tiny_cnn(), DATA, **FEW, progress=True)
    out, err = capsys.readouterr()
    assert out == "" and all(f"{stage} " in err for stage in ("narrow", "prune", "share", "chosen"))
    assert "limit" in err and "why" in err.splitlines()[-1]


@pytest.mark.parametrize(
    "wrong", [{"tolerance": 0.0}, {"tolerance": 1.5}, {"values": 128}, {"epochs": (0, 2, 1)}, {"shift": -1}]
)
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        deep_compression(tiny_cnn(), tiny_cnn(), DATA, **{**FEW, **wrong})


def test_images_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="images must have 4 dimensions"):
        deep_compression(tiny_cnn(), tiny_cnn(), (DATA[0][0], DATA[1]), **FEW)
    with pytest.raises(ValueError, match="images must not be empty"):
        deep_compression(tiny_cnn(), tiny_cnn(), (DATA[0][:1], DATA[1][:1]), **FEW)
