"""Figures of regressions on features: fwRF candidates, chosen penalties, and the layers that voxels read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.patches import Circle, Rectangle

from nsdflow.analysis.rois import roi_masks
from nsdflow.analysis.summary import subject_results
from nsdflow.report.figure_parts import well_predicted
from nsdflow.report.style import (
    CEILING,
    PALETTE,
    colour_of_roi,
    empty_figure,
    nothing_to_show,
    panel_grid,
    styled,
)

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

__all__ = [
    "accuracy_by_layer",
    "candidate_fields",
    "category_weights",
    "chosen_lambdas",
    "features_by_layer",
    "layer_weights",
]

#: Largest number of categories whose names fit next to each other.
MOST_COLUMNS = 24
#: Prefix of the localizer's coordinates.
LOCALIZER = "floc_"


@styled
def candidate_fields(candidates: xr.DataArray) -> Figure:
    """The candidate receptive fields of an fwRF search: centres by size, with one circle of radius sigma.

    Parameters
    ----------
    candidates : xr.DataArray, (candidate, parameter)
        Parameters x, y, sigma in image widths.
    """
    fields = np.asarray(candidates.transpose(..., "parameter"), dtype=np.float64)
    sizes = np.unique(fields[:, 2].round(6))
    figure, _, shown = panel_grid(len(sizes), (2.0, 2.2), (0.5, 0.4), sharex=True, sharey=True)
    for axes, sigma in zip(shown, sizes, strict=True):
        here = fields[np.isclose(fields[:, 2], sigma, atol=1e-6)]
        axes.plot(here[:, 0], here[:, 1], ".", color=PALETTE[0], markersize=3, markeredgewidth=0)
        axes.add_patch(Rectangle((-0.5, -0.5), 1, 1, fill=False, edgecolor=CEILING, linewidth=0.8))
        axes.add_patch(Circle((0, 0), sigma, fill=False, edgecolor=PALETTE[5], linewidth=1.4))
        axes.set(xlim=(-0.65, 0.65), ylim=(-0.65, 0.65), aspect="equal", xticks=(-0.5, 0, 0.5), yticks=(-0.5, 0, 0.5))
        axes.set_title(f"σ = {sigma:.3f}   {len(here):,}")
    figure.supxlabel("x (image widths)", fontsize=9)
    figure.supylabel("y (image widths)", fontsize=9)
    return figure


@styled
def chosen_lambdas(results: xr.DataTree, tried: tuple[float, ...] | None = None) -> Figure:
    """Number of voxels that chose each ridge penalty, one panel per subject; the ends of the range are flagged.

    Parameters
    ----------
    results : xr.DataTree
        Subjects with ``lambda`` (voxel,).
    tried : tuple of float, optional
        All penalties that were tried; by default those that voxels chose.
    """
    subjects = {name: np.asarray(data["lambda"], float) for name, data in subject_results(results) if "lambda" in data}
    grid = np.unique(np.concatenate([np.asarray(tried, float)] if tried else list(subjects.values())))
    figure, panels, shown = panel_grid(len(subjects), (2.4, 2.0), (0, 0.5), least=3.6, sharex=True)
    for axes, (name, values) in zip(shown, subjects.items(), strict=True):
        counts = [np.isclose(values, value, rtol=1e-4).sum() for value in grid]
        ends = {0, len(grid) - 1}
        colours = [PALETTE[5] if place in ends else PALETTE[0] for place in range(len(grid))]
        axes.bar(range(len(grid)), counts, color=colours, width=0.85)
        at_ends = 100 * sum(counts[place] for place in ends) / max(values.size, 1)
        axes.set_title(f"{name}   {at_ends:.0f} % at ends")
        step = max(1, len(grid) // 6)
        axes.set_xticks(range(0, len(grid), step), [_short(value) for value in grid[::step]], rotation=45)
    for axes in panels[:, 0]:
        axes.set_ylabel("voxels")
    figure.supxlabel("ridge penalty λ   (orange: the smallest and largest tried)", fontsize=9)
    return figure


@styled
def features_by_layer(subject: xr.Dataset) -> Figure:
    """Number of features that each layer contributes to the model.

    Parameters
    ----------
    subject : xr.Dataset
        With coordinate ``layer`` (feature,).
    """
    names, counts = np.unique(np.asarray(subject["layer"]).astype(str), return_counts=True)
    order = list(dict.fromkeys(str(name) for name in subject["layer"].values))
    found = dict(zip(names.tolist(), counts.tolist(), strict=True))
    figure = empty_figure(5.6, 0.8 + 0.26 * len(order))
    axes = figure.subplots()
    axes.barh(range(len(order)), [found[name] for name in order], color=PALETTE[0], height=0.7)
    for place, name in enumerate(order):
        axes.text(found[name], place, f" {found[name]:,}", va="center", fontsize=8)
    axes.set_yticks(range(len(order)), order)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set(xlabel="features", ylabel="layer")
    return figure


@styled
def layer_weights(subject: xr.Dataset, *, threshold: float = 0.055) -> Figure:
    """Share of each layer of features in the squared weights of a voxel, averaged over each ROI's voxels.

    Parameters
    ----------
    subject : xr.Dataset
        ``weights`` (voxel, feature) with coordinate ``layer`` on feature, ``accuracy``, coordinate ``roi``.
    threshold : float
        Voxels with a lower accuracy are left out.
    """
    layers = list(dict.fromkeys(str(name) for name in subject["layer"].values))
    squares = (subject["weights"] ** 2).groupby("layer").sum("feature")
    shares = (squares / squares.sum("layer")).sel(layer=layers).transpose("voxel", "layer")
    masks = well_predicted(subject, threshold)
    if not masks:
        return nothing_to_show(f"no voxel is predicted better than r = {threshold:g}")
    figure = empty_figure(6.4, max(1.1 + 0.36 * len(masks), 0.6 + 0.21 * len(layers)))  # bars, legend
    axes = figure.subplots()
    start = np.zeros(len(masks))
    means = np.array([np.nanmean(np.asarray(shares)[mask], axis=0) for mask in masks.values()])
    for number, layer in enumerate(layers):
        shade = 0.12 + 0.8 * number / max(len(layers) - 1, 1)
        axes.barh(
            range(len(masks)),
            means[:, number],
            left=start,
            height=0.7,
            color=mpl.colormaps["viridis"](shade),
            label=layer,
        )
        start = start + means[:, number]
    axes.set_yticks(range(len(masks)), list(masks))
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.set(xlabel="share of squared weights", xlim=(0, 1))
    axes.legend(title="layer", loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def _short(value: float) -> str:
    return f"{value:.2g}".replace("e+0", "e").replace("e+", "e").replace("e-0", "e-")


@styled
def accuracy_by_layer(results: xr.Dataset) -> Figure:
    """Median accuracy of each layer in each area (left), and how many voxels each layer fits best (right).

    Parameters
    ----------
    results : xr.Dataset
        One subject of a ridge run: ``layer_accuracy`` (layer, voxel), coordinates ``best_layer`` and ``roi``.
    """
    layers = [str(name) for name in results["layer"].values]
    masks = roi_masks(results["roi"]) if "roi" in results.coords else {}
    figure = empty_figure(9.0, 3.4)
    left, right = figure.subplots(1, 2)
    place, bottom = np.arange(len(layers)), np.zeros(len(layers))
    best = results["best_layer"].values.astype(str)
    for name, mask in masks.items():
        inside = np.asarray(mask)
        median = np.nanmedian(results["layer_accuracy"].values[:, inside], axis=1)
        colour = colour_of_roi(name)
        left.plot(place, median, marker="o", color=colour, label=f"{name} ({inside.sum()})")
        counts = np.array([(best[inside] == layer).sum() for layer in layers])
        right.bar(place, counts, bottom=bottom, color=colour, width=0.7)
        bottom += counts
    for axes, label in ((left, "median accuracy (r)"), (right, "voxels with this best layer")):
        turned = len(layers) > 6 or max(map(len, layers)) > 6
        axes.set_xticks(place, layers, rotation=45 if turned else 0, ha="right" if turned else "center")
        axes.set_ylabel(label)
    if masks:
        left.legend(frameon=False, fontsize=7, title="area (voxels)", title_fontsize=7)
    return figure


@styled
def category_weights(subject: xr.Dataset, *, threshold: float = 0.055) -> Figure:
    """Mean weight of each category in each area; of many categories those with the largest weights.

    Parameters
    ----------
    subject : xr.Dataset
        One subject of a semantic run: ``category_weight`` (category, voxel), ``accuracy``, and coordinates ``roi`` and
        ``floc_faces``, ... where they are known.
    threshold : float
        Voxels with a lower accuracy are left out.
    """
    masks = _areas(subject, threshold)
    if not masks:
        return nothing_to_show(f"no voxel is predicted better than r = {threshold:g}")
    weights = np.asarray(subject["category_weight"].transpose("voxel", "category"), np.float64)
    means = np.stack([weights[mask].mean(axis=0) for mask in masks.values()])
    names = np.asarray(subject["category"].values).astype(str)
    shown = np.sort(np.argsort(-np.abs(means).max(axis=0), kind="stable")[:MOST_COLUMNS])
    figure = empty_figure(2.4 + 0.36 * len(shown), max(3.6, 1.6 + 0.28 * len(masks)))
    axes = figure.subplots()
    largest = float(np.abs(means).max()) or 1.0
    drawn = axes.imshow(means[:, shown], cmap="RdBu_r", vmin=-largest, vmax=largest, aspect="auto")
    axes.set_xticks(range(len(shown)), names[shown], rotation=50, ha="right")
    axes.set_yticks(range(len(masks)), [f"{name} ({int(mask.sum())})" for name, mask in masks.items()])
    axes.tick_params(length=0)
    axes.set(xlabel="category", ylabel="area (voxels)")
    bar = figure.colorbar(drawn, ax=axes, pad=0.02)
    bar.set_label("mean weight")
    bar.outline.set_visible(False)
    return figure


def _areas(subject: xr.Dataset, threshold: float) -> dict[str, NDArray[np.bool_]]:
    """Well-predicted voxels of each visual area, and of each area of the localizer."""
    masks = {name: np.asarray(mask) for name, mask in roi_masks(subject["roi"]).items()}
    masks |= {
        str(name).removeprefix(LOCALIZER): np.asarray(labels) > 0
        for name, labels in subject.coords.items()
        if str(name).startswith(LOCALIZER) and "flag_values" in labels.attrs
    }
    return well_predicted(subject, threshold, masks)
