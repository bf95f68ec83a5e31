"""Figures and tables of the images notebook; each answers one question and takes the tidy records of its experiment.

Those of one data set take its rows (`of`).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from replication.adcm.experiments.images import METHODS, trained
from replication.evidence import Table, mean_interval, plots, rows_of
from replication.evidence.claims import load_claims

NAMES = load_claims("adcm").levels

LOOKS = plots.distinct(METHODS)
DATASETS = {"digits": "digits", "cifar10": "CIFAR-10 at 16 × 16"}
FRECHET = "Fréchet distance in the\nclassifier's features"


def of(records: pd.DataFrame, dataset: str) -> pd.DataFrame:
    """The rows of one data set."""
    return records[records["dataset"] == dataset]


def _compared(records: pd.DataFrame) -> list[str]:
    """The methods that were trained, in their order."""
    trained = set(rows_of(records, "log_frechet")["method"])
    return [method for method in METHODS if method in trained]


def samples(records: pd.DataFrame) -> Figure:
    """Draw held-out images, and one-step samples of every method from the same noise in every column."""
    pixels = rows_of(records, "pixel")
    rows = ["held-out images", "denoiser", *_compared(records)]
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
    """Draw the Fréchet distance of one-step samples over the images seen, with 95 % intervals over seeds."""
    rows = rows_of(records, "log_frechet", sampling_steps=1)
    datasets = trained(rows)
    label = "share of the budget of images"
    figure, axes = plots.panels([DATASETS[name] for name in datasets], height=4, xlabel=label, ylabel=FRECHET, log="y")
    for axis, dataset in zip(axes, datasets, strict=True):
        own = of(rows, dataset)
        found = plots.intervals(own[own["method"].isin(METHODS)], "method", "share", transform=np.exp)
        plots.curves(axis, found, LOOKS, label=NAMES.__getitem__, bars=True)
        references = (
            ("denoiser", 1, "the denoiser they start from", "--"),
            ("training images", 5, "5 times training images (gate)", "-."),
            ("training images", 1, "training images", ":"),
        )
        for method, factor, name, line in references:
            level = factor * np.exp(own[own["method"] == method]["value"].mean())
            axis.axhline(level, **{**plots.RULE, "ls": line}, label=name)
        shares = sorted(found["adcm-wt"])
        axis.set_xticks(shares, [f"{share:.0%}" for share in shares])
    return plots.legend(figure)


def differences(records: pd.DataFrame) -> Figure:
    """Draw ADCM with w(t) against every other method on each data set: ratios paired over seeds; dots are seeds."""
    ours, others = "adcm-wt", {method: NAMES[method] for method in METHODS if method != "adcm-wt"}
    label = "Fréchet distance, ADCM / method\n(left of 1 ADCM is better)"
    rows = rows_of(records, "log_frechet", sampling_steps=1, share=1)
    rows = rows[rows["method"].isin(METHODS)]
    datasets = trained(rows)
    titles = [DATASETS[name] for name in datasets]
    figure, axes = plots.panels(titles, height=2.6, share="y", xlabel=label, log="x")
    for axis, dataset in zip(axes, datasets, strict=True):
        own = of(rows, dataset)
        wide = own.pivot_table(index="seed", columns="method", values="value")
        for place, method in enumerate(others):
            if method in wide:
                ratio = np.exp(wide[ours] - wide[method])
                axis.plot(ratio, np.full(len(ratio), place), "o", ms=2.5, color="0.6")
        found = {ours: plots.paired(own, "method", ours, np.exp)}
        plots.forest(axis, found, LOOKS, rows=others, at=1, band=(np.exp(-0.05), np.exp(0.05)))
    return figure


def steps(records: pd.DataFrame) -> Figure:
    """Draw Δt/t over t of every method early and late in training, both axes logarithmic."""
    rows = rows_of(records, "relative_step")
    shares = sorted(rows["share"].unique())
    titles = [f"at {share:.0%} of the images" for share in shares]
    figure, axes = plots.panels(titles, share="xy", xlabel="noise level t", ylabel="relative step Δt / t", log="xy")
    for axis, share in zip(axes, shares, strict=True):
        plots.curves(axis, plots.means(rows[rows["share"] == share], "method", "t"), LOOKS, label=NAMES.__getitem__)
    return plots.legend(figure)


def closeness(records: pd.DataFrame) -> Figure:
    """Draw the distribution of the distance to the nearest training image, for samples and for held-out images."""
    found = plots.means(rows_of(records, "nearest_distance"), "method", "quantile")
    nearer = {method: pd.Series(curve.index, curve) for method, curve in found.items()}
    label = "Euclidean distance to the nearest training image (pixels with s.d. 0.5)"
    figure, (axis,) = plots.panels(height=3.2, xlabel=label, ylabel="share of images that are nearer")
    looks = {**LOOKS, "held-out images": {"color": "0.15", "lw": 2.4, "zorder": 1}}
    plots.curves(axis, nearer, looks, label=NAMES.__getitem__)
    axis.axvline(found["held-out images"].min(), **plots.DOTTED)
    return plots.legend(figure)


def tuning(records: pd.DataFrame) -> Figure:
    """Draw the tuning seed's Fréchet distance over the learning rate of every method; a dot marks the chosen rate."""
    chosen = rows_of(records, "chosen_rate").set_index("method")["value"].to_dict()
    figure, (axis,) = plots.panels(height=3.2, ylabel=FRECHET, log="y")
    found = plots.means(rows_of(records, "tuning_score"), "method", "lr")
    plots.tuning(axis, found, LOOKS, label=NAMES.__getitem__, chosen=chosen)
    return plots.name_ends(figure)


def scores(records: pd.DataFrame) -> Table:
    """Distances to the held-out images at the full budget: means over seeds with half the 95 % interval."""
    rows = records[records["quantity"].isin(["frechet", "energy"])]
    raw: dict[str, dict[str, float]] = {}
    lines = []
    for method in ("training images", *_compared(records), "denoiser"):
        cells = []
        for quantity, steps_ in (("frechet", 1), ("frechet", 2), ("energy", 1)):
            own = rows[(rows["method"] == method) & (rows["quantity"] == quantity) & (rows["sampling_steps"] == steps_)]
            values = own[own["share"] == own["share"].max()]["value"]
            raw.setdefault(method, {})[f"{quantity}, {steps_}"] = float(values.mean()) if len(values) else float("nan")
            half = mean_interval(values).high - values.mean() if len(values) > 1 else None
            cells.append("–" if not len(values) else f"{values.mean():.2g}" + (f" ± {half:.1g}" if half else ""))
        lines.append((NAMES[method], *cells))
    name = str(rows["features"].dropna().iloc[0])
    heads = ("images", f"Fréchet distance, one step ({name})", "two steps", "energy distance of pixels, one step")
    return Table(heads, tuple(lines), {"scores": {k: {q: v for q, v in d.items() if v == v} for k, d in raw.items()}})


def grids(records: pd.DataFrame) -> Table:
    """Length of the adaptive grids at every segmentation, and the safeguards that acted on them, over all seeds."""
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
