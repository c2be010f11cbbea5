"""pytest's option --impl, told to pytest by pyproject.toml: it must be known before pytest looks at any folder.

Otherwise `pytest --impl folder/file.py` would take the file for a place of tests, and run a conftest.py beside it. A
configuration beside it pytest still reads, unless it is written `--impl=folder/file.py`: so that is refused.
"""

from pathlib import Path

import pytest

OURS = Path(__file__).resolve().parents[2] / "pyproject.toml"


def pytest_addoption(parser):
    parser.addoption(
        "--impl", type=Path, metavar="FILE", help="nnzip: grade a student's file, and run nothing else (from a clone)"
    )


def pytest_configure(config):
    if config.getoption("--impl") is not None and config.inipath not in (None, OURS):
        raise pytest.UsageError(f"pytest reads {config.inipath}: grade from the clone, with --impl=FILE in one word")
