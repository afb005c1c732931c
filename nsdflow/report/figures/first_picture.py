"""Overview figure of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsdflow.analysis.rois import roi_masks
from nsdflow.analysis.summary import ceiling_of, with_accuracy
from nsdflow.report.figures.parts import scatter
from nsdflow.report.style import CEILING, INK, PALETTE, colour_of_roi, empty_figure, styled, zero_line

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
    first = next(iter(subjects.values()))
    in_volume = {"i", "j", "k"} <= set(first.coords)
    figure = empty_figure(10.0 if in_volume else 7.0, 3.3)
    panels = list(figure.subplots(1, 3 if in_volume else 2))
    if in_volume:
        _slice(panels.pop(0), first, next(iter(subjects)))
    _ceiling(panels[0], list(subjects.values()))
    _regions(panels[1], list(subjects.values()))
    return figure


def _slice(axes: Axes, subject: xr.Dataset, name: str) -> None:
    """The largest accuracy along the third axis: the brain from above."""
    i, j = (np.asarray(subject[axis]) for axis in "ij")
    values = np.nan_to_num(np.asarray(subject["accuracy"], dtype=np.float64))
    plane = np.full((int(np.ptp(i)) + 3, int(np.ptp(j)) + 3), np.nan)
    np.fmax.at(plane, (i - i.min() + 1, j - j.min() + 1), values)
    image = axes.imshow(plane.T, origin="lower", cmap="viridis", vmin=0, interpolation="nearest")
    axes.set_facecolor("#f1f1f1")
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(f"{name}, best voxel along k")
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.75, aspect=22, pad=0.02)
    bar.set_label("accuracy (r)")
    bar.outline.set_visible(False)


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
