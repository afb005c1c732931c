"""What each layer contributes to the voxels of an area."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsdflow.analysis.rois import roi_summary
from nsdflow.analysis.summary import subject_results
from nsdflow.report.style import INK, PALETTE, empty_figure, styled, zero_line

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

__all__ = ["variance_by_layer"]

_ROWS = (("shared", "shared variance (%)"), ("unique", "unique variance (%)"))


@styled
def variance_by_layer(results: xr.DataTree, *, prefix: str = "", partition: str = "partition") -> Figure:
    """Shared and unique variance of each partition of the features, by ROI: subjects thin, their mean bold.

    Parameters
    ----------
    results
        Of every subject what :func:`nsdflow.analysis.tuning` returned, with coordinates ``roi`` on voxel and
        ``partition`` naming the partitions.
    prefix, partition
        Of the variables' names, and the dimension, of another way to divide the features.
    """
    names = [prefix + name for name in ("shared", "shared_error", "unique", "unique_error")]
    summaries = {
        name: roi_summary(data[names].load(), data["accuracy"].load(), data["roi"], average="published")
        for name, data in subject_results(results)
    }
    rois = list(dict.fromkeys(str(roi) for summary in summaries.values() for roi in summary["roi"].values))
    layers = [str(name) for name in next(iter(summaries.values()))[partition].values]
    figure = empty_figure(1.0 + 1.75 * len(rois), 4.3)
    panels = figure.subplots(2, len(rois), squeeze=False, sharex=True, sharey="row")
    for row, (kind, label) in zip(panels, _ROWS, strict=True):
        extremes: list[float] = []
        for axes, roi in zip(row, rois, strict=True):
            curves = []
            for number, (name, summary) in enumerate(summaries.items()):
                if roi not in summary["roi"]:
                    continue
                curve, error = (np.asarray(summary[v].sel(roi=roi)) for v in (prefix + kind, f"{prefix}{kind}_error"))
                place = np.arange(len(layers)) + 0.08 * (number - (len(summaries) - 1) / 2)
                colour = PALETTE[number % len(PALETTE)]
                axes.errorbar(place, curve, error, color=colour, linewidth=0.9, elinewidth=0.4, label=name)
                curves.append(curve)
            axes.plot(np.nanmean(curves, 0), "o-", color=INK, linewidth=1.8, markersize=3.5, label="mean", zorder=4)
            zero_line(axes)
            extremes += [np.nanmin(curves), np.nanmax(curves)]
        margin = 0.15 * (max(extremes) - min(extremes)) + 1
        row[0].set(ylabel=label, ylim=(min(*extremes, 0) - margin, max(extremes) + margin))  # errors may reach beyond
    for axes, roi in zip(panels[0], rois, strict=True):
        axes.set_title(roi)
    for axes in panels[1]:
        axes.set_xticks(range(len(layers)), layers, rotation=90 if len(layers) > 3 else 0)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center")
    return figure
