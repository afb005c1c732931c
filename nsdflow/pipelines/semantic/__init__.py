"""Effect of categories of objects on each voxel."""
