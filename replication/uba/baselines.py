"""The schedules that UBA is compared with, driven by the schedulers of ``torch.optim`` where torch has them.

Every schedule is a function of the step t of a budget of T steps, relative to the group's learning rate (its *peak*),
with s = t/T. None of them warms up unless its own definition says so (one-cycle, cyclic, warm-up–stable–decay).
"""

from __future__ import annotations

import functools
import inspect
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

__all__ = ["SCHEDULES", "factors", "make_scheduler"]


def _fraction(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f"{name}: must be a fraction of the budget, from 0 to 1, got {value!r}")
    return value


def _step(
    optimizer: Optimizer, total: int, *, milestones: tuple[float, ...] = (0.5, 0.75), gamma: float = 0.1
) -> LRScheduler:
    """Piecewise constant, times ``gamma`` from each milestone (a fraction of the budget) on. He et al. 2016."""
    # 0.55 * 100 is 55.00000000000001 in floating point: round before the ceiling
    steps = [math.ceil(round(_fraction("milestones", m) * total, 6)) for m in milestones]
    return MultiStepLR(optimizer, steps, gamma)


def _cosine(optimizer: Optimizer, total: int) -> LRScheduler:
    """(1 + cos(pi s))/2, without restarts. Loshchilov and Hutter 2017, arXiv 1608.03983."""
    return CosineAnnealingLR(optimizer, total)


def _cyclic(optimizer: Optimizer, total: int, *, cycles: int = 2, base: float = 0.1) -> LRScheduler:
    """Triangular between ``base`` times the peak and the peak, from and to the base; Smith 2017, arXiv 1506.01186.

    Ends at the base, not at 0, as published. Momentum is not cycled.
    """
    peaks = [float(group["lr"]) for group in optimizer.param_groups]
    lows = [base * peak for peak in peaks]
    return CyclicLR(optimizer, lows, peaks, step_size_up=total / (2 * cycles), cycle_momentum=False)  # type: ignore[arg-type]


def _onecycle(
    optimizer: Optimizer,
    total: int,
    *,
    pct_start: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    three_phase: bool = False,
) -> LRScheduler:
    """Cosine up to the peak, then down far below the start. Smith and Topin, arXiv 1708.07120, in torch's default form.

    Momentum is not cycled, so that the schedules differ in the learning rate only. ``three_phase=True`` is the form of
    the paper that proposed it.
    """
    peaks = [float(group["lr"]) for group in optimizer.param_groups]
    return OneCycleLR(
        optimizer,
        peaks,
        total_steps=total,
        pct_start=_fraction("pct_start", pct_start),
        anneal_strategy="cos",
        cycle_momentum=False,
        div_factor=div_factor,
        final_div_factor=final_div_factor,
        three_phase=three_phase,
    )


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


def _wsd_factor(step: int, warmup: int, start: int, total: int) -> float:
    if step < warmup:
        return (step + 1) / warmup
    if step < start:
        return 1.0
    return 1 - math.sqrt(min(1.0, (step - start) / (total - start))) if total > start else 1.0


def _wsd(optimizer: Optimizer, total: int, *, warmup: float = 0.05, cooldown: float = 0.2) -> LRScheduler:
    """Warm-up, stable, decay: linear up, constant, then 1 - sqrt down. Hägele et al. 2024, arXiv 2405.18392.

    ``warmup`` and ``cooldown`` are fractions of the budget.
    """
    if _fraction("warmup", warmup) + _fraction("cooldown", cooldown) > 1:
        raise ValueError(f"warmup and cooldown: must fit in the budget together, got {warmup!r} and {cooldown!r}")
    rise, start = round(warmup * total), total - round(cooldown * total)
    return LambdaLR(optimizer, functools.partial(_wsd_factor, warmup=rise, start=max(rise, start), total=total))


def _power(optimizer: Optimizer, total: int, *, exponent: float) -> LRScheduler:
    """(1 - s)^exponent: peak and end exponent are all that is tuned, an upper control for what a shape can give."""
    return PolynomialLR(optimizer, total, exponent)


def _constant(optimizer: Optimizer, total: int) -> LRScheduler:
    """The peak, always."""
    return ConstantLR(optimizer, factor=1.0, total_iters=total)


def _uba(optimizer: Optimizer, total: int, *, phi: float, warmup: int = 0, cycles: int = 1) -> LRScheduler:
    """UBA, the schedule under test (:class:`replication.uba.schedule.UBALR`)."""
    return UBALR(optimizer, total, phi, warmup_iters=warmup, num_cycles=cycles)


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
        Keyword options of that schedule, e.g. ``phi`` for ``"uba"`` (required), ``gamma`` for ``"step"``.

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
    >>> type(make_scheduler("step", optimizer, 100, gamma=0.2)).__name__
    'MultiStepLR'
    """
    one_of("name", name, SCHEDULES)
    whole("total", total, 2)
    build = SCHEDULES[name]
    parameters = list(inspect.signature(build).parameters.values())[2:]
    known = [parameter.name for parameter in parameters]
    unknown = [option for option in options if option not in known]
    if unknown:
        raise TypeError(f"{unknown[0]}: not an option of schedule {name!r}; its options: {', '.join(known) or 'none'}")
    missing = [p.name for p in parameters if p.default is p.empty and p.name not in options]
    if missing:
        raise TypeError(f"{missing[0]}: schedule {name!r} needs this option")
    return build(optimizer, int(total), **options)


@functools.lru_cache(maxsize=1024)
def _factors(name: str, total: int, options: tuple[tuple[str, Any], ...]) -> NDArray[np.float64]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(0))], lr=1.0)
    scheduler = make_scheduler(name, optimizer, total, **dict(options))
    optimizer.step()  # torch warns if the scheduler moves first
    table = np.empty(total)
    for t in range(total):
        table[t] = optimizer.param_groups[0]["lr"]
        if t + 1 < total:
            scheduler.step()
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
