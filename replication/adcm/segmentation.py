"""Adaptive discretization: the Gauss-Newton time step (Eq. 10) and the segmentation of [t_min, t_max] (Algorithm 1).

Where a model is a good consistency model and t far exceeds the data's scale s, the step grows like kappa t^2 / s: with
``t_max`` too large for the data one step spans everything. The cap on a step is a safeguard of ours, as is the floor,
since the estimate of a step may also come out zero or negative; how often each acted is counted, never hidden.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, overload

import torch
from torch import Tensor, distributed
from torch.overrides import TorchFunctionMode

from replication.adcm.models import Sample, evaluating, full_precision, parted, random_state
from replication.adcm.schedules import Model, Schedule, standard_normal
from replication.checks import one_of, positive

Mode = Literal["interpolated", "paper"]

SAFEGUARDS = ("nonpositive", "nonfinite", "floored", "capped", "remainder")
"""What is counted: estimates <= 0; estimates that are no numbers; steps lengthened to the floor; steps shortened to the
cap; a last step cut at t_min (Algorithm 1 appends it)."""

RELATIVE_STEP = 1e-3
"""That of the central difference which takes the place of a JVP where a model cannot be passed by one."""


class Diverged(ValueError):
    """A model whose outputs are no numbers, so that nothing can be estimated from it."""


@dataclass(frozen=True)
class Adaptive:
    """The paper's discretisation: how [t_min, t_max] is segmented by the Gauss-Newton step of a model.

    Parameters
    ----------
    lam : float
        The paper's lambda, the weight of global against local consistency.
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
        Safeguards of ours: least and largest relative step in tau (on VE, of dt / t); cap = 1 is none. The denoiser of
        Gaussian data has the relative step kappa(lam): a floor that is not below it draws a warning.
    relative_step : float, optional
        Take the derivative by central differences over t (1 ± relative_step) instead of a JVP. By default a JVP is
        tried first, and `RELATIVE_STEP` taken where it fails (custom autograd functions, kernels of attention).

    Raises
    ------
    ValueError
        An argument is out of its range.
    """

    lam: float = 0.01
    mode: Mode = "interpolated"
    nodes: int = 64
    batch_size: int = 1024
    antithetic: bool = True
    floor: float = 1e-3
    cap: float = 0.5
    relative_step: float | None = None

    def __post_init__(self) -> None:
        positive("lam", self.lam)
        one_of("mode", self.mode, get_args(Mode))
        if self.nodes < 2 or self.batch_size < 1:
            raise ValueError(f"nodes and batch_size: need at least 2 and 1, got {self.nodes} and {self.batch_size}")
        _check_safeguards(self.floor, self.cap)
        if self.floor >= kappa(self.lam):
            warnings.warn(
                f"floor: got {self.floor:g}, not below kappa(lam) = {kappa(self.lam):g}, so it will make most "
                "steps; lower it",
                stacklevel=3,
            )
        if self.relative_step is not None:
            positive("relative_step", self.relative_step)


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
    relative_step : float, optional
        That of the central differences, if these were taken; None for JVPs.
    """

    times: Tensor
    counts: dict[str, int]
    nodes: Tensor
    rates: Tensor
    relative_step: float | None = None

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


def tangent(
    model: Model,
    x0: Tensor,
    z: Tensor,
    t: float | Tensor,
    schedule: Schedule,
    *,
    relative_step: float | None = None,
    conditioning: Mapping[str, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return f(x_t, t) and its total derivative v = df/dx dx_t/dt + df/dt along the path of (x0, z).

    Parameters
    ----------
    model : callable(x, t, **conditioning) -> x0
        f; nothing is differentiated with respect to its parameters.
    x0, z : Tensor, shape `(*replicas, n, *event)`
        Data and noise.
    t : float, or Tensor of shape `(*replicas, n)`
        Times; a number serves all samples of one model.
    schedule : Schedule
        Noise schedule.
    relative_step : float, optional
        Take v by central differences over t (1 ± relative_step), same (x0, z), which costs three forward passes. By
        default by one JVP, and with a warning by differences over `RELATIVE_STEP` where a JVP cannot pass the model.
    conditioning : mapping of str to Tensor, optional
        Further arguments of the model.

    Returns
    -------
    f, v : Tensor of x0's shape
        Value and derivative.

    Raises
    ------
    ValueError
        The shapes do not fit together.
    """
    return Derivative(relative_step)(model, x0, z, _times(t, x0), schedule, conditioning or {})


@dataclass
class Derivative:
    """Takes what `tangent` returns, and remembers where a JVP cannot pass the model, so that it is tried once.

    Parameters
    ----------
    relative_step : float, optional
        That of central differences; None for JVPs, until one fails.
    """

    relative_step: float | None = None

    def __call__(
        self,
        model: Model,
        x0: Tensor,
        z: Tensor,
        t: Tensor,
        schedule: Schedule,
        conditioning: Mapping[str, Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Return value and derivative; arguments as of `tangent`, times as a tensor."""
        x, direction = schedule.perturb(x0, z, t), schedule.velocity(x0, z, t)
        # a difference over a thousandth of t is below what half precision and TF32 resolve
        with torch.no_grad(), full_precision(x0.device):
            failed, step = None, self.relative_step
            if step is None:
                try:
                    with _Forward():
                        one = torch.func.jvp(
                            lambda x, t: model(x, t, **conditioning), (x, t), (direction, torch.ones_like(t))
                        )
                    return one[0], one[1]
                except torch.OutOfMemoryError:
                    raise
                except RuntimeError as error:
                    failed, step = error, RELATIVE_STEP
            h = step * t
            # what is wrong with the model itself is raised here
            value = model(x, t, **conditioning)
            after, before = (model(schedule.perturb(x0, z, s), s, **conditioning) for s in (t + h, t - h))
        if failed is not None:
            self.relative_step = step
            reason = str(failed).strip().partition("\n")[0]
            warnings.warn(
                f"model: a JVP cannot pass it ({reason}); central differences are taken, relative_step={step}",
                stacklevel=3,
            )
        return value, (after - before) / (2 * h).reshape(h.shape + (1,) * (x0.dim() - h.dim()))


class _Forward(TorchFunctionMode):
    """Fails where torch's forward-mode derivative is silently wrong: that of products over an index is zero."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        kwargs = kwargs or {}
        given = [*args, *kwargs.values()]
        if "scatter_reduce" in getattr(func, "__name__", "") and any(isinstance(a, str) and a == "prod" for a in given):
            raise NotImplementedError("torch's forward-mode derivative of scatter_reduce with 'prod' is zero")
        return func(*args, **kwargs)


def step_rate(
    model: Model,
    x0: Tensor,
    z: Tensor,
    t: float | Tensor,
    schedule: Schedule,
    *,
    conditioning: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """R(t) = E[v.e] / E[v.v], the step of Eq. 10 per unit of kappa; a ratio of means over the sample axis.

    Parameters
    ----------
    model, x0, z, t, schedule, conditioning
        As `tangent` takes them.

    Returns
    -------
    Tensor, shape `(*replicas,)`
        R, one a replica.
    """
    times = _times(t, x0)
    value, v = tangent(model, x0, z, times, schedule, conditioning=conditioning)
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


def walk(
    step: Callable[[list[float]], Sequence[float]],
    schedule: Schedule,
    replicas: int = 1,
    *,
    floor: float = 1e-3,
    cap: float = 0.5,
) -> tuple[list[Tensor], list[dict[str, int]]]:
    """Go from t_max down to t_min by given steps, with the safeguards of `Adaptive`.

    Parameters
    ----------
    step : callable(list of float) -> sequence of float
        The step that each replica wants from its time; a replica that has arrived is asked on, and not heard.
    schedule : Schedule
        Its range is walked.
    replicas : int
        Walks made at once.
    floor, cap : float
        As `Adaptive` has them.

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
    _check_safeguards(floor, cap)
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


@overload
def segment(
    model: Model,
    sample: Sample,
    schedule: Schedule,
    rule: Adaptive = ...,
    *,
    replicas: None = None,
    generator: torch.Generator | None = None,
    noise: Callable[[Tensor], Tensor] | None = None,
    across_ranks: bool = True,
) -> Segmentation: ...


@overload
def segment(
    model: Model,
    sample: Sample,
    schedule: Schedule,
    rule: Adaptive = ...,
    *,
    replicas: int,
    generator: torch.Generator | None = None,
    noise: Callable[[Tensor], Tensor] | None = None,
    across_ranks: bool = True,
) -> list[Segmentation]: ...


def segment(
    model: Model,
    sample: Sample,
    schedule: Schedule,
    rule: Adaptive | None = None,
    *,
    replicas: int | None = None,
    generator: torch.Generator | None = None,
    noise: Callable[[Tensor], Tensor] | None = None,
    across_ranks: bool = True,
) -> Segmentation | list[Segmentation]:
    """Segment [t_min, t_max] by the Gauss-Newton step of a frozen model (Algorithm 1, the simulation).

    Parameters
    ----------
    model : callable(x, t, **conditioning) -> x0
        The target model. A module is put into evaluation mode and full precision, and back.
    sample : callable(n) -> Tensor or (Tensor, mapping)
        Draws data of shape `(n, *event)`, float32 or float64, alone or with its conditioning, the model's further
        arguments by name; called afresh for every estimate.
    schedule : Schedule
        Noise schedule.
    rule : Adaptive, optional
        How; the defaults are the paper's lambda and an interpolation of ours.
    replicas : int, optional
        Segment for so many models at once, replica by replica: data then have shape `(R, n, *event)`, times (R, n).
    generator : torch.Generator, optional
        Draws the noise; default: torch's.
    noise : callable(x0) -> z, optional
        Draws the noise instead, e.g. every replica's from its own generator.
    across_ranks : bool
        Where ``torch.distributed`` is initialised, sum E[v.e] and E[v.v] over its ranks, so that all get the same grid
        from the data of all. Every rank has to call then.

    Returns
    -------
    Segmentation, or a list of them with ``replicas``
        The times, and how often each safeguard acted.

    Raises
    ------
    ValueError
        The data have another shape or precision than they should, are sparse or not finite, the model returns another
        shape than it was given or is an `EDMModel` on another schedule than `VE`, or no estimate is finite.

    Examples
    --------
    The exact denoiser of Gaussian data makes a uniform grid in log t, of ln(T/eps) / -ln(1 - kappa) = 1065 steps:

    >>> from replication.adcm.gaussian import Gaussian
    >>> from replication.adcm.schedules import VE
    >>> data, schedule, g = Gaussian([0.5] * 64), VE(), torch.Generator().manual_seed(0)
    >>> sample = lambda n: data.sample(n, generator=g)
    >>> rule = Adaptive(lam=0.01, nodes=16, batch_size=256)
    >>> grid = segment(data.denoiser(schedule), sample, schedule, rule, generator=g)
    >>> 1000 < len(grid) < 1130, grid.counts["capped"]
    (True, 0)
    """
    rule = Adaptive() if rule is None else rule
    derivative, axis = Derivative(rule.relative_step), 0 if replicas is None else 1

    def rates(t: Tensor) -> Tensor:
        """Estimate R at times of shape (R,) on fresh data; float64, shape (R,)."""
        x0, conditioning = parted(sample(rule.batch_size))
        _check_data(x0, rule.batch_size, replicas)
        z = noise(x0) if noise else standard_normal(x0, generator)
        if rule.antithetic:
            x0, z = torch.cat([x0, x0], axis), torch.cat([z, -z], axis)
            conditioning = {name: torch.cat([part, part], axis) for name, part in conditioning.items()}
        times = _times(t.to(x0.device)[:, None].expand(-1, x0.shape[axis]).reshape(x0.shape[: axis + 1]), x0)
        before = random_state(x0.device)
        value, v = derivative(model, x0, z, times, schedule, conditioning)
        if not torch.equal(before, random_state(x0.device)):
            warnings.warn(
                "model: draws random numbers, as dropout does in train mode; put it in eval mode", stacklevel=3
            )
        return _rate(value - x0, v, axis + 1, across_ranks=across_ranks).reshape(-1).to("cpu", torch.float64)

    with evaluating(model, schedule):
        found = (_by_mini_batches if rule.mode == "paper" else _by_nodes)(rates, schedule, rule, replicas or 1)
    made = [Segmentation(*one, derivative.relative_step) for one in found]
    if not any(bool(one.rates.isfinite().any()) for one in made):
        raise Diverged("model: no estimate of the time step is finite; has the training diverged?")
    return made[0] if replicas is None else made


Found = list[tuple[Tensor, dict[str, int], Tensor, Tensor]]


def _by_mini_batches(rates: Callable[[Tensor], Tensor], schedule: Schedule, rule: Adaptive, replicas: int) -> Found:
    """Algorithm 1 as printed."""
    asked: list[Tensor] = []

    def fresh(t: list[float]) -> list[float]:
        asked.append(rates(torch.tensor(t, dtype=torch.float64)))
        return (kappa(rule.lam) * asked[-1]).tolist()

    times, counts = walk(fresh, schedule, replicas, floor=rule.floor, cap=rule.cap)
    # estimates were made at the ends of the segments, from the last on; a replica that arrived early was asked on
    table = torch.stack(asked, -1)
    return [
        (grid, count, grid[1:], found[: len(grid) - 1].flip(0))
        for grid, count, found in zip(times, counts, table, strict=True)
    ]


def _by_nodes(rates: Callable[[Tensor], Tensor], schedule: Schedule, rule: Adaptive, replicas: int) -> Found:
    """Estimates at a few noise levels, interpolated."""
    at = schedule.levels(rule.nodes)
    table = torch.stack([rates(t.expand(replicas)) for t in at], -1)
    # the step's share of tau, kappa R_tau / tau with R_tau = tau' R, in which the schedules agree
    share = kappa(rule.lam) * table * schedule.ratio_dot(at) / schedule.ratio(at)
    nonfinite, nonpositive = ~share.isfinite(), share <= 0
    curves = torch.where(nonfinite | nonpositive, rule.floor, share).log().tolist()
    ends = [math.log(schedule.ratio(t)) for t in (schedule.t_min, schedule.t_max)]

    def interpolated(t: list[float]) -> list[float]:
        return [_interpolated(s, curve, ends, schedule) for s, curve in zip(t, curves, strict=True)]

    times, counts = walk(interpolated, schedule, replicas, floor=rule.floor, cap=rule.cap)
    for count, negative, broken in zip(counts, nonpositive.sum(-1).tolist(), nonfinite.sum(-1).tolist(), strict=True):
        count.update(nonpositive=negative, nonfinite=broken)
    return [(grid, count, at, found) for grid, count, found in zip(times, counts, table, strict=True)]


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


def _rate(e: Tensor, v: Tensor, batch_dims: int, *, across_ranks: bool = False) -> Tensor:
    if v.shape != e.shape:
        raise ValueError(f"model: must return the shape it is given, {tuple(e.shape)}, got {tuple(v.shape)}")
    means = torch.stack([_mean_dot(v, e, batch_dims - 1), _mean_dot(v, v, batch_dims - 1)])
    if across_ranks:
        means = over_ranks(means)
    return means[0] / means[1]


def over_ranks(means: Tensor) -> Tensor:
    """The mean over the ranks of ``torch.distributed``, the same bits on each; without ranks what it is given."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(means)
        means = means / distributed.get_world_size()
    return means


def _check_safeguards(floor: float, cap: float) -> None:
    if not 0 < floor < cap <= 1:
        raise ValueError(f"floor and cap: need 0 < floor < cap <= 1, got {floor} and {cap}")


def _check_data(x0: Tensor, batch_size: int, replicas: int | None) -> None:
    lead = (batch_size,) if replicas is None else (replicas, batch_size)
    if x0.dim() <= len(lead) or x0.shape[: len(lead)] != lead:
        axes = f"(n, *event) with n = {batch_size}"
        axes = axes if replicas is None else f"(R, n, *event) with R = {replicas} and n = {batch_size}"
        raise ValueError(f"sample: must return shape {axes}, got {tuple(x0.shape)}")
    if x0.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"sample: must return float32 or float64, got {x0.dtype}; a grid is estimated in full precision"
        )
