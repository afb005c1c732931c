"""The invented subjects: anatomy, what each voxel responds to, and what a scanner records of it."""
