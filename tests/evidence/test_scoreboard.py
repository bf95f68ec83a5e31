from __future__ import annotations

from dataclasses import replace
from typing import Any

import matplotlib.pyplot as plt
import pytest
import yaml
from evidence_cases import content, entry
from matplotlib.patches import Rectangle

from replication.evidence import ANSWERS, VERDICTS, Outcome, PaperClaims, parse_claims, scoreboard
from replication.evidence.scoreboard import ANSWER_MARKS, MARKS, Board, ladder


@pytest.fixture(autouse=True)
def _claims(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(paper: str) -> PaperClaims:
        def claim(number: int, *more: dict[str, Any]) -> dict[str, Any]:
            tests = [entry("interval", id=f"T{number}", notebook=f"10_{paper}"), *more]
            return {**content()["claims"][0], "id": f"C{number}", "tests": tests}

        control = entry("interval", id="X", role="control", asks="Is it the rate?", notebook=f"10_{paper}")
        check = entry("identity", id="K", notebook=f"10_{paper}")
        other = entry("interval", id="O", notebook=f"11_{paper}")
        claims = [claim(0, control), claim(1, other), claim(2)]
        made = content(claims=claims, checks=[check], paper=paper, title=f"On {paper}")
        return parse_claims(yaml.safe_dump(made), "claims.yaml")

    monkeypatch.setattr(scoreboard, "load_claims", load)


def results(paper: str, profile: str, number: int = 10, **answers: str) -> dict[str, Any]:
    tests = [
        Outcome(name, {"X": "control", "K": "check"}.get(name, "primary"), {"X": "C0"}.get(name, ""), said).to_dict()  # type: ignore[arg-type]
        for name, said in answers.items()
    ]
    return {"paper": paper, "notebook": f"{number}_{paper}", "profile": profile, "tests": tests}


BOTH = [
    results("b", "standard", T0="no", T1="not run"),
    results("a", "smoke", T0="open", K="yes"),
    results("b", "smoke", T0="yes", T1="yes", X="no", K="no"),
    results("b", "smoke", 11, O="yes"),
]


def test_a_claims_standing_is_that_of_the_largest_scale_run() -> None:
    board = Board.of(BOTH)
    assert [(one.claims.paper, one.claim.id, one.word, one.scale) for one in board.standings] == [
        ("a", "C0", "inconclusive", "smoke"),
        ("a", "C1", "not attempted", ""),
        ("a", "C2", "not attempted", ""),
        ("b", "C0", "not reproduced", "standard"),
        ("b", "C1", "reproduced", "smoke"),
        ("b", "C2", "not attempted", ""),
    ]
    assert str(board) == (
        "2 papers, 6 claims, each at the largest scale run: 1 reproduced, 1 not reproduced, 1 inconclusive, "
        "3 not attempted. Checks that hold: 1 of 2 at smoke."
    )
    assert str(Board.of(BOTH, ["a"])).startswith("1 paper, 3 claims")


def test_a_claim_with_tests_in_two_notebooks_needs_both() -> None:
    one_missing = [found for found in BOTH if found["notebook"] != "11_b"]
    standing = next(one for one in Board.of(one_missing).standings if (one.claims.paper, one.claim.id) == ("b", "C1"))
    assert standing.word == "partly reproduced"


def test_the_table_has_a_row_a_claim_and_a_column_a_scale_and_leads_to_what_decided() -> None:
    lines = Board.of(BOTH).to_markdown().splitlines()
    head = "| paper | claim | the paper says | at smoke | at standard | at paper | controls that change the reading |"
    assert head in lines
    rows = lines[lines.index(head) + 2 :]
    smoke, standard = (
        "[✓ reproduced](../notebooks/10_b.ipynb#T0)",
        "[✗ not reproduced](../results/standard/10_b.ipynb#T0)",
    )
    assert rows[3] == f"| b | C0 | Something holds. | {smoke} | {standard} | – |  |"
    assert rows[4].startswith("| b | C1 | Something holds. | [✓ reproduced](../notebooks/10_b.ipynb#T1) | – | – |")
    assert rows[5] == "| b | C2 | Something holds. | – | – | – |  |"


def test_a_control_that_says_no_is_named_beside_a_positive_verdict() -> None:
    smoke = [found for found in BOTH if found["profile"] == "smoke"]
    board = Board.of(smoke)
    assert [one.controls for one in board.standings if one.claims.paper == "b"] == ["Is it the rate? No.", "", ""]
    # beside a verdict that is negative anyway it changes nothing
    assert not any(one.controls for one in Board.of(BOTH).standings)


def test_each_paper_has_one_finding_of_its_headline_and_the_count_of_its_claims() -> None:
    first, second = Board.of(BOTH).findings().splitlines()
    assert first.startswith("- **On a.** Something holds. **Inconclusive** at the smoke scale: ")
    assert first.endswith("Its 3 claims: 1 inconclusive, 2 not attempted. [Evidence](notebooks/10_a.ipynb).")
    assert "**Not reproduced** at the standard scale" in second
    assert second.endswith("[Evidence](results/standard/10_b.ipynb).")
    (nothing,) = Board.of([results("a", "smoke", T0="not run")]).findings().splitlines()
    assert nothing == "- **On a.** Something holds. **Not attempted.** Its 3 claims: 3 not attempted."


def test_the_headline_is_told_though_it_was_not_run() -> None:
    board = Board.of(BOTH, ["b"])
    marked = [
        replace(one, claim=one.claim.model_copy(update={"headline": one.claim.id == "C2"})) for one in board.standings
    ]
    assert (
        "**Not attempted.** Its 3 claims: 1 reproduced, 1 not reproduced, 1 not attempted."
        in Board(tuple(marked), {}).findings()
    )


def test_a_paper_without_results_and_an_answer_without_a_test_are_told() -> None:
    with pytest.raises(ValueError, match="no results of c; there are a, b"):
        Board.of(BOTH, ["a", "c"])
    with pytest.raises(ValueError, match="10_a: the stored test 'T9' is not among today's"):
        Board.of([results("a", "smoke", T9="yes")])
    with pytest.raises(ValueError, match="nothing to draw"):
        ladder(Board((), {}))


def test_the_ladder_has_a_square_for_each_claim_and_scale() -> None:
    figure = ladder(Board.of(BOTH))
    (ax,) = figure.axes
    squares = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    assert len(squares) == 6 * 3
    signs = [text.get_text() for text in ax.texts if text.get_text() in {mark.sign for mark in MARKS.values()}]
    assert signs == [*"?––", *"–––", *"–––", *"✓✗–", *"✓––", *"–––"]
    plt.close(figure)


@pytest.mark.parametrize(("marks", "words"), [(MARKS, VERDICTS), (ANSWER_MARKS, ANSWERS)])
def test_marks_tell_verdicts_apart_without_colour(marks: dict[str, Any], words: tuple[str, ...]) -> None:
    assert tuple(marks) == words
    assert len({mark.sign for mark in marks.values()}) == len(marks)
    assert len({mark.fill for mark in marks.values()}) == len(marks)
    for mark in marks.values():
        light, dark = sorted((luminance(mark.fill), luminance(mark.ink)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) > 4.4, mark


def luminance(colour: str) -> float:
    """Relative luminance as the Web Content Accessibility Guidelines define it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
