"""Language: UBA against the usual schedules on a byte-level transformer, AdamW (claims C2 and C3).

The paper trains OLMo. A byte-level transformer of at most a few hundred thousand parameters on the text of the
installed packages is a stand-in for it, and is called that wherever a number of it is shown.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from replication import data, evidence
from replication.evidence import Part, rows_of
from replication.training import (
    AdamW,
    ByteTransformer,
    matrices_only,
    resolve_device,
    use_deterministic,
)
from replication.uba.experiments import protocol
from replication.uba.experiments.protocol import Trial, compare

NATS_PER_BIT = float(np.log(2))


class Config(evidence.Settings):
    """What the language notebook runs; every field is a parameter of the notebook."""

    text: str = Field(
        "", description="folder or .jsonl(.gz) file with text of your own (empty for the embedded corpus)"
    )
    width: PositiveInt = Field(32, description="model width")
    layers: PositiveInt = Field(1, description="layers")
    heads: PositiveInt = Field(2, description="attention heads")
    context: PositiveInt = Field(32, description="bytes of a training window")
    batch_size: PositiveInt = Field(16, description="windows of a batch")
    steps: PositiveInt = Field(100, description="steps of the full budget")
    budgets: list[float] = Field([0.25, 0.5, 1.0], min_length=1, description="shares of the full number of steps")
    held_out_bytes: PositiveInt = Field(8192, description="bytes of the validation and of the test split, each")
    seeds: PositiveInt = Field(
        10, description="evaluation seeds; a seed fixes initial weights and data order for all schedules"
    )
    tuning_seeds: PositiveInt = Field(1, description="seeds of the tuning runs, apart from the evaluation seeds")
    phis: list[PositiveFloat] = Field([0.5, 2.0, 5.0], min_length=1, description="grid of UBA's parameter")
    phi: PositiveFloat = Field(0.5, description="the φ fixed beforehand")
    peaks: list[PositiveFloat] = Field([0.003, 0.01, 0.03], min_length=1, description="peak learning rates")
    equal_trials: bool = Field(False, description="also tune every baseline with as many trials as UBA's φ × peak grid")
    clip_norm: PositiveFloat = Field(1.0, description="largest gradient norm")
    replicas: PositiveInt = Field(32, description="largest population trained at once")
    widenings: int = Field(0, ge=0, le=3, description="times that a grid of rates is widened where its best is an end")
    device: str = Field("auto", description="auto, cpu or cuda")

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if self.phi not in self.phis:
            raise ValueError(f"phi: {self.phi} must be one of phis {self.phis}")
        if not all(0 < budget <= 1 for budget in self.budgets):
            raise ValueError(f"budgets: must lie in (0, 1], got {self.budgets}")
        if self.held_out_bytes < 2 * self.context:
            raise ValueError(f"held_out_bytes: must hold two windows, got {self.held_out_bytes}")
        return self


@dataclass(frozen=True)
class Text:
    """The three splits as windows of ``context`` + 1 bytes, int64 (N, context + 1), on the device."""

    train: Tensor
    validation: Tensor
    test: Tensor
    checksum: str


def load(config: Config) -> Text:
    """Cut the corpus into windows and hold two random sets of documents' windows out of training.

    Whole documents go to one split, so that no held-out window continues a training window.

    Raises
    ------
    ValueError
        If the text is too short for the three splits.
    """
    return _load(config.text, config.context, config.held_out_bytes, config.device)


@cache
def _load(source: str, context: int, held_out_bytes: int, where: str) -> Text:
    if not source:
        corpus = data.text_corpus()
    elif source.endswith((".jsonl", ".jsonl.gz")):
        corpus = data.text_jsonl(source)
    else:
        corpus = data.text_folder(source)
    size = context + 1
    parts = [np.frombuffer(text.encode(), np.uint8) for text in corpus.documents["text"]]
    order = np.random.default_rng(0).permutation(len(parts))
    windows = [part[: len(part) // size * size].reshape(-1, size) for part in (parts[i] for i in order)]
    cumulative = np.cumsum([window.size for window in windows])
    first, second = np.searchsorted(cumulative, [held_out_bytes, 2 * held_out_bytes]) + 1
    if second >= len(windows):
        raise ValueError(
            f"text: {int(cumulative[-1])} bytes are too few for two held-out splits of {held_out_bytes} bytes; "
            "give more text or lower held_out_bytes"
        )
    device = resolve_device(where)
    splits = (windows[second:], windows[:first], windows[first:second])
    train, validation, test = (torch.from_numpy(np.concatenate(w).astype(np.int64)).to(device) for w in splits)
    limit = -(-held_out_bytes // size)
    return Text(train, validation[:limit], test[:limit], corpus.checksum)


def inputs(config: Config) -> dict[str, str]:
    """Checksums of the data, by name."""
    return {"text": load(config).checksum}


def scale(config: Config, records: pd.DataFrame) -> str:
    """Data, network and seeds of a run in one line, and what would change its answer."""
    text = rows_of(records, "bytes").set_index("split")["value"]
    seen = config.steps * config.batch_size * config.context
    network = f"a byte-level transformer ({config.layers} × width {config.width}) with AdamW"
    return (
        f"{text['train'] / 1e6:.2g} MB of text, of which the network sees up to {seen / 1e6:.2g} MB; one split, "
        f"{text['test'] / 1e3:.2g} kB in test; {network}; {config.seeds} seeds; {len(config.budgets)} budgets. "
        "Longer training, a larger network or another text could change the answer."
    )


def table_bits(text: Text, split: protocol.Split = "test") -> dict[str, float]:
    """Bits per byte of two tables counted on the training windows, at the bytes that the network is scored on.

    A network that has learned less than a bigram table cannot tell schedules apart.
    """
    return data.table_bits(text.train.cpu().numpy(), getattr(text, split).cpu().numpy())


def over_tables(rows: Sequence[dict[str, Any]], tables: dict[str, float]) -> list[dict[str, Any]]:
    """Rows of what the best schedule of the fixed view needs more than each table, per seed; below 0 it needs less.

    The best is chosen by the same scores, which favours the network: a gate that fails even so has failed.
    """
    scores: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["quantity"] == "test_bits_per_byte" and row["view"] == "fixed":
            scores.setdefault(row["schedule"], []).append(row)
    best = min(scores.values(), key=lambda of: float(np.mean([row["value"] for row in of])))
    return [
        {**row, "quantity": f"bits_over_{name}", "value": row["value"] - bits}
        for name, bits in tables.items()
        for row in best
    ]


def train(config: Config, text: Text, trials: Sequence[Trial], steps: int, split: protocol.Split) -> list[float]:
    """Train trials as populations and return their losses on one split, in bits per byte."""
    windows = getattr(text, split)
    trained = protocol.populations(
        trials,
        steps,
        build=lambda: ByteTransformer(config.width, config.layers, config.heads, config.context),
        optimizer=AdamW(betas=(0.9, 0.95), weight_decay=0.1, decays=matrices_only),
        batch=lambda index: (text.train[index][..., :-1], text.train[index][..., 1:]),
        examples=len(text.train),
        batch_size=config.batch_size,
        replicas=config.replicas,
        device=text.train.device,
        clip_norm=config.clip_norm,
    )
    losses = [population.evaluate(windows[:, :-1], windows[:, 1:], batch_size=128).loss for population in trained]
    # a diverged run must never win a tuning round
    return (torch.cat(losses) / NATS_PER_BIT).nan_to_num(torch.inf).tolist()


def parts(config: Config) -> list[Part]:
    """One part for each budget, and one for the tables.

    Their rows: ``test_bits_per_byte`` per budget, view, schedule and seed, and what else ``protocol.compare`` gives;
    ``bits_over_bigram`` and ``bits_over_unigram`` per budget and seed, and ``table_bits_per_byte``.
    """
    use_deterministic()
    settings = config.only(*Config.model_fields.keys() - {"budgets"})
    return [
        Part("text", counted, config.only("text", "context", "held_out_bytes", "device")),
        *(Part(f"budget {budget:g}", comparison, settings, {"budget": budget}) for budget in config.budgets),
    ]


def counted(config: Config) -> Iterator[dict[str, Any]]:
    """Bytes of each split, and bits per byte of the tables that a network must beat."""
    text = load(config)
    for split in ("train", "validation", "test"):
        yield {"quantity": "bytes", "split": split, "value": getattr(text, split).numel()}
    for name, bits in table_bits(text).items():
        yield {"quantity": "table_bits_per_byte", "schedule": name, "value": bits}


def comparison(config: Config, budget: float) -> list[dict[str, Any]]:
    """Compare the schedules at one budget."""
    text = load(config)
    found = compare(
        partial(train, config, text),
        steps=max(2, round(budget * config.steps)),
        peaks=config.peaks,
        phis=config.phis,
        fixed_phi=config.phi,
        seeds=range(config.seeds),
        tuning_seeds=range(1000, 1000 + config.tuning_seeds),
        equal_trials=config.equal_trials,
        widen=config.widenings,
        mean_rate_control=False,  # no test of the language notebook needs it
        quantity="test_bits_per_byte",
        labels={"model": "transformer", "optimizer": "adamw", "budget": budget, "budget_log2": math.log2(budget)},
    )
    return [*found, *over_tables(found, table_bits(text))]
