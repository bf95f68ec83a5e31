"""What a worker process of the cost experiment does: one batch of a corpus on disk after the other.

In a module of its own, because a new process imports the module of its task.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import psutil

from replication.disf.corpus import select_rows
from replication.disf.corpus.rows import Piece


def batch(path: str, batch_id: int, rows: int, picks: int) -> list[int]:
    """Row numbers of what is selected from one batch, as :func:`replication.disf.corpus.select_corpus` does it."""
    numbers = np.arange(batch_id * rows, (batch_id + 1) * rows)
    return select_rows([Piece(path, 0, numbers)], picks, batch=batch_id, seed=0)


def peaks(path: str, counts: list[int], rows: int, picks: int) -> list[float]:
    """Return this process's peak memory in MB after so many batches; the counts must grow."""
    found, done = [], 0
    for count in counts:
        for batch_id in range(done, count):
            batch(path, batch_id, rows, picks)
        done = count
        found.append(_peak())
    return found


def _peak() -> float:
    status = Path("/proc/self/status")
    if status.exists():
        # getrusage would begin with the peak of the process that started this one
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) / 1024
    # other systems tell no peak of this kind; between batches this is what the process still holds
    return psutil.Process().memory_info().rss / 2**20
