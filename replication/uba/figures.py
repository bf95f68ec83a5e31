"""Figures of the vision and language notebooks; each answers one question and takes the tidy records."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from replication.evidence import Interval, Table, mean_interval
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


def _panels(rows: pd.DataFrame, width: float, height: float) -> tuple[Figure, list[tuple[Axes, str, pd.DataFrame]]]:
    """One panel per model and optimiser, with the panel's title and rows."""
    groups = list(rows.groupby(["model", "optimizer"], sort=False))
    columns = len(groups) if len(groups) <= 3 else 2
    lines = -(-len(groups) // columns)
    width = 1.5 * width if len(groups) == 1 else width
    figure, axes = plt.subplots(
        lines, columns, figsize=(width * columns, height * lines), squeeze=False, layout="constrained"
    )
    panels = []
    for axis, ((model, optimizer), part) in zip(axes.flat, groups, strict=False):
        axis.set_title(f"{NAMES.get(str(model), model)}, {NAMES.get(str(optimizer), optimizer)}")
        panels.append((axis, f"{model}, {optimizer}", part))
    for axis in axes.flat[len(groups) :]:
        axis.set_visible(False)
    return figure, panels


def _legend(figure: Figure, axis: Axes) -> None:
    """Put one panel's legend below the figure, in as many columns as the figure's width holds."""
    handles, labels = axis.get_legend_handles_labels()
    columns = min(len(labels), int(figure.get_figwidth() / 1.4))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, columnspacing=1.0)


def _budgets(rows: pd.DataFrame) -> dict[float, tuple[float, float, float]]:
    """A colour-blind-safe colour per budget, from short to full."""
    budgets = sorted(rows["budget"].unique())
    return dict(zip(budgets, sns.color_palette("colorblind", len(budgets)), strict=True))


def pooled(records: pd.DataFrame, test: Test, *, unit: str) -> Figure:
    """Draw UBA minus the other schedules, averaged over all cells, with a test's own 95 % intervals.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``vision.run`` or ``language.run``.
    test : Test
        The direction test whose number stands in the first row, and per budget below it; its fields say what is paired
        and averaged.
    unit : str
        Unit of the score, for the axis.
    """
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    _pooled(axis, records, test, unit)
    return figure


def assay(records: pd.DataFrame, test: Test, *, unit: str) -> Figure:
    """Draw whether the network has learned enough to compare schedules, and beside it `pooled`.

    Parameters
    ----------
    records, test, unit
        As for `pooled`; records of ``language.run``.
    """
    figure, (levels, contrast) = plt.subplots(1, 2, figsize=(9, 4), width_ratios=(1, 1.6), layout="constrained")
    rows = records[(records["quantity"] == "test_bits_per_byte") & (records["view"] == "fixed")]
    shown = {"uba-fixed": "UBA", "linear": "linear", "constant": "constant"}
    for name, colour in zip(shown, sns.color_palette("colorblind", len(shown)), strict=True):
        of = _intervals(rows[rows["schedule"] == name], "budget")
        levels.errorbar(
            list(of),
            [one.estimate for one in of.values()],
            yerr=[one.half_width for one in of.values()],
            fmt="o-",
            ms=4,
            color=colour,
            label=shown[name],
        )
    tables = records[records["quantity"] == "table_bits_per_byte"]
    for name, bits in zip(tables["schedule"], tables["value"], strict=True):
        levels.axhline(bits, color="0.35", ls=":", lw=1.2)
        levels.text(
            1, bits, f"{name} table", ha="right", va="bottom", fontsize=9, transform=levels.get_yaxis_transform()
        )
    levels.set(xlabel="share of the steps", ylabel=f"held-out {unit}", title="Has it learned its bytes?")
    levels.margins(y=0.12)
    levels.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 0.12))
    levels.grid(alpha=0.3)
    _pooled(contrast, records, test, unit)
    return figure


def _pooled(axis: Axes, records: pd.DataFrame, test: Test, unit: str) -> None:
    assert isinstance(test, DirectionTest)
    mean = " and ".join(NAMES[str(name)] for name in test.baselines)
    budgets = sorted(records.loc[records["quantity"] == test.quantity, "budget"].unique())
    rows: list[tuple[str, tuple[Any, ...], dict[str, float]]] = [
        (f"mean of {mean}", test.baselines, {}),
        *((f"at {budget:.0%} of the steps", test.baselines, {"budget": budget}) for budget in budgets),
        *((NAMES[name], (name,), {}) for name in (*BASELINES, *CONTROLS)),
    ]
    # gaps between the test's own rows, the schedules of the paper's list, and the two that it lacks
    places = np.arange(len(rows)) + np.repeat([0, 0.5, 1], [1 + len(budgets), len(BASELINES), len(CONTROLS)])
    for place, (_, baselines, where) in zip(places, rows, strict=True):
        asked = test.model_copy(update={"baselines": baselines, "where": {**test.where, **where}})
        found = pool(samples(records, asked)).interval()
        marker, size = ("o", 4) if where else ("D", 6)
        colour = "0.5" if where else "C0" if place else "black"
        axis.errorbar(found.estimate, place, xerr=found.half_width, fmt=marker, ms=size, lw=size / 3, color=colour)
    axis.axvspan(-test.margin, test.margin, color="0.9", zorder=0)
    axis.axvline(0, color="0.3", lw=0.8)
    axis.set_yticks(places, [name for name, *_ in rows])
    axis.invert_yaxis()
    axis.set(xlabel=f"UBA minus schedule ({unit})", title="Left of zero, UBA is better")
    axis.grid(axis="x", alpha=0.3)


def _intervals(rows: pd.DataFrame, column: str) -> dict[float, Interval]:
    """Mean with 95 % t interval at each level of a column, in order."""
    return {level: mean_interval(rows.loc[rows[column] == level, "value"]) for level in sorted(rows[column].unique())}


def differences(records: pd.DataFrame, quantity: str, *, ours: str, view: str, unit: str) -> Figure:
    """Draw UBA minus every other schedule with 95 % paired t intervals, per budget; left of zero UBA is better.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``vision.run`` or ``language.run``.
    quantity : str
        The test score (lower is better).
    ours, view : str
        UBA's level of ``schedule``, and the view it belongs to.
    unit : str
        Unit of the score, for the axis.
    """
    rows = records[(records["quantity"] == quantity) & (records["view"] == view)]
    others = [*BASELINES, *CONTROLS]
    figure, panels = _panels(rows, 4.6, 3.6)
    colours = _budgets(rows)
    for axis, _, part in panels:
        for shift, (budget, colour) in zip(np.linspace(-0.22, 0.22, len(colours)), colours.items(), strict=True):
            wide = part[part["budget"] == budget].pivot_table(index="seed", columns="schedule", values="value")
            found = [mean_interval(wide[ours] - wide[other]) for other in others]
            axis.errorbar(
                [one.estimate for one in found],
                np.arange(len(others)) + shift,
                xerr=[one.half_width for one in found],
                fmt="o",
                ms=4,
                lw=1.4,
                color=colour,
                label=f"{budget:.0%} of the steps",
            )
        axis.axvline(0, color="0.3", lw=0.8)
        axis.axhline(len(BASELINES) - 0.5, color="0.8", lw=0.8)
        axis.set_yticks(range(len(others)), [NAMES[name] for name in others])
        axis.invert_yaxis()
        axis.set_xlabel(f"UBA minus schedule ({unit})")
        axis.grid(axis="x", alpha=0.3)
    _legend(figure, panels[0][0])
    return figure


def phi_curves(records: pd.DataFrame, *, unit: str) -> Figure:
    """Draw the test score against φ (each φ at its own tuned peak) with the seeds' 95 % t interval, per budget."""
    rows = records[records["quantity"] == "phi_score"]
    figure, panels = _panels(rows, 4.2, 3.2)
    colours = _budgets(rows)
    for axis, _, part in panels:
        for budget, colour in colours.items():
            found = _intervals(part[part["budget"] == budget], "phi")
            means, lows, highs = zip(*((one.estimate, one.low, one.high) for one in found.values()), strict=True)
            axis.plot(list(found), means, "o-", ms=4, color=colour, label=f"{budget:.0%} of the steps")
            axis.fill_between(list(found), lows, highs, color=colour, alpha=0.15, lw=0)
        axis.axvline(2, color="0.5", lw=0.8, ls=":")
        axis.set_xscale("log")
        ticks = sorted(part["phi"].unique())
        axis.set_xticks(ticks, [f"{phi:g}" for phi in ticks])
        axis.minorticks_off()
        axis.set_xlabel("φ (dotted: φ = 2, cosine)")
        axis.set_ylabel(unit)
        axis.grid(alpha=0.3)
    _legend(figure, panels[0][0])
    return figure


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
    figure, panels = _panels(full[full["quantity"] == "tuning_score"], 4.2, 3.2)
    names = {"uba-fixed": "UBA", **{name: NAMES[name] for name in (*BASELINES, *CONTROLS)}}
    colours = dict(zip(names, sns.color_palette("colorblind", len(names)), strict=True))
    for axis, _, part in panels:
        cell = ["model", "optimizer", "schedule"]
        chosen = full[full["quantity"] == "peak_on_edge"].set_index(cell)["peak"]
        for i, (name, label) in enumerate(names.items()):
            rows = part[part["schedule"] == name]
            line = rows.groupby("peak")["value"].mean()
            width, dashes = (2.6, "-") if name == "uba-fixed" else (1.2, ("-", "--", ":")[i % 3])
            axis.plot(line.index, line, dashes, color=colours[name], label=label, lw=width)
            peak = chosen[tuple(rows[cell].iloc[0])]
            axis.plot(peak, line[peak], "o", ms=6, color=colours[name], mec="white", mew=0.6, zorder=3)
        axis.set_xscale("log")
        axis.set_yscale("log")
        ticks = sorted(part["peak"].unique())
        axis.set_xticks(ticks, [f"{peak:g}" for peak in ticks], rotation=45)
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.xaxis.set_minor_locator(NullLocator())
        low, high = part["value"].min(), part["value"].max()
        axis.set_ylim(low / 1.05, min(high, 8 * low) * 1.05)
        axis.set_xlabel("peak learning rate (dot: chosen)")
        axis.set_ylabel(unit)
        axis.grid(alpha=0.3)
    _legend(figure, panels[0][0])
    return figure


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
