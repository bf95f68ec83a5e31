"""Consistency training on a mixture in the plane, where the exact map is known (tests A5 to A12, A14, A17)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from replication import evidence
from replication.adcm.discretization import ECM, ICT, ConstantLocal, Grid, log_grid
from replication.adcm.experiments import QUARTER
from replication.adcm.loss import Weight, huber_constant
from replication.adcm.metrics import energy_distance, rmse, sliced_wasserstein
from replication.adcm.mixture import GaussianMixture2d
from replication.adcm.networks import TimeMLP
from replication.adcm.pairs import Rule
from replication.adcm.sampling import sample_one_step, sample_two_step
from replication.adcm.schedules import VE, FlowMatching, Schedule
from replication.adcm.segmentation import Adaptive, kappa
from replication.adcm.training import ConsistencyTrainer, Objective, Replica
from replication.evidence import Part
from replication.training import resolve_device, search, stream_seed, use_deterministic
from replication.training.search import TUNING_SEED, Seeds

LOWEST = 0.002
"""The lowest noise level."""

PAPER_LAMBDA = 0.01
"""What other values of lambda are compared with."""

GROUP = 5
"""Most methods of a part: a step of a population costs little more for more replicas, and parts share the cores."""

SQUARED = 1e3
"""A constant so far above every distance that pseudo-Huber is the squared distance, up to a factor."""


class Config(evidence.Settings):
    """What the mixtures notebook runs; every field is a parameter of the notebook."""

    sigma: PositiveFloat = Field(0.2, description="standard deviation of the eight modes on a circle of radius 0.7")
    ranges: list[PositiveFloat] = Field(
        [80.0], min_length=1, description="highest noise levels beta/alpha; the first is the paper's"
    )
    width: PositiveInt = Field(32, description="hidden units of a layer")
    depth: PositiveInt = Field(2, description="hidden layers")
    batch_size: PositiveInt = Field(64, description="images of a step; an image is a point of the plane")
    images: PositiveInt = Field(128000, description="budget of one consistency training; pre-training takes as many")
    budgets: list[float] = Field([0.25, 0.5, 1.0], min_length=1, description="shares of it where quality is measured")
    seeds: Seeds = Field(
        8, description="evaluation seeds: initial weights, pre-training, data, noise and times, shared by all methods"
    )
    rates: list[PositiveFloat] = Field(
        [0.001, 0.002, 0.004], min_length=1, description="learning rates tried for every method"
    )
    tuning_seeds: PositiveInt = Field(4, description="seeds on which learning rates are chosen")
    tuning_share: float = Field(1.0, gt=0, le=1, description="budget of a tuning run, as a share of the full one")
    pretraining_rate: PositiveFloat = Field(0.004, description="learning rate of the pre-training")
    lam: PositiveFloat = Field(0.01, description="the paper's lambda")
    segmentations: PositiveInt = Field(4, description="segmentations in a training")
    nodes: PositiveInt = Field(24, description="noise levels at which a step is estimated")
    segment_batch: PositiveInt = Field(512, description="images of an estimate, each with z and -z")
    ema: NonNegativeFloat = Field(0.998, lt=1, description="decay of the averaged weights")
    lambdas: list[PositiveFloat] = Field([], description="other values of lambda (standard profile)")
    weights: list[Literal["one", "inverse_t"]] = Field([], description="other weights: one, inverse_t")
    distances: list[Literal["l2", "squared"]] = Field([], description="other distances: l2, squared")
    metrics: list[Literal["l2", "squared"]] = Field([], description="other distances in the weight only: l2, squared")
    others: list[Literal["ccm", "scm"]] = Field([], description="other baselines: stand-ins for CCM and sCM")
    flow: bool = Field(False, description="train on flow matching too")
    points: PositiveInt = Field(1000, description="points on which quality is measured")
    widenings: int = Field(2, ge=0, le=3, description="times that a grid of rates is widened where its best is an end")
    device: str = Field("auto", description="auto, cpu or cuda")

    @model_validator(mode="after")
    def _sane(self) -> Config:
        if not all(0 < share <= 1 for share in self.budgets) or self.budgets[-1] != 1:
            raise ValueError(f"budgets: must lie in (0, 1] and end with 1, got {self.budgets}")
        if self.budgets != sorted(set(self.budgets)) or QUARTER not in self.budgets:
            raise ValueError(f"budgets: must increase and hold {QUARTER}, which A6 asks about, got {self.budgets}")
        if self.lambdas and (self.lam != PAPER_LAMBDA or PAPER_LAMBDA in self.lambdas):
            raise ValueError(
                f"lambdas: are compared with the paper's {PAPER_LAMBDA}, which lam must be and they must not, got "
                f"{self.lambdas} with lam {self.lam:g}"
            )
        if min(self.ranges) <= LOWEST or len(set(self.ranges)) < len(self.ranges):
            raise ValueError(f"ranges: must differ and lie above {LOWEST}, the lowest, got {self.ranges}")
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

    rule: Rule | None
    weight: Weight = "w_t"
    c: float | None = None
    weight_c: float | None = None


@dataclass(frozen=True)
class Trial:
    """One training run; of another learning rate than the chosen one only the final distance is kept."""

    method: str
    setting: Setting
    seed: int
    lr: float
    chosen: bool = True


class Rated(NamedTuple):
    """A method with a learning rate."""

    method: str
    lr: float


class Reference(NamedTuple):
    """Points on which a schedule's models are measured."""

    z: Tensor
    """Noise of the first step, shape (n, 2)."""
    z_mid: Tensor
    """Noise of the second step."""
    exact: Tensor
    """The exact consistency map of the first step's points."""
    exact_two: Tensor
    """The exact map's two-step samples."""
    data: Tensor
    """As many fresh data."""


WEIGHT_NAMES: dict[Weight, str] = {
    "w_t": "w(t)",
    "per_sample": "per sample",
    "inverse_step": "1/Δt",
    "inverse_t": "1/t",
    "one": "1",
}

DECISIVE = ("adcm-wt", "adcm-step", "adcm-one", "adcm-inverse-t", "log-wt", "ecm256-wt", "ecm2", "ict")
"""Methods of primary tests. They are also trained at the rates that other tuning seeds would have chosen; so are those
that differ in a distance only."""

SHOWN = ("adcm-wt", "adcm-sample", "ecm2")
"""Methods whose samples are kept to be looked at."""


class Bed(NamedTuple):
    """A schedule with its range: where methods are compared."""

    schedule: str
    range: float

    @property
    def own(self) -> Schedule:
        """The noise schedule; both kinds cover the same noise levels."""
        made = {"VE": VE(t_max=self.range), "FM": FlowMatching().spanning(LOWEST, self.range)}
        return made[self.schedule]


def beds(config: Config) -> list[Bed]:
    """VE at every range, and flow matching at the first."""
    return [*(Bed("VE", one) for one in config.ranges), *([Bed("FM", config.ranges[0])] if config.flow else [])]


def methods(config: Config, bed: Bed, steps: int) -> dict[str, Setting]:
    """What is compared on a schedule, for runs of a number of steps: at the first range everything.

    Three fine grids with each of two weights are the design; iCT, ECM (q = 2) and Eq. 11's weight per sample stand
    beside it. ECM's q = 2 recipe has four stages, as many as the paper's 12.8 million images. The log grid and the
    stand-in for CCM have as many segments as the adaptive grid has for the denoiser of Gaussian data.
    """
    name, schedule, stage = bed.schedule, bed.own, -(-steps // 4)
    adaptive = Adaptive(config.lam, nodes=config.nodes, batch_size=config.segment_batch)
    logarithmic = log_grid(schedule, kappa(config.lam))
    found = {
        "adcm-wt": Setting(adaptive),
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
        "log-wt": Setting(logarithmic),
        "adcm-step": Setting(adaptive, "inverse_step"),
        "log-step": Setting(logarithmic, "inverse_step"),
        "ecm256-wt": Setting(ECM(schedule, 256)),
        "adcm-sample": Setting(adaptive, "per_sample"),
    }
    if bed.range != config.ranges[0]:
        return found
    others = {"ccm": Setting(ConstantLocal(len(logarithmic), config.nodes, config.segment_batch)), "scm": Setting(None)}
    found |= {other: others[other] for other in config.others}
    found |= {  # the floor stays below the steps of a small lambda, as it does at the paper's
        f"adcm-lambda-{lam:g}": Setting(replace(adaptive, lam=lam, floor=min(adaptive.floor, kappa(lam) / 5)))
        for lam in config.lambdas
    }
    found |= {f"adcm-{weight.replace('_', '-')}": Setting(adaptive, weight) for weight in config.weights}
    constants = {"l2": 0.0, "squared": SQUARED}
    found |= {f"adcm-{kind}": Setting(adaptive, c=constants[kind]) for kind in config.distances}
    own = huber_constant(2)
    return found | {
        f"adcm-metric-{kind}": Setting(adaptive, c=own, weight_c=constants[kind]) for kind in config.metrics
    }


def labels(method: str, setting: Setting) -> dict[str, str]:
    """Columns by which records are compared: the method; its grid and weight where nothing else is changed.

    A hand-made rule is also labelled as naive in t, or rewritten in tau (the same on VE).
    """
    rule, named = setting.rule, {"method": method}
    if isinstance(rule, ECM | ICT):
        named["carried"] = "naive" if rule.naive else "rewritten"
    if setting.c is not None or rule is None or method.startswith("adcm-lambda-"):
        return named
    kinds = {Adaptive: "adaptive", Grid: "log", ConstantLocal: "constant local consistency", ICT: "ict"}
    grid = f"ecm{rule.q:g}" if isinstance(rule, ECM) else kinds[type(rule)]
    return {**named, "grid": grid, "weight": WEIGHT_NAMES[setting.weight]}


def reference(config: Config, ring: GaussianMixture2d, schedule: Schedule) -> Reference:
    """Draw the points of the evaluation, the same noise for every schedule."""
    generator = torch.Generator().manual_seed(stream_seed(0, "evaluation"))
    z, z_mid = torch.randn(2, config.points, 2, generator=generator, dtype=torch.float64)
    t = torch.full((config.points,), schedule.t_max, dtype=torch.float64)
    exact_map = ring.consistency_map(schedule)
    exact = exact_map(schedule.prior(z), t)
    exact_two = sample_two_step(exact_map, z, z_mid, schedule)
    data = ring.sample(config.points, generator=generator)
    device = resolve_device(config.device)
    return Reference(*(part.float().to(device) for part in (z, z_mid, exact, exact_two, data)))


def _trainer(
    config: Config, schedule: Schedule, replicas: Sequence[Replica], steps: int, **options: Any
) -> ConsistencyTrainer:
    ring = GaussianMixture2d(config.sigma)
    return ConsistencyTrainer(
        lambda: TimeMLP(2, config.width, config.depth),
        replicas,
        schedule,
        lambda generator, n: ring.sample(n, generator=generator, dtype=torch.float32),
        batch_size=config.batch_size,
        segment_every=-(-steps // config.segmentations),
        nodes=config.nodes,
        weight_batch=config.segment_batch,
        ema=config.ema,
        device=resolve_device(config.device),
        **options,
    )


def train(
    config: Config,
    schedule: Schedule,
    trials: Sequence[Trial],
    pretrained: dict[str, Tensor],
    seeds: Sequence[int],
    *,
    steps: int,
    budgets: Sequence[float],
) -> Iterator[tuple[float, ConsistencyTrainer, list[Trial]]]:
    """Train trials as populations, one for each objective, and yield each at every share of the budget."""
    objectives: tuple[Objective, ...] = ("consistency", "tangent")
    for objective in objectives:
        chosen = [one for one in trials if (one.setting.rule is None) == (objective == "tangent")]
        if not chosen:
            continue
        replicas = [Replica(one.seed, one.lr, *one.setting) for one in chosen]
        rows = torch.tensor([seeds.index(one.seed) for one in chosen])
        start = {name: p[rows] for name, p in pretrained.items()}
        trainer = _trainer(config, schedule, replicas, steps, objective=objective, start=start)
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
    bed: Bed,
    pretrained: dict[str, Tensor],
    points: Reference,
    seeds: Sequence[int],
    group: Sequence[str],
) -> tuple[dict[str, list[float]], list[dict[str, Any]]]:
    """Choose the learning rate of every method of a group, from one grid on seeds of their own.

    Returns
    -------
    rates : dict of str to list of float
        For each method the chosen rate, and then those that another draw of the tuning seeds would have chosen.
    rows : list of dict
        ``tuning_score`` of each rate and seed.
    """
    steps = round(config.tuning_share * config.steps)
    settings = {m: one for m, one in methods(config, bed, steps).items() if m in group}

    def score(tried: Sequence[Rated]) -> list[list[float]]:
        trials = [Trial(one.method, settings[one.method], seed, one.lr) for one in tried for seed in seeds]
        found: dict[tuple[str, float, int], float] = {}
        for _, trainer, chosen in train(config, bed.own, trials, pretrained, seeds, steps=steps, budgets=[1.0]):
            values = errors(trainer, points).log().tolist()
            found |= {(one.method, one.lr, one.seed): value for one, value in zip(chosen, values, strict=True)}
        return [[found[one.method, one.lr, seed] for seed in seeds] for one in tried]

    arms = {method: search.Grid([Rated(method, lr) for lr in config.rates]) for method in settings}
    tuned = search.tune(score, arms, rate="lr", widen=config.widenings)
    rows: list[dict[str, Any]] = []
    for method, of in tuned.items():
        at = {**bed._asdict(), "budget": 1.0, **labels(method, settings[method])}
        rows.append({"quantity": "trials", "value": of.scores.size, **at})
        rows.append({"quantity": "rate_on_edge", "value": float(not of.inside), **at})
        rows += [
            {"quantity": "tuning_score", "value": value, "lr": one.lr, "seed": seed, **at}
            for one, scores in zip(of.settings, np.nan_to_num(of.scores, nan=np.inf).tolist(), strict=True)
            for seed, value in zip(seeds, scores, strict=True)
        ]
    return {method: [one.lr for one in of.chosen] for method, of in tuned.items()}, rows


def parts(config: Config) -> list[Part]:
    """One part for each schedule and group of methods, and what is derived from all of them.

    Their rows, per schedule, method and seed: ``log_rmse`` (natural logarithm of the distance to the exact map) at
    every share of the budget, ``log_rmse_two`` (the same for two sampling steps), ``energy_distance``,
    ``sliced_wasserstein``, ``segments`` and safeguards of every segmentation; ``tuning_score`` of every learning rate
    and ``log_rmse_at`` of those that the tuning seeds leave open. Some tests are about what is derived from these
    (`derived`). CPU times are volatile.
    """
    use_deterministic()
    made = []
    for bed in beds(config):
        names = list(methods(config, bed, config.steps))
        # equal groups, none larger than GROUP
        for group in np.array_split(names, -(-len(names) // GROUP)):
            at = {"bed": list(bed), "group": group.tolist()}
            made.append(Part(f"{bed.schedule}, τ up to {bed.range:g}: {', '.join(group)}", comparison, config, at))
    settings = config.only("ranges", "budgets", "seeds", "lambdas", "flow")
    return [*made, Part("derived", derived, settings, needs=tuple(part.name for part in made))]


def comparison(config: Config, bed: Sequence[Any], group: Sequence[str]) -> list[dict[str, Any]]:
    """Tune, train and judge a group of methods on one schedule; all groups start from the same denoisers."""
    here = Bed(*bed)
    # the seeds of tuning stand first
    tuning = [TUNING_SEED + i for i in range(config.tuning_seeds)]
    seeds = [*tuning, *range(config.seeds)]
    points = reference(config, GaussianMixture2d(config.sigma), here.own)
    pretrained = _pretrained(config.model_dump_json(), here, tuple(seeds))
    own = {k: p[: len(tuning)] for k, p in pretrained.items()}
    rates, rows = tune(config, here, own, points, tuning, group)
    trials = [
        Trial(method, one, seed, lr, chosen=lr == rates[method][0])
        for method, one in methods(config, here, config.steps).items()
        if method in group
        for lr in rates[method][: None if method in DECISIVE or one.c is not None else 1]
        for seed in range(config.seeds)
    ]
    for share, trainer, chosen in train(
        config, here.own, trials, pretrained, seeds, steps=config.steps, budgets=config.budgets
    ):
        rows += _quality(here, share, trainer, chosen, points, show=here == beds(config)[0])
        if share == 1:
            rows += _grids(here, trainer, chosen)
    return rows


@cache
def _pretrained(config: str, bed: Bed, seeds: tuple[int, ...]) -> dict[str, Tensor]:
    """Averaged weights of a denoiser for every seed, from which its methods start; trained once in a process."""
    settings = Config.model_validate_json(config)
    replicas = [Replica(seed, settings.pretraining_rate) for seed in seeds]
    trainer = _trainer(settings, bed.own, replicas, settings.steps, objective="denoising")
    trainer.fit(settings.images)
    return trainer.ema


def _quality(
    bed: Bed,
    share: float,
    trainer: ConsistencyTrainer,
    trials: Sequence[Trial],
    points: Reference,
    *,
    show: bool,
) -> list[dict[str, Any]]:
    at = [
        {**bed._asdict(), "seed": one.seed, "lr": one.lr, "budget": share, **labels(one.method, one.setting)}
        for one in trials
    ]
    kept = [i for i, one in enumerate(trials) if one.chosen]
    distances, seconds = errors(trainer, points).log().tolist(), _seconds(trainer)
    rows = [{"quantity": "log_rmse", "value": distances[i], **at[i]} for i in kept]
    rows += [{"quantity": "cpu_seconds", "value": seconds[i], **at[i]} for i in kept]
    if share < 1:
        return rows
    rows += [{"quantity": "log_rmse_at", "value": value, **label} for label, value in zip(at, distances, strict=True)]
    z, z_mid = (part.expand(len(trainer), *part.shape) for part in (points.z, points.z_mid))
    samples = {
        1: sample_one_step(trainer.model(), z, trainer.schedule, batch_dims=2),
        2: sample_two_step(trainer.model(), z, z_mid, trainer.schedule, batch_dims=2),
    }
    rows += _shown(trials, samples[1], points) if show else []
    two = rmse(samples[2], points.exact_two.expand_as(samples[2]), batch_dims=2).log().tolist()
    for i in kept:
        rows.append({"quantity": "log_rmse_two", "value": two[i], **at[i]})
        for number, made in samples.items():
            value = energy_distance(made[i], points.data).item()
            rows.append({"quantity": "energy_distance", "sampling_steps": number, "value": value, **at[i]})
        own = samples[1][i]
        generator = torch.Generator(own.device).manual_seed(0)
        value = sliced_wasserstein(own, points.data, projections=32, generator=generator).item()
        rows.append({"quantity": "sliced_wasserstein", "sampling_steps": 1, "value": value, **at[i]})
    return rows


def _shown(trials: Sequence[Trial], made: Tensor, points: Reference) -> list[dict[str, Any]]:
    """The first one-step samples of the first seed and the exact map's, as records of their coordinates."""
    shown = [
        (one.method, own)
        for one, own in zip(trials, made, strict=True)
        if one.chosen and one.seed == 0 and one.method in SHOWN
    ]
    return [
        {"quantity": f"sample_{axis}", "method": method, "seed": 0, "point": i, "value": value}
        for method, own in [*shown, *([("exact", points.exact)] if SHOWN[0] in dict(shown) else [])]
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


def _grids(bed: Bed, trainer: ConsistencyTrainer, trials: Sequence[Trial]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for one in trainer.segmentations:
        trial = trials[one.replica]
        if trial.chosen:
            rows += one.rows({**bed._asdict(), "method": trial.method, "seed": trial.seed})
    return rows


def derived(config: Config, rows: pd.DataFrame) -> list[dict[str, Any]]:
    """What some tests are about, from the records of the runs, one value a seed.

    All at the first range. ``quarter_gap``: ln RMSE of ADCM, with either weight, at a quarter of the budget minus that
    of ECM (q = 2) at the full one (test A6). ``flow_gap``: ln RMSE of ADCM on flow matching minus that of a rewritten
    baseline (A8). ``lambda_cost``: ln RMSE at another lambda minus at the paper's, early and at the end (A9).
    """
    final = rows[(rows["quantity"] == "log_rmse") & (rows["range"] == config.ranges[0])]
    table = final.set_index(["schedule", "method", "budget", "seed"])["value"].to_dict()
    early, full = QUARTER, config.budgets[-1]
    made: list[dict[str, Any]] = []
    for seed in range(config.seeds):
        for method in ("adcm-wt", "adcm-sample"):
            gap = table["VE", method, early, seed] - table["VE", "ecm2", full, seed]
            made.append({"quantity": "quarter_gap", "method": method, "seed": seed, "value": gap})
        for baseline in ("ict", "ecm2") if config.flow else ():
            gap = table["FM", "adcm-wt", full, seed] - table["FM", baseline, full, seed]
            made.append({"quantity": "flow_gap", "value": gap, "method": "adcm-wt", "baseline": baseline, "seed": seed})
        for lam in config.lambdas:
            for when, budget in (("early", early), ("final", full)):
                cost = table["VE", f"adcm-lambda-{lam:g}", budget, seed] - table["VE", "adcm-wt", budget, seed]
                made.append({"quantity": "lambda_cost", "value": cost, "case": f"{when}, lambda {lam:g}", "seed": seed})
    return made
