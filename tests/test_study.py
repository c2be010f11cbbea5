"""The study: every record is what measuring by hand gives; tables, figures and files say what the records say."""

import itertools
import math
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

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
from nnzip.data import Mnist
from nnzip.jobs import open_executor
from nnzip.nn.layers import Flatten, Linear, MaxPool2d, ReLU
from nnzip.nn.network import Network, weights_of
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


def synthetic_records(techniques=None):
    """A record of every point, with errors from a formula: worse for fewer bits and for more zeros."""
    records = []
    for network, technique, bits, sparsity, seed in itertools.product(
        NETWORKS, techniques or UNTRAINED, WIDTHS, ZEROS, (0, 1)
    ):
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


def mean_of(records, **point):  # percent
    return 100 * np.mean([record["error"] for record in select(records, **point)])


# ---------------------------------------------------------------- error_grid


def shared(network, values_of):
    """Give each weight the nearest of its layer's values."""
    network = network.copy()
    for weight in weights_of(network).values():
        values = values_of(weight).astype(np.float32)
        weight[...] = values[np.abs(weight[..., None] - values).argmin(axis=-1)]
    return network


def means_of(weight, bits):
    kept = weight[weight != 0]
    if kept.size == weight.size:
        return kmeans(kept, 2**bits, init="k-means++")
    return np.append(kmeans(kept, 2**bits - 1, init="k-means++"), 0)


def to_nearest(network, images, bits, **options):
    return quantize_weights(network, bits=bits, **options)


def with_inputs(network, images, bits):
    return quantize_activations(quantize_weights(network, bits=bits), images, bits=bits)


def second_order(network, images, sparsity, method="obs"):
    return reconstruct_pruned(network, images, sparsity, method=method) if sparsity else network


BEFORE = {  # (network, images) -> Network
    **dict.fromkeys(("rotated", "rotated_per_channel", "gptq_rotated"), lambda net, x: rotate_network(net)),
    "equalized": lambda net, x: equalize_network(net),
    "smoothed": smooth_network,
}
PRUNE = {  # (network, images, sparsity) -> Network, where it is not each layer by magnitude
    "global_magnitude": lambda net, x, zeros: prune_network(net, zeros, scope="network"),
    "activation_aware": lambda net, x, zeros: prune_network(
        net, zeros, scope="network", criterion="activation", data=(x, np.zeros(len(x), int))
    ),
    "obd": partial(second_order, method="obd"),
    **dict.fromkeys(("obs", "gptq", "gptq_rotated"), second_order),
}
ROUND = {  # (network, images, bits) -> what predicts, where it is not to nearest, per channel
    **dict.fromkeys(("per_tensor", "rotated", "equalized"), partial(to_nearest, per_channel=False)),
    **dict.fromkeys(("with_activations", "smoothed"), with_inputs),
    **dict.fromkeys(("gptq", "gptq_rotated"), lambda net, x, bits: reconstruct_weights(net, x, bits=bits)),
    "codebook": lambda net, x, bits: shared(net, partial(means_of, bits=bits)),
    "by_rule": lambda net, x, bits: shared(net, partial(power_of_two_codebook, bits=bits)),
    **{f"integer_{a}": partial(integer_network, activation_bits=a) for a in (8, 6, 4, 3, 2)},
    "bias_corrected": lambda net, x, bits: correct_biases(net, quantize_weights(net, bits=bits), x),
    "mixed": lambda net, x, bits: mixed_precision(net, x, bits=bits),
}


def by_hand(network, data, technique, bits, sparsity):  # -> error, SQNR of the weights in dB
    images = data.train_images[:1000]
    compressed = BEFORE.get(technique, lambda net, x: net)(network, images)
    compressed = PRUNE.get(technique, lambda net, x, zeros: prune_network(net, zeros))(compressed, images, sparsity)
    if bits != FLOAT:
        width = "weight_bits" if technique.startswith("integer") else "bits"
        compressed = ROUND.get(technique, to_nearest)(compressed, images, **{width: bits})
    if "rotated" in technique:
        compressed = unrotate_network(compressed)
    answers = compressed.predict(data.test_images)
    before, after = (np.concatenate([a.ravel() for a in weights_of(net).values()]) for net in (network, compressed))
    return np.mean(answers != data.test_labels), sqnr_db(before, after)


@pytest.fixture(scope="module")
def thin():
    """A network whose layers are narrow, for what takes long."""
    rng = np.random.default_rng(0)
    return Network([MaxPool2d(4), Flatten(), Linear(49, 16, rng=rng), ReLU(), Linear(16, 10, rng=rng)])


@pytest.mark.parametrize("technique", UNTRAINED)
def test_records_are_what_measuring_by_hand_gives(technique, thin, digits):
    before = {name: array.copy() for name, array in thin.parameters().items()}
    few = Mnist(*(array[:200] for array in digits))
    records = error_grid(thin, few, technique=technique, bits=(3, FLOAT), sparsities=(0, 0.9))
    assert [(r["bits"], r["sparsity"]) for r in records] == list(itertools.product((3, FLOAT), (0.0, 0.9)))
    for record in records:
        assert list(record) == ["technique", "bits", "sparsity", "error", "sqnr_db"]
        assert record["technique"] == technique and type(record["sparsity"]) is float
        expected = by_hand(thin, few, technique, record["bits"], record["sparsity"])
        assert (record["error"], record["sqnr_db"]) == pytest.approx(expected, rel=1e-12)
    if technique not in ("equalized", "smoothed"):  # whose weights are others, though the network computes the same
        assert records[2]["sqnr_db"] > 100  # float, nothing pruned: the network itself
    assert all(np.array_equal(thin.parameters()[name], array) for name, array in before.items())


@pytest.mark.parametrize("pool", [ThreadPoolExecutor, open_executor])
def test_an_executor_gives_the_same_records_in_the_same_order(pool, mlp, digits):
    asked = {"technique": "per_channel", "bits": (2, 8)}
    with pool(2) as workers:
        found = error_grid(mlp, digits, **asked, sparsities=iter((0.5,)), executor=workers)
    assert found == error_grid(mlp, digits, **asked, sparsities=(0.5,))
    with pytest.raises(TypeError, match=r"executor must be a concurrent\.futures\.Executor"):
        error_grid(mlp, digits, **asked, sparsities=(0.5,), executor="processes:2")


class Counting(ThreadPoolExecutor):
    def submit(self, *work):
        self.sent = [*getattr(self, "sent", []), work]
        return super().submit(*work)


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 30])
def test_the_network_and_the_data_travel_eight_times_at_most(count, mlp, digits, monkeypatch):
    monkeypatch.setattr(study, "_measure", lambda network, data, technique, points: points)
    zeros = np.linspace(0, 1, count).tolist()
    with Counting(1) as workers:
        found = error_grid(mlp, digits, technique="per_tensor", bits=[3], sparsities=zeros, executor=workers)
        assert found == [[3, zero] for zero in zeros] and len(getattr(workers, "sent", [])) <= min(count, 8)


def silenced(network, data, *, bits, sparsity):
    """A technique of a reader: all logits are equal, so every answer is class 0."""
    assert len(data.train_images) <= 1000  # what an executor has to send
    return prune_network(Network([Flatten(), Linear(784, 10)]), 1)


class Idea:
    def __call__(self, network, data, *, bits, sparsity):
        return network


def test_functions_partial_ones_and_objects_are_techniques(mlp, digits):
    def found(network, technique):
        return error_grid(network, digits, technique=technique, bits=[5], sparsities=[0.25])[0]

    assert found(Network([Flatten(), Linear(784, 10)]), silenced) == {
        "technique": "silenced",
        "bits": 5,
        "sparsity": 0.25,
        "error": np.mean(digits.test_labels != 0),
        "sqnr_db": 0.0,  # all of the signal is noise
    }
    assert found(mlp, partial(per_channel)) == found(mlp, "per_channel")
    assert found(mlp, Idea())["technique"] == "Idea"
    with pytest.raises(TypeError, match="network must be a Network, got NoneType"):
        found(mlp, lambda network, data, *, bits, sparsity: None)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"technique": "per_row"}, ValueError, "technique must be one of per_tensor, per_channel, with_activations"),
        ({"bits": (0,)}, ValueError, r"bits \(or 32 for float\) must be from 1 to 16, got 0"),
        ({"bits": (8, 17)}, ValueError, "must be from 1 to 16, got 17"),
        ({"bits": (True,)}, TypeError, "must be an integer, got True"),
        ({"sparsities": (0.5, 1.5)}, ValueError, r"a sparsity must be in \[0, 1\], got 1.5"),
        ({"bits": 8}, TypeError, "bits must be a list or other iterable, got 8"),
        ({"sparsities": 0.5}, TypeError, "sparsities must be a list or other iterable, got 0.5"),
        ({"network": "lenet_5"}, TypeError, "network must be a Network, got str"),
        ({"data": (1, 2)}, TypeError, "data must be a Mnist, as load_mnist"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_runs(options, error, message, mlp, digits, monkeypatch):
    monkeypatch.setattr(study, "_measure", lambda *points: pytest.fail("measured before the points were checked"))
    usual = {"network": mlp, "data": digits, "technique": "per_tensor", "bits": (8,), "sparsities": (0,)} | options
    with pytest.raises(error, match=message):
        error_grid(**usual)


# ---------------------------------------------------------------- plan, run_study, files


def points_of(**extent):  # -> (network, seed, technique, bits, sparsity)
    return [(*grid[:3], *point) for grid in plan(**extent) for point in itertools.product(*grid[3:])]


EXTENTS = ({"quick": True}, {}, {"everything": True})


def test_a_larger_plan_has_all_points_of_a_smaller_one_and_none_twice():
    smaller = set()
    for extent in EXTENTS:
        points = points_of(**extent)
        assert smaller < set(points) and len(points) == len(set(points))
        assert "everything" in extent or {p[3] for p in points if p[4] > 0} == {4, FLOAT}  # in three minutes
        assert {p[:2] for p in points} == set(itertools.product(NETWORKS, [0] if "quick" in extent else [0, 1, 2]))
        smaller = set(points)


@pytest.mark.parametrize("extent", EXTENTS)
def test_every_plan_has_the_four_techniques_and_the_integers_on_both_axes(extent):
    points = points_of(**extent)
    both = (("per_channel", 4), ("per_channel", FLOAT), ("rotated_per_channel", 4), ("integer_8", 4))
    for network in NETWORKS:
        for technique in ("per_tensor", "per_channel", "with_activations", "rotated", "integer_8", "integer_4"):
            assert {p[3] for p in points if p[:3] == (network, 0, technique) and p[4] == 0} >= {2, 4, 8, FLOAT}
        for point in (*both, ("global_magnitude", FLOAT)):
            assert {p[4] for p in points if p[:4] == (network, 0, *point)} >= {0.5, 0.9}


def test_the_whole_plan_has_the_points_of_the_committed_records_and_no_others():
    found = set()
    for stem in [*CHAPTERS, INTEGER_MAP]:
        there = read_records(Path(__file__).parents[1] / "figures" / f"{stem}.csv")
        found |= {report._point(r) for r in there if r["technique"] not in TRAINED}
    assert found == set(points_of(everything=True))


def test_the_study_measures_its_plan_on_the_networks_it_names(mlp, digits, monkeypatch, tmp_path, capsys):
    grids = [
        ("lenet_300_100", 1, "per_tensor", (2, FLOAT), (0.0,)),
        ("lenet_300_100", 0, "per_channel", (4,), (0.5,)),
        ("lenet_300_100", 1, "rotated", (FLOAT,), (0.0,)),
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
    assert out == "" and len(err.splitlines()) == 4 and "4/4" in err.splitlines()[-1] and "s left" in err
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:2]))  # killed after the first of the grids
    assert run_study(quick=True, log=log, progress=False) == run_study(quick=True, progress=False) == records
    with pytest.raises(ValueError, match="not the log of this search"):
        monkeypatch.setattr(study, "train", lambda *name, **options: None)
        run_study(quick=True, log=log, retrain=True)
    assert "s left" not in capsys.readouterr().err


def test_the_studys_data_are_the_first_thousand_images_and_the_test_set(monkeypatch):
    whole = Mnist(np.arange(1200.0), np.arange(1200), np.arange(3.0), np.arange(3))
    monkeypatch.setattr(study, "load_mnist", lambda: whole)
    data = study.study_data.__wrapped__()  # as it is, not from another test
    for found, expected in zip(data, (whole[0][:1000], whole[1][:1000], *whole[2:]), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert data.train_images.base is None and study.study_data.cache_info().maxsize is None  # loaded once


def test_retrain_trains_each_network_once(digits, monkeypatch):
    asked = []

    def fake_train(name, *, seed, progress):
        asked.append((name, seed, progress))
        return Network([Flatten(), Linear(784, 10)])

    grids = [("lenet_300_100", seed, "per_tensor", (FLOAT,), (0.0,)) for seed in (0, 1, 0)]
    monkeypatch.setattr(study, "plan", lambda **extent: grids)
    monkeypatch.setattr(study, "train", fake_train)
    monkeypatch.setattr(study, "study_data", lambda: digits)
    run_study(retrain=True, progress=False)
    assert asked == [("lenet_300_100", 0, True), ("lenet_300_100", 1, True)]


def test_records_come_back_from_a_file_to_the_digits_that_are_written(tmp_path):
    records = synthetic_records()
    write_records(records, tmp_path / "records.csv")
    back = read_records(tmp_path / "records.csv")
    for one, other in zip(records, back, strict=True):
        assert report._point(other) == report._point(one)
        assert [type(value) for value in other.values()] == [type(value) for value in one.values()]
        assert other["error"] == pytest.approx(one["error"], abs=0.5001e-4)  # four decimals: one image of 10,000
        assert other["sqnr_db"] == pytest.approx(one["sqnr_db"], abs=0.5001e-2)
    write_records(back, tmp_path / "again.csv")
    content = (tmp_path / "records.csv").read_bytes()
    assert (tmp_path / "again.csv").read_bytes() == content
    assert content.startswith(b"network,seed,technique,bits,sparsity,error,sqnr_db\n")


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


def test_the_table_has_mean_and_spread_and_a_column_for_each_width():
    words, (head, rule, *lines) = read_table(report.rounding_table(FEW))
    assert head == ["network", "rounded", "float", "4 bits", "2 bits"] and set(rule) == {"---"}
    assert len(lines) == 2 and {len(line) for line in lines} == {5} and "fake-quantized" in words
    assert lines[0][1:] == ["per tensor", "2.00% (1.00-3.00%)", "3.50% (2.00-5.00%)", "60.00% (50.00-70.00%)"]
    assert lines[1][1:] == ["baseline, per channel", "1.00% (1.00-1.00%)", "2.00% (2.00-2.00%)", ""]  # not measured


def read_table(text):  # -> the words before it, the cells of its lines
    words, _, table = text.partition("\n\n")
    return words, [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_the_sparsity_table_has_the_mean_float_error_of_each_way_to_prune():
    records = synthetic_records()
    _, (head, _, *lines) = read_table(report.sparsity_table(records))
    assert head == ["network", "pruned", "50%", "80%", "90%", "95%", "97%", "98%", "99%"]
    ways = {"baseline, per channel", "all layers together", "activation-aware"}
    assert {line[1] for line in lines} == ways | {"Optimal Brain Damage", "Optimal Brain Surgeon"}
    own = select(records, network="lenet_300_100", technique="per_channel", bits=FLOAT, sparsity=0.8)
    assert lines[0][3] == f"{np.mean([r['error'] for r in own]):.2%}" and lines[0][5] == ""  # 95 % was not measured


def test_the_summary_fits_a_screen_and_says_what_came_out_and_what_changed():
    records = synthetic_records()
    changes = [(old, {**old, "error": old["error"] + 0.01}) for old in records[:9]]
    text = report.summary([*records, *FEW], len(records), changes, Path("figures"))
    assert len(text.splitlines()) <= 40 and max(map(len, text.splitlines())) <= 120 and "nan" not in text
    rounded, pruned = text.split("removed")
    for network, short in (("lenet_300_100", "LeNet-300-100"), ("lenet_5", "LeNet-5 ")):
        own = select(records, network=network, technique="rotated_per_channel", sparsity=0.0)
        [line] = [line for line in rounded.splitlines() if line.startswith(short) and "rotated" in line]
        assert line.split()[-5:] == [f"{mean_of(own, bits=bits):.2f}%" for bits in (FLOAT, 8, 4, 3, 2)]
        own = select(records, network=network, technique="global_magnitude", bits=FLOAT)
        [line] = [line for line in pruned.splitlines() if line.startswith(short) and "together" in line]
        assert line.split()[-4:] == [f"{mean_of(own, sparsity=sparsity):.2f}%" for sparsity in (0.5, 0.8, 0.9, 0.99)]
    assert f"{len(records)} records measured; 9 are kept" in text
    assert "figures/results.md" in text and "mean of 2 seeds" in text
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


def test_a_second_run_on_another_cpu_leaves_the_folder_as_it_is(tmp_path, drawn):
    records = [{**r, "error": round(r["error"], 4)} for r in synthetic_records()]  # as images of 10,000 come
    report.write_report(records, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    drawn.clear()
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
    drawn.clear()
    [other] = [{**r, "error": 0.9} for r in select(records, technique="mixed", bits=4, sparsity=0.8, seed=1)[:1]]
    report.write_report([other], tmp_path)
    assert "results" in drawn  # although no table has this point
    report.write_report([r for r in records if r["technique"] != "smoothed"], tmp_path, complete=True)
    assert not select(read_records(tmp_path / "10_reconstruction.csv"), technique="smoothed")  # measured no more


def test_the_report_writes_its_files(tmp_path, report_files, drawn):
    records = synthetic_records()
    report.write_report(records, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == report_files
    for stem, techniques in IN_FILES.items():
        own = [record for record in records if record["technique"] in techniques]
        assert len(read_records(tmp_path / f"{stem}.csv")) == len(own) > 0
    mapped = [r for r in records if r["network"] == "lenet_300_100" and "integer" in r["technique"]]
    mapped = [r for r in mapped if r["sparsity"] in (0.0, 0.8) and r["bits"] != FLOAT]
    assert [report._point(r) for r in read_records(tmp_path / "08_integer_map.csv")] == list(map(report._point, mapped))
    tables = (tmp_path / "results.md").read_text()
    assert tables == report.rounding_table(records) + "\n" + report.sparsity_table(records)
    assert len(tables.split("\n\n")[1].splitlines()) == 2 + 2 * SHOWN


# ---------------------------------------------------------------- figures


DRAWN = synthetic_records(IN_FILES["02_quantization"])
PER_CHANNEL = select(DRAWN, technique="per_channel")


def curve_of(axes, label):
    [line] = [line for line in axes.get_lines() if line.get_label() == label]
    return line


def curves_of(axes):
    return [line for line in axes.get_lines() if not line.get_label().startswith("_")]


def fields_of(axes):  # -> {(column, row): text}
    return {text.get_position(): text.get_text() for text in axes.texts}


def test_the_signature_figure_draws_means_and_bands_of_the_records():
    bits_of_the_mlp, sparsity_of_the_mlp, _, sparsity_of_the_cnn = plots.error_curves(DRAWN).axes
    bits, errors = curve_of(bits_of_the_mlp, "baseline, per channel").get_data()
    own = select(PER_CHANNEL, network="lenet_300_100", sparsity=0.0)
    assert list(bits) == [2, 3, 4, 8]
    assert list(errors) == pytest.approx([mean_of(own, bits=width) for width in (2, 3, 4, 8)])
    sparsities, errors = curve_of(sparsity_of_the_cnn, "baseline, per channel").get_data()
    own = select(PER_CHANNEL, network="lenet_5", bits=4)
    assert tuple(sparsities) == ZEROS
    assert list(errors) == pytest.approx([mean_of(own, sparsity=sparsity) for sparsity in ZEROS])
    ends = {tuple(np.round(band.get_paths()[0].get_extents().intervaly, 9)) for band in bits_of_the_mlp.collections}
    own = select(DRAWN, network="lenet_300_100", technique="per_tensor", sparsity=0.0)
    own = [100 * record["error"] for record in own if record["bits"] != FLOAT]
    assert (round(min(own), 9), round(max(own), 9)) in ends
    assert bits_of_the_mlp.xaxis_inverted() and not sparsity_of_the_mlp.xaxis_inverted()  # toward more compression


def test_the_float_network_is_a_line_with_the_band_of_chance():
    axes = plots.error_curves(DRAWN).axes[0]
    mean = mean_of(select(DRAWN, network="lenet_300_100", sparsity=0.0, bits=FLOAT))
    dashed, guessing = sorted(line.get_ydata()[0] for line in axes.get_lines() if line not in curves_of(axes))
    assert guessing == 90 and dashed == pytest.approx(mean)
    half = 196 * math.sqrt(mean / 100 * (1 - mean / 100) / 10_000)
    assert axes.patches[0].get_extents().transformed(axes.transData.inverted()).intervaly == pytest.approx(
        [mean - half, mean + half]
    )


def test_every_curve_is_named_once_and_has_a_colour_of_its_own():
    axes = plots.error_curves(DRAWN).axes
    for top, bottom in (axes[::2], axes[1::2]):
        named = [text.get_text() for text in top.get_legend().get_texts()]
        curves = {(line.get_label(), line.get_color()) for axis in (top, bottom) for line in curves_of(axis)}
        assert sorted(named) == sorted(label for label, _ in curves)
        assert len({colour for _, colour in curves}) == len(curves) and bottom.get_legend() is None


@pytest.mark.parametrize("stem", report.CHAPTERS)
def test_a_chapters_figure_has_few_curves_in_colours_of_their_own(stem):
    looks = [plots.LOOKS[name] for name in in_chapter(stem, drawn=True)]
    assert len(set(looks)) == len(looks) <= 5
    assert all(report.SIGNATURES[stem]["titles"])


def test_no_line_crosses_points_that_others_have_and_it_has_not():
    base = [row("lenet_5", "per_channel", 0, 4, 0.01, s) for s in (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8)]
    far = [row("lenet_5", "gptq", 0, 4, 0.02, s) for s in (0.2, 0.4, 0.8)]
    right = plots.error_curves(base + far).axes[1]
    assert [list(line.get_xdata()) for line in curves_of(right) if line.get_label() == "GPTQ"] == [[0.2, 0.4], [0.8]]


def test_a_technique_of_a_reader_is_drawn_under_its_own_name():
    left, right, *_ = plots.error_curves([{**r, "technique": "my_idea"} for r in PER_CHANNEL]).axes
    assert {line.get_label() for axes in (left, right) for line in curves_of(axes)} == {"my_idea"}


def test_the_map_has_the_mean_error_in_every_field():
    records = select(PER_CHANNEL, network="lenet_300_100")
    axes = plots.error_map(records).axes[0]
    assert fields_of(axes) == {
        (column, row): f"{mean_of(records, bits=bits, sparsity=sparsity):.1f}"
        for row, bits in enumerate(WIDTHS)
        for column, sparsity in enumerate(ZEROS)
    }
    assert [label.get_text() for label in axes.get_yticklabels()] == ["2", "3", "4", "8", "float"]


def test_the_integer_map_has_the_mean_error_at_every_pair_of_widths():
    records = synthetic_records([f"integer_{bits}" for bits in (8, 6, 4, 3, 2)])
    records = [r for r in records if r["network"] == "lenet_5" and r["bits"] != FLOAT and r["sparsity"] in (0.0, 0.8)]
    left, right, _ = plots.integer_map(records).axes
    assert left.get_title() == "nothing pruned" and "80%" in right.get_title()
    for axes, sparsity in ((left, 0.0), (right, 0.8)):
        assert fields_of(axes) == {
            (column, row): f"{mean_of(records, technique=f'integer_{inputs}', bits=bits, sparsity=sparsity):.1f}"
            for column, bits in enumerate((2, 3, 4, 8))
            for row, inputs in enumerate((2, 3, 4, 6, 8))
        }
        assert [label.get_text() for label in axes.get_xticklabels()] == ["2", "3", "4", "8"]
        assert [label.get_text() for label in axes.get_yticklabels()] == ["2", "3", "4", "6", "8"]


@pytest.mark.filterwarnings("error")
def test_a_map_without_a_single_error_is_drawn_too():
    figure = plots.error_map([{**r, "error": 0.0 if r["bits"] > 4 else 0.5} for r in PER_CHANNEL])
    figure.canvas.draw()
    assert set(fields_of(figure.axes[0]).values()) == {"0.0", "50.0"}


HOLES = [row("lenet_5", "per_channel", 0, 8, 0.01), row("lenet_5", "per_channel", 0, 4, 0.01, sparsity=0.5)]


@pytest.mark.parametrize(
    ("draw", "records", "message"),
    [
        (plots.error_curves, [], "error_curves needs at least one record"),
        (plots.error_map, [], "error_map needs at least one record"),
        (plots.integer_map, [], "integer_map needs at least one record"),
        (plots.error_curves, HOLES[:1], "error_curves needs records of two bit widths or of two sparsities"),
        (plots.error_map, HOLES, r"the map needs a record at every pair, has none at bits 4, sparsity 0\.0"),
    ],
)
def test_records_that_do_not_make_a_figure_are_refused(draw, records, message):
    with pytest.raises(ValueError, match=message):
        draw(records)
    assert plt.get_fignums() == []


def test_a_figure_saved_twice_has_the_same_bytes_and_is_closed(tmp_path):
    settings = dict(plt.rcParams)
    for name in ("one.png", "two.png"):
        plots.save_figure(plots.error_curves(PER_CHANNEL), tmp_path / name)
    content = (tmp_path / "one.png").read_bytes()
    assert content == (tmp_path / "two.png").read_bytes() and content.startswith(b"\x89PNG")
    assert b"Software" not in content and b"Creation" not in content
    assert plt.get_fignums() == [] and dict(plt.rcParams) == settings  # the reader's own


def test_records_without_a_network_make_every_figure():
    records = select(PER_CHANNEL, network="lenet_300_100", seed=0)
    bare = [{key: value for key, value in r.items() if key not in ("network", "seed")} for r in records]
    assert len(plots.error_curves(bare).axes) == 2


@pytest.mark.parametrize("points", [[(8, 0.0), (3, 0.0)], [(4, 0.2), (4, 0.5)]], ids=["no sparsities", "no widths"])
def test_a_panel_without_lines_has_no_legend(points):
    records = [row("lenet_5", "per_channel", 0, bits, 0.01, sparsity) for bits, sparsity in points]
    axes = plots.error_curves(records).axes
    assert sorted(axis.get_legend() is None for axis in axes) == [False, True]
