from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from evidence_cases import grid, make, values
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from replication.evidence import (
    PaperClaims,
    Verdict,
    dump_records,
    evaluate,
    load_records,
    reevaluate,
    summary_sentence,
    tidy,
)

BETTER = {"uba": 0.0, "linear": 2.0, "step": 3.0}


def decide(records: pd.DataFrame, kind: str, **changes: Any) -> Verdict:
    return evaluate(records, [make(kind, **changes)], "smoke")[0]


def states(verdict: Verdict, role: str = "claim") -> list[str]:
    return [one["state"] for one in verdict.comparisons if one["role"] == role]


# --- whether a claim is asked at all ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["identity", "value", "direction", "ordering", "slope", "interval"])
def test_a_claim_of_another_profile_is_not_attempted(kind: str) -> None:
    claim = make(kind, profiles=["standard"], scale="standard")
    verdict = evaluate(grid(BETTER), [claim], "smoke")[0]
    assert (verdict.verdict, verdict.reason, verdict.n) == ("not attempted", "decided at profile standard", 0)
    assert evaluate(grid(BETTER), [make(kind, profiles=[])], "smoke")[0].reason == "beyond every profile"


@pytest.mark.parametrize("kind", ["identity", "value", "direction", "ordering", "slope", "interval"])
def test_without_data_nothing_is_attempted(kind: str) -> None:
    for changes in ({"quantity": "loss"}, {"where": {"schedule": "rex"}}):
        verdict = decide(grid(BETTER), kind, **changes)
        assert (verdict.verdict, verdict.reason) == ("not attempted", "no data")
    assert decide(tidy([]), kind).verdict == "not attempted"


def test_an_unknown_profile_or_column_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="did you mean 'smoke'"):
        evaluate(grid(BETTER), [make("identity")], "smok")
    with pytest.raises(ValueError, match=r"claim 'T1': the records have no column 'scheduler'.*mean 'schedule'"):
        decide(grid(BETTER), "direction", factor="scheduler")
    with pytest.raises(ValueError, match="no column 'model'"):
        decide(grid(BETTER), "direction", where={"model": "mlp"})


def test_where_selects_by_level_and_levels() -> None:
    records = pd.concat([values([3.0], phi=2.0, name="a"), values([9.0], phi=5.0, name="b")], ignore_index=True)
    assert decide(records, "value", where={"phi": 2}).estimate == 3.0
    assert decide(records, "value", where={"name": "b"}).estimate == 9.0
    assert decide(records, "value", where={"phi": [2, 5], "name": ["a", "c"]}).estimate == 3.0


# --- identity --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("differences", "tolerance", "word"),
    [
        ([0.0, 1e-13, -1e-12], 1e-12, "reproduced"),
        ([0.0, -1.1e-12], 1e-12, "not reproduced"),
        ([0.0], 0.0, "reproduced"),
        ([0.0, 5e-324], 0.0, "not reproduced"),
        ([0.0, math.nan], 1e-12, "not reproduced"),
        ([0.0, math.inf], 1e-12, "not reproduced"),
    ],
)
def test_identity(differences: list[float], tolerance: float, word: str) -> None:
    verdict = decide(values(differences), "identity", tolerance=tolerance)
    assert verdict.verdict == word
    assert verdict.n == len(differences)


def test_identity_needs_its_number_of_rows() -> None:
    assert decide(values([0.0]), "identity", min_seeds=2).verdict == "inconclusive"


# --- value -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("measured", "changes", "word"),
    [
        ([3.0], {}, "reproduced"),
        ([3.05], {"paper_precision": 0.0, "tolerance": 0.06, "tolerance_reason": "x"}, "reproduced"),
        ([3.06], {}, "not reproduced"),
        ([3.06], {"tolerance": 0.02, "tolerance_reason": "x"}, "reproduced"),
        ([2.99, 3.0, 3.01], {}, "reproduced"),
        ([2.0, 3.0, 4.0], {}, "inconclusive"),
        ([4.0, 4.01, 4.02], {}, "not reproduced"),
        ([4.0, 4.01, 4.02], {"null": 0.0}, "partly reproduced"),
        ([2.0, 2.01, 2.02], {"null": 0.0}, "partly reproduced"),
        ([2.0, 2.01, 2.02], {"null": 5.0}, "partly reproduced"),
        ([-1.0, -1.01, -1.02], {"null": 0.0}, "not reproduced"),
        ([6.0, 6.01, 6.02], {"null": 5.0}, "not reproduced"),
        ([0.0, 1.0, 0.5], {"null": 0.0}, "not reproduced"),
        ([3.0, math.nan, 3.0], {}, "inconclusive"),
        ([3.0, 3.0], {"min_seeds": 3}, "inconclusive"),
    ],
)
def test_value(measured: list[float], changes: dict[str, Any], word: str) -> None:
    assert decide(values(measured), "value", **changes).verdict == word


def test_rows_that_are_not_replicates_are_refused() -> None:
    records = pd.concat([values([3.0, 3.1], phi=1), values([3.0, 3.1], phi=2)], ignore_index=True)
    with pytest.raises(ValueError, match=r"claim 'T1': several rows of 'error' have seed=0; narrow `where`"):
        decide(records, "value")
    assert decide(records, "value", unit_by=["seed", "phi"]).n == 4
    with pytest.raises(ValueError, match="have no seed"):
        decide(records.drop(columns="seed"), "value")
    assert decide(records.drop(columns="seed"), "value", where={"phi": 1}, unit_by=["value"]).n == 2


def test_a_missing_level_where_it_tells_cells_apart_is_refused() -> None:
    records = tidy(
        [{"quantity": "error", "seed": 0, "value": 1.0}, {"quantity": "error", "seed": 1, "value": 1.0, "budget": 5}]
    )
    with pytest.raises(ValueError, match="1 of the 2 rows of 'error' have no 'budget'"):
        decide(records, "interval")


# --- direction -------------------------------------------------------------------------------------------------------


def test_direction_reproduced_and_its_mirror() -> None:
    verdict = decide(grid(BETTER), "direction")
    assert verdict.verdict == "reproduced"
    assert states(verdict) == ["better"] * 4
    assert verdict.n == 10
    # the comparison that decides is the one whose interval comes nearest to contradicting the claim
    assert verdict.high == max(one["high"] for one in verdict.comparisons if one["high"] is not None)
    assert "uba against linear" in verdict.reason
    mirrored = decide(grid({name: -mean for name, mean in BETTER.items()}), "direction", direction="higher")
    assert mirrored.verdict == "reproduced"
    assert decide(grid(BETTER), "direction", direction="higher").verdict == "not reproduced"


@pytest.mark.parametrize(
    ("means", "changes", "word", "deciding"),
    [
        ({"uba": 0.0, "linear": -1.0, "step": 1.0}, {}, "not reproduced", "linear"),
        ({"uba": 0.0, "linear": 0.0, "step": 1.0}, {}, "not reproduced", "linear"),
        ({"uba": 0.0, "linear": 1.0, "step": -1.0}, {}, "partly reproduced", "linear"),
        ({"uba": 0.0, "linear": 1.0, "step": 0.0}, {}, "partly reproduced", "linear"),
        ({"uba": 0.0, "linear": 1.0, "step": -1.0}, {"decisive": ["linear", "step"]}, "not reproduced", "step"),
        ({"uba": 0.0, "linear": 1.0, "step": -1.0}, {"decisive": None}, "not reproduced", "step"),
        ({"uba": 0.0, "linear": 1.0, "step": 0.0}, {"margin": 0.0}, "inconclusive", "step"),
        ({"uba": 0.0, "linear": 0.0, "step": 1.0}, {"margin": 0.0}, "inconclusive", "linear"),
    ],
)
def test_direction_by_what_is_decisive(
    means: dict[str, float], changes: dict[str, Any], word: str, deciding: str
) -> None:
    # the seed is one at which no true tie is taken for a difference
    verdict = decide(grid(means, rng=3), "direction", **changes)
    assert verdict.verdict == word
    assert f"uba against {deciding}" in verdict.reason


def test_direction_corrects_over_the_whole_family() -> None:
    """One comparison at p = .025 among four: alone it would count, in its family it does not."""
    records = grid({"uba": 0.0, "linear": 0.075, "step": 0.0}, rng=1, noise=0.1)
    verdict = decide(records, "direction", margin=0.0)
    alone = [one["p"] for one in verdict.comparisons if one["p"] is not None]
    family = [one["p_holm"] for one in verdict.comparisons if one["p_holm"] is not None]
    assert len(alone) == len(family) == 4
    assert any(a < 0.05 <= b for a, b in zip(alone, family, strict=True))
    assert all(
        (one["state"] == "unclear") == (one["p_holm"] is None or one["p_holm"] >= 0.05) for one in verdict.comparisons
    )


@pytest.mark.parametrize(("p", "state"), [(0.049, "better"), (0.051, "unclear")])
def test_a_comparison_is_decided_at_five_percent(p: float, state: str) -> None:
    noise = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    mean = stats.t.isf(p / 2, 4) * noise.std(ddof=1) / 5**0.5
    ours, linear = values(noise - mean, schedule="uba"), values(0 * noise, schedule="linear")
    records = pd.concat([ours, linear], ignore_index=True)
    verdict = decide(records, "direction", baselines=["linear"], by=[], margin=0.0)
    assert verdict.comparisons[0]["p_holm"] == pytest.approx(p)
    assert states(verdict) == [state]


def test_direction_pairs_by_seed() -> None:
    records = grid({"uba": 0.0, "linear": 0.5, "step": 0.5}, noise=0.1)
    assert decide(records, "direction").verdict == "reproduced"
    shuffled = records.copy()
    ours = shuffled["schedule"] == "uba"
    shuffled.loc[ours, "seed"] = (shuffled.loc[ours, "seed"] + 1) % 10
    # with the pairs torn apart, what the seeds share drowns the effect
    assert decide(shuffled, "direction").verdict == "inconclusive"


def test_only_common_seeds_are_compared_and_n_says_so() -> None:
    records = grid(BETTER)
    fewer = records[~((records["schedule"] == "linear") & (records["seed"] >= 7))]
    verdict = decide(fewer, "direction")
    assert verdict.n == 7
    assert [(one["n"], one["left_out"]) for one in verdict.comparisons] == [(7, 3), (10, 0)] * 2
    assert decide(fewer, "direction", min_seeds=8).verdict == "inconclusive"
    assert decide(fewer, "direction", min_seeds=8).reason.startswith("n = 7, but the claim asks for 8")


def test_a_missing_arm_is_said_and_never_passed_over() -> None:
    records = grid(BETTER)
    verdict = decide(records[records["schedule"] != "step"], "direction")
    assert verdict.verdict == "inconclusive"
    assert "no records of step" in verdict.reason
    assert len(verdict.comparisons) == 4
    apart = records.copy()
    apart.loc[apart["schedule"] == "uba", "seed"] += 100
    assert "no common unit" in decide(apart, "direction").reason


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_makes_its_comparison_unclear(value: float) -> None:
    records = grid(BETTER)
    diverged = records.copy()
    diverged.loc[(diverged["schedule"] == "step") & (diverged["seed"] == 3) & (diverged["budget"] == 25), "value"] = (
        value
    )
    verdict = decide(diverged, "direction")
    assert verdict.verdict == "inconclusive"
    assert states(verdict) == ["better", "unclear", "better", "better"]
    assert "1 of 10 differences are not finite" in verdict.reason
    both = records.copy()
    both.loc[both["seed"] == 3, "value"] = value
    assert set(states(decide(both, "direction"))) == {"unclear"}


def test_a_comparison_without_p_value_stays_in_the_family() -> None:
    """Holm's factor for the best of four stays 4, even where one of the four cannot be tested."""
    records = grid(BETTER)
    records.loc[(records["schedule"] == "step") & (records["budget"] == 25), "value"] = math.nan
    made = [
        one for one in decide(records, "direction").comparisons if one["p"] is not None and one["p_holm"] is not None
    ]
    best = min(made, key=lambda one: one["p"] or 0)
    assert best["p_holm"] == pytest.approx(4 * (best["p"] or 0))


def test_a_replicate_that_stands_twice_is_refused_with_its_columns() -> None:
    records = grid(BETTER)
    with pytest.raises(ValueError, match="have schedule=uba, budget=25, seed=0; narrow"):
        decide(pd.concat([records, records], ignore_index=True), "direction")
    with pytest.raises(ValueError, match="have schedule=uba, seed=0"):
        decide(records, "direction", by=[])
    assert decide(records, "direction", by=[], pair_on=["seed", "budget"]).n == 20


def test_a_premise_drops_the_cells_that_have_no_gap() -> None:
    def mean(schedule: str, budget: int) -> float:
        # "step" plays the unmatched method: better than linear at 25 only
        return {"linear": 2.0, "step": 0.0 if budget == 25 else 2.0, "uba": 0.0 if budget == 25 else 4.0}[schedule]

    changes: dict[str, Any] = {"baselines": ["linear"], "premise": "step", "decisive": None}
    verdict = decide(grid(mean), "direction", **changes)
    assert verdict.verdict == "reproduced"
    assert states(verdict, "premise") == ["better", "tied"]
    assert [one["cell"] for one in verdict.comparisons if one["role"] == "claim"] == [{"budget": 25}]
    nothing = decide(grid({"uba": 0.0, "linear": 2.0, "step": 2.0}), "direction", **changes)
    assert (nothing.verdict, nothing.reason) == ("inconclusive", "no gap to explain")
    few = decide(grid(mean, seeds=4), "direction", **changes)
    assert few.verdict == "inconclusive"
    assert few.reason.startswith("premise: n = 4")


def test_differences_without_spread_are_decided_exactly() -> None:
    records = grid(BETTER, noise=0.0)
    records["value"] = records["value"].round(0) * 0 + records["schedule"].map(BETTER)
    verdict = decide(records, "direction")
    assert verdict.verdict == "reproduced"
    assert (verdict.estimate, verdict.low, verdict.high) == (-2.0, -2.0, -2.0)
    records["value"] = 1.0
    assert states(decide(records, "direction")) == ["tied"] * 4


# --- ordering --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("means", "word"),
    [
        (BETTER, "reproduced"),
        ({"uba": 0.0, "linear": 3.0, "step": 2.0}, "not reproduced"),
        ({"uba": 0.0, "linear": 2.0, "step": 2.0}, "inconclusive"),
        ({"uba": 3.0, "linear": 2.0, "step": 1.0}, "not reproduced"),
    ],
)
def test_ordering(means: dict[str, float], word: str) -> None:
    verdict = decide(grid(means, rng=3), "ordering")
    assert verdict.verdict == word
    assert [(one["ours"], one["baseline"]) for one in verdict.comparisons[:2]] == [
        ("linear", "uba"),
        ("step", "linear"),
    ]


# --- slope -----------------------------------------------------------------------------------------------------------


def line(b: float, *, seeds: int = 5, noise: float = 0.01, method: str = "linear", **factors: Any) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    made = []
    for seed in range(seeds):
        for x in (1.0, 2.0, 4.0, 8.0):
            value = 10 + b * x if method == "linear" else 10 * x**b
            made.append(
                {"quantity": "error", "seed": seed, "budget": x, "value": value * (1 + rng.normal(0, noise)), **factors}
            )
    return tidy(made)


@pytest.mark.parametrize(
    ("b", "changes", "word"),
    [
        (1.0, {"claimed": "positive"}, "reproduced"),
        (-1.0, {"claimed": "positive"}, "not reproduced"),
        (0.0, {"claimed": "positive"}, "inconclusive"),
        (-1.0, {"claimed": "negative"}, "reproduced"),
        (1.0, {"claimed": "negative"}, "not reproduced"),
        (0.0, {"claimed": "zero", "margin": 0.1}, "reproduced"),
        (0.0, {"claimed": "zero", "margin": 1e-4}, "inconclusive"),
        (1.0, {"claimed": "zero", "margin": 0.1}, "not reproduced"),
        (1.0, {"claimed": "at_least", "bound": 0.9}, "reproduced"),
        (1.0, {"claimed": "at_least", "bound": 1.1}, "not reproduced"),
        (1.0, {"claimed": "at_least", "bound": 1.0}, "inconclusive"),
        (1.0, {"claimed": "at_most", "bound": 1.1}, "reproduced"),
        (1.0, {"claimed": "at_most", "bound": 0.9}, "not reproduced"),
    ],
)
def test_linear_slope(b: float, changes: dict[str, Any], word: str) -> None:
    verdict = decide(line(b), "slope", **changes)
    assert verdict.verdict == word
    assert verdict.n == 5
    assert verdict.estimate == pytest.approx(b, abs=0.05)


def test_a_zero_slope_is_judged_by_the_ninety_percent_interval() -> None:
    (made,) = decide(line(0.0), "slope", claimed="zero", margin=1.0).comparisons
    reach = [max(abs(made[low] or 0), abs(made[high] or 0)) for low, high in (("low90", "high90"), ("low", "high"))]  # type: ignore[literal-required]
    between = sum(reach) / 2
    assert reach[0] < between < reach[1]
    assert decide(line(0.0), "slope", claimed="zero", margin=between).verdict == "reproduced"
    assert decide(line(0.0), "slope", claimed="zero", margin=reach[0] * 0.999).verdict == "inconclusive"


def test_power_law_and_rank_slopes() -> None:
    records = line(-0.5, method="loglog")
    found = decide(records, "slope", method="loglog", claimed="at_most", bound=-0.4)
    assert (found.verdict, found.estimate) == ("reproduced", pytest.approx(-0.5, abs=0.02))
    ranks = decide(records, "slope", method="spearman", claimed="negative")
    assert (ranks.verdict, ranks.estimate, ranks.low, ranks.high) == ("reproduced", -1.0, -1.0, -1.0)


def test_exact_results_need_no_seed() -> None:
    exact = line(1.0, seeds=1, noise=0.0).drop(columns="seed")
    found = decide(exact, "slope", min_seeds=1)
    assert (found.verdict, found.n) == ("reproduced", 1)
    assert decide(exact, "slope").verdict == "inconclusive"


def test_slope_averages_rows_at_the_same_x() -> None:
    records = line(1.0)
    extra = records.assign(value=records["value"] + 4.0)
    found = decide(pd.concat([records, extra], ignore_index=True), "slope")
    assert found.n == 5
    assert found.estimate == pytest.approx(decide(records, "slope").estimate)


def test_slope_per_cell_needs_all_cells() -> None:
    up, down, flat = line(1.0, model="a"), line(-1.0, model="b"), line(0.0, model="c")
    assert decide(pd.concat([up, up.assign(model="d")]), "slope", by=["model"]).verdict == "reproduced"
    mixed = decide(pd.concat([up, down]), "slope", by=["model"])
    assert mixed.verdict == "not reproduced"
    assert mixed.reason == "1 of 2 cells: the interval contradicts it; least favourable: model=b"
    assert mixed.estimate == pytest.approx(-1.0, abs=0.05)
    assert decide(pd.concat([up, flat]), "slope", by=["model"]).verdict == "inconclusive"


def test_slope_without_a_numeric_x_or_with_a_bad_value() -> None:
    with pytest.raises(ValueError, match="'schedule' must be numeric"):
        decide(grid(BETTER), "slope", x="schedule")
    records = line(1.0)
    records.loc[0, "value"] = math.inf
    assert decide(records, "slope").reason == "1 of 5 values are not finite"


# --- interval --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "changes", "word"),
    [
        (0.5, 0.6, {}, "reproduced"),
        (0.5, 1.5, {}, "not reproduced"),
        (0.5, -0.5, {}, "not reproduced"),
        (0.5, 1.0, {}, "inconclusive"),
        (0.5, 1.5, {"upper": None}, "reproduced"),
        (0.5, -0.5, {"lower": None}, "reproduced"),
        (0.5, -0.5, {"upper": None}, "not reproduced"),
    ],
)
def test_interval(a: float, b: float, changes: dict[str, Any], word: str) -> None:
    noise = np.array([-0.02, 0.0, 0.01, 0.01])
    records = pd.concat([values(a + noise, budget=25), values(b + noise, budget=50)], ignore_index=True)
    assert decide(records, "interval", **changes).verdict == word


def test_one_of_many_cells_refutes_only_after_correction() -> None:
    """An interval that excludes the band at 95 %, but not at the level of one among twenty."""
    noise = np.array([-0.1, 0.0, 0.1])
    outside = values(1.3 + noise, budget=0)
    assert decide(outside, "interval").verdict == "not reproduced"
    inside = [values(0.5 + noise, budget=k) for k in range(1, 20)]
    many = decide(pd.concat([outside, *inside], ignore_index=True), "interval")
    assert many.verdict == "inconclusive"
    assert many.estimate == pytest.approx(1.3)


# --- all kinds -------------------------------------------------------------------------------------------------------

CASES = {
    "identity": (grid({"uba": 0.0, "linear": 0.0, "step": 0.0}), {}),
    "value": (grid(BETTER), {"where": {"schedule": "uba", "budget": 25}}),
    "direction": (grid(BETTER), {}),
    "ordering": (grid(BETTER), {}),
    "slope": (grid(lambda schedule, budget: budget / 10), {"where": {"schedule": "step"}}),
    "interval": (grid(BETTER), {"where": {"schedule": "step"}}),
}


@pytest.mark.parametrize("kind", CASES)
@settings(max_examples=15, deadline=None)
@given(random=st.randoms(use_true_random=False))
def test_no_verdict_depends_on_the_order_of_rows_or_the_names_of_seeds(kind: str, random: Any) -> None:
    records, changes = CASES[kind]
    before = decide(records, kind, **changes)
    order = list(range(len(records)))
    random.shuffle(order)
    names = list(range(100, 110))
    random.shuffle(names)
    after = decide(
        records.iloc[order].assign(seed=lambda rows: [names[seed] for seed in rows["seed"]]), kind, **changes
    )
    assert after == before


@pytest.mark.parametrize("kind", ["direction", "ordering"])
@given(factor=st.floats(1e-3, 1e3))
@settings(max_examples=15, deadline=None)
def test_scaling_the_records_scales_the_numbers_and_keeps_the_verdict(kind: str, factor: float) -> None:
    records = grid({"uba": 0.0, "linear": 0.07, "step": 0.2}, rng=1)
    changes = {"margin": 0.05} if kind == "direction" else {}
    before = decide(records, kind, **changes)
    scaled = records.assign(value=records["value"] * factor)
    after = decide(scaled, kind, **{name: value * factor for name, value in changes.items()})
    assert (after.verdict, states(after)) == (before.verdict, states(before))
    assert before.estimate is not None
    assert after.estimate == pytest.approx(before.estimate * factor, rel=1e-6)


@pytest.mark.parametrize("kind", CASES)
def test_a_verdict_survives_json_exactly_and_is_strict_json(kind: str) -> None:
    records, changes = CASES[kind]
    holed = records.copy()
    holed.loc[3, "value"] = math.nan
    for frame in (records, holed):
        verdict = decide(frame, kind, **changes)
        text = json.dumps(verdict.to_dict(), allow_nan=False)
        assert Verdict.from_dict(json.loads(text)) == verdict
        again = decide(load_records(json.loads(json.dumps(dump_records(frame)))), kind, **changes)
        assert json.dumps(again.to_dict()) == text


def test_reevaluate_uses_the_stored_records_and_todays_claims() -> None:
    def claims(margin: float) -> PaperClaims:
        listed = (make("direction", margin=margin), make("direction", id="T2", notebook="11_other"))
        return PaperClaims(paper="test", title="t", citation="c", claims=listed)

    records = grid({"uba": 0.0, "linear": 0.0, "step": 1.0}, rng=3)
    results = {"paper": "test", "notebook": "10_test", "profile": "smoke", "records": dump_records(records)}
    assert [(v.claim_id, v.verdict) for v in reevaluate(results, claims(0.3))] == [("T1", "not reproduced")]
    assert [v.verdict for v in reevaluate(results, claims(0.0))] == ["inconclusive"]
    assert evaluate(records, claims(0.3), "smoke")[0] == reevaluate(results, claims(0.3))[0]


def test_the_summary_counts_in_one_order() -> None:
    words = ["not attempted", "reproduced", "partly reproduced", "reproduced", "inconclusive", "not reproduced"]
    assert summary_sentence([{"verdict": word} for word in words]) == (
        "2 reproduced, 1 partly reproduced, 1 not reproduced, 1 inconclusive, 1 not attempted."
    )
    assert summary_sentence([decide(values([0.0]), "identity")]) == "1 reproduced."
    assert summary_sentence([]) == "no claims."


def test_draws_are_judged_by_their_percentiles_and_replicates_by_their_mean() -> None:
    """A thousand replicates pin the mean down; a thousand resamples say how uncertain one estimate is."""
    records = values(np.random.default_rng(0).normal(0.5, 0.2, 1000))
    narrow = {"by": [], "lower": 0.4, "upper": 0.6}
    as_mean, as_draws = (
        evaluate(records, [make("interval", **narrow, rows=rows)], "smoke")[0] for rows in ("replicates", "draws")
    )
    assert (as_mean.verdict, as_draws.verdict) == ("reproduced", "inconclusive")
    assert as_draws.low == pytest.approx(0.5 - 1.96 * 0.2, abs=0.05)
    assert as_draws.n == 1000
