"""The synthetic subjects: anatomy, tuning of the voxels, and recording."""
