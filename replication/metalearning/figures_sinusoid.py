"""Figures and tables of the sinusoid notebook; each answers one question and takes the records of its experiment."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replication.evidence import Table, mean_interval, percentile_interval, rows_of
from replication.metalearning.experiments.sinusoid import CALLS, FRESH, MAIN, SAMPLES

_PALETTE = sns.color_palette("colorblind")
LOOKS = {"DRS": (_PALETTE[0], "o-"), "FOMAML": (_PALETTE[2], "^:"), "MAML": (_PALETTE[1], "s--")}
"""Colour and line of every method."""


def trade_off(records: pd.DataFrame) -> Figure:
    """Draw the error after one step over the number of tasks, under both budgets, the crossing, and predicting zero.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``sinusoid.run``.
    """
    final = rows_of(records, "final", condition=MAIN)
    of, over = (rows_of(records, name, condition=MAIN)["value"] for name in ("log_mse", "log_over_zero"))
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), sharey=True, layout="constrained")
    for axis, budget in zip(axes, (SAMPLES, CALLS), strict=True):
        draws = rows_of(records, "crossing_draw", condition=MAIN, budget=budget)["value"].to_numpy()
        low, middle, high = np.quantile(draws, [0.025, 0.5, 0.975])
        axis.axvspan(low, high, color="0.9", label="crossing of DRS and MAML, 95 %")
        axis.axvline(middle, color="0.5", lw=1, label="its median")
        axis.axhline(np.exp(of.mean() - over.mean()), color="0.3", lw=1, ls=":", label="predicting zero")
        # side by side, so that no bar hides another
        for shift, (method, (colour, style)) in zip((0.96, 1.0, 1.04), LOOKS.items(), strict=True):
            rows = final[(final["budget"] == budget) & (final["method"] == method)]
            x, mean, low_end, high_end = intervals(rows, "tasks").T
            x = shift * x
            axis.plot(x, np.exp(mean), style, color=colour, lw=1.8, ms=5, label=method)
            axis.vlines(x, np.exp(low_end), np.exp(high_end), color=colour, lw=1.2)
        axis.set(xscale="log", yscale="log", xlabel="training tasks M", title=budget)
        _plain(axis, sorted(final["tasks"].unique()))
    axes[0].set_ylabel("mean squared error on new tasks\nafter one step (geometric mean over seeds)")
    _ticks(axes[0])
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False)
    return figure


def seeds(records: pd.DataFrame) -> Figure:
    """Draw DRS's error over MAML's within every seed, over the number of training tasks, under both budgets.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``sinusoid.run``.
    """
    ratios = rows_of(records, "log_ratio", condition=MAIN)
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), sharey=True, layout="constrained")
    for axis, budget in zip(axes, (SAMPLES, CALLS), strict=True):
        rows = ratios[ratios["budget"] == budget]
        for _, part in rows.groupby("seed"):
            axis.plot(part["tasks"], np.exp(part["value"]), color="0.75", lw=1)
        x, mean, low, high = intervals(rows, "tasks").T
        axis.plot(x, np.exp(mean), "o-", color="0.1", lw=2, ms=5)
        axis.vlines(x, np.exp(low), np.exp(high), color="0.1", lw=1.6)
        axis.axhline(1, color="black", lw=1)
        axis.set(xscale="log", yscale="log", xlabel="training tasks M", title=budget)
        _plain(axis, sorted(rows["tasks"].unique()))
    axes[0].set_ylabel("error of DRS / error of MAML\n(above 1 MAML is better)")
    _ticks(axes[0])
    axes[0].plot([], [], "o-", color="0.1", lw=2, ms=5, label="geometric mean, 95 %")
    axes[0].plot([], [], color="0.75", label="one seed")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return figure


def conditions(records: pd.DataFrame) -> Figure:
    """Draw DRS's error over MAML's with the fewest and the most tasks, for every condition.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``sinusoid.run``.
    """
    ratios = rows_of(records, "log_ratio")
    ratios = ratios[ratios["condition"] != FRESH]
    ends = ratios["tasks"].min(), ratios["tasks"].max()
    names = [MAIN, *(name for name in ratios["condition"].unique() if name != MAIN)][::-1]
    figure, axes = plt.subplots(
        1, 2, figsize=(10, 1.4 + 0.5 * len(names)), sharex=True, sharey=True, layout="constrained"
    )
    for axis, budget in zip(axes, (SAMPLES, CALLS), strict=True):
        for tasks, colour, marker, shift in zip(ends, (_PALETTE[4], "0.2"), "Ds", (0.12, -0.12), strict=True):
            rows = ratios[(ratios["budget"] == budget) & (ratios["tasks"] == tasks)]
            for y, name in enumerate(names):
                found = mean_interval(rows.loc[rows["condition"] == name, "value"].to_numpy())
                axis.plot(np.exp(found.estimate), y + shift, marker, color=colour, ms=6)
                axis.hlines(y + shift, np.exp(found.low), np.exp(found.high), color=colour, lw=1.6)
            axis.plot([], [], marker, color=colour, label=f"M = {tasks:g}")
        axis.axvline(1, color="black", lw=1)
        axis.set(xscale="log", title=budget, xlabel="error of DRS / error of MAML; left of 1 DRS is better")
        _plain(axis, [0.2, 0.5, 1, 2])
    axes[0].set_yticks(range(len(names)), names)
    axes[0].set_ylim(-0.5, len(names) - 0.5)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return figure


def fresh(records: pd.DataFrame) -> Figure:
    """Draw DRS's error over MAML's along training on fresh noiseless tasks, for every width.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``sinusoid.run``.
    """
    ratios = rows_of(records, "log_ratio", condition=FRESH)
    widths = sorted(ratios["width"].unique())
    figure, axes = plt.subplots(
        1, len(widths), figsize=(1 + 3 * len(widths), 3.6), sharex=True, sharey=True, layout="constrained"
    )
    for axis, width in zip(np.atleast_1d(axes), widths, strict=True):
        x, mean, low, high = intervals(ratios[ratios["width"] == width], "steps").T
        axis.plot(x, np.exp(mean), "o-", color="0.2", ms=5)
        axis.vlines(x, np.exp(low), np.exp(high), color="0.2", lw=1.4)
        axis.axhline(1, color="black", lw=1)
        axis.axhline(np.exp(-0.1), color=_PALETTE[3], lw=1, ls="--", label="margin of T11")
        axis.set(xlabel="training steps", yscale="log", title=f"width {width:g}", xlim=(0, 1.08 * x.max()))
        axis.set_xticks(x)
        _plain_y(axis, [0.25, 0.5, 1, 2])
    first = np.atleast_1d(axes)[0]
    first.set_ylabel("error of DRS / error of MAML\n(above 1 MAML is better)")
    figure.legend(*first.get_legend_handles_labels(), loc="outside lower center", frameon=False)
    return figure


def chosen(records: pd.DataFrame) -> Table:
    """How many seeds chose each learning rate and each test rate, at the end of the main condition.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``sinusoid.run``.
    """
    rows = records[(records["condition"] == MAIN) & (records["steps"] == records.loc[_main(records), "steps"].max())]
    table = []
    for (method, tasks), part in rows.groupby(["method", "tasks"], sort=True):
        counts = [
            ", ".join(
                f"{rate:g}: {count}"
                for rate, count in part.loc[part["quantity"] == quantity, "value"].value_counts().sort_index().items()
            )
            for quantity in ("learning_rate", "test_rate")
        ]
        table.append((method, f"{tasks:g}", *counts))
    return Table(("method", "tasks M", "learning rate: seeds", "test rate: seeds"), tuple(table))


def located(records: pd.DataFrame) -> Table:
    """The number of tasks from which on MAML is ahead, under both budgets.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``sinusoid.run``.
    """
    grid = rows_of(records, "final", condition=MAIN)["tasks"]
    least, most = grid.min(), grid.max()

    def shown(tasks: float) -> str:
        # a resample without a crossing counts as an end of the grid, to rounding
        if tasks < 1.001 * least:
            return f"at most {least:g}"
        return f"{tasks:.0f}" if tasks < 0.999 * most else f"beyond {most:g}"

    table = []
    for budget in (SAMPLES, CALLS):
        draws = rows_of(records, "crossing_draw", condition=MAIN, budget=budget)["value"].to_numpy()
        found = percentile_interval(draws)
        table.append((budget, shown(float(np.median(draws))), f"{shown(found.low)} to {shown(found.high)}"))
    return Table(("budget", "crossing, tasks (median)", "95 % interval"), tuple(table))


def _main(records: pd.DataFrame) -> pd.Series[bool]:
    return (records["condition"] == MAIN) & (records["quantity"] == "learning_rate")


def intervals(rows: pd.DataFrame, x: str) -> np.typing.NDArray[np.float64]:
    """Per level of x: x, mean over seeds, and the ends of its 95 % interval."""
    found = []
    for level, part in rows.groupby(x):
        interval = mean_interval(part["value"].to_numpy())
        found.append((float(str(level)), interval.estimate, interval.low, interval.high))
    return np.array(found)


def _plain(axis: Axes, ticks: list[float]) -> None:
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_xticks([], minor=True)


def _plain_y(axis: Axes, ticks: list[float]) -> None:
    axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_yticks([], minor=True)


def _ticks(axis: Axes) -> None:
    """A few plain labels within what is shown."""
    low, high = axis.get_ylim()
    _plain_y(axis, [tick for tick in (0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20, 50) if low <= tick <= high])
