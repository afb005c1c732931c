"""Values and surfaces of one hemisphere as files for other programs: GIFTI and FreeSurfer's mgz."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import nibabel as nib
import numpy as np
from nibabel.freesurfer.mghformat import MGHImage
from nibabel.gifti.gifti import GiftiDataArray, GiftiImage, GiftiLabel, GiftiLabelTable, GiftiMetaData
from numpy.typing import NDArray

from nsdflow.io.write import aside
from nsdflow.nsd.formats.surfaces import Geometry

__all__ = ["STRUCTURES", "VertexMap", "write_gifti", "write_gifti_surface", "write_mgz"]

#: Names of the hemispheres in Connectome Workbench.
STRUCTURES: Final[Mapping[str, str]] = {"lh": "CortexLeft", "rh": "CortexRight"}


@dataclass(frozen=True)
class VertexMap:
    """Values of the vertices of one hemisphere.

    Attributes
    ----------
    hemisphere : {"lh", "rh"}
        Which one.
    values : numpy.ndarray
        (map, vertex); float, or int for labels.
    names : sequence of str
        A name per map.
    labels : mapping
        Names of the labels by value; empty for anything but labels.
    """

    hemisphere: str
    values: NDArray[Any]
    names: Sequence[str]
    labels: Mapping[int, str]


def write_gifti(path: Path, data: VertexMap, attributes: Mapping[str, str]) -> None:
    """Write ``.func.gii`` (float32), or ``.label.gii`` (int32 with a table) where the map has labels.

    Parameters
    ----------
    data : VertexMap
        What to write; NaN stays NaN.
    attributes : mapping
        Metadata of the file besides the structure.
    """
    dtype, intent = ("int32", "NIFTI_INTENT_LABEL") if data.labels else ("float32", "NIFTI_INTENT_NONE")
    arrays = [
        GiftiDataArray(row.astype(dtype), intent=intent, datatype=f"NIFTI_TYPE_{dtype.upper()}", meta={"Name": name})
        for row, name in zip(data.values, data.names, strict=True)
    ]
    image = GiftiImage(darrays=arrays, meta=_meta(data.hemisphere, attributes))
    if data.labels:
        image.labeltable = _label_table(data.labels)
    _save(path, image)


def write_gifti_surface(
    path: Path, hemisphere: str, surface: Geometry, kind: str, attributes: Mapping[str, str]
) -> None:
    """Write ``.surf.gii``; ``kind`` is ``"Anatomical"``, ``"Inflated"``, ``"Spherical"`` or ``"Flat"``."""
    structure = {"AnatomicalStructurePrimary": STRUCTURES[hemisphere], "GeometricType": kind}
    points = GiftiDataArray(
        surface.vertices.astype(np.float32), "NIFTI_INTENT_POINTSET", "NIFTI_TYPE_FLOAT32", meta=structure
    )
    faces = GiftiDataArray(surface.faces.astype(np.int32), "NIFTI_INTENT_TRIANGLE", "NIFTI_TYPE_INT32")
    _save(path, GiftiImage(darrays=[points, faces], meta=_meta(hemisphere, attributes)))


def write_mgz(path: Path, data: VertexMap) -> None:
    """Write ``lh.NAME.mgz``: (vertex, 1, 1, map) float32, as NSD and FreeSurfer keep values of vertices."""
    frames = np.ascontiguousarray(data.values.T.astype(np.float32)).reshape(data.values.shape[1], 1, 1, -1)
    image = MGHImage(frames if len(data.values) > 1 else frames[..., 0], np.eye(4))
    with aside(path, ending=".mgz") as temporary:
        nib.save(image, temporary)


def _meta(hemisphere: str, attributes: Mapping[str, str]) -> GiftiMetaData:
    return GiftiMetaData({"AnatomicalStructurePrimary": STRUCTURES[hemisphere], **attributes})


def _label_table(labels: Mapping[int, str]) -> GiftiLabelTable:
    """Names with colours from once around the colour wheel; labels up to 0 are transparent."""
    table = GiftiLabelTable()
    for position, (key, name) in enumerate(sorted(labels.items())):
        turn = np.array([0, 1 / 3, 2 / 3]) + position * 0.618
        red, green, blue = (0.5 + 0.5 * np.cos(2 * np.pi * turn)).tolist()
        label = GiftiLabel(key, red, green, blue, float(key > 0))
        setattr(label, "label", name)  # noqa: B010  (nibabel declares no such attribute, and writes it)
        table.labels.append(label)
    return table


def _save(path: Path, image: GiftiImage) -> None:
    with aside(path, ending=".gii") as temporary:
        nib.save(image, temporary)
