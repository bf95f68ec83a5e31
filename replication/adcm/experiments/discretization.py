"""Discretization: what Eq. 10 is, what grids it makes, and how noisy it is (tests A1, A2, A3, A13, A15).

No network is trained here. Random networks serve where any smooth function will do; elsewhere the two exact ends of
training do: the Bayes denoiser, which a consistency model is initialised from, and the consistency map, which it should
become.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from scipy.optimize import minimize_scalar
from scipy.stats import spearmanr, wishart
from torch import Tensor

from replication import evidence
from replication.adcm.discretization import ECM, ICT, Discretization, log_grid
from replication.adcm.gaussian import Exact, Gaussian
from replication.adcm.mixture import GaussianMixture2d
from replication.adcm.networks import TimeMLP
from replication.adcm.schedules import VE, FlowMatching, Model, Schedule
from replication.adcm.segmentation import (
    Adaptive,
    Segmentation,
    consistency,
    gauss_newton_step,
    kappa,
    segment,
    step_rate,
    tangent,
    walk,
)
from replication.evidence import Part
from replication.training import seeded, stream_seed, use_deterministic

Row = dict[str, Any]
Data = Gaussian | GaussianMixture2d

STD = 0.5
"""Standard deviation of the isotropic Gaussian data, that of EDM's preconditioning."""
SOLVER_STEPS = 8
"""Steps of the exact map's solver; on overlapping modes its error is then of the order of 1e-5."""
LAMBDAS = (0.64, 0.32, 0.1, 0.02, 0.01, 0.005)
"""Weights of the walks with exact rates; the paper's warm-up on ImageNet goes from 0.64 to 0.01."""
TIMES = {"VE": (0.01, 0.1, 0.3, 1.0, 3.0, 10.0), "FM": (0.01, 0.1, 0.25, 0.5, 0.75, 0.9)}
"""Where estimated rates are compared with closed forms."""
LEVELS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Ratios tau at which consistency is split into its parts."""
BATCHES = {"isotropic image, T = 80": (3072, 128, 80.0), "plane, T = 10": (2, 256, 10.0)}
"""Dimension, batch and time of the isotropic cases of test A13."""
CURVE_POINTS = 160
"""Points kept of a curve of steps."""


class Config(evidence.Settings):
    """What the discretization notebook runs; every field is a parameter of the notebook."""

    lam: PositiveFloat = Field(0.01, description="weight of global against local consistency, the paper's lambda")
    sigma: PositiveFloat = Field(0.2, description="standard deviation of each of the mixture's eight modes")
    t_max: float = Field(10.0, gt=1, description="largest noise of the grids, in units of tau on both schedules")
    seeds: int = Field(5, ge=2, description="draws of the estimating samples")
    nodes: int = Field(20, ge=8, description="times at which the step is estimated")
    batch_size: PositiveInt = Field(
        128,
        description="antithetic pairs of an estimate of the exact map's grids; the denoisers' have eight times as many",
    )
    networks: PositiveInt = Field(3, description="random networks by which Eq. 10 is checked")
    pairs: PositiveInt = Field(256, description="antithetic pairs by which consistency is split into its parts")
    batches: int = Field(1000, ge=100, description="mini-batches of an estimate of the signal-to-noise ratio")


def parts(config: Config) -> list[Part]:
    """The experiment's parts, one for each question."""
    use_deterministic()
    only = config.only
    networks, drawn = only("sigma", "networks"), ("sigma", "t_max", "lam", "seeds", "nodes", "batch_size")
    return [
        Part("rates", _rates, only()),
        Part("lengths", _lengths, only()),
        Part("optimality", _optimality, networks),
        Part("covariance", _covariance, networks),
        *(Part(f"grids, {data}", _grids, only(*drawn), {"data": data}) for data in ("gaussian", "mixture")),
        Part("baselines", _baselines, only("t_max", "lam")),
        Part("consistency", _consistency, only("sigma", "lam", "seeds", "pairs")),
        Part("noise", _noise, only("seeds", "batches")),
    ]


def schedules(config: Config) -> dict[str, Schedule]:
    """Both schedules on the same range of tau."""
    ve = VE(t_max=config.t_max)
    return {"VE": ve, "FM": FlowMatching().spanning(ve.t_min, ve.t_max)}


# --- Eq. 10 -----------------------------------------------------------------------------------------------------------


def _optimality(config: Config) -> Iterator[Row]:
    """Eq. 10 against the minimum of Eq. 9, linearised (by scan) and true (by search)."""
    ve, data = VE(), GaussianMixture2d(config.sigma)
    for seed in range(config.networks):
        model = _random_model(ve, seed)
        x0, z = _pairs(data, 250, seed)
        for t in (0.2, 1.0):
            value, v = tangent(model, x0, z, t, ve)
            e, scan = value - x0, torch.linspace(-0.99 * t, 0.99 * t, 801, dtype=torch.float64)
            ee, ve_, vv = (float((a * b).sum(-1).mean()) for a, b in ((e, e), (v, e), (v, v)))
            for lam in (1.0, 0.1, 0.01, 0.001):
                step = float(gauss_newton_step(model, x0, z, t, ve, lam))
                # E||v dt||^2 + lambda E||e - v dt||^2, expanded
                linearised = vv * scan**2 + lam * (ee - 2 * ve_ * scan + vv * scan**2)
                off = abs(step - float(scan[linearised.argmin()])) / float(scan[1] - scan[0])
                at: Row = {"seed": seed, "t": t, "lam": lam, "regime": f"{'small' if lam <= 0.01 else 'large'} lambda"}
                yield {"quantity": "step_from_linearised", "value": off, **at}

                def objective(dt: float, model: Model = model, t: float = t, lam: float = lam) -> float:
                    local, whole = consistency(model, x0, z, t, t - dt, ve)  # noqa: B023
                    return float(local + lam * whole)

                ends = sorted((step - 0.9 * abs(step), step + 0.9 * abs(step)))
                best = minimize_scalar(objective, bounds=(ends[0], min(ends[1], 0.99 * t)), method="bounded").x
                yield {"quantity": "step_from_true", "value": abs(step / best - 1), **at}


def _covariance(config: Config) -> Iterator[Row]:
    """One function in VE's and in flow matching's coordinates, same samples."""
    ve, fm, data = VE(), FlowMatching(), GaussianMixture2d(config.sigma)
    for seed in range(config.networks):
        model = _random_model(ve, seed)
        x0, z = _pairs(data, 250, seed)

        def same(x: Tensor, t: Tensor, model: Model = model) -> Tensor:
            return model(x / (1 - t)[:, None], t / (1 - t))

        for tau in (0.1, 1.0, 5.0):
            t = fm.time(tau)
            here, there = float(step_rate(model, x0, z, tau, ve)), float(step_rate(same, x0, z, t, fm))
            error = abs(there * fm.ratio_dot(t) / here - 1)
            yield {"quantity": "covariance_error", "value": error, "seed": seed, "tau": tau}


def _rates(_config: Config) -> Iterator[Row]:
    """Estimated against exact R on Gaussian data."""
    data = Gaussian([STD, STD])
    for name, schedule in (("VE", VE()), ("FM", FlowMatching())):
        x0, z = _pairs(data, 4096, 0)
        for of, model in _exact(data, schedule).items():
            for t in TIMES[name]:
                found = float(step_rate(model, x0, z, t, schedule))
                expected = float(data.rate(torch.tensor(t, dtype=torch.float64), schedule, of))
                tau = schedule.ratio(t)
                allowed = 0.02 if of == "map" or tau <= 0.4 else 0.08 if tau <= 2 else 0.16
                at = {"schedule": name, "model": of, "t": t}
                yield {"quantity": "rate", "value": found, "data": "gaussian", **at}
                yield {"quantity": "rate_deviation", "value": abs(found / expected - 1) / allowed, **at}


def _lengths(_config: Config) -> Iterator[Row]:
    """Numbers of segments with exact rates, by lambda: no sampling, so what remains is the rule itself."""
    images, one = image_like(3072), Gaussian([STD])
    cases: tuple[tuple[str, Gaussian, Exact, float, float], ...] = (
        ("denoiser, T = 80", one, "denoiser", 80.0, 1.0),
        ("map, T = 80", one, "map", 80.0, 1.0),
        ("map, T = 80, capped", one, "map", 80.0, 0.5),
        ("map, T = 10", one, "map", 10.0, 1.0),
        ("map of image-like data, T = 80", images, "map", 80.0, 1.0),
    )
    for case, data, of, t_max, cap in cases:
        ve, factors = VE(t_max=t_max), torch.tensor([kappa(lam) for lam in LAMBDAS], dtype=torch.float64)
        times, counts = walk(
            lambda at: (factors * data.rate(torch.tensor(at, dtype=torch.float64), ve, of)).tolist(),  # noqa: B023
            ve,
            len(LAMBDAS),
            floor=1e-4,
            cap=cap,
        )
        for lam, grid, count in zip(LAMBDAS, times, counts, strict=True):
            segments = len(grid) - 1
            yield {"quantity": "segments", "value": segments, "case": case, "lam": lam}
            yield {"quantity": "capped", "value": count["capped"], "case": case, "lam": lam}
            if of == "denoiser":
                formula = math.log(t_max / ve.t_min) / -math.log1p(-kappa(lam))
                yield {"quantity": "length_difference", "value": abs(segments - formula), "lam": lam}


# --- grids ------------------------------------------------------------------------------------------------------------


def _grids(config: Config, data: str) -> Iterator[Row]:
    """Segmentations of the exact models on both schedules, by draws of the estimating samples."""
    drawn: Data = Gaussian([STD, STD]) if data == "gaussian" else GaussianMixture2d(config.sigma)
    lengths: dict[tuple[Exact, str], list[int]] = {}
    for label, schedule in schedules(config).items():
        for of, model in _exact(drawn, schedule).items():
            if (data, of) == ("gaussian", "map"):
                continue  # its closed form is drawn
            # the control has as many samples as the denoiser of the mixture; denoisers cost little
            size = config.batch_size * (8 if of == "denoiser" else 1)
            for seed, grid in enumerate(_segmented(config, drawn, model, schedule, size)):
                at = {"data": data, "schedule": label, "model": of, "seed": seed}
                yield from _describe(grid, schedule, at)
                lengths.setdefault((of, label), []).append(len(grid))
    for of, label in lengths:
        if label == "VE":
            both = zip(lengths[of, "VE"], lengths[of, "FM"], strict=True)
            for seed, (ve, fm) in enumerate(both):
                at = {"data": data, "model": of, "seed": seed}
                yield {"quantity": "grid_difference", "value": abs(ve / fm - 1), **at}


def _segmented(config: Config, data: Data, model: Model, schedule: Schedule, size: int) -> list[Segmentation]:
    """One grid a seed, all seeds estimated in one batch; a seed has the same draws on every schedule."""
    generators = [torch.Generator().manual_seed(stream_seed(seed, "segmentation")) for seed in range(config.seeds)]
    return segment(
        model,
        lambda n: torch.stack([data.sample(n, generator=g) for g in generators]),
        schedule,
        Adaptive(config.lam, nodes=config.nodes, batch_size=size, relative_step=1e-3),
        replicas=config.seeds,
        noise=lambda x0: torch.stack([torch.randn(x0.shape[1:], generator=g, dtype=x0.dtype) for g in generators]),
    )


def spread(tau: Tensor) -> float:
    """ln of the largest over the smallest relative step from ten times the least tau to half the greatest."""
    # the last segment is what was left over
    inside = (tau[1:] >= 10 * tau[0]) & (tau[1:] <= tau[-1] / 2)
    share = (tau.diff() / tau[1:])[inside]
    return math.log(float(share.max() / share.min()))


def _describe(grid: Segmentation, schedule: Schedule, at: Row) -> Iterator[Row]:
    """A segmentation in numbers, and its curve for the figures."""
    t, tau = grid.times[1:], schedule.ratio(grid.times)
    share = tau.diff() / tau[1:]
    yield {"quantity": "spearman", "value": float(spearmanr(t[1:], grid.steps[1:]).statistic), **at}
    yield {"quantity": "log_share_spread", "value": spread(tau), **at}
    yield {"quantity": "grid_segments", "value": len(grid), **at}
    for safeguard, count in grid.counts.items():
        yield {"quantity": "safeguard", "value": count, "safeguard": safeguard, **at}
    rate = grid.rates * schedule.ratio_dot(grid.nodes) / schedule.ratio(grid.nodes)
    for node, value in zip(schedule.ratio(grid.nodes).tolist(), rate.tolist(), strict=True):
        yield {"quantity": "relative_rate", "value": value, "tau": node, **at}
    method = "adaptive, denoiser" if at["model"] == "denoiser" else "adaptive, exact map"
    if at["data"] == "mixture" and at["seed"] == 0:
        yield from _curve(t[1:], grid.steps[1:], share[1:], tau[2:], {"schedule": at["schedule"], "method": method})


def _baselines(config: Config) -> Iterator[Row]:
    """The steps of the hand-made rules, rewritten in tau and taken naively."""
    u = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    for label, schedule in schedules(config).items():
        for naive in (False, True) if label == "FM" else (False,):
            rules: dict[str, Discretization] = {
                "iCT, last stage": ICT(1, schedule, s0=1280, naive=naive),
                "ECM, q = 2, first stage": ECM(schedule, q=2, naive=naive),
                "ECM, q = 2, fourth stage": ECM(schedule, q=16, naive=naive),
                "ECM, q = 256": ECM(schedule, q=256, naive=naive),
            }
            if not naive:
                rules["log grid"] = log_grid(schedule, kappa(config.lam))
            for method, rule in rules.items():
                t, r = rule.pairs(u, 0)
                tau, tau_r = schedule.ratio(t), schedule.ratio(r)
                at = {"schedule": label, "method": method + (", naive in t" if naive else "")}
                yield from _curve(t, t - r, (tau - tau_r) / tau, tau, at)


def _curve(t: Tensor, step: Tensor, share: Tensor, tau: Tensor, at: Row) -> Iterator[Row]:
    # evenly over log tau
    wanted = torch.linspace(math.log(tau[0]), math.log(tau[-1]), CURVE_POINTS, dtype=torch.float64)
    for i in sorted(set(torch.searchsorted(tau.log(), wanted).clamp(max=len(t) - 1).tolist())):
        place = {"t": float(t[i]), "tau": float(tau[i]), **at}
        yield {"quantity": "step", "value": float(step[i]), **place}
        yield {"quantity": "share", "value": float(share[i]), **place}


# --- local and global consistency -------------------------------------------------------------------------------------


def _consistency(config: Config) -> Iterator[Row]:
    """E||f - x0||^2 of the denoiser, split by the exact map: the map's own is the floor."""
    ve, ratio = VE(t_max=max(LEVELS)), 1 - kappa(config.lam)
    for name, data in (("gaussian", Gaussian([STD, STD])), ("mixture", GaussianMixture2d(config.sigma))):
        models = _exact(data, ve)
        variance = 2 * (STD if isinstance(data, Gaussian) else data.scale) ** 2
        drawn = [_pairs(data, config.pairs, seed) for seed in range(config.seeds)]
        x0, z = (torch.stack(part) for part in zip(*drawn, strict=True))
        for tau in LEVELS:
            t = torch.full(x0.shape[:2], tau, dtype=torch.float64)
            x = ve.perturb(x0, z, t)
            f, exact = models["denoiser"](x, t), models["map"](x, t)
            whole, error, floor = ((a - b).square().sum(-1).mean(-1) for a, b in ((f, x0), (f, exact), (exact, x0)))
            cross = whole - error - floor
            values = {"global": whole, "model_error": error, "floor": floor, "cross": cross}
            values |= {"floor_share": floor / variance, "cross_share": cross / whole}
            for quantity, of_seed in values.items():
                yield from _by_seed(quantity, of_seed, {"data": name, "tau": tau})
            for of, model in models.items():
                local, _ = consistency(model, x0, z, t, t * ratio, ve)
                yield from _by_seed("local", local, {"data": name, "tau": tau, "model": of})


def _by_seed(quantity: str, values: Tensor, at: Row) -> Iterator[Row]:
    yield from (
        {"quantity": quantity, "value": value, "seed": seed, **at} for seed, value in enumerate(values.tolist())
    )


# --- noise of a mini-batch --------------------------------------------------------------------------------------------


def numerators(sums: Tensor, t: Tensor, *, antithetic: bool) -> Tensor:
    """E[v.e] of mini-batches for the denoiser of isotropic Gaussian data on VE, up to the number of data.

    With gain g = s^2 / (s^2 + t^2), e = (g - 1) x0 + g t z and v = g' x0 + (g t)' z: a mini-batch enters through its
    sums of x0.x0, x0.z and z.z alone (`_coefficients`). Antithetic pairs cancel the second.

    Parameters
    ----------
    sums : Tensor, shape (batches, 2, 2)
        Sums of products of x0 / s and z over all coordinates of all data, see `batch_sums`.
    t : Tensor, shape (k,)
        Times.
    antithetic : bool
        Every x0 with z and with -z.

    Returns
    -------
    Tensor, shape (batches, k)
    """
    a, b, c = _coefficients(STD, t)
    data, mixed, noise = STD**2 * sums[:, 0, 0, None], STD * sums[:, 0, 1, None], sums[:, 1, 1, None]
    total = a * data + c * noise
    return total if antithetic else total + b * mixed


def batch_sums(dimension: int, batch: int, batches: int, seed: int) -> Tensor:
    """Draw the sums of products of mini-batches: Wishart distributed, so that images cost as little as points.

    Returns
    -------
    Tensor, float64, shape (batches, 2, 2)
    """
    rng = np.random.default_rng(stream_seed(seed, "batches"))
    return torch.from_numpy(wishart.rvs(dimension * batch, np.eye(2), size=batches, random_state=rng))


def signal_to_noise(data: Gaussian, batch: int, t: Tensor) -> Tensor:
    """Mean over standard deviation of E[v.e] of mini-batches, for the denoiser of Gaussian data on VE, exactly.

    A coordinate of standard deviation s adds a s^2 u^2 + b s u w + c w^2 with u and w standard normal: its mean is
    a s^2 + c, its variance 2 a^2 s^4 + b^2 s^2 + 2 c^2.

    Parameters
    ----------
    data : Gaussian
        Data.
    batch : int
        Data of a mini-batch, each with one noise.
    t : Tensor, shape (k,)
        Times.

    Returns
    -------
    Tensor, shape (k,)
    """
    s = data.std
    a, b, c = _coefficients(s, t[:, None])
    variance = 2 * (a * s**2).square() + (b * s).square() + 2 * c.square()
    ratio: Tensor = batch**0.5 * (a * s**2 + c).sum(-1) / variance.sum(-1).sqrt()
    return ratio


def image_like(dimension: int) -> Gaussian:
    """Gaussian data with a power-law spectrum, variance ~ k^-1.5, and standard deviation 0.5 over all coordinates."""
    spectrum = torch.arange(1, dimension + 1, dtype=torch.float64) ** -1.5
    return Gaussian((spectrum * dimension * STD**2 / spectrum.sum()).sqrt())


def _coefficients(s: Tensor | float, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """v e of one coordinate as a x0^2 + b x0 z + c z^2, for the denoiser of data of standard deviation s on VE."""
    v = s**2 + t**2
    gain, gain_dot, noise_dot = s**2 / v, -2 * t * s**2 / v**2, s**2 * (s**2 - t**2) / v**2
    return gain_dot * (gain - 1), gain_dot * gain * t + noise_dot * (gain - 1), noise_dot * gain * t


def _noise(config: Config) -> Iterator[Row]:
    """Signal-to-noise ratio of the step's numerator over mini-batches."""
    times = torch.logspace(-1, math.log10(80), 30, dtype=torch.float64)
    for t, value in zip(times.tolist(), signal_to_noise(image_like(3072), 128, times).tolist(), strict=True):
        yield {"quantity": "exact_ratio_by_time", "value": value, "t": t, "dimension": 3072, "batch": 128}
    exact = signal_to_noise(image_like(3072), 128, torch.tensor([80.0], dtype=torch.float64))
    yield {"quantity": "signal_to_noise", "value": exact.item(), "case": "image spectrum, T = 80", "pairs": "plain"}
    for seed, (dimension, batch) in itertools.product(range(config.seeds), ((2, 256), (64, 128), (3072, 128))):
        sums = batch_sums(dimension, batch, config.batches, seed)
        for pairs in ("plain", "antithetic"):
            at, shape = {"pairs": pairs, "seed": seed}, {"dimension": dimension, "batch": batch}
            found = numerators(sums, times, antithetic=pairs == "antithetic")
            for t, value in zip(times.tolist(), (found.mean(0) / found.std(0)).tolist(), strict=True):
                yield {"quantity": "ratio_by_time", "value": value, "t": t, **shape, **at}
            for case, of in BATCHES.items():
                if of[:2] == (dimension, batch):
                    at_t = torch.tensor([of[2]], dtype=torch.float64)
                    found = numerators(sums, at_t, antithetic=pairs == "antithetic")
                    ratio, share = float(found.mean() / found.std()), float((found <= 0).double().mean())
                    yield {"quantity": "signal_to_noise", "value": ratio, "case": case, **at}
                    yield {"quantity": "nonpositive_share", "value": share, "case": case, **at}


# --- shared -----------------------------------------------------------------------------------------------------------


def _exact(data: Data, schedule: Schedule) -> dict[Exact, Model]:
    if isinstance(data, Gaussian):
        return {"denoiser": data.denoiser(schedule), "map": data.consistency_map(schedule)}
    return {"denoiser": data.denoiser(schedule), "map": data.consistency_map(schedule, steps=SOLVER_STEPS)}


def _random_model(schedule: Schedule, seed: int) -> Model:
    with seeded(seed):
        network = TimeMLP(2, width=64, depth=2).double().requires_grad_(False)
    return lambda x, t: schedule.denoise(network, x, t)


def _pairs(data: Data, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """n data with noise and with its opposite."""
    generator = torch.Generator().manual_seed(stream_seed(seed, "pairs"))
    x0 = data.sample(n, generator=generator)
    z = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
    return torch.cat([x0, x0]), torch.cat([z, -z])
