from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structure import problems
from toys import PARAMETERS, Toy

from replication.runs.errors import RefusedError
from replication.runs.profiles import Project, parameters_cell
from replication.runs.store import RunStore, Spec

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
BESIDE = sorted((ROOT / "results").glob("*/*.ipynb"))
"""The pages of larger profiles, beside their results."""


@pytest.mark.parametrize("path", [*NOTEBOOKS, *BESIDE], ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_committed_notebook(path: Path) -> None:
    assert problems(path) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_parameters_cell_is_made_from_the_experiments_config(path: Path) -> None:
    """A parameter is stated once, in `Config`; `replicate parameters` writes the cells."""
    node = json.loads(path.read_text(encoding="utf-8"))
    about = node["metadata"]["replication"]
    if "experiment" not in about:
        pytest.skip("has no experiment")
    module = importlib.import_module(f"replication.{about['paper']}.experiments.{about['experiment']}")
    (cell,) = (cell for cell in node["cells"] if "parameters" in cell["metadata"].get("tags", []))
    assert "".join(cell["source"]) == parameters_cell(module.Config)
    for name, declared in module.Config.model_fields.items():
        assert declared.description, f"{name} has no description"


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks" / "profiles").glob("*/[1-9]*.yaml")), ids=str)
def test_values_of_a_profile_are_allowed(path: Path) -> None:
    RunStore(Project.find()).plan(Spec(path.stem, path.parent.name, {}))


def test_values_that_config_refuses_start_no_kernel() -> None:
    with pytest.raises(RefusedError, match=r"planted_boards: input should be greater than or equal to 2, got 0"):
        RunStore(Project.find()).plan(Spec("41_meek_empirical", "smoke", {"planted_boards": 0}))


@pytest.fixture
def good(toy: Toy) -> Path:
    """A notebook that looks executed and has nothing wrong."""
    path = toy.project.notebook_file("toy")

    def execute(node: Any) -> None:
        code = [cell for cell in node["cells"] if cell["cell_type"] == "code"]
        for count, cell in enumerate(code, start=1):
            cell["execution_count"] = count
        texts = ["value 1.500 of 3/4/5, https://example.org/a/b\n"]
        code[3]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": texts}]

    edit(path, execute)
    return path


def edit(path: Path, change: Callable[[Any], object]) -> None:
    node = json.loads(path.read_text())
    change(node)
    path.write_text(json.dumps(node))


def output(**fields: Any) -> Callable[[Any], None]:
    def change(node: Any) -> None:
        node["cells"][4]["outputs"] = [fields]

    return change


def shows(kind: str, text: str) -> Callable[[Any], None]:
    return output(output_type="display_data", metadata={}, data={kind: text})


def put(cell: int, key: str, value: Any) -> Callable[[Any], None]:
    return lambda node: node["cells"][cell].update({key: value})


def source(old: str, new: str) -> Callable[[Any], None]:
    return put(2, "source", PARAMETERS.replace(old, new))


def test_good_notebook_has_no_problem(good: Path) -> None:
    assert problems(good) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put(4, "execution_count", 7), "execution counts are [1, 2, 3, 7, 5], not 1 to 5"),
        (put(4, "execution_count", None), "execution counts are [1, 2, 3, None, 5]"),
        (
            output(output_type="error", ename="ValueError", evalue="", traceback=[]),
            "cell [4] shows an error: ValueError",
        ),
        (output(output_type="stream", name="stderr", text="careful"), "cell [4] writes to stderr"),
        (output(output_type="stream", name="stdout", text="in /home/me/x.py"), "shows an absolute path: /home/me/x.py"),
        (shows("text/html", "<td>/var/data</td>"), "shows an absolute path: /var/data"),
        (shows("text/html", "<style>td {}</style>"), "shows styled HTML"),
        (shows("image/svg+xml", "<svg/>"), "shows image/svg+xml"),
        (shows("text/plain", " 50%|█████     | 5/10"), "shows a progress bar"),
        (lambda node: node["metadata"]["kernelspec"].update(name="python3.11"), "kernelspec is 'python3.11'"),
        (put(0, "source", "See (/home/me/notes)."), "absolute path in a cell's source: /home/me/notes"),
        (put(0, "source", "See [it](../replication/none.py)."), "a link leads nowhere: ../replication/none.py"),
        (shows("text/markdown", "[it](99_none.ipynb#T1)"), "a link leads nowhere: 99_none.ipynb"),
        (put(2, "metadata", {}), "has 0 cells tagged parameters"),
        (put(3, "metadata", {}), "must be the start, tagged nbval-ignore-output"),
        (put(3, "metadata", {"tags": ["injected-parameters", "nbval-ignore-output"]}), "injected parameters"),
        (put(1, "metadata", {}), "the first code cell, and no other, must be tagged answer"),
        (put(5, "metadata", {"tags": ["answer"]}), "the first code cell, and no other, must be tagged answer"),
        (lambda node: node["cells"].insert(0, node["cells"].pop(2)), "the first code cell, and no other, must be"),
        (put(1, "metadata", {"tags": ["answer"]}), "the answer must be tagged nbval-ignore-output"),
        (put(1, "source", "from replication import evidence"), "the answer must call evidence.page()"),
        (source("seeds: int = 3", "seeds = 3"), "parameters, line 2: must be"),
        (source("  # replicates", ""), "parameter 'seeds' has no comment"),
        (source("peak: float", "peak: float | None"), "parameter 'peak' is not understood by papermill"),
        (source("seeds: int = 3", "seeds: int = 5"), "sets 'seeds' to the notebook's own value; leave it out"),
        (source('profile: str = "smoke"  # which set of parameters', ""), "must have the parameter `profile`"),
        (lambda node: node["cells"][0].update(source="x" * 3_000_001), "3.0 MB is more than 3 MB"),
        (lambda node: node["cells"][0].pop("metadata"), "not a notebook"),
    ],
)
def test_each_problem_is_found(good: Path, change: Callable[[Any], object], message: str) -> None:
    edit(good, change)
    assert message in "\n".join(problems(good))


@pytest.mark.parametrize(
    ("profile", "text", "message"),
    [
        ("standard", None, "has no profile 'standard'"),
        ("standard", "profile: standard\nsedes: 3\n", "profile 'standard' sets 'sedes', which is no parameter"),
        ("standard", "profile: standard\nseeds: many\n", "profile 'standard': parameter 'seeds' is int, got 'many'"),
        ("standard", "seeds: 3\n", "must say `profile: standard`"),
    ],
)
def test_each_problem_of_a_profile_is_found(good: Path, toy: Toy, profile: str, text: str | None, message: str) -> None:
    if text is None:
        toy.project.profile_file("toy", profile).unlink()
    else:
        toy.profile(profile, "toy", text)
    assert message in "\n".join(problems(good))


def test_a_notebook_that_decides_no_claims_needs_no_profile_of_its_own(good: Path, toy: Toy) -> None:
    edit(good, source('profile: str = "smoke"  # which set of parameters', ""))
    toy.profile("standard", "toy", "seeds: 4\n")
    assert problems(good) == ["must have the parameter `profile`"]
    edit(good, lambda node: node["metadata"]["replication"].clear())
    assert problems(good) == ["no cell must be tagged answer"]
    edit(good, put(1, "metadata", {}))
    assert problems(good) == []
