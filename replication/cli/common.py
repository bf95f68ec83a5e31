"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path

import click

profile = click.option("--profile", default="smoke", show_default=True, help="Parameter set: smoke or standard.")
scheduler = click.option(
    "--scheduler", metavar="ADDRESS", help="Take the workers of this dask cluster, e.g. tcp://10.0.0.1:8786."
)


def shown(path: Path) -> str:
    """A path as short as it can be and still be opened from here."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
