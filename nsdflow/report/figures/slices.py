"""Slices through the functional volume: continuous maps and maps of categories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

from nsdflow.analysis.rois import roi_masks
from nsdflow.report.style import colour_of_roi, empty_figure, grid_of, styled, used

if TYPE_CHECKING:
    from collections.abc import Mapping

    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

__all__ = ["accuracy_map", "category_map", "roi_map"]

_BACKGROUND = "#f1f1f1"
#: Height in inches that the label of a colour bar needs, and a line of a legend.
BAR_HEIGHT_INCHES, LEGEND_LINE_INCHES = 2.2, 0.21


@styled
def accuracy_map(
    subject: xr.Dataset, variable: str = "accuracy", *, slices: int = 8, label: str = "", cmap: str = "viridis"
) -> Figure:
    """A variable in slices across the third axis of the volume, cut to the voxels of the run.

    Parameters
    ----------
    subject : xr.Dataset
        ``variable`` (voxel,) with coordinates ``i``, ``j``, ``k``.
    variable : str
        What to show; colours run from 0 to the 99th percentile.
    slices : int
        Number of slices at most, evenly spaced through the voxels.
    label : str
        Label of the colour bar; by default the variable's name, as a correlation.
    cmap : str
        Name of a matplotlib colour map.
    """
    values = np.asarray(subject[variable], dtype=np.float64)
    top = float(np.nanpercentile(values, 99)) if np.isfinite(values).any() else 1.0
    figure, panels = _panels(subject, slices, 0.9, BAR_HEIGHT_INCHES)
    for axes, plane in panels.values():
        image = axes.imshow(
            plane(values).T, origin="lower", cmap=cmap, vmin=0, vmax=max(top, 0.05), interpolation="nearest"
        )
    bar = figure.colorbar(image, ax=figure.axes, shrink=0.8, aspect=25, pad=0.02)
    bar.set_label(label or f"{variable.replace('_', ' ')} (correlation r)")
    bar.outline.set_visible(False)
    return figure


@styled
def category_map(
    subject: xr.Dataset,
    categories: NDArray[np.integer[Any]],
    names: Mapping[int, str],
    *,
    colours: Mapping[str, str] | None = None,
    slices: int = 8,
    title: str = "",
) -> Figure:
    """A category per voxel (ROI, preferred layer, mask) in slices, with a legend of names.

    Parameters
    ----------
    subject : xr.Dataset
        With coordinates ``i``, ``j``, ``k`` (voxel,).
    categories : array of int, (voxel,)
        Keys of ``names``; others are not drawn.
    names : mapping of int to str
        Name of each category, in the order of the legend.
    colours : mapping of str to colour, optional
        By name; by default the steps of a colour map from dark to light.
    slices : int
        Number of slices at most.
    title : str
        Of the legend.
    """
    order = {key: place for place, key in enumerate(names)}
    places = np.array([order.get(int(value), -1) for value in categories], dtype=np.float64)
    places[places < 0] = np.nan
    shades = [(colours or {}).get(name, "#595959") for name in names.values()] if colours else _steps(len(names))
    present = {int(value) for value in places[np.isfinite(places)]}
    figure, panels = _panels(subject, slices, 1.3, LEGEND_LINE_INCHES * (len(present) + 2 + title.count("\n")))
    for axes, plane in panels.values():
        axes.imshow(
            plane(places).T, origin="lower", cmap=ListedColormap(shades), vmin=-0.5, vmax=len(names) - 0.5,
            interpolation="nearest",
        )  # fmt: skip
    handles = [
        Patch(color=shade, label=f"{name} ({int((places == place).sum()):,})")
        for place, (name, shade) in enumerate(zip(names.values(), shades, strict=True))
        if place in present
    ]
    figure.legend(handles=handles, loc="outside right center", title=title)
    return figure


def roi_map(subject: xr.Dataset, *, slices: int = 8) -> Figure:
    """The ROI group of every voxel in slices; ``subject`` has ``roi``, ``i``, ``j``, ``k`` (voxel,)."""
    masks = roi_masks(subject["roi"])
    categories = np.full(subject.sizes["voxel"], -1)
    for place, mask in enumerate(masks.values()):
        categories[np.asarray(mask)] = place
    colours = {name: colour_of_roi(name) for name in masks}
    names = dict(enumerate(masks))
    return category_map(subject, categories, names, colours=colours, slices=slices, title="ROI (voxels)")


def _panels(
    subject: xr.Dataset, slices: int, margin: float, least: float
) -> tuple[Figure, dict[int, tuple[Axes, Any]]]:
    """A panel per slice, and the function that puts values of voxels into its plane.

    ``margin`` is the width and ``least`` the height, in inches, that a legend or colour bar beside them needs.
    """
    i, j, k = (np.asarray(subject[axis]) for axis in "ijk")
    shown = _slices(k, slices)
    left, low = i.min() - 1, j.min() - 1
    shape = (i.max() - left + 2, j.max() - low + 2)
    rows, columns = grid_of(len(shown))
    tall = min(2.4, 2.1 * shape[1] / shape[0])
    figure = empty_figure(2.1 * columns + margin, max((tall + 0.3) * rows + 0.2, least))
    grid = figure.subplots(rows, columns, squeeze=False)
    panels = {}
    for axes, number in zip(used(grid, len(shown)), shown, strict=True):
        panels[number] = (axes, _plane(i - left, j - low, k == number, shape))
        axes.set_title(f"k = {number}", fontweight="normal", loc="center")
        axes.set_facecolor(_BACKGROUND)
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set_visible(False)
    _mark_sides(grid.flat[0], subject)
    return figure, panels


def _plane(i: NDArray[Any], j: NDArray[Any], here: NDArray[np.bool_], shape: tuple[int, ...]) -> Any:
    def of(values: NDArray[np.float64]) -> NDArray[np.float64]:
        plane = np.full(shape, np.nan)
        plane[i[here], j[here]] = values[here]
        return plane

    return of


def _steps(count: int) -> list[Any]:
    from matplotlib import colormaps

    return [colormaps["viridis"](value) for value in np.linspace(0.02, 0.95, max(count, 1))]


def _slices(k: NDArray[np.integer[Any]], count: int) -> list[int]:
    """``count`` slices that divide the voxels evenly, or all slices with voxels if there are fewer."""
    present = np.unique(k)
    if present.size <= count:
        return [int(number) for number in present]
    middles = (np.arange(count) + 0.5) / count
    return sorted({int(number) for number in np.quantile(k, middles, method="nearest")})


def _mark_sides(axes: Axes, subject: xr.Dataset) -> None:
    """Label the sides of the first slice L and R, where the volume's affine says which side is which."""
    affine = np.asarray(subject["flat_index"].attrs.get("affine", []) if "flat_index" in subject.coords else [])
    if affine.size != 16:
        return
    sides = ("L", "R") if affine.reshape(4, 4)[0, 0] > 0 else ("R", "L")
    for place, side, align in ((0.02, sides[0], "left"), (0.98, sides[1], "right")):
        axes.text(place, 0.02, side, transform=axes.transAxes, ha=align, va="bottom", fontsize=8, color="#666666")
