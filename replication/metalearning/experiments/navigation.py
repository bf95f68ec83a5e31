"""Navigation notebook: DRS and MAML by policy gradients on point navigation, at equal environment steps (test T13).

In an iteration DRS plays 2K rollouts of every task and takes one gradient of them. MAML plays K, adapts, plays K with
the adapted policies, and takes the gradient through the adaptation. Both share initial weights, goals and action noise,
the baseline, and the grids of the learning rate and the test rate, which are chosen on seeds and tasks of their own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, Self, get_args

import pandas as pd
import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor
from torch.func import functional_call, vmap

from replication import evidence
from replication.evidence import Part
from replication.metalearning.adaptation import Data, MetaGradient, Parameters, adapt, drs_gradient, maml_gradient
from replication.metalearning.navigation import REACH, Policy, draw_goals, draw_noise, initial, policy_loss, rollout
from replication.training import AdamW, resolve_device, track, use_deterministic
from replication.training.search import candidates

Row = dict[str, Any]
Method = Literal["DRS", "MAML"]
METHODS: tuple[Method, ...] = get_args(Method)

FIRST_TUNING_SEED = 1000
"""Seeds that choose rates begin here, apart from the evaluation seeds."""


class Config(evidence.Settings):
    """What the navigation notebook runs; every field is a parameter of the notebook."""

    seeds: int = Field(6, ge=2, description="evaluation seeds: initial weights, goals and noise")
    tuning_seeds: PositiveInt = Field(2, description="seeds on whose validation tasks the rates are chosen")
    iterations: list[PositiveInt] = Field([5, 20, 80], min_length=2, description="checkpoints; the last is the end")
    meta_batch: PositiveInt = Field(8, description="tasks of an iteration")
    rollouts: int = Field(5, ge=2, description="rollouts of an update, K; an iteration plays 2K of each task")
    horizon: PositiveInt = Field(10, description="environment steps of a rollout")
    hidden: PositiveInt = Field(16, description="units of each of the policy's two hidden layers")
    learning_rates: list[PositiveFloat] = Field(
        [0.001, 0.003, 0.01, 0.03], min_length=1, description="tried rates of Adam"
    )
    inner_rate: PositiveFloat = Field(0.1, description="rate of MAML's inner step in training")
    test_rates: list[PositiveFloat] = Field(
        [0.03, 0.1, 0.3, 1.0], min_length=1, description="tried rates of the updates at test"
    )
    updates: PositiveInt = Field(5, description="policy gradient updates on a test task")
    tasks: PositiveInt = Field(20, description="validation tasks, and test tasks, of a seed")
    device: str = Field("auto", description="auto, cpu or cuda")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if sorted(set(self.iterations)) != self.iterations:
            raise ValueError(f"iterations: must increase, got {self.iterations}")
        return self

    @property
    def steps_per_iteration(self) -> int:
        """Environment steps of an iteration, the same for both methods."""
        return self.meta_batch * 2 * self.rollouts * self.horizon


def parts(config: Config) -> list[Part]:
    """One part for each method, one for the policy that training starts from, and the differences between them.

    Their rows, by ``method``, ``iterations`` and environment ``steps``: ``return`` (mean over test tasks and rollouts,
    by ``seed`` and ``updates``), ``learning_rate`` and ``test_rate`` (chosen), ``advantage`` (return of MAML less that
    of DRS) and ``gain`` (return less that of the untrained policy, both after one update). ``untrained_return`` is by
    ``seed`` and ``updates``. ``tuning_score`` (minus the return after one update, by tuning seed) and ``return_at``
    (that return of the evaluation seeds, where some draw of the tuning seeds would choose it) are by the rates tried,
    ``at_learning_rate`` and ``at_test_rate``.
    """
    use_deterministic()
    names = ("untrained", *METHODS)
    untrained_at = config.only(
        *("seeds", "tuning_seeds", "rollouts", "horizon", "hidden", "test_rates", "updates", "tasks", "device")
    )
    return [
        Part("untrained", untrained, untrained_at),
        *(Part(method, judged, config, {"method": method}) for method in METHODS),
        Part("differences", differences, config.only(), needs=names),
    ]


def differences(_config: Config, rows: pd.DataFrame) -> Iterator[Row]:
    """MAML's return less that of DRS, and each less that of the untrained policy."""
    at = ["iterations", "steps", "updates", "seed"]
    returns = rows[rows["quantity"] == "return"]
    of = {method: returns[returns["method"] == method].set_index(at)["value"] for method in METHODS}
    for place, value in (of["MAML"] - of["DRS"]).items():
        yield {"quantity": "advantage", **_whole(at, place), "value": value}
    untrained = rows[(rows["quantity"] == "untrained_return") & (rows["updates"] == 1)].set_index("seed")["value"]
    for method in METHODS:
        for place, value in of[method].items():
            cell = _whole(at, place)
            if cell["updates"] == 1:
                gain = value - untrained[cell["seed"]]
                yield {"quantity": "gain", "method": method, **cell, "value": gain}


def _whole(names: Sequence[str], values: Any) -> dict[str, int]:
    return {name: int(value) for name, value in zip(names, values, strict=True)}


class Trained(NamedTuple):
    """Policies at a checkpoint."""

    iterations: int
    parameters: Parameters
    """Of shape (L, S, …) for L learning rates and S seeds, the tuning seeds last."""


def train(config: Config, method: Method) -> Iterator[Trained]:
    """Train one method for every learning rate and seed side by side, and stop at the checkpoints."""
    device, count = resolve_device(config.device), config.iterations[-1]
    seeds, rates = _seeds(config), config.learning_rates
    goals = torch.stack([draw_goals(seed, "train", (count, config.meta_batch)) for seed in seeds], 1).to(device)
    shape = (count, config.meta_batch, 2 * config.rollouts, config.horizon, 2)
    noise = torch.stack([draw_noise(seed, "train", shape) for seed in seeds], 1).to(device)
    start = initial(config.hidden, seeds)
    parameters = {name: p.repeat(len(rates), *[1] * (p.ndim - 1)).to(device) for name, p in start.items()}
    lr = torch.tensor(rates, device=device).repeat_interleave(len(seeds))
    optimizer, policy = AdamW(weight_decay=0.0), Policy(config.hidden).to(device)
    state = optimizer.init(parameters)
    for i in track(range(count), f"{method} iterations"):
        where, draws = (values[i].repeat(len(rates), *[1] * (values.ndim - 2)) for values in (goals, noise))
        gradients = meta_gradient(method, policy, parameters, where, draws, config.inner_rate)
        optimizer.step(parameters, gradients, state, lr, i + 1)
        if i + 1 in config.iterations:
            kept = {name: p.clone().view(len(rates), len(seeds), *p.shape[1:]) for name, p in parameters.items()}
            yield Trained(i + 1, kept)


def meta_gradient(
    method: Method, policy: Policy, parameters: Parameters, goals: Tensor, noise: Tensor, rate: float
) -> Parameters:
    """One iteration's gradient for every replica.

    Parameters
    ----------
    method : {"DRS", "MAML"}
        The objective.
    policy : Policy
        The network.
    parameters : dict of str to Tensor, shape (R, …)
        One policy per replica.
    goals : Tensor, shape (R, T, 2)
        One per task.
    noise : Tensor, shape (R, T, 2K, H, 2)
        MAML adapts on the first K rollouts and is judged on the others.
    rate : float
        MAML's inner rate.

    Returns
    -------
    dict of str to Tensor, shape (R, …)
    """
    model = partial(functional_call, policy)
    shared = {name: p[:, None].expand(-1, goals.shape[1], *p.shape[1:]) for name, p in parameters.items()}
    if method == "DRS":

        def drs(p: Parameters, data: Data) -> MetaGradient:
            return drs_gradient(model, p, policy_loss, data)

        return vmap(drs)(parameters, rollout(policy, shared, goals, noise).data).gradients
    first, second = noise.chunk(2, dim=2)
    inner = rollout(policy, shared, goals, first).data
    adapted = _update(policy, shared, inner, torch.full((len(goals),), rate, device=goals.device))
    outer = rollout(policy, adapted, goals, second).data

    def maml(p: Parameters, inner: Data, outer: Data) -> MetaGradient:
        return maml_gradient(model, p, policy_loss, inner, outer, rate)

    return vmap(maml)(parameters, inner, outer).gradients


def returns(policy: Policy, parameters: Parameters, goals: Tensor, noise: Tensor, rates: Tensor) -> Tensor:
    """Mean return on test tasks after 0, 1, … updates.

    Parameters
    ----------
    policy, parameters, goals
        As `meta_gradient` takes them.
    noise : Tensor, shape (U + 1, R, T, K, H, 2)
        The rollouts that show the return after u updates are those that the next update is computed from.
    rates : Tensor, shape (R,)
        Test rate of every replica.

    Returns
    -------
    Tensor, shape (U + 1, R)
    """
    current = {name: p[:, None].expand(-1, goals.shape[1], *p.shape[1:]) for name, p in parameters.items()}
    found = []
    for update, draws in enumerate(noise):
        played = rollout(policy, current, goals, draws)
        found.append(played.returns.mean(1))
        if update + 1 < len(noise):
            current = _update(policy, current, played.data, rates)
    return torch.stack(found)


def _update(policy: Policy, parameters: Parameters, data: Data, rates: Tensor) -> Parameters:
    """One policy gradient update of every replica and task."""

    def one(p: Parameters, d: Data, rate: Tensor) -> Parameters:
        return adapt(partial(functional_call, policy), p, policy_loss, d, rate)

    updated: Parameters = vmap(vmap(one, in_dims=(0, 0, None)))(parameters, data, rates)
    return updated


def _seeds(config: Config) -> list[int]:
    return [*range(config.seeds), *range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + config.tuning_seeds)]


class Judge:
    """Validation tasks of the tuning seeds, on which rates are chosen, and test tasks of the evaluation seeds."""

    def __init__(self, config: Config) -> None:
        self.config, self.device = config, resolve_device(config.device)
        self.policy = Policy(config.hidden).to(self.device)
        seeds = _seeds(config)
        self.evaluation, self.tuning = seeds[: config.seeds], seeds[config.seeds :]
        self._held = self._tasks(self.tuning, "validation", 1)
        self._test = self._tasks(self.evaluation, "test", config.updates)

    def _tasks(self, seeds: Sequence[int], stream: str, updates: int) -> tuple[Tensor, Tensor]:
        config = self.config
        goals = torch.stack([draw_goals(seed, stream, (config.tasks,)) for seed in seeds])
        shape = (updates + 1, config.tasks, config.rollouts, config.horizon, 2)
        noise = torch.stack([draw_noise(seed, stream, shape) for seed in seeds], 1)
        return goals.to(self.device), noise.to(self.device)

    def scores(self, parameters: Parameters) -> Tensor:
        """Minus the return after one update by test rate and tuning seed; `parameters` are of all seeds."""
        policies = {name: p[self.config.seeds :] for name, p in parameters.items()}
        goals, noise = self._held
        found = [self._returns(policies, goals, noise, rate)[1] for rate in self.config.test_rates]
        # a diverged run must never be chosen, so it scores as if every move led away from the farthest goal
        farthest = REACH * self.config.horizon + 2**0.5
        return -torch.stack(found).nan_to_num(nan=-self.config.horizon * farthest**2)

    def judge(self, parameters: Parameters, rate: float, updates: int) -> Tensor:
        """Return on the test tasks by number of updates and evaluation seed."""
        policies = {name: p[: self.config.seeds] for name, p in parameters.items()}
        goals, noise = self._test
        return self._returns(policies, goals, noise[: updates + 1], rate)

    def _returns(self, policies: Parameters, goals: Tensor, noise: Tensor, rate: float) -> Tensor:
        return returns(self.policy, policies, goals, noise, torch.full((len(goals),), rate, device=self.device))


def untrained(config: Config) -> Iterator[Row]:
    """Returns of the policy that training starts from, its test rate chosen like any other."""
    judge = Judge(config)
    start = {name: p.to(judge.device) for name, p in initial(config.hidden, _seeds(config)).items()}
    rate = config.test_rates[_best(judge.scores(start))]
    found = judge.judge(start, rate, config.updates)
    for update, seed in itertools.product(range(config.updates + 1), judge.evaluation):
        value = float(found[update, judge.evaluation.index(seed)])
        yield {"quantity": "untrained_return", "updates": update, "seed": seed, "value": value}


def _best(scores: Tensor) -> int:
    """The setting of lowest mean score; scores have shape (settings, seeds)."""
    return int(scores.mean(1).argmin())


def judged(config: Config, method: Method) -> Iterator[Row]:
    """Train a method with every learning rate, choose the rates, and judge on the test tasks."""
    judge = Judge(config)
    pairs = list(itertools.product(range(len(config.learning_rates)), config.test_rates))
    for trained in train(config, method):
        policies = [{name: p[j] for name, p in trained.parameters.items()} for j in range(len(config.learning_rates))]
        scores = torch.cat([judge.scores(of) for of in policies])
        steps = trained.iterations * config.steps_per_iteration
        cell = {"method": method, "iterations": trained.iterations, "steps": steps}
        j, rate = pairs[_best(scores)]
        yield {"quantity": "learning_rate", **cell, "value": config.learning_rates[j]}
        yield {"quantity": "test_rate", **cell, "value": rate}
        found = judge.judge(policies[j], rate, config.updates)
        for update, (i, seed) in itertools.product(range(config.updates + 1), enumerate(judge.evaluation)):
            yield {"quantity": "return", **cell, "updates": update, "seed": seed, "value": float(found[update, i])}
        # what each draw of as many tuning seeds, with replacement, would have chosen
        elected = candidates(scores.cpu().numpy())
        for k, (j, rate) in enumerate(pairs):
            at = {**cell, "updates": 1, "at_learning_rate": config.learning_rates[j], "at_test_rate": rate}
            for seed, score in zip(judge.tuning, scores[k].tolist(), strict=True):
                yield {"quantity": "tuning_score", **at, "seed": seed, "value": score}
            if k in elected:
                for seed, value in zip(judge.evaluation, judge.judge(policies[j], rate, 1)[1].tolist(), strict=True):
                    yield {"quantity": "return_at", **at, "seed": seed, "value": value}
