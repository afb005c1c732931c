"""Figures: functions of labelled results that return a matplotlib figure, drawn without any window."""

from __future__ import annotations

from nsdflow.report.figures.accuracy import accuracy_by_roi, accuracy_histograms, accuracy_map
from nsdflow.report.figures.comparison import explained_variance, joint_distribution
from nsdflow.report.figures.fields import (
    layer_weights,
    pooling_field_examples,
    receptive_fields,
    size_by_eccentricity,
)
from nsdflow.report.figures.training import learning_curves
from nsdflow.report.figures.transfer import planted_signal, transfer_asymmetries, transfer_matrices
from nsdflow.report.figures.tuning import variance_by_layer

__all__ = [
    "accuracy_by_roi",
    "accuracy_histograms",
    "accuracy_map",
    "explained_variance",
    "joint_distribution",
    "layer_weights",
    "learning_curves",
    "planted_signal",
    "pooling_field_examples",
    "receptive_fields",
    "size_by_eccentricity",
    "transfer_asymmetries",
    "transfer_matrices",
    "variance_by_layer",
]
