"""File formats in which NSD publishes: NIfTI and MGH read frame by frame, HDF5, label tables."""
