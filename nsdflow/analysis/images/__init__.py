"""Analyses of patterns over voxels: dissimilarities and identification of images."""
