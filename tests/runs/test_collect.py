"""What garbage collection takes, and above all what it leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from toys import Toy

from replication import evidence
from replication.atomic import write_json
from replication.runs import collect
from replication.runs.batch import Batch
from replication.runs.errors import ReplicationError
from replication.runs.store import Run, Spec


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "evidence_key", lambda paper: "today's")


def plan(toy: Toy, **overrides: Any) -> Run:
    return toy.store.plan(Spec("toy", "smoke", overrides))


def finished(toy: Toy, key: str = "today's", **overrides: Any) -> Run:
    run = plan(toy, **overrides)
    toy.store.open_work(run)
    toy.store.finish(run, {"verdicts": [], "evidence_key": key, "notebook": "toy", "run_id": run.run_id})
    return run


def failed(toy: Toy, **overrides: Any) -> Run:
    run = plan(toy, **overrides)
    toy.store.open_work(run)
    toy.store.fail(run, {"message": "no", "status": "failed", "cell": 1, "traceback": ""})
    return run


def age(toy: Toy, run: Run, days: float) -> None:
    then = time.time() - days * 86_400
    folder = toy.store.folder(run)
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (then, then))


def change_sources(toy: Toy) -> None:
    (toy.package / "toy" / "experiment.py").write_text("import yaml\nx = 1\n")


def found(toy: Toy, **options: Any) -> dict[str, str]:
    return {one.name: one.reason for one in collect.removable(toy.store, **options)}


def test_each_reason(toy: Toy) -> None:
    old = finished(toy)
    stale, kept = finished(toy, "older", seeds=7), finished(toy, seeds=9)
    change_sources(toy)
    new = finished(toy)
    bad = failed(toy, seeds=4)
    half = plan(toy, seeds=5)
    toy.store.open_work(half)
    assert found(toy) == {
        old.name: "superseded",
        bad.name: "failed",
        half.name: "unfinished",
    }
    # the newest of its parameters, of whatever sources and verdicts
    assert not {new.name, kept.name, stale.name} & found(toy).keys()


def test_nothing_foreign_is_touched(toy: Toy) -> None:
    for name in ("reports/x.html", "batches/a.json", "toy/notes.txt", "toy/mine/x", ".locks/y"):
        path = toy.project.store / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    assert found(toy) == {}


def test_a_reference_run_stays_whatever_it_is(toy: Toy) -> None:
    run = finished(toy, "older")
    change_sources(toy)
    finished(toy)
    assert found(toy) == {run.name: "superseded"}
    path = toy.project.results / "smoke" / "toy.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"notebook": "toy", "run_id": run.run_id, "tests": []}))
    assert found(toy) == {}
    path.write_text("{")
    with pytest.raises(ReplicationError, match="is not a results file"):
        found(toy)


def test_the_newest_state_of_a_batch_stays(toy: Toy) -> None:
    run = failed(toy)
    batch = Batch(toy.store, [Spec("toy", "smoke", {})])
    batch.remember()
    assert found(toy) == {}
    change_sources(toy)
    Batch(toy.store, [Spec("toy", "smoke", {})]).remember()
    assert found(toy) == {run.name: "failed"}


HOLD = """
import sys
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_run_whose_lock_another_process_holds_stays(toy: Toy) -> None:
    run = failed(toy)
    (before,) = collect.removable(toy.store)
    lock = Path(toy.store.lock(run).lock_file)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert found(toy) == {}
        assert not collect.remove(toy.store, before)
        assert toy.store.folder(run).is_dir()
        holder.communicate()
    assert found(toy) == {run.name: "failed"}
    assert collect.remove(toy.store, before)
    assert not toy.store.folder(run).exists()


def test_a_run_that_came_to_life_since_it_was_listed_stays(toy: Toy) -> None:
    run = failed(toy)
    age(toy, run, 3)
    (before,) = collect.removable(toy.store)
    finished(toy)
    assert not collect.remove(toy.store, before)
    assert toy.store.state(run) == "finished"


def test_removal_is_whole_and_clears_what_an_earlier_one_left(toy: Toy) -> None:
    run = failed(toy)
    left = toy.project.store / ".removed-toy-0"
    left.mkdir()
    (one,) = collect.removable(toy.store)
    assert one.size == sum(path.stat().st_size for path in toy.store.folder(run).rglob("*") if path.is_file())
    assert collect.remove(toy.store, one)
    assert not left.exists()
    assert {path.name for path in toy.project.store.iterdir()} == {".locks"}


def test_age_spares_the_young(toy: Toy) -> None:
    runs = [failed(toy, seeds=n) for n in (4, 5, 6)]
    for run, days in zip(runs, (1, 5, 9), strict=True):
        age(toy, run, days)
    assert list(found(toy)) == [runs[2].name, runs[1].name, runs[0].name]
    assert list(found(toy, older_than=4)) == [runs[2].name, runs[1].name]


def test_command_lists_first_and_removes_when_told(toy: Toy) -> None:
    run = failed(toy)
    listed = toy.replicate("gc")
    assert listed.returncode == 0, listed.stderr
    assert f"would go {run.name}: failed, 0 hours old, " in listed.stdout
    assert "--yes removes them" in listed.stdout
    assert toy.store.folder(run).is_dir()
    done = toy.replicate("gc", "--yes")
    assert f"removed  {run.name}" in done.stdout
    assert not toy.store.folder(run).exists()
    assert "0 runs and 0 parts of no run, 0 bytes to free." in toy.replicate("gc").stdout


def test_parts_that_no_run_needs_go(toy: Toy) -> None:
    store, folder = toy.store, toy.project.store / "parts" / "toy-toy"
    run = finished(toy)
    results = store.results(run) or {}
    write_json(store.folder(run) / "results.json", {**results, "parts": {"all": "needed"}})
    going = plan(toy, seeds=5)
    write_json(store.open_work(going) / "parts.json", {"folder": str(folder), "parts": [["all", "going"]]})
    for name in ("needed.json", "needed.lock", "going.json", "loose.json", "loose.failed.json"):
        write_json(folder / name, {})
    assert [path.name for path in collect.loose_parts(store)] == ["loose.failed.json", "loose.json"]
    # a part that is being written has another name by the time that it is looked at
    (folder / ".written").symlink_to("moved")
    assert list(collect.loose_parts(store, older_than=1)) == []
    (folder / ".written").unlink()
    before = sorted(path.name for path in folder.iterdir())
    toy.replicate("gc", "--yes")
    assert sorted(path.name for path in folder.iterdir()) == before
    # with the run that was going
    toy.replicate("gc", "--older-than", "0", "--yes")
    assert sorted(path.name for path in folder.iterdir()) == ["needed.json", "needed.lock"]
