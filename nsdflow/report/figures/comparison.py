"""Models side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from nsdflow.analysis.comparison.pairs import compare_models
from nsdflow.analysis.rois import roi_masks
from nsdflow.analysis.summary import subject_results
from nsdflow.report.style import CEILING, INK, PALETTE, empty_figure, styled, used

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["explained_variance", "joint_distribution"]


@styled
def explained_variance(table: xr.DataArray) -> Figure:
    """Variance that each model explains, by area and subject, under the noise ceiling.

    Parameters
    ----------
    table
        :func:`nsdflow.analysis.accuracy_table`: (subject, roi, column), percent, the ceiling in column "noise ceiling".
    """
    models = [str(name) for name in table["column"].values if name != "noise ceiling"]
    models = [name for name in models if table.sel(column=name).notnull().any()]
    subjects = [str(name) for name in table["subject"].values]
    rois = [str(name) for name in table["roi"].values]
    figure = empty_figure(1.9 + max(1.1, 0.32 * len(subjects)) * len(rois), 3.2)
    panels = figure.subplots(1, len(rois), squeeze=False, sharey=True)[0]
    place = np.arange(len(subjects))
    for axes, roi in zip(panels, rois, strict=True):
        here = table.sel(roi=roi)
        axes.hlines(
            here.sel(column="noise ceiling"),
            place - 0.35,
            place + 0.35,
            color=CEILING,
            linewidth=2.2,
            label="noise ceiling",
        )
        for number, name in enumerate(models):
            shift = 0.5 * (number / max(len(models) - 1, 1) - 0.5)
            colour = PALETTE[number % len(PALETTE)]
            axes.plot(place + shift, here.sel(column=name), "o", color=colour, markersize=4, label=name)
        axes.set_title(roi)
        axes.set_xticks(place, [name.removeprefix("subj0") for name in subjects])
        axes.set_xlim(-0.6, len(subjects) - 0.4)
    panels[0].set_ylim(bottom=0)
    panels[0].set_ylabel("explained variance (%)")
    figure.supxlabel("subject", fontsize=9)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center")
    return figure


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
            cmap="Blues", extent=(-limit, limit, -0.1, 0.9), linewidths=0.1, vmin=0.3,
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


def _paired(first: xr.DataTree, second: xr.DataTree) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """Accuracies of both models and labels of all subjects' voxels, joined."""
    others = dict(subject_results(second))
    pairs = [(data, others[name]) for name, data in subject_results(first) if name in others]
    one, two = ([_placed(pair[side]["accuracy"]) for pair in pairs] for side in (0, 1))
    labels = [_placed(pair[0]["roi"]) for pair in pairs]
    joined = (xr.concat(arrays, "voxel") for arrays in (one, two, labels))
    return next(joined), next(joined), next(joined)


def _placed(values: xr.DataArray) -> xr.DataArray:
    """Values with no coordinate but the one that says which voxels they are of."""
    return values.drop_vars([name for name in values.coords if name != "flat_index"]).load()
