"""From COCO's annotation files to one table of NSD's images.

COCO describes whole photographs, NSD shows a square crop of each. Masks are drawn at the size of the photograph and
cut; an annotation is kept if at least `LEAST_VISIBLE` of its area is within the crop. Captions describe the whole
photograph. Files are read element by element; masks are kept as run-length codes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr

from nsdflow.errors import SourceError
from nsdflow.nsd.annotations.files import CAPTIONS_PER_IMAGE, LEAST_VISIBLE, AnnotationFile, Found, annotation_files
from nsdflow.nsd.annotations.masks import decode_rle

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nsdflow.nsd.annotations.crops import CroppedImage
    from nsdflow.nsd.source import Source

__all__ = ["LICENCE", "annotation_table"]

#: Licence, stated wherever annotations are stored.
LICENCE: Final = (
    "Annotations: COCO Consortium, CC BY 4.0. Photographs: Flickr Terms of Use; the consortium does not own them."
)


def annotation_table(folder: Source, images: Sequence[CroppedImage]) -> xr.Dataset:
    """Read COCO's files and describe the images of NSD.

    Parameters
    ----------
    folder : Source
        Holds ``instances_train2017.json``, ``captions_train2017.json``, ``stuff_train2017.json``,
        ``person_keypoints_train2017.json`` and the same of ``val2017``; kinds that are missing are left out, but one
        must be there for each split of the images.
    images : sequence of CroppedImage
        Images to describe.

    Returns
    -------
    xr.Dataset
        On ``nsd_id`` and ``category``: ``instances`` uint16; ``area`` float32, the share of the NSD image that the
        category covers. ``captions`` (image, caption). For each instance that is left: ``box`` (instance, edge) left,
        top, width, height as shares of the NSD image, ``instance_nsd_id``, ``instance_category``, ``instance_area``,
        ``instance_kept`` (the share of it that the crop left), ``crowd``, and its mask as a run-length code of the
        cropped photograph: ``mask_size`` (instance, 2) and ``mask_code`` (byte) up to ``mask_end``. For each person
        with keypoints: ``keypoints`` (person, keypoint, axis) x and y as shares of the NSD image,
        ``keypoint_visible`` 0 (not there, or cut away), 1 (hidden) or 2, and ``person_instance``, the instance.

    Raises
    ------
    MissingDataError
        No file of a split.
    SourceError
        A file is not an annotation file of COCO, or describes other images.
    """
    images = sorted(images, key=lambda image: image.nsd_id)
    found = Found()
    for split, names in annotation_files(folder, [image.split for image in images]).items():
        own = {image.coco_id: image for image in images if image.split == split}
        for name in names:
            AnnotationFile(folder, name, own, found).read()
    return _table(images, found)


def _table(images: Sequence[CroppedImage], found: Found) -> xr.Dataset:
    ids = np.array(sorted(found.categories), np.int64)
    names = np.array([found.categories[category][0] for category in ids.tolist()], object)
    nsd_ids = np.array([image.nsd_id for image in images], np.int64)
    instances = _instances(found, ids)
    if unknown := set(found.category) - set(found.categories):
        raise SourceError(f"annotations of category {min(unknown)}, which no file names; fetch the files again")
    counts, areas = _by_image(nsd_ids, len(ids), instances)
    captions = np.full((len(images), CAPTIONS_PER_IMAGE), "", object)
    for nsd_id, texts in found.captions.items():
        captions[np.searchsorted(nsd_ids, nsd_id), : len(texts)] = texts
    columns = instances.pop("column")[1]
    variables: dict[str, Any] = {
        "instances": (("image", "category"), counts, {"long_name": "number of instances"}),
        "area": (("image", "category"), areas, {"long_name": "share of the image covered", "units": "1"}),
        "captions": (("image", "caption"), captions),
        "instance_category": ("instance", names[columns]),
        **instances,
    }
    coordinates = {
        "nsd_id": ("image", nsd_ids),
        "category": names,
        "supercategory": ("category", np.array([found.categories[one][1] for one in ids.tolist()], object)),
        "category_id": ("category", ids),
    }
    if found.people:
        coordinates["keypoint"] = np.array(found.keypoint_names, object)
    return xr.Dataset(variables, coordinates, {"licence": LICENCE, "least_visible": LEAST_VISIBLE})


def _instances(found: Found, ids: NDArray[np.int64]) -> dict[str, Any]:
    """Columns of the instances and persons, images ascending, of one image in the order of the files."""
    nsd_id, ends = np.array(found.nsd_id, np.int64), np.array(found.ends, np.int64)
    order = np.argsort(nsd_id, kind="stable")
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    raw = memoryview(found.codes)
    codes = b"".join(raw[start:end] for start, end in zip(starts[order].tolist(), ends[order].tolist(), strict=True))
    numbers = np.array(found.numbers).reshape(-1, 6)[order]
    columns: dict[str, Any] = {
        "instance_nsd_id": ("instance", nsd_id[order]),
        "column": ("instance", np.searchsorted(ids, np.array(found.category, np.int64)[order])),
        "box": (("instance", "edge"), numbers[:, :4].astype(np.float32)),
        "instance_area": ("instance", numbers[:, 4].astype(np.float32)),
        "instance_kept": ("instance", numbers[:, 5].astype(np.float32)),
        "crowd": ("instance", np.array(found.crowd, bool)[order]),
        "mask_size": (("instance", "side"), np.array(found.sizes, np.int32).reshape(-1, 2)[order]),
        "mask_end": ("instance", np.cumsum((ends - starts)[order])),
        "mask_code": ("byte", np.frombuffer(codes, np.uint8)),
    }
    if not found.people:
        return columns
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    person = place[np.array(found.people)]
    by_instance = np.argsort(person, kind="stable")
    points = np.array(found.keypoints).reshape(len(person), -1, 3)[by_instance]
    if points.shape[1] != len(found.keypoint_names):
        raise SourceError(f"{points.shape[1]} keypoints per person where {len(found.keypoint_names)} have names")
    return columns | {
        "person_instance": ("person", person[by_instance]),
        "keypoints": (("person", "keypoint", "axis"), points[..., :2].astype(np.float32)),
        "keypoint_visible": (("person", "keypoint"), points[..., 2].astype(np.uint8)),
    }


def _by_image(
    nsd_ids: NDArray[np.int64], categories: int, instances: Mapping[str, Any]
) -> tuple[NDArray[np.uint16], NDArray[np.float32]]:
    """Numbers of instances, and the area that they cover together, (image, category)."""
    row = np.searchsorted(nsd_ids, instances["instance_nsd_id"][1])
    cell = row * categories + instances["column"][1]
    counts = np.bincount(cell, minlength=len(nsd_ids) * categories)
    areas = np.zeros(counts.shape, np.float32)
    areas[cell] = instances["instance_area"][1]  # exact for a single instance
    order = np.argsort(cell, kind="stable")
    several = order[counts[cell[order]] > 1]
    sizes, ends, codes = (instances[name][1] for name in ("mask_size", "mask_end", "mask_code"))
    raw = codes.tobytes()
    for _, group in _groups(cell[several], several):
        mask = np.zeros((1, 1), bool)
        for number in group.tolist():
            start = int(ends[number - 1]) if number else 0
            mask = mask | decode_rle(raw[start : int(ends[number])], *sizes[number].tolist())
        areas[cell[group[0]]] = np.count_nonzero(mask) / mask.size
    shape = (len(nsd_ids), categories)
    return counts.reshape(shape).astype(np.uint16), areas.reshape(shape)


def _groups(keys: NDArray[Any], values: NDArray[Any]) -> Iterator[tuple[Any, NDArray[Any]]]:
    """Values of each key, where equal keys stand together."""
    if len(keys):
        starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
        yield from zip(keys[starts], np.split(values, starts[1:]), strict=True)
