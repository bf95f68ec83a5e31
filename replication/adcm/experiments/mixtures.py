"""Consistency training on a mixture in the plane, where the exact map is known (claims A4 to A12, A14, A17)."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from replication import evidence
from replication.adcm.discretization import ECM, ICT, Discretization, log_grid
from replication.adcm.loss import Weight, huber_constant
from replication.adcm.metrics import energy_distance, rmse, sliced_wasserstein
from replication.adcm.mixture import GaussianMixture2d
from replication.adcm.networks import TimeMLP
from replication.adcm.sampling import sample_one_step, sample_two_step
from replication.adcm.schedules import VE, FlowMatching, Schedule
from replication.adcm.segmentation import kappa, step_rate
from replication.adcm.training import Adaptive, ConsistencyTrainer, ConstantLocal, Objective, Replica
from replication.training import resolve_device, stream_seed, use_deterministic

PAPER_M = 25_000
"""Steps between two segmentations in the paper."""

TURNS, TIMED = 4, 4
"""How often the costs of an estimate and of a training step are measured in turn, and calls in each."""

SQUARED = 1e3
"""A constant so far above every distance that pseudo-Huber is the squared distance, up to a factor."""


class Config(BaseModel):
    """What the mixtures notebook runs; every field is a parameter of the notebook."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sigma: PositiveFloat = Field(0.2, description="standard deviation of the eight modes on a circle of radius 0.7")
    highest_ratio: PositiveFloat = Field(5.0, description="highest noise level beta/alpha, nine times the data's scale")
    width: PositiveInt = Field(32, description="hidden units of a layer")
    depth: PositiveInt = Field(2, description="hidden layers")
    batch_size: PositiveInt = 64
    images: PositiveInt = Field(128_000, description="budget of one consistency training; pre-training takes as many")
    budgets: list[float] = Field([0.25, 0.5, 1.0], min_length=1, description="shares of it where quality is measured")
    seeds: PositiveInt = Field(5, description="evaluation seeds")
    rates: list[PositiveFloat] = Field([0.002, 0.004, 0.008], min_length=1, description="learning rates tried")
    tuning_share: float = Field(1.0, gt=0, le=1, description="budget of a tuning run, as a share of the full one")
    pretraining_rate: PositiveFloat = 0.004
    lam: PositiveFloat = Field(0.01, description="the paper's lambda")
    segmentations: PositiveInt = Field(4, description="segmentations in a training, as in the paper's")
    nodes: PositiveInt = Field(16, description="noise levels at which a step is estimated")
    segment_batch: PositiveInt = Field(512, description="examples of an estimate, each with z and -z")
    ema: NonNegativeFloat = Field(0.995, lt=1, description="decay of the averaged weights")
    lambdas: list[PositiveFloat] = Field([], description="other values of lambda (claim A9)")
    weights: list[Literal["one", "inverse_t"]] = Field(["one", "inverse_t"], description="other weights (claim A10)")
    distances: list[Literal["l2", "squared"]] = Field([], description="other distances (claim A11)")
    metrics: list[Literal["l2", "squared"]] = Field([], description="other distances in the weight only (claim A12)")
    continuous: bool = Field(False, description="train the sCM-like baseline too")
    points: PositiveInt = Field(1000, description="points on which quality is measured")
    repeats: PositiveInt = Field(5, description="timings of the parts of the overhead")
    device: str = "auto"

    @model_validator(mode="after")
    def _sane(self) -> Config:
        if not all(0 < share <= 1 for share in self.budgets) or self.budgets[-1] != 1:
            raise ValueError(f"budgets: must lie in (0, 1] and end with 1, came {self.budgets}")
        if self.budgets != sorted(set(self.budgets)):
            raise ValueError(f"budgets: must increase, came {self.budgets}")
        if self.highest_ratio <= 0.002:
            raise ValueError(f"highest_ratio: must be above 0.002, the lowest, came {self.highest_ratio}")
        if self.images * self.tuning_share < self.batch_size * self.segmentations:
            raise ValueError(
                f"images: {self.images} are too few for {self.segmentations} segmentations of a tuning run"
            )
        return self

    @property
    def steps(self) -> int:
        """Steps of the full budget."""
        return self.images // self.batch_size


class Setting(NamedTuple):
    """How a method trains: its pairs of times, its weight, and the constants of its distances (None: iCT's)."""

    rule: Discretization | Adaptive | ConstantLocal | None
    weight: Weight = "w_t"
    c: float | None = None
    weight_c: float | None = None


@dataclass(frozen=True)
class Trial:
    """One training run."""

    method: str
    setting: Setting
    seed: int
    lr: float


class Reference(NamedTuple):
    """Points on which a schedule's models are measured."""

    z: Tensor
    """Noise of the first step, shape (n, 2)."""
    z_mid: Tensor
    """Noise of the second step."""
    exact: Tensor
    """The exact consistency map of the first step's points."""
    data: Tensor
    """As many fresh data."""


TUNING_SEED = 1000

SHOWN = ("adcm", "adcm-sample", "ecm2")
"""Methods whose samples are kept to be looked at."""


def schedules(config: Config) -> dict[str, Schedule]:
    """The two schedules, over the same noise levels beta/alpha."""
    return {
        "VE": VE(t_max=config.highest_ratio),
        "FM": FlowMatching().spanning(0.002, config.highest_ratio),
    }


def methods(config: Config, name: str, schedule: Schedule, steps: int) -> dict[str, Setting]:
    """What is compared on a schedule, for runs of a number of steps.

    ECM's q = 2 recipe has four stages, as many as the paper's 12.8 million images. The log grid and the stand-in for
    CCM have as many segments as the adaptive grid has for the denoiser of Gaussian data.
    """
    stage = max(1, steps // 4)
    adaptive, logarithmic = Adaptive(config.lam), log_grid(schedule, kappa(config.lam))
    found = {
        "adcm": Setting(adaptive),
        "ict": Setting(ICT(steps, schedule), "inverse_step"),
        "ecm2": Setting(ECM(schedule, 2, stage), "inverse_step"),
    }
    if name == "FM":
        return found | {
            "ict-naive": Setting(ICT(steps, schedule, naive=True), "inverse_step"),
            "ecm2-naive": Setting(ECM(schedule, 2, stage, naive=True), "inverse_step"),
        }
    found |= {
        "ecm256": Setting(ECM(schedule, 256), "inverse_step"),
        "log": Setting(logarithmic),
        "adcm-step": Setting(adaptive, "inverse_step"),
        "log-step": Setting(logarithmic, "inverse_step"),
        "ecm256-w": Setting(ECM(schedule, 256)),
        "adcm-sample": Setting(adaptive, "per_sample"),
        "ccm": Setting(ConstantLocal(len(logarithmic))),
    }
    found |= {f"adcm-lambda-{lam:g}": Setting(Adaptive(lam)) for lam in config.lambdas}
    found |= {f"adcm-{weight.replace('_', '-')}": Setting(adaptive, weight) for weight in config.weights}
    constants = {"l2": 0.0, "squared": SQUARED}
    found |= {f"adcm-{kind}": Setting(adaptive, c=constants[kind]) for kind in config.distances}
    own = huber_constant(2)
    found |= {f"adcm-metric-{kind}": Setting(adaptive, c=own, weight_c=constants[kind]) for kind in config.metrics}
    return found | ({"scm": Setting(None)} if config.continuous else {})


def reference(config: Config, ring: GaussianMixture2d, schedule: Schedule) -> Reference:
    """Draw the points of the evaluation, the same noise for every schedule."""
    generator = torch.Generator().manual_seed(stream_seed(0, "evaluation"))
    z, z_mid = torch.randn(2, config.points, 2, generator=generator, dtype=torch.float64)
    t = torch.full((config.points,), schedule.t_max, dtype=torch.float64)
    exact = ring.consistency_map(schedule)(schedule.prior(z), t)
    data = ring.sample(config.points, generator=generator)
    device = resolve_device(config.device)
    return Reference(*(part.float().to(device) for part in (z, z_mid, exact, data)))


def _trainer(
    config: Config, schedule: Schedule, ring: GaussianMixture2d, replicas: Sequence[Replica], steps: int, **options: Any
) -> ConsistencyTrainer:
    return ConsistencyTrainer(
        lambda: TimeMLP(2, config.width, config.depth),
        replicas,
        schedule,
        lambda generator, n: ring.sample(n, generator=generator, dtype=torch.float32),
        batch_size=config.batch_size,
        segment_every=max(1, steps // config.segmentations),
        nodes=config.nodes,
        segment_batch=config.segment_batch,
        ema=config.ema,
        device=resolve_device(config.device),
        **options,
    )


def pretrain(config: Config, schedule: Schedule, ring: GaussianMixture2d, seeds: Sequence[int]) -> dict[str, Tensor]:
    """Train a denoiser for every seed; every method of that seed starts from it. Returns stacked averaged weights."""
    replicas = [Replica(seed, config.pretraining_rate) for seed in seeds]
    trainer = _trainer(config, schedule, ring, replicas, config.steps, objective="denoising")
    trainer.fit(config.images)
    return trainer.ema


def train(
    config: Config,
    schedule: Schedule,
    ring: GaussianMixture2d,
    trials: Sequence[Trial],
    pretrained: dict[str, Tensor],
    seeds: Sequence[int],
    *,
    steps: int,
    budgets: Sequence[float],
) -> Iterator[tuple[float, ConsistencyTrainer, list[Trial]]]:
    """Train trials as populations, one for each objective, and yield each at every share of the budget."""
    for objective in ("consistency", "tangent"):
        chosen = [one for one in trials if (one.setting.rule is None) == (objective == "tangent")]
        if not chosen:
            continue
        replicas = [Replica(one.seed, one.lr, *one.setting) for one in chosen]
        rows = torch.tensor([seeds.index(one.seed) for one in chosen])
        start = {name: p[rows] for name, p in pretrained.items()}
        kind: Objective = "tangent" if objective == "tangent" else "consistency"
        trainer = _trainer(config, schedule, ring, replicas, steps, objective=kind, start=start)
        for share in budgets:
            trainer.fit(max(1, round(share * steps)) * config.batch_size)
            yield share, trainer, chosen


def errors(trainer: ConsistencyTrainer, points: Reference) -> Tensor:
    """Every replica's root mean squared distance to the exact map at t_max, shape (R,)."""
    z = points.z.expand(len(trainer), *points.z.shape)
    made = sample_one_step(trainer.model(), z, trainer.schedule, batch_dims=2)
    return rmse(made, points.exact.expand_as(made), batch_dims=2)


def tune(
    config: Config,
    name: str,
    schedule: Schedule,
    ring: GaussianMixture2d,
    pretrained: dict[str, Tensor],
    points: Reference,
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Choose every method's learning rate, from one grid on a seed of its own; returns the choice and its records."""
    steps = round(config.tuning_share * config.steps)
    settings = methods(config, name, schedule, steps)
    trials = [Trial(method, one, TUNING_SEED, lr) for method, one in settings.items() for lr in config.rates]
    rows: list[dict[str, Any]] = []
    for _, trainer, chosen in train(
        config, schedule, ring, trials, pretrained, [TUNING_SEED], steps=steps, budgets=[1.0]
    ):
        scores = errors(trainer, points).nan_to_num(nan=math.inf).tolist()
        rows += [
            {"quantity": "tuning_rmse", "schedule": name, "method": one.method, "lr": one.lr, "value": score}
            for one, score in zip(chosen, scores, strict=True)
        ]
    best = {method: min((row["value"], row["lr"]) for row in rows if row["method"] == method)[1] for method in settings}
    return best, rows


def run(config: Config) -> pd.DataFrame:
    """Run the comparison on both schedules.

    Parameters
    ----------
    config : Config
        Sizes, grids and seeds.

    Returns
    -------
    DataFrame
        Tidy records per schedule, method and seed: ``log_rmse`` (natural logarithm of the distance to the exact map)
        at every share of the budget, ``energy_distance`` for one and two sampling steps, ``sliced_wasserstein``,
        ``segments`` and safeguards of every segmentation, ``tuning_rmse``; what claims are decided on is derived from
        them (`derived`). CPU times are volatile.
    """
    use_deterministic()
    ring = GaussianMixture2d(config.sigma)
    seeds = [TUNING_SEED, *range(config.seeds)]
    rows: list[dict[str, Any]] = []
    for name, schedule in schedules(config).items():
        points = reference(config, ring, schedule)
        pretrained = pretrain(config, schedule, ring, seeds)
        rates, tuning = tune(config, name, schedule, ring, {k: p[:1] for k, p in pretrained.items()}, points)
        rows += tuning
        settings = methods(config, name, schedule, config.steps)
        trials = [Trial(m, one, seed, rates[m]) for m, one in settings.items() for seed in range(config.seeds)]
        for share, trainer, chosen in train(
            config, schedule, ring, trials, pretrained, seeds, steps=config.steps, budgets=config.budgets
        ):
            rows += _quality(name, share, trainer, chosen, points)
            if share == 1:
                rows += _grids(name, trainer, chosen)
                if name == "VE" and chosen[0].setting.rule is not None:
                    rows += overhead(config, trainer, chosen)
    return evidence.tidy([*rows, *derived(config, rows)])


def _quality(
    name: str,
    share: float,
    trainer: ConsistencyTrainer,
    trials: Sequence[Trial],
    points: Reference,
) -> list[dict[str, Any]]:
    labels = [
        {"schedule": name, "method": one.method, "seed": one.seed, "lr": one.lr, "budget": share} for one in trials
    ]
    rows = [
        {"quantity": "log_rmse", "value": math.log(value), **label}
        for label, value in zip(labels, errors(trainer, points).tolist(), strict=True)
    ]
    rows += [
        {"quantity": "cpu_seconds", "value": value, **label}
        for label, value in zip(labels, _seconds(trainer), strict=True)
    ]
    if share < 1:
        return rows
    z, z_mid = (part.expand(len(trainer), *part.shape) for part in (points.z, points.z_mid))
    samples = {
        1: sample_one_step(trainer.model(), z, trainer.schedule, batch_dims=2),
        2: sample_two_step(trainer.model(), z, z_mid, trainer.schedule, batch_dims=2),
    }
    rows += _shown(trials, samples[1], points) if name == "VE" else []
    for number, made in samples.items():
        for label, own in zip(labels, made, strict=True):
            value = energy_distance(own, points.data).item()
            rows.append({"quantity": "energy_distance", "sampling_steps": number, "value": value, **label})
    for label, own in zip(labels, samples[1], strict=True):
        generator = torch.Generator(own.device).manual_seed(0)
        value = sliced_wasserstein(own, points.data, projections=32, generator=generator).item()
        rows.append({"quantity": "sliced_wasserstein", "sampling_steps": 1, "value": value, **label})
    return rows


def _shown(trials: Sequence[Trial], made: Tensor, points: Reference) -> list[dict[str, Any]]:
    """The first one-step samples of the first seed and the exact map's, as records of their coordinates."""
    shown = [(one.method, own) for one, own in zip(trials, made, strict=True) if one.seed == 0 and one.method in SHOWN]
    return [
        {"quantity": f"sample_{axis}", "schedule": "VE", "method": method, "seed": 0, "point": i, "value": value}
        for method, own in ([*shown, ("exact", points.exact)] if shown else [])
        for axis, column in zip("xy", own[:250].T.tolist(), strict=True)
        for i, value in enumerate(column)
    ]


def _seconds(trainer: ConsistencyTrainer) -> list[float]:
    """CPU seconds of every replica: its share of the common steps, and what its own segmentations took."""
    weighted = [i for i, one in enumerate(trainer.replicas) if one.weight == "w_t" and one.discretization is not None]
    seconds = [trainer.seconds["training"] / len(trainer)] * len(trainer)
    for i in weighted:
        seconds[i] += trainer.seconds["weight"] / len(weighted)
    for one in trainer.segmentations:
        seconds[one.replica] += one.seconds
    return seconds


def _grids(name: str, trainer: ConsistencyTrainer, trials: Sequence[Trial]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for one in trainer.segmentations:
        trial = trials[one.replica]
        label = {"schedule": name, "method": trial.method, "seed": trial.seed, "step": one.step}
        rows.append({"quantity": "segments", "value": one.segments, **label})
        rows += [
            {"quantity": "safeguard", "safeguard": kind, "value": count, **label} for kind, count in one.counts.items()
        ]
    return rows


def overhead(config: Config, trainer: ConsistencyTrainer, trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Measure what the adaptive grid costs in percent of training (claim A4), on the population as it is trained.

    The paper makes one estimate on one mini-batch a segment: N c_jvp against m c_train. Both costs are CPU times of the
    whole population at the batch size of training, each the least of several measured in turn, since what else the
    machine does comes in bursts; N is the mean length of the last adaptive grids.
    """
    replicas = [i for i, one in enumerate(trials) if one.method == "adcm"]
    segments = float(np.mean([len(trainer.grid(i)) for i in replicas]))
    m = max(1, config.steps // config.segmentations)
    model = trainer.model(ema=False)
    generator = torch.Generator().manual_seed(0)
    x0, z = torch.randn(2, len(trainer), config.batch_size, 2, generator=generator).to(next(iter(trainer.ema.values())))
    t = torch.full(x0.shape[:2], 0.5 * trainer.schedule.t_max, device=x0.device)

    def estimate() -> float:
        begin = time.process_time()
        for _ in range(TIMED):
            step_rate(model, x0, z, t, trainer.schedule)
        return (time.process_time() - begin) / TIMED

    def train() -> float:
        before = trainer.seconds["training"]
        trainer.fit((trainer.step + TIMED) * config.batch_size)
        return (trainer.seconds["training"] - before) / TIMED

    rows: list[dict[str, Any]] = []
    for repeat in range(config.repeats):
        jvp, step = (min(costs) for costs in zip(*((estimate(), train()) for _ in range(TURNS)), strict=True))
        costs = {"jvp": jvp / len(trainer), "step": step / len(trainer), "ratio": jvp / step}
        rows += [{"quantity": "cost", "part": part, "seed": repeat, "value": value} for part, value in costs.items()]
        rows.append({"quantity": "overhead_paper", "seed": repeat, "value": 100 * segments * jvp / (PAPER_M * step)})
        rows.append({"quantity": "overhead_paper_way", "seed": repeat, "value": 100 * segments * jvp / (m * step)})
    own = [one for one in trainer.segmentations if one.replica in replicas and one.step < config.steps]
    training = trainer.seconds["training"] / len(trainer)
    spent = sum(one.seconds for one in own) / len(replicas)
    return [*rows, {"quantity": "overhead_measured", "seed": 0, "value": 100 * spent / training}]


def derived(config: Config, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What some claims are decided on, from the records of the runs, one value a seed.

    ``quarter_gap``: ln RMSE of ADCM at the smallest budget minus that of ECM (q = 2) at the full one (claim A6).
    ``degradation``: ln RMSE on FM minus on VE, baselines naive and rewritten (A8); ``degradation_gap``: ADCM's minus a
    rewritten baseline's. ``lambda_cost``: ln RMSE at another lambda minus at the paper's, early and at the end (A9).
    """
    table = {
        (row["schedule"], row["method"], row["budget"], row["seed"]): row["value"]
        for row in rows
        if row["quantity"] == "log_rmse"
    }
    early, full = config.budgets[0], config.budgets[-1]
    made: list[dict[str, Any]] = []
    for seed in range(config.seeds):
        ve, fm = ({m: table.get((name, m, full, seed)) for m in _COMPARED} for name in ("VE", "FM"))
        gap = table["VE", "adcm", early, seed] - table["VE", "ecm2", full, seed]
        made.append({"quantity": "quarter_gap", "seed": seed, "value": gap})
        worse = {m: value - (ve[m.removesuffix("-naive")] or 0.0) for m, value in fm.items() if value is not None}
        made += [{"quantity": "degradation", "method": m, "seed": seed, "value": value} for m, value in worse.items()]
        made += [
            {"quantity": "degradation_gap", "baseline": m, "seed": seed, "value": worse["adcm"] - worse[m]}
            for m in ("ict", "ecm2")
        ]
        for lam in config.lambdas:
            for when, budget in (("early", early), ("final", full)):
                cost = table["VE", f"adcm-lambda-{lam:g}", budget, seed] - table["VE", "adcm", budget, seed]
                label = {"case": f"{when}, lambda {lam:g}", "lam": lam, "seed": seed}
                made.append({"quantity": "lambda_cost", "value": cost, **label})
    return made


_COMPARED = ("adcm", "ict", "ecm2", "ict-naive", "ecm2-naive")
