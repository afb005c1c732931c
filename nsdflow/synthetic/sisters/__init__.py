"""The sister experiments of a synthetic NSD: other images shown to the same voxels."""
