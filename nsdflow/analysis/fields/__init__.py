"""Where a voxel looks: pooling fields and the Gaussians fitted to them."""
