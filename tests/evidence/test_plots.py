"""The shapes of the figures: they draw the numbers that they are given, with the intervals of the statistics."""

from __future__ import annotations

import itertools
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import Normalize, to_rgba
from matplotlib.text import Text

from replication.evidence import Interval, mean_interval, plots

LOOKS = {"b": {"color": "C1", "marker": "s"}, "a": {"color": "C0", "marker": "o"}}


@pytest.fixture
def axis():
    figure, (axis,) = plots.panels()
    yield axis
    plt.close(figure)


@pytest.fixture
def rows():
    """Two methods at two rates over three seeds; seed 2 was measured twice."""
    rng = np.random.default_rng(0)
    made = [
        {"method": method, "rate": rate, "seed": seed, "value": rng.normal(loc=rate)}
        for method in ("a", "b")
        for rate in (1.0, 2.0)
        for seed in (0, 1, 2, 2)
    ]
    return pd.DataFrame(made)


def segments(collection):
    return [np.asarray(segment).round(12).tolist() for segment in collection.get_segments()]


# --- scores from records ----------------------------------------------------------------------------------------------


def test_intervals_are_those_of_the_statistics_with_a_seed_as_the_unit(rows):
    found = plots.intervals(rows, "method", "rate")
    assert list(found) == ["a", "b"]
    part = rows[(rows["method"] == "b") & (rows["rate"] == 2.0)]
    assert found["b"][2.0] == mean_interval(part.groupby("seed")["value"].mean())
    assert found["b"][2.0].n == 3
    assert plots.intervals(part) == found["b"][2.0]


def test_transforms_apply_to_estimate_and_ends(rows):
    plain, exp = (plots.intervals(rows, "method", transform=how)["a"] for how in (None, np.exp))
    assert (exp.estimate, exp.low, exp.high) == pytest.approx(np.exp([plain.estimate, plain.low, plain.high]))
    fallen = plots.transformed(Interval(1.0, 0.5, 3.0, 7), lambda x: -x)
    assert fallen == Interval(-1.0, -3.0, -0.5, 7)


def test_paired_differences_are_ours_minus_the_other_within_seeds(rows):
    more = pd.concat([rows, rows[rows["method"] == "a"].assign(method="c", value=0.0)])
    found = plots.paired(more, "method", "a")
    wide = more.pivot_table(index="seed", columns="method", values="value")
    assert list(found) == ["b", "c"]
    assert found["b"] == mean_interval(wide["a"] - wide["b"])
    fewer = plots.paired(more[(more["method"] != "c") | (more["seed"] > 0)], "method", "a")["c"]
    assert fewer == mean_interval(wide["a"][[1, 2]])  # on the seeds that both have
    ratio = plots.paired(more, "method", "a", np.exp)["b"]
    assert ratio.high == pytest.approx(np.exp(found["b"].high))


def test_means_are_over_all_rows_of_a_level(rows):
    found = plots.means(rows, "method", "rate")
    part = rows[(rows["method"] == "a") & (rows["rate"] == 1.0)]
    assert found["a"].index.tolist() == [1.0, 2.0]
    assert found["a"][1.0] == pytest.approx(part["value"].mean())
    assert plots.means(rows, "method", "rate", np.exp)["a"][1.0] == pytest.approx(np.exp(part["value"].mean()))


# --- shapes -----------------------------------------------------------------------------------------------------------


def test_panels_have_one_width_and_share_what_is_asked():
    figure, axes = plots.panels(["one", "two", "three"], columns=2, share="y", log="x", xlabel="x", ylabel="y")
    try:
        assert figure.get_figwidth() == plots.WIDTH == 7
        assert figure.dpi == 200
        assert [axis.get_title() for axis in axes] == ["one", "two", "three"]
        assert [axis.get_ylabel() for axis in axes] == ["y", "", "y"]
        assert {axis.get_xlabel() for axis in axes} == {"x"}
        assert {axis.get_xscale() for axis in axes} == {"log"}
        assert [axis.get_visible() for axis in figure.axes] == [True, True, True, False]
        axes[0].set_ylim(3, 4)
        assert axes[2].get_ylim() == (3, 4)
    finally:
        plt.close(figure)


def test_columns_of_several_lines_have_their_widths() -> None:
    _, axes = plots.panels(("a", "b", "c", "d"), columns=2, widths=(1, 3))
    assert [axis.get_title() for axis in axes] == ["a", "b", "c", "d"]


def test_long_titles_and_labels_are_wrapped_and_their_own_lines_kept():
    figure, axes = plots.panels(["word " * 20, "two"], xlabel="first\nsecond")
    assert max(len(line) for line in axes[0].get_title().split("\n")) <= 50
    assert axes[1].get_xlabel() == "first\nsecond"
    plt.close(figure)


def test_the_style_stays_in_its_figures():
    before = dict(plt.rcParams)
    plt.close(plots.panels()[0])
    assert dict(plt.rcParams) == before


def test_curves_draw_estimates_and_bands(axis):
    scores = {1.0: Interval(5, 4, 7, 3), 2.0: Interval(6, 5.5, 6.5, 3)}
    plots.curves(axis, {"a": scores, "b": pd.Series([1.0, 2.0], [1.0, 2.0])}, LOOKS, label="arm {}".format)
    first, second = axis.lines
    assert [first.get_label(), second.get_label()] == ["arm b", "arm a"]  # in the order of the looks
    assert second.get_xydata().tolist() == [[1, 5], [2, 6]]
    assert first.get_xydata().tolist() == [[1, 1], [2, 2]]
    (band,) = axis.collections  # numbers without an interval have none
    edge = {tuple(point) for point in band.get_paths()[0].vertices.tolist()}
    assert edge == {(1, 4), (1, 7), (2, 5.5), (2, 6.5)}
    assert second.get_marker() == "o"


def test_bars_stand_beside_each_other_and_keep_their_values(axis):
    scores = {1.0: Interval(5, 4, 7, 3), 2.0: Interval(6, 5.5, 6.5, 3)}
    plots.curves(axis, {"a": scores, "b": scores}, LOOKS, bars=True)
    for bars in axis.collections:
        assert segments(bars) == [[[1, 4], [1, 7]], [[2, 5.5], [2, 6.5]]]
    at = [line.get_transform().transform((1.0, 5.0)) for line in axis.lines]
    assert abs(at[0][0] - at[1][0]) > 1
    assert at[0][1] == at[1][1]
    assert axis.get_xlim()[0] < 1 < 2 < axis.get_xlim()[1]


def test_markers_are_left_out_where_points_cannot_be_told_apart(axis):
    plots.curves(axis, {"a": pd.Series(np.arange(26.0))}, LOOKS)
    assert axis.lines[0].get_marker() == "None"


def test_forests_draw_rows_from_the_top_with_their_intervals(axis):
    a = {"x": Interval(1, 0, 3, 5), "y": Interval(2, 1.5, 2.5, 5)}
    b = {"x": Interval(-1, -2, 0.5, 5)}
    rows = {"y": "why", "x": "ex"}
    places = plots.forest(axis, {"a": a, "b": b}, LOOKS, rows=rows, at=0.25, band=(-0.1, 0.1))
    assert [label.get_text() for label in axis.get_yticklabels()] == ["why", "ex"]
    assert axis.get_ylim() == (1.5, -0.5)  # the first row is on top
    assert places["a", "y"] == 0  # alone in its row
    assert places["b", "x"] < 1 < places["a", "x"]
    assert places["b", "x"] + places["a", "x"] == pytest.approx(2)
    of_b, of_a = axis.containers
    points, _, (bars,) = of_a
    assert {tuple(point) for point in points.get_xydata().tolist()} == {(1, places["a", "x"]), (2, 0)}
    assert sorted(segments(bars)) == sorted([[[0, places["a", "x"]], [3, places["a", "x"]]], [[1.5, 0], [2.5, 0]]])
    assert of_b[0].get_xydata().tolist() == [[-1, places["b", "x"]]]
    assert points.get_linestyle() == "None"
    assert [0.25, 0.25] in [list(line.get_xdata()) for line in axis.lines]
    (band,) = axis.patches
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx((-0.1, 0.1))


def test_a_forest_of_numbers_has_no_bars(axis):
    plots.forest(axis, {"a": {"x": 3.0}}, LOOKS)
    assert segments(axis.containers[0][2][0]) == [[[3, 0], [3, 0]]]


def test_tuning_marks_the_chosen_rate_open_at_an_end(axis):
    scores = {"a": {0.1: 3.0, 0.2: 1.0, 0.4: 2.0}, "b": {0.1: 1.0, 0.2: 2.0, 0.4: 3.0}}
    plots.tuning(axis, scores, LOOKS)
    dots = {line.get_markeredgecolor(): line for line in axis.lines if line.get_marker() == "o"}
    assert dots["C0"].get_xydata().tolist() == [[0.2, 1.0]]
    assert to_rgba(dots["C0"].get_markerfacecolor()) == to_rgba("C0")
    assert dots["C1"].get_xydata().tolist() == [[0.1, 1.0]]
    assert dots["C1"].get_markerfacecolor() == "white"
    assert [label.get_text() for label in axis.get_xticklabels()] == ["0.1", "0.2", "0.4"]


def test_tuning_marks_the_rate_that_is_said_to_be_chosen(axis):
    plots.tuning(axis, {"a": {0.1: 3.0, 0.2: 1.0, 0.4: 2.0}}, LOOKS, chosen={"a": 0.4})
    (dot,) = (line for line in axis.lines if line.get_marker() == "o")
    assert dot.get_xydata().tolist() == [[0.4, 2.0]]


def test_heatmaps_show_values_texts_and_names(axis):
    grid = pd.DataFrame([[1.0, 2.0], [3.0, 4.0]], index=[10.0, 20000.0], columns=["p", "q"])
    plots.heatmap(axis, grid, [["a", "b"], ["c", "d"]], norm=Normalize(1, 3), cmap="cividis", bar="value")
    assert axis.collections[0].get_array().ravel().tolist() == [1, 2, 3, 4]
    assert [text.get_text() for text in axis.texts] == ["a", "b", "c", "d"]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["p", "q"]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["10", "20,000"]
    bar = axis.collections[0].colorbar
    assert bar.ax.get_ylabel() == "value"
    assert bar.extend == "both"  # 4 is beyond the colours


def test_series_without_a_look_are_left_out_but_not_all(axis):
    plots.curves(axis, {"a": {1: 1.0}, "other": {1: 2.0}}, LOOKS)
    assert len(axis.lines) == 1
    with pytest.raises(ValueError, match=r"series: got \['other'\], none of which has a look"):
        plots.curves(axis, {"other": {1: 2.0}}, LOOKS)


def test_looks_differ_and_shades_are_dark_to_light():
    found = plots.distinct(range(8))
    assert len({look["color"] for look in found.values()}) == len({look["marker"] for look in found.values()}) == 8
    light = [sum(look["color"]) for look in plots.ordered([1, 2, 3, 4]).values()]
    assert light == sorted(light)
    assert light[-1] < 2  # readable on white
    assert plots.alike("ab", color="0.5") == {"a": {"color": "0.5"}, "b": {"color": "0.5"}}


# --- ticks and names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high"),
    [(0.9, 1.6), (0.05, 0.12), (0.3, 2.5), (4, 90), (1, 250), (0.002, 8), (0.01, 3000), (30, 9e4)],
)
def test_log_ticks_are_few_and_plain(axis, low, high):
    plots.log_ticks(axis, "y")
    axis.set_ylim(low, high)
    axis.figure.canvas.draw()
    shown = [label.get_text() for label in axis.get_yticklabels() if low <= label.get_position()[1] <= high]
    assert 3 <= len(shown) <= 10
    assert all(float(text.replace(",", "")) for text in shown)
    assert not any("e" in text or "$" in text for text in shown)
    assert len(set(shown)) == len(shown)
    assert axis.yaxis.get_minorticklocs().size == 0


def test_log_ticks_of_far_reaching_axes_are_powers_of_ten(axis):
    plots.log_ticks(axis, "x")
    axis.set_xlim(1e8, 1e12)
    axis.figure.canvas.draw()
    inside = [text for text in axis.get_xticklabels() if 1e8 <= text.get_position()[0] <= 1e12]
    assert len(inside) >= 3
    assert all("10^{" in text.get_text() for text in inside)


def test_log_ticks_are_round(axis):
    plots.log_ticks(axis, "x")
    axis.set_xlim(1, 250)
    axis.figure.canvas.draw()
    shown = [text.get_text() for text in axis.get_xticklabels() if 1 <= text.get_position()[0] <= 250]
    assert shown == ["1", "2", "5", "10", "20", "50", "100", "200"]


def test_log_ticks_stand_where_they_are_put(axis):
    plots.log_ticks(axis, "x", [0.5, 64, 12000])
    assert [text.get_text() for text in axis.get_xticklabels()] == ["0.5", "64", "12,000"]
    assert axis.get_yscale() == "linear"
    plots.log_ticks(axis, "y", [6.25e-5, 1.25e-4, 9.9e-4, 1e-3])
    assert [text.get_text() for text in axis.get_yticklabels()] == ["6.25e-5", "1.25e-4", "9.9e-4", "0.001"]


def test_legends_name_each_series_once_within_the_width():
    figure, axes = plots.panels(["one", "two"])
    for axis in axes:
        for i in range(7):
            axis.plot([0, 1], [i, i], label=f"a rather long name, number {i}")
        axis.plot([0, 1], [9, 9], label="_hidden")
    assert plots.legend(figure) is figure
    figure.canvas.draw()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.texts] == [f"a rather long name, number {i}" for i in range(7)]
    box, whole = legend.get_window_extent(), figure.bbox
    assert whole.x0 <= box.x0 < box.x1 <= whole.x1
    assert plots.legends(figure) is figure
    assert [len(axis.get_legend().texts) for axis in axes] == [7, 7]
    plt.close(figure)


def test_ends_are_named_in_order_and_apart(axis):
    heights = {"low": 1.0, "close": 1.01, "closer": 1.02, "high": 5.0}
    for i, (name, y) in enumerate(heights.items()):
        axis.plot([0, 1], [3.0, y], color=f"C{i}", label=name)
    axis.axhline(4, label="rule")
    axis.plot([0, 1], [2, 2])
    plots.name_ends(axis.figure)
    axis.figure.canvas.draw()
    texts = sorted(axis.texts, key=lambda text: text.get_position()[1])
    assert [text.get_text() for text in texts] == ["low", "close", "closer", "rule", "high"]
    boxes = [Text.get_window_extent(text) for text in texts]  # without their arrows
    assert all(lower.y0 + (lower.y1 - lower.y0) * 0.7 < upper.y0 for lower, upper in itertools.pairwise(boxes))
    assert all(box.x0 > axis.bbox.x1 for box in boxes)
    assert all(0 <= text.get_position()[1] <= 1 for text in texts)
    assert texts[0].get_color() == "C0"
    assert texts[-1].xy == pytest.approx(axis.transAxes.inverted().transform(axis.transData.transform((1, 5.0))))


def test_evidence_without_figures_imports_no_plotting():
    code = "import sys, replication.evidence; print([m for m in ('matplotlib', 'seaborn') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
