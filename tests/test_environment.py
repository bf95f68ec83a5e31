"""requirements.lock pins all that pyproject.toml asks for and nothing else; environment.yml installs the lock."""

from __future__ import annotations

import importlib.metadata
import re
import sys
import tomllib
from collections import deque
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"
PYTHON = "3.11"  # the lock is made for it
MEND = f"To mend it: install what pyproject.toml asks for in a fresh Python {PYTHON}, and pin in the lock what is there"
# torch on Linux asks for CUDA packages, all with exact pins in its own metadata; its CPU build asks for none.
CUDA = re.compile(r"(nvidia|cuda)-.*|triton")

on_lock_platform = pytest.mark.skipif(
    sys.version_info[:2] != tuple(map(int, PYTHON.split("."))) or sys.platform != "linux",
    reason=f"requirements.lock is made for Python {PYTHON} on Linux",
)


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def requirements(*extras: str) -> list[Requirement]:
    """What pyproject.toml asks for with these extras; extras that name extras are resolved."""
    project = pyproject()["project"]
    lines = list(project["dependencies"])
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    found: list[Requirement] = []
    for requirement in map(Requirement, lines):
        own = requirement.name == project["name"]
        found += requirements(*requirement.extras) if own else [requirement]
    return found


def direct_requirements() -> list[Requirement]:
    return [*requirements("dev", "docs"), *map(Requirement, pyproject()["build-system"]["requires"])]


def pins() -> dict[str, str]:
    """Canonical name → version, of every line of the lock that is not a comment."""
    found: dict[str, str] = {}
    for number, line in enumerate(LOCK.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.!_-]+)", line)
        assert match, f"requirements.lock, line {number}: {line!r} is not of the form name==version (no +local part)"
        name = canonicalize_name(match[1])
        assert name not in found, f"requirements.lock, line {number}: {match[1]} is pinned twice"
        found[name] = match[2]
    return found


def needed() -> dict[str, str]:
    """Canonical name → installed version, of the closure of the direct requirements over installed metadata."""
    queue = deque((requirement, "pyproject.toml") for requirement in direct_requirements())
    seen: set[tuple[str, str]] = set()
    versions: dict[str, str] = {}
    while queue:
        requirement, parent = queue.popleft()
        name = canonicalize_name(requirement.name)
        if parent == "torch" and CUDA.fullmatch(name):
            continue
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            pytest.fail(f"{parent} needs {requirement}, which is not installed: pip install -r requirements.lock")
        versions[name] = Version(distribution.version).public
        for extra in {"", *requirement.extras}:
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            for line in distribution.requires or []:
                child = Requirement(line)
                if child.marker is None or child.marker.evaluate({"extra": extra}):
                    queue.append((child, name))
    return versions


@on_lock_platform
def test_lock_holds_all_that_is_needed_at_the_installed_version() -> None:
    lock = pins()
    wrong = [f"{n}=={v} (lock: {lock.get(n, 'not there')})" for n, v in sorted(needed().items()) if lock.get(n) != v]
    assert not wrong, f"installed and needed, but not so in the lock: {', '.join(wrong)}. {MEND}."


@on_lock_platform
def test_lock_holds_nothing_else() -> None:
    surplus = sorted(pins().keys() - needed().keys())
    assert not surplus, f"pinned in requirements.lock, but nothing needs them: {surplus}. Remove these lines."


def test_lock_satisfies_pyproject() -> None:
    lock = pins()
    wrong = [
        f"{requirement} (lock: {lock.get(canonicalize_name(requirement.name), 'not there')})"
        for requirement in direct_requirements()
        if canonicalize_name(requirement.name) not in lock
        or not requirement.specifier.contains(lock[canonicalize_name(requirement.name)], prereleases=True)
    ]
    assert not wrong, f"pyproject.toml asks for what the lock does not give: {', '.join(wrong)}. {MEND}."


def test_lock_is_sorted() -> None:
    names = list(pins())
    assert names == sorted(names), "sort the lines of requirements.lock by name, so that a change of one is one line"


def test_lock_says_what_it_is_for() -> None:
    header = "".join(line for line in LOCK.read_text(encoding="utf-8").splitlines(True) if line.startswith("#"))
    for word in (f"Python {PYTHON}", "https://download.pytorch.org/whl/cpu", "CUDA"):
        assert word in header, f"the comment at the head of requirements.lock no longer says {word!r}"


def test_environment_installs_the_lock_and_the_package_by_pip() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert environment["channels"] == ["conda-forge"]
    conda = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    pip = [entry for entry in environment["dependencies"] if not isinstance(entry, str)]
    assert conda == [f"python={PYTHON}", "pip"], "environment.yml: conda brings Python and pip; pip brings all the rest"
    assert pip == [{"pip": ["-r requirements.lock", "-e ."]}], "environment.yml: pip installs the lock and the package"


def test_environment_names_an_admitted_python() -> None:
    admitted = SpecifierSet(pyproject()["project"]["requires-python"])
    # environment.yml asks for the newest patch release of its Python
    newest = Version(f"{PYTHON}.99")
    assert newest in admitted, f"requires-python {admitted} refuses {PYTHON}, which the lock is made for"
