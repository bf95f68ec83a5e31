"""What takes long to read or to build is kept, and made by one process only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

T = TypeVar("T")


def made_once(path: Path, read: Callable[[], T | None], make: Callable[[], T]) -> T:
    """What is kept in a file, or made and kept there: of several processes one makes it, and the others wait for it.

    Parameters
    ----------
    path : Path
        The file; its folder is made if it is not there.
    read : callable
        Returns what is in the file, or None if that is nothing or damaged.
    make : callable
        Makes it, leaves it in the file, and returns it.
    """
    if (found := read()) is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            found = read()  # another process may have made it meanwhile
            if found is None:
                found = make()
    return found
