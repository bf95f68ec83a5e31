"""Language: UBA against the usual schedules on a byte-level transformer, AdamW (claims C2 and C3).

The paper trains OLMo. A byte-level transformer of at most a few hundred thousand parameters on the text of the
installed packages is a stand-in for it, and is called that wherever a number of it is shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from replication import data, evidence
from replication.evidence import Part, rows_of
from replication.training import (
    AdamW,
    Batches,
    ByteTransformer,
    Population,
    matrices_only,
    resolve_device,
    use_deterministic,
)
from replication.training.search import Seeds
from replication.uba.experiments import protocol
from replication.uba.experiments.protocol import Row, Trial

NATS_PER_BIT = float(np.log(2))
IGNORANT = 8.0
"""Bits per byte of a model that knows nothing; a diverged run counts as that, and never wins a tuning."""
LABELS = {"model": "transformer", "optimizer": "adamw"}


class Config(evidence.Settings):
    """What the language notebook runs; every field is a parameter of the notebook."""

    text: str = Field(
        "", description="folder or .jsonl(.gz) file with text of your own (empty for the embedded corpus)"
    )
    width: PositiveInt = Field(32, description="model width")
    layers: PositiveInt = Field(1, description="layers")
    heads: PositiveInt = Field(2, description="attention heads")
    context: PositiveInt = Field(16, description="bytes of a training window")
    batch_size: PositiveInt = Field(32, description="windows of a batch")
    budgets: list[PositiveInt] = Field([300], min_length=1, description="training budgets in steps")
    warmup: float = Field(0.05, ge=0, lt=0.5, description="share of the steps in which every schedule warms up")
    held_out_bytes: PositiveInt = Field(
        32768, description="at least so many bytes of the validation and of the test split, each"
    )
    schedules: list[str] = Field(
        ["uba 0.5", "cosine", "linear", "constant"],
        min_length=1,
        description="what is compared: schedules, and uba with its φ",
    )
    replicated: list[str] = Field(
        ["uba 0.5", "cosine", "linear"], description="schedules of the contrasts, which get all seeds"
    )
    seeds: Seeds = Field(5, description="evaluation seeds; a seed fixes weights and data order for all schedules")
    other_seeds: Seeds = Field(5, description="evaluation seeds of the other schedules")
    tuning_seeds: PositiveInt = Field(2, description="seeds of the tuning, apart from the evaluation seeds")
    peaks: list[PositiveFloat] = Field([0.005, 0.01], min_length=2, description="peak learning rates")
    widenings: int = Field(3, ge=0, le=3, description="times that a grid of rates is widened where its best is an end")
    clip_norm: PositiveFloat = Field(1.0, description="largest gradient norm")
    block: PositiveInt = Field(5, description="evaluation seeds that are trained in one part")
    device: str = Field("auto", description="auto, cpu or cuda")

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        protocol.check(self.schedules, {"peaks": self.peaks}, replicated=self.replicated)
        if short := [budget for budget in self.budgets if budget - round(self.warmup * budget) < 2]:
            raise ValueError(f"budgets: must leave two steps after warm-up, got {short[0]}")
        if self.held_out_bytes < 2 * self.context:
            raise ValueError(f"held_out_bytes: must hold two windows, got {self.held_out_bytes}")
        return self


@dataclass(frozen=True)
class Text:
    """The three splits as windows of ``context`` + 1 bytes, on the device: uint8 for training, int64 for scoring."""

    train: Tensor
    validation: Tensor
    test: Tensor
    checksum: str
    documents: tuple[int, int, int]
    """Documents of each split."""


def load(config: Config) -> Text:
    """Cut the corpus into windows and hold documents of every domain out of training, twice.

    Each domain gives its share of the held-out bytes, one document at least. Whole documents go to one split, so that
    no held-out window continues a training window.

    Raises
    ------
    ValueError
        If a domain has too few documents for the three splits.
    """
    # by its checksum: a text that is edited while a kernel lives is another one
    checksum = data.text_checksum(config.text)
    return _load(config.text, checksum, config.context, config.held_out_bytes, config.device)


@cache
def _load(source: str, _checksum: str, context: int, held_out_bytes: int, where: str) -> Text:
    corpus = data.read_text(source)
    size = context + 1
    domains = corpus.documents["domain"].to_numpy()
    encoded = [np.frombuffer(text.encode(), np.uint8) for text in corpus.documents["text"]]
    cut = [part[: len(part) // size * size].reshape(-1, size) for part in encoded]
    share = held_out_bytes / sum(windows.size for windows in cut)
    rng = np.random.default_rng(0)
    splits: tuple[list[npt.NDArray[np.uint8]], ...] = ([], [], [])
    for domain in corpus.domains:
        of = [cut[i] for i in rng.permutation(np.flatnonzero(domains == domain)) if len(cut[i])]
        ends = np.cumsum([windows.size for windows in of])
        wanted = share * (ends[-1] if of else 0)
        first = int(np.searchsorted(ends, wanted)) + 1
        second = max(first, int(np.searchsorted(ends, 2 * wanted))) + 1
        if second >= len(of):
            raise ValueError(
                f"text: the {len(of)} documents of {domain!r} are too few for two held-out splits of {held_out_bytes} "
                "bytes in all; give more text or lower held_out_bytes"
            )
        for split, part in zip(splits, (of[second:], of[:first], of[first:second]), strict=True):
            split.extend(part)
    device = resolve_device(where)
    train, validation, test = (torch.from_numpy(np.concatenate(split)).to(device) for split in splits)
    counts = (len(splits[0]), len(splits[1]), len(splits[2]))
    return Text(train, validation.long(), test.long(), corpus.checksum, counts)


def inputs(config: Config) -> dict[str, str]:
    """Checksums of the data, by name."""
    return {"text": data.text_checksum(config.text)}


def scale(config: Config, records: pd.DataFrame) -> str:
    """Data, network and seeds of a run in one line, and what would change its answer."""
    text, documents = (rows_of(records, name).set_index("split")["value"] for name in ("bytes", "documents"))
    seen = max(config.budgets) * config.batch_size * config.context
    return (
        f"{text['train'] / 1e6:.2g} MB of text, of which the network sees up to {seen / 1e6:.2g} MB; "
        f"{text['test'] / 1e3:.0f} kB of {documents['test']:g} documents in test, one split; a byte-level transformer "
        f"({config.layers} × width {config.width}) with AdamW, {' / '.join(map(str, config.budgets))} steps, "
        f"{config.seeds} seeds ({config.other_seeds} for schedules outside the contrasts), "
        f"{config.tuning_seeds} tuning seeds. "
        "Longer training, a larger network or another text could change the answer."
    )


def table_bits(text: Text) -> dict[str, float]:
    """Bits per byte of two tables counted on all training windows, at the bytes that the network is tested on.

    A network that has learned less than a bigram table cannot tell schedules apart.
    """
    return data.table_bits(text.train.cpu().numpy().astype(np.int64), text.test.cpu().numpy())


def train(config: Config, budget: int, trials: Sequence[Trial]) -> npt.NDArray[np.float64]:
    """Train trials for a number of steps; their losses on the validation and the test split, in bits per byte."""
    text = load(config)
    seeds = [trial.seed for trial in trials]
    population = Population(
        lambda: ByteTransformer(config.width, config.layers, config.heads, config.context),
        seeds,
        AdamW(betas=(0.9, 0.95), weight_decay=0.1, decays=matrices_only),
        text.train.device,
        clip_norm=config.clip_norm,
    )
    rates = np.stack([trial.rates(budget, round(config.warmup * budget)) for trial in trials], axis=1)
    population.fit(Batches(text.train, None, seeds, config.batch_size, budget), torch.from_numpy(rates))
    losses = [
        population.evaluate(part[:, :-1], part[:, 1:], batch_size=128).loss for part in (text.validation, text.test)
    ]
    bits = torch.stack(losses, dim=1).double() / NATS_PER_BIT
    return bits.nan_to_num(IGNORANT).clamp(max=IGNORANT).cpu().numpy()


def parts(config: Config) -> list[Part]:
    """Per budget and schedule a tuning and blocks of evaluation seeds, and one part for the text and the tables.

    Their rows: ``test_bits_per_byte`` per budget, schedule and seed, and what else the functions of `protocol` give;
    ``bits_over_bigram`` and ``bits_over_unigram`` per budget and seed, and ``table_bits_per_byte``.
    """
    use_deterministic()
    material = ("text", "context", "held_out_bytes", "device")
    network = (*material, "width", "layers", "heads", "batch_size", "clip_norm", "warmup")
    made = [Part("text", counted, config.only(*material))]
    # the longest first, so that the workers end together
    for budget in sorted(config.budgets, reverse=True):
        made += protocol.cell_parts(
            protocol.Functions(tuning, evaluation, choice),
            tuning=config.only(*network, "peaks", "tuning_seeds", "widenings"),
            training=config.only(*network),
            at={"budget": budget},
            seeds={
                name: config.seeds if name in config.replicated else config.other_seeds for name in config.schedules
            },
            block=config.block,
        )
        # the tables are those of the text
        made[-1] = replace(made[-1], needs=("text", *made[-1].needs))
    return made


def counted(config: Config) -> Iterator[Row]:
    """Bytes and documents of each split, and bits per byte of the tables that a network must beat."""
    text = load(config)
    for split, documents in zip(("train", "validation", "test"), text.documents, strict=True):
        yield {"quantity": "bytes", "split": split, "value": getattr(text, split).numel()}
        yield {"quantity": "documents", "split": split, "value": documents}
    for name, bits in table_bits(text).items():
        yield {"quantity": "table_bits_per_byte", "schedule": name, "value": bits}


def tuning(config: Config, budget: int, schedule: str) -> list[Row]:
    """Tune the peak of one schedule."""
    rows = protocol.tuned(
        partial(train, config, budget),
        schedule,
        peaks=config.peaks,
        seeds=config.tuning_seeds,
        widen=config.widenings,
        quantity="test_bits_per_byte",
    )
    return protocol.labelled(rows, **LABELS, budget=budget)


def evaluation(
    config: Config, tuned: pd.DataFrame, budget: int, schedule: str, label: str, seeds: list[int]
) -> list[Row]:
    """Train one schedule at its tuned peak with some seeds."""
    run = partial(train, config, budget)
    rows = protocol.evaluated(run, tuned, schedule, label=label, seeds=seeds, quantity="test_bits_per_byte")
    return protocol.labelled(rows, **LABELS, budget=budget)


def choice(config: Config, rows: pd.DataFrame, budget: int) -> list[Row]:
    """What validation chooses at one budget, every schedule's regret, and what the best needs more than each table.

    Below 0 it needs less. The best is the schedule that validation chooses.
    """
    del config
    made = protocol.chosen(rows, quantity="test_bits_per_byte")
    tables = rows_of(rows, "table_bits_per_byte").set_index("schedule")["value"]
    best = [row for row in made if row["schedule"] == protocol.BEST_SHAPE]
    over = [
        {**row, "quantity": f"bits_over_{name}", "value": row["value"] - bits}
        for name, bits in tables.items()
        for row in best
    ]
    return protocol.labelled([*made, *over], **LABELS, budget=budget)
