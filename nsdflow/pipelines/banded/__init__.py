"""Banded ridge: one regularisation per feature space, by himalaya's solvers, in blocks of voxels."""
