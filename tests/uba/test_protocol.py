"""The comparison's protocol, on a made-up trainer whose answers are known."""

from __future__ import annotations

import math
from types import MappingProxyType

import numpy as np
import pytest

from replication.evidence import tidy
from replication.evidence.claims import DirectionTest
from replication.evidence.samples import samples
from replication.uba.baselines import factors
from replication.uba.experiments.protocol import BASELINES, CONTROLS, Setting, Trial, _regrets, compare

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
        "equal_trials": True, "widen": 0, "mean_rate_control": True, "quantity": "error", "labels": {"model": "m"},
    }  # fmt: skip
    return compare(train, **(settings | changes))


def peak(table, view, schedule):
    (value,) = {row["peak"] for row in of(table, "error", view=view, schedule=schedule)}
    return value


def of(table, quantity, **where):
    return [row for row in table if row["quantity"] == quantity and all(row[k] == v for k, v in where.items())]


def test_each_schedule_is_scored_at_the_peak_that_validation_chose():
    table = rows(Trainer())
    assert peak(table, "fixed", "uba-fixed") == 0.2
    assert peak(table, "fixed", "cosine") == 0.4
    assert peak(table, "fixed", "linear") == 0.1
    # six times … here three times as many peaks: the finer grid holds one nearer to linear's best
    assert peak(table, "equal trials", "linear") == pytest.approx(BEST["linear"])
    (phi,) = {row["phi"] for row in of(table, "error", schedule="uba-best")}
    assert phi == 2.0
    values = {row["seed"]: row["value"] for row in of(table, "error", view="fixed", schedule="cosine")}
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


class Torn(Trainer):
    """Each tuning seed prefers another peak to UBA, and their mean a third; all else is as with `Trainer`."""

    FAVOURITE = MappingProxyType({1000: 0.1, 1001: 0.4})

    def __call__(self, trials, steps, split):
        scores = super().__call__(trials, steps, split)
        if split == "test":
            return scores
        torn = {t: abs(math.log(t.peak / self.FAVOURITE[t.seed])) ** 3 for t in trials if t.schedule == "uba"}
        return [torn.get(trial, score) for trial, score in zip(trials, scores, strict=True)]


def test_settings_that_other_tuning_seeds_would_choose_are_evaluated_too():
    table = rows(Torn(), tuning_seeds=[1000, 1001])
    tried = {name: {row["peak"] for row in of(table, "error_at", schedule=name)} for name in ("uba-fixed", "cosine")}
    assert tried == {"uba-fixed": {0.1, 0.2, 0.4}, "cosine": {0.4}}
    chosen = {row["seed"]: row["value"] for row in of(table, "error", view="fixed", schedule="uba-fixed")}
    again = {row["seed"]: row["value"] for row in of(table, "error_at", schedule="uba-fixed", peak=0.2)}
    assert chosen == again
    assert {row["seed"] for row in of(table, "error_at")} == {0, 1, 2}


def test_tuning_scores_are_those_of_each_tuning_seed():
    table = rows(Torn(), tuning_seeds=[1000, 1001])
    mine = of(table, "tuning_score", view="fixed", schedule="uba-fixed")
    assert [(row["peak"], row["seed"]) for row in mine] == [(peak, seed) for peak in PEAKS for seed in (1000, 1001)]
    assert mine[0]["value"] == 0 < mine[1]["value"]
    assert len(of(table, "tuning_score", view="equal trials", schedule="cosine")) == 2 * len(PEAKS) * len(PHIS)


def test_the_choice_widens_the_interval_of_a_tuned_comparison():
    """A `tuned` test reads these rows: UBA's torn peak adds variance, a peak that all seeds agree on adds none."""
    fields = {
        "id": "T", "asks": "?", "notebook": "n", "quantity": "error", "where": {"view": "fixed"}, "role": "control",
        "scale": "smoke", "comparison": "direction", "factor": "schedule", "ours": "uba-fixed", "direction": "lower",
        "min_seeds": 2, "tuned": {"scores": "tuning_score", "tests": "error_at", "setting": ["phi", "peak"]},
    }  # fmt: skip
    test = DirectionTest.model_validate(fields | {"baselines": ["cosine", "linear"]})
    table = rows(Torn(), tuning_seeds=[1000, 1001])
    (torn,) = samples(tidy(table), test)
    # of four draws of two seeds one takes 0.1, one 0.4 and two 0.2, each scored at 100 times its peak
    assert torn.tuning == pytest.approx((2 * np.var([10, 20, 20, 40]), 1))
    (agreed,) = samples(tidy(rows(Trainer(), tuning_seeds=[1000, 1001])), test)
    assert agreed.tuning == pytest.approx((0, 1))


def test_peaks_on_an_edge_are_told():
    table = rows(Trainer())
    on = {(row["view"], row["schedule"]): row["value"] for row in of(table, "peak_on_edge") if row["view"] != "phi"}
    assert on["fixed", "cosine"] == on["fixed", "linear"] == 1  # 0.4 and 0.1 are the ends
    assert on["fixed", "uba-fixed"] == on["fixed", "wsd"] == 0
    assert on["equal trials", "linear"] == 0
    assert {row["schedule"] for row in of(table, "peak_on_edge", view="phi")} == {"uba at 0.5", "uba at 2", "uba at 5"}


def test_regret_is_against_the_best_phi_of_the_other_seeds():
    scores = np.array([[1.0, 5.0, 1.0], [2.0, 0.0, 2.5]])
    # the other seeds' means are (3, 1.25), (1, 2.25) and (3, 1): the second, the first and the second φ are best
    np.testing.assert_array_equal(_regrets(scores), [[-1.0, 0.0, -1.5], [0.0, -5.0, 0.0]])
    table = rows(Trainer())
    assert {row["view"] for row in of(table, "phi_regret", phi=5.0)} == {"fixed"}
    assert len(of(table, "phi_regret")) == 3 * len(PHIS)
    assert not of(rows(Trainer(), seeds=[0]), "phi_regret")


def test_a_trial_carries_its_schedule():
    np.testing.assert_allclose(Trial("cosine", None, 0.3, 0).rates(8), 0.3 * (1 + np.cos(np.pi * np.arange(8) / 8)) / 2)
    np.testing.assert_array_equal(Trial("uba", 2.0, 0.3, 0).rates(8), 0.3 * factors("uba", 8, phi=2.0))
