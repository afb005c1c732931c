"""
Ridge regression on your own features
=====================================

Any array with one row per image can predict responses. Here the features are the colours of a coarse grid.
"""

# %%
# Features are in the order of the responses: :meth:`~nsdflow.store.Store.images` keeps the order of ``nsd_id``.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import RidgeCV

import nsdflow
from nsdflow.analysis import accuracy


def features(images):
    """Mean colour of the cells of a 6 x 6 grid: (image, 108)."""
    values = images.values.astype(float)
    count, channels, size, _ = values.shape
    cell = size // 6
    grid = values[:, :, : 6 * cell, : 6 * cell].reshape(count, channels, 6, cell, 6, cell).mean((3, 5))
    return grid.reshape(count, -1) / 255


store = nsdflow.open_store("demo/nsd.zarr")
training, test = (
    store.responses("subj01", roi="V1", shared=shared).nsd.mean_over_repetitions().compute() for shared in (False, True)
)
model = RidgeCV(alphas=np.logspace(-1, 4, 11)).fit(features(store.images(training.nsd_id)), training.values)

# %%
# Copy the coordinates of the responses to label the predictions.

predictions = test.copy(data=model.predict(features(store.images(test.nsd_id))))
r = accuracy(predictions, test)
print(f"median accuracy {float(r.median()):.2f}, best voxel {float(r.max()):.2f}")

# %%
# Areas of this synthetic brain respond to orientation and not to colour, so accuracies scatter around zero. With so few
# test images, single voxels reach high values by chance.

fig, ax = plt.subplots(figsize=(5, 3), layout="constrained")
ax.hist(r, bins=15)
ax.axvline(0, color="black", linestyle="--")
ax.set(xlabel="accuracy (correlation)", ylabel="voxels")
