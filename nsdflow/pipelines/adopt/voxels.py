"""Voxels of a published file among those of a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from nsdflow.errors import SelectionError

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from nsdflow.store import Store

__all__ = ["match_voxels", "subject_table"]

#: Largest number of voxels per subject in a message.
LISTED_VOXELS = 5


def match_voxels(
    store: Store, flat_index: Mapping[str, NDArray[np.int64]], shapes: Mapping[str, Sequence[int]], file: str
) -> dict[str, NDArray[np.intp]]:
    """Positions (voxel,) in the store of the voxels that file and store share, by subject.

    Parameters
    ----------
    flat_index : mapping of str to array of int
        (voxel,) index in the volume, by subject.
    shapes : mapping of str to sequence of int
        Shape of the volume by subject, if the file has it.
    file : str
        Name of the file, for messages.

    Raises
    ------
    SelectionError
        Volumes differ, the store lacks voxels, or there is no subject in common. The message lists all mismatches.
    """
    subjects = [subject for subject in store.subjects if subject in flat_index]
    if not subjects:
        raise SelectionError(f"{file} has {', '.join(flat_index)}; the store has only {', '.join(store.subjects)}")
    problems, positions = [], {}
    for subject in subjects:
        table = store.voxels(subject)
        shape = table.attrs.get("shape")
        if subject in shapes and shape is not None and tuple(shapes[subject]) != tuple(shape):
            problems.append(f"{subject}: the volume is {tuple(shapes[subject])} there and {tuple(shape)} in the store")
            continue
        found = np.asarray(pd.Index(table["flat_index"].values).get_indexer(flat_index[subject]), np.intp)
        missing = flat_index[subject][found < 0]
        if len(missing):
            first = ", ".join(map(str, missing[:LISTED_VOXELS]))
            more = f" and {len(missing) - LISTED_VOXELS} more" if len(missing) > LISTED_VOXELS else ""
            problems.append(
                f"{subject}: {len(missing)} of {len(found)} voxels are not in the store: flat_index {first}{more}"
            )
        positions[subject] = found
    if problems:
        lines = "".join(f"\n  - {problem}" for problem in problems)
        raise SelectionError(
            f"{file} does not match {store.url} (ingest with --voxels visual or brain, of the release of NSD that the "
            f"file was made from):{lines}"
        )
    return positions


def subject_table(store: Store, subject: str, positions: NDArray[np.intp]) -> tuple[xr.Dataset, dict[str, Any]]:
    """Coordinates of some voxels of a subject, and the attributes of its results."""
    table = store.voxels(subject)
    chosen = table.isel(voxel=positions)
    names = [name for name in chosen.variables if chosen[name].dims == ("voxel",)]
    return chosen.set_coords(names)[names], dict(table.attrs)
