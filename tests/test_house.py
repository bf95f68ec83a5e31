"""The rules of the house hold, and the tool that checks them can fail."""

from __future__ import annotations

import fnmatch
import shutil
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


@pytest.mark.parametrize(
    ("room", "line", "rule"),
    [
        ("uba", "import replication.meek.law", "Rooms import only what is below them"),
        ("uba", "import replication.runs.store", "Rooms import only what is below them"),
        ("runs", "import replication.uba", "Rooms import only what is below them"),
        ("training", "import replication.uba", "Rooms import only what is below them"),
        ("evidence", "import replication.data", "Rooms import only what is below them"),
        ("evidence", "import torch", "Evidence knows nothing of torch"),
        ("adcm", "import torchvision", "Everything imports torchvision through the compatibility module"),
        ("sixth", "", "Rooms import only what is below them"),
    ],
)
def test_each_rule_of_the_house_can_be_broken(tmp_path: Path, room: str, line: str, rule: str) -> None:
    shutil.copytree(ROOT / "replication", tmp_path / "replication", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "replication" / room).mkdir(exist_ok=True)
    (tmp_path / "replication" / room / "__init__.py").touch()
    (tmp_path / "replication" / room / "stranger.py").write_text(line + "\n")
    done = lint(tmp_path)
    assert done.returncode == 1
    assert f"{rule} BROKEN" in done.stdout, done.stdout + done.stderr


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
