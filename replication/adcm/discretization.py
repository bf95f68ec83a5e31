"""Discretisations: which pairs of times t > r a consistency model is trained on, the method's and its baselines'.

Every discretisation maps uniforms to pairs, so that methods which are given the same uniforms are compared on the same
draws. Baselines were written for VE, where the time is the noise level tau; on another schedule they can be taken
*naively*, with that schedule's own time in tau's place, or *rewritten* in tau = beta / alpha.
"""

from __future__ import annotations

import math
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from replication.adcm.models import Sample, evaluating, parted
from replication.adcm.schedules import P_MEAN, P_STD, VE, Model, Schedule, standard_normal
from replication.adcm.segmentation import Derivative, Diverged
from replication.checks import finite, positive, whole, within

NEVER = sys.maxsize
"""The step at which a discretisation that is fixed for good changes."""


class Discretization(Protocol):
    """Pairs of times from uniforms.

    Attributes
    ----------
    naive : bool
        The rule is stated in the schedule's own time, not in tau; so are then the weights that go with it.
    """

    @property
    def naive(self) -> bool: ...

    def pairs(self, u: Tensor, step: int = 0) -> tuple[Tensor, Tensor]:
        """Map uniforms in (0, 1) of any shape to times t > r of that shape, float64, for a training step from 0 on."""
        ...

    def until(self, step: int) -> int:
        """The first later step at which the pairs of the same uniforms change."""
        ...


def _stated_on(schedule: Schedule, naive: bool) -> Schedule:
    """The schedule whose ratio a rule is stated in: naive, one on which the time is the ratio."""
    return VE(t_min=schedule.t_min, t_max=schedule.t_max) if naive else schedule


def _log_normal_ratios(u: Tensor, schedule: Schedule, p_mean: float, p_std: float) -> Tensor:
    """Quantiles of the log-normal distribution between the schedule's ends, so that no mass piles up on an end."""
    low, high = _ends(schedule)
    ends = torch.special.ndtr((torch.tensor([low, high], dtype=torch.float64, device=u.device).log() - p_mean) / p_std)
    p = ends[0] + u.to(torch.float64) * (ends[1] - ends[0])
    return torch.exp(p_mean + p_std * torch.special.ndtri(p)).clamp(low, high)


def log_normal_times(u: Tensor, schedule: Schedule, p_mean: float = P_MEAN, p_std: float = P_STD) -> Tensor:
    """Times whose ln tau is normal between the schedule's ends, from uniforms in (0, 1); float64, u's shape."""
    return schedule.time(_log_normal_ratios(u, schedule, p_mean, p_std))


def _ends(schedule: Schedule) -> tuple[float, float]:
    return schedule.ratio(schedule.t_min), schedule.ratio(schedule.t_max)


class Grid:
    """Neighbours of a fixed grid, drawn by the discretised log-normal distribution, as in iCT.

    The pair (t_{i+1}, t_i) has the mass that the normal distribution of ln tau has between ln tau_i and ln tau_{i+1}.

    Parameters
    ----------
    times : Tensor, shape (N + 1,)
        Ascending times from epsilon to T.
    schedule : Schedule
        Whose times they are.
    p_mean, p_std : float
        Mean and standard deviation of ln tau.
    naive : bool
        Draw by ln t instead of ln tau.

    Raises
    ------
    ValueError
        There are fewer than two times, they do not ascend or are not positive, ``p_std`` is not positive, or the
        distribution has no mass between the times.

    Examples
    --------
    >>> from replication.adcm.schedules import VE
    >>> grid = Grid(torch.tensor([0.1, 0.2, 0.4]), VE())
    >>> grid.pairs(torch.tensor([0.01, 0.99]), 0)
    (tensor([0.2000, 0.4000], dtype=torch.float64), tensor([0.1000, 0.2000], dtype=torch.float64))
    """

    def __init__(
        self, times: Tensor, schedule: Schedule, p_mean: float = P_MEAN, p_std: float = P_STD, *, naive: bool = False
    ) -> None:
        self.times = times.to(torch.float64)
        if self.times.dim() != 1 or len(times) < 2 or not bool((self.times.diff() > 0).all()) or self.times[0] <= 0:
            raise ValueError(f"times: need at least two, positive and ascending, on one axis; got {times.tolist()}")
        positive("p_std", p_std)
        self.naive = naive
        masses = torch.special.ndtr((_stated_on(schedule, naive).ratio(self.times).log() - p_mean) / p_std).diff()
        if not masses.sum() > 0:
            got = f"{p_mean} and {p_std} on times from {times[0]:g} to {times[-1]:g}"
            raise ValueError(f"p_mean and p_std: the distribution must have mass between the times, got {got}")
        self._cumulative = masses.cumsum(0) / masses.sum()
        self._p_mean, self._p_std = p_mean, p_std

    def __len__(self) -> int:
        """Number of segments."""
        return len(self.times) - 1

    def __repr__(self) -> str:
        kind = "naive, " if self.naive else ""
        if (self._p_mean, self._p_std) != (P_MEAN, P_STD):
            kind += f"p_mean={self._p_mean}, p_std={self._p_std}, "
        return f"Grid({len(self)} segments, {kind}crc32 {zlib.crc32(self.times.cpu().numpy().tobytes()):08x})"

    def pairs(self, u: Tensor, step: int = 0) -> tuple[Tensor, Tensor]:
        """See `Discretization.pairs`."""
        del step
        times, cumulative = self.times.to(u.device), self._cumulative.to(u.device)
        index = torch.searchsorted(cumulative, u.to(torch.float64).contiguous()).clamp(max=len(self) - 1)
        return times[index + 1], times[index]

    def until(self, step: int) -> int:
        """A grid is fixed."""
        del step
        return NEVER


def log_grid(schedule: Schedule, kappa: float, p_mean: float = P_MEAN, p_std: float = P_STD) -> Grid:
    """The grid with Delta tau = kappa tau: as fine as the adaptive one of the same lambda, but not adaptive (ours).

    Parameters
    ----------
    schedule : Schedule
        The grid is geometric in its ratio tau.
    kappa : float
        Relative step, lambda / (1 + lambda) for the adaptive grid's counterpart; in (0, 1).

    Raises
    ------
    ValueError
        kappa is not in (0, 1).

    Examples
    --------
    >>> from replication.adcm.schedules import VE
    >>> len(log_grid(VE(), 0.01 / 1.01))
    1065
    """
    within("kappa", kappa, "(0, 1)")
    low, high = _ends(schedule)
    segments = max(1, math.ceil(math.log(high / low) / -math.log1p(-kappa) - 1e-9))
    ratios = high * torch.exp(math.log1p(-kappa) * torch.arange(segments, dtype=torch.float64)).flip(0)
    inner = schedule.time(ratios[:-1])
    ends = torch.tensor([schedule.t_min, schedule.t_max], dtype=torch.float64)
    return Grid(torch.cat([ends[:1], inner, ends[1:]]), schedule, p_mean, p_std)


class ICT:
    """iCT's discretisation: a rho = 7 grid that doubles from s0 to s1 segments in the course of training.

    N(k) = min(s0 2^floor(k/K'), s1) + 1 points with K' = floor(K / (log2 floor(s1/s0) + 1)); pairs as of `Grid`
    (Song and Dhariwal 2024).

    Parameters
    ----------
    total_steps : int
        K, the steps of the whole training.
    schedule : Schedule
        Noise schedule.
    s0, s1 : int
        First and last number of segments.
    rho : float
        Curvature of the grid.
    p_mean, p_std : float
        Mean and standard deviation of ln tau.
    naive : bool
        State the rule in t instead of tau.

    Raises
    ------
    ValueError
        ``total_steps`` is not positive, or not 1 <= s0 <= s1.

    Examples
    --------
    >>> from replication.adcm.schedules import VE
    >>> ict = ICT(800, VE())
    >>> [ict.segments(step) for step in (0, 100, 700, 799)]
    [10, 20, 1280, 1280]
    """

    def __init__(
        self,
        total_steps: int,
        schedule: Schedule,
        s0: int = 10,
        s1: int = 1280,
        rho: float = 7.0,
        p_mean: float = P_MEAN,
        p_std: float = P_STD,
        *,
        naive: bool = False,
    ) -> None:
        if total_steps < 1 or not 1 <= s0 <= s1:
            raise ValueError(
                f"total_steps, s0 and s1: need total_steps >= 1 and 1 <= s0 <= s1; got {total_steps}, {s0}, {s1}"
            )
        self.naive = naive
        self._s0, self._s1 = s0, s1
        # K': a run shorter than the number of doublings goes through them one a step
        self._stage_length = max(1, int(total_steps / (math.log2(s1 // s0) + 1)))
        stated_on = _stated_on(schedule, naive)
        low, high = _ends(stated_on)

        def grid(segments: int) -> Grid:
            share = torch.arange(segments + 1, dtype=torch.float64) / segments
            times = stated_on.time((low ** (1 / rho) + share * (high ** (1 / rho) - low ** (1 / rho))) ** rho)
            times[0], times[-1] = schedule.t_min, schedule.t_max
            return Grid(times, schedule, p_mean, p_std, naive=naive)

        self._grids = {
            n: grid(n) for n in {min(s0 * 2**stage, s1) for stage in range(1 + math.ceil(math.log2(s1 / s0)))}
        }

    def __repr__(self) -> str:
        return f"ICT(stages of {self._stage_length} steps, {', '.join(map(repr, self._grids.values()))})"

    def segments(self, step: int) -> int:
        """Number of segments at a step."""
        # no power of two above s1 is ever formed, however late the step
        stage = min(step // self._stage_length, math.ceil(math.log2(self._s1 / self._s0)))
        return min(self._s0 << stage, self._s1)

    def pairs(self, u: Tensor, step: int = 0) -> tuple[Tensor, Tensor]:
        """See `Discretization.pairs`."""
        return self._grids[self.segments(step)].pairs(u, step)

    def until(self, step: int) -> int:
        """The next doubling."""
        if self.segments(step) == self._s1:
            return NEVER
        return (step // self._stage_length + 1) * self._stage_length


@dataclass(frozen=True)
class ECM:
    """ECM's discretisation: continuous t, and r = t (1 - n(t)/q^a) with n(t) = 1 + k sigmoid(-b t), a = stage + 1.

    Where the rule has r = 0, the target of the definition is the data; here r is the schedule's ``t_min``, where the
    model returns its input, the data up to the noise of that level (Geng et al. 2025).

    Parameters
    ----------
    schedule : Schedule
        Noise schedule.
    q : float
        Base of the relative step; 2 on CIFAR-10 with doubling, 256 in the recipe without.
    doubling_every : int, optional
        Steps of a stage; default: one stage for good.
    k, b : float
        Constants of n.
    p_mean, p_std : float
        Mean and standard deviation of ln tau.
    naive : bool
        State the rule in t instead of tau.

    Raises
    ------
    ValueError
        q is not above 1 and finite, ``doubling_every``, k, b or ``p_std`` is not positive, or ``p_mean`` not finite.

    Examples
    --------
    >>> from replication.adcm.schedules import VE
    >>> t, r = ECM(VE(), q=256).pairs(torch.tensor([0.1, 0.5, 0.9]), 0)
    >>> 1 - r / t
    tensor([0.0193, 0.0169, 0.0044], dtype=torch.float64)
    """

    schedule: Schedule
    q: float = 2.0
    doubling_every: int | None = None
    k: float = 8.0
    b: float = 1.0
    p_mean: float = P_MEAN
    p_std: float = P_STD
    naive: bool = False

    def __post_init__(self) -> None:
        within("q", self.q, "(1, inf)")
        if self.doubling_every is not None:
            whole("doubling_every", self.doubling_every)
        positive("k and b", [self.k, self.b])
        finite("p_mean", self.p_mean)
        positive("p_std", self.p_std)

    def pairs(self, u: Tensor, step: int = 0) -> tuple[Tensor, Tensor]:
        """See `Discretization.pairs`."""
        stage = step // self.doubling_every if self.doubling_every else 0
        stated_on = _stated_on(self.schedule, self.naive)
        s = _log_normal_ratios(u, stated_on, self.p_mean, self.p_std)
        relative = (1 + self.k * torch.sigmoid(-self.b * s)) / self.q ** (stage + 1)
        return stated_on.time(s), stated_on.time((s * (1 - relative)).clamp(min=_ends(stated_on)[0]))

    def until(self, step: int) -> int:
        """The next stage."""
        return (step // self.doubling_every + 1) * self.doubling_every if self.doubling_every else NEVER


@dataclass(frozen=True)
class ConstantLocal:
    """The stand-in for CCM in consistency training: every segment has the same local consistency, to first order.

    CCM advances its target until a criterion of local consistency is met. To first order that of a step is
    Delta t^2 E||v||^2, so the grid is uniform in the arc length of sqrt(E||v||^2) dt.

    Parameters
    ----------
    segments : int
        Number of segments.
    nodes, batch_size : int
        Times at which the speed is estimated, evenly in ln tau, and samples of each.

    Raises
    ------
    ValueError
        A number is too small.
    """

    segments: int
    nodes: int = 64
    batch_size: int = 1024

    def __post_init__(self) -> None:
        whole("segments", self.segments)
        whole("nodes", self.nodes, 2)
        whole("batch_size", self.batch_size)


def constant_local(
    model: Model,
    sample: Sample,
    schedule: Schedule,
    rule: ConstantLocal,
    *,
    generator: torch.Generator | None = None,
    noise: Callable[[Tensor], Tensor] | None = None,
    batch_dims: int = 1,
) -> Tensor:
    """Make the grid of `ConstantLocal` from a model.

    Parameters
    ----------
    model : callable(x, t, **conditioning) -> x0
        The frozen model. A module is put into evaluation mode and full precision, and back.
    sample : callable(n) -> Tensor or (Tensor, mapping)
        Draws data of shape `(*replicas, n, *event)`, as for `segment`.
    schedule : Schedule
        Noise schedule.
    rule : ConstantLocal
        Number of segments, and how the speed is estimated.
    generator : torch.Generator, optional
        Draws the noise; default: torch's.
    noise : callable(Tensor) -> Tensor, optional
        Draws the noise of given data, in the generator's place.
    batch_dims : int
        1 for one model, 2 for a population: leading axes of the data that are no part of the event.

    Returns
    -------
    Tensor, float64, shape `(*replicas, segments + 1)`
        Ascending times.

    Raises
    ------
    ValueError
        The speed is not finite and positive everywhere.
    """
    times, speeds, derivative = schedule.levels(rule.nodes), [], Derivative()
    with evaluating(model, schedule):
        for time in times:
            x0, conditioning = parted(sample(rule.batch_size))
            z = standard_normal(x0, generator) if noise is None else noise(x0)
            t = torch.full(x0.shape[:batch_dims], float(time), dtype=x0.dtype, device=x0.device)
            v = derivative(model, x0, z, t, schedule, conditioning)[1]
            speeds.append(v.flatten(batch_dims).square().sum(-1).mean(-1).sqrt())
    # ds/dlnτ with dt/dlnτ = τ/τ'(t), then integrated in ln τ
    ratios = schedule.ratio(times)
    rates = torch.stack(speeds, -1).double().cpu() * ratios / schedule.ratio_dot(times)
    if not bool((rates.isfinite() & (rates > 0)).all()):
        raise Diverged("model: its speed |df/dt| is not finite and positive at every time; has the training diverged?")
    lengths = torch.cumulative_trapezoid(rates, ratios.log()).reshape(-1, rule.nodes - 1)
    grids = []
    for length in lengths:
        reached = torch.cat([torch.zeros(1, dtype=torch.float64), length])
        even = torch.linspace(0, float(reached[-1]), rule.segments + 1, dtype=torch.float64)
        grid = schedule.time(torch.from_numpy(np.interp(even.numpy(), reached.numpy(), ratios.log().numpy())).exp())
        grid[0], grid[-1] = schedule.t_min, schedule.t_max
        grids.append(grid)
    return torch.stack(grids).reshape(*rates.shape[:-1], rule.segments + 1)
