"""Plain papermill and plain nbval work as they stand, and nbval does fail when a stored number is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from toys import Toy


def nbval(toy: Toy, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--nbval",
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        "pyproject.toml",
        *arguments,
    ]
    return subprocess.run(command, cwd=toy.root, env=toy.environment(), capture_output=True, text=True, timeout=200)


@pytest.mark.slow  # nbval executes a notebook
def test_one_wrong_stored_number_fails_nbval(toy: Toy) -> None:
    folder = toy.root / "executed"
    folder.mkdir()
    good, bad = folder / "good.ipynb", folder / "bad.ipynb"
    profile = toy.project.profile_file("toy", "smoke")
    command = [sys.executable, "-m", "papermill", str(toy.project.notebook_file("toy")), str(good), "-f", str(profile)]
    subprocess.run([*command, "-p", "seeds", "20"], env=toy.environment(), cwd="/", check=True, capture_output=True)
    text = good.read_text()
    assert text.count("value 10.000") == 1
    bad.write_text(text.replace("value 10.000", "value 10.001"))

    # the way `make test` calls it: the cells of one file stay in order, on one worker
    done = nbval(toy, "executed", "-n", "2", "--dist", "loadfile")
    assert done.returncode == 1, done.stdout + done.stderr
    cells = len([cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"])
    assert f"1 failed, {2 * cells - 1} passed" in done.stdout
    assert "bad.ipynb" in done.stdout.partition("short test summary")[2]
    assert "good.ipynb" not in done.stdout.partition("short test summary")[2]


def test_make_checks_notebooks_as_the_tripwire_does() -> None:
    makefile = (Path(__file__).parents[2] / "Makefile").read_text()
    assert "--nbval notebooks" in makefile
    assert "--dist loadfile" in makefile
    assert "nbval-lax" not in makefile
