"""Pre-training: what a small language model learns from each method's selection (claims D3 to D7).

The paper trains LLaMA models of up to 1.1 billion parameters and scores nine tasks. Here a byte-level transformer is
trained on every method's selection for the same number of bytes and scored by its loss on held-out documents of every
domain: this tests the mechanism, not the tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from replication import data, evidence
from replication.disf.experiments.material import (
    TARGETED,
    Documents,
    FeatureSet,
    Ints,
    Pool,
    Split,
    choose,
    documents,
    embed,
    split,
)
from replication.evidence import Part
from replication.training import (
    AdamW,
    ByteTransformer,
    Population,
    data_order,
    matrices_only,
    resolve_device,
    use_deterministic,
)
from replication.training.search import candidates

NATS_PER_BIT = float(np.log(2))
TUNING_SEED = 1000
CONTRASTED = ("disf", "random", "full")  # the arms of the primary contrasts
WARM_UP, FLOOR = 0.1, 0.1  # share of the steps, and of the peak, as in the authors' cosine schedule


class Config(evidence.Settings):
    """What the pre-training notebook runs; every field is a parameter of the notebook."""

    text: str = Field(
        "", description="folder or .jsonl(.gz) file with text of your own (empty for the embedded corpus)"
    )
    document_bytes: PositiveInt = Field(320, description="most bytes of a document")
    pieces: PositiveInt = Field(1, description="most documents of one entry of the corpus, from its beginning")
    pool: PositiveInt = Field(1024, description="documents that are selected from")
    held_out_documents: PositiveInt = Field(
        8, description="documents of each domain for validation, and as many for the test"
    )
    target: str = Field("prose", description="target domain of the methods that need one")
    target_documents: PositiveInt = Field(24, description="held-out documents of it that those methods see")
    features: FeatureSet = Field("tfidf", description="what documents are compared by: tfidf, bytes or minilm")
    dimension: PositiveInt = Field(128, description="features of a document after the SVD")
    methods: list[str] = Field(
        ["full", "random", "disf", "dsir", "top cosine", "d4", "within", "matched"],
        description="what is compared; within and matched are the controls of D6",
    )
    ratio: float = Field(0.0625, gt=0, le=1, description="share of the pool that is selected")
    selection_batch: PositiveInt = Field(1024, description="documents of a batch of DiSF")
    ratios: list[float] = Field([0.015625, 0.25], description="further ratios of DiSF")
    selection_batches: list[PositiveInt] = Field([], description="batch sizes of DiSF to compare (D7; none at smoke)")
    width: PositiveInt = Field(32, description="model width")
    layers: PositiveInt = Field(1, description="layers")
    heads: PositiveInt = Field(1, description="attention heads")
    context: PositiveInt = Field(16, description="bytes of a training window")
    windows: PositiveInt = Field(16, description="windows of a training step")
    steps: PositiveInt = Field(256, description="training steps, the same for every method")
    peaks: list[PositiveFloat] = Field(
        [0.0025, 0.005, 0.01], min_length=1, description="peak learning rates, tried for every method"
    )
    seeds: PositiveInt = Field(6, description="evaluation seeds")
    tuning_seeds: PositiveInt = Field(2, description="seeds of the tuning runs, apart from the evaluation seeds")
    clip_norm: PositiveFloat = Field(1.0, description="largest gradient norm")
    replicas: PositiveInt = Field(32, description="largest population trained at once")
    device: str = Field("auto", description="auto, cpu or cuda")

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if missing := {"full", "random", "disf", *TARGETED[:2]} - set(self.methods):
            raise ValueError(f"methods: must hold full, random, disf, dsir and top cosine; missing {sorted(missing)}")
        if not all(0 < ratio <= 1 for ratio in self.ratios) or self.ratio in self.ratios:
            raise ValueError(f"ratios: must lie in (0, 1] and differ from ratio, got {self.ratios}")
        if self.document_bytes <= self.context:
            raise ValueError(f"document_bytes: must be more than context {self.context}, got {self.document_bytes}")
        return self


class Arm(NamedTuple):
    """One selection to train on, and the comparison (view) that it belongs to."""

    view: Literal["main", "ratio", "batch size"]
    method: str
    ratio: float
    batch_size: int


@dataclass(frozen=True)
class Prepared:
    """A seed's split, with the windows of each part on the device and the selections of all arms."""

    parts: Split
    train: Tensor
    """Windows of the pool's documents, int64 (N, context + 1)."""
    owner: Ints
    """Row in the pool of every training window."""
    picked: dict[Arm, Ints]
    """Rows in the pool that each arm selects."""
    held_out: dict[str, dict[str, Tensor]]
    """Part (validation, test) and domain: windows of its documents."""


def load(config: Config) -> Documents:
    """Load the corpus and cut it into documents."""
    return documents(config.text, document_bytes=config.document_bytes, pieces=config.pieces)


def arms(config: Config) -> list[Arm]:
    """Return every selection that is trained on."""
    b = config.selection_batch
    return [
        *(Arm("main", method, config.ratio, b) for method in config.methods),
        *(Arm("ratio", "disf", ratio, b) for ratio in config.ratios or ()),
        *(Arm("batch size", "disf", config.ratio, size) for size in config.selection_batches or ()),
    ]


def prepare(config: Config, material: Documents, seed: int, wanted: Sequence[Arm]) -> Prepared:
    """Split the documents, select, and cut documents into windows of ``context`` + 1 bytes.

    The features are fitted to the pool and to the target's documents; the held-out documents are not seen.
    """
    parts = split(
        material,
        seed,
        pool=config.pool,
        targets=[config.target],
        target_documents=config.target_documents,
        held_out_documents=config.held_out_documents,
    )
    target = parts.targets[config.target]
    rows = np.concatenate([parts.pool, target])
    found = embed([material.texts[i] for i in rows], config.features, dimension=config.dimension)
    pool = Pool(
        [material.texts[i] for i in parts.pool],
        material.domains[parts.pool],
        found[: len(parts.pool)],
        {config.target: [material.texts[i] for i in target]},
        {config.target: found[len(parts.pool) :]},
    )
    picked = {
        arm: choose(arm.method, pool, ratio=arm.ratio, batch_size=arm.batch_size, seed=seed, target=config.target)
        for arm in wanted
    }
    device = resolve_device(config.device)

    def windows(documents: Ints) -> tuple[Tensor, Ints]:
        size = config.context + 1
        cut = [np.frombuffer(material.texts[i].encode(), np.uint8) for i in documents]
        cut = [part[: len(part) // size * size].reshape(-1, size) for part in cut]
        owner = np.repeat(np.arange(len(cut)), [len(part) for part in cut])
        return torch.from_numpy(np.concatenate(cut).astype(np.int64)).to(device), owner

    train, owner = windows(parts.pool)
    held_out = {
        part: {name: windows(held[material.domains[held] == name])[0] for name in material.names}
        for part, held in (("validation", parts.validation), ("test", parts.test))
    }
    return Prepared(parts, train, owner, picked, held_out)


def rates(peak: float, steps: int) -> npt.NDArray[np.float64]:
    """Learning rates of a run: a linear warm-up, then a cosine from the peak to a tenth of it, float64 (steps,)."""
    t = np.arange(steps) / steps
    cosine = FLOOR + (1 - FLOOR) * (1 + np.cos(np.pi * t)) / 2
    return np.asarray(peak * np.minimum(1.0, (t + 1 / steps) / WARM_UP) * cosine)


def train(config: Config, prepared: Prepared, trials: Sequence[tuple[Arm, float]], seed: int) -> list[Population]:
    """Train one model per (arm, peak), all from the same weights and for the same number of bytes.

    Returns
    -------
    list of Population
        The trials in order, in populations of at most ``replicas``.
    """
    trained = []
    for begin in range(0, len(trials), config.replicas):
        chunk = trials[begin : begin + config.replicas]
        orders = []
        for arm, _ in chunk:
            windows = torch.from_numpy(np.flatnonzero(np.isin(prepared.owner, prepared.picked[arm])))
            orders.append(windows[data_order([seed], len(windows), config.windows, config.steps)[:, 0]])
        order = torch.stack(orders, dim=1).to(prepared.train.device)
        table = torch.from_numpy(np.stack([rates(peak, config.steps) for _, peak in chunk], axis=1))
        population = Population(
            lambda: ByteTransformer(config.width, config.layers, config.heads, config.context),
            [seed] * len(chunk),
            AdamW(betas=(0.9, 0.95), weight_decay=0.1, decays=matrices_only),
            prepared.train.device,
            clip_norm=config.clip_norm,
        )

        def batch(step: int, order: Tensor = order) -> tuple[Tensor, Tensor]:
            windows = prepared.train[order[step]]
            return windows[..., :-1], windows[..., 1:]

        population.fit(batch, table)
        trained.append(population)
    return trained


def score(prepared: Prepared, trained: Sequence[Population], part: str) -> pd.DataFrame:
    """Return the held-out bits per byte of every trial (rows) in every domain (columns)."""
    columns = {
        name: torch.cat(
            [population.evaluate(w[:, :-1], w[:, 1:], batch_size=64).loss.double() for population in trained]
        )
        .cpu()
        .numpy()
        for name, w in prepared.held_out[part].items()
    }
    # a diverged run must never win
    return (pd.DataFrame(columns) / NATS_PER_BIT).fillna(np.inf)


def inputs(config: Config) -> dict[str, str]:
    """Checksums of the data, by name."""
    return {"text": load(config).checksum}


def parts(config: Config) -> list[Part]:
    """One part for each tuning seed, and one for each evaluation seed, which needs the former.

    Every method's peak learning rate is tuned over the same grid on the macro validation loss, with seeds (and so
    pools, selections and held-out documents) of its own. DiSF at other ratios and batch sizes uses the peak of DiSF.

    Their rows, per view, method, ratio, batch size and seed: ``macro_bits_per_byte``, ``worst_bits_per_byte``,
    ``target_bits_per_byte``, ``domain_bits_per_byte`` and ``domain_share`` (per domain), ``passes`` over the selection;
    ``gap_to_full`` (DiSF minus full) per ratio; ``bits_over_bigram``, the model of the full pool minus a bigram table
    counted on it; ``tuning_score`` (macro) and ``tuning_target`` per method, peak and tuning seed, and ``macro_at`` of
    the chosen peak and of those that another draw of the tuning seeds would have chosen. The method ``domain`` of
    ``target_bits_per_byte`` is DSIR or top cosine, whichever was better on the target in tuning.
    """
    use_deterministic()
    counts = {"seeds", "tuning_seeds"}
    common = config.only(*Config.model_fields.keys() - counts - {"ratios", "selection_batches"})
    tuned = [
        Part(f"tuning seed {seed}", tuning, common, {"seed": seed})
        for seed in range(TUNING_SEED, TUNING_SEED + config.tuning_seeds)
    ]
    settings, names = config.only(*Config.model_fields.keys() - counts), tuple(part.name for part in tuned)
    return [
        *tuned,
        *(Part(f"seed {seed}", comparison, settings, {"seed": seed}, needs=names) for seed in range(config.seeds)),
    ]


def _grid(config: Config) -> list[tuple[Arm, float]]:
    return [(arm, peak) for arm in arms(config) if arm.view == "main" for peak in config.peaks]


def tuning(config: Config, seed: int) -> Iterator[dict[str, Any]]:
    """Train every method's selection with every peak, and score it on the validation documents."""
    grid = _grid(config)
    prepared = prepare(config, load(config), seed, [arm for arm in arms(config) if arm.view == "main"])
    scored = score(prepared, train(config, prepared, grid, seed), "validation")
    for quantity, values in (("tuning_score", scored.mean(axis=1)), ("tuning_target", scored[config.target])):
        for (arm, peak), value in zip(grid, values.tolist(), strict=True):
            at = {"view": "main", "method": arm.method, "peak": peak, "seed": seed}
            yield {"quantity": quantity, **at, "value": value}


def comparison(config: Config, tuned: pd.DataFrame, seed: int) -> list[dict[str, Any]]:
    """Train every selection with its chosen peak, and score it on the test documents."""

    def table(quantity: str, method: str) -> npt.NDArray[np.float64]:
        rows = tuned[(tuned["quantity"] == quantity) & (tuned["method"] == method)]
        return rows.pivot_table(index="peak", columns="seed", values="value").loc[config.peaks].to_numpy()

    material, wanted = load(config), arms(config)
    choices = {
        method: [config.peaks[k] for k in candidates(table("tuning_score", method))] for method in config.methods
    }

    def on_target(method: str) -> float:
        return float(table("tuning_target", method)[config.peaks.index(choices[method][0])].mean())

    prepared = prepare(config, material, seed, wanted)
    trials = [(arm, choices[arm.method][0]) for arm in wanted]
    main = {arm.method: arm for arm in wanted if arm.view == "main"}
    # only the arms of a primary contrast need to say what another choice of their peak would have given
    others = [(main[method], peak) for method in CONTRASTED for peak in choices[method][1:]]
    tested = score(prepared, train(config, prepared, [*trials, *others], seed), "test")
    rows = _records(config, material, prepared, trials, tested[: len(trials)], seed, min(TARGETED[:2], key=on_target))
    rows += [
        {"quantity": "macro_at", "view": "main", "method": arm.method, "peak": peak, "seed": seed, "value": value}
        for (arm, peak), value in zip([*trials, *others], tested.mean(axis=1).tolist(), strict=True)
        if arm.view == "main" and arm.method in CONTRASTED
    ]
    return rows


def _records(
    config: Config,
    material: Documents,
    prepared: Prepared,
    trials: Sequence[tuple[Arm, float]],
    tested: pd.DataFrame,
    seed: int,
    domain: str,
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    macro = tested.mean(axis=1).tolist()
    full = next(value for (arm, _), value in zip(trials, macro, strict=True) if arm.method == "full")
    table = [
        data.table_bits(prepared.train.cpu().numpy(), windows.cpu().numpy())["bigram"]
        for windows in prepared.held_out["test"].values()
    ]
    rows.append({"quantity": "bits_over_bigram", "seed": seed, "value": full - float(np.mean(table))})
    of_pool = material.domains[prepared.parts.pool]
    for i, (arm, peak) in enumerate(trials):
        picked = prepared.picked[arm]
        bits = {name: float(tested[name][i]) for name in material.names}
        windows = int(np.isin(prepared.owner, picked).sum())
        label = {**arm._asdict(), "seed": seed, "peak": peak}
        values = {
            "macro_bits_per_byte": macro[i],
            "worst_bits_per_byte": max(bits.values()),
            "target_bits_per_byte": bits[config.target],
            "passes": config.steps * config.windows / windows,
        }
        rows += [{**label, "quantity": name, "value": value} for name, value in values.items()]
        if arm.view == "main":
            for name in material.names:
                share = float(np.mean(of_pool[picked] == name))
                rows.append({**label, "quantity": "domain_bits_per_byte", "domain": name, "value": bits[name]})
                rows.append({**label, "quantity": "domain_share", "domain": name, "value": share})
            if arm.method == domain:
                target = {"quantity": "target_bits_per_byte", "method": "domain", "value": bits[config.target]}
                rows.append({**label, **target})
        if arm.method == "disf" and arm.view != "batch size":
            rows.append({**label, "view": "ratio", "quantity": "gap_to_full", "value": macro[i] - full})
    return rows
