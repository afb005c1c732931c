"""Meaning of the names of regions.

======================  ============================================================================================
name                    voxels
======================  ============================================================================================
``V1``, ``IPS``, ..     a group: some labels of the joined visual ROI (coordinate ``roi``: prf-visualrois written over
                        Kastner2015)
``V1v``, ``IPS0``       one label of the joined visual ROI
``visual``              any label of the joined visual ROI
``evc``                 a label from 1 to 7 of prf-visualrois (a voxel set)
``nsdgeneral``, ...     an atlas: any label of it (> 0)
``FFA-1``               a label of one atlas
``FFA``                 all labels of one atlas that begin so, followed by a number: FFA-1 and FFA-2
``floc-faces:FFA``      the same in the atlas that is named
``prf-visualrois:V1``   a group in one of the two atlases of which the joined ROI is made: here V1v and V1d of
                        prf-visualrois alone
======================  ============================================================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

import numpy as np

from nsdflow.errors import SelectionError
from nsdflow.names import PRF_VISUALROIS, ROI_GROUPS, ROI_LABELS, atlas_coordinate
from nsdflow.store.voxels import labels_of

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]

__all__ = ["atlases_of", "no_such", "region_mask"]

Labels = Mapping[str, tuple[int, ...]]

#: A message lists all names if there are at most this many, otherwise the nearest three.
LISTED_AREAS: Final = 12


def region_mask(voxels: xr.Dataset, name: str) -> Mask:
    """Mask (voxel,) of a region.

    Raises
    ------
    SelectionError
        No such name; the message names the nearest ones.
    """
    if ":" in name:
        atlas, label = name.split(":", 1)
        return _region_of_atlas(voxels, atlas, label)
    joined = labels_of(voxels["roi"].attrs)
    if name in ROI_GROUPS or name in joined:
        return _has_label(voxels, "roi", ROI_GROUPS.get(name) or joined[name])
    if name == "visual":
        return np.asarray(voxels["roi"].values > 0)
    atlases = atlases_of(voxels)
    if name == "evc" and "prf_visualrois" in atlases:
        return _has_label(voxels, "prf_visualrois", PRF_VISUALROIS)
    atlas = atlas_coordinate(name)
    if atlas in atlases:
        return np.asarray(voxels[atlas].values > 0)
    holders = {atlas: found for atlas, labels in atlases.items() if (found := _labels_called(labels, name))}
    if len(holders) > 1:
        choices = " or ".join(f"{atlas}:{name}" for atlas in holders)
        raise SelectionError(f"ROI {name!r} is in several atlases; write {choices}")
    for atlas, values in holders.items():
        return _has_label(voxels, atlas, values)
    if name == voxels.attrs.get("voxel_set"):  # the store holds only such voxels
        return np.ones(voxels.sizes["voxel"], bool)
    raise no_such("ROI", name, _names(joined, atlases), "store.rois(subject) lists them")


def atlases_of(voxels: xr.Dataset) -> dict[str, Labels]:
    """Values of each label by name, of each atlas by its coordinate; the joined ROI is not among them."""
    found = {str(name): labels_of(variable.attrs) for name, variable in voxels.variables.items()}
    return {name: labels for name, labels in found.items() if labels and name not in ("roi", "hemisphere")}


def no_such(kind: str, asked: object, names: Iterable[object], where: str) -> SelectionError:
    """Error for an unknown name: all names if they are few, otherwise the nearest three and where to find all."""
    known = list(dict.fromkeys(str(name) for name in names))
    if len(known) <= LISTED_AREAS:
        return SelectionError(f"unknown {kind} {str(asked)!r}; available: {', '.join(known) or 'none'}")
    folded = {name.casefold(): name for name in reversed(known)}
    near = [folded[name] for name in get_close_matches(str(asked).casefold(), folded, n=3, cutoff=0.4)]
    nearest = f"nearest: {', '.join(near)} (of {len(known)}; {where})" if near else f"{where} ({len(known)})"
    return SelectionError(f"unknown {kind} {str(asked)!r}; {nearest}")


def _region_of_atlas(voxels: xr.Dataset, atlas: str, label: str) -> Mask:
    atlases = {**atlases_of(voxels), "roi": labels_of(voxels["roi"].attrs)}
    coordinate = atlas_coordinate(atlas)
    if f"atlas_{coordinate}" in atlases and coordinate != "roi":  # the name of the atlas was taken
        coordinate = f"atlas_{coordinate}"
    if coordinate not in atlases:
        raise no_such("atlas", atlas, atlases, "store.rois(subject) lists them")
    labels = atlases[coordinate]
    values = _labels_called(labels, label) or tuple(v for known in labels.values() for v in known if str(v) == label)
    if not values and label in ROI_GROUPS:
        names = (ROI_LABELS.get(number, "") for number in ROI_GROUPS[label])
        values = tuple(value for name in names for value in labels.get(name, ()))
    if not values:
        raise no_such(f"label of {coordinate}", label, labels, "store.rois(subject) lists them")
    return _has_label(voxels, coordinate, values)


def _labels_called(labels: Labels, name: str) -> tuple[int, ...]:
    """Values of the label with this name, or of all that add a number to it: FFA-1 and FFA-2 for FFA."""
    if name in labels:
        return labels[name]
    numbered = re.compile(re.escape(name) + r"-\d+")
    return tuple(value for label, values in labels.items() if numbered.fullmatch(label) for value in values)


def _has_label(voxels: xr.Dataset, coordinate: str, values: Iterable[int]) -> Mask:
    return np.isin(voxels[coordinate].values, tuple(values))


def _names(joined: Labels, atlases: Mapping[str, Labels]) -> list[str]:
    inside = [label for labels in atlases.values() for label in labels if label != "Unknown"]
    sets = ["visual", *(["evc"] if "prf_visualrois" in atlases else [])]
    return [*ROI_GROUPS, *joined, *sets, *atlases, *inside]
