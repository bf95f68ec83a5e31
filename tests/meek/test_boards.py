"""Running maxima, bands, gaps and their slopes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replication.meek.boards import (
    Band,
    block_slopes,
    first_new_bests,
    gap_slope,
    gap_slopes,
    monthly_gap,
    new_bests,
    random_band_slopes,
    resampled_gaps,
    slopes_left_out,
    years,
)
from replication.meek.experiments.empirical import plant_board

CHEAP = Band("cheap", "price", 0.5, 1.0)


def board(*rows: tuple[str, float, float]) -> pd.DataFrame:
    """Of (month, score, price)."""
    date, score, price = zip(*rows, strict=True)
    names = [f"m{i}" for i in range(len(rows))]
    return pd.DataFrame({"model": names, "date": pd.to_datetime(list(date)), "score": score, "price": price})


TINY = board(
    ("2024-03", 61, 0.5),
    ("2024-01", 40, 1.0),
    ("2024-01", 50, 20),
    ("2024-03", 70, np.nan),
    ("2024-02", np.nan, 0.7),
    ("2024-02", 50, 9),
    ("2024-03", 66, 1.01),
    ("2024-06", 69, 0.9),
)


def by_month(bests: pd.Series) -> dict[str, float]:
    return dict(zip(bests.index.strftime("%Y-%m"), bests, strict=True))


def test_running_maximum():
    assert by_month(new_bests(TINY)) == {"2024-01": 50, "2024-03": 70}  # a tie is no new best, nor is a missing score
    assert by_month(new_bests(CHEAP.of(TINY))) == {"2024-01": 40, "2024-03": 61, "2024-06": 69}


def test_the_authors_rule_loses_a_better_model_of_the_same_month():
    # 61 comes up before 70 in March, and 70 is never reached again
    assert by_month(first_new_bests(TINY, "stable")) == {"2024-01": 40, "2024-03": 61}
    in_order = TINY.sort_values("score", ascending=False)
    assert by_month(first_new_bests(in_order, "stable")) == {"2024-01": 50, "2024-03": 70}


def test_monthly_gap():
    gap = monthly_gap(TINY, CHEAP)
    assert gap.index.astype(str).tolist() == [f"2024-0{m}" for m in range(1, 7)]
    assert gap.tolist() == [10, 10, 9, 9, 9, 1]
    assert years(gap.index)[[0, -1]] == pytest.approx([2024 + 1 / 12, 2024.5])
    assert gap_slope(gap) == pytest.approx(np.polyfit(years(gap.index), gap, 1)[0])


def test_the_gap_begins_when_both_are_there():
    late = board(("2024-01", 50, 9), ("2024-03", 30, 0.6), ("2024-04", 55, 9))
    assert monthly_gap(late, CHEAP).to_dict() == {pd.Period("2024-03"): 20, pd.Period("2024-04"): 25}


def test_a_band_includes_its_limits_and_no_missing_value():
    assert sorted(CHEAP.of(TINY)["score"].dropna()) == [40, 61, 69]
    with pytest.raises(ValueError, match=r"band 'dear': no dated and scored row has price from 90 to 99"):
        Band("dear", "price", 90, 99).of(TINY)
    with pytest.raises(
        ValueError, match=r"no column 'cost' for the band 'x', only \['model', 'date', 'score', 'price'"
    ):
        Band("x", "cost", 0, 1).of(TINY)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), trend=st.sampled_from(["closing", "widening", "steady"]))
def test_planted_maxima_are_found_whatever_the_order_of_rows(seed, trend):
    planted = plant_board(trend, seed)
    table, (band,) = planted.board.table, planted.board.bands
    for rows, truth in ((table, planted.truth["overall"]), (band.of(table), planted.truth["planted band"])):
        assert by_month(new_bests(rows)) == truth.to_dict()
    gap = monthly_gap(table, band)
    assert (gap >= 0).all()
    if trend != "steady":
        assert np.sign(gap_slope(gap)) == (-1 if trend == "closing" else 1)
    again = monthly_gap(table.sample(frac=1, random_state=seed + 1), band)
    pd.testing.assert_series_equal(gap, again)


def test_leaving_out_is_leaving_out():
    planted = plant_board("widening", 3, models=60)
    table, (band,) = planted.board.table, planted.board.bands
    found = slopes_left_out(table, band)
    assert 10 < len(found) < 50
    for position, row in enumerate(table.index):
        expected = gap_slope(monthly_gap(table.drop(row), band))
        if (name := table["model"].iloc[position]) in found.index:
            assert found[name] == pytest.approx(expected)
        else:
            assert expected == pytest.approx(gap_slope(monthly_gap(table, band)))


def test_without_its_only_model_a_band_has_no_slope():
    lonely = board(("2024-01", 50, 9), ("2024-02", 30, 0.6), ("2024-04", 55, 9))
    found = slopes_left_out(lonely, CHEAP)
    assert np.isnan(found["m1"])
    assert np.isfinite(found[["m0", "m2"]]).all()


def test_a_resampled_board_is_the_board_of_the_models_drawn():
    planted = plant_board("closing", 1, models=60)
    table, (band,) = planted.board.table, planted.board.bands
    gaps = resampled_gaps(table, band, 25, seed=3)
    again = np.random.default_rng(3).multinomial(len(table), np.full(len(table), 1 / len(table)), size=25)
    for draw, times in enumerate(again):
        expected = monthly_gap(table[times > 0], band).reindex(gaps.columns).to_numpy()
        # the board still ends in its last month, whatever was drawn
        known = np.isfinite(expected)
        np.testing.assert_array_equal(gaps.iloc[draw].to_numpy()[known], expected[known])
    slopes = gap_slopes(gaps)
    for draw, row in gaps.iterrows():
        kept = row.dropna()
        assert slopes[draw] == pytest.approx(np.polyfit(years(pd.PeriodIndex(kept.index)), kept, 1)[0])


def test_rows_of_a_model_are_drawn_together():
    twice = board(("2024-01", 50, 9), ("2024-01", 30, 0.6), ("2024-02", 60, 9), ("2024-02", 55, 0.6)).assign(
        model=["a", "b", "a", "b"]
    )
    gaps = resampled_gaps(twice, CHEAP, 400)
    assert [*gaps.columns.astype(str)] == ["2024-01", "2024-02"]
    # both models, the cheap one alone, which is then the best of all, or the dear one alone, and no gap in either month
    found = gaps.fillna(-1).value_counts(normalize=True).to_dict()
    assert found == {
        (20, 5): pytest.approx(0.5, abs=0.08),
        (0, 0): pytest.approx(0.25, abs=0.08),
        (-1, -1): pytest.approx(0.25, abs=0.08),
    }
    slopes = gap_slopes(gaps)
    assert (np.isnan(slopes) == gaps.isna().all(axis=1)).all()
    assert set(slopes[np.isfinite(slopes)].round(6)) == {-180.0, 0.0}


def test_other_scores_of_the_same_models_are_drawn_with_them():
    planted = plant_board("steady", 2, models=60)
    table, (band,) = planted.board.table, planted.board.bands
    other = table.assign(score=table["score"] + 10)
    pd.testing.assert_frame_equal(resampled_gaps(table, band, 20), resampled_gaps(other, band, 20))


def test_intervals_over_models_drawn_anew_hold_a_planted_slope():
    inside = []
    for seed in range(30):
        for trend, slope in (("closing", -27.0), ("widening", 25.0), ("steady", 0.0)):
            planted = plant_board(trend, seed, models=60)
            slopes = gap_slopes(resampled_gaps(planted.board.table, planted.board.bands[0], 200))
            low, high = np.nanquantile(slopes, [0.025, 0.975])
            inside.append(low <= slope / (23 / 12) <= high)
    assert np.mean(inside) >= 0.85


def test_random_bands_keep_each_months_count():
    # one model a month: every random band is the band of all, so its gap is 0 from the first member on
    single = board(*((f"2024-{m:02}", 10.0 * m, 0.7 if m in (2, 5, 6) else 9) for m in range(1, 7)))
    slopes = random_band_slopes(single, CHEAP, 50, np.random.default_rng(0))
    expected = gap_slope(monthly_gap(single, CHEAP))
    assert slopes == pytest.approx(np.full(50, expected))
    # two models a month, one of them in the band: at each month either of the two is drawn
    pairs = board(*((f"2024-{m:02}", 10.0 * m + side, 0.7 if side else 9) for m in (1, 2) for side in (0, 5)))
    slopes = random_band_slopes(pairs, CHEAP, 2000, np.random.default_rng(0)).round(9)
    # gaps of 0 or 5 in either month, 12 months a year
    assert sorted(set(slopes)) == [-60, 0, 60]
    assert np.mean(slopes == 0) == pytest.approx(0.5, abs=0.05)
    assert np.mean(slopes) == pytest.approx(0, abs=4)


def test_random_bands_of_a_board_without_prices_effect_are_like_the_band():
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(60):
        dates = pd.to_datetime("2023-01-01") + pd.to_timedelta(30 * rng.integers(0, 24, 120), unit="D")
        table = pd.DataFrame({"model": "m", "date": dates, "score": rng.normal(50, 10, 120)})
        table["price"] = np.where(rng.random(120) < 0.3, 0.7, 9.0)
        low, high = np.quantile(random_band_slopes(table, CHEAP, 200, rng), [0.025, 0.975])
        inside.append(low <= gap_slope(monthly_gap(table, CHEAP)) <= high)
    assert 0.85 <= np.mean(inside) <= 1


def test_all_rows_of_a_model_are_left_out_together():
    """As with a price of every month: what is left is the board without the model."""
    rows = [("a", "2024-01-01", 50.0, 9.0), ("b", "2024-01-01", 30.0, 0.5), ("b", "2024-03-01", 40.0, 0.5),
            ("c", "2024-02-01", 35.0, 0.5), ("d", "2024-04-01", 60.0, 9.0)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["model", "date", "score", "price"])
    table["date"] = pd.to_datetime(table["date"])
    band = Band("cheap", "price", 0.0, 1.0)
    found = slopes_left_out(table, band)
    assert found.index.is_unique
    assert set(found.index) == {"a", "b", "c", "d"}
    without = monthly_gap(table[table["model"] != "b"], band)
    assert found["b"] == pytest.approx(gap_slope(without))


def test_blocks_of_months_keep_a_straight_line_and_follow_its_noise():
    months = pd.period_range("2024-01", periods=24, freq="M")
    line = pd.Series(np.linspace(30, 7, 24), index=months)
    np.testing.assert_allclose(block_slopes(line, 50), gap_slope(line))
    rng, hit = np.random.default_rng(0), 0
    for seed in range(60):
        noisy = line + rng.normal(0, 3, 24)
        slopes = block_slopes(noisy, 200, seed)
        low, high = np.quantile(slopes, [0.025, 0.975])
        hit += low <= gap_slope(line) <= high
        assert np.median(slopes) == pytest.approx(gap_slope(noisy), abs=1.5)
    # residuals of a fitted line are smaller than the noise, and 24 months are few
    assert 0.75 <= hit / 60 <= 1
    np.testing.assert_array_equal(block_slopes(noisy, 5, 1), block_slopes(noisy, 5, 1))
    with pytest.raises(ValueError, match=r"^gap: must have at least 6 months, got 5$"):
        block_slopes(line[:5], 10)
    for call in (lambda: block_slopes(line, 5, seed=-1), lambda: resampled_gaps(TINY, CHEAP, 5, seed=-1)):
        with pytest.raises(ValueError, match=r"^seed: must be an integer of at least 0, got -1$"):
            call()
