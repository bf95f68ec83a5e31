"""Images: the adaptive discretization against its baselines, from one pre-trained denoiser (tests A3 to A7, A14, A17).

1. A small U-Net is trained as a denoiser, once per seed. Every method starts from it and sees the same images, noise
   and uniforms.
2. Every method's learning rate is chosen from the same grid on a seed of its own, by the Fréchet distance
   of its samples.
3. The chosen ones are trained on the evaluation seeds and scored at shares of the budget.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from replication import data, evidence
from replication.adcm.discretization import ECM, ICT, Discretization, log_grid
from replication.adcm.features import FeatureSpace, classifier_features, memorised_share, nearest_distance
from replication.adcm.gaussian import Gaussian
from replication.adcm.loss import Weight, adaptive_loss, huber_constant
from replication.adcm.metrics import energy_distance, frechet_distance
from replication.adcm.sampling import sample_one_step, sample_two_step
from replication.adcm.schedules import VE, Model
from replication.adcm.segmentation import gauss_newton_step, kappa, segment, tangent_finite_difference
from replication.adcm.training import Adaptive, ConsistencyTrainer, Replica
from replication.adcm.unet import UNet
from replication.evidence import Part
from replication.training import resolve_device, search, stream_seed, use_deterministic
from replication.training.search import Grid

METHODS = ("adcm-sample", "adcm-wt", "log-sample", "ecm256", "ecm2", "ict")
"""Eq. 11 as transcribed (weight per sample), the same grid with w(t), the log grid with Eq. 11's loss, ECM's recipe
without doubling (q = 256), ECM (q = 2, doubling), iCT."""

DESIGN = {
    "adcm-sample": {"grid": "adaptive", "weight": "per sample"},
    "adcm-wt": {"grid": "adaptive", "weight": "w(t)"},
    "log-sample": {"grid": "log", "weight": "per sample"},
    "ecm256": {"grid": "ecm256", "weight": "1/Δt"},
    "ecm2": {"grid": "ecm2", "weight": "1/Δt"},
    "ict": {"grid": "ict", "weight": "1/Δt"},
}
"""Grid and weight of every method, as columns of the records."""

STUDIED = (
    *("dataset", "limit", "widths", "patch", "t_max", "seeds", "batch_size", "pretraining_images", "pretraining_rate"),
    *("nodes", "segment_batch", "ema", "feature_width", "feature_steps", "device"),
)
"""The settings that decide what all methods share."""
TUNING_SEED = 1000
PAPER_PERIOD = 25_000
"""The paper's m, training steps between two segmentations."""
PAPER_BATCH = 128
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


class Config(evidence.Settings):
    """What the images notebook runs; every field is a parameter of the notebook."""

    dataset: Literal["digits", "cifar10"] = Field("digits", description="digits or cifar10 (from $REPLICATION_DATA)")
    limit: int = Field(0, ge=0, description="first images of each split of CIFAR-10 to use; 0 is all")
    widths: list[PositiveInt] = Field([16, 16], min_length=1, description="channels of the U-Net's levels")
    patch: PositiveInt = Field(2, description="side of the patches on which its finest level works, in pixels")
    t_max: PositiveFloat = Field(
        10.0, description="largest noise level, about nine times the data's largest deviation on digits"
    )
    lam: PositiveFloat = Field(0.01, description="the paper's lambda")
    seeds: int = Field(3, ge=2, description="evaluation seeds")
    batch_size: PositiveInt = Field(32, description="images of a step")
    pretraining_images: PositiveInt = Field(4800, description="images of the denoiser's training")
    pretraining_rate: PositiveFloat = Field(0.002, description="its learning rate")
    images: PositiveInt = Field(3200, description="images of each consistency training, the budget")
    shares: list[PositiveFloat] = Field([0.25, 0.5, 1.0], description="shares of the budget that are scored")
    learning_rates: list[PositiveFloat] = Field(
        [0.005, 0.01, 0.02], min_length=1, description="tried for every method on a seed of its own"
    )
    segmentations: PositiveInt = Field(2, description="segmentations of a run")
    nodes: int = Field(10, ge=2, description="noise levels at which the step and w(t) are estimated")
    segment_batch: PositiveInt = Field(32, description="images of each estimate, each with two opposite noises")
    ema: float = Field(0.999, ge=0, lt=1, description="decay of the moving average of the weights, after a warm-up")
    samples: int = Field(500, ge=10, description="images drawn for each score")
    feature_width: PositiveInt = Field(8, description="width of the classifier whose features are compared")
    feature_steps: PositiveInt = Field(150, description="its training steps")
    shown: PositiveInt = Field(10, description="images of each method on the page")
    replicas: PositiveInt = Field(18, description="largest population trained at once")
    timings: PositiveInt = Field(5, description="repeats of the cost measurement")
    widenings: int = Field(0, ge=0, le=3, description="times that a grid of rates is widened where its best is an end")
    device: str = Field("auto", description="auto, cpu or cuda")

    @model_validator(mode="after")
    def _whole(self) -> Config:
        if sorted(self.shares) != self.shares or self.shares[-1] != 1 or 0.25 not in self.shares:
            raise ValueError(f"shares: must ascend to 1 and hold 0.25, got {self.shares}")
        if self.images * self.shares[0] < self.batch_size or self.images // self.batch_size < self.segmentations:
            raise ValueError(
                f"images: {self.images} are too few for {self.segmentations} segmentations at batch_size "
                f"{self.batch_size}"
            )
        return self


@dataclass(frozen=True, eq=False)
class Images:
    """Scaled images, float32 (n, C, H, W) with mean 0 and standard deviation 0.5 over all, and their labels."""

    train: tuple[Tensor, Tensor]
    held_out: tuple[Tensor, Tensor]
    mean: float
    scale: float
    name: str
    checksum: str

    def pixels(self, samples: Tensor) -> Tensor:
        """Undo the scaling; in [0, 1]."""
        return (samples * self.scale + self.mean).clamp(0, 1)


def load(config: Config) -> Images:
    """Load the images, split them, and scale all pixels by one mean and one deviation, those of the training images.

    500 of the digits are held out, the same for every seed; of CIFAR-10 it is the test split.

    Raises
    ------
    DataNotFound
        If CIFAR-10 is asked for and is not on this machine.
    """
    if config.dataset == "digits":
        digits = data.digits()
        order = np.random.default_rng(0).permutation(len(digits.labels))
        pixels, labels, source, cut = digits.images[order], digits.labels[order], digits, len(order) - 500
    else:
        train, test = data.cifar10(limit=config.limit or None)
        pixels = np.concatenate([train.images, test.images]).astype(np.float32) / np.float32(255)
        labels, source, cut = np.concatenate([train.labels, test.labels]), train, len(train.labels)
    return prepare(pixels, labels, cut, source.name, source.checksum, config.device)


def prepare(
    pixels: np.typing.NDArray[Any], labels: np.typing.NDArray[Any], cut: int, name: str, checksum: str, device: str
) -> Images:
    """Scale images in [0, 1] and split them at ``cut``."""
    mean, scale = float(pixels[:cut].mean(dtype=np.float64)), 2 * float(pixels[:cut].std(dtype=np.float64))
    x = torch.from_numpy(((pixels - np.float32(mean)) / np.float32(scale)).astype(np.float32)).to(
        resolve_device(device)
    )
    y = torch.from_numpy(labels.astype(np.int64)).to(x.device)
    return Images((x[:cut], y[:cut]), (x[cut:], y[cut:]), mean, scale, name, checksum)


class Trial(NamedTuple):
    """One training run."""

    method: str
    lr: float
    seed: int


class Study:
    """What all trials share: data, schedule, features, and the pre-trained denoiser of every seed."""

    def __init__(self, config: Config, images: Images) -> None:
        self.config, self.images = config, images
        self.schedule = VE(sigma_data=0.5, t_max=config.t_max)
        self.features: FeatureSpace = classifier_features(
            images.train, images.held_out, data=images.name, width=config.feature_width, steps=config.feature_steps
        )
        self._reference = self.features(images.train[0])
        self.held_out_distances = nearest_distance(images.held_out[0], images.train[0])
        self.seeds = [*range(config.seeds), TUNING_SEED]
        trainer = self._trainer([Replica(seed, config.pretraining_rate) for seed in self.seeds], None)
        trainer.fit(config.pretraining_images)
        self.denoisers = trainer.ema
        self.denoiser: Model = trainer.model()

    def build(self) -> UNet:
        """A fresh network."""
        return UNet(self.images.train[0].shape[1], self.config.widths, patch=self.config.patch)

    def sample(self, generator: torch.Generator, n: int) -> Tensor:
        """Draw training images with replacement."""
        index = torch.randint(len(self.images.train[0]), (n,), generator=generator)
        return self.images.train[0][index.to(self.images.train[0].device)]

    def _trainer(
        self, replicas: Sequence[Replica], start: dict[str, Tensor] | None, steps: int | None = None
    ) -> ConsistencyTrainer:
        return ConsistencyTrainer(
            self.build,
            replicas,
            self.schedule,
            self.sample,
            batch_size=self.config.batch_size,
            objective="denoising" if steps is None else "consistency",
            segment_every=None if steps is None else -(-steps // self.config.segmentations),
            nodes=self.config.nodes,
            segment_batch=self.config.segment_batch,
            ema=self.config.ema,
            start=start,
            device=self.images.train[0].device,
        )

    def rule(self, method: str, steps: int) -> tuple[Discretization | Adaptive, Weight]:
        """Discretisation and weight of a method in a run of so many steps."""
        lam = self.config.lam
        match method:
            case "adcm-sample":
                return Adaptive(lam), "per_sample"
            case "adcm-wt":
                return Adaptive(lam), "w_t"
            case "log-sample":
                return log_grid(self.schedule, kappa(lam)), "per_sample"
            case "ecm256":
                return ECM(self.schedule, q=256.0), "inverse_step"
            case "ecm2":
                # ECM doubles every 25k of 100k steps
                return ECM(self.schedule, q=2.0, doubling_every=max(1, steps // 4)), "inverse_step"
            case "ict":
                return ICT(steps, self.schedule), "inverse_step"
        raise ValueError(f"method: must be one of {', '.join(METHODS)}, got {method!r}")

    def train(
        self, trials: Sequence[Trial], images: int, shares: Sequence[float]
    ) -> Iterator[tuple[Sequence[Trial], float, ConsistencyTrainer]]:
        """Train trials in populations; yield each population at every share of the budget."""
        steps = images // self.config.batch_size
        for begin in range(0, len(trials), self.config.replicas):
            chunk = trials[begin : begin + self.config.replicas]
            rows = torch.tensor([self.seeds.index(trial.seed) for trial in chunk])
            start = {name: p[rows.to(p.device)] for name, p in self.denoisers.items()}
            replicas = [Replica(one.seed, one.lr, *self.rule(one.method, steps)) for one in chunk]
            trainer = self._trainer(replicas, start, steps)
            for share in shares:
                trainer.fit(round(share * steps) * self.config.batch_size)
                yield chunk, share, trainer

    def draw(self, model: Model, seeds: Sequence[int], *, steps: int = 1) -> Tensor:
        """Samples of a population, shape (R, n, C, H, W), from the noise of each replica's seed."""
        x, shape = self.images.train[0], (self.config.samples, *self.images.train[0].shape[1:])
        noise = {
            seed: torch.randn(2, *shape, generator=torch.Generator().manual_seed(stream_seed(seed, "samples")))
            for seed in set(seeds)
        }
        z = torch.stack([noise[seed] for seed in seeds], 1).to(x.device)
        parts = []
        for first, second in zip(*(torch.split(part, 500, dim=1) for part in z), strict=True):
            if steps == 1:
                parts.append(sample_one_step(model, first, self.schedule, batch_dims=2))
            else:
                parts.append(sample_two_step(model, first, second, self.schedule, batch_dims=2))
        return torch.cat(parts, 1)

    def frechet(self, samples: Tensor) -> float:
        """Fréchet distance to the training images in the classifier's features; infinite for a run that diverged."""
        if not bool(samples.isfinite().all()):
            return math.inf
        return float(frechet_distance(self.features(samples), self._reference))

    def energy(self, samples: Tensor) -> float:
        """Energy distance in pixel space to as many training images; infinite for a run that diverged."""
        if not bool(samples.isfinite().all()):
            return math.inf
        return float(energy_distance(samples.flatten(1), self.images.train[0][: len(samples)].flatten(1)))


def inputs(config: Config) -> dict[str, str]:
    """Checksums of the data, by name."""
    return {config.dataset: data.checksum(config.dataset)}


def parts(config: Config) -> list[Part]:
    """One part for each method, those that they are compared with, and the costs.

    Their rows: ``frechet``, its logarithm ``log_frechet`` and ``energy`` per method, seed, share of the budget and
    number of sampling steps; ``log_floor_ratio`` (``log_frechet`` minus that of held-out images) and
    ``quarter_against_full``; ``memorised_share`` and ``nearest_distance``; ``tuning_score`` and ``chosen_rate``;
    ``relative_step`` (Δt/t over t), ``log_step_spread``, ``segments`` and ``safeguard``; ``pixel`` of the samples for
    the page; costs in milliseconds and ``overhead_paper``, which are volatile.
    """
    use_deterministic()
    settings = config.only(*Config.model_fields.keys() - {"timings"})
    trained = [Part(method, comparison, settings, {"method": method}) for method in METHODS]
    methods = tuple(part.name for part in trained)
    own = config.only(*Config.model_fields.keys() - {"timings", "learning_rates", "images", "shares", "segmentations"})
    return [
        Part("denoiser and held-out images", references, own),
        *trained,
        Part("Gaussian control", control_grids, own),
        Part("derived", derived, config.only(), needs=("denoiser and held-out images", *methods)),
        Part("overhead", overhead, config, needs=methods, alone=True),
    ]


@cache
def _study(config: str) -> Study:
    """The shared parts of a config (JSON, without what they do not read); made once in a process."""
    values = Config.model_construct(**json.loads(config))
    return Study(values, load(values))


def study_of(config: Config) -> Study:
    """The shared parts of a part's config."""
    shared = config.only(*STUDIED)
    study = copy.copy(_study(shared.model_dump_json()))
    study.config = config
    return study


def references(config: Config) -> list[dict[str, Any]]:
    """Scores of the denoiser that training starts from, and of held-out images; pictures of it and of the data."""
    study = study_of(config)
    rows: list[dict[str, Any]] = []
    with torch.no_grad():
        denoised = study.draw(study.denoiser, study.seeds)
    for seed, samples in zip(study.seeds[:-1], denoised, strict=False):
        rows += scores(study, samples, {"method": "denoiser", "seed": seed, "share": 0.0, "sampling_steps": 1})
    rows += shown(study, denoised[0], "denoiser") + shown(study, study.images.train[0], "training images")
    held_out = study.images.held_out[0]
    rows += scores(study, held_out[: config.samples], {"method": "held-out", "share": 1.0, "sampling_steps": 1})
    return rows + closeness(study, held_out, {"method": "held-out"})


def comparison(config: Config, method: str) -> list[dict[str, Any]]:
    """Choose a method's learning rate, train it with every seed, and judge it."""
    study = study_of(config)
    rate, rows = tune(study, method)
    trials = [Trial(method, rate, seed) for seed in range(config.seeds)]
    for chunk, share, trainer in study.train(trials, config.images, config.shares):
        seeds = [trial.seed for trial in chunk]
        for steps in (1, 2) if share == 1 else (1,):
            drawn = study.draw(trainer.model(), seeds, steps=steps)
            for trial, samples in zip(chunk, drawn, strict=True):
                labels = {"method": method, "seed": trial.seed, **DESIGN[method]}
                rows += scores(study, samples, labels | {"share": share, "sampling_steps": steps})
                if share == 1 and steps == 1:
                    rows += closeness(study, samples, labels)
                    rows += shown(study, samples, method) if trial.seed == 0 else []
        rows += curves(study, chunk, trainer, share)
        if share == 1:
            rows += grids(chunk, trainer)
    return rows


def tune(study: Study, method: str) -> tuple[float, list[dict[str, Any]]]:
    """Choose a method's learning rate on the tuning seed; return the choice and its records."""
    config = study.config

    def score(trials: Sequence[Trial]) -> list[list[float]]:
        found: list[float] = []
        for chunk, _, trainer in study.train(trials, config.images, [1.0]):
            found += map(study.frechet, study.draw(trainer.model(), [trial.seed for trial in chunk]))
        return [[value] for value in found]

    grid = Grid([Trial(method, lr, TUNING_SEED) for lr in config.learning_rates])
    of = search.tune(score, {method: grid}, rate="lr", widen=config.widenings)[method]
    rows: list[dict[str, Any]] = [
        {"quantity": "tuning_score", "method": method, "lr": one.lr, "value": value}
        for one, (value,) in zip(of.settings, of.scores.tolist(), strict=True)
    ]
    told = {"chosen_rate": of.best.lr, "trials": of.scores.size, "rate_on_edge": float(not of.inside)}
    rows += [{"quantity": quantity, "method": method, "value": value} for quantity, value in told.items()]
    return of.best.lr, rows


def scores(study: Study, samples: Tensor, labels: dict[str, Any]) -> list[dict[str, Any]]:
    """Distances of one set of samples to the training images."""
    distance = study.frechet(samples)
    found = {"frechet": distance, "log_frechet": math.log(distance), "energy": study.energy(samples)}
    labels = labels | {"features": study.features.name}
    return [{"quantity": quantity, "value": value, **labels} for quantity, value in found.items()]


def closeness(study: Study, samples: Tensor, labels: dict[str, Any]) -> list[dict[str, Any]]:
    """Distances to the nearest training image, and the share that is nearer than held-out images are."""
    distances = nearest_distance(samples, study.images.train[0])
    found = distances.quantile(distances.new_tensor(QUANTILES)).tolist()
    rows = [
        {"quantity": "nearest_distance", "quantile": quantile, "value": value, **labels}
        for quantile, value in zip(QUANTILES, found, strict=True)
    ]
    share = memorised_share(distances, study.held_out_distances)
    return [*rows, {"quantity": "memorised_share", "value": share, **labels}]


def shown(study: Study, samples: Tensor, method: str) -> list[dict[str, Any]]:
    """Pixels of the first samples, in [0, 1], for the page."""
    pixels = study.images.pixels(samples[: study.config.shown]).cpu().numpy()
    return [
        {"quantity": "pixel", "method": method, "image": image, "channel": channel, "row": row, "column": column}
        | {"value": round(float(value), 3)}
        for (image, channel, row, column), value in np.ndenumerate(pixels)
    ]


def curves(
    study: Study, chunk: Sequence[Trial], trainer: ConsistencyTrainer, share: float, points: int = 48
) -> list[dict[str, Any]]:
    """Δt/t against t of every method, as the training of seed 0 stands."""
    if share not in (study.config.shares[0], 1):
        return []
    u = torch.arange(1, 2 * points, 2, dtype=torch.float64) / (2 * points)
    rows = []
    for index, (trial, replica) in enumerate(zip(chunk, trainer.replicas, strict=True)):
        if trial.seed:
            continue
        rule = replica.discretization
        adaptive = rule is None or not hasattr(rule, "pairs")
        t, r = (trainer.grid(index) if adaptive else rule).pairs(u, trainer.step - 1)  # type: ignore[union-attr]
        for time_, step in zip(t.tolist(), ((t - r) / t).tolist(), strict=True):
            rows.append(
                {"quantity": "relative_step", "method": trial.method, "share": share, "t": time_, "value": step}
            )
    return rows


def grids(chunk: Sequence[Trial], trainer: ConsistencyTrainer) -> list[dict[str, Any]]:
    """Number of segments, safeguards that acted, and spread of Δt/t on every trained model's adaptive grid."""
    rows: list[dict[str, Any]] = []
    for one in trainer.segmentations:
        labels = {"method": chunk[one.replica].method, "seed": chunk[one.replica].seed, "step": one.step}
        rows.append({"quantity": "segments", "value": one.segments, **labels})
        rows += [
            {"quantity": "safeguard", "safeguard": name, "value": count, **labels} for name, count in one.counts.items()
        ]
    for index in sorted({one.replica for one in trainer.segmentations}):
        labels = {"method": chunk[index].method, "seed": chunk[index].seed}
        rows.append({"quantity": "log_step_spread", "value": spread(trainer.grid(index).times), **labels})
    return rows


def spread(times: Tensor) -> float:
    """ln of the largest over the smallest Δt/t of a grid, from ten times its least time to half its greatest."""
    t, step = times[1:], times.diff() / times[1:]
    inside = (t >= 10 * times[0]) & (t <= times[-1] / 2)
    return math.log(float(step[inside].max() / step[inside].min()))


def control_grids(config: Config) -> list[dict[str, Any]]:
    """The same spread where the exact grid is logarithmic: what is left of it is sampling noise.

    The denoiser of Gaussian data has R(t) = t whatever the covariance is. Here it is that of the training images, at
    as many nodes and examples as in training.
    """
    study = study_of(config)
    values = torch.linalg.eigvalsh(study.images.train[0].flatten(1).double().T.cov()).cpu()
    # pixels that are the same in all images have none
    data = Gaussian(values[values > 1e-9 * values.max()].sqrt())
    rows: list[dict[str, Any]] = []
    for seed in range(study.config.seeds):
        generator = torch.Generator().manual_seed(stream_seed(seed, "logarithmic"))
        grid = segment(
            data.denoiser(study.schedule),
            lambda n, generator=generator: data.sample(n, generator=generator),  # type: ignore[misc]
            study.schedule,
            study.config.lam,
            nodes=study.config.nodes,
            batch_size=study.config.segment_batch,
            generator=generator,
        )
        rows.append({"quantity": "log_step_spread", "value": spread(grid.times), "method": "gaussian", "seed": seed})
    return rows


def derived(_config: Config, records: pd.DataFrame) -> list[dict[str, Any]]:
    """Per seed, ln Fréchet distance minus that of held-out images, and ADCM's at 25 % of the images minus ECM's."""
    rows = records[(records["quantity"] == "log_frechet") & (records["sampling_steps"] == 1)]
    # held-out images have no seed
    at_seed = [None if seed != seed else int(seed) for seed in rows["seed"]]
    found = dict(zip(zip(rows["method"], rows["share"], at_seed, strict=True), rows["value"], strict=True))
    made: list[dict[str, Any]] = []
    for (method, share, seed), value in found.items():
        at = {"method": method, "seed": seed}
        if method in METHODS and share == 1:
            gap = value - found["held-out", 1.0, None]
            made.append({"quantity": "log_floor_ratio", "value": gap, **at})
        if method in ("adcm-sample", "adcm-wt") and share == 0.25:
            made.append({"quantity": "quarter_against_full", "value": value - found["ecm2", 1.0, seed], **at})
    return made


def overhead(config: Config, records: pd.DataFrame, *, batch_size: int = PAPER_BATCH) -> list[dict[str, Any]]:
    """Measure what the segmentation costs at the paper's cadence, in percent of training: 100 N c_step / (m c_train).

    A step of the segmentation is Eq. 10 on one mini-batch, as Algorithm 1 has it; the peer is the plain training step
    of the same network: target, loss, gradient, ``torch.optim.RAdam`` and moving average. CPU time of the process;
    calls of the parts alternate, so that a drift of the machine's speed hits all alike, and a repeat takes the least of
    eight.

    Parameters
    ----------
    config : Config
        Data, schedule, network and repeats.
    records : DataFrame
        With the ``segments`` of trained models, whose mean is N.
    batch_size : int
        Images of a step.

    Returns
    -------
    list of dict
        ``overhead_paper`` per repeat, and its parts ``estimate_ms`` (by a JVP), ``difference_ms`` (by a finite
        difference) and ``step_ms`` (a training step).
    """
    study = study_of(config)
    segments = float(records.loc[records["quantity"] == "segments", "value"].mean())
    network = study.build()
    network.load_state_dict({name: p[0].cpu() for name, p in study.denoisers.items()})
    network.to(study.images.train[0].device)
    programs = _programs(study, network, batch_size)
    for program in programs.values():
        program()
    rounds = [{part: _milliseconds(program) for part, program in programs.items()} for _ in range(8 * config.timings)]
    rows: list[dict[str, Any]] = []
    for repeat in range(config.timings):
        # the least of rounds that lie far apart: what else the machine does can only add, and comes in bursts
        own = rounds[repeat :: config.timings]
        taken = {part: min(one[part] for one in own) for part in programs}
        value = 100 * segments * taken["estimate_ms"] / (PAPER_PERIOD * taken["step_ms"])
        values = {**taken, "overhead_paper": value}
        rows += [{"quantity": quantity, "seed": repeat, "value": value} for quantity, value in values.items()]
    return rows


def _programs(study: Study, network: nn.Module, batch_size: int) -> dict[str, Callable[[], object]]:
    schedule, generator = study.schedule, torch.Generator().manual_seed(0)
    x0 = study.sample(generator, batch_size)
    z = torch.randn(x0.shape, generator=generator).to(x0.device)
    u = torch.rand(batch_size, generator=generator, dtype=torch.float64)
    t, r = (part.float().to(x0.device) for part in log_grid(schedule, kappa(study.config.lam)).pairs(u, 0))
    c = huber_constant(x0[0].numel())
    trained, average = copy.deepcopy(network), copy.deepcopy(network)
    optimizer = torch.optim.RAdam(trained.parameters(), lr=1e-4)

    def model(network: nn.Module) -> Model:
        return lambda x, t: schedule.denoise(network, x, t)

    def training_step() -> None:
        with torch.no_grad():
            target = model(trained)(schedule.perturb(x0, z, r), r)
        student = model(trained)(schedule.perturb(x0, z, t), t)
        optimizer.zero_grad()
        torch.autograd.backward(adaptive_loss(student, target, x0, c, t=t, r=r).mean())
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(trained.parameters()), 1e-4)

    step = (x0, z, 1.0, schedule)
    return {
        "estimate_ms": lambda: gauss_newton_step(model(network), *step, study.config.lam),
        "difference_ms": lambda: (model(network)(x0, t), tangent_finite_difference(model(network), *step)),
        "step_ms": training_step,
    }


def _milliseconds(program: Callable[[], object]) -> float:
    begin = time.process_time()
    program()
    return 1e3 * (time.process_time() - begin)
