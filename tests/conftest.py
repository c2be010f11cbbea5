"""Options of the test run: the marker `oracle`, --fail-on-skip for continuous integration; MNIST for all tests."""

import os

# Before NumPy is imported: the products here are tiny, and threads that wait for each other take twice the time, ten
# times on a machine that has other work. The processes that tests start inherit it.
for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ["MPLBACKEND"] = "Agg"  # figures in memory: no window, no screen needed

import numpy as np  # noqa: E402
import pytest  # noqa: E402

from nnzip.data import Mnist  # noqa: E402
from nnzip.data.mnist import raw_mnist, scale  # noqa: E402


def pytest_addoption(parser):
    parser.addoption(
        "--fail-on-skip", action="store_true", help="a skipped test is a failure (used where the oracles are installed)"
    )

    parser.addoption(
        "--all-planted", action="store_true", help="every wrong solution of the exercises, not a sample (minutes)"
    )

    parser.addoption(
        "--all-mutated", action="store_true", help="20,000 mutated .nnz files, not a sample of 150 (minutes)"
    )


@pytest.fixture
def all_mutated(request):
    return request.config.getoption("--all-mutated")


def pytest_ignore_collect(collection_path, config):
    graded = config.getoption("--impl") is not None  # then nothing else is run
    return True if graded and collection_path.is_file() and collection_path.name != "test_exercises.py" else None


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.skipped and not hasattr(report, "wasxfail") and item.config.getoption("--fail-on-skip"):
        report.outcome = "failed"
        report.longrepr = f"skipped although --fail-on-skip was given: {report.longrepr}"


@pytest.fixture
def report_files():
    """What the study leaves in its folder."""
    from nnzip.book.techniques import CHAPTERS

    of_chapters = [f"{stem}{end}" for stem in CHAPTERS for end in (".csv", "_signature.png")]
    maps = ["02_quantization_map.png", "08_integer_map.csv", "08_integer_map.png"]
    return sorted([*of_chapters, *maps, "results.md", "results.png"])


@pytest.fixture
def drawn(monkeypatch):
    """Let nothing be drawn, which takes longest; return the stems of the pictures that are written."""
    from nnzip.book import plots

    def save_figure(figure, path):
        stems.append(path.stem)
        path.write_bytes(b"a figure")

    stems = []
    for name in ("error_curves", "error_map", "integer_map"):
        monkeypatch.setattr(plots, name, lambda records, **options: None)
    monkeypatch.setattr(plots, "save_figure", save_figure)
    return stems


@pytest.fixture(scope="session")
def parts_of_mnist():
    raw = raw_mnist()  # scaled as load_mnist does, without the other 59,000 training images
    train, test = scale(raw["train_images"][:1000]), scale(raw["test_images"])
    labels = [raw[f"{part}_labels"].astype(np.int64) for part in ("train", "test")]
    few = train, labels[0][:1000].copy(), test[:500].copy(), labels[1][:500].copy()
    return Mnist(*map(_read_only, few)), tuple(map(_read_only, (test, labels[1])))


@pytest.fixture
def digits(parts_of_mnist):
    """MNIST cut down to 1,000 training and 500 test images, read-only."""
    return parts_of_mnist[0]


@pytest.fixture
def test_set(parts_of_mnist):
    """The 10,000 test images and their labels, read-only."""
    return parts_of_mnist[1]


def _read_only(array):
    array.setflags(write=False)
    return array
