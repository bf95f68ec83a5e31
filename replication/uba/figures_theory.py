"""Figures of the theory notebook; each answers one question from the tidy records of ``experiments.theory.run``."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from replication.uba.baselines import factors
from replication.uba.schedule import uba
from replication.uba.theory import mean_factor

STEPS = 400


def _of(records: pd.DataFrame, quantity: str) -> pd.DataFrame:
    return records[records["quantity"] == quantity]


def shapes(phis: Sequence[float] = (0.1, 0.5, 1, 2, 5, 20)) -> Figure:
    """Draw UBA for several φ beside other schedules; at the right, its mean rate over φ against the formula."""
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(10.5, 3.8), layout="constrained", gridspec_kw={"width_ratios": [2, 1]}
    )
    share = np.arange(STEPS) / STEPS
    for phi, colour in zip(phis, sns.color_palette("viridis", len(phis)), strict=True):
        left.plot(share, uba(np.arange(STEPS), STEPS, phi), color=colour, lw=2, label=f"UBA, φ = {phi:g}")
    others = {"linear": "linear", "rex": "REX", "step": "step", "onecycle": "one-cycle"}
    for (name, label), dashes in zip(others.items(), ("--", ":", "-.", (0, (1, 3))), strict=True):
        left.plot(share, factors(name, STEPS), color="0.25", ls=dashes, lw=1.2, label=label)
    left.set_xlabel("share of the budget t / T")
    left.set_ylabel("learning rate / peak")
    left.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9)
    grid = np.geomspace(0.05, 50, 60)
    dots = np.geomspace(0.05, 50, 13)
    measured = [float(np.mean(uba(np.arange(4000) + 0.5, 4000, phi))) for phi in dots]
    right.plot(grid, mean_factor(grid), color="0.25", lw=1.2, label="1 / (1 + √(φ/2))")
    right.plot(dots, measured, "o", ms=4, color=sns.color_palette("colorblind")[0], label="mean of the schedule")
    right.set_xscale("log")
    right.set_xlabel("φ")
    right.set_ylabel("mean rate / peak")
    right.legend(frameon=False, fontsize=9)
    return figure


def contraction(records: pd.DataFrame) -> Figure:
    """Draw how far the worst-case contraction lies above the Chebyshev bound, over φ/(2κ), one panel per T."""
    rows = _of(records, "excess_log_contraction")
    counts = sorted(rows["steps"].unique())
    figure, axes = plt.subplots(1, len(counts), figsize=(4.6 * len(counts), 3.5), squeeze=False, layout="constrained")
    kappas = sorted(rows["kappa"].unique())
    for axis, steps in zip(axes[0], counts, strict=True):
        for kappa, colour in zip(kappas, sns.color_palette("viridis", len(kappas)), strict=True):
            line = rows[(rows["kappa"] == kappa) & (rows["steps"] == steps)].sort_values("phi_over_2kappa")
            axis.plot(line["phi_over_2kappa"], line["value"], color=colour, label=f"κ = {kappa:g}")
        axis.axvline(1, color="0.5", lw=0.8, ls=":")
        axis.set_xscale("log")
        axis.set_xticks([0.5, 0.7, 1, 1.4, 2], ["0.5", "0.7", "1", "1.4", "2"])
        axis.minorticks_off()
        axis.set_yscale("symlog", linthresh=0.1)
        axis.set_ylim(bottom=0)
        axis.set_title(f"T = {steps:g} steps")
        axis.set_xlabel("φ / (2κ)")
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("log worst case − log bound")
    axes[0, -1].legend(frameon=False, fontsize=9)
    return figure


def order(records: pd.DataFrame) -> Figure:
    """Draw the error of gradient descent with the min-max steps in three orders, in double precision."""
    rows = _of(records, "error")
    figure, axis = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    for (name, line), colour in zip(rows.groupby("order"), sns.color_palette("colorblind"), strict=False):
        axis.plot(line["step"], line["value"], color=colour, label=f"{name} order")
    axis.set_yscale("log")
    axis.set_xlabel("step")
    axis.set_ylabel("‖error‖ / ‖initial error‖")
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    return figure


def last_iterate(records: pd.DataFrame) -> Figure:
    """Draw the convex last-iterate bound of UBA over φ and of other schedules, at the largest budget."""
    rows = _of(records, "last_iterate_bound")
    rows = rows[rows["budget"] == rows["budget"].max()]
    figure, axis = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    colours = sns.color_palette("colorblind")
    ours = rows[rows["schedule"] == "uba"].sort_values("phi")
    axis.plot(ours["phi"], ours["value"], color=colours[0], lw=2, label="UBA")
    for name, colour, dashes in zip(("linear", "rex", "step"), colours[1:], ("--", ":", "-."), strict=False):
        value = float(rows.loc[rows["schedule"] == name, "value"].iloc[0])
        axis.axhline(value, color=colour, ls=dashes, label={"rex": "REX"}.get(name, name))
    axis.set_xscale("log")
    axis.set_xticks([0.05, 0.2, 1, 2, 10], ["0.05", "0.2", "1", "2 (cosine)", "10"])
    axis.minorticks_off()
    axis.set_xlabel("φ")
    axis.set_ylabel("bound · √T / (D G), peak tuned")
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    return figure


def best_phi(records: pd.DataFrame) -> Figure:
    """Map the best φ over κ and budget, one panel per problem and noise level."""
    rows = _of(records, "best_phi")
    groups = list(rows.groupby(["problem", "noise"], sort=False))
    columns = 3
    lines = -(-len(groups) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(11, 2.5 * lines), squeeze=False, layout="constrained")
    limits = np.log10([rows["value"].min(), rows["value"].max()])
    for axis, ((problem, noise), part) in zip(axes.flat, groups, strict=False):
        table = part.pivot_table(index="budget", columns="kappa", values="value").sort_index(ascending=False)
        sns.heatmap(
            np.log10(table), annot=table.map("{:g}".format), fmt="", cmap="viridis", vmin=limits[0], vmax=limits[1],
            cbar=False, ax=axis, annot_kws={"fontsize": 9}, linewidths=0.5,
        )  # fmt: skip
        axis.set_title(f"{problem}, noise {noise:g}")
        axis.set_xticklabels([f"{kappa:g}" for kappa in table.columns], rotation=0)
        axis.set_yticklabels([f"{budget:g}" for budget in table.index], rotation=0)
        axis.set_xlabel("condition number κ")
        axis.set_ylabel("budget T (steps)")
    for axis in axes.flat[len(groups) :]:
        axis.set_visible(False)
    return figure


def capped(records: pd.DataFrame) -> Figure:
    """Draw the φ that is best for the min-max problem when the peak is capped below the theory's 1/λ_min."""
    rows = _of(records, "best_phi_capped")
    figure, axis = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    kappas = sorted(rows["kappa"].unique())
    for kappa, colour in zip(kappas, sns.color_palette("viridis", len(kappas)), strict=True):
        line = rows[rows["kappa"] == kappa].sort_values("peak")
        axis.plot(line["peak"], line["value"] / (2 * kappa), "o-", ms=4, color=colour, label=f"κ = {kappa:g}")
    axis.axvline(2, color="0.5", lw=0.8, ls=":")
    axis.axhline(1, color="0.5", lw=0.8, ls="--")
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("largest step allowed, in units of 1/λ_max (dotted: limit of stability)")
    axis.set_ylabel("best φ / (2κ)")
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    return figure


def stationarity(records: pd.DataFrame) -> Figure:
    """Draw the measured least squared gradient relative to the bound, over the budget, one line per φ."""
    rows = _of(records, "gradient_over_bound")
    problems = list(rows.groupby("problem", sort=False))
    figure, axes = plt.subplots(
        1, len(problems), figsize=(4.6 * len(problems), 3.4), squeeze=False, sharey=True, layout="constrained"
    )
    phis = sorted(rows["phi"].unique())
    for axis, (problem, part) in zip(axes[0], problems, strict=True):
        for phi, colour in zip(phis, sns.color_palette("viridis", len(phis)), strict=True):
            line = part[part["phi"] == phi].sort_values("budget")
            axis.plot(line["budget"], line["value"], "o-", ms=4, color=colour, label=f"φ = {phi:g}")
        axis.axhline(1, color="0.3", lw=0.8, ls="--")
        axis.set_xscale("log", base=4)
        budgets = sorted(part["budget"].unique())
        axis.set_xticks(budgets, [f"{budget:g}" for budget in budgets])
        axis.set_yscale("log")
        axis.set_title(str(problem))
        axis.set_xlabel("budget T (steps)")
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("min E‖gradient‖² / bound")
    axes[0, -1].legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
