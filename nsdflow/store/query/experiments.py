"""Sister experiments of a store: their coordinates, and the conditions that a query on them accepts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from nsdflow.errors import SelectionError, StoreError
from nsdflow.store.chunks import read_region
from nsdflow.store.coordinates import read_coordinates
from nsdflow.store.query.zscoring import ZSCORINGS
from nsdflow.store.schema import COORDINATES
from nsdflow.store.shard_format import open_sharded

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray as xr

    from nsdflow.store.query.selection import Selection

__all__ = ["check_known", "check_selection", "read_experiment"]

#: Conditions about the main experiment's images.
OF_THE_MAIN_EXPERIMENT: Final = ("shared", "nsd_id", "category", "sessions")


def read_experiment(url: str, subject: str, experiment: str, main: xr.Dataset) -> xr.Dataset:
    """Coordinates of a sister experiment: its trials, and the subject's voxels with the ncsnr measured in it.

    Parameters
    ----------
    main : Dataset
        Coordinates of the subject's main experiment.

    Raises
    ------
    StoreError
        Its voxels are not those of the subject, or a file is missing or damaged.
    """
    group = f"{subject}/{experiment}"
    table = read_coordinates(url, group).rename({f"{experiment}_trial": "trial"})
    voxels = main[[name for name, variable in main.variables.items() if variable.dims == ("voxel",)]]
    if not np.array_equal(table["flat_index"].values, voxels["flat_index"].values):
        raise StoreError(f"{url}/{group}: other voxels than those of {subject}; ingest again")
    ncsnr = read_region(open_sharded(f"{url}/{group}/ncsnr"), (None,))
    attributes = COORDINATES["ncsnr"].attributes()
    attributes["long_name"] += f" in {table.attrs.get('experiment', experiment)}"
    joined = (
        table.drop_vars("flat_index").assign_coords(voxels.coords).assign_coords(ncsnr=("voxel", ncsnr, attributes))
    )
    return joined.assign_attrs({**main.attrs, **table.attrs})


def check_known(subject: str, experiment: str, there: Sequence[str]) -> None:
    """Refuse an experiment that the store lacks for a subject.

    Raises
    ------
    SelectionError
        Lists the existing experiments, and how to add others.
    """
    if experiment not in there:
        raise SelectionError(
            f"{subject} has no experiment {experiment!r} in this store, which has: {', '.join(there) or 'none'}; "
            "ingest with --experiments synthetic,imagery"
        )


def check_selection(selection: Selection, experiment: str) -> None:
    """Refuse conditions on the main experiment's images and sessions.

    Raises
    ------
    SelectionError
        Names the condition, and what to write instead.
    """
    for name in OF_THE_MAIN_EXPERIMENT:
        if (value := getattr(selection, name)) is not None:
            raise SelectionError(
                f"{name}={value!r}: the experiment {experiment} has one session and separate images; write for "
                "example where=\"image_class == 'noise'\""
            )
    if ZSCORINGS[selection.zscore].training_trials:
        raise SelectionError(
            f'zscore="{selection.zscore}": the experiment {experiment} has no training trials; write "session" or False'
        )
