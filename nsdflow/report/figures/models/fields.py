"""Figures of pooling fields and receptive fields."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.collections import PatchCollection
from matplotlib.patches import Circle, Rectangle
from numpy.typing import NDArray

from nsdflow.analysis.fields.pooling import pooling_fields
from nsdflow.analysis.rois import roi_masks
from nsdflow.report.figure_parts import well_predicted
from nsdflow.report.style import (
    CEILING,
    IMAGE_DEGREES,
    colour_of_roi,
    empty_figure,
    nothing_to_show,
    panel_grid,
    styled,
)

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["pooling_field_examples", "receptive_fields", "size_by_eccentricity"]

Floats = NDArray[np.floating[Any]]
_EDGE = IMAGE_DEGREES / 2
_TICKS = (-4, 0, 4)
#: Number of circles in a panel above which they are drawn lighter.
MANY_FIELDS = 150


@styled
def pooling_field_examples(subject: xr.Dataset, level: int = 0, *, columns: int = 6) -> Figure:
    """Pooling fields of the best predicted voxels of every ROI, one row per ROI.

    Colours run from the smallest to the largest weight of each field. The number on the right is the largest weight
    divided by that of an even field; near 1 the field is still flat.

    Parameters
    ----------
    subject : xr.Dataset
        ``pooling_logits_0`` or ``_1`` (voxel, y, x) and ``accuracy`` with coordinate ``roi``.
    level : int
        0 for the finer, 1 for the coarser level of feature maps.
    columns : int
        Voxels per ROI.
    """
    masks = roi_masks(subject["roi"])
    figure = empty_figure(1.15 * columns + 0.5, 1.3 * len(masks) + 0.3)
    axes = figure.subplots()  # one for all tiles: drawing twenty-four would take seconds
    accuracy = np.nan_to_num(np.asarray(subject["accuracy"]))
    for row, (name, mask) in enumerate(masks.items()):
        inside = np.flatnonzero(np.asarray(mask))
        best = inside[np.argsort(-accuracy[inside])][:columns]
        fields = pooling_fields(subject[f"pooling_logits_{level}"].isel(voxel=best)).values
        for column, (field, voxel) in enumerate(zip(fields, best, strict=True)):
            left, top = 1.1 * column, -1.24 * row
            middle = (left + 0.5, top - 0.5)
            axes.imshow(field, cmap="cividis", extent=(left, left + 1, top - 1, top), interpolation="nearest")
            axes.plot([left, left + 1], [middle[1]] * 2, color="white", linewidth=0.5, alpha=0.5)
            axes.plot([middle[0]] * 2, [top - 1, top], color="white", linewidth=0.5, alpha=0.5)
            axes.text(left, top + 0.02, f"r = {accuracy[voxel]:.2f}", fontsize=8, va="bottom")
            axes.text(left + 1, top + 0.02, f"×{field.max() * field.size:.3g}", fontsize=8, va="bottom", ha="right")
        axes.text(-0.06, -1.24 * row - 0.5, name, rotation=90, ha="right", va="center", fontweight="bold")
    axes.set(xlim=(-0.25, 1.1 * columns), ylim=(-1.24 * len(masks) + 0.2, 0.2), aspect="equal")
    axes.set_axis_off()
    figure.supxlabel(f"each square is the image, {IMAGE_DEGREES} degrees wide", fontsize=9)
    return figure


@styled
def receptive_fields(subject: xr.Dataset, *, threshold: float = 0.055) -> Figure:
    """Receptive fields of each ROI: one circle of radius sigma for each field that voxels chose.

    Parameters
    ----------
    subject : xr.Dataset
        ``rf`` (voxel, parameter = x, y, sigma, in image widths) and ``accuracy``, with coordinate ``roi``.
    threshold : float
        Voxels with a lower accuracy are left out.
    """
    masks = well_predicted(subject, threshold)
    if not masks:
        return nothing_to_show(f"no voxel is predicted better than r = {threshold:g}")
    figure, _, shown = panel_grid(len(masks), (2.15, 2.45), (0.4, 0.35), sharex=True, sharey=True)
    for axes, (name, inside) in zip(shown, masks.items(), strict=True):
        _circles(axes, IMAGE_DEGREES * np.asarray(subject["rf"])[inside], colour_of_roi(name))
        axes.set_title(f"{name}   {inside.sum()} voxels")
    figure.supxlabel("degrees of visual angle", fontsize=9)
    return figure


@styled
def size_by_eccentricity(subject: xr.Dataset, *, threshold: float = 0.055) -> Figure:
    """Mean size of receptive or pooling fields, with its standard error, over their eccentricity, by ROI.

    Parameters
    ----------
    subject : xr.Dataset
        ``rf`` (voxel, parameter), or ``eccentricity`` and ``size`` (voxel,) of
        :func:`nsdflow.analysis.pooling_field_fits` with ``fitted``; ``accuracy``; coordinate ``roi``.
    threshold : float
        Voxels with a lower accuracy are left out.
    """
    eccentricity, size = (IMAGE_DEGREES * values for values in _eccentricity_and_size(subject))
    figure = empty_figure(5.6, 3.4)
    axes = figure.subplots()
    edges = np.arange(0, 6.1, 0.75)
    for name, inside in well_predicted(subject, threshold).items():
        points = []
        for low, high in pairwise(edges):
            ring = inside & (eccentricity >= low) & (eccentricity < high)
            if ring.sum() >= 5:
                error = size[ring].std() / np.sqrt(ring.sum())
                points.append((eccentricity[ring].mean(), size[ring].mean(), error))
        if points:
            place, mean, error = np.array(points).T
            colour = colour_of_roi(name)
            axes.plot(place, mean, "o-", color=colour, markersize=4, label=f"{name} ({inside.sum()})")
            axes.fill_between(place, mean - error, mean + error, color=colour, alpha=0.15, linewidth=0)
    axes.set(xlabel="eccentricity (degrees)", ylabel="size σ (degrees)")
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    if axes.has_data():
        axes.legend(title="ROI (voxels)", loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def _eccentricity_and_size(subject: xr.Dataset) -> tuple[Floats, Floats]:
    """In image widths; NaN where a fit failed."""
    if "rf" in subject:
        x, y, sigma = np.asarray(subject["rf"], dtype=np.float64).T
        return np.hypot(x, y), sigma
    fitted = subject["fitted"]
    return np.asarray(subject["eccentricity"].where(fitted)), np.asarray(subject["size"].where(fitted))


def _circles(axes: Axes, fields: Floats, colour: str) -> None:
    """Circles of the different fields (n, 3: x, y, sigma), darker where more voxels chose one."""
    axes.add_patch(Rectangle((-_EDGE, -_EDGE), 2 * _EDGE, 2 * _EDGE, fill=False, edgecolor=CEILING, linewidth=0.8))
    axes.plot(0, 0, "+", color=CEILING, markersize=7)
    different, counts = np.unique(fields, axis=0, return_counts=True)
    patches = [Circle((x, y), sigma) for x, y, sigma in different]
    strength = np.sqrt(counts / counts.max(initial=1))
    crowd = min(1.0, np.sqrt(MANY_FIELDS / max(len(different), 1)))  # many circles would fill the panel
    shades = [(*_rgb(colour), crowd * (0.1 + 0.6 * share)) for share in strength]
    axes.add_collection(PatchCollection(patches, facecolor="none", edgecolor=shades, linewidth=0.8))
    limit = 1.3 * _EDGE
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", xticks=_TICKS, yticks=_TICKS)


def _rgb(colour: str) -> tuple[float, float, float]:
    return tuple(int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5))  # type: ignore[return-value]
