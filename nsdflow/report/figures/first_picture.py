"""Overview figure of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsdflow.analysis.rois import roi_masks
from nsdflow.analysis.summary import ceiling_of, with_accuracy
from nsdflow.errors import NsdflowError
from nsdflow.report.brain.pictures import draw_on
from nsdflow.report.brain.views import best_view
from nsdflow.report.figure_parts import scatter
from nsdflow.report.style import CEILING, INK, PALETTE, colour_of_roi, empty_figure, styled, zero_line

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from nsdflow.report.brain.views import View

__all__ = ["overview"]


@styled
def overview(results: xr.DataTree) -> Figure:
    """Where voxels are predicted, how well against the ceiling, and by region: all subjects together.

    Parameters
    ----------
    results : xr.DataTree
        Subjects with ``accuracy`` (voxel,); the slice needs ``i``, ``j``, ``k``, the ceiling ``noise_ceiling`` or
        ``ncsnr``, the regions ``roi``.
    """
    subjects = with_accuracy(results)
    name, first = next(iter(subjects.items()))
    view = _view(first)
    figure = empty_figure(10.0 if view else 7.0, 3.5)
    if view is None:
        panels = list(figure.subplots(1, 2))
    else:
        brain, *panels = figure.subplots(1, 3, width_ratios=(1.25, 1, 0.8))
        roi = first["roi"] if "roi" in first.coords else None
        draw_on(brain, view, first["accuracy"], roi=roi, label="accuracy (r)")
        brain.set_title(f"{name} on the brain")
    _ceiling(panels[0], list(subjects.values()))
    _regions(panels[1], list(subjects.values()))
    return figure


def _view(subject: xr.Dataset) -> View | None:
    """Flat maps where NSD's surfaces can be read, slices otherwise, None for voxels without a place."""
    if "flat_index" not in subject.coords:
        return None
    try:
        return best_view(subject)
    except NsdflowError:
        return None


def _ceiling(axes: Axes, subjects: list[xr.Dataset]) -> None:
    pairs = [(np.asarray(c), np.asarray(d["accuracy"])) for d in subjects if (c := ceiling_of(d)) is not None]
    values = np.concatenate([np.asarray(data["accuracy"]) for data in subjects])
    axes.set_title(f"{values.size:,} voxels")
    if not pairs:
        axes.hist(values, 50, color=PALETTE[0])
        axes.set(xlabel="accuracy (r)", ylabel="voxels")
        return
    ceiling, accuracy = (np.concatenate(side) for side in zip(*pairs, strict=True))
    low = min(-0.05, float(np.nanmin(accuracy))) - 0.02
    scatter(axes, ceiling, accuracy, (0, 1, low, 1))
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8)
    zero_line(axes)
    axes.set(xlim=(0, 1), ylim=(low, 1), xlabel="noise ceiling (r)", ylabel="accuracy (r)")


def _regions(axes: Axes, subjects: list[xr.Dataset]) -> None:
    """Median over all subjects' voxels of a region, under the median ceiling."""
    found: dict[str, list[list[np.ndarray]]] = {}
    for data in subjects:
        ceiling = ceiling_of(data)
        for name, mask in roi_masks(data["roi"]).items() if "roi" in data else ():
            inside = np.asarray(mask)
            values, limits = found.setdefault(name, [[], []])
            values.append(np.asarray(data["accuracy"])[inside])
            if ceiling is not None:
                limits.append(np.asarray(ceiling)[inside])
    for place, (name, (values, limits)) in enumerate(found.items()):
        axes.bar(place, float(np.nanmedian(np.concatenate(values))), color=colour_of_roi(name), width=0.7)
        if limits:
            top = float(np.nanmedian(np.concatenate(limits)))
            axes.plot([place - 0.4, place + 0.4], [top, top], color=CEILING, linewidth=2.2)
    axes.set_xticks(range(len(found)), list(found), rotation=45 if len(found) > 5 else 0)
    axes.tick_params(axis="x", length=0)
    axes.set(ylabel="median accuracy (r)")
    axes.set_title("by region (grey: ceiling)")
