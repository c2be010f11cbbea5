"""Options of the test run: the marker `oracle`, and --fail-on-skip for continuous integration; MNIST for all tests."""

import matplotlib
import pytest

from nnzip.data import Mnist, load_mnist

matplotlib.use("Agg")  # figures in memory: no window, no screen needed


def pytest_addoption(parser):
    parser.addoption("--fail-on-skip", action="store_true", help="a skipped test is a failure (used where the oracles are installed)")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.skipped and not hasattr(report, "wasxfail") and item.config.getoption("--fail-on-skip"):
        report.outcome = "failed"
        report.longrepr = f"skipped although --fail-on-skip was given: {report.longrepr}"


@pytest.fixture(scope="session")
def test_set():
    """The 10,000 test images and labels, read-only: a test that changes them fails."""
    return _read_only(*load_mnist()[2:])


@pytest.fixture(scope="session")
def digits():
    """MNIST cut down to 1,000 training and 500 test images, read-only."""
    data = load_mnist()
    return Mnist(*_read_only(*(array[:1000].copy() for array in data[:2]), *(array[:500].copy() for array in data[2:])))


def _read_only(*arrays):
    for array in arrays:
        array.setflags(write=False)
    return arrays
