"""The comparison's protocol, on a made-up trainer whose answers are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from replication.uba.baselines import factors
from replication.uba.experiments.protocol import BASELINES, CONTROLS, Setting, Trial, compare

PEAKS, PHIS = [0.1, 0.2, 0.4], [0.5, 2.0, 5.0]
BEST = {"uba": 0.2, "cosine": 0.4, "linear": 0.1 * 2 ** (1 / 3)}


class Trainer:
    """Scores a trial by how far its peak (and φ) is from a known best one; the test score differs from validation."""

    def __init__(self) -> None:
        self.calls: list[list[Trial]] = []

    def __call__(self, trials, steps, split):
        self.calls.append(list(trials))
        if split == "test":
            return [100 * trial.peak + trial.seed for trial in trials]
        return [
            abs(math.log(trial.peak / BEST.get(trial.schedule, 0.2))) + (trial.phi is not None and abs(trial.phi - 2))
            for trial in trials
        ]


def rows(train, **changes):
    settings = {
        "steps": 10, "peaks": PEAKS, "phis": PHIS, "fixed_phi": 5.0, "seeds": range(3), "tuning_seeds": [1000],
        "equal_trials": True, "mean_rate_control": True, "quantity": "error", "labels": {"model": "m"},
    }  # fmt: skip
    return compare(train, **(settings | changes))


def peak(table, view, schedule):
    (value,) = {row["peak"] for row in table if row.get("view") == view and row["schedule"] == schedule}
    return value


def test_each_schedule_is_scored_at_the_peak_that_validation_chose():
    table = rows(Trainer())
    assert peak(table, "fixed", "uba-fixed") == 0.2
    assert peak(table, "fixed", "cosine") == 0.4
    assert peak(table, "fixed", "linear") == 0.1
    # six times … here three times as many peaks: the finer grid holds one nearer to linear's best
    assert peak(table, "equal trials", "linear") == pytest.approx(BEST["linear"])
    (phi,) = {row["phi"] for row in table if row.get("schedule") == "uba-best"}
    assert phi == 2.0
    values = {row["seed"]: row["value"] for row in table if row["quantity"] == "error" and row["schedule"] == "cosine"}
    assert values == {seed: pytest.approx(40 + seed) for seed in range(3)}


def test_tuning_effort_is_equal():
    """In the view of equal trials each baseline gets exactly as many tuning runs as UBA's φ × peak grid."""
    train = Trainer()
    rows(train)
    tuning = train.calls[0]
    counts = {name: sum(trial.schedule == name for trial in tuning) for name in ("uba", *BASELINES, *CONTROLS)}
    assert set(counts.values()) == {len(PEAKS) * len(PHIS)}
    assert len(tuning) == len(set(tuning))
    train = Trainer()
    rows(train, equal_trials=False)
    assert sum(trial.schedule == "step" for trial in train.calls[0]) == len(PEAKS)


def test_evaluation_seeds_are_fresh_and_common_to_all():
    train = Trainer()
    rows(train)
    tuning, evaluation = train.calls
    assert {trial.seed for trial in tuning} == {1000}
    by_setting: dict[Setting, set[int]] = {}
    for trial in evaluation:
        by_setting.setdefault(Setting(*trial[:3]), set()).add(trial.seed)
    assert all(seeds == {0, 1, 2} for seeds in by_setting.values())
    with pytest.raises(ValueError, match="tuning_seeds"):
        rows(train, tuning_seeds=[2])
    with pytest.raises(ValueError, match="fixed_phi"):
        rows(train, fixed_phi=3.0)


def test_mean_rate_control_has_cosines_mean_rate():
    table = rows(Trainer())
    shared, matched = peak(table, "fixed", "uba-shared-peak"), peak(table, "fixed", "uba-mean-matched")
    assert shared == 0.4
    steps = 20000
    mean = matched * factors("uba", steps, phi=5.0).mean()
    assert mean == pytest.approx(0.4 * factors("cosine", steps).mean(), rel=1e-3)


def test_best_phi_per_seed_shares_ties():
    """Every φ is scored at its own peak; here all have the same test score, so the best φ is the middle of the grid."""
    table = rows(Trainer())
    best = [row["value"] for row in table if row["quantity"] == "best_phi_log2"]
    assert best == pytest.approx([np.log2(PHIS).mean()] * 3)
    assert sum(row["quantity"] == "phi_score" for row in table) == 3 * len(PHIS)


def test_a_trial_carries_its_schedule():
    np.testing.assert_allclose(Trial("cosine", None, 0.3, 0).rates(8), 0.3 * (1 + np.cos(np.pi * np.arange(8) / 8)) / 2)
    np.testing.assert_array_equal(Trial("uba", 2.0, 0.3, 0).rates(8), 0.3 * factors("uba", 8, phi=2.0))
