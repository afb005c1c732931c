"""``freesurfer/subjAA/surf`` and ``ppdata/subjAA/transforms``: surfaces, and positions of spaces in others."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from nibabel.freesurfer.io import write_geometry, write_morph_data
from scipy.spatial import cKDTree

from nsdflow.names import subject_name
from nsdflow.synthetic.brain.cortex.grids import VolumeGrid, subject_grids, to_tkr
from nsdflow.synthetic.brain.cortex.spheres import Floats
from nsdflow.synthetic.brain.cortex.surfaces import DEPTHS, Hemisphere, hemispheres
from nsdflow.synthetic.published.files import open_mgh, open_nifti, write_mgh
from nsdflow.synthetic.spec import SyntheticSpec

__all__ = ["write_cortex"]

_SPHERE_MM, _AVERAGE_MM = 100.0, 60.0  # radius of FreeSurfer's spheres, half length of fsaverage
_PATCH = np.dtype([("vertex", ">i4"), ("xyz", ">f4", 3)])
#: Stored value where there are no data, before arithmetic on it.
_NOWHERE = 9999.0


def write_cortex(root: Path, spec: SyntheticSpec) -> None:
    """Surfaces of fsaverage and of every subject, and all transforms."""
    average = hemispheres(spec, None)
    for hemisphere in average:
        _write_surfaces(root / "nsddata/freesurfer/fsaverage", hemisphere, _place_average)
    for subject in range(1, spec.subjects + 1):
        own = hemispheres(spec, subject)
        for hemisphere in own:
            folder = root / "nsddata/freesurfer" / subject_name(subject)
            _write_surfaces(folder, hemisphere, partial(to_tkr, spec, subject))
        transforms = root / "nsddata/ppdata" / subject_name(subject) / "transforms"
        grids = subject_grids(spec, subject)
        _write_between_volumes(transforms, grids)
        for hemisphere, other in zip(own, average, strict=True):
            _write_to_surfaces(transforms, hemisphere, grids)
            _write_indices(transforms, hemisphere, other)


def _place_average(places: Floats) -> Floats:
    return places * _AVERAGE_MM


def _write_surfaces(folder: Path, hemisphere: Hemisphere, place: Callable[[Floats], Floats]) -> None:
    """All surfaces of a hemisphere, its curvature and depth of folds, its flat patch, and which vertices are cortex."""
    surf, label, h = folder / "surf", folder / "label", hemisphere.name
    surf.mkdir(parents=True, exist_ok=True)
    label.mkdir(parents=True, exist_ok=True)
    shapes = {name: place(hemisphere.positions(depth)) for name, depth in DEPTHS.items()}
    shapes |= {
        "inflated": place(hemisphere.inflated()),
        "sphere": hemisphere.sphere * _SPHERE_MM,
        "sphere.reg": hemisphere.sphere * _SPHERE_MM,
    }
    for name, vertices in shapes.items():
        write_geometry(
            str(surf / f"{h}.{name}"), vertices.astype(np.float32), hemisphere.faces, create_stamp="nsdflow synth"
        )
    for name, values in (("curv", -0.3 * hemisphere.fold), ("sulc", -5 * hemisphere.fold)):
        write_morph_data(str(surf / f"{h}.{name}"), values.astype(np.float32))
    write_mgh(surf / f"{h}.curvature.mgz", -hemisphere.fold)
    scale = float(np.abs(shapes["inflated"]).max())
    _write_patch(surf / f"{h}.full.flat.patch.3d", hemisphere, scale)
    inside = np.flatnonzero(hemisphere.cortex)
    rows = "".join(
        f"{vertex} {x:.3f} {y:.3f} {z:.3f} 0\n"
        for vertex, (x, y, z) in zip(inside.tolist(), shapes["white"][inside].tolist(), strict=True)
    )
    (label / f"{h}.cortex.label").write_text(f"#!ascii label, from nsdflow synth\n{inside.size}\n{rows}")


def _write_patch(path: Path, hemisphere: Hemisphere, scale: float) -> None:
    """FreeSurfer's patch: vertices of the border have negative numbers, all count from 1."""
    inside = np.flatnonzero(hemisphere.cortex)
    whole = hemisphere.cortex[hemisphere.faces].all(axis=1)
    border = np.intersect1d(hemisphere.faces[~whole], inside)
    patch = np.zeros(inside.size, _PATCH)
    patch["vertex"] = (inside + 1) * np.where(np.isin(inside, border), -1, 1)
    patch["xyz"][:, :2] = hemisphere.flat()[inside] * scale
    path.write_bytes(np.array([-1, inside.size], ">i4").tobytes() + patch.tobytes())


def _write_between_volumes(folder: Path, grids: dict[str, VolumeGrid]) -> None:
    for origin in grids.values():
        for target in grids.values():
            kinds = {origin.name[:4], target.name[:4]}
            if len(kinds) == 2:  # NSD has no files between two functional or two anatomical grids
                _write_volume_transform(folder, origin, target, _invalid(origin, target, grids))


def _invalid(origin: VolumeGrid, target: VolumeGrid, grids: dict[str, VolumeGrid]) -> Floats:
    """Value of a transform without data: the published files were made from one another by arithmetic."""
    pair = {origin.name[:4], target.name[:4]}
    if pair == {"anat", "MNI"}:
        return np.zeros(3)
    if origin.name == "func1pt8" and target.name.startswith("anat"):
        low, high = np.array(grids["func1pt8"].shape), np.array(grids["func1pt0"].shape)
        shared_low, shared_high = low * (1, 1, 0) + (0, 0, 1), high * (1, 1, 0) + (0, 0, 1)
        return np.asarray((_NOWHERE - shared_high) / 1.8 + shared_low)
    if origin.name == "anat0pt8" and target.name.startswith("func"):
        return np.full(3, (_NOWHERE - 0.5) / 0.8 + 0.5)
    return np.full(3, _NOWHERE)


def _write_volume_transform(folder: Path, origin: VolumeGrid, target: VolumeGrid, invalid: Floats) -> None:
    """``A-to-B.nii.gz``: on the grid of B, where in A to look; the three coordinates one after the other."""
    matrix = np.linalg.inv(origin.matrix) @ target.matrix
    offset = np.linalg.inv(origin.matrix) @ (target.offset - origin.offset)
    axes = [np.arange(1, n + 1, dtype=np.float64) for n in target.shape]
    # the coordinates are linear in each index: sums of three lines
    lines = [[matrix[a, b] * axis for b, axis in enumerate(axes)] for a in range(3)]
    coordinates = [_outer_sum(*line) + offset[a] for a, line in enumerate(lines)]
    outside = np.zeros(target.shape, bool)
    for c, size in zip(coordinates, origin.shape, strict=True):
        outside |= (c < 1) | (c > size)
    path = folder / f"{origin.name}-to-{target.name}.nii.gz"
    with open_nifti(path, (*target.shape, 3), np.float32, target.voxel_mm) as stream:
        for c, nowhere in zip(coordinates, invalid, strict=True):
            c[outside] = nowhere
            stream.write(c.astype(np.float32).tobytes(order="F"))


def _outer_sum(i: Floats, j: Floats, k: Floats) -> npt.NDArray[Any]:
    return i[:, None, None] + j[None, :, None] + k[None, None, :]


def _write_to_surfaces(folder: Path, hemisphere: Hemisphere, grids: dict[str, VolumeGrid]) -> None:
    for surface, depth in DEPTHS.items():
        places = hemisphere.positions(depth)
        for grid in grids.values():
            c = grid.index_of(places)
            if not grid.name.startswith("anat"):
                c[((c < 1) | (c > grid.shape)).any(axis=1)] = _NOWHERE
            path = folder / f"{hemisphere.name}.{grid.name}-to-{surface}.mgz"
            with open_mgh(path, len(c), 3) as stream:
                stream.write(c.T.astype(">f4").tobytes())


def _write_indices(folder: Path, own: Hemisphere, average: Hemisphere) -> None:
    """The nearest vertex on the sphere of registration, from 1, in both directions."""
    for name, source, target in (("white-to-fsaverage", own, average), ("fsaverage-to-white", average, own)):
        _, nearest = cKDTree(source.sphere).query(target.sphere)
        write_mgh(folder / f"{own.name}.{name}.mgz", np.asarray(nearest) + 1)
