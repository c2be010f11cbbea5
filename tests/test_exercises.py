"""The exercises' own tests: of nnzip's functions, or of a student's file with --impl=FILE (its grade)."""

import functools

import pytest

from nnzip.book import exercises, sandbox
from nnzip.book.grading import grade


def pytest_generate_tests(metafunc):
    path, asked = metafunc.config.getoption("--impl"), exercises.exercises().values()
    if path is not None:
        try:
            asked = exercises.asked_of(path, chapter=metafunc.config.getoption("--chapter"))
        except (OSError, ValueError) as error:
            raise pytest.UsageError(f"--impl: {error}") from None
    names = [f"{exercise.chapter[:2]}-{exercise.name}" for exercise in asked]
    metafunc.parametrize("exercise", asked, ids=names)


@pytest.fixture(scope="module")
def student(request):
    """The process with a student's file, None for nnzip's own functions."""
    path = request.config.getoption("--impl")
    if path is None:
        yield None
    else:
        with sandbox.Sandbox(path) as opened:
            yield opened


def test_exercise(exercise, student, request):
    if student is None:
        own = exercise.reference

        def answer(args, kwargs):
            return sandbox.call(
                lambda *a, **k: own(*a, **k), args, kwargs
            )  # as what calls nnzip's own would be refused
    else:
        answer = functools.partial(student.call, exercise.name, seconds=exercise.seconds, forbidden=exercise.forbidden)
    result = grade(exercise, answer, seed=request.config.getoption("--seed"))
    if result.state != "passed":
        pytest.fail(result.message, pytrace=False)
