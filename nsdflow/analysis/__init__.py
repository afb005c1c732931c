"""Analyses of responses and predictions: xarray in, xarray out."""

from __future__ import annotations

from nsdflow.analysis.ceiling import noise_ceiling
from nsdflow.analysis.summary import SummaryRow, summary_table

__all__ = ["SummaryRow", "noise_ceiling", "summary_table"]
