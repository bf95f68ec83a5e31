"""Collapse: spectra of what each method selects, and what is odd about the objective (claims D1, D2, D9, D11, D12)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import Field, PositiveInt, model_validator

from replication import evidence
from replication.disf import reference, spectrum
from replication.disf.experiments import material
from replication.disf.experiments.material import (
    TARGETED,
    WITHOUT_FEATURES,
    Documents,
    FeatureSet,
    Floats,
    Ints,
    Pool,
    Split,
    Untargeted,
    choose,
    documents,
    embedded,
    split,
)
from replication.disf.selection import OnDuplicates, Second, candidate_scores, quota, select_batch
from replication.evidence import Part
from replication.training import use_deterministic

D10 = 10  # eigenvalues in the dominance score that the claims are about
NO_TARGET = "none"
PICTURED = ("random", "disf", "d4", "top cosine")  # methods whose selection is shown as points
GAUSSIAN = "Gaussian"

COPIES: dict[Second, OnDuplicates] = {"authors": "keep", "random": "drop", "farthest": "drop"}
"""What is done with exact copies under each rule for the second pick: the authors' as it is, and the two repairs."""

Row = dict[str, Any]


class Config(evidence.Settings):
    """What the collapse notebook runs; every field is a parameter of the notebook."""

    text: str = Field(
        "", description="folder or .jsonl(.gz) file with text of your own (empty for the embedded corpus)"
    )
    document_bytes: PositiveInt = Field(512, description="most bytes of a document")
    pieces: PositiveInt = Field(1, description="most documents of one entry of the corpus, from its beginning")
    pool: PositiveInt = Field(2048, description="documents that are selected from")
    targets: list[str] = Field(
        ["prose", "code", "tables"], min_length=1, description="target domains of the methods that need one"
    )
    target_documents: PositiveInt = Field(
        24, description="held-out documents of a target domain that those methods see"
    )
    features: list[FeatureSet] = Field(
        ["tfidf", "bytes"],
        min_length=2,
        description="feature sets: tfidf, bytes, minilm (the last needs the optional extra)",
    )
    dimension: PositiveInt = Field(128, description="features of a document after the SVD")
    methods: list[Untargeted] = Field(
        ["disf", "participation", "d4", "facility location", "log det", "covariance"],
        description="methods without a target, besides random",
    )
    ratio: float = Field(0.0625, gt=0, le=1, description="share of the pool that is selected")
    batch_size: PositiveInt = Field(1024, description="documents of a batch of DiSF")
    ks: list[PositiveInt] = Field(
        [10, 20, 30, 40, 60, 80, 100], description="numbers of largest eigenvalues in a dominance score"
    )
    seeds: PositiveInt = Field(6, description="splits, pools and selections")
    order_sizes: list[PositiveInt] = Field(
        [2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64], description="set sizes at which the objective is shown"
    )
    parity_problems: PositiveInt = Field(3, description="random problems of each of three kinds, for claim D9")
    pick_trials: PositiveInt = Field(40, description="first picks whose second pick is looked at, for claim D11")
    duplicate_problems: PositiveInt = Field(20, description="problems with a planted duplicate, for claim D12")

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if D10 not in self.ks:
            raise ValueError(f"ks: must hold {D10}, got {self.ks}")
        if "disf" not in self.methods:
            raise ValueError(f"methods: must hold disf, got {self.methods}")
        if min(self.order_sizes, default=0) < 2:
            raise ValueError(f"order_sizes: the objective needs at least 2 documents, got {self.order_sizes}")
        if max(self.order_sizes) > (batch := min(self.pool, self.batch_size)):
            raise ValueError(f"order_sizes: must be at most the {batch} documents of a batch, got {self.order_sizes}")
        if (count := quota(0, self.pool, self.ratio)) <= D10:
            raise ValueError(f"ratio: must select more than {D10} documents, got {count} of the pool's {self.pool}")
        return self


def load(config: Config) -> Documents:
    """Load the corpus and cut it into documents."""
    return documents(config.text, document_bytes=config.document_bytes, pieces=config.pieces)


def inputs(config: Config) -> dict[str, str]:
    """Checksums of the data, by name."""
    return {"text": load(config).checksum}


def missing(config: Config) -> dict[str, str]:
    """Feature sets that this machine lacks, with the command that brings them."""
    return material.missing(config.features)


def parts(config: Config) -> list[Part]:
    """One part for each seed's selections, one for what is odd about the objective with each seed, and checks.

    Their rows: ``dominance`` (per k), ``effective_rank`` and ``participation_ratio`` per method, target, feature sets
    and seed, and ``collapse`` in standard deviations of random selections; ``eigenvalue`` and ``pca`` of the first
    seed; ``objective`` along greedy and random orders; ``second_pick_spread`` and ``second_pick_rank``;
    ``duplicate_deviation``; ``pick_mismatches`` and ``score_error``.
    """
    use_deterministic()
    config = config.model_copy(update={"features": material.available(config.features)})
    only = config.only
    shared = ("text", "document_bytes", "pieces", "pool", "targets", "target_documents", "features", "dimension")
    settings = only(*shared, "methods", "ratio", "batch_size", "ks")
    selected = [Part(f"selections, seed {seed}", selections, settings, {"seed": seed}) for seed in range(config.seeds)]
    return [
        *selected,
        Part("collapse", in_deviations, only(), needs=tuple(part.name for part in selected)),
        Part("orders", orders, only(*shared, "batch_size", "order_sizes", "seeds")),
        Part("second picks", second_picks, only(*shared, "batch_size", "pick_trials", "seeds")),
        Part("duplicates", duplicates, only("duplicate_problems")),
        Part("parity", parity, only("parity_problems")),
    ]


def features(config: Config, name: FeatureSet) -> Floats:
    """A feature set of all documents."""
    return embedded(
        config.text, name, document_bytes=config.document_bytes, pieces=config.pieces, dimension=config.dimension
    )


# --- D1, D2: spectra --------------------------------------------------------------------------------------------------


def _split(config: Config, seed: int) -> Split:
    return split(load(config), seed, pool=config.pool, targets=config.targets, target_documents=config.target_documents)


def selections(config: Config, seed: int) -> Iterator[Row]:
    """Select by every method, on every feature set, and measure the spectra on every feature set.

    A row's ``view`` is ``own`` where the method selected on the features that it is measured on, ``other`` where on
    others. A method that looks at no features has the same selection whatever the set.
    """
    corpus, parts = load(config), _split(config, seed)
    pools = {name: Pool.of(corpus, parts, features(config, name)) for name in config.features}
    wanted = [(method, NO_TARGET) for method in ("random", *config.methods)]
    wanted += [(method, target) for method in TARGETED for target in config.targets]
    blind: dict[tuple[str, str], Ints] = {}
    for selected_on, pool in pools.items():
        for method, target in wanted:
            picked = blind.get((method, target))
            if picked is None:
                picked = choose(
                    method, pool, ratio=config.ratio, batch_size=config.batch_size, seed=seed, target=target
                )
            if method in WITHOUT_FEATURES:
                blind[method, target] = picked
            label = {"method": method, "target": target, "seed": seed, "selected_on": selected_on}
            for measured_on, other in pools.items():
                view = "own" if measured_on == selected_on else "other"
                yield from _spectrum(
                    config, other.features[picked], {**label, "measured_on": measured_on, "view": view}
                )
            if seed == 0 and selected_on == config.features[0] and target in (NO_TARGET, config.targets[0]):
                yield from _picture(pool, picked, label)


def _spectrum(config: Config, rows: Floats, label: Row) -> Iterator[Row]:
    ks = [k for k in config.ks if k < len(rows) and (label["view"] == "own" or k == D10)]
    for k, value in zip(ks, spectrum.dominance(rows, ks).tolist(), strict=True):
        yield {**label, "quantity": "dominance", "k": k, "value": value}
    yield {**label, "quantity": "effective_rank", "value": spectrum.effective_rank(rows)}
    if label["view"] == "own":
        yield {**label, "quantity": "participation_ratio", "value": spectrum.participation_ratio(rows)}


def _picture(pool: Pool, picked: Ints, label: Row) -> Iterator[Row]:
    """Eigenvalues, and coordinates on the pool's two first principal axes."""
    for rank, value in enumerate(spectrum.eigenvalues(pool.features[picked]), start=1):
        if rank < len(picked):
            yield {**label, "quantity": "eigenvalue", "rank": rank, "value": float(value)}
    if label["method"] not in PICTURED:
        return
    deviation = pool.features.std(axis=0)
    # a dimension without variance, as rounding leaves of a small corpus, has no place on any axis
    z = (pool.features - pool.features.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    _, axes = np.linalg.eigh(z.T @ z)
    axes = axes[:, :-3:-1]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), [0, 1]])  # an eigenvector has no sign of its own
    for point, (x, y) in enumerate((z[picked] @ axes).round(3).tolist()):
        yield {**label, "quantity": "pca", "point": point, "axis": 1, "value": x}
        yield {**label, "quantity": "pca", "point": point, "axis": 2, "value": y}


def in_deviations(_config: Config, rows: pd.DataFrame) -> Iterator[Row]:
    """What methods with a target lose against random selections, in the latter's standard deviations."""
    for metric, quantity, sign in (("dominance", "dominance", 1), ("effective rank", "effective_rank", -1)):
        frame = rows[(rows["quantity"] == quantity) & rows["k"].isin([D10, np.nan])]
        random = frame[frame["method"] == "random"].pivot_table(
            index="seed", columns=["selected_on", "measured_on"], values="value"
        )
        for row in frame[frame["method"].isin(TARGETED)].to_dict("records"):
            same = random[row["selected_on"], row["measured_on"]]
            value = sign * (row["value"] - same[row["seed"]]) / same.std()
            kept = ("method", "target", "seed", "selected_on", "measured_on", "view")
            yield {name: row[name] for name in kept} | {"quantity": "collapse", "metric": metric, "value": float(value)}


# --- the objective ----------------------------------------------------------------------------------------------------


def _batches(config: Config) -> list[Floats]:
    """The first batch of each seed's pool, on the first feature set."""
    found = features(config, config.features[0])
    return [found[_split(config, seed).pool][: config.batch_size] for seed in range(config.seeds)]


def orders(config: Config) -> Iterator[Row]:
    """F(U) along the greedy order and along a random order of one batch a seed (the paper's Fig. 4)."""
    largest = max(config.order_sizes)
    for seed, batch in enumerate(_batches(config)):
        found = {
            "greedy": select_batch(batch, largest, seed=seed),
            "random": np.random.default_rng([seed, 2]).permutation(len(batch))[:largest],
        }
        for order, picked in found.items():
            for size in config.order_sizes:
                value = spectrum.objective(batch[picked[:size]])
                yield {"quantity": "objective", "order": order, "size": size, "seed": seed, "value": float(value)}


def second_picks(config: Config) -> Iterator[Row]:
    """How far ε decides the second pick (D11), and how near the second pick is to the first."""
    batches = _batches(config)
    for trial in range(config.pick_trials):
        rng = np.random.default_rng([trial, 3])
        documents = batches[trial % len(batches)]
        for name, x in (("documents", documents), (GAUSSIAN, rng.standard_normal((512, 768)))):
            first = int(rng.integers(len(x)))
            others = np.arange(len(x)) != first
            spreads = [float(np.ptp(candidate_scores(x, [first], eps=eps)[others])) for eps in (1e-8, 1e-16)]
            label = {"data": name, "seed": trial}
            yield {**label, "quantity": "second_pick_spread", "value": math.log10(spreads[0] / spreads[1])}
            distance = np.linalg.norm(x - x[first], axis=1)
            nearness = np.argsort(np.argsort(distance)) / (len(x) - 1)
            for rule in COPIES:
                picked = select_batch(x, 2, first=first, second=rule, on_duplicates=COPIES[rule], seed=trial)
                yield {**label, "quantity": "second_pick_rank", "rule": rule, "value": float(nearness[picked[1]])}


def duplicates(config: Config) -> Iterator[Row]:
    """Plant a copy of the first document and look where it ends up (D12); every value should be 0."""
    for problem in range(config.duplicate_problems):
        rng = np.random.default_rng([problem, 4])
        x = rng.standard_normal((256, 64))
        first, copy = (int(i) for i in np.sort(rng.choice(len(x), size=2, replace=False)))
        x[copy] = x[first]
        label = {"quantity": "duplicate_deviation", "seed": problem}
        yield {**label, "rule": "authors", "value": float(reference.score(torch.from_numpy(x[[first, copy]])))}
        for rule, copies in COPIES.items():
            picked = select_batch(x, 16, first=first, second=rule, on_duplicates=copies, seed=problem)
            wrong = picked[1] != copy if rule == "authors" else copy in picked
            yield {**label, "rule": rule, "value": float(wrong)}


# --- D9: parity -------------------------------------------------------------------------------------------------------


def problem(kind: str, rng: np.random.Generator, *, rows: int, dimension: int) -> Floats:
    """Return random features, float64 (rows, dimension): ``Gaussian``, ``clustered`` or ``low rank``."""
    x = rng.standard_normal((rows, dimension))
    if kind == "clustered":
        return np.asarray(0.3 * x + 2 * rng.standard_normal((8, dimension))[rng.integers(8, size=rows)])
    if kind == "low rank":
        rank = dimension // 4
        return np.asarray(0.01 * x + rng.standard_normal((rows, rank)) @ rng.standard_normal((rank, dimension)))
    return x


def parity(config: Config) -> Iterator[Row]:
    """Compare the fast selection with the authors' objective computed anew for every candidate, in float64."""
    for kind in (GAUSSIAN, "clustered", "low rank"):
        for seed in range(config.parity_problems):
            rng = np.random.default_rng([seed, 5])
            x = problem(kind, rng, rows=int(rng.integers(60, 200)), dimension=int(rng.integers(16, 64)))
            k, first = int(rng.integers(8, 24)), int(rng.integers(len(x)))
            slow = reference.greedy(torch.from_numpy(x), k, first)
            fast = select_batch(x, k, first=first, second="authors", on_duplicates="keep")
            label = {"data": kind, "seed": seed}
            yield {**label, "quantity": "pick_mismatches", "value": float(np.sum(fast != slow))}
            direct = float(reference.score(torch.from_numpy(x[fast])))
            error = abs(candidate_scores(x, fast[:-1])[fast[-1]] - direct) / direct
            yield {**label, "quantity": "score_error", "value": float(error)}
