"""The consistency loss and its weights: pseudo-Huber distance, adaptive weight (Eq. 11)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from replication.adcm.models import Sample, evaluating, parted
from replication.adcm.schedules import Model, Schedule, interpolate, standard_normal
from replication.adcm.segmentation import Diverged, over_ranks
from replication.checks import one_of

Weight = Literal["per_sample", "w_t", "inverse_step", "inverse_t", "one"]
WEIGHTS: tuple[Weight, ...] = get_args(Weight)

FLOOR = 1e-8
"""Least distance that a weight is the inverse of."""


def pseudo_huber(a: Tensor, b: Tensor, c: float, *, batch_dims: int = 1) -> Tensor:
    """Pseudo-Huber distance of vectors, sqrt(||a - b||^2 + c^2) - c, one number a sample (not an element).

    Parameters
    ----------
    a, b : Tensor, shape `(*replicas, n, *event)`
        Points.
    c : float
        Where it turns from quadratic to linear; 0 is the Euclidean distance. The paper has .03 on CIFAR-10, 0 on
        ImageNet, iCT `huber_constant`.
    batch_dims : int
        Number of leading axes that are no part of a vector: a time's ``dim()``, 1 for one model.

    Returns
    -------
    Tensor, shape `(*replicas, n)`
        Distances; their gradient at a = b is zero.

    Raises
    ------
    ValueError
        c is negative or not finite, or a and b have different shapes.

    Examples
    --------
    >>> pseudo_huber(torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2), 12.0)
    tensor([1.])
    """
    if not 0 <= c < math.inf:
        raise ValueError(f"c: must be at least 0 and finite, got {c}")
    if a.shape != b.shape:
        raise ValueError(f"b: must have a's shape {tuple(a.shape)}, got {tuple(b.shape)}")
    difference = (a - b).flatten(batch_dims)
    if c == 0:
        norm: Tensor = torch.linalg.vector_norm(difference, dim=-1)
        return norm
    squared = difference.square().sum(-1)
    # sqrt(s + c^2) - c, without the cancellation where s is small
    return squared / ((squared + c**2).sqrt() + c)


def huber_constant(dimension: int) -> float:
    """Return iCT's constant of the pseudo-Huber distance, 0.00054 sqrt(d) (Song and Dhariwal 2024).

    Examples
    --------
    >>> round(huber_constant(3 * 32 * 32), 5)
    0.02993
    """
    return 0.00054 * math.sqrt(dimension)


@dataclass(frozen=True, eq=False)
class TargetError:
    """E d(f(x_t), x0) as a function of t: what the weight w(t) is the inverse of.

    Parameters
    ----------
    schedule : Schedule
        Whose time it is.
    times : Tensor, float64, shape (k,)
        Nodes, ascending.
    values : Tensor, float64, shape `(*replicas, k)`
        Expected distances at the nodes, positive.

    Examples
    --------
    >>> from replication.adcm.schedules import VE
    >>> error = TargetError(VE(), torch.tensor([0.1, 10.0]).double(), torch.tensor([0.1, 10.0]).double())
    >>> error(torch.tensor([1.0]).double())
    tensor([1.], dtype=torch.float64)
    """

    schedule: Schedule
    times: Tensor
    values: Tensor

    def __call__(self, t: Tensor) -> Tensor:
        """Interpolate log E d linearly in log tau; constant beyond the ends. t and the result: `(*replicas, n)`."""
        at = self.schedule.ratio(t.to(self.times.dtype)).log()
        return interpolate(self.schedule.ratio(self.times).log(), self.values.log(), at).exp()


def target_error(
    model: Model,
    sample: Sample,
    schedule: Schedule,
    times: Tensor,
    c: float,
    *,
    batch_size: int = 1024,
    generator: torch.Generator | None = None,
    noise: Callable[[Tensor], Tensor] | None = None,
    batch_dims: int = 1,
    across_ranks: bool = True,
) -> TargetError:
    """Estimate E d(f(x_t), x0) at given times, for the weight w(t).

    Every time sees the same data and noise, so that the estimate is smooth in t.

    Parameters
    ----------
    model : callable(x, t, **conditioning) -> x0
        The target model, frozen. A module is put into evaluation mode and back.
    sample : callable(n) -> Tensor or (Tensor, mapping)
        Draws data of shape `(*replicas, n, *event)`, as for `segment`.
    schedule : Schedule
        Noise schedule.
    times : Tensor, shape (k,)
        Where to estimate, ascending; at least two. `Schedule.levels` has such.
    c : float
        Constant of the distance.
    batch_size : int
        Samples an estimate.
    generator : torch.Generator, optional
        Draws the noise; default: torch's.
    noise : callable(x0) -> z, optional
        Draws the noise instead, e.g. every replica's from its own generator.
    batch_dims : int
        1 for one model, 2 for a population: leading axes of the data that are no part of the event.
    across_ranks : bool
        Average over the ranks of ``torch.distributed`` where it is initialised, as `segment` does.

    Returns
    -------
    TargetError
        A function of the time.

    Raises
    ------
    ValueError
        There are fewer than two times, they do not ascend, or an error is not finite.
    """
    times = times.to(torch.float64)
    if times.dim() != 1 or len(times) < 2 or bool((times.diff() <= 0).any()):
        raise ValueError(f"times: need at least two, ascending, on one axis; got {times.tolist()}")
    x0, conditioning = parted(sample(batch_size))
    z = noise(x0) if noise else standard_normal(x0, generator)
    values = []
    with torch.no_grad(), evaluating(model, schedule):
        for time in times:
            t = time.to(x0.device, x0.dtype).expand(x0.shape[:batch_dims])
            estimate = model(schedule.perturb(x0, z, t), t, **conditioning)
            values.append(pseudo_huber(estimate, x0, c, batch_dims=batch_dims).mean(-1))
    errors = torch.stack(values, -1).to(torch.float64)
    errors = over_ranks(errors) if across_ranks else errors
    if not bool(errors.isfinite().all()):
        raise Diverged("model: its error E d(f(x_t), x0) is not finite at some times; has the training diverged?")
    return TargetError(schedule, times.to(x0.device), errors.clamp(min=FLOOR))


def loss_weight(
    weight: Weight,
    *,
    t: Tensor,
    r: Tensor,
    target: Tensor | None = None,
    x0: Tensor | None = None,
    c: float = 0.0,
    error: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Weight of a pair of times in the loss, one number a sample, without gradient.

    Parameters
    ----------
    weight : str
        ``per_sample``: 1 / d(f(x_r), x0), Eq. 11 as printed; it depends on x0 and so changes what the loss estimates.
        ``w_t``: 1 / E d(f(x_r), x0), the w(t) of the paper's prose. ``inverse_step``: 1 / (t - r), iCT and ECM.
        ``inverse_t``: 1 / t. ``one``.
    t, r : Tensor, shape `(*replicas, n)`
        Later and earlier time, or their ratios tau for a baseline that is rewritten in it.
    target, x0 : Tensor, shape `(*replicas, n, *event)`
        f(x_r) and data; needed for ``per_sample``.
    c : float
        Constant of the distance in ``per_sample``.
    error : callable(Tensor) -> Tensor
        E d(f(x_r), x0) as a function of r (`target_error`); needed for ``w_t``.

    Returns
    -------
    Tensor, shape `(*replicas, n)`
        Weights.

    Raises
    ------
    ValueError
        The weight is unknown, or what it needs is missing.
    """
    one_of("weight", weight, WEIGHTS)
    match weight:
        case "per_sample":
            if target is None or x0 is None:
                raise ValueError("target and x0: weight='per_sample' is the inverse of their distance, it needs both")
            inverse = pseudo_huber(target.detach(), x0, c, batch_dims=t.dim())
        case "w_t":
            if error is None:
                raise ValueError("error: weight='w_t' needs E d(f(x_r), x0) as a function of r; see target_error")
            inverse = error(r)
        case "inverse_step":
            inverse = t - r
        case "inverse_t":
            inverse = t
        case "one":
            return torch.ones_like(t)
    return 1 / inverse.clamp(min=FLOOR)


def adaptive_loss(
    student: Tensor,
    target: Tensor,
    x0: Tensor,
    c: float,
    weight: Weight,
    *,
    t: Tensor,
    r: Tensor,
    error: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Weighted consistency loss of a batch (Eq. 11): w d(f(x_t), sg f(x_r)), one number a sample.

    Parameters
    ----------
    student, target : Tensor, shape `(*replicas, n, *event)`
        f(x_t), and f(x_r), through which no gradient passes.
    x0 : Tensor, shape `(*replicas, n, *event)`
        Data.
    c : float
        Constant of the distance, in the loss and in the weight.
    weight : str
        As `loss_weight` takes it. The paper prints ``per_sample``, which biases the target where the dimension is
        small; ``w_t``, the w(t) of its prose, does not.
    t, r, error
        As `loss_weight` takes them.

    Returns
    -------
    Tensor, shape `(*replicas, n)`
        Losses.

    Examples
    --------
    >>> student, target, x0 = torch.tensor([[2.0]]), torch.tensor([[1.0]]), torch.tensor([[0.5]])
    >>> adaptive_loss(student, target, x0, 0.0, "per_sample", t=torch.tensor([1.0]), r=torch.tensor([0.9]))
    tensor([2.])
    """
    scale = loss_weight(weight, t=t, r=r, target=target, x0=x0, c=c, error=error)
    distance = pseudo_huber(student, target.detach(), c, batch_dims=t.dim())
    return scale.to(distance.dtype) * distance
