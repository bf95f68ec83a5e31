"""Seeds: one integer fixes a run's initial weights and its data order, whatever else is trained beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch


def stream_seed(seed: int, stream: str) -> int:
    """Return a 63-bit seed for one named use (``"init"``, ``"order"``) of an experiment's seed.

    Distinct streams are independent, so that changing the number of steps never changes the initial weights.
    """
    return int.from_bytes(hashlib.sha256(f"{stream}:{seed}".encode()).digest()[:8], "little") >> 1


@contextmanager
def seeded(seed: int, stream: str = "init") -> Iterator[None]:
    """Seed torch's CPU generator inside the block and restore it afterwards.

    Examples
    --------
    >>> with seeded(0):
    ...     first = torch.rand(2)
    >>> with seeded(0):
    ...     bool((torch.rand(2) == first).all())
    True
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, stream))
        yield


def data_order(seeds: Sequence[int], examples: int, batch_size: int, steps: int) -> torch.Tensor:
    """Draw each seed's order of mini-batches: epochs of shuffled examples, without replacement.

    The order of a seed does not depend on ``steps``: a longer run begins with the shorter run's batches.

    Parameters
    ----------
    seeds : sequence of int
        One order per seed.
    examples, batch_size, steps : int
        Size of the training set, of a batch, and number of batches. The examples left over at the end of an epoch
        (fewer than a batch) are skipped in that epoch.

    Returns
    -------
    Tensor, int64, shape (steps, len(seeds), batch_size)
        Indices into the training set.

    Raises
    ------
    ValueError
        If the batch is larger than the training set, or a size is not positive.
    """
    if batch_size > examples:
        raise ValueError(f"batch_size: {batch_size} is larger than the {examples} training examples")
    if steps < 1 or batch_size < 1 or not seeds:
        raise ValueError(f"steps, batch_size and seeds: need at least 1 each, got {steps}, {batch_size}, {len(seeds)}")
    per_epoch = examples // batch_size

    def one(seed: int) -> npt.NDArray[np.int64]:
        rng = np.random.default_rng(stream_seed(seed, "order"))
        epochs = [rng.permutation(examples)[: per_epoch * batch_size] for _ in range(-(-steps // per_epoch))]
        return np.concatenate(epochs).reshape(-1, batch_size)[:steps]

    return torch.from_numpy(np.stack([one(seed) for seed in seeds], axis=1))
