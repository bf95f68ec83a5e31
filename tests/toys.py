"""A tiny project in a temporary folder, with the real runner over a toy paper."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import psutil
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import replication
from replication.runs.profiles import Project
from replication.runs.store import Run, RunStore, Spec

REAL = Path(replication.__file__).parent

ANSWER = "from replication import evidence\n\nevidence.page()"

PARAMETERS = """\
profile: str = "smoke"  # which set of parameters
seeds: int = 3  # replicates
peak: float = 0.5  # largest learning rate
budgets: list[int] = [10, 20]  # steps
label: str = "plain"  # a name
fail: bool = False  # raise in the middle\
"""

CONFIG = """\
from replication import evidence

class Config(evidence.Settings):
    seeds: int = 3
    peak: float = 0.5
    budgets: list[int] = [10, 20]
    label: str = "plain"
    fail: bool = False
"""
"""The start of an experiment's module: the settings that `PARAMETERS` are of."""

RUN = """\
import json, os, pathlib, time
folder = pathlib.Path(os.environ["REPLICATION_RUN_DIR"]) if "REPLICATION_RUN_DIR" in os.environ else None
run_id = os.environ.get("REPLICATION_RUN_ID")
stored = pathlib.Path(os.environ["REPLICATION_RUNS"]) / "parts" / f"{run_id}.json" if folder else None
fresh = float(os.environ.get("REPLICATION_FRESH", 0))
reused = bool(stored) and stored.exists() and stored.stat().st_mtime > fresh
if reused:
    value = json.loads(stored.read_text())["value"]
else:
    if "TOY_LOG" in os.environ:
        with open(os.environ["TOY_LOG"], "a") as log:
            log.write(f"{label} {peak} {seeds}\\n")
    while label == "slow" and pathlib.Path(os.environ.get("TOY_GATE", "")).is_file():
        time.sleep(0.05)
    value = seeds * peak
    if stored:
        stored.parent.mkdir(exist_ok=True)
        stored.with_suffix(".tmp").write_text(json.dumps({"run_id": run_id, "value": value}))
        stored.with_suffix(".tmp").replace(stored)
if fail:
    raise ValueError("asked to fail")
print(f"value {value:.3f}")\
"""

FINISH = """\
from replication import evidence
if folder:
    def outcome(**told):
        return dict(dict(estimate=value, low=value, high=value, n=seeds, visible=None, reason="", blind=[],
                         comparisons=[]), **told)
    results = dict(schema=2, notebook="toy", paper="toy", profile=profile, run_id=run_id, parameters=dict(
        profile=profile, seeds=seeds, peak=peak, budgets=budgets, label=label, fail=fail),
        missing={"toys": "get_toys() fetches them"} if label == "without data" else {},
        verdicts=[dict(claim_id="double", verdict="reproduced", shown="T1", reason="")],
        tests=[outcome(test_id="T1", role="primary", claim="double", answer="yes"),
               outcome(test_id="K1", role="check", claim="", answer="yes")],
        records={}, provenance={"device": "cpu", "started": time.time(), "wall_seconds": time.perf_counter(),
                                "parts": {"all": [1.0, 1.0, "A"]}, "reused": int(reused)},
        evidence_key=evidence.evidence_key("toy"))
    (folder / "results.tmp").write_text(json.dumps(results))
    (folder / "results.tmp").replace(folder / "results.json")
print("finished")\
"""

# what the runner and the toy notebook need of `replication.evidence`, without a second of imports
EVIDENCE = """
import hashlib, pathlib
VERDICTS = ("reproduced", "partly reproduced", "not reproduced", "inconclusive", "not attempted")
HERE = pathlib.Path(__file__).parent.parent
def evidence_key(paper):
    return hashlib.sha256((HERE / paper / "claims.yaml").read_bytes()).hexdigest()
def page():
    pass
def summary_sentence(words):
    listed = list(words)
    return ", ".join(f"{listed.count(w)} {w}" for w in VERDICTS if w in listed) + "."
class Outcome(dict):
    from_dict = classmethod(lambda cls, stored: cls(stored))
"""

TABLES = """
def apart(outcomes):
    checks = [one["answer"] == "yes" for one in outcomes if one["role"] == "check"]
    return f"{sum(checks)} of {len(checks)} checks hold"
"""

CLAIMS = """
paper: toy
title: A toy
citation: Nobody (2024)
quantities:
  value: {label: value, unit: points}
  error: {label: error}
  seconds: {label: time of a step, unit: s, volatile: true}
claims:
  - id: double
    says: The value is seeds times peak.
    source: nowhere
    read: recollected
    tests:
      - id: T1
        asks: Is the value 1.5?
        notebook: toy
        quantity: value
        comparison: value
        paper_value: 1.5
        tolerance: 0.1
        tolerance_reason: a toy
        effect: 1.5
        spread: 0.01
        min_seeds: 3
        at: [smoke]
checks:
  - id: K1
    asks: Is there no error?
    notebook: toy
    quantity: error
    comparison: identity
    tolerance: 1.0e-9
    tolerance_reason: rounding
    at: [smoke, standard]
"""


@dataclass(frozen=True)
class Toy:
    """A project with the notebook `toy`, and ways to use it as a person would."""

    root: Path

    @property
    def package(self) -> Path:
        return self.root / "replication"

    @property
    def project(self) -> Project:
        return Project(self.root, self.package, self.root / "runs")

    @property
    def store(self) -> RunStore:
        return RunStore(self.project)

    @property
    def log(self) -> Path:
        """Has one line for each time that the notebook computed."""
        return self.root / "toy.log"

    @property
    def gate(self) -> Path:
        """While this file is there, a run with `label: slow` does not come to its end."""
        return self.root / "gate"

    def computed(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def environment(self, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("REPLICATION_")}
        return kept | {
            "PYTHONPATH": str(self.root),
            "TOY_LOG": str(self.log),
            "TOY_GATE": str(self.gate),
            "COLUMNS": "200",
            **more,
        }

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "replication", *arguments]

    def replicate(self, *arguments: str, timeout: float = 300.0, **more: str) -> subprocess.CompletedProcess[str]:
        """Run the command line in a process of its own, in a folder that has nothing to do with the project."""
        return subprocess.run(
            self.command(*arguments),
            env=self.environment(**more),
            cwd="/",
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        """Start the command line and go on."""
        return subprocess.Popen(
            self.command(*arguments),
            env=self.environment(**more),
            cwd="/",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # a shell's background job ignores Ctrl-C, and so would all that it starts
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def wait_for(self, happened: Callable[[], object]) -> None:
        """Wait until something is so; give up after two minutes."""
        end = time.monotonic() + 120
        while not happened():
            assert time.monotonic() < end, "it did not happen within two minutes"
            time.sleep(0.05)

    def processes(self) -> list[int]:
        """Ids of the processes that work for a run of this project."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                ours = process.environ().get("REPLICATION_RUN_DIR", "").startswith(str(self.root))
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process.pid)
        return found

    def values(self, store: Path | None = None) -> dict[str, float]:
        """The estimate in each finished run, by run id."""
        files = (store or self.project.store).glob("*/*/results.json")
        return {path.parent.name: json.loads(path.read_text())["tests"][0]["estimate"] for path in files}

    def add(self, name: str, cells: Sequence[Any], **about: Any) -> None:
        write_notebook(self.root / "notebooks" / f"{name}.ipynb", cells, **about)

    def profile(self, profile: str, notebook: str, text: str) -> None:
        path = self.root / "notebooks" / "profiles" / profile / f"{notebook}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def write_notebook(path: Path, cells: Sequence[Any], **about: Any) -> None:
    node = new_notebook(cells=list(cells))
    node.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    node.metadata["replication"] = about
    for number, cell in enumerate(node.cells):
        cell["id"] = f"cell-{number}"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(node, path)


def toy_cells(parameters: str = PARAMETERS, run: str = RUN, finish: str = FINISH) -> list[Any]:
    return [
        new_markdown_cell("# A toy"),
        new_code_cell(ANSWER, metadata={"tags": ["answer", "nbval-ignore-output"]}),
        new_code_cell(parameters, metadata={"tags": ["parameters"]}),
        new_code_cell("import sys", metadata={"tags": ["nbval-ignore-output"]}),
        new_code_cell(run),
        new_code_cell(finish),
    ]


def build(folder: Path, *, real_evidence: bool = False, files: Mapping[str, str] | None = None) -> Toy:
    """Make a toy project whose package has the real runner, and the real evidence room or a light one."""
    toy = Toy(folder / "project")
    (toy.root / "notebooks").mkdir(parents=True)
    (toy.root / "pyproject.toml").write_text("")
    (toy.root / "README.md").write_text("# Toy\n\n<!-- verdicts:begin -->\n<!-- verdicts:end -->\n\nEnd.\n")
    for room in ("runs", "cli"):
        shutil.copytree(REAL / room, toy.package / room, ignore=shutil.ignore_patterns("__pycache__"))
    for module in REAL.glob("*.py"):
        shutil.copy(module, toy.package)
    toys = {
        "toy/__init__.py": "",
        "toy/experiment.py": "import yaml\n",
        "toy/claims.yaml": CLAIMS,
        "training/__init__.py": "",
        "data/__init__.py": "",
        "compat.py": "",
    }
    if real_evidence:
        (toy.package / "evidence").symlink_to(REAL / "evidence")
    else:
        toys |= {"evidence/__init__.py": EVIDENCE, "evidence/tables.py": TABLES}
    for name, text in {**toys, **(files or {})}.items():
        path = toy.package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    toy.add("toy", toy_cells(), paper="toy")
    toy.profile("smoke", "toy", "profile: smoke\nseeds: 3\n")
    toy.profile("standard", "toy", "profile: standard\nseeds: 5\nbudgets: [10, 20, 40]\n")
    return toy


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextlib.contextmanager
def cluster(toy: Toy, address: str = "", *, workers: int = 1, **more: str) -> Iterator[str]:
    """A scheduler and workers that offer a GPU each, as a person starts them; the scheduler's address."""
    address = address or f"tcp://127.0.0.1:{free_port()}"
    host, port = address.removeprefix("tcp://").split(":")
    several = ["--nworkers", str(workers), "--nthreads", "1", "--resources", "GPU=1"]
    commands = [
        ["scheduler", "--host", host, "--port", port, "--no-dashboard"],
        ["worker", address, *several, "--no-dashboard", "--death-timeout", "60"],
    ]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "dask", *command],
            env=toy.environment(**more),
            cwd=toy.root,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for command in commands
    ]
    try:
        yield address
    finally:
        for process in reversed(processes):
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in psutil.Process(process.pid).children(recursive=True):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        child.kill()
            process.kill()
            process.wait()


def leave(
    toy: Toy,
    profile: str = "smoke",
    *,
    value: float | Sequence[float] = 1.5,
    error: float = 1e-12,
    seconds: float = 2.0,
    started: str = "now",
    missing: Mapping[str, str] | None = None,
    provenance: Mapping[str, Any] | None = None,
    figure: str = "",
    **overrides: Any,
) -> Run:
    """Leave a finished run in the store as the notebook would, with the real evidence room and nothing executed.

    Parameters
    ----------
    value, error, seconds
        What was measured: one value, or one for each seed; the last is volatile.
    figure
        A picture for the page, base64.
    """
    from replication import evidence
    from replication.evidence.tables import answer_text, outcomes_table, top_table

    run = toy.store.plan(Spec("toy", profile, overrides))
    work = toy.store.open_work(run)
    values = list(value) if isinstance(value, Sequence) else [value] * 3
    rows = [{"quantity": "value", "seed": seed, "value": number} for seed, number in enumerate(values)]
    records = evidence.tidy([*rows, {"quantity": "error", "value": error}])
    claims = evidence.load_claims("toy")
    outcomes = evidence.evaluate(records, claims, "toy", profile)
    decided = evidence.verdicts(claims, outcomes, "toy", profile)
    machine = {
        "started": started,
        "wall_seconds": seconds,
        "volatile": evidence.dump_records(evidence.tidy([{"quantity": "seconds", "value": seconds}])),
    }
    results = {
        "schema": 2,
        "notebook": "toy",
        "paper": "toy",
        "profile": profile,
        "run_id": run.run_id,
        "parameters": run.parameters,
        "missing": dict(missing or {}),
        "verdicts": [verdict.to_dict() for verdict in decided],
        "tests": [outcome.to_dict() for outcome in outcomes],
        "records": evidence.dump_records(records),
        "provenance": {"device": "cpu", "cpu": {"model": "A"}, "packages": {"numpy": "2.0"}}
        | dict(provenance or {})
        | machine,
        "evidence_key": evidence.evidence_key("toy"),
    }
    node = nbformat.read(toy.project.notebook_file("toy"), as_version=4)
    node.cells[1]["outputs"] = [
        new_output("display_data", {"text/markdown": f"**Answer.** {answer_text(decided, outcomes, claims, profile)}"}),
        display(top_table(decided, outcomes, claims, profile)),
    ]
    node.cells[4]["outputs"] = [display(outcomes_table(outcomes, claims, profile))]
    if figure:
        node.cells[4]["outputs"].append(new_output("display_data", {"image/png": figure}))
    nbformat.write(node, work / "notebook.ipynb")
    toy.store.finish(run, results)
    return run


def display(shown: Any) -> Any:
    """The output of a cell that displays a table or a board."""
    data, metadata = shown._repr_mimebundle_()
    return new_output("display_data", data=data, metadata=metadata)
