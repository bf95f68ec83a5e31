"""Optimisers of a population: one step for every replica at once, each with its own learning rate.

The update rules are those of ``torch.optim.SGD`` and ``torch.optim.AdamW`` (their single-tensor form); a test holds
them equal step by step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

Decays = Callable[[str, int], bool]


def matrices_only(name: str, ndim: int) -> bool:
    """Decay weight matrices and convolution kernels only, not biases, norms' scales and other vectors."""
    del name
    return ndim >= 2


def everything(name: str, ndim: int) -> bool:
    """Decay every parameter, as ``torch.optim`` does without parameter groups."""
    del name, ndim
    return True


class Optimizer(Protocol):
    """An optimiser of stacked parameters."""

    def init(self, parameters: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Return the state for these stacked parameters."""
        ...

    def step(
        self,
        parameters: dict[str, Tensor],
        gradients: dict[str, Tensor],
        state: dict[str, dict[str, Tensor]],
        lr: Tensor,
        count: int,
    ) -> None:
        """Update the parameters and the state in place; ``lr`` has shape (R,), ``count`` is the step from 1 on."""
        ...


def per_replica(values: Tensor, like: Tensor) -> Tensor:
    """View one value per replica, shape (R,), so that it broadcasts over ``like``, shape (R, …)."""
    return values.view(-1, *[1] * (like.ndim - 1))


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum, for a population.

    Parameters
    ----------
    momentum : float
        Momentum factor μ in [0, 1).
    nesterov : bool
        Nesterov's form; needs ``momentum > 0``.
    weight_decay : float
        L2 penalty, added to the gradient as ``torch.optim.SGD`` does.
    decays : callable(name, ndim) -> bool
        Which parameters the penalty is applied to; ``ndim`` is that of one replica's parameter.
    """

    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    decays: Decays = field(default=everything)

    def __post_init__(self) -> None:
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum: must lie in [0, 1), came {self.momentum}")
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov: needs momentum > 0")
        _check_decay(self.weight_decay)

    def init(self, parameters: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Return zero momentum buffers (with dampening 0, a zero start equals torch's start at the first gradient)."""
        return {"momentum": {k: torch.zeros_like(p) for k, p in parameters.items()}} if self.momentum else {}

    def step(
        self,
        parameters: dict[str, Tensor],
        gradients: dict[str, Tensor],
        state: dict[str, dict[str, Tensor]],
        lr: Tensor,
        count: int,
    ) -> None:
        """Update in place; see ``Optimizer.step``."""
        del count
        for name, p in parameters.items():
            g = gradients[name]
            if self.weight_decay and self.decays(name, p.ndim - 1):
                g = g.add(p, alpha=self.weight_decay)
            if self.momentum:
                buffer = state["momentum"][name].mul_(self.momentum).add_(g)
                g = g.add(buffer, alpha=self.momentum) if self.nesterov else buffer
            p.addcmul_(g, per_replica(lr, p), value=-1)


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019), for a population.

    Parameters
    ----------
    betas : (float, float)
        Decay rates of the two moments, each in [0, 1).
    eps : float
        Added to the root of the second moment, after bias correction.
    weight_decay : float
        Decoupled decay: p ← (1 − lr · weight_decay) p.
    decays : callable(name, ndim) -> bool
        Which parameters decay; ``ndim`` is that of one replica's parameter.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.01
    decays: Decays = field(default=everything)

    def __post_init__(self) -> None:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas: must lie in [0, 1), came {self.betas}")
        if not self.eps > 0:
            raise ValueError(f"eps: must be positive, came {self.eps}")
        _check_decay(self.weight_decay)

    def init(self, parameters: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Return zero first and second moments."""
        return {moment: {k: torch.zeros_like(p) for k, p in parameters.items()} for moment in ("first", "second")}

    def step(
        self,
        parameters: dict[str, Tensor],
        gradients: dict[str, Tensor],
        state: dict[str, dict[str, Tensor]],
        lr: Tensor,
        count: int,
    ) -> None:
        """Update in place; see ``Optimizer.step``."""
        beta1, beta2 = self.betas
        correction1, root2 = 1 - beta1**count, math.sqrt(1 - beta2**count)
        for name, p in parameters.items():
            g, rate = gradients[name], per_replica(lr, p)
            if self.weight_decay and self.decays(name, p.ndim - 1):
                p.mul_(1 - rate * self.weight_decay)
            first = state["first"][name].lerp_(g, 1 - beta1)
            second = state["second"][name].mul_(beta2).addcmul_(g, g, value=1 - beta2)
            denominator = second.sqrt().div_(root2).add_(self.eps)
            p.addcmul_(first.div(denominator), rate, value=-1 / correction1)


def _check_decay(weight_decay: float) -> None:
    if not weight_decay >= 0:
        raise ValueError(f"weight_decay: must not be negative, came {weight_decay}")
