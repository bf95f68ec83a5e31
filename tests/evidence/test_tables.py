from __future__ import annotations

import json
import math
import re
from typing import Any

import pytest
from bs4 import BeautifulSoup
from evidence_cases import ask, content, entry, grid, make, paper, values
from hypothesis import given
from hypothesis import strategies as st

from replication.evidence import (
    Outcome,
    PaperClaims,
    Table,
    evaluate,
    rounded,
    tables,
    verdicts,
)
from replication.evidence.tables import comparisons_table, outcomes_table

MEANS = {"uba": 0.0, "linear": 2.0, "step": 3.0}


def answers(claims: PaperClaims, mean: dict[str, float] | None = None) -> list[Outcome]:
    return evaluate(grid(mean or MEANS), claims, "10_test", "smoke")


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((1.23456, 1.2, 1.27), "1.235 [1.200, 1.270]"),
        ((-0.41873, -0.60218, -0.23528), "-0.42 [-0.60, -0.24]"),
        ((0.5, 0.4004, 0.5996), "0.50 [0.40, 0.60]"),  # .0996 is .10 at two digits: the place moves
        ((12345.0, 11000.0, 13690.0), "12300 [11000, 13700]"),
        ((1.0e8, 0.9e8, 1.1e8), "1.00e+08 [9.0e+07, 1.10e+08]"),
        ((3.21e-7, 3.0e-7, 3.42e-7), "3.21e-07 [3.00e-07, 3.42e-07]"),
        ((-0.0001, -0.5, 0.5), "0.00 [-0.50, 0.50]"),
        ((0.0, 0.0, 0.0), "0"),
        ((-0.0, -0.0, -0.0), "0"),
        ((3.3589, 3.3589, 3.3589), "3.359"),
        ((3.3589, None, None), "3.359"),
        ((1.0, 1.0 - 1e-16, 1.0 + 1e-16), "1.000"),  # rounding noise is no uncertainty
        ((None, None, None), "–"),
        ((math.nan, None, None), "–"),
    ],
)
def test_numbers_are_rounded_to_their_uncertainty(numbers: tuple[Any, ...], text: str) -> None:
    assert rounded(*numbers) == text


@pytest.mark.parametrize(
    ("value", "resolution", "text"),
    [
        (3.35891234, 0.005, "3.3589"),
        (3.3, 1e-12, "3.30000"),
        (1234.5, 50.0, "1234"),
        (0.0, 0.1, "0"),
        (-1e-9, 0.1, "0.00"),
    ],
)
def test_points_are_rounded_to_what_matters(value: float, resolution: float, text: str) -> None:
    assert rounded(value, value, value, resolution=resolution) == text


@given(st.floats(-1e9, 1e9), st.floats(1e-9, 1e9))
def test_rounding_moves_nothing_by_more_than_a_twentieth_of_the_half_width(estimate: float, half: float) -> None:
    text = rounded(estimate, estimate - half, estimate + half)
    numbers = [float(part) for part in re.findall(r"[^\s,\[\]]+", text)]
    assert not any(number == 0 and math.copysign(1, number) < 0 for number in numbers)
    if len(numbers) == 3:
        assert numbers == pytest.approx([estimate, estimate - half, estimate + half], abs=half / 19, rel=1e-9)
    else:
        assert numbers[0] == pytest.approx(estimate, rel=1e-3)


@given(st.floats(-100, 100), st.floats(0.01, 10))
def test_text_does_not_change_with_the_last_bits(estimate: float, half: float) -> None:
    """The digits printed are far coarser than what differs between machines, up to ties in rounding."""
    low, high = round(estimate - half, 6) + 3e-7, round(estimate + half, 6) + 3e-7
    middle = round(estimate, 6) + 3e-7
    moved = [x * (1 + 1e-14) for x in (middle, low, high)]
    assert rounded(*moved) == rounded(middle, low, high)


@pytest.mark.parametrize(
    ("kind", "changes", "text"),
    [
        ("identity", {}, "≤ 1e-12 %"),
        ("identity", {"tolerance": 0.0}, "0"),
        ("value", {"unit": "years"}, "3 ± 0.05 years"),
        ("value", {"paper_precision": 0.0}, "3 %"),
        ("direction", {}, "< 0 %"),
        ("direction", {"direction": "higher", "effect": 1.0}, "> 0 %"),
        ("every", {}, "< 0 % in every cell"),
        ("slope", {"unit": "% a step"}, "> 0 % a step"),
        ("slope", {"claimed": "at_most", "bound": -0.5}, "≤ -0.5 %"),
        ("slope", {"claimed": "at_least", "bound": 0.0}, "≥ 0 %"),
        ("interval", {}, "0 to 1 % in every cell"),
        ("interval", {"upper": None, "every": False}, "≥ 0 %"),
        ("interval", {"lower": None, "every": False}, "≤ 1 %"),
    ],
)
def test_what_a_yes_needs(kind: str, changes: dict[str, Any], text: str) -> None:
    assert tables.expects(make(kind, **changes), paper(entry(kind, **changes))) == text


@pytest.mark.parametrize(
    ("kind", "changes", "text"),
    [
        ("identity", {}, "Yes if every row of error is ≤ 1e-12 %; no otherwise."),
        (
            "direction",
            {},
            "Error, uba minus the mean of linear and step, averaged over budget: yes if the 95 % interval lies where "
            "the number is < 0 %; no if outside, or the 90 % interval lies within ±0.3 % (a tie); open with fewer than "
            "5 replicates.",
        ),
        (
            "every",
            {},
            "Error, uba minus each of linear and step, in each cell of budget: yes if each one-sided 5 % test finds "
            "< 0 %; no if, after Holm, one contradicts it, or the 90 % interval against linear lies within ±0.3 % (a "
            "tie); open with fewer than 5 replicates.",
        ),
        ("value", {}, "Error, without sampling error: yes if 3 ± 0.05 %; no otherwise."),
        (
            "interval",
            {"rows": "draws", "every": False, "by": []},
            "Error: yes if 95 % of the draws lie where the number is 0 to 1 %; no if outside; open with fewer than 3 "
            "replicates.",
        ),
    ],
)
def test_the_rule_in_words_follows_from_the_fields(kind: str, changes: dict[str, Any], text: str) -> None:
    assert tables.decision(make(kind, **changes), paper(entry(kind, **changes))) == text


def test_the_tests_table_shows_rounded_text_and_keeps_raw_numbers() -> None:
    claims = paper(
        entry("direction"),
        entry("interval", id="X", role="control", where={"schedule": "linear"}),
        checks=[entry("identity", id="K")],
    )
    outcomes = answers(claims)
    table = outcomes_table(outcomes, claims, "smoke")
    assert table.columns == ("test", "question", "yes if", "ours [95 % interval]", "n", "answer", "reason")
    assert [row[0] for row in table.rows] == ["C1 T1", "C1 X", "K"]
    assert table.rows[0][2:6] == ("< 0 %", "-2.546 [-2.618, -2.474] %", "10", "yes")
    assert table.rows[2][5] == "fails"  # a check holds or fails
    assert [row[0] for row in outcomes_table(outcomes, claims, "smoke", "check").rows] == ["K"]
    data, metadata = table._repr_mimebundle_()
    assert set(data) == {"text/plain", "text/html"}
    assert metadata["replication"]["tests"][0]["estimate"] == outcomes[0].estimate
    json.dumps(metadata, allow_nan=False)
    assert str(outcomes[0].estimate) not in data["text/html"] + data["text/plain"]


def test_ipython_keeps_text_and_metadata() -> None:
    from IPython.core.interactiveshell import InteractiveShell

    claims = paper(entry("identity"))
    table = outcomes_table(evaluate(values([0.0]), claims, "10_test", "smoke"), claims, "smoke")
    data, metadata = InteractiveShell.instance().display_formatter.format(table)
    InteractiveShell.clear_instance()
    assert data["text/html"].startswith("<table>")
    assert metadata["replication"]["tests"][0]["test_id"] == "T1"


def test_rounding_errors_below_a_tolerance_are_not_printed() -> None:
    def shown(difference: float, **changes: Any) -> str:
        claims = paper(entry("identity", **changes))
        return tables.measured(ask(values([difference]), "identity", **changes), claims.tests[0], claims)

    assert shown(1e-17) == shown(0.0) == "≤ 1e-12 %"
    assert shown(0.5) == "0.5000 %"
    assert shown(0.0, tolerance=0.0) == "0 %"


def test_what_was_not_run_shows_no_number() -> None:
    claims = paper(entry("value", where={"budget": 7}))
    table = outcomes_table(answers(claims), claims, "smoke")
    assert table.rows[0][3:] == ("–", "–", "not run", "no data for budget 7; the run has 25, 50")


def test_the_top_of_a_page_has_six_claims_at_most_and_counts_the_others() -> None:
    claim = {"id": "C1", "says": "Something holds.", "source": "abstract", "read": "paper"}
    listed = [{**claim, "id": f"C{k}", "tests": [entry("direction", id=f"T{k}")]} for k in range(8)]
    listed[1]["tests"][0]["at"], listed[2]["tests"][0]["min_seeds"] = ["paper"], 1000  # type: ignore[index]
    listed[0]["tests"].append(
        entry(
            "interval",
            id="X",
            role="control",
            asks="Is it the rate?",
            where={"schedule": "uba"},
            lower=50.0,
            upper=None,
        )
    )  # type: ignore[attr-defined]
    claims = paper(claims=listed)
    outcomes = answers(claims)
    table = tables.top_table(verdicts(claims, outcomes, "10_test", "smoke"), outcomes, claims, "smoke")
    assert table.columns == ("claim", "the paper says", "ours [95 % interval]", "verdict", "controls")
    assert [row[0] for row in table.rows] == ["C0", "C3", "C4", "C5", "C6", "C7", ""]
    assert table.rows[-1][1] == "and 1 more, not attempted, 1 more, inconclusive"
    assert len(table.raw["verdicts"]) == 8
    assert table.rows[0] == (
        "C0",
        "Something holds.",
        "-2.546 [-2.618, -2.474] %",
        "✓ reproduced",
        "Is it the rate? No.",
    )


def test_the_answer_says_effect_interval_scale_gates_and_checks() -> None:
    gate = entry("interval", id="G", asks="Does it learn?", lower=None, upper=100.0, every=False)
    gate |= {"where": {"schedule": "step"}}
    checks = [entry("identity", id="K")]
    claims = paper(entry("direction", gates=["G"]), gates=[gate], checks=checks)
    outcomes = answers(claims)
    text = tables.answer_text(verdicts(claims, outcomes, "10_test", "smoke"), outcomes, claims, "smoke")
    assert text == (
        "Something holds. **Reproduced** at the smoke scale: error, uba minus the mean of linear and step, is "
        "-2.546 [-2.618, -2.474] % (n = 10, yes if < 0 %). Claims of the paper on this page, at the smoke scale: "
        "1 reproduced; 1 of 1 gates came out; 0 of 1 checks hold (not K)."
    )


@pytest.mark.parametrize(("headline", "told"), [(False, "Something holds."), (True, "Another thing holds.")])
def test_the_answer_is_about_the_headline_or_the_first_claim_whatever_came_out(headline: bool, told: str) -> None:
    first = content(entry("direction", min_seeds=1000))["claims"][0]
    second = {**first, "id": "C2", "says": "Another thing holds.", "headline": headline}
    claims = paper(claims=[first, {**second, "tests": [entry("direction", id="T2")]}])
    outcomes = answers(claims)
    text = tables.answer_text(verdicts(claims, outcomes, "10_test", "smoke"), outcomes, claims, "smoke")
    assert text.startswith(told)
    assert "1 reproduced, 1 inconclusive" in text


def test_a_blind_assay_names_its_gate_with_its_number() -> None:
    gate = entry("interval", id="G", asks="Does it learn?", lower=None, upper=-100.0, every=False)
    claims = paper(entry("direction", gates=["G"]), gates=[gate | {"where": {"schedule": "step"}}])
    outcomes = answers(claims)
    text = tables.answer_text(verdicts(claims, outcomes, "10_test", "smoke"), outcomes, claims, "smoke")
    assert "**Inconclusive** at the smoke scale" in text
    assert re.search(r"The assay is blind: Does it learn\? No: -?\d\.\d+ \[.*\] % \(yes if ≤ -100 %\)\.", text)


def test_a_blind_assay_of_cells_counts_them_and_names_the_worst() -> None:
    gate = entry("interval", id="G", asks="Does it learn?", lower=None, upper=-100.0, by=["budget"], every=True)
    claims = paper(entry("direction", gates=["G"]), gates=[gate | {"where": {"schedule": "step"}}])
    outcomes = answers(claims)
    text = tables.answer_text(verdicts(claims, outcomes, "10_test", "smoke"), outcomes, claims, "smoke")
    assert re.search(r"Does it learn\? No: (\d) of \1 cells contradict it; least favourable: budget=\d+\.", text)


def test_a_verdict_on_every_cell_stands_beside_the_least_favourable_one() -> None:
    claims = paper(entry("interval", where={"schedule": "linear"}, by=["budget"], every=True, lower=-1.0, upper=1.0))
    outcomes = evaluate(grid(lambda _, budget: 0.2 * budget, noise=0.01), claims, "10_test", "smoke")
    decided = verdicts(claims, outcomes, "10_test", "smoke")
    worst = outcomes[0].comparisons[1]
    assert worst["cell"] == {"budget": 50}
    number = tables.rounded(worst["estimate"], worst["low"], worst["high"], resolution=1.0)
    row = tables.top_table(decided, outcomes, claims, "smoke").rows[0]
    assert row[2] == f"{number} % (least favourable: 50)"
    text = tables.finding(claims.claims[0], decided[0], outcomes, claims, "smoke")
    assert f"error is {number} % (n = 10, yes if -1 to 1 % in every cell; least favourable: 50)." in text


def test_sentences_and_tables_name_levels_as_readers_see_them() -> None:
    claims = paper(entry("direction"), levels={"uba": "UBA", "linear": "linear decay"})
    test = claims.tests[0]
    assert tables.subject(test, claims) == "error, UBA minus the mean of linear decay and step,"
    assert "UBA minus" in tables.decision(test, claims)
    claims = paper(entry("direction", every=True), levels={"linear": "linear decay"})
    assert tables.subject(claims.tests[0], claims) == "error, uba minus each of linear decay and step,"
    table = tables.comparisons_table(answers(claims)[0], claims, "smoke")
    assert {row[table.columns.index("against")] for row in table.rows} == {"linear decay", "step"}


def test_an_open_answer_says_what_would_have_been_seen() -> None:
    claims = paper(entry("direction", margin=0.0))
    outcomes = answers(claims, dict.fromkeys(MEANS, 0.0))
    assert outcomes[0].answer == "open"
    (verdict,) = verdicts(claims, outcomes, "10_test", "smoke")
    text = tables.finding(claims.claims[0], verdict, outcomes, claims, "smoke")
    assert text.endswith(f"An effect of {outcomes[0].visible:.2g} % beyond that bound would have been seen.")


def test_a_control_that_says_no_stands_beside_a_positive_verdict_only() -> None:
    common = {"role": "control", "where": {"schedule": "uba"}, "lower": 50.0, "upper": None}
    asked = {"X": "Is it the rate?", "Y": "Is it the seed?"}
    controls = [entry("interval", id=name, asks=asks, **common) for name, asks in asked.items()]
    claims = paper(entry("direction"), *controls)
    for mean, told in ((MEANS, True), ({"uba": 5.0, "linear": 2.0, "step": 3.0}, False)):
        outcomes = answers(claims, mean)
        (verdict,) = verdicts(claims, outcomes, "10_test", "smoke")
        text = tables.finding(claims.claims[0], verdict, outcomes, claims, "smoke")
        assert ("But: Is it the rate? No:" in text) == ("But: Is it the seed? No:" in text) == told
        text = tables.finding(claims.claims[0], verdict, outcomes, claims, "smoke", brief=True)
        assert text.endswith("But: Is it the rate? No. 1 more control says no.") == told


def test_a_claim_that_was_not_attempted_says_where_it_is_asked() -> None:
    claims = paper(entry("direction", at=["standard"]))
    (verdict,) = verdicts(claims, [], "10_test", "smoke")
    text = tables.finding(claims.claims[0], verdict, [], claims, "smoke")
    assert text == "Something holds. **Not attempted** at the smoke scale: asked at standard."


def test_the_comparisons_table_has_a_row_for_each() -> None:
    claims = paper(entry("every"))
    table = comparisons_table(answers(claims)[0], claims, "smoke")
    assert table.columns == ("budget", "against", "ours [simultaneous 95 % interval]", "n", "answer alone")
    assert [row[:2] for row in table.rows] == [("25", "linear"), ("25", "step"), ("50", "linear"), ("50", "step")]
    assert {row[4] for row in table.rows} == {"yes"}
    missing = evaluate(grid(MEANS).query("schedule != 'step'"), claims, "10_test", "smoke")[0]
    assert comparisons_table(missing, claims, "smoke").rows[1][1:] == ("step", "–", "0", "no records of step")
    cells = paper(entry("interval", where={"schedule": "uba"}))
    assert comparisons_table(answers(cells)[0], cells, "smoke").columns[0] == "budget"


def test_html_is_a_plain_well_formed_table() -> None:
    table = Table(("a", "b"), (("x < y & z", "<script>"), ("1", "")), strong="b")
    soup = BeautifulSoup(table.to_html(), "html.parser")
    assert {tag.name for tag in soup.find_all()} == {"table", "thead", "tbody", "tr", "th", "td", "strong"}
    assert [[cell.text for cell in row.find_all(["th", "td"])] for row in soup.find_all("tr")] == [
        ["a", "b"],
        ["x < y & z", "<script>"],
        ["1", ""],
    ]
    assert [tag.text for tag in soup.find_all("strong")] == ["<script>", ""]


def test_plain_text_is_aligned_and_wrapped() -> None:
    text = str(Table(("a", "long"), (("1", "word " * 20), ("22", "short"))))
    lines = text.splitlines()
    assert lines[0] == "a   long"
    assert lines[1].startswith("--  ---")
    assert len(lines) == 2 + 3 + 1
    assert max(map(len, lines)) <= 4 + 44
    assert lines[-1] == "22  short"


def test_markdown_escapes_what_would_break_its_table() -> None:
    text = Table(("a", "b"), (("x|y", "two\nlines"),), strong="b").to_markdown()
    assert text.splitlines() == ["| a | b |", "| --- | --- |", "| x\\|y | **two lines** |"]
