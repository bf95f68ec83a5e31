"""Checks of arguments, with one wording: what it is called, what it must be, what it was. Any room may import this."""

from __future__ import annotations

import difflib
import numbers
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

T = TypeVar("T")


def install(name: str) -> str:
    """The command that installs an extra of this distribution.

    Examples
    --------
    >>> install("disf")
    "pip install 'replication-notebooks[disf]'"
    """
    return f"pip install 'replication-notebooks[{name}]'"


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Around imports that the extra `name` installs: one that is missing is reported with the command that installs it.

    Raises
    ------
    ModuleNotFoundError
        A package is not installed.

    Examples
    --------
    >>> with extra("docs"):
    ...     import sphynx
    Traceback (most recent call last):
    ModuleNotFoundError: sphynx is not installed: pip install 'replication-notebooks[docs]'
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package == "replication" or "replication-notebooks[" in str(error):
            raise
        raise ModuleNotFoundError(f"{package} is not installed: {install(name)}", name=error.name) from error


def near(value: object, known: Iterable[str]) -> str:
    """The end of a message: which of what is `known` was probably meant, if any is like `value`.

    Examples
    --------
    >>> near("Sedes", ["seeds", "budgets"]), near("x", ["seeds"])
    ("; did you mean 'seeds'?", '')
    """
    names = {name.casefold(): name for name in known}
    close = difflib.get_close_matches(str(value).casefold(), names, n=1, cutoff=0.5)
    return f"; did you mean {names[close[0]]!r}?" if close else ""


def near_of(value: object, known: Iterable[str]) -> str:
    """As :func:`near`, and what there is.

    Examples
    --------
    >>> near_of("sedes", ["seeds", "budgets"]), near_of("x", [])
    ("; did you mean 'seeds'? Known: budgets, seeds.", '. Known: none.')
    """
    names = sorted(known)
    return f"{near(value, names) or '.'} Known: {', '.join(names) or 'none'}."


def one_of(name: str, value: T, allowed: Iterable[str], error: type[ValueError] = ValueError) -> T:
    """Return `value` if it is allowed.

    Raises
    ------
    ValueError
        It is not. The message has the argument's name, all that is allowed and what is nearest; its type is `error`.

    Examples
    --------
    >>> one_of("profile", "smokey", ["smoke", "paper"])
    Traceback (most recent call last):
    ValueError: profile: must be one of smoke, paper, got 'smokey'; did you mean 'smoke'?
    """
    names = list(allowed)
    if value not in names:
        raise error(f"{name}: must be one of {', '.join(names) or 'none'}, got {value!r}{near(value, names)}")
    return value


def finite(name: str, value: ArrayLike) -> Array:
    """Return a number, or an array of them, as float64, if all of it is finite.

    Raises
    ------
    ValueError
        It is empty, or some of it is not; the message names the argument and the first such value.
    """
    return _all(name, value, "finite", lambda array: abs(array) < float("inf"))


def positive(name: str, value: ArrayLike) -> Array:
    """As :func:`finite`, for what must be above 0 too.

    Examples
    --------
    >>> positive("lr", [0.1, -0.1])
    Traceback (most recent call last):
    ValueError: lr: must be positive and finite, got -0.1
    """
    return _all(name, value, "positive and finite", lambda array: (array > 0) & (array < float("inf")))


def at_least(name: str, value: ArrayLike, least: float) -> Array:
    """As :func:`finite`, for what must not be below a number and may be infinite."""
    return _all(name, value, f"at least {least:g}", lambda array: array >= least)


def within(name: str, value: ArrayLike, interval: str) -> Array:
    """As :func:`finite`, for what must lie in an interval, whose round brackets leave an end out.

    Examples
    --------
    >>> within("ratio", 0, "(0, 1]")
    Traceback (most recent call last):
    ValueError: ratio: must lie in (0, 1], got 0
    """
    low, high = (float(end) for end in interval[1:-1].split(","))

    def holds(array: Array) -> NDArray[np.bool_]:
        above = array >= low if interval[0] == "[" else array > low
        return above & (array <= high if interval[-1] == "]" else array < high)

    return _all(name, value, f"in {interval}", holds, verb="lie")


def _all(
    name: str, value: ArrayLike, must: str, holds: Callable[[Array], NDArray[np.bool_]], *, verb: str = "be"
) -> Array:
    import numpy as np  # here: the command line needs the words alone

    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        kind = type(value).__name__
        raise type(error)(f"{name}: must be a number or an array of numbers, got a {kind}: {error}") from error
    if array.size == 0:
        raise ValueError(f"{name}: is empty")
    bad = array[~np.asarray(holds(array))]
    if bad.size:
        raise ValueError(f"{name}: must {verb} {must}, got {bad.flat[0]:g}")
    return array


def whole(name: str, value: object, least: int = 1) -> int:
    """Return an integer of Python's or NumPy's as an int, if it is not below a number.

    Raises
    ------
    ValueError
        It is a Boolean, another number, or too small.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(f"{name}: must be an integer of at least {least}, got {value!r}")
    return int(value)


def generator(seed: object) -> np.random.Generator:
    """NumPy's generator of random numbers for a seed, which must be an integer of at least 0."""
    import numpy as np

    return np.random.default_rng(whole("seed", seed, 0))
