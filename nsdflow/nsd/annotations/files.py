"""Reading COCO's annotation files element by element, reduced to the part of each annotation within the crop."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from nsdflow.errors import MissingDataError, SourceError
from nsdflow.io.json_stream import iterate_json
from nsdflow.nsd.annotations.masks import annotation_mask, encode_rle

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nsdflow.nsd.annotations.crops import CroppedImage
    from nsdflow.nsd.source import Source

__all__ = ["ANNOTATION_KINDS", "CAPTIONS_PER_IMAGE", "LEAST_VISIBLE", "AnnotationFile", "Found", "annotation_files"]

#: COCO's files: ``instances_train2017.json``, ...; keypoints belong to instances, which are read before them.
ANNOTATION_KINDS: Final = ("instances", "stuff", "captions", "person_keypoints")
#: Smallest share of an annotation within the crop; annotations with less are dropped.
LEAST_VISIBLE: Final = 0.1
#: Captions kept per image; a few photographs have more than five.
CAPTIONS_PER_IMAGE: Final = 5


def annotation_files(folder: Source, splits: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Names of the annotation files of each split in a folder.

    Raises
    ------
    MissingDataError
        The folder has no file of a split.
    """
    names = folder.sizes()
    found = {}
    for split in sorted(set(splits)):
        found[split] = tuple(name for kind in ANNOTATION_KINDS if (name := f"{kind}_{split}.json") in names)
        if not found[split]:
            expected = ", ".join(f"{kind}_{split}.json" for kind in ANNOTATION_KINDS)
            raise MissingDataError(
                f"{folder.join('')}: none of {expected}; get them from cocodataset.org, or name their folder"
            )
    return found


@dataclass
class Found:
    """Contents of the files as columns of numbers, since NSD's images show close to a million instances."""

    categories: dict[int, tuple[str, str]] = field(default_factory=dict)
    captions: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    nsd_id: array[int] = field(default_factory=lambda: array("q"))
    category: array[int] = field(default_factory=lambda: array("q"))
    crowd: array[int] = field(default_factory=lambda: array("b"))
    numbers: array[float] = field(default_factory=lambda: array("d"))
    """Box, area and share kept, six per instance."""
    sizes: array[int] = field(default_factory=lambda: array("q"))
    codes: bytearray = field(default_factory=bytearray)
    ends: array[int] = field(default_factory=lambda: array("q"))
    instance_of: dict[int, int] = field(default_factory=dict)
    """Instance by COCO's number of the annotation."""
    keypoint_names: list[str] = field(default_factory=list)
    people: list[int] = field(default_factory=list)
    keypoints: array[float] = field(default_factory=lambda: array("d"))


@dataclass
class AnnotationFile:
    """One annotation file while it is read."""

    folder: Source
    name: str
    own: Mapping[int, CroppedImage]
    found: Found
    sizes: dict[int, tuple[int, int]] = field(default_factory=dict)
    others: int = 0

    def read(self) -> None:
        """Add the contents of the file to those found before.

        Raises
        ------
        SourceError
            It is not an annotation file of COCO, or describes other images.
        """
        where, late, add = self.folder.join(self.name), False, self._reader()
        try:
            for key, entry in self._entries():
                if key == "images":
                    self._add_size(entry)
                elif key == "categories":
                    self._add_category(entry)
                elif key == "annotations" and not self.sizes:
                    late = True  # the images stand behind their annotations, or are others
                elif key == "annotations":
                    self._add(entry, add)
            if not self.sizes:
                self._refuse(where)
            if late:
                for key, entry in self._entries():
                    if key == "annotations":
                        self._add(entry, add)
        except (SourceError, MissingDataError):
            raise
        except (ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
            raise SourceError(f"{where}: not an annotation file of COCO ({error!r}); fetch it again") from None

    def _refuse(self, where: str) -> None:
        if not self.others:
            raise ValueError("no images in it")
        raise SourceError(
            f"{where}: none of the {len(self.own)} images of NSD that should be in it, but {self.others} others; "
            "fetch the files of COCO's release of 2017"
        )

    def _entries(self) -> Iterator[tuple[str, Any]]:
        with self.folder.open_stream(self.name) as file:
            yield from iterate_json(file)

    def _reader(self) -> Any:
        kind = self.name.rpartition("_")[0]
        return {"captions": self._add_caption, "person_keypoints": self._add_person}.get(kind, self._add_instance)

    def _add_size(self, entry: Any) -> None:
        if entry["id"] in self.own:
            self.sizes[entry["id"]] = (entry["height"], entry["width"])
        else:
            self.others += 1

    def _add_category(self, entry: Any) -> None:
        self.found.categories[entry["id"]] = (str(entry["name"]), str(entry.get("supercategory", "")))
        self.found.keypoint_names = self.found.keypoint_names or [str(name) for name in entry.get("keypoints", ())]

    def _add(self, entry: Any, add: Any) -> None:
        if entry["image_id"] in self.sizes:
            try:
                add(self.own[entry["image_id"]], self.sizes[entry["image_id"]], entry)
            except SourceError as error:
                raise SourceError(f"{self.folder.join(self.name)}: {error}") from None

    def _add_caption(self, image: CroppedImage, size: tuple[int, int], entry: Any) -> None:
        texts = self.found.captions[image.nsd_id]
        if len(texts) < CAPTIONS_PER_IMAGE:
            texts.append(" ".join(entry["caption"].split()))

    def _add_instance(self, image: CroppedImage, size: tuple[int, int], entry: Any) -> None:
        """Crop a mask, and keep it if enough of it is visible."""
        found, category = self.found, int(entry["category_id"])
        mask = annotation_mask(entry["segmentation"], *size)
        kept = mask[image.window(*size)]
        count = int(np.count_nonzero(kept))
        share = count / max(1, int(np.count_nonzero(mask)))
        if not count or share < LEAST_VISIBLE:
            return
        found.instance_of[int(entry.get("id", -1))] = len(found.nsd_id)
        found.nsd_id.append(image.nsd_id)
        found.category.append(category)
        found.crowd.append(bool(entry.get("iscrowd", 0)))
        found.numbers.extend((*_box(kept), count / kept.size, share))
        found.sizes.extend(kept.shape)
        found.codes += encode_rle(kept)
        found.ends.append(len(found.codes))

    def _add_person(self, image: CroppedImage, size: tuple[int, int], entry: Any) -> None:
        """Move the keypoints of a person that was kept."""
        place = self.found.instance_of.get(int(entry["id"]))
        if place is None or not entry.get("num_keypoints", 1):
            return
        rows, columns = image.window(*size)
        points = np.asarray(entry["keypoints"], np.float64).reshape(-1, 3)
        x = (points[:, 0] - columns.start) / (columns.stop - columns.start)
        y = (points[:, 1] - rows.start) / (rows.stop - rows.start)
        there = (points[:, 2] > 0) & (x >= 0) & (x < 1) & (y >= 0) & (y < 1)
        if there.any():
            values = np.stack([x, y, points[:, 2]], axis=1)
            self.found.people.append(place)
            self.found.keypoints.extend(np.where(there[:, None], values, (np.nan, np.nan, 0)).ravel())


def _box(mask: NDArray[np.bool_]) -> tuple[float, ...]:
    """Left, top, width, height of the visible part of an annotation, as shares of the image."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    height, width = mask.shape
    wide, high = columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1
    return columns[0] / width, rows[0] / height, wide / width, high / height
