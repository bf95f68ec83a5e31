"""What arguments are checked for, and how a refusal reads."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from replication.checks import at_least, finite, generator, near, near_of, one_of, positive, whole, within


class _OwnError(ValueError):
    pass


def test_a_name_is_given_back_or_refused_with_the_nearest_in_the_callers_error() -> None:
    assert one_of("profile", "smoke", ("smoke", "paper")) == "smoke"
    with pytest.raises(_OwnError, match=r"^profile: must be one of smoke, paper, got 'papre'; did you mean 'paper'\?$"):
        one_of("profile", "papre", ("smoke", "paper"), _OwnError)
    with pytest.raises(ValueError, match=r"^profile: must be one of none, got None$"):
        one_of("profile", None, ())


def test_the_nearest_is_found_whatever_its_case() -> None:
    assert near("RMSProp", ["rmsprop", "Adam"]) == "; did you mean 'rmsprop'?"
    assert near(3, ["rmsprop"]) == ""
    assert near_of("Adm", {"rmsprop": 1, "Adam": 2}) == "; did you mean 'Adam'? Known: Adam, rmsprop."


def test_numbers_come_back_as_float64() -> None:
    for found in (finite("x", [1, -2]), positive("x", 3), at_least("x", math.inf, 1), within("x", [0, 0.5], "[0, 1)")):
        assert found.dtype == np.float64
    assert whole("n", np.int32(3)) == 3


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: finite("x", [1.0, math.inf, math.nan]), "x: must be finite, got inf"),
        (lambda: positive("x", [1.0, 0.0]), "x: must be positive and finite, got 0"),
        (lambda: positive("x", math.inf), "x: must be positive and finite, got inf"),
        (lambda: positive("x", math.nan), "x: must be positive and finite, got nan"),
        (lambda: positive("x", []), "x: is empty"),
        (lambda: at_least("x", 0.5, 1), "x: must be at least 1, got 0.5"),
        (lambda: at_least("x", math.nan, 1), "x: must be at least 1, got nan"),
        (lambda: within("x", 0, "(0, 1]"), r"x: must lie in (0, 1], got 0"),
        (lambda: within("x", 1, "[0, 1)"), r"x: must lie in [0, 1), got 1"),
        (lambda: within("x", math.inf, "[0, inf)"), r"x: must lie in [0, inf), got inf"),
        (lambda: whole("n", 0), "n: must be an integer of at least 1, got 0"),
        (lambda: whole("n", 2.0, 2), "n: must be an integer of at least 2, got 2.0"),
        (lambda: whole("n", True), "n: must be an integer of at least 1, got True"),
    ],
)
def test_refusals(check: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 -- the whole message is compared
        check()
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("value", "error", "kind"),
    [("fast", ValueError, "str"), ([[1], [1, 2]], ValueError, "list"), (1j, TypeError, "complex")],
)
def test_what_is_no_number_is_refused_by_the_arguments_name(value: object, error: type[Exception], kind: str) -> None:
    with pytest.raises(error, match=f"^lr: must be a number or an array of numbers, got a {kind}: "):
        positive("lr", value)  # type: ignore[arg-type]


def test_a_seed_is_an_integer_of_at_least_0() -> None:
    assert generator(np.int64(3)).integers(1000) == np.random.default_rng(3).integers(1000)
    for wrong in (-1, 1.5, True, None):
        with pytest.raises(ValueError, match=f"^seed: must be an integer of at least 0, got {wrong}$"):
            generator(wrong)
