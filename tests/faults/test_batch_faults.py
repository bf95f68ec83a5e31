"""Batches whose processes, workers, scheduler or store are taken away: what is finished stays, the rest completes."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest
from toys import CONFIG, Toy, build, cluster, free_port, toy_cells

pytestmark = [
    pytest.mark.faults,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(sys.platform == "win32", reason="signals and locks as on POSIX"),
]


def grid(toy: Toy, text: str) -> str:
    path = toy.root / "grid.yaml"
    path.write_text(text)
    return str(path)


def finished(toy: Toy, store: Path | None = None) -> dict[str, bytes]:
    """The results of each finished run, to the byte; half a file would not be JSON."""
    files = {path.parent.name: path.read_bytes() for path in (store or toy.project.store).glob("*/*/results.json")}
    assert all(json.loads(content)["verdicts"] for content in files.values())
    return files


SLOW_SECOND = """\
runs:
  - notebook: toy
    groups: {a: {label: plain, seeds: 1}, b: {label: slow, seeds: 2}, c: {label: plain, seeds: 3}}
"""


def worker_of(process: int) -> psutil.Process:
    """The cluster's worker that waits for a process of a run."""
    return next(p for p in psutil.Process(process).parents() if "multiprocessing" in " ".join(p.cmdline()))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Toy, dict[str, bytes]]:
    """A project, and the results of its batch of 12 runs when nothing happens to it."""
    toy = build(tmp_path_factory.mktemp("faults"))
    done = toy.replicate("batch", grid(toy, GRID), "--workers", "2")
    assert done.returncode == 0, done.stderr
    return toy, finished(toy)


GRID = "runs: [{notebook: toy, grid: {seeds: 1..6, peak: [0.5, 1.0]}}]"


def test_kills_at_many_instants_change_nothing(undisturbed: tuple[Toy, dict[str, bytes]]) -> None:
    toy, expected = undisturbed
    store = toy.root / "killed"
    before: dict[str, bytes] = {}
    for number in range(10):
        batch = toy.start("batch", grid(toy, GRID), "--workers", "2", REPLICATION_RUNS=str(store))
        if number % 3:  # else while it is still checking, or starts its workers
            # a fast machine has done all before the last kill
            toy.wait_for(lambda batch=batch: toy.processes() or batch.poll() is not None)
        time.sleep(0.4 * number)
        batch.kill()
        batch.communicate()
        now = finished(toy, store)
        assert now.items() >= before.items()
        before = now
    toy.wait_for(lambda: not toy.processes())
    resumed = toy.replicate("resume", "--workers", "2", REPLICATION_RUNS=str(store))
    assert resumed.returncode == 0, resumed.stderr
    assert finished(toy, store) == expected
    assert len(expected) == 12


PARTS = (
    CONFIG
    + """
import os, random, time

def measured(config, part):
    with open(os.environ["TOY_LOG"], "a") as log:
        log.write(f"{part}\\n")
    time.sleep(0.3)
    return [{"quantity": "value", "seed": part, "value": config.seeds * config.peak}]

def ended(config, rows):
    return [{"quantity": "error", "value": 0.0 * len(rows)}]

def parts(config):
    made = [evidence.Part(f"part {k}", measured, config.only("seeds", "peak"), {"part": k}) for k in range(16)]
    return [*made, evidence.Part("end", ended, config.only(), needs=tuple(part.name for part in made))]
"""
)
START = """\
run = evidence.start("toy", notebook="toy", profile=profile)
from replication.toy.experiments import many
config = run.configure(many, globals())
records = run.records()\
"""
END = "outcomes = run.evaluate(records)\nrun.finish(records, outcomes)"


@pytest.fixture(scope="module")
def divided(tmp_path_factory: pytest.TempPathFactory) -> tuple[Toy, bytes]:
    """A project whose notebook has an experiment of 17 parts, and its results when nothing happens to it."""
    room = {"toy/experiments/__init__.py": "", "toy/experiments/many.py": PARTS}
    toy = build(tmp_path_factory.mktemp("parts"), real_evidence=True, files=room)
    toy.add("toy", toy_cells(run=START, finish=END), paper="toy", experiment="many")
    done = toy.replicate("run", "toy", "--workers", "2")
    assert done.returncode == 0, done.stderr
    # also where a helper did all before the kernel came to it
    assert " computed (" in done.stdout
    (results,) = toy.project.store.glob("toy/*/results.json")
    assert sorted(toy.computed()) == sorted(map(str, range(16)))
    return toy, results.read_bytes()


def test_kills_cost_the_parts_in_flight_and_change_nothing(divided: tuple[Toy, bytes]) -> None:
    toy, expected = divided
    store, kills = toy.root / "parts-killed", 10
    more = {"REPLICATION_RUNS": str(store), "TOY_LOG": str(toy.root / "killed.log")}
    instants = random.Random(1)
    command = ("run", "toy", "--workers", "2")
    for _ in range(kills):
        run = toy.start(*command, **more)
        toy.wait_for(lambda run=run: toy.processes() or run.poll() is not None)
        time.sleep(instants.uniform(0.0, 3.0))
        run.kill()
        run.communicate()
    toy.wait_for(lambda: not toy.processes())
    resumed = toy.replicate(*command, **more)
    assert resumed.returncode == 0, resumed.stderr
    (results,) = store.glob("toy/*/results.json")
    assert results.read_bytes() == expected
    computed = Path(more["TOY_LOG"]).read_text().splitlines()
    assert set(computed) == set(map(str, range(16)))
    # two processes, so two parts in flight at each kill
    assert len(computed) <= 16 + 2 * kills


def test_published_rows_spare_their_parts_and_change_nothing(divided: tuple[Toy, bytes]) -> None:
    toy, expected = divided
    published = toy.project.results / "smoke" / "toy.json"
    published.parent.mkdir(parents=True, exist_ok=True)
    machine = toy.store.machine(next(toy.store.runs()))
    published.write_text(json.dumps({**json.loads(expected), "machine": machine}))
    log = toy.root / "restored.log"
    more = {"REPLICATION_RUNS": str(toy.root / "restored"), "TOY_LOG": str(log)}
    restored = toy.replicate("parts", "toy", "--restore", **more)
    published.unlink()
    assert restored.stdout.startswith("17 parts restored."), restored.stderr
    assert toy.replicate("run", "toy", **more).returncode == 0
    assert not log.exists()
    (results,) = (toy.root / "restored").glob("toy/*/results.json")
    assert results.read_bytes() == expected


def test_a_worker_of_a_cluster_that_is_killed_has_its_parts_done_by_another(divided: tuple[Toy, bytes]) -> None:
    toy, expected = divided
    store = toy.root / "worker"
    log = toy.root / "worker.log"
    more = {"REPLICATION_RUNS": str(store), "TOY_LOG": str(log)}
    with cluster(toy, workers=2, **more) as address:
        run = toy.start("run", "toy", "--scheduler", address, **more)
        toy.wait_for(lambda: log.exists() and len(log.read_text().splitlines()) >= 3)
        (process, *_) = toy.processes()
        worker_of(process).kill()
        _, errors = run.communicate(timeout=200)
    assert run.returncode == 0, errors
    (results,) = store.glob("toy/*/results.json")
    assert results.read_bytes() == expected
    toy.wait_for(lambda: not toy.processes())


@pytest.mark.parametrize("workers", [1, 2], ids=["one process", "dask"])
def test_engines_give_the_same_results_to_the_byte(undisturbed: tuple[Toy, dict[str, bytes]], workers: int) -> None:
    toy, expected = undisturbed
    store = toy.root / f"engine-{workers}"
    few = grid(toy, "runs: [{notebook: toy, grid: {seeds: 1..2, peak: [0.5, 1.0]}}]")
    with cluster(toy, workers=workers) if workers > 1 else contextlib.nullcontext() as address:
        where = ("--scheduler", address) if address else ()
        done = toy.replicate("batch", few, *where, REPLICATION_RUNS=str(store))
    assert done.returncode == 0, done.stderr
    found = finished(toy, store)
    assert len(found) == 4
    assert found.items() <= expected.items()


def test_worker_that_is_killed_has_its_run_done_by_another(toy: Toy) -> None:
    toy.gate.write_text("")
    runs = "runs: [{notebook: toy, parameters: {label: slow}, grid: {seeds: 1..3}}]"
    with cluster(toy, workers=2) as address:
        batch = toy.start("batch", grid(toy, runs), "--scheduler", address)
        toy.wait_for(lambda: len(toy.computed()) == 2)
        (run, *_) = toy.processes()
        worker_of(run).kill()
        toy.wait_for(lambda: len(toy.computed()) == 3)
        toy.gate.unlink()
        text, errors = batch.communicate(timeout=200)
    assert batch.returncode == 0, errors
    assert "3 of 3 runs are finished" in text
    assert sorted(toy.values().values()) == [0.5, 1.0, 1.5]
    toy.wait_for(lambda: not toy.processes())


MISBEHAVE = """\
import json, os, pathlib, resource, signal, sys, time
folder = pathlib.Path(os.environ["REPLICATION_RUN_DIR"])
if label == "hang":
    time.sleep(1000)
if label == "memory":
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    block = bytearray(1 << 34)
if label == "starved":  # as the kernel's memory killer does it
    os.kill(os.getpid(), signal.SIGKILL)
if label == "garbage":
    (folder / "results.json").write_text('{"schema": 1, "verd')
    (folder / "records.json").write_bytes(b"\\xff\\x00")
    (folder / "progress.json").write_text("[1, 2")
    os.write(1, b"\\x00\\xff not json\\n")
    print("\\x1b[2J\\x07" * 100)
value = seeds * peak
if fail:
    raise ValueError("asked to fail")\
"""


@pytest.mark.parametrize("dask", [False, True], ids=["processes", "dask"])
def test_notebooks_that_misbehave_stop_none_of_the_others(tmp_path: Path, dask: bool) -> None:
    toy = build(tmp_path)
    toy.add("toy", toy_cells(run=MISBEHAVE, finish=FINISH_UNLESS_GARBAGE), paper="toy")
    labels = "grid: {label: [hang, memory, starved, garbage, good]}"
    asked = grid(
        toy, f"runs: [{{notebook: toy, {labels}}}, {{notebook: toy, parameters: {{label: raise, fail: true}}}}]"
    )
    with cluster(toy, workers=2) if dask else contextlib.nullcontext() as address:
        where = ("--scheduler", address) if address else ("--workers", "2")
        done = toy.replicate("batch", asked, *where, "--timeout", "20")
    assert done.returncode == 1
    assert "1 of 6 runs are finished" in done.stdout
    for words in (
        "timed out: toy/",
        "stopped after 20 s",
        "raised MemoryError",
        "the kernel died",
        "the notebook ended without results.json",
        "raised ValueError: asked to fail",
    ):
        assert words in done.stderr, done.stderr
    assert list(toy.values().values()) == [1.5]
    assert len(list(toy.project.store.glob("toy/*/notebook.failed.ipynb"))) == 5
    toy.wait_for(lambda: not toy.processes())


FINISH_UNLESS_GARBAGE = """\
from replication import evidence
if label != "garbage":
    test = dict(test_id="T1", role="primary", claim="double", answer="yes", estimate=value, low=value, high=value,
                n=seeds, visible=None, reason="", blind=[], comparisons=[])
    results = dict(schema=2, notebook="toy", paper="toy", profile=profile, run_id=os.environ["REPLICATION_RUN_ID"],
        parameters=dict(profile=profile, seeds=seeds, peak=peak, budgets=budgets, label=label, fail=fail), missing={},
        verdicts=[dict(claim_id="double", verdict="reproduced", shown="T1", reason="")], tests=[test], records={},
        provenance={}, evidence_key=evidence.evidence_key("toy"))
    (folder / "results.json").write_text(json.dumps(results))\
"""


def test_store_that_goes_away_loses_nothing_and_comes_back(toy: Toy) -> None:
    toy.gate.write_text("")
    batch = toy.start("batch", grid(toy, SLOW_SECOND))
    toy.wait_for(lambda: len(toy.computed()) == 2)
    before = finished(toy)
    assert len(before) == 1
    store, aside = toy.project.store, toy.root / "aside"
    store.rename(aside)
    store.write_text("no folder any more")
    toy.gate.unlink()
    _, errors = batch.communicate(timeout=200)
    assert batch.returncode == 1
    assert "cannot write" in errors
    assert "Traceback" not in errors
    store.unlink()
    aside.rename(store)
    assert finished(toy).items() >= before.items()
    resumed = toy.replicate("resume")
    assert resumed.returncode == 0, resumed.stderr
    assert sorted(toy.values().values()) == [0.5, 1.0, 1.5]


def test_scheduler_that_goes_away_is_waited_for(toy: Toy) -> None:
    toy.gate.write_text("")
    address = f"tcp://127.0.0.1:{free_port()}"
    with cluster(toy, address):
        batch = toy.start("batch", grid(toy, SLOW_SECOND), "--scheduler", address, "--resources", "GPU=1", "--json")
        toy.wait_for(lambda: len(toy.computed()) == 2)
        before = finished(toy)
        assert len(before) == 1
    toy.wait_for(lambda: not toy.processes())
    with cluster(toy, address):
        toy.wait_for(lambda: len(toy.computed()) == 3)
        toy.gate.unlink()
        text, errors = batch.communicate(timeout=200)
    assert batch.returncode == 0, errors
    events = [json.loads(line) for line in text.splitlines()]
    assert any("went away" in event.get("text", "") for event in events)
    assert events[-1]["event"] == "finished"
    # what ended, or came as far as its records, while its scheduler went away is asked for again, and is there already
    assert sum(events[-1].get(how, 0) for how in ("computed", "re-evaluated", "reused")) == 3
    assert finished(toy).items() >= before.items()
    assert sorted(toy.values().values()) == [0.5, 1.0, 1.5]
    # a run that needs a GPU is planned for one, whatever this machine has
    provenance = [json.loads(path.read_text()) for path in toy.project.store.glob("toy/*/provenance.json")]
    assert {each["ingredients"]["device"] for each in provenance} == {"cuda"}


def test_scheduler_that_never_was_is_an_error_for_people(toy: Toy) -> None:
    from replication.runs.cluster import connect
    from replication.runs.errors import ReplicationError

    with (
        pytest.raises(ReplicationError, match=r"no scheduler answers at tcp://127\.0\.0\.1:9"),
        connect("tcp://127.0.0.1:9", answer=1.0),
    ):
        pass


def test_interrupt_stops_what_a_cluster_elsewhere_has_begun(toy: Toy) -> None:
    toy.gate.write_text("")
    runs = "runs: [{notebook: toy, parameters: {label: slow}, grid: {seeds: 1..3}}]"
    with cluster(toy) as address:
        batch = toy.start("batch", grid(toy, runs), "--scheduler", address)
        toy.wait_for(toy.computed)
        batch.send_signal(signal.SIGINT)
        _, errors = batch.communicate(timeout=100)
        assert batch.returncode == 130
        assert "0 of 3 runs are finished and kept; `replicate resume " in errors
        toy.wait_for(lambda: not toy.processes())
        assert len(toy.computed()) == 1
