from __future__ import annotations

import io

from rich.console import Console

from replication.runs.display import Display
from replication.runs.notebook import Outcome
from replication.runs.store import Run

RUN = Run("toy", "smoke", {}, "toy", "0123456789abcdef", {})


def show(*, terminal: bool) -> str:
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=160)
    with Display([RUN, RUN], console) as display:
        display.event(RUN, {"cell": 4, "cells": 12})
        display.event(RUN, {"done": 120, "total": 400, "what": "training"})
        display._progress.refresh()
        display.event(RUN, {"waiting": True})
        display.outcome(Outcome(RUN, "computed", 1.25, "1 reproduced [of 1]."))
    return text.getvalue()


def test_lines_without_a_terminal() -> None:
    assert show(terminal=False).splitlines() == [
        "toy/0123456789abcdef: started, profile smoke",
        "toy/0123456789abcdef: another process computes it; waiting",
        "[1/2] toy/0123456789abcdef computed (1.2 s): 1 reproduced [of 1].",
    ]


def test_bars_with_cells_steps_and_eta_on_a_terminal() -> None:
    text = show(terminal=True)
    assert "120/400" in text
    assert "training (cell 4/12)" in text
    assert "ETA" in text
    assert "0/2" in text
