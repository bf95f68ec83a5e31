"""Sampling from a trained consistency model in one step, and in two."""

from __future__ import annotations

import torch
from torch import Tensor

from replication.adcm.models import evaluating
from replication.adcm.schedules import Model, Schedule
from replication.checks import within

MIDDLE = 0.42
"""The paper's intermediate noise level of two-step sampling on CIFAR-10; ECM's code has 0.821."""


def sample_one_step(
    model: Model, z: Tensor, schedule: Schedule, *, batch_dims: int = 1, **conditioning: Tensor
) -> Tensor:
    """Return f(x, t_max) from noise: f(T z, T) on VE.

    Parameters
    ----------
    model : callable(x, t, **conditioning) -> x0
        A consistency model. A module is put into evaluation mode and full precision, and back.
    z : Tensor, shape `(*replicas, n, *event)`
        Standard normal noise.
    schedule : Schedule
        The model's schedule.
    batch_dims : int
        Number of leading axes that are no part of the event.
    **conditioning : Tensor
        Further arguments of the model, such as class labels.

    Returns
    -------
    Tensor of z's shape
        Samples.
    """
    with torch.no_grad(), evaluating(model, schedule):
        return model(schedule.prior(z), _all_at(schedule.t_max, z, batch_dims), **conditioning)


def sample_two_step(
    model: Model,
    z: Tensor,
    z_mid: Tensor,
    schedule: Schedule,
    *,
    t_mid: float | None = None,
    batch_dims: int = 1,
    **conditioning: Tensor,
) -> Tensor:
    """Sample in one step, noise the result to ``t_mid`` and apply the model again.

    Parameters
    ----------
    model, z, schedule, batch_dims, conditioning
        As `sample_one_step` takes them.
    z_mid : Tensor of z's shape
        Noise of the second step.
    t_mid : float, optional
        Time to which the first sample is noised; default: where tau is the paper's .42.

    Returns
    -------
    Tensor of z's shape
        Samples.

    Raises
    ------
    ValueError
        ``t_mid`` lies outside the schedule's range.
    """
    if t_mid is None:
        t_mid = float(schedule.time(torch.tensor(MIDDLE, dtype=torch.float64)))
    within("t_mid", t_mid, f"[{schedule.t_min}, {schedule.t_max}]")
    t = _all_at(t_mid, z, batch_dims)
    with torch.no_grad(), evaluating(model, schedule):
        first = sample_one_step(model, z, schedule, batch_dims=batch_dims, **conditioning)
        return model(schedule.perturb(first, z_mid, t), t, **conditioning)


def _all_at(t: float, z: Tensor, batch_dims: int) -> Tensor:
    return torch.full(z.shape[:batch_dims], t, dtype=z.dtype, device=z.device)
