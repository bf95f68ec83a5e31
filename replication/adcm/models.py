"""What stands between a user's network and the algorithm: labels, the mode it is in, dropout, preconditioning."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from replication.adcm.schedules import VE, Model, Schedule

Conditioning = Mapping[str, Tensor]
"""Further arguments of a model by keyword, such as class labels; one row a sample."""
Data = Tensor | tuple[Tensor, Conditioning]
"""Data x0, or x0 with its conditioning."""
Sample = Callable[[int], Data]
"""Draws n data: a tensor of shape `(n, *event)`, or `(R, n, *event)` for a population; alone or with conditioning."""


def parted(data: Data) -> tuple[Tensor, dict[str, Tensor]]:
    """Data, if they are dense and finite, and their conditioning, which is empty where there is none."""
    x0, conditioning = (data, {}) if isinstance(data, Tensor) else data
    if x0.layout != torch.strided:
        raise ValueError(f"sample: must return dense data, got {x0.layout}; call to_dense()")
    if not x0.isfinite().all():
        raise ValueError("sample: must return finite data, got NaN or infinity")
    return x0, dict(conditioning)


class EDMModel(nn.Module):
    """A network of EDM's kind, ``net(x, sigma, class_labels=None, augment_labels=None)``, as a model f(x, t).

    Such a network preconditions itself and estimates x0 (Karras et al. 2022; also ECT's). Its noise level is the time
    of the schedule `VE`, and no other schedule fits. It may compute in another precision than x's.

    Parameters
    ----------
    net : Module
        The network.

    Examples
    --------
    >>> class Net(nn.Module):
    ...     def forward(self, x, sigma, class_labels=None, augment_labels=None):
    ...         return x / (1 + sigma**2) + class_labels.mean()
    >>> EDMModel(Net())(torch.ones(1, 1, 1, 1), torch.ones(1), class_labels=torch.ones(1, 10)).item()
    1.5
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, t: Tensor, **conditioning: Tensor) -> Tensor:
        """Estimate x0, of x's shape and dtype, from x of shape `(n, *event)` at noise levels t of shape (n,)."""
        found: Tensor = self.net(x, t.reshape(-1, *[1] * (x.dim() - 1)), **conditioning)
        return found.to(x.dtype)


class Preconditioned(nn.Module):
    """A raw network F(c_in x, c_noise) as a model f(x, t) on a schedule (`Schedule.denoise`).

    Parameters
    ----------
    network : Module
        F.
    schedule : Schedule
        Noise schedule.
    """

    def __init__(self, network: nn.Module, schedule: Schedule) -> None:
        super().__init__()
        self.network, self.schedule = network, schedule

    def forward(self, x: Tensor, t: Tensor, **conditioning: Tensor) -> Tensor:
        """Estimate x0 from x of shape `(n, *event)` at times of shape (n,)."""
        return self.schedule.denoise(self.network, x, t, **conditioning)


def student_and_target(
    model: Model, schedule: Schedule, x0: Tensor, z: Tensor, t: Tensor, r: Tensor, **conditioning: Tensor
) -> tuple[Tensor, Tensor]:
    """Return f(x_t, t) and f(x_r, r), the second without gradient, both under the same dropout masks.

    Both draw from torch's default generators, which are left as the student's pass leaves them.

    Parameters
    ----------
    model : callable(x, t, **conditioning) -> x0
        The network that is trained, in train mode.
    schedule : Schedule
        Noise schedule.
    x0, z : Tensor, shape `(*replicas, n, *event)`
        Data and noise.
    t, r : Tensor, shape `(*replicas, n)`
        Later and earlier times.

    Returns
    -------
    student, target : Tensor of x0's shape

    Raises
    ------
    ValueError
        The model holds batch norm in train mode, or is an `EDMModel` on another schedule than `VE`.
    """
    check_schedule(model, schedule)
    check_norms("model", model)
    with torch.no_grad(), torch.random.fork_rng([x0.device] if x0.is_cuda else []):
        target = model(schedule.perturb(x0, z, r), r, **conditioning)
    return model(schedule.perturb(x0, z, t), t, **conditioning), target


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Compute in full precision inside the block: without autocast, and without TF32 on a GPU; both are put back."""
    # not `allow_tf32`, which torch refuses to read where its user has set `fp32_precision`
    cudnn: Any = torch.backends.cudnn
    backends: list[Any] = [torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn]
    on = [backend for backend in backends if backend.fp32_precision == "tf32"]
    try:
        for backend in on:
            backend.fp32_precision = "ieee"
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for backend in on:
            backend.fp32_precision = "tf32"


@contextmanager
def evaluating(model: Model, schedule: Schedule) -> Iterator[None]:
    """Put a module into evaluation mode and full precision inside the block, and back into what it was in.

    Networks of EDM's kind cast themselves where they have ``use_fp16``, which is switched off. A warning says where the
    mode makes a difference: where there is dropout or batch norm in train mode. A model that the schedule does not fit
    is refused.
    """
    check_schedule(model, schedule)
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    on = [(module, name) for module in modules for name in ("training", "use_fp16") if getattr(module, name, False)]
    if kinds := sorted({type(module).__name__ for module in modules if module.training and depends_on_mode(module)}):
        warnings.warn(
            f"model: is in train mode and holds {', '.join(kinds)}; evaluated in eval mode, then put back",
            stacklevel=4,
        )
    try:
        for module, name in on:
            setattr(module, name, False)
        yield
    finally:
        for module, name in on:
            setattr(module, name, True)


def depends_on_mode(module: nn.Module) -> bool:
    """Whether a module computes something else in train mode; EDM's blocks keep the rate of theirs in ``dropout``."""
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0
    rate = getattr(module, "dropout", 0)
    return couples(module) or (isinstance(rate, float) and rate > 0)


def random_state(device: torch.device) -> Tensor:
    """State of torch's default generator on a device."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def couples(module: nn.Module) -> bool:
    """Whether a module's outputs in train mode depend on the other examples of the batch."""
    return isinstance(module, nn.modules.batchnorm._BatchNorm)


def check_schedule(model: Model, schedule: Schedule) -> None:
    """Refuse an `EDMModel` on another schedule than `VE`: it would take the time for a noise level."""
    # data parallel training wraps it
    if isinstance(getattr(model, "module", model), EDMModel) and not isinstance(schedule, VE):
        raise ValueError(f"schedule: must be VE for an EDMModel, whose noise level is VE's time, got {schedule}")


def check_norms(name: str, model: Model) -> None:
    """Refuse batch norm in train mode: two passes a step would move its statistics twice."""
    for module in model.modules() if isinstance(model, nn.Module) else ():
        if couples(module) and module.training:
            raise ValueError(
                f"{name}: the network holds a {type(module).__name__}, whose statistics student and target cannot "
                "share; use GroupNorm or LayerNorm"
            )
