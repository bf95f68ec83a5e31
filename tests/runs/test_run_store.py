from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from toys import Toy, toy_cells

from replication import data, evidence, provenance, sources
from replication.atomic import write_json
from replication.runs import notebook, publish, store
from replication.runs.batch import Batch
from replication.runs.errors import RefusedError, ReplicationError
from replication.runs.profiles import Project
from replication.runs.store import Run, RunStore, Spec


def plan(toy: Toy, profile: str = "smoke", **overrides: Any) -> Run:
    return toy.store.plan(Spec("toy", profile, overrides))


def edit(path: Path, change: Any) -> None:
    node = json.loads(path.read_text())
    change(node)
    path.write_text(json.dumps(node))


def test_same_request_same_id(toy: Toy) -> None:
    run = plan(toy)
    assert plan(toy) == run
    assert plan(toy, seeds=3, peak=0.5).run_id == run.run_id
    assert len(run.run_id) == 16


@pytest.mark.parametrize("overrides", [{"seeds": 4}, {"budgets": [20, 10]}, {"label": "other"}])
def test_another_parameter_is_another_run(toy: Toy, overrides: dict[str, Any]) -> None:
    assert plan(toy, **overrides).run_id != plan(toy).run_id


def test_outputs_counts_metadata_and_injected_cells_are_no_source(toy: Toy) -> None:
    run = plan(toy)

    def execute(node: Any) -> None:
        node["cells"][1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["**Answer.**"]}]
        node["cells"][4]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["1.5\n"]}]
        node["cells"][4]["execution_count"] = 3
        node["cells"].insert(
            3,
            {
                **node["cells"][3],
                "id": "injected",
                "metadata": {"tags": ["injected-parameters"]},
                "source": "seeds = 9",
            },
        )
        node["metadata"]["papermill"] = {"duration": 1.0}

    edit(toy.project.notebook_file("toy"), execute)
    assert plan(toy).run_id == run.run_id


@pytest.mark.parametrize("cell", [0, 4])
def test_code_and_prose_are_source(toy: Toy, cell: int) -> None:
    run = plan(toy)
    edit(toy.project.notebook_file("toy"), lambda node: node["cells"][cell]["source"].append("\nmore"))
    assert plan(toy).run_id != run.run_id


@pytest.mark.parametrize("name", ["toy/experiment.py", "toy/table.csv", "training/new.py", "data/__init__.py"])
def test_sources_of_the_room_and_what_it_imports_decide_the_id(toy: Toy, name: str) -> None:
    (toy.package / "toy" / "figures.py").write_text("from replication import data\nimport replication.training.new\n")
    (toy.package / "training" / "new.py").touch()
    run = plan(toy)
    (toy.package / name).write_text("x = 1\n")
    assert plan(toy).run_id != run.run_id


@pytest.mark.parametrize(
    "name",
    [
        *("toy/claims.yaml", "evidence/__init__.py", "runs/store.py", "toy/__pycache__/experiment.pyc", "toy/.hidden"),
        "training/other.py",
    ],
)
def test_claims_evidence_runner_caches_and_what_nothing_imports_do_not(toy: Toy, name: str) -> None:
    run = plan(toy)
    path = toy.package / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("x = 1\n")
    assert plan(toy).run_id == run.run_id


def test_versions_of_imported_distributions_decide_the_id(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    (toy.package / "toy" / "experiment.py").write_text(
        "def f():\n    import yaml.nodes\n    from numpy import linalg\n    import os\n"
    )
    run = plan(toy)
    assert set(run.ingredients["versions"]) == {"PyYAML", "numpy"}
    monkeypatch.setattr(sources.importlib.metadata, "version", lambda name: "0.0")
    assert plan(toy).run_id != run.run_id


@pytest.mark.parametrize("name", sources.PINNED)
def test_numerics_that_the_shell_asks_for_decide_the_id(toy: Toy, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    provenance.pin_numerics()
    run = plan(toy)
    monkeypatch.setenv(name, "4")
    assert plan(toy).ingredients["numerics"] == {**run.ingredients["numerics"], name: "4"}
    assert plan(toy).run_id != run.run_id
    # what the notebooks pin themselves is no other setting
    monkeypatch.delenv(name)
    assert plan(toy).run_id == run.run_id or name in sources.INSTRUCTIONS


def test_device_decides_the_id(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPLICATION_DEVICE", "cpu")
    run = plan(toy)
    monkeypatch.setenv("REPLICATION_DEVICE", "cuda:1")
    assert plan(toy).ingredients["device"] == "cuda"
    assert plan(toy).run_id != run.run_id


def test_a_text_that_is_edited_is_another_run(tmp_path: Path) -> None:
    text = tmp_path / "corpus.jsonl"

    def run_id() -> str:
        text.write_bytes(b'{"text": "one"}\n' if not text.exists() else b'{"text": "two"}\n')
        return RunStore(Project.find()).plan(Spec("12_uba_language", "smoke", {"text": str(text)})).run_id

    assert run_id() != run_id()


def test_the_runs_of_a_batch_read_their_data_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reads, digits = [], data.digits
    monkeypatch.setattr(data, "digits", lambda: reads.append(1) or digits())
    Batch(RunStore(Project.find()), [Spec("11_uba_vision", "smoke", {"seeds": seeds}) for seeds in (20, 21, 22)])
    assert len(reads) == 1
    data.checksum("digits")
    assert len(reads) == 2


def test_data_that_nobody_reads_decide_no_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPLICATION_CACHE", str(tmp_path))
    plans = []
    for found in (tmp_path, tmp_path / "cifar-10-batches-py"):
        found.mkdir(exist_ok=True)
        monkeypatch.setenv("REPLICATION_DATA", str(tmp_path))
        plans.append(RunStore(Project.find()).plan(Spec("11_uba_vision", "smoke", {})))
    assert plans[0] == plans[1]
    assert set(plans[0].ingredients["data"]) == {"digits"}


def test_data_that_are_not_here_are_told_by_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = {"text": str(tmp_path / "nowhere.jsonl")}
    run = RunStore(Project.find()).plan(Spec("12_uba_language", "smoke", nowhere))
    assert "DataNotFound: text: there is no file" in run.ingredients["parts"]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RefusedError, match=f"from here that is {tmp_path}/mine.jsonl"):
        RunStore(Project.find()).plan(Spec("12_uba_language", "smoke", {"text": "mine.jsonl"}))


def test_paper_without_a_room_is_refused(toy: Toy) -> None:
    toy.add("toy", toy_cells(), paper="tony")
    with pytest.raises(RefusedError, match="no folder replication/tony"):
        plan(toy)


def leave(toy: Toy, run: Run, name: str, content: Any) -> Path:
    path = toy.store.folder(run) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_finished_only_with_whole_results_of_todays_evidence(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "evidence_key", lambda paper: f"key of {paper}")
    run = plan(toy)
    states = [toy.store.state(run)]
    leave(toy, run, "provenance.json", {})
    states.append(toy.store.state(run))
    leave(toy, run, "results.json", '{"schema": 1, "verd')
    states.append(toy.store.state(run))
    leave(toy, run, "results.json", {"evidence_key": "an older one"})
    states.append(toy.store.state(run))
    assert toy.store.current(run) is None
    leave(toy, run, "results.json", {"evidence_key": "key of toy"})
    states.append(toy.store.state(run))
    assert toy.store.current(run) is not None
    assert states == ["absent", "unfinished", "unfinished", "stale", "finished"]


def test_work_begins_empty(toy: Toy) -> None:
    run = plan(toy)
    leave(toy, run, "work/notebook.ipynb", "half")
    assert list(toy.store.open_work(run).iterdir()) == []


def test_what_the_machine_told_is_no_part_of_the_results(toy: Toy) -> None:
    run = plan(toy)
    told = {
        "started": "now",
        "wall_seconds": 2.0,
        "parts": {"all": [1.0, 1.0, "A"]},
        "reused": 0,
        "volatile": {"value": [1.0]},
    }
    results = {"verdicts": [], "provenance": {"cpu": {"model": "A"}, **told}}
    toy.store.open_work(run)
    toy.store.finish(run, results)
    assert toy.store.results(run) == {"verdicts": [], "provenance": {"cpu": {"model": "A"}}}
    assert toy.store.machine(run) == {**told, "processor": "A"}


def test_results_come_last_when_a_run_is_finished(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    run = plan(toy)
    toy.store.open_work(run)
    leave(toy, run, "work/notebook.ipynb", {})
    real, written = store.write_json, []

    def write(path: Path, value: Any) -> None:
        written.append((path.name, {p.name for p in toy.store.folder(run).glob("*.*")}))
        real(path, value)

    monkeypatch.setattr(store, "write_json", write)
    toy.store.finish(run, {"verdicts": []})
    assert written[-1] == ("results.json", {"provenance.json", "notebook.ipynb"})
    assert not (toy.store.folder(run) / "work").exists()


def test_a_lock_has_one_holder(toy: Toy) -> None:
    run = plan(toy)
    with toy.store.lock(run), pytest.raises(TimeoutError):
        RunStore(toy.project).lock(run).acquire(timeout=0)
    RunStore(toy.project).lock(run).acquire(timeout=0)


def test_run_is_found_by_the_start_of_its_id(toy: Toy) -> None:
    runs = [plan(toy), plan(toy, seeds=9)]
    for run in runs:
        toy.store.open_work(run)
    assert toy.store.find(runs[1].run_id[:6]) == runs[1]
    assert toy.store.find(runs[0].name) == runs[0]
    with pytest.raises(RefusedError, match="no runs"):
        toy.store.find("zzz")


def test_store_that_cannot_be_written_is_said_before_anything_runs(toy: Toy) -> None:
    (toy.root / "runs").write_text("a file")
    with pytest.raises(ReplicationError, match="set REPLICATION_RUNS"):
        toy.store.prepare()


def test_a_run_is_found_by_its_notebook_and_id(toy: Toy) -> None:
    run = plan(toy)
    toy.store.open_work(run)
    for name in (run.run_id, f"toy/{run.run_id[:3]}", str(toy.store.folder(run))):
        assert toy.store.find(name) == run
    for name in (f"other/{run.run_id}", f"hotfix/{run.run_id[:2]}"):
        with pytest.raises(RefusedError, match="no runs have an id"):
            toy.store.find(name)


def test_files_that_are_being_written_are_no_notebooks_results_or_batches(toy: Toy) -> None:
    batch = Batch(toy.store, [Spec("toy", "smoke", {})])
    batch.remember()
    half = f".{'0af3' * 8}"
    for folder, name in (("notebooks", "toy.ipynb"), ("results/smoke", "toy.json"), ("runs/batches", "a.json")):
        path = toy.root / folder / f"{half}.{name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{")
    assert not [name for name in toy.project.notebooks() if name.startswith(".")]
    assert not list(publish.committed(toy.project))
    assert Batch.executed(toy.store)[0] == batch.name
    # a tag of git is no batch's name
    with pytest.raises(RefusedError, match="there is no one batch"):
        Batch.executed(toy.store, f"v/{batch.name}")


def test_progress_counts_what_was_there_unless_all_is_computed_anew(tmp_path: Path) -> None:
    keys = {name: tmp_path / f"{name}.json" for name in "abc"}
    write_json(tmp_path / "parts.json", {"folder": str(tmp_path), "parts": [[name, name] for name in "abc"]})
    for name in "ab":
        keys[name].write_text("{}")
        os.utime(keys[name], (1, 1))
    (tmp_path / "source.ipynb").write_text("{}")
    keys["c"].write_text("{}")
    for force, done in ((False, 3), (True, 1)):
        told: list[dict[str, Any]] = []
        finished = threading.Event()
        threading.Timer(2, finished.set).start()
        notebook._tell_progress(tmp_path, force, finished, lambda *, said=told, **event: said.append(event))
        assert [(event["part"], event["done"], event["total"]) for event in told] == [("c", done, 3)]
        assert (told[0]["left"] > 0) is force
