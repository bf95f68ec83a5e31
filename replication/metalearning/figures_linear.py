"""Figures of the linear notebook: maps and errors from the records, closed forms from their formulas.

Maps show fractions of wins, curves show mean (or median) excess risk; each title or axis says which. In the maps red
means that MAML wins more often and blue that DRS does, as in the figures that the authors' code draws.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from scipy.stats import norm

from replication.evidence import Table, rows_of
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

COLOURS = sns.color_palette("colorblind")
METHODS = {"drs": ("DRS", COLOURS[0], "o"), "maml": ("MAML", COLOURS[3], "s")}
WINS = "fraction of trials won by MAML"
LOSS = "excess risk (half squared error)"
ALPHA = "step size α"


def maps(records: pd.DataFrame, stage: str) -> Figure:
    """Draw the fraction of wins over N and M, a panel for every step size.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``linear.run``.
    stage : {"before", "after"}
        Whether risks are taken before or after the step at test.
    """
    rows = rows_of(records, "map")
    rows = rows[rows["table"] == stage]
    figure, axes = plt.subplots(3, 7, figsize=(13, 6.4), sharex=True, sharey=True, layout="constrained")
    for axis, alpha in zip(axes.flat, ALPHAS.tolist(), strict=True):
        grid = rows[rows["alpha"] == alpha].pivot_table(index="M", columns="N", values="value").to_numpy()
        shown = axis.imshow(grid, origin="lower", cmap="RdBu_r", vmin=0, vmax=1, aspect="equal")
        if grid.min() < 0.5 < grid.max():
            axis.contour(grid, levels=[0.5], colors="black", linewidths=1)
        zero = neutral_alpha(SAMPLES, BETA)
        if zero[0] <= alpha <= zero[-1]:
            axis.axvline(np.interp(alpha, zero, np.arange(len(SAMPLES))), color="black", lw=1, ls=":")
        axis.set_title(f"α = {alpha:g}", fontsize=10)
        axis.set_xticks([0, 2, 5, 11], ["1", "10", "100", "400"])
        axis.set_yticks([0, 2, 5, 11], ["2", "10", "100", "400"])
    figure.supxlabel("N, samples in each half of a task's data")
    figure.supylabel("M, number of tasks")
    figure.colorbar(shown, ax=axes, label=f"{WINS} {stage} the update", shrink=0.8)
    return figure


def parity(records: pd.DataFrame) -> Figure:
    """Draw our fractions of wins against those of another implementation, cell by cell, and how far apart they are.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``linear.run``.
    """
    rows = rows_of(records, "map")
    trials = round(1 / _step(rows["value"].to_numpy()))
    figure, (cells, scores) = plt.subplots(1, 2, figsize=(10.5, 4.2), layout="constrained")
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
        scores.hist(score[open_cells], bins=40, density=True, color=colour, alpha=0.5, label=label)
    cells.plot([0, 1], [0, 1], color="black", lw=0.8)
    cells.set(xlabel="another implementation, 10,000 trials", ylabel=f"ours, {trials:,} trials", title=WINS)
    cells.legend(frameon=False, markerscale=3)
    scores.plot(z, norm.pdf(z), color="black", lw=1.2, label="standard normal")
    scores.set(
        xlabel="difference (standard errors)", ylabel="density of cells", title="cells that either method can win"
    )
    scores.set_ylim(0, 0.62)
    scores.legend(frameon=False, loc="upper left")
    return figure


def agreement(records: pd.DataFrame) -> Table:
    """Per table: standardised differences over all compared cells and the share within tolerance; replicates' means.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``linear.run``.
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
        Tidy records of ``linear.run``.
    """
    figure, (errors, wins) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    alpha = np.linspace(0.01, 1, 1981)
    rows = rows_of(records, "neutral_wins").groupby(["N", "M"], as_index=False)["value"].mean()
    for N, colour in _shades(FEW):
        errors.plot(alpha, modelling_error(alpha, N, BETA), color=colour, lw=1.8, label=f"N = {N}")
        at = rows[rows["N"] == N]
        wins.plot(at["M"], at["value"], "o-", color=colour, ms=4, lw=1.5, label=f"N = {N}")
    errors.set(xlabel=ALPHA, ylabel="modelling error of DRS\n(half squared error)", yscale="log", ylim=(1e-8, 1))
    errors.set_title("zero at α = 5/(3β(1 + 2/N))")
    wins.axhline(0.5, color="0.35", lw=1, ls=":")
    wins.set(
        xlabel="M, number of tasks",
        ylabel=WINS,
        xscale="log",
        ylim=(0, 0.6),
        title="at exactly that α, after the update",
    )
    errors.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.42, 0.0), fontsize=9)
    wins.legend(frameon=False, ncols=3, loc="lower center", fontsize=9)
    return figure


def errors(records: pd.DataFrame) -> Figure:
    """Draw the mean excess risk after the update against the number of tasks, measured and by the delta method.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``linear.run``.
    """
    rows = rows_of(records, "excess")
    rows = rows[rows["statistic"] == "mean"]
    figure, axes = plt.subplots(1, 4, figsize=(13, 3.9), sharex=True, layout="constrained")
    M = np.geomspace(2, 400, 200)
    for axis, (alpha, N) in zip(axes, ((0.5, 5), (0.5, 25), (0.75, 25), (1.0, 25)), strict=True):
        half, at = curvature(alpha, N, BETA) / 2, variances(alpha, N, BETA)
        gap = modelling_error(alpha, N, BETA)
        for method, (label, colour, marker) in METHODS.items():
            found = rows[(rows["method"] == method) & (rows["alpha"] == alpha) & (rows["N"] == N)]
            axis.plot(found["M"], found["value"], marker, color=colour, ms=5, label=f"{label}, measured")
            floor = gap if method == "drs" else 0.0
            axis.plot(M, floor + half * getattr(at, method) / M, color=colour, lw=1.3, label=f"{label}, delta method")
        axis.axhline(float(gap), color=METHODS["drs"][1], lw=1, ls=":", label="modelling error")
        crossover = float(crossover_tasks(alpha, N, BETA))
        if crossover < 500:
            axis.axvline(crossover, color="0.35", lw=1, ls="--", label="M*")
        axis.set(xscale="log", yscale="log", xlabel="M, number of tasks", title=f"α = {alpha:g}, N = {N}")
    axes[0].set_ylabel(f"mean {LOSS}")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False)
    return figure


def crossings(records: pd.DataFrame) -> Figure:
    """Draw where the mean risks cross in the simulation against the formula.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``linear.run``.
    """
    wide = pd.concat({name: rows_of(records, name).set_index(["alpha", "N"])["value"] for name in BRACKET}, axis=1)
    figure, axis = plt.subplots(figsize=(6.2, 5), layout="constrained")
    ends = np.array([9.0, 500.0])
    axis.fill_between(ends, ends / 1.5, ends * 1.5, color="0.88", lw=0, label="within a factor 1.5")
    axis.plot(ends, ends, color="black", lw=0.9, label="equal")
    for early, colour, label in ((True, COLOURS[1], "M* below 25"), (False, COLOURS[0], "M* from 25 on")):
        part = wide[(wide["M_star"] < 25) == early]
        low, high = part["bracket_low"].clip(lower=5), part["bracket_high"].clip(upper=1000)
        axis.vlines(part["M_star"], low, high, color=colour, lw=2, alpha=0.7, label=label)
    axis.set(xscale="log", yscale="log", xlim=ends, ylim=(5, 1000))
    axis.set(xlabel="M*, delta method (tasks)", ylabel="the mean risks cross between (tasks)")
    axis.legend(frameon=False, loc="lower right")
    return figure


BRACKET = ("M_star", "bracket_low", "bracket_high")
"""What `crossings` draws."""


def averages(records: pd.DataFrame) -> Figure:
    """Draw the mean and the median excess risk of both methods at N = 1.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``linear.run``.
    """
    rows = rows_of(records, "excess")
    rows = rows[rows["N"] == 1]
    figure, axes = plt.subplots(1, 3, figsize=(11.5, 3.8), sharex=True, sharey=True, layout="constrained")
    for axis, alpha in zip(axes, SHOWN[1:], strict=True):
        for method, (label, colour, marker) in METHODS.items():
            for statistic, style in (("mean", "-"), ("median", "--")):
                at = rows[(rows["method"] == method) & (rows["alpha"] == alpha) & (rows["statistic"] == statistic)]
                axis.plot(at["M"], at["value"], marker + style, color=colour, ms=4, label=f"{label}, {statistic}")
        axis.set(xscale="log", yscale="log", xlabel="M, number of tasks", title=f"α = {alpha:g}, N = 1")
    axes[0].set_ylabel(f"{LOSS} after the update")
    axes[0].legend(frameon=False)
    return figure


def similarity(records: pd.DataFrame) -> Figure:
    """Draw M* and the fraction of wins as the tasks become more alike, and where the modelling error is then zero.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``linear.run``.
    """
    figure, (needed, wins, zero) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    at = rows_of(records, "similar_crossover")
    for alpha, colour in _shades((0.25, 0.5, 1.0)):
        rows = at[(at["alpha"] == alpha) & (at["N"] == 10)]
        needed.plot(rows["spread"], rows["value"], "o-", color=colour, ms=4, label=f"α = {alpha:g}")
        zero.axhline(alpha, color=colour, lw=1.5, ls="--", label=f"α = {alpha:g}")
    needed.set(yscale="log", ylabel="M*, tasks that MAML needs", title="mean risk, N = 10")
    rows = rows_of(records, "similar_wins")
    for spread, colour in _shades(sorted(rows["spread"].unique())):
        mean = rows[rows["spread"] == spread].groupby("M")["value"].mean()
        wins.plot(mean.index, mean, "o-", color=colour, ms=4, label=f"spread {spread:g}")
    wins.axhline(0.5, color="0.35", lw=1, ls=":")
    title = f"wins after the update, α = {experiment.SIMILAR['alpha']:g}, N = {experiment.SIMILAR['N']:g}"
    wins.set(xscale="log", xlabel="M, number of tasks", ylabel=WINS, ylim=(0, 1.02), title=title)
    spreads = np.linspace(0.01, 1, 100)
    for N, style in ((5, "-"), (10, "-."), (25, ":")):
        at_zero = [float(neutral_alpha(N, Tasks(BETA, spread=spread))) for spread in spreads.tolist()]
        zero.plot(spreads, at_zero, color="black", ls=style, lw=1.5, label=f"N = {N}")
    zero.set(ylabel=ALPHA, ylim=(0, 1.4), title="where the modelling error is zero")
    for axis in (needed, zero):
        axis.set_xlabel("spread of the tasks (1: the authors')")
    needed.legend(frameon=False)
    wins.legend(frameon=False, fontsize=9)
    zero.legend(frameon=False, ncols=2, loc="upper center", fontsize=9)
    return figure


def asymptotics(records: pd.DataFrame) -> Figure:
    """Draw MAML's mean excess risk over what the delta method gives, against the number of tasks.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``linear.run``.
    """
    rows = rows_of(records, "excess")
    rows = rows[(rows["statistic"] == "mean") & (rows["method"] == "maml")]
    figure, axes = plt.subplots(1, 4, figsize=(13, 3.6), sharex=True, sharey=True, layout="constrained")
    for axis, alpha in zip(axes, SHOWN, strict=True):
        for N, colour in _shades(FEW[1:]):
            at = rows[(rows["alpha"] == alpha) & (rows["N"] == N)]
            formula = curvature(alpha, N, BETA) / 2 * variances(alpha, N, BETA).maml / at["M"]
            axis.plot(at["M"], at["value"] / formula, "o-", color=colour, ms=4, label=f"N = {N}")
        axis.axhline(1, color="black", lw=0.8)
        axis.set(xscale="log", yscale="log", ylim=(0.5, 5), xlabel="M, number of tasks", title=f"α = {alpha:g}")
        axis.set_yticks([0.5, 1, 2, 5], ["0.5", "1", "2", "5"])
        axis.minorticks_off()
    axes[0].set_ylabel("MAML's mean excess risk\n/ delta method")
    axes[0].legend(frameon=False)
    return figure


def optima() -> Figure:
    """Draw what either method aims at, against the step size."""
    figure, axis = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
    alpha = np.linspace(0, 1, 201)
    axis.axhline(optimum_drs(BETA), color="black", lw=1.8, label="DRS")
    for N, colour in _shades(FEW):
        axis.plot(alpha, optimum_maml(alpha, N, BETA), color=colour, lw=1.8, label=f"MAML, N = {N}")
    axis.set(xlabel=ALPHA, ylabel="optimum θ*, unlimited tasks")
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1))
    return figure


def smoothness(records: pd.DataFrame) -> Figure:
    """Draw the ratio of both sides of the smoothness bound.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``linear.run``.
    """
    rows = rows_of(records, "bound_ratio")
    figure, axis = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
    for (risks, of_risks), colour in zip(rows.groupby("case", sort=False), COLOURS, strict=False):
        for statistic, style in (("largest", "o-"), ("median", "o:")):
            at = of_risks[of_risks["statistic"] == statistic]
            axis.plot(at["alpha_L"], at["value"], style, color=colour, ms=5, label=f"{risks}, {statistic}")
    axis.axhline(1, color="black", lw=1)
    axis.set(xscale="log", xlabel="step size × smoothness, αL", ylabel="|∇F_maml − ∇F_drs| / bound", ylim=(0, 1.08))
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1))
    return figure


def _step(values: np.typing.NDArray[np.float64]) -> float:
    """Smallest distance of different values: one trial in all of them."""
    return float(np.diff(np.unique(values.round(9))).min())


def _shades(levels: tuple[float, ...] | list[float]) -> list[tuple[float, tuple[float, float, float]]]:
    """Levels of an ordered quantity with colours from dark to light that remain readable on white."""
    return list(zip(levels, sns.color_palette("viridis", len(levels) + 1)[:-1], strict=True))
