"""The comparison's protocol, on a made-up trainer whose answers are known."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from replication import evidence
from replication.evidence import tidy
from replication.evidence.claims import DirectionTest
from replication.evidence.samples import samples
from replication.uba.baselines import factors
from replication.uba.experiments import protocol
from replication.uba.experiments.protocol import MEAN_RATE, Arm, Trial, check, chosen, evaluated, tuned

PEAKS = [0.1, 0.2, 0.4]
BEST = {"cosine": 0.8, "linear": 0.1 * 2 ** (1 / 3), "uba 5": 0.2}


class Trainer:
    """Validation: how far a peak is from a known best one; test: 100 times the peak, plus the seed."""

    def __init__(self, torn=()):
        self.trials = []
        self.torn = dict(torn)

    def __call__(self, trials):
        self.trials += trials
        best = [self.torn.get(trial.seed, BEST.get(trial.schedule.split(" x")[0], 0.2)) for trial in trials]
        off = [abs(math.log(trial.peak / of)) ** 3 for trial, of in zip(trials, best, strict=True)]
        return np.array([off, [100 * trial.peak + trial.seed for trial in trials]]).T


def tune(schedule, train=None, *, seeds=2, widen=0):
    return tuned(train or Trainer(), schedule, peaks=PEAKS, seeds=seeds, widen=widen, quantity="error")


def of(rows, quantity, **where):
    return [row for row in rows if row["quantity"] == quantity and all(row[key] == v for key, v in where.items())]


def test_validation_chooses_and_the_test_split_does_not():
    rows = tune("uba 5")
    (edge,) = of(rows, "peak_on_edge")
    assert (edge["peak"], edge["value"], edge["phi"]) == (0.2, 0.0, 5.0)
    assert [row["seed"] for row in of(rows, "error_at", peak=0.1)] == [1000, 1001]
    assert [row["value"] for row in of(rows, "error_at", peak=0.4)] == [1040, 1041]
    assert of(rows, "tuning_score", peak=0.2)[0]["value"] == 0


def test_a_grid_is_widened_at_its_edge_and_an_edge_that_remains_is_told():
    assert of(tune("cosine"), "peak_on_edge")[0]["value"] == 1
    rows = tune("cosine", widen=3)
    assert (of(rows, "peak_on_edge")[0]["peak"], of(rows, "peak_on_edge")[0]["value"]) == (0.8, 0.0)
    assert of(rows, "trials")[0]["value"] == 2 * 5


def test_a_finer_grid_has_as_many_times_the_trials():
    coarse, fine = tune("linear"), tune("linear x3")
    assert of(fine, "trials")[0]["value"] == 3 * of(coarse, "trials")[0]["value"]
    assert of(coarse, "peak_on_edge")[0]["peak"] == 0.1
    assert of(fine, "peak_on_edge")[0]["peak"] == pytest.approx(BEST["linear"])


def test_evaluation_uses_the_tuned_peak_and_seeds_of_its_own():
    train = Trainer()
    rows = evaluated(train, tidy(tune("uba 5")), "uba 5", label="", seeds=[0, 1, 2], quantity="error")
    assert [(row["schedule"], row["peak"], row["seed"], row["value"]) for row in rows] == [
        ("uba 5", 0.2, seed, 20.0 + seed) for seed in range(3)
    ]
    assert {trial.seed for trial in train.trials} == {0, 1, 2}
    with pytest.raises(ValueError, match="seeds: must be below 1000"):
        evaluated(train, tidy(tune("uba 5")), "uba 5", label="", seeds=[1000], quantity="error")


def test_the_mean_rate_control_has_cosines_mean_rate():
    rows = evaluated(Trainer(), tidy(tune("cosine", widen=3)), "uba 5", label=MEAN_RATE, seeds=[0], quantity="error")
    assert rows[0]["schedule"] == MEAN_RATE
    mean = rows[0]["peak"] * factors("uba", 20000, phi=5.0).mean()
    assert mean == pytest.approx(0.8 * factors("cosine", 20000).mean(), rel=1e-3)


def cell(scores, validation):
    """Records of one cell: per schedule the test score of each seed, and a validation score."""
    rows = [
        {"quantity": "tuning_score", "schedule": name, "peak": 0.1, "seed": 1000, "value": value}
        for name, value in validation.items()
    ]
    return tidy(
        rows
        + [
            {"quantity": "error", "schedule": name, "seed": seed, "value": float(value)}
            for name, values in scores.items()
            for seed, value in enumerate(values)
        ]
    )


SCORES = {"uba 0.5": [1, 5, 1, 5], "cosine": [2, 0, 2.5, 1], "uba 5": [9, 9, 9, 9], "linear": [0, 0], "power 2": [3, 3]}
VALIDATION = {"uba 0.5": 2.0, "cosine": 3.0, "uba 5": 1.0, "linear": 0.5, "power 2": 0.1}


def test_regret_is_against_the_best_phi_of_the_other_half_of_the_seeds():
    rows = chosen(cell(SCORES, VALIDATION), quantity="error")
    # odd seeds find φ = 2 best, which even ones are compared with, and even ones φ = 0.5
    assert [row["value"] for row in of(rows, "phi_regret", schedule="cosine")] == [0, -5, 0, -4]
    assert [row["value"] for row in of(rows, "phi_regret", schedule="uba 0.5")] == [-1, 0, -1.5, 0]
    # what is not of the family is compared where it was trained
    assert [row["value"] for row in of(rows, "phi_regret", schedule="linear")] == [-2, -5]
    one = {name: values[:1] for name, values in SCORES.items()}
    assert not of(chosen(cell(one, VALIDATION), quantity="error"), "phi_regret")


def test_what_is_chosen_is_chosen_on_validation():
    rows = chosen(cell(SCORES, VALIDATION), quantity="error")
    picked = {row["schedule"]: row["choice"] for row in of(rows, "error")}
    assert picked == {"best φ": "uba 5", "best shape": "power 2", "best power": "power 2"}
    assert [row["value"] for row in of(rows, "error", schedule="best φ")] == [9, 9, 9, 9]
    without = {name: values for name, values in SCORES.items() if name != "power 2"}
    table = cell(without, {name: VALIDATION[name] for name in without})
    assert "best power" not in {row["schedule"] for row in chosen(table, quantity="error")}


def test_without_uba_and_cosine_there_is_no_best_phi_and_no_regret():
    scores, validation = ({name: of[name] for name in ("linear", "power 2")} for of in (SCORES, VALIDATION))
    rows = chosen(cell(scores, validation), quantity="error")
    assert {row["schedule"]: row["choice"] for row in rows} == {"best shape": "power 2", "best power": "power 2"}


def test_the_choice_widens_the_interval_of_a_tuned_comparison():
    """A `tuned` test reads these rows: a peak that tuning seeds disagree on adds variance, an agreed one adds none."""
    fields = {
        "id": "T", "asks": "?", "notebook": "n", "quantity": "error", "role": "control", "scale": "smoke",
        "comparison": "direction", "factor": "schedule", "ours": "uba 5", "baselines": ["cosine"],
        "direction": "lower", "min_seeds": 2,
        "tuned": {"scores": "tuning_score", "tests": "error_at", "setting": ["peak"]},
    }  # fmt: skip
    test = DirectionTest.model_validate(fields)

    def variance(torn):
        rows = [*tune("uba 5", Trainer(torn)), *tune("cosine")]
        for name, peak in (("uba 5", 0.2), ("cosine", 0.4)):
            rows += evaluated(
                Trainer(), tidy(of(rows, "peak_on_edge", schedule=name)), name, label="", seeds=[0, 1], quantity="error"
            )
            assert rows[-1]["peak"] == peak
        (found,) = samples(tidy(rows), test)
        return found.tuning

    # of four draws of two seeds one takes 0.1, one 0.4 and two 0.2, each scored at 100 times its peak
    assert variance({1000: 0.1, 1001: 0.4}) == pytest.approx((2 * np.var([10, 20, 20, 40]), 1))
    assert variance({}) == pytest.approx((0, 1))


def test_a_trial_carries_its_schedule():
    np.testing.assert_array_equal(Trial("uba 5", 0.3, 0).rates(8), 0.3 * factors("uba", 8, phi=5.0))
    np.testing.assert_allclose(Trial("power 2", 0.3, 0).rates(8), 0.3 * (1 - np.arange(8) / 8) ** 2)
    # all warm up alike, and then have their own shape over the rest
    rates = Trial("linear", 1.0, 0).rates(10, 2)
    np.testing.assert_allclose(rates, [0.5, 1.0, *(1 - np.arange(8) / 8)])
    assert Trial("wsd", 1.0, 0).rates(100, 5)[5:8].tolist() == Trial("wsd", 1.0, 0).rates(100)[:3].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    "name",
    [
        *("", "uba", "uba x3", "uba 0", "uba -1", "uba inf", "uba 1 2", "cosine 2", "sine", "power p"),
        *("linear x0", "linear x-1", "linear x²"),
    ],
)
def test_a_schedule_that_is_none_is_refused(name):
    with pytest.raises(ValueError, match="schedules: must be"):
        Arm.of(name)


@pytest.mark.parametrize(
    ("schedules", "replicated", "message"),
    [
        (["uba 2"], [], "is trained as"),
        (["uba 2.0"], [], 'is trained as "cosine", got "uba 2.0"'),
        (["cosine", "cosine"], [], "each must stand once"),
        (["uba 5", "cosine", "uba 5.0"], [], "each must stand once"),
        (["cosine"], ["linear"], "replicated: must be among the schedules, got linear"),
    ],
)
def test_lists_of_schedules_that_cannot_be_compared_are_refused(schedules, replicated, message):
    with pytest.raises(ValueError, match=message):
        check(schedules, {}, replicated=replicated)


@pytest.mark.parametrize("grid", [[0.2, 0.1], [0.1, 0.1], [0.1, 0.2, 0.3], [0.1, 0.2, 0.15]])
def test_grids_of_peaks_that_cannot_be_refined_or_widened_are_refused(grid):
    with pytest.raises(ValueError, match=re.escape(f"sgd_peaks: must increase by a constant factor, got {grid}")):
        check(["cosine"], {"adamw_peaks": [0.1, 0.2, 0.4], "sgd_peaks": grid})


def test_rounded_grids_of_peaks_are_allowed():
    check(["cosine"], {"sgd_peaks": [0.01, 0.0316, 0.1, 0.316], "adamw_peaks": [0.01, 0.03, 0.1, 0.3]})


def test_more_seeds_and_one_more_schedule_leave_the_other_parts_as_they_are():
    class Config(evidence.Settings):
        peaks: list[float] = PEAKS

    def parts(**seeds):
        of = protocol.cell_parts(
            protocol.Functions(tune, evaluated, chosen),
            tuning=Config(), training=Config().only(), at={"budget": 2.0}, seeds=seeds, block=2, mean_rate="",
        )  # fmt: skip
        return {part.name: part for part in of}

    few, more = parts(cosine=3), parts(cosine=5, linear=2)
    assert [part.cell["seeds"] for part in few.values() if "seeds" in part.cell] == [[0, 1], [2]]
    shared = set(few) & set(more) - {"choice, 2"}
    assert shared == {"tuning, 2, cosine", "cosine, 2, seeds 0 to 1"}
    assert all(few[name] == more[name] for name in shared)
    assert more["linear, 2, seeds 0 to 1"].needs == ("tuning, 2, linear",)
