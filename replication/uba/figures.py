"""Figures of the vision and language notebooks; each answers one question and takes the tidy records."""

from __future__ import annotations

import itertools
import json
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replication import places
from replication.evidence import (
    Interval,
    Outcome,
    Table,
    load_records,
    mean_interval,
    plots,
    reevaluate,
    rounded,
    rows_of,
)
from replication.evidence.claims import PROFILES, DirectionTest, IntervalTest, Level, Test, load_claims
from replication.evidence.samples import Sample, pool, samples
from replication.uba.experiments.protocol import Arm, phi_of

CLAIMS = load_claims("uba")
NAMES, named = CLAIMS.levels, CLAIMS.named
RECOMMENDED = {"sgd": "uba 5", "adamw": "uba 0.5"}
"""The φ that the paper is believed to recommend, by optimiser."""
COSINE, OWN = "φ = 2 (cosine)", "recommended φ"


def pooled(records: pd.DataFrame, test: DirectionTest, *, unit: str, budgets: str) -> Figure:
    """Draw UBA minus the other schedules, averaged over all budgets, with a test's own 95 % intervals.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``vision`` or ``language``.
    test : DirectionTest
        The test whose number stands in the first row, and per budget below it; its fields say what is paired
        and averaged.
    unit, budgets : str
        Units of the score and of the budgets.
    """
    figure, (axis,) = plots.panels(height=3.4)
    _pooled(axis, records, test, unit, budgets)
    return figure


def assay(records: pd.DataFrame, test: DirectionTest, *, unit: str, budgets: str) -> Figure:
    """Draw whether the network has learned enough to compare schedules, and beside it `pooled`.

    Parameters
    ----------
    records, test, unit, budgets
        As for `pooled`; records of the experiment ``language``.
    """
    figure, (levels, contrast) = plots.panels(("Has it learned its bytes?", ""), height=3.6, widths=(1, 1.5))
    rows = rows_of(records, "test_bits_per_byte")
    shown = [str(name) for name in (test.ours, "linear", "constant")]
    found = plots.intervals(rows[rows["schedule"].isin(shown)], "schedule", "budget")
    plots.curves(levels, found, plots.distinct(shown), label=named, bars=True)
    tables = rows_of(records, "table_bits_per_byte")
    for name, bits in zip(tables["schedule"], tables["value"], strict=True):
        levels.axhline(bits, **plots.DOTTED)
        plots.note(levels, f"{name} table", 1, bits, xycoords=levels.get_yaxis_transform(), ha="right", xytext=(0, 2))
    levels.set(xlabel=f"budget, {budgets}", ylabel=f"held-out {unit}")
    levels.set_xticks(sorted(rows["budget"].unique()))
    levels.margins(x=0.1, y=0.12)
    _pooled(contrast, records, test, unit, budgets)
    return plots.legend(figure)


def _pooled(axis: Axes, records: pd.DataFrame, test: DirectionTest, unit: str, budgets: str) -> None:
    rows = rows_of(records, test.quantity, **test.where)
    others = [name for name in _on_the_common_grid(rows)["schedule"].unique() if name != test.ours]
    # the baselines first, then the other usual schedules, then what nobody recommends
    others.sort(key=lambda name: (name not in test.baselines, Arm.of(name).schedule in ("uba", "power", "constant")))
    mean = " and ".join(NAMES[str(name)].split(" (")[0] for name in test.baselines)
    asked: dict[str, dict[str, dict[str, Any]]] = {
        "test": {f"mean of {mean}": {}},
        "budgets": {
            f"at {budget:g} {budgets}": {"where": {**test.where, "budget": budget}}
            for budget in sorted(rows["budget"].unique())
        },
        "schedules": {named(name): {"baselines": (name,)} for name in others},
    }
    looks: dict[str, plots.Look] = {
        "test": {"color": "black", "marker": "D", "ms": 6, "lw": 2},
        "budgets": {"color": "0.5"},
        "schedules": {"color": plots.COLOURS[0], "marker": "D"},
    }
    found = {
        key: {row: pool(samples(records, test.model_copy(update=more))).interval() for row, more in of.items()}
        for key, of in asked.items()
    }
    plots.forest(axis, found, looks, label="_{}".format, at=0, band=(-test.margin, test.margin))
    axis.axhline(len(asked["budgets"]) + 0.5, color="0.8", lw=0.8)
    number = found["test"][f"mean of {mean}"]
    axis.set_xlabel(f"{named(test.ours)}, minus schedule, {unit}\n(left of zero UBA is better)")
    axis.set_title(
        f"{named(test.ours)}, minus the mean of {mean}:\n{rounded(number.estimate, number.low, number.high)} {unit}",
        fontsize=plots.SIZE,
    )


def differences(records: pd.DataFrame, quantity: str, *, unit: str, budgets: str) -> Figure:
    """Draw the recommended UBA minus every other schedule with 95 % paired t intervals, per optimiser and budget.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``vision`` or ``language``.
    quantity : str
        The test score (lower is better).
    unit, budgets : str
        Units of the score and of the budgets.
    """
    rows = _on_the_common_grid(rows_of(records, quantity))
    groups = dict(iter(rows.groupby("optimizer", sort=False)))
    titles = [f"{named(optimizer)}: {named(RECOMMENDED[str(optimizer)])}" for optimizer in groups]
    figure, axes = plots.panels(titles, height=3.6, xlabel=f"UBA minus schedule, {unit}\n(left of zero: UBA is better)")
    looks = plots.distinct(sorted(rows["budget"].unique()))
    for axis, (optimizer, part) in zip(axes, groups.items(), strict=True):
        ours = RECOMMENDED[str(optimizer)]
        found = {budget: plots.paired(of, "schedule", ours) for budget, of in part.groupby("budget")}
        others = {str(name): named(name) for name in part["schedule"].unique() if name != ours}
        plots.forest(axis, found, looks, label=f"{{:g}} {budgets}".format, rows=others, at=0)
    return plots.legend(figure)


def _on_the_common_grid(rows: pd.DataFrame) -> pd.DataFrame:
    """The schedules that are tuned alike: nothing chosen among them, no control of the peak, no finer grid."""
    return rows[rows["schedule"].map(lambda name: name.split()[0] in NAMES and Arm.of(name).finer == 1)]


class _Cell(NamedTuple):
    """What is lost and gained in one cell of a notebook, in its own unit."""

    optimizer: str
    name: str
    gates: Mapping[str, str]
    """Gates that are closed, with their answers: the cell cannot tell schedules apart."""
    margin: float
    regrets: dict[str, Sample]
    gains: dict[str, Sample]


def _cells_of(records: pd.DataFrame, outcomes: Iterable[Outcome]) -> list[_Cell]:
    """The cells of a page; intervals carry the choice of the peaks."""
    answers, made = {one.test_id: one.answer for one in outcomes}, []
    rows = rows_of(records, "phi_regret")
    for (model, optimizer), part in rows.groupby(["model", "optimizer"]):
        language = model == "transformer"
        lost, won = (CLAIMS.test(one) for one in (("U5-cosine-language", "U4") if language else ("U5-cosine", "U3")))
        assert isinstance(won, DirectionTest)
        assert isinstance(lost, IntervalTest)
        # of both: what is lost, and what is gained
        gates = (*lost.gates, *won.gates) if language or optimizer == "sgd" else CLAIMS.test("U7-adamw").gates
        closed = {gate: answers.get(gate, "not run") for gate in gates if answers.get(gate) != "yes"}
        own, where = RECOMMENDED[str(optimizer)], {"optimizer": optimizer}

        def asked(test: Test, **more: Any) -> dict[Level, Sample]:
            return {of.cell["budget"]: of for of in samples(records, test.model_copy(update=more))}

        family = tuple(level for level in lost.baselines if level in set(part["schedule"]))
        regrets = {
            label: asked(lost, where={**where, "schedule": schedule}, baselines=family)
            for label, schedule in ((COSINE, "cosine"), (OWN, own), ("linear", "linear"))
        }
        gains = {name: asked(won, where=where, ours=own, baselines=(name,)) for name in ("cosine", "linear")}
        made += [
            _Cell(
                str(optimizer),
                f"{named(optimizer)}, {budget:g} {'steps' if language else 'epochs'}",
                closed,
                won.margin,
                *({label: found[budget] for label, found in of.items()} for of in (regrets, gains)),
            )
            for budget in regrets[COSINE]
        ]
    return made


def _average(found: Iterable[Sample], units: Iterable[float] = itertools.repeat(1.0)) -> Interval:
    """The mean of samples, each divided by a unit; every one weighs the same."""
    scaled = []
    for one, unit in zip(found, units, strict=False):
        tuning = (one.tuning[0] / unit**2, one.tuning[1]) if one.tuning else None
        scaled.append(replace(one, numbers={of: value / unit for of, value in one.numbers.items()}, tuning=tuning))
    return pool(scaled).interval()


def regret(records: pd.DataFrame, outcomes: Iterable[Outcome], *, unit: str) -> Figure:
    """Draw what cosine, the recommended φ and linear decay lose to the best φ, in every cell and on average.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``vision`` or ``language``.
    outcomes : iterable of Outcome
        The answers of the page, whose gates say which cells can tell schedules apart.
    unit : str
        Unit of the score.
    """
    cells = _cells_of(records, outcomes)
    sees = [cell for cell in cells if not cell.gates]
    found: dict[str, dict[str, Interval]] = {}
    for label in cells[0].regrets:
        mean = {"mean of the cells": _average(cell.regrets[label] for cell in sees)} if sees else {}
        found[label] = mean | {_told(cell): _average([cell.regrets[label]]) for cell in cells}
    figure, (axis,) = plots.panels(height=0.9 + 0.45 * len(next(iter(found.values()))))
    plots.forest(axis, found, plots.distinct(found), at=0)
    axis.set_xlabel(f"{unit} above the best φ, which other seeds choose (left is better)")
    return plots.legend(figure)


def advice(records: pd.DataFrame, outcomes: Iterable[Outcome], *, unit: str) -> str:
    """Say in Markdown what φ should be, what φ = 2 and the recommended φ lose, and what UBA gains.

    Parameters
    ----------
    records, outcomes, unit
        As for `regret`.
    """
    return f"**What should φ be?** {_advice(_cells_of(records, outcomes), unit)}"


def _advice(cells: list[_Cell], unit: str) -> str:
    sees = [cell for cell in cells if not cell.gates]
    if not sees:
        closed = {gate: said for cell in cells for gate, said in cell.gates.items()}
        told = ", ".join(f"{gate}: {said}" for gate, said in closed.items())
        return f"Nothing can be said: the assay is blind in every cell (gates: {told})."

    def mean(what: str, of: str, cells: list[_Cell] = sees) -> Interval:
        units = [cell.margin if unit == "margins" else 1.0 for cell in cells]
        return _average((getattr(cell, what)[of] for cell in cells), units)

    cosine, own = (_shown(mean("regrets", one)) for one in (COSINE, OWN))
    over, linear = (_shown(mean("gains", one)) for one in ("cosine", "linear"))
    by = {of: [cell for cell in sees if cell.optimizer == of] for of in dict.fromkeys(cell.optimizer for cell in sees)}
    gains = {of: mean("gains", "cosine", cells) for of, cells in by.items()}
    use = [of for of, gain in gains.items() if gain.high < 0]
    tune = [of for of in gains if of not in use and mean("regrets", COSINE, by[of]).low > 0]
    keep = [of for of in gains if of not in (*use, *tune)]
    said = []
    if use:
        said.append("use " + " and ".join(f"φ = {phi_of(RECOMMENDED[of]):g} with {named(of)}" for of in use))
    if tune:
        said.append(f"choose φ on validation with {' and '.join(map(named, tune))}: φ = 2 (cosine) is not the best")
    if keep:
        why = ": no gain of another φ is shown" if any(gains[of].low <= 0 for of in keep) else ""
        said.append(f"keep φ = 2 (cosine) with {' and '.join(map(named, keep))}{why}")
    word = ", ".join(said)
    return (
        f"{word[0].upper()}{word[1:]}. To the best φ, which other seeds choose, φ = 2 loses {cosine} {unit} and the "
        f"recommended φ {own}. The recommended φ minus cosine is {over}, minus linear decay {linear} (below zero is "
        f"better; {len(sees)} of {len(cells)} cells, those whose gates came out)."
    )


def _shown(found: Interval) -> str:
    return rounded(found.estimate, found.low, found.high)


def _told(cell: _Cell) -> str:
    return f"{cell.name} (blind)" if cell.gates else cell.name


def practice(results: Path | None = None) -> Figure:
    """Draw what φ = 2 and the recommended φ lose in every cell of all three notebooks, under what should be set.

    Parameters
    ----------
    results : Path, optional
        Folder of published results, of which each notebook's largest scale is taken; default: this project's.

    Raises
    ------
    FileNotFoundError
        A notebook has no published results there.
    """
    folder = results or (places.home() or Path()) / "results"
    published = {}
    for stem in CLAIMS.notebooks:
        files = [file for scale in PROFILES if (file := folder / scale / f"{stem}.json").is_file()]
        if not files:
            raise FileNotFoundError(f"results: {folder} has no published results of {stem}")
        published[stem] = json.loads(files[-1].read_text(encoding="utf-8"))
    convex, *networks = (load_records(of["records"]) for of in published.values())
    outcomes = [reevaluate(of) for of in published.values()][1:]
    cells = [
        cell._replace(name=f"{stem.rsplit('_', 1)[1]}, {published[stem]['profile']}: {cell.name}")
        for stem, records, of in zip([*published][1:], networks, outcomes, strict=True)
        for cell in _cells_of(records, of)
    ]
    trained = {
        label: {_told(cell): _average([cell.regrets[label]], [cell.margin]) for cell in cells}
        for label in (COSINE, OWN)
    }
    rows = rows_of(convex, "loss_over_best")
    exact = {
        label: {
            f"{problem}, T = {budget:g}": plots.transformed(mean_interval(np.log(of["value"])), np.exp)
            for (problem, budget), of in rows[rows["phi"] == phi].groupby(["problem", "budget"], sort=False)
        }
        for label, phi in ((COSINE, 2), (OWN, 5))
    }
    labels = ("test score above that of the best φ, in margins", "final loss / that of the best φ")
    height = 1.8 + 0.4 * max(len(trained[OWN]), len(exact[OWN]))
    figure, axes = plots.panels(("Networks", "Convex problems,\nmean over κ and noise"), height=height)
    for axis, found, label, at in zip(axes, (trained, exact), labels, (0, 1), strict=True):
        plots.forest(axis, found, plots.distinct(found), at=at)
        axis.set_xlabel(textwrap.fill(label, 26))
    figure.suptitle(textwrap.fill(_advice(cells, "margins"), 95), fontsize=plots.SIZE)
    return plots.legend(figure)


def tuning(records: pd.DataFrame, *, unit: str) -> Figure:
    """Draw the validation score against the peak at the longest budget, so that a peak on the grid's edge is seen.

    Parameters
    ----------
    records : DataFrame
        Tidy records.
    unit : str
        Unit of the score, for the axis.
    """
    rows = _on_the_common_grid(rows_of(records, "tuning_score"))
    rows = rows[rows["budget"] == rows.groupby("optimizer")["budget"].transform("max")]
    cells = [(", ".join(map(named, cell)), part) for cell, part in rows.groupby(["model", "optimizer"], sort=False)]
    figure, axes = plots.panels([title for title, _ in cells], height=3.0, ylabel=unit)
    names = [str(name) for name in rows["schedule"].unique()]
    looks = {name: {**look, "lw": 2.2 if phi_of(name) else 1.2} for name, look in plots.distinct(names).items()}
    for axis, (_, part) in zip(axes, cells, strict=True):
        optimizer, budget = part[["optimizer", "budget"]].iloc[0]
        of = rows_of(records, "peak_on_edge", optimizer=optimizer, budget=budget)
        chosen = of.set_index("schedule")["peak"].to_dict()
        plots.tuning(axis, plots.means(part, "schedule", "peak"), looks, label=named, chosen=chosen)
        low, high = part["value"].min(), part["value"].max()
        axis.set_ylim(low - 0.05 * (min(high, 2 * low) - low), min(high, 2 * low))
    return plots.legend(figure)


def edges(records: pd.DataFrame) -> Table:
    """Per optimiser and budget: models of the tuning, and schedules whose chosen peak is an end of its grid."""
    made, raw = [], []
    for (optimizer, budget), part in rows_of(records, "peak_on_edge").groupby(["optimizer", "budget"], sort=False):
        on = part[part["value"] == 1]
        arms = [f"{named(name)} ({peak:g})" for name, peak in zip(on["schedule"], on["peak"], strict=True)]
        own = rows_of(records, "trials", optimizer=optimizer, budget=budget)["value"]
        count = f"{own.min():g} to {own.max():g}" if own.min() < own.max() else f"{own.max():g}"
        made.append((named(optimizer), f"{budget:g}", count, f"{len(on)} of {len(part)}", ", ".join(arms) or "none"))
        raw.append({"optimizer": optimizer, "budget": budget, "on_edge": on["schedule"].tolist()})
    head = ("optimiser", "budget", "models per schedule", "on an edge", "schedules (chosen peak)")
    return Table(head, tuple(made), {"edges": raw})
