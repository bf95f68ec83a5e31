"""Theory: what follows from the schedule's formula, exactly or on small convex problems (claims C3, C4 and C5).

Two families of problems have a condition number that can be set. The *noisy quadratic* is exact (no sampling).
*Logistic regression* has orthogonal features scaled to the wanted condition number, soft labels of a known model (so
the minimiser is known), full-batch gradients and added Gaussian noise; expectations are means over independent draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler

from replication import evidence
from replication.evidence import Part
from replication.training import seeded, use_deterministic
from replication.uba import theory
from replication.uba.baselines import driven, factors
from replication.uba.schedule import UBALR, uba

Float = NDArray[np.float64]
Row = dict[str, Any]

STABILITY = 1.95
"""Largest peak that is tried, in units of 1/lambda_u: just below 2, where gradient descent diverges."""


class Config(evidence.Settings):
    """What the theory notebook runs; every field is a parameter of the notebook."""

    seeds: PositiveInt = Field(3, description="networks trained with each scheduler for claim U1")
    train_steps: PositiveInt = Field(60, description="optimiser steps of each")

    minmax_kappas: list[float] = Field(
        [2.0, 5.0, 10.0, 50.0, 200.0], min_length=1, description="condition numbers of the min-max problem"
    )
    minmax_steps: list[PositiveInt] = Field([8, 32], min_length=1, description="its numbers of steps")
    minmax_spacing: float = Field(1.01, gt=1, le=1.2, description="ratio of neighbours in the grid of φ/(2κ)")
    order_kappa: float = Field(50.0, gt=1, description="condition number for the order of the steps")
    order_steps: PositiveInt = Field(128, description="number of steps for the order of the steps")
    cap_kappas: list[float] = Field(
        [10.0, 100.0, 1000.0], min_length=1, description="condition numbers of the min-max problem with a capped peak"
    )
    cap_steps: PositiveInt = Field(24, description="its number of steps")

    dimension: PositiveInt = Field(64, description="eigenvalues of the noisy quadratic, log-spaced")
    kappas: list[float] = Field([3.0, 10.0, 100.0, 1000.0, 10000.0], min_length=2, description="its condition numbers")
    noises: list[PositiveFloat] = Field([0.001, 0.01, 0.1], min_length=1, description="its noise levels")
    budgets: list[PositiveInt] = Field([100, 400, 1600], min_length=2, description="its budgets in steps")
    sweep_noises: list[PositiveFloat] = Field(
        [0.001, 0.01, 0.1, 1.0, 10.0], min_length=2, description="noise levels of the sweep that asks where U6 holds"
    )
    phis: list[PositiveFloat] = Field(
        [0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0],
        min_length=3,
        description="its grid of φ, to which 2κ is added",
    )
    peaks: int = Field(37, ge=2, description="peaks tried for every φ, log-spaced from 0.01 to the limit of stability")

    logistic_draws: int = Field(48, ge=2, description="independent data sets and noise streams of logistic regression")
    logistic_kappas: list[float] = Field([3.0, 10.0, 100.0, 1000.0], min_length=2, description="its condition numbers")
    logistic_noises: list[PositiveFloat] = Field([0.01, 0.1], min_length=1, description="its noise levels")
    logistic_budgets: list[PositiveInt] = Field([64, 256, 1024], min_length=2, description="its budgets in steps")
    logistic_phis: list[PositiveFloat] = Field(
        [0.05, 0.25, 1.0, 2.0, 5.0, 20.0, 100.0], min_length=3, description="its grid of φ, to which 2κ is added"
    )
    logistic_peaks: int = Field(8, ge=2, description="peaks tried for every φ")

    bound_budgets: list[PositiveInt] = Field(
        [100, 500, 2000], min_length=1, description="budgets of the last-iterate bound"
    )
    rate_budgets: list[PositiveInt] = Field(
        [64, 256, 1024, 4096], min_length=2, description="budgets of the stationarity bound, quadratic"
    )
    rate_phis: list[PositiveFloat] = Field(
        [0.05, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 50.0], min_length=1, description="its values of φ"
    )
    rate_logistic_budgets: list[PositiveInt] = Field(
        [64, 256, 1024], min_length=2, description="budgets of the stationarity bound, logistic regression"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("minmax_kappas", "cap_kappas", "kappas", "logistic_kappas"):
            bad = [kappa for kappa in getattr(self, name) if not (math.isfinite(kappa) and kappa > 1)]
            if bad:
                raise ValueError(f"{name}: condition numbers must be above 1, got {bad[0]!r}")
        if min(self.cap_kappas) <= STABILITY:
            raise ValueError(f"cap_kappas: must be above the limit of stability, {STABILITY:g}, got {self.cap_kappas}")
        if min(self.noises) not in self.sweep_noises:
            raise ValueError(
                f"sweep_noises: must hold the least of noises, {min(self.noises):g}, got {self.sweep_noises}"
            )
        for name in ("phis", "logistic_phis"):
            if 2 not in getattr(self, name):
                raise ValueError(f"{name}: must contain 2 (cosine), to which the losses are compared")
        for name, values in self:
            if isinstance(values, list) and len(set(values)) < len(values):
                raise ValueError(f"{name}: a value stands twice")
        return self


def parts(config: Config) -> list[Part]:
    """The experiment's parts.

    Their rows: ``cosine_gap``, ``best_phi_over_2kappa``, ``chebyshev_gap``, ``last_iterate_excess``, ``best_phi``,
    ``two_kappa_regret``, ``one_phi_regret``, ``gradient_over_bound`` and ``min_gradient`` are what tests ask for;
    others serve the figures.
    """
    use_deterministic()
    only = config.only
    quadratic = only("dimension", "kappas", "noises", "budgets", "phis", "peaks")
    logistic = only(
        "logistic_draws", "logistic_kappas", "logistic_noises", "logistic_budgets", "logistic_phis", "logistic_peaks"
    )
    bound = only("dimension", "noises", "rate_budgets", "rate_phis")
    bound_logistic = only("logistic_draws", "logistic_noises", "rate_logistic_budgets", "rate_phis")
    return [
        Part("cosine", cosine, only("seeds", "train_steps")),
        Part("min-max", min_max, only("minmax_kappas", "minmax_steps", "minmax_spacing")),
        Part("order of steps", order, only("order_kappa", "order_steps", "dimension")),
        Part("capped peak", capped, only("cap_kappas", "cap_steps")),
        Part("last iterate", last_iterate, only("bound_budgets")),
        *(Part(f"best φ, quadratic, κ {k:g}", best_phi_quadratic, quadratic, {"kappa": k}) for k in config.kappas),
        *(
            Part(f"best φ, logistic, κ {k:g}", best_phi_logistic, logistic, {"kappa": k})
            for k in config.logistic_kappas
        ),
        Part("noise", noise_sweep, only("dimension", "kappas", "budgets", "phis", "peaks", "sweep_noises")),
        *(Part(f"bound, quadratic, κ {k:g}", stationarity_quadratic, bound, {"kappa": k}) for k in config.kappas),
        *(
            Part(f"bound, logistic, κ {k:g}", stationarity_logistic, bound_logistic, {"kappa": k})
            for k in config.logistic_kappas
        ),
    ]


# --- U1: phi = 2 is cosine -------------------------------------------------------------------------------------------


def cosine(config: Config) -> Iterator[Row]:
    """Rates and trained weights of ``UBALR(phi=2)`` against three implementations of cosine annealing."""
    for total, peak, low in ((1, 0.1, 0.0), (7, 0.3, 1e-3), (100, 0.1, 0.0), (1000, 1e-3, 1e-5), (4096, 3.0, 0.3)):
        rates = {name: driven(build, total + 1, peak=peak) for name, build in _schedulers(total, low).items()}
        ours = rates.pop("UBALR")
        for reference, theirs in rates.items():
            gap = float(np.abs(ours - theirs).max()) / peak
            yield {"quantity": "cosine_gap", "of": "rates", "reference": reference, "budget": total, "value": gap}
    for seed in range(config.seeds):
        builders = _schedulers(config.train_steps)
        trained = {name: _train(build, config.train_steps, seed) for name, build in builders.items()}
        own = trained.pop("UBALR")
        for reference, weights in trained.items():
            gap = float((weights - own).abs().max())
            yield {"quantity": "cosine_gap", "of": "weights", "reference": reference, "seed": seed, "value": gap}


class _ClosedForm(CosineAnnealingLR):
    """torch's cosine annealing by its own closed form instead of its recursion."""

    def get_lr(self) -> list[float | Tensor]:
        return self._get_closed_form_lr()


def _schedulers(total: int, low: float = 0.0) -> dict[str, Callable[[torch.optim.Optimizer], LRScheduler]]:
    """UBA's at phi = 2, and what it is compared with."""
    found: dict[str, Callable[[torch.optim.Optimizer], LRScheduler]] = {
        "UBALR": lambda opt: UBALR(opt, total, 2, eta_min=low),
        "closed form": lambda opt: _ClosedForm(opt, total, low),
        "CosineAnnealingLR": lambda opt: CosineAnnealingLR(opt, total, low),
    }
    if low == 0:  # a factor on the learning rate has no floor of its own
        found["LambdaLR"] = lambda opt: LambdaLR(opt, lambda t: (1 + math.cos(math.pi * t / total)) / 2)
    return found


def _train(build: Callable[[torch.optim.Optimizer], LRScheduler], steps: int, seed: int) -> Tensor:
    """Train a small network on random regression data in float64; return its weights."""
    with seeded(seed):
        model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1)).double()
        x, y = torch.randn(steps, 32, 8, dtype=torch.float64), torch.randn(steps, 32, 1, dtype=torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = build(optimizer)
    for inputs, targets in zip(x, y, strict=True):
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.mse_loss(model(inputs), targets))
        optimizer.step()
        scheduler.step()
    return torch.cat([parameter.detach().ravel() for parameter in model.parameters()])


# --- U2: the min-max problem -----------------------------------------------------------------------------------------


def min_max(config: Config) -> Iterator[Row]:
    """Worst-case contraction over phi / (2 kappa), with the ends of the theory and mid-point nodes."""
    reach = round(math.log(2) / math.log(config.minmax_spacing))
    ratios = config.minmax_spacing ** np.arange(-reach, reach + 1.0)
    for kappa in config.minmax_kappas:
        low = 1 / kappa
        for steps in config.minmax_steps:
            nodes = np.arange(steps) + 0.5
            bound = theory.chebyshev_bound(low, 1.0, steps, log=True)
            tables = uba(nodes, steps, 2 * kappa * ratios[:, None], peak=kappa, floor=1.0)
            worst = theory.worst_case_contraction(tables, low, 1.0, log=True)
            cell = {"kappa": kappa, "steps": steps}
            yield {"quantity": "best_phi_over_2kappa", **cell, "value": float(ratios[worst.argmin()])}
            # in the middle of the grid φ is 2κ exactly
            yield {"quantity": "chebyshev_gap", **cell, "value": float(abs(worst[reach] - bound))}
            for ratio, value in zip(ratios, worst - bound, strict=True):
                at = {**cell, "phi_over_2kappa": float(ratio)}
                yield {"quantity": "excess_log_contraction", **at, "value": float(value)}


def order(config: Config) -> Iterator[Row]:
    """Error of gradient descent in double precision with the min-max steps, in three orders, on a dense matrix."""
    kappa, steps = config.order_kappa, config.order_steps
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.standard_normal((config.dimension, config.dimension)))
    hessian = (basis * np.linspace(1 / kappa, 1, config.dimension)) @ basis.T
    start = rng.standard_normal(config.dimension)
    sizes = theory.chebyshev_steps(1 / kappa, 1.0, steps)
    falling = np.arange(steps)
    orders = {"decreasing": falling, "increasing": falling[::-1], "fractal": theory.lebedev_order(steps)}
    for name, permutation in orders.items():
        w = start / np.linalg.norm(start)
        for t, size in enumerate(sizes[permutation], start=1):
            w = w - size * (hessian @ w)
            yield {"quantity": "error", "order": name, "kappa": kappa, "step": t, "value": float(np.linalg.norm(w))}


def capped(config: Config) -> Iterator[Row]:
    """phi that is best for the min-max problem when the peak is capped, as stability does in practice (floor tuned)."""
    nodes = np.arange(config.cap_steps) + 0.5
    phis = np.geomspace(1e-4, 1e4, 65)
    floors = np.array([0.5, 0.75, 1.0, 1.5, STABILITY])
    for kappa in config.cap_kappas:
        for cap in np.geomspace(STABILITY, kappa, 7):
            tables = uba(nodes, config.cap_steps, phis[:, None, None], peak=cap, floor=floors[:, None])
            worst = theory.worst_case_contraction(tables, 1 / kappa, 1.0, log=True).min(axis=1)
            # at the first where a constant rate is best, which every phi gives with its floor at the cap
            if best := int(worst.argmin()):
                at = {"kappa": kappa, "steps": config.cap_steps, "peak": float(cap)}
                yield {"quantity": "best_phi_capped", **at, "value": float(phis[best])}


# --- U3: the last-iterate bound --------------------------------------------------------------------------------------


def last_iterate(config: Config) -> Iterator[Row]:
    """Convex last-iterate bound of UBA and of the other schedules, peak tuned."""
    names = ("linear", "rex", "step", "constant")
    phis = np.geomspace(0.05, 10, 54)
    for budget in config.bound_budgets:
        bounds = theory.last_iterate_bound(uba(np.arange(budget), budget, phis[:, None]))
        for phi, value in zip(phis, bounds, strict=True):
            cell = {"schedule": "uba", "phi": float(phi), "budget": budget}
            yield {"quantity": "last_iterate_bound", **cell, "value": float(value)}
        others = {name: float(theory.last_iterate_bound(factors(name, budget))) for name in names}
        for name, value in others.items():
            yield {"quantity": "last_iterate_bound", "schedule": name, "budget": budget, "value": value}
        excess = float(bounds.min()) / others["linear"] - 1
        yield {"quantity": "last_iterate_excess", "budget": budget, "value": excess}


# --- U5, U6: the best phi on convex problems -------------------------------------------------------------------------


def best_phi_quadratic(config: Config, kappa: float) -> Iterator[Row]:
    """Expected final loss for every phi at its best peak, relative to the best phi's, and the best phi."""
    peaks, phis = np.geomspace(0.01, STABILITY, config.peaks), _grid(config.phis, config.kappas)
    spectrum = _spectrum(kappa, config.dimension)
    found = [theory.quadratic_loss(_tables(phis, T), peaks, spectrum, config.noises) for T in config.budgets]
    yield from _over_budgets(found, phis, config.budgets, config.noises, "quadratic", kappa)


def best_phi_logistic(config: Config, kappa: float) -> Iterator[Row]:
    """The same on logistic regression."""
    problem, phis = Logistic(kappa, config.logistic_draws), _grid(config.logistic_phis, config.logistic_kappas)
    peaks = np.geomspace(0.02, STABILITY, config.logistic_peaks) / problem.curvature
    found = [problem.sgd(_tables(phis, T), peaks, config.logistic_noises).loss for T in config.logistic_budgets]
    yield from _over_budgets(found, phis, config.logistic_budgets, config.logistic_noises, "logistic", kappa)


def noise_sweep(config: Config) -> Iterator[Row]:
    """Rank correlation of the best phi with kappa on the quadratic over a wider range of noise.

    Added after the first answer to U6 was seen, to say where it holds; no test asks it.
    """
    grid, phis = np.geomspace(0.01, STABILITY, config.peaks), _grid(config.phis, config.kappas)
    for budget in config.budgets:
        tables = _tables(phis, budget)
        best = []
        for kappa in config.kappas:
            losses = theory.quadratic_loss(tables, grid, _spectrum(kappa, config.dimension), config.sweep_noises)
            best.append([phis[i] for i in losses.min(axis=1).argmin(axis=0)])
        for noise, of in zip(config.sweep_noises, np.transpose(best), strict=True):
            rank = evidence.slope(config.kappas, of, "spearman")
            yield {"quantity": "kappa_rank_correlation", "noise": noise, "budget": budget, "value": rank}


def _grid(phis: Sequence[float], kappas: Sequence[float]) -> list[float]:
    """A grid of phi that holds 2 kappa of every kappa, the same for all of them."""
    return sorted({*phis, *(2 * kappa for kappa in kappas)})


def _tables(phis: Sequence[float], budget: int) -> Float:
    return np.asarray(uba(np.arange(budget), budget, np.asarray(phis)[:, None]))


def _spectrum(kappa: float, dimension: int) -> Float:
    return np.geomspace(1 / kappa, 1.0, dimension)


def _over_budgets(
    losses: Sequence[Float],
    phis: list[float],
    budgets: Sequence[int],
    noises: Sequence[float],
    problem: str,
    kappa: float,
) -> Iterator[Row]:
    """Rows of one problem from the final losses of each budget, of shape (phi, peak, noise)."""
    for n, noise in enumerate(noises):
        about = {"problem": problem, "kappa": kappa, "noise": noise}
        regrets = []
        for budget, table in zip(budgets, losses, strict=True):
            tuned = np.where(np.isfinite(table[..., n]), table[..., n], np.inf).min(axis=1)
            over_best, cell = tuned / tuned.min(), {**about, "budget": budget}
            regrets.append(100 * (over_best - 1))
            yield {"quantity": "best_phi", **cell, "value": float(phis[tuned.argmin()])}
            log = math.log(over_best[phis.index(2 * kappa)])
            yield {"quantity": "two_kappa_regret", **cell, "phi": 2 * kappa, "value": log}
            for phi, value in zip(phis, over_best, strict=True):
                yield {"quantity": "loss_over_best", **cell, "phi": float(phi), "value": float(value)}
        # of each phi the worst budget, of those the least
        worst = np.max(regrets, axis=0)
        best = int(worst.argmin())
        yield {"quantity": "one_phi_regret", **about, "phi": float(phis[best]), "value": float(worst[best])}


class Path(NamedTuple):
    """What SGD on logistic regression does in expectation; axes (phi, peak, noise)."""

    loss: Float
    """Final loss above the minimum."""
    gradient: Float
    """Least expected squared norm of the gradient over the steps."""


class Logistic:
    """Logistic regression with a set condition number and a known minimiser.

    The columns of X are orthogonal with squared lengths n lambda_i, lambda log-spaced in [1/kappa, 1], so that X'X/n
    has condition number kappa. The labels are the probabilities of a model w*, hence w* is the minimiser.

    Parameters
    ----------
    kappa : float
        Condition number of X'X/n.
    draws : int
        Independent data sets, each with its own stream of gradient noise.
    samples, dimension : int
        Rows and columns of X.

    Attributes
    ----------
    smoothness : float
        L = lambda_max(X'X/n) / 4, the Lipschitz constant of the gradient.
    curvature : float
        Largest eigenvalue of the Hessian at the minimiser over the draws: the stability limit there is 2 / curvature.
    gap : ndarray, shape (draws,)
        Loss above the minimum at the start, w = 0.
    """

    def __init__(self, kappa: float, draws: int, samples: int = 32, dimension: int = 8) -> None:
        rng = np.random.default_rng([int(kappa), draws])
        self.scales = _spectrum(kappa, dimension)
        basis, _ = np.linalg.qr(rng.standard_normal((draws, samples, dimension)))
        self._x = basis * np.sqrt(samples * self.scales)
        self._minimiser = rng.choice([-1.0, 1.0], (draws, 1, dimension))
        self._labels = _sigmoid(self._minimiser @ self._x.mT)
        weight = (self._labels * (1 - self._labels)).mT
        hessian = self._x.mT @ (self._x * weight) / samples
        self.smoothness = float(self.scales.max()) / 4
        self.curvature = float(np.linalg.eigvalsh(hessian).max())
        self._least = self._loss(self._minimiser)
        self.gap = (self._loss(np.zeros((draws, 1, dimension))) - self._least)[:, 0]

    def _loss(self, w: Float) -> Float:
        z = w @ self._x.mT
        return np.asarray(np.mean(np.logaddexp(0, z) - self._labels * z, axis=-1))

    def sgd(self, tables: Float, peaks: Float, noises: Sequence[float], *, gradients: bool = False) -> Path:
        """Run SGD from w = 0 with gradient noise of variance ``noise * lambda_i`` per coordinate.

        All runs of a draw see the same noise, up to its level, so that schedules are compared on common random numbers.

        Parameters
        ----------
        tables : ndarray, shape (S, T)
            Schedules relative to their peak.
        peaks : ndarray, shape (P,)
            Peak learning rates.
        noises : sequence of float, length N
            Noise levels.
        gradients : bool
            Also follow the squared gradient norm before every step, else NaN.

        Returns
        -------
        Path
            Means over the draws, shape (S, P, N).
        """
        draws, samples, dimension = self._x.shape
        shape = (len(tables), len(peaks), len(noises))
        level = np.broadcast_to(np.sqrt(np.asarray(noises)), shape).reshape(1, -1, 1)
        rng = np.random.default_rng([draws, dimension])
        w = np.zeros((draws, math.prod(shape), dimension))
        least = np.full(math.prod(shape), np.inf if gradients else np.nan)
        transposed = np.ascontiguousarray(self._x.mT)
        for t in range(tables.shape[1] + 1):
            residual = _sigmoid(w @ transposed) - self._labels
            gradient = residual @ self._x / samples
            if gradients and t < tables.shape[1]:
                np.minimum(least, np.mean(np.sum(gradient**2, axis=-1), axis=0), out=least)
            if t < tables.shape[1]:
                eta = np.broadcast_to((tables[:, t, None] * peaks)[..., None], shape).reshape(1, -1, 1)
                draw = rng.standard_normal((draws, 1, dimension)) * np.sqrt(self.scales)
                w -= eta * (gradient + level * draw)
        loss = np.mean(self._loss(w) - self._least, axis=0)
        return Path(loss.reshape(shape), least.reshape(shape))


def _sigmoid(z: Float) -> Float:
    # numpy's tanh is vectorised; scipy's expit takes three times as long, most of the whole experiment
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * z))


# --- U9: convergence -------------------------------------------------------------------------------------------------


def stationarity_quadratic(config: Config, kappa: float) -> Iterator[Row]:
    """Least expected squared gradient with a peak of 1/(L sqrt(T)), and its ratio to the bound."""
    spectrum = _spectrum(kappa, config.dimension)
    for budget in config.rate_budgets:
        peak = 1 / math.sqrt(budget)
        path = theory.quadratic_trajectory(_tables(config.rate_phis, budget), [peak], spectrum, config.noises)
        least = path.gradient[..., :-1].min(axis=-1)[:, 0]
        variance = np.array(config.noises) * spectrum.mean()
        constants = {"smoothness": 1.0, "variance": variance, "gap": path.loss[0, 0, :, 0]}
        bound = theory.stationarity_bound(np.array(config.rate_phis)[:, None], budget, peak, **constants)
        yield from _gradients("quadratic", config.rate_phis, kappa, config.noises, budget, least, bound)


def stationarity_logistic(config: Config, kappa: float) -> Iterator[Row]:
    """The same on logistic regression."""
    problem = Logistic(kappa, config.logistic_draws)
    for budget in config.rate_logistic_budgets:
        peak = 1 / (problem.smoothness * math.sqrt(budget))
        tables = _tables(config.rate_phis, budget)
        least = problem.sgd(tables, np.array([peak]), config.logistic_noises, gradients=True).gradient[:, 0]
        variance = np.array(config.logistic_noises) * problem.scales.sum()
        constants = {"smoothness": problem.smoothness, "variance": variance, "gap": problem.gap.mean()}
        bound = theory.stationarity_bound(np.array(config.rate_phis)[:, None], budget, peak, **constants)
        yield from _gradients("logistic", config.rate_phis, kappa, config.logistic_noises, budget, least, bound)


def _gradients(
    problem: str, phis: Sequence[float], kappa: float, noises: Sequence[float], budget: int, least: Float, bound: Float
) -> Iterator[Row]:
    """The least gradients, shape (phi, noise), and the largest ratio to their bounds over the noise levels."""
    for phi, row in zip(phis, least, strict=True):
        for noise, value in zip(noises, row, strict=True):
            cell = {"problem": problem, "phi": phi, "kappa": kappa, "noise": noise, "budget": budget}
            yield {"quantity": "min_gradient", **cell, "value": float(value)}
    for phi, value in zip(phis, (least / bound).max(axis=1), strict=True):
        cell = {"problem": problem, "phi": phi, "kappa": kappa, "budget": budget}
        yield {"quantity": "gradient_over_bound", **cell, "value": float(value)}
