"""Runs: the folder of one run, its parts and results, provenance, status and export."""

from nsdflow.runs.results import open_run, write_results

__all__ = ["open_run", "write_results"]
