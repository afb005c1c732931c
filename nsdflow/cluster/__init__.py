"""Dask clients, from threads to pools of batch jobs, and their settings for long tasks."""
