"""Adaptive discretization: the Gauss-Newton time step (Eq. 10) and the segmentation of [t_min, t_max] (Algorithm 1).

Where a model is a good consistency model and t far exceeds the data's scale s, the step grows like kappa t^2 / s: with
``t_max`` too large for the data one step spans everything. The cap on a step is a safeguard of ours, as is the floor,
since the estimate of a step may also come out zero or negative; how often each acted is counted, never hidden.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from replication.adcm.schedules import Model, Schedule, standard_normal
from replication.checks import one_of, positive

Mode = Literal["interpolated", "paper"]
Sample = Callable[[int], Tensor]
"""Draws n data: a tensor of shape `(n, *event)`, or `(R, n, *event)` for a population."""

SAFEGUARDS = ("nonpositive", "nonfinite", "floored", "capped", "remainder")
"""What is counted: estimates <= 0; estimates that are no numbers; steps lengthened to the floor; steps shortened to the
cap; a last step cut at t_min (Algorithm 1 appends it)."""


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A discretization of [t_min, t_max] and how it came about.

    Parameters
    ----------
    times : Tensor, float64, shape (N + 1,)
        t_min = t_0 < … < t_N = t_max.
    counts : dict of str to int
        How often each of `SAFEGUARDS` acted. In mode ``interpolated`` the first two count nodes, the others steps.
    nodes, rates : Tensor, float64, shape (k,)
        Where E[v.e] / E[v.v] was estimated, ascending, and the estimates as they came, safeguards not applied.
    """

    times: Tensor
    counts: dict[str, int]
    nodes: Tensor
    rates: Tensor

    @property
    def steps(self) -> Tensor:
        """Lengths of the segments, float64, shape (N,)."""
        return self.times.diff()

    def __len__(self) -> int:
        """Number N of segments."""
        return len(self.times) - 1


def kappa(lam: float) -> float:
    """Return lambda / (1 + lambda), the factor of Eq. 10.

    Raises
    ------
    ValueError
        ``lam`` is not positive and finite.

    Examples
    --------
    >>> round(kappa(0.01), 8)
    0.00990099
    """
    positive("lam", lam)
    return lam / (1 + lam)


# --- one step ---------------------------------------------------------------------------------------------------------


def tangent(model: Model, x0: Tensor, z: Tensor, t: float | Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
    """Return f(x_t, t) and its total derivative v = df/dx dx_t/dt + df/dt along the path of (x0, z), by one JVP.

    Parameters
    ----------
    model : callable(x, t) -> x0
        f; nothing is differentiated with respect to its parameters.
    x0, z : Tensor, shape `(*replicas, n, *event)`
        Data and noise.
    t : float, or Tensor of shape `(*replicas, n)`
        Times; a number serves all samples of one model.
    schedule : Schedule
        Noise schedule.

    Returns
    -------
    f, v : Tensor of x0's shape
        Value and derivative.

    Raises
    ------
    ValueError
        The shapes do not fit together.
    """
    t = _times(t, x0)
    x, direction = schedule.perturb(x0, z, t), schedule.velocity(x0, z, t)
    with torch.no_grad():
        outputs = torch.func.jvp(model, (x, t), (direction, torch.ones_like(t)))
    return outputs[0], outputs[1]


def tangent_finite_difference(
    model: Model, x0: Tensor, z: Tensor, t: float | Tensor, schedule: Schedule, *, relative_step: float = 1e-3
) -> Tensor:
    """The derivative v of `tangent` by central differences over t (1 ± relative_step), same (x0, z)."""
    t = _times(t, x0)
    h = relative_step * t
    with torch.no_grad():
        after = model(schedule.perturb(x0, z, t + h), t + h)
        before = model(schedule.perturb(x0, z, t - h), t - h)
    return (after - before) / (2 * h).reshape(h.shape + (1,) * (x0.dim() - h.dim()))


def step_rate(
    model: Model,
    x0: Tensor,
    z: Tensor,
    t: float | Tensor,
    schedule: Schedule,
    *,
    relative_step: float | None = None,
) -> Tensor:
    """R(t) = E[v.e] / E[v.v], the step of Eq. 10 per unit of kappa; a ratio of means over the sample axis.

    Parameters
    ----------
    model, x0, z, t, schedule
        As `tangent` takes them.
    relative_step : float, optional
        Take v by central differences (`tangent_finite_difference`) instead of a JVP, for a model that a JVP cannot pass
        or passes slowly, such as one with a solver inside.

    Returns
    -------
    Tensor, shape `(*replicas,)`
        R, one a replica.
    """
    times = _times(t, x0)
    if relative_step is None:
        value, v = tangent(model, x0, z, times, schedule)
    else:
        v = tangent_finite_difference(model, x0, z, times, schedule, relative_step=relative_step)
        with torch.no_grad():
            value = model(schedule.perturb(x0, z, times), times)
    return _rate(value - x0, v, times.dim())


def gauss_newton_step(model: Model, x0: Tensor, z: Tensor, t: float | Tensor, schedule: Schedule, lam: float) -> Tensor:
    """Return the time step of Eq. 10, lambda / (1 + lambda) E[v.e] / E[v.v] with e = f(x_t) - x0.

    It minimises E||v||^2 dt^2 + lambda E||e - v dt||^2, which is L_local + lambda L_global (Eq. 9) with f linearised
    in dt. Nothing makes it positive: E[v.e] is half the derivative of E||e||^2, and an estimate of it is noisy.

    Parameters
    ----------
    model, x0, z, t, schedule
        As `tangent` takes them.
    lam : float
        Weight of global against local consistency.

    Returns
    -------
    Tensor, shape `(*replicas,)`
        Steps, one a replica; a scalar for one model.

    Raises
    ------
    ValueError
        ``lam`` is not positive and finite, or the shapes do not fit together.

    Examples
    --------
    Of the exact denoiser of standard normal data the step is kappa t, up to the noise of the sample:

    >>> from replication.adcm.schedules import VE
    >>> g = torch.Generator().manual_seed(0)
    >>> x0, z = torch.randn(2, 50_000, 3, generator=g)
    >>> step = gauss_newton_step(lambda x, t: x / (1 + t[:, None] ** 2), x0, z, 0.3, VE(), lam=0.01)
    >>> round(float(step / kappa(0.01)), 1)
    0.3
    """
    return kappa(lam) * step_rate(model, x0, z, t, schedule)


def gauss_newton_step_reference(
    model: Model, x0: Tensor, z: Tensor, t: float, schedule: Schedule, lam: float, *, relative_step: float = 1e-3
) -> Tensor:
    """Eq. 10 for one model term by term, v by central differences: what `gauss_newton_step` is tested against."""
    times = _times(t, x0)
    e = model(schedule.perturb(x0, z, times), times) - x0
    v = tangent_finite_difference(model, x0, z, t, schedule, relative_step=relative_step)
    mean_ve = torch.stack([(v[i] * e[i]).sum() for i in range(len(x0))]).mean()
    mean_vv = torch.stack([(v[i] * v[i]).sum() for i in range(len(x0))]).mean()
    return lam / (1 + lam) * mean_ve / mean_vv


def consistency(
    model: Model, x0: Tensor, z: Tensor, t: float | Tensor, r: float | Tensor, schedule: Schedule
) -> tuple[Tensor, Tensor]:
    """Return local and global consistency of a step from t to r (Eqs. 4 and 6).

    L_local = E||f(x_t) - f(x_r)||^2 and L_global = E||f(x_r) - x0||^2, squared norms over the event. The second is not
    zero for a perfect consistency model: f*(x_r) is a point of the data, but not the x0 that was noised.

    Returns
    -------
    local, global : Tensor, shape `(*replicas,)`
    """
    t, r = _times(t, x0), _times(r, x0)
    with torch.no_grad():
        after, before = (model(schedule.perturb(x0, z, s), s) for s in (t, r))
    first = t.dim() - 1
    return _mean_dot(after - before, after - before, first), _mean_dot(before - x0, before - x0, first)


# --- the segmentation -------------------------------------------------------------------------------------------------


def segment(
    model: Model,
    sample: Sample,
    schedule: Schedule,
    lam: float = 0.01,
    *,
    mode: Mode = "interpolated",
    nodes: int = 64,
    batch_size: int = 1024,
    antithetic: bool = True,
    floor: float = 1e-3,
    cap: float = 0.5,
    relative_step: float | None = None,
    generator: torch.Generator | None = None,
    noise: Callable[[Tensor], Tensor] | None = None,
) -> Segmentation:
    """Segment [t_min, t_max] by the Gauss-Newton step of a frozen model (Algorithm 1, the simulation).

    Parameters
    ----------
    model : callable(x, t) -> x0
        The target model, in evaluation mode.
    sample : callable(n) -> Tensor
        Draws data of shape `(n, *event)`; called afresh for every estimate.
    schedule : Schedule
        Noise schedule.
    lam : float
        Weight of global against local consistency.
    mode : str
        ``paper``: from t_max down, one estimate on one fresh mini-batch a step, as Algorithm 1 has it.
        ``interpolated``: estimates at `nodes` times, geometric in tau; between them log(R_tau / tau) is linear in
        log tau. The same grid in expectation, at a cost that does not grow with its length; a deviation of ours.
    nodes : int
        Number of estimates in mode ``interpolated``, at least 2.
    batch_size : int
        Data an estimate. In low dimension one mini-batch is too few: the signal-to-noise ratio of E[v.e] is about
        (s/t) sqrt(d batch_size) where t exceeds the data's scale s.
    antithetic : bool
        Use every x0 with z and -z, which takes most of that noise away at twice the cost. The paper does not.
    floor, cap : float
        Safeguards of ours: least and largest relative step in tau (on VE, of dt / t); cap = 1 is none.
    relative_step : float, optional
        Central differences instead of JVPs, as `step_rate` takes it.
    generator : torch.Generator, optional
        Draws the noise; default: torch's.
    noise : callable(x0) -> z, optional
        Draws the noise instead, e.g. every replica's from its own generator.

    Returns
    -------
    Segmentation
        The times, and how often each safeguard acted.

    Raises
    ------
    ValueError
        ``lam`` is not positive and finite, another argument is out of its range, the model returns another shape than
        it was given, or no estimate is finite.

    Examples
    --------
    The exact denoiser of Gaussian data makes a uniform grid in log t, of ln(T/eps) / -ln(1 - kappa) = 1065 steps:

    >>> from replication.adcm.gaussian import Gaussian
    >>> from replication.adcm.schedules import VE
    >>> data, schedule, g = Gaussian([0.5] * 64), VE(), torch.Generator().manual_seed(0)
    >>> sample = lambda n: data.sample(n, generator=g)
    >>> grid = segment(data.denoiser(schedule), sample, schedule, lam=0.01, nodes=16, batch_size=256, generator=g)
    >>> 1000 < len(grid) < 1130, grid.counts["capped"]
    (True, 0)
    """
    shape = {
        "nodes": nodes,
        "batch_size": batch_size,
        "antithetic": antithetic,
        "floor": floor,
        "cap": cap,
        "relative_step": relative_step,
    }
    return _segment(model, sample, schedule, lam, mode, generator, noise, batch_dims=1, **shape)[0]  # type: ignore[arg-type]


def segment_population(
    model: Model,
    sample: Sample,
    schedule: Schedule,
    lam: float = 0.01,
    *,
    mode: Mode = "interpolated",
    nodes: int = 64,
    batch_size: int = 1024,
    antithetic: bool = True,
    floor: float = 1e-3,
    cap: float = 0.5,
    relative_step: float | None = None,
    generator: torch.Generator | None = None,
    noise: Callable[[Tensor], Tensor] | None = None,
) -> list[Segmentation]:
    """Segment for R models at once; arguments as of `segment`.

    Parameters
    ----------
    model : callable(x, t) -> x0
        From `(R, n, *event)` and (R, n) to `(R, n, *event)`, replica by replica.
    sample : callable(n) -> Tensor
        Draws data of shape `(R, n, *event)`.

    Returns
    -------
    list of Segmentation, length R
        A grid each.
    """
    shape = {
        "nodes": nodes,
        "batch_size": batch_size,
        "antithetic": antithetic,
        "floor": floor,
        "cap": cap,
        "relative_step": relative_step,
    }
    return _segment(model, sample, schedule, lam, mode, generator, noise, batch_dims=2, **shape)  # type: ignore[arg-type]


def walk(
    step: Callable[[list[float]], Sequence[float]],
    schedule: Schedule,
    replicas: int = 1,
    *,
    floor: float = 1e-3,
    cap: float = 0.5,
) -> tuple[list[Tensor], list[dict[str, int]]]:
    """Go from t_max down to t_min by given steps, with the safeguards of `segment`.

    Parameters
    ----------
    step : callable(list of float) -> sequence of float
        The step that each replica wants from its time; a replica that has arrived is asked on, and not heard.
    schedule : Schedule
        Its range is walked.
    replicas : int
        Walks made at once.
    floor, cap : float
        As `segment` takes them.

    Returns
    -------
    times : list of Tensor, float64
        Of every replica t_min = t_0 < … < t_N = t_max.
    counts : list of dict
        Of every replica how often each of `SAFEGUARDS` acted.

    Raises
    ------
    ValueError
        Not 0 < floor < cap <= 1.

    Examples
    --------
    >>> from replication.adcm.schedules import VE
    >>> times, counts = walk(lambda at: [kappa(0.01) * t for t in at], VE())
    >>> len(times[0]) - 1, counts[0]["remainder"]
    (1065, 1)
    """
    if not 0 < floor < cap <= 1:
        raise ValueError(f"floor and cap: need 0 < floor < cap <= 1, got {floor} and {cap}")
    paths = [[schedule.t_max] for _ in range(replicas)]
    counts = [dict.fromkeys(SAFEGUARDS, 0) for _ in range(replicas)]
    while any(path[-1] > schedule.t_min for path in paths):
        wanted = step([path[-1] for path in paths])
        for path, dt, count in zip(paths, wanted, counts, strict=True):
            if path[-1] > schedule.t_min:
                path.append(_advance(path[-1], dt, schedule, floor, cap, count))
    return [torch.tensor(path[::-1], dtype=torch.float64) for path in paths], counts


def _advance(t: float, dt: float, schedule: Schedule, floor: float, cap: float, count: dict[str, int]) -> float:
    tau = schedule.ratio(t)
    nearest, farthest = schedule.time(tau * (1 - floor)), schedule.time(tau * (1 - cap))
    r = t - dt
    if not math.isfinite(dt):
        count["nonfinite"] += 1
        r = nearest
    elif dt <= 0:
        count["nonpositive"] += 1
        r = nearest
    elif r > nearest:
        count["floored"] += 1
        r = nearest
    elif r < farthest:
        count["capped"] += 1
        r = farthest
    if r < schedule.t_min:
        count["remainder"] += 1
    return max(r, schedule.t_min)


def _segment(
    model: Model,
    sample: Sample,
    schedule: Schedule,
    lam: float,
    mode: Mode,
    generator: torch.Generator | None,
    noise: Callable[[Tensor], Tensor] | None,
    *,
    batch_dims: int,
    nodes: int,
    batch_size: int,
    antithetic: bool,
    floor: float,
    cap: float,
    relative_step: float | None,
) -> list[Segmentation]:
    one_of("mode", mode, get_args(Mode))
    if nodes < 2 or batch_size < 1:
        raise ValueError(f"nodes and batch_size: need at least 2 and 1, got {nodes} and {batch_size}")
    factor = kappa(lam)

    def rate(t: Tensor) -> Tensor:
        """Estimate R at times of shape (R,) on fresh data."""
        x0 = sample(batch_size)
        if x0.dim() <= batch_dims or x0.shape[batch_dims - 1] != batch_size:
            axes = "(n, *event)" if batch_dims == 1 else "(R, n, *event)"
            raise ValueError(f"sample: must return shape {axes} with n = {batch_size}, got {tuple(x0.shape)}")
        z = noise(x0) if noise else standard_normal(x0, generator)
        if antithetic:
            x0, z = torch.cat([x0, x0], batch_dims - 1), torch.cat([z, -z], batch_dims - 1)
        lead = x0.shape[:batch_dims]
        times = t.to(x0.device).reshape(-1, 1).expand(-1, lead[-1]).expand(lead if batch_dims == 2 else (1, *lead))
        found = step_rate(model, x0, z, times if batch_dims == 2 else times[0], schedule, relative_step=relative_step)
        return found.reshape(-1).to("cpu", torch.float64)

    if mode == "paper":
        asked: list[tuple[list[float], Tensor]] = []

        def fresh(t: list[float]) -> list[float]:
            asked.append((t, rate(torch.tensor(t, dtype=torch.float64))))
            return [factor * found for found in asked[-1][1].tolist()]

        replicas = 1 if batch_dims == 1 else len(sample(1))
        times, counts = walk(fresh, schedule, replicas, floor=floor, cap=cap)
        rates = torch.stack([found for _, found in asked], -1)
        # estimates were made at the ends of the segments, from the last on; a replica that arrived early was asked on
        return [
            Segmentation(grid, count, grid[1:], found[: len(grid) - 1].flip(0))
            for grid, count, found in zip(times, counts, rates, strict=True)
        ]

    ends = [math.log(schedule.ratio(t)) for t in (schedule.t_min, schedule.t_max)]
    levels = torch.linspace(ends[0], ends[1], nodes, dtype=torch.float64)
    at = schedule.time(levels.exp()).clamp(schedule.t_min, schedule.t_max)
    rates = torch.stack([rate(t[None]) for t in at], -1)
    if not bool(rates.isfinite().any()):
        raise ValueError("model: no estimate of the time step is finite; has the training diverged?")
    # the step's share of tau, kappa R_tau / tau with R_tau = tau' R, in which the schedules agree
    share = factor * rates * schedule.ratio_dot(at) / schedule.ratio(at)
    nonfinite, nonpositive = ~share.isfinite(), share <= 0
    curves = torch.where(nonfinite | nonpositive, floor, share).log().tolist()

    def interpolated(t: list[float]) -> list[float]:
        return [_interpolated(s, curve, ends, schedule) for s, curve in zip(t, curves, strict=True)]

    times, counts = walk(interpolated, schedule, len(rates), floor=floor, cap=cap)
    for count, negative, broken in zip(counts, nonpositive.sum(-1).tolist(), nonfinite.sum(-1).tolist(), strict=True):
        count.update(nonpositive=negative, nonfinite=broken)
    return [Segmentation(grid, count, at, found) for grid, count, found in zip(times, counts, rates, strict=True)]


def _interpolated(t: float, curve: list[float], ends: list[float], schedule: Schedule) -> float:
    """The step in t from the logarithm of its share of tau at nodes that are evenly spaced in log tau."""
    tau = schedule.ratio(t)
    place = (math.log(tau) - ends[0]) / (ends[1] - ends[0]) * (len(curve) - 1)
    left = min(max(int(place), 0), len(curve) - 2)
    log_share = curve[left] + (place - left) * (curve[left + 1] - curve[left])
    return math.exp(log_share) * tau / schedule.ratio_dot(t)


def _times(t: float | Tensor, x0: Tensor) -> Tensor:
    """Times in the data's dtype; a number for every sample of one model."""
    if isinstance(t, Tensor) and t.dim() > 0:
        # contiguous, since a view that repeats one number cannot carry a tangent
        return t.to(x0.dtype).contiguous()
    return torch.full(x0.shape[:1], float(t), dtype=x0.dtype, device=x0.device)


def _mean_dot(a: Tensor, b: Tensor, sample_axis: int) -> Tensor:
    """E[a.b] over the sample axis, a dot product over the event."""
    return (a * b).flatten(sample_axis).sum(-1) / a.shape[sample_axis]


def _rate(e: Tensor, v: Tensor, batch_dims: int) -> Tensor:
    if v.shape != e.shape:
        raise ValueError(f"model: must return the shape it is given, {tuple(e.shape)}, got {tuple(v.shape)}")
    return _mean_dot(v, e, batch_dims - 1) / _mean_dot(v, v, batch_dims - 1)
