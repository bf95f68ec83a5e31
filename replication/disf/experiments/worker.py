"""What a worker process of the cost experiment does: one batch of a corpus on disk after the other.

In a module of its own, because a new process imports the module of its task.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil

from replication.disf.selection import batch_seed, select_batch


def batch(path: str, batch_id: int, rows: int, picks: int) -> npt.NDArray[np.int64]:
    """Select from one batch of the features in an ``.npy`` file.

    Parameters
    ----------
    path : str
        The file, shape (N, d).
    batch_id, rows, picks : int
        Number and size of the batch, and documents to select from it.

    Returns
    -------
    ndarray, int64
        Row numbers in the file.
    """
    # mapped and copied anew for every batch, so that the process never holds more than one
    begin = batch_id * rows
    features = np.array(np.load(path, mmap_mode="r")[begin : begin + rows])
    return begin + select_batch(features, picks, seed=batch_seed(0, batch_id))


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
