"""
Images and responses
====================

Find the images to which a voxel responds most and least.
"""

# %%
# Average over repetitions, order the images by the response of one voxel, and read exactly these images in this order.

import matplotlib.pyplot as plt
import numpy as np

import nsdflow

store = nsdflow.open_store("demo/nsd.zarr")
means = store.responses("subj01", roi="V1", ncsnr_min=0.8).nsd.mean_over_repetitions().compute()
voxel = int(means.ncsnr.argmax())
order = np.argsort(means[:, voxel].values)
chosen = np.concatenate([order[-4:][::-1], order[:4]])
images = store.images(means.nsd_id[chosen])

fig, axes = plt.subplots(2, 4, figsize=(8, 4.4), layout="constrained")
for ax, image, row in zip(axes.flat, images.transpose("image", "y", "x", "channel").values, chosen, strict=True):
    ax.imshow(image)
    ax.set_title(f"{float(means[row, voxel]):.2f}", fontsize=9)
    ax.axis("off")
fig.suptitle(f"highest (top) and lowest responses of voxel {int(means.flat_index[voxel])}")
