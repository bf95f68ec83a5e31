"""Differences between runs, batches, files and commits, over results that were never executed."""

from __future__ import annotations

import base64
import io
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nbformat.v4 import new_output
from PIL import Image
from toys import Toy, build, leave

from replication.runs import diff, notebook, publish
from replication.runs.batch import Batch
from replication.runs.errors import RefusedError
from replication.runs.store import Run, Spec


@pytest.fixture(autouse=True)
def _claims(claims: Path) -> None:
    """The real evidence room reads the toy paper's claims."""


def picture(changed: int = 0, size: int = 10) -> str:
    pixels = np.zeros((size, size, 3), np.uint8)
    pixels.reshape(-1, 3)[:changed] = 255
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return base64.b64encode(file.getvalue()).decode()


def finish(
    toy: Toy, value: float = 1.5, shown: str | None = None, profile: str = "smoke", numpy: str = "2.0", **overrides: Any
) -> Run:
    """Leave a finished run in the store, with one figure on its page, and one that nobody compares."""
    packages = {"packages": {"numpy": numpy}}
    run = leave(
        toy, profile, value=value, started=str(value), provenance=packages, figure=shown or picture(), **overrides
    )
    page = toy.store.folder(run) / "notebook.ipynb"
    node = notebook.read_notebook(page)
    node.cells[3]["outputs"] = [new_output("display_data", data={"image/png": picture(int(value * 10))})]
    notebook.write_notebook(page, node)
    return run


def lines(toy: Toy, a: str, b: str | None = None) -> list[str]:
    after = diff.here(toy.store) if b is None else diff.side(toy.store, b)
    return list(diff.compare(diff.side(toy.store, a), after).lines())


def test_runs_differ_in_verdicts_numbers_figures_parameters_and_versions(toy: Toy) -> None:
    a, b = finish(toy), finish(toy, 9.0, picture(7), numpy="2.1", seeds=4)
    text = lines(toy, a.run_id[:6], b.run_id[:6])
    assert text[:2] == ["toy at smoke:", "  claim double: reproduced -> not reproduced"]
    assert "  test T1: yes -> no" in text
    assert "  test T1: estimate 1.5 -> 9" in text
    assert "  figure cell-4: 7.0 % of its pixels differ" in text
    assert "  parameter seeds: 3 -> 4" in text
    assert "  packages.numpy: 2.0 -> 2.1" in text
    assert text[-1] == f"1 notebook compared, {a.name} with {b.name}: 1 differs."
    # neither the ignored cell's figure nor the time of the run is a difference
    assert not any("cell-3" in line or "started" in line for line in text)


def test_what_went_in_is_told_but_decides_nothing(toy: Toy) -> None:
    a, b = finish(toy), finish(toy, 1.5 + 1e-7, numpy="2.1", seeds=4)
    found = diff.compare(diff.side(toy.store, a.run_id), diff.side(toy.store, b.run_id))
    assert found.same
    assert list(found.pairs[0].context) == ["parameter seeds", "packages.numpy"]


@pytest.mark.parametrize(("value", "same"), [(1.55, True), (1.65, False)])
def test_numbers_within_the_tests_tolerance_are_equal(toy: Toy, value: float, same: bool) -> None:
    a, b = finish(toy), finish(toy, value, seeds=4)
    # the ends of the interval move with the estimate
    assert diff.compare(diff.side(toy.store, a.run_id), diff.side(toy.store, b.run_id)).same == same


def test_figures_of_other_sizes_and_absent_ones(toy: Toy) -> None:
    def page(**cells: str) -> Any:
        outputs = {cell: [{"data": {"image/png": png}}] for cell, png in cells.items()}
        return {"cells": [{"id": cell, "metadata": {}, "outputs": found} for cell, found in outputs.items()]}

    before, after = page(a=picture(), b=picture(), c=picture()), page(a=picture(size=20), c=picture(), d=picture())
    entries = [diff.Entry("n", "", {}, None, node, {}) for node in (before, after)]
    (pair,) = diff.compare(*(diff.Side("x", (entry,)) for entry in entries)).pairs
    assert list(map(str, pair.figures)) == [
        "figure a: 10×10 -> 20×20 pixels",
        "figure b disappeared",
        "figure d appeared",
    ]


def test_batches_are_paired_by_parameters(toy: Toy) -> None:
    old = Batch(toy.store, [Spec("toy", "smoke", {"seeds": n}) for n in (1, 2, 3)])
    for seeds in (1, 2, 3):
        finish(toy, seeds=seeds)
    old.remember()
    (toy.package / "toy" / "experiment.py").write_text("x = 1\n")
    new = Batch(toy.store, [Spec("toy", "smoke", {"seeds": n}) for n in (2, 3, 4, 5)])
    for seeds, value in ((2, 1.5), (3, 9.0), (4, 1.5)):
        finish(toy, value, seeds=seeds)
    new.remember()
    found = diff.compare(diff.side(toy.store, old.name), diff.side(toy.store, new.name))
    assert [(pair.name, pair.same) for pair in found.pairs] == [
        ("toy at smoke (seeds 2)", True),
        ("toy at smoke (seeds 3)", False),
    ]
    assert all("source toy/experiment.py" in pair.context for pair in found.pairs)
    assert (found.only_before, found.only_after) == (("toy at smoke (seeds 1)",), ("toy at smoke (seeds 4)",))
    # the fifth run is not finished, so there is nothing to compare


def test_the_answers_figure_is_compared_though_nbval_ignores_it(toy: Toy) -> None:
    runs = [finish(toy), finish(toy, seeds=4)]
    for number, run in enumerate(runs):
        page = toy.store.folder(run) / "notebook.ipynb"
        node = notebook.read_notebook(page)
        node.cells[1]["outputs"].insert(1, new_output("display_data", data={"image/png": picture(10 * number)}))
        notebook.write_notebook(page, node)
    (line, *_) = lines(toy, *(run.run_id for run in runs))[1:]
    assert line == "  figure cell-1: 10.0 % of its pixels differ"


def test_claims_and_tests_that_appear_and_disappear(toy: Toy) -> None:
    a, b = finish(toy), finish(toy, seeds=4)
    path = toy.store.folder(b) / "results.json"
    results = json.loads(path.read_text())
    results["verdicts"][0]["claim_id"] = "triple"
    results["tests"].pop(1)
    path.write_text(json.dumps(results))
    text = lines(toy, a.run_id, b.run_id)
    assert text[1:4] == [
        "  claim double disappeared: reproduced",
        "  claim triple appeared: reproduced",
        "  test K1 disappeared: yes",
    ]


def test_results_of_an_older_form_are_compared_by_their_verdicts(toy: Toy, tmp_path: Path) -> None:
    run = finish(toy)
    results = json.loads((toy.store.folder(run) / "results.json").read_text())
    del results["tests"]
    results["verdicts"][0] |= {"verdict": "inconclusive", "estimate": 7.0}
    (tmp_path / "old.json").write_text(json.dumps(results))
    text = lines(toy, str(tmp_path / "old.json"), run.run_id)
    assert text[1:4] == [
        "  claim double: inconclusive -> reproduced",
        "  test T1 appeared: yes",
        "  test K1 appeared: yes",
    ]


def test_commits_files_and_folders(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(toy.root), *who, *arguments], check=True, capture_output=True)

    git("init", "-q")
    first = finish(toy)
    publish.publish(toy.store, first)
    git("add", "notebooks", "results", "replication")
    git("commit", "-q", "-m", "one")
    assert lines(toy, "HEAD") == ["1 notebook compared, HEAD with the files here: no difference."]
    (toy.package / "toy" / "experiment.py").write_text("x = 1\n")
    publish.publish(toy.store, finish(toy, 9.0, picture(50)))
    text = lines(toy, "HEAD")
    assert "  claim double: reproduced -> not reproduced" in text
    assert "  figure cell-4: 50.0 % of its pixels differ" in text
    assert any(line.startswith("  source toy/experiment.py: ") for line in text)
    # the run that the commit was published from
    assert lines(toy, first.run_id, "HEAD")[-1] == f"1 notebook compared, {first.name} with HEAD: no difference."
    monkeypatch.chdir(toy.root)
    for path in ("results/smoke/toy.json", "results", f"runs/toy/{first.run_id}", "."):
        found = diff.compare(diff.side(toy.store, path), diff.side(toy.store, "HEAD"))
        assert found.same == (path.startswith("runs"))
    with pytest.raises(RefusedError, match="holds no results"):
        diff.side(toy.store, "notebooks/profiles")
    with pytest.raises(RefusedError, match="is not a results file"):
        diff.side(toy.store, "README.md")


def test_what_is_meant_must_be_there(toy: Toy) -> None:
    with pytest.raises(RefusedError, match="'nowhere' is no file or folder, no run's or batch's id"):
        diff.side(toy.store, "nowhere")
    run = toy.store.plan(Spec("toy", "smoke", {}))
    toy.store.open_work(run)
    with pytest.raises(RefusedError, match="is not finished"):
        diff.side(toy.store, run.run_id)


def test_command_ends_as_diff_does(tmp_path: Path) -> None:
    toy = build(tmp_path / "real", real_evidence=True)
    pages = []
    for word in ("reproduced", "not reproduced"):
        verdict = {"claim_id": "double", "verdict": word}
        about = {"notebook": "toy", "paper": "toy", "profile": "smoke", "parameters": {}, "verdicts": [verdict]}
        about["tests"] = []
        pages.append(tmp_path / f"{word}.json")
        pages[-1].write_text(json.dumps(about))
    same = toy.replicate("diff", str(pages[0]), str(pages[0]))
    assert same.returncode == 0, same.stderr
    assert same.stdout.endswith("no difference.\n")
    differs = toy.replicate("diff", str(pages[0]), str(pages[1]), "--json")
    assert differs.returncode == 1, differs.stderr
    found = json.loads(differs.stdout)
    assert found["same"] is False
    assert found["pairs"][0]["changes"] == [
        {"of": "claim double", "what": "verdict", "before": "reproduced", "after": "not reproduced"}
    ]
    assert toy.replicate("diff", "nowhere", str(pages[0])).returncode == 2
