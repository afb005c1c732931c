"""Long name and unit of every variable of analyses and results, by its name.

xarray shows both beside the axes of plots. An atlas cannot have the name of a variable.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["VARIABLE_LABELS", "described", "label_of", "with_labels"]

Labelled = TypeVar("Labelled", "xr.DataArray", "xr.Dataset")

_SHARE: Final = "percent of the variance explained by the whole model"
_WIDTHS: Final = "image widths"

#: Long name and unit by variable. Variables made of others by a prefix or suffix (``accuracy_std``) follow from these.
VARIABLE_LABELS: Final[Mapping[str, tuple[str, str]]] = {
    # scores; the first four are the variables of nsdflow.analysis.METRICS
    "accuracy": ("Pearson correlation over trials", "1"),
    "rank_correlation": ("Spearman rank correlation over trials", "1"),
    "r2": ("coefficient of determination R² over trials", "1"),
    "explained_variance": ("explained variance over trials", "1"),
    "accuracy_mean": ("mean accuracy over resamples", "1"),
    "accuracy_shuffled": ("control: accuracy with images shuffled", "1"),
    "normalised_accuracy": ("accuracy over noise ceiling", "1"),
    "noise_ceiling": ("noise ceiling (correlation)", "1"),
    "explainable_variance": ("explainable share of variance", "1"),
    "ncsnr": ("noise-ceiling signal-to-noise ratio", "1"),
    "reliability": ("split-half reliability", "1"),
    # training
    "train_loss": ("loss on training trials", "1"),
    "holdout_loss": ("squared error on the holdout", "1"),
    "holdout_accuracy": ("accuracy on the holdout (correlation)", "1"),
    "max_holdout_accuracy": ("largest accuracy of a voxel on the holdout (correlation)", "1"),
    "seconds": ("time", "s"),
    # parameters of models
    "weights": ("weight of the feature", "1"),
    "bias": ("intercept", "1"),
    "lambda": ("selected ridge penalty", "1"),
    "delta": ("log weight of the band's kernel", "1"),
    "rf": ("centre and size of the receptive field", _WIDTHS),
    "feature_mean": ("mean of the feature over training images", "1"),
    "feature_std": ("standard deviation of the feature over training images", "1"),
    "pooling_logits_0": ("logit of the pooling field, early maps", "1"),
    "pooling_logits_1": ("logit of the pooling field, late maps", "1"),
    "predictions": ("predicted response", "1"),
    # pooling fields
    "pooling_field": ("share of the pooling field", "1"),
    "parameters": ("parameter of the fitted Gaussian, lengths in image widths", "1"),
    "eccentricity": ("distance of the field from the centre of gaze", _WIDTHS),
    "size": ("size of the field (standard deviation)", _WIDTHS),
    "polar_angle": ("direction of the field, anticlockwise from the right", "radians"),
    "orientation": ("direction of the longer axis, relative to the centre of gaze", "radians"),
    "fitted": ("whether the Gaussian fits", "1"),
    "residual": ("norm of the residual of the fit", "1"),
    # variance of layers and bands
    "inclusion": ("accuracy of the partition alone (correlation)", "1"),
    "exclusion": ("accuracy without the partition (correlation)", "1"),
    "shared": ("shared variance", _SHARE),
    "unique": ("unique variance", _SHARE),
    "shared_argmax": ("partition with the largest shared variance", "1"),
    "unique_argmax": ("partition with the largest unique variance", "1"),
    "shared_spread": ("evenness of the shared variance over partitions", "1"),
    "unique_spread": ("evenness of the unique variance over partitions", "1"),
    "shared_variance": ("variance shared by bands", "1"),
    "unique_variance": ("variance unique to the band", "1"),
    "product_variance": ("variance of the band, product measure", "1"),
    # transfer between areas
    "transfer": ("accuracy minus that of the area's own model", "1"),
    "transfer_accuracy": ("accuracy on the trunk of another area (correlation)", "1"),
    "transfer_holdout_accuracy": ("accuracy on the holdout, on the trunk of another area (correlation)", "1"),
    "alpha": ("asymmetry of transfer", "1"),
    "up": ("change of accuracy per step between areas, trunk of the higher area", "1"),
    "down": ("change of accuracy per step between areas, trunk of the lower area", "1"),
    # comparisons
    "difference": ("difference in accuracy", "1"),
    "better": ("share of resamples in which the second model is better", "1"),
    "mean_difference": ("mean difference in accuracy", "1"),
    "median_difference": ("median difference in accuracy", "1"),
    "first_better": ("voxels that the first model predicts better", "percent"),
    "second_better": ("voxels that the second model predicts better", "percent"),
    "best": ("voxels that this model predicts best", "percent"),
    "median": ("median accuracy", "1"),
    "low": ("lower end of the 95 % interval", "1"),
    "high": ("upper end of the 95 % interval", "1"),
    "share": ("share of the voxels", "percent"),
    "voxels": ("number of voxels", "1"),
    "share_of_explainable_variance": ("share of the explainable variance", "percent"),
    # image content
    "images_showing": ("number of training images that show it", "1"),
    "category_weight": ("change of the response per standard deviation of the category", "1"),
    "preferred_category": ("category with the largest weight", "1"),
    "dissimilarity": ("dissimilarity of the patterns of two images", "1"),
    "similarity": ("similarity of dissimilarities (correlation)", "1"),
    "mean_similarity": ("mean similarity over brains (correlation)", "1"),
    "ceiling_lower": ("lower noise ceiling of similarities (correlation)", "1"),
    "ceiling_upper": ("upper noise ceiling of similarities (correlation)", "1"),
    "rank": ("candidates that match better than the right image", "1"),
    "median_rank": ("median rank of the right image", "1"),
    "top": ("share of responses whose image is among the best k", "1"),
    "chance": ("share expected by chance", "1"),
    # synthetic responses
    "responses": ("response, z-scored", "1"),
    "gain": ("gain of the signal", "1"),
    "mixing": ("mixing of the noise", "1"),
    "target_norm": ("norm of the noise covariance", "1"),
    "signal_mean": ("mean of the signal over images", "1"),
    "signal_std": ("standard deviation of the signal over images", "1"),
    "noise_std": ("standard deviation of the noise", "1"),
    "measured_accuracy": ("accuracy on measured responses (correlation)", "1"),
    "planted_accuracy": ("accuracy on synthetic responses, expected (correlation)", "1"),
}

#: Long names of variables made of others.
_MADE: Final = (
    (re.compile(r"(.+)_std"), "{}, standard deviation over resamples"),
    (re.compile(r"(.+)_error"), "{}, standard error"),
    (re.compile(r"(.+)_history"), "{}, by epoch"),
    (re.compile(r"subject_(.+)"), "{}, by subject"),
    (re.compile(r"layer_(.+)"), "{}, by layer"),
    (re.compile(r"half_(.+)"), "{}, halves of the network"),
)


def label_of(name: str) -> dict[str, Any]:
    """Attributes ``long_name`` and ``units`` of a variable; empty for a variable that nsdflow does not make.

    >>> label_of("accuracy_std")
    {'long_name': 'Pearson correlation over trials, standard deviation over resamples', 'units': '1'}
    """
    if name in VARIABLE_LABELS:
        long_name, units = VARIABLE_LABELS[name]
        return {"long_name": long_name, "units": units}
    for pattern, long_name in _MADE:
        if (found := pattern.fullmatch(name)) and (of := label_of(found[1])):
            return of | {"long_name": long_name.format(of["long_name"])}
    return {}


def described(values: Labelled) -> Labelled:
    """Label an array, or the variables of a dataset, instead of the labels of what they were computed from."""
    copy = values.copy(deep=False)
    for variable in [copy] if hasattr(copy, "name") else copy.data_vars.values():
        variable.attrs = label_of(str(variable.name))
    return copy


def with_labels(dataset: xr.Dataset) -> xr.Dataset:
    """Label the variables of a dataset where they have no long name or unit."""
    copy = dataset.copy(deep=False)
    for name, variable in copy.data_vars.items():
        variable.attrs = label_of(str(name)) | variable.attrs
    return copy
