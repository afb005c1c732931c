"""Files with one value per voxel or vertex: maps, atlases, masks, and the sets made of them."""
