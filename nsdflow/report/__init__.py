"""Pictures and pages of runs: matplotlib figures of labelled results, and one HTML file a run."""

from __future__ import annotations

from nsdflow.report.html import write_report

__all__ = ["write_report"]
