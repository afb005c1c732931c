"""Figures of ridge runs: accuracy by layer and area."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsdflow.analysis.rois import roi_masks
from nsdflow.report.style import colour_of_roi, empty_figure, styled

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

__all__ = ["accuracy_by_layer"]


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
