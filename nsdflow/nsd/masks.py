"""Voxel sets: which voxels an analysis takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nsdflow.errors import one_of
from nsdflow.names import DEFAULT_SPACE, VOXEL_SETS
from nsdflow.nsd import layout
from nsdflow.nsd.rois import joined_roi, list_atlases, read_atlas
from nsdflow.nsd.volumes import read_aseg, read_brainmask

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nsdflow.nsd.source import Source

__all__ = ["inflate", "voxel_set"]


def voxel_set(
    source: Source,
    subject: str,
    name: str,
    *,
    space: str = DEFAULT_SPACE,
    shape: Sequence[int] | None = None,
    wrap: bool = True,
) -> NDArray[np.bool_]:
    """Voxels of a set, bool, (i, j, k) or (vertex,).

    ========== ==========================================================================
    evc        prf-visualrois > 0
    visual     prf-visualrois written over Kastner2015 (or the one of them that is there), > 0
    nsdgeneral NSD's own nsdgeneral > 0
    tight      aseg != 0, or nsdgeneral == 1, or Kastner2015 >= 0
    inflated   tight, convolved by (0.5, 1, 0.5) on each axis, >= 1
    brain      NSD's brainmask
    an atlas   its labels > 0
    ========== ==========================================================================

    Parameters
    ----------
    shape : sequence of int, optional
        The grid all files must have.
    wrap : bool
        Whether ``inflated`` wraps around at the borders of the volume, as published.

    Raises
    ------
    SelectionError
        No such set or atlas; the message lists what there is.
    SourceError
        A file is on another grid.
    """
    surface = layout.is_surface(space)
    atlases = list_atlases(source, subject, space)
    there = {
        "evc": "prf-visualrois" in atlases,
        "visual": not {"prf-visualrois", "Kastner2015"}.isdisjoint(atlases),
        "nsdgeneral": "nsdgeneral" in atlases,
    }
    sets = [known for known in VOXEL_SETS if there.get(known, not surface)]
    if name not in (*sets, *atlases):
        others = (atlas for atlas in atlases if atlas not in sets)
        raise one_of(f"voxel set of {subject} in {space}", name, [*sets, *others])
    if name == "evc":
        return read_atlas(source, subject, "prf-visualrois", space, shape=shape).values > 0
    if name == "visual":
        return joined_roi(source, subject, space, shape=shape).values > 0
    if name == "brain":
        return np.asarray(read_brainmask(source, subject, space=space, shape=shape).values, dtype=bool)
    if name in ("tight", "inflated"):
        tight = _tight(source, subject, space, shape)
        return inflate(tight, wrap=wrap) if name == "inflated" else tight
    return read_atlas(source, subject, name, space, shape=shape).values > 0


def inflate(mask: NDArray[np.bool_], *, wrap: bool = True) -> NDArray[np.bool_]:
    """A mask convolved by (0.5, 1, 0.5) on each axis in turn, kept where >= 1.

    Parameters
    ----------
    wrap : bool
        Neighbours across the border of the volume count (as published); otherwise nothing is beyond it.
    """
    weight = mask.astype(np.float64)
    for axis in range(mask.ndim):
        before, after = np.roll(weight, 1, axis), np.roll(weight, -1, axis)
        if not wrap:
            np.moveaxis(before, axis, 0)[0] = 0
            np.moveaxis(after, axis, 0)[-1] = 0
        weight = weight + 0.5 * (before + after)
    return weight >= 1


def _tight(source: Source, subject: str, space: str, shape: Sequence[int] | None) -> NDArray[np.bool_]:
    aseg = read_aseg(source, subject, space=space, shape=shape).values
    grid = aseg.shape
    general = read_atlas(source, subject, "nsdgeneral", space, shape=grid).values
    kastner = read_atlas(source, subject, "Kastner2015", space, shape=grid).values
    return np.asarray((aseg != 0) | (general == 1) | (kastner >= 0), dtype=bool)
