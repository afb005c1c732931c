"""Several runs on their common voxels: medians, differences with intervals, and the best run of each voxel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nsdflow.analysis.comparison.bootstrap import difference_interval
from nsdflow.analysis.rois import roi_masks
from nsdflow.analysis.summary import with_accuracy
from nsdflow.errors import SelectionError
from nsdflow.labels import described

__all__ = ["common_voxels", "compare_many"]


def common_voxels(runs: Sequence[xr.DataTree]) -> list[xr.DataTree]:
    """Select the subjects and voxels that all runs have, in the order of the first run.

    A voxel is known by its ``flat_index``, and its hemisphere on surfaces.

    Parameters
    ----------
    runs : sequence of xr.DataTree
        Results with ``accuracy`` (voxel,).

    Raises
    ------
    SelectionError
        The runs share no subject, or no voxel.
    """
    found = [with_accuracy(run) for run in runs]
    names = [name for name in found[0] if all(name in other for other in found[1:])]
    if not names:
        raise SelectionError("the runs have no subject in common; compare runs on the same store")
    trees: list[dict[str, xr.Dataset]] = [{} for _ in runs]
    for name in names:
        keys = [_voxel_keys(subjects[name]) for subjects in found]
        shared = np.array([key for key in keys[0] if all(key in other for other in keys[1:])], dtype=object)
        if not len(shared):
            raise SelectionError(f"the runs have no voxel of {name} in common; compare runs on the same store")
        for tree, subjects, key in zip(trees, found, keys, strict=True):
            tree[name] = subjects[name].isel(voxel=[key[tuple(wanted)] for wanted in shared])
    return [xr.DataTree.from_dict(tree) for tree in trees]


def compare_many(runs: Mapping[str, xr.DataTree], *, resamples: int = 1000, seed: int = 0) -> xr.Dataset:
    """Compare any number of runs on the voxels that all of them have.

    Parameters
    ----------
    runs : mapping of str to xr.DataTree
        Results by name. Differences are to the first.
    resamples, seed : int
        Of the paired bootstrap over voxels.

    Returns
    -------
    xr.Dataset, (subject, roi, run)
        ``median`` accuracy; ``best``, percent of the voxels that this run predicts best (ties are in none);
        ``difference``, mean difference to the first run, with ``low`` and ``high``, its 95 % interval; ``voxels``
        (subject, roi). The subject ``"all"`` joins all voxels, the ROI ``"all"`` all voxels of a subject.

    Raises
    ------
    SelectionError
        The runs share no subject or voxel.
    """
    trees = common_voxels(list(runs.values()))
    names = [*trees[0].children]
    groups = {name: _groups(trees[0][name].to_dataset()) for name in names}
    accuracies = {name: np.stack([np.asarray(tree[name]["accuracy"], float) for tree in trees]) for name in names}
    groups["all"] = _joined_groups(groups)
    accuracies["all"] = np.concatenate(list(accuracies.values()), axis=1)
    rois = list(dict.fromkeys(roi for masks in groups.values() for roi in masks))
    shape = (len(groups), len(rois), len(runs))
    table = {name: np.full(shape, np.nan) for name in ("median", "best", "difference", "low", "high")}
    voxels = np.zeros(shape[:2], int)
    for row, (name, masks) in enumerate(groups.items()):
        for roi, mask in masks.items():
            place = (row, rois.index(roi))
            values = accuracies[name][:, mask]
            voxels[place] = values.shape[1]
            table["median"][place] = np.nanmedian(values, axis=1)
            table["best"][place] = _best(values)
            for number, difference in enumerate(values - values[0]):
                table["difference"][place][number] = np.nanmean(difference)
                if number:
                    interval = difference_interval(difference, resamples=resamples, seed=seed)
                    table["low"][place][number], table["high"][place][number] = interval
    variables = {name: (("subject", "roi", "run"), values) for name, values in table.items()}
    coords = {"subject": list(groups), "roi": rois, "run": list(runs)}
    return described(xr.Dataset(variables, coords).assign(voxels=(("subject", "roi"), voxels)))


def _best(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Percent of the voxels in which each run (run, voxel) is alone the best."""
    top = values == np.nanmax(values, axis=0)
    alone = top & (top.sum(0) == 1)
    share: NDArray[np.float64] = 100 * alone.mean(1)
    return share


def _voxel_keys(subject: xr.Dataset) -> dict[tuple[object, ...], int]:
    """Position of each voxel by its identifying coordinates, or by its place if the results have none."""
    known = [subject[name].values.tolist() for name in ("flat_index", "hemisphere") if name in subject.coords]
    if not known:
        return {(position,): position for position in range(subject.sizes["voxel"])}
    return {key: position for position, key in enumerate(zip(*known, strict=True))}


def _groups(subject: xr.Dataset) -> dict[str, NDArray[np.bool_]]:
    masks = {name: np.asarray(mask) for name, mask in roi_masks(subject["roi"]).items()} if "roi" in subject else {}
    return {**masks, "all": np.ones(subject.sizes["voxel"], bool)}


def _joined_groups(groups: Mapping[str, Mapping[str, NDArray[np.bool_]]]) -> dict[str, NDArray[np.bool_]]:
    """Masks over the voxels of all subjects, one after the other."""
    rois = dict.fromkeys(roi for masks in groups.values() for roi in masks)
    return {
        roi: np.concatenate([masks.get(roi, np.zeros(masks["all"].size, bool)) for masks in groups.values()])
        for roi in rois
    }
