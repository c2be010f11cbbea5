"""The exercises' own tests: of nnzip's functions, or of a student's file with --impl=FILE (its grade)."""

import pytest

from nnzip.book import exercises, sandbox
from nnzip.book.grading import run_check


def pytest_generate_tests(metafunc):
    path = metafunc.config.getoption("--impl")
    asked = exercises.exercises().values()
    if path is not None:
        try:
            asked = exercises.asked_of(path)
        except (OSError, ValueError) as error:
            raise pytest.UsageError(f"--impl: {error}") from None
    pairs = [(exercise, check) for exercise in asked for check in exercise.checks]
    names = [f"{exercise.chapter[:2]}-{exercise.name}-{check.__name__}" for exercise, check in pairs]
    metafunc.parametrize(("exercise", "check"), pairs, ids=names)


@pytest.fixture(scope="module")
def answering(request):
    """What answers for an exercise's function: nnzip's own, or a process with the student's file, one at a time."""
    path, opened = request.config.getoption("--impl"), []

    def ask_for(exercise):
        if path is None:
            return lambda *args, **kwargs: sandbox.call(exercise.reference, args, kwargs)
        if not opened or opened[-1][0] is not exercise:
            close()
            context = exercises.implementation(path, exercise)
            opened.append((exercise, context, context.__enter__()))
        return opened[-1][2]

    def close():
        while opened:
            opened.pop()[1].__exit__(None, None, None)

    yield ask_for
    close()


def test_exercise(exercise, check, answering):
    result = run_check(exercise, check, answering(exercise))
    if result.state != "passed":
        pytest.fail(result.message, pytrace=False)
