"""The mixtures experiment: what is compared, how it is tuned, and what is derived from the runs."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch

from replication.adcm import figures_mixtures as figures
from replication.adcm.discretization import ECM, ICT, Grid
from replication.adcm.experiments import mixtures
from replication.adcm.experiments.mixtures import Config, derived, methods, reference, schedules
from replication.adcm.mixture import GaussianMixture2d
from replication.adcm.segmentation import kappa
from replication.adcm.training import Adaptive, ConstantLocal
from replication.evidence import load_claims

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
    repeats=2,
    continuous=True,
    lambdas=[0.001, 1.0],
    distances=["l2", "squared"],
    metrics=["l2", "squared"],
)


@pytest.fixture(scope="module")
def records() -> pd.DataFrame:
    return mixtures.run(SMALL)


def test_every_claim_finds_its_levels(records: pd.DataFrame) -> None:
    """A level that no record has would make a claim `not attempted` for ever."""
    for claim in load_claims("adcm").of("21_adcm_mixtures"):
        if claim.scale == "paper":
            continue
        rows = records[records["quantity"] == claim.quantity]
        for column, wanted in claim.where.items():
            levels = wanted if isinstance(wanted, tuple) else (wanted,)
            assert set(levels) <= set(rows[column]), (claim.id, column)
            rows = rows[rows[column].isin(levels)]
        if claim.comparison == "direction":
            assert {claim.ours, *claim.baselines} <= set(rows[claim.factor]), claim.id
        assert len(rows)


def test_every_method_is_tuned_on_one_grid_and_judged_on_other_seeds(records: pd.DataFrame) -> None:
    tuning, quality = (records[records["quantity"] == name] for name in ("tuning_rmse", "log_rmse"))
    for name, schedule in schedules(SMALL).items():
        expected = set(methods(SMALL, name, schedule, SMALL.steps))
        for method in expected:
            tried = tuning[(tuning["schedule"] == name) & (tuning["method"] == method)]
            assert sorted(tried["lr"]) == SMALL.rates
            judged = quality[(quality["schedule"] == name) & (quality["method"] == method)]
            assert set(judged["lr"]) == {tried.loc[tried["value"].idxmin(), "lr"]}
            assert sorted(judged["seed"]) == [0, 0, 1, 1]
        assert set(quality.loc[quality["schedule"] == name, "method"]) == expected
    assert mixtures.TUNING_SEED not in range(1000)


def test_the_same_config_gives_the_same_records(records: pd.DataFrame) -> None:
    """What is not a timing is a function of the config."""
    timed = ("cpu_seconds", "cost", "overhead_paper", "overhead_paper_way", "overhead_measured")
    again = mixtures.run(SMALL)
    one, other = (frame[~frame["quantity"].isin(timed)].reset_index(drop=True) for frame in (records, again))
    pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_methods_are_what_their_names_say() -> None:
    config, steps = SMALL, 100
    ve, flow = schedules(config).values()
    on_ve, on_flow = methods(config, "VE", ve, steps), methods(config, "FM", flow, steps)
    assert on_ve["adcm"] == (Adaptive(0.01), "w_t", None, None)
    assert on_ve["adcm-sample"].weight == "per_sample"
    assert on_ve["ecm2"].rule == ECM(ve, 2, 25)
    assert on_ve["ecm256"].rule == ECM(ve, 256)
    assert on_ve["ecm256"].weight == on_ve["ict"].weight == on_ve["ecm2"].weight == "inverse_step"
    log = on_ve["log"].rule
    assert isinstance(log, Grid)
    assert len(log) == math.ceil(math.log(5 / 0.002) / -math.log1p(-kappa(0.01)))
    assert on_ve["ccm"].rule == ConstantLocal(len(log))
    assert on_ve["scm"].rule is None
    assert isinstance(on_flow["ict"].rule, ICT)
    assert [on_flow[name].rule.naive for name in ("ict", "ict-naive", "ecm2", "ecm2-naive")] == [False, True] * 2
    assert on_ve["adcm-metric-l2"].c != on_ve["adcm-metric-l2"].weight_c == 0.0


def test_both_schedules_cover_the_same_noise_and_are_measured_on_the_same_points() -> None:
    ring = GaussianMixture2d(SMALL.sigma)
    ve, flow = schedules(SMALL).values()
    for end in ("t_min", "t_max"):
        ratio = flow.ratio(torch.tensor(getattr(flow, end), dtype=torch.float64))
        assert float(ratio) == pytest.approx(getattr(ve, end))
    a, b = (reference(SMALL, ring, schedule) for schedule in (ve, flow))
    assert torch.equal(a.z, b.z)
    torch.testing.assert_close(a.exact, b.exact, rtol=1e-5, atol=1e-6)


def test_derived_quantities_by_hand() -> None:
    values = {("VE", "adcm", 0.25): 1.0, ("VE", "adcm", 1.0): 0.5, ("VE", "ecm2", 1.0): 0.7, ("VE", "ict", 1.0): 0.1}
    values |= {("FM", "adcm", 1.0): 0.9, ("FM", "ecm2", 1.0): 0.8, ("FM", "ict", 1.0): 0.6}
    values |= {("FM", "ecm2-naive", 1.0): 2.7, ("FM", "ict-naive", 1.0): 1.1}
    values |= {("VE", "adcm-lambda-1", 0.25): 1.5, ("VE", "adcm-lambda-1", 1.0): 0.9}
    labels = ("schedule", "method", "budget")
    rows = [
        {"quantity": "log_rmse", "seed": 0, "value": value, **dict(zip(labels, key, strict=True))}
        for key, value in values.items()
    ]
    config = Config(seeds=1, lambdas=[1.0], budgets=[0.25, 1.0])
    found = {
        (row["quantity"], row.get("method") or row.get("baseline") or row.get("case")): row["value"]
        for row in derived(config, rows)
    }
    assert found == pytest.approx(
        {
            ("quarter_gap", None): 0.3,
            ("degradation", "adcm"): 0.4,
            ("degradation", "ict"): 0.5,
            ("degradation", "ecm2"): 0.1,
            ("degradation", "ict-naive"): 1.0,
            ("degradation", "ecm2-naive"): 2.0,
            ("degradation_gap", "ict"): -0.1,
            ("degradation_gap", "ecm2"): 0.3,
            ("lambda_cost", "early, lambda 1"): 0.5,
            ("lambda_cost", "final, lambda 1"): 0.4,
        }
    )


def test_the_parts_of_the_overhead_make_the_whole(records: pd.DataFrame) -> None:
    cost = records[records["quantity"] == "cost"].pivot_table(index="seed", columns="part", values="value")
    np.testing.assert_allclose(cost["ratio"], cost["jvp"] / cost["step"])
    paper, own = (
        records[records["quantity"] == name].set_index("seed")["value"]
        for name in ("overhead_paper", "overhead_paper_way")
    )
    np.testing.assert_allclose(own / paper, mixtures.PAPER_M / (SMALL.steps // SMALL.segmentations))
    segments = paper * mixtures.PAPER_M / (100 * cost["ratio"])
    last = records[(records["quantity"] == "segments") & (records["method"] == "adcm")]
    last = last[(last["schedule"] == "VE") & (last["step"] == last["step"].max())]
    np.testing.assert_allclose(segments, last["value"].mean())


@pytest.mark.parametrize(
    "name",
    ["samples", "efficiency", "against", "attribution", "transfer", "trade_off", "segments", "overhead", "tuning"],
)
def test_figures_draw_every_axis(records: pd.DataFrame, name: str) -> None:
    figure = getattr(figures, name)(records)
    figure.canvas.draw()
    assert all(axis.has_data() for axis in figure.axes)
    assert all(axis.get_xlabel() or axis.get_ylabel() for axis in figure.axes)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"budgets": [0.5]}, "budgets"),
        ({"budgets": [0.5, 0.25, 1.0]}, "budgets"),
        ({"highest_ratio": 0.001}, "highest_ratio"),
        ({"images": 100, "batch_size": 64}, "images"),
        ({"rates": []}, "rates"),
        ({"lam": 0.0}, "lam"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_bad_configs_are_named(options: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Config(**options)
