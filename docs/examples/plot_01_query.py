"""
Query responses
===============

Open a store, select voxels and trials by name, and read only what the selection needs.
"""

# %%
# A store lists its subjects. Nothing is read when it is opened.

import nsdflow

store = nsdflow.open_store("demo/nsd.zarr")
store

# %%
# A query is lazy. :meth:`~nsdflow.store.Store.explain` counts what a computation would read.

print(store.explain("subj01", roi="V1", shared=False))

# %%
# The result is an xarray object with the coordinates of trials and voxels.

responses = store.responses("subj01", roi="V1", shared=False)
responses

# %%
# Conditions combine with "and". ``where`` compares any coordinate of voxels or trials. It is parsed, not evaluated as
# code.

fast = store.responses("subj01", roi=["V1", "V2"], where="ncsnr > 0.5 and rt < 900", sessions=[1, 2])
print(fast.sizes)

# %%
# Coordinates need no ``compute``, so xarray's selections and plots work. These are the trials of session 2.

second = responses.sel(session=2).compute()
second.isel(trial=slice(60)).plot.imshow(x="trial", y="voxel", robust=True, figsize=(8, 3))
