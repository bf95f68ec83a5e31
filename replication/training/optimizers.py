"""Optimisers of a population: one step for every replica at once, each with its own learning rate.

The update rules are those of ``torch.optim.SGD``, ``torch.optim.AdamW`` and ``torch.optim.RAdam`` (their single-tensor
form); tests hold them equal step by step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from replication.checks import at_least, positive, within

Decays = Callable[[str, int], bool]
Parameters = dict[str, Tensor]
"""One tensor of shape (R, …) for each parameter, by its name."""
State = dict[str, Parameters]
"""The moments that an optimiser keeps, each like the parameters."""


def matrices_only(name: str, ndim: int) -> bool:
    """Decay weight matrices and convolution kernels only, not biases, norms' scales and other vectors."""
    del name
    return ndim >= 2


def everything(name: str, ndim: int) -> bool:
    """Decay every parameter, as ``torch.optim`` does without parameter groups."""
    del name, ndim
    return True


class Optimizer(Protocol):
    """An optimiser of stacked parameters, which changes every element by itself."""

    def init(self, parameters: Parameters) -> State:
        """Return the state for these stacked parameters."""
        ...

    def step(self, parameters: Parameters, gradients: Parameters, state: State, lr: Tensor, count: int) -> None:
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
    # not shown: the text of a function holds its address, which no two processes share
    decays: Decays = field(default=everything, repr=False)

    def __post_init__(self) -> None:
        within("momentum", self.momentum, "[0, 1)")
        if self.nesterov and self.momentum == 0:
            raise ValueError(f"nesterov: needs momentum > 0, got {self.momentum}")
        at_least("weight_decay", self.weight_decay, 0)

    def init(self, parameters: Parameters) -> State:
        """Return zero momentum buffers (with dampening 0, a zero start equals torch's start at the first gradient)."""
        return {"momentum": {k: torch.zeros_like(p) for k, p in parameters.items()}} if self.momentum else {}

    def step(self, parameters: Parameters, gradients: Parameters, state: State, lr: Tensor, count: int) -> None:
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
    decays: Decays = field(default=everything, repr=False)

    def __post_init__(self) -> None:
        within("betas", self.betas, "[0, 1)")
        positive("eps", self.eps)
        at_least("weight_decay", self.weight_decay, 0)

    def init(self, parameters: Parameters) -> State:
        """Return zero first and second moments."""
        return _moments(parameters)

    def step(self, parameters: Parameters, gradients: Parameters, state: State, lr: Tensor, count: int) -> None:
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


@dataclass(frozen=True)
class RAdam:
    """Rectified Adam (Liu et al. 2020), for a population; no weight decay.

    While the second moment rests on too few gradients for its variance to be known (the first five steps at the usual
    ``betas``), the step is that of momentum alone; afterwards Adam's, times the rectification of that variance.

    Parameters
    ----------
    betas : (float, float)
        Decay rates of the two moments, each in [0, 1).
    eps : float
        Added to the root of the second moment, before its bias correction (as ``torch.optim.RAdam`` does).
    """

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def __post_init__(self) -> None:
        within("betas", self.betas, "[0, 1)")
        positive("eps", self.eps)

    def init(self, parameters: Parameters) -> State:
        """Return zero first and second moments."""
        return _moments(parameters)

    def step(self, parameters: Parameters, gradients: Parameters, state: State, lr: Tensor, count: int) -> None:
        """Update in place; see ``Optimizer.step``."""
        beta1, beta2 = self.betas
        correction1, correction2 = 1 - beta1**count, 1 - beta2**count
        # length of the simple moving average that the second moment amounts to, now and in the limit
        limit = 2 / (1 - beta2) - 1
        length = limit - 2 * count * beta2**count / correction2
        scale = 1 / correction1
        if length > 5:
            variance = (length - 4) * (length - 2) * limit / ((limit - 4) * (limit - 2) * length)
            scale *= math.sqrt(variance * correction2)
        for name, p in parameters.items():
            g, rate = gradients[name], per_replica(lr, p)
            first = state["first"][name].lerp_(g, 1 - beta1)
            second = state["second"][name].mul_(beta2).addcmul_(g, g, value=1 - beta2)
            direction = first.div(second.sqrt().add_(self.eps)) if length > 5 else first
            p.addcmul_(direction, rate, value=-scale)


def _moments(parameters: Parameters) -> State:
    return {moment: {k: torch.zeros_like(p) for k, p in parameters.items()} for moment in ("first", "second")}
