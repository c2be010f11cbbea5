"""Error against bytes: the records, their front, and the two committed files."""

from pathlib import Path

import deep_compression
import numpy as np
import pytest
import sizes as measuring

from nnzip.book import sizes
from nnzip.book.records import read_records, select
from nnzip.compression.quantization import quantize_weights
from nnzip.files.archive import describe, load
from nnzip.nn.network import Network
from nnzip.nn.training import evaluate
from nnzip.nn.zoo import BUILD, trained

FIGURES = Path(__file__).resolve().parents[1] / "figures"


def record(size, error):
    return {"network": "lenet_5", "technique": "t", "bits": 4, "sparsity": 0.0, "bytes": size, "error": error}


def test_the_front_is_what_nothing_beats_in_both():
    rng = np.random.default_rng(0)
    records = [
        record(int(size), float(error))
        for size, error in zip(rng.integers(1, 50, 60), rng.random(60).round(2), strict=True)
    ]
    front = {(r["bytes"], r["error"]) for r in sizes.pareto_front(records)}
    points = {(r["bytes"], r["error"]) for r in records}
    beaten = {p for p in points for q in points if q != p and q[0] <= p[0] and q[1] <= p[1]}
    assert front == points - beaten


def test_shared_values_leave_zeros_alone():
    network = trained("lenet_300_100")
    weight = network.parameters()["1.weight"]
    weight[weight < 0.02] = 0
    shared = sizes.share_kept(network, 2).parameters()["1.weight"]
    np.testing.assert_array_equal(shared == 0, weight == 0)
    assert len(np.unique(shared[shared != 0])) == 4


def test_a_family_is_saved_read_back_and_tested(monkeypatch, digits):
    def two(network, data, name, seed):
        yield "float", 32, 0.0, network
        yield "per_channel", 8, 0.0, quantize_weights(network, bits=8)  # few zeros: a mask would take seconds

    monkeypatch.setattr(measuring, "FAMILIES", {"two": two})
    monkeypatch.setattr(measuring, "load_mnist", lambda: digits)
    plain, rounded = measuring.measure(("lenet_300_100", 1, "two"))
    network = trained("lenet_300_100", seed=1)
    images, labels = digits[2:]
    assert plain["error"] == evaluate(network, images, labels)
    assert rounded["error"] == evaluate(quantize_weights(network, bits=8), images, labels)
    assert sizes.FLOAT_BYTES["lenet_300_100"] < plain["bytes"] < sizes.FLOAT_BYTES["lenet_300_100"] + 200
    assert (plain["seed"], plain["bits"], rounded["technique"]) == (1, 32, "per_channel")
    assert rounded["bytes"] < plain["bytes"] / 4


@pytest.mark.parametrize(("name", "times", "error"), [("lenet_300_100", 317, 0.0158), ("lenet_5", 589, 0.0074)])
def test_the_committed_files_are_as_small_and_as_good_as_asked(name, times, error, test_set):
    path = FIGURES / f"12_{name}.nnz"
    network, size = load(path), path.stat().st_size
    assert isinstance(network, Network) and sum(part.bytes for part in describe(path)) == size
    assert sum(4 * array.size for array in trained(name).parameters().values()) == sizes.FLOAT_BYTES[name]
    runs = select(read_records(FIGURES / "12_deep_compression.csv"), network=name)
    assert runs[0]["seed"] == 0 and runs[0]["bytes"] == size
    assert evaluate(network, *test_set) == pytest.approx(runs[0]["test_error"], abs=5e-4)
    for run in runs:
        assert sizes.FLOAT_BYTES[name] / run["bytes"] >= times
        assert run["test_error"] <= error and run["held_out_error"] <= run["limit"]


def test_a_run_is_written_read_back_and_tested(monkeypatch, digits, tmp_path):
    def compress(name, *, seed, progress):
        looks = {"kept": 9, "units": [3, 2], "held_out_error": 0.1, "limit": 0.2}
        return trained(name, seed=seed), [{"stage": "prune", **looks}, {"stage": "chosen", **looks, "why": "enough"}]

    taught = {"network": "lenet_300_100", "epochs": 3, "test_error": "0.2", "cpu_seconds": 9}
    monkeypatch.setattr(deep_compression, "measure_float", lambda task: taught | {"seed": task[1]})
    options = {"compress": compress, "FOLDER": tmp_path, "load_mnist": lambda: digits, "NETWORKS": ("lenet_300_100",)}
    for name, value in options.items():
        monkeypatch.setattr(deep_compression, name, value)
    monkeypatch.setattr(deep_compression.os, "cpu_count", lambda: 1)
    for seeds in ([], ["0"]):  # a seed again, and the others stay
        deep_compression.main(seeds)
        names = "deep_compression", "deep_compression_looks", "taught_float"
        runs, looks, floats = (read_records(tmp_path / f"12_{name}.csv") for name in names)
        assert all([record["seed"] for record in records] == [0, 1, 2] for records in (runs, looks, floats))
    assert [look["units"] for look in looks] == ["3 2"] * 3 and runs[1]["why"] == "enough"
    assert runs[0]["bytes"] == (tmp_path / "12_lenet_300_100.nnz").stat().st_size
    assert runs[0]["test_error"] == pytest.approx(evaluate(trained("lenet_300_100"), *digits[2:]), abs=1e-4)


def test_a_float_network_is_taught_from_the_first_weights_of_the_compressed_one(monkeypatch, digits):
    monkeypatch.setattr(deep_compression, "load_mnist", lambda: digits)
    monkeypatch.setitem(deep_compression.EPOCHS, "lenet_300_100", (1, 2))
    built, seen, teach = BUILD["lenet_300_100"](seed=1), [], deep_compression.Lessons.teach

    def watched(self, network, optimizer, epochs, **options):
        seen.append((network, network.copy(), epochs))
        teach(self, network, optimizer, epochs, **options)

    monkeypatch.setattr(deep_compression.Lessons, "teach", watched)
    record = deep_compression.measure_float(("lenet_300_100", 1))
    (network, before, first), (_, _, last) = seen
    assert (first, last) == (1, 2) and tuple(record) == deep_compression.TAUGHT and record["epochs"] == 3
    assert all(np.array_equal(array, built.parameters()[name]) for name, array in before.parameters().items())
    assert all(array.any() for array in network.parameters().values())
    assert float(record["test_error"]) == pytest.approx(evaluate(network, *digits[2:]), abs=1e-4)


def test_every_network_has_a_float_one_of_the_same_teacher():
    taught = read_records(FIGURES / "12_taught_float.csv")
    assert [(r["network"], r["seed"]) for r in taught] == [(n, s) for n in sizes.FLOAT_BYTES for s in range(3)]
    assert all(r["epochs"] == sum(deep_compression.EPOCHS[r["network"]]) for r in taught)


def test_the_records_are_of_both_networks_and_their_floats_are_the_studys():
    records = read_records(FIGURES / "12_archive.csv")
    plain = {
        (r["network"], r["seed"]): r["error"]
        for r in read_records(FIGURES / "02_quantization.csv")
        if (r["technique"], r["bits"], r["sparsity"]) == ("per_channel", 32, 0.0)
    }
    floats = [r for r in records if r["technique"] == "float"]
    assert {r["network"] for r in floats} == {"lenet_300_100", "lenet_5"}
    assert all(abs(r["error"] - plain[r["network"], r["seed"]]) < 1e-6 for r in floats)
