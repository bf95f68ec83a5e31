"""Where all claims stand, from the results of all papers: one text of tables, and one figure.

Nothing here names a paper, a notebook or a profile: what has results is shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from replication.evidence.claims import PROFILES, load_claims
from replication.evidence.tables import Table, shortened
from replication.evidence.verdicts import VERDICTS, Word, summary_sentence


class Mark(NamedTuple):
    """How a verdict is drawn: a fill that people with any colour vision tell apart, the ink on it, and a sign."""

    fill: str
    ink: str
    sign: str


MARKS: dict[Word, Mark] = {
    "reproduced": Mark("#0072b2", "#ffffff", "✓"),
    "partly reproduced": Mark("#8ccbf0", "#10303f", "≈"),
    "not reproduced": Mark("#c2410c", "#ffffff", "✗"),
    "inconclusive": Mark("#d0d0d0", "#222222", "?"),
    "not attempted": Mark("#ffffff", "#777777", "–"),
}
"""Blue for and orange against, grey where the data do not say, white where nobody has looked."""


@dataclass(frozen=True)
class Standing:
    """Where one claim stands.

    Attributes
    ----------
    paper, title, notebook, claim_id, statement
        Whose claim, which notebook decides it, and what it says.
    words
        The verdict at each profile that has results, the smallest profile first.
    """

    paper: str
    title: str
    notebook: str
    claim_id: str
    statement: str
    words: Mapping[str, Word]

    @property
    def decided(self) -> dict[str, Word]:
        """The verdicts at the profiles that attempt the claim."""
        return {profile: word for profile, word in self.words.items() if word != "not attempted"}

    @property
    def word(self) -> Word:
        """The verdict at the largest profile that attempts the claim."""
        return next(reversed(self.decided.values()), "not attempted")


@dataclass(frozen=True)
class Board:
    """All standings; shows itself in a notebook as Markdown, with links to the notebooks beside it.

    Examples
    --------
    >>> print(Board(()).to_markdown())
    No results are published yet.
    """

    standings: tuple[Standing, ...]

    @classmethod
    def of(cls, results: Iterable[Mapping[str, Any]], papers: Sequence[str] = ()) -> Board:
        """The board of some results.

        Parameters
        ----------
        results : iterable of mappings
            Contents of ``results.json`` files, at most one for each notebook and profile.
        papers : sequence of str, optional
            Rooms of the papers to show; none for all.

        Raises
        ------
        ValueError
            A stored verdict has no claim today, or `papers` names one that has no results.
        """
        listed = sorted(results, key=lambda one: (one["notebook"], _rank(one["profile"])))
        have = sorted({one["paper"] for one in listed})
        if unknown := sorted(set(papers) - set(have)):
            raise ValueError(f"papers: no results of {', '.join(unknown)}; there are {', '.join(have) or 'none'}")
        made = []
        for notebook, runs in groupby(listed, key=lambda one: one["notebook"]):
            words: dict[str, dict[str, Word]] = {}
            paper = ""
            for run in runs:
                paper = run["paper"]
                for verdict in run["verdicts"]:
                    words.setdefault(verdict["claim_id"], {})[run["profile"]] = verdict["verdict"]
            if papers and paper not in papers:
                continue
            loaded = load_claims(paper)
            known = {claim.id: claim for claim in loaded.claims}
            for claim_id, said in words.items():
                if claim_id not in known:
                    raise ValueError(f"{notebook}: the stored verdict {claim_id!r} has no claim today")
                made.append(Standing(paper, loaded.title, notebook, claim_id, known[claim_id].statement, said))
        return cls(tuple(made))

    @property
    def papers(self) -> dict[str, tuple[Standing, ...]]:
        """Each paper's standings, papers in the order of their notebooks."""
        names = dict.fromkeys(one.paper for one in self.standings)
        return {name: tuple(one for one in self.standings if one.paper == name) for name in names}

    def to_markdown(self, notebooks: str = "") -> str:
        """For each paper the counts of verdicts, and every claim at every profile.

        Parameters
        ----------
        notebooks : str
            Folder of the notebooks as seen from the page, with its closing slash; empty for the page's own.
        """
        if not self.standings:
            return "No results are published yet."
        parts = [f"**{self}**"]
        for standings in self.papers.values():
            profiles = sorted({profile for one in standings for profile in one.words}, key=_rank)
            parts += [
                f"**{standings[0].title}**: {summary_sentence({'verdict': one.word} for one in standings)}",
                _counts(standings, notebooks).to_markdown(),
                _claims(standings, profiles, notebooks).to_markdown(),
            ]
        return "\n\n".join(parts)

    def __str__(self) -> str:
        papers, claims = len(self.papers), len(self.standings)
        counts = summary_sentence({"verdict": one.word} for one in self.standings)
        return f"{papers} paper{'s' * (papers != 1)}, {claims} claim{'s' * (claims != 1)}: {counts}"

    def _repr_mimebundle_(
        self, include: Any = None, exclude: Any = None
    ) -> tuple[dict[str, str], dict[str, Mapping[str, Any]]]:
        del include, exclude  # IPython's protocol; it filters the bundle itself
        return {"text/plain": str(self), "text/markdown": self.to_markdown()}, {"replication": {"scoreboard": True}}


def mosaic(board: Board) -> Figure:
    """One square for each claim that a notebook decides at a profile, sorted by verdict; the undecided follow.

    Parameters
    ----------
    board : Board
        What to draw; at least one standing.
    """
    if not board.standings:
        raise ValueError("board: there is nothing to draw; publish results first")
    rows = _rows(board)
    papers = [paper for paper, _, _, _ in rows]
    # room for each paper's title
    gaps = [1.25 * len(set(papers[: index + 1])) - 0.35 for index in range(len(rows))]
    tops = [index + gap for index, gap in enumerate(gaps)]
    wide = max(len(words) for _, _, _, words in rows)
    size = min(0.26, 6.4 / wide)
    figure, ax = plt.subplots(figsize=(9.0, max(2.0, size * (tops[-1] + 1) + 0.9)), layout="constrained")
    titles = {one.paper: one.title for one in board.standings}
    for (paper, notebook, profile, words), top in zip(rows, tops, strict=True):
        if titles.get(paper):
            ax.text(0, top - 0.12, _cut(titles.pop(paper), 90), fontsize=9, fontweight="bold", va="bottom")
        ax.text(-0.4, top + 0.5, f"{notebook}, {profile}", fontsize=8.5, ha="right", va="center")
        for place, word in enumerate(words):
            mark = MARKS[word]
            ax.add_patch(Rectangle((place + 0.05, top + 0.05), 0.9, 0.9, fc=mark.fill, ec="#999999", lw=0.5))
            ax.text(place + 0.5, top + 0.5, mark.sign, color=mark.ink, fontsize=9, ha="center", va="center")
    counts = Counter(one.word for one in board.standings)
    handles = [Rectangle((0, 0), 1, 1, fc=mark.fill, ec="#999999", lw=0.5) for mark in MARKS.values()]
    labels = [f"{mark.sign} {word} ({counts[word]})" for word, mark in MARKS.items()]
    figure.legend(handles, labels, loc="outside upper center", ncols=5, frameon=False, fontsize=9, handlelength=1)
    ax.set(xlim=(-0.2, wide + 0.2), ylim=(tops[-1] + 1.2, 0), xticks=[], yticks=[], aspect="equal")
    ax.spines[:].set_visible(False)
    return figure


def _rows(board: Board) -> list[tuple[str, str, str, list[Word]]]:
    """(paper, notebook, profile, its words): a claim that no profile attempts stands in its notebook's last row."""
    rows = []
    for (paper, notebook), found in groupby(board.standings, key=lambda one: (one.paper, one.notebook)):
        standings = list(found)
        profiles = sorted({profile for one in standings for profile in one.words}, key=_rank)
        for profile in profiles:
            words = [one.decided[profile] for one in standings if profile in one.decided]
            if profile == profiles[-1]:
                words += [one.word for one in standings if not one.decided]
            rows.append((paper, notebook, profile, sorted(words, key=VERDICTS.index)))
    return [row for paper in board.papers for row in rows if row[0] == paper]


def _counts(standings: Sequence[Standing], notebooks: str) -> Table:
    rows = []
    for notebook, found in groupby(standings, key=lambda one: one.notebook):
        of = list(found)
        for profile in sorted({profile for one in of for profile in one.words}, key=_rank):
            counts = Counter(one.words[profile] for one in of if profile in one.words)
            link = f"[{notebook}]({notebooks}{notebook}.ipynb)"
            rows.append((link, profile, *(str(counts[word] or "·") for word in VERDICTS)))
    return Table(("notebook", "profile", *VERDICTS), tuple(rows))


def _claims(standings: Sequence[Standing], profiles: Sequence[str], notebooks: str) -> Table:
    def cell(one: Standing, profile: str) -> str:
        word = one.words.get(profile, "not attempted")
        if word == "not attempted" and one.decided:
            return MARKS[word].sign
        return f"{MARKS[word].sign} {word}"

    rows = tuple(
        (
            f"[{one.claim_id}]({notebooks}{one.notebook}.ipynb)",
            shortened(one.statement),
            *(cell(one, profile) for profile in profiles),
        )
        for one in standings
    )
    return Table(("claim", "statement", *profiles), rows)


def _rank(profile: str) -> tuple[int, str]:
    known: tuple[str, ...] = PROFILES
    return (known.index(profile) if profile in known else len(known), profile)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1].rstrip() + "…"
