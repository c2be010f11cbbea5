"""The committed searches of chapter 11, and the command that makes them: resumable, the same files again."""

import functools
import itertools
from pathlib import Path

import numpy as np
import pytest
import searches

from nnzip.book import study
from nnzip.book.records import read_records
from nnzip.compression import search
from nnzip.data.mnist import raw_mnist
from nnzip.nn.zoo import SEEDS

FIGURES = Path(__file__).parent.parent / "figures"


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(searches, "BITS", (("lenet_300_100", 0, 3),))
    monkeypatch.setattr(searches, "PARAMETERS", 3500)
    monkeypatch.setattr(searches, "IMAGES", 100)
    monkeypatch.setattr(searches, "RECIPE", {"images": 100, "epochs": 1, "rate": 0.1})
    few = {name: array[:500] for name, array in raw_mnist().items()}
    monkeypatch.setattr(search, "raw_mnist", lambda: few)
    search.part_of_mnist.cache_clear()
    yield
    search.part_of_mnist.cache_clear()


def test_the_command_killed_and_started_again_writes_the_same_files(small, tmp_path, monkeypatch, capsys):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    searches.main(["--output", str(whole)])
    assert sorted(path.name for path in whole.iterdir()) == ["11_bits.csv", "11_widths.csv"]  # no log is left

    def killed(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(searches, "run_bits", killed)
        with pytest.raises(KeyboardInterrupt):
            searches.main(["--output", str(cut)])
    assert len(list(cut.glob("11_widths_*.jsonl"))) == len(SEEDS)
    capsys.readouterr()
    with monkeypatch.context() as patch:  # what is there is not computed again
        patch.setattr(search, "measure_widths", functools.wraps(search.measure_widths)(killed))
        searches.main(["--output", str(cut)])
    for name in ("11_bits.csv", "11_widths.csv"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes()
    records = read_records(whole / "11_bits.csv")
    assert [(r["way"], r["number"]) for r in records] == list(itertools.product(search.WAYS, range(3)))
    again = search.measure_bits(records[4]["genome"], name="lenet_300_100", network_seed=0, images=100)
    assert records[4]["bytes"] == again["bytes"] and records[4]["test_error"] == again["test_error"]


def test_the_committed_widths_are_the_whole_space():
    records = read_records(FIGURES / "11_widths.csv")
    space = [list(g) for g in itertools.product(range(13), repeat=3) if search.fits(g, searches.PARAMETERS)]
    assert [record["genome"] for record in records] == space
    for record in records:
        assert record["parameters"] == search.parameters_of([search.WIDTHS[gene] for gene in record["genome"]])
        assert all(0 < record[f"error_{seed}"] < 1 for seed in SEEDS)


def test_the_committed_searches_looked_equally_often_and_never_twice():
    records = read_records(FIGURES / "11_bits.csv")
    for (network, seed, evaluations), way in itertools.product(searches.BITS, search.WAYS):
        own = study.select(records, network=network, network_seed=seed, way=way)
        assert len({tuple(record["genome"]) for record in own}) == len(own) == evaluations
        losses, sizes = (np.array([record[key] for record in own]) for key in ("loss", "bytes"))
        assert losses.min() >= 0 and sizes.min() > 0
