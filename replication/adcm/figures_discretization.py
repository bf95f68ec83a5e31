"""Figures of the discretization notebook; each answers one question and takes the tidy records of its experiment."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from replication.adcm.experiments import discretization as experiment
from replication.adcm.gaussian import Exact, Gaussian
from replication.adcm.schedules import VE, FlowMatching, Schedule
from replication.evidence import plots, rows_of

MODELS: dict[str, str] = {"denoiser": "exact denoiser (where training starts)", "map": "exact consistency map"}
OF_MODEL: dict[str, plots.Look] = {of: {"color": plots.COLOURS[i]} for of, i in zip(MODELS, (0, 3), strict=True)}
METHODS: dict[str, plots.Look] = {
    "adaptive, exact map": {"color": plots.COLOURS[3], "lw": 2.2},
    "adaptive, denoiser": {"color": plots.COLOURS[0], "lw": 2.2},
    "log grid": {"color": "black", "ls": ":"},
    "iCT, last stage": {"color": plots.COLOURS[2], "ls": "-."},
    "ECM, q = 256": {"color": plots.COLOURS[1], "ls": "--"},
    "ECM, q = 2, fourth stage": {"color": plots.COLOURS[4]},
    "ECM, q = 2, first stage": {"color": plots.COLOURS[5]},
}
"""How every discretisation is drawn."""
NAMES = {"VE": "variance exploding", "FM": "flow matching"}
RATIO = "noise over data τ = β/α"


def optimality(records: pd.DataFrame) -> Figure:
    """Draw how far the Gauss-Newton step is from the minimum of the objective that is not linearised, by lambda."""
    rows = rows_of(records, "step_from_true")
    figure, (axis,) = plots.panels(xlabel="λ", ylabel="step off the true minimum (%)", log="xy")
    for t, look in plots.distinct(sorted(rows["t"].unique())).items():
        at = rows[rows["t"] == t]
        axis.plot(at["lam"], 100 * at["value"], **{**look, "ls": ""}, ms=5, alpha=0.7, label=f"t = {t:g}")
    axis.axhline(2.5, **plots.DOTTED, label="allowed where λ ≤ 0.01")
    return plots.legend(figure)


def rates(records: pd.DataFrame) -> Figure:
    """Draw R(t) of denoiser and map on both schedules: closed forms of Gaussian data, and estimates."""
    figure, axes = plots.panels([*NAMES.values()], xlabel="t", ylabel="R(t) = Δt / κ")
    data = Gaussian([experiment.STD])
    ranges: dict[str, tuple[Schedule, np.ndarray]] = {
        "VE": (VE(), np.geomspace(0.005, 20, 200)),
        "FM": (FlowMatching(), np.linspace(0.003, 0.995, 400)),
    }
    for axis, (name, (schedule, t)) in zip(axes, ranges.items(), strict=True):
        exact = {of: pd.Series(np.asarray(data.rate(torch.from_numpy(t), schedule, of)), t) for of in get_args(Exact)}
        plots.curves(axis, exact, OF_MODEL, label=MODELS.__getitem__)
        for of, look in OF_MODEL.items():
            at = rows_of(records, "rate", data="gaussian", schedule=name, model=of)
            axis.plot(at["t"], at["value"], "o", **look, mfc="white", ms=5, label=f"estimates: {MODELS[of]}")
        plots.log_ticks(axis, "xy" if name == "VE" else "y")
    return plots.legend(figure)


def steps(records: pd.DataFrame) -> Figure:
    """Draw the time step of every discretisation over t, on both schedules."""
    figure, axes = plots.panels([*NAMES.values()], height=3.4, xlabel="t", ylabel="step Δt", log="xy")
    for axis, name in zip(axes, NAMES, strict=True):
        plots.curves(axis, plots.means(rows_of(records, "step", schedule=name), "method", "t"), METHODS)
    return plots.legend(figure)


def shares(records: pd.DataFrame) -> Figure:
    """Draw the relative step in tau: of both schedules on one axis, and of hand-made rules that were not rewritten."""
    titles = ("in τ the schedules agree", "hand-made rules, not rewritten for flow matching")
    figure, (both, naive) = plots.panels(titles, height=3.6, share="y", xlabel=RATIO, ylabel="relative step Δτ / τ")
    ve, fm = (plots.means(rows_of(records, "share", schedule=name), "method", "tau") for name in ("VE", "FM"))
    plots.curves(both, ve, METHODS)
    for method in ("adaptive, exact map", "adaptive, denoiser"):
        both.plot(fm[method].iloc[::6], "o", color=METHODS[method]["color"], mfc="white", ms=4)
    both.plot([], [], "o", color=plots.GREY, mfc="white", ms=4, label="adaptive, on flow matching")
    for method in [*METHODS][3:]:
        naive.plot(fm[f"{method}, naive in t"], color=METHODS[method]["color"])
        naive.plot(ve[method], color=METHODS[method]["color"], ls="--", alpha=0.5)
    naive.plot([], [], color=plots.GREY, label="right: rule taken naively in t")
    naive.plot([], [], color=plots.GREY, ls="--", label="right: rewritten in τ (as on VE)")
    for axis in (both, naive):
        plots.log_ticks(axis, "xy")
    both.set_ylim(1e-3, 1.5)
    return plots.legend(figure)


def adaptivity(records: pd.DataFrame) -> Figure:
    """Draw R_tau / tau over tau on the mixture: a horizontal line would be a logarithmic grid."""
    label = "step over that of the\nlogarithmic grid, R / τ"
    figure, axes = plots.panels([*NAMES.values()], share="y", xlabel=RATIO, ylabel=label, log="xy")
    for axis, name in zip(axes, NAMES, strict=True):
        for of, look in OF_MODEL.items():
            rows = rows_of(records, "relative_rate", data="mixture", schedule=name, model=of)
            each = plots.means(rows, "seed", "tau")
            plots.curves(axis, each, plots.alike(each, **look, lw=1, alpha=0.7), label=MODELS[of].format)
        axis.axhline(1, **plots.DOTTED, label="a logarithmic grid")
    return plots.legend(figure)


def consistency(records: pd.DataFrame) -> Figure:
    """Draw global consistency of the denoiser and its parts, and local consistency, by tau."""
    parts = {
        "global": "E‖f − x₀‖² of the denoiser",
        "floor": "E‖f* − x₀‖²: that of the perfect map",
        "model_error": "E‖f − f*‖²: error of the denoiser as a map",
    }
    looks = dict(zip(parts, plots.distinct(range(5)).values(), strict=False))
    titles = ("global, gaussian data", "global, mixture data", "local, one step of the log grid, mixture")
    figure, axes = plots.panels(titles, xlabel=RATIO, log="xy")
    for axis, name in zip(axes, ("gaussian", "mixture"), strict=False):
        rows = records[(records["data"] == name) & records["quantity"].isin(list(parts))]
        plots.curves(axis, plots.means(rows, "quantity", "tau"), looks, label=parts.__getitem__)
    local = plots.means(rows_of(records, "local", data="mixture"), "model", "tau")
    own = {of: {**look, "marker": "v", "ls": "-."} for of, look in OF_MODEL.items()}
    plots.curves(axes[2], local, own, label=lambda of: f"local, {MODELS[of]}")
    axes[0].set_ylabel("squared distance")
    return plots.legend(figure)


def lengths(records: pd.DataFrame) -> Figure:
    """Draw the number of segments with exact rates, by lambda."""
    rows = rows_of(records, "segments")
    figure, (axis,) = plots.panels(height=3, xlabel="λ", ylabel="segments N", log="xy")
    plots.curves(axis, plots.means(rows, "case", "lam"), plots.distinct(rows["case"].unique()))
    return plots.name_ends(figure)


def noise(records: pd.DataFrame) -> Figure:
    """Draw the signal-to-noise ratio of the step's numerator over mini-batches, by t, dimension and batch."""
    rows = rows_of(records, "ratio_by_time")
    rows = rows.assign(
        shape=[f"d = {d:.0f}, B = {b:.0f}" for d, b in zip(rows["dimension"], rows["batch"], strict=True)]
    )
    label = "mean / standard deviation\nof E[v·e] over mini-batches"
    figure, (axis,) = plots.panels(height=3.2, xlabel="t", ylabel=label, log="xy")
    colours = plots.distinct(rows["shape"].unique())
    for pairs, style, shown in (("plain", "-", str), ("antithetic", "--", "_{}".format)):
        looks = {shape: {"color": look["color"], "ls": style} for shape, look in colours.items()}
        plots.curves(axis, plots.means(rows[rows["pairs"] == pairs], "shape", "t"), looks, label=shown)
    exact = rows_of(records, "exact_ratio_by_time")
    axis.plot(exact["t"], exact["value"], color="black", label="d = 3072, B = 128,\nspectrum of images")
    axis.plot([], [], "--", color=plots.GREY, label="with antithetic pairs\n(twice the cost)")
    axis.axhline(3, **plots.DOTTED, label="threshold of the tests")
    return plots.legend(figure)
