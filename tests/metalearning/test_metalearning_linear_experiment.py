"""The linear experiment, small: records that its claims can be decided from, and figures of them."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from pydantic import ValidationError

from replication import evidence
from replication.metalearning import figures_linear as figures
from replication.metalearning.experiments import linear
from replication.metalearning.experiments.linear import Config, bracket

CLAIMS = evidence.load_claims("metalearning").of("50_metalearning_linear")
# exact, so that the size of the run does not matter
EXACT = {
    "T1-gap": "reproduced",
    "T2-zero": "reproduced",
    "T5-samples": "reproduced",
    "T8-crossover": "not reproduced",
    "T9": "reproduced",
    "T14": "not attempted",
}
BY_REPLICATES = {claim.id for claim in CLAIMS if claim.min_seeds == 5} - {"T14"}


@pytest.fixture(scope="module")
def records():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear, "LIMIT", 2000)
        patch.setattr(linear, "REPEATS", 2)
        return linear.run(Config(trials=40, replicates=2, problems=4))


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_every_claim_is_decided_from_the_records(records, claim):
    (verdict,) = evidence.evaluate(records, [claim], "standard")
    if claim.id in EXACT:
        assert verdict.verdict == EXACT[claim.id]
    elif claim.id in BY_REPLICATES:
        assert verdict.verdict == "inconclusive"
        assert "but the claim asks for" in verdict.reason
    else:
        assert verdict.verdict in ("reproduced", "not reproduced")
    if claim.id != "T14":
        assert evidence.flips(claim, records, "standard")


def test_the_maps_are_those_of_the_first_replicate(records):
    rows = records[records["quantity"] == "map"]
    assert len(rows) == 2 * 21 * 144
    won = linear.win_fraction([0.5], [25], [50, 400], 2.0, trials=40, seed=0)
    for stage, known in (("before", won.before), ("after", won.after)):
        at = rows[(rows["table"] == stage) & (rows["alpha"] == 0.5) & (rows["N"] == 25) & rows["M"].isin([50, 400])]
        assert at["value"].tolist() == known[0, 0].tolist()


def test_similarity_moves_the_zero_of_the_modelling_error(records):
    """Why M* is not monotone in it: at alpha = 0.5 and N = 5 the authors' tasks lie next to the zero."""
    rows = records[(records["quantity"] == "similar_crossover") & (records["alpha"] == 0.5) & (records["N"] == 5)]
    needed = rows.sort_values("spread")["value"].to_numpy()
    assert needed[0] > needed[-1] > needed.min()


def test_the_order_that_M_star_gives_is_looked_up_beyond_a_factor():
    """Planted mean risks that cross exactly at M*, at half of it, and at four times of it."""
    M_star = linear.crossover_tasks(linear.ALPHAS[:, None, None], np.array(linear.SAMPLES)[:, None], 2.0)
    M_star = np.where(np.isfinite(M_star) & (M_star > 0), M_star, 1.0)
    for shift, right in ((1.0, True), (0.5, False), (4.0, False)):
        maml = np.where(np.array(linear.TASKS) > shift * M_star, 0.5, 2.0)
        grids = [maml] * 2
        planted = linear.Simulation(
            after=[maml] * 2,
            excess={"maml": grids, "drs": [np.ones_like(maml)] * 2},
            median={"maml": grids, "drs": grids},
        )
        rows = evidence.tidy(linear.crossings(planted))
        wrong = rows[(rows["quantity"] == "wrong_side") & (rows["factor"] == 1.5)]
        assert set(wrong["case"]) == {"more tasks", "fewer tasks"}
        assert bool((wrong["value"] < 0).all()) == right


def test_bracket():
    worse = np.zeros(12, dtype=bool)
    assert bracket(worse) == (0, 2)
    worse[[0, 2]] = True
    assert bracket(worse) == (10, 25)
    assert bracket(~worse) == (400, np.inf)


def test_cells_that_differ_from_a_table_are_counted():
    known = linear.reference()["after"].wins
    half = known.copy()
    half[:, :6] = np.where(half[:, :6] > 0.5, 0.0, 1.0)
    simulated = linear.Simulation(before=[np.zeros_like(known)] * 2, after=[known, half])
    rows = evidence.tidy(linear.parity(Config(trials=60, replicates=2), simulated))
    shares = rows[rows["quantity"] == "within_tolerance"].set_index(["table", "seed"])["value"]
    assert shares["after"].tolist() == [1.0, 0.5]
    # the map that is all DRS disagrees with the table before the update, and our own simulation at beta = 1 agrees
    assert shares["before"].max() < 0.8
    assert shares["after, beta 1"].min() > 0.99


def test_figures_are_drawn(records):
    for draw in (
        lambda: figures.maps(records, "after"),
        lambda: figures.parity(records),
        lambda: figures.objectives(records),
        lambda: figures.errors(records),
        lambda: figures.crossings(records),
        lambda: figures.averages(records),
        lambda: figures.similarity(records),
        lambda: figures.asymptotics(records),
        lambda: figures.smoothness(records),
        figures.optima,
    ):
        figure = draw()
        assert all(axis.has_data() for axis in figure.axes)
        plt.close(figure)
    assert [len(row) for row in figures.agreement(records).rows] == [5] * 5
    with pytest.raises(ValueError, match="records: no rows of 'map'"):
        figures.maps(records[records["quantity"] != "map"], "after")


@pytest.mark.parametrize(
    ("name", "value"), [("trials", 0), ("replicates", 1), ("problems", 0), ("seed", -1), ("trails", 5)]
)
def test_a_wrong_parameter_is_refused_by_name(name, value):
    with pytest.raises(ValidationError, match=name):
        Config(**{name: value})
