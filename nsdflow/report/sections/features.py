"""Sections on the contributions of features, and on the fields of voxels."""

from __future__ import annotations

from functools import partial

from nsdflow.report import markup
from nsdflow.report.figures.models.fields import pooling_field_examples, receptive_fields, size_by_eccentricity
from nsdflow.report.figures.models.regression import candidate_fields, chosen_lambdas, features_by_layer, layer_weights
from nsdflow.report.figures.models.tuning import band_variance, layer_map, tuning_violins, variance_by_layer
from nsdflow.report.sections.record import Section, each_subject, whole
from nsdflow.runs.contents import Run

__all__ = ["SECTIONS", "TUNING"]


#: Text of the sections on the partition of the variance.
PARTITION = (
    "Medians over the voxels of a region, in percent of the variance of the responses. Unique: what the model no "
    "longer explains without the {0}; shared: what several {0}s explain alike. The product measure divides all that "
    "is explained among the {0}s, so that the bars of a region add up."
)


def _lambdas(run: Run) -> str:
    if not any(data["lambda"].notnull().any() for data in run.subjects().values() if "lambda" in data):
        return ""  # an adopted file does not say them
    tried = next((data.attrs.get("lambdas") for data in run.subjects().values() if "lambdas" in data.attrs), None)
    figure = chosen_lambdas(run.results, None if tried is None else tuple(float(value) for value in tried))
    return markup.picture(figure, "Chosen ridge penalties by subject")


TUNING = (
    Section(
        "Shared and unique variance by layer",
        "Shared: what a layer alone predicts. Unique: what is lost without it. Both in percent of the variance that "
        "the whole model explains, averaged over voxels with an accuracy above 0.055 with weight r², as in the paper. "
        "Thin: subjects; bold: their mean, with the root of their mean squared errors over the root of their number.",
        ("shared", "unique", "accuracy", "roi"),
        whole(variance_by_layer, "Shared and unique variance by layer and region"),
    ),
    Section(
        "Shared and unique variance by half",
        "The same for the two levels of feature maps.",
        ("half_shared", "half_unique", "accuracy", "roi"),
        whole(
            partial(variance_by_layer, prefix="half_", partition="half"),
            "Shared and unique variance by half of the features and region",
        ),
    ),
    Section(
        "Spread of shared and unique variance",
        "Distributions over voxels with an accuracy above 0.055, 5th to 95th percentile; dots are medians.",
        ("shared", "unique", "accuracy", "roi"),
        whole(tuning_violins, "Violins of shared and unique variance by layer and region"),
    ),
    Section(
        "Variance by band of features",
        PARTITION.format("band"),
        ("unique_variance", "product_variance", "shared_variance", "band", "roi"),
        whole(band_variance, "Unique, shared and product variance by band and region"),
    ),
    Section(
        "Variance by layer",
        PARTITION.format("layer"),
        ("unique_variance", "product_variance", "shared_variance", "partition", "roi"),
        whole(partial(band_variance, dim="partition"), "Unique, shared and product variance by layer and region"),
    ),
    Section(
        "Layer of each voxel",
        "The layer without which most of the explained variance is lost, for voxels with an accuracy above 0.055.",
        ("unique_argmax", "partition", "accuracy", "i", "j", "k"),
        each_subject(layer_map, "Slices of the layer with most unique variance", "unique_argmax"),
    ),
)

SECTIONS = (
    Section(
        "Pooling fields, finer level",
        "Of the best predicted voxels of each region: which part of the image the readout pools over. Lines cross at "
        "the centre of gaze. × is the largest weight of a field over that of an even one: near ×1 it is still flat.",
        ("pooling_logits_0", "accuracy", "roi"),
        each_subject(pooling_field_examples, "Pooling fields of the finer level", "pooling_logits_0"),
    ),
    Section(
        "Pooling fields, coarser level",
        "The same voxels on the deeper feature maps.",
        ("pooling_logits_1", "accuracy", "roi"),
        each_subject(
            partial(pooling_field_examples, level=1), "Pooling fields of the coarser level", "pooling_logits_1"
        ),
    ),
    Section(
        "Receptive fields",
        "One circle of radius sigma for each candidate that voxels chose, darker where more voxels chose it; the "
        "square is the image. Voxels with an accuracy above 0.055.",
        ("rf", "accuracy", "roi"),
        each_subject(receptive_fields, "Receptive fields by region", "rf", raster=False),
    ),
    Section(
        "Size and eccentricity",
        "Mean size in rings around the centre of gaze, with its standard error. In visual cortex sizes grow with "
        "eccentricity and from V1 to hV4.",
        ("rf", "accuracy", "roi"),
        each_subject(size_by_eccentricity, "Size of receptive fields by eccentricity", "rf", raster=False),
    ),
    Section(
        "Size and eccentricity of pooling fields",
        "From Gaussians fitted to the pooling fields; fits that failed are left out.",
        ("eccentricity", "size", "fitted", "accuracy", "roi"),
        each_subject(size_by_eccentricity, "Size of pooling fields by eccentricity", "size", raster=False),
    ),
    Section(
        "Layers",
        "Share of each layer's features in the squared weights of a voxel, averaged over each region's voxels with an "
        "accuracy above 0.055. Features are z-scored, so that weights compare.",
        ("rf", "weights", "layer", "accuracy", "roi"),
        each_subject(layer_weights, "Share of squared weights by layer", "weights", raster=False),
    ),
    Section(
        "Features by layer",
        "How many features of each layer the model reads; of large layers, the features with most variance are kept.",
        ("rf", "weights", "layer"),
        lambda run: markup.picture(
            features_by_layer(next(d for d in run.subjects().values() if "layer" in d.coords)),
            "Number of features by layer",
        ),
    ),
    Section(
        "Ridge penalties",
        "How many voxels chose each penalty λ on the holdout trials. Where many chose the smallest or largest, a wider "
        "range would fit better.",
        ("lambda",),
        _lambdas,
    ),
    Section(
        "Candidate receptive fields",
        "The positions and sizes among which each voxel chose: a dot per centre, a circle of radius σ for the size, "
        "the square is the image.",
        ("candidates/rf",),
        lambda run: markup.picture(
            candidate_fields(run.results["candidates"].to_dataset()["rf"].load()), "Candidates by size"
        ),
    ),
)
