"""articles.networks: the networks are the articles', pruning follows the schedule, the records are whole."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from articles import networks

from nnzip.book.records import read_records
from nnzip.data import Mnist
from nnzip.nn.network import Network, weights_of
from nnzip.nn.training import SGD, Adam, fit

RECORDS = Path(__file__).parent.parent / "figures" / "13_articles.csv"
QUANTIZED = [
    *(("weights rounded", bits) for bits in (8, 4, 2)),
    ("weights and activations rounded", 8),
    ("in integers only", 8),
]
STEPS = {  # what each section measures, in order
    "A0 5.2": [
        ("trained", 32),
        *QUANTIZED,
        ("trained twice as long", 32),
        ("trained through the rounding", 8),
        ("trained through the rounding", 2),
        ("pruned along the schedule", 32),
        ("pruned to 90 % by step 7,500", 32),
    ],
    "A1 5.2": [("trained", 32), *QUANTIZED],
    "A2 4": [
        ("trained", 32),
        *QUANTIZED,
        ("4.1 as printed, repaired", 32),
        ("4.2 as printed, repaired", 32),
        ("pruned to 90 %", 32),
        ("retrained with the mask", 32),
        ("retrained without a mask", 32),
    ],
}


def test_the_networks_have_the_sizes_of_the_articles():
    assert sum(a.size for a in networks.mlp_64().parameters().values()) == 784 * 64 + 64 + 64 * 10 + 10
    cnn = networks.cnn_32_64()
    convolutions = 32 * 9 + 32 + 64 * 32 * 9 + 64
    assert sum(a.size for a in cnn.parameters().values()) == convolutions + 64 * 5 * 5 * 10 + 10
    shapes = [(26, 26), (26, 26), (13, 13), (11, 11), (11, 11), (5, 5)]  # 28 - 2, half, - 2, half of 11 rounded down
    for depth, shape in enumerate(shapes, start=1):
        assert Network(cnn.layers[:depth]).forward(np.ones((2, 1, 28, 28), np.float32)).shape[2:] == shape


def test_without_pruning_it_is_fit(digits):
    options = {"epochs": 2, "batch_size": 64, "seed": 3}
    network = networks.mlp_64()
    got = networks.prune_in_training(network, digits[:2], schedule=lambda step: 0.0, optimizer=Adam(0.001), **options)
    np.testing.assert_equal(network.parameters(), networks.mlp_64().parameters())  # the argument stays
    fit(network, digits[:2], optimizer=Adam(0.001), **options)
    np.testing.assert_equal(got.parameters(), network.parameters())


@pytest.mark.parametrize(("every", "last"), [(1, 31), (7, 28)])
def test_pruning_stops_at_its_last_step(digits, every, last):
    asked = []

    def schedule(step):
        asked.append(step)
        return step / 100

    options = {"epochs": 2, "batch_size": 64, "optimizer": SGD(0.1)}  # 1,000 images: 16 steps an epoch
    pruned = networks.prune_in_training(networks.mlp_64(), digits[:2], schedule=schedule, every=every, **options)
    assert asked == list(range(0, 32, every)) and asked[-1] == last
    for weight in weights_of(pruned).values():
        assert np.count_nonzero(weight == 0) == round(last / 100 * weight.size)


def test_the_schedule_is_the_article_s_and_stops_with_the_training():
    assert [networks.SCHEDULE(step) for step in (999, 1000, 10_000)] == pytest.approx([0, 0.1, 0.3])
    steps = 5 * 60_000 // 32
    last = steps - networks.EVERY
    assert steps % networks.EVERY == 0 and networks.SCHEDULE(last) == pytest.approx(0.1 + 0.2 * (last - 1000) / 9000)
    assert f"{networks.SCHEDULE(last):.1%}" == f"{networks.SCHEDULE(steps):.1%}" == "28.6%"


@pytest.mark.parametrize("section", STEPS)
def test_a_section_measures_what_the_records_hold(section, digits, monkeypatch):
    few = Mnist(*(array[:64] for array in digits))
    monkeypatch.setattr(networks, "load_mnist", lambda: few)
    records = networks.measure((section, 0))
    assert [(record["step"], record["bits"]) for record in records] == STEPS[section]
    assert all(tuple(record) == networks.COLUMNS and 0 <= record["error"] <= 1 for record in records)
    zeros = {record["step"]: record["zeros"] for record in records}
    if section == "A2 4":
        assert zeros["pruned to 90 %"] == pytest.approx(0.9, abs=1e-4)
        assert zeros["retrained with the mask"] >= zeros["pruned to 90 %"] > zeros["retrained without a mask"]


def test_every_section_and_seed_is_run_and_sorted(monkeypatch):
    monkeypatch.setattr(networks, "measure", lambda task: [{"section": task[0], "seed": task[1]}])
    found = [(record["section"], record["seed"]) for record in networks.run(progress=False)]
    assert found == [(section, seed) for section in ("A0 5.2", "A1 5.2", "A2 4") for seed in (0, 1, 2)]


def test_records_survive_the_file(tmp_path):
    record = dict(zip(networks.COLUMNS, ("A0 5.2", 1, "trained", 32, 0.25, 0.0213), strict=True))
    networks.write_networks([record, record], tmp_path)
    assert read_records(tmp_path / "13_articles.csv") == [record, record]


# ---------------------------------------------------------------- the committed records


@pytest.fixture(scope="module")
def records():
    return read_records(RECORDS)


def test_the_committed_records_are_whole(records):
    for section, steps in STEPS.items():
        for seed in (0, 1, 2):
            own = [record for record in records if record["section"] == section and record["seed"] == seed]
            assert [(record["step"], record["bits"]) for record in own] == steps
    assert set(Counter((r["section"], r["seed"], r["step"], r["bits"]) for r in records).values()) == {1}
    for record in records:  # a fraction of 10,000 images
        assert 0 < record["error"] < 1 and record["error"] * 10_000 == pytest.approx(round(record["error"] * 10_000))


def test_the_committed_records_say_what_the_chapter_says(records):
    def errors(section, step, bits=32):
        return [r["error"] for r in records if (r["section"], r["step"], r["bits"]) == (section, step, bits)]

    def zeros(step):
        return [r["zeros"] for r in records if r["step"] == step]

    last = networks.SCHEDULE(9375 - networks.EVERY)
    exact = sum(round(last * size) for size in (784 * 64, 64 * 10)) / (784 * 64 + 640)
    assert zeros("pruned along the schedule") == pytest.approx([exact] * 3, abs=1e-4)  # 28.6 %, not 30 %
    for section in STEPS:  # 8 bits cost less than a fifth of a point
        floats, rounded = errors(section, "trained"), errors(section, "weights rounded", 8)
        assert all(abs(a - b) < 0.002 for a, b in zip(floats, rounded, strict=True))
    assert min(errors("A2 4", "4.1 as printed, repaired")) > 0.5  # all weights moved up: it guesses
    assert errors("A2 4", "4.2 as printed, repaired") == errors("A2 4", "trained")  # nothing is pruned
    assert all(kept >= 0.9 - 1e-4 for kept in zeros("retrained with the mask"))
    assert all(kept < 0.5 for kept in zeros("retrained without a mask"))
