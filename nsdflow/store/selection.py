"""Which voxels and which trials a query means: names and conditions become ascending positions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nsdflow.errors import SelectionError, one_of
from nsdflow.names import ROI_GROUPS, atlas_coordinate
from nsdflow.store.voxels import flags_of

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["roi_mask", "select_images", "select_trials", "select_voxels"]

Index = NDArray[np.intp]
Mask = NDArray[np.bool_]


def select_voxels(
    voxels: xr.Dataset,
    *,
    roi: str | Iterable[str] | None = None,
    positions: str | slice | ArrayLike | None = None,
    ncsnr_min: float | None = None,
) -> Index:
    """Positions of the voxels that meet every condition; see :meth:`nsdflow.store.Store.responses`."""
    size = voxels.sizes["voxel"]
    chosen = np.ones(size, bool)
    if roi is not None:
        names = [roi] if isinstance(roi, str) or not isinstance(roi, Iterable) else list(roi)
        chosen &= np.any([roi_mask(voxels, str(name)) for name in names], axis=0) if names else False
    if isinstance(positions, str):
        chosen &= roi_mask(voxels, positions)
    elif positions is not None:
        chosen &= _position_mask(positions, size)
    if ncsnr_min is not None:
        if "ncsnr" not in voxels:
            raise SelectionError(f"this store has no ncsnr, so ncsnr_min={ncsnr_min} selects nothing; leave it out")
        chosen &= voxels["ncsnr"].values >= ncsnr_min
    return np.flatnonzero(chosen)


def _position_mask(positions: slice | ArrayLike, size: int) -> Mask:
    mask = np.zeros(size, bool)
    where = positions if isinstance(positions, slice) else np.asarray(_listed(positions))
    if not isinstance(where, slice) and not where.size:
        return mask
    try:
        mask[where] = True
    except IndexError as error:
        raise SelectionError(f"voxels: {error}; there are {size} voxels, positions 0 to {size - 1}") from error
    return mask


def roi_mask(voxels: xr.Dataset, name: str) -> Mask:
    """Voxels of a group (``V1``), a label (``V1v``, ``FFA-1``), an atlas' label (``floc_faces:FFA-1``) or an atlas.

    Raises
    ------
    SelectionError
        No such name; the message lists what there is.
    """
    if ":" in name:
        return _atlas_label(voxels, *name.split(":", 1))
    if name in ROI_GROUPS:
        return np.isin(voxels["roi"].values, ROI_GROUPS[name])
    if name in (labels := flags_of(voxels["roi"].attrs)):
        return np.asarray(voxels["roi"].values == labels[name])
    if name == "visual":
        return np.asarray(voxels["roi"].values > 0)
    atlases = _atlases(voxels)
    atlas = "prf_visualrois" if name == "evc" else atlas_coordinate(name)
    if atlas in atlases:
        return np.asarray(voxels[atlas].values > 0)
    holders = [atlas for atlas, labels in atlases.items() if name in labels]
    if len(holders) > 1:
        raise SelectionError(
            f"ROI {name!r} is in several atlases; write one of {', '.join(f'{atlas}:{name}' for atlas in holders)}"
        )
    if not holders:
        if name == voxels.attrs.get("voxel_set"):  # the store holds nothing else
            return np.ones(voxels.sizes["voxel"], bool)
        known = [
            *ROI_GROUPS,
            *labels,
            *atlases,
            *(label for names in atlases.values() for label in names if label != "Unknown"),
        ]
        raise one_of("ROI", name, dict.fromkeys(known))
    return _atlas_label(voxels, holders[0], name)


def _atlases(voxels: xr.Dataset) -> dict[str, dict[str, int]]:
    """Labels of each atlas of a store."""
    flags = {str(name): flags_of(variable.attrs) for name, variable in voxels.variables.items()}
    return {name: labels for name, labels in flags.items() if labels and name not in ("roi", "hemisphere")}


def _atlas_label(voxels: xr.Dataset, atlas: str, label: str) -> Mask:
    atlases = _atlases(voxels) | {"roi": flags_of(voxels["roi"].attrs)}
    coordinate = atlas_coordinate(atlas)
    if coordinate not in atlases:
        raise one_of("atlas", atlas, atlases)
    labels = atlases[coordinate] | {str(value): value for value in atlases[coordinate].values()}
    if label not in labels:
        raise one_of(f"label of {coordinate}", label, atlases[coordinate])
    return np.asarray(voxels[coordinate].values == labels[label])


def select_trials(
    trials: xr.Dataset,
    *,
    sessions: int | Iterable[int] | None = None,
    shared: bool | None = None,
    nsd_id: ArrayLike | None = None,
) -> Index:
    """Positions of the trials that meet every condition, in the order in which they were presented."""
    chosen = np.ones(trials.sizes["trial"], bool)
    if sessions is not None:
        chosen &= _is_one_of("session", trials["session"].values, np.atleast_1d(_listed(sessions)))
    if shared is not None:
        chosen &= trials["shared"].values == shared
    if nsd_id is not None:
        chosen &= _is_one_of("nsd_id", trials["nsd_id"].values, np.atleast_1d(_listed(nsd_id)))
    return np.flatnonzero(chosen)


def select_images(images: xr.Dataset, nsd_id: ArrayLike | None = None) -> Index:
    """Positions of images, ascending."""
    if nsd_id is None:
        return np.arange(images.sizes["image"])
    return np.flatnonzero(_is_one_of("nsd_id", images["nsd_id"].values, np.atleast_1d(_listed(nsd_id))))


def _listed(values: Any) -> ArrayLike:
    """Ranges, sets and other iterables as something numpy takes."""
    return list(values) if isinstance(values, Iterable) and not isinstance(values, np.ndarray | Sequence) else values


def _is_one_of(kind: str, values: NDArray[Any], asked: NDArray[Any]) -> Mask:
    """Where ``values`` are among those asked for, all of which must occur."""
    if asked.dtype.kind not in "iub" and asked.size:
        raise SelectionError(f"{kind}: {asked.tolist()[0]!r} is not a whole number; write numbers")
    unknown = np.setdiff1d(asked, values)
    if unknown.size:
        there_are = np.unique(values)
        if there_are.size > 50:
            raise SelectionError(
                f"{unknown.size} of the {kind} asked for do not occur here, the first is {unknown[0]}; "
                f"there are {there_are.size}, from {there_are[0]} to {there_are[-1]}"
            )
        raise one_of(kind, unknown[0], there_are)
    return np.isin(values, asked)
