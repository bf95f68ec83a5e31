"""The schedules that UBA is compared with, driven by the schedulers of ``torch.optim`` where torch has them.

Every schedule is a function of the step t of a budget of T steps, relative to the group's learning rate (its *peak*),
with s = t/T. None of them warms up unless its own definition says so (one-cycle, cyclic).
"""

from __future__ import annotations

import functools
import math
import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    CyclicLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
)
from torch.optim.optimizer import Optimizer

from replication.checks import one_of, whole
from replication.uba.schedule import UBALR

__all__ = ["SCHEDULES", "driven", "factors", "make_scheduler"]


def _step(optimizer: Optimizer, total: int) -> LRScheduler:
    """A tenth from half of the budget on, and a tenth of that from three quarters. He et al. 2016."""
    return MultiStepLR(optimizer, [math.ceil(total / 2), math.ceil(3 * total / 4)], gamma=0.1)


def _cosine(optimizer: Optimizer, total: int) -> LRScheduler:
    """(1 + cos(pi s))/2, without restarts. Loshchilov and Hutter 2017, arXiv 1608.03983."""
    return CosineAnnealingLR(optimizer, total)


def _cyclic(optimizer: Optimizer, total: int) -> LRScheduler:
    """Triangular, twice from a tenth of the peak to the peak and back; Smith 2017, arXiv 1506.01186.

    Ends at the base, not at 0, as published. Momentum is not cycled.
    """
    peaks = [float(group["lr"]) for group in optimizer.param_groups]
    lows = [0.1 * peak for peak in peaks]
    return CyclicLR(optimizer, lows, peaks, step_size_up=total / 4, cycle_momentum=False)  # type: ignore[arg-type]


def _onecycle(optimizer: Optimizer, total: int) -> LRScheduler:
    """Cosine up to the peak, then down far below the start. Smith and Topin, arXiv 1708.07120, in torch's default form.

    Momentum is not cycled, so that the schedules differ in the learning rate only.
    """
    peaks = [float(group["lr"]) for group in optimizer.param_groups]
    return OneCycleLR(optimizer, peaks, total_steps=total, cycle_momentum=False)


def _linear(optimizer: Optimizer, total: int) -> LRScheduler:
    """1 - s, per step ("budgeted training"). Li, Yumer and Ramanan 2020, arXiv 1905.04753."""
    return LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=total)


def _rex_factor(step: int, total: int) -> float:
    rest = max(0.0, 1 - step / total)
    return rest / (0.5 + 0.5 * rest)


def _rex(optimizer: Optimizer, total: int) -> LRScheduler:
    """(1 - s)/(1/2 + (1 - s)/2). Chen, Wolfe and Kyrillidis 2021, arXiv 2107.04197.

    Beware of the widespread variant (1 - s)/(0.1 + 0.9 (1 - s)): it is much flatter and not the published profile.
    """
    return LambdaLR(optimizer, functools.partial(_rex_factor, total=total))


def _wsd_factor(step: int, start: int, total: int) -> float:
    return 1.0 if step < start else 1 - math.sqrt(min(1.0, (step - start) / max(1, total - start)))


def _wsd(optimizer: Optimizer, total: int) -> LRScheduler:
    """Constant, then 1 - sqrt down over the last fifth. Hägele et al. 2024, arXiv 2405.18392.

    Its warm-up is left to whoever trains, who gives all schedules the same.
    """
    return LambdaLR(optimizer, functools.partial(_wsd_factor, start=total - round(0.2 * total), total=total))


def _power(optimizer: Optimizer, total: int, *, exponent: float) -> LRScheduler:
    """(1 - s)^exponent: peak and end exponent are all that is tuned, an upper control for what a shape can give."""
    return PolynomialLR(optimizer, total, exponent)


def _constant(optimizer: Optimizer, total: int) -> LRScheduler:
    """The peak, always."""
    return ConstantLR(optimizer, factor=1.0, total_iters=total)


def _uba(optimizer: Optimizer, total: int, *, phi: float) -> LRScheduler:
    """UBA, the schedule under test (:class:`replication.uba.schedule.UBALR`)."""
    return UBALR(optimizer, total, phi)


SCHEDULES: Mapping[str, Callable[..., LRScheduler]] = types.MappingProxyType(
    {
        "uba": _uba,
        "step": _step,
        "cosine": _cosine,
        "cyclic": _cyclic,
        "onecycle": _onecycle,
        "linear": _linear,
        "rex": _rex,
        "wsd": _wsd,
        "power": _power,
        "constant": _constant,
    }
)
"""Name of a schedule to its constructor ``(optimizer, total, **options)``."""


def make_scheduler(name: str, optimizer: Optimizer, total: int, **options: Any) -> LRScheduler:
    """Build a schedule by name, over a budget of ``total`` steps, with the group's learning rate as its peak.

    Parameters
    ----------
    name : str
        A key of :data:`SCHEDULES`.
    optimizer : Optimizer
        Wrapped optimizer; each group's ``lr`` is its peak.
    total : int
        Budget in steps, at least 2.
    **options
        ``phi`` for ``"uba"``, ``exponent`` for ``"power"``; the others have none.

    Returns
    -------
    LRScheduler
        To be stepped once per training step. Beyond the budget each behaves as torch defines it.

    Raises
    ------
    TypeError, ValueError
        If the name, the budget or an option is not valid.

    Examples
    --------
    >>> optimizer = torch.optim.SGD(torch.nn.Linear(2, 1).parameters(), lr=0.1)
    >>> type(make_scheduler("step", optimizer, 100)).__name__
    'MultiStepLR'
    """
    one_of("name", name, SCHEDULES)
    return SCHEDULES[name](optimizer, whole("total", total, 2), **options)


def driven(build: Callable[[Optimizer], LRScheduler], steps: int, *, peak: float = 1.0) -> NDArray[np.float64]:
    """Learning rates that a scheduler sets at steps 0…steps-1 of an optimizer with this peak, shape (steps,)."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(0))], lr=peak)
    scheduler = build(optimizer)
    optimizer.step()  # torch warns if the scheduler moves first
    rates = [optimizer.param_groups[0]["lr"]]
    for _ in range(steps - 1):
        scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
    return np.array(rates)


@functools.lru_cache(maxsize=1024)
def _factors(name: str, total: int, options: tuple[tuple[str, Any], ...]) -> NDArray[np.float64]:
    table = driven(lambda optimizer: make_scheduler(name, optimizer, total, **dict(options)), total)
    table.setflags(write=False)
    return table


def factors(name: str, total: int, **options: Any) -> NDArray[np.float64]:
    """Tabulate a schedule relative to its peak, by driving the real scheduler over the budget.

    Parameters
    ----------
    name, total, **options
        As for :func:`make_scheduler`; options must be hashable.

    Returns
    -------
    ndarray of float64, shape (total,)
        Learning rate of each step over the peak. Cached, hence read-only.

    Examples
    --------
    >>> factors("linear", 4)
    array([1.  , 0.75, 0.5 , 0.25])
    >>> factors("uba", 4, phi=2).round(3)
    array([1.   , 0.854, 0.5  , 0.146])
    """
    return _factors(name, total, tuple(sorted(options.items())))
