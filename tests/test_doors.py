"""Every public function still takes what it took, and every argument with a kind refuses what the kind refuses."""

import importlib
import inspect

import numpy as np
import pytest
from public_calls import CALLS

from nnzip.checks import door, one_of, unit, whole

FUNCTIONS = [
    (getattr(importlib.import_module(f"nnzip.{module}"), name), *given)
    for module, calls in CALLS.items()
    for name, given in calls.items()
]


def named(function):
    return f"{function.__module__.removeprefix('nnzip.')}.{function.__name__}"


@pytest.mark.parametrize(("function", "args", "kwargs"), FUNCTIONS, ids=[named(f) for f, *_ in FUNCTIONS])
def test_a_public_function_takes_a_valid_call_and_changes_nothing(function, args, kwargs):
    before = [np.array(value, copy=True) for value in args if isinstance(value, np.ndarray)]
    function(*args, **kwargs)
    after = [value for value in args if isinstance(value, np.ndarray)]
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))
    assert inspect.getdoc(function), "a public function says what it does"


GUARDED = [  # each argument of a public function that has a kind
    (function, inspect.signature(function).bind(*args, **kwargs).arguments, name)
    for function, args, kwargs in FUNCTIONS
    for name in vars(function).get("kinds", {})
]
WRONG = ([], [1, np.nan], [np.inf], [1e39], [True], np.ones((1,) * 6), [[1, 2]], np.nan, -7, 10**6, 0.3, "1", None)


@pytest.mark.parametrize(("function", "given", "name"), GUARDED, ids=[f"{named(f)} {name}" for f, _, name in GUARDED])
def test_a_door_names_the_argument_that_is_wrong(function, given, name):
    refused = 0
    for value in WRONG:
        try:
            function.kinds[name](value, name)
        except (TypeError, ValueError):
            refused += 1
            with pytest.raises((TypeError, ValueError), match=rf"^{name}\b"):
                function(**given | {name: value})
    assert refused >= 5 and len(GUARDED) >= 40


@door
def shifted(x: whole(0, 3), by: unit = 0.5, *, way: one_of("up", "down") = "up"):
    return x + by if way == "up" else x - by


def test_a_door_lets_in_what_fits_by_place_and_by_name():
    assert shifted(2) == 2.5 and shifted(by=1, x=np.int64(2), way="down") == 1.0
    assert list(inspect.signature(shifted).parameters) == ["x", "by", "way"]
    with pytest.raises(TypeError, match="missing a required argument: 'x'"):
        shifted()
    with pytest.raises(ValueError, match=r"^x must be from 0 to 3, got 4"):
        shifted(4)
    with pytest.raises(ValueError, match=r"^way must be one of up, down, got 'left'"):
        shifted(1, way="left")
