"""
What each layer adds
====================

The pipeline ``tuning`` measures which layers of a trained GNet matter for a voxel: what each predicts alone, and what
is lost without it.
"""

# %%
# ``unique`` is the share of explained variance that is lost without a layer.

import matplotlib.pyplot as plt

import nsdflow

tuning = nsdflow.open_run("demo/runs/tuning")["subj01"].to_dataset()
well = tuning["accuracy"] > 0.2
fig, ax = plt.subplots(layout="constrained")
ax.boxplot(tuning["unique"][:, well.values].T, tick_labels=tuning["partition"].values)
ax.set(
    xlabel="layer",
    ylabel="unique share of explained variance (%)",
    ylim=(-20, 100),
    title=f"{int(well.sum())} voxels of subject 1",
)
