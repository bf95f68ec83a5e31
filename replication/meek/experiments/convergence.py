"""Convergence: what follows from the law and the growth rates, and how sure that is (claims M1, M3, M4, M6).

The gap and what it does under other growth, starts and laws; its image in benchmark points; inference; the sequential
test; and the uncertainty of the law (bootstrap of the Chinchilla fit) together with that of the growth rates.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field, PositiveFloat, PositiveInt

from replication import data, evidence
from replication.evidence import Part
from replication.meek.benchmark import PAPER as PAPER_SIGMOID
from replication.meek.benchmark import peak_score_gap, score_gap
from replication.meek.fit import NAMES, IllConditionedWarning, bootstrap_chinchilla, drop_largest, fit_chinchilla
from replication.meek.gap import (
    C0,
    FLOP_PER_DOLLAR,
    Growth,
    Reading,
    inference_crossing,
    inference_gap,
    lag,
    peak_gap,
    peak_time,
    price_decline,
    training_gap,
)
from replication.meek.law import BESIROGLU, HOFFMANN, PAPER, Float, ParametricLaw, ScalingLaw
from replication.meek.sprt import sprt_tokens
from replication.training import use_deterministic

Row = dict[str, Any]

YEARS = np.linspace(0, 20, 81)
"""Where bands of uncertainty are kept for the figures; closed forms are drawn from their formulas."""
FINE = np.linspace(0, 40, 40001)
"""Where maxima and monotony are looked for."""
LAWS = {
    "alpha 0.154": PAPER,
    "alpha 0.155": ScalingLaw(1070.0, 0.155, 1.7),
    "alpha 0.178, A not refitted": ScalingLaw(1070.0, 0.178, 1.7),
    "alpha 0.178, refitted": BESIROGLU.frontier(),
    "Hoffmann's fit": HOFFMANN.frontier(),
}
"""The paper's law in both roundings; its sensitivity check, which changes alpha alone; and whole fits."""
EXPONENTS = {"alpha 0.155": (3.3372, 0.20224), "alpha 0.178, A not refitted": (2.9060, 0.07012)}
"""Time and height of the peak with the paper's other exponents."""
LEADERS = {1.1: (0.0221, 4.59), 2.0: (0.1334, 3.84), 3.6: (0.2127, 3.35), 10.0: (0.3109, 2.79), 20.0: (0.3600, 2.52)}
"""The leader's yearly growth of spending in the appendix: peak of the gap and its time, as its figure shows."""
STARTS = {1e3: 0.2118, 1e4: 0.1486, 1e5: 0.1042, 1e6: 0.0731}
"""Both actors' dollars at the start in the appendix, and the peak of the gap."""
SCHEDULES = {"for ever": math.inf, "stops after 5 years": 1.0, "1.5 a year after 5 years": 1.5}
"""The leader's growth of spending after the fifth year; the first goes on."""
SCHEDULE_GAPS = {
    "for ever": (0.1415, 0.0933, 0.0359, 0.0130),
    "stops after 5 years": (0.1148, 0.0678, 0.0237, 0.0083),
    "1.5 a year after 5 years": (0.1247, 0.0788, 0.0303, 0.0113),
}
"""The gap under each at 7.5, 10, 15 and 20 years."""
CEILINGS = {"paper, 0.80": PAPER_SIGMOID, "1.00": PAPER_SIGMOID.with_ceiling(1.0)}
"""The benchmark's sigmoid as the paper has it, and with the ceiling that the task has."""
TASKS = (1, 2, 5, 10, 50, 100)
"""Steps of a task."""
PEAKS = {1: (46.39, 4.08), 2: (49.33, 4.38), 5: (28.99, 5.08), 10: (9.64, 5.75)}
"""Largest gap in points of MMLU, and its time, by steps."""
HEAD_STARTS = (1.0, 2.0, 5.0, 10.0, 30.0, 72.0, 1e3, 1e4, 1e5, 1e6)


class Start(NamedTuple):
    """Where two actors stand."""

    head_start: float
    """The leader's training compute over the meek's."""
    C0: float
    """The meek's, FLOP."""


MEASURED = {"over 2024's median model": Start(168.35, 2.97e23), "over 2025's median model": Start(466.76, 9.941e23)}
"""The largest language model over the year's median one, as the empirical notebook measures them at standard."""
FOLLOWERS = (2.8, 2.0, 1.5)
"""Algorithmic progress of the meek alone, the leader keeping the paper's 2.8: progress may depend on scale."""
PANELS = {"g_inf = 2.8": 2.8, "g_inf = 9": 9.0}
"""The two panels of the inference figure."""
INFERENCE = Growth(g_alg=3.6)
"""The authors' inference panels have 3.6 for algorithmic progress, not 2.8; the crossing does not depend on it."""
PRICE_DECLINE = 9.0
"""Yearly fall of the price of a fixed capability that the paper takes g_inf = 9 from (Cottier et al. 2025)."""


COVERAGE_PARTS = 4
"""Parts among which the planted data sets are divided."""
KEPT = 1000
"""Draws that are kept one by one; intervals and bands are of all of them."""
LEVELS = {"low": 0.025, "median": 0.5, "high": 0.975}
"""Ends and middle of the bands of uncertainty."""


class Config(evidence.Settings):
    """What the convergence notebook runs; every field is a parameter of the notebook."""

    points: Literal["planted", "digitised"] = Field(
        "planted",
        description="training runs that the law is fitted to: planted, or digitised from Hoffmann et al. (needs data)",
    )
    resamples: PositiveInt = Field(1000, description="bootstrap resamples of the runs")
    coverage_sets: int = Field(24, ge=2, description="planted data sets by which the bootstrap's coverage is checked")
    coverage_resamples: PositiveInt = Field(100, description="resamples of each")
    profile_sets: int = Field(
        40, ge=2, description="planted data sets by which the fit's intervals and warnings are checked"
    )
    noise: PositiveFloat = Field(0.01, description="standard deviation of ln(loss) around the planted law")
    doubling_months: PositiveFloat = Field(
        8.08, description="algorithmic progress: median of the months for a factor 2 (2.8 a year)"
    )
    doubling_spread: PositiveFloat = Field(
        0.263, description="its standard deviation in logarithms (95 % from 5 to 14 months)"
    )
    hardware_spread: PositiveFloat = Field(
        0.05, description="standard deviation of the logarithm of FLOP per dollar's growth"
    )
    spending: PositiveFloat = Field(
        3.571428571428571, description="median growth of the leader's spending, 5/1.4 a year"
    )
    spending_spread: PositiveFloat = Field(0.25, description="its standard deviation in logarithms")


class Points(NamedTuple):
    """Training runs: parameters, tokens, loss; shape (n,) each."""

    N: Float
    D: Float
    loss: Float


def load(config: Config) -> Points:
    """The runs that the law is fitted to: digitised from Hoffmann et al., outliers left out, or planted.

    Raises
    ------
    DataNotFound
        The digitised points are not on this machine.
    """
    if config.points == "planted":
        return plant(BESIROGLU, config.noise, seed=0)
    table = data.read_table("chinchilla")
    N = table["Model Size"].to_numpy(dtype=float)
    found = Points(N, table["Training FLOP"].to_numpy(dtype=float) / (6 * N), table["loss"].to_numpy(dtype=float))
    keep = drop_largest(5)(*found)
    return Points(*(column[keep] for column in found))


def plant(law: ParametricLaw, noise: float, seed: int) -> Points:
    """240 runs over the sizes and budgets of Hoffmann et al., with Gaussian noise on ln(loss)."""
    rng = np.random.default_rng(seed)
    N = np.exp(rng.uniform(np.log(5.7e7), np.log(1.62e10), 240))
    C = np.exp(rng.uniform(np.log(1.4e18), np.log(1.3e22), 240))
    D = np.clip(C / (6 * N), 8.2e8, 3.2e11)
    return Points(N, D, law.loss(N, D) * np.exp(noise * rng.standard_normal(240)))


def inputs(config: Config) -> dict[str, str]:
    """Checksums of the data, by name."""
    return {} if config.points == "planted" else {"meek": data.checksum("meek")}


def parts(config: Config) -> list[Part]:
    """The experiment's parts: numbers that decide claims, and curves over ``t`` (years) for the figures."""
    use_deterministic()
    only = config.only
    growth = ("doubling_months", "doubling_spread", "hardware_spread", "spending", "spending_spread")
    return [
        *(Part(name, formula, only()) for name, formula in FORMULAS.items()),
        Part("refit", refit, only("points", "noise", "resamples", *growth)),
        *(
            Part(f"{compute.__name__}, {part} of {COVERAGE_PARTS}", compute, settings, {"part": part})
            for compute, settings in (
                (coverage, only("coverage_sets", "coverage_resamples", "noise")),
                (profiles, only("profile_sets", "noise")),
            )
            for part in range(1, COVERAGE_PARTS + 1)
        ),
    ]


# --- M1, M2: the training gap ----------------------------------------------------------------------------------------


def training(_config: Config) -> Iterator[Row]:
    """The gap over time for each law, its peak, and how it falls."""
    for name, law in LAWS.items():
        yield {"quantity": "peak_time", "case": name, "value": float(peak_time(law))}
        yield {"quantity": "peak_gap", "case": name, "value": float(peak_gap(law))}
        for years in (10.0, 20.0):
            yield {"quantity": "gap_at", "case": name, "t": years, "value": float(training_gap(years, law))}
    for name, (time, peak) in EXPONENTS.items():
        yield from _figure(name, "time", float(peak_time(LAWS[name])), time, 0.02)
        yield from _figure(name, "peak", float(peak_gap(LAWS[name])), peak, 0.005 * peak)
    after = FINE[peak_time() < FINE]
    yield {"quantity": "falling_share", "value": float(np.mean(np.diff(training_gap(after)) < 0))}


# --- M3: in benchmark points -----------------------------------------------------------------------------------------


def benchmark(_config: Config) -> Iterator[Row]:
    """The gap in points of MMLU for tasks of several steps, with the paper's ceiling and with that of the task."""
    for name, sigmoid in CEILINGS.items():
        peaks = {}
        for steps in TASKS:
            peaks[steps] = peak_score_gap(sigmoid, n=steps)
            cell = {"ceiling": name, "steps": steps}
            yield {"quantity": "points_peak", **cell, "value": 100 * peaks[steps].gap}
            yield {"quantity": "points_at_10", **cell, "value": 100 * float(score_gap(10.0, sigmoid, n=steps))}
        for steps, (points, time) in PEAKS.items() if sigmoid is PAPER_SIGMOID else ():
            yield from _figure(f"{steps} steps", "points", 100 * peaks[steps].gap, points, 0.005 * points)
            yield from _figure(f"{steps} steps", "time", peaks[steps].time, time, 0.02)
        change = 100 * (peaks[10].gap - peaks[1].gap)
        yield {"quantity": "ten_steps_minus_one", "ceiling": name, "value": change}


# --- M4: inference ---------------------------------------------------------------------------------------------------


class Inference(NamedTuple):
    """A reading of the inference formula."""

    g_inf: float
    constant: float = 1.0
    reading: Reading = "squared"

    @property
    def zero(self) -> float:
        """When the fixed inference spend has caught up with the leader, years."""
        return float(inference_crossing(INFERENCE, self.g_inf, reading=self.reading, constant=self.constant))

    def gap(self, t: Float) -> Float:
        """Loss at the fixed spend minus the leader's, nats per token."""
        return inference_gap(t, PAPER, INFERENCE, self.g_inf, reading=self.reading, constant=self.constant)


def corrections(g_inf: float) -> dict[str, Inference]:
    """The formula as plotted, and with what is doubtful in it changed, one thing at a time."""
    found = {
        "as plotted": Inference(g_inf),
        # N ~ sqrt(C) with 20 tokens per parameter is C = 30 f^2, a constant that the formula drops
        "constant k = 30": Inference(g_inf, constant=30.0),
        "g_inf not squared": Inference(g_inf, reading="docstring"),
    }
    if g_inf == PRICE_DECLINE:
        # a fall of prices contains the progress of hardware and algorithms, by which the formula multiplies again
        found["progress counted once"] = Inference(PRICE_DECLINE / float(price_decline(INFERENCE, 1.0)))
    return found


def inference(_config: Config) -> Iterator[Row]:
    """When a fixed inference spend has caught up, and what corrections of the formula do to that."""
    for panel, g_inf in PANELS.items():
        readings = corrections(g_inf)
        plotted = readings["as plotted"].zero
        for name, reading in readings.items():
            cell = {"panel": panel, "correction": name}
            yield {"quantity": "inference_zero", **cell, "value": reading.zero}
            if name != "as plotted":
                yield {"quantity": "zero_over_plotted", **cell, "value": reading.zero / plotted}


# --- M5: how many tokens tell two models apart -----------------------------------------------------------------------


def sequential(_config: Config) -> Iterator[Row]:
    """Tokens of the sequential test at 5 % error, over time."""
    t = FINE[(FINE >= 1) & (FINE <= 20)]
    tokens = sprt_tokens(training_gap(t), 0.05)
    yield {"quantity": "fewest_tokens", "value": float(tokens.min())}
    later = t > peak_time()
    hundred = float(t[later][np.searchsorted(tokens[later], 100.0)])
    yield from _figure("sequential test", "time of 100 tokens", hundred, 16.51, 0.02)


# --- M6: growth, starts, schedules, and the law's exponent -----------------------------------------------------------


def robustness(_config: Config) -> Iterator[Row]:
    """The appendix: other leaders, starts and schedules, and a follower whom algorithms help less."""
    for spending, (peak, time) in LEADERS.items():
        growth, row = Growth(g_i=spending), f"leader grows {spending:g} a year"
        yield from _figure(row, "peak", float(peak_gap(PAPER, growth)), peak, 0.005 * peak + 0.00005)
        yield from _figure(row, "time", float(peak_time(PAPER, growth)), time, 0.02)
        yield {"quantity": "gap_at_20", "row": row, "value": float(training_gap(20, PAPER, growth))}
    for dollars, peak in STARTS.items():
        start, row = dollars * FLOP_PER_DOLLAR, f"both start at ${dollars:,.0f}"
        yield from _figure(row, "peak", float(peak_gap(PAPER, C0=start)), peak, 0.005 * peak + 0.00005)
        yield {"quantity": "gap_at_20", "row": row, "value": float(training_gap(20, PAPER, C0=start))}
    for row, then in SCHEDULES.items():
        gaps = scheduled_gap(np.array([7.5, 10.0, 15.0, 20.0]), then)
        for years, value, target in zip((7.5, 10, 15, 20), gaps, SCHEDULE_GAPS[row], strict=True):
            yield from _figure(f"spending grows {row}", f"{years:g} y", value, target, 0.005 * target + 0.00005)
        yield {"quantity": "gap_at_20", "row": f"spending grows {row}", "value": float(gaps[-1])}
    for progress in FOLLOWERS:
        yield {"quantity": "follower_gap_at_20", "progress": progress, "value": float(follower_gap(20.0, progress))}


def follower_gap(t: ArrayLike, progress: float) -> Float:
    """The gap when algorithms help the meek less than the leader.

    Parameters
    ----------
    t : array_like
        Years.
    progress : float
        Yearly algorithmic progress of the meek; the leader has the paper's.
    """
    years, growth = np.asarray(t, dtype=np.float64), Growth()
    meek = Growth(g_alg=progress).meek
    return np.asarray(PAPER.loss(C0 * meek**years) - PAPER.loss(C0 * growth.sota**years))


def scheduled_gap(t: Float, then: float) -> Float:
    """The gap when the leader's spending grows as in the paper for five years and by `then` a year afterwards.

    Parameters
    ----------
    t : ndarray
        Years.
    then : float
        Yearly growth after five years; infinite: as before.
    """
    growth = Growth()
    after = growth.g_i if math.isinf(then) else then
    spending = growth.g_i ** np.minimum(t, 5.0) * after ** np.maximum(t - 5.0, 0.0)
    meek = C0 * growth.meek**t
    return np.asarray(PAPER.loss(meek) - PAPER.loss(meek * spending))


def _figure(row: str, what: str, value: float, target: float, allowed: float) -> Iterator[Row]:
    yield {"quantity": "figure_deviation", "row": row, "what": what, "value": (value - target) / allowed}


# --- M9: a head start ------------------------------------------------------------------------------------------------


def head_start(_config: Config) -> Iterator[Row]:
    """When the leader begins ahead: the peak moves by ln(kappa) / ln(g_i), and into the past."""
    for kappa in HEAD_STARTS:
        gap = training_gap(FINE, head_start=kappa)
        predicted = float(peak_time(head_start=kappa))
        cell = {"kappa": kappa}
        yield {"quantity": "head_start_error", **cell, "value": float(FINE[gap.argmax()]) - max(predicted, 0.0)}
        if predicted <= 0:
            yield {"quantity": "head_start_rise", **cell, "value": float(np.diff(gap).max())}


# --- M10: bounded and unbounded metrics ------------------------------------------------------------------------------


def metric_gaps(t: Float) -> dict[str, Float]:
    """The gap between the two actors in seven metrics; the first four are bounded."""
    growth = Growth()
    meek, leader = C0 * growth.meek**t, C0 * growth.sota**t
    # 1 - p = 10^-nines, for a task that models can master
    sigmoid = CEILINGS["1.00"]
    nines = np.log10((1 - sigmoid(PAPER.loss(meek))) / (1 - sigmoid(PAPER.loss(leader))))
    return {
        "loss": training_gap(t),
        "accuracy": score_gap(t),
        "accuracy, 10 steps": score_gap(t, n=10),
        "nines of reliability": nines,
        "ln(compute)": np.log(leader / meek),
        "1/(loss - L0)": 1 / PAPER.reducible(leader) - 1 / PAPER.reducible(meek),
        "lag in years": lag(t, growth),
    }


BOUNDED = ("loss", "accuracy", "accuracy, 10 steps", "nines of reliability")
"""The bounded ones among `metric_gaps`; nines have no bound of their own, but the irreducible loss gives them one."""


def metrics(_config: Config) -> Iterator[Row]:
    """Where the gap stands after 40 years: of its largest value if bounded, of its value after 20 years if not."""
    for metric, gap in metric_gaps(FINE).items():
        bounded = metric in BOUNDED
        last = gap[-1] / (gap.max() if bounded else gap[np.searchsorted(FINE, 20.0)])
        yield {"quantity": f"{'bounded' if bounded else 'unbounded'}_late_gap", "metric": metric, "value": float(last)}


# --- M8, and M6 by Monte Carlo ---------------------------------------------------------------------------------------


def refit(config: Config) -> Iterator[Row]:
    """The law refitted with its bootstrap, what that says of the peak, and the uncertainty of growth on top."""
    points = load(config)
    fitted = fit_chinchilla(*points)
    for name in NAMES:
        yield {"quantity": "fit", "parameter": name, "value": float(getattr(fitted, name))}
        for level, value in zip(("low", "high"), fitted.interval(name), strict=True):
            yield {"quantity": "fit_interval", "parameter": name, "level": level, "value": value}
    yield {"quantity": "fitted_runs", "value": len(points.N)}
    yield {"quantity": "fit_condition", "value": float(fitted.condition)}
    draws = bootstrap_chinchilla(*points, resamples=config.resamples)
    law = draws.frontier()
    growth = _uncertain_growth(config, np.size(law.alpha))
    kept = {
        "gamma": np.asarray(law.alpha),
        "ln_K": np.log(law.A),
        "bootstrap_peak_time": peak_time(law),
        "monte_carlo_gap_at_20": training_gap(20.0, law, growth),
    }
    for quantity, values in kept.items():
        for draw, value in enumerate(values[:KEPT]):
            yield {"quantity": quantity, "seed": draw, "value": float(value)}
    for years in (10.0, 20.0):
        for draw, value in enumerate(100 * score_gap(years, PAPER_SIGMOID, law, growth)[:KEPT]):
            yield {"quantity": "monte_carlo_points", "t": years, "seed": draw, "value": float(value)}
    growths = {"law": Growth(), "law and growth": growth}
    for source, of in growths.items():
        found = {
            "peak time": peak_time(law, of),
            "peak gap": peak_gap(law, of),
            "gap at 10 years": training_gap(10.0, law, of),
        }
        for what, values in found.items():
            for level, value in zip(LEVELS, np.quantile(values, list(LEVELS.values())), strict=True):
                yield {"quantity": "summary", "source": source, "what": what, "level": level, "value": float(value)}
    for source, of in growths.items():
        curves = training_gap(YEARS[:, None], law, of)
        for level, curve in zip(LEVELS, np.quantile(curves, list(LEVELS.values()), axis=1), strict=True):
            for t, value in zip(YEARS, curve, strict=True):
                yield {"quantity": "gap", "source": source, "level": level, "t": float(t), "value": float(value)}


def _uncertain_growth(config: Config, draws: int) -> Growth:
    """One draw of every growth rate for each draw of the law, independent of it and of each other."""
    z = np.random.default_rng(1).standard_normal((3, draws))
    months = config.doubling_months * np.exp(config.doubling_spread * z[0])
    return Growth(
        g_alg=2 ** (12 / months),
        g_h=1.4 * np.exp(config.hardware_spread * z[1]),
        g_i=config.spending * np.exp(config.spending_spread * z[2]),
    )


def coverage(config: Config, part: int) -> Iterator[Row]:
    """Whether the bootstrap's 95 % interval for the peak time holds the planted one, over planted data sets."""
    truth = float(peak_time(BESIROGLU.frontier()))
    for seed in range(part, config.coverage_sets + 1, COVERAGE_PARTS):
        points = plant(BESIROGLU, config.noise, seed)
        draws = bootstrap_chinchilla(*points, resamples=config.coverage_resamples, seed=seed)
        found = evidence.percentile_interval(peak_time(draws.frontier()))
        yield {"quantity": "covered", "seed": seed, "value": float(found.low <= truth <= found.high)}


def profiles(config: Config, part: int) -> Iterator[Row]:
    """Whether profile intervals hold the planted constants, and whether runs at 20 tokens per parameter are told of."""
    for seed in range(part, config.profile_sets + 1, COVERAGE_PARTS):
        fitted = fit_chinchilla(*plant(BESIROGLU, config.noise, 10_000 + seed))
        for name in ("alpha", "E"):
            low, high = fitted.interval(name)
            covered = low <= getattr(BESIROGLU, name) <= high
            yield {"quantity": "profile_covered", "parameter": name, "seed": seed, "value": float(covered)}
        N = plant(BESIROGLU, config.noise, seed).N
        noise = np.random.default_rng(seed).standard_normal(len(N))
        loss = BESIROGLU.loss(N, 20 * N) * np.exp(config.noise * noise)
        with warnings.catch_warnings():
            warnings.simplefilter("error", IllConditionedWarning)
            try:
                fit_chinchilla(N, 20 * N, loss)
                silent = True
            # or a fit that is no law, which is an error
            except (IllConditionedWarning, ValueError):
                silent = False
        yield {"quantity": "collinear_silent", "seed": seed, "value": float(silent)}


FORMULAS = {
    "training gap": training,
    "benchmark points": benchmark,
    "inference": inference,
    "sequential test": sequential,
    "robustness": robustness,
    "head start": head_start,
    "metrics": metrics,
}
