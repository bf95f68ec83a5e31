"""What results depend on besides their settings: sources, versions of packages, the kind of device."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
import itertools
import json
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

#: Which instruction sets the numerical libraries use; pinned on processors that have AVX2.
INSTRUCTIONS = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2"}
#: What makes CPU and GPU arithmetic the same from machine to machine and from run to run.
PINNED = {
    **INSTRUCTIONS,
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}
# rooms that turn rows into verdicts and pages: no row depends on them, but for the statistics that experiments use
_APART = ("evidence", "runs", "cli")
_STATISTICS = "evidence/statistics.py"


def canonical(value: Any) -> str:
    """One text for equal JSON-able values, the same on every machine (for hashing and comparing)."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def digest(value: Any) -> str:
    """SHA-256 of a JSON-able value, in hexadecimal."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def imported(file: Path) -> set[str]:
    """Dotted names that a Python source imports, anywhere in it; of ``from a import b`` both ``a`` and ``a.b``."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_bytes(), filename=str(file))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = importlib.util.resolve_name("." * node.level + base, _package_of(file))
            names |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return names


def _package_of(file: Path) -> str:
    """Dotted name of the package that a source is in."""
    packages = itertools.takewhile(lambda folder: (folder / "__init__.py").is_file(), file.parents)
    return ".".join(folder.name for folder in reversed(list(packages)))


def closure(module: str | Iterable[str], package: Path) -> list[Path]:
    """The package's files that running a module may read: itself, what it imports, and the data files beside these.

    A figure, a claim or the runner is none of them unless it is imported: to change it computes nothing anew.

    Parameters
    ----------
    module : str or iterable of str
        One dotted name or several, such as ``"replication.uba.experiments.vision"``.
    package : Path
        The folder of the package.
    """
    found: set[Path] = set()
    waiting = [module] if isinstance(module, str) else list(module)
    while waiting:
        parts = waiting.pop().split(".")
        if parts[:2] == [package.name, "evidence"] and (package / _STATISTICS).is_file():
            found.add(package / _STATISTICS)
        if parts[0] != package.name or (parts[1:2] and parts[1] in _APART):
            continue
        # to import a module runs its packages too; the package's own top is empty of numbers
        for depth in range(2, len(parts) + 1):
            place = package.joinpath(*parts[1:depth])
            for file in (place / "__init__.py", place.with_suffix(".py")):
                if file.is_file() and file not in found:
                    found.add(file)
                    waiting += imported(file)
    data = {
        file
        for room in {file.parent for file in found if file.parent != package}
        for file in room.iterdir()
        if file.is_file() and file.suffix != ".py" and not file.name.startswith(".") and file.name != "claims.yaml"
    }
    return sorted(found | data)


def file_digests(files: Iterable[Path], package: Path) -> dict[str, str]:
    """SHA-256 of files by their path in the package."""
    return {
        file.relative_to(package).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(files)
    }


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


def versions(files: Iterable[Path]) -> dict[str, str]:
    """Versions of the installed distributions that Python sources import, without the standard library and ours."""
    modules = {name.partition(".")[0] for file in files if file.suffix == ".py" for name in imported(file)}
    outside = modules - sys.stdlib_module_names - {"replication"}
    names = {name for module in outside for name in _distributions().get(module, [])}
    return {name: importlib.metadata.version(name) for name in sorted(names)}


def device_class() -> str:
    """``"cpu"`` or ``"cuda"``: `$REPLICATION_DEVICE`, or what torch will find, told without importing torch."""
    asked = os.environ.get("REPLICATION_DEVICE")
    if asked:
        return asked.partition(":")[0]
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in {"", "-1"}
    try:
        cpu_build = importlib.metadata.version("torch").endswith("+cpu")
    except importlib.metadata.PackageNotFoundError:
        cpu_build = True
    return "cuda" if Path("/dev/nvidiactl").exists() and not hidden and not cpu_build else "cpu"
