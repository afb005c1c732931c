"""How a training went."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import MaxNLocator

from nsdflow.report.style import CEILING, INK, PALETTE, empty_figure, styled, zero_line

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["learning_curves"]


@styled
def learning_curves(history: xr.Dataset) -> Figure:
    """Losses and median holdout accuracy by epoch, of each subject or of each trunk.

    Parameters
    ----------
    history
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
    losses.set(title="Loss", ylabel="squared error a trial and voxel (z²)")
    accuracies.set(title="Holdout accuracy", ylabel="median correlation r")
    zero_line(accuracies)
    for axes in (losses, accuracies):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
        axes.margins(x=0.02)
    losses.legend(loc="best")
    accuracies.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
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
