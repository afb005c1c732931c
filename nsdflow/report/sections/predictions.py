"""Predictions of images, and their accuracy by class of image."""

from __future__ import annotations

from html import escape

import numpy as np

from nsdflow.analysis import explained_share
from nsdflow.analysis.rois import roi_masks
from nsdflow.errors import NsdflowError
from nsdflow.report import markup
from nsdflow.report.brain.maps import LEAST_CEILING
from nsdflow.report.figures.images import accuracy_of_classes, image_mosaic
from nsdflow.report.sections.record import Section
from nsdflow.runs.contents import Run
from nsdflow.runs.identity import open_recorded_store

__all__ = ["SECTIONS"]


def _predictions(run: Run) -> str:
    arrays = {name: data["predictions"] for name, data in run.subjects().items() if "predictions" in data}
    rows = [(name, array.sizes["image"], array.sizes["voxel"], array.nbytes / 1e9) for name, array in arrays.items()]
    return markup.table(("subject", "images", "voxels", "GB"), rows)


def _mosaics(run: Run) -> str:
    """Images with the highest and lowest predictions of each ROI, where the store of the run can be read."""
    try:
        images = open_recorded_store(run.record, run.folder).images()
    except (NsdflowError, OSError) as error:
        return f"<p>The images are not shown: {escape(' '.join(str(error).split()))}</p>"
    name, data = next((n, d) for n, d in run.subjects().items() if "predictions" in d)
    pictures = []
    for roi, mask in roi_masks(data["roi"]).items():
        predicted = data["predictions"].isel(voxel=np.flatnonzero(np.asarray(mask))).mean("voxel").load()
        mean = predicted.sum("band") if "band" in predicted.dims else predicted
        if "nsd_id" in mean.coords:
            label = f"predicted response of {roi}, {name} (mean over voxels, z)"
            figure = image_mosaic(images, mean, label=label)
            pictures.append((roi, markup.picture(figure, f"Images by {label}", raster=True)))
    first, *others = pictures or [("", "")]
    return first[1] + "".join(markup.details(roi, picture) for roi, picture in others)


def _classes(run: Run) -> str:
    """The figure, and below it the medians of every subject and class."""
    rows = []
    for name, data in run.subjects().items():
        if "class_accuracy" not in data:
            continue
        used = np.asarray(data["class_ceiling"].isel(image_class=0)) >= LEAST_CEILING
        chosen = data[["class_accuracy", "class_ceiling"]].isel(voxel=np.flatnonzero(used))
        share = explained_share(chosen["class_accuracy"], chosen["class_ceiling"], minimum=LEAST_CEILING)
        for row, one in enumerate(data["image_class"].values.tolist()):
            medians = (
                float(values.isel(image_class=row).median())
                for values in (chosen["class_accuracy"], chosen["class_ceiling"], share)
            )
            counts = (int(data[what][row]) for what in ("conditions", "trials"))
            kind = str(data["distribution"].values[row])
            rows.append((name, str(data["experiment"].values[row]), one, kind, *counts, *medians))
    header = ("subject", "experiment", "class", "distribution", "conditions", "trials", "r", "ceiling", "share of R²")
    figure = accuracy_of_classes(run.results, minimum=LEAST_CEILING)
    return markup.picture(figure, "Accuracy and ceiling by class of image and subject") + markup.details(
        "numbers", markup.table(header, rows)
    )


SECTIONS = (
    Section(
        "Accuracy by class of image",
        "Correlation over the images of a class between predictions and responses averaged over repetitions (dots: "
        "medians over voxels), under the ceiling that the repetitions of the class allow (grey bars). Bold: images "
        "within the distribution that the model was trained on, photographs. A class of few images (n) has a wide "
        "scatter. Voxels whose ceiling for the shared images is at least 0.1.",
        ("class_accuracy", "class_ceiling", "distribution"),
        _classes,
    ),
    Section(
        "Predictions",
        "Responses predicted for images by voxel, z-scored within session like the responses the model was trained on.",
        ("predictions",),
        _predictions,
    ),
    Section(
        "Images that drive a region",
        "The images with the highest and the lowest response predicted for a region, averaged over its voxels.",
        ("predictions", "roi"),
        _mosaics,
    ),
)
