"""The rules can confirm what is claimed, and seldom say what is wrong: simulated for every primary test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from evidence_cases import entry, make, paper

import replication
from replication.evidence import PaperClaims, Test, load_claims
from replication.evidence.power import LEAST, MOST, checked, power, power_table

PAPERS = sorted(path.parent.name for path in Path(replication.__file__).parent.glob("*/claims.yaml"))
# the simulated rate of 500 runs may exceed a true 5 % by three standard errors
SLACK = 3 * (MOST * (1 - MOST) / 500) ** 0.5


def primary() -> list[Any]:
    listed = []
    for name in PAPERS:
        claims = load_claims(name)
        of = [test for claim in claims.claims for test in claim.tests if checked(test)]
        listed += [pytest.param(claims, test, id=f"{name}:{test.id}:{test.scale}") for test in of]
    return listed


@pytest.mark.parametrize(("claims", "test"), primary())
def test_a_primary_test_can_confirm_and_seldom_errs(claims: PaperClaims, test: Test) -> None:
    found = power(test)
    assert found.errs <= MOST + SLACK, f"wrong in {found.errs:.3f} of runs"
    if not found.enough:
        said = f"yes in {found.confirms:.2f} of runs with n = {found.n}; n = {found.needs} would do"
        assert test.needs is not None, f"{said}: raise min_seeds, or say `needs: {found.needs}`"
        assert found.needs is None or found.needs <= test.needs <= 2 * found.needs, said


def test_the_power_of_a_t_test_is_the_textbooks() -> None:
    """n = 34 pairs find half a standard deviation at 5 % two-sided in 80 % of runs."""
    found = power(make("direction", effect=-0.5, spread=1.0, margin=0.0, min_seeds=34), simulations=2000)
    assert found.confirms == pytest.approx(0.807, abs=0.03)
    assert found.errs == pytest.approx(0.025, abs=0.012)
    few = power(make("direction", effect=-0.5, spread=1.0, margin=0.0, min_seeds=10))
    assert not few.enough
    assert few.needs in (32, 48)


def test_a_rule_that_wants_every_cell_of_many_cannot_confirm() -> None:
    one = power(make("every", effect=-1.0, spread=1.0, margin=0.0, min_seeds=10, cells=1))
    many = power(make("every", effect=-1.0, spread=1.0, margin=0.0, min_seeds=10, cells=54))
    assert one.confirms > LEAST > many.confirms
    assert many.errs <= MOST + SLACK


def test_a_yes_of_every_cell_is_wrong_in_five_percent_of_runs_where_one_cell_is_on_the_bound() -> None:
    found = power(make("every", effect=-2.0, spread=1.0, margin=0.0, min_seeds=10, cells=5))
    assert found.confirms > LEAST
    assert found.errs == pytest.approx(MOST, abs=SLACK)


def test_draws_lie_around_an_estimate_that_itself_varies() -> None:
    found = power(make("interval", rows="draws", by=[], every=False, effect=0.5, spread=0.1), simulations=1000)
    # holds if the estimate is within .5 - 1.96 · .1 of the middle: |z| < 3.04
    assert found.confirms == pytest.approx(0.998, abs=0.01)
    assert found.errs <= 0.05


def test_an_exact_test_has_no_power_to_simulate() -> None:
    with pytest.raises(ValueError, match="test 'T1': the power of a rule needs"):
        power(make("value"))


def test_the_table_has_a_row_for_each_primary_test_and_scale() -> None:
    control = entry("interval", id="X", role="control")
    table = power_table([paper(entry("direction", spread=0.2), entry("value", id="T2", at=["smoke"]), control)])
    assert [row[:3] for row in table.rows] == [
        *(("test", "C1 T1", scale) for scale in ("smoke", "standard", "paper")),
        ("test", "C1 T2", "smoke"),
    ]
    assert table.rows[3][3] == "exact"
    assert table.rows[0][3:6] == ("5", "-1 %", "0.2")
