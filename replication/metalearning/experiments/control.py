"""Control notebook: DRS with PPO against ProMP in meta-reinforcement learning (tests T13 and T16).

A batch is K rollouts of every task of a meta-batch. DRS learns from one, MAML (as ProMP) from two, before and after its
inner step, so that it has half as many iterations at equal environment steps. Both share initial weights, tasks, the
noise of starts and actions, advantages and epochs. Rates of training are chosen on tuning seeds in the first
environment; the rate of the updates at test on validation tasks of each seed, method and checkpoint. Test tasks choose
nothing. Training is saved as it goes, and what has ended stays until its part does: a kill costs a minute.
"""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

import replication
from replication import evidence, places, sources
from replication.checks import one_of
from replication.evidence import Part, rows_of
from replication.metalearning import environments
from replication.metalearning.environments import HalfCheetah
from replication.metalearning.experiments import rows_along
from replication.metalearning.policy_gradient import (
    BATCHES,
    GRADIENT_CALLS,
    METHODS,
    Draws,
    Method,
    PolicyPopulation,
    draw,
    play,
    returns,
    update,
)
from replication.training import use_deterministic
from replication.training.search import TUNING_SEED, Grid, tune

Row = dict[str, Any]

STEPS, CALLS = "equal environment steps", "equal gradient calls"
FORWARD = "cheetah forward"
PLAIN = {"rollouts": 8, "horizon": 1000, "epochs": 10, "minibatches": 32, "gae_lambda": 0.95, "learning_rate": 3e-4}
"""The usual setting of PPO on HalfCheetah itself, as far as the same program has it."""
SAVE_SECONDS = 30.0
"""Between two saves of a training in progress."""
SHOWN_TASKS, FRAMES = 3, 6
"""Test tasks whose velocities are kept, and moments of the first at which the cheetah is drawn."""


class Config(evidence.Settings):
    """What the control notebook runs; every field is a parameter of the notebook."""

    environments: list[str] = Field(
        ["point mass"],
        min_length=1,
        description="point mass, cheetah velocity or cheetah direction; rates are tuned in the first",
    )
    seeds: int = Field(20, ge=2, description="evaluation seeds: initial weights, tasks and noise")
    first_seed: NonNegativeInt = Field(20, description="the first of them")
    tuning_seeds: PositiveInt = Field(8, description="seeds on which the rates of training are chosen")
    side_by_side: PositiveInt = Field(72, description="policies that are trained in one program")
    batches: list[PositiveInt] = Field(
        [20, 40], min_length=2, description="checkpoints, in batches played; the last is the budget, the half is one"
    )
    tuning_batches: PositiveInt = Field(40, description="batches of a run that chooses rates")
    meta_batch: PositiveInt = Field(8, description="tasks of a batch")
    rollouts: int = Field(8, ge=2, description="rollouts of a task, K")
    horizon: PositiveInt = Field(12, description="environment steps of a rollout")
    hidden: PositiveInt = Field(16, description="units of each of the policy's two hidden layers")
    epochs: PositiveInt = Field(5, description="steps of Adam on a batch")
    learning_rates: list[PositiveFloat] = Field([0.008, 0.016, 0.032], min_length=1, description="tried rates of Adam")
    inner_rates: list[PositiveFloat] = Field(
        [0.1, 0.2, 0.4], min_length=1, description="tried rates of MAML's inner step in training"
    )
    test_rates: list[PositiveFloat] = Field(
        [0.1, 0.2, 0.4], min_length=1, description="tried rates of the updates at test"
    )
    widenings: int = Field(3, ge=0, le=3, description="times that a grid of rates is widened where its best is an end")
    updates: PositiveInt = Field(3, description="policy gradient updates on a test task")
    validation_tasks: PositiveInt = Field(20, description="validation tasks of a seed")
    test_tasks: int = Field(100, ge=SHOWN_TASKS, description="new tasks of a seed on which policies are judged")
    forward_seeds: NonNegativeInt = Field(0, description="seeds of PPO alone on HalfCheetah-v5, from the same first on")
    forward_batches: PositiveInt = Field(125, description="their batches of 8,000 environment steps")
    device: str = Field("cpu", description="policies are small and the simulators run on the CPU")

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in self.environments:
            one_of("environments", name, [name for name in environments.NAMES if name != FORWARD])
        if sorted(set(self.batches)) != self.batches or any(count % 2 for count in self.batches):
            raise ValueError(f"batches: must be even and increase, got {self.batches}")
        if self.batches[-1] // 2 not in self.batches:
            raise ValueError(f"batches: the half of the last must be among them, got {self.batches}")
        if self.tuning_batches % 2:
            raise ValueError(f"tuning_batches: must be even, got {self.tuning_batches}")
        for field in ("seeds", "forward_seeds"):
            if self.first_seed + getattr(self, field) > TUNING_SEED:
                raise ValueError(
                    f"{field}: must end before {TUNING_SEED}, where those of the tuning begin, got {self.first_seed} "
                    f"and {getattr(self, field)} more"
                )
        if self.device != "cpu":
            raise ValueError(f"device: must be cpu, got {self.device!r}")
        return self

    @property
    def batch_steps(self) -> int:
        """Environment steps of a batch."""
        return self.meta_batch * self.rollouts * self.horizon


class Setting(NamedTuple):
    """What is tuned of training."""

    learning_rate: float
    inner_rate: float
    """0 for DRS, which has none."""


class TestRate(NamedTuple):
    """A rate of the updates at test, of one replica."""

    replica: int
    rate: float


def missing(config: Config) -> dict[str, str]:
    """What is not installed, with the command that brings it."""
    lacking = any(map(environments.lacking, config.environments)) or (
        config.forward_seeds and environments.lacking(FORWARD)
    )
    return {"MuJoCo": environments.INSTALL} if lacking else {}


def parts(config: Config) -> list[Part]:
    """Tuning of each method; each method and the untrained policy in blocks of seeds; what compares them.

    Environments whose packages are missing are left out (see `missing`). The rows, by ``environment``, ``method``,
    ``batches``, environment ``steps`` and ``seed``: ``return`` after ``updates``, ``test_rate`` and whether it is no
    end of its grid (``rates_inside``); ``training_return`` by ``stage`` along training; ``untrained_return``;
    ``gain``, ``advantage`` and ``relative_advantage`` (see `differences`); ``tuning_score`` by ``learning_rate`` and
    ``inner_rate``, ``chosen_learning_rate``, ``chosen_inner_rate`` and whether neither is an end of its grid
    (``training_rate_inside``); ``velocity``, ``target`` and ``pose`` of a few tasks before and after an update;
    ``forward_return`` of PPO on HalfCheetah-v5.
    """
    use_deterministic()
    only = config.only
    played = ("meta_batch", "rollouts", "horizon", "hidden", "epochs", "test_rates", "widenings", "validation_tasks")
    rates = only("tuning_seeds", "tuning_batches", "learning_rates", "inner_rates", "side_by_side", *played)
    own = only("first_seed", "batches", "updates", "test_tasks", *played)
    made: list[Part] = []
    numbers = list(range(config.first_seed, config.first_seed + config.seeds))
    blocks = [numbers[i : i + config.side_by_side] for i in range(0, config.seeds, config.side_by_side)]
    there = [name for name in config.environments if not environments.lacking(name)]
    for method in METHODS if there else ():
        made.append(Part(f"tuning, {method}", tuning, rates, {"name": there[0], "method": method}))
    for name in there:
        names = []
        for seeds in blocks:
            where = f"{name}, seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"{name}, seed {seeds[0]}"
            made.append(Part(f"untrained, {where}", untrained, own, {"name": name, "seeds": seeds}))
            for method in METHODS:
                cell = {"name": name, "method": method, "seeds": seeds}
                made.append(Part(f"{method}, {where}", trained, own, cell, needs=(f"tuning, {method}",)))
            names += [part.name for part in made[-3:]]
        compared = only("batches", "meta_batch", "rollouts", "horizon")
        made.append(Part(f"differences, {name}", differences, compared, {"name": name}, needs=tuple(names)))
    if config.forward_seeds and not environments.lacking(FORWARD):
        seeds = list(range(config.first_seed, config.first_seed + config.forward_seeds))
        made.append(Part("PPO alone", forward, only("hidden", "forward_batches"), {"seeds": seeds}))
    return made


# --- training --------------------------------------------------------------------------------------------------------


def run(
    file: Path | None,
    population: PolicyPopulation,
    iterations: int,
    batches: Callable[[int], Sequence[Draws]],
    after: Callable[[int, Sequence[Tensor]], None],
) -> None:
    """Train, and save the state now and then; take up what a killed run has saved.

    Parameters
    ----------
    file : Path, optional
        Where the state is saved, at the end too; None saves nothing.
    population : PolicyPopulation
        What is trained. What `after` puts into its rows is saved with it.
    iterations : int
        How many.
    batches : callable(iteration) -> sequence of Draws
        What an iteration plays.
    after : callable(iterations done, mean returns)
        Called after each.
    """
    if file is not None and file.exists():
        population.resume(file)
    saved = time.monotonic()
    for i in range(population.iterations, iterations):
        after(i + 1, population.iterate(batches(i)))
        if file is not None and (i + 1 == iterations or time.monotonic() - saved >= SAVE_SECONDS):
            population.checkpoint(file)
            saved = time.monotonic()


@contextmanager
def states(config: Config, **cell: Any) -> Iterator[Path | None]:
    """Where a part's trainings are saved until it ends; None if there is no place for runs.

    The folder has a name of its own for settings, cell, sources and versions. It outlives a kill.
    """
    runs = places.runs()
    if runs is None:
        yield None
        return
    package = Path(replication.__file__).parent
    files = sources.closure(__name__, package)
    about = {
        "config": config.model_dump(mode="json"),
        "cell": cell,
        "files": sources.file_digests(files, package),
        "versions": sources.versions(files),
    }
    folder = runs / "training" / sources.digest(about)[:24]
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def fit(
    config: Config,
    name: str,
    method: Method,
    replicas: Sequence[tuple[Setting, int]],
    checkpoints: Sequence[int],
    judge: Callable[[PolicyPopulation, int], list[Row]],
    folder: Path | None,
) -> list[Row]:
    """Train policies side by side.

    Parameters
    ----------
    config : Config
        The sizes.
    name : str
        The environment.
    method : {"DRS", "MAML"}
        The objective.
    replicas : sequence of (Setting, int)
        Rates and seed of each.
    checkpoints : sequence of int
        Batches after which `judge` is called; the last ends training.
    judge : callable(population, batches) -> rows
        What is measured there.
    folder : Path, optional
        Where the state is saved, under a name of the method and the replicas.

    Returns
    -------
    list of dict
        The judge's rows, and the curves of training of every replica.
    """
    environment, seeds = environments.make(name), [seed for _, seed in replicas]
    lr, inner = torch.tensor([list(setting) for setting, _ in replicas]).unbind(1)
    population = PolicyPopulation(environment, method, seeds, lr, inner, hidden=config.hidden, epochs=config.epochs)
    each, count = BATCHES[method], checkpoints[-1]
    sizes = {"tasks": config.meta_batch, "rollouts": config.rollouts, "horizon": config.horizon}

    def batches(i: int) -> list[Draws]:
        return [draw(environment, seeds, f"train {i}", batch=stage, **sizes) for stage in range(each)]

    def after(done: int, reached: Sequence[Tensor]) -> None:
        steps = done * each * config.batch_steps
        at = {"environment": name, "method": method, "batches": done * each, "steps": steps}
        population.rows += rows_along("training_return", torch.stack([*reached]), at, stage=None, seed=seeds)
        if done * each in checkpoints:
            population.rows += judge(population, done * each)

    about = sources.digest([method, [[*setting, seed] for setting, seed in replicas]])
    run(folder and folder / f"{about[:24]}.safetensors", population, count // each, batches, after)
    return population.rows


# --- choosing rates, and judging -------------------------------------------------------------------------------------


class Choice(NamedTuple):
    """The rate of the updates at test that validation tasks choose, by replica."""

    rates: Tensor
    scores: list[float]
    """Minus the return after one update."""
    inside: list[bool]
    """Whether the rate is no end of those tried."""


def choose(config: Config, population: PolicyPopulation) -> Choice:
    """Choose the test rate of every replica on validation tasks of its seed."""
    sizes = {"tasks": config.validation_tasks, "rollouts": config.rollouts, "horizon": config.horizon}
    draws = [draw(population.environment, population.seeds, "validation", batch=u, **sizes) for u in (0, 1)]
    start = play(population.environment, population.policy, population.shared(config.validation_tasks), draws[0])
    known: dict[float, list[float]] = {}

    def score(tried: Sequence[TestRate]) -> list[list[float]]:
        for rate in {one.rate for one in tried} - known.keys():
            reached = returns(population, draws, torch.full((len(population),), rate), start)
            known[rate] = (-reached[1]).tolist()
        return [[known[one.rate][one.replica]] for one in tried]

    arms = {i: Grid([TestRate(i, rate) for rate in config.test_rates]) for i in range(len(population))}
    found = tune(score, arms, rate="rate", widen=config.widenings)
    best = [found[i].best.rate for i in arms]
    return Choice(torch.tensor(best), [known[rate][i] for i, rate in enumerate(best)], [found[i].inside for i in arms])


def tuning(config: Config, name: str, method: Method) -> Iterator[Row]:
    """Choose a method's rates of training on the tuning seeds: Adam's, then at its best more of the inner rate."""
    seeds = range(TUNING_SEED, TUNING_SEED + config.tuning_seeds)

    def judge(population: PolicyPopulation, _batches: int) -> list[Row]:
        return [{"quantity": "score", "value": value} for value in choose(config, population).scores]

    known: dict[Setting, list[float]] = {}
    inner = config.inner_rates if method == "MAML" else [0.0]
    grid = Grid([Setting(*pair) for pair in itertools.product(config.learning_rates, inner)])
    with states(config, name=name, method=method) as folder:

        def score(settings: Sequence[Setting]) -> list[list[float]]:
            new = [setting for setting in settings if setting not in known]
            replicas, found = list(itertools.product(new, seeds)), list[float]()
            for begin in range(0, len(replicas), config.side_by_side):
                block = replicas[begin : begin + config.side_by_side]
                rows = fit(config, name, method, block, [config.tuning_batches], judge, folder)
                found += [row["value"] for row in rows if row["quantity"] == "score"]
            known.update(zip(new, np.array(found).reshape(len(new), len(seeds)).tolist(), strict=True))
            return [known[setting] for setting in settings]

        found = tune(score, {method: grid}, rate="learning_rate", widen=config.widenings)[method]
        inside = found.inside
        if method == "MAML":
            grid = Grid([one for one in found.settings if one.learning_rate == found.best.learning_rate])
            found = tune(score, {method: grid}, rate="inner_rate", widen=config.widenings)[method]
            inside &= found.inside
        at = {"environment": name, "method": method}
        for setting, scores in sorted(known.items()):
            yield from rows_along("tuning_score", scores, at | setting._asdict(), seed=seeds)
        for rate, value in found.best._asdict().items():
            yield {"quantity": f"chosen_{rate}", **at, "value": value}
        yield {"quantity": "training_rate_inside", **at, "value": float(inside)}


def judged(config: Config, name: str, population: PolicyPopulation, **cell: Any) -> list[Row]:
    """Choose the test rate of every replica, and play the test tasks."""
    chosen, seeds = choose(config, population), population.seeds
    sizes = {"tasks": config.test_tasks, "rollouts": config.rollouts, "horizon": config.horizon}
    draws = [draw(population.environment, seeds, "test", batch=u, **sizes) for u in range(config.updates + 1)]
    reached = returns(population, draws, chosen.rates)
    at = {"environment": name, **cell}
    rows = [*rows_along("return", reached, at, updates=None, seed=seeds)]
    for seed, rate, inside in zip(seeds, chosen.rates.tolist(), chosen.inside, strict=True):
        rows.append({"quantity": "test_rate", **at, "seed": seed, "value": rate})
        rows.append({"quantity": "rates_inside", **at, "seed": seed, "value": float(inside)})
    return rows


def trained(config: Config, rows: pd.DataFrame, name: str, method: Method, seeds: list[int]) -> list[Row]:
    """Train a method with the chosen rates, and judge it at every checkpoint."""
    at = {"method": method}
    setting = Setting(*(float(rows_of(rows, f"chosen_{rate}", **at)["value"].item()) for rate in Setting._fields))

    def judge(population: PolicyPopulation, batches: int) -> list[Row]:
        cell = {**at, "batches": batches, "steps": batches * config.batch_steps}
        found = judged(config, name, population, **cell)
        if seeds[0] == config.first_seed and batches == config.batches[-1]:
            rate = next(row["value"] for row in found if row["quantity"] == "test_rate")
            found += examples(config, name, population, rate)
        return found

    with states(config, name=name, method=method, seeds=seeds) as folder:
        return fit(config, name, method, [(setting, seed) for seed in seeds], config.batches, judge, folder)


def untrained(config: Config, name: str, seeds: list[int]) -> Iterator[Row]:
    """Returns of the policy that training starts from, after no update and after one."""
    nothing = torch.zeros(len(seeds))
    start = PolicyPopulation(
        environments.make(name), "DRS", seeds, nothing, nothing, hidden=config.hidden, epochs=config.epochs
    )
    for row in judged(config.model_copy(update={"updates": 1}), name, start):
        if row["quantity"] == "return":
            yield {**row, "quantity": "untrained_return"}


def examples(config: Config, name: str, population: PolicyPopulation, rate: float) -> list[Row]:
    """What the first seed's policy does on a few test tasks, before and after an update."""
    environment, tasks = population.environment, SHOWN_TASKS
    sizes = {"tasks": tasks, "rollouts": config.rollouts, "horizon": config.horizon}
    draws = [draw(environment, population.seeds[:1], "test", batch=u, **sizes) for u in (0, 1)]
    parameters = {name: p[:1] for name, p in population.shared(tasks).items()}
    at: Row = {"environment": name, "method": population.method}
    rows = [*rows_along("target", draws[0].tasks[0], at, task=None, axis=None)]
    moments = np.linspace(0, config.horizon - 1, FRAMES).round().astype(int).tolist()
    sampled = range(0, config.horizon, max(1, config.horizon // 50))
    for updates, of in enumerate(draws):

        def watch(now: int, updates: int = updates) -> None:
            about = {**at, "updates": updates, "time": now}
            if now in sampled:
                rows.extend(rows_along("velocity", environment.velocity()[0].mean(1), about, task=None, axis=None))
            if isinstance(environment, HalfCheetah) and now in moments:
                for (capsule, end, axis), value in np.ndenumerate(environment.pose(0)):
                    where = {"capsule": capsule, "end": end, "axis": axis}
                    rows.append({"quantity": "pose", **about, **where, "value": round(float(value), 4)})

        played = play(environment, population.policy, parameters, of, watch)
        parameters = update(population.policy, parameters, played.data(), torch.tensor([rate]))
    return rows


def differences(config: Config, rows: pd.DataFrame, name: str) -> Iterator[Row]:
    """What training gains, and MAML's lead, under both budgets.

    ``gain`` is the return after one update less that of the untrained policy; ``advantage`` is MAML's return less that
    of DRS; ``relative_advantage`` is it after one update, over the mean gain of both methods at the end.
    """
    found = rows_of(rows, "return").set_index(["method", "batches", "updates", "seed"])["value"].sort_index()
    start = rows_of(rows, "untrained_return", updates=1).set_index("seed")["value"]
    last, seeds = config.batches[-1], start.index
    gains = {method: found[method, last, 1] - start for method in METHODS}
    at = {"environment": name}
    for method, gain in gains.items():
        yield from rows_along("gain", gain, {**at, "method": method, "batches": last}, seed=gain.index)
    scale = float(np.mean([gain.mean() for gain in gains.values()]))
    for budget, batches in itertools.product((STEPS, CALLS), config.batches):
        share = GRADIENT_CALLS["DRS"] / GRADIENT_CALLS["MAML"] if budget == CALLS else 1.0
        if (ours := batches * share) not in config.batches:
            continue
        cell = {**at, "budget": budget, "batches": batches, "steps": batches * config.batch_steps}
        for updates in found.index.unique("updates"):
            lead = found["MAML", ours, updates] - found["DRS", batches, updates]
            for seed in seeds:
                row = {**cell, "updates": int(updates), "seed": seed}
                yield {"quantity": "advantage", **row, "value": lead[seed]}
                if updates == 1:
                    yield {"quantity": "relative_advantage", **row, "value": lead[seed] / scale}


def forward(config: Config, seeds: list[int]) -> list[Row]:
    """PPO alone on HalfCheetah-v5: the return of every batch, and at the end that of the policy's mean action."""
    environment = environments.make(FORWARD)
    population = PolicyPopulation(
        environment,
        "DRS",
        seeds,
        torch.full((len(seeds),), PLAIN["learning_rate"]),
        torch.zeros(len(seeds)),
        hidden=config.hidden,
        epochs=int(PLAIN["epochs"]),
        minibatches=int(PLAIN["minibatches"]),
        gae_lambda=PLAIN["gae_lambda"],
    )
    sizes = {"tasks": 1, "rollouts": int(PLAIN["rollouts"]), "horizon": int(PLAIN["horizon"])}

    def after(done: int, reached: Sequence[Tensor]) -> None:
        steps = done * sizes["rollouts"] * sizes["horizon"]
        population.rows += rows_along("forward_curve", reached[0], {"steps": steps}, seed=seeds)

    def batches(i: int) -> list[Draws]:
        return [draw(environment, seeds, f"forward {i}", **sizes)]

    with states(config, seeds=seeds) as folder:
        run(folder and folder / "state.safetensors", population, config.forward_batches, batches, after)
        drawn = draw(environment, seeds, "forward test", **sizes)
        still = drawn._replace(noise=torch.zeros_like(drawn.noise))
        found = play(environment, population.policy, population.shared(1), still).returns[:, 0]
    return [*population.rows, *rows_along("forward_return", found, {}, seed=seeds)]
