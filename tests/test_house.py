"""The rules of the house hold, and the tool that checks them can fail."""

from __future__ import annotations

import fnmatch
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command; lint_imports_command()",
        "--no-cache",
    ]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_imports_keep_the_rules_of_the_house() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_broken_rule_is_found(tmp_path: Path) -> None:
    house = tmp_path / "house"
    house.mkdir()
    (house / "__init__.py").touch()
    (house / "runs.py").write_text("import house.paper\n")
    (house / "paper.py").touch()
    contract = '[[tool.importlinter.contracts]]\nname = "x"\ntype = "forbidden"\nsource_modules = ["house.runs"]\n'
    (tmp_path / "pyproject.toml").write_text(
        f'[tool.importlinter]\nroot_package = "house"\n{contract}forbidden_modules = ["house.paper"]\n'
    )
    done = lint(tmp_path)
    assert done.returncode == 1
    assert "BROKEN" in done.stdout


def test_every_papers_room_is_under_the_rules() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    papers = {f"replication.{path.parent.name}" for path in (ROOT / "replication").glob("*/claims.yaml")}
    rules = {c["name"]: c for c in contracts}
    assert papers <= set(rules["The runner knows nothing of any paper"]["forbidden_modules"])
    assert papers <= set(rules["A paper's room never imports the runner"]["source_modules"])
    assert papers <= set(rules["Papers know nothing of each other"]["modules"])


@pytest.mark.parametrize(
    "source", sorted((ROOT / "replication").rglob("*.py")), ids=lambda p: p.relative_to(ROOT).as_posix()
)
def test_sources_hold_no_left_overs(source: Path) -> None:
    text = source.read_text()
    assert not [mark for mark in ("TODO", "FIXME", "XXX", "HACK") if mark in text]
    assert "import *" not in text


def test_no_folder_of_ours_is_left_out_by_pytest() -> None:
    """A pattern such as `runs`, meant for the folder of runs, would silently skip tests/runs as well."""
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"].get(
        "norecursedirs", []
    )
    folders = {path.parent for place in ("tests", "replication") for path in (ROOT / place).rglob("*.py")}
    assert not [path for path in folders for pattern in patterns if fnmatch.fnmatch(path.name, pattern)]


def test_no_source_of_ours_is_left_out_by_ruff() -> None:
    command = [sys.executable, "-m", "ruff", "check", "--show-files", "."]
    shown = set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines())
    ours = {str(path) for place in ("tests", "replication", "benchmarks") for path in (ROOT / place).rglob("*.py")}
    assert sorted(ours - shown) == []


def test_modules_of_tests_have_names_of_their_own() -> None:
    names = [path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py"]
    assert sorted(name for name in set(names) if names.count(name) > 1) == []
