"""The study: every record is what measuring by hand gives; tables, figures and files say what the records say."""

import csv
import functools
import itertools
import math
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from nnzip.book import plots, report, study
from nnzip.book.study import NETWORKS, error_grid, plan, read_records, run_study, select, write_records
from nnzip.book.techniques import CHAPTERS, FLOAT, INTEGER_MAP, TECHNIQUES, TRAINED, in_chapter, per_channel
from nnzip.codebooks import kmeans, power_of_two_codebook
from nnzip.compression.hadamard import rotate_network, unrotate_network
from nnzip.compression.integer import integer_network
from nnzip.compression.mixed_precision import mixed_precision
from nnzip.compression.pruning import prune_network
from nnzip.compression.quantization import quantize_activations, quantize_weights
from nnzip.compression.reconstruction import (
    correct_biases,
    equalize_network,
    reconstruct_pruned,
    reconstruct_weights,
    smooth_network,
)
from nnzip.data import load_mnist
from nnzip.jobs import open_executor
from nnzip.nn.layers import Flatten, Linear, MaxPool2d, ReLU
from nnzip.nn.network import Network
from nnzip.nn.training import evaluate
from nnzip.nn.zoo import trained
from nnzip.quantization import sqnr_db


@pytest.fixture(scope="module")
def mlp():
    return trained("lenet_300_100")


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


WIDTHS = (2, 3, 4, 8, FLOAT)
ZEROS = (0.0, 0.5, 0.8, 0.9, 0.99)


def synthetic_records():
    """A record of every point, with errors from a formula: worse for fewer bits and for more zeros."""
    records = []
    for network, technique, bits, sparsity, seed in itertools.product(NETWORKS, UNTRAINED, WIDTHS, ZEROS, (0, 1)):
        error = 0.01 + 0.5 * 4.0**-bits + 0.3 * sparsity**4 + 0.002 * seed
        error += 0.0001 * list(TECHNIQUES).index(technique) * (bits != FLOAT)
        noise = math.inf if bits == FLOAT and sparsity == 0 else 6.0 * bits - 20 * sparsity
        records.append(row(network, technique, seed, bits, error, sparsity, noise))
    return records


UNTRAINED = [name for name in TECHNIQUES if name not in TRAINED]
IN_FILES = {stem: in_chapter(stem) for stem in CHAPTERS}
SHOWN = len(set().union(*IN_FILES.values()) & set(UNTRAINED))  # those in the table, without what is trained


def row(network, technique, seed, bits, error, sparsity=0.0, sqnr=20.0):
    point = {"technique": technique, "bits": bits, "sparsity": sparsity, "error": error, "sqnr_db": sqnr}
    return {"network": network, "seed": seed, **point}


# ---------------------------------------------------------------- error_grid


def by_hand(network, data, technique, bits, sparsity):
    """Prune, round and count wrong answers without the study."""
    names = [name for name in network.parameters() if name.endswith("weight")]
    before = flat_weights(network, names)
    basis = rotate_network(network) if technique.startswith("rotated") else network
    compressed = prune_network(basis, sparsity)
    if technique in ("global_magnitude", "activation_aware"):
        compressed = pruned_together(network, data, sparsity, by_inputs=technique == "activation_aware")
    if technique in RECONSTRUCTED:
        compressed = RECONSTRUCTED[technique](network, data.train_images[:1000], bits, sparsity)
    elif bits != FLOAT and technique.startswith("integer"):
        pruned, widths = compressed, {"weight_bits": bits, "activation_bits": int(technique[-1])}
        integers = integer_network(pruned, data.train_images[:1000], **widths)
        codes = integers.quantize_input(data.test_images)
        wrong = sum(integers.forward(codes).argmax(axis=1) != data.test_labels)
        layers = [layer for layer in integers.layers if hasattr(layer, "weight")]
        after = [(layer.weight * np.reshape(layer.weight_scale, (-1, 1))).ravel() for layer in layers]
        return wrong / len(data.test_labels), sqnr_db(before, np.concatenate(after))
    if bits != FLOAT and technique in ("codebook", "by_rule"):
        for name in names:
            weight = compressed.parameters()[name]
            values = shared_values(weight, technique, bits, sparsity).astype(np.float32)
            weight[...] = values[np.abs(weight[..., None] - values).argmin(axis=-1)]
    elif bits != FLOAT and technique not in RECONSTRUCTED:
        compressed = quantize_weights(compressed, bits=bits, per_channel=technique not in ("per_tensor", "rotated"))
    if bits != FLOAT and technique in ("with_activations", "smoothed"):
        compressed = quantize_activations(compressed, data.train_images[:1000], bits=bits)
    wrong = sum(compressed.predict(data.test_images) != data.test_labels)
    names = [name for name in basis.parameters() if name.endswith("weight")]  # a rotation keeps lengths, so the SQNR
    return wrong / len(data.test_labels), sqnr_db(flat_weights(basis, names), flat_weights(compressed, names))


def rounded(network, bits, **options):
    return network if bits == FLOAT else quantize_weights(network, bits=bits, **options)


def second_order(network, images, bits, sparsity, *, method="obs"):
    return (
        rounded(reconstruct_pruned(network, images, sparsity, method=method), bits)
        if sparsity
        else rounded(network, bits)
    )


def by_gptq(network, images, bits, sparsity):
    pruned = second_order(network, images, FLOAT, sparsity)
    return pruned if bits == FLOAT else reconstruct_weights(pruned, images, bits=bits, method="gptq")


def with_corrected_biases(network, images, bits, sparsity):
    pruned = prune_network(network, sparsity)
    return pruned if bits == FLOAT else correct_biases(pruned, quantize_weights(pruned, bits=bits), images)


def by_mixed_widths(network, images, bits, sparsity):
    pruned = prune_network(network, sparsity)
    return pruned if bits == FLOAT else mixed_precision(pruned, images, bits=bits)


RECONSTRUCTED = {  # (network, images, bits, sparsity) -> Network
    "obd": partial(second_order, method="obd"),
    "obs": second_order,
    "gptq": by_gptq,
    "gptq_rotated": lambda network, *rest: unrotate_network(by_gptq(rotate_network(network), *rest)),
    "bias_corrected": with_corrected_biases,
    "equalized": lambda network, _, bits, sparsity: rounded(
        prune_network(equalize_network(network), sparsity), bits, per_channel=False
    ),
    "smoothed": lambda network, images, bits, sparsity: rounded(
        prune_network(smooth_network(network, images), sparsity), bits
    ),
    "mixed": by_mixed_widths,
}


def shared_values(weight, technique, bits, sparsity):
    """The values of a layer: k-means of what is not pruned, and 0; or powers of two."""
    if technique == "codebook" and sparsity:
        return np.sort(np.append(kmeans(weight[weight != 0], 2**bits - 1, init="k-means++"), 0))
    if technique == "codebook":
        return kmeans(weight, 2**bits, init="k-means++")
    return power_of_two_codebook(weight, bits=bits)


def flat_weights(network, names):
    return np.concatenate([network.parameters()[name].ravel() for name in names])


def pruned_together(network, data, sparsity, *, by_inputs):
    """Zero the smallest |w|, or |w| times the norm of its input, of all layers in one long list."""
    pruned, x, scores = network.copy(), data.train_images[:1000], []
    for layer in network.layers:
        if layer.params:
            norms = np.sqrt((x.astype(float) ** 2).sum(axis=0)) if by_inputs else 1.0
            scores.append(np.abs(layer.params["weight"].astype(float)) * norms)
        x = layer.forward(x)
    order = np.argsort(np.concatenate([score.ravel() for score in scores]), kind="stable")
    keep = np.ones(len(order), bool)
    keep[order[: round(sparsity * len(order))]] = False
    for name, array in pruned.parameters().items():
        if name.endswith("weight"):
            array *= keep[: array.size].reshape(array.shape)
            keep = keep[array.size :]
    return pruned


@pytest.fixture(scope="module")
def thin():
    """A network whose layers are narrow, for what takes long."""
    rng = np.random.default_rng(0)
    return Network([MaxPool2d(4), Flatten(), Linear(49, 16, rng=rng), ReLU(), Linear(16, 10, rng=rng)])


@pytest.mark.parametrize("technique", UNTRAINED)
def test_records_are_what_measuring_by_hand_gives(technique, mlp, thin, digits):
    mlp = thin if technique in {*RECONSTRUCTED, "integer_6", "integer_4", "integer_3", "integer_2"} else mlp
    before = {name: array.copy() for name, array in mlp.parameters().items()}
    wide = 4 if technique in ("codebook", "by_rule") else 8  # by hand, the distance to each of 256 values takes long
    widths = (3, wide, FLOAT)
    records = error_grid(mlp, digits, technique=technique, bits=widths, sparsities=(0, 0.9))
    assert [(r["bits"], r["sparsity"]) for r in records] == list(itertools.product(widths, (0.0, 0.9)))
    for record in records:
        assert list(record) == ["technique", "bits", "sparsity", "error", "sqnr_db"]
        assert record["technique"] == technique and type(record["sparsity"]) is float
        expected = by_hand(mlp, digits, technique, record["bits"], record["sparsity"])
        if "rotated" in technique:  # the study folds the rotation back, which rounds
            assert record["error"] == pytest.approx(expected[0], abs=2 / len(digits.test_labels))
            assert record["sqnr_db"] == pytest.approx(expected[1], rel=1e-4) or record["sqnr_db"] > 100
        else:
            assert (record["error"], record["sqnr_db"]) == pytest.approx(expected, rel=1e-12)
    if technique not in ("equalized", "smoothed"):  # whose weights are others, though the network computes the same
        assert records[4]["sqnr_db"] > 100  # float, nothing pruned: the network itself
    assert all(np.array_equal(mlp.parameters()[name], array) for name, array in before.items())


@pytest.mark.parametrize("spec", ["threads:2", "processes:2"])
def test_an_executor_gives_the_same_records_in_the_same_order(spec, mlp, digits):
    asked = {"technique": "per_channel", "bits": (2, 8), "sparsities": (0.5,)}
    with open_executor(spec) as workers:
        assert error_grid(mlp, digits, **asked, executor=workers) == error_grid(mlp, digits, **asked)
    with pytest.raises(TypeError, match=r"executor must be a concurrent\.futures\.Executor"):
        error_grid(mlp, digits, **asked, executor=spec)


class Counting(ThreadPoolExecutor):
    def submit(self, *work):
        self.sent = [*getattr(self, "sent", []), work]
        return super().submit(*work)


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 30])
def test_the_network_and_the_data_travel_eight_times_at_most(count, mlp, digits, monkeypatch):
    monkeypatch.setattr(study, "measure", lambda network, data, technique, *point: list(point))
    zeros = np.linspace(0, 1, count).tolist()
    with Counting(1) as workers:
        found = error_grid(mlp, digits, technique="per_tensor", bits=[3], sparsities=zeros, executor=workers)
        assert found == [[3, zero] for zero in zeros] and len(getattr(workers, "sent", [])) <= min(count, 8)


def silenced(network, data, *, bits, sparsity):
    """A technique of a reader: all logits are equal, so every answer is class 0."""
    assert len(data.train_images) <= 1000  # what an executor has to send
    return prune_network(Network([Flatten(), Linear(784, 10)]), 1)


def test_any_function_is_a_technique(mlp, digits):
    class_0 = Network([Flatten(), Linear(784, 10)])
    [record] = error_grid(class_0, digits, technique=silenced, bits=[5], sparsities=[0.25])
    assert record == {
        "technique": "silenced",
        "bits": 5,
        "sparsity": 0.25,
        "error": np.mean(digits.test_labels != 0),
        "sqnr_db": 0.0,  # all of the signal is noise
    }


class Idea:
    def __call__(self, network, data, *, bits, sparsity):
        return network


def test_partial_functions_and_objects_are_techniques_too(mlp, digits):
    asked = {"bits": [8], "sparsities": [0]}
    named, partial = functools.partial(per_channel), functools.partial(per_channel)
    named.__name__ = "mine"
    [expected] = error_grid(mlp, digits, technique="per_channel", **asked)
    assert error_grid(mlp, digits, technique=partial, **asked) == [expected]
    assert error_grid(mlp, digits, technique=named, **asked) == [{**expected, "technique": "mine"}]
    assert error_grid(mlp, digits, technique=Idea(), **asked)[0]["technique"] == "Idea"


def test_iterators_serve_as_bits_and_sparsities(mlp, digits):
    grid = error_grid(mlp, digits, technique="per_tensor", bits=iter((8, 4)), sparsities=iter((0.0, 0.5)))
    assert [(r["bits"], r["sparsity"]) for r in grid] == [(8, 0.0), (8, 0.5), (4, 0.0), (4, 0.5)]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"technique": "per_row"}, ValueError, "technique must be one of per_tensor, per_channel, with_activations"),
        ({"technique": None}, ValueError, "technique must be one of"),
        ({"bits": (0,)}, ValueError, r"bits \(or 32 for float\) must be from 1 to 16, got 0"),
        ({"bits": (8, 17)}, ValueError, "must be from 1 to 16, got 17"),
        ({"bits": (8.5,)}, TypeError, "must be an integer, got 8.5"),
        ({"bits": (True,)}, TypeError, "must be an integer, got True"),
        ({"sparsities": (0.5, 1.5)}, ValueError, r"a sparsity must be in \[0, 1\], got 1.5"),
        ({"sparsities": (-0.1,)}, ValueError, r"a sparsity must be in \[0, 1\]"),
        ({"sparsities": ("half",)}, TypeError, "a sparsity must be a number"),
    ],
)
def test_points_that_do_not_exist_are_refused_before_anything_runs(options, error, message, mlp, digits, monkeypatch):
    monkeypatch.setattr(study, "measure", lambda *point: pytest.fail("measured before the points were checked"))
    with pytest.raises(error, match=message):
        error_grid(mlp, digits, **({"technique": "per_tensor", "bits": (8,), "sparsities": (0,)} | options))


# ---------------------------------------------------------------- plan, run_study, files


def points_of(**extent):  # -> (network, seed, technique, bits, sparsity)
    return [
        (g["network"], g["seed"], g["technique"], bits, sparsity)
        for g in plan(**extent)
        for bits, sparsity in itertools.product(g["bits"], g["sparsities"])
    ]


EXTENTS = ({"quick": True}, {}, {"everything": True})


def test_a_larger_plan_has_all_points_of_a_smaller_one_and_none_twice():
    smaller = set()
    for extent in EXTENTS:
        points = points_of(**extent)
        assert smaller < set(points) and len(points) == len(set(points))
        assert {p[:2] for p in points} == set(itertools.product(NETWORKS, [0] if "quick" in extent else [0, 1, 2]))
        smaller = set(points)


@pytest.mark.parametrize("extent", EXTENTS)
def test_every_plan_has_the_four_techniques_and_the_integers_on_both_axes(extent):
    points = points_of(**extent)
    for network in NETWORKS:
        own = [p for p in points if p[:2] == (network, 0)]
        widths = {
            technique: {p[3] for p in own if p[2] == technique and p[4] == 0}
            for technique in ("per_tensor", "per_channel", "with_activations", "rotated", "rotated_per_channel")
        } | {
            technique: {p[3] for p in own if p[2] == technique and p[4] == 0}
            for technique in ("integer_8", "integer_4")
        }
        assert all(seen >= {2, 4, 8, FLOAT} for seen in widths.values())
        for technique, bits in (("per_channel", 4), ("per_channel", FLOAT), ("rotated_per_channel", 4)):
            assert {p[4] for p in own if p[2:4] == (technique, bits)} >= {0.0, 0.5, 0.9}
        assert {p[4] for p in own if p[2:4] == ("global_magnitude", FLOAT)} >= {0.5, 0.9}
        assert {p[4] for p in own if p[2:4] == ("integer_8", 4)} >= {0.5, 0.9}


def test_the_whole_plan_measures_every_technique_and_its_maps():
    points = points_of(everything=True)
    drawn = {name for stem in CHAPTERS for name in in_chapter(stem, drawn=True)}
    for network, technique in itertools.product(NETWORKS, drawn & set(UNTRAINED)):
        own = [point for point in points if point[0] == network and point[1] == 0 and point[2] == technique]
        seen = {bits for *_, bits, sparsity in own if sparsity == 0}
        if technique in ("global_magnitude", "activation_aware"):  # at sparsity 0 nothing of them is left to see
            assert own and not seen
        elif technique in ("codebook", "by_rule"):
            assert seen == {1, 2, 3, 4, 5, 6, 7, 8, FLOAT}
        elif technique in ("gptq", "gptq_rotated", "mixed"):
            assert 2 in seen and seen < {2, 3, 4, 5, 6, 7, 8, FLOAT}
        else:
            assert seen == {2, 3, 4, 5, 6, 7, 8, FLOAT} or (network == "lenet_5" and seen == {2, 3, 4, 8, FLOAT})
    for stem in CHAPTERS:  # each figure has curves against sparsity too
        zeros = [p for p in points if p[2] in in_chapter(stem) and p[3] == 4 and p[4] > 0]
        assert {p[0] for p in zeros} == set(NETWORKS), stem
    mapped = [p for p in points if p[0] == "lenet_300_100" and p[2].startswith("integer_") and p[4] in (0.0, 0.8)]
    for bits, technique in itertools.product((2, 3, 4, 8), ("integer_8", "integer_4", "integer_3", "integer_2")):
        assert {p[4] for p in mapped if p[2:4] == (technique, bits)} == {0.0, 0.8}
    whole_map = {p[3:] for p in points if p[:3] == ("lenet_300_100", 0, "per_channel")}
    assert whole_map == set(itertools.product(study.BITS, study.SPARSITIES))


def test_every_committed_record_that_needs_no_training_is_in_the_whole_plan():
    points = set(points_of(everything=True))
    for stem in [*CHAPTERS, INTEGER_MAP]:
        there = read_records(Path(__file__).parents[1] / "figures" / f"{stem}.csv")
        assert {report._point(r) for r in there if r["technique"] not in TRAINED} <= points


def test_the_study_measures_its_plan_on_the_networks_it_names(mlp, digits, monkeypatch, tmp_path, capsys):
    grids = [
        {"network": "lenet_300_100", "seed": 1, "technique": "per_tensor", "bits": (2, FLOAT), "sparsities": (0.0,)},
        {"network": "lenet_300_100", "seed": 0, "technique": "per_channel", "bits": (4,), "sparsities": (0.5,)},
        {"network": "lenet_300_100", "seed": 1, "technique": "rotated", "bits": (FLOAT,), "sparsities": (0.0,)},
    ]
    monkeypatch.setattr(
        study, "plan", lambda **extent: grids if extent == EXTENTS[0] | {"everything": False} else 1 / 0
    )
    monkeypatch.setattr(study, "study_data", lambda: digits)
    log = tmp_path / "log"
    records = run_study(quick=True, log=log)
    assert [(r["seed"], r["technique"], r["bits"], r["sparsity"]) for r in records] == [
        (1, "per_tensor", 2, 0.0),
        (1, "per_tensor", FLOAT, 0.0),
        (0, "per_channel", 4, 0.5),
        (1, "rotated", FLOAT, 0.0),
    ]
    assert records[3] == {**records[1], "technique": "rotated"}  # the float network, measured once
    assert all(tuple(record) == study.COLUMNS for record in records)
    assert records[1]["error"] == evaluate(trained("lenet_300_100", seed=1), digits.test_images, digits.test_labels)
    assert (records[2]["error"], records[2]["sqnr_db"]) == by_hand(mlp, digits, "per_channel", 4, 0.5)
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 3 and "3/3" in err.splitlines()[-1] and "s left" in err
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:2]))  # killed after the first of the grids
    assert run_study(quick=True, log=log, progress=False) == run_study(quick=True, progress=False) == records
    with pytest.raises(ValueError, match="not the log of this search"):
        monkeypatch.setattr(study, "trained", lambda *name, **options: None)
        run_study(quick=True, log=log, retrain=True)
    assert "s left" not in capsys.readouterr().err


def test_the_studys_data_are_the_first_thousand_images_and_the_test_set(test_set):
    data, whole = study.study_data(), load_mnist()
    for found, expected in zip(data, (*(a[:1000] for a in whole[:2]), *test_set), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert data is study.study_data() and data.train_images.base is None  # the other 59,000 are not kept


def test_retrain_trains_each_network_once(digits, monkeypatch):
    grid = {"network": "lenet_300_100", "technique": "per_tensor", "bits": (FLOAT,), "sparsities": (0.0,)}
    asked = []

    def fake_trained(name, *, seed, retrain):
        asked.append((name, seed, retrain))
        return Network([Flatten(), Linear(784, 10)])

    monkeypatch.setattr(study, "plan", lambda **extent: [{**grid, "seed": seed} for seed in (0, 1, 0)])
    monkeypatch.setattr(study, "trained", fake_trained)
    monkeypatch.setattr(study, "study_data", lambda: digits)
    run_study(retrain=True, progress=False)
    assert asked == [("lenet_300_100", 0, True), ("lenet_300_100", 1, True)]


def test_records_come_back_from_a_file_to_the_digits_that_are_written(tmp_path):
    records = synthetic_records()
    write_records(records, tmp_path / "records.csv")
    back = read_records(tmp_path / "records.csv")
    assert len(back) == len(records)
    for one, other in zip(records, back, strict=True):
        for key in ("network", "seed", "technique", "bits", "sparsity"):
            assert other[key] == one[key] and type(other[key]) is type(one[key])
        assert other["error"] == pytest.approx(one["error"], abs=0.5001e-4)  # four decimals: one image of 10,000
        assert other["sqnr_db"] == pytest.approx(one["sqnr_db"], abs=0.5001e-2)
    write_records(back, tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "records.csv").read_bytes()
    lines = (tmp_path / "records.csv").read_bytes().split(b"\n")
    assert lines[0] == b"network,seed,technique,bits,sparsity,error,sqnr_db" and b"\r" not in lines[0]


def test_select_returns_the_records_that_have_all_values():
    records = synthetic_records()
    chosen = select(records, network="lenet_5", bits=4, sparsity=0.0)
    assert chosen == [r for r in records if (r["network"], r["bits"], r["sparsity"]) == ("lenet_5", 4, 0.0)]
    assert select(records) == records and select(records, bits=99) == []


# ---------------------------------------------------------------- tables


FEW = [  # written in no order at all
    row("lenet_5", "per_channel", 0, 4, 0.02),
    row("lenet_300_100", "per_tensor", 1, FLOAT, 0.03),
    row("lenet_300_100", "per_tensor", 0, 2, 0.50),
    row("lenet_300_100", "per_tensor", 0, FLOAT, 0.01),
    row("lenet_300_100", "per_tensor", 0, 4, 0.90, sparsity=0.5),  # not in the table: pruned
    row("lenet_300_100", "per_tensor", 1, 2, 0.70),
    row("lenet_5", "per_channel", 0, FLOAT, 0.01),
    row("lenet_300_100", "per_tensor", 0, 4, 0.02),
    row("lenet_300_100", "per_tensor", 1, 4, 0.05),
]


def test_the_table_has_mean_spread_and_distance_to_float():
    expected = [
        ("lenet_300_100", "per_tensor", FLOAT, 0.02, 0.01, 0.03, 0.0),
        ("lenet_300_100", "per_tensor", 4, 0.035, 0.02, 0.05, 0.015),
        ("lenet_300_100", "per_tensor", 2, 0.6, 0.5, 0.7, 0.58),
        ("lenet_5", "per_channel", FLOAT, 0.01, 0.01, 0.01, 0.0),
        ("lenet_5", "per_channel", 4, 0.02, 0.02, 0.02, 0.01),
    ]
    rows = report.results_table(FEW)
    assert len(rows) == len(expected)
    for got, (network, technique, bits, *numbers) in zip(rows, expected, strict=True):
        assert (got["network"], got["technique"], got["bits"]) == (network, technique, bits)
        found = [got[key] for key in ("error", "lowest", "highest", "over_float")]
        assert found == pytest.approx(numbers, abs=1e-12)


def test_the_markdown_table_has_a_column_for_each_width_and_a_line_for_each_pair():
    lines = report.markdown_table(report.results_table(FEW)).splitlines()
    head, rule, *body = [line for line in lines if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in (head, *body)]
    assert cells[0] == ["network", "rounded", "float", "4 bits", "2 bits"]
    assert rule.count("---") == 5 and {len(line) for line in cells} == {5}
    assert cells[1][2:] == ["2.00% (1.00-3.00%)", "3.50% (2.00-5.00%)", "60.00% (50.00-70.00%)"]
    assert cells[2][2:] == ["1.00% (1.00-1.00%)", "2.00% (2.00-2.00%)", ""]  # what was not measured stays empty
    assert "fake-quantized" in lines[1]


def test_the_sparsity_table_has_the_mean_float_error_of_each_way_to_prune():
    lines = [line for line in report.sparsity_table(synthetic_records()).splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["network", "pruned", "50%", "80%", "90%", "95%", "97%", "98%", "99%"]
    ways = {"each layer alike", "all layers together", "activation-aware"}
    assert {line[1] for line in cells[2:]} == ways | {"Optimal Brain Damage", "Optimal Brain Surgeon"}
    own = select(synthetic_records(), network="lenet_300_100", technique="per_channel", bits=FLOAT, sparsity=0.8)
    assert cells[2][3] == f"{np.mean([r['error'] for r in own]):.2%}" and cells[2][5] == ""  # 95 % was not measured


def test_the_summary_fits_a_screen_and_says_what_came_out_and_what_changed():
    records = synthetic_records()
    changes = [(old, {**old, "error": old["error"] + 0.01}) for old in records[:9]]
    text = report.summary([*records, *FEW], len(records), changes, Path("figures"))
    assert len(text.splitlines()) <= 40 and max(map(len, text.splitlines())) <= 120 and "nan" not in text
    rounded, pruned = text.split("removed")
    for network, short in (("lenet_300_100", "LeNet-300-100"), ("lenet_5", "LeNet-5 ")):
        own = select(records, network=network, technique="rotated_per_channel", sparsity=0.0)
        [line] = [line for line in rounded.splitlines() if line.startswith(short) and "rotated" in line]
        assert line.split()[-5:] == [
            f"{np.mean([r['error'] for r in select(own, bits=b)]):.2%}" for b in (32, 8, 4, 3, 2)
        ]
        own = select(records, network=network, technique="global_magnitude", bits=FLOAT)
        [line] = [line for line in pruned.splitlines() if line.startswith(short) and "together" in line]
        assert line.split()[-4:] == [
            f"{np.mean([r['error'] for r in select(own, sparsity=s)]):.2%}" for s in (0.5, 0.8, 0.9, 0.99)
        ]
    assert (
        f"{len(records)} records measured; 9 are kept" in text
        and "figures/results.md" in text
        and "mean of 2 seeds" in text
    )
    assert text.count("Changed: ") == 5 and "and 4 more" in text
    assert "lenet_300_100:0, per_tensor, 2 bits, 0% zero: 4.12% to 5.12%" in text


def test_close_records_leave_those_of_the_file_and_others_replace_them():
    there = [row("lenet_5", "gptq", 0, bits, 0.0100, sqnr=10.0) for bits in (8, 4, 3, 2)]
    new = [
        row("lenet_5", "gptq", 0, 4, 0.0105, sqnr=10.05),  # as close as another CPU comes
        row("lenet_5", "gptq", 0, 3, 0.0106, sqnr=10.0),
        row("lenet_5", "gptq", 0, 2, 0.0100, sqnr=10.06),
        row("lenet_5", "gptq", 0, 1, 0.5),
    ]
    rows, changes = report.settle(new, there)
    assert rows == [there[0], there[1], *new[1:]]
    assert changes == [(there[2], new[1]), (there[3], new[2])]
    assert report.settle(new, there, same_weights=False)[0] == [there[0], *new]
    infinite = [row("lenet_5", "gptq", 0, FLOAT, 0.01, sqnr=math.inf)]
    assert report.settle(infinite, infinite) == (infinite, [])


def test_a_second_run_on_another_cpu_leaves_the_folder_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "save_figure", lambda figure, path: plt.close(figure) or path.write_bytes(b"a figure"))
    records = [{**r, "error": round(r["error"], 4)} for r in synthetic_records()]  # as images of 10,000 come
    report.write_report(records, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    drawn = []
    monkeypatch.setattr(plots, "save_figure", lambda figure, path: drawn.append(path.stem) or plt.close(figure))
    elsewhere = [{**r, "error": r["error"] + 0.0004, "sqnr_db": r["sqnr_db"] - 0.04} for r in records[::2]]
    everything, changes = report.write_report(elsewhere, tmp_path)
    assert changes == [] == drawn
    shown = [r for r in records if not r["technique"].startswith(("integer_2", "integer_3", "integer_6"))]
    assert {report._point(r) for r in everything} >= {report._point(r) for r in shown}
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    report.write_trained([row("lenet_5", "retrained", 0, FLOAT, 0.1, 0.9)], tmp_path)
    drawn.clear()
    report.write_report(elsewhere, tmp_path)
    assert "results" in drawn and "05_pruning_signature" not in drawn  # the trained records are in both pictures
    drawn.clear()
    [other] = [{**r, "error": r["error"] + 0.01} for r in select(records, technique="mixed", bits=4, seed=0)[:1]]
    everything, changes = report.write_report([other], tmp_path)
    assert [new for _, new in changes] == [other] and other in everything
    assert drawn[0] == "11_mixed_precision_signature" and "02_quantization_signature" not in drawn
    report.write_report([r for r in records if r["technique"] != "smoothed"], tmp_path, complete=True)
    assert not select(read_records(tmp_path / "10_reconstruction.csv"), technique="smoothed")  # measured no more


def test_the_report_writes_its_files(tmp_path, report_files, monkeypatch):
    records, save = synthetic_records(), plots.save_figure

    def save_a_few(figure, path):  # all are drawn, few become pixels, which takes longest
        save(figure, path) if path.name.startswith("02") else path.write_bytes(b"a figure")
        plt.close(figure)

    monkeypatch.setattr(plots, "save_figure", save_a_few)
    report.write_report(records, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == report_files
    for stem, techniques in IN_FILES.items():
        own = [record for record in records if record["technique"] in techniques]
        assert len(read_records(tmp_path / f"{stem}.csv")) == len(own) > 0
    mapped = [r for r in records if r["network"] == "lenet_300_100" and "integer" in r["technique"]]
    mapped = [r for r in mapped if r["sparsity"] in (0.0, 0.8) and r["bits"] != FLOAT]
    points = [(r["technique"], r["seed"], r["bits"], r["sparsity"]) for r in mapped]
    written = read_records(tmp_path / "08_integer_map.csv")
    assert [(r["technique"], r["seed"], r["bits"], r["sparsity"]) for r in written] == points
    with open(tmp_path / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * SHOWN * 5 and rows[0]["bits"] == "32" and rows[0]["over_float"] == "0.0000"
    tables = report.markdown_table(report.results_table(records)) + "\n" + report.sparsity_table(records)
    assert (tmp_path / "results.md").read_text() == tables
    assert plt.get_fignums() == []


# ---------------------------------------------------------------- figures


def line_of(axes, label):
    [line] = [line for line in axes.get_lines() if line.get_label() == label]
    return line


def test_the_signature_figure_draws_means_and_bands_of_the_records():
    records = synthetic_records()
    figure = plots.error_curves(records)
    assert isinstance(figure, Figure)
    left, right = figure.axes
    line = line_of(left, "per channel, MLP")
    bits, errors = line.get_data()
    named = {label.get_text(): at for at, label in zip(left.get_xticks(), left.get_xticklabels(), strict=True)}
    assert list(bits) == [2, 3, 4, 8, named["float"]] and named["float"] > named["8"] == 8
    own = select(records, network="lenet_300_100", technique="per_channel", sparsity=0.0)
    for width, error in zip((2, 3, 4, 8, FLOAT), errors, strict=True):
        assert error == pytest.approx(100 * np.mean([r["error"] for r in select(own, bits=width)]))
    line = line_of(right, "4 bits per channel, CNN")
    own = select(records, network="lenet_5", technique="per_channel", bits=4)
    assert list(line.get_xdata()) == [0, 0.5, 0.8, 0.9, 0.99]
    for sparsity, error in zip(*line.get_data(), strict=True):
        assert error == pytest.approx(100 * np.mean([r["error"] for r in select(own, sparsity=sparsity)]))
    bands = [band.get_paths()[0].vertices[:, 1] for band in left.collections]
    own = [100 * r["error"] for r in select(records, network="lenet_300_100", technique="per_tensor", sparsity=0.0)]
    assert bands[0].min() == pytest.approx(min(own)) and bands[0].max() == pytest.approx(max(own))
    assert len(bands) == len(left.get_lines())


def test_every_curve_has_a_label_of_its_own_and_a_look_of_its_own():
    own = [record for record in synthetic_records() if record["technique"] in in_chapter("02_quantization")]
    figure = plots.error_curves(own)
    for axes, count in zip(
        figure.axes, (6, 8), strict=True
    ):  # three techniques of two networks; on the right float too
        labels = [line.get_label() for line in axes.get_lines()]
        assert len(set(labels)) == len(labels) == count and not any(label.startswith("_") for label in labels)
        assert sorted(text.get_text() for text in axes.get_legend().get_texts()) == sorted(labels)
        looks = {(line.get_color(), line.get_marker(), line.get_linestyle()) for line in axes.get_lines()}
        assert len(looks) == count


def test_given_axes_are_drawn_into():
    figure, axes = plt.subplots(1, 2)
    assert plots.error_curves(synthetic_records(), axes=axes) is figure
    assert all(panel.get_lines() for panel in axes) and len(plt.get_fignums()) == 1
    figure, axis = plt.subplots()
    assert plots.error_map(select(synthetic_records(), technique="per_channel"), axis=axis) is figure and axis.images
    figure, axis = plt.subplots()
    assert plots.sqnr_curves(synthetic_records(), axis=axis) is figure and axis.get_lines()


def test_a_technique_of_a_reader_is_drawn_under_its_own_name():
    records = [{**r, "technique": "my_idea"} for r in select(synthetic_records(), technique="per_channel")]
    left, right = plots.error_curves(records).axes
    assert {line.get_label() for line in left.get_lines()} == {"my_idea, MLP", "my_idea, CNN"}
    assert "4 bits my_idea, MLP" in {line.get_label() for line in right.get_lines()}


def test_the_map_has_the_mean_error_in_every_field():
    records = select(synthetic_records(), network="lenet_300_100", technique="per_channel")
    axes = plots.error_map(records).axes[0]
    fields = {text.get_position(): text.get_text() for text in axes.texts}
    assert len(fields) == 25
    for (row, bits), (column, sparsity) in itertools.product(
        enumerate((2, 3, 4, 8, FLOAT)), enumerate((0.0, 0.5, 0.8, 0.9, 0.99))
    ):
        mean = 100 * np.mean([r["error"] for r in select(records, bits=bits, sparsity=sparsity)])
        assert fields[column, row] == f"{mean:.1f}"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["2", "3", "4", "8", "float"]


def test_the_integer_map_has_the_mean_error_at_every_pair_of_widths():
    records = [r for r in synthetic_records() if r["technique"].startswith("integer_") and r["bits"] != FLOAT]
    records = [r for r in select(records, network="lenet_300_100") if r["sparsity"] in (0.0, 0.8)]
    two_maps = plots.integer_map(records).axes[:2]
    assert ["nothing pruned" in axes.get_title() for axes in two_maps] == [True, False] and "80%" in two_maps[
        1
    ].get_title()
    for axes, sparsity in zip(two_maps, (0.0, 0.8), strict=True):
        fields = {text.get_position(): text.get_text() for text in axes.texts}
        assert len(fields) == 4 * 5
        for (column, bits), (line, activation_bits) in itertools.product(
            enumerate((2, 3, 4, 8)), enumerate((2, 3, 4, 6, 8))
        ):
            own = select(records, technique=f"integer_{activation_bits}", bits=bits, sparsity=sparsity)
            assert fields[column, line] == f"{100 * np.mean([r['error'] for r in own]):.1f}"
        assert [label.get_text() for label in axes.get_yticklabels()] == ["2", "3", "4", "6", "8"]


@pytest.mark.filterwarnings("error")
def test_a_map_without_a_single_error_is_drawn_too():
    records = [
        {**r, "error": 0.0 if r["bits"] > 4 else 0.5} for r in select(synthetic_records(), technique="per_channel")
    ]
    figure = plots.error_map(select(records, network="lenet_300_100"))
    figure.canvas.draw()
    assert {text.get_text() for text in figure.axes[0].texts} == {"0.0", "50.0"}


def test_the_sqnr_of_rounded_weights_is_drawn_over_bits():
    axes = plots.sqnr_curves(synthetic_records()).axes[0]
    line = line_of(axes, "per tensor, CNN")
    assert list(line.get_xdata()) == [2, 3, 4, 8] and list(line.get_ydata()) == [12, 18, 24, 48]
    slope = next(line for line in axes.get_lines() if "slope" in line.get_label()).get_ydata()
    for lower, upper, bits in zip(slope, slope[1:], (2, 3), strict=False):  # narrow grids: steps of 1 / (2^(b-1) - 1)
        assert upper - lower == pytest.approx(20 * math.log10((2**bits - 1) / (2 ** (bits - 1) - 1)))


@pytest.mark.parametrize(
    ("draw", "records"),
    [
        (plots.error_curves, []),
        (plots.error_map, []),
        (plots.integer_map, []),
        (plots.sqnr_curves, []),
        (plots.sqnr_curves, [row("lenet_5", "per_channel", 0, FLOAT, 0.01)]),
        (plots.sqnr_curves, [row("lenet_5", "my_idea", 0, 4, 0.01)]),
    ],
)
def test_no_records_make_no_figure(draw, records):
    with pytest.raises(ValueError, match=f"{draw.__name__} needs at least one record"):
        draw(records)
    assert plt.get_fignums() == []


def test_a_figure_saved_twice_has_the_same_bytes_and_is_closed(tmp_path):
    records = [record for record in synthetic_records() if record["technique"] in in_chapter("02_quantization")]
    for name in ("one.png", "two.png"):
        plots.save_figure(plots.error_curves(records), tmp_path / name)
    content = (tmp_path / "one.png").read_bytes()
    assert content == (tmp_path / "two.png").read_bytes() and content.startswith(b"\x89PNG")
    assert b"Software" not in content and b"Creation" not in content
    assert plt.get_fignums() == []


def test_drawing_leaves_the_readers_settings_alone():
    before = dict(plt.rcParams)
    plots.error_curves(synthetic_records())
    assert dict(plt.rcParams) == before


# ---------------------------------------------------------------- careless use


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 8}, "bits must be a list or other iterable, got 8"),
        ({"sparsities": 0.5}, "sparsities must be a list or other iterable, got 0.5"),
        ({"network": "lenet_5"}, "network must be a Network, got str"),
        ({"data": None}, "data must be a Mnist, as load_mnist"),
        ({"data": (1, 2)}, "data must be a Mnist, as load_mnist"),
        ({"technique": lambda network, data, *, bits, sparsity: None}, "network must be a Network, got NoneType"),
    ],
)
def test_error_grid_says_what_it_takes(options, message, mlp, digits):
    usual = {"network": mlp, "data": digits, "technique": "per_tensor", "bits": [8], "sparsities": [0]} | options
    with pytest.raises(TypeError, match=message):
        error_grid(usual.pop("network"), usual.pop("data"), **usual)


def test_records_without_a_network_make_every_figure():
    records = select(synthetic_records(), network="lenet_300_100", seed=0, technique="per_channel")
    bare = [{key: value for key, value in r.items() if key not in ("network", "seed")} for r in records]
    assert len(plots.sqnr_curves(bare).axes[0].get_lines()) == 2  # theirs, and the slope
    assert len(plots.error_curves(bare).axes) == 2


@pytest.mark.parametrize(
    "points", [[(8, 0.0), (3, 0.0)], [(FLOAT, 0.0), (FLOAT, 0.5)]], ids=["no sparsities", "no widths"]
)
def test_a_panel_without_lines_has_no_legend(points):
    records = [row("lenet_5", "per_channel", 0, bits, 0.01) | {"sparsity": sparsity} for bits, sparsity in points]
    axes = plots.error_curves(records).axes
    assert sorted(axis.get_legend() is None for axis in axes) == [False, True]


def test_one_point_makes_no_curve():
    with pytest.raises(ValueError, match="error_curves needs records of two bit widths or of two sparsities"):
        plots.error_curves([row("lenet_5", "per_channel", 0, 4, 0.01)])
    assert plt.get_fignums() == []


def test_the_float_network_stands_behind_the_widest_bits():
    records = [row("lenet_5", "per_channel", 0, bits, 0.01) for bits in (8, 12, 16, FLOAT)]
    left, _ = plots.error_curves(records).axes
    assert list(line_of(left, "per channel, CNN").get_xdata()) == [8, 12, 16, 17.5]
    ticks = dict(zip((label.get_text() for label in left.get_xticklabels()), left.get_xticks(), strict=True))
    assert ticks["16"] == 16 and ticks["float"] == 17.5


def test_a_map_with_holes_is_refused():
    records = [row("lenet_5", "per_channel", 0, 8, 0.01), row("lenet_5", "per_channel", 0, 4, 0.01) | {"sparsity": 0.5}]
    with pytest.raises(ValueError, match=r"the map needs a record at every pair, has none at bits 4, sparsity 0\.0"):
        plots.error_map(records)
    assert plt.get_fignums() == []
