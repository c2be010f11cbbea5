"""The benchmark measures what it says, side by side; how long anything takes is nobody's business here."""

from functools import partial

import numpy as np
import pytest
import speed
from speed import COLUMNS, speed_record

from nnzip.book import bench, plots
from nnzip.book.records import read_records
from nnzip.matmul import exact_depth
from nnzip.quantization import dequantize, quantize


class Clock:
    """A clock for the benchmark that stands still unless a measured function moves it."""

    def __init__(self):
        self.now = 0.0
        self.calls = []

    def __call__(self):
        return self.now

    def takes(self, name, seconds):
        """Return a function that takes these seconds, one after the other, the last for ever."""
        left = list(seconds)

        def run():
            self.calls.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(bench.time, "perf_counter", clock)
    monkeypatch.setattr(bench.time, "sleep", lambda seconds: clock.calls.append("pause"))
    monkeypatch.setattr(bench, "CALLS", 1)
    return clock


@pytest.mark.parametrize(
    ("ours", "peer", "calls", "options", "result"),
    [
        ([50, 1, 9, 2], [8], 3, {"rounds": 1}, (2, 8, 4)),  # the median of a turn's calls without the first
        ([50, 1, 50, 1, 50, 2], [1, 2, 1, 9, 1, 16], 1, {"rounds": 3}, (1, 9, 8)),  # of the ratios 2, 9, 8; not 9 / 1
        ([2, 9], [6, 9], 1, {"rounds": 1, "once": True}, (2, 6, 3)),
    ],
)
def test_the_ratio_is_the_median_over_the_rounds(ours, peer, calls, options, result, clock, monkeypatch):
    monkeypatch.setattr(bench, "CALLS", calls)
    assert bench.side_by_side(clock.takes("ours", ours), clock.takes("peer", peer), **options) == result
    turns = [["pause", name] + [name] * calls * ("once" not in options) for name in ("ours", "peer")]
    assert clock.calls == [*turns[0], *turns[1]] * options["rounds"]  # each pauses, warms up and measures


@pytest.mark.parametrize(("rounds", "error"), [(0, ValueError), (2.5, TypeError)])
def test_rounds_must_be_a_whole_number_from_1(rounds, error, monkeypatch):
    monkeypatch.setattr(speed, "import_or_none", lambda name: None)
    for measure in (lambda: bench.side_by_side(None, None, rounds=rounds), lambda: list(speed.run(rounds=rounds))):
        with pytest.raises(error, match="rounds must be"):
            measure()


def test_every_row_without_pytorch_is_a_measurement_of_ours_alone(monkeypatch):
    monkeypatch.setattr(speed, "BATCH", 4)
    steps, passes = speed.training_rows(None), speed.forward_rows(None)
    names = [name for name, _, peer in steps + passes if peer is None]
    assert len(set(names)) == 6 and all("LeNet" in name and "batch" in name for name in names)
    for name, ours, _ in steps:  # which change the weights
        (first_loss, _), (second_loss, logits) = ours(), ours()
        assert logits.shape == (4, 10) and second_loss != first_loss and name.endswith("batch 4")
    assert all(ours().shape == (1, 10) for name, ours, _ in passes if name.endswith("batch 1"))


@pytest.fixture
def only(monkeypatch):
    """Let the benchmark have these rows alone, and nothing that is not installed."""
    monkeypatch.setattr(speed, "import_or_none", lambda name: None)

    def have(sizes=(), **rows):
        for name in ("training", "forward", "integer", "gptq", "hadamard", "kmeans", "coding"):
            monkeypatch.setattr(speed, f"{name}_rows", partial(lambda own, *args: own, rows.get(name, [])))
        monkeypatch.setattr(speed, "SIZES", sizes)
        monkeypatch.setattr(speed, "INT32_SIZES", (4,))

    return have


def test_run_yields_a_head_and_a_line_for_every_row_and_records_every_product(monkeypatch, clock, only):
    alone, pair, long = (
        ("alone", clock.takes("ours", [2e-3]), None),
        ("with a peer", clock.takes("ours", [1e-3]), clock.takes("peer", [3e-3])),
        ("long", clock.takes("ours", [5, 7]), clock.takes("peer", [10, 11])),
    )
    only(sizes=((1, 2, 3), (4, 4, 4)), training=[alone, pair], hadamard=[pair], kmeans=[alone], gptq=[long])
    rows = [
        ("fast", clock.takes("fast", [0.5]), clock.takes("floats", [1])),
        ("slow", clock.takes("slow", [4]), clock.takes("floats", [2])),
    ]
    monkeypatch.setattr(speed, "matmul_rows", lambda M, K, N: rows)
    monkeypatch.setattr(speed, "int32_row", lambda size: (clock.takes("packed", [1]), clock.takes("int32", [30])))
    records = []
    lines = list(speed.run(rounds=2, records=records))
    assert "nnzip" in lines[0] and "peer / nnzip" in lines[0]
    said = {line.split()[0]: " ".join(line.split()) for line in lines}
    assert said["alone"] == "alone 2.00 ms (the peer is not installed)"
    assert said["with"] == "with a peer 1.00 ms 3.00 ms 3.00 x" and said["long"] == "long 5000.00 ms 10.00 s 2.00 x"
    assert said["int8_matmul,"].endswith("30.00 x") and sum("4 cubed" in line for line in lines) == 3
    assert len(lines) == 7 + 5 + 4 + 1  # heads, rows, products of either size, int32
    assert [(r["way"], r["M"], r["K"], r["N"], r["seconds"], r["ratio_to_float32"]) for r in records] == [
        ("float32 @", 1, 2, 3, 1.5, 1.0),
        ("fast", 1, 2, 3, 0.5, 2.0),
        ("slow", 1, 2, 3, 4, 0.5),
        ("float32 @", 4, 4, 4, 1.5, 1.0),
        ("fast", 4, 4, 4, 0.5, 2.0),
        ("slow", 4, 4, 4, 4, 0.5),
        ("int32 @", 4, 4, 4, 30, 0.05),
    ]
    assert [r["operations_per_second"] for r in records[:2]] == [12 / 1.5, 24]
    assert all(tuple(record) == COLUMNS and record["machine"] == speed.machine() for record in records)


def fake_records():
    times = {"float32 @": 1e-3, "fast": 2e-4, "slow": 0.7}
    return [
        speed_record("a machine, with a comma", way, (size, size, size), seconds * size / 512, 1e-3 / seconds)
        for way, seconds in times.items()
        for size in (256, 512)
    ] + [speed_record("a machine, with a comma", "fast", (1, 4096, 4096), 0.5, 1.0)]


def test_the_command_measures_prints_and_writes(tmp_path, monkeypatch, capsys):
    def run(*, rounds, records):
        records += fake_records()
        yield "a row"

    monkeypatch.setattr(speed, "run", run)
    speed.main(["--output", str(tmp_path / "new")])
    assert "a row" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["03_matmul_speed.csv", "03_matmul_speed.png"]
    for record, expected in zip(read_records(tmp_path / "new" / "03_matmul_speed.csv"), fake_records(), strict=True):
        assert tuple(record) == COLUMNS and all(type(record[key]) is type(expected[key]) for key in COLUMNS)
        assert [record[key] for key in COLUMNS[:5]] == [expected[key] for key in COLUMNS[:5]]
        np.testing.assert_allclose(*([r[key] for key in COLUMNS[5:]] for r in (record, expected)), rtol=1e-5)


def test_the_figure_draws_every_way_over_the_cubes_alone():
    axis = plots.speed_curves(fake_records(), title="a message").axes[0]
    lines = {line.get_label(): line for line in axis.lines}
    assert list(lines) == ["fast", "slow", "float32 @"]  # as they end, from above
    assert all(list(lines[way].get_xdata()) == [256, 512] for way in ("fast", "slow"))
    np.testing.assert_allclose(lines["fast"].get_ydata(), [5, 5])
    assert lines["fast"].get_color() != lines["slow"].get_color() and set(lines["float32 @"].get_ydata()) == {1}
    assert axis.get_xscale() == axis.get_yscale() == "log" and axis.get_title(loc="left") == "a message"
    assert "a machine" in axis.figure.get_supxlabel()
    assert [text.get_text() for text in axis.get_xticklabels()] == ["256", "512"]
    plots.plt.close(axis.figure)
    with pytest.raises(ValueError, match="speed_curves needs at least one record"):
        plots.speed_curves(fake_records()[-1:])


def test_weights_are_certain_to_be_exact_where_uniform_codes_are_not():
    codes, weights = bench.codes_and_weights(2, 2048, 64)
    assert weights.dtype == codes.dtype == np.int8 and np.all(np.abs(weights).max(axis=0) == 127)
    assert exact_depth(np.int8, weights) == 2048
    assert exact_depth(np.int8, np.random.default_rng(0).integers(-127, 128, (4096, 64), np.int8)) < 4096


class FakeTorch:
    __version__ = "9.8.7"
    get_num_threads = staticmethod(lambda: 5)


@pytest.mark.parametrize(("torch", "peers"), [(None, ""), (FakeTorch, "PyTorch 9.8.7 with 5 threads")])
def test_the_machine_and_the_peers_are_named_in_one_line(torch, peers, monkeypatch):
    monkeypatch.setattr(speed, "import_or_none", lambda name: torch)
    line = speed.machine()
    assert "\n" not in line and f"NumPy {np.__version__}" in line and "cores" in line and "Python 3." in line
    assert line.endswith(peers) and ("PyTorch" in line) == (torch is not None)


def test_every_way_to_multiply_gives_the_same_product_or_is_called_wrong():
    ways = bench.matmul_ways(17, 40, 8)
    exact = ways.pop("float32 @")()  # 40 products are far below 2^24
    rows = speed.matmul_rows(17, 40, 8)
    for (name, way, floats), given in zip(rows, ways, strict=True):
        right = np.array_equal(way(), exact)
        assert name == (given if right else f"{given}, wrong")
        assert right or given == "ONNX Runtime, uint8 by int8"  # whose sums saturate on CPUs without VNNI
        np.testing.assert_array_equal(floats(), exact)
    assert {"int8_matmul, packed", "int8_matmul, unpacked"} <= {name for name, *_ in rows}
    ours, slow = speed.int32_row(16)
    np.testing.assert_array_equal(ours(), slow())


def test_a_way_that_is_wrong_is_called_so(monkeypatch):
    ones, zeros = lambda: np.ones(2), lambda: np.zeros(2)
    ways = {"float32 @": ones, "int8_matmul, unpacked": ones, "saturated": zeros}
    monkeypatch.setattr(speed, "matmul_ways", lambda *size: ways)
    assert [name for name, *_ in speed.matmul_rows(1, 1, 2)] == ["int8_matmul, unpacked", "saturated, wrong"]


def test_the_other_rows_do_what_they_name(monkeypatch):
    monkeypatch.setattr(speed, "import_or_none", lambda name: None)
    [(name, ours, peer)] = speed.kmeans_rows(20_000)
    codebook, codes = ours()
    assert "20,000 weights" in name and codebook.shape == (16,) and set(codes) == set(range(16))
    assert len(codes) == 20_000 and peer is None
    (_, ours, peer), (_, back, peer_back) = speed.coding_rows(40_000)
    assert len(ours()) < len(peer()) < 20_000  # 4 bits each
    np.testing.assert_array_equal(back(), peer_back())
    assert len(back()) == 40_000 and back().max() <= 14
    [(name, ours, peer)] = speed.gptq_rows(None, 40)
    assert "40 x 40" in name and peer is None
    assert ours().shape == (40, 40) and all(len(np.unique(row)) <= 15 for row in ours())
    *rows, (_, ours, peer) = speed.hadamard_rows(64)
    assert [name.split(", ")[1] for name, *_ in rows] == ["x @ H", "butterfly", "x.copy()"]
    assert np.allclose(ours() * np.sqrt(784), peer(), rtol=1e-3, atol=1e-2)


@pytest.mark.oracle
def test_the_two_ways_of_gptq_round_alike():
    torch = pytest.importorskip("torch")
    [(_, ours, peer)] = speed.gptq_rows(torch, 300)  # more than two of its blocks, and a rest
    assert np.mean(ours() != peer()) < 1e-3  # where float32 and float64 part at a tie
    nearest = dequantize(quantize(ours.args[0], ours.args[2]), ours.args[2])
    assert np.mean(ours() != nearest) > 0.1


def test_integer_rows_run_both_of_the_pair_on_the_batch_they_name(digits, monkeypatch):
    monkeypatch.setattr(speed, "load_mnist", lambda: digits)
    for name, ours, peer in speed.integer_rows():
        if "batch 1," in name:
            assert ours().shape == (1, 10) and ours().dtype == np.int32
            assert not name.endswith("own float32") or peer().shape == (1, 10)
