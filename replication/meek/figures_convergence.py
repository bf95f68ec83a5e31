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

from replication.evidence import Interval, Table, plots, rounded, rows_of
from replication.meek.benchmark import score_gap
from replication.meek.experiments import convergence as experiment
from replication.meek.fit import NAMES
from replication.meek.gap import FLOP_PER_DOLLAR, Growth, peak_gap, peak_time, training_gap
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


def _past() -> list[float]:
    """Years since the gap's peak, from each measured head start."""
    found: list[float] = (-peak_time(head_start=[start.head_start for start in experiment.MEASURED.values()])).tolist()
    return found


def policy(records: pd.DataFrame, points: str) -> str:
    """What is measured, what is model, how sure, and what would change it, in sentences of Markdown.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``convergence``.
    points : str
        Training runs that the law was fitted to.
    """
    summary = rows_of(records, "summary").set_index(["source", "what", "level"])["value"]

    def told(source: str, what: str, digits: int) -> str:
        low, middle, high = (f"{summary[source, what, level]:.{digits}f}" for level in ("low", "median", "high"))
        return f"{middle} [{low}, {high}]"

    runs = f"{rows_of(records, 'fitted_runs')['value'].item():g}"
    law = f"{runs} runs digitised from Hoffmann et al. give the law's constants and their uncertainty."
    if points == "planted":
        law = f"The law is not: it is fitted to {runs} planted runs."
    past = [f"{years:.1f}" for years in _past()]
    starts = [f"{start.head_start:,.0f}" for start in experiment.MEASURED.values()]
    alike, *_, slow = experiment.FOLLOWERS
    left = [f"{float(experiment.follower_gap(20.0, progress)):.3f}" for progress in (alike, slow)]
    zeros = {g_inf: [one.zero for one in experiment.corrections(g_inf).values()] for g_inf in (2.8, 9.0)}
    reach = " and ".join(f"{min(at):.1f} to {max(at):.1f} ({g_inf:g}× a year)" for g_inf, at in zeros.items())
    peak, height, late = float(peak_time()), float(peak_gap()), float(training_gap(20.0))
    left_after_ten = told("law and growth", "gap at 10 years", 3)
    scores = [
        [100 * float(score_gap(t, C0=start.C0, head_start=start.head_start)) for start in experiment.MEASURED.values()]
        for t in (0.0, 3.0)
    ]
    now, then = (" and ".join(f"{points:.0f}" for points in at) for at in scores)
    return f"""**For a reader who has to decide**

- **What is measured.** {law} A table of published systems gives the compute of the largest language
  model over the year's median one: {" and ".join(starts)} times (2024, 2025). Whether affordable models catch up in
  benchmarks is a question to data, not to a formula: [41_meek_empirical](41_meek_empirical.ipynb).
- **What is model.** Given the model and its constants, the gap from an equal start peaks after {peak:.1f} years at
  {height:.2f} nats, and {late:.3f} are left after 20. From the measured head starts the same formula has its peak
  {" and ".join(past)} years in the past: given the model, the gap in loss only shrinks. So does the gap in points of
  MMLU, from {now} at the start to {then} after three years. The lead in compute and the lag in years grow for ever.
- **How sure.** Given the form of the law, the peak comes after {told("law", "peak time", 1)} years with the law
  refitted, after {told("law and growth", "peak time", 1)} with growth rates uncertain too; then {left_after_ten} nats
  are left after 10 years (medians, 95 %). No interval covers a wrong form of the law, or growth that changes.
- **What would change it.** Algorithms that help small models less, as *Origin of Algorithmic Progress*
  ([arXiv 2511.21622](https://arxiv.org/abs/2511.21622)) measures: given the model, {slow:g}× a year for the meek leaves
  {left[1]} nats after 20 years, not {left[0]} as with {alike:g}×. How the inference formula is read: a fixed spend
  then catches up after {reach} years. A metric without a bound."""


def gap(records: pd.DataFrame, points: str) -> Figure:
    """Draw the gap from an equal start with its uncertainty, and when it peaks over the head start; no legend.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``convergence``.
    points : str
        Training runs that the law was fitted to, for the names of the bands.
    """
    peak, past = float(peak_time()), _past()
    titles = (
        f"from an equal start, given the model: rises for {peak:.1f} years, then closes",
        f"from measured head starts, given the model: gap in loss past its peak for {min(past):.1f} to "
        f"{max(past):.1f} years",
    )
    figure, (gaps, heads) = plots.panels(titles, height=3.4)
    for source, shade in (("law and growth", "0.87"), ("law", "0.68")):
        band = rows_of(records, "gap", source=source).pivot_table(index="t", columns="level", values="value")
        gaps.fill_between(band.index, band["low"], band["high"], color=shade, lw=0)
    gaps.plot(T, training_gap(T), color="black", lw=2)
    gaps.axvline(peak, **plots.DOTTED)
    gaps.set(xlabel=YEARS, ylabel=NATS, ylim=(0, None), xlim=(0, 20))
    gaps.xaxis.set_major_locator(MultipleLocator(5))
    _, top = gaps.get_ylim()
    gaps.set_ylim(0, 1.25 * top)
    for height, text, colour in (
        (1.22, "black: the paper's constants", "black"),
        (1.12, f"dark: law refitted to {points}\nruns, 95 %", "0.35"),
        (0.95, "light: growth rates\nuncertain too, 95 %", "0.5"),
    ):
        plots.note(gaps, text, 7.6, height * top, color=colour, xytext=(0, 0), va="top")
    kappa = np.geomspace(1, 1e6, 200)
    plots.log_ticks(heads, "x")
    heads.plot(kappa, peak_time(head_start=kappa), color=COLOURS[0], lw=2)
    refitted = experiment.LAWS["alpha 0.178, refitted"]
    heads.plot(kappa, peak_time(refitted, head_start=kappa), color=COLOURS[0], ls="--")
    heads.axhspan(-9, 0, color="0.93", lw=0, zorder=0)
    heads.axhline(0, **plots.RULE)
    heads.set(
        xlabel="leader's compute / the meek's, today", ylabel="peak, years from today", xlim=(0.7, 1e6), ylim=(-8, 5)
    )
    plots.note(heads, "the gap in loss only shrinks", 1.0, -7.6, xytext=(0, 0))
    plots.note(heads, "equal start: the paper", 1.0, peak, xytext=(7, 0))
    heads.plot(1.0, peak, "o", color="black", ms=6)
    for (name, (value, _)), place in zip(experiment.MEASURED.items(), ((8, 2), (-7, -9)), strict=True):
        at = float(peak_time(head_start=value))
        heads.plot(value, at, "o", color=COLOURS[1], mec="black", ms=6)
        align = "right" if place[0] < 0 else "left"
        plots.note(heads, f"{value:,.0f}×, {name[5:9]}", value, at, xytext=place, ha=align)
    return figure


def constants(records: pd.DataFrame) -> Table:
    """The fitted constants with their profile intervals, and whether the runs determine them."""
    ends = rows_of(records, "fit_interval").pivot_table(index="parameter", columns="level", values="value")
    fitted = rows_of(records, "fit").set_index("parameter")["value"]
    rows = [(name, rounded(fitted[name], ends["low"][name], ends["high"][name])) for name in NAMES]
    condition = rows_of(records, "fit_condition")["value"].item()
    rows.append(("condition number (a warning above 1e5)", f"{condition:.0e}"))
    return Table(("constant", "fit [95 % profile interval]"), tuple(rows))


def limit(points: str) -> str:
    """What the runs that were fitted cannot say, in Markdown."""
    if points == "digitised":
        return (
            "- Digitised losses carry the resolution of a colour bar, and the five largest are left out, as in the "
            "published refit."
        )
    return (
        "- Here the law is fitted to planted runs of the number and range of the digitised ones, with Gaussian noise: "
        "that tests the method, and the intervals shown are not those of real runs."
    )


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
