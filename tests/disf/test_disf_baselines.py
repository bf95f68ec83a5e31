"""The methods that DiSF is compared with: each against its own definition, on pools where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replication.disf import baselines

RNG = np.random.default_rng(0)
POOL = RNG.standard_normal((60, 5))
TARGET = RNG.standard_normal((8, 5)) + np.array([3, 0, 0, 0, 0])
TEXTS = ["the cat sat on the mat", "import os\nimport sys", "a dog and a cat", "def f(x): return x + 1"] * 15

METHODS = {
    "random": lambda k, seed: baselines.random(60, k, seed),
    "dsir": lambda k, seed: baselines.dsir(TEXTS, ["a cat sat"], k, seed),
    "top_cosine": lambda k, seed: baselines.top_cosine(POOL, TARGET, k, seed),
    "many_targets": lambda k, seed: baselines.many_targets(POOL, [TARGET, -TARGET], k, seed),
    "classifier": lambda k, seed: baselines.classifier(POOL, TARGET, k, seed),
    "d4": lambda k, seed: baselines.d4(POOL, k, seed, clusters=4),
    "facility_location": lambda k, seed: baselines.facility_location(POOL, k, seed, batch_size=25),
    "log_det": lambda k, seed: baselines.log_det(POOL, k, seed, batch_size=25),
}


def test_every_public_method_is_tested():
    assert set(METHODS) == set(baselines.__all__)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("k", [1, 7, 20])
def test_k_different_rows_and_the_same_ones_again(method, k):
    picks = METHODS[method](k, 0)
    assert picks.dtype == np.int64
    assert len(picks) == len(set(picks)) == k
    assert 0 <= min(picks) <= max(picks) < 60
    assert METHODS[method](k, 0).tolist() == picks.tolist()


@pytest.mark.parametrize("method", ["random", "dsir", "d4", "facility_location", "log_det"])
def test_the_seed_matters(method):
    assert METHODS[method](10, 0).tolist() != METHODS[method](10, 1).tolist()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("k", [0, 61, 2.0, True])
def test_k_out_of_range_is_named(method, k):
    with pytest.raises(ValueError, match="k: must be an integer from 1 to the 60"):
        METHODS[method](k, 0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", [np.random.RandomState(0), True, 1.0, -1, "0"])
def test_seeds_are_integers_and_not_how_they_print(method, seed):
    with pytest.raises(ValueError, match="seed: must be an integer of at least 0"):
        METHODS[method](3, seed)
    assert METHODS[method](3, np.int64(1)).tolist() == METHODS[method](3, 1).tolist()


@pytest.mark.parametrize("method", [baselines.d4, baselines.facility_location, baselines.log_det])
def test_nan_is_named(method):
    with pytest.raises(ValueError, match="features contains NaN"):
        method(np.where(POOL > 2, np.nan, POOL), 3, 0)


def test_other_arguments_are_named():
    for smoothing in (0, -1.0):
        with pytest.raises(ValueError, match=f"smoothing: must be positive and finite, got {smoothing:g}"):
            baselines.dsir(TEXTS, ["a cat"], 3, 0, smoothing=smoothing)
    with pytest.raises(ValueError, match="targets: must hold at least one target, got none"):
        baselines.many_targets(POOL, [], 3, 0)
    for method in (baselines.facility_location, baselines.log_det):
        with pytest.raises(ValueError, match=r"batch_size: must be an integer of at least 1, got 1\.5"):
            method(POOL, 3, 0, batch_size=1.5)


def test_random_is_uniform():
    counts = np.bincount(np.concatenate([baselines.random(10, 3, seed) for seed in range(2000)]), minlength=10)
    assert abs(counts - 600).max() < 5 * np.sqrt(2000 * 0.3 * 0.7)


def test_dsir_weights_are_the_ratio_of_bags_of_words_and_pairs(monkeypatch):
    texts, target = ["a b", "a c", "c c", "b a"], ["a b", "a"]
    # counts of a, b, c and of the pairs ab, ac, cc, ba
    counts = np.array([[1, 1, 0, 1, 0, 0, 0], [1, 0, 1, 0, 1, 0, 0], [0, 0, 2, 0, 0, 1, 0], [1, 1, 0, 0, 0, 0, 1]])
    buckets, smoothing = 1 << 20, 0.5
    q = counts.sum(0) + smoothing
    p = np.array([2, 1, 0, 1, 0, 0, 0]) + smoothing
    # every bucket is smoothed, the empty ones, too
    log_p = np.log(p / (4 + smoothing * buckets))
    log_q = np.log(q / (counts.sum() + smoothing * buckets))
    order = np.argsort(-(counts @ (log_p - log_q) + np.random.default_rng(3).gumbel(size=4)))
    picks = baselines.dsir(texts, target, 4, 3, buckets=buckets, smoothing=smoothing)
    assert picks.tolist() == order.tolist()


def test_dsir_prefers_the_target():
    code = np.mean([np.mean(baselines.dsir(TEXTS, ["import sys", "return x"], 10, seed) % 2) for seed in range(20)])
    assert code > 0.95
    with pytest.raises(ValueError, match="target_texts: must hold at least one"):
        baselines.dsir(TEXTS, [], 3, 0)


def test_top_cosine_is_by_angle_not_by_length():
    pool = np.array([[100.0, 100.0], [0.1, 0.0], [0.0, 5.0], [1.0, 0.1], [0.0, 0.0]])
    assert baselines.top_cosine(pool, np.array([[9.0, 0.0], [1.0, 0.0]]), 3, 0).tolist() == [1, 3, 0]


def test_ties_are_broken_at_random():
    firsts = {int(baselines.top_cosine(np.ones((20, 2)), np.ones((1, 2)), 1, seed)[0]) for seed in range(40)}
    assert len(firsts) > 10


def test_the_classifier_finds_the_target_domain():
    pool = np.concatenate([POOL, TARGET + 0.1])
    assert set(baselines.classifier(pool, TARGET, 8, 0)) >= set(range(60, 66))


def test_d4_drops_near_copies_then_what_is_near_a_centroid():
    centres = np.eye(4)[:3] * 10
    rng = np.random.default_rng(1)
    radii = np.repeat([0.5, 4.0], 30)
    pool = np.repeat(centres, 20, axis=0)[rng.permutation(60)]
    noise = rng.standard_normal((60, 4))
    pool = pool + noise / np.linalg.norm(noise, axis=1, keepdims=True) * radii[:, None]
    pool = np.concatenate([pool, pool[:40] * 1.5])  # copies in direction, all later
    picks = baselines.d4(pool, 20, 0, clusters=3, similarity=1 - 1e-9)
    assert picks.max() < 60  # no copy
    assert np.mean(picks >= 30) > 0.9  # the outer shell
    assert baselines.d4(pool, 60, 0, clusters=3, similarity=1 - 1e-9).max() < 60
    with pytest.raises(ValueError, match="k: cannot select 61, since only 60 of 100 documents"):
        baselines.d4(pool, 61, 0, clusters=3, similarity=1 - 1e-9)
    with pytest.raises(ValueError, match=r"keep: must lie in \(0, 1\]"):
        baselines.d4(pool, 6, 0, keep=0)


def assert_greedy(value, picks, n):
    """Each pick has the highest value; but for rounding, since two rows may well be equally good."""
    for step in range(len(picks)):
        values = [value([*picks[:step], row]) for row in range(n) if row not in picks[:step]]
        assert value(picks[: step + 1]) >= max(values) - 1e-9


@given(st.integers(0, 2**32))
@settings(deadline=None, max_examples=15)
def test_facility_location_is_greedy_for_its_objective(seed):
    X = np.random.default_rng(seed).standard_normal((15, 3))
    units = X / np.linalg.norm(X, axis=1, keepdims=True)
    similar = (units @ units.T + 1) / 2
    assert_greedy(lambda rows: similar[rows].max(0).sum(), baselines.facility_location(X, 12, 0).tolist(), 15)


@given(st.integers(0, 2**32))
@settings(deadline=None, max_examples=15)
def test_log_det_is_greedy_for_its_objective(seed):
    X = np.random.default_rng(seed).standard_normal((15, 3)) * [1, 5, 0.1] + 2
    Z = (X - X.mean(0)) / X.std(0)

    def value(rows):
        return np.linalg.slogdet(np.eye(len(rows)) + Z[rows] @ Z[rows].T / 3)[1]

    assert_greedy(value, baselines.log_det(X, 15, 0).tolist(), 15)


def test_facility_location_is_apricots():
    apricot = pytest.importorskip("apricot")
    X = np.random.default_rng(0).standard_normal((200, 8))
    units = X / np.linalg.norm(X, axis=1, keepdims=True)
    peer = apricot.FacilityLocationSelection(30, metric="precomputed", optimizer="naive")
    assert baselines.facility_location(X, 30, 0).tolist() == peer.fit((units @ units.T + 1) / 2).ranking.tolist()


@pytest.mark.parametrize("method", [baselines.facility_location, baselines.log_det])
def test_batches_are_a_random_partition_that_shares_k(method):
    picks = method(POOL, 24, 5, batch_size=25)
    batches = np.split(np.random.default_rng(5).permutation(60), [25, 50])
    assert [len(set(batch) & set(picks)) for batch in batches] == [10, 10, 4]
    one = method(POOL, 24, 0, batch_size=60)
    assert one.tolist() == method(POOL, 24, 1).tolist()  # one batch: nothing is random
    with pytest.raises(ValueError, match="batch_size: must be an integer of at least 1, got 0"):
        method(POOL, 24, 5, batch_size=0)


def test_many_targets_takes_the_nearest_of_each_in_turn():
    """Of one target it is top cosine; of two, each gives its best, then its second best."""
    np.testing.assert_array_equal(
        np.sort(baselines.many_targets(POOL, [TARGET], 9, 0)), np.sort(baselines.top_cosine(POOL, TARGET, 9, 0))
    )
    nearest, farthest = (baselines.top_cosine(POOL, target, 5, 0).tolist() for target in (TARGET, -TARGET))
    assert set(baselines.many_targets(POOL, [TARGET, -TARGET], 10, 0)) == {*nearest, *farthest}
