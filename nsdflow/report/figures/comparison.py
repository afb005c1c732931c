"""Two models side by side, and areas on the features of others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from nsdflow.analysis.compare import compare_models
from nsdflow.analysis.rois import roi_masks
from nsdflow.analysis.summary import subject_results
from nsdflow.report.style import INK, empty_figure, styled, used

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["joint_distribution", "transfer_matrices"]


@styled
def joint_distribution(
    first: xr.DataTree, second: xr.DataTree, *, names: tuple[str, str] = ("first", "second"), limit: float = 0.1
) -> Figure:
    """Advantage of one model over another against how well both do, over the voxels of all subjects, by ROI.

    Parameters
    ----------
    first, second
        Results of two runs with ``accuracy`` of the same voxels.
    names
        What the models are called.
    limit
        Largest difference of correlations on the axis.
    """
    one, two, roi = _paired(first, second)
    masks = {name: np.asarray(mask) for name, mask in roi_masks(roi).items()}
    shares = compare_models(one, two, roi)
    columns = min(4, len(masks))
    rows = -(-len(masks) // columns)
    figure = empty_figure(2.3 * columns + 0.4, 2.7 * rows + 0.3)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    difference, mean = np.asarray(two - one), np.asarray(one + two) / 2
    for axes, (name, mask) in zip(used(panels, len(masks)), masks.items(), strict=True):
        axes.hexbin(
            np.clip(difference[mask], -limit, limit), mean[mask], gridsize=(28, 22), bins="log", mincnt=1,
            cmap="Blues", extent=(-limit, limit, -0.1, 0.9), linewidths=0.1,
        )  # fmt: skip
        axes.axvline(0, color=INK, linewidth=0.7)
        axes.set_xticks([-limit, 0, limit])
        axes.set_title(f"{name}   {int(mask.sum())} voxels")
        for variable, place, align in (("first_better", 0.03, "left"), ("second_better", 0.97, "right")):
            percent = float(shares[variable].sel(roi=name))
            axes.text(place, 0.95, f"{percent:.1f} %", transform=axes.transAxes, ha=align, va="top")
    for axes in panels[:, 0]:
        axes.set_ylabel("mean of both (r)")
    figure.supxlabel(
        f"\N{LEFTWARDS ARROW} {names[0]} better     difference of r     {names[1]} better \N{RIGHTWARDS ARROW}",
        fontsize=9,
    )
    return figure


@styled
def transfer_matrices(transfer: xr.Dataset) -> Figure:
    """What each area loses on the features of another, by subject and over all, with the asymmetry.

    Parameters
    ----------
    transfer
        ``transfer`` (subject, model, roi), ``alpha`` and ``alpha_error`` (subject,).
    """
    matrices = transfer["transfer"]
    count = matrices.sizes["subject"]
    columns = min(3 if count in (2, 3, 5, 6, 9) else 4, count)
    rows = -(-count // columns)
    figure = empty_figure(2.45 * columns + 0.8, 2.5 * rows + 0.2)
    panels = figure.subplots(rows, columns, squeeze=False)
    limit = max(float(np.nanmax(np.abs(matrices))), 1e-3)
    for axes, name in zip(used(panels, count), matrices["subject"].values, strict=True):
        matrix = matrices.sel(subject=name)
        values = matrix.values
        image = axes.imshow(values, cmap="RdBu", vmin=-limit, vmax=limit)
        for row, column in np.ndindex(values.shape):
            strong = abs(values[row, column]) > 0.6 * limit
            axes.text(
                column, row, _signed(1000 * float(values[row, column]), 0), ha="center", va="center", fontsize=8,
                color="white" if strong else INK,
            )  # fmt: skip
        alpha, error = (float(transfer[v].sel(subject=name)) for v in ("alpha", "alpha_error"))
        axes.set_title(f"{name}   α = {_signed(alpha, 2)} ± {error:.2f}")
        axes.set_xticks(range(values.shape[1]), matrix["roi"].values)
        axes.set_yticks(range(values.shape[0]), matrix["model"].values)
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
    figure.supxlabel("predicted area", fontsize=9)
    figure.supylabel("area whose features are used", fontsize=9)
    bar = figure.colorbar(image, ax=panels, shrink=0.7, aspect=25, pad=0.02)
    bar.set_label("change of r (numbers: thousandths)")
    bar.outline.set_visible(False)
    return figure


def _signed(value: float, digits: int) -> str:
    """A rounded number with a true minus sign, and no sign on zero."""
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _paired(first: xr.DataTree, second: xr.DataTree) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """Accuracies of both models and labels of all subjects' voxels, joined."""
    others = dict(subject_results(second))
    pairs = [(data, others[name]) for name, data in subject_results(first) if name in others]
    one, two = ([pair[side]["accuracy"].reset_coords(drop=True) for pair in pairs] for side in (0, 1))
    labels = [pair[0]["roi"].reset_coords(drop=True) for pair in pairs]
    joined = (xr.concat(arrays, "voxel") for arrays in (one, two, labels))
    return next(joined), next(joined), next(joined)
