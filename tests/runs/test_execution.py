"""Whole runs, as a person starts them: each test that executes a notebook takes some seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from toys import FINISH, RUN, Toy, toy_cells

from replication.atomic import write_json
from replication.runs import notebook
from replication.runs.notebook import Options, execute
from replication.runs.store import Spec
from replication.sources import digest


@pytest.mark.slow  # kernels start
def test_life_of_a_run(toy: Toy) -> None:
    first = toy.replicate("run", "toy")
    assert first.returncode == 0, first.stderr
    assert "computed" in first.stdout
    assert "1 reproduced. 1 of 1 checks hold." in first.stdout
    (folder,) = (toy.root / "runs" / "toy").iterdir()
    names = {"log.txt", "notebook.ipynb", "provenance.json", "results.json"}
    assert {path.name for path in folder.iterdir()} == names
    text = (folder / "notebook.ipynb").read_text()
    node = json.loads(text)
    assert str(toy.root) not in text
    assert "papermill" not in text
    assert node["metadata"]["kernelspec"]["name"] == "python3"
    assert node["metadata"]["language_info"] == {"name": "python"}
    code = [cell for cell in node["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == [1, 2, 3, 4, 5]
    assert code[3]["outputs"][0]["text"] == ["value 1.500\n"]

    # what two equal executions tell differently is kept apart
    machine = toy.store.machine(next(toy.store.runs()))
    assert machine.keys() == {"started", "wall_seconds", "parts", "reused", "processor"}
    assert json.loads((folder / "results.json").read_text())["provenance"] == {"device": "cpu"}

    again = toy.replicate("run", "toy")
    assert "reused" in again.stdout
    assert len(toy.computed()) == 1

    # other claims: the verdicts are computed again, from the parts that are there
    key = json.loads((folder / "results.json").read_text())["evidence_key"]
    with (toy.package / "toy" / "claims.yaml").open("a") as file:
        file.write("# a change\n")
    assert "re-evaluated" in toy.replicate("run", "toy").stdout
    assert len(toy.computed()) == 1
    assert json.loads((folder / "results.json").read_text())["evidence_key"] != key
    # what the parts took is still told
    later = toy.store.machine(next(toy.store.runs()))
    assert (later["parts"], machine["reused"], later["reused"]) == (machine["parts"], 0, 1)

    assert "computed" in toy.replicate("run", "toy", "--force").stdout
    assert len(toy.computed()) == 2
    assert toy.store.machine(next(toy.store.runs())) != machine


@pytest.mark.slow  # kernels start
def test_run_without_its_data_says_what_brings_them_and_is_not_published(toy: Toy) -> None:
    done = toy.replicate("run", "toy", "-p", "label", "without data")
    assert done.returncode == 3
    assert done.stdout.splitlines()[1].endswith("1 of 1 checks hold. Data missing: toys: get_toys() fetches them")
    assert "data missing: toy/" in done.stderr
    grid = toy.root / "grid.yaml"
    grid.write_text("runs: [{notebook: toy, grid: {label: [without data, plain]}}]")
    again = toy.replicate("batch", str(grid))
    assert again.returncode == 3
    assert "2 of 2 runs are finished, 1 of them without some of their data (batch " in again.stdout
    grid.write_text(
        "runs: [{notebook: toy, groups: {a: {label: without data, fail: false}, b: {label: bad, fail: true}}}]"
    )
    assert toy.replicate("batch", str(grid)).returncode == 1
    # as the profile has it, so that it could be published
    toy.profile("smoke", "toy", "profile: smoke\nseeds: 3\nlabel: without data\n")
    before = toy.project.notebook_file("toy").read_bytes()
    done = toy.replicate("run", "toy", "--publish")
    assert done.returncode == 3
    assert not toy.project.results.exists()
    assert toy.project.notebook_file("toy").read_bytes() == before


@pytest.mark.slow  # kernels start
def test_failure_stops_nothing_else_and_is_kept_and_listed(toy: Toy) -> None:
    grid = toy.root / "grid.yaml"
    grid.write_text("runs: [{notebook: toy, groups: {a: {label: bad, fail: true}, b: {label: good, fail: false}}}]")
    done = toy.replicate("batch", str(grid))
    assert done.returncode == 1
    assert "1 of 2 runs are finished" in done.stdout
    assert "raised ValueError: asked to fail (see " in done.stderr
    bad = next((toy.root / "runs" / "toy").glob("*/failed.json"))
    kept = json.loads((bad.parent / "notebook.failed.ipynb").read_text())
    assert not (bad.parent / "results.json").exists()
    assert any(out["output_type"] == "error" for cell in kept["cells"] for out in cell.get("outputs", []))
    assert "asked to fail" in (bad.parent / "log.txt").read_text()
    assert list(toy.values().values()) == [1.5]

    listed = toy.replicate("list", "toy").stdout
    assert "failed" in listed
    assert "1 reproduced" in listed


def test_failed_run_never_replaces_a_good_notebook(toy: Toy) -> None:
    toy.add("toy", toy_cells(finish="raise SystemError('no')"), paper="toy")
    path, readme = toy.project.notebook_file("toy"), toy.root / "README.md"
    before = path.read_bytes(), readme.read_bytes()
    done = toy.replicate("run", "toy", "--publish")
    assert done.returncode == 1
    assert "raised SystemError: no" in done.stderr
    assert (path.read_bytes(), readme.read_bytes()) == before
    assert not toy.project.results.exists()


def test_notebook_that_forgets_to_finish_is_told_so(toy: Toy) -> None:
    toy.add("toy", toy_cells(finish="pass"), paper="toy")
    done = toy.replicate("run", "toy")
    assert done.returncode == 1
    assert "its last cell must call `run.finish" in done.stderr


def test_kernel_tells_how_far_it_is(toy: Toy) -> None:
    progress = '{"done": 3, "total": 9, "what": "steps"}'
    tell = f"import time\n(folder / 'progress.json').write_text('{progress}')\ntime.sleep(2)\n"
    toy.add("toy", toy_cells(finish=tell + FINISH), paper="toy")
    code = (
        "from replication.runs.notebook import Options, execute\n"
        "from replication.runs.profiles import Project\n"
        "from replication.runs.store import RunStore, Spec\n"
        "project = Project.find()\n"
        "run = RunStore(project).plan(Spec('toy', 'smoke', {}))\n"
        "print(execute(run, project, Options(), lambda run, event: print(event)).status)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=toy.environment(), cwd="/", capture_output=True, text=True, timeout=120
    )
    lines = done.stdout.splitlines()
    assert lines.count("{'done': 3, 'total': 9, 'what': 'steps'}") == 1
    assert lines[0].startswith("{'started': ")
    assert lines[1] == "{'cell': 1, 'cells': 6}"
    assert lines[-1] == "computed"


@pytest.mark.slow  # kernels start
def test_time_out_stops_a_run_and_says_so(toy: Toy) -> None:
    toy.gate.write_text("")
    done = toy.replicate("run", "toy", "-p", "label", "slow", "--timeout", "4")
    assert done.returncode == 1
    assert "stopped after 4 s (--timeout)" in done.stderr
    assert toy.processes() == []
    assert list((toy.root / "runs" / "toy").glob("*/notebook.failed.ipynb"))


def test_notebook_of_no_paper_needs_no_results_and_is_never_reused(toy: Toy) -> None:
    toy.add("toy", toy_cells(finish="print('a board')"))
    for _ in range(2):
        assert "no claims" in toy.replicate("run", "toy").stdout
    (run,) = toy.store.runs()
    assert toy.store.current(run) is None


def test_normalised_twice_is_normalised_once(toy: Toy) -> None:
    node = notebook.read_notebook(toy.project.notebook_file("toy"))
    node.metadata["papermill"] = {"start_time": "now"}
    node.cells[4].metadata["execution"] = {"iopub.execute_input": "now"}
    node.cells[4].metadata["tags"] = []
    node.cells[4]["execution_count"] = 3
    notebook.normalise(node)
    once = json.dumps(node)
    assert "now" not in once
    assert "tags" not in node.cells[4].metadata
    assert node.cells[4]["execution_count"] == 3
    assert node.cells[2].metadata["tags"] == ["parameters"]
    notebook.normalise(node)
    assert json.dumps(node) == once


def test_run_planned_elsewhere_is_refused_where_something_differs(toy: Toy) -> None:
    run = toy.store.plan(Spec("toy", "smoke", {}))
    assert toy.store.differences(run) == []
    (toy.package / "toy" / "experiment.py").write_text("x = 1\n")
    toy.add("toy", toy_cells(run=f"{RUN}\nprint('more')"), paper="toy")
    outcome = execute(run, toy.project, Options(elsewhere=True))
    assert outcome.status == "failed"
    assert "differs from where the run was planned in notebook and sources and versions" in outcome.message
    assert toy.computed() == []


def test_parts_that_were_not_planned_make_no_finished_run(toy: Toy) -> None:
    planned = toy.store.plan(Spec("toy", "smoke", {}))
    run = replace(planned, experiment="replication.toy.experiments.x", ingredients={"parts": digest({"all": "a key"})})
    write_json(toy.root / "results.json", {"run_id": run.run_id, "parts": {"all": "a key"}})
    assert notebook._results(run, toy.root)["run_id"] == run.run_id
    write_json(toy.root / "results.json", {"run_id": run.run_id, "parts": {"all": "another"}})
    with pytest.raises(notebook._Failure, match="changed meanwhile"):
        notebook._results(run, toy.root)


def test_notebook_without_a_kernelspec_is_pythons(toy: Toy) -> None:
    path = toy.project.notebook_file("toy")
    page = json.loads(path.read_text())
    del page["metadata"]["kernelspec"]
    path.write_text(json.dumps(page))
    done = toy.replicate("batch")
    assert done.returncode == 0, done.stderr
    assert list(toy.values().values()) == [1.5]


ODD = """\
import json, os, pathlib, time
folder = pathlib.Path(os.environ["REPLICATION_RUN_DIR"])
for told in ([1], {"done": "3", "total": 9, "what": 1}, {"done": 1}, {"done": None, "total": {}, "what": []},
             {"done": float("nan"), "total": 2}, {"done": 1, "total": 2, "what": {"a": 1}}):
    (folder / "progress.json").write_text(json.dumps(told))
    (folder / "parts.json").write_text(json.dumps({"folder": 3, "parts": told}))
    time.sleep(0.7)
"""


@pytest.mark.slow  # kernels start
def test_whatever_a_kernel_writes_as_its_progress_harms_nothing(toy: Toy) -> None:
    toy.add("toy", toy_cells(run=f"{ODD}\n{RUN}"), paper="toy")
    done = toy.replicate("batch", "--json")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    told = [(event["done"], event["total"], event["what"]) for event in events if "done" in event]
    assert told == [(1, 2, "{'a': 1}")]
    assert "Traceback" not in done.stderr
    (folder,) = (toy.project.store / "toy").iterdir()
    assert "Traceback" not in (folder / "log.txt").read_text()


def test_kernel_that_starts_too_slowly_is_told_from_one_that_died(toy: Toy) -> None:
    slow = "import sys, time\nif any('ipykernel' in argument for argument in sys.orig_argv):\n    time.sleep(30)\n"
    (toy.root / "sitecustomize.py").write_text(slow)
    done = toy.replicate("run", "toy", "--start-timeout", "1")
    assert done.returncode == 1
    assert "the kernel did not answer within 1 s (--start-timeout)" in done.stderr
    assert "memory" not in done.stderr
