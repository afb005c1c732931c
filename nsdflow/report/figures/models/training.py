"""Figures of a training by epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import MaxNLocator

from nsdflow.analysis.summary import subject_results
from nsdflow.report.figure_parts import violin
from nsdflow.report.style import CEILING, INK, PALETTE, empty_figure, panel_grid, styled, zero_line

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["holdout_violins", "learning_curves"]


@styled
def learning_curves(history: xr.Dataset) -> Figure:
    """Losses and median holdout accuracy by epoch, of each subject or of each trunk.

    Parameters
    ----------
    history : xr.Dataset
        ``/history`` of a run: ``train_loss``, ``holdout_loss``, ``holdout_accuracy`` (epoch,), or (part, epoch) where
        several trunks were trained; ``subject_holdout_accuracy`` (epoch, subject); attribute ``best_epoch``.
    """
    figure = empty_figure(8.4, 3.0)
    losses, accuracies = figure.subplots(1, 2)
    epoch = np.asarray(history["epoch"])
    parts = next((str(dim) for dim in history["train_loss"].dims if dim != "epoch"), None)
    if parts is None:
        losses.plot(epoch, history["train_loss"], color=INK, label="training")
        losses.plot(epoch, history["holdout_loss"], color=PALETTE[0], label="holdout")
        _by_subject(accuracies, history)
        accuracies.plot(epoch, history["holdout_accuracy"], color=INK, linewidth=2.2, label="all voxels")
        _mark_best(accuracies, history)
    else:
        for colour, (name, part) in zip(PALETTE * 4, history.groupby(parts), strict=False):
            losses.plot(epoch, part["train_loss"].squeeze(), color=colour, alpha=0.45)
            losses.plot(epoch, part["holdout_loss"].squeeze(), color=colour, linestyle="--")
            accuracies.plot(epoch, part["holdout_accuracy"].squeeze(), color=colour, label=str(name))
        losses.plot([], [], color=INK, alpha=0.45, label="training")
        losses.plot([], [], color=INK, linestyle="--", label="holdout")
    losses.set(title="Loss", ylabel="squared error per trial and voxel (z²)")
    accuracies.set(title="Holdout accuracy", ylabel="median correlation r")
    zero_line(accuracies)
    for axes in (losses, accuracies):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
        axes.margins(x=0.02)
    losses.legend(loc="best")
    accuracies.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


@styled
def holdout_violins(results: xr.DataTree, *, most: int = 26) -> Figure:
    """Distribution over voxels of holdout correlation in every epoch, one panel per subject.

    Parameters
    ----------
    results : xr.DataTree
        Subjects with ``holdout_accuracy_history`` (epoch, voxel).
    most : int
        Number of epochs drawn at most: the first, and evenly spaced ones up to the last.
    """
    subjects = {
        n: d["holdout_accuracy_history"] for n, d in subject_results(results) if "holdout_accuracy_history" in d
    }
    figure, _, shown = panel_grid(len(subjects), (4.6, 1.9), (0, 0.3), most=2, sharex=True, sharey=True)
    for axes, (name, values) in zip(shown, subjects.items(), strict=True):
        by_epoch = values.transpose("epoch", "voxel").values
        epochs = np.asarray(values["epoch"]) if "epoch" in values.coords else np.arange(1, len(by_epoch) + 1)
        step = -(-len(epochs) // most)
        kept = np.unique([0, *np.arange(len(epochs) - 1, step - 1, -step)])
        width = 0.85 * (float(np.diff(epochs[kept]).min()) if kept.size > 1 else 1.0)
        for row in kept:
            violin(axes, float(epochs[row]), by_epoch[row], width, PALETTE[0])
        axes.plot(epochs, np.nanmedian(by_epoch, axis=1), color=INK, linewidth=1)
        axes.plot(epochs, np.nanmax(by_epoch, axis=1), color=PALETTE[5], linewidth=1)
        zero_line(axes)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set_title(name)
    figure.supxlabel("epoch   (black: median, orange: best voxel)", fontsize=9)
    figure.supylabel("holdout correlation r", fontsize=9)
    return figure


def _by_subject(axes: Axes, history: xr.Dataset) -> None:
    if "subject_holdout_accuracy" not in history:
        return
    for colour, (name, curve) in zip(PALETTE, history["subject_holdout_accuracy"].groupby("subject"), strict=False):
        axes.plot(history["epoch"], curve.squeeze(), color=colour, linewidth=1, alpha=0.8, label=str(name))


def _mark_best(axes: Axes, history: xr.Dataset) -> None:
    best = int(history.attrs.get("best_epoch", 0))
    if best:
        axes.axvline(best, color=CEILING, linewidth=0.8, linestyle=":")
        axes.annotate(
            f"kept: epoch {best}", (best, 0.1), xycoords=("data", "axes fraction"), ha="right", fontsize=8,
            color="#666666", textcoords="offset points", xytext=(-3, 2),
        )  # fmt: skip
