"""Parts of several figures: the choice of voxels, scatter plots of many points, and violins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nsdflow.analysis.rois import roi_masks
from nsdflow.report.style import CEILING, PALETTE

if TYPE_CHECKING:
    from collections.abc import Mapping

    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["scatter", "violin", "well_predicted"]

Floats = NDArray[np.floating[Any]]

_BINS = 60


def well_predicted(
    subject: xr.Dataset, threshold: float, masks: Mapping[str, Any] | None = None
) -> dict[str, NDArray[np.bool_]]:
    """Voxels of each area (by default each ROI) whose accuracy exceeds the threshold, without areas that have none."""
    good = np.nan_to_num(np.asarray(subject["accuracy"])) > threshold
    areas = roi_masks(subject["roi"]) if masks is None else masks
    inside = {name: np.asarray(mask) & good for name, mask in areas.items()}
    return {name: mask for name, mask in inside.items() if mask.any()}


def scatter(axes: Axes, x: Floats, y: Floats, extent: tuple[float, float, float, float]) -> None:
    """Points where there are few, and shades of counts where there are many."""
    if x.size <= 400:
        axes.plot(x, y, ".", color=PALETTE[0], markersize=4, alpha=0.6, markeredgewidth=0)
    else:
        axes.hexbin(x, y, gridsize=36, bins="log", mincnt=1, cmap="Blues", extent=extent, vmin=0.3, linewidths=0.1)
    axes.tick_params(color=CEILING)


def violin(
    axes: Axes, place: float, values: NDArray[Any], width: float, colour: str, *, inner: tuple[float, float] = (0, 100)
) -> None:
    """Draw one violin, widest where most values are.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    place : float
        Position on the horizontal axis.
    values : array
        NaN values are left out; without any value nothing is drawn.
    width : float
        Largest width in units of the axis.
    colour : str
    inner : tuple of float
        Percentiles between which the distribution is drawn.
    """
    finite = values[np.isfinite(values)].astype(np.float64)
    if not finite.size:
        return
    low, high = np.percentile(finite, inner)
    if high - low < 1e-9 * max(1.0, abs(high)) or finite.size < 3:
        for value in np.unique([low, high]):
            axes.plot([place - width / 4, place + width / 4], [value, value], color=colour, linewidth=1)
        return
    counts, edges = np.histogram(finite, _BINS, (low, high))
    spread = max(1.0, 0.9 * finite.std() * finite.size**-0.2 / (edges[1] - edges[0]))  # Silverman's bandwidth, in bins
    reach = int(4 * spread) + 1
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / spread) ** 2)
    padded = np.pad(counts.astype(float), reach, mode="reflect" if reach < _BINS else "constant")
    density = np.convolve(padded, kernel, "valid")
    half = 0.5 * width * density / density.max()
    middle = (edges[:-1] + edges[1:]) / 2
    axes.fill_betweenx(middle, place - half, place + half, color=colour, alpha=0.55, linewidth=0)
