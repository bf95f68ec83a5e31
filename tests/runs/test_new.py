"""`replicate new`: a sixth paper from nothing to a published verdict, and the names that are refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from toys import Toy

from replication.runs import new
from replication.runs.errors import RefusedError

ROOT = Path(__file__).parents[2]


@pytest.mark.slow  # two notebooks are executed, and tests of a copy of the project are run
def test_a_new_paper_runs_is_published_and_passes_the_tests(tmp_path: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("REPLICATION_")}

    def python(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=tmp_path,
            env={**kept, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    said = python("replication", "new", "dice", "throws")
    wrote = [line.removeprefix("wrote ") for line in said.splitlines() if line.startswith("wrote ")]
    page = (
        (tmp_path / "docs" / "adding-a-paper.md")
        .read_text(encoding="utf-8")
        .replace("my_paper", "dice")
        .replace("example", "throws")
    )
    assert all(f"`{name}`" in page for name in wrote), "the page lists what is written"
    assert "published results/smoke/60_dice_throws.json" in said
    results = json.loads((tmp_path / "results" / "smoke" / "60_dice_throws.json").read_text())
    assert [verdict["verdict"] for verdict in results["verdicts"]] == ["reproduced"]
    assert "dice: the title of the paper" in (tmp_path / "README.md").read_text(encoding="utf-8")

    sources = [name for name in wrote if name.endswith((".py", ".ipynb"))]
    python("ruff", "check", *sources)
    python("ruff", "format", "--check", *sources)
    python("replication", "verify")
    tests = ("tests/dice", "tests/test_house.py", "tests/notebooks/test_structure.py")
    evidence = "tests/evidence/test_committed_results.py"
    told = python("pytest", "-q", *tests, evidence, "-k", "dice or rules_of_the_house or has_its_results")
    assert "skipped" not in told


@pytest.mark.parametrize("name", ["My-Paper", "9lives", "class", "", "a.b"])
def test_what_is_no_name_of_a_room_is_refused(toy: Toy, name: str) -> None:
    with pytest.raises(RefusedError, match="paper: must be a name in small letters"):
        new.lay_out(toy.project, name)
    with pytest.raises(RefusedError, match="experiment: must be a name in small letters"):
        new.lay_out(toy.project, "sixth", name)


@pytest.mark.parametrize(("name", "place"), [("toy", "replication/toy"), ("checks", "replication/checks.py")])
def test_a_name_that_is_taken_is_refused(toy: Toy, name: str, place: str) -> None:
    with pytest.raises(RefusedError, match=f"'{name}' is taken by {place}; choose another name"):
        new.lay_out(toy.project, name)


def test_nothing_is_written_unless_all_can_be(toy: Toy) -> None:
    before = sorted(toy.root.rglob("*"))
    with pytest.raises(RefusedError, match=r"pyproject\.toml: there is no line of papers"):
        new.lay_out(toy.project, "sixth")
    (toy.root / "pyproject.toml").write_text('layers = [\n  "toy | runs",\n]\n')
    toy.add("95_toy", [], paper="toy")
    with pytest.raises(RefusedError, match="no number below 100 is left"):
        new.lay_out(toy.project, "sixth")
    (toy.root / "notebooks" / "95_toy.ipynb").unlink()
    assert sorted(toy.root.rglob("*")) == before
    assert (toy.root / "pyproject.toml").read_text() == 'layers = [\n  "toy | runs",\n]\n'
    notebook, files = new.lay_out(toy.project, "sixth")
    assert notebook == "10_sixth_example"
    assert (toy.root / "pyproject.toml").read_text() == 'layers = [\n  "sixth | toy | runs",\n]\n'
    assert all(path.is_file() for path in files)
