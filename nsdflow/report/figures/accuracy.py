"""How well voxels are predicted, next to how well they could be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from nsdflow.analysis.rois import roi_masks
from nsdflow.analysis.summary import ceiling_of, subject_results
from nsdflow.report.style import CEILING, INK, PALETTE, empty_figure, styled, used, zero_line

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["accuracy_by_roi", "accuracy_histograms", "accuracy_map"]

Floats = NDArray[np.floating[Any]]


@styled
def accuracy_by_roi(results: xr.DataTree) -> Figure:
    """Median accuracy of every subject in every ROI, with quartiles, under the median noise ceiling."""
    subjects = dict(_with_accuracy(results))
    groups = list(dict.fromkeys(name for data in subjects.values() for name in roi_masks(data["roi"])))
    step = 0.8 / max(len(subjects), 1)
    width = min(10.5, max(4.8, 1.9 + 0.17 * len(subjects) * len(groups) + 0.25 * len(groups)))
    figure = empty_figure(width, 3.4)
    axes = figure.subplots()
    for row, (colour, data) in enumerate(zip(PALETTE * 2, subjects.values(), strict=False)):
        ceiling, masks = ceiling_of(data), roi_masks(data["roi"])
        for column, group in enumerate(groups):
            if group not in masks:
                continue
            inside = np.asarray(masks[group])
            place = column + (row - (len(subjects) - 1) / 2) * step
            low, median, high = np.nanpercentile(np.asarray(data["accuracy"])[inside], (25, 50, 75))
            axes.plot([place, place], [low, high], color=colour, linewidth=1.6, alpha=0.55, solid_capstyle="butt")
            axes.plot(place, median, "o", color=colour, markersize=4.5)
            if ceiling is not None:
                limit = np.nanmedian(np.asarray(ceiling)[inside])
                axes.plot([place - step * 0.4, place + step * 0.4], [limit] * 2, color=CEILING, linewidth=2.2)
    zero_line(axes)
    axes.set_xticks(range(len(groups)), groups)
    axes.tick_params(axis="x", length=0)
    axes.set(ylabel="correlation r, single trials\n(median and quartiles)", xlim=(-0.6, len(groups) - 0.4))
    _subject_legend(axes, list(subjects))
    return figure


@styled
def accuracy_histograms(results: xr.DataTree) -> Figure:
    """Distribution over voxels of accuracy and of noise ceiling, one panel a subject."""
    subjects = dict(_with_accuracy(results))
    columns = min(4, max(len(subjects), 1))
    rows = -(-len(subjects) // columns)
    figure = empty_figure(max(4.2, 2.4 * columns), 0.6 + 1.75 * rows)
    panels = figure.subplots(rows, columns, sharex=True, squeeze=False)
    low = min([-0.1, *(float(data["accuracy"].min()) for data in subjects.values())])
    bins = [float(edge) for edge in np.arange(np.floor(low * 20) / 20, 1.0001, 0.025)]
    for axes, (name, data) in zip(used(panels, len(subjects)), subjects.items(), strict=True):
        values = np.asarray(data["accuracy"])
        axes.hist(values, bins, color=PALETTE[0], alpha=0.75, label="accuracy")
        ceiling = ceiling_of(data)
        if ceiling is not None:
            axes.hist(np.asarray(ceiling), bins, histtype="step", color=INK, linewidth=1, label="noise ceiling")
        median = float(np.nanmedian(values))
        axes.axvline(median, color=PALETTE[5], linewidth=1.2, label="median accuracy")
        axes.set_title(f"{name}   median {median:.3f}")
    figure.supxlabel("correlation r, single trials", fontsize=9)
    for axes in panels[:, 0]:
        axes.set_ylabel("voxels")
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=3)
    return figure


@styled
def accuracy_map(subject: xr.Dataset, variable: str = "accuracy", *, slices: int = 8, label: str = "") -> Figure:
    """Slices across the third axis of the volume that hold most voxels, cut to where there are any.

    Parameters
    ----------
    subject
        ``variable`` (voxel,) with coordinates ``i``, ``j``, ``k``.
    variable
        What to show; colours run from 0 to the 99th percentile.
    slices
        At most so many, evenly through the voxels.
    label
        Of the colour bar; by default the variable's name, as a correlation.
    """
    i, j, k = (np.asarray(subject[axis]) for axis in "ijk")
    values = np.asarray(subject[variable], dtype=np.float64)
    shown = _slices(k, slices)
    left, low = i.min() - 1, j.min() - 1
    shape = (i.max() - left + 2, j.max() - low + 2)
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    tall = min(2.4, 2.1 * shape[1] / shape[0])
    figure = empty_figure(2.1 * columns + 0.9, (tall + 0.3) * rows + 0.2)
    panels = figure.subplots(rows, columns, squeeze=False)
    top = float(np.nanpercentile(values, 99)) if np.isfinite(values).any() else 1.0
    for axes, number in zip(used(panels, len(shown)), shown, strict=True):
        plane = np.full(shape, np.nan)
        here = k == number
        plane[i[here] - left, j[here] - low] = values[here]
        image = axes.imshow(
            plane.T, origin="lower", cmap="viridis", vmin=0, vmax=max(top, 0.05), interpolation="nearest"
        )
        axes.set_title(f"k = {number}", fontweight="normal", loc="center")
        axes.set_facecolor("#f1f1f1")
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set_visible(False)
    _mark_sides(panels.flat[0], subject)
    bar = figure.colorbar(image, ax=panels, shrink=0.8, aspect=25, pad=0.02)
    bar.set_label(label or f"{variable.replace('_', ' ')} (correlation r)")
    bar.outline.set_visible(False)
    return figure


def _with_accuracy(results: xr.DataTree) -> list[tuple[str, xr.Dataset]]:
    return [(name, data) for name, data in subject_results(results) if "accuracy" in data]


def _subject_legend(axes: Axes, names: list[str]) -> None:
    handles = [
        Line2D([], [], color=colour, marker="o", markersize=4.5, linewidth=1.6, label=name)
        for colour, name in zip(PALETTE * 2, names, strict=False)
    ]
    handles.append(Line2D([], [], color=CEILING, linewidth=2.2, label="noise ceiling"))
    axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.01, 0.5))


def _slices(k: NDArray[np.integer[Any]], count: int) -> list[int]:
    """``count`` slices that divide the voxels evenly, or all there are."""
    present = np.unique(k)
    if present.size <= count:
        return [int(number) for number in present]
    middles = (np.arange(count) + 0.5) / count
    return sorted({int(number) for number in np.quantile(k, middles, method="nearest")})


def _mark_sides(axes: Axes, subject: xr.Dataset) -> None:
    """L and R beside the first slice, where the volume's affine says which side is which."""
    affine = np.asarray(subject["flat_index"].attrs.get("affine", []) if "flat_index" in subject.coords else [])
    if affine.size != 16:
        return
    sides = ("L", "R") if affine.reshape(4, 4)[0, 0] > 0 else ("R", "L")
    for place, side, align in ((0.02, sides[0], "left"), (0.98, sides[1], "right")):
        axes.text(place, 0.02, side, transform=axes.transAxes, ha=align, va="bottom", fontsize=8, color="#666666")
