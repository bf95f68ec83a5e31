"""Figures and tables of the navigation notebook; each answers one question and takes the records of its experiment."""

from __future__ import annotations

import itertools

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from replication.evidence import Table, mean_interval, rows_of
from replication.metalearning.experiments.navigation import METHODS
from replication.metalearning.figures_sinusoid import LOOKS, intervals


def returns(records: pd.DataFrame) -> Figure:
    """Draw the return on new tasks over the updates, one panel per checkpoint.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``navigation.run``.
    """
    rows, untrained = rows_of(records, "return"), intervals(rows_of(records, "untrained_return"), "updates").T
    steps = sorted(rows["steps"].unique())
    figure, axes = plt.subplots(
        1, len(steps), figsize=(1 + 3 * len(steps), 3.8), sharex=True, sharey=True, layout="constrained"
    )
    for axis, step in zip(axes, steps, strict=True):
        axis.plot(untrained[0], untrained[1], "x:", color="0.45", ms=5, lw=1.5, label="untrained")
        for method in METHODS:
            colour, style = LOOKS[method]
            x, mean, low, high = intervals(rows[(rows["steps"] == step) & (rows["method"] == method)], "updates").T
            axis.plot(x, mean, style, color=colour, ms=5, lw=1.8, label=method)
            axis.vlines(x, low, high, color=colour, lw=1.2)
        axis.set(xlabel="updates on a new task", title=f"{step:,.0f} environment steps")
        axis.set_xticks(x)
    axes[0].set_ylabel("return, minus the sum of\nsquared distances from the goal")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def budget(records: pd.DataFrame) -> Figure:
    """Draw by how much MAML's return exceeds that of DRS, over environment steps, after one update and before it.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``navigation.run``.
    """
    rows = rows_of(records, "advantage")
    figure, axis = plt.subplots(figsize=(7, 3.8), layout="constrained")
    for updates, colour, style in ((0, "0.55", "o:"), (1, "0.1", "s-")):
        x, mean, low, high = intervals(rows[rows["updates"] == updates], "steps").T
        label = "after one update" if updates else "before any update"
        axis.plot(x, mean, style, color=colour, ms=5, lw=1.8, label=label)
        axis.vlines(x, low, high, color=colour, lw=1.2)
    axis.axhline(0, color="black", lw=1)
    axis.set(
        xscale="log", xlabel="environment steps of training", ylabel="return of MAML less DRS\n(above 0 MAML is better)"
    )
    axis.set_xticks(x, [f"{step:,.0f}" for step in x])
    axis.set_xticks([], minor=True)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def contour(records: pd.DataFrame) -> Figure:
    """Draw who is ahead by checkpoint and number of updates, and where the seeds decide it.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``navigation.run``.
    """
    rows = rows_of(records, "advantage")
    mean = rows.pivot_table(index="updates", columns="steps", values="value")
    figure, axis = plt.subplots(figsize=(7.5, 4), layout="constrained")
    most = float(mean.abs().to_numpy().max())
    image = axis.imshow(mean, cmap="PuOr", vmin=-most, vmax=most, origin="lower", aspect="auto")
    for (i, updates), (j, step) in itertools.product(enumerate(mean.index), enumerate(mean.columns)):
        found = mean_interval(rows.loc[(rows["updates"] == updates) & (rows["steps"] == step), "value"].to_numpy())
        if found.low > 0 or found.high < 0:
            axis.text(j, i, "MAML" if found.low > 0 else "DRS", ha="center", va="center", fontsize=9)
    axis.set_xticks(range(len(mean.columns)), [f"{step:,.0f}" for step in mean.columns])
    axis.set_yticks(range(len(mean.index)), [f"{updates:g}" for updates in mean.index])
    axis.set(xlabel="environment steps of training", ylabel="updates on a new task")
    figure.colorbar(image, label="return of MAML less DRS")
    return figure


def chosen(records: pd.DataFrame) -> Table:
    """The learning rate and the test rate that the tuning seeds chose, by method and checkpoint.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``navigation.run``.
    """
    wide = records[records["quantity"].isin(["learning_rate", "test_rate"])].pivot_table(
        index=["method", "iterations", "steps"], columns="quantity", values="value"
    )
    rows = tuple(
        (f"{row.method}", f"{row.iterations:g}", f"{row.steps:,.0f}", f"{row.learning_rate:g}", f"{row.test_rate:g}")
        for row in wide.reset_index().itertuples()
    )
    return Table(("method", "iterations", "environment steps", "learning rate", "test rate"), rows)
