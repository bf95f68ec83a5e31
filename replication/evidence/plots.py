"""Shapes of the figures of all papers: panels of one width, curves with bands, forest plots, tuning curves.

Every shape takes the same dictionaries: per series its scores by row or by x, each an `Interval`, or a plain number
where there is none (a pandas Series will do). `intervals` and `paired` make them from records. What a series looks like
is a dictionary too, of matplotlib's line properties per series; its order is the order of drawing, and a series without
a look is left out.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterSciNotation, LogLocator, NullLocator
from matplotlib.transforms import ScaledTranslation
from numpy.typing import NDArray

from replication.evidence.statistics import Interval, mean_interval

Array = NDArray[np.float64]
#: By row or by x, each an `Interval` or a number.
Scores: TypeAlias = "Mapping[Any, Any] | pd.Series[Any]"
#: Matplotlib's properties of a line.
Look: TypeAlias = Mapping[str, Any]

#: Inches, the same for every figure, so that text is equally large on every page.
WIDTH = 7.0
#: Points, of labels and titles; ticks, legends and notes are one smaller.
SIZE = 9.0
COLOURS: tuple[tuple[float, float, float], ...] = tuple(sns.color_palette("colorblind"))
GREY = "0.35"
#: Lines at a value that others are compared with.
RULE: Look = {"color": GREY, "lw": 0.9}
DASHED: Look = {**RULE, "ls": "--"}
DOTTED: Look = {**RULE, "ls": ":"}
_STYLE: dict[Any, Any] = {
    "figure.dpi": 200,
    "font.size": SIZE,
    "axes.labelsize": SIZE,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def panels(
    titles: Sequence[str] = ("",),
    *,
    height: float = 2.8,
    columns: int | None = None,
    share: Literal["", "x", "y", "xy"] = "",
    log: Literal["", "x", "y", "xy"] = "",
    widths: Sequence[float] | None = None,
    xlabel: str = "",
    ylabel: str = "",
) -> tuple[Figure, list[Axes]]:
    """Make a figure of the common width with a panel per title.

    Parameters
    ----------
    titles : sequence of str
        Wrapped to the width of a panel.
    height : float
        Inches per line of panels.
    columns : int, optional
        Panels side by side; all by default.
    share : {"", "x", "y", "xy"}
        Axes that all panels have in common.
    log : {"", "x", "y", "xy"}
        Axes that are logarithmic, see `log_ticks`.
    widths : sequence of float, optional
        Relative widths of the columns.
    xlabel, ylabel : str
        Labels, where axes are not shared of every panel; `xlabel` is wrapped as the titles are.
    """
    across = columns or len(titles)
    down = -(-len(titles) // across)
    with plt.rc_context(_STYLE):
        figure, grid = plt.subplots(
            down,
            across,
            figsize=(WIDTH, height * down),
            sharex="x" in share,
            sharey="y" in share,
            width_ratios=widths,
            squeeze=False,
            layout="constrained",
        )
    axes = list(grid.flat)
    for place, (axis, title) in enumerate(zip(axes, titles, strict=False)):
        share_of_width = widths[place % across] / sum(widths) if widths else 1 / across
        axis.set_title(_wrapped(title, 100 * share_of_width), fontsize=SIZE)
        axis.tick_params(labelsize=SIZE - 1)
        axis.grid(alpha=0.3)
        axis.set_axisbelow(True)
        log_ticks(axis, log)
        if place % across == 0 or "y" not in share:
            axis.set_ylabel(ylabel)
        if place + across >= len(titles) or "x" not in share:
            axis.set_xlabel(_wrapped(xlabel, 85 * share_of_width))
            axis.tick_params(labelbottom=True)
    for spare in axes[len(titles) :]:
        spare.set_visible(False)
    return figure, axes[: len(titles)]


# --- looks and scores -------------------------------------------------------------------------------------------------


def distinct(keys: Iterable[Any]) -> dict[Any, Look]:
    """Looks of series that have no order; marker and line differ too, for those who see no colours."""
    return {
        key: {"color": COLOURS[i % 10], "marker": "osD^vPX*"[i % 8], "ls": ("-", "--", "-.", ":")[i % 4]}
        for i, key in enumerate(keys)
    }


def ordered(keys: Iterable[Any]) -> dict[Any, Look]:
    """Looks of the levels of an ordered quantity: colours from dark to light that remain readable on white."""
    listed = list(keys)
    shades = sns.color_palette("viridis", len(listed) + 1)[:-1]
    return {key: {"color": shade, "marker": "o"} for key, shade in zip(listed, shades, strict=True)}


def alike(keys: Iterable[Any], **look: Any) -> dict[Any, Look]:
    """One look for all of several series, such as single seeds."""
    return dict.fromkeys(keys, look)


def intervals(rows: pd.DataFrame, *by: str, transform: Callable[[Any], Any] | None = None) -> Any:
    """The mean over seeds with its 95 % t interval, per level of each column in `by`, as nested dictionaries.

    Parameters
    ----------
    rows : DataFrame
        With ``value``, ``seed`` and the columns of `by`. Rows of one seed are averaged first.
    *by : str
        From the outermost to the innermost; without any there is one `Interval`.
    transform : callable, optional
        Monotone; applied to estimate and ends, such as ``np.exp`` to an interval of logarithms.
    """
    if by:
        return {level: intervals(part, *by[1:], transform=transform) for level, part in rows.groupby(by[0])}
    return transformed(mean_interval(rows.groupby("seed")["value"].mean()), transform)


def paired(
    rows: pd.DataFrame, factor: str, ours: str, transform: Callable[[Any], Any] | None = None
) -> dict[str, Interval]:
    """One level of a factor minus every other, paired over the seeds that both have, with 95 % t intervals.

    Parameters
    ----------
    rows : DataFrame
        With ``value``, ``seed`` and the factor.
    factor, ours
        The column, and the level that the others are subtracted from.
    transform : callable, optional
        As for `intervals`.
    """
    wide = rows.pivot_table(index="seed", columns=factor, values="value")
    pairs = {str(other): (wide[ours] - wide[other]).dropna() for other in wide if other != ours}
    return {other: transformed(mean_interval(less), transform) for other, less in pairs.items() if len(less)}


def means(
    rows: pd.DataFrame, level: str, x: str, transform: Callable[[Any], Any] | None = None
) -> dict[Any, pd.Series[float]]:
    """The mean value over `x`, a Series per level of a column; `transform` as above."""
    found = {key: part.groupby(x)["value"].mean() for key, part in rows.groupby(level)}
    return found if transform is None else {key: transform(curve) for key, curve in found.items()}


def transformed(found: Interval, transform: Callable[[Any], Any] | None) -> Interval:
    """An interval on another scale; the ends change places where the transform falls."""
    if transform is None:
        return found
    estimate, *ends = (float(transform(value)) for value in (found.estimate, found.low, found.high))
    return Interval(estimate, min(ends), max(ends), found.n)


# --- shapes -----------------------------------------------------------------------------------------------------------


def curves(
    axis: Axes,
    series: Mapping[Any, Any],
    looks: Mapping[Any, Any] | None = None,
    *,
    label: Callable[[Any], str] = str,
    bars: bool = False,
) -> None:
    """Draw scores over x, with a band (or bars) where they have intervals; markers where points can be told apart.

    Parameters
    ----------
    axis : Axes
        Where to draw.
    series : mapping
        Per series its scores by x.
    looks : mapping, optional
        Line properties per series; `distinct` by default.
    label : callable
        A series' name in words.
    bars : bool
        Bars in place of a band, the series side by side.
    """
    shown = _looks(series, looks)
    for place, (key, look) in enumerate(shown.items()):
        x, middle, low, high = _arrays(series[key])
        drawn = {"lw": 1.5, "ms": 4, **look}
        if len(x) > 25:
            drawn["marker"] = None
        (line,) = axis.plot(x, middle, label=label(key), **drawn)
        if (high > low).any():
            if not bars:
                axis.fill_between(x, low, high, color=look["color"], alpha=0.15, lw=0)
                continue
            # side by side, so that no bar hides another; after drawing, so that the limits are those of the data
            points = 2.5 * (place - (len(shown) - 1) / 2) / 72
            beside = axis.transData + ScaledTranslation(points, 0, axis.figure.dpi_scale_trans)
            for artist in (line, axis.vlines(x, low, high, color=look["color"], lw=1.2)):
                artist.set_transform(beside)


def forest(
    axis: Axes,
    series: Mapping[Any, Any],
    looks: Mapping[Any, Any] | None = None,
    *,
    label: Callable[[Any], str] = str,
    rows: Mapping[Any, str] | None = None,
    at: float | None = None,
    band: tuple[float, float] | None = None,
) -> dict[tuple[Any, Any], float]:
    """Draw an estimate with its interval per row, the series of a row side by side, the first row on top.

    Parameters
    ----------
    axis, series, looks, label
        As for `curves`, by row in place of x.
    rows : mapping, optional
        The rows that are drawn, in order, with their names.
    at : float, optional
        Where a line stands, such as no difference.
    band : tuple of float, optional
        Ends of what is of no consequence.

    Returns
    -------
    dict
        Per series and row its place on the y axis.
    """
    shown = _looks(series, looks)
    if rows is None:
        rows = {row: str(row) for key in shown for row in dict(series[key])}
    places: dict[tuple[Any, Any], float] = {}
    for y, row in enumerate(rows):
        there = [key for key in shown if row in series[key]]
        # two stand close together, more share half of the row
        shifts = 0.5 * (np.arange(len(there)) - (len(there) - 1) / 2) / max(len(there) - 1, 2)
        places |= {(key, row): y + shift for key, shift in zip(there, shifts.tolist(), strict=True)}
    for key, look in shown.items():
        own = {row: score for row, score in dict(series[key]).items() if row in rows}
        _, middle, low, high = _arrays(own)
        drawn = {"lw": 1.5, "ms": 4.5, "marker": "o", **look, "ls": "none"}
        reach = (middle - low, high - middle)
        axis.errorbar(middle, [places[key, row] for row in own], xerr=reach, label=label(key), **drawn)
    if band is not None:
        axis.axvspan(*band, color="0.9", lw=0, zorder=0)
    if at is not None:
        axis.axvline(at, **RULE)
    axis.set_yticks(range(len(rows)), list(rows.values()))
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.grid(visible=False, axis="y")
    return places


def tuning(
    axis: Axes,
    scores: Mapping[Any, Any],
    looks: Mapping[Any, Any] | None = None,
    *,
    label: Callable[[Any], str] = str,
    chosen: Mapping[Any, float] | None = None,
) -> None:
    """Draw the score over the rates that were tried; a dot marks the chosen one, an open one where it is an end.

    Parameters
    ----------
    axis, looks, label
        As for `curves`.
    scores : mapping
        Per series its scores by rate.
    chosen : mapping, optional
        Per series its rate; by default that of the lowest score.
    """
    shown = {key: {**look, "marker": None} for key, look in _looks(scores, looks).items()}
    curves(axis, scores, shown, label=label)
    tried = set()
    for key, look in shown.items():
        x, middle, *_ = _arrays(scores[key])
        tried |= set(x.tolist())
        best = int(middle.argmin()) if chosen is None else x.tolist().index(chosen[key])
        on_edge = x[best] in (x.min(), x.max())
        face = "white" if on_edge else look["color"]
        axis.plot(x[best], middle[best], "o", ms=5.5, mec=look["color"], mfc=face, mew=1.4, zorder=3)
    log_ticks(axis, "x", sorted(tried))
    if len(tried) > 4:
        axis.tick_params(axis="x", rotation=45)
    axis.set_xlabel("learning rate\n(dot: chosen; open: at an end)")


def heatmap(axis: Axes, grid: pd.DataFrame, text: Any, *, norm: Any, cmap: str, bar: str = "") -> None:
    """Draw a table as colours with a text in every cell.

    Parameters
    ----------
    axis : Axes
        Where to draw.
    grid : DataFrame
        The values; the names of rows and columns stand at its sides.
    text : array_like of str
        Of the grid's shape.
    norm : Normalize
        Values that have the ends of the colours.
    cmap : str
        Name of the colours.
    bar : str
        What the colours mean; no colour bar without it.
    """
    kws = {"norm": norm, "cmap": cmap, "linewidths": 0.5, "annot_kws": {"size": SIZE - 2.5}, "cbar": False}
    sns.heatmap(grid, ax=axis, annot=np.asarray(text), fmt="", **kws)
    axis.set_xticks(np.arange(grid.shape[1]) + 0.5, [_plain(name) for name in grid.columns], rotation=0)
    axis.set_yticks(np.arange(grid.shape[0]) + 0.5, [_plain(name) for name in grid.index], rotation=0)
    axis.set(xlabel="", ylabel="")
    axis.tick_params(labelsize=SIZE - 2)
    if bar:
        mesh = axis.collections[0]
        beyond = grid.to_numpy().min() < mesh.norm.vmin or grid.to_numpy().max() > mesh.norm.vmax
        colour_bar([axis], mesh, bar, extend="both" if beyond else "neither")


def colour_bar(axes: Sequence[Axes], shown: Any, label: str, **more: Any) -> None:
    """Say beside axes what the colours of an artist mean."""
    bar = axes[0].figure.colorbar(shown, ax=list(axes), pad=0.02, aspect=30, **more)
    bar.set_label(label, fontsize=SIZE)
    bar.ax.tick_params(labelsize=SIZE - 1)


# --- ticks and names --------------------------------------------------------------------------------------------------


class _Log(LogLocator):
    """Ticks at round numbers: the finer, the less the axis spans."""

    STEPS = ((3, (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)), (12, (1, 1.5, 2, 3, 5, 7)), (300, (1, 2, 5)))

    def tick_values(self, vmin: float, vmax: float) -> Any:
        self.set_params(subs=next((steps for most, steps in self.STEPS if vmax < most * vmin), (1,)))
        return super().tick_values(vmin, vmax)


class _LogFormatter(LogFormatterSciNotation):
    """Plain numbers, but powers of ten where the axis reaches far."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        low, high = self.axis.get_view_interval()  # type: ignore[union-attr]
        return str(super().__call__(x, pos)) if high > 5e5 or low < 5e-4 else _plain(x)


def log_ticks(axis: Axes, which: Literal["", "x", "y", "xy"], at: Sequence[float] | None = None) -> None:
    """Make axes logarithmic, with plain numbers at a few ticks (powers of ten where they reach far).

    Parameters
    ----------
    axis : Axes
        Whose axes.
    which : {"", "x", "y", "xy"}
        Which of them.
    at : sequence of float, optional
        Where ticks stand, if not at round numbers.
    """
    for name in which:
        of = axis.xaxis if name == "x" else axis.yaxis
        axis.set(**{f"{name}scale": "log"})
        of.set_minor_locator(NullLocator())
        if at is not None:
            of.set_ticks(list(at), [_plain(value) for value in at])
            continue
        of.set_major_locator(_Log(numticks=9))
        of.set_major_formatter(_LogFormatter(labelOnlyBase=False, minor_thresholds=(np.inf, np.inf)))


def legend(figure: Figure) -> Figure:
    """Name every series of a figure once, below it, in as many columns as fit; the same figure is returned."""
    named: dict[str, Any] = {}
    for axis in figure.axes:
        for handle, text in zip(*axis.get_legend_handles_labels(), strict=True):
            named.setdefault(text, handle)
    longest = max(len(line) for text in named for line in text.split("\n"))
    columns = min(len(named), max(1, int(WIDTH * 72 / ((SIZE - 1) * (0.52 * longest + 4.5)))))
    style = {"ncols": columns, "frameon": False, "fontsize": SIZE - 1}
    figure.legend(named.values(), named.keys(), loc="outside lower center", **style)
    return figure


def legends(figure: Figure) -> Figure:
    """Name the series of every panel inside it, where panels show different ones; the same figure is returned."""
    for axis in figure.axes:
        if axis.get_legend_handles_labels()[1]:
            axis.legend(frameon=False, fontsize=SIZE - 1.5, labelspacing=0.3)
    return figure


def name_ends(figure: Figure) -> Figure:
    """Name every line at its right end, outside the axes, whose limits must be final; the same figure is returned."""
    figure.draw_without_rendering()
    for axis in figure.axes:
        ends = []
        for line in axis.lines:
            text = str(line.get_label())
            if text.startswith("_"):
                continue
            points = axis.transAxes.inverted().transform(line.get_transform().transform(line.get_xydata()))
            x, y = max(point for point in points.tolist() if point[0] <= 1.001)
            ends.append((min(max(y, 0.0), 1.0), x, text, line.get_color()))
        ends.sort(key=lambda end: end[0])
        # the height of a line of text as a share of that of the axes
        step = 1.2 * (SIZE - 1) / 72 * figure.dpi / axis.bbox.height
        needs = [step * (1 + text.count("\n")) for *_, text, _ in ends]
        places = [y for y, *_ in ends]
        # what is too near is moved up, then down where it left the axes
        for i in range(1, len(ends)):
            places[i] = max(places[i], places[i - 1] + (needs[i] + needs[i - 1]) / 2)
        for i in reversed(range(len(ends))):
            places[i] = min(places[i], places[i + 1] - (needs[i] + needs[i + 1]) / 2 if i + 1 < len(ends) else 1.0)
        for (y, x, text, colour), place in zip(ends, places, strict=True):
            arrow: dict[str, Any] = {"arrowstyle": "-", "color": colour, "lw": 0.5, "shrinkA": 0, "shrinkB": 0}
            arrow["relpos"] = (0, 0.5)  # towards the text's middle it would cross its neighbours
            style: dict[str, Any] = {"color": colour, "fontsize": SIZE - 1, "va": "center", "arrowprops": arrow}
            axis.annotate(text, (x, y), (1.03, place), xycoords="axes fraction", **style)
    return figure


def note(axis: Axes, text: str, x: float, y: float, **more: Any) -> None:
    """Write a small grey text beside a point, given in the axes' data."""
    style = {"xytext": (3, 3), "textcoords": "offset points", "fontsize": SIZE - 1, "color": GREY}
    axis.annotate(text, (x, y), **{**style, **more})


def _looks(series: Mapping[Any, Any], looks: Mapping[Any, Any] | None) -> dict[Any, Look]:
    found = {key: look for key, look in (distinct(series) if looks is None else looks).items() if key in series}
    if not found:
        raise ValueError(f"series: got {list(series)}, none of which has a look; there are {list(looks or ())}")
    return found


def _arrays(scores: Scores) -> tuple[NDArray[Any], Array, Array, Array]:
    """x, estimates, and the ends of the intervals (the estimate itself where there is none)."""
    found = dict(scores.items())
    ends = [(s.estimate, s.low, s.high) if isinstance(s, Interval) else (s, s, s) for s in found.values()]
    middle, low, high = np.array(ends, dtype=float).reshape(-1, 3).T
    return np.array(list(found)), middle, low, high


def _plain(value: object) -> str:
    if isinstance(value, str):
        return value
    number = float(value)  # type: ignore[arg-type]
    if 0 < abs(number) < 1e-3:  # Python turns to exponents a decade later, between two ticks of a grid of rates
        mantissa, exponent = f"{number:e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{number:,.0f}" if abs(number) >= 10_000 else f"{number:g}"


def _wrapped(text: str, width: float) -> str:
    return "\n".join(textwrap.fill(line, int(width)) for line in text.split("\n"))
