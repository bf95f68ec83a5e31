"""Figures of the mixtures notebook; each answers one question and takes the tidy records."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from replication.evidence import mean_interval, rows_of

NAMES = {
    "adcm-wt": "ADCM, w(t)",
    "adcm-sample": "ADCM, per sample",
    "adcm-step": "ADCM, 1/Δt",
    "adcm-one": "ADCM, 1",
    "adcm-inverse-t": "ADCM, 1/t",
    "log-wt": "log grid, w(t)",
    "log-step": "log grid, 1/Δt",
    "ecm256": "ECM, q = 256",
    "ecm256-wt": "ECM q = 256 grid, w(t)",
    "ecm2": "ECM, q = 2",
    "ict": "iCT",
    "ccm": "CCM stand-in",
    "scm": "sCM-like",
    "ecm2-naive": "ECM, q = 2, naive",
    "ict-naive": "iCT, naive",
}
"""How methods are written in figures."""

MAIN = ("adcm-wt", "ecm2", "ict", "ecm256", "log-wt")
_COLOURS = dict(zip(MAIN, sns.color_palette("colorblind", len(MAIN)), strict=True))
_STYLES = dict(zip(MAIN, ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1))), strict=True))
_MARKERS = dict(zip(MAIN, "osv^D", strict=True))
DISTANCE = "distance to the exact map (RMSE)"


def _interval(values: pd.Series[float]) -> tuple[float, float]:
    """Mean of the seeds and half its 95 % t interval."""
    found = mean_interval(values.to_numpy(dtype=float))
    return found.estimate, found.estimate - found.low


def _log_scale(axis: Axes) -> None:
    """A logarithmic y axis of what is drawn, which may span less than a decade, with plain numbers at its ticks."""
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high > 6 * low else (1, 1.2, 1.5, 2, 3, 4, 5, 6, 7, 8)))
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.yaxis.set_minor_formatter(NullFormatter())


def _legend_below(figure: Figure, axis: Axes) -> None:
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)


def efficiency(records: pd.DataFrame) -> Figure:
    """Draw the distance to the exact map on VE against images, with 95 % intervals over seeds."""
    figure, axis = plt.subplots(figsize=(7, 4.2), layout="constrained")
    shares = _distances(axis, records, None)
    axis.set(xlabel="images (% of the budget)", ylabel=DISTANCE)
    axis.set_xticks([100 * share for share in shares])
    _legend_below(figure, axis)
    return figure


def cpu_time(records: pd.DataFrame) -> Figure:
    """Draw the same against the CPU time of a run on this machine, its segmentations included."""
    times = rows_of(records, "cpu_seconds", schedule="VE")
    figure, axis = plt.subplots(figsize=(7, 4.2), layout="constrained")
    _distances(axis, records, times)
    axis.set(xlabel="CPU time of a run on this machine (s), its segmentations included", ylabel=DISTANCE)
    axis.set_xlim(0, None)
    _legend_below(figure, axis)
    return figure


def _distances(axis: Axes, records: pd.DataFrame, times: pd.DataFrame | None) -> list[float]:
    """Lines of the main methods over the share of images in percent, or over their mean times."""
    rows = rows_of(records, "log_rmse", schedule="VE")
    shares: list[float] = sorted(rows["budget"].unique().tolist())
    for method in MAIN:
        of = rows[rows["method"] == method]
        centre, half = np.array([_interval(of.loc[of["budget"] == share, "value"]) for share in shares]).T
        own = np.exp(centre)
        x = [100 * share for share in shares]
        if times is not None:
            x = times[times["method"] == method].groupby("budget")["value"].mean().tolist()
        axis.errorbar(
            x,
            own,
            yerr=(own - np.exp(centre - half), np.exp(centre + half) - own),
            color=_COLOURS[method],
            ls=_STYLES[method],
            marker=_MARKERS[method],
            ms=5,
            lw=1.6,
            capsize=2,
            label=NAMES[method],
        )
    _log_scale(axis)
    axis.grid(alpha=0.3)
    return shares


def against(records: pd.DataFrame) -> Figure:
    """Draw every method on VE against ADCM with w(t) at the full budget: paired differences in percent."""
    rows = rows_of(records, "log_rmse", schedule="VE", budget=1.0)
    wide = rows.pivot_table(index="seed", columns="method", values="value")
    present = [str(name) for name in wide]
    others = [name for name in NAMES if name in present and name != "adcm-wt"]
    others += sorted(name for name in present if name not in NAMES)
    figure, axis = plt.subplots(figsize=(8, 0.32 * len(others) + 1.4), layout="constrained")
    for i, name in enumerate(others):
        centre, half = _interval(wide[name] - wide["adcm-wt"])
        low, middle, high = (100 * np.expm1([centre - half, centre, centre + half])).tolist()
        axis.errorbar(
            middle,
            i,
            xerr=([middle - low], [high - middle]),
            fmt="o",
            ms=5,
            lw=1.6,
            color=sns.color_palette("colorblind")[0],
        )
    axis.axvspan(-5, 5, color="0.9", lw=0)
    axis.axvline(0, color="0.3", lw=0.8)
    axis.set_xscale("symlog", linthresh=20)
    axis.set_xticks([-50, -20, 0, 20, 50, 100, 200, 500], ["−50", "−20", "0", "20", "50", "100", "200", "500"])
    axis.minorticks_off()
    axis.set_yticks(range(len(others)), [_name(name) for name in others])
    axis.invert_yaxis()
    axis.set_xlabel("farther from the exact map than ADCM with w(t) (%); grey: within 5 %")
    axis.grid(axis="x", alpha=0.3)
    return figure


def attribution(records: pd.DataFrame) -> Figure:
    """Draw the distance to the exact map for every grid with either weight, with 95 % intervals over seeds."""
    cells = {
        "ADCM's": ("adcm-wt", "adcm-step"),
        "log grid": ("log-wt", "log-step"),
        "ECM, q = 256": ("ecm256-wt", "ecm256"),
    }
    rows = rows_of(records, "log_rmse", schedule="VE", budget=1.0)
    figure, axis = plt.subplots(figsize=(7.5, 3.8), layout="constrained")
    palette = sns.color_palette("colorblind")
    for shift, weight, colour, marker in ((-0.08, "w(t)", palette[0], "o"), (0.08, "1/Δt", palette[1], "s")):
        for i, methods in enumerate(cells.values()):
            own = rows.loc[rows["method"] == methods[weight == "1/Δt"], "value"]
            centre, half = _interval(own)
            low, middle, high = np.exp([centre - half, centre, centre + half])
            axis.errorbar(
                i + shift,
                middle,
                yerr=([middle - low], [high - middle]),
                fmt=marker,
                ms=6,
                lw=1.6,
                color=colour,
                label=f"weight {weight}" if i == 0 else None,
            )
            axis.plot(np.full(len(own), i + 2.2 * shift), np.exp(own), ".", ms=4, color=colour, alpha=0.5)
    axis.set_xticks(range(len(cells)), list(cells))
    axis.set_xlim(-0.5, len(cells) - 0.5)
    _log_scale(axis)
    axis.set(xlabel="grid", ylabel=DISTANCE)
    axis.grid(axis="y", alpha=0.3)
    _legend_below(figure, axis)
    return figure


def transfer(records: pd.DataFrame) -> Figure:
    """Draw the distance to the exact map under VE and under flow matching, baselines rewritten and naive."""
    methods = ("adcm-wt", "ict", "ict-naive", "ecm2", "ecm2-naive")
    figure, axis = plt.subplots(figsize=(8, 3.8), layout="constrained")
    palette = sns.color_palette("colorblind")
    for shift, schedule, label, colour, marker in (
        (-0.1, "VE", "VE", palette[0], "o"),
        (0.1, "FM", "flow matching", palette[1], "s"),
    ):
        for i, method in enumerate(methods):
            source = method.removesuffix("-naive") if schedule == "VE" else method
            centre, half = _interval(
                rows_of(records, "log_rmse", schedule=schedule, budget=1.0, method=source)["value"]
            )
            low, middle, high = np.exp([centre - half, centre, centre + half])
            axis.errorbar(
                i + shift,
                middle,
                yerr=([middle - low], [high - middle]),
                fmt=marker,
                ms=6,
                lw=1.6,
                color=colour,
                label=label if i == 0 else None,
            )
    axis.set_xticks(
        range(len(methods)),
        ["ADCM, w(t)", "iCT,\nrewritten", "iCT,\nnaive", "ECM q = 2,\nrewritten", "ECM q = 2,\nnaive"],
    )
    _log_scale(axis)
    axis.set_ylabel(DISTANCE)
    axis.grid(axis="y", alpha=0.3)
    _legend_below(figure, axis)
    return figure


def trade_off(records: pd.DataFrame) -> Figure:
    """Draw early and final distance to the exact map against lambda, with 95 % intervals over seeds."""
    rows = rows_of(records, "log_rmse", schedule="VE")
    own = rows[rows["method"].str.startswith("adcm-lambda-")]
    lam = own["method"].str.removeprefix("adcm-lambda-").astype(float)
    base = rows[rows["method"] == "adcm-wt"]
    paper = 0.01
    whole = pd.concat([own.assign(lam=lam), base.assign(lam=paper)])
    figure, axis = plt.subplots(figsize=(8, 3.8), layout="constrained")
    styles = zip(sorted(whole["budget"].unique()), sns.color_palette("colorblind"), "osv", strict=False)
    for share, colour, marker in styles:
        groups = whole[whole["budget"] == share].groupby("lam")["value"]
        centre, half = np.array([_interval(values) for _, values in groups]).T
        middle = np.exp(centre)
        axis.errorbar(
            [value for value, _ in groups],
            middle,
            yerr=(middle - np.exp(centre - half), np.exp(centre + half) - middle),
            marker=marker,
            ms=5,
            lw=1.6,
            capsize=2,
            color=colour,
            label=f"after {share:.0%} of the images",
        )
    axis.set_xscale("log")
    _log_scale(axis)
    axis.set(xlabel="λ", ylabel=DISTANCE)
    axis.grid(alpha=0.3)
    _legend_below(figure, axis)
    return figure


def segments(records: pd.DataFrame) -> Figure:
    """Draw how long the adaptive grid is in the course of training, and how often its safeguards acted."""
    figure, (lengths, guards) = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
    rows = records[records["method"] == "adcm-wt"]
    palette = sns.color_palette("colorblind")
    for schedule, label, colour, marker in (("VE", "VE", palette[0], "o"), ("FM", "flow matching", palette[1], "s")):
        for one, (_, of_seed) in enumerate(rows_of(rows, "segments", schedule=schedule).groupby("seed")):
            lengths.plot(
                of_seed["step"],
                of_seed["value"],
                color=colour,
                marker=marker,
                ms=4,
                lw=1,
                label=label if one == 0 else None,
            )
    lengths.set(xlabel="training step of the segmentation", ylabel="segments N", ylim=(0, None))
    lengths.legend(frameon=False, loc="lower left")
    lengths.grid(alpha=0.3)
    counts = rows_of(rows, "safeguard").pivot_table(index="safeguard", columns="schedule", values="value")
    order = ["nonpositive", "nonfinite", "floored", "capped", "remainder"]
    for shift, schedule, colour in ((-0.18, "VE", palette[0]), (0.18, "FM", palette[1])):
        guards.barh(np.arange(len(order)) + shift, counts.reindex(order)[schedule], 0.34, color=colour)
    guards.set_yticks(
        range(len(order)),
        ["estimate ≤ 0 (nodes)", "not finite (nodes)", "step at the floor", "step at the cap", "last step cut"],
    )
    guards.invert_yaxis()
    guards.set_xlabel("activations in a segmentation (mean)")
    guards.grid(axis="x", alpha=0.3)
    return figure


def overhead(records: pd.DataFrame) -> Figure:
    """Draw what the adaptive grid costs in percent of training, at the paper's cadence and at this run's."""
    labels = {
        "overhead_paper": "one estimate a segment,\nevery 25,000 steps (paper)",
        "overhead_measured": "interpolated between nodes,\nat this run's cadence (as run)",
        "overhead_paper_way": "one estimate a segment,\nat this run's cadence",
    }
    figure, axis = plt.subplots(figsize=(8, 2.8), layout="constrained")
    for i, quantity in enumerate(labels):
        value = float(rows_of(records, quantity)["value"].mean())
        axis.plot(value, i, "o", ms=7, color=sns.color_palette("colorblind")[0])
        axis.annotate(
            f"{value:.2g} %" if value < 100 else f"{value:.0f} %",
            (value, i),
            (8, 0),
            textcoords="offset points",
            va="center",
        )
    axis.axvline(6, color="0.3", lw=1, ls=":")
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.margins(x=0.2, y=0.25)
    axis.grid(axis="x", alpha=0.3)
    axis.set_yticks(range(len(labels)), list(labels.values()))
    axis.invert_yaxis()
    axis.set_xlabel("CPU time of segmentations (% of training; dotted: 6 %)")
    return figure


def samples(records: pd.DataFrame) -> Figure:
    """Draw one-step samples from the same noise: the exact map's, and those of three methods joined to them."""
    titles = {"exact": "exact map", "adcm-wt": "ADCM, w(t)", "ecm2": "ECM, q = 2", "adcm-sample": "ADCM, per sample"}
    points = {
        method: np.stack([rows_of(records, f"sample_{axis}", method=method)["value"].to_numpy() for axis in "xy"], -1)
        for method in titles
    }
    figure, axes = plt.subplots(1, 4, figsize=(11, 3.2), sharex=True, sharey=True, layout="constrained")
    palette = sns.color_palette("colorblind")
    for axis, (method, title) in zip(axes, titles.items(), strict=True):
        ends, own = points["exact"], points[method]
        if method != "exact":
            axis.plot(*np.stack([ends, own]).transpose(2, 0, 1), color="0.75", lw=0.6)
        axis.plot(own[:, 0], own[:, 1], ".", ms=4, color=palette[0 if method == "exact" else 1])
        axis.set(title=title, xlabel="x₁", aspect="equal", xlim=(-1.35, 1.35), ylim=(-1.35, 1.35))
    axes[0].set_ylabel("x₂")
    return figure


def tuning(records: pd.DataFrame, methods: Sequence[str] = (*MAIN, "ict-naive", "ecm2-naive")) -> Figure:
    """Draw the mean tuning score against the learning rate on both schedules; dots mark the chosen rates."""
    rows = rows_of(records, "tuning_score")
    figure, axes = plt.subplots(1, 2, figsize=(11, 3.8), sharey=True, layout="constrained")
    palette = dict(zip(methods, sns.color_palette("colorblind", len(methods)), strict=True))
    for axis, (schedule, title) in zip(axes, {"VE": "VE", "FM": "flow matching"}.items(), strict=True):
        for i, method in enumerate(methods):
            own = rows[(rows["schedule"] == schedule) & (rows["method"] == method)]
            line = own.groupby("lr")["value"].mean().map(np.exp)
            axis.plot(line, ("-", "--", ":", "-.")[i % 4], color=palette[method], label=NAMES[method])
            best = line.nsmallest(1)
            axis.plot(best, "o", ms=6, color=palette[method], mec="white", mew=0.6, zorder=3)
        axis.set(xlabel="learning rate (dot: chosen)", title=title)
        axis.set_xscale("log")
        ticks = sorted(rows["lr"].unique())
        axis.set_xticks(ticks, [f"{rate:g}" for rate in ticks])
        axis.minorticks_off()
        _log_scale(axis)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel(DISTANCE + ",\ngeometric mean of the tuning seeds")
    handles = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


def _name(method: str) -> str:
    if method.startswith("adcm-lambda-"):
        return f"ADCM, w(t), λ = {method.removeprefix('adcm-lambda-')}"
    return NAMES.get(method, method)
