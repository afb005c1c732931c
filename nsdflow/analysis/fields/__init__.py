"""Pooling fields of voxels, and Gaussians fitted to them."""
