"""Vision: UBA against the usual schedules on images (claims C1 and C3)."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

import numpy as np
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
    Optimizer,
    ResNet8,
    matrices_only,
    resolve_device,
    use_deterministic,
)
from replication.training.population import cross_entropy
from replication.uba.experiments import protocol
from replication.uba.experiments.protocol import Trial, compare
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
    validation: PositiveInt = Field(300, description="images held out of training, for tuning")
    label_noise: float = Field(0.2, ge=0, lt=1, description="share of training labels drawn uniformly at random")
    models: list[Literal["mlp", "resnet8"]] = Field(["mlp", "resnet8"], min_length=1, description="networks")
    budgets: list[float] = Field([0.25, 0.5, 1.0], min_length=1, description="shares of the full number of steps")
    phis: list[PositiveFloat] = Field(
        [0.25, 0.5, 1.0, 2.0, 5.0, 10.0], min_length=1, description="grid of UBA's parameter"
    )
    phi_sgd: PositiveFloat = Field(5.0, description="the φ fixed beforehand for SGD")
    phi_adamw: PositiveFloat = Field(0.5, description="the φ fixed beforehand for AdamW")
    mlp_optimizers: list[Literal["sgd", "adamw"]] = Field(
        ["sgd", "adamw"], min_length=1, description="sgd with momentum 0.9 and weight decay 5e-4, adamw with 0.1"
    )
    mlp_seeds: PositiveInt = Field(
        25, description="evaluation seeds; a seed fixes initial weights and data order for all schedules"
    )
    mlp_hidden: list[PositiveInt] = Field([64], description="hidden layers of the MLP")
    mlp_batch_size: PositiveInt = Field(32, description="images of a batch")
    mlp_steps: PositiveInt = Field(240, description="steps of the full budget")
    mlp_tuning_seeds: PositiveInt = Field(2, description="seeds of the tuning runs, apart from the evaluation seeds")
    mlp_equal_trials: bool = Field(
        True, description="also tune every baseline with as many trials as UBA's φ × peak grid"
    )
    mlp_peaks_sgd: list[PositiveFloat] = Field(
        [0.0125, 0.025, 0.05, 0.1, 0.2, 0.4], min_length=1, description="peak learning rates"
    )
    mlp_peaks_adamw: list[PositiveFloat] = Field(
        [0.001, 0.002, 0.004, 0.008, 0.016, 0.032], min_length=1, description="peak learning rates"
    )
    resnet8_optimizers: list[Literal["sgd", "adamw"]] = Field(["sgd"], min_length=1, description="as for the MLP")
    resnet8_seeds: PositiveInt = Field(10, description="evaluation seeds")
    resnet8_width: PositiveInt = Field(4, description="channels of the first stage")
    resnet8_batch_size: PositiveInt = Field(16, description="images of a batch")
    resnet8_steps: PositiveInt = Field(180, description="steps of the full budget")
    resnet8_tuning_seeds: PositiveInt = Field(
        2, description="seeds of the tuning runs, apart from the evaluation seeds"
    )
    resnet8_equal_trials: bool = Field(
        False, description="also tune every baseline with as many trials as UBA's φ × peak grid"
    )
    resnet8_peaks_sgd: list[PositiveFloat] = Field(
        [0.0125, 0.04, 0.125], min_length=1, description="peak learning rates"
    )
    resnet8_peaks_adamw: list[PositiveFloat] = Field(
        [0.0015, 0.005, 0.015], min_length=1, description="peak learning rates"
    )
    mlp_replicas: PositiveInt = Field(256, description="largest population trained at once")
    resnet8_replicas: PositiveInt = Field(64, description="largest population trained at once")
    widenings: int = Field(0, ge=0, le=3, description="times that a grid of rates is widened where its best is an end")
    device: str = Field("auto", description="auto, cpu or cuda")

    @model_validator(mode="after")
    def _fixed_phi_in_grid(self) -> Config:
        for name in ("phi_sgd", "phi_adamw"):
            if getattr(self, name) not in self.phis:
                raise ValueError(f"{name}: {getattr(self, name)} must be one of phis {self.phis}")
        if not all(0 < budget <= 1 for budget in self.budgets):
            raise ValueError(f"budgets: must lie in (0, 1], got {self.budgets}")
        return self


@dataclass(frozen=True)
class Images:
    """Images and labels of the three splits, on the device."""

    train: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    name: str
    checksum: str


def load(config: Config) -> Images:
    """Load the images, split them and put noise on the training labels.

    Images are float32 (N, C, H, W), standardised per channel by the training split; labels int64 (N,). The split and
    the noise are the same for every seed: seeds change weights and data order only.

    Raises
    ------
    DataNotFound
        If CIFAR-10 is asked for and is not on this machine.
    """
    return _load(config.dataset, config.limit, config.validation, config.label_noise, config.device)


@cache
def _load(dataset: str, limit: int, validation: int, label_noise: float, device: str) -> Images:
    rng = np.random.default_rng(0)
    if dataset == "digits":
        digits = data.digits()
        order = rng.permutation(len(digits.labels))
        images, labels, name, checksum = digits.images[order], digits.labels[order], digits.name, digits.checksum
        held_out = 497
    else:
        train, test = data.cifar10(limit=limit or None)
        order = rng.permutation(len(train.labels))
        images = np.concatenate([train.images[order], test.images]).astype(np.float32) / np.float32(255)
        labels = np.concatenate([train.labels[order], test.labels])
        name, checksum, held_out = train.name, train.checksum, len(test.labels)
    n = len(labels) - held_out
    if validation >= n:
        raise ValueError(f"validation: {validation} images asked for, but only {n} are not in the test split")
    cut = n - validation
    noisy = labels.copy()
    flip = rng.random(len(labels)) < label_noise
    flip[cut:] = False
    noisy[flip] = rng.integers(0, labels.max() + 1, size=int(flip.sum()))
    mean = images[:cut].mean(axis=(0, 2, 3), keepdims=True)
    std = images[:cut].std(axis=(0, 2, 3), keepdims=True)
    x = torch.from_numpy((images - mean) / std).to(resolve_device(device))
    y = torch.from_numpy(noisy).to(x.device)
    return Images((x[:cut], y[:cut]), (x[cut:n], y[cut:n]), (x[n:], y[n:]), name, checksum)


def inputs(config: Config) -> dict[str, str]:
    """Checksums of the data, by name."""
    return {config.dataset: data.checksum(config.dataset)}


def counted(config: Config) -> Iterator[dict[str, Any]]:
    """Images of each split."""
    images = load(config)
    for split in ("train", "validation", "test"):
        yield {"quantity": "images", "split": split, "dataset": images.name, "value": len(getattr(images, split)[1])}


def scale(config: Config, records: pd.DataFrame) -> str:
    """Data, networks and seeds of a run in one line, and what would change its answer."""
    images = rows_of(records, "images").set_index("split")
    training, test = (int(images["value"][split]) for split in ("train", "test"))

    def network(name: str) -> str:
        optimizers, seeds, steps, batch = (
            getattr(config, f"{name}_{of}") for of in ("optimizers", "seeds", "steps", "batch_size")
        )
        return f"{name} with {' and '.join(optimizers)}, {seeds} seeds, up to {steps * batch / training:.2g} epochs"

    return (
        f"{images['dataset']['train']}, {training:,} training and {test:,} test images, one split, "
        f"{config.label_noise:.0%} label noise. "
        f"{'; '.join(map(network, config.models))}; {len(config.budgets)} budgets. "
        "A larger network, longer training, a finer tuning of the peaks or another split could change the answer."
    )


def _builder(config: Config, model: str, images: Images) -> Callable[[], nn.Module]:
    _, channels, height, width = images.train[0].shape
    if model == "mlp":
        sizes = [channels * height * width, *config.mlp_hidden, 10]
        return lambda: MLP(sizes)
    return lambda: ResNet8(channels, 10, width=config.resnet8_width)


def train(
    config: Config,
    images: Images,
    model: str,
    optimizer: str,
    trials: Sequence[Trial],
    steps: int,
    split: protocol.Split,
) -> list[float]:
    """Train trials as populations and return their errors on one split, in percent."""
    x, y = images.train
    trained = protocol.populations(
        trials,
        steps,
        build=_builder(config, model, images),
        optimizer=OPTIMIZERS[optimizer],
        batch=lambda index: (x[index], y[index]),
        examples=len(x),
        batch_size=getattr(config, f"{model}_batch_size"),
        replicas=getattr(config, f"{model}_replicas"),
        device=x.device,
    )
    part = getattr(images, split)
    return [error for population in trained for error in (100 * population.evaluate(*part).error).tolist()]


def parts(config: Config) -> list[Part]:
    """One part for each network, optimiser and budget, and one for the cost of a scheduler's step.

    Their rows: ``test_error`` (percent) per model, optimizer, budget, view, schedule and seed, and what else
    ``protocol.compare`` gives; ``overhead_percent``, which depends on the machine.
    """
    use_deterministic()
    material = ("dataset", "limit", "validation", "label_noise", "device")
    made = [Part("images", counted, config.only(*material))]
    for model in config.models:
        own = [name for name in Config.model_fields if name.startswith(f"{model}_") and "_peaks_" not in name]
        for optimizer, budget in itertools.product(getattr(config, f"{model}_optimizers"), config.budgets):
            settings = config.only(
                *material, *own, "phis", "widenings", f"phi_{optimizer}", f"{model}_peaks_{optimizer}"
            )
            at = {"model": model, "optimizer": optimizer, "budget": budget}
            made.append(Part(f"{model}, {optimizer}, {budget:g}", comparison, settings, at))
    first = config.models[0]
    sizes = [name for name in ("mlp_hidden", "resnet8_width") if name.startswith(first)]
    settings = config.only(*material, *sizes, f"{first}_batch_size")
    return [*made, Part("overhead", overhead, settings, {"model": first}, alone=True)]


def comparison(config: Config, model: str, optimizer: str, budget: float) -> list[dict[str, Any]]:
    """Compare the schedules with one network, optimiser and budget."""
    images = load(config)
    return compare(
        partial(train, config, images, model, optimizer),
        steps=max(2, round(budget * getattr(config, f"{model}_steps"))),
        peaks=getattr(config, f"{model}_peaks_{optimizer}"),
        phis=config.phis,
        fixed_phi=getattr(config, f"phi_{optimizer}"),
        seeds=range(getattr(config, f"{model}_seeds")),
        tuning_seeds=range(1000, 1000 + getattr(config, f"{model}_tuning_seeds")),
        equal_trials=getattr(config, f"{model}_equal_trials"),
        widen=config.widenings,
        mean_rate_control=True,
        quantity="test_error",
        labels={
            "dataset": images.name,
            "model": model,
            "optimizer": optimizer,
            "budget": budget,
            "budget_log2": math.log2(budget),
        },
    )


def overhead(config: Config, model: str, *, repeats: int = 20, steps: int = 50) -> list[dict[str, Any]]:
    """Measure what a UBA step costs more than a cosine step, in percent of one training step.

    The training step is one network's, alone, through ``torch.optim``. Blocks alternate, so that a drift of the
    machine's speed hits both schedulers alike.
    """
    images = load(config)
    x, y = (part[: getattr(config, f"{model}_batch_size")] for part in images.train)
    network = _builder(config, model, images)().to(x.device)
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
