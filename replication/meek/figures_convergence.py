"""Figures of the convergence notebook: closed forms from their formulas, uncertainty from the records.

Time runs from a start at which both actors have the same compute; the model knows no calendar.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, MultipleLocator

from replication.evidence import rows_of
from replication.meek.benchmark import score_gap
from replication.meek.experiments import convergence as experiment
from replication.meek.gap import C0, FLOP_PER_DOLLAR, Growth, peak_gap, peak_time, training_gap
from replication.meek.law import BESIROGLU, PAPER, Float
from replication.meek.sprt import sprt_tokens

T = np.linspace(0, 20, 401)
COLOURS = sns.color_palette("colorblind")
GREY = "0.35"
YEARS = "years from an equal start"
NATS = "gap (nats per token)"


def gap(records: pd.DataFrame, points: str) -> Figure:
    """Draw the losses of both actors, and the gap between them with its uncertainty.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``convergence.run``.
    points : str
        Training runs that the law was fitted to, for the legend.
    """
    figure, (losses, gaps) = plt.subplots(1, 2, figsize=(11.5, 4.2), layout="constrained")
    growth = Growth()
    for label, g, colour in (("fixed budget (meek)", growth.meek, COLOURS[0]), ("leader", growth.sota, COLOURS[1])):
        losses.plot(T, PAPER.loss(C0 * g**T), color=colour, lw=2, label=label)
    losses.axhline(float(PAPER.L0), color=GREY, lw=1, ls=":", label="irreducible loss")
    losses.set(xlabel=YEARS, ylabel="training loss (nats per token)", title="both approach the same floor")
    losses.legend(frameon=False)
    rows = rows_of(records, "gap")
    band = rows[rows["source"] == "law and growth"].pivot_table(index="t", columns="level", values="value")
    gaps.fill_between(
        band.index, band["low"], band["high"], color="0.85", lw=0, label="95 %: law and growth rates uncertain"
    )
    band = rows[rows["source"] == "law"].pivot_table(index="t", columns="level", values="value")
    label = f"95 %: law refitted to {points} runs"
    gaps.fill_between(band.index, band["low"], band["high"], color="0.65", lw=0, label=label)
    gaps.plot(T, training_gap(T), color=COLOURS[0], lw=2, label="the paper's law, α = 0.154")
    gaps.plot(T, training_gap(T, experiment.LAWS["alpha 0.155"]), color=COLOURS[0], lw=1.2, ls="--", label="α = 0.155")
    gaps.axvline(float(peak_time()), color=GREY, lw=1, ls=":", label="its peak")
    gaps.set(
        xlabel=YEARS, ylabel=NATS, title="given the law and its constants, the gap rises, then closes", ylim=(0, None)
    )
    gaps.legend(frameon=False)
    return _five_years(figure)


def summary(records: pd.DataFrame, points: str) -> Figure:
    """Draw the peak time, the peak, and what is left after ten years, each with its 95 % interval.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``convergence.run``.
    points : str
        Training runs that the law was fitted to, for the axis.
    """
    rows = rows_of(records, "summary")
    panels: dict[str, tuple[Callable[[], Float], str]] = {
        "peak time": (peak_time, "time of the peak (years)"),
        "peak gap": (peak_gap, "gap at the peak (nats)"),
        "gap at 10 years": (partial(training_gap, 10.0), "gap after 10 years (nats)"),
    }
    names = {"law": f"law refitted to\n{points} runs", "law and growth": "… and growth rates\nuncertain"}
    figure, axes = plt.subplots(1, 3, figsize=(11.5, 2.6), sharey=True, layout="constrained")
    for axis, (what, (paper, label)) in zip(axes, panels.items(), strict=True):
        for y, source in enumerate(names):
            at = rows[(rows["what"] == what) & (rows["source"] == source)].set_index("level")["value"]
            axis.plot([at["low"], at["high"]], [y, y], color=COLOURS[y], lw=3, solid_capstyle="butt")
            axis.plot(at["median"], y, "o", color=COLOURS[y], ms=7)
        axis.plot(float(paper()), 2, "D", color="black", ms=6)
        axis.set(xlabel=label, ylim=(2.6, -0.6), yticks=[0, 1, 2])
        axis.set_yticklabels([*names.values(), "the paper's law"])
    return figure


def refit(records: pd.DataFrame, points: str) -> Figure:
    """Draw the bootstrap of the fit: the ridge of its constants, and the peak time of every draw.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``convergence.run``.
    points : str
        What was fitted, for the title.
    """
    gamma, scale = rows_of(records, "gamma")["value"], rows_of(records, "ln_K")["value"]
    times = rows_of(records, "bootstrap_peak_time")["value"]
    figure, (ridge, peaks) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    ridge.plot(gamma, np.exp(scale), ".", color=COLOURS[0], ms=3, alpha=0.5, label=f"{len(gamma)} bootstrap draws")
    marks = {
        "the paper, α = 0.154": (PAPER, "D", "black"),
        "sensitivity check, A kept": (experiment.LAWS["alpha 0.178, A not refitted"], "X", COLOURS[3]),
        "Besiroglu et al. as published": (BESIROGLU.frontier(), "s", COLOURS[2]),
    }
    for label, (law, marker, colour) in marks.items():
        ridge.plot(float(law.alpha), float(law.A), marker, color=colour, ms=8, label=label, ls="")
    ridge.set(
        xlabel="exponent of the frontier",
        ylabel="scale A",
        yscale="log",
        title="scale and exponent move together",
    )
    ridge.yaxis.set_major_formatter(LogFormatter(labelOnlyBase=False, minor_thresholds=(2, 1)))
    ridge.legend(frameon=False, loc="upper left")
    peaks.hist(times, bins=40, color=COLOURS[0], alpha=0.7, label="bootstrap draws")
    low, high = np.quantile(times, [0.025, 0.975])
    peaks.axvspan(low, high, color="0.85", zorder=0, label="95 % interval")
    peaks.axvline(float(peak_time()), color="black", lw=1.5, ls="--", label="the paper's")
    peaks.set(xlabel="time of the peak (years)", ylabel="draws", title=points)
    peaks.legend(frameon=False, loc="upper right", bbox_to_anchor=(0.9, 1))
    return figure


def alpha() -> Figure:
    """Draw the gap for another exponent with the other constants kept, and with them refitted."""
    styles = {
        "alpha 0.154": ("the paper, α = 0.154", "-", "black"),
        "alpha 0.178, A not refitted": ("α = 0.178, A and L₀ kept", "--", COLOURS[3]),
        "alpha 0.178, refitted": ("α = 0.178, all constants refitted", "-", COLOURS[2]),
    }
    figure, axis = plt.subplots(figsize=(7.5, 3.8), layout="constrained")
    for name, (label, style, colour) in styles.items():
        axis.plot(T, training_gap(T, experiment.LAWS[name]), ls=style, color=colour, lw=2, label=label)
    axis.set(xlabel=YEARS, ylabel=NATS, ylim=(0, None))
    axis.legend(frameon=False)
    return _five_years(figure)


def sensitivity() -> Figure:
    """Draw the gap for other growth of the leader, other starts, investment schedules, and head starts."""
    figure, axes = plt.subplots(2, 2, figsize=(11.5, 7), sharex=True, layout="constrained")
    (leaders, starts), (schedules, heads) = axes
    for spending, colour in _shades(experiment.LEADERS):
        leaders.plot(
            T, training_gap(T, growth=Growth(g_i=spending)), color=colour, lw=1.8, label=f"{spending:g}× a year"
        )
    leaders.set(title="the leader's spending grows", ylabel=NATS)
    for dollars, colour in _shades(experiment.STARTS):
        starts.plot(T, training_gap(T, C0=dollars * FLOP_PER_DOLLAR), color=colour, lw=1.8, label=f"${dollars:,.0f}")
    starts.set(title="both start with")
    for (name, then), colour in zip(experiment.SCHEDULES.items(), COLOURS, strict=False):
        schedules.plot(T, experiment.scheduled_gap(T, then), color=colour, lw=1.8, label=name)
    schedules.set(title="spending grows 3.57× a year …", xlabel=YEARS, ylabel=NATS)
    for kappa, colour in _shades((1.0, 10.0, 72.0, 1e3, 1e5)):
        heads.plot(T, training_gap(T, head_start=kappa), color=colour, lw=1.8, label=f"{kappa:,.0f}×")
    heads.set(title="the leader starts with more compute", xlabel="years from the start")
    for axis in axes.flat:
        axis.set_ylim(0, None)
        axis.legend(frameon=False)
    return _five_years(figure)


def head_start() -> Figure:
    """Draw when the gap is largest, over the leader's head start, with the head starts of real systems marked."""
    figure, axis = plt.subplots(figsize=(7.5, 4), layout="constrained")
    kappa = np.geomspace(1, 1e6, 200)
    axis.plot(kappa, peak_time(head_start=kappa), color=COLOURS[0], lw=2, label="the paper's law")
    refitted = experiment.LAWS["alpha 0.178, refitted"]
    axis.plot(kappa, peak_time(refitted, head_start=kappa), color=COLOURS[0], lw=1.5, ls="--", label="refitted law")
    axis.axhline(0, color=GREY, lw=1)
    axis.annotate("below: the gap only shrinks", (1.2, 0), xytext=(0, -12), textcoords="offset points", color=GREY)
    for (start, value), marker in zip(experiment.MEASURED_HEAD_STARTS.items(), "osD", strict=True):
        colour = "white" if marker == "D" else COLOURS[1]
        at = float(peak_time(head_start=value))
        axis.plot(value, at, marker, color=colour, mec="black", ms=8, ls="", label=f"{value:,.0f}×: {start}")
    axis.plot(1, float(peak_time()), "*", color="black", ms=11, ls="", label="1×: the paper's start")
    axis.set(
        xscale="log", xlabel="the leader's compute / the meek's, at the start", ylabel="peak, years from the start"
    )
    axis.legend(frameon=False)
    return figure


def maps(size: int = 200) -> Figure:
    """Map the time of the peak, and the gap there, over algorithmic progress and the leader's spending.

    Parameters
    ----------
    size : int
        Points along each side.
    """
    g_alg, g_i = np.geomspace(1, 6, size), np.geomspace(1.2, 12, size)
    growth = Growth(g_alg[None, :], 1.4, g_i[:, None])
    found = (
        ("time of the peak (years)", peak_time(PAPER, growth), "black", (2.5, 3, 3.5, 4, 5, 6, 8, 10)),
        ("gap at the peak (nats)", peak_gap(PAPER, growth), "white", (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)),
    )
    figure, axes = plt.subplots(1, 2, figsize=(11.5, 4.4), sharey=True, layout="constrained")
    for axis, (title, values, ink, levels) in zip(axes, found, strict=True):
        shown = axis.pcolormesh(g_alg, g_i, values, cmap="cividis_r" if ink == "black" else "cividis", rasterized=True)
        lines = axis.contour(g_alg, g_i, values, levels=levels, colors=ink, linewidths=1)
        axis.clabel(lines, fmt="%g", fontsize=9)
        axis.plot(2.8, 5 / 1.4, "D", color="white", mec="black", ms=8)
        axis.annotate("the paper", (2.8, 5 / 1.4), xytext=(7, 5), textcoords="offset points", color=ink, weight="bold")
        axis.set(xscale="log", yscale="log", xlabel="algorithmic progress (× a year)", title=title)
        axis.set_xticks([1, 1.5, 2, 3, 4, 6], ["1", "1.5", "2", "3", "4", "6"])
        axis.set_yticks([1.5, 2, 3, 5, 10], ["1.5", "2", "3", "5", "10"])
        axis.minorticks_off()
        figure.colorbar(shown, ax=axis, label=title)
    axes[0].set_ylabel("the leader's spending (× a year)")
    return figure


def benchmark() -> Figure:
    """Draw the gap in benchmark points for tasks of several steps, with the paper's ceiling and the task's own."""
    figure, axes = plt.subplots(1, 2, figsize=(11.5, 4), sharey=True, layout="constrained")
    titles = ("the paper: no model scores above 80 %", "control: models can reach 100 %")
    for axis, sigmoid, title in zip(axes, experiment.CEILINGS.values(), titles, strict=True):
        for steps, colour in _shades((1, 2, 5, 10)):
            label = f"{steps} step" + ("s" if steps > 1 else "")
            axis.plot(T, 100 * score_gap(T, sigmoid, n=steps), color=colour, lw=2, label=label)
        axis.set(xlabel=YEARS, title=title, ylim=(0, 100))
    axes[0].set_ylabel("success of the leader − of the meek\n(percentage points)")
    axes[1].legend(frameon=False)
    return _five_years(figure)


def inference() -> Figure:
    """Draw the gap at a fixed inference spend as plotted, and with what is doubtful in the formula changed."""
    figure, axes = plt.subplots(1, 2, figsize=(11.5, 4.2), sharey=True, layout="constrained")
    styles = dict(
        zip(
            experiment.corrections(experiment.PRICE_DECLINE),
            (("black", "-"), (COLOURS[0], "-"), (COLOURS[1], "--"), (COLOURS[2], "-.")),
            strict=True,
        )
    )
    t = T[T <= 8]
    for axis, g_inf in zip(axes, experiment.PANELS.values(), strict=True):
        for name, reading in experiment.corrections(g_inf).items():
            colour, style = styles[name]
            axis.plot(t, reading.gap(t), color=colour, ls=style, lw=2, label=name)
        axis.plot(t, training_gap(t, PAPER, experiment.INFERENCE), color="0.6", lw=1.5, label="training gap")
        axis.axhline(0, color="0.4", lw=0.8)
        axis.set(xlabel=YEARS, title=f"inference efficiency {g_inf:g}× a year", ylim=(-0.3, 1.0))
    axes[0].set_ylabel("loss at a fixed inference spend − leader's\n(nats; below 0: better than any model there is)")
    axes[1].legend(frameon=False)
    return figure


def tokens() -> Figure:
    """Draw how many tokens a sequential test needs to tell the two models apart, over time."""
    figure, axis = plt.subplots(figsize=(7.5, 4), layout="constrained")
    t = T[T >= 0.5]
    for slowdown, colour in _shades((1, 10, 100)):
        label = "ideal test" if slowdown == 1 else f"reader {slowdown}× slower"
        axis.plot(t, sprt_tokens(training_gap(t), 0.05, slowdown), color=colour, lw=2, label=label)
    for count, label in ((100, "a short message"), (1000, "a short blog post")):
        axis.axhline(count, color="0.6", lw=0.9, ls=":")
        axis.annotate(label, (6.5, count), xytext=(0, -11), textcoords="offset points", fontsize=9, color=GREY)
    axis.set(xlabel=YEARS, ylabel="expected tokens at 5 % error", yscale="log", xlim=(0, 20))
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1))
    return _five_years(figure)


def metrics() -> Figure:
    """Draw the gap between the same two actors in bounded and in unbounded metrics, relative to its largest value."""
    figure, axes = plt.subplots(1, 2, figsize=(11.5, 3.8), layout="constrained")
    found = experiment.metric_gaps(T)
    for axis, bounded in zip(axes, (True, False), strict=True):
        names = [name for name in found if (name in experiment.BOUNDED) == bounded]
        for name, colour, style, width in zip(names, COLOURS, ("-", "--", "-.", ":"), (4, 2, 2, 2), strict=False):
            curve = found[name]
            axis.plot(T, curve / curve.max(), color=colour, ls=style, lw=width, label=name)
        axis.set(xlabel=YEARS, title="bounded metrics: closes" if bounded else "unbounded metrics: grows")
        axis.legend(frameon=False)
    axes[0].set_ylabel("gap / its largest value shown")
    return _five_years(figure)


def _five_years(figure: Figure) -> Figure:
    """Tick every five years; the axes of both halves of a figure then agree."""
    for axis in figure.axes:
        axis.xaxis.set_major_locator(MultipleLocator(5))
    return figure


def _shades(levels: Iterable[float]) -> list[tuple[float, tuple[float, float, float]]]:
    """Levels of an ordered quantity with colours from dark to light that remain readable on white."""
    listed = list(levels)
    return list(zip(listed, sns.color_palette("viridis", len(listed) + 1)[:-1], strict=True))
