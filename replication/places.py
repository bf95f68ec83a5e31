"""Where a project's notebooks and runs are. Every room may import this module, as it knows none of them."""

from __future__ import annotations

import os
from pathlib import Path

import replication


def home() -> Path | None:
    """The folder with ``notebooks/`` and ``pyproject.toml``: `$REPLICATION_HOME`, or the clone that this package is in.

    The current folder plays no part, so everything does the same wherever it is started.
    """
    asked = os.environ.get("REPLICATION_HOME")
    candidates = [Path(asked).expanduser().absolute()] if asked else Path(replication.__file__).absolute().parents
    for root in candidates:
        if (root / "notebooks").is_dir() and (root / "pyproject.toml").is_file():
            return root
    return None


def runs() -> Path | None:
    """The folder of the runs on this machine: `$REPLICATION_RUNS`, or ``runs/`` of the project; None without either.

    An address such as ``s3://…`` is the runner's business, which gives its kernels a folder.
    """
    asked = os.environ.get("REPLICATION_RUNS")
    if asked and "://" not in asked:
        return Path(asked).expanduser().absolute()
    root = home()
    return root / "runs" if root else None
