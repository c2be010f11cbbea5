"""pytest's option --impl, told to pytest by pyproject.toml: it must be known before pytest looks at any folder.

Otherwise `pytest --impl folder/file.py` would take the file for a place of tests, and run a conftest.py beside it.
"""

from pathlib import Path


def pytest_addoption(parser):
    parser.addoption(
        "--impl", type=Path, metavar="FILE", help="nnzip: grade a student's file, and run nothing else (from a clone)"
    )
