"""What the figures say in words follows from the records, and nothing is advised where the assay is blind."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest

from replication.evidence import tidy
from replication.uba import figures

GATES = ("anneals", "inside-phi", "inside", "anneals-adamw", "inside-adamw")
QUANTITIES = ("phi_regret", "test_error", "tuning_score", "test_error_at")
REGRETS = {("sgd", 2.0): (1.0, 0.0), ("sgd", 4.0): (3.0, 0.0), ("adamw", 2.0): (5.0, 3.0)}


def answered(**changes):
    return [SimpleNamespace(test_id=gate, answer=changes.get(gate, "yes")) for gate in GATES]


@pytest.fixture(scope="module")
def records() -> pd.DataFrame:
    """Cosine and the recommended φ in cells of different numbers of seeds; only one peak was tuned."""
    rows = []
    for (optimizer, budget), (cosine, own) in REGRETS.items():
        for schedule, value in (("cosine", cosine), (figures.RECOMMENDED[optimizer], own), ("linear", 2.0)):
            at = {"model": "mlp", "optimizer": optimizer, "budget": budget, "schedule": schedule, "peak": 0.1}
            seeds = range(2 if optimizer == "adamw" else 6)
            rows += [{"quantity": name, "seed": s, "value": value, **at} for name in QUANTITIES for s in seeds]
    return tidy(rows)


def test_every_cell_weighs_the_same(records):
    said = figures.advice(records, answered(), unit="points")
    assert "φ = 2 loses 3.000 points and the recommended φ 1.000." in said
    assert "minus cosine is -2.000, minus linear decay -1.000 (below zero is better; 3 of 3 cells" in said
    assert "Use φ = 0.5 with AdamW and φ = 5 with SGD. To" in said


def test_what_gains_with_one_optimizer_is_not_advised_with_another(records):
    swapped = records.copy()
    adamw = swapped["optimizer"] == "adamw"
    swapped.loc[adamw & (swapped["schedule"] == figures.RECOMMENDED["adamw"]), "value"] += 4
    said = figures.advice(swapped, answered(), unit="points")
    assert "Use φ = 5 with SGD, choose φ on validation with AdamW: φ = 2 (cosine) is not the best. To" in said
    swapped.loc[adamw & (swapped["schedule"] == "cosine") & (swapped["quantity"] == "phi_regret"), "value"] = 0.0
    said = figures.advice(swapped, answered(), unit="points")
    assert "Use φ = 5 with SGD, keep φ = 2 (cosine) with AdamW. To" in said


def test_a_cell_whose_gate_is_closed_does_not_count(records):
    said = figures.advice(records, answered(**{"anneals-adamw": "no"}), unit="points")
    assert "φ = 2 loses 2.000 points and the recommended φ 0" in said
    assert "2 of 3 cells" in said
    assert "Use φ = 5 with SGD. To" in said


def test_nothing_is_advised_where_every_gate_is_closed(records):
    said = figures.advice(records, answered(anneals="open", **{"inside-adamw": "no"}), unit="points")
    assert said.endswith("blind in every cell (gates: inside-adamw: no, anneals: open).")


def test_a_figure_of_practice_needs_published_results(tmp_path):
    with pytest.raises(FileNotFoundError, match="no published results of 10_uba_theory"):
        figures.practice(tmp_path)
