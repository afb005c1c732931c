"""
Two subjects, the same images
=============================

Shared images were seen by every subject. ``nsd_id`` names them, so that xarray aligns two subjects by image.
"""

# %%
# The index of ``mean_over_repetitions`` is the image. ``xr.align`` keeps the images that both subjects saw.

import xarray as xr

import nsdflow

store = nsdflow.open_store("demo/nsd.zarr")
first, second = (
    store.responses(subject, roi="V1", shared=True).nsd.mean_over_repetitions().compute() for subject in store.subjects
)
first, second = xr.align(first, second, join="inner")
print(first.sizes["image"], "images in common")

# %%
# The mean response of V1 of one subject follows that of the other where both respond to the same features.

print(float(xr.corr(first.mean("voxel"), second.mean("voxel"), "image").round(2)))
