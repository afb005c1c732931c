"""Models compared with each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from nsdflow.analysis.comparison.winners import common_voxels
from nsdflow.analysis.rois import roi_masks, roi_names
from nsdflow.report.style import CEILING, INK, PALETTE, colour_of_roi, empty_figure, panel_grid, styled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["explained_variance", "joint_distribution", "model_against_model"]

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class _Pair:
    """Accuracies of two models, and labels, of the voxels of all subjects joined."""

    one: Floats
    two: Floats
    roi: NDArray[np.str_]
    subject: NDArray[np.str_]


@styled
def explained_variance(table: xr.DataArray) -> Figure:
    """Variance that each model explains, by area and subject, under the noise ceiling.

    Parameters
    ----------
    table : xr.DataArray
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
    first: xr.DataTree,
    second: xr.DataTree,
    *,
    names: tuple[str, str] = ("first", "second"),
    by: Literal["roi", "subject"] = "roi",
    limit: float = 0.05,
) -> Figure:
    """Difference of two models against their mean, a point per voxel, as published.

    Parameters
    ----------
    first, second : xr.DataTree
        Results of two runs with ``accuracy`` of the same voxels. The horizontal axis is first minus second, the
        vertical one their mean, from -0.1 to 0.9.
    by : {"roi", "subject"}
        One panel per ROI with points coloured by subject, or one per subject with points coloured by ROI.
    limit : float
        End of the horizontal axis. Voxels beyond it are not drawn; the shares written in count all voxels.
    """
    pair = _joined(first, second)
    panel_of, colour_of = (pair.roi, pair.subject) if by == "roi" else (pair.subject, pair.roi)
    titles, kinds = _in_order(panel_of), _in_order(colour_of)
    colours = {k: colour_of_roi(k) if by == "subject" else PALETTE[n % len(PALETTE)] for n, k in enumerate(kinds)}
    figure, panels, shown = panel_grid(len(titles), (2.2, 2.7), (1.2, 0.3), sharex=True, sharey=True)
    difference, mean = pair.one - pair.two, (pair.one + pair.two) / 2
    for axes, title in zip(shown, titles, strict=True):
        here = panel_of == title
        _points(axes, difference[here], mean[here], colour_of[here], colours)
        axes.axvline(0, color=INK, linewidth=0.7)
        axes.set(xlim=(-limit, limit), ylim=(-0.1, 0.9), xticks=[-limit, 0, limit])
        axes.set_title(f"{title}   {int(here.sum()):,} voxels")
        for share, place, align in ((difference < 0, 0.03, "left"), (difference > 0, 0.97, "right")):
            percent = 100 * float(np.mean(share[here]))
            axes.text(place, 0.95, f"{percent:.1f} %", transform=axes.transAxes, ha=align, va="top")
    for axes in panels[:, 0]:
        axes.set_ylabel("mean of both (r)")
    figure.supxlabel(
        f"\N{LEFTWARDS ARROW} {names[1]} better     difference of r     {names[0]} better \N{RIGHTWARDS ARROW}",
        fontsize=9,
    )
    _legend(figure, colours, "subject" if by == "roi" else "ROI")
    return figure


@styled
def model_against_model(
    first: xr.DataTree,
    second: xr.DataTree,
    *,
    names: tuple[str, str] = ("first", "second"),
    threshold: float = 0.055,
) -> Figure:
    """Accuracy of one model against that of another for all voxels, with a histogram of each on the margins.

    Parameters
    ----------
    first, second : xr.DataTree
        Results of two runs with ``accuracy`` of the same voxels.
    threshold : float
        The shares written in count the voxels that either model predicts better than this.
    """
    pair = _joined(first, second)
    low = min(-0.05, float(np.nanmin(pair.one)), float(np.nanmin(pair.two))) - 0.02
    high = max(0.2, float(np.nanmax(pair.one)), float(np.nanmax(pair.two))) + 0.03
    figure = empty_figure(5.2, 5.0)
    grid = figure.subplots(2, 2, sharex="col", sharey="row", width_ratios=(4, 1), height_ratios=(1, 4))
    joint, above, right = grid[1, 0], grid[0, 0], grid[1, 1]
    grid[0, 1].set_visible(False)
    joint.hexbin(
        pair.one, pair.two, gridsize=50, bins="log", mincnt=1, cmap="Blues", extent=(low, high, low, high), vmin=0.3,
        linewidths=0.1,
    )  # fmt: skip
    joint.plot([low, high], [low, high], color=INK, linewidth=0.7)
    for draw in (joint.axvline, joint.axhline):
        draw(threshold, color=CEILING, linewidth=0.8, linestyle=(0, (4, 3)))
    bins = [float(edge) for edge in np.linspace(low, high, 60)]
    above.hist(pair.one, bins, color=PALETTE[0], alpha=0.75)
    right.hist(pair.two, bins, color=PALETTE[0], alpha=0.75, orientation="horizontal")
    either = (pair.one > threshold) | (pair.two > threshold)
    shares = [100 * float(np.mean(better[either])) for better in (pair.one > pair.two, pair.two > pair.one)]
    for place, text, sides in (
        ((0.03, 0.97), f"{names[1]} better\n{shares[1]:.1f} %", ("left", "top")),
        ((0.97, 0.03), f"{names[0]} better\n{shares[0]:.1f} %", ("right", "bottom")),
    ):
        joint.text(*place, text, transform=joint.transAxes, ha=sides[0], va=sides[1])
    joint.set(xlim=(low, high), ylim=(low, high), xlabel=f"{names[0]} (correlation r)")
    joint.set_ylabel(f"{names[1]} (correlation r)")
    above.set_ylabel("voxels")
    right.set_xlabel("voxels")
    medians = "\n".join(
        f"{name}: median {np.nanmedian(v):.3f}, best {np.nanmax(v):.3f}, {100 * np.mean(v > threshold):.0f} % above "
        f"{threshold:g}"
        for name, v in zip(names, (pair.one, pair.two), strict=True)
    )
    figure.suptitle(medians, fontsize=8, ha="left", x=0.02)
    return figure


def _joined(first: xr.DataTree, second: xr.DataTree) -> _Pair:
    parts: list[list[NDArray[Any]]] = [[], [], [], []]
    one, two = common_voxels([first, second])
    for name in one.children:
        subjects = [tree[name].to_dataset() for tree in (one, two)]
        roi = roi_names(subjects[0]["roi"]).values
        values = [np.asarray(subject["accuracy"], float) for subject in subjects]
        for part, value in zip(parts, (*values, roi, np.full(roi.size, name)), strict=True):
            part.append(value)
    return _Pair(*(np.concatenate(part) for part in parts))


def _in_order(labels: NDArray[np.str_]) -> list[str]:
    """Names present, ROIs in the usual order and subjects by number; without voxels of no ROI."""
    present = roi_masks(xr.DataArray(labels.astype(str), dims="voxel"))
    return list(present)


def _points(
    axes: Axes, x: Floats, y: Floats, kinds: NDArray[np.str_], colours: Mapping[str, str], most: int = 4000
) -> None:
    """Points in random order, so that no colour lies on top; at most ``most`` are drawn."""
    order = np.random.default_rng(0).permutation(x.size)[:most]
    shades = [colours.get(str(kind), "#bbbbbb") for kind in kinds[order]]
    axes.scatter(x[order], y[order], s=5 if x.size > 500 else 10, c=shades, alpha=0.55, linewidths=0, rasterized=True)


def _legend(figure: Figure, colours: Mapping[str, str], title: str) -> None:
    handles = [Line2D([], [], color=c, marker="o", linestyle="", markersize=5, label=n) for n, c in colours.items()]
    figure.legend(handles=handles, loc="outside right center", title=title)
