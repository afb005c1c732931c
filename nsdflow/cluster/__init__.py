"""Dask clients, from threads to pools of batch jobs, and what keeps long tasks alive on them."""
