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
        "--all-planted", action="store_true", help="every bug planted into the exercises, not a sample (minutes)"
    )

    parser.addoption(
        "--all-mutated", action="store_true", help="20,000 mutated .nnz files, not a sample of 150 (minutes)"
    )

    parser.addoption(
        "--share",
        type=int,
        default=10,
        metavar="N",
        help="of every ten tests the first N, or the last -N (for two cores)",
    )


def pytest_collection_modifyitems(config, items):
    asked = config.getoption("--share")
    share = range(asked) if asked > 0 else range(10 + asked, 10)
    items[:] = [item for place, item in enumerate(items) if place % 10 in share]


@pytest.fixture
def all_mutated(request):
    return request.config.getoption("--all-mutated")


CAUGHT = {"notebook": {}, "command": {}, "pytest": {}}  # {(exercise, bug): caught} by each of the graders' doors


@pytest.fixture
def caught():
    return CAUGHT


def pytest_terminal_summary(terminalreporter):
    if any(CAUGHT.values()):
        names = sorted({name for tried in CAUGHT.values() for name, _ in tried})
        terminalreporter.write_line(f"{'planted bugs caught':<28}" + "".join(f"{door:>14}" for door in CAUGHT))
        for name in [*names, "all"]:
            counts = [[ok for (own, _), ok in tried.items() if name in (own, "all")] for tried in CAUGHT.values()]
            cells = "".join(f"{f'{sum(ok)} of {len(ok)}':>14}" for ok in counts)
            terminalreporter.write_line(f"{name:<28}{cells}")


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
    return [
        "02_quantization.csv",
        "02_quantization_map.png",
        "02_quantization_signature.png",
        "02_quantization_sqnr.png",
        "04_hadamard.csv",
        "04_hadamard_signature.png",
        "05_pruning.csv",
        "05_pruning_signature.png",
        "06_distillation.csv",
        "06_distillation_signature.png",
        "07_codebooks.csv",
        "07_codebooks_signature.png",
        "08_integer.csv",
        "08_integer_map.csv",
        "08_integer_map.png",
        "08_integer_signature.png",
        "09_qat.csv",
        "09_qat_signature.png",
        "10_reconstruction.csv",
        "10_reconstruction_signature.png",
        "11_mixed_precision.csv",
        "11_mixed_precision_signature.png",
        "results.csv",
        "results.md",
        "results.png",
    ]


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
