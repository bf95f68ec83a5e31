"""Features of documents that come in a stream: an extractor is made once, then called on some texts at a time."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from replication.disf.corpus import rows
from replication.disf.corpus.errors import CorpusError
from replication.disf.corpus.inputs import key as name_of
from replication.places import file_sha256
from replication.training.device import resolve_device

#: Names of extractors; the last one is followed by the name of a model.
NAMES: Final = ("tfidf", "minilm", "sentence-transformer:")

# TF-IDF: hash buckets of words, dimensions, documents that the weights and the projection are fitted on
_BUCKETS: Final = 2**16
_DIMENSIONS: Final = 256
_SAMPLE: Final = 20_000


@dataclass(frozen=True)
class Extractor:
    """Turns texts into features; can be sent to another process.

    Attributes
    ----------
    identity
        All that the features depend on, beside the texts.
    model
        File of what was fitted, for TF-IDF.
    """

    identity: dict[str, Any]
    model: str | None = None

    def __call__(self, texts: list[str]) -> npt.NDArray[np.float32]:
        """Features of some texts, float32 (n, d)."""
        if self.model is not None:
            from replication.disf.features import unit  # scikit-learn takes a second or two

            tfidf, svd = _fitted(self.model)
            projected = svd.transform(tfidf.transform(_words(self.identity["buckets"]).transform(texts)))
            return unit(projected)
        return _embed(self.identity["name"], texts)


def known(name: str) -> bool:
    """Whether `name` is that of an extractor, and not of a file."""
    return name in NAMES[:-1] or name.startswith(NAMES[-1])


def _embed(name: str, texts: list[str]) -> npt.NDArray[np.float32]:
    from replication.disf import features

    if name == "minilm":
        return features.minilm(texts)
    return features.sentence_transformer(texts, model=name.removeprefix(NAMES[-1]))


def probe(name: str) -> None:
    """Find out whether an extractor can work, before anything else is done.

    Raises
    ------
    CorpusError
        If a package or a model that it needs is missing or wrong.
    """
    if not known(name) or name == "tfidf":
        return
    try:
        _embed(name, ["probe"])
    except (ImportError, OSError, ValueError) as error:
        raise CorpusError(f"features: {name} cannot be used: {error}") from error


def prepare(
    name: str,
    *,
    documents: Callable[[], Iterator[str]],
    total: int,
    key: str,
    seed: int,
    folder: Path,
    tell: Callable[[str, int, int], None],
) -> Extractor:
    """The extractor of this name, fitted if it has to be.

    Parameters
    ----------
    name
        ``"tfidf"``: sublinear TF-IDF of hashed words, so that no vocabulary is kept, and its first
        principal axes; both are fitted on a random sample, at most 20,000 documents. Rows have unit length: else a
        language of few documents, whose words are far from the first axes, has short rows and is never selected.
        Others are functions of :mod:`replication.disf.features`.
    documents
        Gives all texts from the beginning.
    total
        How many there are.
    key
        Names what is fitted; it stands for the corpus, the seed and the settings.
    seed
        Of the sample and of the axes.
    folder
        Where what is fitted is kept.
    tell
        Hears of the progress.
    """
    if name != "tfidf":
        from replication.disf import features

        made_by = {"source": file_sha256(Path(features.__file__)), "device": str(resolve_device("auto"))}
        return Extractor(
            {"name": name, **made_by, "versions": versions("torch", "transformers", "sentence-transformers")}
        )
    settings = {
        "name": name,
        "buckets": _BUCKETS,
        "dimensions": _DIMENSIONS,
        "sample": _SAMPLE,
        "versions": versions("numpy", "scipy", "scikit-learn"),
        "norm": "l2",
    }
    path = folder / f"tfidf-{key}-{name_of(settings)}.npy"
    if rows.checksum(path) is None:
        wanted = np.random.default_rng(seed).choice(total, size=min(total, _SAMPLE), replace=False)
        _fit(_sample(documents(), wanted, total, tell), seed, path)
    return Extractor({**settings, "model": file_sha256(path)}, str(path))


def versions(*names: str) -> dict[str, str]:
    """Those of some packages, as far as they are installed."""
    found = {}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _sample(
    documents: Iterator[str], wanted: npt.NDArray[np.int64], total: int, tell: Callable[[str, int, int], None]
) -> Iterator[str]:
    chosen = set(wanted.tolist())
    for number, text in enumerate(itertools.islice(documents, max(chosen) + 1)):
        if number % 1000 == 0:
            tell("documents read to fit TF-IDF", number, total)
        if number in chosen:
            yield text
    tell("documents read to fit TF-IDF", total, total)


def _words(buckets: int) -> Any:
    from sklearn.feature_extraction.text import HashingVectorizer  # a second or two, which not every worker needs

    return HashingVectorizer(n_features=buckets, alternate_sign=False, norm=None, dtype=np.float32)


def _fit(texts: Iterator[str], seed: int, path: Path) -> None:
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfTransformer

    counts = _words(_BUCKETS).transform(texts)
    tfidf = TfidfTransformer(sublinear_tf=True)
    weighted = tfidf.fit_transform(counts)
    with np.errstate(invalid="ignore"):  # a share of no variance, which is not used
        svd = TruncatedSVD(min(_DIMENSIONS, counts.shape[0]), random_state=seed).fit(weighted)
    rows.write(path, np.vstack([tfidf.idf_, svd.components_]).astype(np.float32))


@functools.lru_cache(maxsize=1)
def _fitted(path: str) -> tuple[Any, Any]:
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfTransformer

    tfidf, svd = TfidfTransformer(sublinear_tf=True), TruncatedSVD()
    fitted = np.load(path, allow_pickle=False)
    tfidf.idf_, svd.components_ = fitted[0], fitted[1:]
    return tfidf, svd
