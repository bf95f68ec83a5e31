"""What a step of training minimises: Eqs. 1, 2 and 3, for all replicas at once; losses have shape (R, B)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from replication.adcm.draws import Batch
from replication.adcm.loss import loss_weight, pseudo_huber
from replication.adcm.models import student_and_target
from replication.adcm.schedules import Model, Schedule, over
from replication.adcm.segmentation import Derivative

Groups = Sequence[tuple[float, Tensor]]
"""Replicas by the constant of their distance."""


def consistency_loss(
    model: Model,
    schedule: Schedule,
    batch: Batch,
    t: Tensor,
    r: Tensor,
    weight: Tensor,
    *,
    distances: Groups,
    per_sample: Groups,
) -> Tensor:
    """Eq. 2 on pairs of times, with given weights or with Eq. 11's per sample."""
    student, target = student_and_target(model, schedule, batch.x0, batch.z, t, r, **batch.conditioning)
    for c, at in per_sample:
        own = loss_weight("per_sample", t=t[at], r=r[at], target=target[at], x0=batch.x0[at], c=c)
        weight = weight.index_copy(0, at, own)
    if len(distances) == 1:
        return weight * pseudo_huber(student, target, distances[0][0], batch_dims=2)
    distance = torch.zeros_like(weight)
    for c, at in distances:
        distance = distance.index_copy(0, at, pseudo_huber(student[at], target[at], c, batch_dims=2))
    return weight * distance


def denoising_loss(model: Model, schedule: Schedule, batch: Batch, t: Tensor) -> Tensor:
    """Eq. 1 with w = 1 / c_out^2: the network's own squared error, of the same size at every noise level.

    Not on `VE` with ``exact_boundary``, whose c_out is zero at t_min: there the error grows without bound.
    """
    error = model(schedule.perturb(batch.x0, batch.z, t), t, **batch.conditioning) - batch.x0
    return (error / over(schedule.c_out(t), batch.x0)).square().flatten(2).mean(-1)


def tangent_loss(
    model: Model, schedule: Schedule, batch: Batch, t: Tensor, *, frozen: Model, derivative: Derivative
) -> Tensor:
    """The limit of Eq. 3 with sCM's normalised tangent g / (||g|| + 0.1) (Lu and Song 2025), as the network sees it.

    Its learned weight and its warm-up are left out. The gradient is that of F · -g / (||g|| + 0.1), where
    F = (f - c_skip x) / c_out is the network.
    """
    x = schedule.perturb(batch.x0, batch.z, t)
    with torch.no_grad():
        v = derivative(frozen, batch.x0, batch.z, t, schedule, batch.conditioning)[1]
        # sCM's g = cos(s) df/ds with tan(s) = tau / sigma_d, in the schedule's own time; c_out > 0 turns its sign
        sigma_data = getattr(schedule, "sigma_data", 0.5)
        scale = (schedule.ratio(t) ** 2 + sigma_data**2).sqrt() / schedule.ratio_dot(t)
        g = -over(scale, v) * v
        norm = torch.linalg.vector_norm(g.flatten(2), dim=-1)
        step = g / (over(norm, g) + 0.1)
    output = (model(x, t, **batch.conditioning) - over(schedule.c_skip(t), x) * x) / over(schedule.c_out(t), x)
    loss: Tensor = (output - output.detach() - step).square().flatten(2).mean(-1)
    return loss
