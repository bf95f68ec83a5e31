"""The sinusoid study at tiny sizes: pairing, tuning, budgets, tests."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from mutation import asked, flips

from replication import evidence
from replication.metalearning import figures_sinusoid
from replication.metalearning.experiments import sinusoid

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
    learning_rates=[0.004, 0.012],
    widenings=0,
    test_rates=[0.0, 0.03],
    validation_tasks=3,
    test_tasks=4,
    resamples=100,
)


@pytest.fixture(scope="module")
def curves() -> pd.DataFrame:
    return evidence.gather(sinusoid, TINY)


def of(records: pd.DataFrame, quantity: str, **levels: object) -> pd.DataFrame:
    rows = records[records["quantity"] == quantity]
    for column, level in levels.items():
        rows = rows[rows[column] == level]
    return rows


@pytest.mark.parametrize("scale", ["smoke", "standard"])
def test_every_test_can_be_answered_and_flips(curves, scale):
    # tiny runs under the names of the checkpoints, tasks and widths that the tests are about
    smoke, notebook = scale == "smoke", "51_metalearning_sinusoid"
    last = 600 if smoke else 3000
    records = curves.replace({"steps": {3: last, 4: last}, "tasks": {80: 80 if smoke else 320}})
    wide = records[records["width"] == 0.25]
    records = evidence.tidy(pd.concat([records, *(wide.assign(width=width) for width in (0.5, 1.0))]))
    claims = evidence.load_claims("metalearning")
    tests = claims.at(notebook, scale)
    assert tests
    for test, outcome in zip(tests, evidence.evaluate(records, claims, notebook, scale), strict=True):
        assert outcome.answer != "not run"
        if getattr(test, "rows", "") == "draws":
            # those of so few seeds lie at the ends of the grid; of many they are shifted in the evidence tests
            drawn = records["quantity"] == test.quantity
            beyond, within = (records.assign(value=records["value"].mask(drawn, at * test.lower)) for at in (0.9, 1.1))
            assert (asked(test, beyond).answer, asked(test, within).answer) == ("no", "yes")
        else:
            assert flips(test, records)


def test_a_closed_gate_blinds_what_depends_on_it(curves):
    """A grid of two rates has ends only."""
    records = curves.replace({"steps": {3: 600, 4: 600}})
    claims = evidence.load_claims("metalearning")
    assert (of(records, "rates_inside")["value"] == 0).all()
    by_seed, draws = records[records["seed"].notna()], records[records["seed"].isna()]
    # as many seeds as the gates ask for
    many = pd.concat([draws, *(by_seed.assign(seed=by_seed["seed"] + 100 * i) for i in range(8))], ignore_index=True)
    found = evidence.evaluate(evidence.tidy(many), claims, "51_metalearning_sinusoid", "smoke")
    answers = {outcome.test_id: outcome.answer for outcome in found}
    assert answers["rates-inside"] == answers["rates-inside-fresh"] == "no"
    assert {answers[name] for name in ("T10-few", "T10-many", "T10-crossing", "T12", "T11", "T11-narrow")} == {"blind"}


def main(config):
    """The parts of the main condition."""
    made = [part for part in sinusoid.parts(config) if part.name.startswith(f"{sinusoid.MAIN}: ")][:-1]
    return evidence.tidy([row for part in made for row in part.compute(part.settings, **part.cell)])


def test_rates_at_an_end_are_told():
    """Of three learning rates the middle is inside; a test rate of 0 is, the highest is not."""
    config = TINY.model_copy(update={"learning_rates": [0.01, 0.1, 0.3], "test_rates": [0.0, 0.003, 0.03]})
    rows = main(config)
    at = ["method", "tasks", "steps", "seed"]
    wide = rows[rows["quantity"].isin(["learning_rate", "test_rate", "rates_inside"])].pivot_table(
        index=at, columns="quantity", values="value"
    )
    inside = (wide["learning_rate"] == 0.1) & (wide["test_rate"] < 0.03)
    assert inside.any()
    assert (~inside).any()
    assert (wide["rates_inside"] == inside).all()


def test_a_grid_is_widened_where_a_seed_chooses_its_end():
    """Rates so small that all want the largest; what others had tried before changes nothing."""
    config = TINY.model_copy(update={"learning_rates": [0.0001, 0.0002]})
    wider = of(main(config.model_copy(update={"widenings": 2})), "learning_rate")
    assert set(wider["value"]) - {0.0001, 0.0002}
    assert set(wider["value"]) <= {0.000025, 0.00005, 0.0001, 0.0002, 0.0004, 0.0008}
    offered = of(main(config.model_copy(update={"learning_rates": [0.0001, 0.0002, 0.0004, 0.0008]})), "learning_rate")
    same = wider["value"].to_numpy() == 0.0008
    assert same.any()
    assert (offered["value"].to_numpy()[same] == 0.0008).all()


def test_the_error_of_predicting_zero_is_that_of_the_test_tasks(curves):
    at = {"condition": sinusoid.MAIN, "steps": 4}
    zero = of(curves, "log_mse", **at)["value"].to_numpy() - of(curves, "log_over_zero", **at)["value"].to_numpy()
    for seed in (8, 9, 10):
        judged = sinusoid._judged(TINY, seed, "test", TINY.conditions[0])
        expected = np.log(float((judged.query[1] ** 2).mean()))
        np.testing.assert_allclose(zero[of(curves, "log_mse", **at)["seed"] == seed], expected, rtol=1e-5)


def test_a_run_repeats_itself(curves):
    again = main(TINY)
    before = curves[(curves["condition"] == sinusoid.MAIN) & curves["quantity"].isin(again["quantity"])]
    assert again["value"].tolist() == before["value"].tolist()


def test_test_tasks_choose_nothing():
    few, many = (main(TINY.model_copy(update={"test_tasks": n})) for n in (1, 9))
    for quantity in ("learning_rate", "test_rate"):
        assert of(few, quantity)["value"].tolist() == of(many, quantity)["value"].tolist()
    assert of(few, "log_mse")["value"].tolist() != of(many, "log_mse")["value"].tolist()


def test_an_early_checkpoint_is_kept_where_validation_says_so():
    """With the larger budget a seed keeps what it had with the smaller one, or what only the larger one offers."""
    rows = main(TINY.model_copy(update={"learning_rates": [0.004, 0.3]}))
    at, names = ["method", "tasks", "seed"], ["log_mse", "log_over_zero", "learning_rate", "test_rate", "kept_steps"]
    short, long = (
        rows[(rows["steps"] == steps) & rows["quantity"].isin(names)].pivot_table(
            index=at, columns="quantity", values="value"
        )
        for steps in TINY.steps
    )
    assert (short["kept_steps"] == 2).all()
    assert set(long["kept_steps"]) == {2, 4}
    early = long["kept_steps"] == 2
    pd.testing.assert_frame_equal(long[early], short[early])
    assert (long.loc[~early, "log_mse"] != short.loc[~early, "log_mse"]).all()
    assert (of(rows, "final", budget=sinusoid.SAMPLES).set_index(at)["value"] == long["log_mse"]).all()


def test_validation_chooses_the_best_pair():
    """With a single pair on offer the result is that pair's; of several, validation takes one of them."""
    single = {}
    for lr in TINY.learning_rates:
        for rate in TINY.test_rates:
            config = TINY.model_copy(update={"learning_rates": [lr], "test_rates": [rate]})
            rows = of(main(config), "log_mse")
            single[lr, rate] = rows["value"].to_numpy()
    offered = main(TINY)
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
    later = TINY.model_copy(update={"seeds": 2, "first_seed": TINY.first_seed + 1})
    rows = of(main(later), "log_mse")
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


def test_figures_draw_what_the_runs_give(curves):
    for draw in (
        figures_sinusoid.trade_off,
        figures_sinusoid.seeds,
        figures_sinusoid.conditions,
        figures_sinusoid.fresh,
    ):
        assert isinstance(draw(curves), Figure)
    assert len(figures_sinusoid.chosen(curves).rows) == 6
    assert len(figures_sinusoid.located(curves).rows) == 2
    with pytest.raises(ValueError, match="records: no rows of 'final'"):
        figures_sinusoid.trade_off(curves[curves["quantity"] != "final"])
