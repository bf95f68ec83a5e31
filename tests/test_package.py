"""What is installed from the package index works: the methods with four packages, and each extra with its own.

And so do the README's examples, from the wheel and without a clone.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import zipfile
from collections import deque
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from test_environment import ROOT, pyproject, requirements

PROJECT = pyproject()["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution of what git knows of, so that nothing else can slip in."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "replication", "pyproject.toml", "README.md", "LICENSE"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.split():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    pack = [sys.executable, "-c", f"from setuptools import build_meta; build_meta.build_sdist({str(out)!r})"]
    archive = out / f"replication_notebooks-{PROJECT['version']}.tar.gz"
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(out)]
    for command in (pack, [*build, str(archive)]):
        done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    (found,) = out.glob("*.whl")
    return found


def environment(folder: Path, wheel: Path, *extras: str) -> list[str]:
    """Put the wheel into a folder, with links to the closure of what it needs and to nothing else that is installed.

    Returns the distributions of the closure. As good as an empty virtual environment, without downloads.
    """
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    queue = deque(requirements(*extras))
    seen: set[tuple[str, str]] = set()
    names = set()
    while queue:
        requirement = queue.popleft()
        name = canonicalize_name(requirement.name)
        distribution = importlib.metadata.distribution(name)
        names.add(name)
        for file in distribution.files or []:
            if file.parts[0] not in ("..", "__pycache__"):
                target = folder / file.parts[0]
                if not target.exists():
                    target.symlink_to(Path(str(distribution.locate_file(""))) / file.parts[0])
        for one in {"", *requirement.extras}:
            if (name, one) not in seen:
                seen.add((name, one))
                children = map(Requirement, distribution.requires or [])
                queue += [c for c in children if c.marker is None or c.marker.evaluate({"extra": one})]
    return sorted(names)


def run(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run code with the folder and the standard library on the path, and nothing else."""
    start = f"import sys; sys.path.append({str(folder)!r}); " + "\n"
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "REPLICATION_HOME")}
    command = [sys.executable, "-I", "-S", "-c", start + code]
    return subprocess.run(command, cwd=folder, env=kept, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def core(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("core")
    names = environment(folder, wheel)
    assert {"numpy", "torch", "scipy"} <= set(names)
    assert not {"jupyterlab", "dask", "pandas", "matplotlib", "papermill", "scikit-learn", "pydantic"} & set(names)
    return folder


def test_methods_need_the_core_only(core: Path) -> None:
    papers = {path.parent.name for path in (ROOT / "replication").glob("*/claims.yaml")}
    rooms = ["uba.theory", "uba.baselines", "training", *sorted(papers - {"disf"})]
    code = "import importlib\n" + "\n".join(f"importlib.import_module('replication.{room}')" for room in rooms)
    done = run(core, f"{code}\nassert sys.modules['replication'].__file__.startswith({str(core)!r})")
    assert done.returncode == 0, done.stderr[-2000:]


def examples(*, disf: bool) -> str:
    """The README's examples that need the extra, or those that do not."""
    code = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    return "\n".join(one for one in code if ("replication.disf" in one) == disf)


@pytest.mark.slow  # a process imports torch, and fits
def test_the_readmes_examples_run_without_a_clone(core: Path) -> None:
    code = examples(disf=False)
    assert {f"replication.{room}" for room in ("uba", "adcm", "meek", "metalearning")} <= set(code.split())
    done = run(core, code)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("room", "brings"),
    [
        ("", set()),
        (".uba", set()),
        (".metalearning", {"scipy"}),
        (".training", {"safetensors"}),
        (".adcm", {"safetensors", "scipy"}),
        (".meek", {"safetensors", "scipy"}),
    ],
)
def test_a_room_brings_little_beside_torch_and_numpy(core: Path, room: str, brings: set[str]) -> None:
    """Of SciPy only its top: each of its parts that is loaded takes longer than a room."""
    code = (
        "import torch, numpy; before = set(sys.modules)\n"
        f"import replication{room}\n"
        "new = set(sys.modules) - before\n"
        "tops = {name.partition('.')[0] for name in new} - set(sys.stdlib_module_names)\n"
        "print(*(name for name in tops if not name.startswith(('_', 'cython'))))\n"
        "print(*({'scipy.' + part for part in ('special', 'stats', 'optimize', 'integrate', 'sparse')} & new))"
    )
    done = run(core, code)
    assert done.returncode == 0, done.stderr[-2000:]
    tops, parts = done.stdout.split("\n")[:2]
    assert set(tops.split()) - {"replication", "numpy", "torch"} == brings
    assert parts == ""


def test_the_top_imports_nothing(core: Path) -> None:
    code = "before = set(sys.modules); import replication; print(*(set(sys.modules) - before))"
    assert run(core, code).stdout.split() == ["replication"]


def test_help_is_a_screen(core: Path) -> None:
    screen = run(
        core, "import pydoc, replication; print(pydoc.plain(pydoc.render_doc(replication)))"
    ).stdout.splitlines()[:24]
    assert max(map(len, screen)) <= 80
    for room in ("uba", "adcm", "disf", "meek", "metalearning", "training"):
        assert any(f"`replication.{room}`" in line for line in screen), room
    assert any("replicate --help" in line for line in screen)


@pytest.mark.parametrize(
    ("code", "extra"),
    [
        ("import replication.disf", "disf"),
        ("import replication.data", "notebooks"),
        ("from replication.evidence import load_claims", "notebooks"),
        ("import runpy; runpy.run_module('replication', run_name='__main__')", "notebooks"),
        ("from replication.__main__ import main; main()", "notebooks"),
        ("from replication.__main__ import main; sys.argv[1:] = ['select']; main()", "disf"),
    ],
)
def test_a_missing_extra_is_named_with_its_command(core: Path, code: str, extra: str) -> None:
    done = run(core, code)
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith(f"is not installed: pip install '{PROJECT['name']}[{extra}]'"), done.stderr


@pytest.mark.slow  # a process imports torch
def test_the_selection_needs_its_extra_only(wheel: Path, tmp_path: Path) -> None:
    assert not {"jupyterlab", "dask", "papermill", "matplotlib"} & set(environment(tmp_path, wheel, "disf"))
    code = (
        "import numpy as np\nfrom replication.disf import DiSFSelector, select\n"
        "from replication.disf.features import tfidf_svd\nimport replication.disf.corpus\n"
        "X = np.random.default_rng(0).normal(size=(40, 8))\n"
        "assert list(DiSFSelector(k=5).fit(X).indices_) == list(select(X, k=5))\n"
    )
    assert "select(" in examples(disf=True)
    done = run(tmp_path, code + examples(disf=True))
    assert done.returncode == 0, done.stderr[-2000:]
    # so does the command; the others name theirs
    (tmp_path / "corpus").mkdir()
    for number in range(20):
        (tmp_path / "corpus" / f"{number}.txt").write_text(f"document {number} of {number % 7} words {number % 3}")
    said = replicate(tmp_path, "select", "corpus", "--k", "3", "--out", "out.jsonl")
    assert said.returncode == 0, said.stderr[-2000:]
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 3
    assert "See what came out:" in replicate(tmp_path, "--help").stdout
    said = replicate(tmp_path, "list")
    assert said.returncode == 1
    assert re.fullmatch(rf"Error: \w+ is not installed: pip install '{PROJECT['name']}\[notebooks\]'\n", said.stderr), (
        said.stderr
    )


def replicate(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in the environment of a folder."""
    return run(folder, f"sys.argv = ['replicate', *{arguments!r}]\nfrom replication.__main__ import main; main()")


def test_the_wheel_holds_what_is_not_code(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    for file in (ROOT / "replication").rglob("*"):
        if file.suffix in (".yaml", ".jinja", ".typed", ".py") and "__pycache__" not in file.parts:
            assert file.relative_to(ROOT).as_posix() in held, file


def test_versions_are_tried_with_tests_that_exist_from_the_least_that_is_admitted() -> None:
    make = (ROOT / "Makefile").read_text(encoding="utf-8")
    (listed,) = re.findall(r"^QUICK .*?addprefix tests/,(.*?)\)$", make, re.DOTALL | re.MULTILINE)
    assert [name for name in listed.replace("\\", "").split() if not (ROOT / "tests" / name).exists()] == []
    for variable, admitted in (("PYTHONS", PROJECT["requires-python"]), ("TORCHES", PROJECT["dependencies"][-1])):
        (versions,) = re.findall(rf"^{variable} \?= (.*)$", make, re.MULTILINE)
        assert re.search(rf">={re.escape(versions.split()[0])}\b", admitted), variable


def test_the_name_is_the_projects_own() -> None:
    assert PROJECT["name"] == "replication-notebooks", "`replication` is another project on the package index"
    for file in [ROOT / "README.md", ROOT / "REPRODUCING.md", *(ROOT / "docs").glob("*.md")]:
        assert "pip install 'replication[" not in file.read_text(encoding="utf-8"), file
        assert "pip install replication\n" not in file.read_text(encoding="utf-8"), file
