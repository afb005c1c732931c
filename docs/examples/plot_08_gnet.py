"""
Results of GNet
===============

A run opens as one labelled tree with accuracy per voxel, pooling fields, and the history of the training.
"""

# %%
# Results have the coordinates of the voxels, so they can be grouped by area.

import matplotlib.pyplot as plt

import nsdflow
from nsdflow.analysis import roi_summary

run = nsdflow.open_run("demo/runs/gnet8j")
subject = run["subj01"].to_dataset()
print(roi_summary(subject["accuracy"]))

# %%
# Accuracy and ceiling of each voxel. A perfect model lies on the diagonal; this one had three epochs.

fig, ax = plt.subplots(layout="constrained")
ax.scatter(subject["noise_ceiling"], subject["accuracy"], s=8)
ax.plot([0, 1], [0, 1], color="grey", linewidth=1)
ax.set(xlabel="noise ceiling (correlation)", ylabel="accuracy (correlation)", xlim=(0, 1), ylim=(-0.2, 1))

# %%
# The history has one row per epoch.

print(run["history"].to_dataset()[["train_loss"]].to_dataframe())
