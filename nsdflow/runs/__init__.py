"""Runs: the folder of one run, its parts and results, provenance, status and export."""

from nsdflow.runs.results import open_run, write_results
from nsdflow.store import NsdAccessor  # results carry the accessor that stores register

__all__ = ["NsdAccessor", "open_run", "write_results"]
