"""Analyses of responses and predictions: xarray in, xarray out."""

from __future__ import annotations

from nsdflow.analysis import published
from nsdflow.analysis.comparison.bootstrap import compare_predictions
from nsdflow.analysis.comparison.pairs import advantage, compare_models, compare_runs
from nsdflow.analysis.comparison.tables import accuracy_table, explainable_table, table_frame, transfer_table
from nsdflow.analysis.comparison.winners import common_voxels, compare_many
from nsdflow.analysis.features.annotated import ANNOTATION_SPACES, annotation_features
from nsdflow.analysis.features.bands import variance_partition
from nsdflow.analysis.features.partitions import tuning, variance_shares
from nsdflow.analysis.features.transfer import transfer_asymmetry, transfer_matrices, transfer_matrix
from nsdflow.analysis.fields.pooling import pooling_field_fits, pooling_fields
from nsdflow.analysis.images.classes import accuracy_by_class, explained_share
from nsdflow.analysis.images.dissimilarity import dissimilarities, rsa
from nsdflow.analysis.images.identify import identification
from nsdflow.analysis.metrics import (
    METRICS,
    accuracy,
    evaluate,
    normalised_accuracy,
    shuffle_images,
    uncertainty,
)
from nsdflow.analysis.noise.ceilings import explainable_variance, noise_ceiling
from nsdflow.analysis.noise.estimates import estimate_ncsnr, reliability
from nsdflow.analysis.noise.synthetic import noise_model, synthetic_responses
from nsdflow.analysis.rois import roi_names, roi_summary
from nsdflow.analysis.summary import SummaryRow, split_counts, summary_table

__all__ = [
    "ANNOTATION_SPACES",
    "METRICS",
    "SummaryRow",
    "accuracy",
    "accuracy_by_class",
    "accuracy_table",
    "advantage",
    "annotation_features",
    "common_voxels",
    "compare_many",
    "compare_models",
    "compare_predictions",
    "compare_runs",
    "dissimilarities",
    "estimate_ncsnr",
    "evaluate",
    "explainable_table",
    "explainable_variance",
    "explained_share",
    "identification",
    "noise_ceiling",
    "noise_model",
    "normalised_accuracy",
    "pooling_field_fits",
    "pooling_fields",
    "published",
    "reliability",
    "roi_names",
    "roi_summary",
    "rsa",
    "shuffle_images",
    "split_counts",
    "summary_table",
    "synthetic_responses",
    "table_frame",
    "transfer_asymmetry",
    "transfer_matrices",
    "transfer_matrix",
    "transfer_table",
    "tuning",
    "uncertainty",
    "variance_partition",
    "variance_shares",
]
