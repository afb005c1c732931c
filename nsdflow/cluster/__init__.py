"""Dask clients and pools, what tasks report, and when they should stop."""
