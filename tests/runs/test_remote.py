from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from toys import Toy

from replication import evidence
from replication.runs.errors import RefusedError, ReplicationError
from replication.runs.profiles import Project
from replication.runs.remote import Remote, local_folder
from replication.runs.store import Run, RunStore


def run_folder(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def test_finished_run_goes_there_and_comes_back_whole(tmp_path: Path) -> None:
    remote = Remote((tmp_path / "shared").as_uri())
    files = {"results__json": "{}", "notebook__ipynb": "page", "log__txt": "said", "provenance__json": "[]"}
    here = run_folder(tmp_path / "here", **files, work="never copied")
    assert remote.finished() == set()
    remote.push(here, "toy/0a")
    assert remote.finished() == {"toy/0a"}
    there = tmp_path / "there"
    assert remote.pull(there, "toy/0a")
    assert sorted(path.name for path in there.iterdir()) == sorted(name.replace("__", ".") for name in files)
    assert (there / "notebook.ipynb").read_text() == "page"


def test_results_of_others_are_taken_unless_todays_are_here(tmp_path: Path) -> None:
    project = dataclasses.replace(Project.find(), shared=(tmp_path / "shared").as_uri(), store=tmp_path / "here")
    store, run, key = RunStore(project), Run("toy", "smoke", {}, "uba", "0a", {}), evidence.evidence_key("uba")
    theirs = run_folder(tmp_path / "theirs", results__json=json.dumps({"evidence_key": key, "whose": "theirs"}))
    Remote(project.shared).push(theirs, run.name)
    mine = run_folder(store.folder(run)) / "results.json"
    for before, whose in (("old", "theirs"), (key, "mine")):
        mine.write_text(json.dumps({"evidence_key": before, "whose": "mine"}))
        store.pull(run)
        assert (store.current(run) or {})["whose"] == whose


def test_failed_and_half_copied_runs_are_not_finished_there(tmp_path: Path) -> None:
    remote = Remote((tmp_path / "shared").as_uri())
    failed = run_folder(tmp_path / "failed", failed__json="{}", notebook__failed__ipynb="page")
    remote.push(failed, "toy/0b")
    half = run_folder(tmp_path / "shared" / "toy" / "0c", notebook__ipynb="page")
    assert half.is_dir()
    assert remote.finished() == set()
    assert not remote.pull(tmp_path / "x", "toy/0b")
    assert not remote.pull(tmp_path / "x", "toy/0c")
    assert not (tmp_path / "x").exists()
    assert (tmp_path / "shared" / "toy" / "0b" / "failed.json").is_file()


def test_results_are_copied_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is killed in between leaves a run that is not finished, not one that lacks its page."""
    remote = Remote((tmp_path / "shared").as_uri())
    here = run_folder(tmp_path / "here", results__json="{}", notebook__ipynb="page", log__txt="said")
    moved = []
    monkeypatch.setattr(remote._files, "mv", lambda source, target: moved.append(Path(target).name))
    remote.push(here, "toy/0a")
    assert moved[-1] == "results.json"
    assert len(moved) == 3


def test_address_that_cannot_be_opened_or_written_is_an_error_for_people(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"REPLICATION_RUNS is nowhere://x, which cannot be opened"):
        Remote("nowhere://x")
    (tmp_path / "file").write_text("")
    here = run_folder(tmp_path / "here", results__json="{}")
    with pytest.raises(ReplicationError, match="cannot write file:"):
        Remote((tmp_path / "file" / "runs").as_uri()).push(here, "toy/0a")


def test_address_that_cannot_be_read_is_an_error_for_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("no credentials")  # a file system's own error

    remote = Remote((tmp_path / "shared").as_uri())
    for name in ("glob", "exists"):
        monkeypatch.setattr(remote._files, name, refuse)
    for ask in (remote.finished, lambda: remote.pull(tmp_path / "here", "toy/0a")):
        with pytest.raises(ReplicationError, match=r"cannot read file:.*RuntimeError: no credentials"):
            ask()


def test_address_makes_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPLICATION_RUNS", "s3://bucket/runs")
    project = Project.find()
    assert project.shared == "s3://bucket/runs"
    assert project.store == local_folder("s3://bucket/runs") != local_folder("s3://bucket/other")


@pytest.mark.slow
def test_two_machines_share_their_runs(toy: Toy) -> None:
    """Two homes are two machines: the second finds what the first computed, and reads it."""
    address = (toy.root / "shared").as_uri()
    for number, status in enumerate(("computed", "reused")):
        home = {"XDG_CACHE_HOME": str(toy.root / f"home{number}"), "REPLICATION_RUNS": address}
        done = toy.replicate("run", "toy", **home)
        assert done.returncode == 0, done.stderr
        assert f" {status} (" in done.stdout
    assert len(toy.computed()) == 1
    pages = [*toy.root.glob("home*/**/notebook.ipynb"), *toy.root.glob("shared/**/notebook.ipynb")]
    assert len(pages) == 3
    assert len({page.read_bytes() for page in pages}) == 1
    (results,) = toy.root.glob("shared/toy/*/results.json")
    assert json.loads(results.read_text())["verdicts"]
