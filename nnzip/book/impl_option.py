"""pytest's options for grading, known wherever nnzip is installed; they work from the clone alone.

Otherwise `pytest --impl=FILE` in a student's folder would run the tests and the conftest.py that lie there.
"""

from pathlib import Path

import pytest

OURS = Path(__file__).resolve().parents[2] / "pyproject.toml"


def pytest_addoption(parser):
    """Add the options, wherever pytest runs."""
    add = parser.getgroup("nnzip").addoption
    add("--impl", type=Path, metavar="FILE", help="grade a student's file, and run nothing else")
    add("--chapter", help="of --impl: all exercises of a chapter, such as 02, whatever the file is called")
    add("--seed", type=int, default=0, help="of --impl: of the inputs that are drawn")


def pytest_configure(config):
    """Let --impl grade that file and collect nothing else; UsageError outside the clone."""
    if config.getoption("--impl") is None:
        return
    if config.inipath != OURS:
        raise pytest.UsageError(f"grade from the clone, cd {OURS.parent}, with --impl=FILE in one word")
    config.args[:] = [str(OURS.parent / "tests" / "test_exercises.py")]
    from nnzip.book.exercises import exercises

    if config.option.keyword in exercises():  # -k quantize would choose dequantize too
        config.option.keyword = f"-{config.option.keyword}]"
