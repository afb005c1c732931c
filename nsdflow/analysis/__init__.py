"""Analyses of responses and predictions: xarray in, xarray out."""

from __future__ import annotations

from nsdflow.analysis.ceiling import noise_ceiling
from nsdflow.analysis.correlation import accuracy, uncertainty
from nsdflow.analysis.partitions import tuning, variance_shares
from nsdflow.analysis.rois import roi_summary
from nsdflow.analysis.summary import SummaryRow, summary_table

__all__ = [
    "SummaryRow",
    "accuracy",
    "noise_ceiling",
    "roi_summary",
    "summary_table",
    "tuning",
    "uncertainty",
    "variance_shares",
]
