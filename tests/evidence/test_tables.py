from __future__ import annotations

import json
import math
import re
from typing import Any

import pandas as pd
import pytest
from bs4 import BeautifulSoup
from evidence_cases import grid, make, values
from hypothesis import given
from hypothesis import strategies as st

from replication.evidence import (
    Claim,
    PaperClaims,
    Table,
    claims_table,
    comparisons_table,
    evaluate,
    rounded,
    tables,
    verdict_markdown,
    verdict_table,
)

MEANS = {"uba": 0.0, "linear": 2.0, "step": 3.0}


def show(claim: Claim, records: pd.DataFrame) -> tuple[Table, tuple[str, ...]]:
    table = verdict_table(evaluate(records, [claim], "smoke"), [claim])
    return table, table.rows[0]


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
        ("identity", {"unit": "nats"}, "≤ 1e-12 nats"),
        ("identity", {"tolerance": 0.0}, "equal"),
        ("value", {"unit": "years"}, "3 ± 0.05 years"),
        ("value", {"paper_precision": 0.0}, "3"),
        ("direction", {}, "uba lower"),
        ("direction", {"paper_value": -0.5, "unit": "%"}, "uba lower (-0.5 %)"),
        ("ordering", {}, "uba < linear < step"),
        ("slope", {}, "slope positive"),
        ("slope", {"claimed": "zero", "margin": 0.1}, "slope 0 ± 0.1"),
        ("slope", {"claimed": "at_most", "bound": -0.5}, "slope ≤ -0.5"),
        ("slope", {"claimed": "at_least", "bound": 0.0}, "slope ≥ 0"),
        ("interval", {}, "0 to 1"),
        ("interval", {"upper": None, "unit": "s"}, "≥ 0 s"),
        ("interval", {"lower": None}, "≤ 1"),
    ],
)
def test_what_the_paper_says(kind: str, changes: dict[str, Any], text: str) -> None:
    assert tables.paper_says(make(kind, **changes)) == text


def test_the_verdict_table_shows_rounded_text_and_keeps_raw_numbers() -> None:
    claim = make("direction", unit="%")
    verdict = evaluate(grid(MEANS), [claim], "smoke")[0]
    table, row = show(claim, grid(MEANS))
    assert table.columns == ("claim", "statement", "paper", "ours [95 % interval]", "n", "decision", "verdict")
    assert row[0] == "T1"
    assert row[3] == "-2.09 [-2.19, -1.99] %"
    assert row[4:] == ("10", verdict.reason, "reproduced")
    data, metadata = table._repr_mimebundle_()
    assert set(data) == {"text/plain", "text/html"}
    assert metadata["replication"]["verdicts"][0]["estimate"] == verdict.estimate
    json.dumps(metadata, allow_nan=False)
    assert str(verdict.estimate) not in data["text/html"] + data["text/plain"]


def test_ipython_keeps_text_and_metadata() -> None:
    from IPython.core.interactiveshell import InteractiveShell

    table, _ = show(make("identity"), values([0.0]))
    data, metadata = InteractiveShell.instance().display_formatter.format(table)
    InteractiveShell.clear_instance()
    assert data["text/html"].startswith("<table>")
    assert metadata["replication"]["verdicts"][0]["claim_id"] == "T1"


def test_volatile_numbers_are_never_printed() -> None:
    claim = make("direction", volatile=True, unit="s")
    table, row = show(claim, grid(MEANS))
    assert row[3] == "see results"
    verdict = evaluate(grid(MEANS), [claim], "smoke")[0]
    assert {line[3] for line in comparisons_table(verdict, claim).rows} == {"see results"}
    assert table.raw["verdicts"][0]["estimate"] == verdict.estimate
    assert show(make("identity", volatile=True), values([1e-13]))[1][3] == "see results"


def test_rounding_errors_below_a_tolerance_are_not_printed() -> None:
    assert show(make("identity"), values([1e-17]))[1][3] == show(make("identity"), values([0.0]))[1][3] == "≤ 1e-12"
    assert show(make("identity"), values([0.5]))[1][3] == "0.5000"
    assert show(make("identity", tolerance=0.0), values([0.0]))[1][3] == "0"


def test_what_is_not_attempted_shows_no_number() -> None:
    claim = make("value", profiles=["paper"])
    assert show(claim, values([3.0]))[1][3:] == ("–", "–", "decided at profile paper", "not attempted")


def test_the_claims_table_says_what_is_not_verified() -> None:
    source = {"kind": "section", "where": "6.3", "verified": False}
    listed = [make("value"), make("interval", id="T2", source=source)]
    table = claims_table(listed)
    assert table.columns == ("claim", "statement", "source", "paper", "decision", "scale")
    assert [row[2] for row in table.rows] == ["abstract", "section 6.3 (not verified)"]
    assert table.rows == claims_table(PaperClaims(paper="p", title="t", citation="c", claims=tuple(listed))).rows


def test_the_comparisons_table_has_a_row_for_each() -> None:
    records = grid(MEANS)
    claim = make("direction", baselines=["linear"], decisive=None, premise="step")
    verdict = evaluate(grid({"uba": 0.0, "linear": 2.0, "step": 1.0}), [claim], "smoke")[0]
    table = comparisons_table(verdict)
    assert table.columns == ("budget", "ours", "baseline", "difference [95 % interval]", "n", "role", "decision")
    assert [row[:3] for row in table.rows[:2]] == [("25", "step", "linear"), ("50", "step", "linear")]
    assert [row[5] for row in table.rows] == ["premise", "premise", "claim", "claim"]
    assert table.raw["comparisons"][0]["p_holm"] == verdict.comparisons[0]["p_holm"]

    plain = make("direction")
    shown = comparisons_table(evaluate(records[records["schedule"] != "step"], [plain], "smoke")[0], plain)
    assert shown.columns == ("budget", "ours", "baseline", "difference [95 % interval]", "n", "decision")
    assert shown.rows[1][2:] == ("step", "–", "0", "unclear (no records of step), not decisive")
    cells = comparisons_table(evaluate(records, [make("interval", where={"schedule": "uba"})], "smoke")[0])
    assert cells.columns == ("budget", "value [95 % interval]", "n", "decision")
    assert comparisons_table(evaluate(values([0.0]), [make("identity")], "smoke")[0]).rows == ()


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


def test_the_readme_table(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = (make("direction", unit="%"), make("value", id="T2", profiles=["paper"]))
    loaded = PaperClaims(paper="test", title="t", citation="c", claims=listed)
    monkeypatch.setattr(tables, "load_claims", lambda paper: loaded)
    stored = [verdict.to_dict() for verdict in evaluate(grid(MEANS), listed, "smoke")]
    results = {"paper": "test", "notebook": "10_test", "profile": "smoke", "verdicts": json.loads(json.dumps(stored))}
    lines = verdict_markdown([results]).splitlines()
    assert lines[0] == "| notebook | claim | paper | ours [95 % interval] | n | profile | verdict |"
    assert lines[2] == (
        "| [10_test](notebooks/10_test.ipynb) | T1: Something holds. | uba lower | -2.09 [-2.19, -1.99] % | 10 | smoke "
        "| **reproduced** |"
    )
    assert lines[3].endswith("| – | – | smoke | **not attempted** |")
    undecided = {**results, "profile": "standard", "verdicts": [{**one, "verdict": "not attempted"} for one in stored]}
    assert verdict_markdown([results, undecided]).splitlines() == lines  # decided above, or told above
    results["verdicts"][0]["claim_id"] = "gone"
    with pytest.raises(ValueError, match="10_test: the stored verdict 'gone' has no claim today"):
        verdict_markdown([results])
