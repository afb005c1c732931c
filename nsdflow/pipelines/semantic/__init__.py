"""Which categories of objects drive each voxel."""
