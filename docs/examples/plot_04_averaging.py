"""
Average over repetitions
========================

NSD shows most images three times. Averages are less noisy, and each image keeps the number of trials that were
averaged.
"""

# %%
# ``mean_over_repetitions`` returns one row per image, with the number of averaged trials.

import matplotlib.pyplot as plt
import numpy as np

import nsdflow

store = nsdflow.open_store("demo/nsd.zarr")
means = store.responses("subj01", roi="V1").nsd.mean_over_repetitions()
means

# %%
# Coordinates need no ``compute``: masks, ``groupby`` and ``where`` work without computing responses.

good = means[:, means.ncsnr > 0.5]
print(good.sizes, "of", means.sizes)

# %%
# Subject 2 has fewer sessions, so images were shown once, twice or three times. Averages of more trials have less
# noise, and vary less over images.

means = store.responses("subj02", roi="V1").nsd.mean_over_repetitions().compute()
counts = means.repetitions.values
shown = np.unique(counts)
fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
left.bar(*np.unique(counts, return_counts=True))
left.set(xlabel="trials averaged", ylabel="images", xticks=shown)
right.boxplot([means[counts == n].std("image").values for n in shown], tick_labels=shown)
right.set(xlabel="trials averaged", ylabel="deviation over images, by voxel")
