"""Where the claims stand, from the results of all papers: one row a claim, one column a scale.

Nothing here names a paper, a notebook or a scale: what has results is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from replication.evidence.claims import PROFILES, Claim, PaperClaims, load_claims
from replication.evidence.tables import Table, finding, shortened
from replication.evidence.verdicts import VERDICTS, Answer, Outcome, Verdict, Word, decide, objections, summary_sentence


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

ANSWER_MARKS: dict[Answer, Mark] = {
    "yes": MARKS["reproduced"],
    "no": MARKS["not reproduced"],
    "open": MARKS["inconclusive"],
    "blind": Mark("#6b6b6b", "#ffffff", "∅"),
    "not run": MARKS["not attempted"],
}
"""The same for the answers to tests."""


@dataclass(frozen=True)
class Standing:
    """Where one claim stands.

    Parameters
    ----------
    claims, claim
        The paper's claims, and the one.
    verdicts
        The verdict at each scale that has results, the smallest scale first.
    outcomes
        The answers to the claim's tests, and to the gates, at each of these scales.
    """

    claims: PaperClaims
    claim: Claim
    verdicts: Mapping[str, Verdict]
    outcomes: Mapping[str, Sequence[Outcome]]

    @property
    def scale(self) -> str:
        """The largest scale at which the claim was decided; empty if at none."""
        run = [scale for scale, verdict in self.verdicts.items() if verdict.verdict != "not attempted"]
        return run[-1] if run else ""

    @property
    def word(self) -> Word:
        """The verdict at the largest scale that was run: the claim's standing."""
        return self.verdicts[self.scale].verdict if self.scale else "not attempted"

    @property
    def finding(self) -> str:
        """What was found at the largest scale, in a few sentences of Markdown."""
        if not self.scale:
            return f"{self.claim.says} **Not attempted.**"
        found = self.verdicts[self.scale], self.outcomes[self.scale]
        return finding(self.claim, *found, self.claims, self.scale, brief=True)

    @property
    def controls(self) -> str:
        """The controls that change how a positive verdict reads."""
        against = objections(self.claim.id, self.word, self.outcomes.get(self.scale, ()))
        return " ".join(f"{self.claims.test(one.test_id, self.scale).asks} No." for one in against)

    def page(self, scale: str) -> str:
        """The page that shows the claim's number at a scale: its path in the repository, without suffix."""
        notebook = self.claims.test(self.verdicts[scale].shown, scale).notebook
        return f"notebooks/{notebook}" if scale == PROFILES[0] else f"results/{scale}/{notebook}"


@dataclass(frozen=True)
class Board:
    """All standings; shows itself in a notebook as Markdown, with links to the pages that decided them.

    Attributes
    ----------
    standings
        One for each claim, paper by paper.
    checks
        For each scale that has results, how many checks hold and how many there are.

    Examples
    --------
    >>> print(Board((), {}).to_markdown())
    No results are published yet.
    """

    standings: tuple[Standing, ...]
    checks: Mapping[str, tuple[int, int]]

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
            A stored answer has no test today, or `papers` names one that has no results.
        """
        listed = sorted(results, key=lambda one: (one["notebook"], _rank(one["profile"])))
        have = list(dict.fromkeys(one["paper"] for one in listed))
        if unknown := sorted(set(papers) - set(have)):
            raise ValueError(f"papers: no results of {', '.join(unknown)}; there are {', '.join(have) or 'none'}")
        standings: list[Standing] = []
        checks: dict[str, tuple[int, int]] = {}
        for paper in [name for name in have if not papers or name in papers]:
            claims = load_claims(paper)
            known = {test.id for test in claims.tests}
            of: dict[str, list[Outcome]] = {}
            for run in (one for one in listed if one["paper"] == paper):
                found = [Outcome.from_dict(stored) for stored in run["tests"]]
                if strangers := [outcome.test_id for outcome in found if outcome.test_id not in known]:
                    raise ValueError(f"{run['notebook']}: the stored test {strangers[0]!r} is not among today's")
                of.setdefault(run["profile"], []).extend(found)
            of = {scale: of[scale] for scale in sorted(of, key=_rank)}
            for scale, outcomes in of.items():
                asked = [one.answer == "yes" for one in outcomes if one.role == "check" and one.answer != "not run"]
                held, total = checks.get(scale, (0, 0))
                checks[scale] = held + sum(asked), total + len(asked)
            for claim in claims.claims:
                words = {scale: decide(claim, outcomes, scale) for scale, outcomes in of.items()}
                standings.append(Standing(claims, claim, words, of))
        return cls(tuple(standings), checks)

    @property
    def papers(self) -> dict[str, tuple[Standing, ...]]:
        """Each paper's standings, papers in the order of their notebooks."""
        names = dict.fromkeys(one.claims.paper for one in self.standings)
        return {name: tuple(one for one in self.standings if one.claims.paper == name) for name in names}

    @property
    def scales(self) -> tuple[str, ...]:
        """The scales that have results, and the paper's own."""
        found = {scale for one in self.standings for scale in one.verdicts} | {PROFILES[-1]}
        return tuple(sorted(found, key=_rank))

    @property
    def leads(self) -> tuple[Standing, ...]:
        """Of each paper the claim that is told first: its headline, whatever came out."""
        return tuple(
            next((one for one in standings if one.claim.headline), standings[0]) for standings in self.papers.values()
        )

    def findings(self) -> str:
        """One line a paper: what was found on its headline, how its claims stand, and a link to the evidence."""
        lines = []
        for lead in self.leads:
            of = self.papers[lead.claims.paper]
            counts = f"Its {len(of)} claims: {summary_sentence(one.word for one in of)}"
            link = f" [Evidence]({lead.page(lead.scale)}.ipynb)." if lead.scale else ""
            lines.append(f"- **{lead.claims.title}.** {lead.finding} {counts}{link}")
        return "\n".join(lines)

    def to_markdown(self) -> str:
        """Every claim with its verdict at every scale, as a page beside the notebooks shows it."""
        if not self.standings:
            return "No results are published yet."

        def cell(one: Standing, scale: str) -> str:
            verdict = one.verdicts.get(scale)
            if verdict is None or verdict.verdict == "not attempted":
                return MARKS["not attempted"].sign
            word = f"{MARKS[verdict.verdict].sign} {verdict.verdict}"
            return f"[{word}](../{one.page(scale)}.ipynb#{verdict.shown})"

        rows = []
        for one in self.standings:
            cells = (cell(one, scale) for scale in self.scales)
            rows.append((one.claims.paper, one.claim.id, one.claim.says, *cells, one.controls))
        scales = (f"at {scale}" for scale in self.scales)
        head = ("paper", "claim", "the paper says", *scales, "controls that change the reading")
        return f"**{self}**\n\n{Table(head, tuple(rows)).to_markdown()}"

    def __str__(self) -> str:
        papers, claims = len(self.papers), len(self.standings)
        counts = summary_sentence(one.word for one in self.standings)
        checks = "; ".join(f"{held} of {total} at {scale}" for scale, (held, total) in self.checks.items() if total)
        said = (
            f"{papers} paper{'s' * (papers != 1)}, {claims} claim{'s' * (claims != 1)}, each at the largest scale run"
        )
        return f"{said}: {counts}" + (f" Checks that hold: {checks}." if checks else "")

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Mapping[str, Any]]]:
        return {"text/plain": str(self), "text/markdown": self.to_markdown()}, {"replication": {"scoreboard": True}}


def ladder(board: Board) -> Figure:
    """The evidence ladder: one row a claim, one square a scale.

    Parameters
    ----------
    board : Board
        What to draw; at least one standing.
    """
    if not board.standings:
        raise ValueError("board: there is nothing to draw; publish results first")
    scales = board.scales
    lines = len(board.standings) + 1.4 * len(board.papers)
    figure, ax = plt.subplots(figsize=(9.0, 0.27 * lines + 1.0), layout="constrained")
    top, wide = 0.5, 2.2
    for standings in board.papers.values():
        top += 1.4
        ax.text(0, top - 0.25, shortened(standings[0].claims.title, 90), fontsize=9, fontweight="bold", va="bottom")
        for one in standings:
            for place, scale in enumerate(scales):
                word = one.verdicts[scale].verdict if scale in one.verdicts else "not attempted"
                mark = MARKS[word]
                box = Rectangle((place * wide, top + 0.06), wide - 0.12, 0.88, fc=mark.fill, ec="#999999", lw=0.5)
                ax.add_patch(box)
                middle = place * wide + wide / 2
                ax.text(middle, top + 0.5, mark.sign, color=mark.ink, fontsize=9, ha="center", va="center")
            says = f"{one.claim.id}  {shortened(one.claim.says, 92)}"
            ax.text(len(scales) * wide + 0.2, top + 0.5, says, fontsize=8, va="center")
            top += 1
    for place, scale in enumerate(scales):
        ax.text(place * wide + wide / 2, 0.75, scale, fontsize=8.5, ha="center", va="bottom")
    handles = [Rectangle((0, 0), 1, 1, fc=mark.fill, ec="#999999", lw=0.5) for mark in MARKS.values()]
    counts = [one.word for one in board.standings]
    labels = [f"{mark.sign} {word} ({counts.count(word)})" for word, mark in MARKS.items()]
    figure.legend(handles, labels, loc="outside upper center", ncols=len(VERDICTS), frameon=False, fontsize=8.5)
    ax.set(xlim=(0, 36), ylim=(top + 0.2, 0), xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    return figure


def _rank(profile: str) -> tuple[int, str]:
    known: tuple[str, ...] = PROFILES
    return (known.index(profile) if profile in known else len(known), profile)
