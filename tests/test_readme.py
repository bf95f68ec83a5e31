"""What the README and the guide tell people to type works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from replication.runs import profiles
from replication.runs.batch import Grid
from replication.runs.store import RunStore

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "REPRODUCING.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_examples_of_the_readme_run(code: str) -> None:
    exec(compile(code, "README.md", "exec"), {})


def test_commands_come_first_and_exist() -> None:
    first = re.search(r"```bash\n(.*?)```", README, re.DOTALL)
    assert first is not None
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^make (\w+)", first[1], re.MULTILINE)
    assert targets == ["reproduce", "test"]
    for target in re.findall(r"(?:`|^)make (\w+)", README + GUIDE, re.MULTILINE):
        assert f"\n{target}:" in makefile


def test_example_grid_is_made_of_real_parameters(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)[0])
    store = RunStore(profiles.Project.find())
    specs = Grid.load(path).specs(store.project)
    assert len({store.plan(spec).run_id for spec in specs}) == len(specs) == 24


def test_links_within_the_repository_resolve() -> None:
    for text in (README, GUIDE):
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
            assert (ROOT / target).exists(), target


@pytest.mark.slow  # executes a notebook
def test_papermill_needs_no_wrapper(tmp_path: Path) -> None:
    """papermill itself, with a profile's file and a parameter of one's own, from another folder."""
    notebook, out = "20_adcm_discretization", tmp_path / "out.ipynb"
    papermill = [
        sys.executable,
        "-m",
        "papermill",
        str(ROOT / f"notebooks/{notebook}.ipynb"),
        str(out),
        "--no-progress-bar",
    ]
    profile = ["-f", str(ROOT / f"notebooks/profiles/standard/{notebook}.yaml")]
    small = {"seeds": "2", "networks": "1", "batch_size": "16", "pairs": "16", "batches": "100", "nodes": "8"}
    profile += [text for name, value in small.items() for text in ("-p", name, value)]
    kept = {**os.environ, "REPLICATION_RUNS": str(tmp_path / "runs")}
    done = subprocess.run([*papermill, *profile], cwd=tmp_path, env=kept, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    text = out.read_text(encoding="utf-8")
    assert "seeds = 2" in text
