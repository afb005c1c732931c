"""Annotations of the synthetic images in COCO's files: exact, for photographs from which the images were cut.

A photograph is an image with margins that mirror it. The wider margin holds a leaf that the crop cuts away. Objects are
polygons in several parts. A group of small objects is a crowd, as a plain run-length code; stuff is a compressed one.
One photograph of each file is not an image of NSD.
"""

from __future__ import annotations

import json
from ast import literal_eval
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

import numpy as np
import numpy.typing as npt

from nsdflow.synthetic.experiment.scenes import CATEGORIES, Scene

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FOLDER", "Annotator", "annotating"]

#: Where the files are in the folder of a synthetic NSD; they are no part of NSD's layout.
FOLDER: Final = "coco/annotations"
_SPLITS: Final = ("train2017", "val2017")
_KINDS: Final = ("instances", "captions", "stuff", "person_keypoints")
#: Leaves of a category below this share of the image are a crowd, if there are at least this many.
_CROWD_SHARE: Final = 0.015
_CROWD_LEAVES: Final = 3
#: Position of the category with keypoints, and the corners of an outline at which a leaf has its tip and its base.
_WITH_KEYPOINTS: Final = 2
_TIP, _BASE = 0, 7
#: A photograph that is not an image of NSD, and its annotations.
_OTHER: Final = {"id": 900_000, "width": 640, "height": 480}
_ITS_ANNOTATION: Final = {
    "id": 0, "image_id": 900_000, "category_id": CATEGORIES[0].id, "caption": "another photograph", "iscrowd": 0,
    "segmentation": [[0, 0, 9, 0, 9, 9]], "bbox": [0, 0, 9, 9], "area": 40, "keypoints": [0] * 9, "num_keypoints": 0,
}  # fmt: skip

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Photograph:
    """One photograph: pixels that the crop cuts away at its top, bottom, left and right."""

    coco_id: int
    split: str
    image_size: int
    margins: tuple[int, int, int, int]

    @classmethod
    def of(cls, coco_id: int, split: str, image_size: int, crop: tuple[float, ...]) -> _Photograph:
        """The smallest photograph whose crop is an image of this size."""
        margins = [0, 0, 0, 0]
        for before in (0, 2):
            first, second = crop[before : before + 2]
            margins[before : before + 2] = next(
                cut
                for long in count(image_size)
                if long - sum(cut := [round(long * first), round(long * second)]) == image_size
            )
        return cls(coco_id, split, image_size, (margins[0], margins[1], margins[2], margins[3]))

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        top, bottom, left, right = self.margins
        return self.image_size + top + bottom, self.image_size + left + right

    def entry(self) -> dict[str, Any]:
        """The photograph among the images of a file."""
        height, width = self.shape
        return {"id": self.coco_id, "width": width, "height": height, "file_name": f"{self.coco_id:012d}.jpg"}


@contextmanager
def annotating(root: Path, table: pd.DataFrame, size: int) -> Iterator[Annotator]:
    """Open the files for the images of a table as ``nsd_stim_info_merged`` has it, to be filled image by image."""
    folder = root / FOLDER
    folder.mkdir(parents=True)
    rows = zip(table["cocoId"].tolist(), table["cocoSplit"].tolist(), table["cropBox"], strict=True)
    photographs = [_Photograph.of(coco, split, size, literal_eval(crop)) for coco, split, crop in rows]
    with ExitStack() as stack:
        files: dict[tuple[str, str], TextIO] = {}
        for split in _SPLITS:
            images = [*(one.entry() for one in photographs if one.split == split), _OTHER]
            for kind in _KINDS:
                file: TextIO = stack.enter_context((folder / f"{kind}_{split}.json").open("w", encoding="utf-8"))
                file.write(f'{{"info": {{"year": 2017}},\n"images": {json.dumps(images)},\n"annotations": [\n')
                files[kind, split] = file
        yield Annotator(photographs, files)
        for (kind, _), file in files.items():
            categories = json.dumps(_categories(kind))
            file.write(f'{json.dumps(_ITS_ANNOTATION)}\n],\n"categories": {categories}}}\n')


class Annotator:
    """Writes annotations of scenes; `annotating` makes one."""

    def __init__(self, photographs: list[_Photograph], files: Mapping[tuple[str, str], TextIO]) -> None:
        self._photographs, self._files = photographs, files
        self._numbers = count(1)

    def add(self, image: int, scene: Scene) -> None:
        """Describe one image."""
        photograph = self._photographs[image]
        top, bottom, left, right = photograph.margins
        labels = np.pad(scene.labels, ((top, bottom), (left, right)), mode="symmetric")
        self._add_things(photograph, scene, labels)
        for place, category in enumerate(CATEGORIES):
            if category.stuff and scene.areas[place]:
                mask = np.isin(labels, np.flatnonzero(scene.category == place))
                height, width = mask.shape
                code = {"size": [height, width], "counts": _compressed(_runs(mask))}
                self._write("stuff", photograph, place, mask, code)
        for text in _captions(scene, image):
            self._put("captions", photograph, {"caption": text})

    def _add_things(self, photograph: _Photograph, scene: Scene, labels: npt.NDArray[np.int64]) -> None:
        things = scene.things()
        small = Counter(int(scene.category[leaf]) for leaf in things if scene.visible[leaf] < _CROWD_SHARE)
        for leaf in things:
            place = int(scene.category[leaf])
            if scene.visible[leaf] >= _CROWD_SHARE or small[place] < _CROWD_LEAVES:
                mask = labels == leaf
                entry = self._write("instances", photograph, place, mask, _polygons(mask))
                if place == _WITH_KEYPOINTS:
                    points = _keypoints(scene, leaf, labels, photograph)
                    marked = sum(visible > 0 for visible in points[2::3])
                    extra = {**entry, "keypoints": points, "num_keypoints": marked}
                    self._put("person_keypoints", photograph, extra)
        for place, number in sorted(small.items()):
            if number >= _CROWD_LEAVES:
                crowd = [
                    leaf for leaf in things if scene.category[leaf] == place and scene.visible[leaf] < _CROWD_SHARE
                ]
                mask = np.isin(labels, crowd)
                code = {"size": [*mask.shape], "counts": _runs(mask)}
                self._write("instances", photograph, place, mask, code, crowd=1)
        outside = np.zeros(labels.shape, bool)
        outside[: photograph.margins[0]] = True
        outside[:, : photograph.margins[2]] = True
        if outside.any():
            self._write("instances", photograph, 0, outside, _polygons(outside))

    def _write(
        self, kind: str, photograph: _Photograph, place: int, mask: Mask, segmentation: Any, *, crowd: int = 0
    ) -> dict[str, Any]:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = [int(columns[0]), int(rows[0]), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1]
        entry = {"category_id": CATEGORIES[place].id, "area": int(mask.sum()), "bbox": box, "iscrowd": crowd}
        return self._put(kind, photograph, {**entry, "segmentation": segmentation})

    def _put(self, kind: str, photograph: _Photograph, entry: dict[str, Any]) -> dict[str, Any]:
        whole = {"id": next(self._numbers), "image_id": photograph.coco_id, **entry}
        text = json.dumps(whole, ensure_ascii=False, separators=(",", ":"))
        self._files[kind, photograph.split].write(f"{text},\n")
        return whole


def _categories(kind: str) -> list[dict[str, Any]]:
    if kind == "captions":
        return []
    chosen = [CATEGORIES[_WITH_KEYPOINTS]] if kind == "person_keypoints" else CATEGORIES
    extra = {"keypoints": ["centre", "tip", "base"], "skeleton": [[1, 2], [1, 3]]} if kind == "person_keypoints" else {}
    return [
        {"id": one.id, "name": one.name, "supercategory": one.supercategory, **extra}
        for one in chosen
        if kind == "person_keypoints" or one.stuff == (kind == "stuff")
    ]


def _captions(scene: Scene, image: int) -> list[str]:
    """Five sentences, or sometimes six."""
    counts = Counter(CATEGORIES[scene.category[leaf]].name for leaf in scene.things())
    listing = ", ".join(f"{number} × {name}" for name, number in sorted(counts.items())) or "no leaf"
    most = CATEGORIES[int(np.argmax(scene.areas))].name
    texts = [
        f"A pile seen from above: {listing}.",
        f"Mostly {most} – and {len(counts)} kinds of leaves and bark.",
        f"{sum(counts.values())} things lie on gravel.",
        f"«{most}» covers {100 * scene.areas.max():.0f}% of the picture.",
        f"A close-up of {most}.",
    ]
    return texts if image % 7 else [*texts, "A sixth sentence,\nwhich few pictures have."]


def _keypoints(scene: Scene, leaf: int, labels: npt.NDArray[np.int64], photograph: _Photograph) -> list[int]:
    """Centre, tip and base of a leaf: x, y and 2 where the pixel shows it, 1 where another leaf hides it, or zeros."""
    outline = scene.pile.outlines[leaf - 1] * photograph.image_size
    top, _, left, _ = photograph.margins
    points = []
    for x, y in np.floor([outline.mean(axis=0), outline[_TIP], outline[_BASE]]).astype(int).tolist():
        x, y = x + left, y + top
        inside = 0 <= y < labels.shape[0] and 0 <= x < labels.shape[1]
        points += [x, y, 2 if labels[y, x] == leaf else 1] if inside else [0, 0, 0]
    return points


def _polygons(mask: Mask) -> list[list[int]]:
    """Polygons along the edges of pixels whose union is a mask: the n-th runs of neighbouring columns make one."""
    steps = np.diff(np.pad(mask.T.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    column, top = np.nonzero(steps == 1)
    bottom = np.nonzero(steps == -1)[1]
    rank = np.arange(len(column)) - np.searchsorted(column, column)
    polygons = []
    for number in range(int(rank.max()) + 1):
        own = np.flatnonzero(rank == number)
        for part in np.split(own, np.flatnonzero(np.diff(column[own]) > 1) + 1):
            x = np.repeat(column[part], 2) + np.tile([0, 1], len(part))
            corners = np.concatenate([np.stack([x, np.repeat(top[part], 2)], axis=1),
                                      np.stack([x, np.repeat(bottom[part], 2)], axis=1)[::-1]])  # fmt: skip
            before, after = np.roll(corners, 1, axis=0), np.roll(corners, -1, axis=0)
            turns = ~((before == corners) & (after == corners)).any(axis=1)
            polygons.append(corners[turns].ravel().tolist())
    return polygons


def _runs(mask: Mask) -> list[int]:
    """Lengths of the runs of 0 and 1 in turn, down the columns."""
    flat = np.concatenate([[False], mask.T.ravel()])
    runs = np.diff(np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1], [True]]))).tolist()
    return [runs[0] - 1, *runs[1:]]


def _compressed(runs: list[int]) -> str:
    """COCO's text of runs: from the fourth on their difference to the one two before, 5 bits per character."""
    text = []
    for number, run in enumerate(runs):
        rest = run - runs[number - 2] if number > 2 else run
        while True:
            low, rest = rest & 0x1F, rest >> 5
            last = rest == (-1 if low & 0x10 else 0)
            text.append(chr(48 + low + (0 if last else 0x20)))
            if last:
                break
    return "".join(text)
