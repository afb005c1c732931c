"""From the store to the arrays a fit takes: one subject's trials, responses and images, aligned by image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nsdflow.analysis.rois import roi_masks
from nsdflow.engine.compute import read_here
from nsdflow.errors import SelectionError

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from nsdflow.store import Store

__all__ = ["SubjectTrials", "load_images", "load_trials", "shuffled_images", "zscore_on"]


@dataclass(frozen=True)
class SubjectTrials:
    """All trials of a subject in trial order."""

    subject: str
    responses: NDArray[np.float32]
    """(trial, voxel)"""
    nsd_id: NDArray[np.int64]
    """(trial,)"""
    session: NDArray[np.int64]
    """(trial,)"""
    shared: NDArray[np.bool_]
    """(trial,) whether the trial shows a shared image: these validate"""
    voxels: xr.Dataset
    """Voxel coordinates (flat_index, roi, ncsnr, ...) without data, in the order of the responses."""
    attrs: dict[str, Any]
    """Volume shape, affine and the like, without what is said of the responses alone."""


def load_trials(
    store: Store, subject: str, rois: Sequence[str] | None, *, zscore: bool = True, shuffle: int | None = None
) -> SubjectTrials:
    """Read one subject's responses into memory.

    Parameters
    ----------
    rois
        ROI names or groups; all voxels if None.
    zscore
        Per session and voxel over all trials, as published; else percent signal change.
    shuffle
        Seed of the control in which images are dealt out to other trials; none if None.

    Raises
    ------
    SelectionError
        If the subject has no voxel in these ROIs.
    """
    lazy = store.responses(subject, roi=list(rois) if rois else None, zscore=zscore)
    check_voxels(store, subject, lazy.sizes["voxel"], rois)
    values = read_here(lazy)
    shared = values["shared"].values.astype(bool)
    nsd_id = values["nsd_id"].values.astype(np.int64)
    if shuffle is not None:
        nsd_id = shuffled_images(nsd_id, shared, shuffle)
    return SubjectTrials(
        subject=subject,
        responses=np.ascontiguousarray(values.values),
        nsd_id=nsd_id,
        session=values["session"].values.astype(np.int64),
        shared=shared,
        voxels=values.isel(trial=0, drop=True).coords.to_dataset(),
        attrs={name: value for name, value in values.attrs.items() if name not in ("long_name", "units")},
    )


def check_voxels(store: Store, subject: str, voxels: int, rois: Sequence[str] | None) -> None:
    """Refuse a subject of which nothing was selected.

    Raises
    ------
    SelectionError
        Says which ROIs have voxels.
    """
    if not voxels:
        there = ", ".join(roi_masks(store.voxels(subject)["roi"]))
        raise SelectionError(f"{subject} has no voxel in {', '.join(rois or ('the store',))}; it has some in: {there}")


def load_images(store: Store, nsd_ids: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Images (image, channel, y, x) of the given ids, in their order.

    Raises
    ------
    SelectionError
        If the store lacks one of them.
    """
    images = store.images()
    there = images["nsd_id"].values
    order = np.argsort(there)
    position = np.searchsorted(there, nsd_ids, sorter=order)
    rows = order[np.minimum(position, len(there) - 1)]
    absent = np.flatnonzero(there[rows] != nsd_ids)
    if len(absent):
        raise SelectionError(
            f"the store has no image {nsd_ids[absent[0]]} (and {len(absent) - 1} more); ingest with --images all"
        )
    # read in the store's order, once, then put into the order asked for
    ascending = np.unique(rows)
    values = read_here(images.isel(image=ascending)).values
    return np.ascontiguousarray(values[np.searchsorted(ascending, rows)])


def zscore_on(
    responses: NDArray[np.float32], session: NDArray[np.int64], fitted_on: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Z-score each session with mean and std (ddof 0, + 1e-6) of some of its trials; NaN becomes 0.

    ``fitted_on`` (trial,) marks the trials that statistics may see: the training trials of the strict protocol.
    """
    scored = np.zeros_like(responses)
    for number in np.unique(session):
        here = session == number
        seen = responses[here & fitted_on].astype(np.float64)
        if len(seen) == 0:
            continue
        values = (responses[here] - seen.mean(axis=0)) / (seen.std(axis=0) + 1e-6)
        scored[here] = np.nan_to_num(values, nan=0.0)
    return scored


def shuffled_images(nsd_id: NDArray[np.int64], shared: NDArray[np.bool_], seed: int) -> NDArray[np.int64]:
    """Deal the images of all trials out to other trials at random, shared ones among themselves.

    Trials of one image get different images, so that not even what is remembered of an image helps with another trial.
    """
    rng = np.random.default_rng(seed)
    dealt = nsd_id.copy()
    for part in (shared, ~shared):
        dealt[part] = rng.permutation(nsd_id[part])
    return dealt
