"""One network with many sets of parameters, as one model of a population."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from replication.adcm.models import EDMModel, check_norms, check_schedule
from replication.adcm.schedules import Model, Schedule
from replication.training import stream_seed
from replication.training.replicas import built, initial


class Ensemble:
    """R replicas of a network, each called with parameters of its own.

    A module with a method ``stacked(parameters, x, c, **conditioning)`` runs all replicas by it (see `TimeMLP`); any
    other runs them one after another, whatever it is made of.

    Parameters
    ----------
    build : callable() -> Module
        Builds the raw network F(c_in x, c_noise, **conditioning), or an `EDMModel`, which preconditions itself; called
        once per distinct seed, under that seed.
    seeds : sequence of int, length R
        Seed of every replica.
    schedule : Schedule
        Noise schedule.
    device : torch.device
        Where it lives.
    autocast : torch.dtype, optional
        Precision of the network in training.

    Attributes
    ----------
    fresh : dict of str to Tensor, shape (R, …)
        Initial values of what is trained; frozen parameters and buffers are each network's own.

    Raises
    ------
    ValueError
        The network holds batch norm in train mode, casts itself to float16, is an `EDMModel` on another schedule than
        `VE`, or nothing of it is trained.
    """

    def __init__(
        self,
        build: Callable[[], nn.Module],
        seeds: Sequence[int],
        schedule: Schedule,
        device: torch.device,
        autocast: torch.dtype | None = None,
    ) -> None:
        self._seeds, self._schedule, self._device, self._autocast = list(seeds), schedule, device, autocast
        self._networks = {seed: network.to(device) for seed, network in built(build, seeds).items()}
        check_schedule(self._networks[seeds[0]], schedule)
        check_norms("build", self._networks[seeds[0]])
        if any(getattr(module, "use_fp16", False) for module in self._networks[seeds[0]].modules()):
            raise ValueError(
                "build: the network casts itself to float16 (use_fp16); take autocast=torch.bfloat16 instead"
            )
        # the modes that the network came in hold in training
        self._trained = {seed: [m for m in one.modules() if m.training] for seed, one in self._networks.items()}
        self.fresh = initial(self._networks, seeds)

    def model(
        self, parameters: dict[str, Tensor], rows: Sequence[int] | None = None, *, step: int | None = None
    ) -> Model:
        """The model f(x, t, **conditioning) of some replicas, shapes (R, n, …).

        Parameters
        ----------
        parameters : dict of str to Tensor, shape (R, …)
            Theirs.
        rows : sequence of int, optional
            Which replicas they are; default: all.
        step : int, optional
            A step of training: dropout acts, with masks that the seed and the step fix, and so does autocast. Default:
            in evaluation mode, in full precision.
        """
        seeds = self._seeds if rows is None else [self._seeds[row] for row in rows]
        first = self._networks[self._seeds[0]]
        stacked: Any = getattr(first, "stacked", None)

        def together(x: Tensor, t: Tensor, **conditioning: Tensor) -> Tensor:
            return self._schedule.denoise(partial(stacked, parameters), x, t, **conditioning)

        def in_turn(x: Tensor, t: Tensor, **conditioning: Tensor) -> Tensor:
            found = []
            for i, seed in enumerate(seeds):
                own = {name: p[i] for name, p in parameters.items()}
                with self._moded(seed, step):
                    found.append(self._one(seed, own, x[i], t[i], {name: c[i] for name, c in conditioning.items()}))
            return torch.stack(found)

        def model(x: Tensor, t: Tensor, **conditioning: Tensor) -> Tensor:
            cast = step is not None and self._autocast is not None
            with torch.autocast(self._device.type, self._autocast, enabled=cast):
                return (together if stacked is not None else in_turn)(x, t, **conditioning)

        return model

    def _one(self, seed: int, own: dict[str, Tensor], x: Tensor, t: Tensor, conditioning: dict[str, Tensor]) -> Tensor:
        network = self._networks[seed]

        def raw(x: Tensor, c: Tensor, **given: Tensor) -> Tensor:
            return functional_call(network, own, (x, c), given)  # type: ignore[no-any-return]

        if isinstance(network, EDMModel):
            return raw(x, t, **conditioning)
        return self._schedule.denoise(raw, x, t, **conditioning)

    @contextmanager
    def _moded(self, seed: int, step: int | None) -> Iterator[None]:
        """Put a network into train mode under the masks of a step, or into evaluation mode."""
        for module in self._trained[seed]:
            module.training = step is not None
        if step is None:
            yield
            return
        with torch.random.fork_rng([self._device] if self._device.type == "cuda" else []):
            torch.manual_seed(stream_seed(seed, f"dropout {step}"))
            yield
