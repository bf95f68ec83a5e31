"""Sinusoid notebook: DRS and MAML on finite noisy tasks, and on fresh noiseless ones (tests T10 to T12).

Finite: M noisy tasks are given once and trained on for many steps. Fresh: every step draws new noiseless tasks. Methods
share initial weights, tasks, examples and their order. Each seed has validation tasks of its own, on which the learning
rate, the test rate and the checkpoint of every method are chosen, and test tasks, which choose nothing. A grid of
learning rates is widened where a seed's best is an end of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from replication import evidence
from replication.evidence import Part
from replication.metalearning.experiments import rows_along
from replication.metalearning.sinusoid import GRADIENT_CALLS, RANGE, MetaPopulation, Method, Sinusoids
from replication.training import data_order, resolve_device, track, use_deterministic
from replication.training.search import Grid, tune

Row = dict[str, Any]
Float = npt.NDArray[np.float64]
Pair = tuple[Tensor, Tensor]

SAMPLES, CALLS = "equal samples", "equal gradient calls"
MAIN, FRESH = "main", "fresh"
COMPARED: tuple[Method, ...] = ("DRS", "MAML")
CONTROL: Method = "MAML train-train"
"""Trained in the main condition only, at equal samples."""
Width = Annotated[float, Field(ge=0, le=1)]


class Config(evidence.Settings):
    """What the sinusoid notebook runs; every field is a parameter of the notebook."""

    seeds: int = Field(16, ge=2, description="replicates: initial weights, tasks, examples and their order")
    first_seed: int = Field(8, ge=0, description="the first of them")
    other_seeds: int = Field(8, ge=2, description="how many of them the further conditions and fresh tasks take")
    tasks: list[PositiveInt] = Field([5, 20, 80], min_length=2, description="numbers of training tasks M")
    shots: PositiveInt = Field(5, description="examples of an inner step, N; a training task has 2N")
    noise: NonNegativeFloat = Field(1.0, description="standard deviation of the noise on the values adapted to")
    width: Width = Field(1.0, description="width of the task family where M is finite; 1 is the family of Finn et al.")
    other_shots: list[PositiveInt] = Field(
        [], description="N of further conditions, which differ from the main one in this alone"
    )
    other_noise: list[NonNegativeFloat] = Field([], description="noise of further conditions")
    other_widths: list[Width] = Field([], description="widths of further conditions")
    steps: list[PositiveInt] = Field(
        [150, 300, 600], min_length=2, description="checkpoints; the last is the budget, any before may be kept"
    )
    fresh_widths: list[Width] = Field([0.05, 0.25, 1.0], min_length=1, description="widths of fresh noiseless tasks")
    fresh_steps: list[PositiveInt] = Field([150, 300, 600], min_length=1, description="checkpoints on fresh tasks")
    meta_batch: PositiveInt = Field(5, description="tasks of a step")
    hidden: PositiveInt = Field(40, description="units of each of the two hidden layers")
    learning_rates: list[PositiveFloat] = Field(
        [0.002, 0.004, 0.008, 0.016], min_length=1, description="tried rates of Adam"
    )
    widenings: int = Field(2, ge=0, le=3, description="times that they are widened where the best is an end")
    inner_rate: PositiveFloat = Field(0.01, description="rate of the inner step in training")
    test_rates: list[NonNegativeFloat] = Field(
        [0.0, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16],
        min_length=1,
        description="tried rates of the step at test",
    )
    validation_tasks: PositiveInt = Field(50, description="tasks of a seed on which rates are chosen")
    test_tasks: PositiveInt = Field(100, description="tasks of a seed on which the chosen are judged")
    resamples: int = Field(2000, ge=2, description="bootstrap resamples of the seeds, for the crossing")
    device: str = Field("auto", description="auto, cpu or cuda")

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("tasks", "steps", "fresh_steps", "test_rates"):
            values = getattr(self, name)
            if sorted(set(values)) != values:
                raise ValueError(f"{name}: must increase, got {values}")
        if self.other_seeds > self.seeds:
            raise ValueError(f"other_seeds: {self.other_seeds} are more than the {self.seeds} seeds")
        if self.meta_batch > self.tasks[0]:
            raise ValueError(f"meta_batch: {self.meta_batch} is more than the fewest tasks, {self.tasks[0]}")
        for method in COMPARED:
            if _steps(self, CALLS, method) not in self.steps:
                raise ValueError(
                    f"steps: {method} takes {_steps(self, CALLS, method):g} steps at equal gradient calls, which is no "
                    f"checkpoint of {self.steps}"
                )
        return self

    @property
    def conditions(self) -> list[Condition]:
        """The main condition and those that differ from it in one thing."""
        made = [Condition(MAIN, self.shots, self.noise, self.width)]
        made += [Condition(f"N = {shots}", shots, self.noise, self.width) for shots in self.other_shots]
        made += [Condition(f"noise {noise:g}", self.shots, noise, self.width) for noise in self.other_noise]
        made += [Condition(f"width {width:g}", self.shots, self.noise, width) for width in self.other_widths]
        return made


class Condition(NamedTuple):
    """A setting with a finite number of noisy tasks."""

    name: str
    shots: int
    noise: float
    width: float


def _steps(config: Config, budget: str, method: Method) -> float:
    """Steps that a budget buys: the last checkpoint, less where a step takes more gradient calls."""
    share = GRADIENT_CALLS["DRS"] / GRADIENT_CALLS[method] if budget == CALLS else 1.0
    return config.steps[-1] * share


class Judged(NamedTuple):
    """New tasks: examples to adapt on, and clean values on a grid."""

    support: Pair
    query: Pair


class Arena(NamedTuple):
    """Conditions that are trained side by side, and how they are fed and judged."""

    seeds: range
    batch: Callable[[int], Pair]
    """Step to examples, shapes (conditions, seeds, T, 2N, 1)."""
    validation: list[list[Judged]]
    test: list[list[Judged]]
    """By condition and seed."""


class Chosen(NamedTuple):
    """What a method reaches with a budget in one condition, by seed."""

    condition: int
    method: Method
    steps: int
    """The budget."""
    seed: int
    kept_steps: int
    """The checkpoint that is kept, at most the budget."""
    learning_rate: float
    test_rate: float
    inside: bool
    """Whether neither rate lies at an end of its grid; a test rate of 0 is none, since nothing lies below it."""
    before: float
    after: float
    zero: float
    """Mean squared errors on the test tasks: before and after the step, and of predicting zero."""


def parts(config: Config) -> list[Part]:
    """One part for each condition and method, and for each condition what compares its methods.

    ``condition`` is "main", "fresh" or what differs from main. Their rows: ``log_mse`` (natural logarithm of the mean
    squared error on test tasks after one step), ``log_mse_before`` (before it), ``log_over_zero`` (log_mse less that of
    predicting zero), ``kept_steps``, ``learning_rate`` and ``test_rate`` (chosen), ``rates_inside`` (1 if neither rate
    is an end of its grid), by ``method``, ``seed``, ``steps`` (the most that may be taken) and ``tasks`` or ``width``;
    ``final`` (log_mse) and ``log_ratio`` (of DRS's error to MAML's) by ``budget``; ``crossing_draw`` and
    ``crossing_shift_draw`` by ``draw``.
    """
    use_deterministic()
    only = config.only
    judged = (
        *("first_seed", "other_seeds", "meta_batch", "hidden", "learning_rates", "widenings", "inner_rate"),
        *("test_rates", "validation_tasks", "test_tasks", "device"),
    )
    settings = only("shots", "fresh_widths", "fresh_steps", *judged)
    new = [Part(f"fresh: {method}", fresh, settings, {"method": method}) for method in COMPARED]
    ratios = only("fresh_widths", "fresh_steps", "first_seed", "other_seeds")
    made = [*new, Part("fresh: ratios", fresh_ratios, ratios, needs=tuple(part.name for part in new))]
    for condition in config.conditions:
        main = condition.name == MAIN
        settings, at = only("tasks", "steps", *judged, *(["seeds"] if main else [])), {"condition": list(condition)}
        own = [
            Part(f"{condition.name}: {method}", finite, settings, at | {"method": method})
            for method in ((*COMPARED, CONTROL) if main else COMPARED)
        ]
        ratios = only("tasks", "first_seed", "other_seeds", *(["seeds", "resamples"] if main else []))
        compared = tuple(part.name for part in own if part.cell["method"] in COMPARED)
        made += [*own, Part(f"{condition.name}: ratios", finite_ratios, ratios, {"name": condition.name}, compared)]
    return made


def finite(config: Config, condition: Sequence[Any], method: Method) -> Iterator[Row]:
    """M noisy tasks of 2N examples: in the main condition every M and method, else the ends of M, DRS and MAML."""
    at = Condition(*condition)
    tasks, seeds = _tasks(config, at.name), _seeds(config, at.name)
    examples = [
        Sinusoids.draw(seed, "train", (tasks[-1],), at.width).sample(seed, "train", 2 * at.shots, at.noise)
        for seed in seeds
    ]
    # the first M of the same tasks, for every M
    orders = torch.stack([data_order(seeds, m, config.meta_batch, config.steps[-1]) for m in tasks], 1)
    x, y = (torch.stack(part) for part in zip(*examples, strict=True))
    which = torch.arange(len(seeds))[:, None]
    validation, test = (
        [[_judged(config, seed, stream, at) for seed in seeds]] * len(tasks) for stream in ("validation", "test")
    )
    arena = Arena(seeds, lambda step: (x[which, orders[step]], y[which, orders[step]]), validation, test)
    cell = {"condition": at.name}
    found = train(config, method, arena, config.steps)
    for one in found:
        yield from _rows(one, **cell, tasks=tasks[one.condition])
    for budget in (SAMPLES, CALLS) if method in COMPARED else (SAMPLES,):
        last = [np.log(one.after) for one in found if one.steps == _steps(config, budget, method)]
        table = np.array(last).reshape(len(tasks), len(seeds))
        yield from rows_along("final", table, cell | {"method": method, "budget": budget}, tasks=tasks, seed=seeds)


def finite_ratios(config: Config, rows: pd.DataFrame, name: str) -> Iterator[Row]:
    """Logarithm of DRS's error over MAML's under both budgets; in the main condition also where it changes its sign."""
    tasks, seeds, cell = _tasks(config, name), _seeds(config, name), {"condition": name}

    def final(method: str, budget: str) -> Float:
        of = rows[(rows["quantity"] == "final") & (rows["method"] == method) & (rows["budget"] == budget)]
        return of.pivot_table(index="tasks", columns="seed", values="value").loc[tasks, list(seeds)].to_numpy()

    ratios = {budget: final("DRS", budget) - final("MAML", budget) for budget in (SAMPLES, CALLS)}
    for budget, ratio in ratios.items():
        yield from rows_along("log_ratio", ratio, cell | {"budget": budget}, tasks=tasks, seed=seeds)
    if name == MAIN:
        # the same resamples under both budgets
        resampled = np.random.default_rng(0).integers(len(seeds), size=(config.resamples, len(seeds)))
        draws = {budget: crossing(tasks, ratio[:, resampled].mean(2)) for budget, ratio in ratios.items()}
        for budget, values in draws.items():
            yield from rows_along("crossing_draw", values, cell | {"budget": budget}, draw=None)
        yield from rows_along("crossing_shift_draw", np.log(draws[CALLS] / draws[SAMPLES]), cell, draw=None)


def _tasks(config: Config, condition: str) -> list[int]:
    return config.tasks if condition == MAIN else [config.tasks[0], config.tasks[-1]]


def _seeds(config: Config, condition: str) -> range:
    count = config.seeds if condition == MAIN else config.other_seeds
    return range(config.first_seed, config.first_seed + count)


def crossing(tasks: Sequence[int], ratio: Float) -> Float:
    """Number of tasks from which on MAML is ahead, interpolated in ln M.

    Parameters
    ----------
    tasks : sequence of int, length K
        The numbers of tasks M, increasing.
    ratio : array, shape (K, …)
        Logarithm of DRS's error over MAML's; MAML is ahead where it is positive.

    Returns
    -------
    array, shape (…)
        Where the ratio last turns positive; the least M if it is positive everywhere, and the largest if it ends
        without being so.

    Examples
    --------
    >>> crossing([1, 100, 10000], np.array([[-1.0, 1.0, -1.0], [-1.0, 2.0, 1.0], [1.0, 3.0, -2.0]])).round(1).tolist()
    [1000.0, 1.0, 10000.0]
    """
    ratio = np.asarray(ratio, dtype=np.float64)
    flat = ratio.reshape(len(tasks), -1)
    logs = np.log(tasks)
    found = np.empty(flat.shape[1])
    for j, column in enumerate(flat.T):
        behind = np.flatnonzero(column <= 0)
        if not behind.size or behind[-1] == len(tasks) - 1:
            found[j] = logs[behind[-1] if behind.size else 0]
            continue
        i = behind[-1]
        found[j] = np.interp(0.0, column[i : i + 2], logs[i : i + 2])
    return np.exp(found.reshape(ratio.shape[1:]))


def fresh(config: Config, method: Method) -> Iterator[Row]:
    """New noiseless tasks at every step, for every width."""
    seeds = _seeds(config, FRESH)
    shape = (config.fresh_steps[-1], config.meta_batch)
    conditions = [Condition(FRESH, config.shots, 0.0, width) for width in config.fresh_widths]
    pools = [
        [Sinusoids.draw(seed, FRESH, shape, one.width).sample(seed, FRESH, 2 * one.shots, one.noise) for seed in seeds]
        for one in conditions
    ]
    x, y = (torch.stack([torch.stack([pool[k] for pool in row]) for row in pools]) for k in (0, 1))
    validation, test = (
        [[_judged(config, seed, stream, one) for seed in seeds] for one in conditions]
        for stream in ("validation", "test")
    )
    arena = Arena(seeds, lambda step: (x[:, :, step], y[:, :, step]), validation, test)
    for one in train(config, method, arena, config.fresh_steps):
        yield from _rows(one, condition=FRESH, width=config.fresh_widths[one.condition])


def fresh_ratios(config: Config, rows: pd.DataFrame) -> Iterator[Row]:
    """Logarithm of DRS's error over MAML's on fresh tasks."""
    logs = rows[rows["quantity"] == "log_mse"].set_index(["method", "width", "steps", "seed"])["value"].to_dict()
    for width, steps, seed in itertools.product(config.fresh_widths, config.fresh_steps, _seeds(config, FRESH)):
        value = logs["DRS", width, steps, seed] - logs["MAML", width, steps, seed]
        at = {"condition": FRESH, "width": width, "steps": steps, "budget": SAMPLES, "seed": seed}
        yield {"quantity": "log_ratio", **at, "value": value}


class Trial(NamedTuple):
    """A model at a checkpoint with a rate of the step at test."""

    condition: int
    seed: int
    kept_steps: int
    learning_rate: float
    test_rate: float


class Errors(NamedTuple):
    """Mean squared errors of a model at a checkpoint, by test rate; the first of the test tasks' is before the step."""

    validation: list[float]
    test: list[float]


def train(config: Config, method: Method, arena: Arena, checkpoints: Sequence[int]) -> list[Chosen]:
    """Train one method in all conditions, and choose both rates and when to stop on the validation tasks.

    They are chosen together, for each condition, seed and budget: a checkpoint and what came before it. Result by
    budget, then condition, then seed.
    """
    known: dict[tuple[int, int, int, float], Errors] = {}

    def score(trials: Sequence[Trial]) -> list[list[float]]:
        models = {(one.condition, one.seed, one.learning_rate) for one in trials}
        new = sorted(model for model in models if (*model[:2], checkpoints[0], model[2]) not in known)
        if new:
            known.update(_fit(config, method, arena, checkpoints, new))
        at = config.test_rates.index
        return [[known[one[:4]].validation[at(one.test_rate)]] for one in trials]

    grids = {
        (steps, condition, seed): Grid(
            [
                Trial(condition, seed, *one)
                for one in itertools.product(
                    [kept for kept in checkpoints if kept <= steps], config.learning_rates, config.test_rates
                )
            ]
        )
        for steps, condition, seed in itertools.product(checkpoints, range(len(arena.test)), arena.seeds)
    }
    chosen = []
    for (steps, *_), found in tune(score, grids, rate="learning_rate", widen=config.widenings).items():
        best = found.best
        k = config.test_rates.index(best.test_rate)
        # nothing lies below a rate of 0
        inside = found.inside and k < len(config.test_rates) - 1 and (k > 0 or best.test_rate == 0)
        zero = float(arena.test[best.condition][arena.seeds.index(best.seed)].query[1].square().mean())
        errors = known[best[:4]].test
        chosen.append(Chosen(best.condition, method, steps, *best[1:], inside, errors[0], errors[k + 1], zero))
    return chosen


def _fit(
    config: Config, method: Method, arena: Arena, checkpoints: Sequence[int], models: Sequence[tuple[int, int, float]]
) -> Iterator[tuple[tuple[int, int, int, float], Errors]]:
    """Train models (condition, seed, learning rate) side by side."""
    device = resolve_device(config.device)
    population = MetaPopulation(
        method,
        [1, config.hidden, config.hidden, 1],
        [seed for _, seed, _ in models],
        torch.tensor([rate for *_, rate in models]),
        config.inner_rate,
        device=device,
    )
    conditions = [condition for condition, *_ in models]
    places = [arena.seeds.index(seed) for _, seed, _ in models]
    for step in track(range(checkpoints[-1]), f"{method} steps"):
        population.step(*(values[conditions, places].to(device) for values in arena.batch(step)))
        if step + 1 in checkpoints:
            for replica, (condition, seed, rate) in enumerate(models):
                held = _to(arena.validation[condition][places[replica]], device)
                test = _to(arena.test[condition][places[replica]], device)
                yield (
                    (condition, seed, step + 1, rate),
                    Errors(
                        population.errors(replica, *held, config.test_rates).tolist(),
                        population.errors(replica, *test, [0.0, *config.test_rates]).tolist(),
                    ),
                )


def _judged(config: Config, seed: int, stream: str, condition: Condition) -> Judged:
    """A seed's validation or test tasks; the values of the grid are clean."""
    count = config.validation_tasks if stream == "validation" else config.test_tasks
    tasks = Sinusoids.draw(seed, stream, (count,), condition.width)
    grid = torch.linspace(-RANGE, RANGE, 20)[:, None].expand(count, -1, 1)
    return Judged(tasks.sample(seed, stream, condition.shots, condition.noise), (grid, tasks(grid)))


def _to(judged: Judged, device: torch.device) -> tuple[Pair, Pair]:
    (a, b), (c, d) = judged
    return (a.to(device), b.to(device)), (c.to(device), d.to(device))


def _rows(one: Chosen, **cell: Any) -> Iterator[Row]:
    at = {**cell, "method": one.method, "steps": one.steps, "seed": one.seed}
    yield {"quantity": "log_mse", **at, "value": float(np.log(one.after))}
    yield {"quantity": "log_mse_before", **at, "value": float(np.log(one.before))}
    yield {"quantity": "kept_steps", **at, "value": one.kept_steps}
    yield {"quantity": "learning_rate", **at, "value": one.learning_rate}
    yield {"quantity": "test_rate", **at, "value": one.test_rate}
    yield {"quantity": "rates_inside", **at, "value": float(one.inside)}
    yield {"quantity": "log_over_zero", **at, "value": float(np.log(one.after / one.zero))}
