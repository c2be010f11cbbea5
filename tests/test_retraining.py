"""The long study: every point is trained and measured as it says, and its records stay where the short one writes."""

import numpy as np
import pytest
import retraining

from nnzip.book import report
from nnzip.book.study import BITS, read_records, write_records
from nnzip.book.techniques import FLOAT
from nnzip.compression.pruning import masks_of, sparsity_of
from nnzip.compression.quantization import Rounded
from nnzip.data import Mnist


@pytest.fixture
def small(monkeypatch, digits):
    """Let everything train on 100 images for one epoch."""
    few = Mnist(*(array[:100] for array in digits))
    monkeypatch.setattr(retraining, "load_mnist", lambda: few)
    monkeypatch.setitem(retraining.RETRAIN, "lenet_300_100", ({0.5: 1, 0.9: 1}, {"rate": 0.05, "l2": 0.0}))
    fast = {technique: (1, 0.02, 0.05) for technique in ("labels", "distilled")}
    monkeypatch.setitem(retraining.REPAIR, "lenet_300_100", fast)
    return few


def test_a_retrained_network_is_pruned_to_every_sparsity_and_rounded_at_one(small):
    network = retraining.trained("lenet_300_100")
    points = list(retraining.retrained(network, small, "lenet_300_100", 0))
    widths = [(bits, 0.9) for bits in BITS if bits != FLOAT]
    assert [point[:2] for point in points] == [(FLOAT, 0.5), (FLOAT, 0.9), *widths]
    for bits, sparsity, pruned in points:
        assert sparsity_of(pruned) >= sparsity - 1e-6  # rounding makes a few more zeros
        if bits == 2:
            assert len(np.unique(pruned.parameters()["5.weight"][0])) <= 3
    before, after = network.parameters()["1.weight"], points[0][2].parameters()["1.weight"]
    kept = after != 0
    assert not np.array_equal(before[kept], after[kept])  # it was trained


def test_what_pruning_is_compared_with_is_trained_the_same_way_and_not_pruned(small, monkeypatch):
    asked, left, true_stages = [], [], retraining.gradual_pruning

    def stages(network, data, **options):
        asked.append(options)
        for sparsity, trained in true_stages(network, data, **options):
            left.append(sparsity_of(trained))
            yield sparsity, trained

    monkeypatch.setattr(retraining, "gradual_pruning", stages)
    records = retraining.dense(("lenet_300_100", 1))
    list(retraining.retrained(retraining.trained("lenet_300_100", seed=1), small, "lenet_300_100", 1))
    assert asked[0] | {"sparsities": [0.5, 0.9]} == asked[1] and left[:2] == [0.0, 0.0]
    assert [(r["seed"], r["beside"], r["epochs"]) for r in records] == [(1, 0.5, 1), (1, 0.9, 1)]


@pytest.mark.parametrize("technique", ["labels", "distilled"])
def test_a_repaired_network_is_on_its_grid_or_keeps_its_zeros(technique, small, monkeypatch):
    asked = []
    true_repair = retraining.repair
    monkeypatch.setattr(retraining, "repair", lambda *a, **options: asked.append(options) or true_repair(*a, **options))
    network = retraining.trained("lenet_300_100")
    points = list(retraining.repaired(network, small, "lenet_300_100", 0, technique))
    assert {options["alpha"] for options in asked} == {0.9 if technique == "distilled" else 0.0}
    assert [point[:2] for point in points[:4]] == [(2, 0.0), (3, 0.0), (4, 0.0), (FLOAT, 0.0)]
    for bits, sparsity, repaired in points:
        weight = repaired.parameters()["5.weight"]
        if bits != FLOAT:
            assert all(len(np.unique(row)) <= 2**bits - 1 for row in weight)
        else:
            assert sum(mask.sum() for mask in masks_of(repaired).values()) <= round((1 - sparsity) * 266200) + 3


@pytest.mark.parametrize(
    ("technique", "inputs"),
    [("straight_through", None), ("learned_step", None), ("learned_step_both", 3), ("learned_step_a4", 4)],
)
def test_what_is_trained_through_the_rounding_is_on_its_grid(technique, inputs, small, monkeypatch):
    method = technique.removesuffix("_both").removesuffix("_a4")
    monkeypatch.setitem(retraining.QAT, "lenet_300_100", {method: (1, 0.01, False)})
    monkeypatch.setitem(retraining.QAT_BITS, "lenet_300_100", {technique: (3,)})
    monkeypatch.setitem(retraining.QAT_SPARSITIES, "lenet_300_100", (0.9,))
    points = list(retraining.trained_through(retraining.trained("lenet_300_100"), small, "lenet_300_100", 0, technique))
    pruned = [(4, 0.9)] if technique == "learned_step" else []
    assert [point[:2] for point in points] == [(3, 0.0), *pruned]
    for bits, sparsity, network in points:
        assert all(len(np.unique(row)) <= 2**bits - 1 for row in network.parameters()["5.weight"])
        assert sparsity_of(network) >= sparsity - 1e-6
        rounded = [layer.input.qparams.bits for layer in network.layers if isinstance(layer, Rounded)]
        assert rounded == ([] if inputs is None else [inputs] * 3)


def test_binary_weights_are_trained_with_their_float_network_as_teacher(small, monkeypatch):
    taught = []
    train = retraining.train_quantized
    monkeypatch.setattr(retraining, "train_quantized", lambda *a, **o: taught.append(o["teacher"]) or train(*a, **o))
    monkeypatch.setitem(retraining.QAT, "lenet_300_100", {"binary": (1, 0.01, True)})
    network = retraining.trained("lenet_300_100")
    [(bits, sparsity, left)] = retraining.trained_through(network, small, "lenet_300_100", 0, "binary")
    assert (bits, sparsity) == (1, 0.0)
    assert all(len(np.unique(np.abs(row))) == 1 for row in left.parameters()["5.weight"])
    np.testing.assert_array_equal(taught[0].parameters()["5.weight"], network.parameters()["5.weight"])


def test_roundings_are_learned_at_three_widths(small, monkeypatch):
    asked = []
    monkeypatch.setattr(retraining, "reconstruct_weights", lambda network, images, **o: asked.append((len(images), o)))
    points = [point[:2] for point in retraining.learned_roundings(retraining.trained("lenet_300_100"), small)]
    assert points == [(2, 0.0), (3, 0.0), (4, 0.0)]
    assert asked == [(100, {"bits": bits, "method": "adaround"}) for bits in (2, 3, 4)]


def record(technique, bits, sparsity, error):
    one = {"network": "lenet_5", "seed": 0, "technique": technique}
    return {**one, "bits": bits, "sparsity": sparsity, "error": error, "sqnr_db": 10.0}


def test_the_short_study_keeps_what_the_long_one_wrote_and_the_long_one_replaces_it(tmp_path, drawn):
    short = [record("per_channel", bits, sparsity, 0.1) for bits, sparsity in ((8, 0.0), (FLOAT, 0.0), (FLOAT, 0.5))]
    write_records(short, tmp_path / "05_pruning.csv")
    for error in (0.3, 0.2):
        long = [record("retrained", FLOAT, sparsity, error) for sparsity in (0.5, 0.9)]
        repaired = [record(name, bits, 0.0, error) for name in ("labels", "distilled") for bits in (2, FLOAT)]
        report.write_trained(long + repaired, tmp_path)
        assert read_records(tmp_path / "05_pruning.csv") == short + long
        assert read_records(tmp_path / "06_distillation.csv") == repaired
    newer = [{**r, "error": 0.4} for r in short]
    everything, _ = report.write_report(newer, tmp_path, complete=True)
    assert read_records(tmp_path / "05_pruning.csv") == newer + long
    assert {r["technique"] for r in everything} == {"per_channel", "retrained", "labels", "distilled"}
    assert (tmp_path / "06_distillation_signature.png").exists()


def test_the_command_trains_and_writes_records_with_name_and_seed(small, drawn, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(retraining, "NETWORKS", ("lenet_300_100",))
    monkeypatch.setattr(retraining, "SEEDS", (1,))
    monkeypatch.setattr(retraining, "TRAINED", {"retrained": "05_pruning"})
    retraining.main(["--jobs", "1", "--output", str(tmp_path)])
    records = read_records(tmp_path / "05_pruning.csv")
    assert {(r["network"], r["seed"], r["technique"]) for r in records} == {("lenet_300_100", 1, "retrained")}
    assert len(records) == 9
    assert all(0 <= r["error"] < 1 and np.isfinite(r["sqnr_db"]) for r in records)
    dense = read_records(tmp_path / "05_dense.csv")
    assert [(r["beside"], r["epochs"], r["rate"], r["l2"]) for r in dense] == [(0.5, 1, 0.05, 0.0), (0.9, 1, 0.05, 0.0)]
    out, err = capsys.readouterr()
    assert str(tmp_path) in out and '["lenet_300_100", 1, "retrained"]' in err
