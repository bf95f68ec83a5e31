"""Figures and tables of the images notebook; each answers one question and takes the tidy records of its experiment."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from replication.evidence import Table, mean_interval, plots, rows_of

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
LOOKS = plots.distinct(METHODS)
FRECHET = "Fréchet distance in the\nclassifier's features"


def samples(records: pd.DataFrame) -> Figure:
    """Draw training images and one-step samples of every method, the same noise in every column.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``images``.
    """
    pixels = rows_of(records, "pixel")
    rows = ["training images", "denoiser", *METHODS]
    figure, axes = plots.panels([""] * len(rows), height=0.6, columns=1)
    for axis, method in zip(axes, rows, strict=True):
        wide = pixels[pixels["method"] == method].sort_values(["image", "row", "column", "channel"])
        count, height, width, channels = (int(wide[name].max()) + 1 for name in ("image", "row", "column", "channel"))
        images = wide["value"].to_numpy().reshape(count, height, width, channels)
        # a white column between two images
        strip = np.pad(images, ((0, 0), (0, 0), (0, 1), (0, 0)), constant_values=1.0)
        strip = np.moveaxis(strip, 0, 1).reshape(height, count * (width + 1), channels)
        axis.imshow(strip if channels == 3 else strip[..., 0], cmap="gray", vmin=0, vmax=1)
        axis.set_ylabel(NAMES[method], rotation=0, ha="right", va="center")
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    return figure


def quality(records: pd.DataFrame) -> Figure:
    """Draw the Fréchet distance of one-step samples over the images seen, with 95 % intervals over seeds.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``images``.
    """
    rows = rows_of(records, "log_frechet", sampling_steps=1)
    figure, (axis,) = plots.panels(height=4, xlabel="share of the budget of images", ylabel=FRECHET, log="y")
    found = plots.intervals(rows[rows["method"].isin(METHODS)], "method", "share", transform=np.exp)
    plots.curves(axis, found, LOOKS, label=NAMES.__getitem__, bars=True)
    references = (
        ("denoiser", 1, "the denoiser they start from", "--"),
        ("held-out", 5, "5 times held-out images (gate)", "-."),
        ("held-out", 1, "held-out images", ":"),
    )
    for method, factor, label, line in references:
        level = factor * np.exp(rows[rows["method"] == method]["value"].mean())
        axis.axhline(level, **{**plots.RULE, "ls": line}, label=label)
    shares = sorted(found[METHODS[0]])
    axis.set_xticks(shares, [f"{share:.0%}" for share in shares])
    return plots.legend(figure)


def differences(records: pd.DataFrame) -> Figure:
    """Draw ADCM (weight per sample) against every other method at the full budget, paired over seeds, in percent.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``images``.
    """
    ours = "adcm-sample"
    others = {method: NAMES[method] for method in METHODS if method != ours}
    label = "Fréchet distance: ADCM / method\n(left of 1 ADCM is better)"
    titles = ("1 sampling step", "2 sampling steps")
    figure, axes = plots.panels(titles, height=2.6, share="xy", xlabel=label, log="x")
    for axis, steps in zip(axes, (1, 2), strict=True):
        rows = rows_of(records, "log_frechet", sampling_steps=steps, share=1)
        rows = rows[rows["method"].isin(METHODS)]
        wide = rows.pivot_table(index="seed", columns="method", values="value")
        for method, place in zip(others, range(len(others)), strict=True):
            ratio = np.exp(wide[ours] - wide[method])
            axis.plot(ratio, np.full(len(ratio), place), "o", ms=2.5, color="0.6")
        found = {ours: plots.paired(rows, "method", ours, np.exp)}
        plots.forest(axis, found, LOOKS, rows=others, at=1, band=(np.exp(-0.05), np.exp(0.05)))
    return figure


def steps(records: pd.DataFrame) -> Figure:
    """Draw Δt/t over t of every method early and late in training, both axes logarithmic.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``images``.
    """
    rows = rows_of(records, "relative_step")
    shares = sorted(rows["share"].unique())
    titles = [f"at {share:.0%} of the images" for share in shares]
    figure, axes = plots.panels(titles, share="xy", xlabel="noise level t", ylabel="relative step Δt / t", log="xy")
    for axis, share in zip(axes, shares, strict=True):
        plots.curves(axis, plots.means(rows[rows["share"] == share], "method", "t"), LOOKS, label=NAMES.__getitem__)
    return plots.legend(figure)


def closeness(records: pd.DataFrame) -> Figure:
    """Draw the distribution of the distance to the nearest training image, for samples and for held-out images.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``images``.
    """
    found = plots.means(rows_of(records, "nearest_distance"), "method", "quantile")
    nearer = {method: pd.Series(curve.index, curve) for method, curve in found.items()}
    label = "Euclidean distance to the nearest training image (pixels with s.d. 0.5)"
    figure, (axis,) = plots.panels(height=3.2, xlabel=label, ylabel="share of images that are nearer")
    looks = {**LOOKS, "held-out": {"color": "0.15", "lw": 2.4, "zorder": 1}}
    plots.curves(axis, nearer, looks, label=NAMES.__getitem__)
    axis.axvline(found["held-out"].min(), **plots.DOTTED)
    return plots.legend(figure)


def tuning(records: pd.DataFrame) -> Figure:
    """Draw the tuning seed's Fréchet distance over the learning rate of every method; a dot marks the chosen rate.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``images``.
    """
    chosen = rows_of(records, "chosen_rate").set_index("method")["value"].to_dict()
    figure, (axis,) = plots.panels(height=3.2, ylabel=FRECHET, log="y")
    found = plots.means(rows_of(records, "tuning_score"), "method", "lr")
    plots.tuning(axis, found, LOOKS, label=NAMES.__getitem__, chosen=chosen)
    return plots.name_ends(figure)


def scores(records: pd.DataFrame) -> Table:
    """Distances to the training images at the full budget: means over seeds with half the 95 % interval.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``images``.
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
        Tidy records of the experiment ``images``.
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
