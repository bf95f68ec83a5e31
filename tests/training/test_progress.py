from __future__ import annotations

import json

from replication.training import progress, track


def test_silent_without_a_terminal(capsys):
    assert list(track([1, 2, 3], "things")) == [1, 2, 3]
    assert capsys.readouterr() == ("", "")


def test_a_run_learns_how_far_its_kernel_is(monkeypatch, tmp_path):
    """Only the outermost loop counts: the loops within it would overwrite its progress."""
    monkeypatch.setenv("REPLICATION_RUN_DIR", str(tmp_path))
    monkeypatch.setattr(progress, "_PAUSE", 0.0)
    seen = []
    for _ in track("ab", "outer"):
        assert list(track("xyz", "inner")) == ["x", "y", "z"]
        seen.append(json.loads((tmp_path / "progress.json").read_text()))
    assert seen == [{"done": done, "total": 2, "what": "outer"} for done in range(2)]
    assert list(track("xyz", "again")) == ["x", "y", "z"]
    assert json.loads((tmp_path / "progress.json").read_text())["what"] == "again"


def test_a_bar_on_a_terminal_is_not_nested(monkeypatch, capsys):
    """rich refuses two live displays at once: an experiment's bar around a trainer's would crash."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert [(a, b) for a in track([0, 1], "outer") for b in track([2, 3], "inner")] == [(0, 2), (0, 3), (1, 2), (1, 3)]


def test_quick_steps_are_told_now_and_then(monkeypatch, tmp_path):
    """A file for every step would take longer than the steps."""
    monkeypatch.setenv("REPLICATION_RUN_DIR", str(tmp_path))
    told = []
    monkeypatch.setattr(progress, "_tell", lambda folder, what: told.append(what["done"]))
    assert len(list(track(range(10_000), "steps"))) == 10_000
    assert told[0] == 0
    assert len(told) < 100
