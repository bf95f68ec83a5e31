"""The collapse experiment, small: what is measured on what, and that a wrong selection would be seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from corpus_toys import write_corpus
from pydantic import ValidationError

from replication import evidence
from replication.disf import spectrum
from replication.disf.experiments import collapse as c
from replication.disf.experiments import material

TINY = {
    "document_bytes": 120, "pieces": 3, "pool": 80, "target_documents": 6, "dimension": 12, "ratio": 0.25,
    "targets": ["prose", "code"], "batch_size": 40, "ks": [5, 10], "seeds": 3, "order_sizes": [2, 4, 8],
    "parity_problems": 1, "pick_trials": 2, "duplicate_problems": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return c.Config(text=str(write_corpus(tmp_path_factory.mktemp("corpus"))), **TINY)


@pytest.fixture(scope="module")
def records(config):
    return evidence.gather(c, config)


def rows(records, quantity, **where):
    found = records[records["quantity"] == quantity]
    for column, level in where.items():
        found = found[found[column] == level]
    return found


def test_records_hold_every_selection_on_every_feature_set(records, config):
    own = rows(records, "dominance", view="own", k=10)
    counts = own.groupby(["method", "target", "measured_on"])["seed"].nunique()
    assert (counts == 3).all()
    untargeted = {(m, "none") for m in ("random", *config.methods)}
    targeted = {(m, t) for m in material.TARGETED for t in config.targets}
    for measured_on in config.features:
        found = own[own["measured_on"] == measured_on]
        assert set(zip(found["method"], found["target"], strict=True)) == untargeted | targeted
    other = rows(records, "dominance", view="other")
    assert set(other["k"]) == {10}
    assert (other["selected_on"] != other["measured_on"]).all()


def test_methods_without_features_are_the_same_whatever_the_features(records):
    for method in material.WITHOUT_FEATURES:
        found = rows(records, "effective_rank", method=method)
        wide = found.pivot_table(index=["target", "measured_on", "seed"], columns="selected_on", values="value")
        np.testing.assert_array_equal(wide["tfidf"], wide["bytes"])
    wide = rows(records, "effective_rank", method="disf").pivot_table(
        index=["measured_on", "seed"], columns="selected_on", values="value"
    )
    assert (wide["tfidf"] != wide["bytes"]).all()


def test_values_are_those_of_the_selected_rows(config):
    """Recompute one selection's spectrum from scratch: right rows, right features, all methods at equal n."""
    texts = c.load(config)
    found = {name: material.embed(texts.texts, name, dimension=12) for name in config.features}
    parts = material.split(texts, 1, pool=80, targets=config.targets, target_documents=6)
    emitted = [row for row in c.selections(config, 1) if row["quantity"] == "effective_rank"]
    pool = material.Pool([], texts.domains[parts.pool], found["bytes"][parts.pool], {}, {})
    picked = material.choose("disf", pool, ratio=0.25, batch_size=40, seed=1)
    assert len(picked) == 20
    for measured_on, view in (("bytes", "own"), ("tfidf", "other")):
        (row,) = [
            row
            for row in emitted
            if row["method"] == "disf" and row["selected_on"] == "bytes" and row["measured_on"] == measured_on
        ]
        assert row["view"] == view
        assert row["value"] == pytest.approx(spectrum.effective_rank(found[measured_on][parts.pool][picked]), rel=1e-12)


def test_a_dimension_without_variance_is_drawn_as_nothing():
    features = np.random.default_rng(0).standard_normal((30, 4))
    features[:, 2] = 0
    pool = material.Pool([], np.array([]), features, {}, {})
    places = []
    for one in (pool, replace(pool, features=features[:, [0, 1, 3]])):
        found = c._picture(one, np.arange(30), {"method": "disf"})
        places.append([abs(row["value"]) for row in found if row["quantity"] == "pca"])
    assert places[0] == pytest.approx(places[1])


def test_collapse_is_the_paired_difference_in_deviations_of_random(records):
    for metric, quantity, sign in (("dominance", "dominance", 1), ("effective rank", "effective_rank", -1)):
        found = rows(records, quantity, view="own", measured_on="bytes")
        found = found[found["k"].isna() | (found["k"] == 10)]
        random = found[found["method"] == "random"].set_index("seed")["value"]
        dsir = found[(found["method"] == "dsir") & (found["target"] == "code")].set_index("seed")["value"]
        where = {"metric": metric, "view": "own", "measured_on": "bytes", "method": "dsir", "target": "code"}
        value = rows(records, "collapse", **where).set_index("seed")["value"]
        np.testing.assert_allclose(value, sign * (dsir - random)[value.index] / random.std(), rtol=1e-12)


def test_objective_grows_and_greedy_is_ahead(records):
    wide = rows(records, "objective").pivot_table(index=["seed", "size"], columns="order", values="value")
    assert (wide.groupby("seed").diff().dropna() > 0).all(axis=None)
    late = wide.loc[(slice(None), 8), :]
    assert (late["greedy"] > late["random"]).all()


def test_second_picks_are_ranked_by_distance(records):
    ranks = rows(records, "second_pick_rank")
    assert set(ranks["rule"]) == {"authors", "random", "farthest"}
    assert set(ranks["data"]) == {"documents", "Gaussian"}
    assert ranks["value"].between(0, 1).all()
    assert (ranks.loc[ranks["rule"] == "farthest", "value"] == 1).all()
    assert (ranks["value"] > 0).all()  # 0 is the first document itself


def test_a_planted_duplicate_is_looked_for_where_it_is(records, config, monkeypatch):
    assert (rows(records, "duplicate_deviation")["value"] == 0).all()
    original = c.select_batch

    def broken(x, k, **options):
        picked = original(x, k, **options)
        copy = np.flatnonzero((x == x[options["first"]]).all(axis=1))[1]
        if options["second"] == "authors":
            return picked[[0, *range(2, k), 1]]
        return np.concatenate([picked[:-1], [copy]])

    monkeypatch.setattr(c, "select_batch", broken)
    wrong = [row for row in c.duplicates(config) if row["value"] != 0]
    assert {row["rule"] for row in wrong} == {"authors", "random", "farthest"}


def test_parity_sees_another_pick(records, config, monkeypatch):
    assert (rows(records, "pick_mismatches")["value"] == 0).all()
    assert rows(records, "score_error")["value"].max() < 1e-12
    original = c.select_batch
    monkeypatch.setattr(c, "select_batch", lambda *a, **k: original(*a, **k)[::-1])
    assert all(row["value"] > 0 for row in c.parity(config) if row["quantity"] == "pick_mismatches")


def test_same_configuration_gives_the_same_records(records, config):
    assert records.equals(evidence.gather(c, config))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"ks": [20]}, "ks: must hold 10"),
        ({"methods": ["d4"]}, "methods: must hold disf"),
        ({"order_sizes": [1, 4]}, "order_sizes: the objective needs"),
        ({"order_sizes": []}, "order_sizes: the objective needs"),
        ({"pool": 50}, "order_sizes: must be at most the 50 documents of a batch, got"),
        ({"batch_size": 40}, "order_sizes: must be at most the 40 documents of a batch, got"),
        ({"methods": ["disf", "dsir"]}, "methods"),
        ({"methods": ["disf", "best"]}, "methods"),
        ({"features": ["tfidf"]}, "features"),
        ({"ratio": 0.0}, "ratio"),
        ({"ratio": 0.002}, "ratio: must select more than 10 documents, got 4 of the pool's 2048"),
        ({"sedes": 3}, "sedes"),
    ],
)
def test_bad_parameters_are_refused_by_name(changes, named):
    with pytest.raises(ValidationError, match=named):
        c.Config(**changes)
