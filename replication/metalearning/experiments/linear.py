"""The linear model: closed forms against simulation, over the authors' whole grid (claims T1-T9).

Every replicate simulates the authors' 12 x 12 x 21 grid once. All parts look at the same estimates, so that fractions
of wins, mean risks and variances are of the same trials.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from replication import evidence
from replication.metalearning.estimators import estimates, win_fraction, wins
from replication.metalearning.linear import (
    Float,
    Tasks,
    crossover_tasks,
    curvature,
    modelling_error,
    neutral_alpha,
    optimum_drs,
    optimum_maml,
    variances,
)
from replication.metalearning.smoothness import Risks, bound_ratio, logistic, quadratic

Row = dict[str, Any]

BETA = 2.0
ALPHAS = np.round(np.arange(21) * 0.05, 2)
SAMPLES = (1, 5, 10, 25, 50, 100, 150, 200, 250, 300, 350, 400)
"""N of the authors' maps."""
TASKS = (2, 5, 10, 25, 50, 100, 150, 200, 250, 300, 350, 400)
"""M of the authors' maps."""
SHOWN = (0.25, 0.5, 0.75, 1.0)
"""Step sizes at which limits, errors and mean risks are kept."""
FEW = (1, 5, 25, 100, 400)
"""N at which they are."""
LIMIT = 100_000
"""Tasks at which an estimator counts as converged."""
REPEATS = 4
"""Such estimates per replicate."""
NEAR = {"optimum": 0.02, "authors": 0.1}
"""Distance of alpha from the zero of the modelling error below which a cell is left out: of the search for the smallest
error, and of the comparison with the authors' code."""
SPREADS = np.round(np.arange(10, 0, -1) * 0.1, 1)
"""Ranges of the tasks, from the authors' to almost equal tasks."""
SIMILAR = {"alpha": 0.5, "N": 10}
"""Where wins against similarity are simulated."""
FACTORS = (1.5, 2.0)
"""Distances from M* at which the mean risks must be in the order that it says."""
ALPHA_L = (0.01, 0.1, 0.5, 1.0, 2.0)
"""Step sizes of the smoothness bound, in units of 1/L."""


class Config(BaseModel):
    """What the linear notebook runs; every field is a parameter of the notebook."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    trials: PositiveInt = Field(1000, description="trials per cell of the maps; the authors' number is 1000")
    replicates: int = Field(5, ge=2, description="independent repetitions of all maps")
    problems: PositiveInt = Field(200, description="random problems of each kind for the smoothness bound")
    seed: NonNegativeInt = Field(0, description="of the first replicate")


class Table(NamedTuple):
    """Fractions of wins that another program measured: shape (alpha, N, M)."""

    alphas: Float
    trials: int
    wins: Float


@cache
def reference() -> dict[str, Table]:
    """Tables of another implementation and of the authors' code, by name (see the file's own head)."""
    text = (resources.files("replication.metalearning") / "reference_linear.yaml").read_text(encoding="utf-8")
    found = {}
    for name, table in yaml.safe_load(text).items():
        counts = np.array([np.array(rows.split(), dtype=float).reshape(12, 12) for rows in table["wins"].values()])
        # the file has M down and N across
        found[name] = Table(np.array(list(table["wins"])), table["trials"], counts.swapaxes(1, 2) / table["trials"])
    return found


@dataclass
class Simulation:
    """What all replicates together say, and some numbers of each; grids are (alpha, N, M)."""

    before: list[Float] = field(default_factory=list)
    after: list[Float] = field(default_factory=list)
    neutral: list[Float] = field(default_factory=list)
    """At the exact zero of the modelling error, (N, M)."""
    excess: dict[str, list[Float]] = field(default_factory=lambda: {"drs": [], "maml": []})
    """Mean risk after the update above the least that is possible."""
    median: dict[str, list[Float]] = field(default_factory=lambda: {"drs": [], "maml": []})
    own: dict[str, list[Float]] = field(default_factory=lambda: {"drs": [], "maml": []})
    """Mean squared distance from the method's own optimum."""


def run(config: Config) -> pd.DataFrame:
    """Compute every part.

    Parameters
    ----------
    config : Config
        What to run.

    Returns
    -------
    DataFrame
        Tidy records. ``map`` holds the fraction of trials won by MAML in every cell, for the first replicate.
    """
    simulated = simulate(config)
    parts = [
        limits(config),
        zeros(),
        neutral(simulated),
        crossings(simulated),
        maps(simulated),
        parity(config, simulated),
        dependence(config, simulated),
        similarity(config),
        smoothness(config),
    ]
    return evidence.tidy([row for part in parts for row in part])


def simulate(config: Config) -> Simulation:
    """Simulate the grid once per replicate."""
    made = Simulation()
    for seed in _seeds(config):
        columns = [_column(n, config.trials, seed) for n in SAMPLES]
        for name in ("before", "after"):
            getattr(made, name).append(np.stack([column[name][:-1] for column in columns], axis=1))
        made.neutral.append(np.stack([column["after"][-1] for column in columns]))
        for name in ("excess", "median", "own"):
            for method, kept in getattr(made, name).items():
                kept.append(np.stack([column[f"{name} {method}"][:-1] for column in columns], axis=1))
    return made


def _column(N: int, trials: int, seed: int) -> dict[str, Float]:
    """All step sizes of the maps, and the zero of the modelling error as the last, at one N: shapes (alpha, M)."""
    alphas = np.append(ALPHAS, neutral_alpha(N, BETA))
    found = estimates(alphas, N, TASKS, BETA, trials, seed)
    won = wins(found, alphas, N, BETA)
    columns = {"before": won.before.mean(-1), "after": won.after.mean(-1)}
    half, best = curvature(alphas, N, BETA)[:, None] / 2, optimum_maml(alphas, N, BETA)
    for method, theta, own in (("drs", found.drs[None], np.array([optimum_drs(BETA)])), ("maml", found.maml, best)):
        squares = (theta - best[:, None, None]) ** 2
        columns[f"excess {method}"] = half * squares.mean(-1)
        columns[f"median {method}"] = half * np.median(squares, axis=-1)
        away = ((theta - own[:, None, None]) ** 2).mean(-1)
        columns[f"own {method}"] = np.broadcast_to(away, (len(alphas), len(TASKS)))
    return columns


# --- T1, T2: two objectives, and where they agree --------------------------------------------------------------------


def limits(config: Config) -> Iterator[Row]:
    """Both estimators at very many tasks: errors in standard errors, and DRS's excess risk over the closed form."""
    for N in FEW:
        found = estimates(SHOWN, N, LIMIT, BETA, REPEATS * config.replicates, config.seed)
        best, at = optimum_maml(SHOWN, N, BETA), variances(SHOWN, N, BETA)
        errors = {("drs", 0.0): (found.drs[0] - optimum_drs(BETA)) / np.sqrt(at.drs[0] / LIMIT)}  # alpha is not its own
        for a, alpha in enumerate(SHOWN):
            errors["maml", alpha] = (found.maml[a, 0] - best[a]) / np.sqrt(at.maml[a] / LIMIT)
        for (method, alpha), values in errors.items():
            for seed, value in enumerate(values.tolist()):
                row = {"quantity": "limit_error", "method": method, "alpha": alpha, "N": N, "seed": seed}
                yield row | {"value": value}
        excess = curvature(1.0, N, BETA) / 2 * (found.drs[0] - best[-1]) ** 2
        for seed, value in enumerate((excess / modelling_error(1.0, N, BETA)).tolist()):
            yield {"quantity": "floor_ratio", "N": N, "seed": seed, "value": value}


def zeros() -> Iterator[Row]:
    """The modelling error where it must be zero, and the least of it elsewhere on the grid."""
    for N in SAMPLES:
        at = neutral_alpha(N, BETA)
        cases = {
            "5/(3 beta (1 + 2/N))": modelling_error(5 / (3 * BETA * (1 + 2 / N)), N, BETA),
            "alpha = 0": modelling_error(0.0, N, BETA),
            "the same Q": modelling_error(ALPHAS, N, Tasks(BETA, spread=0.0)).max(),
            "independent": modelling_error(ALPHAS, N, Tasks(BETA, tied=False)).max(),
        }
        for case, value in cases.items():
            # no digit below the rounding of float64, which differs between machines
            yield {"quantity": "gap_at_zero", "case": case, "N": N, "value": round(float(value), 15)}
        elsewhere = ALPHAS[(ALPHAS > 0) & (np.abs(ALPHAS - at) > NEAR["optimum"])]
        yield {"quantity": "smallest_gap", "N": N, "value": float(modelling_error(elsewhere, N, BETA).min())}


def neutral(simulated: Simulation) -> Iterator[Row]:
    """Fractions of wins at the zero of the modelling error, and their distance from another simulation's."""
    won = np.mean(simulated.neutral, axis=0)
    for (i, N), (j, M) in _grid(SAMPLES, TASKS):
        yield {"quantity": "neutral_wins", "N": N, "M": M, "value": won[i, j]}
    for N, known in NEUTRAL.items():
        for M, value in known.items():
            ours = won[SAMPLES.index(N), TASKS.index(M)]
            yield {"quantity": "neutral_difference", "N": N, "M": M, "value": ours - value}


NEUTRAL = {
    1: {10: 0.320, 100: 0.289, 400: 0.270},
    5: {10: 0.233, 100: 0.191, 400: 0.195},
    10: {10: 0.199, 100: 0.180, 400: 0.178},
    25: {10: 0.181, 100: 0.188, 400: 0.195},
    100: {10: 0.192, 100: 0.199, 400: 0.207},
    400: {10: 0.181, 100: 0.189, 400: 0.194},
}
"""Fractions of wins at the zero by N and M: another implementation, 4000 trials."""


# --- T3: M* against the simulated crossing, mean against median ------------------------------------------------------


def crossings(simulated: Simulation) -> Iterator[Row]:
    """Where the mean risks cross, beside M*; and at N = 1 where mean and median cross, by replicate."""
    difference = np.mean(simulated.excess["maml"], axis=0) - np.mean(simulated.excess["drs"], axis=0)
    predicted = crossover_tasks(ALPHAS[:, None], SAMPLES, BETA)
    for (a, alpha), (i, N) in _grid(ALPHAS.tolist(), SAMPLES):
        if N >= 5 and 10 <= predicted[a, i] <= 450:
            low, high = bracket(difference[a, i] > 0)
            named = {"M_star": float(predicted[a, i]), "bracket_low": low, "bracket_high": high}
            for name, value in named.items():
                yield {"quantity": name, "alpha": alpha, "N": N, "value": value}
            for row in _beyond(simulated, (a, i), float(predicted[a, i])):
                yield row | {"quantity": "wrong_side", "alpha": alpha, "N": N}
    for replicate, after in enumerate(simulated.after):
        for alpha in SHOWN[1:]:
            a = ALPHAS.tolist().index(alpha)
            mean = simulated.excess["maml"][replicate][a, 0] > simulated.excess["drs"][replicate][a, 0]
            for statistic, worse in (("mean", mean), ("median", after[a, 0] < 0.5)):
                row = {"quantity": "overtaken_at", "alpha": alpha, "statistic": statistic, "seed": replicate}
                yield row | {"value": bracket(worse)[0]}
    for statistic, kept in (("mean", simulated.excess), ("median", simulated.median)):
        for method, grids in kept.items():
            grid = np.mean(grids, axis=0)
            for alpha in SHOWN:
                for N in FEW:
                    at = {"statistic": statistic, "method": method, "alpha": alpha, "N": N}
                    row = grid[ALPHAS.tolist().index(alpha), SAMPLES.index(N)]
                    for M, value in zip(TASKS, row.tolist(), strict=True):
                        yield {"quantity": "excess", **at, "M": M, "value": value}


def _beyond(simulated: Simulation, cell: tuple[int, int], predicted: float) -> Iterator[Row]:
    """How much worse in mean risk the method is that M* calls better, just beyond a factor from M*; below 0: right."""
    M = np.array(TASKS)
    for factor in FACTORS:
        sides = {
            "more tasks": (1, np.flatnonzero(factor * predicted < M)[:1].tolist()),
            "fewer tasks": (-1, np.flatnonzero(predicted / factor > M)[-1:].tolist()),
        }
        for side, (sign, at) in sides.items():
            for j in at:
                for replicate, (maml, drs) in enumerate(
                    zip(simulated.excess["maml"], simulated.excess["drs"], strict=True)
                ):
                    value = sign * (maml[*cell, j] / drs[*cell, j] - 1)
                    yield {"factor": factor, "case": side, "seed": replicate, "value": float(value)}


def bracket(worse: NDArray[np.bool_]) -> tuple[float, float]:
    """The last M of the grid at which MAML is worse, and the next; 0 and infinity beyond the ends."""
    last = int(np.flatnonzero(worse)[-1]) if worse.any() else -1
    edges = (0.0, *TASKS, np.inf)
    return edges[last + 1], edges[last + 2]


# --- T4, T6: the maps ------------------------------------------------------------------------------------------------


def maps(simulated: Simulation) -> Iterator[Row]:
    """The maps of the first replicate; and over all replicates' trials, the largest fractions before the update."""
    for stage, grid in (("before", simulated.before[0]), ("after", simulated.after[0])):
        for a, alpha in enumerate(ALPHAS.tolist()):
            for (i, N), (j, M) in _grid(SAMPLES, TASKS):
                yield {"quantity": "map", "table": stage, "alpha": alpha, "N": N, "M": M, "value": grid[a, i, j]}
    for alpha, cells in zip(ALPHAS.tolist(), np.mean(simulated.before, axis=0), strict=True):
        if alpha >= 0.25:
            yield {"quantity": "largest_before", "alpha": alpha, "value": cells.max()}


def parity(config: Config, simulated: Simulation) -> Iterator[Row]:
    """Share of cells within tolerance of each table, and the mean and spread of the standardised differences."""
    narrow = [
        win_fraction(reference()["after, beta 1"].alphas, SAMPLES, TASKS, 1.0, config.trials, seed).after
        for seed in _seeds(config)
    ]
    for name, table in reference().items():
        if name == "after, beta 1":
            grids = narrow
        else:
            picked = [ALPHAS.tolist().index(alpha) for alpha in table.alphas.tolist()]
            grids = [grid[picked] for grid in (simulated.after if "after" in name else simulated.before)]
        cells = np.ones(table.wins.shape, dtype=bool)
        if "authors" in name:
            cells &= (np.abs(table.alphas[:, None] - neutral_alpha(SAMPLES, BETA)) >= NEAR["authors"])[:, :, None]
        for seed, grid in zip(_seeds(config), grids, strict=True):
            difference = (grid - table.wins)[cells]
            error = standard_error(table, config.trials)[cells]
            z = difference / error
            shares = {
                "within_tolerance": np.mean(np.abs(difference) <= 4 * error + 0.005),
                "z_mean": z.mean(),
                "z_sd": z.std(),
                "z_largest": np.abs(z).max(),
            }
            for quantity, value in shares.items():
                yield {"quantity": quantity, "table": name, "seed": seed, "value": float(value)}


def standard_error(table: Table, trials: int) -> Float:
    """Standard error of the difference between a table's fractions and ours."""
    p = np.clip(table.wins, 0.005, 0.995)
    return np.sqrt(p * (1 - p) * (1 / trials + 1 / table.trials))


# --- T5, T7: what depends on N, M and alpha --------------------------------------------------------------------------


def dependence(config: Config, simulated: Simulation) -> Iterator[Row]:
    """V_maml along N; wins along alpha; how the statistical error falls; what is left of DRS's variance at large N."""
    from_five = SAMPLES[1:]
    for alpha in (*ALPHAS[(ALPHAS > 0) & (ALPHAS <= 0.5)].tolist(), 1.0):
        V = variances(alpha, from_five, BETA).maml
        yield {"quantity": "largest_rise_of_variance", "alpha": alpha, "value": float((V[1:] / V[:-1] - 1).max())}
    large = np.array(TASKS) >= 50
    for replicate, seed in enumerate(_seeds(config)):
        after = simulated.after[replicate]
        for alpha in SHOWN[1:]:
            value = after[ALPHAS.tolist().index(alpha), SAMPLES.index(25), TASKS.index(100)]
            yield {"quantity": "wins_at_100_25", "alpha": alpha, "seed": seed, "value": value}
        for method, grids in simulated.own.items():
            for alpha in SHOWN if method == "maml" else (0.0,):
                for N in FEW[1:]:
                    errors = grids[replicate][ALPHAS.tolist().index(alpha), SAMPLES.index(N)][large]
                    slope = np.polyfit(np.log(np.array(TASKS)[large]), np.log(errors), 1)[0]
                    row = {"quantity": "error_exponent", "method": method, "alpha": alpha, "N": N, "seed": seed}
                    yield row | {"value": slope}
        value = TASKS[-1] * simulated.own["drs"][replicate][0, -1, -1]
        yield {"quantity": "variance_at_400", "seed": seed, "value": value}


# --- T8: how alike the tasks are -------------------------------------------------------------------------------------


def similarity(config: Config) -> Iterator[Row]:
    """M* and fractions of wins as the tasks' range narrows around the same mean; noise as before."""
    for alpha in (0.25, 0.5, 1.0):
        for N in (5, 10, 25):
            needed = [float(crossover_tasks(alpha, N, Tasks(BETA, spread=spread))) for spread in SPREADS.tolist()]
            for spread, value in zip(SPREADS.tolist(), needed, strict=True):
                yield {"quantity": "similar_crossover", "alpha": alpha, "N": N, "spread": spread, "value": value}
            growth = min(narrower / wider for wider, narrower in itertools.pairwise(needed))
            yield {"quantity": "smallest_growth", "alpha": alpha, "N": N, "value": growth}
    for spread in SPREADS[::2].tolist():
        for seed in _seeds(config):
            tasks = Tasks(BETA, spread=spread)
            won = win_fraction(SIMILAR["alpha"], int(SIMILAR["N"]), TASKS, tasks, config.trials, seed).after
            for M, value in zip(TASKS, won.tolist(), strict=True):
                yield {"quantity": "similar_wins", "spread": spread, "M": M, "seed": seed, "value": value}


# --- T9: any smooth risks --------------------------------------------------------------------------------------------


def smoothness(config: Config) -> Iterator[Row]:
    """Ratio of both sides of the bound on random problems, at points around their centre."""
    for alpha_L in ALPHA_L:
        for name in ("convex quadratic", "indefinite quadratic", "logistic"):
            rng = np.random.default_rng(config.seed)
            ratios = []
            for _ in range(config.problems):
                risks, theta = _problem(name, rng)
                ratios.append(bound_ratio(risks, theta, alpha_L / risks.L))
            for statistic, value in (("largest", max(ratios)), ("median", float(np.median(ratios)))):
                at = {"case": name, "alpha_L": alpha_L, "statistic": statistic}
                yield {"quantity": "bound_ratio", **at, "value": value}


def _problem(name: str, rng: np.random.Generator) -> tuple[Risks, Float]:
    """Risks of one to eight tasks in one to five dimensions, and a point."""
    tasks, d = int(rng.integers(1, 9)), int(rng.integers(1, 6))
    theta = rng.normal(size=d)
    if name == "logistic":
        X = rng.normal(size=(tasks, 20, d))
        chance = 1 / (1 + np.exp(-np.einsum("tni,ti->tn", X, rng.normal(size=(tasks, d)))))
        return logistic(X, (rng.random((tasks, 20)) < chance).astype(float)), theta
    H = rng.normal(size=(tasks, d, d))
    H = H @ H.swapaxes(1, 2) if name == "convex quadratic" else H + H.swapaxes(1, 2)
    return quadratic(H, rng.normal(size=(tasks, d))), theta


# --- grids -----------------------------------------------------------------------------------------------------------


def _seeds(config: Config) -> range:
    return range(config.seed, config.seed + config.replicates)


def _grid(first: Any, second: Any) -> Iterator[tuple[tuple[int, Any], tuple[int, Any]]]:
    return ((one, other) for one in enumerate(first) for other in enumerate(second))
