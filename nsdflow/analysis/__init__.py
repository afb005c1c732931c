"""Analyses of responses and predictions: xarray in, xarray out."""

from __future__ import annotations

from nsdflow.analysis.ceiling import noise_ceiling
from nsdflow.analysis.compare import compare_models, compare_runs
from nsdflow.analysis.correlation import accuracy, uncertainty
from nsdflow.analysis.fields import pooling_field_fits, pooling_fields
from nsdflow.analysis.noise import noise_model, synthetic_responses
from nsdflow.analysis.partitions import tuning, variance_shares
from nsdflow.analysis.rois import roi_names, roi_summary
from nsdflow.analysis.summary import SummaryRow, summary_table
from nsdflow.analysis.tables import accuracy_table, explainable_table, table_frame, transfer_table
from nsdflow.analysis.transfer import transfer_asymmetry, transfer_matrices, transfer_matrix

__all__ = [
    "SummaryRow",
    "accuracy",
    "accuracy_table",
    "compare_models",
    "compare_runs",
    "explainable_table",
    "noise_ceiling",
    "noise_model",
    "pooling_field_fits",
    "pooling_fields",
    "roi_names",
    "roi_summary",
    "summary_table",
    "synthetic_responses",
    "table_frame",
    "transfer_asymmetry",
    "transfer_matrices",
    "transfer_matrix",
    "transfer_table",
    "tuning",
    "uncertainty",
    "variance_shares",
]
