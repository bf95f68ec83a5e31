"""Real processes are killed, starved and raced; what is finished stays, and what is not is done again."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from toys import REAL, Toy, cluster

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(sys.platform == "win32", reason="signals and locks as on POSIX"),
]

GRID = "runs: [{notebook: toy, groups: {a: {label: quick, seeds: 2}, b: {label: slow, seeds: 3}}}]"


@pytest.fixture
def grid(toy: Toy) -> str:
    path = toy.root / "grid.yaml"
    path.write_text(GRID)
    toy.gate.write_text("")
    return str(path)


def test_killed_batch_leaves_no_process_and_resumes_to_the_same_results(toy: Toy, grid: str) -> None:
    batch = toy.start("batch", grid, "--workers", "2")
    toy.wait_for(lambda: len(toy.values()) == 1 and len(toy.computed()) == 2)
    batch.send_signal(signal.SIGKILL)
    batch.communicate()
    toy.wait_for(lambda: not toy.processes())
    assert list(toy.values().values()) == [1.0]

    toy.gate.unlink()
    resumed = toy.replicate("resume", "--workers", "2")
    assert resumed.returncode == 0, resumed.stderr
    assert sorted(line.split()[0] for line in toy.computed()) == ["quick", "slow", "slow"]

    elsewhere = toy.root / "undisturbed"
    assert toy.replicate("batch", grid, REPLICATION_RUNS=str(elsewhere)).returncode == 0
    assert toy.values() == toy.values(elsewhere)
    assert len(toy.values()) == 2


def test_interrupt_stops_says_what_is_done_and_can_be_resumed(toy: Toy, grid: str) -> None:
    batch = toy.start("batch", grid)
    toy.wait_for(lambda: len(toy.computed()) == 2)
    batch.send_signal(signal.SIGINT)
    _, errors = batch.communicate(timeout=60)
    assert batch.returncode == 130
    assert "1 of 2 runs are finished and kept; `replicate resume " in errors
    assert "Traceback" not in errors
    toy.wait_for(lambda: not toy.processes())

    toy.gate.unlink()
    resumed = toy.replicate("resume")
    assert "reused" in resumed.stdout
    assert sorted(toy.values().values()) == [1.0, 1.5]


def test_interrupt_stops_runs_side_by_side(toy: Toy, grid: str) -> None:
    Path(grid).write_text("runs: [{notebook: toy, parameters: {label: slow}, grid: {seeds: 1..3}}]")
    batch = toy.start("batch", grid, "--workers", "2")
    toy.wait_for(lambda: len(toy.computed()) == 2)
    batch.send_signal(signal.SIGINT)
    _, errors = batch.communicate(timeout=60)
    assert batch.returncode == 130
    assert "0 of 3 runs" in errors
    toy.wait_for(lambda: not toy.processes())
    assert len(toy.computed()) == 2


def test_two_processes_asked_for_the_same_run_compute_it_once(toy: Toy) -> None:
    toy.gate.write_text("")
    command = ("run", "toy", "-p", "label", "slow")
    first = toy.start(*command)
    toy.wait_for(toy.computed)
    second = toy.start(*command)
    assert second.stdout is not None
    while "waiting" not in (line := second.stdout.readline()):
        assert line, "the second process did not wait"
    toy.gate.unlink()
    texts = [process.communicate(timeout=120)[0] for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0]
    assert "computed" in texts[0]
    assert "reused" in texts[1]
    assert len(toy.computed()) == 1


def test_run_whose_process_is_killed_is_a_failure_like_another(toy: Toy) -> None:
    toy.gate.write_text("")
    batch = toy.start("run", "toy", "-p", "label", "slow")
    toy.wait_for(toy.computed)
    (child,) = psutil.Process(batch.pid).children()
    child.kill()
    _, errors = batch.communicate(timeout=60)
    assert batch.returncode == 1
    assert f"its process ended with status {-signal.SIGKILL}" in errors
    toy.wait_for(lambda: not toy.processes())
    assert toy.values() == {}


@pytest.mark.parametrize("place", ["a-file/runs", "/proc/runs"])
def test_store_that_cannot_be_written_is_an_error_for_people(toy: Toy, place: str) -> None:
    (toy.root / "a-file").write_text("")
    done = toy.replicate("run", "toy", REPLICATION_RUNS=str(toy.root / place))
    assert done.returncode == 1
    assert done.stderr.startswith("Error: cannot write the run store ")
    assert "set REPLICATION_RUNS" in done.stderr
    assert toy.computed() == []


def test_disk_that_fills_up_loses_nothing_finished(toy: Toy) -> None:
    assert toy.replicate("run", "toy").returncode == 0
    before = {path: path.read_bytes() for path in toy.project.store.rglob("*.json")}

    def limit() -> None:
        # no file may grow beyond this, as on a disk that is nearly full
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))

    done = subprocess.run(
        toy.command("run", "toy", "--force"),
        env=toy.environment(),
        cwd=os.sep,
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=limit,
    )
    assert done.returncode == 1
    assert "Nothing finished is lost" in done.stderr
    assert f"cannot write {toy.project.store}/toy/" in done.stderr
    assert "Traceback" not in done.stderr
    finished = {path: path.read_bytes() for path in before if path.name == "results.json"}
    assert finished == {path: content for path, content in before.items() if path.name == "results.json"}
    assert json.loads(next(iter(finished.values())))["verdicts"]


def test_disk_that_is_full_names_the_journal_of_a_batch(toy: Toy) -> None:
    done = subprocess.run(
        toy.command("batch"),
        env=toy.environment(),
        cwd=os.sep,
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)),
    )
    assert done.returncode == 1
    said = "File too large; make room and give the same command again; nothing finished is lost"
    file = f"{toy.project.store}/batches/[0-9a-f]{{8}}.json"
    assert re.fullmatch(f"Error: {file}: {said}\n", done.stderr), done.stderr
    assert toy.computed() == []
    assert not list((toy.project.store / "batches").iterdir())


@pytest.mark.parametrize(("where", "lines"), [("1", []), ("1", ["--json"]), ("2", []), ("dask", ["--json"])])
def test_a_reader_that_goes_away_ends_the_batch_as_an_interrupt_does(toy: Toy, where: str, lines: list[str]) -> None:
    path = toy.root / "grid.yaml"
    path.write_text("runs: [{notebook: toy, grid: {seeds: 1..2}}]")
    with cluster(toy) if where == "dask" else contextlib.nullcontext() as address:
        batch = toy.start("batch", str(path), *(("--scheduler", address) if address else ("--workers", where)), *lines)
        assert batch.stdout is not None
        assert batch.stderr is not None
        batch.stdout.readline()
        batch.stdout.close()
        assert batch.wait(timeout=120) == 141
        said = batch.stderr.read()
        assert "Nobody reads what it prints any more." in said
        assert "replicate resume" in said
        assert "Traceback" not in said
        assert "Exception" not in said
        toy.wait_for(lambda: not toy.processes())
    assert toy.replicate("resume").returncode == 0
    assert len(toy.values()) == 2


@pytest.mark.parametrize("what", ["batch", "select"])
def test_an_interrupt_while_workers_import_prints_no_tracebacks(toy: Toy, tmp_path: Path, what: str) -> None:
    (tmp_path / "in.jsonl").write_text("".join(f'{{"text": "{i} words"}}\n' for i in range(50)))
    batch = ["batch", "--workers", "2"]
    select = ["select", str(tmp_path / "in.jsonl"), "--ratio", "0.1", "--out", str(tmp_path / "o.jsonl")]
    command = batch if what == "batch" else [*select, "--workers", "2"]
    started = subprocess.Popen(
        toy.command(*command),
        env=toy.environment(PYTHONPATH=str(REAL.parent)) if what == "select" else toy.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a terminal tells the whole group, which is one of its own here
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    first = psutil.Process(started.pid)
    # a batch starts a process a run, a selection more than its two workers
    toy.wait_for(lambda: len(first.children(recursive=True)) > (0 if what == "batch" else 2))
    os.killpg(started.pid, signal.SIGINT)
    _, errors = started.communicate(timeout=120)
    assert started.returncode == 130, errors
    assert "Stopped." in errors
    assert "Traceback" not in errors
    assert "KeyboardInterrupt" not in errors
