from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import pytest
from evidence_cases import make
from matplotlib.patches import Rectangle

from replication.evidence import VERDICTS, PaperClaims, scoreboard
from replication.evidence.scoreboard import MARKS, Board, mosaic


@pytest.fixture(autouse=True)
def _claims(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(paper: str) -> PaperClaims:
        listed = tuple(make("value", id=f"{paper}{n}") for n in range(4))
        return PaperClaims(paper=paper, title=f"On {paper}", citation="c", claims=listed)

    monkeypatch.setattr(scoreboard, "load_claims", load)


def results(paper: str, profile: str, *words: str) -> dict[str, Any]:
    verdicts = [{"claim_id": f"{paper}{n}", "verdict": word} for n, word in enumerate(words)]
    return {"paper": paper, "notebook": f"10_{paper}", "profile": profile, "verdicts": verdicts}


BOTH = [
    results("b", "standard", "not reproduced", "not attempted", "not attempted"),
    results("a", "smoke", "inconclusive"),
    results("b", "smoke", "reproduced", "reproduced", "not attempted"),
]


def test_a_claim_counts_once_at_the_largest_profile_that_attempts_it() -> None:
    board = Board.of(BOTH)
    assert [(one.claim_id, one.word) for one in board.standings] == [
        ("a0", "inconclusive"),
        ("b0", "not reproduced"),
        ("b1", "reproduced"),
        ("b2", "not attempted"),
    ]
    assert str(board).startswith("2 papers, 4 claims: 1 reproduced, 1 not reproduced, 1 inconclusive, 1 not attempted")
    assert str(Board.of(BOTH, ["a"])) == "1 paper, 1 claim: 1 inconclusive."


def test_tables_show_every_profile_with_links_beside_the_page() -> None:
    lines = Board.of(BOTH).to_markdown().splitlines()
    assert "| [10_b](10_b.ipynb) | smoke | 2 | · | · | · | 1 |" in lines
    assert "| [10_b](10_b.ipynb) | standard | · | · | 1 | · | 2 |" in lines
    rows = [line.split(" | ")[2:] for line in lines if line.startswith("| [b")]
    # what another profile decides is a dash; what none does is said at each
    assert rows == [
        ["✓ reproduced", "✗ not reproduced |"],
        ["✓ reproduced", "– |"],
        ["– not attempted", "– not attempted |"],
    ]
    assert "(notebooks/10_b.ipynb)" in Board.of(BOTH).to_markdown("notebooks/")


def test_a_paper_without_results_and_a_verdict_without_a_claim_are_told() -> None:
    with pytest.raises(ValueError, match="no results of c; there are a, b"):
        Board.of(BOTH, ["a", "c"])
    with pytest.raises(ValueError, match="10_a: the stored verdict 'a4' has no claim today"):
        Board.of([results("a", "smoke", *["reproduced"] * 5)])
    with pytest.raises(ValueError, match="nothing to draw"):
        mosaic(Board(()))


def test_each_square_is_a_decided_claim_and_the_undecided_stand_last() -> None:
    figure = mosaic(Board.of(BOTH))
    (ax,) = figure.axes
    squares = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    drawn = sorted((-patch.get_y(), patch.get_x(), patch.get_facecolor()) for patch in squares)
    assert len(drawn) == 1 + 2 + 2
    signs = [text.get_text() for text in ax.texts if text.get_text() in {mark.sign for mark in MARKS.values()}]
    assert signs == ["?", "✓", "✓", "✗", "–"]
    labels = [text.get_text() for text in ax.texts if text.get_text().startswith("10_")]
    assert labels == ["10_a, smoke", "10_b, smoke", "10_b, standard"]
    plt.close(figure)


def test_marks_tell_verdicts_apart_without_colour() -> None:
    assert tuple(MARKS) == VERDICTS
    assert len({mark.sign for mark in MARKS.values()}) == len(MARKS)
    assert len({mark.fill for mark in MARKS.values()}) == len(MARKS)
    for mark in MARKS.values():
        light, dark = sorted((luminance(mark.fill), luminance(mark.ink)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) > 4.4, mark


def luminance(colour: str) -> float:
    """Relative luminance as the Web Content Accessibility Guidelines define it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
