"""Contributions of each layer to the voxels of an area."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nsdflow.analysis.rois import roi_masks, roi_summary
from nsdflow.analysis.summary import across_subjects, subject_results
from nsdflow.report.figure_parts import violin
from nsdflow.report.figures.slices import category_map
from nsdflow.report.style import INK, PALETTE, colour_of_roi, empty_figure, nothing_to_show, styled, zero_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    import xarray as xr
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

__all__ = ["band_variance", "layer_map", "tuning_violins", "variance_by_layer"]

_ROWS = (("shared", "shared variance (%)"), ("unique", "unique variance (%)"))


@styled
def variance_by_layer(results: xr.DataTree, *, prefix: str = "", partition: str = "partition") -> Figure:
    """Shared and unique variance of each partition of the features, by ROI: subjects thin, their mean bold.

    The error of the mean is that across subjects: the root of the mean of their squared errors, over the root of their
    number.

    Parameters
    ----------
    results : xr.DataTree
        Of every subject what :func:`nsdflow.analysis.tuning` returned, with coordinates ``roi`` on voxel and
        ``partition`` naming the partitions.
    prefix, partition : str
        Prefix of the variables' names, and name of the dimension, for another partition of the features.
    """
    names = [prefix + name for name in ("shared", "shared_error", "unique", "unique_error")]
    summaries = {
        name: roi_summary(data[names].load(), data["accuracy"].load(), data["roi"], average="published")
        for name, data in subject_results(results)
    }
    rois = _rois_with_voxels(summaries.values())
    if not rois:
        return nothing_to_show("no voxel is predicted better than r = 0.055")
    layers = [str(name) for name in next(iter(summaries.values()))[partition].values]
    figure = empty_figure(1.0 + 1.75 * len(rois), 4.3)
    panels = figure.subplots(2, len(rois), squeeze=False, sharex=True, sharey="row")
    for row, (kind, label) in zip(panels, _ROWS, strict=True):
        extremes: list[float] = []
        for axes, roi in zip(row, rois, strict=True):
            curves, errors = [], []
            for number, (name, summary) in enumerate(summaries.items()):
                if roi not in _rois_with_voxels([summary]):
                    continue
                curve, error = (np.asarray(summary[v].sel(roi=roi)) for v in (prefix + kind, f"{prefix}{kind}_error"))
                axes.plot(curve, color=PALETTE[number % len(PALETTE)], linewidth=0.9, label=name)
                curves.append(curve)
                errors.append(error)
            mean, error = across_subjects(np.stack(curves), np.stack(errors))
            axes.errorbar(
                range(len(layers)), mean, error, fmt="o-", color=INK, linewidth=1.8, elinewidth=1.0, markersize=3.5,
                label="mean", zorder=4,
            )  # fmt: skip
            zero_line(axes)
            extremes += [np.nanmin(curves), np.nanmax(curves), np.nanmin(mean - error), np.nanmax(mean + error)]
        margin = 0.05 * (max(extremes) - min(extremes)) + 1
        row[0].set(ylabel=label, ylim=(min(*extremes, 0) - margin, max(extremes) + margin))
    for axes, roi in zip(panels[0], rois, strict=True):
        axes.set_title(roi)
    for axes in panels[1]:
        axes.set_xticks(range(len(layers)), layers, rotation=90 if len(layers) > 3 else 0)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center")
    return figure


def _rois_with_voxels(summaries: Iterable[xr.Dataset]) -> list[str]:
    """Names of the ROIs with voxels above the threshold in any of the summaries."""
    pairs = (zip(summary["roi"].values, summary["voxels"].values, strict=True) for summary in summaries)
    return list(dict.fromkeys(str(roi) for pair in pairs for roi, voxels in pair if voxels))


@styled
def tuning_violins(results: xr.DataTree, *, threshold: float = 0.055) -> Figure:
    """Distribution over voxels (5th to 95th percentile) of shared and unique variance, by layer and ROI.

    Parameters
    ----------
    results : xr.DataTree
        Of every subject what :func:`nsdflow.analysis.tuning` returned, with coordinate ``roi`` on voxel.
    threshold : float
        Voxels with a lower accuracy are left out: shares of a variance near 0 mean nothing.
    """
    parts = [data for _, data in subject_results(results) if "shared" in data]
    layers = [str(name) for name in parts[0]["partition"].values]
    good = [np.nan_to_num(np.asarray(data["accuracy"])) > threshold for data in parts]
    masks = [{n: np.asarray(m) & g for n, m in roi_masks(d["roi"]).items()} for d, g in zip(parts, good, strict=True)]
    rois = list(dict.fromkeys(name for mask in masks for name, inside in mask.items() if inside.any()))
    if not rois:
        return nothing_to_show(f"no voxel is predicted better than r = {threshold:g}")
    figure = empty_figure(1.0 + max(1.75, 0.26 * len(layers)) * len(rois), 4.3)
    panels = figure.subplots(2, len(rois), squeeze=False, sharex=True, sharey="row")
    for row, (kind, label) in zip(panels, _ROWS, strict=True):
        for axes, roi in zip(row, rois, strict=True):
            values = _joined(parts, [mask.get(roi) for mask in masks], kind)
            for place, of_layer in enumerate(values):
                violin(axes, place, of_layer, 0.85, colour_of_roi(roi), inner=(5, 95))
            if values.shape[1]:
                axes.plot(np.nanmedian(values, axis=1), "o", color=INK, markersize=2.5)
            zero_line(axes)
        row[0].set_ylabel(label)
    for axes, roi in zip(panels[0], rois, strict=True):
        axes.set_title(roi)
    for axes in panels[1]:
        axes.set_xticks(range(len(layers)), layers, rotation=90 if len(layers) > 3 else 0)
    return figure


def _joined(parts: list[xr.Dataset], masks: list[NDArray[np.bool_] | None], kind: str) -> NDArray[np.floating[Any]]:
    """A variable of all subjects' chosen voxels: (partition, voxel)."""
    pairs = zip(parts, masks, strict=True)
    chosen = [d[kind].transpose("partition", "voxel").values[:, m] for d, m in pairs if m is not None]
    return np.concatenate(chosen, axis=1)


def layer_map(subject: xr.Dataset, kind: str = "unique", *, threshold: float = 0.055) -> Figure:
    """The layer with the largest share of each voxel's variance, in slices.

    Parameters
    ----------
    subject : xr.Dataset
        ``unique_argmax`` or ``shared_argmax``, ``accuracy`` (voxel,), coordinates ``partition``, ``i``, ``j``, ``k``.
    kind : {"unique", "shared"}
        Which share.
    threshold : float
        Voxels with a lower accuracy are not drawn.
    """
    good = np.nan_to_num(np.asarray(subject["accuracy"])) > threshold
    place = np.where(good, np.asarray(subject[f"{kind}_argmax"]), -1)
    names = {number: str(name) for number, name in enumerate(subject["partition"].values)}
    return category_map(subject, place, names, title=f"layer with most\n{kind} variance\n(voxels)")


@styled
def band_variance(results: xr.DataTree, *, dim: str = "band") -> Figure:
    """Median unique and product-measure variance of each band of features, and what bands share, by ROI.

    Parameters
    ----------
    results : xr.DataTree
        Of every subject what :func:`nsdflow.analysis.variance_partition` returned, with coordinate ``roi`` on voxel.
        Medians are over the voxels of all subjects.
    dim : str
        Name of the dimension of the bands.
    """
    parts = [data for _, data in subject_results(results) if "unique_variance" in data]
    bands = [str(name) for name in parts[0][dim].values]
    masks = [{name: np.asarray(mask) for name, mask in roi_masks(data["roi"]).items()} for data in parts]
    rois = list(dict.fromkeys(name for mask in masks for name in mask))
    if not rois:
        return nothing_to_show("no voxel belongs to a region of interest")
    names = [*bands, "shared"]
    colours = [PALETTE[k % (len(PALETTE) - 1)] for k in range(len(bands))] + ["#bbbbbb"]
    figure = empty_figure(max(5.2, 1.6 + 0.16 * (len(names) + 2) * len(rois)), 4.6)
    panels = figure.subplots(2, 1, sharex=True)
    width = 0.8 / len(names)
    for axes, kind in zip(panels, ("unique", "product"), strict=True):
        for place, (name, colour) in enumerate(zip(names, colours, strict=True)):
            if place == len(bands) and kind == "product":  # the product measure shares out everything
                continue
            variable = f"{kind}_variance" if place < len(bands) else "shared_variance"
            values = [_band_median(parts, masks, roi, variable, dim, place) for roi in rois]
            left = np.arange(len(rois)) + (place - len(names) / 2 + 0.5) * width
            axes.bar(left, values, width * 0.92, color=colour, label=name)
        zero_line(axes)
        axes.set_ylabel(f"{kind} variance (%)" if kind == "unique" else "product measure (%)")
    panels[1].set_xticks(range(len(rois)), rois)
    panels[1].tick_params(axis="x", length=0)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", title=dim)
    return figure


def _band_median(
    parts: list[xr.Dataset], masks: list[dict[str, NDArray[np.bool_]]], roi: str, variable: str, dim: str, place: int
) -> float:
    """Median over the voxels of an ROI, in percent of the variance of the responses."""
    chosen = []
    for data, mask in zip(parts, masks, strict=True):
        if roi in mask:
            values = data[variable].isel({dim: place}) if dim in data[variable].dims else data[variable]
            chosen.append(np.asarray(values)[mask[roi]])
    return 100 * float(np.nanmedian(np.concatenate(chosen)))
