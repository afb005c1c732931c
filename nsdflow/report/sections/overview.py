"""The first sections: accuracies, numbers of trials, and the control."""

from __future__ import annotations

from nsdflow.analysis import summary_table
from nsdflow.labels import VARIABLE_LABELS
from nsdflow.report import markup
from nsdflow.report.figures.distributions import accuracy_against_ceiling
from nsdflow.report.figures.first_picture import overview
from nsdflow.report.sections.record import Section, whole
from nsdflow.runs.contents import Run

__all__ = ["SECTIONS"]

_PARTS = ("training", "holdout", "validation")


def _summary(run: Run) -> str:
    rows = summary_table(run.results)
    others = list(dict.fromkeys(name for row in rows for name in row.metrics))
    header = ["subject", "voxels", "median accuracy r", "median noise ceiling r", "ratio"]
    table = [(r.subject, r.voxels, r.accuracy, r.noise_ceiling, r.ratio) for r in rows]
    if any(row.control == row.control for row in rows):  # NaN without a control
        header.append("control: images shuffled")
        table = [(*line, row.control) for line, row in zip(table, rows, strict=True)]  # type: ignore[misc]
    header += [f"median {VARIABLE_LABELS[name][0]}" for name in others]
    lines = [(*line, *(row.metrics[name] for name in others)) for line, row in zip(table, rows, strict=True)]
    picture = markup.picture(overview(run.results), "Accuracy at a glance", raster=True)
    return picture + markup.table(header, lines)


def _trials(run: Run) -> str:
    """Counts that the results carry as attributes of each subject."""
    rows = []
    for name, data in run.subjects().items():
        numbers = [data.attrs.get(f"{part}_{what}") for part in _PARTS for what in ("trials", "images")]
        if any(number is not None for number in numbers):
            rows.append((name, *("–" if number is None else int(number) for number in numbers)))
    if not rows:
        return ""
    header = ("subject", *(f"{part} {what}" for part in _PARTS for what in ("trials", "images")))
    return markup.table(header, rows)


SECTIONS = (
    Section(
        "Accuracy",
        "How well the model predicts responses to images that it was not trained on: the Pearson correlation r of "
        "predicted and measured responses over single validation trials (the images that all subjects saw). The noise "
        "ceiling is the correlation that a perfect model of the image would reach on single trials. The control pairs "
        "every image with the prediction for another image: an accuracy means something where it is above the control, "
        "which is 0 up to chance.",
        ("accuracy",),
        _summary,
    ),
    Section(
        "Trials and images",
        "Training trials fit the model; holdout trials choose the epoch or the ridge penalty; validation trials, which "
        "show the shared images, are only used for the accuracies on this page.",
        ("accuracy",),
        _trials,
    ),
    Section(
        "Accuracy against the ceiling",
        "Every voxel: the line is a perfect model. Voxels near the bottom with a high ceiling respond to something "
        "that the model does not have.",
        ("accuracy", "ncsnr"),
        whole(accuracy_against_ceiling, "Accuracy against noise ceiling by subject", raster=True),
    ),
)
