"""Right answers in other styles than the book's pass: those of exercises/styles.py."""

import re
import runpy

import pytest
from planted import FOLDER, KNOWN

from nnzip.book import sandbox
from nnzip.book.grading import grade

STYLES = {
    name: thing
    for name, thing in runpy.run_path(str(FOLDER / "styles.py")).items()
    if re.sub(r"_v\d$", "", name) in KNOWN
}


@pytest.mark.parametrize("style", STYLES)
def test_right_answers_in_other_styles_pass(style):
    exercise = KNOWN[re.sub(r"_v\d$", "", style)]
    result = grade(exercise, lambda args, kwargs: sandbox.call(STYLES[style], args, kwargs, exercise.forbidden))
    assert result.state == "passed", result.message


def test_a_hundred_of_them():
    assert len(STYLES) >= 100
