"""Seeds: one integer fixes a run's initial weights and its data order, whatever else is trained beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch

from replication.checks import whole


def stream_seed(seed: int, stream: str) -> int:
    """Return a 63-bit seed for one named use (``"init"``, ``"order"``) of an experiment's seed.

    Distinct streams are independent, so that changing the number of steps never changes the initial weights.

    Raises
    ------
    ValueError
        If the seed is no integer of at least 0: what is hashed must be the number, not how some object prints.
    """
    text = f"{stream}:{whole('seed', seed, 0)}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def distinct(seeds: Sequence[int]) -> list[int]:
    """Return every seed once, in the order in which it is met, as an int of Python's.

    Raises
    ------
    ValueError
        If there is none, or one is no integer of at least 0.
    """
    found = list(dict.fromkeys(whole("seeds", seed, 0) for seed in seeds))
    if not found:
        raise ValueError("seeds: need at least one, got an empty sequence")
    return found


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
    if steps < 1 or batch_size < 1 or not len(seeds):
        raise ValueError(f"steps, batch_size and seeds: need at least 1 each, got {steps}, {batch_size}, {len(seeds)}")
    per_epoch = examples // batch_size

    def one(seed: int) -> npt.NDArray[np.int64]:
        rng = np.random.default_rng(stream_seed(seed, "order"))
        epochs = [rng.permutation(examples)[: per_epoch * batch_size] for _ in range(-(-steps // per_epoch))]
        return np.concatenate(epochs).reshape(-1, batch_size)[:steps]

    return torch.from_numpy(np.stack([one(seed) for seed in seeds], axis=1))
