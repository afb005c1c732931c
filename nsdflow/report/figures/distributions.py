"""Accuracy of all voxels: distributions, the ceiling, and the control with shuffled images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nsdflow.analysis.summary import ceiling_of, with_accuracy
from nsdflow.report.figure_parts import scatter
from nsdflow.report.style import (
    INK,
    PALETTE,
    empty_figure,
    nothing_to_show,
    panel_grid,
    styled,
    zero_line,
)

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

__all__ = ["accuracy_against_ceiling", "accuracy_histograms", "sorted_accuracy"]

Floats = NDArray[np.floating[Any]]


@styled
def accuracy_histograms(results: xr.DataTree) -> Figure:
    """Distribution over voxels of accuracy, control and noise ceiling, one panel per subject.

    Parameters
    ----------
    results : xr.DataTree
        Subjects with ``accuracy`` (voxel,), and ``noise_ceiling`` and ``accuracy_shuffled`` where known.
    """
    subjects = with_accuracy(results)
    figure, panels, shown = panel_grid(len(subjects), (2.4, 1.75), (0, 0.6), least=4.8, sharex=True)
    low = min([-0.1, *(float(data["accuracy"].min()) for data in subjects.values())])
    bins = [float(edge) for edge in np.arange(np.floor(low * 20) / 20, 1.0001, 0.025)]
    for axes, (name, data) in zip(shown, subjects.items(), strict=True):
        values = np.asarray(data["accuracy"])
        if "accuracy_shuffled" in data:
            label = "control: images shuffled (cut off above)"
            axes.hist(np.asarray(data["accuracy_shuffled"]), bins, color="#bbbbbb", label=label)
        drawn = axes.hist(values, bins, color=PALETTE[0], alpha=0.75, label="accuracy")
        tallest = float(np.max(drawn[0]))
        ceiling = ceiling_of(data)
        if ceiling is not None:
            drawn = axes.hist(np.asarray(ceiling), bins, histtype="step", color=INK, linewidth=1, label="noise ceiling")
            tallest = max(tallest, float(np.max(drawn[0])))
        # the control lies in a few bins around 0, and would press everything else down
        axes.set_ylim(0, 1.35 * max(tallest, 1.0))
        median = float(np.nanmedian(values))
        axes.axvline(median, color=PALETTE[5], linewidth=1.2, label="median accuracy")
        axes.set_title(f"{name}   median {median:.3f}")
    figure.supxlabel("correlation r, single trials", fontsize=9)
    for axes in panels[:, 0]:
        axes.set_ylabel("voxels")
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2 if panels.shape[1] < 3 else 4)
    return figure


@styled
def accuracy_against_ceiling(results: xr.DataTree) -> Figure:
    """Accuracy of every voxel against its noise ceiling, one panel per subject.

    Parameters
    ----------
    results : xr.DataTree
        Subjects with ``accuracy`` and ``noise_ceiling`` (voxel,) or ``ncsnr``.
    """
    subjects = {name: data for name, data in with_accuracy(results).items() if ceiling_of(data) is not None}
    if not subjects:
        return nothing_to_show("no noise ceiling: the store has no ncsnr")
    figure, _, shown = panel_grid(len(subjects), (2.4, 2.5), (0.4, 0.4), least=3.6, sharex=True, sharey=True)
    low = min(-0.05, *(float(np.nanmin(data["accuracy"])) for data in subjects.values())) - 0.02
    for axes, (name, data) in zip(shown, subjects.items(), strict=True):
        ceiling = ceiling_of(data)
        assert ceiling is not None
        scatter(axes, np.asarray(ceiling), np.asarray(data["accuracy"]), (0, 1, low, 1))
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8)
        zero_line(axes)
        ratio = float(np.nanmedian(data["accuracy"])) / max(float(np.nanmedian(ceiling)), 1e-9)
        axes.set_title(f"{name}   {100 * ratio:.0f} % of ceiling")
        axes.set(xlim=(0, 1), ylim=(low, 1))
    figure.supxlabel("noise ceiling (correlation r)", fontsize=9)
    figure.supylabel("accuracy (correlation r)", fontsize=9)
    return figure


@styled
def sorted_accuracy(results: xr.DataTree) -> Figure:
    """Accuracy of all voxels from the best to the worst, with its bootstrap error as a band, per subject.

    Parameters
    ----------
    results : xr.DataTree
        Subjects with ``accuracy`` and ``accuracy_std`` (voxel,).
    """
    subjects = {name: data for name, data in with_accuracy(results).items() if "accuracy_std" in data}
    if not subjects:
        return nothing_to_show("no bootstrap error; run with bootstrap above 0")
    figure = empty_figure(7.6, 3.2)
    axes = figure.subplots()
    for colour, (name, data) in zip(PALETTE * 2, subjects.items(), strict=False):
        accuracy = np.nan_to_num(np.asarray(data["accuracy"], dtype=np.float64))
        order = np.argsort(-accuracy)
        place = np.arange(order.size) / max(order.size - 1, 1) * 100
        mean, error = accuracy[order], _smooth(np.asarray(data["accuracy_std"], dtype=np.float64)[order])
        axes.fill_between(place, mean - error, mean + error, color=colour, alpha=0.2, linewidth=0)
        axes.plot(place, mean, color=colour, linewidth=1.2, label=f"{name} ({order.size:,})")
    zero_line(axes)
    axes.set(xlabel="voxels, best first (%)", ylabel="correlation r, single trials\n(band: one standard error)")
    axes.set_xlim(0, 100)
    axes.legend(title="subject (voxels)", loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def _smooth(values: Floats, share: float = 0.01) -> Floats:
    """Running mean over a share of the voxels: errors of neighbours in rank vary by chance."""
    width = max(1, int(share * values.size) | 1)
    kernel = np.ones(width) / width
    padded = np.pad(values, width // 2, mode="edge")
    smooth: Floats = np.convolve(padded, kernel, mode="valid")
    return smooth
