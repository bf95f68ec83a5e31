"""DiSF's fast selection: the authors' picks, its invariances, its repairs and its errors."""

from __future__ import annotations

import json
import math
import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import sparse

from replication.disf import reference, selection
from replication.disf.selection import batch_seed, candidate_scores, gains, quota, select, select_batch

CASES = json.loads((Path(__file__).parents[1] / "golden" / "disf_selection.json").read_text())["cases"]
AS_THE_AUTHORS: dict[str, Any] = {"second": "authors", "on_duplicates": "keep"}


def gaussian(seed, n, d):
    return np.random.default_rng(seed).standard_normal((n, d)) * 0.04


def clustered(seed, n, d):
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((12, d))
    label = rng.integers(0, 12, n)
    noise = rng.standard_normal((n, d))
    return (centres[label] + 0.7 * noise) * np.exp(-np.arange(d) / (d / 4)) * 0.05


def low_rank(seed, n, d):
    rng = np.random.default_rng(seed)
    left, right = rng.standard_normal((n, 8)), rng.standard_normal((8, d))
    return (left @ right + 0.1 * rng.standard_normal((n, d))) * 0.05


KINDS = {"gaussian": gaussian, "clustered": clustered, "low rank": low_rank}


def golden_features(case):
    X = KINDS[case["kind"]](case["seed"], case["N"], case["d"])
    if case["copy_of_first"] is not None:
        X[case["copy_of_first"]] = X[case["first"]]
    assert X.sum() == pytest.approx(case["sum"], rel=1e-9)
    assert np.square(X).sum() == pytest.approx(case["sum_of_squares"], rel=1e-9)
    return X


# --- the authors' picks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_picks_are_those_of_the_authors_code(case, dtype, library):
    X = golden_features(case).astype(dtype)
    picks = select(X if library == "numpy" else torch.from_numpy(X), k=case["k"], first=case["first"], **AS_THE_AUTHORS)
    assert picks.tolist() == case["indices"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_scores_are_those_of_the_authors_code(case):
    X, picks = golden_features(case), case["indices"]
    assert candidate_scores(X, picks[:-1])[picks[-1]] == pytest.approx(case["score"], rel=1e-9)
    assert candidate_scores(X, picks[:1])[picks[1]] == pytest.approx(case["score_at_2"], rel=1e-9, abs=1e-6)
    assert float(reference.score(torch.from_numpy(X[picks]))) == pytest.approx(case["score"], rel=1e-9)


@pytest.mark.parametrize("case", CASES[:1] + CASES[2:3], ids=lambda case: case["name"])
def test_the_reference_picks_what_the_authors_code_does(case):
    assert reference.greedy(torch.from_numpy(golden_features(case)), case["k"], case["first"]) == case["indices"]


@st.composite
def problems(draw, dtype=np.float64):
    """Features of any rank and scale, some rows nearly equal, with a first pick and k."""
    n, d = draw(st.integers(4, 24)), draw(st.integers(2, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rank = draw(st.integers(1, d))
    X = rng.standard_normal((n, rank)) @ rng.standard_normal((rank, d)) + 0.01 * rng.standard_normal((n, d))
    X = X * 10.0 ** rng.uniform(-1, 1, d) * 10.0 ** draw(st.integers(-2, 3)) + draw(st.sampled_from([0, 10]))
    for _ in range(draw(st.integers(0, 3))):
        i, j = rng.choice(n, 2, replace=False)
        X[i] = X[j] * (1 + draw(st.sampled_from([1e-2, 1e-4])) * rng.standard_normal(d))
    return X.astype(dtype), draw(st.integers(3, n)), draw(st.integers(0, n - 1))


def assert_greedy(X, picks, start, rtol):
    """Every pick from the ``start``-th on has the lowest score that a whole recomputation in float64 finds."""
    rows = torch.from_numpy(X.astype(np.float64))
    for n in range(start, len(picks)):
        left = [row for row in range(len(X)) if row not in picks[:n]]
        values = {row: float(reference.score(rows[[*picks[:n], row]])) for row in left}
        assert values[picks[n]] <= min(values.values()) + rtol * X.shape[1] ** 2


@given(problems())
@settings(deadline=None, max_examples=60)
def test_every_pick_is_the_argmax_of_the_objective(problem):
    X, k, first = problem
    picks = select_batch(X, k, first=first, **AS_THE_AUTHORS).tolist()
    assert picks[0] == first
    assert sorted(set(picks)) == sorted(picks)
    assert_greedy(X, picks, 1, 1e-9)


@given(problems(np.float32))
@settings(deadline=None, max_examples=30)
def test_every_pick_is_the_argmax_of_the_objective_in_float32(problem):
    X, k, first = problem
    assert_greedy(X, select_batch(X, k, first=first).tolist(), 2, 1e-3)


@given(problems(), st.data())
@settings(deadline=None, max_examples=40)
def test_candidate_scores_are_a_whole_recomputation(problem, data):
    X, k, _ = problem
    chosen = data.draw(st.permutations(range(len(X))))[: k - 1]
    rows = torch.from_numpy(X)
    expected = [float(reference.score(rows[[*chosen, row]])) for row in range(len(X))]
    np.testing.assert_allclose(candidate_scores(X, chosen), expected, rtol=1e-8, atol=1e-8 * X.shape[1] ** 2)


@pytest.mark.parametrize("d", [1, 2, 3, 7, 30])
def test_both_forms_of_the_quadratic_term_agree(d):
    """With few members it is computed from pairs of rows, with many from A∘A; this goes through the change."""
    X = gaussian(1, 40, d)
    for n in range(1, 39):
        chosen = list(range(n))
        expected = [float(reference.score(torch.from_numpy(X[[*chosen, row]]))) for row in (0, 39)]
        np.testing.assert_allclose(candidate_scores(X, chosen)[[0, 39]], expected, rtol=1e-9, atol=1e-9)


# --- invariances ------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32), st.integers(0, 2**32))
@settings(deadline=None, max_examples=25)
def test_scale_and_origin_of_a_dimension_do_not_matter(seed, other):
    X = np.random.default_rng(seed).standard_normal((30, 6))
    rng = np.random.default_rng(other)
    moved = X * rng.choice([-1, 1], 6) * 10.0 ** rng.uniform(0, 3, 6) + rng.uniform(-5, 5, 6)
    for options in ({"seed": seed}, {"first": 4, "seed": 1}):
        assert select_batch(X, 8, **options).tolist() == select_batch(moved, 8, **options).tolist()


@given(st.integers(0, 2**32), st.permutations(range(30)))
@settings(deadline=None, max_examples=25)
def test_the_order_of_the_rows_does_not_matter(seed, order):
    X = np.random.default_rng(seed).standard_normal((30, 6))
    picks = select_batch(X, 8, first=4, second="farthest")
    permuted = select_batch(X[order], 8, first=order.index(4), second="farthest")
    assert np.asarray(order)[permuted].tolist() == picks.tolist()


def test_a_dimension_without_variance_does_not_matter():
    X = gaussian(0, 50, 8)
    padded = np.insert(X, [2, 8], [0.1, -7.0], axis=1)
    for options in ({"criterion": "correlation"}, {"criterion": "participation"}):
        assert select_batch(X, 10, **options).tolist() == select_batch(padded, 10, **options).tolist()


def test_fewer_picks_are_a_prefix_of_more():
    X = gaussian(0, 60, 8)
    assert select_batch(X, 20, seed=3)[:7].tolist() == select_batch(X, 7, seed=3).tolist()


def test_k_equal_to_the_rows_selects_all():
    assert sorted(select_batch(gaussian(0, 20, 30), 20)) == list(range(20))


# --- the second pick, duplicates --------------------------------------------------------------------------------------


def test_the_authors_second_pick_is_a_copy_of_the_first_and_the_repair_avoids_it():
    for seed in range(10):
        X = gaussian(seed, 64, 16)
        X[40] = X[11]
        assert select_batch(X, 2, first=11, **AS_THE_AUTHORS).tolist() == [11, 40]
        assert 40 not in select_batch(X, 20, first=11, seed=seed)
        assert 11 not in select_batch(X, 20, first=40, seed=seed)  # the copy that was asked for is the one taken


def test_the_second_pick_is_random_or_farthest():
    X = gaussian(0, 50, 4)
    seconds = {int(select_batch(X, 2, first=7, seed=seed)[1]) for seed in range(30)}
    assert len(seconds) > 10
    assert 7 not in seconds
    farthest = int(np.argmax(np.linalg.norm(X - X[7], axis=1)))
    assert select_batch(X, 2, first=7, second="farthest").tolist() == [7, farthest]


def test_first_picks_are_random_and_repeatable():
    X = gaussian(0, 50, 4)
    firsts = [int(select_batch(X, 1, seed=seed)[0]) for seed in range(60)]
    assert firsts == [int(select_batch(X, 1, seed=seed)[0]) for seed in range(60)]
    assert len(set(firsts)) > 25


def test_of_copies_the_first_is_selected():
    X = np.repeat(gaussian(0, 12, 6), 5, axis=0)
    picks = select_batch(X, 12, seed=1)
    assert sorted(picks) == list(range(0, 60, 5))
    kept = select_batch(X, 30, first=0, seed=1, on_duplicates="keep")
    for row in range(0, 60, 5):  # of equal rows, those left over are always the last
        taken = [int(p) for p in kept[2:] if row <= p < row + 5]
        assert taken == sorted(taken)


def test_too_few_distinct_rows_give_all_of_them_and_a_warning():
    X = np.repeat(gaussian(0, 3, 6), 4, axis=0)
    with pytest.warns(UserWarning, match="7 of 10 rows could not be selected"):
        assert sorted(select_batch(X, 10)) == [0, 4, 8]
    with pytest.warns(UserWarning, match="2 of 10 rows"):
        picks = select(np.concatenate([X, gaussian(1, 12, 6)]), k_per_batch=5, batch_size=12)
    assert len(picks) == 8
    assert len(select_batch(X, 10, on_duplicates="keep")) == 10


def test_copies_of_one_row_only():
    X = np.ones((6, 3))
    with pytest.warns(UserWarning, match="1 of 2"):
        assert select_batch(X, 2).tolist() == [0]
    for options in (AS_THE_AUTHORS, {"on_duplicates": "keep", "criterion": "participation"}):
        assert sorted(select_batch(X, 6, **options)) == list(range(6))


def test_duplicates_can_be_refused():
    X = gaussian(0, 30, 4)
    X[25] = X[23]
    with pytest.raises(ValueError, match="row 25 is an exact copy of row 23"):
        select(X, k_per_batch=2, batch_size=10, on_duplicates="error")
    X[25, 0] = np.nextafter(X[25, 0], 1)
    assert len(select(X, k_per_batch=2, batch_size=10, on_duplicates="error")) == 6


# --- features of other types ------------------------------------------------------------------------------------------


WHOLE = np.random.default_rng(2).integers(0, 9, (60, 6))


@pytest.mark.parametrize(
    "convert",
    [
        np.ndarray.tolist,
        pd.DataFrame,
        lambda X: pd.DataFrame(X).astype({0: "Int64", 1: object}),
        lambda X: X.astype(np.float16),
        lambda X: X.astype(">f4"),
        lambda X: X.astype(np.int8),
        sparse.csc_matrix,
        sparse.coo_array,
        torch.from_numpy,
        lambda X: torch.from_numpy(X).to(torch.bfloat16),
        lambda X: torch.from_numpy(X).to_sparse(),
        lambda X: torch.from_numpy(X).double().requires_grad_(),
    ],
)
def test_features_of_other_types_are_those_in_float64(convert):
    expected = select(WHOLE.astype(np.float64), k=12, batch_size=25)
    assert select(convert(WHOLE), k=12, batch_size=25).tolist() == expected.tolist()
    assert select_batch(convert(WHOLE), 5).tolist() == select_batch(WHOLE.astype(np.float64), 5).tolist()
    found = gains(convert(WHOLE), expected, batch_size=25)
    np.testing.assert_array_equal(found, gains(WHOLE.astype(np.float64), expected, batch_size=25))
    np.testing.assert_array_equal(candidate_scores(convert(WHOLE), [3]), candidate_scores(WHOLE.astype(float), [3]))


def test_sums_of_half_precision_are_in_float64():
    """In float16 the squares of these overflow, and in float32 their differences would be rounded."""
    X = (gaussian(0, 40, 5) * 1e5 + 3e4).astype(np.float16)
    assert select_batch(X, 9, seed=1).tolist() == select_batch(X.astype(np.float64), 9, seed=1).tolist()
    rows = torch.from_numpy(X.astype(np.float64))
    assert candidate_scores(X, [1, 2, 3])[7] == pytest.approx(float(reference.score(rows[[1, 2, 3, 7]])), rel=1e-9)


# --- features of a small scale ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("criterion", list(selection.CRITERIA))
@pytest.mark.parametrize(
    ("dtype", "scale", "power"), [("f8", 2.0**-66, 65), ("f4", 2.0**-66, 65), ("f8", 2.0**-900, 899)]
)
def test_features_that_epsilon_would_decide_are_scaled_up_and_the_scale_is_named(criterion, dtype, scale, power):
    X = np.random.default_rng(0).standard_normal((90, 6)).astype(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = select(X, k=10, batch_size=50, criterion=criterion).tolist()
    with pytest.warns(UserWarning, match=rf"no dimension has a variance above .*1e-08.* multiplied by 2\*\*{power}"):
        found = select(X * np.dtype(dtype).type(scale), k=10, batch_size=50, criterion=criterion).tolist()
    assert found == expected


def test_dimensions_that_epsilon_makes_constant_are_told():
    X = gaussian(0, 50, 6)
    X[:, 2] *= 1e-5
    with pytest.warns(UserWarning, match="dimensions with a variance below .* count as constant beside the others"):
        picks = select_batch(X, 10)
    assert picks.tolist() == select_batch(np.delete(X, 2, axis=1), 10).tolist()
    with warnings.catch_warnings():  # what rounding leaves of equal numbers is no variance
        warnings.simplefilter("error")
        select_batch(np.insert(X * [1, 1, 1e5, 1, 1, 1], [2, 6], [0.1, -1e7 / 3], axis=1), 10)
        select_batch(np.full((30, 3), 0.1), 1)
        select_batch(low_rank(0, 30, 12)[:, :2] @ np.random.default_rng(0).standard_normal((2, 40)), 5)


# --- seeds, rows to begin with, gains ---------------------------------------------------------------------------------


def test_seeds_are_integers_generators_or_fresh():
    X = gaussian(0, 200, 4)

    def found(seed):
        return tuple(select(X, k=6, batch_size=50, seed=seed).tolist())

    assert found(np.int64(3)) == found(np.uint8(3)) == found(3)
    for make in (np.random.default_rng, np.random.RandomState):
        assert found(make(0)) == found(make(0)) != found(make(1))
        generator = make(0)
        assert found(generator) != found(generator)  # it goes on
    assert found(None) != found(None)
    assert select_batch(X, 6, seed=None).tolist() != select_batch(X, 6, seed=None).tolist()


@given(problems(), st.data())
@settings(deadline=None, max_examples=30)
@pytest.mark.filterwarnings("ignore:features")
def test_rows_to_begin_with_are_gone_on_from_greedily(problem, data):
    X, k, _ = problem
    first = data.draw(st.permutations(range(len(X))))[: data.draw(st.integers(2, k))]
    picks = select_batch(X, k, first=first, on_duplicates="keep").tolist()
    assert picks[: len(first)] == list(first)
    assert len(set(picks)) == k
    assert_greedy(X, picks, len(first), 1e-9)


def test_each_batch_begins_with_its_own_of_the_rows_to_begin_with(monkeypatch):
    X = gaussian(0, 250, 6)
    options: dict[str, Any] = {"k_per_batch": 6, "batch_size": 100, "first": [120, 7, 103, 50]}
    picks = select(X, **options)
    assert picks[:2].tolist() == [7, 50]
    assert picks[6:8].tolist() == [120, 103]
    free = select(X, k_per_batch=6, batch_size=100)
    assert picks[12:].tolist() == free[12:].tolist()
    parts = [select_batch(X[:100], 6, first=[7, 50]), 100 + select_batch(X[100:200], 6, first=[20, 3])]
    assert picks[:12].tolist() == np.concatenate(parts).tolist()
    monkeypatch.setitem(selection._GROUP, "cpu", 2)  # as on a GPU
    assert select(X, **options).tolist() == picks.tolist()


def test_rows_to_begin_with_may_not_be_copies_of_each_other():
    X = gaussian(0, 30, 4)
    X[20] = X[10]
    with pytest.raises(ValueError, match="first: some rows are exact copies of each other"):
        select_batch(X, 5, first=[10, 20])
    assert select_batch(X, 5, first=[10, 20], on_duplicates="keep")[:2].tolist() == [10, 20]
    picks = select_batch(X, 29, first=[3, 20]).tolist()
    assert picks[:2] == [3, 20]
    assert 10 not in picks


@given(problems())
# the chosen rows are nearly equal, the batch is not
@example((np.array([[-0.1564, 0.0123], [0.18350, -0.01357], [0.18367, -0.01347], [0.18352, -0.01357]]), 3, 0))
@settings(deadline=None, max_examples=30)
@pytest.mark.filterwarnings("ignore:features")
def test_gains_are_the_growth_of_the_objective(problem):
    X, k, _ = problem
    picks = np.random.default_rng(k).permutation(len(X))[:k]
    values = [reference.objective(torch.from_numpy(X[picks[:n]])) for n in range(2, k + 1)]
    found = gains(X, picks)
    assert np.isnan(found[:2]).all()
    np.testing.assert_allclose(found[2:], np.diff(values), atol=1e-7 * X.shape[1])


def test_gains_are_counted_in_each_batch_and_fall_along_the_greedy_order():
    X = clustered(0, 130, 20).astype(np.float32)
    picks = select(X, k_per_batch=30, batch_size=100)
    found = gains(X, picks, batch_size=100)
    assert np.flatnonzero(np.isnan(found)).tolist() == [0, 1, 30, 31]
    np.testing.assert_allclose(found[30:], gains(X[100:], picks[30:] - 100), atol=1e-9)
    assert (np.diff(found[2:12]) < 0).all()
    Y = gaussian(0, 30, 5)
    Y = (Y - Y.mean(0)) / np.abs(Y - Y.mean(0)).max()
    np.testing.assert_allclose(gains(Y * 2.0**-80, range(30)), gains(Y, range(30)), atol=1e-9)
    with pytest.raises(ValueError, match="picks: must be row numbers from 0 to 129"):
        gains(X, [3, 130])


def test_gains_take_picks_in_any_order_and_name_a_row_that_is_not_finite():
    X = clustered(0, 130, 20)
    picks = select(X, k_per_batch=30, batch_size=100)
    mixed = np.random.default_rng(0).permutation(picks)
    expected = np.full(len(mixed), np.nan)
    for of in (mixed < 100, mixed >= 100):
        expected[of] = gains(X, mixed[of], batch_size=100)
    np.testing.assert_array_equal(gains(X, mixed, batch_size=100), expected)
    X[mixed[7]] = np.nan
    with pytest.raises(ValueError, match=f"features: row {mixed[7]} has NaN"):
        gains(X, mixed, batch_size=100)


# --- our extension, and the covariance --------------------------------------------------------------------------------


@pytest.mark.parametrize("criterion", ["participation", "covariance"])
def test_kernel_criteria_are_a_whole_recomputation(criterion):
    X = clustered(0, 40, 7)
    if criterion == "participation":
        Z = (X - X.mean(0)) / np.sqrt(X.var(0, ddof=1) + reference.EPS)

        def direct(rows):
            C = np.cov(Z[rows].T)
            return np.square(C).sum() / np.trace(C) ** 2
    else:

        def direct(rows):
            return np.square(np.cov(X[rows].T, ddof=0) * len(rows)).sum()

    picks = select_batch(X, 9, first=5, second="farthest", criterion=criterion).tolist()
    for n in range(2, 9):
        values = [direct([*picks[:n], row]) for row in range(len(X))]
        np.testing.assert_allclose(candidate_scores(X, picks[:n], criterion=criterion), values, rtol=1e-9)
        assert picks[n] == min(set(range(len(X))) - set(picks[:n]), key=values.__getitem__)
    assert select_batch(X.astype(np.float32), 9, first=5, second="farthest", criterion=criterion).tolist() == picks


def test_the_objectives_differ():
    X = clustered(0, 100, 16)
    picks = {tuple(select_batch(X, 10, first=0, criterion=criterion)) for criterion in selection.CRITERIA}
    assert len(picks) == 3


# --- batches ----------------------------------------------------------------------------------------------------------


@given(st.integers(1, 400), st.integers(1, 50), st.floats(1e-4, 1))
def test_quotas_add_up_to_the_nearest_share(total, size, ratio):
    quotas = [quota(start, min(start + size, total), ratio) for start in range(0, total, size)]
    assert sum(quotas) == math.floor(Fraction(str(ratio)) * total + Fraction(1, 2))
    assert all(0 <= q <= min(size, total - i * size) for i, q in enumerate(quotas))
    assert max(quotas) - min(quotas[:-1] or quotas) <= 1


@pytest.mark.parametrize("rows", [1, 99, 100, 250, 301])
@pytest.mark.parametrize("share", [{"k": 7}, {"k_per_batch": 7}, {"ratio": 0.07}])
def test_batches_are_independent_units_of_work(rows, share):
    X = gaussian(0, rows, 6)
    size = min(100, rows)
    if rows == 1:
        share = {"k": 1}
    whole = select(X, batch_size=100, seed=5, **share)
    parts = []
    for i in reversed(range(-(-rows // size))):  # in any order
        start, stop = i * size, min((i + 1) * size, rows)
        ((name, value),) = share.items()
        k = quota(start, stop, Fraction(value, {"k": rows, "k_per_batch": size}[name]) if name != "ratio" else value)
        parts.insert(0, start + select_batch(X[start:stop], k, seed=batch_seed(5, i)))
    assert whole.tolist() == np.concatenate(parts).tolist()
    assert len(whole) == len(set(whole)) == sum(map(len, parts))


def test_a_ratio_is_taken_by_its_decimal_digits():
    assert quota(0, 300, 0.015) == 5  # 4.5, rounded half up, though the double 0.015 is below 15/1000
    assert quota(0, 300, Fraction(0.015)) == 4


@pytest.mark.parametrize("ratio", [0.0, 2.0, math.nan, "1%", True])
def test_a_quota_of_no_share_is_refused(ratio):
    with pytest.raises(ValueError, match=r"ratio: must be a share in \(0, 1\], got"):
        quota(0, 10, ratio)


def test_k_is_the_total_of_which_batches_give_fair_shares():
    X = gaussian(0, 250, 6)
    assert np.bincount(select(X, k=8, batch_size=100) // 100).tolist() == [3, 3, 2]
    assert len(select(X[:200], k=50, batch_size=64)) == 50
    assert len(select(X, k=250, batch_size=99)) == 250


def test_k_per_batch_is_the_number_of_each_whole_batch_and_the_rest_gives_its_fair_share():
    picks = select(gaussian(0, 250, 6), k_per_batch=8, batch_size=100)
    assert np.bincount(picks // 100).tolist() == [8, 8, 4]
    assert len(select(gaussian(0, 60, 6), k_per_batch=24, batch_size=1024)) == 24


def test_batches_have_their_own_random_picks():
    X = np.tile(gaussian(0, 20, 6), (30, 1))
    firsts = select(X, k_per_batch=1, batch_size=20) % 20
    assert len(set(firsts)) > 8
    assert (select(X, k_per_batch=1, batch_size=20, seed=1) % 20).tolist() != firsts.tolist()


@pytest.mark.parametrize("criterion", list(selection.CRITERIA))
def test_many_batches_at_once_are_the_same_as_one_by_one(criterion, monkeypatch):
    """As on a GPU."""
    X = gaussian(0, 330, 6)
    X[[3, 7, 151]] = X[[1, 1, 150]]
    X[250:298] = X[250]
    options: dict[str, Any] = {"ratio": 0.155, "batch_size": 50, "criterion": criterion}
    with pytest.warns(UserWarning, match="rows could not be selected"):
        single = select(X, **options)
    monkeypatch.setitem(selection._GROUP, "cpu", 4)
    monkeypatch.setattr(selection, "_ROWS", 7)
    with pytest.warns(UserWarning, match="rows could not be selected"):
        assert select(X, **options).tolist() == single.tolist()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("criterion", list(selection.CRITERIA))
def test_a_gpu_selects_the_same(criterion):
    X = clustered(0, 3000, 48).astype(np.float32)
    options: dict[str, Any] = {"k": 70, "batch_size": 512, "criterion": criterion, "first": [3, 600, 601, 602]}
    assert select(torch.from_numpy(X).cuda(), **options).tolist() == select(X, **options).tolist()


def test_a_memory_map_and_views_are_read_as_they_are(tmp_path):
    X = gaussian(0, 120, 6).astype(np.float32)
    np.save(tmp_path / "x.npy", X)
    expected = select(X, k=5, batch_size=50).tolist()
    assert select(np.load(tmp_path / "x.npy", mmap_mode="r"), k=5, batch_size=50).tolist() == expected
    assert select(np.asfortranarray(X), k=5, batch_size=50).tolist() == expected
    assert select(np.repeat(X, 2, axis=0)[::2], k=5, batch_size=50).tolist() == expected


def test_features_are_left_as_they_were():
    X = gaussian(0, 50, 6)
    before = X.copy()
    for criterion in selection.CRITERIA:
        select(X, k=5, criterion=criterion)
    assert (before == X).all()


# --- errors -----------------------------------------------------------------------------------------------------------


GOOD = gaussian(0, 20, 4)


@pytest.mark.parametrize(
    ("features", "options", "error", "words"),
    [
        ([[1.0, 2.0], [1.0]], {"k": 2}, ValueError, "features: must have rows of equal length"),
        ([["a", "b"]], {"k": 1}, TypeError, "features: must be numbers, got <U1"),
        (pd.DataFrame({"n": [1], "text": ["a"]}), {"k": 1}, TypeError, "features: must be numbers, got object"),
        (GOOD * 1j, {"k": 1}, TypeError, "features: must be numbers, got complex128"),
        (torch.from_numpy(GOOD * 1j), {"k": 1}, TypeError, "features: must be numbers, got torch.complex128"),
        (GOOD[0], {"k": 2}, ValueError, r"features: must have shape \(documents, dimensions\), got \(4,\)"),
        (GOOD[:0], {"k": 2}, ValueError, r"got \(0, 4\)"),
        (GOOD.astype(np.float32) * np.float32(1e25), {"k": 4}, ValueError, "features: sums .* overflow torch.float32"),
        (GOOD, {}, ValueError, "k, ratio and k_per_batch: exactly one"),
        (GOOD, {"k": 2, "ratio": 0.1}, ValueError, "k, ratio and k_per_batch: exactly one"),
        (GOOD, {"k": 2, "k_per_batch": 2}, ValueError, "k, ratio and k_per_batch: exactly one"),
        (GOOD, {"k": 0}, ValueError, "k: must be at least 1, got 0"),
        (GOOD, {"k": 2.5}, TypeError, "k: must be an integer, got 2.5"),
        (GOOD, {"k": True}, TypeError, "k: must be an integer, got True"),
        (GOOD, {"k": 21}, ValueError, "k: cannot select 21 of 20 rows"),
        (GOOD, {"k_per_batch": 11, "batch_size": 10}, ValueError, "k_per_batch: cannot select 11 of the 10 rows"),
        (GOOD, {"k": 2, "batch_size": 0}, ValueError, "batch_size: must be at least 1"),
        (GOOD, {"ratio": 0}, ValueError, r"ratio: must be a share in \(0, 1\], got 0"),
        (GOOD, {"ratio": 1.5}, ValueError, r"ratio: must be a share in \(0, 1\], got 1.5"),
        (GOOD, {"ratio": math.nan}, ValueError, "ratio: .* got nan"),
        (GOOD, {"ratio": 0.015}, ValueError, "ratio: 0.015 of 20 rows selects none; ask for at least 0.05"),
        (GOOD, {"ratio": "1%"}, ValueError, "ratio: .* got '1%'"),
        (
            GOOD,
            {"k": 2, "first": 20},
            ValueError,
            "first: must be row numbers from 0 to 19, at least one, got \\[20\\]",
        ),
        (GOOD, {"k": 2, "first": -1}, ValueError, "first: must be row numbers"),
        (GOOD, {"k": 2, "first": []}, ValueError, "first: must be row numbers"),
        (GOOD, {"k": 2, "first": 1.0}, ValueError, "first: must be row numbers"),
        (GOOD, {"k": 2, "first": [3, 3]}, ValueError, r"first: must be different rows, got \[3, 3\]"),
        (GOOD, {"k": 2, "first": [3, 4, 5]}, ValueError, "first: 3 rows lie in the batch of rows 0 to 19, .* only 2"),
        (GOOD, {"k": 2, "seed": 1.0}, TypeError, "seed: must be an integer, got 1.0"),
        (GOOD, {"k": 2, "seed": True}, TypeError, "seed: must be an integer, got True"),
        (GOOD, {"k": 2, "seed": "0"}, TypeError, "seed: must be an integer, got '0'"),
        (GOOD, {"k": 2, "seed": -1}, ValueError, "seed: must be at least 0, got -1"),
        (GOOD, {"k": 2, "second": "third"}, ValueError, "second: must be one of random, farthest, authors"),
        (GOOD, {"k": 2, "criterion": "logdet"}, ValueError, "criterion: must be one of correlation"),
        (GOOD, {"k": 2, "on_duplicates": "x"}, ValueError, "on_duplicates: must be one of drop"),
        (GOOD, {"k": 2, "second": "authors", "criterion": "participation"}, ValueError, "second: the participation"),
    ],
)
def test_bad_arguments_are_named(features, options, error, words):
    with pytest.raises(error, match=words):
        select(features, **options)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_named_by_its_row(value):
    X = GOOD.copy()
    X[13, 2] = value
    for features in (X, torch.from_numpy(X)):
        with pytest.raises(ValueError, match="features: row 13 has NaN or infinite values"):
            select(features, k=2, batch_size=6)


def test_select_batch_names_bad_arguments_too():
    with pytest.raises(ValueError, match="k: cannot select 21 of 20 rows"):
        select_batch(GOOD, 21)
    assert select_batch(GOOD, 0).tolist() == []


@pytest.mark.parametrize("chosen", [[], [20], [-1], [[1, 2]], [0.5]])
def test_candidate_scores_need_row_numbers(chosen):
    with pytest.raises(ValueError, match="chosen: must be row numbers from 0 to 19, at least one"):
        candidate_scores(GOOD, chosen)
