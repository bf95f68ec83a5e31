"""Figures of the discretization notebook, from its tidy records."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replication.adcm.experiments import discretization as experiment
from replication.adcm.gaussian import Exact, Gaussian
from replication.adcm.schedules import VE, FlowMatching, Schedule
from replication.evidence import rows_of

COLOURS = sns.color_palette("colorblind")
GREY = "0.35"
MODELS: dict[Exact, str] = {"denoiser": "exact denoiser (where training starts)", "map": "exact consistency map"}
METHODS = {
    "adaptive, exact map": (COLOURS[3], "-", 2.4),
    "adaptive, denoiser": (COLOURS[0], "-", 2.4),
    "log grid": ("black", ":", 1.4),
    "iCT, last stage": (COLOURS[2], "-", 1.4),
    "ECM, q = 256": (COLOURS[1], "-", 1.4),
    "ECM, q = 2, fourth stage": (COLOURS[4], "-", 1.4),
    "ECM, q = 2, first stage": (COLOURS[5], "-", 1.4),
}
"""Colour, line and width of every discretisation."""
NAMES = {"VE": "variance exploding", "FM": "flow matching"}
RATIO = "noise over data τ = β/α"


def optimality(records: pd.DataFrame) -> Figure:
    """Draw how far the Gauss-Newton step is from the minimum of the objective that is not linearised, by lambda.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``discretization.run``.
    """
    rows = records[records["quantity"] == "step_from_true"]
    figure, axis = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
    for t, colour in zip(sorted(rows["t"].unique()), COLOURS, strict=False):
        at = rows[rows["t"] == t]
        axis.plot(at["lam"], 100 * at["value"], "o", color=colour, alpha=0.7, label=f"t = {t:g}")
    axis.axhline(2.5, color=GREY, lw=1, ls=":", label="allowed where λ ≤ 0.01")
    axis.set(xscale="log", yscale="log", xlabel="λ", ylabel="step off the true minimum (%)")
    axis.legend(frameon=False)
    return figure


def rates(records: pd.DataFrame) -> Figure:
    """Draw R(t) of denoiser and map on both schedules: closed forms of Gaussian data, and estimates.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``discretization.run``.
    """
    rows = records[(records["quantity"] == "rate") & (records["data"] == "gaussian")]
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    data = Gaussian([experiment.STD])
    ranges: dict[str, tuple[Schedule, np.ndarray]] = {
        "VE": (VE(), np.geomspace(0.005, 20, 200)),
        "FM": (FlowMatching(), np.linspace(0.003, 0.995, 400)),
    }
    for axis, (name, (schedule, t)) in zip(axes, ranges.items(), strict=True):
        for (of, label), colour in zip(MODELS.items(), (COLOURS[0], COLOURS[3]), strict=True):
            axis.plot(t, data.rate(torch.from_numpy(t), schedule, of), color=colour, lw=1.8, label=label)
            at = rows[(rows["schedule"] == name) & (rows["model"] == of)]
            axis.plot(at["t"], at["value"], "o", color=colour, mfc="white", ms=6)
        axis.set(title=NAMES[name], xlabel="t", ylabel="R(t) = Δt / κ", yscale="log")
    axes[0].set(xscale="log")
    axes[0].legend(frameon=False, loc="upper left")
    return figure


def steps(records: pd.DataFrame) -> Figure:
    """Draw the time step of every discretisation over t, on both schedules.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``discretization.run``.
    """
    figure, axes = plt.subplots(1, 2, figsize=(12, 4.8), layout="constrained")
    for axis, name in zip(axes, NAMES, strict=True):
        _curves(axis, records, "step", "t", name)
        axis.set(title=NAMES[name], xlabel="t", ylabel="step Δt", xscale="log", yscale="log")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def shares(records: pd.DataFrame) -> Figure:
    """Draw the relative step in tau: of both schedules on one axis, and of the hand-made rules that were not rewritten.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``discretization.run``.
    """
    figure, (both, naive) = plt.subplots(1, 2, figsize=(12, 4.8), sharey=True, layout="constrained")
    _curves(both, records, "share", "tau", "VE")
    rows = rows_of(records, "share", schedule="FM")
    for method in ("adaptive, exact map", "adaptive, denoiser"):
        at = rows[rows["method"] == method]
        both.plot(at["tau"][::6], at["value"][::6], "o", color=METHODS[method][0], mfc="white", ms=5)
    both.plot([], [], "o", color=GREY, mfc="white", ms=5, label="adaptive, on flow matching")
    both.set(title="in τ the schedules agree")
    for method in [*METHODS][3:]:
        at = rows[rows["method"] == f"{method}, naive in t"]
        colour, _, width = METHODS[method]
        naive.plot(at["tau"], at["value"], color=colour, lw=width)
        at = rows_of(records, "share", schedule="VE", method=method)
        naive.plot(at["tau"], at["value"], color=colour, lw=width, ls="--", alpha=0.5)
    naive.plot([], [], color=GREY, lw=1.4, label="flow matching, rule taken naively in t")
    naive.plot([], [], color=GREY, lw=1.4, ls="--", label="rewritten in τ (as on VE)")
    naive.set(title="hand-made rules, not rewritten for flow matching")
    naive.legend(frameon=False, loc="lower left")
    for axis in (both, naive):
        axis.set(xscale="log", yscale="log", xlabel=RATIO, ylim=(1e-3, 1.5))
    both.set(ylabel="relative step Δτ / τ")
    figure.legend(*both.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def adaptivity(records: pd.DataFrame) -> Figure:
    """Draw R_tau / tau over tau on the mixture: a horizontal line would be a logarithmic grid.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``discretization.run``.
    """
    figure, axes = plt.subplots(1, 2, figsize=(11, 3.8), sharey=True, layout="constrained")
    for axis, name in zip(axes, NAMES, strict=True):
        for (of, label), colour in zip(MODELS.items(), (COLOURS[0], COLOURS[3]), strict=True):
            rows = rows_of(records, "relative_rate", data="mixture", schedule=name, model=of)
            for seed, at in rows.groupby("seed"):
                axis.plot(at["tau"], at["value"], color=colour, lw=1.1, alpha=0.7, label=label if seed == 0 else None)
        axis.axhline(1, color="black", lw=1, ls=":", label="a logarithmic grid")
        axis.set(title=NAMES[name], xscale="log", yscale="log", xlabel=RATIO)
    axes[0].set(ylabel="step over that of the\nlogarithmic grid, R / τ")
    axes[0].legend(frameon=False)
    return figure


def consistency(records: pd.DataFrame) -> Figure:
    """Draw global consistency of the denoiser and its parts, and local consistency, by tau.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``discretization.run``.
    """
    parts = {
        "global": ("E‖f − x₀‖² of the denoiser", COLOURS[0], "-"),
        "floor": ("E‖f* − x₀‖²: that of the perfect map", COLOURS[3], "-"),
        "model_error": ("E‖f − f*‖²: error of the denoiser as a map", COLOURS[1], "--"),
    }
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
    for axis, name in zip(axes, ("gaussian", "mixture"), strict=False):
        for quantity, (label, colour, style) in parts.items():
            mean = rows_of(records, quantity, data=name).groupby("tau")["value"].mean()
            axis.plot(mean.index, mean, style, marker="o", ms=4, color=colour, lw=1.8, label=label)
        axis.set(title=f"global, {name} data", xscale="log", yscale="log", xlabel=RATIO)
    axes[0].set(ylabel="squared distance")
    for of, colour in zip(MODELS, (COLOURS[0], COLOURS[3]), strict=True):
        mean = rows_of(records, "local", data="mixture", model=of).groupby("tau")["value"].mean()
        axes[2].plot(mean.index, mean, marker="o", ms=4, color=colour, lw=1.8, label=f"local, {MODELS[of]}")
    axes[2].set(title="local, one step of the log grid, mixture", xscale="log", yscale="log", xlabel=RATIO)
    handles = [part for axis in (axes[0], axes[2]) for part in axis.get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    return figure


def lengths(records: pd.DataFrame) -> Figure:
    """Draw the number of segments with exact rates, by lambda.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``discretization.run``.
    """
    rows = records[records["quantity"] == "segments"]
    figure, axis = plt.subplots(figsize=(9, 4.2), layout="constrained")
    markers = ("o", "X", "s", "D", "^")
    for (case, at), colour, marker in zip(rows.groupby("case", sort=False), COLOURS, markers, strict=False):
        axis.plot(at["lam"], at["value"], marker=marker, ms=6, color=colour, lw=1.2, alpha=0.85, label=case)
    axis.set(xscale="log", yscale="log", xlabel="λ", ylabel="segments N")
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def noise(records: pd.DataFrame) -> Figure:
    """Draw the signal-to-noise ratio of the step's numerator over mini-batches, by t, dimension and batch.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``discretization.run``.
    """
    rows = records[records["quantity"] == "ratio_by_time"]
    figure, axis = plt.subplots(figsize=(9.5, 4), layout="constrained")
    shapes = rows[["dimension", "batch"]].drop_duplicates().astype(int).to_numpy().tolist()
    for (dimension, batch), colour in zip(shapes, COLOURS, strict=False):
        of_shape = rows[(rows["dimension"] == dimension) & (rows["batch"] == batch)]
        for pairs, style in (("plain", "-"), ("antithetic", "--")):
            mean = of_shape[of_shape["pairs"] == pairs].groupby("t")["value"].mean()
            label = f"d = {dimension}, B = {batch}" if pairs == "plain" else None
            axis.plot(mean.index, mean, style, color=colour, lw=1.8, label=label)
    exact = records[records["quantity"] == "exact_ratio_by_time"]
    axis.plot(exact["t"], exact["value"], color="black", lw=1.8, label="d = 3072, B = 128, spectrum of images")
    axis.plot([], [], "--", color=GREY, lw=1.8, label="with antithetic pairs (twice the cost)")
    axis.axhline(3, color=GREY, lw=1, ls=":", label="threshold of the tests")
    axis.set(xscale="log", yscale="log", xlabel="t", ylabel="mean / standard deviation\nof E[v·e] over mini-batches")
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _curves(axis: Axes, records: pd.DataFrame, quantity: str, x: str, schedule: str) -> None:
    rows = rows_of(records, quantity, schedule=schedule)
    for method, (colour, style, width) in METHODS.items():
        at = rows[rows["method"] == method]
        axis.plot(at[x], at["value"], style, color=colour, lw=width, label=method)
