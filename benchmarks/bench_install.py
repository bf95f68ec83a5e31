"""What an installation weighs, and what an import takes beyond ``import torch``.

Sizes and numbers of packages are those of the closure of the requirements, read from what is installed here; with
``--install`` the core and every extra are installed into empty virtual environments instead, which downloads them all.
Imports are fresh processes that take turns with one of ``import torch``; the times are CPU seconds, user and system.

    python benchmarks/bench_install.py [--repeats 15] [--install]
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

import click
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OWN = PROJECT["name"]
PEER = "torch"
ROOMS = [
    *("replication", "replication.uba", "replication.training", "replication.metalearning", "replication.adcm"),
    *("replication.meek", "replication.disf", "replication.evidence", "replication.cli"),
]
LIST = """
import importlib.metadata, json
found = {d.metadata["Name"]: sum(f.locate().stat().st_size for f in d.files or [] if f.locate().is_file())
         for d in importlib.metadata.distributions()}
print(json.dumps(found))
"""


def closure(extra: str) -> dict[str, int]:
    """Bytes of every distribution that the core or an extra needs, from what is installed here."""
    lines = PROJECT["dependencies"] + (PROJECT["optional-dependencies"][extra] if extra else [])
    waiting, seen, found = [Requirement(line) for line in lines], set(), {}
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for one in {"", *requirement.extras} - {one for of, one in seen if of == name}:
            seen.add((name, one))
            if name == OWN:
                children = [Requirement(line) for line in PROJECT["optional-dependencies"].get(one, [])]
            else:
                distribution = importlib.metadata.distribution(name)
                files = [Path(str(file.locate())) for file in distribution.files or []]
                found[name] = sum(file.stat().st_size for file in files if file.is_file())
                children = [Requirement(line) for line in distribution.requires or []]
            waiting += [c for c in children if c.marker is None or c.marker.evaluate({"extra": one})]
    return found


def installed(extra: str) -> dict[str, int]:
    """Bytes of every distribution in an empty virtual environment with the core or an extra."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder, "bin", "python")
        what = f"{ROOT}[{extra}]" if extra else str(ROOT)
        subprocess.run([python, "-m", "pip", "install", "--quiet", what], check=True)
        found: dict[str, int] = json.loads(subprocess.check_output([python, "-c", LIST], text=True))
    return {name: size for name, size in found.items() if name not in (OWN, "pip", "setuptools")}


def cpu_seconds(module: str) -> float:
    process = subprocess.Popen([sys.executable, "-c", f"import {module}"], cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"import {module} failed")
    return usage.ru_utime + usage.ru_stime


@click.command()
@click.option("--repeats", default=15, show_default=True, help="Processes a module.")
@click.option("--install", is_flag=True, help="Install into empty environments, instead of reading what is here.")
def main(repeats: int, install: bool) -> None:
    print(f"{'extra':12}{'packages':>10}{'size':>10}   beside {OWN} itself; torch {importlib.metadata.version(PEER)}")
    for extra in ["", *PROJECT["optional-dependencies"]]:
        try:
            found = (installed if install else closure)(extra)
        except importlib.metadata.PackageNotFoundError as error:
            print(f"{extra:12}{'-':>10}{'-':>10}   {error.name} is not installed here")
            continue
        torch = sum(size for name, size in found.items() if name == PEER)
        total = sum(found.values())
        print(f"{extra or 'core':12}{len(found):10d}{total / 1e6:7.0f} MB   {torch / 1e6:.0f} MB of it torch")
    print(f"\n{'import':28}{'CPU s':>8}{'beyond':>9}{'ratio':>8}   against `import {PEER}`, medians of {repeats}")
    for room in ROOMS:
        pairs = [(cpu_seconds(room), cpu_seconds(PEER)) for _ in range(repeats)]
        own, beyond, ratio = (
            statistics.median(of)
            for of in ([a for a, _ in pairs], [a - b for a, b in pairs], [a / b for a, b in pairs])
        )
        print(f"{room:28}{own:8.2f}{beyond:+9.2f}{ratio:8.2f}")


if __name__ == "__main__":
    main()
