"""The convergence experiment, small: records that its claims can be decided from, planted data, and known numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from meek_targets import TARGETS, follows, printed
from pydantic import ValidationError

from replication import evidence
from replication.data import DataNotFound
from replication.evidence.samples import samples
from replication.meek.benchmark import peak_score_gap
from replication.meek.experiments import convergence
from replication.meek.experiments.convergence import Config, corrections, follower_gap, plant, scheduled_gap
from replication.meek.fit import bootstrap_chinchilla, fit_chinchilla
from replication.meek.gap import C0, inference_gap, peak_time, training_gap
from replication.meek.law import BESIROGLU, PAPER, ParametricLaw

CLAIMS, NOTEBOOK = evidence.load_claims("meek"), "40_meek_convergence"
TESTS = [test.id for test in CLAIMS.at(NOTEBOOK, "standard")]
# decided by draws or data sets, of which there are too few here
BY_DRAWS = {"M3-late", "M3-monte-carlo", "M6-monte-carlo", "M8-contains", "M8-coverage", "M8-months",
            "M8-profile", "M8-told"}  # fmt: skip
REFUTED = {"M3-ceiling", "M4-substance", "M6-alpha-refit", "M6-follower"}


@pytest.fixture(scope="module")
def config():
    return Config(resamples=60, coverage_sets=2, coverage_resamples=20, profile_sets=4)


@pytest.fixture(scope="module")
def records(config):
    return evidence.gather(convergence, config)


def one(records, quantity, **where):
    rows = records[records["quantity"] == quantity]
    for column, level in where.items():
        rows = rows[rows[column] == level]
    return float(rows["value"].item())


@pytest.fixture(scope="module")
def outcomes(records):
    return {found.test_id: found for found in evidence.evaluate(records, CLAIMS, NOTEBOOK, "standard")}


@pytest.mark.parametrize("test_id", TESTS)
def test_every_test_is_answered_from_the_records(records, outcomes, test_id):
    found = outcomes[test_id]
    if test_id in BY_DRAWS:
        assert found.answer == "open"
        assert "the rule asks for" in found.reason
    else:
        assert found.answer == ("no" if test_id in REFUTED else "yes")
    assert follows(CLAIMS.test(test_id, "standard"), records)


def test_an_exact_number_is_a_formula_evaluated(records, config, monkeypatch):
    """What needs no interval does not change when everything that is drawn does."""
    monkeypatch.setattr(convergence, "load", lambda _config: plant(BESIROGLU, 0.02, seed=9))
    other = evidence.gather(convergence, config.model_copy(update={"resamples": 50, "noise": 0.02}))
    for test in CLAIMS.at(NOTEBOOK, "standard"):
        if test.exact and test.role != "gate":
            mine, others = ([s.numbers for s in samples(frame, test)] for frame in (records, other))
            assert mine == others, test.id


def test_a_law_that_the_runs_do_not_tell_blinds_what_rests_on_it(records):
    rows = records.assign(value=records["value"].mask(records["quantity"] == "fit_condition", 1e9))
    answers = {found.test_id: found for found in evidence.evaluate(rows, CLAIMS, NOTEBOOK, "standard")}
    assert answers["identified"].answer == "no"
    for test in CLAIMS.at(NOTEBOOK, "standard"):
        assert (answers[test.id].answer == "blind") == bool(test.gates)


def test_same_configuration_gives_the_same_records(config, records):
    assert records.equals(evidence.gather(convergence, config))


# --- known numbers ---------------------------------------------------------------------------------------------------


def test_a_ceiling_of_one_makes_ten_steps_worse_not_better(records):
    assert one(records, "ten_steps_minus_one", ceiling="paper, 0.80") < -30
    assert one(records, "ten_steps_minus_one", ceiling="1.00") > 20


@pytest.mark.parametrize(("panel", "g_inf"), convergence.PANELS.items())
def test_inference_and_its_corrections(records, panel, g_inf):
    known = TARGETS["inference"]
    zeros = {
        "as plotted": known["squared"][f"{g_inf:g}"]["sota"],
        "constant k = 30": known["constant 30"][f"{g_inf:g}"],
        "g_inf not squared": known["docstring"][f"{g_inf:g}"]["sota"],
    }
    if g_inf == 9:
        (progress,) = (case for case in known["price decline of 9"] if case["g_alg"] == 3.6)
        zeros["progress counted once"] = progress["zero"]
        assert corrections(9.0)["progress counted once"].g_inf == printed(progress["g_inf"])
    found = corrections(g_inf)
    assert set(found) == set(zeros)
    plotted = one(records, "inference_zero", panel=panel, correction="as plotted")
    for name, zero in zeros.items():
        assert found[name].zero == one(records, "inference_zero", panel=panel, correction=name) == printed(zero)
        if name != "as plotted":
            assert one(records, "zero_over_plotted", panel=panel, correction=name) == found[name].zero / plotted
        # the crossing is one: before it the fixed spend is worse than the leader, after it better or as good
        around = found[name].gap(found[name].zero + np.array([-0.1, 0.1]))
        assert around[0] > 0 >= around[1]
    np.testing.assert_allclose(
        found["as plotted"].gap(np.array([0.0, 1.0])), inference_gap([0.0, 1.0], PAPER, convergence.INFERENCE, g_inf)
    )


def test_tokens_of_the_sequential_test(records):
    assert one(records, "fewest_tokens") == printed(TARGETS["sequential test"]["minimum"])


def test_schedules_are_the_papers_until_the_fifth_year_and_differ_after(records):
    t = np.array([0.0, 3.0, 5.0, 9.0])
    for then in convergence.SCHEDULES.values():
        np.testing.assert_allclose(scheduled_gap(t[:3], then), training_gap(t[:3]), rtol=1e-9)
    forever, stops, slower = (scheduled_gap(t, then)[-1] for then in (np.inf, 1.0, 1.5))
    assert forever == pytest.approx(float(training_gap(9.0)))
    assert stops < slower < forever
    # two exponents, four numbers of steps, the time of 100 tokens, and the appendix; in units of what is allowed
    deviations = records.loc[records["quantity"] == "figure_deviation", "value"]
    assert len(deviations) == 2 * 2 + 2 * 4 + 1 + 2 * 5 + 4 + 3 * 4
    assert deviations.abs().max() <= 1


def test_a_follower_whom_algorithms_help_less_falls_behind(records):
    t = np.array([0.0, 5.0, 20.0])
    np.testing.assert_allclose(follower_gap(t, 2.8), training_gap(t), atol=1e-12)
    assert (follower_gap(t[1:], 2.0) > training_gap(t[1:])).all()
    growth = 1.4 * 1.5
    known = PAPER.loss(1e20 * growth**20) - PAPER.loss(1e20 * 14.0**20)
    assert one(records, "follower_gap_at_20", progress=1.5) == pytest.approx(float(known))


def test_nines_of_reliability_are_bounded_by_the_irreducible_loss():
    t = np.array([5.0, 100.0])
    sigmoid, gap = convergence.CEILINGS["1.00"], convergence.metric_gaps(t)["nines of reliability"]
    leader, meek = (PAPER.loss(1e20 * growth ** t[0]) for growth in (14.0, 3.92))
    assert gap[0] == pytest.approx(float(np.log10(1 - sigmoid(meek)) - np.log10(1 - sigmoid(leader))))
    assert gap[1] < 1e-6


def test_bounded_gaps_close_and_unbounded_ones_grow(records):
    assert set(convergence.metric_gaps(np.array([1.0]))) - set(convergence.BOUNDED) == {
        "ln(compute)", "1/(loss - L0)", "lag in years",
    }  # fmt: skip
    # both linear in time: twice as far after twice as long
    for metric in ("ln(compute)", "lag in years"):
        assert one(records, "unbounded_late_gap", metric=metric) == pytest.approx(2)
    late = records.loc[records["quantity"] == "bounded_late_gap"].set_index("metric")["value"]
    assert late["loss"] == pytest.approx(float(training_gap(40.0) / training_gap(peak_time())), rel=1e-6)


# --- planted and digitised runs --------------------------------------------------------------------------------------


def test_planted_runs_lie_around_their_law():
    points = plant(BESIROGLU, 0.01, seed=3)
    residual = np.log(points.loss / BESIROGLU.loss(points.N, points.D))
    assert len(residual) == 240
    assert residual.std() == pytest.approx(0.01, rel=0.15)
    assert abs(residual.mean()) < 0.003
    assert points.N.min() >= 5.7e7
    assert points.N.max() <= 1.62e10
    np.testing.assert_array_equal(points.loss, plant(BESIROGLU, 0.01, seed=3).loss)
    assert not np.array_equal(points.N, plant(BESIROGLU, 0.01, seed=4).N)


def test_the_refit_finds_the_planted_law():
    config = Config(resamples=40, coverage_sets=2, coverage_resamples=20, noise=1e-4)
    rows = evidence.tidy(convergence.refit(config))
    for name in ("A", "B", "E", "alpha", "beta"):
        assert one(rows, "fit", parameter=name) == pytest.approx(getattr(BESIROGLU, name), rel=0.02)
    planted = float(peak_time(BESIROGLU.frontier()))
    summary = {level: one(rows, "summary", source="law", what="peak time", level=level) for level in ("low", "high")}
    assert planted - 0.01 < summary["low"] < summary["high"] < planted + 0.01
    # all draws lie below the paper's time, and growth that is uncertain too widens the interval
    assert rows.loc[rows["quantity"] == "bootstrap_peak_time", "value"].max() < float(peak_time())
    assert 1e3 < one(rows, "fit_condition") < 1e5
    points = rows[rows["quantity"] == "monte_carlo_points"].pivot_table(index="seed", columns="t", values="value")
    assert (points[20.0] < points[10.0]).all()
    wide = [one(rows, "summary", source="law and growth", what="peak time", level=level) for level in ("low", "high")]
    assert wide[0] < summary["low"]
    assert wide[1] > summary["high"]


def test_coverage_says_whether_the_interval_holds_the_truth(monkeypatch):
    config = Config(coverage_sets=4, coverage_resamples=20)

    def covered():
        parts = [part for part in convergence.parts(config) if part.compute is convergence.coverage]
        return [row["value"] for part in parts for row in part.compute(part.settings, **part.cell)]

    honest = covered()
    assert len(honest) == 4
    assert sum(honest) >= 2
    monkeypatch.setattr(convergence, "peak_time", lambda law: peak_time(law) + (np.ndim(law.A) > 0))
    assert covered() == [0.0] * 4


def test_profiles_say_whether_the_interval_holds_the_truth_and_whether_collinear_runs_are_told(monkeypatch):
    config = Config(profile_sets=4)

    def found():
        rows = [row for part in range(1, 5) for row in convergence.profiles(config, part)]
        return {
            name: [row["value"] for row in rows if row["quantity"] == name]
            for name in ("profile_covered", "collinear_silent")
        }

    far = ParametricLaw(50.0, 3000.0, 0.7, 0.22, 0.4)
    honest = found()
    assert sum(honest["profile_covered"]) >= 6
    assert honest["collinear_silent"] == [0.0] * 4
    monkeypatch.setattr(convergence, "fit_chinchilla", lambda *_: fit_chinchilla(*plant(far, 0.01, 0)))
    other = found()
    assert sum(other["profile_covered"]) == 0
    assert other["collinear_silent"] == [1.0] * 4


def test_draws_that_are_kept_are_the_first_of_all(monkeypatch):
    whole = evidence.tidy(convergence.refit(Config(resamples=30)))
    monkeypatch.setattr(convergence, "KEPT", 10)
    few = evidence.tidy(convergence.refit(Config(resamples=30)))
    assert len(few[few["quantity"] == "gamma"]) == 10
    pick = whole["seed"].isna() | (whole["seed"] < 10)
    pd.testing.assert_frame_equal(few, whole[pick].reset_index(drop=True), check_dtype=False)


def test_resamples_without_a_law_leave_growth_to_the_others(monkeypatch):
    """The bootstrap leaves such resamples out, so that it has fewer draws than were asked for."""
    fewer = {"resamples": 10}
    monkeypatch.setattr(convergence, "bootstrap_chinchilla", lambda *runs, **_: bootstrap_chinchilla(*runs, **fewer))
    found = evidence.tidy(convergence.refit(Config(resamples=12)))
    assert {(found["quantity"] == name).sum() for name in ("gamma", "monte_carlo_gap_at_20")} == {10}


def test_the_text_for_those_who_decide_follows_the_records(records, config):
    from replication.meek import figures_convergence as figures

    text = figures.policy(records, config.points)
    assert "The law is not: it is fitted to 240 planted runs." in text
    assert "runs digitised from Hoffmann et al." in figures.policy(records, "digitised")
    rows = records[records["quantity"] == "summary"].set_index(["source", "what", "level"])["value"]
    low, high = (rows["law", "peak time", level] for level in ("low", "high"))
    assert f"[{low:.1f}, {high:.1f}] years with the law" in text
    assert "168 and 467 times" in text
    assert "0.7 and 1.5 years in the past" in text
    for start in convergence.MEASURED.values():
        assert peak_score_gap(C0=start.C0, head_start=start.head_start).time == pytest.approx(0, abs=1e-3)
    assert "MMLU, from 23 and 11 at the start to 2 and 1 after three years." in text
    assert f"{follower_gap(20.0, 1.5):.3f} nats" in text
    moved = records.assign(value=records["value"] + (records["quantity"] == "summary"))
    assert figures.policy(moved, config.points) != text
    assert "planted runs" in figures.limit("planted")
    assert "colour bar" in figures.limit("digitised")


def test_head_starts_are_those_of_the_published_table():
    file = Path(__file__).parents[2] / "results" / "standard" / "41_meek_empirical.json"
    rows = evidence.load_records(json.loads(file.read_text(encoding="utf-8"))["records"])
    found = rows[(rows["quantity"] == "head_start") & (rows["series"] == "median model")].set_index("year")["value"]
    # the leader's over $1,000 of compute
    cheap = rows[(rows["quantity"] == "head_start") & (rows["series"] == "$1,000")].set_index("year")["value"]
    for (start, (kappa, median)), year in zip(convergence.MEASURED.items(), (2024, 2025), strict=True):
        assert str(year) in start
        assert kappa == pytest.approx(found[year], rel=1e-4)
        assert median == pytest.approx(C0 * cheap[year] / found[year], rel=1e-3)


def test_digitised_runs_that_are_not_there_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("REPLICATION_DATA", str(tmp_path))
    with pytest.raises(DataNotFound):
        convergence.load(Config(points="digitised"))


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"points": "measured"}, "points"), ({"coverage_sets": 1}, "coverage_sets"), ({"nois": 0.1}, "nois")],
)
def test_bad_parameters_are_refused_by_name(changes, named):
    with pytest.raises(ValidationError, match=named):
        Config(**changes)
