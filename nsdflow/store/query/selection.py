"""Selection of voxels, trials and images: conditions become positions, in the requested order."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nsdflow.errors import SelectionError
from nsdflow.names import ROI_GROUPS
from nsdflow.store.query.regions import region_mask
from nsdflow.store.query.where import select_where
from nsdflow.store.query.zscoring import ZSCORINGS
from nsdflow.store.schema import HEMISPHERE_CODES

if TYPE_CHECKING:
    import xarray as xr

    from nsdflow.store.shard_format import Index

__all__ = ["Selection", "select_images", "select_trials", "select_voxels"]

Mask = NDArray[np.bool_]

#: A message lists at most this many numbers.
LISTED_VALUES: Final = 50


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Checked conditions of a query; :meth:`nsdflow.store.Store.responses` explains them.

    Raises
    ------
    SelectionError
        A value has a type that its argument does not take; the message says what to write.
    """

    roi: str | Iterable[str] | None = None
    voxels: str | slice | ArrayLike | None = None
    ncsnr_min: float | None = None
    sessions: int | Iterable[int] | None = None
    shared: bool | None = None
    zscore: str | bool = "session"
    nsd_id: ArrayLike | None = None
    hemisphere: str | None = None
    repetition: int | Iterable[int] | None = None
    category: str | Iterable[str] | Mapping[str, float] | None = None
    where: str | None = None

    def __post_init__(self) -> None:
        zscore = "session" if _is_bool(self.zscore) and self.zscore else self.zscore
        named = isinstance(zscore, str) and zscore in ZSCORINGS
        names = ", ".join(f'"{name}"' for name in ZSCORINGS if name)
        _check("zscore", zscore, named or _is_bool(zscore), f'{names}, True (the same as "session") or False')
        object.__setattr__(self, "zscore", zscore if named else False)
        _check("shared", self.shared, self.shared is None or _is_bool(self.shared), "True, False or None (all trials)")
        least, side = self.ncsnr_min, self.hemisphere
        _check("ncsnr_min", least, least is None or _is_number(least), "a number, such as 0.2")
        known = side is None or (isinstance(side, str) and side in HEMISPHERE_CODES)
        _check("hemisphere", side, known, '"lh", "rh" or None (both)')


def _is_bool(value: object) -> bool:
    return isinstance(value, bool | np.bool_)


def _is_number(value: object) -> bool:
    return isinstance(value, Real | np.number) and not _is_bool(value) and not np.isnan(float(value))


def _check(argument: str, received: object, right: bool, wanted: str) -> None:
    if not right:
        raise SelectionError(f"{argument}={received!r}: unknown value; write {wanted}")


def select_voxels(voxels: xr.Dataset, selection: Selection) -> Index:
    """Positions of the voxels that meet every condition.

    In the order of the store, or in that of ``selection.voxels`` where these are positions.
    """
    size = voxels.sizes["voxel"]
    chosen = np.ones(size, bool)
    if selection.roi is not None:
        chosen &= _in_any_region(voxels, selection.roi)
    if selection.ncsnr_min is not None:
        if "ncsnr" not in voxels.variables:
            raise SelectionError(f"ncsnr_min={selection.ncsnr_min}: this store has no ncsnr; leave ncsnr_min out")
        chosen &= voxels["ncsnr"].values >= selection.ncsnr_min
    if selection.hemisphere is not None:
        if "hemisphere" not in voxels.variables:
            raise SelectionError(
                f"hemisphere={selection.hemisphere!r}: this store does not know the hemisphere of its voxels; ingest "
                "again from a source with the ROI files lh.*.nii.gz and rh.*.nii.gz"
            )
        chosen &= voxels["hemisphere"].values == HEMISPHERE_CODES[selection.hemisphere]
    if selection.where is not None:
        chosen &= select_where(voxels, selection.where).get("voxel", True)
    if selection.voxels is None:
        return np.flatnonzero(chosen)
    if isinstance(selection.voxels, str):
        return np.flatnonzero(chosen & _in_any_region(voxels, selection.voxels))
    positions = _positions(selection.voxels, size)
    return positions[chosen[positions]]


def _in_any_region(voxels: xr.Dataset, roi: Any) -> Mask:
    """Mask of the regions together. One that selects nothing warns, and all that select nothing are an error."""
    names = [roi] if isinstance(roi, str | bytes) or not isinstance(roi, Iterable) else list(roi)
    if not names:
        raise SelectionError(f"roi={roi!r} names no ROI; leave roi out for all voxels")
    masks = {str(name): region_mask(voxels, str(name)) for name in names}
    inside: Mask = np.logical_or.reduce(list(masks.values()))
    if empty := [name for name, mask in masks.items() if not mask.any()]:
        there = ", ".join(name for name in ROI_GROUPS if region_mask(voxels, name).any())
        has = f"it has voxels in: {there}" if there else "store.rois(subject) lists the regions"
        problem = f"{voxels.attrs.get('subject', 'the store')} has no voxel in {', '.join(empty)}; {has}"
        if not inside.any():
            raise SelectionError(problem)
        warnings.warn(problem, stacklevel=5)  # where responses() was called
    return inside


def _positions(asked: slice | ArrayLike, size: int) -> Index:
    """Positions of voxels in the requested order; those of a mask or a set ascend."""
    if isinstance(asked, slice):
        return np.arange(size)[asked]
    wanted = np.asarray(_listed(asked))
    if not wanted.size:
        return np.empty(0, np.intp)
    if wanted.dtype == bool:
        if wanted.shape != (size,):
            raise SelectionError(f"voxels: a mask of shape {wanted.shape} for {size} voxels; give one bool per voxel")
        return np.flatnonzero(wanted)
    if wanted.dtype.kind not in "iu" or wanted.ndim > 1:
        raise SelectionError(f"voxels: {wanted.ravel()[0]!r} is not a position; write whole numbers, a mask or a slice")
    try:
        return np.atleast_1d(np.arange(size)[wanted])
    except IndexError as error:
        raise SelectionError(f"voxels: {error}; available: {size} voxels, positions 0 to {size - 1}") from None


def select_trials(trials: xr.Dataset, selection: Selection, shown: NDArray[np.int64] | None = None) -> Index:
    """Positions of the trials that meet every condition.

    Without lists in the order of presentation. A list sorts the trials by its own order, repeats included:
    ``nsd_id=[7, 3, 7]`` gives all trials of image 7, those of 3, and those of 7 again. ``nsd_id`` sorts before
    ``repetition``, and this before ``sessions``.

    Parameters
    ----------
    trials : Dataset
        Coordinates of the trials and voxels of a subject.
    selection : Selection
        The conditions.
    shown : (image,) int, optional
        ``nsd_id`` of the images that have ``selection.category``.
    """
    chosen = np.arange(trials.sizes["trial"])
    if selection.shared is not None:
        chosen = chosen[trials["shared"].values == selection.shared]
    if selection.where is not None and "trial" in (found := select_where(trials, selection.where)):
        chosen = chosen[found["trial"][chosen]]
    if shown is not None:
        chosen = chosen[np.isin(trials["nsd_id"].values[chosen], shown)]
    if selection.sessions is not None:
        chosen = _in_order("session", trials["session"].values, selection.sessions, chosen)
    if selection.repetition is not None:
        chosen = _in_order("repetition", trials["repetition"].values, selection.repetition, chosen)
    if selection.nsd_id is not None:
        chosen = _in_order("nsd_id", trials["nsd_id"].values, selection.nsd_id, chosen)
    return chosen


def select_images(images: xr.Dataset, nsd_id: ArrayLike | None = None) -> Index:
    """Positions of images in the requested order, with repeats; by default all, in the order of the store."""
    everything = np.arange(images.sizes["image"])
    return everything if nsd_id is None else _in_order("nsd_id", images["nsd_id"].values, nsd_id, everything)


def _listed(values: Any) -> ArrayLike:
    """Convert ranges, sets (ascending, since they have no order) and other iterables for numpy."""
    if isinstance(values, set | frozenset):
        return sorted(values)
    return list(values) if isinstance(values, Iterable) and not isinstance(values, np.ndarray | Sequence) else values


def _in_order(kind: str, values: NDArray[Any], asked: Any, among: Index) -> Index:
    """The positions at which ``values`` has the requested values, in the requested order.

    Raises
    ------
    SelectionError
        A value does not occur anywhere in ``values``.
    """
    wanted = np.atleast_1d(np.asarray(_listed(asked))).ravel()
    if wanted.size and wanted.dtype.kind not in "iu":
        raise SelectionError(f"{kind}: {wanted.tolist()[0]!r} is not a whole number; write numbers")
    wanted = wanted.astype(np.int64)
    unknown = wanted[~np.isin(wanted, values)]
    if unknown.size:
        raise _unknown_number(kind, unknown, np.unique(values))
    order = np.argsort(values[among], kind="stable")
    found = values[among][order]
    first, last = np.searchsorted(found, wanted, "left"), np.searchsorted(found, wanted, "right")
    counts = last - first
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    positions: Index = among[order[np.repeat(first, counts) + within]]
    return positions


def _unknown_number(kind: str, unknown: NDArray[Any], known: NDArray[Any]) -> SelectionError:
    if known.size > LISTED_VALUES:
        return SelectionError(
            f"{unknown.size} of the {kind} asked for do not occur here, the first is {unknown[0]}; "
            f"available: {known.size}, from {known[0]} to {known[-1]}"
        )
    return SelectionError(f"unknown {kind} {unknown[0]}; available: {', '.join(map(str, known))}")
