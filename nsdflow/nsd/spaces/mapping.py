"""From any space to any other for which NSD has files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nsdflow.errors import SelectionError, SourceError, one_of
from nsdflow.names import HEMISPHERES
from nsdflow.nsd.source import Source
from nsdflow.nsd.spaces.grids import GRIDS, LAYERS, Grid, affine_of, functional_offset, grid_named
from nsdflow.nsd.spaces.sampling import KERNELS, Points, valid_points
from nsdflow.nsd.spaces.steps import Flip, Gather, MappingStep, Missing, Resample, Sample, Splat, vote
from nsdflow.nsd.spaces.transforms import (
    Shape,
    grid_shape,
    read_index,
    read_points,
    read_transform,
    transform_path,
    vertex_count,
)

__all__ = ["METHODS", "SpaceMap", "open_map", "targets_of"]

#: ``wta``, winner takes all, is for labels.
METHODS = (*KERNELS, "wta")

#: Layers whose mean is NSD's own way from volumes to surfaces.
MEAN_LAYERS = ("layerB1", "layerB2", "layerB3")


@dataclass(frozen=True)
class SpaceMap:
    """A mapping from one space of a subject to another, with its transforms in memory.

    Attributes
    ----------
    subject, origin, target : str
        Subject, space of the source, space of the target.
    source_shape, target_shape : tuple of int
        (i, j, k) of a volume; (left, right) numbers of vertices of a surface.
    method : {"nearest", "linear", "cubic", "wta"}
        How volumes are sampled.
    layers : tuple of str
        Surfaces of the subject on the way; empty where there are none.
    affine : numpy.ndarray or None
        (4, 4), indices of the target volume to mm; None on a surface.
    steps : tuple of MappingStep
        Operations, in order.
    """

    subject: str
    origin: str
    target: str
    source_shape: tuple[int, ...]
    target_shape: tuple[int, ...]
    method: str
    layers: tuple[str, ...]
    affine: NDArray[np.float64] | None
    steps: tuple[MappingStep, ...]

    @property
    def source_size(self) -> int:
        """Voxels or vertices of the source."""
        return _size(self.source_shape)

    @property
    def target_size(self) -> int:
        """Voxels or vertices of the target."""
        return _size(self.target_shape)

    def __call__(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Map values (source,) or (source, frame) to the target, in float64.

        Both are flat in C order (surfaces: left hemisphere first), and NaN where there are no data.
        """
        if len(values) != self.source_size:
            raise SourceError(
                f"{len(values)} values where {self.origin} of {self.subject} has {self.source_size}; "
                "take both from the same subject and space"
            )
        frames = np.asarray(values).reshape(len(values), -1)
        if self.method == "wta":
            mapped = vote(self.steps, frames)
        else:
            mapped = np.asarray(frames, np.float64)
            for step in self.steps:
                mapped = step.apply(mapped)
        return mapped.reshape(self.target_size, *np.shape(values)[1:])


def targets_of(origin: str) -> tuple[str, ...]:
    """Spaces that a space can be mapped to."""
    start = grid_named(origin)
    return tuple(name for name, grid in GRIDS.items() if name != start.name and _way(start, grid))


def open_map(
    source: Source,
    subject: str,
    origin: str,
    target: str,
    *,
    method: str = "cubic",
    layers: str | Sequence[str] = "mean",
    missing: Missing = "propagate",
    shape: Sequence[int] | None = None,
) -> SpaceMap:
    """Read the transforms of a mapping.

    Parameters
    ----------
    origin, target : str
        Spaces (see `GRIDS`); a surface of the subject (``white``, ``pial``, ``layerB1`` ...) as a target is
        ``nativesurface`` by way of that layer alone.
    method : {"cubic", "linear", "nearest", "wta"}
        How volumes are sampled; ``wta`` is for labels. From surface to surface the nearest vertex is taken.
    layers : str or sequence of str
        Between volumes and surfaces: ``"mean"`` (of the three layers within cortex), one of `LAYERS`, or several.
    missing : {"propagate", "ignore"}
        See :class:`nsdflow.nsd.spaces.steps.Sample`.
    shape : sequence of int, optional
        Shape of the source (volume, or vertices of the hemispheres), which is held against the files.

    Raises
    ------
    SelectionError
        Unknown space, method or layer; or no way between these spaces, with a list of the ways there are.
    MissingDataError
        A transform file is missing.
    SourceError
        The files are of another subject or grid than ``shape``.
    """
    if target in LAYERS:
        target, layers = "nativesurface", target
    start, end = grid_named(origin), grid_named(target)
    if method not in METHODS:
        raise one_of("method", method, METHODS)
    names = MEAN_LAYERS if layers == "mean" else (layers,) if isinstance(layers, str) else tuple(layers)
    for name in names:
        if name not in LAYERS:
            raise one_of("layer", name, ("mean", *LAYERS))
    if start.name == end.name or not (way := _way(start, end)):
        ways = ", ".join(targets_of(start.name))
        raise SelectionError(f"no way from {start.name} to {end.name}; available from {start.name}: {ways}")
    files = _Files(source, subject, start, end, "linear" if method == "wta" else method, names, missing)
    found = files.shape_of(start)
    if shape is not None and found is not None and tuple(shape) != found:
        raise SourceError(
            f"{start.name} of {subject}: {_by(shape)} where its transforms have {_by(found)}; "
            "take both from the same subject and space"
        )
    known = tuple(shape) if shape is not None else found
    if known is None:
        raise SourceError(f"{start.name} of {subject}: its size is in no transform file; give shape")
    steps, reached = getattr(files, way)(known)
    affine = affine_of(end, reached) if end.is_volume else None
    used = names if way.endswith("surface") or way.endswith("splat") else ()
    return SpaceMap(subject, start.name, end.name, known, reached, method, used, affine, steps)


def _way(start: Grid, end: Grid) -> str | None:
    """Name of the method of `_Files` that maps one kind of space to another."""
    kinds = (start.kind, end.kind)
    if start.is_volume and not end.is_volume:
        return "volume_to_surface"
    if kinds == ("surface", "anatomical"):
        return "surface_to_anatomy_splat"
    if kinds == ("surface", "surface"):
        return "surface_to_surface_gather"
    if kinds == ("anatomical", "anatomical"):
        return "anatomy_to_anatomy"
    if kinds == ("functional", "functional"):
        return "functional_to_functional"
    return "volume_to_volume" if start.is_volume and end.is_volume else None


@dataclass(frozen=True)
class _Files:
    """The files of one mapping. Each method returns the steps and the shape of the result."""

    source: Source
    subject: str
    start: Grid
    end: Grid
    method: str
    layers: tuple[str, ...]
    missing: Missing

    def shape_of(self, grid: Grid) -> tuple[int, ...] | None:
        """Shape of a space, from the files that lie on it."""
        if grid.is_volume:
            return grid_shape(self.source, self.subject, grid)
        other = "white" if grid.name == "fsaverage" else "fsaverage"
        return tuple(vertex_count(self.source, self.path(other, grid.file_name, h)) for h in HEMISPHERES)

    def path(self, origin: str, target: str, hemisphere: str | None = None) -> str:
        return transform_path(self.subject, origin, target, hemisphere)

    def volume_to_volume(self, shape: Shape) -> tuple[tuple[MappingStep, ...], Shape]:
        points, reached = read_points(self.source, self.path(self.start.file_name, self.end.file_name), shape)
        return self._turned(Sample(shape, (points,), self.method, self.missing), shape, reached), reached

    def volume_to_surface(self, shape: Shape) -> tuple[tuple[MappingStep, ...], tuple[int, ...]]:
        sets: list[Points] = []
        counts = (0, 0)
        for layer in self.layers:
            parts = [read_points(self.source, self.path(self.start.file_name, layer, h), shape)[0] for h in HEMISPHERES]
            found = (parts[0].count, parts[1].count)
            if sets and found != counts:
                raise SourceError(
                    f"{self.source.join(self.path(self.start.file_name, layer, '?h'))}: {_by(found)} vertices where "
                    f"{self.layers[0]} has {_by(counts)}; take both from the same subject"
                )
            counts = found
            sets.append(Points.concatenate(parts))
        sample = Sample(shape, tuple(sets), self.method, self.missing)
        steps = (Flip(shape), sample) if self.start.kind == "template" else (sample,)
        if self.end.name == "nativesurface":
            return steps, counts
        gather, reached = self._gather("white", "fsaverage", counts)
        return (*steps, gather), reached

    def surface_to_surface_gather(self, counts: tuple[int, ...]) -> tuple[tuple[MappingStep, ...], tuple[int, ...]]:
        gather, reached = self._gather(self.start.file_name, self.end.file_name, counts)
        return (gather,), reached

    def surface_to_anatomy_splat(self, counts: tuple[int, ...]) -> tuple[tuple[MappingStep, ...], Shape]:
        reached = self._volume_shape(self.end)
        steps: list[MappingStep] = []
        if self.start.name == "fsaverage":
            steps.append(self._gather("fsaverage", "white", counts)[0])
        coordinates = tuple(
            np.concatenate([read_transform(self.source, self.path(self.end.file_name, layer, h)) for h in HEMISPHERES])
            for layer in self.layers
        )
        return (*steps, Splat(reached, coordinates)), reached

    def anatomy_to_anatomy(self, shape: Shape) -> tuple[tuple[MappingStep, ...], Shape]:
        reached = self._volume_shape(self.end)
        return (Resample(shape, reached),), reached

    def functional_to_functional(self, shape: Shape) -> tuple[tuple[MappingStep, ...], Shape]:
        reached = self._volume_shape(self.end)
        to_low = self.end.name == "func1pt8mm"
        axes = functional_offset(*((reached, shape) if to_low else (shape, reached)), to_low)
        coordinates = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
        return (Sample(shape, (valid_points(coordinates, shape),), self.method, self.missing),), reached

    def _turned(self, sample: Sample, shape: Shape, reached: Shape) -> tuple[MappingStep, ...]:
        before = (Flip(shape),) if self.start.kind == "template" else ()
        after = (Flip(reached),) if self.end.kind == "template" else ()
        return (*before, sample, *after)

    def _gather(self, origin: str, target: str, counts: tuple[int, ...]) -> tuple[Gather, tuple[int, int]]:
        left, right = (
            read_index(self.source, self.path(origin, target, h), count)
            for h, count in zip(HEMISPHERES, counts, strict=True)
        )
        return Gather(np.concatenate([left, right + counts[0]])), (len(left), len(right))

    def _volume_shape(self, grid: Grid) -> Shape:
        shape = grid_shape(self.source, self.subject, grid)
        if shape is None:
            raise SourceError(
                f"{self.source.join(self.path('*', grid.file_name))}: no transform lies on {grid.name}, so its size "
                "is unknown; fetch one of them"
            )
        return shape


def _size(shape: tuple[int, ...]) -> int:
    return prod(shape) if len(shape) == 3 else sum(shape)


def _by(shape: Sequence[int]) -> str:
    return (" x " if len(shape) == 3 else " + ").join(map(str, shape))
