from __future__ import annotations

import io
import json
import re

import pytest
from rich.console import Console

from replication.runs.display import Display, JsonLines, write_line
from replication.runs.notebook import Outcome
from replication.runs.store import Run

OTHER = Run("toy", "smoke", {}, "toy", "f" * 16, {})
RUN = Run("toy", "smoke", {}, "toy", "0123456789abcdef", {})


def show(*, terminal: bool) -> str:
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=160)
    with Display([RUN, RUN, OTHER], console) as display:
        display.outcome(Outcome(OTHER, "reused", 0.0, "1 reproduced."))
        display.event(RUN, {"started": "there"})
        display.event(RUN, {"cell": 4, "cells": 12})
        display.event(RUN, {"done": 120, "total": 400, "what": "training"})
        display._progress.refresh()
        display.event(RUN, {"waiting": True})
        display.outcome(Outcome(RUN, "computed", 1.25, "1 reproduced [of 1]."))
    return text.getvalue()


@pytest.mark.parametrize(("terminal", "kind"), [(False, "xterm"), (True, "dumb")])
def test_lines_where_no_bar_can_be_drawn(terminal: bool, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", kind)
    assert re.sub(r"\x1b\[[\d;]*m", "", show(terminal=terminal)).splitlines() == [
        "toy/0123456789abcdef: started on there, profile smoke",
        "toy/0123456789abcdef: another process computes it; waiting",
        "[2/3] toy/0123456789abcdef computed (1.2 s): 1 reproduced [of 1].",
        "1 run was finished before and is reused.",
    ]


def test_bars_with_cells_steps_and_eta_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    text = show(terminal=True)
    assert "120/400" in text
    assert "training (cell 4/12)" in text
    assert "ETA" in text
    # of three runs one is there already: two to do, which the ETA is about
    assert "0/2" in text
    assert "1 running, 1 cached" in text


def test_json_lines_for_machines() -> None:
    lines: list[str] = []
    outcome = Outcome(RUN, "computed", 1.25, "1 reproduced.")
    with JsonLines(lines.append) as watcher:
        watcher.event(RUN, {"started": "there"})
        watcher.outcome(outcome)
        watcher.finished("0a1b", "/store", [outcome, outcome])
    assert [json.loads(line) for line in lines] == [
        {"event": "progress", "run": RUN.name, "started": "there"},
        {
            "event": "outcome",
            "run": RUN.name,
            "status": "computed",
            "seconds": 1.25,
            "message": "1 reproduced.",
            "parameters": {},
        },
        {"event": "finished", "batch": "0a1b", "store": "/store", "computed": 2},
    ]


def test_a_terminal_breaks_lines_between_words_and_a_pipe_does_not() -> None:
    told = "the notebooks agree with the published ones :art: [b]"
    for terminal, shown in ((True, ["the notebooks agree", "with the published", "ones :art: [b]"]), (False, [told])):
        text = io.StringIO()
        write_line(Console(file=text, force_terminal=terminal, width=20), told)
        assert [each.rstrip() for each in text.getvalue().splitlines()] == shown
