"""A small folder of text with three domains, for the experiments' tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

DOMAINS = ("code", "prose", "tables")


def write_corpus(folder: Path, *, sources: int = 24, seed: int = 0) -> Path:
    """Write `sources` files per domain, each domain with its own words; the first line names the file."""
    rng = np.random.default_rng(seed)
    for d, domain in enumerate(DOMAINS):
        (folder / domain).mkdir(parents=True)
        for i in range(sources):
            words = rng.integers(200 * d, 200 * d + 260, size=90)
            text = f"{domain} {i}: " + " ".join(f"w{w}" for w in words)
            (folder / domain / f"{i}.txt").write_text(text)
    return folder
