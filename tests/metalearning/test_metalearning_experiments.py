"""The sinusoid and the navigation study at tiny sizes: pairing, tuning, budgets, claims."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from replication import evidence
from replication.metalearning import figures_navigation, figures_sinusoid
from replication.metalearning.experiments import navigation, sinusoid

mpl.use("agg")
TINY = sinusoid.Config(
    seeds=3,
    other_seeds=2,
    tasks=[5, 80],
    steps=[2, 4],
    fresh_steps=[2, 3],
    fresh_widths=[0.05, 0.25],
    other_shots=[],
    other_widths=[],
    meta_batch=2,
    hidden=3,
    test_rates=[0.0, 0.03],
    validation_tasks=3,
    test_tasks=4,
    resamples=100,
)
PATH = navigation.Config(
    seeds=2, tuning_seeds=1, iterations=[1, 2], meta_batch=2, rollouts=2, horizon=2, hidden=2, updates=1, tasks=2
)


@pytest.fixture(scope="module")
def curves() -> pd.DataFrame:
    return sinusoid.run(TINY)


@pytest.fixture(scope="module")
def paths() -> pd.DataFrame:
    return navigation.run(PATH)


def of(records: pd.DataFrame, quantity: str, **levels: object) -> pd.DataFrame:
    rows = records[records["quantity"] == quantity]
    for column, level in levels.items():
        rows = rows[rows[column] == level]
    return rows


@pytest.mark.parametrize("notebook", ["51_metalearning_sinusoid", "52_metalearning_navigation"])
def test_every_smoke_claim_can_be_decided_and_flips(curves, paths, notebook):
    # tiny runs under the names of the checkpoints that the claims are about
    records = (
        curves.replace({"steps": {3: 600}}) if "sinusoid" in notebook else paths.replace({"iterations": {1: 5, 2: 80}})
    )
    claims = evidence.load_claims("metalearning").of(notebook)
    attempted = [claim for claim in claims if "smoke" in claim.profiles]
    assert attempted
    verdicts = {verdict.claim_id: verdict.verdict for verdict in evidence.evaluate(records, claims, "smoke")}
    for claim in claims:
        assert (verdicts[claim.id] == "not attempted") == (claim not in attempted)
    for claim in attempted:
        assert evidence.flips(claim, records, "smoke")


def test_a_run_repeats_itself(curves):
    again = evidence.tidy(list(sinusoid.finite(TINY, TINY.conditions[0])))
    before = curves[curves["condition"] == sinusoid.MAIN]
    assert again["value"].tolist() == before["value"].tolist()


def test_test_tasks_choose_nothing():
    condition = TINY.conditions[0]
    few, many = (
        evidence.tidy(list(sinusoid.finite(TINY.model_copy(update={"test_tasks": n}), condition))) for n in (1, 9)
    )
    for quantity in ("learning_rate", "test_rate"):
        assert of(few, quantity)["value"].tolist() == of(many, quantity)["value"].tolist()
    assert of(few, "log_mse")["value"].tolist() != of(many, "log_mse")["value"].tolist()


def test_validation_chooses_the_best_pair():
    """With a single pair on offer the result is that pair's; of several, validation takes one of them."""
    condition = TINY.conditions[0]
    single = {}
    for lr in TINY.learning_rates:
        for rate in TINY.test_rates:
            config = TINY.model_copy(update={"learning_rates": [lr], "test_rates": [rate]})
            rows = of(evidence.tidy(list(sinusoid.finite(config, condition))), "log_mse")
            single[lr, rate] = rows["value"].to_numpy()
    offered = evidence.tidy(list(sinusoid.finite(TINY, condition)))
    pairs = zip(of(offered, "learning_rate")["value"], of(offered, "test_rate")["value"], strict=True)
    expected = [single[pair][i] for i, pair in enumerate(pairs)]
    np.testing.assert_allclose(of(offered, "log_mse")["value"], expected, rtol=1e-5)


def test_budgets_differ_in_the_steps_of_maml_alone(curves):
    curve = of(curves, "log_mse", condition=sinusoid.MAIN).set_index(["method", "steps", "tasks", "seed"])["value"]
    for row in of(curves, "final", condition=sinusoid.MAIN).itertuples():
        halved = row.method == "MAML" and row.budget == sinusoid.CALLS
        assert row.value == curve[row.method, 2 if halved else 4, row.tasks, row.seed]


def test_ratios_are_paired_differences(curves):
    final = of(curves, "final", budget=sinusoid.SAMPLES, condition=sinusoid.MAIN)
    wide = final.pivot_table(index=["tasks", "seed"], columns="method", values="value")
    ratio = of(curves, "log_ratio", budget=sinusoid.SAMPLES, condition=sinusoid.MAIN).set_index(["tasks", "seed"])[
        "value"
    ]
    np.testing.assert_allclose((wide["DRS"] - wide["MAML"])[ratio.index], ratio)


def test_seeds_begin_where_they_are_told_and_share_nothing(curves):
    condition = TINY.conditions[0]
    later = TINY.model_copy(update={"seeds": 2, "first_seed": TINY.first_seed + 1})
    rows = of(evidence.tidy(list(sinusoid.finite(later, condition))), "log_mse")
    before = of(curves, "log_mse", condition=sinusoid.MAIN)
    assert sorted(set(before["seed"])) == [8, 9, 10]
    before = before[before["seed"] > TINY.first_seed]
    assert rows["seed"].tolist() == before["seed"].tolist()
    np.testing.assert_allclose(rows["value"], before["value"], rtol=1e-4)


def test_the_crossing_of_a_planted_curve():
    tasks = [5, 10, 20, 80]
    logs = np.log(tasks)
    planted = np.log([7.0, 12.0, 60.0])
    found = sinusoid.crossing(tasks, logs[:, None] - planted)
    np.testing.assert_allclose(found, [7, 12, 60])
    np.testing.assert_allclose(sinusoid.crossing(tasks, planted[None, :1] - logs[:, None]), 80)
    # ahead, behind, ahead: the last change counts
    np.testing.assert_allclose(sinusoid.crossing(tasks, np.array([1.0, -1.0, 1.0, 2.0])), np.sqrt(200))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": [80, 5]}, "tasks: must increase"),
        ({"meta_batch": 6}, "meta_batch: 6 is more than the fewest tasks, 5"),
        ({"other_seeds": 4}, "other_seeds: 4 are more than the 3 seeds"),
        ({"steps": [3, 4]}, "steps: MAML takes 2 steps at equal gradient calls, which is no checkpoint"),
        ({"fresh_widths": [2.0]}, "fresh_widths"),
        ({"learning_rate": [0.1]}, "learning_rate"),
    ],
)
def test_bad_sinusoid_parameters_are_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        sinusoid.Config(**(TINY.model_dump() | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iterations": [5, 5]}, "iterations: must increase"),
        ({"rollouts": 1}, "rollouts"),
        ({"tuning_seeds": 0}, "tuning"),
    ],
)
def test_bad_navigation_parameters_are_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        navigation.Config(**(PATH.model_dump() | change))


def test_both_methods_pay_the_same_environment_steps(paths):
    rows = of(paths, "return")
    assert set(rows["method"]) == {"DRS", "MAML"}
    assert PATH.steps_per_iteration == 2 * 2 * 2 * 2
    assert (rows["steps"] == rows["iterations"] * 16).all()


def test_the_evaluation_does_not_depend_on_how_many_seeds_evaluate(paths):
    """Rates are chosen on the tuning seeds, and replicas do not mix."""
    fewer = navigation.run(PATH.model_copy(update={"seeds": 3}))
    for quantity in ("learning_rate", "test_rate"):
        assert of(fewer, quantity)["value"].tolist() == of(paths, quantity)["value"].tolist()
    shared = of(fewer, "return")
    shared = shared[shared["seed"] < 2]
    np.testing.assert_allclose(shared["value"], of(paths, "return")["value"], rtol=1e-3)


def test_advantages_are_paired_differences(paths):
    wide = of(paths, "return").pivot_table(index=["iterations", "updates", "seed"], columns="method", values="value")
    found = of(paths, "advantage").set_index(["iterations", "updates", "seed"])["value"]
    np.testing.assert_allclose((wide["MAML"] - wide["DRS"])[found.index], found)


def test_figures_draw_what_the_runs_give(curves, paths):
    for draw in (
        figures_sinusoid.trade_off,
        figures_sinusoid.seeds,
        figures_sinusoid.conditions,
        figures_sinusoid.fresh,
    ):
        assert isinstance(draw(curves), Figure)
    for draw in (figures_navigation.returns, figures_navigation.budget, figures_navigation.contour):
        assert isinstance(draw(paths), Figure)
    assert len(figures_sinusoid.chosen(curves).rows) == 6
    assert len(figures_sinusoid.located(curves).rows) == 2
    assert len(figures_navigation.chosen(paths).rows) == 4
    with pytest.raises(ValueError, match="records: no rows of 'final'"):
        figures_sinusoid.trade_off(paths.assign(condition=sinusoid.MAIN))
