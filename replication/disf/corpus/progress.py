"""What a person sees while a corpus is selected from: bars with an ETA on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

_EVERY: Final = 10.0  # seconds between lines


class Stages:
    """Shows each stage of the work; a context manager that can be called as a `Progress`.

    Parameters
    ----------
    console : Console
        Where to; whether it is a terminal that can draw decides between bars and lines.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = console.is_terminal and not console.is_dumb_terminal
        self._bars: dict[str, TaskID] = {}
        self._stage, self._begin, self._last, self._done = "", 0.0, 0.0, 0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not self._live,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show that so much is done of what a stage counts."""
        if self._live:
            if what not in self._bars:
                self._bars[what] = self._progress.add_task(what, total=total)
            self._progress.update(self._bars[what], completed=done, total=total)
            return
        now = time.monotonic()
        if what != self._stage:
            self._stage, self._begin, self._last, self._done = what, now, now, done
        elif done < total and now - self._last < _EVERY:
            return
        self._last = now
        rate = (done - self._done) / max(now - self._begin, 1e-9)
        eta = f", {(total - done) / rate:.0f} s to go" if rate and done < total else ""
        self._console.print(f"{done:,} of {total:,} {what}{eta}", soft_wrap=True, highlight=False, markup=False)
