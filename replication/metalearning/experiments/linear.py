"""The linear model: closed forms against simulation, over the authors' whole grid (tests T1 to T9 and T15).

Every replicate simulates the authors' 12 x 12 x 21 grid once. All parts look at the same estimates, so that fractions
of wins, mean risks and variances are of the same trials.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveInt

from replication import evidence
from replication.evidence import Part
from replication.metalearning.estimators import estimates, nested_estimates, win_fraction, wins
from replication.metalearning.experiments import rows_along
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
from replication.training import use_deterministic

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
MANY = (1000, 10_000, 100_000)
"""Tasks beyond those of the maps, each a multiple of the one before; at the last an estimator counts as converged."""
REPEATS = 5
"""Estimates per replicate from that many."""
NEAR = {"optimum": 0.02, "authors": 0.1}
"""Distance of alpha from the zero of the modelling error below which a cell is left out: of the search for the smallest
error, and of the comparison with the authors' code."""
SPREADS = np.round(np.arange(10, 0, -1) * 0.1, 1)
"""Ranges of the tasks, from the authors' to almost equal tasks."""
SIMILAR = {"alpha": 0.5, "N": 10}
"""Where wins against similarity are simulated."""
FACTORS = (1.0, 1.5, 2.0)
"""Distances from M* beyond which the order of the mean risks is held against it."""
REGIONS: dict[str, tuple[tuple[float, ...], tuple[int, ...], tuple[int, ...]]] = {
    "few tasks": (tuple(ALPHAS.tolist()), (1, 5), (2, 5)),
    "many tasks": (tuple(a for a in ALPHAS.tolist() if 0 < a <= 0.7 or a >= 0.95), (400,), (400,)),
    "valley": ((0.75,), (25,), (5, 10, 25, 50, 100, 150, 200, 250, 300)),
    "samples": ((0.5,), SAMPLES, (100,)),
    "step size": ((0.5, 0.75, 1.0), (25,), (100,)),
}
"""Step sizes, N and M of the parts of the maps that are kept for every replicate. "many tasks" leaves out the zeros of
the modelling error at N = 400 (0 and 0.83) and what is within 0.1 of the second."""
ALPHA_L = (0.01, 0.1, 0.5, 1.0, 2.0)
"""Step sizes of the smoothness bound, in units of 1/L."""


class Config(evidence.Settings):
    """What the linear notebook runs; every field is a parameter of the notebook."""

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
    squares: list[Float] = field(default_factory=list)
    """Mean squared distance of DRS's estimate from its optimum, (N, M)."""
    excess: dict[str, list[Float]] = field(default_factory=lambda: {"drs": [], "maml": []})
    """Mean risk after the update above the least that is possible."""
    median: dict[str, list[Float]] = field(default_factory=lambda: {"drs": [], "maml": []})


def parts(config: Config) -> list[Part]:
    """One part for the maps and all that is made of the same estimates, and one for each further question.

    ``map`` holds the fraction of trials won by MAML in every cell, for the first replicate.
    """
    use_deterministic()
    only = config.only
    return [
        Part("limits", limits, only("seed", "replicates")),
        Part("zeros", zeros, only()),
        Part("maps", simulated, only("seed", "replicates", "trials")),
        Part("train-train", train_train, only("seed", "replicates", "trials")),
        Part("similarity", similarity, only("seed", "replicates", "trials")),
        Part("smoothness", smoothness, only("seed", "problems")),
    ]


def simulated(config: Config) -> Iterator[Row]:
    """All that looks at the simulated grid."""
    made = simulate(config)
    for part in (neutral, crossings, maps, regions, parity, dependence):
        yield from part(config, made)


def simulate(config: Config) -> Simulation:
    """Simulate the grid once per replicate."""
    made = Simulation()
    for seed in _seeds(config):
        columns = [_column(n, config.trials, seed) for n in SAMPLES]
        for name in ("before", "after"):
            getattr(made, name).append(np.stack([column[name][:-1] for column in columns], axis=1))
        made.neutral.append(np.stack([column["after"][-1] for column in columns]))
        made.squares.append(np.stack([column["squares"] for column in columns]))
        for name in ("excess", "median"):
            for method, kept in getattr(made, name).items():
                kept.append(np.stack([column[f"{name} {method}"][:-1] for column in columns], axis=1))
    return made


def _column(N: int, trials: int, seed: int) -> dict[str, Float]:
    """All step sizes of the maps, and the zero of the modelling error as the last, at one N: shapes (alpha, M)."""
    alphas = np.append(ALPHAS, neutral_alpha(N, BETA))
    found = estimates(alphas, N, TASKS, BETA, trials, seed)
    won = wins(found, alphas, N, BETA)
    columns = {"before": won.before.mean(-1), "after": won.after.mean(-1)}
    columns["squares"] = ((found.drs - optimum_drs(BETA)) ** 2).mean(-1)
    half, best = curvature(alphas, N, BETA)[:, None] / 2, optimum_maml(alphas, N, BETA)
    for method, theta in (("drs", found.drs[None]), ("maml", found.maml)):
        squares = (theta - best[:, None, None]) ** 2
        columns[f"excess {method}"] = half * squares.mean(-1)
        columns[f"median {method}"] = half * np.median(squares, axis=-1)
    return columns


# --- T1, T2: two objectives, and where they agree --------------------------------------------------------------------


def limits(config: Config) -> Iterator[Row]:
    """Both estimators from very many tasks: what is left of their errors, and how fast it falls.

    ``limit_error`` is in standard errors of the delta method; ``floor_ratio`` is the excess risk over DRS's modelling
    error; ``error_exponent`` is the slope, in the logarithm of M, of that of the squared error (in units of the delta
    method's variance, mean over N from 5 on).
    """
    for replicate, seed in enumerate(_seeds(config)):
        # per arm and N the squared errors by M, in units of the variance at one task
        squares: dict[tuple[str, float], list[list[float]]] = {}
        for N in FEW:
            found = nested_estimates(SHOWN, N, MANY, BETA, REPEATS, seed)
            best, at = optimum_maml(SHOWN, N, BETA), variances(SHOWN, N, BETA)
            # alpha is not DRS's own
            arms = {("drs", 0.0): ([found[M].drs for M in MANY], optimum_drs(BETA), at.drs[0])}
            for a, alpha in enumerate(SHOWN):
                arms["maml", alpha] = ([found[M].maml[a] for M in MANY], float(best[a]), at.maml[a])
            for (method, alpha), (theta, optimum, variance) in arms.items():
                errors = [(of - optimum) / np.sqrt(variance) for of in theta]
                for trial, value in enumerate((errors[-1] * np.sqrt(MANY[-1])).tolist(), start=replicate * REPEATS):
                    row = {"quantity": "limit_error", "method": method, "alpha": alpha, "N": N, "seed": trial}
                    yield row | {"value": value}
                if N in FEW[1:]:
                    squares.setdefault((method, alpha), []).append([float(np.mean(of**2)) for of in errors])
            for method, last in (("drs", found[MANY[-1]].drs), ("maml", found[MANY[-1]].maml[-1])):
                excess = curvature(1.0, N, BETA) / 2 * np.mean((last - best[-1]) ** 2) / modelling_error(1.0, N, BETA)
                yield {"quantity": "floor_ratio", "method": method, "N": N, "seed": seed, "value": float(excess)}
        for (method, alpha), of in squares.items():
            slope = np.polyfit(np.log(MANY), np.log(np.mean(of, axis=0)), 1)[0]
            yield {"quantity": "error_exponent", "method": method, "alpha": alpha, "seed": seed, "value": float(slope)}


def zeros(_config: Config) -> Iterator[Row]:
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


def neutral(config: Config, simulated: Simulation) -> Iterator[Row]:
    """Fractions of wins at the zero of the modelling error, and their distance from another simulation's."""
    for seed, won in zip(_seeds(config), simulated.neutral, strict=True):
        for (i, N), (j, M) in _grid(SAMPLES, TASKS):
            yield {"quantity": "neutral_wins", "N": N, "M": M, "seed": seed, "value": won[i, j]}
            if M in NEUTRAL.get(N, {}):
                row = {"quantity": "neutral_difference", "N": N, "M": M, "seed": seed}
                yield row | {"value": won[i, j] - NEUTRAL[N][M]}


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


def crossings(config: Config, simulated: Simulation) -> Iterator[Row]:
    """Where the mean risks cross, beside M*; how often M* gives their order; at N = 1 where mean and median cross."""
    difference = np.mean(simulated.excess["maml"], axis=0) - np.mean(simulated.excess["drs"], axis=0)
    predicted = crossover_tasks(ALPHAS[:, None], SAMPLES, BETA)
    held: dict[float, list[list[bool]]] = {factor: [] for factor in FACTORS}
    for (a, alpha), (i, N) in _grid(ALPHAS.tolist(), SAMPLES):
        if N >= 5 and 10 <= predicted[a, i] <= 450:
            low, high = bracket(difference[a, i] > 0)
            named = {"M_star": float(predicted[a, i]), "bracket_low": low, "bracket_high": high}
            for name, value in named.items():
                yield {"quantity": name, "alpha": alpha, "N": N, "value": value}
            for factor, cells in held.items():
                cells.append(ordered(simulated, (a, i), float(predicted[a, i]), factor))
    for factor, cells in held.items():
        yield from rows_along("right_order", np.mean(cells, axis=0), {"factor": factor}, seed=_seeds(config))
    for replicate, (seed, after) in enumerate(zip(_seeds(config), simulated.after, strict=True)):
        for alpha in SHOWN[1:]:
            a = ALPHAS.tolist().index(alpha)
            mean = simulated.excess["maml"][replicate][a, 0] > simulated.excess["drs"][replicate][a, 0]
            for statistic, worse in (("mean", mean), ("median", after[a, 0] < 0.5)):
                row = {"quantity": "overtaken_at", "alpha": alpha, "statistic": statistic, "seed": seed}
                yield row | {"value": bracket(worse)[0]}
    for statistic, kept in (("mean", simulated.excess), ("median", simulated.median)):
        for method, grids in kept.items():
            grid, at = np.mean(grids, axis=0)[_places(SHOWN, FEW)], {"statistic": statistic, "method": method}
            yield from rows_along("excess", grid, at, alpha=SHOWN, N=FEW, M=TASKS)


def ordered(simulated: Simulation, cell: tuple[int, int], predicted: float, factor: float) -> list[bool]:
    """Per replicate, whether MAML has the lower mean risk just beyond factor x M*, and DRS just below M*/factor."""
    M = np.array(TASKS)
    more = np.flatnonzero(factor * predicted < M)[:1].tolist()
    fewer = np.flatnonzero(predicted / factor > M)[-1:].tolist()
    return [
        all(maml[*cell, j] < drs[*cell, j] for j in more) and all(maml[*cell, j] > drs[*cell, j] for j in fewer)
        for maml, drs in zip(simulated.excess["maml"], simulated.excess["drs"], strict=True)
    ]


def bracket(worse: NDArray[np.bool_]) -> tuple[float, float]:
    """The last M of the grid at which MAML is worse, and the next; 0 and infinity beyond the ends."""
    last = int(np.flatnonzero(worse)[-1]) if worse.any() else -1
    edges = (0.0, *TASKS, np.inf)
    return edges[last + 1], edges[last + 2]


# --- T4, T6: the maps ------------------------------------------------------------------------------------------------


def maps(config: Config, simulated: Simulation) -> Iterator[Row]:
    """The maps of the first replicate; and by replicate, the cell with most wins of MAML before the update."""
    for stage, grid in (("before", simulated.before[0]), ("after", simulated.after[0])):
        yield from rows_along("map", grid, {"table": stage}, alpha=ALPHAS.tolist(), N=SAMPLES, M=TASKS)
    before = np.stack(simulated.before)
    for a, alpha in enumerate(ALPHAS.tolist()):
        if alpha >= 0.25:
            # the cell is the largest over all trials, which can only speak against DRS
            cell = np.unravel_index(before[:, a].mean(0).argmax(), before.shape[2:])
            yield from rows_along("largest_before", before[:, a, *cell], {"alpha": alpha}, seed=_seeds(config))


def regions(config: Config, simulated: Simulation) -> Iterator[Row]:
    """Parts of the map after the update, of every replicate (see `REGIONS`)."""
    after = np.stack(simulated.after, axis=-1)
    for name, (alphas, Ns, Ms) in REGIONS.items():
        won = after[_places(alphas, Ns, Ms)]
        yield from rows_along("wins", won, {"region": name}, alpha=alphas, N=Ns, M=Ms, seed=_seeds(config))


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


# --- MAML without a split --------------------------------------------------------------------------------------------


def train_train(config: Config) -> Iterator[Row]:
    """Where MAML wins if all samples both adapt and judge, and the most tasks with which either MAML is worse."""
    for name in ("few tasks", "many tasks"):
        alphas, Ns, Ms = REGIONS[name]
        alphas = tuple(alpha for alpha in alphas if alpha > 0)  # at 0 it is DRS itself
        for seed, N in itertools.product(_seeds(config), Ns):
            found = estimates(alphas, N, Ms, BETA, config.trials, seed, split=False)
            won = wins(found, alphas, N, BETA).after.mean(-1)
            at = {"region": f"{name}, train-train", "N": N, "seed": seed}
            yield from rows_along("wins", won, at, alpha=alphas, M=Ms)
    alpha = float(SIMILAR["alpha"])
    for seed, N, split in itertools.product(_seeds(config), FEW[1:4], (True, False)):
        found = estimates([alpha], N, TASKS, BETA, config.trials, seed, split=split)
        maml, drs = (((theta - optimum_maml(alpha, N, BETA)) ** 2).mean(-1) for theta in (found.maml[0], found.drs))
        at = {"alpha": alpha, "N": N, "halves": "split" if split else "train-train", "seed": seed}
        yield {"quantity": "overtaken_by", **at, "value": bracket(maml > drs)[0]}


# --- T5, T7, T15: what depends on N, M and alpha ----------------------------------------------------------------------


def dependence(config: Config, simulated: Simulation) -> Iterator[Row]:
    """V_maml along N; what is left of DRS's variance at large N; excess risks over what the delta method gives."""
    from_five = SAMPLES[1:]
    for alpha in (*ALPHAS[(ALPHAS > 0) & (ALPHAS <= 0.5)].tolist(), 1.0):
        V = variances(alpha, from_five, BETA).maml
        yield {"quantity": "largest_rise_of_variance", "alpha": alpha, "value": float((V[1:] / V[:-1] - 1).max())}
    for seed, squares in zip(_seeds(config), simulated.squares, strict=True):
        yield {"quantity": "variance_at_400", "seed": seed, "value": TASKS[-1] * squares[-1, -1]}
    alphas, Ns = np.array(SHOWN)[:, None, None], np.array(FEW[1:])[:, None]
    at, distance = variances(alphas, Ns, BETA), {"drs": modelling_error(alphas, Ns, BETA), "maml": np.zeros(1)}
    for method, grids in simulated.excess.items():
        terms = distance[method] + curvature(alphas, Ns, BETA) / 2 * getattr(at, method) / np.array(TASKS)
        for seed, grid in zip(_seeds(config), grids, strict=True):
            ratios = (grid[_places(SHOWN, FEW[1:])] / terms).mean((0, 1))
            yield from rows_along("excess_over_terms", ratios, {"method": method, "seed": seed}, M=TASKS)


# --- T8: how alike the tasks are -------------------------------------------------------------------------------------


def similarity(config: Config) -> Iterator[Row]:
    """M* and fractions of wins as the tasks' range narrows around the same mean; noise as before."""
    for alpha in (0.25, 0.5, 1.0):
        for N in (5, 10, 25):
            needed = [float(crossover_tasks(alpha, N, Tasks(BETA, spread=spread))) for spread in SPREADS.tolist()]
            yield from rows_along("similar_crossover", needed, {"alpha": alpha, "N": N}, spread=SPREADS.tolist())
            growth = min(narrower / wider for wider, narrower in itertools.pairwise(needed))
            yield {"quantity": "smallest_growth", "alpha": alpha, "N": N, "value": growth}
    for spread in SPREADS[::2].tolist():
        for seed in _seeds(config):
            tasks = Tasks(BETA, spread=spread)
            won = win_fraction(SIMILAR["alpha"], int(SIMILAR["N"]), TASKS, tasks, config.trials, seed).after
            yield from rows_along("similar_wins", won, {"spread": spread, "seed": seed}, M=TASKS)


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


def _places(alphas: Sequence[float], Ns: Sequence[int], Ms: Sequence[int] = TASKS) -> tuple[NDArray[np.int64], ...]:
    """Where cells stand in the grids."""
    return np.ix_([ALPHAS.tolist().index(a) for a in alphas], [*map(SAMPLES.index, Ns)], [*map(TASKS.index, Ms)])


def _grid(first: Any, second: Any) -> Iterator[tuple[tuple[int, Any], tuple[int, Any]]]:
    return itertools.product(enumerate(first), enumerate(second))
