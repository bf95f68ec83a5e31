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
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd
import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from replication import data, evidence
from replication.adcm.discretization import ECM, ICT, log_grid
from replication.adcm.experiments import QUARTER
from replication.adcm.experiments.discretization import spread
from replication.adcm.features import FeatureSpace, classifier_features, memorised_share, nearest_distance
from replication.adcm.gaussian import Gaussian
from replication.adcm.loss import Weight, adaptive_loss, huber_constant
from replication.adcm.metrics import energy_distance, frechet_distance
from replication.adcm.pairs import Rule
from replication.adcm.sampling import sample_one_step, sample_two_step
from replication.adcm.schedules import VE, Model
from replication.adcm.segmentation import Adaptive, gauss_newton_step, kappa, segment, tangent
from replication.adcm.training import ConsistencyTrainer, Replica
from replication.adcm.unet import UNet
from replication.evidence import Part
from replication.training import resolve_device, search, stream_seed, use_deterministic
from replication.training.search import TUNING_SEED, Grid, Seeds

DESIGN = {
    "adcm-wt": {"grid": "adaptive", "weight": "w(t)"},
    "log-wt": {"grid": "log", "weight": "w(t)"},
    "ecm256-wt": {"grid": "ecm256", "weight": "w(t)"},
    "adcm-sample": {"grid": "adaptive", "weight": "per sample"},
    "ecm2": {"grid": "ecm2", "weight": "1/Δt"},
    "ict": {"grid": "ict", "weight": "1/Δt"},
}
"""Grid and weight of every method, as columns of the records: ADCM with w(t), two fine fixed grids under the same
weight, ADCM with Eq. 11's weight as printed, ECM (q = 2, doubling) and iCT."""

Method = Literal["adcm-wt", "log-wt", "ecm256-wt", "adcm-sample", "ecm2", "ict"]
METHODS: tuple[Method, ...] = get_args(Method)
Dataset = Literal["digits", "cifar10"]

PAPER_PERIOD = 25_000
"""The paper's m, training steps between two segmentations."""
PAPER_BATCH = 128
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
COMMON = (
    *("patch", "batch_size", "pretraining_rate", "nodes", "segment_batch", "ema", "feature_width", "feature_steps"),
    *("samples", "shown", "lam", "segmentations", "shares", "replicas", "device"),
)
"""The settings that both data sets share."""
OWN = ("widths", "t_max", "rates", "pretraining_images", "images", "seeds", "methods")
"""Those that each has of its own; CIFAR-10's begin with ``cifar_``. The last two say which parts there are."""


class Config(evidence.Settings):
    """What the images notebook runs; every field is a parameter of the notebook."""

    datasets: list[Dataset] = Field(
        ["digits"], min_length=1, description="digits; cifar10 from $REPLICATION_DATA (standard profile)"
    )
    widths: list[PositiveInt] = Field([16, 16], min_length=1, description="digits: channels of the U-Net's levels")
    t_max: PositiveFloat = Field(10.0, description="largest noise level, about nine times the data's largest deviation")
    methods: list[Method] = Field([*METHODS], min_length=1, description="what is compared")
    seeds: Seeds = Field(2, description="evaluation seeds")
    rates: list[PositiveFloat] = Field([0.005, 0.01], min_length=1, description="learning rates tried for every method")
    pretraining_images: PositiveInt = Field(3200, description="images of the denoiser's training")
    images: PositiveInt = Field(1600, description="images of each consistency training, the budget")
    cifar_side: PositiveInt = Field(16, description="CIFAR-10: pixels of a side, to which images are averaged")
    cifar_limit: int = Field(0, ge=0, description="first images of each split to use; 0 is all")
    cifar_widths: list[PositiveInt] = Field([32, 64, 64], min_length=1, description="and so on as for digits")
    cifar_t_max: PositiveFloat = Field(80.0, description="the paper's")
    cifar_methods: list[Method] = Field(["adcm-wt", "log-wt", "ecm2"], min_length=1, description="what is compared")
    cifar_seeds: Seeds = Field(3, description="evaluation seeds")
    cifar_rates: list[PositiveFloat] = Field([0.0005, 0.001], min_length=1, description="learning rates")
    cifar_pretraining_images: PositiveInt = Field(409600, description="images of the denoiser's training")
    cifar_images: PositiveInt = Field(409600, description="images of each consistency training")
    patch: PositiveInt = Field(2, description="both: side of the patches on which the finest level works, in pixels")
    lam: PositiveFloat = Field(0.01, description="the paper's lambda")
    batch_size: PositiveInt = Field(32, description="images of a step")
    pretraining_rate: PositiveFloat = Field(0.002, description="learning rate of the denoiser's training")
    shares: list[PositiveFloat] = Field([0.25, 0.5, 1.0], description="shares of the budget that are scored")
    segmentations: PositiveInt = Field(2, description="segmentations of a run")
    nodes: int = Field(10, ge=2, description="noise levels at which the step and w(t) are estimated")
    segment_batch: PositiveInt = Field(32, description="images of each estimate, each with two opposite noises")
    ema: float = Field(0.999, ge=0, lt=1, description="decay of the moving average of the weights, after a warm-up")
    samples: int = Field(500, ge=10, description="images drawn for each score")
    feature_width: PositiveInt = Field(8, description="width of the classifier whose features are compared")
    feature_steps: PositiveInt = Field(150, description="its training steps")
    shown: PositiveInt = Field(12, description="images of each method on the page")
    replicas: PositiveInt = Field(6, description="largest population trained at once")
    timings: PositiveInt = Field(3, description="repeats of the cost measurement")
    widenings: int = Field(0, ge=0, le=3, description="times that a grid of rates is widened where its best is an end")
    device: str = Field("auto", description="auto, cpu or cuda")

    @model_validator(mode="after")
    def _whole(self) -> Config:
        if sorted(self.shares) != self.shares or self.shares[-1:] != [1] or QUARTER not in self.shares:
            raise ValueError(f"shares: must ascend to 1 and hold {QUARTER}, got {self.shares}")
        for name in ("images", "cifar_images"):
            budget = getattr(self, name)
            if budget * self.shares[0] < self.batch_size or budget // self.batch_size < self.segmentations:
                raise ValueError(
                    f"{name}: {budget} are too few for {self.segmentations} segmentations at batch_size "
                    f"{self.batch_size}"
                )
        return self

    def part(self, dataset: Dataset, *more: str) -> Config:
        """What a part on one data set reads."""
        own = [name if dataset == "digits" else f"cifar_{name}" for name in OWN[:-2]]
        return self.only(*COMMON, *own, *([] if dataset == "digits" else ["cifar_side", "cifar_limit"]), *more)

    def of(self, dataset: Dataset) -> Config:
        """The same with the settings of one data set in the fields of the digits'."""
        own = OWN if dataset == "cifar10" else ()
        return self.model_copy(update={name: getattr(self, f"cifar_{name}") for name in own})


@dataclass(frozen=True, eq=False)
class Images:
    """Scaled images, float32 (n, C, H, W) with mean 0 and standard deviation 0.5 over all, and their labels."""

    train: tuple[Tensor, Tensor]
    held_out: tuple[Tensor, Tensor]
    mean: float
    scale: float
    name: str

    def pixels(self, samples: Tensor) -> Tensor:
        """Undo the scaling; in [0, 1]."""
        return (samples * self.scale + self.mean).clamp(0, 1)


def load(config: Config, dataset: Dataset) -> Images:
    """Load the images, split them, and scale all pixels by one mean and one deviation, those of the training images.

    500 of the digits are held out, the same for every seed; of CIFAR-10 it is the test split.

    Raises
    ------
    DataNotFound
        If CIFAR-10 is asked for and is not on this machine.
    """
    if dataset == "digits":
        digits = data.digits()
        order = np.random.default_rng(0).permutation(len(digits.labels))
        return prepare(digits.images[order], digits.labels[order], len(order) - 500, digits.name, config.device)
    train, test = data.cifar10(limit=config.cifar_limit or None)
    side = config.cifar_side
    pixels = np.concatenate([data.averaged(part.images, side, name="cifar_side") for part in (train, test)])
    pixels /= np.float32(255)
    labels = np.concatenate([train.labels, test.labels])
    name = f"{train.name} at {config.cifar_side} × {config.cifar_side}"
    return prepare(pixels, labels, len(train.labels), name, config.device)


def prepare(pixels: np.typing.NDArray[Any], labels: np.typing.NDArray[Any], cut: int, name: str, device: str) -> Images:
    """Scale images in [0, 1] and split them at ``cut``."""
    mean, scale = float(pixels[:cut].mean(dtype=np.float64)), 2 * float(pixels[:cut].std(dtype=np.float64))
    x = torch.from_numpy(((pixels - np.float32(mean)) / np.float32(scale)).astype(np.float32)).to(
        resolve_device(device)
    )
    y = torch.from_numpy(labels.astype(np.int64)).to(x.device)
    return Images((x[:cut], y[:cut]), (x[cut:], y[cut:]), mean, scale, name)


class Trial(NamedTuple):
    """One training run."""

    method: Method
    lr: float
    seed: int


class Study:
    """What all trials on one data set share: data, schedule, features, and the pre-trained denoiser of every seed."""

    def __init__(self, config: Config, dataset: Dataset, images: Images) -> None:
        self.config, self.dataset, self.images = config.of(dataset), dataset, images
        self.schedule = VE(sigma_data=0.5, t_max=self.config.t_max)
        self.features: FeatureSpace = classifier_features(
            images.train, images.held_out, data=images.name, width=config.feature_width, steps=config.feature_steps
        )
        self._reference = self.features(images.held_out[0])
        self.held_out_distances = nearest_distance(images.held_out[0], images.train[0])
        self._denoisers: dict[int, ConsistencyTrainer] = {}

    def denoiser(self, seed: int) -> ConsistencyTrainer:
        """A seed's denoiser, from whose averaged weights all methods of the seed start; trained once."""
        if seed not in self._denoisers:
            trainer = self._trainer([Replica(seed, self.config.pretraining_rate)])
            trainer.fit(self.config.pretraining_images)
            self._denoisers[seed] = trainer
        return self._denoisers[seed]

    def build(self) -> UNet:
        """A fresh network."""
        return UNet(self.images.train[0].shape[1], self.config.widths, patch=self.config.patch)

    def sample(self, generator: torch.Generator, n: int) -> Tensor:
        """Draw training images with replacement."""
        index = torch.randint(len(self.images.train[0]), (n,), generator=generator)
        return self.images.train[0][index.to(self.images.train[0].device)]

    def _trainer(
        self, replicas: Sequence[Replica], start: dict[str, Tensor] | None = None, steps: int | None = None
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
            weight_batch=self.config.segment_batch,
            ema=self.config.ema,
            start=start,
            device=self.images.train[0].device,
        )

    def rule(self, method: Method, steps: int) -> tuple[Rule, Weight]:
        """Discretisation and weight of a method in a run of so many steps."""
        config, schedule = self.config, self.schedule
        grids: dict[str, Callable[[], Rule]] = {
            "adaptive": lambda: Adaptive(config.lam, nodes=config.nodes, batch_size=config.segment_batch),
            "log": lambda: log_grid(schedule, kappa(config.lam)),
            "ecm256": lambda: ECM(schedule, q=256.0),
            # ECM doubles every 25k of 100k steps
            "ecm2": lambda: ECM(schedule, q=2.0, doubling_every=-(-steps // 4)),
            "ict": lambda: ICT(steps, schedule),
        }
        weights: dict[str, Weight] = {"w(t)": "w_t", "per sample": "per_sample", "1/Δt": "inverse_step"}
        return grids[DESIGN[method]["grid"]](), weights[DESIGN[method]["weight"]]

    def train(
        self, trials: Sequence[Trial], shares: Sequence[float]
    ) -> Iterator[tuple[Sequence[Trial], float, ConsistencyTrainer]]:
        """Train trials in populations; yield each population at every share of the budget."""
        steps = self.config.images // self.config.batch_size
        for begin in range(0, len(trials), self.config.replicas):
            chunk = trials[begin : begin + self.config.replicas]
            denoisers = [self.denoiser(trial.seed).ema for trial in chunk]
            start = {name: torch.cat([one[name] for one in denoisers]) for name in denoisers[0]}
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
        """Fréchet distance to the held-out images in the classifier's features; infinite for a run that diverged."""
        if not bool(samples.isfinite().all()):
            return math.inf
        return float(frechet_distance(self.features(samples), self._reference))

    def energy(self, samples: Tensor) -> float:
        """Energy distance in pixel space to as many held-out images; infinite for a run that diverged."""
        if not bool(samples.isfinite().all()):
            return math.inf
        return float(energy_distance(samples.flatten(1), self.images.held_out[0][: len(samples)].flatten(1)))


def inputs(config: Config) -> dict[Dataset, str]:
    """Checksums of the data that are here, by name."""
    found: dict[Dataset, str] = {}
    for name in config.datasets:
        with suppress(data.DataNotFound):
            found[name] = data.checksum(name)
    return found


def missing(config: Config) -> dict[str, str]:
    """What the config asks for and is not on this machine, with what brings it."""
    here = inputs(config)
    absent = [name for name in config.datasets if name not in here]
    command = 'python -c "from replication import data; data.download_cifar10()"'
    return dict.fromkeys(absent, f"Not here. To get it: {command}, or set REPLICATION_DATA.")


def parts(config: Config) -> list[Part]:
    """Per data set: one part for the tuning of each method, one for each seed with all methods, and the references.

    A seed is one part, since all its methods start from one denoiser. Rows, all with their ``dataset``: ``frechet``,
    its logarithm ``log_frechet`` and ``energy`` per method, seed, share of the budget and number of sampling steps;
    ``log_floor_ratio`` (``log_frechet`` minus that of training images) and ``quarter_against_full``;
    ``memorised_share`` and ``nearest_distance``; ``tuning_score``, ``chosen_rate`` and ``rate_on_edge``;
    ``relative_step`` (Δt/t over t), ``log_step_spread``, ``segments`` and ``safeguard``; ``pixel`` of the samples for
    the page; costs in milliseconds and ``overhead_paper``, which are volatile.
    """
    use_deterministic()
    made: list[Part] = []
    for dataset in inputs(config):
        own, at = config.of(dataset), {"dataset": dataset}
        settings, tuned = config.part(dataset), {method: f"tuning, {dataset}, {method}" for method in own.methods}
        of = [Part(name, tuning, config.part(dataset, "widenings"), {**at, "method": m}) for m, name in tuned.items()]
        runs = [
            Part(f"{dataset}, seed {seed}", comparison, settings, {**at, "seed": seed}, needs=tuple(tuned.values()))
            for seed in range(own.seeds)  # the methods are those that were tuned
        ]
        more = [Part(f"references, {dataset}", references, settings, at)]
        more.append(Part(f"Gaussian control, {dataset}", control_grids, settings, {**at, "seeds": own.seeds}))
        names = tuple(part.name for part in (*runs, *more))
        made += [*of, *runs, *more, Part(f"derived, {dataset}", derived, config.only(), at, needs=names)]
        if dataset == "digits":
            runs_ = tuple(part.name for part in runs)
            made.append(Part("overhead", overhead, config.part(dataset, "timings"), needs=runs_, alone=True))
    return made


def trained(records: pd.DataFrame) -> list[Dataset]:
    """The data sets that there are rows of."""
    there = set(records["dataset"])
    return [dataset for dataset in get_args(Dataset) if dataset in there]


def scale(config: Config) -> str:
    """Data, networks and seeds in one line, for the top of the page."""
    told = []
    for dataset in config.datasets:
        own = config.of(dataset)
        name = "digits" if dataset == "digits" else f"CIFAR-10 at {config.cifar_side} × {config.cifar_side}"
        told.append(
            f"{name}: a U-Net of widths {own.widths}, {own.images // config.batch_size:,} steps of "
            f"{config.batch_size}, {own.seeds} seeds"
        )
    return f"{'; '.join(told)}; {config.samples:,} samples a score. A longer training would change the answer first."


@cache
def _study(config: str, dataset: Dataset) -> Study:
    """The shared things of a data set under a config (JSON); made once in a process."""
    values = Config.model_construct(**json.loads(config))
    return Study(values, dataset, load(values, dataset))


def study_of(config: Config, dataset: Dataset) -> Study:
    """The shared things of a part; those of parts that differ in nothing that is shared are the same."""
    return _study(config.part(dataset).model_dump_json(), dataset)


def references(config: Config, dataset: Dataset) -> Iterator[dict[str, Any]]:
    """Scores of the denoisers that training starts from, and of training images; pictures of both."""
    study = study_of(config, dataset)
    samples = study.draw(study.denoiser(0).model(), [0])[0]
    train, held_out = study.images.train[0], study.images.held_out[0]
    yield from scores(study, samples, {"method": "denoiser", "seed": 0, "share": 0.0, "sampling_steps": 1})
    yield from shown(study, samples, "denoiser")
    yield from shown(study, held_out, "held-out images")
    yield from scores(study, train[: config.samples], {"method": "training images", "share": 1.0, "sampling_steps": 1})
    yield from closeness(study, held_out, {"method": "held-out images"})


def comparison(config: Config, tuned: pd.DataFrame, dataset: Dataset, seed: int) -> list[dict[str, Any]]:
    """Train every method at its learning rate with one seed, and judge it."""
    study, rows = study_of(config, dataset), list[dict[str, Any]]()
    rates = evidence.rows_of(tuned, "chosen_rate").set_index("method")["value"]
    trials = [Trial(method, float(rates[method]), seed) for method in METHODS if method in rates]
    for chunk, share, trainer in study.train(trials, config.shares):
        for steps in (1, 2) if share == 1 else (1,):
            drawn = study.draw(trainer.model(), [seed for _ in chunk], steps=steps)
            for trial, samples in zip(chunk, drawn, strict=True):
                labels = {"method": trial.method, "seed": seed, **DESIGN[trial.method]}
                rows += scores(study, samples, labels | {"share": share, "sampling_steps": steps})
                if share == 1 and steps == 1:
                    rows += closeness(study, samples, labels)
                    rows += shown(study, samples, trial.method) if seed == 0 else []
        rows += curves(study, chunk, trainer, share)
        if share == 1:
            rows += grids(study, chunk, trainer)
    return rows


def tuning(config: Config, dataset: Dataset, method: Method) -> list[dict[str, Any]]:
    """Choose a method's learning rate on the tuning seed."""
    study = study_of(config, dataset)

    def score(trials: Sequence[Trial]) -> list[list[float]]:
        found: list[float] = []
        for chunk, _, trainer in study.train(trials, [1.0]):
            found += map(study.frechet, study.draw(trainer.model(), [trial.seed for trial in chunk]))
        return [[value] for value in found]

    grid = Grid([Trial(method, lr, TUNING_SEED) for lr in study.config.rates])
    of = search.tune(score, {method: grid}, rate="lr", widen=config.widenings)[method]
    at = {"dataset": dataset, "method": method}
    rows: list[dict[str, Any]] = [
        {"quantity": "tuning_score", "lr": one.lr, "value": value, **at}
        for one, (value,) in zip(of.settings, of.scores.tolist(), strict=True)
    ]
    told = {"chosen_rate": of.best.lr, "rate_on_edge": float(not of.inside)}
    return [*rows, *({"quantity": quantity, "value": value, **at} for quantity, value in told.items())]


def scores(study: Study, samples: Tensor, labels: dict[str, Any]) -> list[dict[str, Any]]:
    """Distances of one set of samples to the held-out images."""
    distance = study.frechet(samples)
    found = {"frechet": distance, "log_frechet": math.log(distance), "energy": study.energy(samples)}
    labels = labels | {"features": study.features.name, "dataset": study.dataset}
    return [{"quantity": quantity, "value": value, **labels} for quantity, value in found.items()]


def closeness(study: Study, samples: Tensor, labels: dict[str, Any]) -> list[dict[str, Any]]:
    """Distances to the nearest training image, and the share that is nearer than held-out images are."""
    labels = labels | {"dataset": study.dataset}
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
    labels = {"quantity": "pixel", "dataset": study.dataset, "method": method}
    axes = ("image", "channel", "row", "column")
    return [
        {**labels, **dict(zip(axes, place, strict=True)), "value": round(float(value), 3)}
        for place, value in np.ndenumerate(pixels)
    ]


def curves(study: Study, chunk: Sequence[Trial], trainer: ConsistencyTrainer, share: float) -> list[dict[str, Any]]:
    """Δt/t against t of every method, as the training of seed 0 stands."""
    if share not in (study.config.shares[0], 1):
        return []
    points = 48
    u = torch.arange(1, 2 * points, 2, dtype=torch.float64) / (2 * points)
    rows = []
    for index, (trial, replica) in enumerate(zip(chunk, trainer.replicas, strict=True)):
        if trial.seed:
            continue
        rule = replica.discretization
        own = trainer.grid(index) if isinstance(rule, Adaptive) else rule
        t, r = own.pairs(u, trainer.step - 1)  # type: ignore[union-attr]
        for time_, step in zip(t.tolist(), ((t - r) / t).tolist(), strict=True):
            labels = {"dataset": study.dataset, "method": trial.method, "share": share}
            rows.append({"quantity": "relative_step", "t": time_, "value": step, **labels})
    return rows


def grids(study: Study, chunk: Sequence[Trial], trainer: ConsistencyTrainer) -> list[dict[str, Any]]:
    """Number of segments, safeguards that acted, and spread of Δt/t on every trained model's adaptive grid."""
    at = [{"dataset": study.dataset, "method": trial.method, "seed": trial.seed} for trial in chunk]
    rows = [row for one in trainer.segmentations for row in one.rows(at[one.replica])]
    for index in sorted({one.replica for one in trainer.segmentations}):
        rows.append({"quantity": "log_step_spread", "value": spread(trainer.grid(index).times), **at[index]})
    return rows


def control_grids(config: Config, dataset: Dataset, seeds: int) -> Iterator[dict[str, Any]]:
    """The same spread where the exact grid is logarithmic: what is left of it is sampling noise.

    The denoiser of Gaussian data has R(t) = t whatever the covariance is. Here it is that of the training images, at
    as many nodes and examples as in training.
    """
    images, schedule = load(config, dataset), VE(sigma_data=0.5, t_max=config.of(dataset).t_max)
    values = torch.linalg.eigvalsh(images.train[0].flatten(1).double().T.cov()).cpu()
    # pixels that are the same in all images have none
    gaussian = Gaussian(values[values > 1e-9 * values.max()].sqrt())
    rule = Adaptive(config.lam, nodes=config.nodes, batch_size=config.segment_batch)
    for seed in range(seeds):
        generator = torch.Generator().manual_seed(stream_seed(seed, "logarithmic"))
        sample = partial(gaussian.sample, generator=generator)
        grid = segment(gaussian.denoiser(schedule), sample, schedule, rule, generator=generator)
        labels = {"dataset": dataset, "method": "gaussian", "seed": seed}
        yield {"quantity": "log_step_spread", "value": spread(grid.times), **labels}


def derived(_config: Config, records: pd.DataFrame, dataset: Dataset) -> list[dict[str, Any]]:
    """Per seed, ln Fréchet distance minus that of training images, and ADCM's at a quarter of the images less ECM's."""
    rows = records[(records["quantity"] == "log_frechet") & (records["sampling_steps"] == 1)]
    # training images have no seed
    at_seed = [None if seed != seed else int(seed) for seed in rows["seed"]]
    found = dict(zip(zip(rows["method"], rows["share"], at_seed, strict=True), rows["value"], strict=True))
    made: list[dict[str, Any]] = []
    for (method, share, seed), value in found.items():
        at = {"dataset": dataset, "method": method, "seed": seed}
        if method in METHODS and share == 1:
            gap = value - found["training images", 1.0, None]
            made.append({"quantity": "log_floor_ratio", "value": gap, **at})
        if method in ("adcm-sample", "adcm-wt") and share == QUARTER and ("ecm2", 1.0, seed) in found:
            made.append({"quantity": "quarter_against_full", "value": value - found["ecm2", 1.0, seed], **at})
    return made


def overhead(config: Config, records: pd.DataFrame) -> list[dict[str, Any]]:
    """Measure what the segmentation costs at the paper's cadence, in percent of training: 100 N c_step / (m c_train).

    A step of the segmentation is Eq. 10 on one mini-batch of the paper's size, as Algorithm 1 has it; the peer is the
    plain training step of the same network: target, loss, gradient, ``torch.optim.RAdam`` and moving average. CPU time
    of the process; calls of the parts alternate, so that a drift of the machine's speed hits all alike, and a repeat
    takes the least of eight.

    Parameters
    ----------
    config : Config
        Data, schedule, network and repeats.
    records : DataFrame
        With the ``segments`` of trained models, whose mean is N.

    Returns
    -------
    list of dict
        ``overhead_paper`` per repeat, and its parts ``estimate_ms`` (by a JVP), ``difference_ms`` (by a finite
        difference) and ``step_ms`` (a training step).
    """
    study = study_of(config, "digits")
    segments = float(records.loc[records["quantity"] == "segments", "value"].mean())
    network = study.build()
    network.load_state_dict({name: p[0].cpu() for name, p in study.denoiser(0).ema.items()})
    network.to(study.images.train[0].device)
    programs = _programs(study, network)
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


def _programs(study: Study, network: nn.Module) -> dict[str, Callable[[], object]]:
    schedule, generator = study.schedule, torch.Generator().manual_seed(0)
    x0 = study.sample(generator, PAPER_BATCH)
    z = torch.randn(x0.shape, generator=generator).to(x0.device)
    u = torch.rand(PAPER_BATCH, generator=generator, dtype=torch.float64)
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
        torch.autograd.backward(adaptive_loss(student, target, x0, c, "per_sample", t=t, r=r).mean())
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(trained.parameters()), 1e-4)

    step = (x0, z, 1.0, schedule)
    return {
        "estimate_ms": lambda: gauss_newton_step(model(network), *step, study.config.lam),
        "difference_ms": lambda: tangent(model(network), x0, z, 1.0, schedule, relative_step=1e-3),
        "step_ms": training_step,
    }


def _milliseconds(program: Callable[[], object]) -> float:
    begin = time.process_time()
    program()
    return 1e3 * (time.process_time() - begin)
