"""Voxel sets: the voxels of an analysis, one record per set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from nsdflow.errors import MissingDataError, one_of
from nsdflow.names import DEFAULT_SPACE
from nsdflow.nsd import layout
from nsdflow.nsd.voxels.rois import joined_roi, list_atlases, read_atlas
from nsdflow.nsd.voxels.volumes import read_aseg, read_brainmask, read_valid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nsdflow.nsd.source import Source

    Mask = NDArray[np.bool_]

__all__ = ["VOXEL_SETS", "VoxelSet", "default_voxel_set", "inflate", "voxel_set", "voxel_sets"]


@dataclass(frozen=True)
class VoxelSource:
    """The files of one subject in one space, from which a set is made."""

    source: Source
    subject: str
    space: str
    shape: tuple[int, ...] | None
    wrap: bool = True

    @cached_property
    def atlases(self) -> tuple[str, ...]:
        """Names of the atlases that exist."""
        return list_atlases(self.source, self.subject, self.space)

    def atlas(self, name: str, shape: tuple[int, ...] | None = None) -> NDArray[np.int16]:
        """Labels of an atlas."""
        return read_atlas(self.source, self.subject, name, self.space, shape=shape or self.shape).values

    def joined(self) -> NDArray[np.int16]:
        """Labels of the joined visual ROI."""
        return joined_roi(self.source, self.subject, self.space, shape=self.shape).values

    def aseg(self) -> NDArray[Any]:
        """FreeSurfer's segmentation."""
        return read_aseg(self.source, self.subject, space=self.space, shape=self.shape).values

    def brain(self) -> Mask:
        """NSD's brain mask; in MNI, which has none, voxels with data in a session."""
        if self.space != "MNI":
            return np.asarray(
                read_brainmask(self.source, self.subject, space=self.space, shape=self.shape).values, dtype=bool
            )
        maps = [
            path
            for session in range(1, 41)
            if self.source.exists(path := layout.valid_path(self.subject, session, "MNI"))
        ]
        if not maps:
            raise MissingDataError(
                f"{self.source.join(layout.valid_path(self.subject, 1, 'MNI'))}: no such file; without it nothing says "
                "which voxels of MNI have data; copy valid_sessionBB.nii.gz of the sessions that you ingest"
            )
        numbers = [int(path.removesuffix(".nii.gz")[-2:]) for path in maps]
        valid = (read_valid(self.source, self.subject, n, space="MNI", shape=self.shape).values for n in numbers)
        return np.asarray(np.logical_or.reduce(list(valid)))


@dataclass(frozen=True)
class VoxelSet:
    """One voxel set.

    Attributes
    ----------
    rule : str
        Rule for its voxels, in words.
    choose : callable
        Makes the mask, bool, (i, j, k) or (vertex,), from the files of a subject.
    spaces : tuple of str
        Spaces that have it.
    atlases : tuple of str
        Atlases of which at least one must exist.
    """

    rule: str
    choose: Callable[[VoxelSource], Mask]
    spaces: tuple[str, ...]
    atlases: tuple[str, ...] = ()

    def available(self, space: str, atlases: Iterable[str]) -> bool:
        """Whether a subject with these atlases has the set in this space."""
        return space in self.spaces and (not self.atlases or not set(self.atlases).isdisjoint(atlases))


def inflate(mask: Mask, *, wrap: bool = True) -> Mask:
    """A mask (i, j, k) bool convolved by (0.5, 1, 0.5) on each axis in turn, kept where >= 1.

    With ``wrap``, neighbours across the border of the volume count (as published); otherwise nothing is beyond it.
    """
    weight = mask.astype(np.float64)
    for axis in range(mask.ndim):
        before, after = np.roll(weight, 1, axis), np.roll(weight, -1, axis)
        if not wrap:
            np.moveaxis(before, axis, 0)[0] = 0
            np.moveaxis(after, axis, 0)[-1] = 0
        weight = weight + 0.5 * (before + after)
    return weight >= 1


def _tight(grid: VoxelSource) -> Mask:
    aseg = grid.aseg()
    general, kastner = (grid.atlas(name, aseg.shape) for name in ("nsdgeneral", "Kastner2015"))
    return np.asarray((aseg != 0) | (general == 1) | (kastner >= 0), dtype=bool)


_FUNCTIONAL: Final = ("func1pt8mm", "func1mm")
_WITH_ATLASES: Final = (*_FUNCTIONAL, "nativesurface", "fsaverage")

#: Every voxel set by name; the name of an atlas is a set too (its labels > 0).
VOXEL_SETS: Final[Mapping[str, VoxelSet]] = {
    "evc": VoxelSet(
        "prf-visualrois > 0", lambda grid: grid.atlas("prf-visualrois") > 0, _WITH_ATLASES, ("prf-visualrois",)
    ),
    "visual": VoxelSet(
        "prf-visualrois over Kastner2015 (or the one of them that exists), > 0",
        lambda grid: grid.joined() > 0,
        _WITH_ATLASES,
        ("prf-visualrois", "Kastner2015"),
    ),
    "nsdgeneral": VoxelSet("nsdgeneral > 0", lambda grid: grid.atlas("nsdgeneral") > 0, _WITH_ATLASES, ("nsdgeneral",)),
    "tight": VoxelSet("aseg != 0, or nsdgeneral == 1, or Kastner2015 >= 0", _tight, _FUNCTIONAL),
    "inflated": VoxelSet(
        "tight, convolved by (0.5, 1, 0.5) on each axis, >= 1",
        lambda grid: inflate(_tight(grid), wrap=grid.wrap),
        _FUNCTIONAL,
    ),
    "brain": VoxelSet("NSD's brainmask (MNI: voxels with data)", lambda grid: grid.brain(), (*_FUNCTIONAL, "MNI")),
}

#: The set that is ingested by default. fsaverage has no prf-visualrois, and MNI has no atlases.
_DEFAULTS: Final[Mapping[str, str]] = {"fsaverage": "visual", "MNI": "brain"}


def default_voxel_set(space: str) -> str:
    """The default voxel set of a space.

    >>> default_voxel_set("func1pt8mm"), default_voxel_set("fsaverage")
    ('evc', 'visual')
    """
    layout.is_surface(space)
    return _DEFAULTS.get(space, "evc")


def voxel_sets(source: Source, subject: str, space: str) -> tuple[str, ...]:
    """Names of the sets and atlases that a subject has in a space, sets first."""
    atlases = list_atlases(source, subject, space)
    sets = [name for name, record in VOXEL_SETS.items() if record.available(space, atlases)]
    return (*sets, *(atlas for atlas in atlases if atlas not in sets))


def voxel_set(
    source: Source,
    subject: str,
    name: str,
    *,
    space: str = DEFAULT_SPACE,
    shape: Sequence[int] | None = None,
    wrap: bool = True,
) -> Mask:
    """Voxels (i, j, k) or (vertex,) bool of a set, one of :data:`VOXEL_SETS` or the name of an atlas.

    Parameters
    ----------
    subject, name, space : str
        For example ``"subj01"``, ``"evc"``, ``"func1pt8mm"``.
    shape : sequence of int, optional
        The grid that all files must have.
    wrap : bool
        Whether ``inflated`` wraps around at the borders of the volume, as published.

    Raises
    ------
    SelectionError
        No such set or atlas; the message lists those that exist.
    MissingDataError
        A file of the set cannot be read.
    SourceError
        A file is on another grid, or broken.
    """
    layout.is_surface(space)
    grid = VoxelSource(source, subject, space, tuple(shape) if shape is not None else None, wrap)
    record = VOXEL_SETS.get(name)
    if record is not None and record.available(space, grid.atlases):
        return record.choose(grid)
    if name not in grid.atlases:
        raise one_of(f"voxel set of {subject} in {space}", name, voxel_sets(source, subject, space))
    return grid.atlas(name) > 0
