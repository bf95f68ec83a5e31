"""Pre-training: what a small language model learns from each method's selection (claims C3 to C6).

The paper trains LLaMA models of up to 1.1 billion parameters and scores nine tasks. Here a byte-level transformer is
trained on every method's selection for the same number of bytes and scored by its loss on held-out documents of every
domain: this tests the mechanism, not the tasks.

1. The same documents of every domain are held out for all seeds: a test part, a validation part, and target documents
   for the methods that need them. A seed fixes pool, selection, initial weights and data order, the same for all
   methods, so that differences are paired.
2. Every selection's peak learning rate is tuned by the same rule on the validation part, with seeds (and so pools and
   selections) of its own. The controls `BORROWED` and the sweeps over ratio, batch size and features use the peak of
   the method that they vary.
3. The models of the tuning are scored on the test part too. That chooses nothing: it says what the test score would be
   at a peak that another draw of the tuning seeds would have chosen, for the interval of a contrast.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from replication import data, evidence
from replication.checks import one_of
from replication.disf.experiments import material
from replication.disf.experiments.material import (
    TARGETED,
    WITHOUT_FEATURES,
    Documents,
    FeatureSet,
    Ints,
    Method,
    Pool,
    Split,
    choose,
    documents,
    embed,
    embedded,
    split,
)
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
from replication.training.search import TUNING_SEED, Grid, Seeds, apart, tune

NATS_PER_BIT = float(np.log(2))
IGNORANT = 8.0
"""Bits per byte of a model that knows nothing. A diverged run counts as that, and never wins a tuning."""
HELD_OUT_SEED = 0
CONTRASTED = ("full", "random", "disf")
"""The arms of the primary contrasts, which get all seeds."""
BORROWED = {"within": "disf", "matched": "random"}
"""Controls that use the peak of the method that they vary."""
WARM_UP, FLOOR = 0.1, 0.1  # share of the steps, and of the peak, as in the authors' cosine schedule
DRAWS = 1000  # resamples of the seeds, for the share of a gap

Row = dict[str, Any]


class Config(evidence.Settings):
    """What the pre-training notebook runs; every field is a parameter of the notebook."""

    text: str = Field(
        "", description="folder or .jsonl(.gz) file with text of your own (empty for the embedded corpus)"
    )
    document_bytes: PositiveInt = Field(320, description="most bytes of a document")
    pieces: PositiveInt = Field(1, description="most documents of one entry of the corpus, from its beginning")
    pool: PositiveInt = Field(1024, description="documents that are selected from")
    test_documents: PositiveInt = Field(8, description="documents of each domain in the test part")
    validation_documents: PositiveInt = Field(4, description="documents of each domain in the validation part")
    target: str = Field("prose", description="target domain of the methods that need one")
    target_documents: PositiveInt = Field(8, description="held-out documents of each domain, for methods with targets")
    left_out: str = Field("translations", description="domain that the second mean over domains leaves out")
    features: list[FeatureSet] = Field(
        ["tfidf"],
        min_length=1,
        description="what documents are compared by: tfidf, bytes or minilm (an extra); after the first, for DiSF only",
    )
    dimension: PositiveInt = Field(128, description="features of a document after the SVD")
    methods: list[Method] = Field(["full", "random", "disf"], description="what is compared")
    ratio: float = Field(0.125, gt=0, le=1, description="share of the pool that is selected")
    batch_size: PositiveInt = Field(1024, description="documents of a batch of DiSF")
    ratios: list[float] = Field([], description="further ratios of DiSF and random")
    batch_sizes: list[PositiveInt] = Field([], description="further batch sizes of DiSF")
    width: PositiveInt = Field(32, description="model width")
    layers: PositiveInt = Field(1, description="layers")
    heads: PositiveInt = Field(1, description="attention heads")
    context: PositiveInt = Field(24, description="bytes of a training window")
    windows: PositiveInt = Field(32, description="windows of a training step")
    steps: PositiveInt = Field(100, description="training steps, the same for every method")
    peaks: list[PositiveFloat] = Field([0.01, 0.02], min_length=1, description="peak learning rates")
    widenings: int = Field(2, ge=0, le=3, description="times that a grid of rates is widened where its best is an end")
    seeds: Seeds = Field(6, description="evaluation seeds of full, random and DiSF")
    other_seeds: Seeds = Field(5, description="evaluation seeds of the other arms")
    tuning_seeds: PositiveInt = Field(2, description="seeds of the tuning, apart from the evaluation seeds")
    clip_norm: PositiveFloat = Field(1.0, description="largest gradient norm")
    block: PositiveInt = Field(6, description="evaluation seeds that are trained in one part")
    device: str = Field("auto", description="auto, cpu or cuda")

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if missing := set(CONTRASTED) - set(self.methods):
            raise ValueError(f"methods: must hold full, random and disf; missing {', '.join(sorted(missing))}")
        if not all(0 < ratio <= 1 for ratio in self.ratios) or self.ratio in self.ratios:
            raise ValueError(f"ratios: must lie in (0, 1] and differ from ratio, got {self.ratios}")
        if self.batch_size in self.batch_sizes:
            raise ValueError(f"batch_sizes: must differ from batch_size, got {self.batch_sizes}")
        if self.document_bytes <= self.context:
            raise ValueError(f"document_bytes: must be more than context {self.context}, got {self.document_bytes}")
        return self


class Arm(NamedTuple):
    """One selection to train on, and the comparison (view) that it belongs to."""

    view: str
    """``main``, ``ratio``, ``batch size`` or ``features``: what it varies."""
    method: str
    ratio: float
    batch_size: int
    features: FeatureSet

    @property
    def name(self) -> str:
        """The arm in words."""
        varied = {"ratio": f"{self.ratio:.3g} of the pool", "batch size": f"b = {self.batch_size:g}"}
        return " ".join([self.method, varied.get(self.view, self.features if self.view == "features" else "")]).strip()


class Peak(NamedTuple):
    """What is tuned of an arm."""

    peak: float


class Selection(NamedTuple):
    """What one seed's model is trained on."""

    windows: Tensor
    """Windows of the selected documents, uint8 (N, context + 1)."""
    rows: Ints
    """Their documents, as row numbers of the corpus."""
    domains: npt.NDArray[np.str_]
    """The domain of each."""


class Trial(NamedTuple):
    """One training run: what it reads, its peak, and the seed of its weights and data order."""

    selection: Selection
    peak: float
    seed: int


def load(config: Config) -> Documents:
    """Load the corpus and cut it into documents."""
    return documents(config.text, document_bytes=config.document_bytes, pieces=config.pieces)


def inputs(config: Config) -> dict[str, str]:
    """Checksums of the data, by name."""
    corpus = load(config)
    one_of("left_out", config.left_out, corpus.names)
    one_of("target", config.target, corpus.names)
    return {"text": corpus.checksum}


def missing(config: Config) -> dict[str, str]:
    """Feature sets that this machine lacks, with the command that brings them."""
    return material.missing(config.features)


def arms(config: Config) -> list[Arm]:
    """Return every selection that is trained on, DiSF first."""
    first, *others = material.available(config.features)
    ratio, size = config.ratio, config.batch_size
    # the longest to prepare first: a second process has other work while this one computes embeddings
    methods = ["disf", *(method for method in config.methods if method != "disf")]
    return [
        *(Arm("main", method, ratio, size, first) for method in methods),
        *(Arm("ratio", method, other, size, first) for other in config.ratios for method in ("disf", "random")),
        *(Arm("batch size", "disf", ratio, other, first) for other in config.batch_sizes),
        *(Arm("features", "disf", ratio, size, other) for other in others),
    ]


def scale(config: Config, records: pd.DataFrame) -> str:
    """Data, model and seeds of a run in one line, and what would change its answer."""
    random = rows_of(records, "passes", view="main", method="random")
    overlap = rows_of(records, "pool_overlap")["value"].item()
    seen = config.steps * config.windows * config.context
    return (
        f"{config.pool} documents of at most {config.document_bytes} bytes, {config.ratio:.3g} of them selected by "
        f"{random['features'].iloc[0]}; a byte-level transformer ({config.layers} × width {config.width}) on "
        f"{seen / 1e6:.2g} MB, {random['value'].mean():.1f} passes over a selection; {config.seeds} seeds "
        f"({config.other_seeds} for arms outside the contrasts); two seeds' pools have {overlap:.0%} of their "
        "documents in common. Larger models, fewer passes or another corpus could change the answer."
    )


# --- data -------------------------------------------------------------------------------------------------------------


def divided(config: Config, seed: int) -> Split:
    """The held-out parts, the same for every seed, and the seed's pool."""
    corpus = load(config)
    return split(
        corpus,
        seed,
        pool=config.pool,
        targets=corpus.names,
        target_documents=config.target_documents,
        test_documents=config.test_documents,
        validation_documents=config.validation_documents,
        held_out_seed=HELD_OUT_SEED,
    )


def windows(config: Config, rows: Ints) -> Tensor:
    """Cut documents into windows of ``context`` + 1 bytes, uint8, shape (N, context + 1); what remains is left out."""
    texts, size = load(config).texts, config.context + 1
    encoded = [np.frombuffer(texts[i].encode(), np.uint8) for i in rows]
    cut = [part[: len(part) // size * size].reshape(-1, size) for part in encoded]
    return torch.from_numpy(np.concatenate(cut)).to(resolve_device(config.device))


def held_out(config: Config, part: str) -> dict[str, Tensor]:
    """Windows of the test or the validation part, int64, by domain."""
    rows, of = getattr(divided(config, TUNING_SEED), part), load(config).domains
    found = {name: windows(config, rows[of[rows] == name]).long() for name in load(config).names}
    if bare := [name for name, own in found.items() if not len(own)]:
        raise ValueError(
            f"context: no {part} document of {bare[0]!r} has a window of {config.context + 1} bytes; ask for fewer"
        )
    return found


def select(config: Config, arm: Arm, seed: int) -> Selection:
    """Select from a seed's pool. Features that are fitted see the pool and the targets' documents, no held-out ones."""
    corpus, parts = load(config), divided(config, seed)
    if arm.method in ("full", *WITHOUT_FEATURES):
        found = np.zeros((len(corpus.texts), 1))
    elif arm.features == "minilm":
        # an embedding does not depend on the other documents: one computation serves all seeds
        size = {"document_bytes": config.document_bytes, "pieces": config.pieces, "dimension": config.dimension}
        found = embedded(config.text, "minilm", **size)
    else:
        rows = np.concatenate([parts.pool, *parts.targets.values()])
        found = np.full((len(corpus.texts), config.dimension), np.nan)
        found[rows] = embed([corpus.texts[i] for i in rows], arm.features, dimension=config.dimension)
    pool = Pool.of(corpus, parts, found)
    picked = choose(arm.method, pool, ratio=arm.ratio, batch_size=arm.batch_size, seed=seed, target=config.target)
    chosen = parts.pool[np.sort(picked)]
    return Selection(windows(config, chosen), chosen, corpus.domains[chosen])


# --- training ---------------------------------------------------------------------------------------------------------


def rates(peak: float, steps: int) -> npt.NDArray[np.float64]:
    """Learning rates of a run: a linear warm-up, then a cosine from the peak to a tenth of it, float64 (steps,)."""
    t = np.arange(steps) / steps
    cosine = FLOOR + (1 - FLOOR) * (1 + np.cos(np.pi * t)) / 2
    return np.asarray(peak * np.minimum(1.0, (t + 1 / steps) / WARM_UP) * cosine)


def train(config: Config, trials: Sequence[Trial]) -> Population:
    """Train a model for each trial, all for the same number of bytes."""
    population = Population(
        lambda: ByteTransformer(config.width, config.layers, config.heads, config.context),
        [trial.seed for trial in trials],
        AdamW(betas=(0.9, 0.95), weight_decay=0.1, decays=matrices_only),
        trials[0].selection.windows.device,
        clip_norm=config.clip_norm,
    )
    own = [Batches(trial.selection.windows, None, [trial.seed], config.windows, config.steps) for trial in trials]

    def batch(step: int) -> tuple[Tensor, Tensor]:
        x, y = zip(*(batches(step) for batches in own), strict=True)
        return torch.cat(x), torch.cat(y)

    population.fit(batch, torch.from_numpy(np.stack([rates(trial.peak, config.steps) for trial in trials], axis=1)))
    return population


def score(config: Config, population: Population, part: str) -> pd.DataFrame:
    """Held-out bits per byte of every replica (rows) in every domain (columns)."""
    losses = {
        name: population.evaluate(w[:, :-1], w[:, 1:], batch_size=128).loss.double().cpu().numpy()
        for name, w in held_out(config, part).items()
    }
    found = pd.DataFrame(losses) / NATS_PER_BIT
    found.loc[~np.isfinite(found.to_numpy()).all(axis=1)] = IGNORANT
    return found


# --- parts ------------------------------------------------------------------------------------------------------------


def parts(config: Config) -> list[Part]:
    """Per method a tuning, per arm blocks of evaluation seeds, and what is made of all of them.

    Their rows, per view, method, ratio, batch size, features and seed: ``macro_bits_per_byte``,
    ``macro_without_bits_per_byte`` (without one domain), ``worst_bits_per_byte``, ``target_bits_per_byte``,
    ``domain_bits_per_byte`` and ``domain_share`` (per domain), ``passes`` over the selection, ``bits_over_bigram`` (the
    full pool's model minus a bigram table counted on it); what `tuning` and `comparison` give; ``pool_overlap``.
    """
    use_deterministic()
    only, made = config.only, [Part("pools", pools, config.only(*_SPLIT, "seeds"))]
    every = arms(config)
    made += [
        Part(f"tuning, {arm.method}", tuning, only(*_TRAINING, "peaks", "widenings", "tuning_seeds"), {"arm": arm})
        for arm in every
        if arm.view == "main" and arm.method not in BORROWED
    ]
    for arm in every:
        count = config.seeds if arm.view == "main" and arm.method in CONTRASTED else config.other_seeds
        needed = f"tuning, {BORROWED.get(arm.method, arm.method)}"
        for begin in range(0, count, config.block):
            seeds = list(range(begin, min(begin + config.block, count)))
            told = f"{arm.name}, seeds {seeds[0]} to {seeds[-1]}"
            made.append(Part(told, evaluation, only(*_TRAINING, "left_out"), {"arm": arm, "seeds": seeds}, (needed,)))
    everything = tuple(part.name for part in made)
    return [*made, Part("comparison", comparison, only(), needs=everything)]


_SPLIT = (
    "text", "document_bytes", "pieces", "pool", "test_documents", "validation_documents", "target_documents",
)  # fmt: skip
_TRAINING = (
    *_SPLIT, "target", "dimension", "width", "layers", "heads", "context", "windows", "steps", "clip_norm", "device",
)  # fmt: skip


def pools(config: Config) -> Iterator[Row]:
    """How far the seeds' pools overlap: the share of a pool's documents that another seed's has, over all pairs."""
    drawn = [set(divided(config, seed).pool.tolist()) for seed in range(config.seeds)]
    shared = [len(one & other) / config.pool for one, other in itertools.combinations(drawn, 2)]
    yield {"quantity": "pool_overlap", "value": float(np.mean(shared)) if shared else 0.0}


def tuning(config: Config, arm: Sequence[Any]) -> list[Row]:
    """Tune the peak of one method.

    Returns
    -------
    list of dict
        ``tuning_score`` (macro) and ``tuning_target`` (the target domain) on the validation part and ``macro_at`` on
        the test part, per peak and tuning seed; ``peak_on_edge``, 1 if the chosen peak is an end of the grid.
    """
    method, seeds = Arm(*arm).method, range(TUNING_SEED, TUNING_SEED + config.tuning_seeds)
    selected = {seed: select(config, Arm(*arm), seed) for seed in seeds}
    rows: list[Row] = []

    def scores(settings: Sequence[Peak]) -> npt.NDArray[np.float64]:
        trials = [Trial(selected[seed], one.peak, seed) for one in settings for seed in seeds]
        population = train(config, trials)
        validation, test = (score(config, population, part) for part in ("validation", "test"))
        found = {
            "tuning_score": validation.mean(axis=1),
            "tuning_target": validation[config.target],
            "macro_at": test.mean(axis=1),
        }
        for quantity, values in found.items():
            for trial, value in zip(trials, values.tolist(), strict=True):
                label = {"view": "main", "method": method, "peak": trial.peak, "seed": trial.seed}
                rows.append({"quantity": quantity, **label, "value": value})
        return found["tuning_score"].to_numpy().reshape(len(settings), len(seeds))

    grid = Grid([Peak(peak) for peak in config.peaks])
    of = tune(scores, {method: grid}, rate="peak", widen=config.widenings)[method]
    return [*rows, {"quantity": "peak_on_edge", "method": method, "peak": of.best.peak, "value": float(not of.inside)}]


def evaluation(config: Config, tuned: pd.DataFrame, arm: Sequence[Any], seeds: Sequence[int]) -> Iterator[Row]:
    """Train one arm with its method's peak on some seeds, and score it on the test part.

    Raises
    ------
    ValueError
        If a seed is one of the tuning's.
    """
    apart(seeds)
    one = Arm(*arm)
    peak = float(rows_of(tuned, "peak_on_edge")["peak"].item())
    trials = [Trial(select(config, one, seed), peak, seed) for seed in seeds]
    tested = score(config, train(config, trials), "test")
    for (selection, _, seed), bits in zip(trials, tested.to_dict("records"), strict=True):
        label = {**one._asdict(), "seed": seed, "peak": peak}
        values = pd.Series(bits)
        found = {
            "macro_bits_per_byte": values.mean(),
            "macro_without_bits_per_byte": values.drop(config.left_out).mean(),
            "worst_bits_per_byte": values.max(),
            "target_bits_per_byte": values[config.target],
            "passes": config.steps * config.windows / len(selection.windows),
        }
        for quantity, value in found.items():
            yield {**label, "quantity": quantity, "value": float(value)}
        if one.view == "main":
            for name, value in bits.items():
                share = float(np.mean(selection.domains == name))
                yield {**label, "quantity": "domain_bits_per_byte", "domain": name, "value": value}
                yield {**label, "quantity": "domain_share", "domain": name, "value": share}
        if one.method == "full":
            counted = selection.windows.cpu().numpy().astype(np.int64)
            table = [data.table_bits(counted, w.cpu().numpy())["bigram"] for w in held_out(config, "test").values()]
            over = float(values.mean() - np.mean(table))
            yield {"quantity": "bits_over_bigram", "seed": seed, "value": over}


def comparison(config: Config, rows: pd.DataFrame) -> Iterator[Row]:
    """What follows from all arms.

    ``over_random`` and ``gap_to_full`` per arm of DiSF (and of random, at other ratios) and seed: its macro loss minus
    that of a random selection of its size, and minus the full pool's. ``random_over_full``, per seed. ``share_of_gap``:
    how much of that DiSF closes, for resamples of the seeds. The method ``domain`` of ``target_bits_per_byte`` is DSIR
    or top cosine, whichever was better on the target in tuning.
    """
    del config
    macro = rows_of(rows, "macro_bits_per_byte")
    losses = {
        Arm._make(key): part.set_index("seed")["value"] for key, part in macro.groupby(list(Arm._fields), sort=False)
    }
    main = {arm.method: values for arm, values in losses.items() if arm.view == "main"}
    random_of = {arm.ratio: values for arm, values in losses.items() if arm.method == "random"}
    for arm, values in losses.items():
        compared = {"gap_to_full": main["full"]} if arm.method in ("disf", "random") else {}
        if arm.method == "disf":
            compared["over_random"] = random_of[arm.ratio]
        for quantity, other in compared.items():
            for seed, value in (values - other).dropna().items():
                yield {**arm._asdict(), "setting": arm.name, "quantity": quantity, "seed": seed, "value": float(value)}
    paired = pd.DataFrame({method: main[method] for method in CONTRASTED}).dropna()
    for seed, value in (paired["random"] - paired["full"]).items():
        yield {"quantity": "random_over_full", "seed": seed, "value": float(value)}
    rng = np.random.default_rng(7)
    for draw in range(DRAWS):
        mean = paired.to_numpy()[rng.integers(len(paired), size=len(paired))].mean(axis=0)
        full, random, disf = mean
        yield {"quantity": "share_of_gap", "draw": draw, "value": float((random - disf) / (random - full))}
    if set(main) >= set(TARGETED[:2]):
        yield from _domain(rows)


def _domain(rows: pd.DataFrame) -> Iterator[Row]:
    """Of the two methods that select for the target, the one that tuning found better there."""
    tuned = rows_of(rows, "tuning_target")
    best = rows_of(rows, "peak_on_edge").set_index("method")["peak"]
    at_best = tuned[tuned["peak"] == tuned["method"].map(best)].groupby("method")["value"].mean()
    chosen = str(at_best[list(TARGETED[:2])].idxmin())
    for row in rows_of(rows, "target_bits_per_byte", view="main", method=chosen).to_dict("records"):
        yield {**{key: row[key] for key in ("quantity", "view", "seed", "value")}, "method": "domain"}
