"""Data, noise and uniforms of a training, each a function of the seed and the step and of nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from replication.adcm.models import Data, parted
from replication.training import stream_seed
from replication.training.seeding import distinct

BLOCK = 32
"""Steps whose draws are made at once."""

Draw = Callable[[torch.Generator, int], Data]
"""Draws n examples, shape `(n, *event)`, alone or with conditioning, by the given CPU generator and nothing else."""


class Batch(NamedTuple):
    """What one step sees; the replicas come first."""

    x0: Tensor
    z: Tensor
    u: Tensor
    """Uniforms behind the times, float64, shape (R, B)."""
    conditioning: dict[str, Tensor]


class Draws:
    """The draws of a population, in which replicas of a seed share theirs.

    There is no generator to keep: a run that starts over at any step sees what it would have seen.

    Parameters
    ----------
    sample : callable(generator, n) -> Tensor or (Tensor, mapping)
        Draws data.
    seeds : sequence of int, length R
        Seed of every replica.
    batch_size : int
        Examples of a step and replica.
    device : torch.device
        Where the draws go.
    """

    def __init__(self, sample: Draw, seeds: Sequence[int], batch_size: int, device: torch.device) -> None:
        self._sample, self._seeds, self._size, self._device = sample, list(seeds), batch_size, device
        self._distinct = distinct(seeds)
        self._of = torch.tensor([self._distinct.index(seed) for seed in seeds])
        self._number = -1
        self._block: dict[str, Tensor] = {}

    def _at(self, step: int) -> dict[str, Tensor]:
        """The block that holds a step: tensors of shape (BLOCK, seeds, B, …)."""
        if step // BLOCK != self._number:
            self._number = step // BLOCK
            drawn = []
            for seed in self._distinct:
                generator = torch.Generator().manual_seed(stream_seed(seed, f"block {self._number}"))
                x0, conditioning = parted(self._sample(generator, BLOCK * self._size))
                z = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
                # never exactly 0: every pair then has t > r
                u = torch.rand(len(x0), generator=generator, dtype=torch.float64) + 2**-54
                drawn.append({"x0": x0, "z": z, "u": u, **{f"given {name}": c for name, c in conditioning.items()}})
            self._block = {
                name: torch.stack([one[name].reshape(BLOCK, self._size, *one[name].shape[1:]) for one in drawn], 1).to(
                    self._device
                )
                for name in drawn[0]
            }
        return self._block

    def batch(self, step: int) -> Batch:
        """Data, noise, uniforms and conditioning of a step, shapes (R, B, …)."""
        now = {name: part[step % BLOCK][self._of] for name, part in self._at(step).items()}
        x0, z, u = now.pop("x0"), now.pop("z"), now.pop("u")
        return Batch(x0, z, u, {name.removeprefix("given "): part for name, part in now.items()})

    def uniforms(self, step: int, replica: int) -> Tensor:
        """Uniforms of a replica from a step to the end of its block, float64, shape (L, B)."""
        return self._at(step)["u"][step % BLOCK :, self._of[replica]]

    def streams(self, rows: Sequence[int], stream: str) -> tuple[Callable[[int], Data], Callable[[Tensor], Tensor]]:
        """Samplers of data and of noise for some replicas, each from its own seed's generator."""
        seeds = [self._seeds[row] for row in rows]
        generators = {seed: torch.Generator().manual_seed(stream_seed(seed, stream)) for seed in seeds}
        of = torch.tensor([list(generators).index(seed) for seed in seeds])

        def stacked(parts: Sequence[Tensor]) -> Tensor:
            return torch.stack(list(parts))[of].to(self._device)

        def data(n: int) -> Data:
            drawn = [parted(self._sample(generator, n)) for generator in generators.values()]
            x0, names = stacked([x for x, _ in drawn]), drawn[0][1]
            return (x0, {name: stacked([given[name] for _, given in drawn]) for name in names}) if names else x0

        def noise(x0: Tensor) -> Tensor:
            shape = x0.shape[1:]
            return stacked([torch.randn(shape, generator=one, dtype=x0.dtype) for one in generators.values()])

        return data, noise
