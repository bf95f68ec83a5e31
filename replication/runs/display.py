"""What one sees while runs execute: bars with an ETA on a terminal, plain lines elsewhere, JSON lines for machines."""

from __future__ import annotations

import itertools
import json
import math
import os
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from replication.runs.notebook import Outcome
from replication.runs.store import Run

_STYLES = {"computed": "green", "re-evaluated": "green", "reused": "cyan", "interrupted": "yellow"}


# seconds between two lines about parts of one run, where there is no terminal
_PAUSE = 20.0


# characters of a table's cell before it goes on in the next line
_CELL = 44
# characters that suffice for the last column
_LAST = 24


def live(console: Console) -> bool:
    """Whether bars can be drawn anew in their place: on a terminal that can do more than print lines."""
    return console.is_terminal and not console.is_dumb_terminal


def room(console: Console) -> int:
    """How many columns there are: those of the terminal, or of `$COLUMNS`; in a pipe no line needs to end."""
    return console.width if console.is_terminal or "COLUMNS" in os.environ else sys.maxsize


def write_line(console: Console, text: str | Text) -> None:
    """Print a line, which a terminal breaks between words and a pipe not at all."""
    console.print(text, soft_wrap=not console.is_terminal, highlight=False, markup=False, emoji=False)


def say(text: str) -> None:
    """Print a paragraph, broken between words where a terminal ends; Markdown and the like mean nothing in it."""
    console = Console()
    console.width = room(console)
    console.print(text, markup=False, highlight=False, emoji=False)


def fitted(columns: Sequence[str], rows: Iterable[Sequence[str]], width: int) -> str:
    """A table as text, with a line for each row where there is room, else a block; no word is broken.

    Examples
    --------
    >>> table = ("run", "says"), [("4be1c07d", "6 reproduced, 3 not"), ("91d0aa35", "")]
    >>> print(fitted(*table, 40))
    run       says
    --------  -------------------
    4be1c07d  6 reproduced, 3 not
    91d0aa35
    >>> print(fitted(*table, 20))
    4be1c07d
      says: 6
        reproduced, 3
        not
    91d0aa35
    """

    def wrapped(text: str, wide: int, first: str = "", more: str = "") -> list[str]:
        wrapper = textwrap.TextWrapper(
            wide, initial_indent=first, subsequent_indent=more, break_long_words=False, break_on_hyphens=False
        )
        return wrapper.wrap(text) or [""]

    listed = [tuple(row) for row in rows]
    lines: list[str] = []
    widths = [
        max(min(_CELL, max(map(len, cells))), *(len(word) for cell in cells for word in ("", *cell.split())))
        for cells in zip(columns, *listed, strict=True)
    ]
    # the last column may be narrower than it would like
    left = width - sum(widths[:-1]) - 2 * (len(widths) - 1)
    if left >= min(_LAST, widths[-1]):
        widths[-1] = min(widths[-1], left)
        cells = [list(map(wrapped, row, widths)) for row in (columns, ["-" * wide for wide in widths], *listed)]
        for row in cells:
            for line in itertools.zip_longest(*row, fillvalue=""):
                lines.append("  ".join(map(str.ljust, line, widths)).rstrip())
        return "\n".join(lines)
    label = max(map(len, columns[1:]), default=0)
    aligned = width >= label + 4 + _LAST
    for first, *others in listed:
        lines += wrapped(first, width)
        for name, cell in zip(columns[1:], others, strict=True):
            start, more = (f"  {name:{label}}  ", " " * (label + 4)) if aligned else (f"  {name}: ", "    ")
            lines += wrapped(cell, width, start, more) if cell else []
    return "\n".join(lines)


class Display:
    """Bars with an ETA on a terminal, plain lines elsewhere.

    Parameters
    ----------
    runs
        All that will execute.
    console
        Where to; whether it is a terminal that can draw decides between bars and lines.
    """

    def __init__(self, runs: Sequence[Run], console: Console) -> None:
        self._console = console
        self._total = len(runs)
        self._ended: Counter[str] = Counter()
        self._bars: dict[str, TaskID] = {}
        self._said: dict[str, float] = {}
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not live(console),
        )
        self._whole = self._progress.add_task("all runs", total=self._total, unit="", visible=self._total > 1)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._progress.stop()
        if self._total > 1 and self._ended["reused"]:
            reused = self._ended["reused"]
            some = f"{reused} runs were finished before and are reused."
            self.note("1 run was finished before and is reused." if reused == 1 else some)

    def event(self, run: Run, event: Mapping[str, Any]) -> None:
        """Show what a run's process says; called from several threads."""
        if run.name not in self._bars:
            self._bars[run.name] = self._progress.add_task(run.name, total=None, unit="cells", cells="")
            self._count()
        if "started" in event:
            # a worker may die, and another does the run again: each says where
            if not live(self._console):
                self.note(f"{run.name}: started on {event['started']}, profile {run.profile}")
        elif event.get("waiting"):
            self.note(f"{run.name}: another process computes it; waiting")
        elif "cell" in event:
            bar, cells = self._bars[run.name], f"cell {event['cell']}/{event['cells']}"
            self._progress.update(bar, completed=event["cell"] - 1, total=event["cells"], unit="cells", cells=cells)
        elif "part" in event:
            self._part(run, event)
        elif "done" in event:
            # one cell may hold nearly all of the work: then its steps tell more than the number of cells
            bar = self._bars[run.name]
            cells = self._progress.tasks[self._progress.task_ids.index(bar)].fields["cells"]
            unit = f"{event['what']} ({cells})"
            self._progress.update(bar, completed=event["done"], total=event["total"], unit=unit)

    def _part(self, run: Run, event: Mapping[str, Any]) -> None:
        done, total = event["done"], event["total"]
        bar = self._bars[run.name]
        self._progress.update(bar, completed=done, total=total, unit=f"parts; last: {event['part']}")
        now = time.monotonic()
        quiet = live(self._console) or now - self._said.get(run.name, -math.inf) < _PAUSE
        if event["state"] == "failed" or not quiet:
            self._said[run.name] = now
            left = f", {_duration(event['left'])} left" if done < total else ""
            self.note(f"{run.name}: part {done} of {total} {event['state']}: {event['part']}{left}")

    def outcome(self, outcome: Outcome) -> None:
        """Show how a run ended."""
        self._ended[outcome.status if outcome.ok else "failed"] += 1
        if (bar := self._bars.pop(outcome.run.name, None)) is not None:
            self._progress.remove_task(bar)
        self._count()
        if self._total > 1 and outcome.status == "reused":
            return
        count = f"[{self._ended.total()}/{self._total}] " if self._total > 1 else ""
        line = Text(f"{count}{outcome.run.name} ")
        line.append(outcome.status, style=_STYLES.get(outcome.status, "bold red"))
        line.append(f" ({outcome.seconds:.1f} s): {outcome.message}")
        self.note(line)

    def note(self, text: str | Text) -> None:
        """Show a line, such as what concerns no run."""
        write_line(self._console, text)

    def _count(self) -> None:
        done = self._ended["computed"] + self._ended["re-evaluated"]
        said = {
            "running": len(self._bars),
            "done": done,
            "failed": self._ended["failed"],
            "cached": self._ended["reused"],
        }
        text = ", ".join(f"{number} {word}" for word, number in said.items() if number)
        # what is reused takes no time and says nothing of the time that the others take
        left = self._total - self._ended["reused"]
        ended = self._ended.total() - self._ended["reused"]
        self._progress.update(self._whole, completed=ended, total=left, unit=text)


def _duration(seconds: float) -> str:
    """About so long, in words.

    Examples
    --------
    >>> _duration(50), _duration(500), _duration(9000)
    ('about 50 s', 'about 8 min', 'about 2.5 h')
    """
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


class JsonLines(AbstractContextManager["JsonLines", None]):
    """One JSON object a line, for machines: ``{"event": …}`` with ``run`` where it concerns one.

    Parameters
    ----------
    write
        Called with each line.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def __exit__(self, *_error: object) -> None:
        pass

    def event(self, run: Run, event: Mapping[str, Any]) -> None:
        """Write what a run's process says."""
        self._say("progress", run=run.name, **event)

    def outcome(self, outcome: Outcome) -> None:
        """Write how a run ended."""
        self._say(
            "outcome",
            run=outcome.run.name,
            status=outcome.status,
            seconds=round(outcome.seconds, 3),
            message=outcome.message,
            parameters=outcome.run.parameters,
        )

    def note(self, text: str) -> None:
        """Write what concerns no run."""
        self._say("note", text=text)

    def finished(self, batch: str, folder: str, outcomes: Sequence[Outcome]) -> None:
        """Write the last line: how many runs ended in which way."""
        self._say("finished", batch=batch, store=folder, **Counter(outcome.status for outcome in outcomes))

    def _say(self, event: str, **more: Any) -> None:
        self._write(json.dumps({"event": event, **more}, ensure_ascii=False))
