"""The theory experiment, small: it records what the claims need, the same every time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pydantic import ValidationError

from replication import evidence
from replication.uba import theory as formulas
from replication.uba.baselines import factors
from replication.uba.experiments import theory
from replication.uba.schedule import uba

TINY = {
    "seeds": 2, "train_steps": 12, "minmax_kappas": [2.0, 10.0], "minmax_steps": [8], "minmax_spacing": 1.05,
    "order_steps": 16, "cap_kappas": [10.0], "cap_steps": 8, "dimension": 8, "kappas": [3.0, 100.0],
    "noises": [0.001, 0.1], "budgets": [20, 80], "phis": [0.5, 2.0, 20.0], "peaks": 5, "logistic_draws": 2,
    "logistic_kappas": [3.0, 30.0], "logistic_noises": [0.01, 0.1], "logistic_budgets": [16, 64],
    "logistic_phis": [0.5, 2.0, 20.0], "logistic_peaks": 3, "bound_budgets": [50], "rate_budgets": [16, 64],
    "rate_phis": [0.5, 5.0], "rate_logistic_budgets": [16, 64],
}  # fmt: skip
ASKED = evidence.load_claims("uba").at("10_uba_theory", "smoke")


@pytest.fixture(scope="module")
def records():
    return evidence.gather(theory, theory.Config(**TINY))


def rows(records, quantity: str, **where):
    found = records[records["quantity"] == quantity]
    for column, level in where.items():
        found = found[found[column] == level]
    return found


def test_there_are_tests_to_serve():
    wanted = {
        "U1", "U1-torch", "U2-minimum", "U2-bound", "U3-theory", "U5-convex", "U6", "U6-quadratic", "U6-logistic",
        "U9-bound", "U9-rate", "U9-every",
    }  # fmt: skip
    assert wanted <= {test.id for test in ASKED}


@pytest.mark.parametrize("test", ASKED, ids=lambda test: test.id)
def test_records_hold_what_each_test_needs(records, test):
    found = rows(records, test.quantity)
    for column, wanted in test.where.items():
        levels = wanted if isinstance(wanted, (list, tuple)) else [wanted]
        assert set(levels) <= set(found[column])
        found = found[found[column].isin(levels)]
    assert len(found)
    assert np.isfinite(found["value"]).all()
    assert found[list(test.by)].notna().all(axis=None)
    if test.comparison == "slope":
        assert found[[*test.unit_by, test.x]].notna().all(axis=None)
        for _, problem in found.groupby("problem"):  # every replicate needs every level of x, once
            counts = problem.groupby([*test.by, *test.unit_by])[test.x].agg(["nunique", "size"])
            assert (counts == problem[test.x].nunique()).all(axis=None)
            assert problem[test.x].nunique() >= 2


def test_records_answer_every_test(records):
    """Small as the run is, nothing is left unmeasured, and what is exact comes out as it must."""
    claims = evidence.load_claims("uba")
    answers = {one.test_id: one for one in evidence.evaluate(records, claims, "10_uba_theory", "smoke")}
    assert all(one.estimate is not None for one in answers.values())
    exact = {name: answers[name].answer for name in ("U1", "U1-torch", "U2-bound", "U3-theory")}
    assert exact == {"U1": "yes", "U1-torch": "yes", "U2-bound": "yes", "U3-theory": "no"}
    assert answers["U2-minimum"].answer == "yes"


def test_slopes_are_asked_on_both_problems(records):
    for quantity in ("best_phi", "min_gradient", "gradient_over_bound"):
        assert set(rows(records, quantity)["problem"]) == {"quadratic", "logistic"}


def test_same_configuration_gives_the_same_records(records):
    assert records.equals(evidence.gather(theory, theory.Config(**TINY)))


def test_default_configuration_has_the_replicates_that_the_tests_ask_for():
    config = theory.Config()
    least = {test.id: test.min_seeds for test in ASKED}
    quadratic = len(config.kappas) * len(config.noises)
    logistic = len(config.logistic_kappas) * len(config.logistic_noises)
    assert min(quadratic, logistic) >= max(least["U5-convex"], least["U9-rate"])
    assert quadratic + logistic >= least["U9-every"]
    assert quadratic * len(config.budgets) >= least["U6"] <= logistic * len(config.logistic_budgets)
    assert len(config.noises) * len(config.budgets) >= least["U6-quadratic"]
    assert len(config.logistic_noises) * len(config.logistic_budgets) >= least["U6-logistic"]
    assert min(len(config.kappas), len(config.logistic_kappas)) >= least["U9-bound"]


# --- U1, U2, U3 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reference", ["closed form", "LambdaLR"])
@pytest.mark.parametrize("of", ["rates", "weights"])
def test_phi_2_and_cosine_agree_bit_for_bit_in_rates_and_weights(records, reference, of):
    gaps = rows(records, "cosine_gap", reference=reference, of=of)["value"]
    assert len(gaps) >= 2
    assert (gaps == 0).all()


def test_torchs_recursion_agrees_to_rounding(records):
    assert rows(records, "cosine_gap", reference="CosineAnnealingLR")["value"].max() < 1e-9


def test_cosine_gap_would_show_another_phi(monkeypatch):
    original = theory.UBALR
    monkeypatch.setattr(theory, "UBALR", lambda opt, total_iters, phi, **k: original(opt, total_iters, 2.001, **k))
    changed = evidence.tidy(theory.cosine(theory.Config(**TINY)))
    assert set(changed["of"]) == {"rates", "weights"}
    assert changed.loc[changed["budget"] != 1, "value"].min() > 1e-7  # a budget of one step has no shape


def test_min_max_is_least_at_twice_kappa_on_the_bound(records):
    np.testing.assert_allclose(rows(records, "best_phi_over_2kappa")["value"], 1, rtol=1e-12)
    assert rows(records, "chebyshev_gap")["value"].max() < 1e-9
    excess = rows(records, "excess_log_contraction")["value"]
    assert excess.min() > -1e-9
    assert excess.max() > 1e-3


def test_order_ends_the_same_in_exact_arithmetic_but_overshoots_when_falling(records):
    peaks = rows(records, "error").groupby("order")["value"].max()
    assert peaks["decreasing"] > 100 * peaks["fractal"]
    assert (rows(records, "error").groupby("order").size() == TINY["order_steps"]).all()


def test_capped_peak_at_full_height_recovers_twice_kappa(records):
    found = rows(records, "best_phi_capped").sort_values("peak")["value"].to_numpy()
    assert math.log(found[-1] / 20) == pytest.approx(0, abs=math.log(1e6) / 48)
    assert found[0] < found[-1]


def test_a_capped_peak_has_a_best_phi_only_where_it_is_not_a_constant_rate():
    config = theory.Config(cap_kappas=[10.0, 1000.0], cap_steps=24)
    found = evidence.tidy(theory.capped(config))
    # with a cap at the limit of stability the best of a large kappa is a constant rate, whatever phi
    assert found.groupby("kappa").size().to_dict() == {10.0: 7, 1000.0: 6}
    assert found["value"].between(1e-4, 1e4, inclusive="neither").all()
    for changes, named in (
        ({"cap_kappas": [1.5]}, "cap_kappas: must be above the limit of stability"),
        ({"noises": [0.02, 0.1]}, "sweep_noises: must hold the least of noises, 0.02, got"),
    ):
        with pytest.raises(ValueError, match=named):
            theory.Config(**changes)


def test_last_iterate_excess_is_the_ratio_of_the_two_bounds(records):
    linear = formulas.last_iterate_bound(factors("linear", 50))
    best = rows(records, "last_iterate_bound", schedule="uba")["value"].min()
    assert rows(records, "last_iterate_excess")["value"].item() == pytest.approx(float(best / linear - 1), rel=1e-12)


# --- U5, U6: best phi -------------------------------------------------------------------------------------------------


def test_best_phi_has_no_regret_and_two_kappa_that_of_its_loss(records):
    keys = ["problem", "kappa", "noise", "budget"]
    relative = rows(records, "loss_over_best")
    best = relative.loc[relative.groupby(keys)["value"].idxmin()].set_index(keys)["phi"]
    recorded = rows(records, "best_phi").set_index(keys)["value"]
    assert best.sort_index().to_dict() == recorded.sort_index().to_dict()
    assert (relative.groupby(keys)["value"].min() == 1).all()
    assert set(relative["phi"]) == {0.5, 2.0, 20.0, 6.0, 60.0, 200.0}
    at = relative[relative["phi"] == 2 * relative["kappa"]].set_index(keys)["value"]
    regrets = rows(records, "two_kappa_regret").set_index(keys)["value"]
    assert regrets.sort_index().to_dict() == pytest.approx(np.log(at).sort_index().to_dict())


def test_quadratic_losses_are_tuned_over_the_peaks(records):
    peaks, spectrum = np.geomspace(0.01, 1.95, 5), np.geomspace(1 / 100, 1, 8)
    tuned = {
        phi: formulas.quadratic_loss(uba(np.arange(80), 80, phi), peaks, spectrum, 0.1).min() for phi in (0.5, 2.0)
    }
    cell = rows(records, "loss_over_best", problem="quadratic", kappa=100, noise=0.1, budget=80)
    found = cell.set_index("phi")["value"]
    assert found[0.5] / found[2.0] == pytest.approx(tuned[0.5] / tuned[2.0], rel=1e-12)


def over_budgets(*losses):
    """Rows of losses per budget, of shape (phi, peak)."""
    tables = [np.array(of)[..., None] for of in losses]
    budgets = range(1, len(losses) + 1)
    return list(theory._over_budgets(tables, [0.5, 2.0, 5.0], budgets, [0.1], "quadratic", 2.5))


def test_diverged_peaks_never_win():
    made = over_budgets([[1.0, math.inf], [math.nan, 2.0], [3.0, math.inf]])
    found = {(row["quantity"], row.get("phi")): row["value"] for row in made}
    assert found["best_phi", None] == 0.5
    assert found["loss_over_best", 5.0] == 3.0
    assert found["two_kappa_regret", 5.0] == math.log(3)


def test_the_regret_of_one_phi_is_that_of_its_worst_budget():
    made = over_budgets([[1.0], [1.1], [9.0]], [[4.0], [2.4], [2.0]])
    (row,) = (row for row in made if row["quantity"] == "one_phi_regret")
    # φ = 0.5 loses 100 % at the second budget, 2 loses 10 and 20 %, 5 loses 800 % at the first
    assert (row["phi"], row["value"]) == (2.0, pytest.approx(20))


@pytest.mark.parametrize("kappa", [3.0, 100.0, 1000.0])
def test_logistic_problem_has_the_condition_number_it_says(kappa):
    problem = theory.Logistic(kappa, 3)
    for x in problem._x:
        spectrum = np.linalg.eigvalsh(x.T @ x / len(x))
        assert spectrum[-1] / spectrum[0] == pytest.approx(kappa, rel=1e-9)
        assert spectrum[-1] / 4 == pytest.approx(problem.smoothness, rel=1e-9)
    assert problem.curvature <= problem.smoothness * (1 + 1e-9)


@pytest.mark.parametrize("kappa", [3.0, 1000.0])
def test_logistic_minimiser_has_no_gradient_and_the_least_loss(kappa):
    problem = theory.Logistic(kappa, 3)
    probability = 1 / (1 + np.exp(-problem._minimiser @ problem._x.mT))
    gradient = (probability - problem._labels) @ problem._x / problem._x.shape[1]
    assert np.abs(gradient).max() < 1e-14
    rng = np.random.default_rng(0)
    for _ in range(20):
        moved = problem._minimiser + 0.1 * rng.standard_normal(problem._minimiser.shape)
        assert (problem._loss(moved) > problem._least).all()
    assert (problem.gap > 0).all()


def test_logistic_without_noise_descends_to_the_minimum():
    problem = theory.Logistic(3.0, 2)
    path = problem.sgd(np.ones((1, 400)), np.array([1 / problem.smoothness]), [0.0], gradients=True)
    assert path.loss.shape == path.gradient.shape == (1, 1, 1)
    assert 0 <= path.loss.item() < 1e-6 * problem.gap.mean()
    assert path.gradient.item() < 1e-8


def test_logistic_sgd_follows_the_gradient_of_its_loss():
    """One noiseless step against numerical differentiation."""
    problem, h = theory.Logistic(10.0, 2), 1e-6
    zero = np.zeros((2, 1, 8))
    slope = np.stack([problem._loss(zero + h * e) - problem._loss(zero - h * e) for e in np.eye(8)], -1) / (2 * h)
    stepped = problem._loss(-0.7 * slope) - problem._least
    found = problem.sgd(np.ones((1, 1)), np.array([0.7]), [0.0]).loss
    assert found.item() == pytest.approx(stepped.mean(), rel=1e-7)


def test_logistic_gradient_noise_has_variance_noise_times_lambda():
    """One step of noise adds eta^2 s^2 / 2 sum(lambda_i H_ii) to the loss, and H = diag(lambda) / 4 at w = 0."""
    problem, eta = theory.Logistic(100.0, 10_000), 1.0
    clean, noisy = problem.sgd(np.ones((1, 1)), np.array([eta]), [0.0, 0.1]).loss.ravel()
    added = eta**2 * 0.1 / 2 * (problem.scales**2).sum() / 4
    assert noisy - clean == pytest.approx(added, rel=0.2)  # lambda for lambda^2 would be half as much again


def test_logistic_schedules_share_their_noise():
    """Two equal schedules in one call see the same noise, else comparisons would be noise."""
    table = np.tile(factors("uba", 16, phi=5.0), (2, 1))
    loss = theory.Logistic(10.0, 2).sgd(table, np.array([0.5, 1.0]), [0.1]).loss
    assert (loss[0] == loss[1]).all()
    assert loss[0, 0] != loss[0, 1]


# --- U9 ---------------------------------------------------------------------------------------------------------------


def test_gradients_stay_below_the_bound(records):
    """Not only in the mean over condition numbers, which the check asks for, but at every single one."""
    ratios = rows(records, "gradient_over_bound")
    assert (ratios.groupby(["problem", "phi", "budget"])["kappa"].nunique() == 2).all()
    assert ratios["value"].min() > 0
    assert ratios["value"].max() <= 1


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("seeds", 0, "greater than 0"),
        ("kappas", [3.0, 1.0], "above 1, got 1.0"),
        ("kappas", [3.0], "at least 2"),
        ("minmax_kappas", [math.inf], "finite number"),
        ("logistic_kappas", [0.5, 2.0], "above 1, got 0.5"),
        ("cap_kappas", [math.nan], "finite number"),
        ("phis", [0.5, 1.0, 5.0], "must contain 2"),
        ("logistic_phis", [0.5, 1.0, 5.0], "must contain 2"),
        ("noises", [0.1, 0.1], "stands twice"),
        ("noises", [-0.1], "greater than 0"),
        ("budgets", [100, 100], "stands twice"),
        ("budgets", [100.5, 200], "integer"),
        ("minmax_spacing", 1.0, "greater than 1"),
        ("peaks", 1, "greater than or equal to 2"),
        ("kappa", [3.0], "Extra inputs"),
    ],
)
def test_bad_configuration_is_refused_by_name(field, value, why):
    with pytest.raises(ValidationError) as refused:
        theory.Config(**{field: value})
    assert field in str(refused.value)
    assert why in str(refused.value)


def test_configuration_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        theory.Config().seeds = 5
