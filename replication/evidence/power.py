"""What a rule can see: its answers, simulated at the least number of replicates at which it may decide."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from replication.evidence.claims import BaseTest, DirectionTest, PaperClaims, Test
from replication.evidence.statistics import ALPHA, Draws, Estimate, Mean
from replication.evidence.tables import Table
from replication.evidence.verdicts import ANSWERS, Answer, every, limits, one

#: What a rule has to reach (probability of a yes if the claim holds) and must not exceed (of a wrong answer).
LEAST, MOST = 0.8, ALPHA
# draws of an estimate's distribution in a simulated run
_DRAWS = 400


@dataclass(frozen=True)
class Power:
    """What a primary test can see at its scale.

    Attributes
    ----------
    test
        The test, at its scale.
    n
        Replicates simulated: the test's `min_seeds`, but two at least, since one has no interval.
    confirms
        Probability of a yes if the effect is as claimed.
    errs
        Largest probability of a wrong answer, over true effects on and beyond every bound.
    needs
        Replicates with which `confirms` would be at least 0.8; None if 4,096 are too few.
    """

    test: Test
    n: int
    confirms: float
    errs: float
    needs: int | None

    @property
    def enough(self) -> bool:
        """Whether the rule may decide at this n."""
        return self.confirms >= LEAST


def power(test: Test, *, simulations: int = 500) -> Power:
    """Simulate a test's rule with normal replicates of the spread that it states.

    Parameters
    ----------
    test : Test
        A primary test that is not exact.
    simulations : int
        Simulated runs for each true effect.
    """
    if not checked(test) or test.effect is None or test.spread is None:
        raise ValueError(f"test {test.id!r}: the power of a rule needs `effect` and `spread`, and sampling error")
    n = max(2, test.min_seeds)
    shares = {truth: _share(test, truth, n, simulations) for truth in _truths(test)}
    confirms = shares[test.effect]["yes"]
    wrong = [sum(share for said, share in of.items() if _wrong(test, truth, said)) for truth, of in shares.items()]
    return Power(test, n, confirms, max(wrong), _needs(test, n, confirms, simulations))


def power_table(claims: Iterable[PaperClaims]) -> Table:
    """The power of every primary test of some papers."""
    rows = []
    for paper in claims:
        for test in (test for claim in paper.claims for test in claim.tests if test.role == "primary"):
            name = (paper.paper, f"{test.claim} {test.id}", test.scale)
            if test.exact:
                rows.append((*name, "exact", "", "", "", "", ""))
                continue
            found, unit = power(test), paper.unit(test)
            needs = str(found.needs or "> 4096")
            what = (f"{test.effect:g} {unit}".strip(), f"{test.spread:g}")
            rows.append((*name, str(found.n), *what, f"{found.confirms:.2f}", f"{found.errs:.3f}", needs))
    columns = ("paper", "test", "scale", "n", "effect", "spread", "P(yes | effect)", "P(wrong)", "n for 0.8")
    return Table(columns, tuple(rows))


def _needs(test: Test, n: int, confirms: float, simulations: int) -> int | None:
    """The least of n, 2, 3, 4, 6, 8, … replicates that gives the power."""
    if confirms >= LEAST:
        return n
    assert test.effect is not None
    tried = (round(base * 2**step) for step in range(1, 12) for base in (1, 1.5))
    few = min(simulations, 200)
    return next((m for m in tried if m > n and _share(test, test.effect, m, few)["yes"] >= LEAST), None)


def _share(test: Test, truth: float, n: int, simulations: int) -> dict[Answer, float]:
    """How often each answer comes out, if the true number is `truth`.

    With `every`, one that lies outside the limits is the first cell's alone and the others have the effect, where a
    wrong yes is most likely; one inside is every cell's, where a wrong no is.
    """
    rng = np.random.default_rng(0)
    counts: Counter[Answer] = Counter()
    for _ in range(simulations):
        cells = list(_cells(test, truth, n, rng))
        said, _reason = every(test, cells, [True] * len(cells)) if test.every else one(test, cells[0])
        counts[said] += 1
    return {known: counts[known] / simulations for known in ANSWERS}


def _cells(test: Test, truth: float, n: int, rng: np.random.Generator) -> Iterator[Estimate]:
    assert test.spread is not None
    assert test.effect is not None
    low, high = limits(test)
    others = truth if low <= truth <= high else test.effect
    for number in (truth, *[others] * (test.cells - 1)) if test.every else (truth,):
        if getattr(test, "rows", "") == "draws":
            # one data set has given the estimate; its draws lie around it
            yield Draws(rng.normal(rng.normal(number, test.spread), test.spread, _DRAWS))
        else:
            # the mean and the variance of n normal replicates, without drawing them
            variance = test.spread**2 * rng.chisquare(n - 1) / (n - 1) / n
            yield Mean(rng.normal(number, test.spread / n**0.5), n, ((variance, n - 1),))


def _truths(test: Test) -> Iterator[float]:
    """True numbers at which a wrong answer is most likely: on each bound, and just outside of it."""
    assert test.effect is not None
    low, high = limits(test)
    yield test.effect
    yield from (truth for truth in (low, math.nextafter(low, -math.inf)) if math.isfinite(truth))
    yield from (truth for truth in (high, math.nextafter(high, math.inf)) if math.isfinite(truth))
    if isinstance(test, DirectionTest) and test.margin:
        yield test.sign * test.margin


def _wrong(test: Test, truth: float, said: Answer) -> bool:
    """Whether an answer is wrong: a yes outside the limits, a no inside.

    A difference smaller than the margin is rightly refused.
    """
    low, high = limits(test)
    if said == "yes":
        return not low <= truth <= high
    if isinstance(test, DirectionTest) and test.margin:
        return said == "no" and test.sign * truth >= test.margin
    return said == "no" and low <= truth <= high


def checked(test: BaseTest) -> bool:
    """Whether a test's power has to be enough: primary, and with sampling error."""
    return test.role == "primary" and not test.exact
