"""Figures of the vision and language notebooks; each answers one question and takes the tidy records."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replication.evidence import Table, plots, rounded
from replication.evidence.claims import DirectionTest, Test
from replication.evidence.samples import pool, samples
from replication.uba.experiments.protocol import BASELINES, CONTROLS

NAMES = {
    "step": "step",
    "cosine": "cosine",
    "cyclic": "cyclic",
    "onecycle": "one-cycle",
    "linear": "linear",
    "rex": "REX",
    "wsd": "WSD",
    "constant": "constant",
    "uba": "UBA",
    "sgd": "SGD",
    "adamw": "AdamW",
    "mlp": "MLP",
    "resnet8": "ResNet-8",
    "transformer": "byte-level transformer",
}
"""How schedules, optimisers and models are written in figures."""


SCHEDULES = {name: NAMES[name] for name in (*BASELINES, *CONTROLS)}
"""What UBA is compared with, in the order of the figures."""


def pooled(records: pd.DataFrame, test: Test, *, unit: str) -> Figure:
    """Draw UBA minus the other schedules, averaged over all cells, with a test's own 95 % intervals.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``vision`` or ``language``.
    test : Test
        The direction test whose number stands in the first row, and per budget below it; its fields say what is paired
        and averaged.
    unit : str
        Unit of the score, for the axis.
    """
    figure, (axis,) = plots.panels(height=3.6)
    _pooled(axis, records, test, unit)
    return figure


def assay(records: pd.DataFrame, test: Test, *, unit: str) -> Figure:
    """Draw whether the network has learned enough to compare schedules, and beside it `pooled`.

    Parameters
    ----------
    records, test, unit
        As for `pooled`; records of the experiment ``language``.
    """
    figure, (levels, contrast) = plots.panels(("Has it learned its bytes?", ""), height=3.6, widths=(1, 1.5))
    rows = records[(records["quantity"] == "test_bits_per_byte") & (records["view"] == "fixed")]
    names = {"uba-fixed": "UBA", "linear": "linear", "constant": "constant"}
    found = plots.intervals(rows, "schedule", "budget")
    plots.curves(levels, found, plots.distinct(names), label=names.__getitem__, bars=True)
    tables = records[records["quantity"] == "table_bits_per_byte"]
    for name, bits in zip(tables["schedule"], tables["value"], strict=True):
        levels.axhline(bits, **plots.DOTTED)
        plots.note(levels, f"{name} table", 1, bits, xycoords=levels.get_yaxis_transform(), ha="right", xytext=(0, 2))
    levels.set(xlabel="share of the steps", ylabel=f"held-out {unit}")
    levels.margins(y=0.12)
    _pooled(contrast, records, test, unit)
    return plots.legend(figure)


def _pooled(axis: Axes, records: pd.DataFrame, test: Test, unit: str) -> None:
    assert isinstance(test, DirectionTest)
    budgets = sorted(records.loc[records["quantity"] == test.quantity, "budget"].unique())
    mean = " and ".join(NAMES[str(name)] for name in test.baselines)
    rows: dict[str, dict[str, Any]] = {
        "test": {f"mean of {mean}": {}},
        "budgets": {f"at {budget:.0%} of the steps": {"where": {**test.where, "budget": budget}} for budget in budgets},
        "schedules": {shown: {"baselines": (name,)} for name, shown in SCHEDULES.items()},
    }
    looks: dict[str, plots.Look] = {
        "test": {"color": "black", "marker": "D", "ms": 6, "lw": 2},
        "budgets": {"color": "0.5"},
        "schedules": {"color": plots.COLOURS[0], "marker": "D"},
    }
    found = {
        key: {row: pool(samples(records, test.model_copy(update=asked))).interval() for row, asked in of.items()}
        for key, of in rows.items()
    }
    plots.forest(axis, found, looks, label="_{}".format, at=0, band=(-test.margin, test.margin))
    # the test's own rows, the schedules of the paper's list, and the two that it lacks
    for y in (len(budgets) + 0.5, len(budgets) + len(BASELINES) + 0.5):
        axis.axhline(y, color="0.8", lw=0.8)
    number = found["test"][f"mean of {mean}"]
    axis.set_xlabel(f"UBA minus schedule, {unit}\n(left of zero UBA is better)")
    axis.set_title(
        f"UBA minus the mean of {mean}:\n{rounded(number.estimate, number.low, number.high)} {unit}",
        fontsize=plots.SIZE,
    )


def _cells(
    rows: pd.DataFrame, height: float, ylabel: str, xlabel: str, share: Literal["", "y"] = ""
) -> tuple[Figure, list[tuple[Axes, pd.DataFrame]]]:
    """One panel per model and optimiser, with its rows."""
    groups = list(rows.groupby(["model", "optimizer"], sort=False))
    titles = [", ".join(_names(*cell)) for cell, _ in groups]
    columns = len(groups) if len(groups) <= 3 else 2
    figure, axes = plots.panels(titles, height=height, columns=columns, share=share, xlabel=xlabel, ylabel=ylabel)
    return figure, list(zip(axes, (part for _, part in groups), strict=True))


def _budgets(rows: pd.DataFrame) -> tuple[dict[float, plots.Look], Callable[[float], str]]:
    """Looks of the budgets, from short to full, and how they are written."""
    return plots.distinct(sorted(rows["budget"].unique())), "{:.0%} of the steps".format


def differences(records: pd.DataFrame, quantity: str, *, ours: str, view: str, unit: str) -> Figure:
    """Draw UBA minus every other schedule with 95 % paired t intervals, per budget; left of zero UBA is better.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``vision`` or ``language``.
    quantity : str
        The test score (lower is better).
    ours, view : str
        UBA's level of ``schedule``, and the view it belongs to.
    unit : str
        Unit of the score, for the axis.
    """
    rows = records[(records["quantity"] == quantity) & (records["view"] == view)]
    looks, label = _budgets(rows)
    figure, cells = _cells(rows, 3.6, "", f"UBA minus schedule, {unit} (left of zero: UBA is better)", "y")
    for axis, part in cells:
        found = {budget: plots.paired(of, "schedule", ours) for budget, of in part.groupby("budget")}
        plots.forest(axis, found, looks, label=label, rows=SCHEDULES, at=0)
        axis.axhline(len(BASELINES) - 0.5, color="0.8", lw=0.8)
    return plots.legend(figure)


def phi_curves(records: pd.DataFrame, *, unit: str) -> Figure:
    """Draw the test score against φ (each φ at its own tuned peak) with the seeds' 95 % t interval, per budget."""
    rows = records[records["quantity"] == "phi_score"]
    looks, label = _budgets(rows)
    figure, cells = _cells(rows, 2.6, unit, "φ (dotted: φ = 2, cosine)")
    for axis, part in cells:
        plots.curves(axis, plots.intervals(part, "budget", "phi"), looks, label=label)
        axis.axvline(2, **plots.DOTTED)
        plots.log_ticks(axis, "x", sorted(part["phi"].unique()))
    return plots.legend(figure)


def tuning(records: pd.DataFrame, *, unit: str) -> Figure:
    """Draw the validation score against the peak at the full budget, so that a peak on the grid's edge is seen.

    Parameters
    ----------
    records : DataFrame
        Tidy records.
    unit : str
        Unit of the score, for the axis.
    """
    full = records[(records["view"] == "fixed") & (records["budget"] == records["budget"].max())]
    figure, cells = _cells(full[full["quantity"] == "tuning_score"], 2.8, unit, "")
    names = {"uba-fixed": "UBA", **SCHEDULES}
    looks = {name: {**look, "lw": 2.6 if name == "uba-fixed" else 1.2} for name, look in plots.distinct(names).items()}
    for axis, part in cells:
        model, optimizer = part[["model", "optimizer"]].iloc[0]
        of = full[(full["model"] == model) & (full["optimizer"] == optimizer)]
        chosen = of[of["quantity"] == "peak_on_edge"].set_index("schedule")["peak"].to_dict()
        plots.tuning(axis, plots.means(part, "schedule", "peak"), looks, label=names.__getitem__, chosen=chosen)
        plots.log_ticks(axis, "y")
        low, high = part["value"].min(), part["value"].max()
        axis.set_ylim(low / 1.05, min(high, 8 * low) * 1.05)
    return plots.legend(figure)


def edges(records: pd.DataFrame) -> Table:
    """List the schedules whose chosen peak is an end of its grid, per network, optimiser and budget."""
    rows = records[(records["quantity"] == "peak_on_edge") & (records["view"] == "fixed")]
    made, raw = [], []
    for cell, part in rows.groupby(["model", "optimizer", "budget"], sort=False):
        model, optimizer, budget = cell
        on = part[part["value"] == 1]
        arms = [f"{name} ({peak:g})" for name, peak in zip(on["schedule"], on["peak"], strict=True)]
        where = (*_names(model, optimizer), f"{budget:.0%}")
        made.append((*where, f"{len(on)} of {len(part)}", ", ".join(arms) or "none"))
        raw.append({"model": model, "optimizer": optimizer, "budget": budget, "on_edge": on["schedule"].tolist()})
    head = ("network", "optimiser", "budget", "on an edge", "schedules (chosen peak)")
    return Table(head, tuple(made), {"edges": raw})


def _names(*levels: object) -> Iterable[str]:
    return (NAMES.get(str(level), str(level)) for level in levels)
