"""The theory experiment, small: every quantity its claims need, from problems with the stated constants."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from replication import evidence
from replication.uba.experiments import theory

TINY = {
    "seeds": 1, "train_steps": 10, "minmax_kappas": [5.0], "minmax_steps": [8], "order_steps": 8, "cap_kappas": [10.0],
    "dimension": 8, "kappas": [3.0, 100.0], "noises": [0.1], "budgets": [20, 40], "phis": [0.5, 2.0, 5.0], "peaks": 5,
    "logistic_draws": 2, "logistic_kappas": [3.0, 10.0], "logistic_noises": [0.1], "logistic_budgets": [16, 32],
    "logistic_phis": [0.5, 2.0, 5.0], "logistic_peaks": 3, "bound_budgets": [50], "rate_budgets": [16, 32],
    "rate_phis": [0.5, 5.0], "rate_logistic_budgets": [16, 32],
}  # fmt: skip


@pytest.fixture(scope="module")
def records():
    return theory.run(theory.Config(**TINY))


def test_records_serve_every_claim_of_the_notebook(records):
    claims = [claim for claim in evidence.load_claims("uba").claims if claim.notebook == "10_uba_theory"]
    assert len(claims) >= 9
    assert {claim.quantity for claim in claims} <= set(records["quantity"])


def test_runs_repeat_exactly(records):
    assert records.equals(theory.run(theory.Config(**TINY)))


def test_cosine_gap_is_zero_to_the_bit_and_would_show_another_phi(records, monkeypatch):
    gaps = records[(records["quantity"] == "cosine_gap") & (records["reference"] != "CosineAnnealingLR")]
    assert len(gaps) >= 5
    assert (gaps["value"] == 0).all()
    original = theory.UBALR
    monkeypatch.setattr(theory, "UBALR", lambda opt, total_iters, phi, **k: original(opt, total_iters, 2.001, **k))
    changed = evidence.tidy(theory.cosine(theory.Config(**TINY)))
    assert changed.loc[changed["budget"] != 1, "value"].min() > 1e-7


@pytest.mark.parametrize("kappa", [3.0, 100.0])
def test_logistic_problem_has_the_stated_constants(kappa):
    problem = theory.Logistic(kappa, draws=3)
    gram = problem._x.mT @ problem._x / problem._x.shape[1]
    spectrum = np.linalg.eigvalsh(gram)
    np.testing.assert_allclose(spectrum[:, -1] / spectrum[:, 0], kappa, rtol=1e-9)
    residual = 1 / (1 + np.exp(-(problem._minimiser @ problem._x.mT))) - problem._labels
    assert np.abs(residual @ problem._x).max() < 1e-12
    assert problem.smoothness == pytest.approx(spectrum.max() / 4)
    assert (problem.gap > 0).all()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"kappas": [1.0, 10.0]}, "kappas"), ({"phis": [0.5, 1.0, 5.0]}, "phis"), ({"budgets": [10, 10]}, "budgets"),
        ({"peaks": 1}, "peaks"), ({"minmax_spacing": 1.0}, "minmax_spacing"), ({"sead": 1}, "sead"),
    ],
)  # fmt: skip
def test_bad_parameters_are_refused_by_name(wrong, named):
    with pytest.raises(ValidationError, match=named):
        theory.Config(**wrong)
