"""From a plan to labelled results on Dask: one module for each kind of work, readable top to bottom.

Nothing is imported here, so that a worker that only ingests never loads torch.
"""
