"""Figures and tables of the sinusoid notebook; each answers one question and takes the records of its experiment."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from replication.evidence import Table, percentile_interval, plots, rows_of
from replication.metalearning.experiments.sinusoid import CALLS, FRESH, MAIN, SAMPLES

LOOKS: dict[str, plots.Look] = {
    "DRS": {"color": plots.COLOURS[0], "marker": "o"},
    "MAML train-train": {"color": plots.COLOURS[2], "marker": "^", "ls": ":"},
    "MAML": {"color": plots.COLOURS[1], "marker": "s", "ls": "--"},
}
"""How every method is drawn."""
BUDGETS = (SAMPLES, CALLS)
RATIO = "error of DRS / error of MAML"
ABOVE = RATIO + "\n(above 1 MAML is better)"
TASKS = "training tasks M"


def trade_off(records: pd.DataFrame) -> Figure:
    """Draw the error after one step over the number of tasks, under both budgets, the crossing, and predicting zero.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``sinusoid``.
    """
    found = plots.intervals(rows_of(records, "final", condition=MAIN), "budget", "method", "tasks", transform=np.exp)
    of, over = (rows_of(records, name, condition=MAIN)["value"] for name in ("log_mse", "log_over_zero"))
    label = "mean squared error on new tasks after\none step (geometric mean over seeds)"
    figure, axes = plots.panels(BUDGETS, height=3.6, share="y", xlabel=TASKS, ylabel=label)
    for axis, budget in zip(axes, BUDGETS, strict=True):
        crossing = percentile_interval(rows_of(records, "crossing_draw", condition=MAIN, budget=budget)["value"])
        axis.axvspan(crossing.low, crossing.high, color="0.9", label="crossing of DRS and MAML, 95 %")
        axis.axvline(crossing.estimate, color="0.5", lw=1, label="its median")
        axis.axhline(np.exp(of.mean() - over.mean()), **plots.DOTTED, label="predicting zero")
        plots.curves(axis, found[budget], LOOKS, bars=True)
        plots.log_ticks(axis, "x", sorted(found[budget]["DRS"]))
        plots.log_ticks(axis, "y")
    return plots.legend(figure)


def seeds(records: pd.DataFrame) -> Figure:
    """Draw DRS's error over MAML's within every seed, over the number of training tasks, under both budgets.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``sinusoid``.
    """
    figure, axes = plots.panels(BUDGETS, height=3.2, share="y", xlabel=TASKS, ylabel=ABOVE)
    for axis, budget in zip(axes, BUDGETS, strict=True):
        rows = rows_of(records, "log_ratio", condition=MAIN, budget=budget)
        each = plots.means(rows, "seed", "tasks", np.exp)
        plots.curves(axis, each, plots.alike(each, color="0.75", lw=1), label="one seed".format)
        mean = plots.intervals(rows, "tasks", transform=np.exp)
        name = "geometric mean, 95 %"
        plots.curves(axis, {name: mean}, {name: {"color": "0.1", "marker": "o", "lw": 2}}, bars=True)
        axis.axhline(1, **plots.RULE)
        plots.log_ticks(axis, "x", sorted(mean))
        plots.log_ticks(axis, "y")
    return plots.legend(figure)


def conditions(records: pd.DataFrame) -> Figure:
    """Draw DRS's error over MAML's with the fewest and the most tasks, for every condition.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``sinusoid``.
    """
    ratios = rows_of(records, "log_ratio")
    ratios = ratios[ratios["condition"] != FRESH]
    found = plots.intervals(ratios, "budget", "tasks", "condition", transform=np.exp)
    looks = plots.distinct([ratios["tasks"].max(), ratios["tasks"].min()])
    rows = {name: name for name in (MAIN, *ratios["condition"].unique())}
    label = RATIO + "\n(left of 1 DRS is better)"
    figure, axes = plots.panels(BUDGETS, height=1.4 + 0.35 * len(rows), share="xy", xlabel=label, log="x")
    for axis, budget in zip(axes, BUDGETS, strict=True):
        plots.forest(axis, found[budget], looks, label="M = {:g}".format, rows=rows, at=1)
    return plots.legend(figure)


def fresh(records: pd.DataFrame) -> Figure:
    """Draw DRS's error over MAML's on fresh noiseless tasks, by the most steps that may be taken, for every width.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``sinusoid``.
    """
    ratios = rows_of(records, "log_ratio", condition=FRESH)
    found = plots.intervals(ratios, "width", "steps", transform=np.exp)
    titles = [f"width {width:g}" for width in found]
    figure, axes = plots.panels(titles, share="xy", xlabel="training steps, at most", ylabel=ABOVE, log="y")
    for axis, of in zip(axes, found.values(), strict=True):
        plots.curves(axis, {"": of}, {"": {"color": "0.2", "marker": "o", "ls": "-"}}, bars=True)
        axis.axhline(1, **plots.RULE)
        axis.axhline(np.exp(-0.1), color=plots.COLOURS[3], lw=1, ls="--", label="margin of T11")
        axis.set(xlim=(0, 1.08 * max(of)), xticks=sorted(of))
    return plots.legend(figure)


def chosen(records: pd.DataFrame) -> Table:
    """How many seeds chose each rate and each checkpoint, with the whole budget of the main condition.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``sinusoid``.
    """
    budget = rows_of(records, "learning_rate", condition=MAIN)["steps"].max()
    rows = records[(records["condition"] == MAIN) & (records["steps"] == budget)]
    table = []
    for (method, tasks), part in rows.groupby(["method", "tasks"], sort=True):
        counts = [
            ", ".join(
                f"{rate:g}: {count}"
                for rate, count in part.loc[part["quantity"] == quantity, "value"].value_counts().sort_index().items()
            )
            for quantity in ("learning_rate", "test_rate", "kept_steps")
        ]
        table.append((method, f"{tasks:g}", *counts))
    names = ("learning rate", "test rate", "steps kept")
    return Table(("method", "tasks M", *(f"{name}: seeds" for name in names)), tuple(table))


def located(records: pd.DataFrame) -> Table:
    """The number of tasks from which on MAML is ahead, under both budgets.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``sinusoid``.
    """
    grid = rows_of(records, "final", condition=MAIN)["tasks"]
    least, most = grid.min(), grid.max()

    def shown(tasks: float) -> str:
        # a resample without a crossing counts as an end of the grid, to rounding
        if tasks < 1.001 * least:
            return f"at most {least:g}"
        return f"{tasks:.0f}" if tasks < 0.999 * most else f"beyond {most:g}"

    table = []
    for budget in BUDGETS:
        draws = rows_of(records, "crossing_draw", condition=MAIN, budget=budget)["value"].to_numpy()
        found = percentile_interval(draws)
        table.append((budget, shown(float(np.median(draws))), f"{shown(found.low)} to {shown(found.high)}"))
    return Table(("budget", "crossing, tasks (median)", "95 % interval"), tuple(table))
