"""Figures and tables of the navigation notebook; each answers one question and takes the records of its experiment."""

from __future__ import annotations

import pandas as pd
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure

from replication.evidence import Table, plots, rows_of
from replication.metalearning.figures_sinusoid import LOOKS

UPDATES = "updates on a new task"
STEPS = "environment steps of training"


def returns(records: pd.DataFrame) -> Figure:
    """Draw the return on new tasks over the updates, one panel per checkpoint.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``navigation``.
    """
    found = plots.intervals(rows_of(records, "return"), "steps", "method", "updates")
    untrained = plots.intervals(rows_of(records, "untrained_return"), "updates")
    looks = {"untrained": {"color": "0.45", "marker": "x", "ls": ":"}, **LOOKS}
    titles = [f"{step:,.0f} environment steps" for step in found]
    label = "return, minus the sum of\nsquared distances from the goal"
    figure, axes = plots.panels(titles, height=3.2, share="xy", xlabel=UPDATES, ylabel=label)
    for axis, of in zip(axes, found.values(), strict=True):
        plots.curves(axis, {"untrained": untrained, **of}, looks, bars=True)
        axis.set_xticks(sorted(untrained))
    return plots.legend(figure)


def budget(records: pd.DataFrame) -> Figure:
    """Draw by how much MAML's return exceeds that of DRS, over environment steps, after one update and before it.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``navigation``.
    """
    found = plots.intervals(rows_of(records, "advantage"), "updates", "steps")
    names = {0: "before any update", 1: "after one update"}
    label = "return of MAML less DRS\n(above 0 MAML is better)"
    figure, (axis,) = plots.panels(height=3, xlabel=STEPS, ylabel=label)
    plots.curves(axis, found, plots.distinct(names), label=names.__getitem__, bars=True)
    axis.axhline(0, **plots.RULE)
    plots.log_ticks(axis, "x", sorted(found[0]))
    return plots.name_ends(figure)


def contour(records: pd.DataFrame) -> Figure:
    """Draw who is ahead by checkpoint and number of updates, and where the seeds decide it.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``navigation``.
    """
    found = pd.DataFrame(plots.intervals(rows_of(records, "advantage"), "steps", "updates")).iloc[::-1]
    text = found.map(lambda one: "MAML" if one.low > 0 else "DRS" if one.high < 0 else "")
    figure, (axis,) = plots.panels(height=3.2)
    mean = found.map(lambda one: one.estimate)
    plots.heatmap(axis, mean, text, norm=CenteredNorm(), cmap="PuOr", bar="return of MAML less DRS")
    axis.set(xlabel=STEPS, ylabel=UPDATES)
    return figure


def chosen(records: pd.DataFrame) -> Table:
    """The learning rate and the test rate that the tuning seeds chose, by method and checkpoint.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``navigation``.
    """
    wide = records[records["quantity"].isin(["learning_rate", "test_rate"])].pivot_table(
        index=["method", "iterations", "steps"], columns="quantity", values="value"
    )
    rows = tuple(
        (f"{row.method}", f"{row.iterations:g}", f"{row.steps:,.0f}", f"{row.learning_rate:g}", f"{row.test_rate:g}")
        for row in wide.reset_index().itertuples()
    )
    return Table(("method", "iterations", "environment steps", "learning rate", "test rate"), rows)
