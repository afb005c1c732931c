"""Accuracy by region of interest and subject, next to the noise ceiling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from nsdflow.analysis.rois import roi_masks
from nsdflow.analysis.summary import across_subjects, ceiling_of, with_accuracy
from nsdflow.report.style import CEILING, INK, PALETTE, empty_figure, nothing_to_show, styled, zero_line

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["accuracy_bars", "accuracy_by_roi"]

Floats = NDArray[np.floating[Any]]


@styled
def accuracy_by_roi(results: xr.DataTree) -> Figure:
    """Median accuracy of every subject in every ROI, with quartiles, under the median noise ceiling.

    Parameters
    ----------
    results : xr.DataTree
        Subjects with ``accuracy`` and ``roi`` (voxel,), and ``noise_ceiling`` or ``ncsnr`` where known.
    """
    subjects = with_accuracy(results)
    groups = _groups(subjects)
    if not groups:
        return nothing_to_show("no voxel belongs to a region of interest")
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
def accuracy_bars(results: xr.DataTree) -> Figure:
    """Mean accuracy by ROI: a bar per subject, and one for the mean over subjects with its error.

    The error of a subject's bar is the mean bootstrap error of its voxels; that of the mean over n subjects is the root
    of the mean squared error of the subjects, divided by sqrt(n), as published.

    Parameters
    ----------
    results : xr.DataTree
        Subjects with ``accuracy``, ``roi`` and, for errors, ``accuracy_std`` (voxel,).
    """
    subjects = with_accuracy(results)
    groups = _groups(subjects)
    if not groups:
        return nothing_to_show("no voxel belongs to a region of interest")
    means, errors = (_means(subjects, groups, name) for name in ("accuracy", "accuracy_std"))
    mean, error = across_subjects(means, errors)
    figure = empty_figure(min(10.5, max(4.2, 1.8 + 0.11 * (len(subjects) + 3) * len(groups))), 3.2)
    axes = figure.subplots()
    width = 0.85 / (len(subjects) + 1.6)
    left = np.arange(len(groups)) - 0.425
    for row, (colour, name) in enumerate(zip(PALETTE * 2, subjects, strict=False)):
        axes.bar(
            left + (row + 0.5) * width, means[row], width * 0.9, yerr=np.nan_to_num(errors[row]), color=colour,
            alpha=0.8, label=name, error_kw={"elinewidth": 0.8, "ecolor": INK},
        )  # fmt: skip
    axes.bar(
        left + (len(subjects) + 0.8) * width, mean, width * 1.5, yerr=np.nan_to_num(error), color="#444444",
        label="mean over subjects", error_kw={"elinewidth": 1.2, "ecolor": INK, "capsize": 2},
    )  # fmt: skip
    zero_line(axes)
    axes.set_xticks(range(len(groups)), groups)
    axes.tick_params(axis="x", length=0)
    axes.set(ylabel="mean correlation r, single trials", xlim=(-0.6, len(groups) - 0.4))
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def _groups(subjects: dict[str, xr.Dataset]) -> list[str]:
    return list(dict.fromkeys(name for data in subjects.values() if "roi" in data for name in roi_masks(data["roi"])))


def _means(subjects: dict[str, xr.Dataset], groups: list[str], variable: str) -> Floats:
    """Mean over voxels (subject, ROI); NaN where there are none."""
    table = np.full((len(subjects), len(groups)), np.nan)
    for row, data in enumerate(subjects.values()):
        if variable in data:
            for name, mask in roi_masks(data["roi"]).items():
                table[row, groups.index(name)] = np.nanmean(np.asarray(data[variable])[np.asarray(mask)])
    return table


def _subject_legend(axes: Axes, names: list[str]) -> None:
    handles = [
        Line2D([], [], color=colour, marker="o", markersize=4.5, linewidth=1.6, label=name)
        for colour, name in zip(PALETTE * 2, names, strict=False)
    ]
    handles.append(Line2D([], [], color=CEILING, linewidth=2.2, label="noise ceiling"))
    axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.01, 0.5))
