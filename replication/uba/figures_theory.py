"""Figures of the theory notebook; each answers one question and takes the tidy records of its experiment."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from replication.evidence import rows_of
from replication.uba import theory
from replication.uba.baselines import factors
from replication.uba.experiments.theory import STABILITY
from replication.uba.schedule import uba

PHIS = (0.1, 0.5, 1, 2, 5, 20)
BASELINES = {"linear": "linear", "rex": "REX", "step": "step", "onecycle": "one-cycle"}
STYLES = ("--", ":", "-.", (0, (1, 1)))


def shapes(phis: tuple[float, ...] = PHIS, steps: int = 400) -> Figure:
    """Draw the schedule for several phi beside the usual schedules, and the mean rate over phi.

    Parameters
    ----------
    phis : tuple of float
        Shapes to draw.
    steps : int
        Budget of the tabulated schedules.
    """
    figure, (curves, means) = plt.subplots(1, 2, figsize=(11, 4), width_ratios=(1.5, 1), layout="constrained")
    t = np.arange(steps)
    for phi, colour in zip(phis, sns.color_palette("viridis", len(phis)), strict=True):
        label = f"φ = {phi:g}" + (" (cosine)" if phi == 2 else "")
        curves.plot(t / steps, uba(t, steps, phi), color=colour, lw=2, label=label)
    for (name, label), style in zip(BASELINES.items(), STYLES, strict=True):
        curves.plot(t / steps, factors(name, steps), color="0.35", ls=style, lw=1.2, label=label)
    curves.set(xlabel="share of the budget, t/T", ylabel="learning rate / peak")
    curves.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    grid = np.geomspace(0.02, 200, 200)
    means.plot(grid, theory.mean_factor(grid), color="0.35", lw=1.2, label=r"$1/(1+\sqrt{\varphi/2})$")
    measured = np.geomspace(0.05, 100, 12)
    table = uba(t, steps, measured[:, None])
    means.plot(measured, np.asarray(table).mean(axis=1), "o", color="C0", ms=5, label=f"mean over {steps} steps")
    means.axvline(2, color="0.7", lw=0.8, ls=":")
    means.set(xscale="log", xlabel="φ", ylabel="mean learning rate / peak", ylim=(0, 1))
    means.legend(frameon=False)
    return figure


def min_max(records: pd.DataFrame) -> Figure:
    """Draw how far the worst-case contraction is above the Chebyshev bound, over phi / (2 kappa).

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``theory.run``.
    """
    rows = rows_of(records, "excess_log_contraction")
    steps = sorted(rows["steps"].unique())
    figure, axes = plt.subplots(
        1, len(steps), figsize=(4.6 * len(steps) + 1, 3.8), sharey=True, squeeze=False, layout="constrained"
    )
    kappas = sorted(rows["kappa"].unique())
    for axis, count in zip(axes[0], steps, strict=True):
        for kappa, colour in zip(kappas, sns.color_palette("viridis", len(kappas)), strict=True):
            part = rows[(rows["steps"] == count) & (rows["kappa"] == kappa)]
            axis.plot(part["phi_over_2kappa"], part["value"], color=colour, lw=1.8, label=f"κ = {kappa:g}")
        axis.axvline(1, color="0.6", lw=0.8, ls=":")
        axis.axhline(0, color="0.35", lw=1, ls="--", label="Chebyshev bound")
        axis.set(xscale="log", xlabel="φ / (2κ)", title=f"{count:g} steps")
        axis.set_xticks([0.5, 0.7, 1, 1.4, 2], ["0.5", "0.7", "1", "1.4", "2"])
        axis.minorticks_off()
    axes[0, 0].set_ylabel("ln(worst contraction) − ln(bound)")
    axes[0, -1].legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    return figure


def kappa(records: pd.DataFrame) -> Figure:
    """Draw both sides of the link between phi and kappa: the min-max problem, and the best phi of noisy descent.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``theory.run``.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    rows = rows_of(records, "excess_log_contraction")
    rows = rows[rows["steps"] == rows["steps"].max()]
    kappas = sorted(rows["kappa"].unique())
    for value, colour in zip(kappas, sns.color_palette("viridis", len(kappas)), strict=True):
        part = rows[rows["kappa"] == value]
        left.plot(part["phi_over_2kappa"], part["value"], color=colour, lw=1.8, label=f"κ = {value:g}")
    left.axvline(1, color="0.6", lw=0.8, ls=":")
    left.set(xscale="log", xlabel="φ / (2κ)", ylabel="ln(worst contraction) − ln(bound)")
    left.set(title="Min-max problem: where is φ best?")
    left.set_xticks([0.5, 0.7, 1, 1.4, 2], ["0.5", "0.7", "1", "1.4", "2"])
    left.minorticks_off()
    left.legend(frameon=False)
    best = rows_of(records, "best_phi")
    noises = sorted(best["noise"].unique())
    colours = dict(zip(noises, sns.color_palette("colorblind", len(noises)), strict=True))
    for problem, style in (("quadratic", "-"), ("logistic", "--")):
        part = best[best["problem"] == problem]
        for noise in sorted(part["noise"].unique()):
            colour = colours[noise]
            line = np.exp(np.log(part[part["noise"] == noise].set_index("kappa")["value"]).groupby(level=0).mean())
            right.plot(line.index, line, "o", ls=style, ms=4, color=colour, lw=1.6, label=f"{problem}, s² = {noise:g}")
    grid = np.array(sorted(best["kappa"].unique()), dtype=float)
    right.plot(grid, 2 * grid, color="0.35", lw=1.2, ls=":", label="φ = 2κ")
    right.set(xscale="log", yscale="log", xlabel="condition number κ", ylabel="best φ, geometric mean over budgets")
    right.set(title="Noisy descent, peak tuned: does it grow?", ylim=(best["value"].min() / 2, 2 * best["value"].max()))
    right.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    return figure


def step_order(records: pd.DataFrame) -> Figure:
    """Draw the error of gradient descent with the min-max steps in three orders.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``theory.run``.
    """
    rows = rows_of(records, "error")
    figure, axis = plt.subplots(figsize=(7.5, 3.8), layout="constrained")
    names = {
        "decreasing": "decreasing, as scheduled",
        "increasing": "increasing",
        "fractal": "fractal (Lebedev–Finogenov)",
    }
    for (name, label), style in zip(names.items(), ("-", "--", "-"), strict=True):
        part = rows[rows["order"] == name]
        colour = sns.color_palette("colorblind")[list(names).index(name)]
        axis.plot(part["step"], part["value"], color=colour, ls=style, lw=1.8, label=label)
    kappa, steps = rows["kappa"].iloc[0], int(rows["step"].max())
    bound = theory.chebyshev_bound(1 / kappa, 1.0, steps)
    axis.axhline(bound, color="0.35", lw=1, ls=":", label="bound for exact arithmetic")
    axis.set(yscale="log", xlabel="step", ylabel="‖error‖ / ‖initial error‖", title=f"κ = {kappa:g}, {steps} steps")
    axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    return figure


def last_iterate(records: pd.DataFrame) -> Figure:
    """Draw the convex last-iterate bound over phi, beside those of other schedules.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``theory.run``.
    """
    rows = rows_of(records, "last_iterate_bound")
    budget = rows["budget"].max()
    rows = rows[rows["budget"] == budget]
    figure, axis = plt.subplots(figsize=(7, 3.8), layout="constrained")
    curve = rows[rows["schedule"] == "uba"].sort_values("phi")
    axis.plot(curve["phi"], curve["value"], color="C0", lw=2, label="UBA")
    others = {"linear": "linear", "rex": "REX", "step": "step, ×0.1 at 50 % and 75 %"}
    for (name, label), style in zip(others.items(), ("--", ":", "-."), strict=True):
        value = rows.loc[rows["schedule"] == name, "value"].item()
        axis.axhline(value, color="0.35", ls=style, lw=1.3, label=label)
    best = curve.loc[curve["value"].idxmin()]
    axis.plot(best["phi"], best["value"], "o", color="C0", label="UBA at its best φ")
    axis.set(xscale="log", xlabel="φ", ylabel=r"bound, in units of $DG/\sqrt{T}$", title=f"T = {budget:g}, peak tuned")
    axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    return figure


def best_phi(records: pd.DataFrame, problem: str) -> Figure:
    """Map the best phi over condition number, budget and noise; in brackets its loss relative to tuned cosine.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``theory.run``.
    problem : {"quadratic", "logistic"}
        Which problem.
    """
    records = records[records["problem"] == problem]
    rows, losses = rows_of(records, "best_phi"), rows_of(records, "loss_over_cosine")
    noises = sorted(rows["noise"].unique())
    figure, axes = plt.subplots(
        1, len(noises), figsize=(1.2 + 4.1 * len(noises), 2.8), squeeze=False, layout="constrained"
    )
    phis = rows_of(records, "loss_over_cosine")["phi"]
    norm = LogNorm(float(phis.min()), float(phis.max()))
    for axis, noise in zip(axes[0], noises, strict=True):
        grid = rows[rows["noise"] == noise].pivot_table(index="budget", columns="kappa", values="value")
        gain = losses[losses["noise"] == noise].pivot_table(
            index="budget", columns="kappa", values="value", aggfunc="min"
        )
        text = np.array(
            [
                [f"{phi:g}\n({gain.loc[row, column]:.2f})" for column, phi in line.items()]
                for row, line in grid.iterrows()
            ]
        )
        sns.heatmap(
            grid,
            ax=axis,
            annot=text,
            fmt="",
            norm=norm,
            cmap="cividis",
            cbar=False,
            linewidths=0.5,
            annot_kws={"size": 8.5},
        )
        axis.set(xlabel="condition number κ", ylabel="", title=f"noise s² = {noise:g}")
        axis.set_xticklabels([f"{kappa:g}" for kappa in grid.columns])
        axis.set_yticklabels([f"{budget:g}" for budget in grid.index], rotation=0)
    axes[0, 0].set_ylabel("budget T, steps")
    figure.colorbar(plt.cm.ScalarMappable(norm, "cividis"), ax=axes[0].tolist(), label="best φ", pad=0.01)
    return figure


def capped(records: pd.DataFrame) -> Figure:
    """Draw the best phi of the min-max problem when the peak may not exceed a cap.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``theory.run``.
    """
    rows = rows_of(records, "best_phi_capped")
    figure, axis = plt.subplots(figsize=(6.5, 4), layout="constrained")
    kappas = sorted(rows["kappa"].unique())
    for kappa, colour, marker in zip(kappas, sns.color_palette("viridis", len(kappas)), "osD^vP*X", strict=False):
        part = rows[rows["kappa"] == kappa].sort_values("peak")
        axis.plot(part["peak"], part["value"], marker=marker, color=colour, lw=1.8, label=f"best φ, κ = {kappa:g}")
        axis.plot(
            kappa, 2 * kappa, marker=marker, ms=12, mfc="none", mec=colour, ls="", label=f"φ = 2κ = {2 * kappa:g}"
        )
    axis.axvspan(rows["peak"].min() * 0.8, STABILITY, color="0.9", zorder=0, label="stable at every step")
    axis.set(
        xscale="log", yscale="log", xlabel="largest peak allowed, in units of 1/λᵤ", ylabel="φ of least contraction"
    )
    axis.set_xlim(left=rows["peak"].min() * 0.8)
    axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    return figure


def noise_sweep(records: pd.DataFrame) -> Figure:
    """Draw the rank correlation of the best phi with kappa over the noise level, one line per budget.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``theory.run``.
    """
    rows = rows_of(records, "kappa_rank_correlation")
    figure, axis = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
    budgets = sorted(rows["budget"].unique())
    for budget, colour, marker in zip(budgets, sns.color_palette("colorblind", len(budgets)), "osD^vP*X", strict=False):
        line = rows[rows["budget"] == budget].sort_values("noise")
        axis.plot(line["noise"], line["value"], marker=marker, color=colour, lw=1.8, label=f"T = {budget:g}")
    axis.axhline(0, color="0.35", lw=1)
    axis.set(xscale="log", xlabel="noise level s²", ylabel="rank correlation of best φ with κ", ylim=(-1.05, 1.05))
    axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    return figure


def stationarity(records: pd.DataFrame) -> Figure:
    """Draw the least squared gradient over the budget for every phi, and its largest share of the bound.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``theory.run``.
    """
    gradients, ratios = rows_of(records, "min_gradient"), rows_of(records, "gradient_over_bound")
    phis = sorted(gradients["phi"].unique())
    colours = sns.color_palette("viridis", len(phis))
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    for axis, problem in zip(axes, ("quadratic", "logistic"), strict=False):
        rows = gradients[gradients["problem"] == problem]
        for phi, colour in zip(phis, colours, strict=True):
            logs = np.log(rows[rows["phi"] == phi].set_index("budget")["value"])
            mean = np.exp(logs.groupby(level=0).mean())
            axis.plot(mean.index, mean, "o-", ms=4, color=colour, lw=1.5, label=f"φ = {phi:g}")
        budgets = np.array(sorted(rows["budget"].unique()), dtype=float)
        top = np.exp(np.log(rows[rows["budget"] == budgets[0]]["value"]).mean()) * 3
        axis.plot(
            budgets, top * np.sqrt(budgets[0] / budgets), color="0.35", ls="--", lw=1.2, label=r"slope of $T^{-1/2}$"
        )
        axis.set(
            title=f"{problem}, peak 1/(L√T)", ylabel="min E‖∇f‖², mean over κ and noise" if axis is axes[0] else ""
        )
        _log_budgets(axis, budgets)
    shares = axes[2]
    for problem, style in (("quadratic", "-"), ("logistic", "--")):
        for phi, colour in zip(phis, colours, strict=True):
            part = ratios[(ratios["problem"] == problem) & (ratios["phi"] == phi)].groupby("budget")["value"].max()
            shares.plot(part.index, part, style, marker="o", ms=4, color=colour, lw=1.5)
        shares.plot([], [], style, color="0.35", label=problem)
    shares.axhline(1, color="black", lw=1)
    shares.set(title="largest share of the bound", ylabel="min E‖∇f‖² / bound", ylim=(ratios["value"].min() / 2, 1.4))
    _log_budgets(shares, np.array(sorted(ratios["budget"].unique()), dtype=float))
    handles = [*axes[0].get_legend_handles_labels()[0], *shares.get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside right upper", frameon=False)
    return figure


def _log_budgets(axis: Axes, budgets: np.typing.NDArray[np.float64]) -> None:
    axis.set(xscale="log", yscale="log", xlabel="budget T, steps")
    axis.set_xticks(budgets, [f"{budget:g}" for budget in budgets])
    axis.minorticks_off()
