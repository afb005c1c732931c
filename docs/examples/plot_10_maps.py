"""
Maps in the brain
=================

Turn any result per voxel into a volume, a NIfTI file, or a picture.
"""

# %%
# ``to_volume`` places the voxels of a result in the volume of the subject, with NaN elsewhere.

import matplotlib.pyplot as plt

import nsdflow

accuracy = nsdflow.open_run("demo/runs/gnet8j")["subj01"]["accuracy"]
volume = accuracy.nsd.to_volume()
print(volume.dims, volume.shape)

middle = int(accuracy.k.median())
fig, ax = plt.subplots(layout="constrained")
drawn = ax.imshow(volume[:, :, middle].T, origin="lower", vmin=0, vmax=0.6)
around = {
    f"{axis}lim": (accuracy[name].min() - 2, accuracy[name].max() + 2) for axis, name in zip("xy", "ij", strict=True)
}
ax.set(title=f"slice k = {middle}", xlabel="i", ylabel="j", **around)
fig.colorbar(drawn, label="accuracy (correlation)")

# %%
# ``to_nifti`` writes a file for other programs, with the affine of NSD's own volumes.

path = accuracy.nsd.to_nifti("demo/accuracy.nii.gz")
print(path.name)
