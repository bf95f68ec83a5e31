"""Figures and tables of the images notebook; each answers one question and takes the tidy records of its experiment."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from replication.evidence import Table, mean_interval, rows_of

NAMES = {
    "adcm-sample": "ADCM, weight per sample",
    "adcm-wt": "ADCM, weight w(t)",
    "log-sample": "log grid, weight per sample",
    "ecm256": "ECM, q = 256",
    "ecm2": "ECM, q = 2, doubling",
    "ict": "iCT",
    "denoiser": "denoiser, before",
    "held-out": "held-out images",
    "training images": "training images",
}
"""How methods are written."""

METHODS = tuple(NAMES)[:6]
STYLES = dict(
    zip(
        METHODS,
        zip(sns.color_palette("colorblind", 6), "osD^vP", ("-", "--", "-.", "-", "--", "-."), strict=True),
        strict=True,
    )
)
"""Colour, marker and line of every method."""


def samples(records: pd.DataFrame) -> Figure:
    """Draw training images and one-step samples of every method, the same noise in every column.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``images.run``.
    """
    pixels = rows_of(records, "pixel")
    rows = ["training images", "denoiser", *METHODS]
    figure, axes = plt.subplots(len(rows), 1, figsize=(8, 0.66 * len(rows)), layout="constrained")
    for axis, method in zip(axes, rows, strict=True):
        wide = pixels[pixels["method"] == method].sort_values(["image", "row", "column", "channel"])
        count, height, width, channels = (int(wide[name].max()) + 1 for name in ("image", "row", "column", "channel"))
        images = wide["value"].to_numpy().reshape(count, height, width, channels)
        # a white column between two images
        strip = np.pad(images, ((0, 0), (0, 0), (0, 1), (0, 0)), constant_values=1.0)
        strip = np.moveaxis(strip, 0, 1).reshape(height, count * (width + 1), channels)
        axis.imshow(strip if channels == 3 else strip[..., 0], cmap="gray", vmin=0, vmax=1)
        axis.set_ylabel(NAMES[method], rotation=0, ha="right", va="center")
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_visible(False)
    return figure


def quality(records: pd.DataFrame) -> Figure:
    """Draw the Fréchet distance of one-step samples over the images seen, with 95 % intervals over seeds.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``images.run``.
    """
    rows = rows_of(records, "log_frechet")
    rows = rows[rows["sampling_steps"] == 1]
    figure, axis = plt.subplots(figsize=(8.5, 4.4), layout="constrained")
    for shift, method in zip(np.linspace(-0.03, 0.03, len(METHODS)), METHODS, strict=True):
        own = rows[rows["method"] == method]
        found = {share: mean_interval(values) for share, values in own.groupby("share")["value"]}
        mean = pd.Series({share: one.estimate for share, one in found.items()})
        half = pd.Series({share: one.half_width for share, one in found.items()})
        colour, marker, line = STYLES[method]
        centre = np.exp(mean)
        reach = np.stack([centre - np.exp(mean - half), np.exp(mean + half) - centre])
        axis.errorbar(
            mean.index + shift, centre, reach, fmt=marker, ls=line, ms=5, lw=1.4, color=colour, label=NAMES[method]
        )
    references = (
        ("denoiser", 1, "the denoiser they start from", "--"),
        ("held-out", 5, "5 times held-out images (gate)", "-."),
        ("held-out", 1, "held-out images", ":"),
    )
    for method, factor, label, line in references:
        level = factor * np.exp(rows[rows["method"] == method]["value"].mean())
        axis.axhline(level, color="0.35", lw=1.2, ls=line, label=label)
    axis.set(
        xlabel="share of the budget of images", ylabel="Fréchet distance in the classifier's features", yscale="log"
    )
    axis.set_xticks(
        shares := sorted(rows[rows["method"].isin(METHODS)]["share"].unique()), [f"{s:.0%}" for s in shares]
    )
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    axis.grid(alpha=0.3)
    return figure


def differences(records: pd.DataFrame) -> Figure:
    """Draw ADCM (weight per sample) against every other method at the full budget, paired over seeds, in percent.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``images.run``.
    """
    rows = rows_of(records, "log_frechet")
    others = [method for method in METHODS if method != "adcm-sample"]
    figure, axes = plt.subplots(1, 2, figsize=(9, 2.9), layout="constrained", sharey=True, sharex=True)
    for axis, steps in zip(axes, (1, 2), strict=True):
        part = rows[(rows["sampling_steps"] == steps) & (rows["share"] == 1) & rows["method"].isin(METHODS)]
        wide = part.pivot_table(index="seed", columns="method", values="value")
        ratio = wide[others].rsub(wide["adcm-sample"], axis=0)
        found = [mean_interval(ratio[name]) for name in others]
        mean = np.array([one.estimate for one in found])
        half = np.array([one.half_width for one in found])
        axis.axvspan(np.exp(-0.05), np.exp(0.05), color="0.92", zorder=0)
        axis.axvline(1, color="0.3", lw=0.8)
        for seed in ratio.index:
            axis.plot(np.exp(ratio.loc[seed]), range(len(others)), "o", ms=3, color="0.6")
        reach = np.stack([np.exp(mean) - np.exp(mean - half), np.exp(mean + half) - np.exp(mean)])
        axis.errorbar(
            np.exp(mean), range(len(others)), xerr=reach, fmt="D", ms=5, lw=1.4, color=STYLES["adcm-sample"][0]
        )
        axis.set(xscale="log", title=f"{steps} sampling step{'s' if steps > 1 else ''}")
        axis.set_yticks(range(len(others)), [NAMES[name] for name in others])
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.grid(axis="x", alpha=0.3)
    axes[0].invert_yaxis()
    figure.supxlabel(
        "Fréchet distance of ADCM (weight per sample) / that of the method; left of 1 ADCM is better", size=10
    )
    return figure


def steps(records: pd.DataFrame) -> Figure:
    """Draw Δt/t over t of every method early and late in training, both axes logarithmic.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``images.run``.
    """
    rows = rows_of(records, "relative_step")
    shares = sorted(rows["share"].unique())
    figure, axes = plt.subplots(
        1, len(shares), figsize=(9.5, 3.8), layout="constrained", sharex=True, sharey=True, squeeze=False
    )
    for axis, share in zip(axes[0], shares, strict=True):
        for method in METHODS:
            curve = rows[(rows["share"] == share) & (rows["method"] == method)].sort_values("t")
            colour, _, line = STYLES[method]
            axis.plot(curve["t"], curve["value"], color=colour, ls=line, lw=1.6, label=NAMES[method])
        axis.set(xscale="log", yscale="log", xlabel="noise level t", title=f"at {share:.0%} of the images")
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("relative step Δt / t")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return figure


def closeness(records: pd.DataFrame) -> Figure:
    """Draw the distribution of the distance to the nearest training image, for samples and for held-out images.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``images.run``.
    """
    rows = rows_of(records, "nearest_distance")
    figure, axis = plt.subplots(figsize=(8.5, 3.8), layout="constrained")
    for method in METHODS:
        curve = rows[rows["method"] == method].groupby("quantile")["value"].mean()
        colour, marker, line = STYLES[method]
        axis.plot(curve, curve.index, color=colour, marker=marker, ls=line, ms=5, lw=1.3, label=NAMES[method])
    curve = rows[rows["method"] == "held-out"].set_index("quantile")["value"]
    axis.plot(curve, curve.index, "-", color="0.15", lw=2.4, label=NAMES["held-out"], zorder=1)
    axis.axvline(curve.min(), color="0.15", lw=0.9, ls=":")
    axis.set(
        xlabel="Euclidean distance to the nearest training image (pixels scaled to standard deviation 0.5)",
        ylabel="share of images that are nearer",
    )
    axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    axis.grid(alpha=0.3)
    return figure


def tuning(records: pd.DataFrame) -> Figure:
    """Draw the tuning seed's Fréchet distance over the learning rate of every method; a ring marks the chosen rate.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``images.run``.
    """
    rows, chosen = rows_of(records, "tuning_score"), rows_of(records, "chosen_rate").set_index("method")["value"]
    figure, axis = plt.subplots(figsize=(8.5, 3.6), layout="constrained")
    for method in METHODS:
        curve = rows[rows["method"] == method].set_index("lr")["value"].sort_index()
        colour, marker, line = STYLES[method]
        axis.plot(curve, color=colour, marker=marker, ls=line, ms=4, lw=1.4, label=NAMES[method])
        axis.plot(chosen[method], curve[chosen[method]], "o", ms=11, mfc="none", mec=colour, mew=1.5)
    axis.set(
        xlabel="learning rate", ylabel="Fréchet distance in the\nclassifier's features", xscale="log", yscale="log"
    )
    axis.set_xticks(rates := sorted(rows["lr"].unique()), [f"{rate:g}" for rate in rates])
    axis.minorticks_off()
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    axis.grid(alpha=0.3)
    return figure


def scores(records: pd.DataFrame) -> Table:
    """Distances to the training images at the full budget: means over seeds with half the 95 % interval.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``images.run``.
    """
    rows = records[records["quantity"].isin(["frechet", "energy"])]
    raw: dict[str, dict[str, float]] = {}
    lines = []
    for method in ("held-out", *METHODS, "denoiser"):
        cells = []
        for quantity, steps_ in (("frechet", 1), ("frechet", 2), ("energy", 1)):
            own = rows[(rows["method"] == method) & (rows["quantity"] == quantity) & (rows["sampling_steps"] == steps_)]
            values = own[own["share"] == own["share"].max()]["value"]
            raw.setdefault(method, {})[f"{quantity}, {steps_}"] = float(values.mean()) if len(values) else float("nan")
            half = mean_interval(values).half_width if len(values) > 1 else None
            cells.append("–" if not len(values) else f"{values.mean():.2g}" + (f" ± {half:.1g}" if half else ""))
        lines.append((NAMES[method], *cells))
    name = str(rows["features"].dropna().iloc[0])
    heads = ("images", f"Fréchet distance, one step ({name})", "two steps", "energy distance of pixels, one step")
    return Table(heads, tuple(lines), {"scores": {k: {q: v for q, v in d.items() if v == v} for k, d in raw.items()}})


def grids(records: pd.DataFrame) -> Table:
    """Length of the adaptive grids at every segmentation, and the safeguards that acted on them, over all seeds.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``images.run``.
    """
    segments, acted = rows_of(records, "segments"), rows_of(records, "safeguard")
    lines = []
    for (method, step), part in segments.groupby(["method", "step"]):
        counts = (
            acted[(acted["method"] == method) & (acted["step"] == step)].groupby("safeguard", sort=False)["value"].sum()
        )
        # a last step that is cut at t_min is no safeguard's doing, every grid has one
        words = ", ".join(f"{name} {count:.0f}" for name, count in counts.items() if count and name != "remainder")
        low, high = part["value"].min(), part["value"].max()
        lines.append((NAMES[str(method)], f"{step:.0f}", f"{low:.0f} – {high:.0f}", words or "none"))
    return Table(
        ("method", "training step", "segments, least – most of the seeds", "safeguards that acted"), tuple(lines)
    )
