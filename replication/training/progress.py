"""Progress for people at a terminal; silence everywhere else."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TypeVar

from replication.atomic import replacing

Item = TypeVar("Item")

# seconds between two words about the progress
_PAUSE = 0.5

_outer: ContextVar[bool] = ContextVar("a bar is shown already", default=False)


def track(items: Sequence[Item], description: str) -> Iterator[Item]:
    """Iterate with a bar and an ETA on a terminal; within a bar that is shown already, or without a terminal, silently.

    A notebook's kernel has no terminal, so that a committed notebook never holds a bar. In a run of ``replicate`` it
    writes how far it is to ``progress.json`` in the run's folder instead, from which the runner draws the bar.

    Parameters
    ----------
    items : sequence
        What to iterate over.
    description : str
        What the bar counts, in the plural.
    """
    if _outer.get():
        yield from items
        return
    token = _outer.set(True)
    try:
        if folder := os.environ.get("REPLICATION_RUN_DIR"):
            told = -math.inf
            for done, item in enumerate(items):
                # a step may take less than a file
                if (now := time.monotonic()) >= told + _PAUSE:
                    told = now
                    _tell(Path(folder), {"done": done, "total": len(items), "what": description})
                yield item
        elif sys.stderr.isatty() and importlib.util.find_spec("rich"):
            from rich.console import Console
            from rich.progress import track as rich_track

            yield from rich_track(items, description, console=Console(stderr=True), transient=True)
        else:
            yield from items
    finally:
        _outer.reset(token)


def _tell(folder: Path, progress: dict[str, object]) -> None:
    with replacing(folder / "progress.json", sync=False) as temporary:
        temporary.write_text(json.dumps(progress), encoding="utf-8")
