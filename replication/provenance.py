"""Where results come from: the code, its dependencies, the machine, the numerics; and how the numerics are pinned.

Nothing here imports torch: the numerics can only be pinned before it is imported.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from replication.sources import INSTRUCTIONS, PINNED

_FEATURES = ("avx", "avx2", "fma", "avx512f", "avx512_bf16", "amx_tile", "neon", "asimd", "sve")


def pin_numerics(*, here: bool = True) -> dict[str, Any]:
    """Ask the numerical libraries for the same instructions and one thread everywhere.

    Environment variables that are already set are left alone. The instruction sets are pinned only on x86 processors
    that have AVX2. Call this before torch is imported; it reads the variables when it loads. Later none is set: it
    would say of this process, and in the keys of its parts, what does not hold.

    Parameters
    ----------
    here : bool
        This process computes; otherwise only processes that it starts do, and the variables are set for them.

    Returns
    -------
    dict
        ``pinned`` (bool), ``reason`` (empty, or why not) and ``variables``, as they are now; None for one not set.
    """
    wanted = {name: value for name, value in PINNED.items() if name not in INSTRUCTIONS or _has_avx2()}
    found = {name: os.environ.get(name) for name in wanted}
    late = here and None in found.values() and "torch" in sys.modules
    if not late:
        for name, value in wanted.items():
            os.environ.setdefault(name, value)
    other = [f"{name}={value}" for name, value in found.items() if value not in (None, wanted[name])]
    if other:
        reason = f"set before: {', '.join(other)}"
    elif late:
        reason = "torch was already imported"
    elif not _has_avx2():
        reason = "not an x86 processor with AVX2: only threads are pinned"
    else:
        reason = ""
    return {"pinned": not reason, "reason": reason, "variables": {name: os.environ.get(name) for name in wanted}}


def collect(
    *,
    parameters: Mapping[str, Any] | None = None,
    data: Mapping[str, str] | None = None,
    device: str = "cpu",
    pinned: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What a result depends on, as a JSON-able dict without paths, users or host names.

    Parameters
    ----------
    parameters : mapping, optional
        The run's parameters, JSON-able; its ``seeds`` are repeated on their own.
    data : mapping, optional
        Checksums of the data sets, by name.
    device : str
        Where it ran.
    pinned : mapping, optional
        What `pin_numerics` returned.
    """
    parameters = parameters or {}
    return {
        "git": git_revision(),
        "packages": package_versions(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": {
            "model": cpu_model(),
            "features": [f for f in _FEATURES if f in cpu_features()],
            "count": os.cpu_count(),
        },
        "threads": threads(),
        "numerics": dict(pinned or {}),
        "device": device,
        "seeds": parameters.get("seeds"),
        "data": dict(data or {}),
        "parameters": without_paths(dict(parameters)),
    }


def git_revision() -> dict[str, Any]:
    """Revision of the package's sources, and whether they differ from it; both None outside a git checkout of it."""
    root = Path(__file__).parent

    def git(*arguments: str) -> str:
        # optional locks off: runs in parallel must not contend for the index
        command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        # an installed copy may lie inside somebody else's repository, whose revision says nothing
        git("ls-files", "--error-unmatch", "__init__.py")
        return {"revision": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--", "."))}
    except (OSError, subprocess.SubprocessError):
        return {"revision": None, "dirty": None}


@cache
def package_versions() -> dict[str, str | None]:
    """Installed versions of this package and of what it and its notebooks need; None where one is not installed."""
    required = importlib.metadata.requires("replication-notebooks") or []
    lines = [line for line in required if not re.search(r"extra == .(dev|docs|minilm)", line)]
    names = {re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0] for line in lines}
    return {name: _version(name) for name in ["replication-notebooks", *sorted(names - {"replication-notebooks"})]}


def cpu_model() -> str:
    """The processor's name as the operating system gives it."""
    match = re.search(r"^model name\s*:\s*(.+)$", _cpuinfo(), re.MULTILINE)
    return match[1].strip() if match else platform.processor() or platform.machine() or "unknown"


def cpu_features() -> frozenset[str]:
    """Instruction sets of the processor, in lower case."""
    match = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", _cpuinfo(), re.MULTILINE)
    if match:
        return frozenset(match[1].split())
    # elsewhere than Linux, numpy knows; since 2.4 it names whole x86 levels
    found: Any = np.show_config(mode="dicts") or {}
    names = {
        name.lower() for group in ("baseline", "found") for name in found.get("SIMD Extensions", {}).get(group, [])
    }
    return frozenset(names | ({"avx", "avx2", "fma"} if "x86_v3" in names else set()))


def threads() -> dict[str, int | None]:
    """Threads that torch uses for one operation, if it is imported, and those that OpenMP was asked for."""
    torch: Any = sys.modules.get("torch")
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return {"torch": torch.get_num_threads() if torch else None, "omp": int(asked) if asked.isdigit() else None}


def without_paths(value: Any) -> Any:
    """The same JSON-able value with absolute paths cut to their last part: results are published."""
    if isinstance(value, Mapping):
        return {key: without_paths(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(inner) for inner in value]
    if isinstance(value, str):
        for flavour in (PurePosixPath, PureWindowsPath):
            if flavour(value).is_absolute():
                return f"…/{flavour(value).name}"
    return value


def _has_avx2() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64", "x64") and "avx2" in cpu_features()


@cache
def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
