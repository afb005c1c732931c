"""
Average over repetitions
========================

NSD shows most images three times. Averages are less noisy, and images that were shown less often stay marked.
"""

# %%
# ``mean_over_repetitions`` gives one row per image and counts the trials it averaged.

import nsdflow

store = nsdflow.open_store("demo/nsd.zarr")
means = store.responses("subj01", roi="V1").nsd.mean_over_repetitions()
means

# %%
# Coordinates need no ``compute``: masks, ``groupby`` and ``where`` work without computing responses.

good = means[:, means.ncsnr > 0.5]
print(good.sizes, "of", means.sizes)
