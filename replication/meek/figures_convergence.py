"""Figures of the convergence notebook: closed forms from their formulas, uncertainty from the records.

Time runs from a start at which both actors have the same compute; the model knows no calendar.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from replication.evidence import Interval, plots, rows_of
from replication.meek.benchmark import score_gap
from replication.meek.experiments import convergence as experiment
from replication.meek.gap import C0, FLOP_PER_DOLLAR, Growth, peak_gap, peak_time, training_gap
from replication.meek.law import BESIROGLU, PAPER, Float
from replication.meek.sprt import sprt_tokens

T = np.linspace(0, 20, 401)
COLOURS = plots.COLOURS
YEARS = "years from an equal start"
NATS = "gap (nats per token)"


def _years(titles: Sequence[str] = ("",), **more: Any) -> tuple[Figure, list[Axes]]:
    """Panels over time, with ticks every five years: the axes of both halves of a figure then agree."""
    figure, axes = plots.panels(titles, xlabel=YEARS, **more)
    for axis in axes:
        axis.xaxis.set_major_locator(MultipleLocator(5))
    return figure, axes


def _shades(
    axis: Axes, levels: Iterable[float], curve: Callable[[float], Any], label: Callable[[float], str], t: Float = T
) -> None:
    """A curve over time per level of an ordered quantity, with its colour."""
    found = {level: pd.Series(curve(level), t) for level in levels}
    plots.curves(axis, found, plots.ordered(found), label=label)


def gap(records: pd.DataFrame, points: str) -> Figure:
    """Draw the losses of both actors, and the gap between them with its uncertainty.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``convergence``.
    points : str
        Training runs that the law was fitted to, for the legend.
    """
    peak = float(peak_time())
    titles = ("both approach the same floor", f"given the law: rises for {peak:.1f} years, then closes")
    figure, (losses, gaps) = _years(titles, height=3.6)
    growth = Growth()
    for label, g, colour in (("fixed budget (meek)", growth.meek, COLOURS[0]), ("leader", growth.sota, COLOURS[1])):
        losses.plot(T, PAPER.loss(C0 * g**T), color=colour, lw=2, label=label)
    losses.axhline(float(PAPER.L0), **plots.DOTTED, label="irreducible loss")
    losses.set_ylabel("training loss (nats per token)")
    for source, shade, label in (
        ("law and growth", "0.85", "95 %: law and growth rates uncertain"),
        ("law", "0.65", f"95 %: law refitted to {points} runs"),
    ):
        band = rows_of(records, "gap", source=source).pivot_table(index="t", columns="level", values="value")
        gaps.fill_between(band.index, band["low"], band["high"], color=shade, lw=0, label=label)
    gaps.plot(T, training_gap(T), color="black", lw=2, label="the paper's law, α = 0.154")
    gaps.plot(T, training_gap(T, experiment.LAWS["alpha 0.155"]), color="black", lw=1.2, ls="--", label="α = 0.155")
    gaps.axvline(peak, **plots.DOTTED)
    gaps.set(ylabel=NATS, ylim=(0, None))
    return plots.legend(figure)


def summary(records: pd.DataFrame, points: str) -> Figure:
    """Draw the peak time, the peak, and what is left after ten years, each with its 95 % interval.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``convergence``.
    points : str
        Training runs that the law was fitted to, for the axis.
    """
    panels: dict[str, tuple[Callable[[], Float], str]] = {
        "peak time": (peak_time, "time of the peak (years)"),
        "peak gap": (peak_gap, "gap at the peak (nats)"),
        "gap at 10 years": (partial(training_gap, 10.0), "gap after 10 years (nats)"),
    }
    names = {"law": f"law refitted to\n{points} runs", "law and growth": "… and growth rates\nuncertain"}
    looks = {"ours": {"color": COLOURS[0]}, "paper": {"color": "black", "marker": "D"}}
    figure, axes = plots.panels([label for _, label in panels.values()], height=1.8, share="y")
    for axis, (what, (paper, _)) in zip(axes, panels.items(), strict=True):
        at = rows_of(records, "summary", what=what).pivot_table(index="source", columns="level", values="value")
        ours = {of: Interval(at["median"][of], at["low"][of], at["high"][of], 0) for of in names}
        series: dict[str, Any] = {"ours": ours, "paper": {"paper": float(paper())}}
        plots.forest(axis, series, looks, rows={**names, "paper": "the paper's law"})
    return figure


def refit(records: pd.DataFrame, points: str) -> Figure:
    """Draw the bootstrap of the fit: the ridge of its constants, and the peak time of every draw.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``convergence``.
    points : str
        What was fitted, for the title.
    """
    gamma, scale = rows_of(records, "gamma")["value"], rows_of(records, "ln_K")["value"]
    times = rows_of(records, "bootstrap_peak_time")["value"]
    figure, (ridge, peaks) = plots.panels(("scale and exponent move together", points), height=3.4)
    ridge.plot(gamma, np.exp(scale), ".", color=COLOURS[0], ms=3, alpha=0.5, label=f"{len(gamma)} bootstrap draws")
    marks = {
        "the paper, α = 0.154": (PAPER, "D", "black"),
        "sensitivity check, A kept": (experiment.LAWS["alpha 0.178, A not refitted"], "X", COLOURS[3]),
        "Besiroglu et al. as published": (BESIROGLU.frontier(), "s", COLOURS[2]),
    }
    for label, (law, marker, colour) in marks.items():
        ridge.plot(float(law.alpha), float(law.A), marker, color=colour, ms=7, label=label)
    ridge.set(xlabel="exponent of the frontier", ylabel="scale A")
    plots.log_ticks(ridge, "y")
    peaks.hist(times, bins=40, color=COLOURS[0], alpha=0.7)
    peaks.axvspan(*np.quantile(times, [0.025, 0.975]), color="0.85", zorder=0, label="95 % interval (right)")
    peaks.axvline(float(peak_time()), color="black", lw=1.5, ls="--", label="the paper's (right)")
    peaks.set(xlabel="time of the peak (years)", ylabel="draws")
    return plots.legend(figure)


def alpha() -> Figure:
    """Draw the gap for another exponent with the other constants kept, and with them refitted."""
    names = {
        "alpha 0.154": "the paper, α = 0.154",
        "alpha 0.178, A not refitted": "α = 0.178, A and L₀ kept",
        "alpha 0.178, refitted": "α = 0.178, all constants refitted",
    }
    figure, (axis,) = _years(ylabel=NATS)
    found = {name: pd.Series(training_gap(T, experiment.LAWS[name]), T) for name in names}
    plots.curves(axis, found, plots.distinct(names), label=names.__getitem__)
    axis.set_ylim(bottom=0)
    return plots.legends(figure)


def sensitivity() -> Figure:
    """Draw the gap for other growth of the leader, other starts, investment schedules, and head starts."""
    titles = (
        "the leader's spending grows",
        "both start with",
        f"spending grows {Growth().g_i:.2f}× a year …",
        "the leader starts with more compute",
    )
    figure, axes = _years(titles, height=2.6, columns=2, ylabel=NATS)
    leaders, starts, schedules, heads = axes
    _shades(leaders, experiment.LEADERS, lambda g: training_gap(T, growth=Growth(g_i=g)), "{:g}× a year".format)
    _shades(starts, experiment.STARTS, lambda usd: training_gap(T, C0=usd * FLOP_PER_DOLLAR), "${:,.0f}".format)
    found = {name: pd.Series(experiment.scheduled_gap(T, then), T) for name, then in experiment.SCHEDULES.items()}
    plots.curves(schedules, found)
    _shades(heads, (1.0, 10.0, 72.0, 1e3, 1e5), lambda kappa: training_gap(T, head_start=kappa), "{:,.0f}×".format)
    heads.set_xlabel("years from the start")
    for axis in axes:
        axis.set_ylim(bottom=0)
    return plots.legends(figure)


def head_start() -> Figure:
    """Draw when the gap is largest, over the leader's head start, with the head starts of real systems marked."""
    label = "the leader's compute / the meek's, at the start"
    figure, (axis,) = plots.panels(height=3.4, xlabel=label, ylabel="peak, years from the start", log="x")
    kappa = np.geomspace(1, 1e6, 200)
    refitted = experiment.LAWS["alpha 0.178, refitted"]
    axis.plot(kappa, peak_time(head_start=kappa), color=COLOURS[0], lw=2, label="the paper's law")
    axis.plot(kappa, peak_time(refitted, head_start=kappa), color=COLOURS[0], ls="--", label="refitted law")
    axis.axhline(0, **plots.RULE)
    plots.note(axis, "below: the gap only shrinks", 1.2, 0, xytext=(0, -11))
    marks = {"the paper's start": 1.0, **experiment.MEASURED_HEAD_STARTS}
    for (start, value), marker in zip(marks.items(), "*osD", strict=True):
        colour = {"*": "black", "D": "white"}.get(marker, COLOURS[1])
        at = float(peak_time(head_start=value))
        axis.plot(value, at, marker, color=colour, mec="black", ms=7, label=f"{value:,.0f}×: {start}")
    return plots.legend(figure)


def maps(size: int = 200) -> Figure:
    """Map the time of the peak, and the gap there, over algorithmic progress and the leader's spending.

    Parameters
    ----------
    size : int
        Points along each side.
    """
    g_alg, g_i = np.geomspace(1, 6, size), np.geomspace(1.2, 12, size)
    growth = Growth(g_alg[None, :], 1.4, g_i[:, None])
    found = {
        "time of the peak (years)": (peak_time(PAPER, growth), "black", (2.5, 3, 3.5, 4, 5, 6, 8, 10)),
        "gap at the peak (nats)": (peak_gap(PAPER, growth), "white", (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)),
    }
    labels = ("algorithmic progress (× a year)", "the leader's spending (× a year)")
    figure, axes = plots.panels([*found], height=3.0, share="y", xlabel=labels[0], ylabel=labels[1])
    for axis, (values, ink, levels) in zip(axes, found.values(), strict=True):
        shown = axis.pcolormesh(g_alg, g_i, values, cmap="cividis_r" if ink == "black" else "cividis", rasterized=True)
        lines = axis.contour(g_alg, g_i, values, levels=levels, colors=ink, linewidths=1)
        axis.clabel(lines, fmt="%g", fontsize=plots.SIZE - 1)
        axis.plot(2.8, 5 / 1.4, "D", color="white", mec="black", ms=7)
        plots.note(axis, "the paper", 2.8, 5 / 1.4, xytext=(6, 5), color=ink, weight="bold")
        plots.log_ticks(axis, "x", [1, 1.5, 2, 3, 4, 6])
        plots.log_ticks(axis, "y", [1.5, 2, 3, 5, 10])
        axis.grid(visible=False)
        plots.colour_bar([axis], shown, "")
    return figure


def benchmark() -> Figure:
    """Draw the gap in benchmark points for tasks of several steps, with the paper's ceiling and the task's own."""
    titles = ("the paper: no model scores above 80 %", "control: models can reach 100 %")
    label = "success of the leader − of the meek\n(percentage points)"
    figure, axes = _years(titles, height=3.1, share="y", ylabel=label)
    for axis, sigmoid in zip(axes, experiment.CEILINGS.values(), strict=True):
        of = partial(lambda n, sigmoid: 100 * score_gap(T, sigmoid, n=n), sigmoid=sigmoid)
        _shades(axis, (1, 2, 5, 10), of, lambda n: f"{n} step{'s' * (n > 1)}")
    axes[0].set_ylim(0, 100)
    return plots.legends(figure)


def inference() -> Figure:
    """Draw the gap at a fixed inference spend as plotted, and with what is doubtful in the formula changed."""
    titles = [f"inference efficiency {g_inf:g}× a year" for g_inf in experiment.PANELS.values()]
    label = "loss at a fixed inference spend − leader's\n(nats; below 0: better than any model)"
    figure, axes = _years(titles, height=3.6, share="y", ylabel=label)
    t = T[T <= 8]
    names = [*experiment.corrections(experiment.PRICE_DECLINE)]
    looks = dict(zip(names, plots.distinct(range(4)).values(), strict=True))
    for axis, g_inf in zip(axes, experiment.PANELS.values(), strict=True):
        found = {name: pd.Series(reading.gap(t), t) for name, reading in experiment.corrections(g_inf).items()}
        plots.curves(axis, found, looks)
        axis.plot(t, training_gap(t, PAPER, experiment.INFERENCE), color="0.6", label="training gap")
        axis.axhline(0, **plots.RULE)
    axes[0].set_ylim(-0.3, 1.0)
    return plots.legend(figure)


def tokens() -> Figure:
    """Draw how many tokens a sequential test needs to tell the two models apart, over time."""
    figure, (axis,) = _years(height=3.2, ylabel="expected tokens at 5 % error")
    t = T[T >= 0.5]
    _shades(
        axis,
        (1, 10, 100),
        lambda slowdown: sprt_tokens(training_gap(t), 0.05, slowdown),
        lambda slowdown: "ideal test" if slowdown == 1 else f"reader {slowdown}×\nslower",
        t,
    )
    for count, label in ((100, "a short message"), (1000, "a short blog post")):
        axis.axhline(count, **plots.DOTTED)
        plots.note(axis, label, 6.5, count, xytext=(0, -10))
    plots.log_ticks(axis, "y")
    axis.set(xlim=(0, 20))
    return plots.name_ends(figure)


def metrics() -> Figure:
    """Draw the gap between the same two actors in bounded and in unbounded metrics, relative to its largest value."""
    titles = ("bounded metrics: closes", "unbounded metrics: grows")
    figure, axes = _years(titles, height=3.2, share="y", ylabel="gap / its largest value shown")
    found = {name: pd.Series(curve / curve.max(), T) for name, curve in experiment.metric_gaps(T).items()}
    for axis, bounded in zip(axes, (True, False), strict=True):
        names = [name for name in found if (name in experiment.BOUNDED) == bounded]
        plots.curves(axis, found, plots.distinct(names))
    return plots.legends(figure)
