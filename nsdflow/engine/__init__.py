"""Plans and their execution on Dask: tasks, done-markers, the lock of a driver and the lease of a training."""
