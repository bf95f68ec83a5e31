"""Figures of the vision and language notebooks; each answers one question and takes the tidy records."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator
from scipy import stats

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
            difference = wide[others].rsub(wide[ours], axis=0)
            half = stats.t.ppf(0.975, len(difference) - 1) * difference.sem()
            axis.errorbar(
                difference.mean(),
                np.arange(len(others)) + shift,
                xerr=half,
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
            groups = part[part["budget"] == budget].groupby("phi")["value"]
            mean, half = groups.mean(), groups.sem() * stats.t.ppf(0.975, groups.size() - 1)
            axis.plot(mean.index, mean, "o-", ms=4, color=colour, label=f"{budget:.0%} of the steps")
            axis.fill_between(mean.index, mean - half, mean + half, color=colour, alpha=0.15, lw=0)
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


def tuning(records: pd.DataFrame, *, fixed_phi: dict[str, float], unit: str) -> Figure:
    """Draw the validation score against the peak at the full budget, so that a peak on the grid's edge is seen.

    Parameters
    ----------
    records : DataFrame
        Tidy records.
    fixed_phi : dict
        The φ fixed beforehand per optimiser; UBA's line shows that φ.
    unit : str
        Unit of the score, for the axis.
    """
    rows = records[(records["quantity"] == "tuning_score") & (records["budget"] == records["budget"].max())]
    figure, panels = _panels(rows, 4.2, 3.2)
    names = ["uba", *BASELINES, *CONTROLS]
    colours = dict(zip(names, sns.color_palette("colorblind", len(names)), strict=True))
    for axis, _, part in panels:
        phi = fixed_phi[str(part["optimizer"].iloc[0])]
        for i, name in enumerate(names):
            line = part[part["schedule"] == name]
            line = (line[line["phi"] == phi] if name == "uba" else line).sort_values("peak")
            width, dashes = (2.6, "-") if name == "uba" else (1.2, ("-", "--", ":")[i % 3])
            axis.plot(line["peak"], line["value"], dashes, color=colours[name], label=NAMES[name], lw=width)
            best = line.nsmallest(1, "value")
            axis.plot(best["peak"], best["value"], "o", ms=6, color=colours[name], mec="white", mew=0.6, zorder=3)
        axis.set_xscale("log")
        axis.set_yscale("log")
        ticks = sorted(part.loc[part["schedule"] == "uba", "peak"].unique())
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
