"""Vision: UBA against the usual schedules on images (claims C1 and C3)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from replication import data, evidence
from replication.evidence import Part, rows_of
from replication.training import (
    MLP,
    SGD,
    AdamW,
    Batches,
    Optimizer,
    Population,
    ResNet8,
    matrices_only,
    resolve_device,
    use_deterministic,
)
from replication.training.population import cross_entropy
from replication.training.search import Seeds
from replication.uba.experiments import protocol
from replication.uba.experiments.protocol import Row, Trial
from replication.uba.schedule import UBALR

OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": SGD(momentum=0.9, weight_decay=5e-4, decays=matrices_only),
    "adamw": AdamW(weight_decay=0.1, decays=matrices_only),
}


class Config(evidence.Settings):
    """What the vision notebook runs; every field is a parameter of the notebook."""

    dataset: Literal["digits", "cifar10"] = Field(
        "digits", description="digits (embedded) or cifar10 (from $REPLICATION_DATA)"
    )
    limit: int = Field(0, ge=0, description="first images of each split of CIFAR-10 to use (0 for all)")
    side: int = Field(0, ge=0, description="pixels of a side, to which images are averaged (0 for as they are)")
    validation: PositiveInt = Field(300, description="images held out of training, for tuning")
    label_noise: float = Field(0.2, ge=0, lt=1, description="share of training labels drawn uniformly at random")
    flip: bool = Field(False, description="mirror training images at random")
    shift: int = Field(0, ge=0, description="pixels by which training images are moved at random")
    model: Literal["mlp", "resnet8"] = Field("mlp", description="network")
    hidden: list[PositiveInt] = Field([64], description="hidden layers of the MLP")
    width: PositiveInt = Field(8, description="channels of the first stage of ResNet-8")
    batch_size: PositiveInt = Field(32, description="images of a batch")
    budgets: list[PositiveFloat] = Field([2.0, 4.0, 8.0], min_length=1, description="training budgets in epochs")
    schedules: list[str] = Field(
        [
            "uba 0.5",
            "cosine",
            "uba 5",
            "linear",
            "step",
            "constant",
            "power 0.5",
            "power 2",
            "cosine x3",
            "linear x3",
        ],
        min_length=1,
        description="compared with SGD: schedules, uba and φ, power and exponent; x3: on a grid 3 times as fine",
    )
    replicated: list[str] = Field(
        ["uba 0.5", "cosine", "uba 5", "linear"], description="schedules of the contrasts, which get all seeds"
    )
    seeds: Seeds = Field(
        20, description="evaluation seeds; a seed fixes initial weights, data order and augmentation for all schedules"
    )
    other_seeds: Seeds = Field(20, description="evaluation seeds of the other schedules")
    tuning_seeds: PositiveInt = Field(4, description="seeds of the tuning, apart from the evaluation seeds")
    sgd_peaks: list[PositiveFloat] = Field(
        [0.025, 0.05, 0.1, 0.2], min_length=2, description="peak learning rates for SGD (momentum 0.9, decay 5e-4)"
    )
    widenings: int = Field(3, ge=0, le=3, description="times that a grid of rates is widened where its best is an end")
    mean_rate: bool = Field(True, description="also train UBA with φ of 5 at the mean rate of cosine")
    adamw_budgets: list[PositiveFloat] = Field([4.0], description="budgets with AdamW (decay 0.1)")
    adamw_schedules: list[str] = Field(
        ["uba 0.5", "cosine", "uba 5", "linear", "constant"], description="schedules with AdamW"
    )
    adamw_peaks: list[PositiveFloat] = Field(
        [0.004, 0.008, 0.016, 0.032], min_length=2, description="peak learning rates for AdamW"
    )
    adamw_seeds: Seeds = Field(20, description="evaluation seeds with AdamW")
    block: PositiveInt = Field(20, description="evaluation seeds that are trained in one part")
    device: str = Field("auto", description="auto, cpu or cuda")

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        protocol.check(
            self.schedules,
            {"sgd_peaks": self.sgd_peaks, "adamw_peaks": self.adamw_peaks},
            replicated=self.replicated,
            adamw_schedules=self.adamw_schedules,
        )
        if self.mean_rate and not {"uba 5", "cosine"} <= set(self.schedules):
            raise ValueError("mean_rate: needs 'uba 5' and 'cosine' among the schedules")
        return self


@dataclass(frozen=True)
class Images:
    """Images and labels of the three splits, on the device: bytes for training, standardised floats for scoring."""

    train: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    mean: Tensor
    std: Tensor
    name: str


def load(config: Config) -> Images:
    """Load the images, average and split them, and put noise on the training labels.

    Images are uint8 (N, C, H, W), and float32, standardised per channel by the training split, where they are scored;
    labels are int64 (N,). The split and the noise are the same for every seed.

    Raises
    ------
    DataNotFound
        If CIFAR-10 is asked for and is not on this machine.
    """
    return _load(config.dataset, config.limit, config.side, config.validation, config.label_noise, config.device)


@cache
def _load(dataset: str, limit: int, side: int, validation: int, label_noise: float, device: str) -> Images:
    rng = np.random.default_rng(0)
    if dataset == "digits":
        digits = data.digits()
        order = rng.permutation(len(digits.labels))
        images, labels = (255 * digits.images[order]).round().astype(np.uint8), digits.labels[order]
        name, held_out = digits.name, 497
    else:
        train, test = data.cifar10(limit=limit or None)
        order = rng.permutation(len(train.labels))
        images = np.concatenate([train.images[order], test.images])
        labels = np.concatenate([train.labels[order], test.labels])
        name, held_out = train.name, len(test.labels)
    images = averaged(images, side)
    n = len(labels) - held_out
    if validation >= n:
        raise ValueError(f"validation: {validation} images asked for, but only {n} are not in the test split")
    cut = n - validation
    noisy = labels.copy()
    flip = rng.random(len(labels)) < label_noise
    flip[cut:] = False
    noisy[flip] = rng.integers(0, labels.max() + 1, size=int(flip.sum()))
    channels = images[:cut].astype(np.float32) / np.float32(255)
    mean, std = (
        torch.from_numpy(of).view(-1, 1, 1) for of in (channels.mean(axis=(0, 2, 3)), channels.std(axis=(0, 2, 3)))
    )
    where = resolve_device(device)
    x, y = torch.from_numpy(images), torch.from_numpy(noisy).to(where)
    shown = ((x[cut:].float() / 255 - mean) / std).to(where)
    held = n - cut
    splits = ((x[:cut].to(where), y[:cut]), (shown[:held], y[cut:n]), (shown[held:], y[n:]))
    return Images(*splits, mean, std, name)


def averaged(images: npt.NDArray[Any], side: int) -> npt.NDArray[np.uint8]:
    """Images averaged to a side (:func:`replication.data.averaged`) and rounded to bytes; 0 leaves them as they are."""
    return data.averaged(images, side).round().astype(np.uint8) if side else images


def inputs(config: Config) -> dict[str, str]:
    """Checksums of the data, by name."""
    return {config.dataset: data.checksum(config.dataset)}


def counted(config: Config) -> Iterator[Row]:
    """Images of each split, and pixels of a side."""
    images = load(config)
    for split in ("train", "validation", "test"):
        yield {"quantity": "images", "split": split, "dataset": images.name, "value": len(getattr(images, split)[1])}
    yield {"quantity": "side", "value": images.train[0].shape[-1]}


def scale(config: Config, records: pd.DataFrame) -> str:
    """Data, network and seeds of a run in one line, and what would change its answer."""
    images = rows_of(records, "images").set_index("split")
    training, test = (int(images["value"][split]) for split in ("train", "test"))
    side = int(rows_of(records, "side")["value"].item())
    network = (
        f"ResNet-8 of width {config.width}" if config.model == "resnet8" else f"an MLP with layers {config.hidden}"
    )
    noise = f", {config.label_noise:.0%} label noise" if config.label_noise else ""
    adamw = f"; AdamW with {config.adamw_seeds} seeds" if config.adamw_budgets else ""
    return (
        f"{images['dataset']['train']} at {side} × {side} pixels, {training:,} training and {test:,} test images, one "
        f"split{noise}; {network}, SGD, {' / '.join(f'{budget:g}' for budget in config.budgets)} epochs, "
        f"{config.seeds} seeds ({config.other_seeds} for schedules outside the contrasts){adamw}; "
        f"{config.tuning_seeds} tuning seeds. "
        "A larger network, longer training or another split could change the answer."
    )


def _builder(config: Config, images: Images) -> Callable[[], nn.Module]:
    _, channels, height, width = images.train[0].shape
    if config.model == "mlp":
        sizes = [channels * height * width, *config.hidden, 10]
        return lambda: MLP(sizes)
    return lambda: ResNet8(channels, 10, width=config.width)


def train(config: Config, optimizer: str, budget: float, trials: Sequence[Trial]) -> npt.NDArray[np.float64]:
    """Train trials for a number of epochs; their errors on the validation and the test split, in percent."""
    images = load(config)
    seeds = [trial.seed for trial in trials]
    steps = max(2, round(budget * (len(images.train[1]) // config.batch_size)))
    population = Population(_builder(config, images), seeds, OPTIMIZERS[optimizer], images.train[0].device)
    batches = Batches(
        *images.train,
        seeds,
        config.batch_size,
        steps,
        flip=config.flip,
        shift=config.shift,
        mean=images.mean,
        std=images.std,
    )
    population.fit(batches, torch.from_numpy(np.stack([trial.rates(steps) for trial in trials], axis=1)))
    errors = [100 * population.evaluate(*part).error.double() for part in (images.validation, images.test)]
    return torch.stack(errors, dim=1).cpu().numpy()


def parts(config: Config) -> list[Part]:
    """Per optimiser, budget and schedule a tuning and blocks of evaluation seeds; one part for the scheduler's cost.

    Their rows: ``test_error`` (percent) per optimizer, budget, schedule and seed, and what else the functions of
    `protocol` give; ``overhead_percent``, which depends on the machine.
    """
    use_deterministic()
    material = ("dataset", "limit", "side", "validation", "label_noise", "device")
    network = (*material, "model", "hidden" if config.model == "mlp" else "width", "batch_size")
    functions = protocol.Functions(tuning, evaluation, choice)
    made = [Part("images", counted, config.only(*material))]
    plain = {name: config.seeds if name in config.replicated else config.other_seeds for name in config.schedules}
    runs = [("sgd", budget, plain) for budget in config.budgets]
    runs += [
        ("adamw", budget, dict.fromkeys(config.adamw_schedules, config.adamw_seeds)) for budget in config.adamw_budgets
    ]
    # the longest first, so that the workers end together
    for optimizer, budget, seeds in sorted(runs, key=lambda run: -run[1]):
        made += protocol.cell_parts(
            functions,
            tuning=config.only(*network, "flip", "shift", "tuning_seeds", "widenings", f"{optimizer}_peaks"),
            training=config.only(*network, "flip", "shift"),
            at={"optimizer": optimizer, "budget": budget},
            seeds=seeds,
            block=config.block,
            mean_rate="uba 5" if config.mean_rate and optimizer == "sgd" else "",
        )
    return [*made, Part("overhead", overhead, config.only(*network), alone=True)]


def tuning(config: Config, optimizer: str, budget: float, schedule: str) -> list[Row]:
    """Tune the peak of one schedule."""
    rows = protocol.tuned(
        partial(train, config, optimizer, budget),
        schedule,
        peaks=getattr(config, f"{optimizer}_peaks"),
        seeds=config.tuning_seeds,
        widen=config.widenings,
        quantity="test_error",
    )
    return protocol.labelled(rows, model=config.model, optimizer=optimizer, budget=budget)


def evaluation(
    config: Config, tuned: pd.DataFrame, optimizer: str, budget: float, schedule: str, label: str, seeds: list[int]
) -> list[Row]:
    """Train one schedule at its tuned peak with some seeds."""
    run = partial(train, config, optimizer, budget)
    rows = protocol.evaluated(run, tuned, schedule, label=label, seeds=seeds, quantity="test_error")
    return protocol.labelled(rows, model=config.model, optimizer=optimizer, budget=budget)


def choice(config: Config, rows: pd.DataFrame, optimizer: str, budget: float) -> list[Row]:
    """What validation chooses in one cell, and every schedule's regret."""
    del config
    made = protocol.chosen(rows, quantity="test_error")
    return protocol.labelled(made, model=str(rows["model"].iloc[0]), optimizer=optimizer, budget=budget)


def overhead(config: Config, *, repeats: int = 20, steps: int = 50) -> list[Row]:
    """Measure what a UBA step costs more than a cosine step, in percent of one training step.

    The training step is one network's, alone, through ``torch.optim``. Blocks alternate, so that a drift of the
    machine's speed hits both schedulers alike.
    """
    images = load(config)
    x, y = (part[: config.batch_size] for part in images.test)
    network = _builder(config, images)().to(x.device)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    # each schedule on an optimiser of its own: on a shared one each would find the other's rate and make up for it
    peers = [torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.01) for _ in range(2)]
    total = repeats * steps
    uba = UBALR(peers[0], total, phi=5.0)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(peers[1], total)
    for peer in peers:
        peer.step()  # torch warns if a scheduler moves first

    def training_step() -> None:
        optimizer.zero_grad()
        torch.autograd.backward(cross_entropy(network(x), y))
        optimizer.step()

    def seconds(step: Callable[[], None]) -> float:
        begin = time.perf_counter()
        for _ in range(steps):
            step()
        return (time.perf_counter() - begin) / steps

    rows = []
    for repeat in range(repeats):
        train_time, uba_time, cosine_time = seconds(training_step), seconds(uba.step), seconds(cosine.step)
        value = 100 * (uba_time - cosine_time) / train_time
        rows.append({"quantity": "overhead_percent", "seed": repeat, "value": value})
    return rows
