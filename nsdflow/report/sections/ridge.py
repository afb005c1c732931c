"""Sections of ridge runs."""

from __future__ import annotations

import numpy as np

from nsdflow.report import markup
from nsdflow.report.figures.models.regression import accuracy_by_layer, category_weights
from nsdflow.report.sections.record import Section, each_subject
from nsdflow.runs.contents import Run

__all__ = ["SECTIONS"]

#: Share of voxels at an end of the grid above which the page suggests a wider grid.
MANY_AT_BOUND = 0.05


def lambdas(run: Run) -> str:
    """A line per subject: how many voxels chose an end of the grid, and what to do about it."""
    rows = []
    for name, data in run.subjects().items():
        grid, chosen = np.asarray(data.attrs["lambdas"]), data["lambda"].values
        low, high = (float(np.isclose(chosen, end, rtol=1e-3).mean()) for end in (grid[0], grid[-1]))
        advice = [f"lower lambda_min below {grid[0]:g}"] if low > MANY_AT_BOUND else []
        advice += [f"raise lambda_max above {grid[-1]:g}, or expect no signal there"] if high > MANY_AT_BOUND else []
        rows.append((name, f"{low:.1%}", f"{high:.1%}", "; ".join(advice) or "the grid is wide enough"))
    return markup.table(["subject", "at the lowest", "at the highest", "what to do"], rows)


SECTIONS = (
    Section(
        "Accuracy by layer",
        "Left: median correlation with single validation trials for each layer, by area. Right: how many voxels each "
        "layer fits best; the best layer is chosen by the loss on held-out training trials, not on these images.",
        ("layer_accuracy", "best_layer"),
        each_subject(accuracy_by_layer, "accuracy by layer and area", "layer_accuracy", raster=False),
    ),
    Section(
        "Lambdas at the ends of the grid",
        "Many voxels at an end mean that a better lambda may lie outside the grid; at the upper end these are often "
        "voxels without signal.",
        ("layer_lambda", "lambda"),
        lambdas,
    ),
    Section(
        "Categories by area",
        "How much the response changes with a category, in standard deviations of both, the other categories held "
        "constant; averaged over the voxels of an area with an accuracy above 0.055 (their number in brackets). Red: "
        "the area responds more where the category is shown. Categories occur together, so weights are not the mean "
        "response to a category.",
        ("category_weight", "accuracy", "roi"),
        each_subject(category_weights, "Mean weight of each category by area", "category_weight", raster=False),
    ),
)
