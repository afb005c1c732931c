"""
Noise ceilings
==============

How well could a perfect model of the images predict single trials, and averages of three trials?
"""

# %%
# The noise ceiling is a correlation, computed from the published ``ncsnr`` of each voxel. One repetition is a single
# trial.

import matplotlib.pyplot as plt

import nsdflow

store = nsdflow.open_store("demo/nsd.zarr")
responses = store.responses("subj01", roi=["V1", "V2", "V3", "hV4"])
single = responses.nsd.noise_ceiling(1)
average = responses.nsd.noise_ceiling(3)

fig, ax = plt.subplots(layout="constrained")
ax.hist(single, bins=30, range=(0, 1), alpha=0.7, label="single trials")
ax.hist(average, bins=30, range=(0, 1), alpha=0.7, label="averages of three")
ax.set(xlabel="noise ceiling (correlation)", ylabel="voxels")
ax.legend()

# %%
# The share of explainable variance is the square of the ceiling.

share = responses.nsd.explainable_variance(3)
print(f"{float(share.median()):.3f}, the square of the ceiling: {float((average**2).median()):.3f}")
