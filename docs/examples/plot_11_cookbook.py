"""
Cookbook
========

Answers to fifteen common questions about NSD, each with a few lines of code and their output.
"""

# %%
# All of them use one store and one run.

import matplotlib.pyplot as plt
import xarray as xr
from scipy.io import savemat

import nsdflow

store = nsdflow.open_store("demo/nsd.zarr")
run = nsdflow.open_run("demo/runs/gnet8j")

# %%
# 1. Which images did subject 2 see in session 2?
# ------------------------------------------------
# Each trial has the ``nsd_id`` of its image, counted from 0.

seen = store.trials("subj02").sel(session=2)["nsd_id"]
print(seen.values[:10])

images = store.images(seen.values[:6]).transpose("image", "y", "x", "channel")
fig, axes = plt.subplots(1, 6, figsize=(9, 1.8), layout="constrained")
for ax, image in zip(axes, images.values, strict=True):
    ax.imshow(image)
    ax.axis("off")

# %%
# 2. What is the split-half reliability of each voxel?
# -----------------------------------------------------
# Correlate the first with the second presentation of the same images.

first, second = (
    store.responses("subj01", roi="V1", repetition=number).compute().set_xindex("nsd_id").groupby("nsd_id").mean()
    for number in (0, 1)
)
first, second = xr.align(first, second, join="inner")
print(f"median {float(xr.corr(first, second, 'nsd_id').median()):.2f}")

# %%
# 3. Which areas does a subject have, and how large are they?
# ------------------------------------------------------------

print(store.rois("subj01").head(7))

# %%
# 4. Only voxels with a good signal?
# -----------------------------------

print(store.responses("subj01", roi="V1", ncsnr_min=0.6).sizes)

# %%
# 5. Averaged responses to shared images, for all subjects?
# ---------------------------------------------------------
# ``join="inner"`` keeps the images that all subjects saw.

averages = [store.responses(s, roi="V1", shared=True).nsd.mean_over_repetitions().mean("voxel") for s in store.subjects]
subjects = xr.Variable("subject", list(store.subjects))
together = xr.concat(averages, dim=subjects, join="inner", coords="minimal", compat="override")
print(together.sizes)

# %%
# 6. How much would a query read?
# --------------------------------

print(store.explain("subj01", roi=["V1", "V2", "V3", "hV4"]))

# %%
# 7. Percent signal change instead of z-scores?
# ----------------------------------------------

raw = store.responses("subj01", roi="V1", zscore=False)
print(f"{raw.attrs['units']}, deviation {float(raw.std()):.2f}")

# %%
# 8. z-scores that do not use the test images?
# ---------------------------------------------
# ``zscore="training"`` takes the mean and deviation of each session from trials of images that are not shared.

print(store.responses("subj01", roi="V1", zscore="training").sizes)

# %%
# 9. Trials with fast responses only?
# ------------------------------------

print(store.responses("subj01", roi="V1", where="rt < 800").sizes)

# %%
# 10. The responses to one image?
# --------------------------------

some = int(store.trials("subj01")["nsd_id"][0])
print(store.responses("subj01", roi="V1", nsd_id=some)["session"].values)

# %%
# 11. Export responses for Matlab?
# ---------------------------------
v1 = store.responses("subj01", roi="V1", sessions=1).compute()
savemat("demo/v1.mat", {"responses": v1.values, "nsd_id": v1["nsd_id"].values, "flat_index": v1["flat_index"].values})

# %%
# 12. A table of voxels for pandas or R?
# ---------------------------------------

table = run["subj01"].to_dataset()[["accuracy", "noise_ceiling"]].to_dataframe()
print(table[["flat_index", "roi", "accuracy", "noise_ceiling"]].head(3))

# %%
# 13. Accuracy relative to the noise ceiling?
# --------------------------------------------
# Keep only voxels whose ceiling is high enough to divide by.

subject = run["subj01"].to_dataset()
relative = (subject["accuracy"] / subject["noise_ceiling"]).where(subject["noise_ceiling"] > 0.3)
print(f"median {float(relative.median()):.2f}")

# %%
# 14. A result as a NIfTI file?
# ------------------------------

print(subject["accuracy"].nsd.to_nifti("demo/accuracy.nii.gz").name)

# %%
# 15. Save a query with its labels?
# ----------------------------------
# Any query can be written as Zarr or netCDF, and opened again by xarray alone.

v1.to_dataset(name="responses").to_zarr("demo/v1.zarr", mode="w", consolidated=False)
print(xr.open_zarr("demo/v1.zarr", consolidated=False)["responses"].sizes)
