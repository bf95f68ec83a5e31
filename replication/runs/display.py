"""What a person sees while runs execute: bars with an ETA on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
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


class Display:
    """Shows runs as they execute; a context manager.

    Parameters
    ----------
    runs
        All that will execute.
    console
        Where to; its being a terminal decides between bars and lines.
    """

    def __init__(self, runs: Sequence[Run], console: Console) -> None:
        self._console = console
        self._total = len(runs)
        self._done = 0
        self._bars: dict[str, TaskID] = {}
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
            disable=not console.is_terminal,
        )
        self._whole = self._progress.add_task("all runs", total=self._total, unit="runs", visible=self._total > 1)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def event(self, run: Run, event: Mapping[str, Any]) -> None:
        """Show what a run's process says; called from several threads."""
        if run.name not in self._bars:
            self._bars[run.name] = self._progress.add_task(run.name, total=None, unit="cells", cells="")
            if not self._console.is_terminal:
                self._line(f"{run.name}: started, profile {run.profile}")
        if event.get("waiting"):
            self._line(f"{run.name}: another process computes it; waiting")
        elif "cell" in event:
            bar, cells = self._bars[run.name], f"cell {event['cell']}/{event['cells']}"
            self._progress.update(bar, completed=event["cell"] - 1, total=event["cells"], unit="cells", cells=cells)
        elif "done" in event:
            # one cell may hold nearly all of the work: then its steps tell more than the number of cells
            bar = self._bars[run.name]
            cells = self._progress.tasks[self._progress.task_ids.index(bar)].fields["cells"]
            unit = f"{event['what']} ({cells})"
            self._progress.update(bar, completed=event["done"], total=event["total"], unit=unit)

    def outcome(self, outcome: Outcome) -> None:
        """Show how a run ended."""
        self._done += 1
        if (bar := self._bars.pop(outcome.run.name, None)) is not None:
            self._progress.remove_task(bar)
        self._progress.update(self._whole, completed=self._done)
        count = f"[{self._done}/{self._total}] " if self._total > 1 else ""
        line = Text(f"{count}{outcome.run.name} ")
        line.append(outcome.status, style=_STYLES.get(outcome.status, "bold red"))
        line.append(f" ({outcome.seconds:.1f} s): {outcome.message}")
        self._line(line)

    def _line(self, text: str | Text) -> None:
        self._console.print(text, soft_wrap=True, highlight=False, markup=False)
