"""The sections of a run's page, as records: a section appears where the variables it needs are there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from nsdflow.analysis import accuracy_table, compare_runs, summary_table, table_frame
from nsdflow.analysis.rois import roi_masks
from nsdflow.report import figures, markup

if TYPE_CHECKING:
    from collections.abc import Callable

    import xarray as xr
    from matplotlib.figure import Figure

    from nsdflow.runs.contents import Run

__all__ = ["SECTIONS", "Section"]


@dataclass(frozen=True)
class Section:
    """A heading, a sentence on how to read what follows, and what follows."""

    title: str
    text: str
    needs: tuple[str, ...]
    """Variables or coordinates of the subjects, or ``group/variable``."""
    content: Callable[[Run], str]
    """The HTML below the text."""


def _whole(draw: Callable[[xr.DataTree], Figure], description: str, *, raster: bool = False) -> Callable[[Run], str]:
    """One figure of all results."""
    return lambda run: markup.picture(draw(run.results), description, raster=raster)


def _group(name: str, draw: Callable[[xr.Dataset], Figure], description: str) -> Callable[[Run], str]:
    """One figure of one group of the results."""
    return lambda run: markup.picture(draw(run.results[name].to_dataset().load()), description)


def _each_subject(
    draw: Callable[[xr.Dataset], Figure], description: str, needs: str, *, raster: bool = True
) -> Callable[[Run], str]:
    """A figure a subject; all but the first open on a click."""

    def content(run: Run) -> str:
        subjects = {name: data for name, data in run.subjects().items() if needs in data}
        pictures = {
            name: markup.picture(draw(data), f"{description}, {name}", raster=raster) for name, data in subjects.items()
        }
        first, *others = pictures
        rest = "".join(markup.details(name, pictures[name]) for name in others)
        return f"<h3>{first}</h3>{pictures[first]}{rest}"

    return content


def _summary(run: Run) -> str:
    rows = [(r.subject, r.voxels, r.accuracy, r.noise_ceiling, r.ratio) for r in summary_table(run.results)]
    return markup.table(("subject", "voxels", "median accuracy r", "median noise ceiling r", "ratio"), rows)


def _by_area(run: Run) -> str:
    """Explained variance as the paper's table has it, below the picture."""
    subjects = {name: data for name, data in run.subjects().items() if "accuracy" in data}
    areas = list(dict.fromkeys(area for data in subjects.values() for area in roi_masks(data["roi"])))
    percent = accuracy_table({run.name: run.results}, columns=[run.name], areas=areas)
    rows = []
    for name, data in subjects.items():
        sizes = {area: int(mask.sum()) for area, mask in roi_masks(data["roi"]).items()}
        for area, size in sizes.items():
            ceiling, explained = (float(value) for value in percent.sel(subject=name, roi=area).values)
            rows.append((name, area, size, explained, ceiling, 100 * explained / ceiling if ceiling else float("nan")))
    header = ("subject", "ROI", "voxels", "explained variance (%)", "noise ceiling (%)", "share of the ceiling (%)")
    picture = markup.picture(figures.accuracy_by_roi(run.results), "Accuracy by region of interest and subject")
    return picture + markup.details("Explained variance by subject and ROI, as a table", markup.table(header, rows))


def _learning_curves(run: Run) -> str:
    """The curves, and the choices of a training that depend on where it ran."""
    history = run.results["history"].to_dataset().load()
    drawn = markup.picture(figures.learning_curves(history), "Losses and holdout accuracy by epoch")
    named = {"arithmetic": "precision", "prefilter's output kept": "prefilter_cache"}
    return drawn + markup.facts({name: history.attrs.get(key) for name, key in named.items()})


def _table(group: str, variable: str | None = None) -> Callable[[Run], str]:
    """One of the paper's tables, in its rows and columns."""

    def content(run: Run) -> str:
        dataset = run.results[group].to_dataset().load()
        frame = table_frame(dataset if variable is None else dataset[variable])
        return markup.table(list(frame.columns), frame.itertuples(index=False, name=None))

    return content


def _explained_variance(run: Run) -> str:
    table = run.results["accuracy"].to_dataset()["explained_variance"].load()
    picture = markup.picture(figures.explained_variance(table), "Explained variance by model, area and subject")
    return picture + _table("accuracy", "explained_variance")(run)


def _joint_against_roiwise(run: Run) -> str:
    first, second = run.sibling("gnet8r"), run.sibling("gnet8j")
    draw = figures.joint_distribution(first, second, names=("GNet8r", "GNet8j"))
    compared = compare_runs(first, second).to_dataframe(dim_order=["subject", "roi"]).dropna().reset_index()
    header = (
        "subject", "ROI", "voxels", "GNet8r better (%)", "GNet8j better (%)", "mean difference", "median difference",
    )  # fmt: skip
    rows = [(*row[:2], int(row[2]), *row[3:]) for row in compared.itertuples(index=False, name=None)]
    table = markup.details("By subject and ROI, as a table", markup.table(header, rows))
    return markup.picture(draw, "Advantage of GNet8j over GNet8r by area", raster=True) + table


def _asymmetries(run: Run) -> str:
    table = run.results["transfer"].to_dataset().load()
    picture = markup.picture(figures.transfer_asymmetries(table), "Asymmetry of transfer by subject and set")
    return picture + markup.details("By set and subject, as a table", _table("transfer")(run))


def _noise_models(run: Run) -> str:
    rows = []
    for name, data in run.subjects().items():
        values = {v: data[v].values for v in ("gain", "noise_std", "measured_accuracy", "planted_accuracy")}
        share = 100 * float(data["residual"] / data["target_norm"])
        sizes = (data.sizes["voxel"], data.sizes["component"])
        rows.append((name, *sizes, *(float(np.median(column)) for column in values.values()), share))
    header = (
        "subject", "voxels", "components", "median gain b", "median noise", "median r with measured trials",
        "with synthetic trials", "residual (% of target)",
    )  # fmt: skip
    picture = markup.picture(figures.planted_signal(run.results), "Accuracy of the signal on both kinds of trials")
    return picture + markup.table(header, rows)


def _predictions(run: Run) -> str:
    arrays = {name: data["predictions"] for name, data in run.subjects().items() if "predictions" in data}
    rows = [(name, array.sizes["image"], array.sizes["voxel"], array.nbytes / 1e9) for name, array in arrays.items()]
    return markup.table(("subject", "images", "voxels", "GB"), rows)


SECTIONS = (
    Section(
        "Accuracy",
        "Pearson correlation of predicted and measured responses over single validation trials (the shared images). "
        "The noise ceiling is what a perfect model of the image could reach on single trials.",
        ("accuracy",),
        _summary,
    ),
    Section(
        "Learning curves",
        "The epoch with the highest median holdout accuracy is kept. Holdout trials are set aside from the training "
        "trials; validation images play no part in it. Training losses are taken with dropout, holdout losses without.",
        ("history/train_loss", "history/holdout_accuracy"),
        _learning_curves,
    ),
    Section(
        "Shared and unique variance by layer",
        "Shared: what a layer alone predicts. Unique: what is lost without it. Both in percent of the variance that "
        "the whole model explains, averaged over voxels with an accuracy above 0.055 with weight r². Bars are one "
        "standard error of a voxel.",
        ("shared", "unique", "accuracy", "roi"),
        _whole(figures.variance_by_layer, "Shared and unique variance by layer and region"),
    ),
    Section(
        "Shared and unique variance by half",
        "The same for the two levels of feature maps.",
        ("half_shared", "half_unique", "accuracy", "roi"),
        _whole(
            partial(figures.variance_by_layer, prefix="half_", partition="half"),
            "Shared and unique variance by half of the features and region",
        ),
    ),
    Section(
        "Transfer between areas",
        "Change of accuracy when an area (column) is predicted from the features that another area (row) learned. α "
        "above 0: features of higher areas predict lower ones better than the reverse; below 0: worse. The accuracies "
        "shown on this page are those of the areas' own models.",
        ("transfer/transfer", "transfer/alpha"),
        _group("transfer", figures.transfer_matrices, "Transfer matrices and their asymmetry"),
    ),
    Section(
        "Explained variance",
        "Mean over the voxels of an area of the squared validation correlation on single trials, in percent, in the "
        "rows and columns of the paper. Models without a finished run have no entries.",
        ("accuracy/explained_variance",),
        _explained_variance,
    ),
    Section(
        "Share of the explainable variance",
        "Median over the voxels of an area of the squared correlation over the ceiling, in percent.",
        ("explainable/share_of_explainable_variance",),
        _table("explainable", "share_of_explainable_variance"),
    ),
    Section(
        "Asymmetry of transfer",
        "α and its error by subject, and for all subjects' voxels together. Above 0, features of higher areas predict "
        "lower ones better than the reverse. Where responses are synthetic, the hierarchy is that of the model whose "
        "predictions are their signal; experimental ones are the measured responses.",
        ("transfer/mean", "transfer/std"),
        _asymmetries,
    ),
    Section(
        "Noise model",
        "Synthetic responses are b times the signal plus noise mixed by R. b is chosen so that correlations between "
        "voxels are those of the data, R R' is the positive semi-definite matrix nearest to what is left of them; the "
        "residual says how far that is. Dots on the diagonal: the signal predicts synthetic trials as well as "
        "measured ones.",
        ("gain", "planted_accuracy", "measured_accuracy"),
        _noise_models,
    ),
    Section(
        "One trunk or four",
        "Every voxel of all subjects: how much better the jointly trained GNet8j predicts it than GNet8r, trained on "
        "its own area, against how well both do. Numbers are the shares of voxels on either side.",
        ("accuracy/explained_variance", "../gnet8j", "../gnet8r"),
        _joint_against_roiwise,
    ),
    Section(
        "Predictions",
        "Responses predicted for images by voxel, z-scored within session like the responses the model was trained on.",
        ("predictions",),
        _predictions,
    ),
    Section(
        "Accuracy by region of interest",
        "Dots are medians over voxels, lines run from the first to the third quartile, grey bars are median noise "
        "ceilings. The dashed line is chance.",
        ("accuracy", "roi"),
        _by_area,
    ),
    Section(
        "Accuracy of all voxels",
        "Where the two outlines part, there is signal that the model does not predict.",
        ("accuracy",),
        _whole(figures.accuracy_histograms, "Histograms of accuracy and noise ceiling by subject"),
    ),
    Section(
        "Accuracy in the brain",
        "Slices across the third axis of the functional volume, cut to the voxels of the run.",
        ("accuracy", "i", "j", "k"),
        _each_subject(figures.accuracy_map, "Slices of accuracy", "accuracy"),
    ),
    Section(
        "Pooling fields, finer level",
        "Of the best predicted voxels of each region: which part of the image the readout pools over. Lines cross at "
        "the centre of gaze. × is the largest weight of a field over that of an even one: near ×1 it is still flat.",
        ("pooling_logits_0", "accuracy", "roi"),
        _each_subject(figures.pooling_field_examples, "Pooling fields of the finer level", "pooling_logits_0"),
    ),
    Section(
        "Pooling fields, coarser level",
        "The same voxels on the deeper feature maps.",
        ("pooling_logits_1", "accuracy", "roi"),
        _each_subject(
            partial(figures.pooling_field_examples, level=1), "Pooling fields of the coarser level", "pooling_logits_1"
        ),
    ),
    Section(
        "Receptive fields",
        "One circle of radius sigma for each candidate that voxels chose, darker where more voxels chose it; the "
        "square is the image. Voxels with an accuracy above 0.055.",
        ("rf", "accuracy", "roi"),
        _each_subject(figures.receptive_fields, "Receptive fields by region", "rf", raster=False),
    ),
    Section(
        "Size and eccentricity",
        "Mean size in rings around the centre of gaze, with its standard error. In visual cortex sizes grow with "
        "eccentricity and from V1 to hV4.",
        ("rf", "accuracy", "roi"),
        _each_subject(figures.size_by_eccentricity, "Size of receptive fields by eccentricity", "rf", raster=False),
    ),
    Section(
        "Size and eccentricity of pooling fields",
        "From Gaussians fitted to the pooling fields; fits that failed are left out.",
        ("eccentricity", "size", "fitted", "accuracy", "roi"),
        _each_subject(figures.size_by_eccentricity, "Size of pooling fields by eccentricity", "size", raster=False),
    ),
    Section(
        "Layers",
        "Share of each layer's features in the squared weights of a voxel, averaged over each region's voxels with an "
        "accuracy above 0.055. Features are z-scored, so that weights compare.",
        ("rf", "weights", "layer", "accuracy", "roi"),
        _each_subject(figures.layer_weights, "Share of squared weights by layer", "weights", raster=False),
    ),
)
