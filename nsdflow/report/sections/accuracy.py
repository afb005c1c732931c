"""Accuracy by region, over all voxels, and in the brain."""

from __future__ import annotations

from functools import partial
from html import escape

from nsdflow.analysis import accuracy_table
from nsdflow.analysis.rois import roi_masks
from nsdflow.report import markup
from nsdflow.report.figures.by_roi import accuracy_bars, accuracy_by_roi
from nsdflow.report.figures.distributions import accuracy_histograms, sorted_accuracy
from nsdflow.report.figures.slices import accuracy_map, roi_map
from nsdflow.report.sections.record import Section, each_subject, whole
from nsdflow.runs.contents import Run

__all__ = ["SECTIONS"]


def _by_area(run: Run) -> str:
    """Medians and means by ROI, and explained variance as in the paper's table."""
    subjects = {name: data for name, data in run.subjects().items() if "accuracy" in data and "roi" in data}
    areas = list(dict.fromkeys(area for data in subjects.values() for area in roi_masks(data["roi"])))
    percent = accuracy_table({run.name: run.results}, columns=[run.name], areas=areas)
    rows = []
    for name, data in subjects.items():
        sizes = {area: int(mask.sum()) for area, mask in roi_masks(data["roi"]).items()}
        for area, size in sizes.items():
            ceiling, explained = (float(value) for value in percent.sel(subject=name, roi=area).values)
            rows.append((name, area, size, explained, ceiling, 100 * explained / ceiling if ceiling else float("nan")))
    header = ("subject", "ROI", "voxels", "explained variance (%)", "explainable variance (%)", "share explained (%)")
    medians = markup.picture(accuracy_by_roi(run.results), "Accuracy by region of interest and subject")
    bars = markup.picture(accuracy_bars(run.results), "Mean accuracy by region, with errors")
    table = markup.details("Explained variance by subject and ROI, as a table", markup.table(header, rows))
    return medians + markup.details("Means with errors, as bars", bars) + table


def _slices(run: Run) -> str:
    """Accuracy in slices; the regions and the quality of the voxels open on a click."""
    parts = [each_subject(accuracy_map, "Slices of accuracy", "accuracy")(run)]
    for needs, title, text, draw in _MORE_SLICES:
        if run.has(needs):
            pictures = each_subject(draw, f"Slices: {title}", "accuracy")(run)
            parts.append(markup.details(title, f"<p>{escape(text)}</p>{pictures}"))
    return "".join(parts)


_MORE_SLICES = (
    ("roi", "Regions", "The voxels of the run and the region that each belongs to.", roi_map),
    (
        "ncsnr",
        "Signal-to-noise ratio",
        "ncsnr: the standard deviation of the part of a response that depends on the image, divided by that of the "
        "noise of one trial. 0 means that no model of the image can predict the voxel.",
        partial(accuracy_map, variable="ncsnr", label="ncsnr (ratio)", cmap="magma"),
    ),
)

SECTIONS = (
    Section(
        "Accuracy by region of interest",
        "Dots are medians over voxels, lines run from the first to the third quartile, grey bars are median noise "
        "ceilings, the dashed line is chance. In the bars, the error of a subject is the mean bootstrap error of its "
        "voxels, and that of the mean over n subjects the root of the mean squared error divided by the root of n.",
        ("accuracy", "roi"),
        _by_area,
    ),
    Section(
        "Accuracy of all voxels",
        "Distributions over voxels. Where the outlines of accuracy and ceiling part, there is signal that the model "
        "does not predict; where accuracy and control overlap, there is no evidence of a prediction.",
        ("accuracy",),
        whole(accuracy_histograms, "Histograms of accuracy, control and noise ceiling by subject"),
    ),
    Section(
        "Accuracy from best to worst voxel",
        "Voxels sorted by accuracy, best first. The band is one standard error from the bootstrap over trials.",
        ("accuracy", "accuracy_std"),
        whole(sorted_accuracy, "Sorted accuracy with its error by subject"),
    ),
    Section(
        "Accuracy in the brain",
        "Slices across the third axis of the functional volume, cut to the voxels of the run.",
        ("accuracy", "i", "j", "k"),
        _slices,
    ),
)
