"""Figures of the linear notebook: maps and errors from the records, closed forms from their formulas.

Maps show fractions of wins, curves show mean (or median) excess risk; each title or axis says which. In the maps red
means that MAML wins more often and blue that DRS does, as in the figures that the authors' code draws.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import norm

from replication.evidence import Table, plots, rows_of
from replication.metalearning.experiments import linear as experiment
from replication.metalearning.experiments.linear import ALPHAS, BETA, FEW, SAMPLES, SHOWN, TASKS
from replication.metalearning.linear import (
    Tasks,
    crossover_tasks,
    curvature,
    modelling_error,
    neutral_alpha,
    optimum_drs,
    optimum_maml,
    variances,
)

COLOURS = plots.COLOURS
METHODS = {"drs": ("DRS", COLOURS[0], "o"), "maml": ("MAML", COLOURS[3], "s")}
WINS = "fraction of trials won by MAML"
ALPHA = "step size α"
M_TASKS = "M, number of tasks"
_N_SAMPLES = "N = {:g}".format


def maps(records: pd.DataFrame, stage: str) -> Figure:
    """Draw the fraction of wins over N and M, a panel for every step size.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``linear``.
    stage : {"before", "after"}
        Whether risks are taken before or after the step at test.
    """
    rows = rows_of(records, "map", table=stage)
    zero = neutral_alpha(SAMPLES, BETA)
    figure, axes = plots.panels([f"α = {alpha:g}" for alpha in ALPHAS], height=1.15, columns=7, share="xy")
    for axis, alpha in zip(axes, ALPHAS.tolist(), strict=True):
        grid = rows[rows["alpha"] == alpha].pivot_table(index="M", columns="N", values="value").to_numpy()
        shown = axis.imshow(grid, origin="lower", cmap="RdBu_r", vmin=0, vmax=1, aspect="equal")
        if grid.min() < 0.5 < grid.max():
            axis.contour(grid, levels=[0.5], colors="black", linewidths=1)
        if zero[0] <= alpha <= zero[-1]:
            axis.axvline(np.interp(alpha, zero, np.arange(len(SAMPLES))), color="black", lw=1, ls=":")
        axis.set_xticks([0, 2, 5, 11], ["1", "10", "100", "400"])
        axis.set_yticks([0, 2, 5, 11], ["2", "10", "100", "400"])
        axis.grid(visible=False)
        axis.tick_params(labelsize=plots.SIZE - 3)
    figure.supxlabel("N, samples in each half of a task's data", fontsize=plots.SIZE)
    figure.supylabel(M_TASKS, fontsize=plots.SIZE)
    plots.colour_bar(axes, shown, f"fraction won by MAML {stage} the update", shrink=0.9)
    return figure


def parity(records: pd.DataFrame) -> Figure:
    """Draw our fractions of wins against those of another implementation, cell by cell, and how far apart they are.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``linear``.
    """
    rows = rows_of(records, "map")
    # the smallest distance of different values is one trial in all of them
    trials = round(1 / float(np.diff(np.unique(rows["value"].to_numpy().round(9))).min()))
    figure, (cells, scores) = plots.panels((WINS, "cells that either method can win"), height=3.2)
    z = np.linspace(-4.5, 4.5, 200)
    for (stage, label), colour in zip(
        {"after": "after the update", "before": "before it"}.items(), COLOURS, strict=False
    ):
        table = experiment.reference()[stage]
        of_stage = rows[rows["table"] == stage].set_index(["alpha", "N", "M"])["value"]
        index = pd.MultiIndex.from_product([table.alphas.tolist(), SAMPLES, TASKS])
        ours = of_stage.reindex(index).to_numpy().reshape(table.wins.shape)
        cells.plot(table.wins.ravel(), ours.ravel(), ".", ms=3, color=colour, label=f"{label}, {ours.size} cells")
        score = (ours - table.wins) / experiment.standard_error(table, trials)
        # where one method wins every trial there is nothing to compare
        open_cells = (table.wins > 0.005) & (table.wins < 0.995)
        scores.hist(score[open_cells], bins=40, density=True, color=colour, alpha=0.5)
    cells.plot([0, 1], [0, 1], color="black", lw=0.8)
    cells.set(xlabel="another implementation, 10,000 trials", ylabel=f"ours, {trials:,} trials")
    scores.plot(z, norm.pdf(z), color="black", lw=1.2, label="standard normal")
    scores.set(xlabel="difference (standard errors)", ylabel="density of cells")
    return plots.legend(figure)


def agreement(records: pd.DataFrame) -> Table:
    """Per table: standardised differences over all compared cells and the share within tolerance; replicates' means.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``linear``.
    """
    names = ["z_mean", "z_sd", "z_largest", "within_tolerance"]
    rows = records[records["quantity"].isin(names)]
    found = rows.pivot_table(index="table", columns="quantity", values="value", sort=False)[names]
    shown = tuple((str(table), *(f"{value:.3f}" for value in row)) for table, row in found.iterrows())
    return Table(("table", "mean z", "s.d. of z", "largest |z|", "share within tolerance"), shown)


def objectives(records: pd.DataFrame) -> Figure:
    """Draw the modelling error against the step size, and who wins where it is zero.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``linear``.
    """
    titles = ("zero at α = 5/(3β(1 + 2/N))", "at exactly that α, after the update")
    figure, (errors, wins) = plots.panels(titles, height=3.2)
    alpha = np.linspace(0.01, 1, 1981)
    formula = {N: pd.Series(modelling_error(alpha, N, BETA), alpha) for N in FEW}
    plots.curves(errors, formula, plots.ordered(FEW), label="_{}".format)
    errors.set(xlabel=ALPHA, ylabel="modelling error of DRS\n(half squared error)", yscale="log", ylim=(1e-8, 1))
    plots.curves(wins, plots.means(rows_of(records, "neutral_wins"), "N", "M"), plots.ordered(FEW), label=_N_SAMPLES)
    wins.axhline(0.5, **plots.DOTTED)
    wins.set(xlabel=M_TASKS, ylabel=WINS, ylim=(0, 0.6))
    plots.log_ticks(wins, "x")
    return plots.legend(figure)


def errors(records: pd.DataFrame) -> Figure:
    """Draw the mean excess risk after the update against the number of tasks, measured and by the delta method.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``linear``.
    """
    rows = rows_of(records, "excess", statistic="mean")
    cases = ((0.5, 5), (0.5, 25), (0.75, 25), (1.0, 25))
    titles = [f"α = {alpha:g}, N = {N}" for alpha, N in cases]
    figure, axes = plots.panels(
        titles, height=2.6, columns=2, xlabel=M_TASKS, ylabel="mean excess risk\n(half squared error)", log="xy"
    )
    M = np.geomspace(2, 400, 200)
    for axis, (alpha, N) in zip(axes, cases, strict=True):
        half, at = curvature(alpha, N, BETA) / 2, variances(alpha, N, BETA)
        gap = modelling_error(alpha, N, BETA)
        for method, (label, colour, marker) in METHODS.items():
            found = rows[(rows["method"] == method) & (rows["alpha"] == alpha) & (rows["N"] == N)]
            axis.plot(found["M"], found["value"], marker, color=colour, ms=4, label=f"{label}, measured")
            floor = gap if method == "drs" else 0.0
            axis.plot(M, floor + half * getattr(at, method) / M, color=colour, lw=1.3, label=f"{label}, delta method")
        axis.axhline(float(gap), color=METHODS["drs"][1], lw=1, ls=":", label="modelling error")
        crossover = float(crossover_tasks(alpha, N, BETA))
        if crossover < 500:
            axis.axvline(crossover, **plots.DASHED, label="M*")
    return plots.legend(figure)


def crossings(records: pd.DataFrame) -> Figure:
    """Draw where the mean risks cross in the simulation against the formula.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``linear``.
    """
    names = ("M_star", "bracket_low", "bracket_high")
    wide = pd.concat({name: rows_of(records, name).set_index(["alpha", "N"])["value"] for name in names}, axis=1)
    labels = ("M*, delta method (tasks)", "the mean risks cross between (tasks)")
    figure, (axis,) = plots.panels(height=4.2, xlabel=labels[0], ylabel=labels[1], log="xy")
    ends = np.array([9.0, 500.0])
    axis.fill_between(ends, ends / 1.5, ends * 1.5, color="0.88", lw=0, label="within a factor 1.5")
    axis.plot(ends, ends, color="black", lw=0.9, label="equal")
    for early, colour, label in ((True, COLOURS[1], "M* below 25"), (False, COLOURS[0], "M* from 25 on")):
        part = wide[(wide["M_star"] < 25) == early]
        low, high = part["bracket_low"].clip(lower=5), part["bracket_high"].clip(upper=1000)
        axis.vlines(part["M_star"], low, high, color=colour, lw=2, alpha=0.7, label=label)
    axis.set(xlim=ends, ylim=(5, 1000))
    return plots.legend(figure)


def averages(records: pd.DataFrame) -> Figure:
    """Draw the mean and the median excess risk of both methods at N = 1.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``linear``.
    """
    rows = rows_of(records, "excess", N=1)
    titles = [f"α = {alpha:g}, N = 1" for alpha in SHOWN[1:]]
    figure, axes = plots.panels(
        titles, share="xy", xlabel=M_TASKS, ylabel="excess risk after the update\n(half squared error)", log="xy"
    )
    for axis, alpha in zip(axes, SHOWN[1:], strict=True):
        for method, (name, colour, marker) in METHODS.items():
            found = plots.means(rows[(rows["method"] == method) & (rows["alpha"] == alpha)], "statistic", "M")
            looks = {
                "mean": {"color": colour, "marker": marker},
                "median": {"color": colour, "marker": marker, "ls": "--"},
            }
            plots.curves(axis, found, looks, label=(name + ", {}").format)
    return plots.legend(figure)


def similarity(records: pd.DataFrame) -> Figure:
    """Draw M* and the fraction of wins as the tasks become more alike, and where the modelling error is then zero.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``linear``.
    """
    at = experiment.SIMILAR
    titles = ("mean risk, N = 10", f"wins, α = {at['alpha']:g}, N = {at['N']:g}", "modelling error is zero")
    figure, (needed, wins, zero) = plots.panels(titles, height=3.0, xlabel="spread of the tasks\n(1: the authors')")
    alphas = plots.distinct((0.25, 0.5, 1.0))  # apart from the shades of the spreads
    crossover = plots.means(rows_of(records, "similar_crossover", N=10), "alpha", "spread")
    plots.curves(needed, crossover, alphas, label="α = {:g}".format)
    needed.set_ylabel("M*, tasks that MAML needs")
    plots.log_ticks(needed, "y")
    found = plots.means(rows_of(records, "similar_wins"), "spread", "M")
    plots.curves(wins, found, plots.ordered(found), label="spread {:g}".format)
    wins.axhline(0.5, **plots.DOTTED)
    wins.set(xlabel=M_TASKS, ylabel=f"{WINS}\nafter the update", ylim=(0, 1.02))
    plots.log_ticks(wins, "x")
    for alpha, look in alphas.items():
        zero.axhline(alpha, color=look["color"], ls="--")
    spreads = np.linspace(0.01, 1, 100)
    for N, style in ((5, "-"), (10, "-."), (25, ":")):
        at_zero = [float(neutral_alpha(N, Tasks(BETA, spread=spread))) for spread in spreads.tolist()]
        zero.plot(spreads, at_zero, color="black", ls=style, label=_N_SAMPLES(N))
    zero.set(ylabel=ALPHA, ylim=(0, 1.4))
    return plots.legend(figure)


def asymptotics(records: pd.DataFrame) -> Figure:
    """Draw MAML's mean excess risk over what the delta method gives, against the number of tasks.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``linear``.
    """
    rows = rows_of(records, "excess", statistic="mean", method="maml")
    titles = [f"α = {alpha:g}" for alpha in SHOWN]
    figure, axes = plots.panels(
        titles, share="xy", xlabel=M_TASKS, ylabel="MAML's mean excess risk\n/ delta method", log="xy"
    )
    for axis, alpha in zip(axes, SHOWN, strict=True):
        found = plots.means(rows[rows["alpha"] == alpha], "N", "M")
        ratios = {
            N: found[N] / (curvature(alpha, N, BETA) / 2 * variances(alpha, N, BETA).maml / found[N].index)
            for N in FEW[1:]
        }
        plots.curves(axis, ratios, plots.ordered(ratios), label=_N_SAMPLES)
        axis.axhline(1, **plots.RULE)
        axis.set_ylim(0.5, 5)
    return plots.legend(figure)


def optima() -> Figure:
    """Draw what either method aims at, against the step size."""
    alpha = np.linspace(0, 1, 201)
    figure, (axis,) = plots.panels(xlabel=ALPHA, ylabel="optimum θ*, unlimited tasks")
    axis.axhline(optimum_drs(BETA), color="black", lw=1.8, label="DRS")
    found = {N: pd.Series(optimum_maml(alpha, N, BETA), alpha) for N in FEW}
    plots.curves(axis, found, plots.ordered(FEW), label="MAML, N = {:g}".format)
    return plots.legend(figure)


def smoothness(records: pd.DataFrame) -> Figure:
    """Draw the ratio of both sides of the smoothness bound.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``linear``.
    """
    rows = rows_of(records, "bound_ratio")
    label = "step size × smoothness, αL"
    figure, (axis,) = plots.panels(height=3.2, xlabel=label, ylabel="|∇F_maml − ∇F_drs| / bound", log="x")
    cases = plots.distinct(rows["case"].unique())
    for statistic, style in (("largest", "-"), ("median", ":")):
        looks = {case: {**look, "ls": style} for case, look in cases.items()}
        found = plots.means(rows[rows["statistic"] == statistic], "case", "alpha_L")
        plots.curves(axis, found, looks, label=("{}, " + statistic).format)
    axis.axhline(1, **plots.RULE)
    axis.set_ylim(0, 1.08)
    return plots.legend(figure)
