"""Maps of the brain as figures: colours over curvature, outlines and names of regions, a colour bar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.patches import Patch
from scipy.ndimage import distance_transform_edt

from nsdflow.analysis.rois import roi_masks
from nsdflow.report.brain.views import View, flat_view, slice_view, surface_view
from nsdflow.report.style import PALETTE, empty_figure, percentile_limits, styled

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from nsdflow.nsd.source import Source

__all__ = ["draw_map", "draw_on", "plot_flat", "plot_slices", "plot_surface"]

_WIDTH_INCHES = 8.0
_LEAST_WIDTH_INCHES = 4.0
_MOST_HEIGHT_INCHES = 5.5
#: Width of the colour bar with its label.
_BAR_INCHES = 0.5
#: Height of one line of a legend.
_LEGEND_LINE_INCHES = 0.21
#: Margin around the voxels, as a share of their extent.
_MARGIN = 0.12
_OUTLINE = "#1a1a1a"
#: Regions that cover fewer pixels have no name on the picture.
_LEAST_PIXELS = 60


@styled
def draw_map(
    view: View,
    values: NDArray[Any] | xr.DataArray,
    *,
    roi: xr.DataArray | None = None,
    label: str = "",
    cmap: str = "viridis",
    limits: tuple[float, float] | None = None,
    categories: Sequence[str] = (),
    crop: bool = True,
) -> Figure:
    """One map on a view.

    Parameters
    ----------
    values : (voxel,)
        NaN is transparent.
    roi : xr.DataArray, optional
        (voxel,) labels or names; each region is outlined and named.
    label : str
        Of the colour bar, with the unit.
    cmap : str
        Name of a matplotlib colour map.
    limits : (float, float), optional
        Of the colours; by default 0 (or the 1st percentile if that is lower) to the 99th percentile.
    categories : sequence of str
        Names of the values 0, 1, 2, ...; draws a legend instead of a colour bar.
    crop : bool
        Crop to the surroundings of the voxels.
    """
    left, right, top, bottom = _window(view, crop)
    rows, columns = bottom - top, right - left
    legend_inches = _LEGEND_LINE_INCHES * (len(categories) + 2) if categories else 0.0
    height = max(min(_MOST_HEIGHT_INCHES, _WIDTH_INCHES * rows / columns * 0.92 + 0.35), legend_inches)
    width = _WIDTH_INCHES
    if not categories:  # a tall map needs no margins beside it
        width = min(width, max(_LEAST_WIDTH_INCHES, (height - 0.35) / 0.92 * columns / rows + _BAR_INCHES))
    figure = empty_figure(width, height)
    draw_on(
        figure.subplots(),
        view,
        values,
        roi=roi,
        label=label,
        cmap=cmap,
        limits=limits,
        categories=categories,
        crop=crop,
    )
    return figure


def draw_on(
    axes: Axes,
    view: View,
    values: NDArray[Any] | xr.DataArray,
    *,
    roi: xr.DataArray | None = None,
    label: str = "",
    cmap: str = "viridis",
    limits: tuple[float, float] | None = None,
    categories: Sequence[str] = (),
    crop: bool = True,
) -> None:
    """One map on a view in axes of a figure; arguments as of :func:`draw_map`."""
    left, right, top, bottom = _window(view, crop)
    axes.imshow(view.underlay, cmap="gray", vmin=0, vmax=1.1, interpolation="nearest")
    image = np.ma.masked_invalid(view.image(np.asarray(values, np.float64)))
    if categories:
        colours = [*PALETTE, *PALETTE][: len(categories)]
        axes.imshow(image, cmap=ListedColormap(colours), vmin=-0.5, vmax=len(categories) - 0.5, interpolation="nearest")
        patches = [Patch(color=colour, label=name) for colour, name in zip(colours, categories, strict=True)]
        axes.legend(handles=patches, loc="center left", bbox_to_anchor=(1.0, 0.5), title=label or None)
    else:
        low, high = limits or percentile_limits(image.compressed())
        drawn = axes.imshow(image, cmap=cmap, norm=Normalize(low, high), interpolation="nearest")
        bar = axes.figure.colorbar(drawn, ax=axes, shrink=0.7, aspect=22, pad=0.01, extend=_extend(image, low, high))
        bar.set_label(label)
        bar.outline.set_visible(False)
    if roi is not None:
        _outline(axes, view, roi)
    for name, x, y in view.labels:
        cut = y - 2 < top + 10  # above the window: the name stands inside
        place, side = (top + 3, "top") if cut else (y - 2, "bottom")
        axes.text(max(x, left) + 3, place, name, fontsize=7.5, color="#555555", va=side, clip_on=True)
    axes.set(xlim=(left, right), ylim=(bottom, top))
    axes.set_axis_off()


def plot_flat(array: xr.DataArray, *, source: str | Source | None = None, **options: Any) -> Figure:
    """See :meth:`nsdflow.store.accessor.NsdAccessor.plot_flat`."""
    return _plot(flat_view(array, source), array, options)


def plot_surface(
    array: xr.DataArray, surface: str = "inflated", *, source: str | Source | None = None, **options: Any
) -> Figure:
    """See :meth:`nsdflow.store.accessor.NsdAccessor.plot_surface`."""
    return _plot(surface_view(array, source, surface), array, options)


def plot_slices(array: xr.DataArray, **options: Any) -> Figure:
    """See :meth:`nsdflow.store.accessor.NsdAccessor.plot_slices`."""
    return _plot(slice_view(array), array, options)


def _plot(view: View, array: xr.DataArray, options: dict[str, Any]) -> Figure:
    rois = options.pop("rois", "roi")
    name = str(array.name or "").replace("_", " ")
    units = array.attrs.get("units", "")
    label = name if units in ("", "1") else f"{name} ({units})"
    roi = array[rois] if rois and rois in array.coords else None
    return draw_map(view, array.values, **{"label": label, "roi": roi, **options})


def _window(view: View, crop: bool) -> tuple[int, int, int, int]:
    """Left, right, top, bottom: of the voxels with a margin around them, or of everything."""
    rows, columns = np.nonzero(view.voxel >= 0)
    if not (crop and rows.size):
        return 0, view.voxel.shape[1], 0, view.voxel.shape[0]
    margin = round(_MARGIN * max(np.ptp(rows), np.ptp(columns))) + 14
    left, right = max(0, columns.min() - margin), min(view.voxel.shape[1], columns.max() + margin)
    return int(left), int(right), int(max(0, rows.min() - margin)), int(min(view.voxel.shape[0], rows.max() + margin))


def _extend(image: np.ma.MaskedArray[Any, Any], low: float, high: float) -> str:
    values = image.compressed()
    under, over = bool(values.size and values.min() < low), bool(values.size and values.max() > high)
    return {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[under, over]


def _outline(axes: Axes, view: View, roi: xr.DataArray) -> None:
    """Outlines and names of the regions but "other"; each hemisphere has the name where most of its pixels are."""
    masks = {name: mask for name, mask in roi_masks(roi).items() if name != "other"}
    columns, middle = np.arange(view.voxel.shape[1]), view.voxel.shape[1] / 2
    for name, mask in masks.items():
        inside = view.image(np.asarray(mask, np.float64), 0.0) > 0
        if not inside.any():
            continue
        rows, places = _box(inside)
        axes.contour(
            np.arange(inside.shape[1])[places], np.arange(inside.shape[0])[rows], inside[rows, places],
            levels=[0.5], colors=[_OUTLINE], linewidths=0.8,
        )  # fmt: skip
        for side in (columns < middle, columns >= middle):
            if (inside & side).sum() >= _LEAST_PIXELS:
                y, x = _inner_point(inside & side)
                text = axes.text(x, y, name, fontsize=7, ha="center", va="center", color="white", weight="bold")
                text.set_path_effects(_halo())


def _inner_point(inside: NDArray[np.bool_]) -> tuple[float, float]:
    """The (row, column) of the pixel farthest from the border of a region, where a name has most room."""
    rows, columns = _box(inside)
    part = inside[rows, columns]
    row, column = np.unravel_index(int(distance_transform_edt(part).argmax()), part.shape)
    return float(row + rows.start), float(column + columns.start)


def _box(inside: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Rows and columns of a region, with one pixel around it: pictures have some hundred times as many pixels."""
    spans = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    rows, columns = (slice(max(0, int(span[0]) - 1), int(span[-1]) + 2) for span in spans)
    return rows, columns


def _halo() -> list[Any]:
    from matplotlib import patheffects

    return [patheffects.withStroke(linewidth=1.6, foreground=_OUTLINE)]
