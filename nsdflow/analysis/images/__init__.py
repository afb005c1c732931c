"""What patterns over voxels say about images: dissimilarities and identification."""
