"""The mixtures experiment: what is compared, how it is tuned, and what is derived from the runs."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch

from replication import evidence
from replication.adcm import figures_mixtures as figures
from replication.adcm.discretization import ECM, ICT, ConstantLocal, Grid
from replication.adcm.experiments import mixtures
from replication.adcm.experiments.mixtures import Bed, Config, beds, derived, labels, methods, reference
from replication.adcm.mixture import GaussianMixture2d
from replication.adcm.sampling import sample_two_step
from replication.adcm.segmentation import Adaptive, kappa
from replication.evidence import evaluate, load_claims
from replication.evidence.claims import DirectionTest
from replication.evidence.samples import samples

SMALL = Config(
    width=8,
    depth=1,
    batch_size=8,
    images=160,
    budgets=[0.25, 1.0],
    seeds=2,
    rates=[0.001, 0.01],
    segmentations=2,
    nodes=4,
    segment_batch=16,
    points=40,
    tuning_seeds=3,
    widenings=0,
    ranges=[80.0, 5.0],
    weights=["one", "inverse_t"],
    others=["ccm", "scm"],
    flow=True,
    lambdas=[0.001, 1.0],
    distances=["l2", "squared"],
    metrics=["l2", "squared"],
)


def run() -> pd.DataFrame:
    """The experiment as it would be if every other tuning seed chose the other rate."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mixtures.search, "candidates", lambda scores: np.argsort(scores.sum(axis=1)).tolist())
        return evidence.gather(mixtures, SMALL)


@pytest.fixture(scope="module")
def records() -> pd.DataFrame:
    return run()


def test_every_test_finds_its_levels(records: pd.DataFrame) -> None:
    """A level that no record has would leave a test unanswered for ever."""
    claims = load_claims("adcm")
    for scale in ("smoke", "standard"):
        for test in claims.at("21_adcm_mixtures", scale):
            rows = records[records["quantity"] == test.quantity]
            for column, wanted in test.where.items():
                levels = wanted if isinstance(wanted, tuple) else (wanted,)
                assert set(levels) <= set(rows[column]), (test.id, column)
                rows = rows[rows[column].isin(levels)]
            found = samples(records, test)
            assert found, test.id
            each = 1 if test.exact else 2
            assert all(len(sample.numbers) == each and not sample.note for sample in found), test.id
            assert not any(sample.left_out for sample in found), test.id
            if isinstance(test, DirectionTest) and test.tuned:
                # every arm has its scores, and settings that were evaluated
                assert all(sample.tuning is not None and sample.tuning[1] == 2 for sample in found), test.id
        answers = {one.test_id: one.answer for one in evaluate(records, claims, "21_adcm_mixtures", scale)}
        # of two rates the best is an end
        assert answers.pop("G-inside") == answers.pop("G-inside-sample") == "no"
        assert set(answers.values()) == {"open", "blind"}


def test_every_method_is_tuned_on_one_grid_and_judged_on_other_seeds(records: pd.DataFrame) -> None:
    tuning, quality = (records[records["quantity"] == name] for name in ("tuning_score", "log_rmse"))
    for bed in beds(SMALL):
        expected = set(methods(SMALL, bed, SMALL.steps))
        at = [rows[(rows["schedule"] == bed.schedule) & (rows["range"] == bed.range)] for rows in (tuning, quality)]
        for method in expected:
            tried = at[0][at[0]["method"] == method]
            tried = tried.pivot_table(index="lr", columns="seed", values="value")
            assert list(tried.index) == SMALL.rates
            assert list(tried.columns) == [mixtures.TUNING_SEED + i for i in range(3)]
            judged = at[1][at[1]["method"] == method]
            assert set(judged["lr"]) == {tried.mean(axis=1).idxmin()}
            assert sorted(judged["seed"]) == [0, 0, 1, 1]
        assert set(at[1]["method"]) == expected
    assert mixtures.TUNING_SEED not in range(1000)


def test_rates_that_other_tuning_seeds_would_choose_are_evaluated_too(records: pd.DataFrame) -> None:
    first = records[(records["schedule"] == "VE") & (records["range"] == 80) & (records["budget"] == 1.0)]
    at, tuning, quality = (first[first["quantity"] == name] for name in ("log_rmse_at", "tuning_score", "log_rmse"))
    for method, setting in methods(SMALL, Bed("VE", 80.0), SMALL.steps).items():
        best = tuning[tuning["method"] == method].groupby("lr")["value"].mean().idxmin()
        own = at[at["method"] == method]
        # controls are evaluated at the chosen rate only
        wanted = SMALL.rates if method in mixtures.DECISIVE or setting.c is not None else [best]
        assert sorted(zip(own["lr"], own["seed"], strict=True)) == [(lr, seed) for lr in wanted for seed in (0, 1)]
        chosen = own[own["lr"] == best].sort_values("seed")["value"].tolist()
        assert chosen == quality[quality["method"] == method].sort_values("seed")["value"].tolist()


def test_the_same_config_gives_the_same_records(records: pd.DataFrame) -> None:
    """What is not a timing is a function of the config."""
    timed = load_claims("adcm").volatile
    again = run()
    one, other = (frame[~frame["quantity"].isin(timed)].reset_index(drop=True) for frame in (records, again))
    pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_methods_are_what_their_names_say() -> None:
    config, steps = SMALL, 100
    assert beds(config) == [("VE", 80.0), ("VE", 5.0), ("FM", 80.0)]
    ve = Bed("VE", 80.0).own
    on_ve, on_flow = methods(config, Bed("VE", 80.0), steps), methods(config, Bed("FM", 80.0), steps)
    assert on_ve["adcm-wt"] == (Adaptive(0.01, nodes=4, batch_size=16), "w_t", None, None)
    design = {f"{grid}-{weight}" for grid in ("adcm", "log") for weight in ("wt", "step")} | {"ecm256-wt", "ecm256"}
    assert set(methods(config, Bed("VE", 5.0), steps)) == design | {"adcm-sample", "ecm2", "ict"}
    assert on_ve["adcm-sample"].weight == "per_sample"
    assert on_ve["ecm2"].rule == ECM(ve, 2, 25)
    assert on_ve["ecm256"].rule == ECM(ve, 256)
    assert on_ve["ecm256"].weight == on_ve["ict"].weight == on_ve["ecm2"].weight == "inverse_step"
    log = on_ve["log-wt"].rule
    assert isinstance(log, Grid)
    assert len(log) == math.ceil(math.log(80 / 0.002) / -math.log1p(-kappa(0.01)))
    assert on_ve["ccm"].rule == ConstantLocal(len(log), 4, 16)
    assert on_ve["scm"].rule is None
    assert isinstance(on_flow["ict"].rule, ICT)
    assert [on_flow[name].rule.naive for name in ("ict", "ict-naive", "ecm2", "ecm2-naive")] == [False, True] * 2
    assert on_ve["adcm-metric-l2"].c != on_ve["adcm-metric-l2"].weight_c == 0.0


def test_grid_and_weight_label_the_design_and_nothing_else() -> None:
    named = {method: labels(method, setting) for method, setting in methods(SMALL, Bed("VE", 80.0), 100).items()}
    design = {(of["grid"], of["weight"]): method for method, of in named.items() if "grid" in of}
    assert design == {
        ("adaptive", "w(t)"): "adcm-wt", ("adaptive", "1/Δt"): "adcm-step", ("adaptive", "per sample"): "adcm-sample",
        ("adaptive", "1"): "adcm-one", ("adaptive", "1/t"): "adcm-inverse-t",
        ("log", "w(t)"): "log-wt", ("log", "1/Δt"): "log-step",
        ("ecm256", "w(t)"): "ecm256-wt", ("ecm256", "1/Δt"): "ecm256",
        ("ecm2", "1/Δt"): "ecm2", ("ict", "1/Δt"): "ict", ("constant local consistency", "w(t)"): "ccm",
    }  # fmt: skip
    carried = {
        method: labels(method, setting).get("carried")
        for method, setting in methods(SMALL, Bed("FM", 80.0), 100).items()
    }
    assert carried == {
        "adcm-wt": None, "ict": "rewritten", "ecm2": "rewritten", "ict-naive": "naive", "ecm2-naive": "naive"
    }  # fmt: skip


def test_both_schedules_cover_the_same_noise_and_are_measured_on_the_same_points() -> None:
    ring = GaussianMixture2d(SMALL.sigma)
    ve, flow = (Bed(name, 80.0).own for name in ("VE", "FM"))
    for end in ("t_min", "t_max"):
        ratio = flow.ratio(torch.tensor(getattr(flow, end), dtype=torch.float64))
        assert float(ratio) == pytest.approx(getattr(ve, end))
    a, b = (reference(SMALL, ring, schedule) for schedule in (ve, flow))
    assert torch.equal(a.z, b.z)
    torch.testing.assert_close(a.exact, b.exact, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(a.exact_two, b.exact_two, rtol=1e-5, atol=1e-6)


def test_two_steps_of_the_exact_map_are_at_no_distance_from_themselves() -> None:
    ring, ve = GaussianMixture2d(SMALL.sigma), Bed("VE", 5.0).own
    points = reference(SMALL, ring, ve)
    again = sample_two_step(ring.consistency_map(ve), points.z.double(), points.z_mid.double(), ve)
    torch.testing.assert_close(again.float(), points.exact_two, rtol=1e-4, atol=1e-5)
    assert float((points.exact_two - points.exact).norm(dim=1).mean()) > 0.05


def test_derived_quantities_by_hand() -> None:
    values = {("VE", "adcm-wt", 0.25): 1.0, ("VE", "adcm-wt", 1.0): 0.5, ("VE", "adcm-sample", 0.25): 3.0}
    values |= {("VE", "ecm2", 1.0): 0.7, ("FM", "adcm-wt", 1.0): 0.9, ("FM", "ecm2", 1.0): 0.8, ("FM", "ict", 1.0): 0.6}
    values |= {("VE", "adcm-lambda-1", 0.25): 1.5, ("VE", "adcm-lambda-1", 1.0): 0.9}
    labels = ("schedule", "method", "budget")
    rows = [
        {"quantity": "log_rmse", "range": end, "seed": 0, "value": value, **dict(zip(labels, key, strict=True))}
        for key, own in values.items()
        for end, value in ((80.0, own), (5.0, own + 1))
    ]
    config = Config(seeds=1, lambdas=[1.0], budgets=[0.25, 1.0], flow=True, ranges=[80.0, 5.0])
    found = {
        (row["quantity"], row.get("baseline") or row.get("method") or row.get("case")): row["value"]
        for row in derived(config, evidence.tidy(rows))
    }
    assert found == pytest.approx(
        {
            ("quarter_gap", "adcm-wt"): 0.3,
            ("quarter_gap", "adcm-sample"): 2.3,
            ("flow_gap", "ict"): 0.3,
            ("flow_gap", "ecm2"): 0.1,
            ("lambda_cost", "early, lambda 1"): 0.5,
            ("lambda_cost", "final, lambda 1"): 0.4,
        }
    )


@pytest.mark.parametrize(
    "name",
    [
        "samples", "efficiency", "cpu_time", "against", "attribution", "transfer", "trade_off", "segments",
        "tuning",
    ],
)  # fmt: skip
def test_figures_draw_every_axis(records: pd.DataFrame, name: str) -> None:
    figure = getattr(figures, name)(records)
    figure.canvas.draw()
    assert all(axis.has_data() for axis in figure.axes)
    assert all(axis.get_xlabel() or axis.get_ylabel() for axis in figure.axes)


def test_figures_show_the_first_range_whichever_is_larger(records: pd.DataFrame) -> None:
    """It is where everything is compared."""
    swapped = records.assign(range=records["range"].map({80.0: 5.0, 5.0: 80.0}))
    for name in ("against", "transfer", "tuning", "segments"):
        one, other = (getattr(figures, name)(rows).axes for rows in (records, swapped))
        assert [axis.get_legend_handles_labels()[1] for axis in one] == [
            axis.get_legend_handles_labels()[1] for axis in other
        ]
        assert [len(axis.lines) for axis in one] == [len(axis.lines) for axis in other]
    assert figures.safeguards(swapped) == figures.safeguards(records)


def test_safeguards_are_counted_for_every_lambda(records: pd.DataFrame) -> None:
    rows = figures.safeguards(records).rows
    names = [f"ADCM with w(t){of}" for of in (", flow matching", ", λ = 0.001, VE", ", λ = 1, VE", ", VE")]
    assert [row[0] for row in rows] == [name for name in names for _ in range(2)]
    # kappa(0.001) is below the floor
    assert int(rows[2][3].split("(")[1].rstrip("%)")) > 50


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"budgets": [0.5]}, "budgets"),
        ({"budgets": [0.5, 0.25, 1.0]}, "budgets"),
        ({"budgets": [0.5, 1.0]}, "budgets: must increase and hold 0.25"),
        ({"lambdas": [0.01, 1.0]}, "lambdas: are compared with the paper's 0.01"),
        ({"lambdas": [1.0], "lam": 0.02}, "lambdas: .* with lam 0.02"),
        ({"ranges": [0.001]}, "ranges"),
        ({"ranges": [5.0, 5.0]}, "ranges"),
        ({"images": 100, "batch_size": 64}, "images"),
        ({"rates": []}, "rates"),
        ({"lam": 0.0}, "lam"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_bad_configs_are_named(options: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Config(**options)
