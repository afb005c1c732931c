"""Ridge regression from features of images to voxels: exact, in blocks, by layer."""
