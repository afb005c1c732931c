"""Figures: functions of labelled results that return a matplotlib figure, drawn without any window.

The names here are those for notebooks. Sections of the report import figures from their modules.
"""

from __future__ import annotations

from nsdflow.report.figures.by_roi import accuracy_bars, accuracy_by_roi
from nsdflow.report.figures.comparison import explained_variance, joint_distribution, model_against_model
from nsdflow.report.figures.distributions import accuracy_against_ceiling, accuracy_histograms, sorted_accuracy
from nsdflow.report.figures.fields import pooling_field_examples, receptive_fields, size_by_eccentricity
from nsdflow.report.figures.first_picture import overview
from nsdflow.report.figures.images import accuracy_of_classes, image_mosaic
from nsdflow.report.figures.regression import (
    candidate_fields,
    category_weights,
    chosen_lambdas,
    features_by_layer,
    layer_weights,
)
from nsdflow.report.figures.slices import accuracy_map, category_map, roi_map
from nsdflow.report.figures.training import holdout_violins, learning_curves
from nsdflow.report.figures.transfer import signal_accuracy, transfer_asymmetries, transfer_losses
from nsdflow.report.figures.tuning import band_variance, layer_map, tuning_violins, variance_by_layer

__all__ = [
    "accuracy_against_ceiling",
    "accuracy_bars",
    "accuracy_by_roi",
    "accuracy_histograms",
    "accuracy_map",
    "accuracy_of_classes",
    "band_variance",
    "candidate_fields",
    "category_map",
    "category_weights",
    "chosen_lambdas",
    "explained_variance",
    "features_by_layer",
    "holdout_violins",
    "image_mosaic",
    "joint_distribution",
    "layer_map",
    "layer_weights",
    "learning_curves",
    "model_against_model",
    "overview",
    "pooling_field_examples",
    "receptive_fields",
    "roi_map",
    "signal_accuracy",
    "size_by_eccentricity",
    "sorted_accuracy",
    "transfer_asymmetries",
    "transfer_losses",
    "tuning_violins",
    "variance_by_layer",
]
