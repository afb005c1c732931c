"""
Two subjects, the same images
=============================

Every subject saw the shared images. xarray aligns two subjects by their ``nsd_id``.
"""

# %%
# The index of ``mean_over_repetitions`` is the image. ``xr.align`` keeps the images that both subjects saw.

import matplotlib.pyplot as plt
import xarray as xr

import nsdflow

store = nsdflow.open_store("demo/nsd.zarr")
first, second = (
    store.responses(subject, roi="V1", shared=True).nsd.mean_over_repetitions().compute() for subject in store.subjects
)
first, second = xr.align(first, second, join="inner")
print(first.sizes["image"], "images in common")

# %%
# The mean responses of V1 in two subjects correlate if both respond to the same features.

one, two = first.mean("voxel"), second.mean("voxel")
fig, ax = plt.subplots(figsize=(4, 4), layout="constrained")
ax.scatter(one, two)
ax.set(xlabel="mean response of V1, subject 1", ylabel="mean response of V1, subject 2")
ax.set_title(f"r = {float(xr.corr(one, two, 'image')):.2f} over {one.sizes['image']} images")
