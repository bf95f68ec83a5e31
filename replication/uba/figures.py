"""Figures of the vision and language notebooks; each answers one question and takes the tidy records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replication.evidence import Table, mean_interval, plots, rounded, rows_of
from replication.evidence.claims import DirectionTest, Test, load_claims
from replication.evidence.samples import pool, samples
from replication.uba.experiments.protocol import Arm, phi_of

CLAIMS = load_claims("uba")
NAMES, named = CLAIMS.levels, CLAIMS.named
RECOMMENDED = {"sgd": "uba 5", "adamw": "uba 0.5"}
"""The φ that the paper is believed to recommend, by optimiser."""


def pooled(records: pd.DataFrame, test: Test, *, unit: str, budgets: str) -> Figure:
    """Draw UBA minus the other schedules, averaged over all budgets, with a test's own 95 % intervals.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``vision`` or ``language``.
    test : Test
        The direction test whose number stands in the first row, and per budget below it; its fields say what is paired
        and averaged.
    unit, budgets : str
        Units of the score and of the budgets.
    """
    figure, (axis,) = plots.panels(height=3.4)
    _pooled(axis, records, test, unit, budgets)
    return figure


def assay(records: pd.DataFrame, test: Test, *, unit: str, budgets: str) -> Figure:
    """Draw whether the network has learned enough to compare schedules, and beside it `pooled`.

    Parameters
    ----------
    records, test, unit, budgets
        As for `pooled`; records of the experiment ``language``.
    """
    figure, (levels, contrast) = plots.panels(("Has it learned its bytes?", ""), height=3.6, widths=(1, 1.5))
    assert isinstance(test, DirectionTest)
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


def _pooled(axis: Axes, records: pd.DataFrame, test: Test, unit: str, budgets: str) -> None:
    assert isinstance(test, DirectionTest)
    rows = records[records["quantity"] == test.quantity]
    for column, level in test.where.items():
        rows = rows[rows[column] == level]
    tuned = [str(name) for name in rows["schedule"].unique() if str(name).split()[0] in NAMES]
    others = [name for name in tuned if name != test.ours and Arm.of(name).finer == 1]
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
    rows = _compared(records, quantity)
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


def phi_curves(records: pd.DataFrame, quantity: str, *, unit: str, budgets: str) -> Figure:
    """Draw the test score against φ (each φ at its own tuned peak) with the seeds' 95 % t interval, per budget."""
    rows = _compared(records, quantity)
    rows = rows[rows["phi"].notna()]
    figure, cells = _cells(rows, 2.6, unit, "φ (2 is cosine)")
    looks = plots.distinct(sorted(rows["budget"].unique()))
    for axis, part in cells:
        plots.curves(axis, plots.intervals(part, "budget", "phi"), looks, label=f"{{:g}} {budgets}".format, bars=True)
        plots.log_ticks(axis, "x", sorted(part["phi"].unique()))
    return plots.legend(figure)


def regret(records: pd.DataFrame, *, unit: str, budgets: str) -> Figure:
    """Draw what cosine, the recommended φ and linear decay lose to the best φ, in every cell and on average.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``vision`` or ``language``.
    unit, budgets : str
        Units of the score and of the budgets.
    """
    found, cells = _regrets(records, budgets)
    figure, (axis,) = plots.panels(height=0.9 + 0.45 * len(cells))
    plots.forest(axis, found, plots.distinct(found), rows=cells, at=0)
    axis.set_xlabel(f"{unit} above the best φ of the grid, which other seeds choose (left is better)")
    return plots.legend(figure)


def advice(records: pd.DataFrame, *, unit: str) -> str:
    """Say in one sentence of Markdown what φ = 2 and the recommended φ lose, and what UBA gains over linear decay."""
    found, _ = _regrets(records, "")
    told = {name: of["all"] for name, of in found.items()}
    cosine, own, linear = (rounded(one.estimate, one.low, one.high) for one in told.values())
    least = min(told, key=lambda name: told[name].estimate)
    near = [name for name in told if name != least and told[name].low <= told[least].high]
    also = f", and the intervals of {' and '.join(near)} overlap with its" if near else ""
    return (
        f"**What should φ be?** Averaged over the cells of this page, φ = 2 (cosine) scores {cosine} {unit} above "
        f"the best φ that other seeds choose, the recommended φ {own}, and linear decay {linear}. The least is "
        f"that of {least}{also}."
    )


def _regrets(records: pd.DataFrame, budgets: str) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Per schedule its regret in every cell and in all of them, and how the cells are written."""
    rows = rows_of(records, "phi_regret")
    groups = dict(iter(rows.groupby(["optimizer", "budget"], sort=True)))
    cells = {f"{optimizer} {budget}": f"{named(optimizer)}, {budget:g} {budgets}" for optimizer, budget in groups}
    found: dict[str, dict[str, Any]] = {}
    for label in ("φ = 2 (cosine)", "recommended φ", "linear"):
        means = []
        for (optimizer, budget), part in groups.items():
            own = {"φ = 2 (cosine)": "cosine", "recommended φ": RECOMMENDED[str(optimizer)]}.get(label, label)
            values = part[part["schedule"] == own].set_index("seed")["value"]
            found.setdefault(label, {})[f"{optimizer} {budget}"] = mean_interval(values)
            means.append(values)
        # of seeds that some cells lack, the mean of those that have them
        found[label]["all"] = mean_interval(pd.concat(means, axis=1).mean(axis=1))
    return found, {"all": "all cells", **cells}


def tuning(records: pd.DataFrame, *, unit: str) -> Figure:
    """Draw the validation score against the peak at the longest budget, so that a peak on the grid's edge is seen.

    Parameters
    ----------
    records : DataFrame
        Tidy records.
    unit : str
        Unit of the score, for the axis.
    """
    rows = rows_of(records, "tuning_score")
    longest = rows.groupby("optimizer")["budget"].transform("max")
    rows = rows[(rows["budget"] == longest) & rows["schedule"].map(lambda name: Arm.of(name).finer == 1)]
    figure, cells = _cells(rows, 3.0, unit, "")
    names = [str(name) for name in rows["schedule"].unique()]
    looks = {name: {**look, "lw": 2.2 if phi_of(name) else 1.2} for name, look in plots.distinct(names).items()}
    edges_of = rows_of(records, "peak_on_edge")
    for axis, part in cells:
        optimizer, budget = part[["optimizer", "budget"]].iloc[0]
        of = edges_of[(edges_of["optimizer"] == optimizer) & (edges_of["budget"] == budget)]
        chosen = of.set_index("schedule")["peak"].to_dict()
        plots.tuning(axis, plots.means(part, "schedule", "peak"), looks, label=named, chosen=chosen)
        low, high = part["value"].min(), part["value"].max()
        axis.set_ylim(low - 0.05 * (min(high, 2 * low) - low), min(high, 2 * low))
    return plots.legend(figure)


def edges(records: pd.DataFrame) -> Table:
    """Per optimiser and budget: models of the tuning, and schedules whose chosen peak is an end of its grid."""
    rows, trials = rows_of(records, "peak_on_edge"), rows_of(records, "trials")
    made, raw = [], []
    for cell, part in rows.groupby(["optimizer", "budget"], sort=False):
        optimizer, budget = cell
        on = part[part["value"] == 1]
        arms = [f"{named(name)} ({peak:g})" for name, peak in zip(on["schedule"], on["peak"], strict=True)]
        own = trials[(trials["optimizer"] == optimizer) & (trials["budget"] == budget)]["value"]
        count = f"{own.min():g} to {own.max():g}" if own.min() < own.max() else f"{own.max():g}"
        made.append((named(optimizer), f"{budget:g}", count, f"{len(on)} of {len(part)}", ", ".join(arms) or "none"))
        raw.append({"optimizer": optimizer, "budget": budget, "on_edge": on["schedule"].tolist()})
    head = ("optimiser", "budget", "models per schedule", "on an edge", "schedules (chosen peak)")
    return Table(head, tuple(made), {"edges": raw})


def _compared(records: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """Rows of schedules that were tuned on the common grid: nothing chosen among them, no control of the peak."""
    rows = rows_of(records, quantity)
    plain: Mapping[str, bool] = {
        str(name): str(name).split()[0] in NAMES and Arm.of(str(name)).finer == 1 for name in rows["schedule"].unique()
    }
    return rows[rows["schedule"].map(plain)]


def _cells(
    rows: pd.DataFrame, height: float, ylabel: str, xlabel: str, share: Literal["", "y"] = ""
) -> tuple[Figure, list[tuple[Axes, pd.DataFrame]]]:
    """One panel per model and optimiser, with its rows."""
    groups = list(rows.groupby(["model", "optimizer"], sort=False))
    titles = [", ".join(map(named, cell)) for cell, _ in groups]
    figure, axes = plots.panels(titles, height=height, share=share, xlabel=xlabel, ylabel=ylabel)
    return figure, list(zip(axes, (part for _, part in groups), strict=True))
