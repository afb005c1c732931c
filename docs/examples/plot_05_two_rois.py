"""
Compare two areas
=================

How alike are the representations of V1 and hV4? A small representational analysis in plain xarray and numpy.
"""

# %%
# Both areas see the same images in the same order, so their dissimilarities can be compared directly.

import matplotlib.pyplot as plt
import numpy as np

import nsdflow

store = nsdflow.open_store("demo/nsd.zarr")
dissimilarity = {}
for roi in ("V1", "hV4"):
    means = store.responses("subj01", roi=roi, shared=True).nsd.mean_over_repetitions().compute()
    dissimilarity[roi] = 1 - np.corrcoef(means)

fig, axes = plt.subplots(1, 2, figsize=(8, 3.8), layout="constrained")
for ax, (roi, matrix) in zip(axes, dissimilarity.items(), strict=True):
    drawn = ax.imshow(matrix, vmin=0, vmax=2)
    ax.set(title=roi, xlabel="shared image", ylabel="shared image")
fig.colorbar(drawn, ax=axes, label="1 - correlation")

upper = np.triu_indices(len(matrix), 1)
print("correlation of the two:", np.corrcoef(*(matrix[upper] for matrix in dissimilarity.values()))[0, 1].round(2))
