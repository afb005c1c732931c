"""What NSD's images show, from COCO's annotation files, moved into the part of the photograph that NSD kept.

COCO describes whole photographs, NSD shows a square crop of each. Masks are drawn at the size of the photograph and
cut; an annotation counts if at least `LEAST_VISIBLE` of its area is left. Captions describe the whole photograph.
"""

from __future__ import annotations

import ast
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr
from PIL import Image, ImageDraw

from nsdflow.errors import MissingDataError, SourceError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = [
    "KINDS",
    "LEAST_VISIBLE",
    "CroppedImage",
    "annotation_mask",
    "annotation_table",
    "cropped_images",
    "decode_rle",
]

#: COCO's files: ``instances_train2017.json``, ...; captions and instances are looked for first.
KINDS: Final = ("instances", "stuff", "captions")
#: An annotation of which less is left after the crop is dropped.
LEAST_VISIBLE: Final = 0.1
#: Captions kept per image; a few photographs have more than five.
CAPTIONS: Final = 5
#: What is said of the licence wherever annotations go.
LICENCE: Final = (
    "Annotations: COCO Consortium, CC BY 4.0. Photographs: Flickr Terms of Use; the consortium does not own them."
)


@dataclass(frozen=True)
class CroppedImage:
    """One image of NSD and the part of COCO's photograph that it is.

    Attributes
    ----------
    nsd_id, coco_id : int
        The image here and in COCO.
    split : str
        ``"train2017"`` or ``"val2017"``: the file in which its annotations are.
    crop : tuple of float
        Shares cut away at top, bottom, left and right.
    """

    nsd_id: int
    coco_id: int
    split: str
    crop: tuple[float, float, float, float]

    def window(self, height: int, width: int) -> tuple[slice, slice]:
        """Rows and columns that are kept; margins are rounded half to even, as NSD's crop was made."""
        top, bottom, left, right = self.crop
        return (
            slice(round(height * top), height - round(height * bottom)),
            slice(round(width * left), width - round(width * right)),
        )


def cropped_images(info: pd.DataFrame) -> list[CroppedImage]:
    """The images of NSD's table ``nsd_stim_info_merged``, whose crops are texts in the CSV file.

    Raises
    ------
    SourceError
        The table lacks a column.
    """
    for column in ("nsdId", "cocoId", "cocoSplit", "cropBox"):
        if column not in info:
            raise SourceError(f"nsd_stim_info_merged: no column {column}; copy the published file")
    rows = info[["nsdId", "cocoId", "cocoSplit", "cropBox"]].itertuples(index=False, name=None)
    return [
        CroppedImage(int(nsd), int(coco), str(split), tuple(ast.literal_eval(crop) if isinstance(crop, str) else crop))
        for nsd, coco, split, crop in rows
    ]


def annotation_table(folder: Path, images: Sequence[CroppedImage]) -> xr.Dataset:
    """Read COCO's files and describe the images of NSD.

    Parameters
    ----------
    folder : Path
        Holds ``instances_train2017.json``, ``captions_train2017.json``, ``stuff_train2017.json`` ... and the same of
        ``val2017``; kinds that are missing are left out, but one must be there for each split of the images.
    images : sequence of CroppedImage
        Those to describe.

    Returns
    -------
    xr.Dataset
        ``instances`` (image, category) uint16; ``area`` (image, category) float32, the share of the NSD image that
        the category covers; ``captions`` (image, caption); ``box`` (instance, edge) left, top, width, height as
        shares of the NSD image, with ``instance_nsd_id``, ``instance_category`` and ``instance_area``; coordinates
        ``nsd_id``, ``category``, ``supercategory``, ``category_id``.

    Raises
    ------
    MissingDataError
        No file of a split.
    SourceError
        A file is no annotation file of COCO, or of other images.
    """
    images = sorted(images, key=lambda image: image.nsd_id)
    found = _Found()
    for split in sorted({image.split for image in images}):
        own = {image.coco_id: image for image in images if image.split == split}
        there = [kind for kind in KINDS if (folder / f"{kind}_{split}.json").is_file()]
        if not there:
            names = ", ".join(f"{kind}_{split}.json" for kind in KINDS)
            raise MissingDataError(f"{folder}: none of {names}; get them from cocodataset.org")
        for kind in there:
            _read_file(folder / f"{kind}_{split}.json", own, found)
    return _table(images, found)


@dataclass
class _Found:
    """What the files say, gathered."""

    categories: dict[int, tuple[str, str]] = field(default_factory=dict)
    captions: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    counts: dict[tuple[int, int], int] = field(default_factory=lambda: defaultdict(int))
    areas: dict[tuple[int, int], float] = field(default_factory=dict)
    instances: list[tuple[int, int, tuple[float, ...], float]] = field(default_factory=list)


def _read_file(path: Path, own: Mapping[int, CroppedImage], found: _Found) -> None:
    try:
        content = json.loads(path.read_text())
        sizes = {entry["id"]: (entry["height"], entry["width"]) for entry in content["images"]}
        annotations = content["annotations"]
    except (ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{path}: not an annotation file of COCO ({error}); fetch it again") from error
    if not own.keys() & sizes.keys():
        raise SourceError(
            f"{path}: none of the {len(own)} images of NSD that should be in it; is it of another release?"
        )
    by_image: dict[int, list[Any]] = defaultdict(list)
    for annotation in annotations:
        if annotation["image_id"] in own:
            by_image[annotation["image_id"]].append(annotation)
    for entry in content.get("categories", ()):
        found.categories[entry["id"]] = (entry["name"], entry.get("supercategory", ""))
    for coco_id, some in by_image.items():
        if "caption" in some[0]:
            found.captions[own[coco_id].nsd_id] += [annotation["caption"].strip() for annotation in some]
        else:
            _add_masks(own[coco_id], sizes[coco_id], some, found)


def _add_masks(image: CroppedImage, size: tuple[int, int], annotations: Sequence[Any], found: _Found) -> None:
    """Cut the masks of one image, count what is left, and add up what each category covers."""
    window = image.window(*size)
    covered: dict[int, NDArray[np.bool_]] = {}
    for annotation in annotations:
        mask = annotation_mask(annotation["segmentation"], *size)
        kept = mask[window]
        if not kept.any() or kept.sum() < LEAST_VISIBLE * mask.sum():
            continue
        category = annotation["category_id"]
        covered[category] = kept | covered.get(category, False)
        found.counts[image.nsd_id, category] += 1
        found.instances.append((image.nsd_id, category, _box(kept), float(kept.mean())))
    for category, mask in covered.items():
        found.areas[image.nsd_id, category] = float(mask.mean())


def _box(mask: NDArray[np.bool_]) -> tuple[float, ...]:
    """Left, top, width, height of what is left of an annotation, as shares of the image."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    height, width = mask.shape
    edges = (columns[0] / width, rows[0] / height, np.ptp(columns) + 1, np.ptp(rows) + 1)
    return edges[0], edges[1], float(edges[2]) / width, float(edges[3]) / height


def annotation_mask(segmentation: Any, height: int, width: int) -> NDArray[np.bool_]:
    """The pixels (height, width) of polygons, or of a run-length code.

    Parameters
    ----------
    segmentation : list or dict
        Polygons ``[[x0, y0, x1, y1, ...], ...]`` in pixels, or ``{"counts": ..., "size": [height, width]}``.
    height, width : int
        Of the photograph.
    """
    if isinstance(segmentation, Mapping):
        return decode_rle(segmentation["counts"], height, width)
    picture = Image.new("1", (width, height))
    pen = ImageDraw.Draw(picture)
    for polygon in segmentation:
        # a pixel is inside if its centre is
        pen.polygon([coordinate - 0.5 for coordinate in polygon], fill=1)
    return np.asarray(picture, bool)


def decode_rle(counts: str | bytes | Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    """Decode COCO's run-length code: runs of 0 and 1 in turn, down the columns.

    Raises
    ------
    SourceError
        The runs do not add up to the image.
    """
    runs = list(_runs(counts)) if isinstance(counts, str | bytes) else list(counts)
    if sum(runs) != height * width:
        raise SourceError(
            f"run-length code of {sum(runs)} pixels for an image of {width} x {height}; fetch the file again"
        )
    values = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return values.reshape(width, height).T


def _runs(text: str | bytes) -> Iterator[int]:
    """Lengths of the runs of a compressed code: 5 bits per character from 48 on, later runs as differences."""
    data = text.encode() if isinstance(text, str) else text
    runs: list[int] = []
    value = shift = 0
    for byte in data:
        chunk = byte - 48
        value |= (chunk & 0x1F) << shift
        shift += 5
        if chunk & 0x20:
            continue
        if chunk & 0x10:
            value |= -1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    yield from runs


def _table(images: Sequence[CroppedImage], found: _Found) -> xr.Dataset:
    ids = sorted(found.categories)
    row = {image.nsd_id: number for number, image in enumerate(images)}
    column = {category: number for number, category in enumerate(ids)}
    counts = np.zeros((len(images), len(ids)), np.uint16)
    areas = np.zeros((len(images), len(ids)), np.float32)
    for (nsd_id, category), count in found.counts.items():
        counts[row[nsd_id], column[category]] = count
        areas[row[nsd_id], column[category]] = found.areas[nsd_id, category]
    captions = np.full((len(images), CAPTIONS), "", object)
    for nsd_id, texts in found.captions.items():
        captions[row[nsd_id], : len(texts[:CAPTIONS])] = texts[:CAPTIONS]
    names = np.array([found.categories[category][0] for category in ids], object)
    of_instances = {
        "instance_nsd_id": ("instance", np.array([one[0] for one in found.instances], np.int64)),
        "instance_category": ("instance", np.array([found.categories[one[1]][0] for one in found.instances], object)),
        "box": (("instance", "edge"), np.array([one[2] for one in found.instances], np.float32).reshape(-1, 4)),
        "instance_area": ("instance", np.array([one[3] for one in found.instances], np.float32)),
    }
    return xr.Dataset(
        {
            "instances": (("image", "category"), counts, {"long_name": "number of instances"}),
            "area": (("image", "category"), areas, {"long_name": "share of the image covered", "units": "1"}),
            "captions": (("image", "caption"), captions),
            **of_instances,
        },
        coords={
            "nsd_id": ("image", np.array([image.nsd_id for image in images], np.int64)),
            "category": names,
            "supercategory": ("category", np.array([found.categories[category][1] for category in ids], object)),
            "category_id": ("category", np.array(ids, np.int64)),
        },
        attrs={"licence": LICENCE, "least_visible": LEAST_VISIBLE},
    )
