"""Progress for people at a terminal; silence everywhere else."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import track as rich_track

Item = TypeVar("Item")


def track(items: Sequence[Item], description: str) -> Iterable[Item]:
    """Iterate with a bar and an ETA on a terminal; without one (a notebook, a pipe) iterate silently.

    A notebook's kernel writes to a pipe, so that a committed notebook never holds a progress bar.
    """
    if not sys.stderr.isatty():
        return items
    return rich_track(items, description, console=Console(stderr=True), transient=True)
