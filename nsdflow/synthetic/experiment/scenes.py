"""Content of a synthetic image: the leaf of each pixel, and the category of every leaf."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from nsdflow.synthetic.experiment.images import LeafPile

__all__ = ["CATEGORIES", "Category", "Scene", "category_areas"]

#: Leaves of a smaller share of the image are gravel.
_SMALLEST_THING: Final = 0.008
#: A leaf with more texture than this (0 to 255) is bark.
_ROUGH: Final = 64
#: Grey levels between dark and grey, grey and bright.
_TONES: Final = (85, 170)


@dataclass(frozen=True)
class Category:
    """A category of the annotations; their numbers have gaps, as COCO's have."""

    id: int
    name: str
    supercategory: str
    stuff: bool = False


#: Things by texture, then tone; then stuff.
CATEGORIES: Final = (
    Category(1, "dark leaf", "leaf"),
    Category(2, "grey leaf", "leaf"),
    Category(4, "bright leaf", "leaf"),
    Category(7, "dark bark", "bark"),
    Category(8, "grey bark", "bark"),
    Category(11, "bright bark", "bark"),
    Category(92, "gravel", "ground", stuff=True),
    Category(95, "soil", "ground", stuff=True),
)
_GRAVEL, _SOIL = 6, 7


@dataclass(frozen=True)
class Scene:
    """Known content of one image."""

    pile: LeafPile
    labels: npt.NDArray[np.int64]
    """(y, x) the leaf that each pixel shows, from 1; 0 is the ground."""

    @classmethod
    def of(cls, seed: int, image: int, size: int) -> Scene:
        """The scene of an image that `draw_image` draws."""
        pile = LeafPile.of(seed, image)
        return cls(pile, pile.labels(size))

    @cached_property
    def visible(self) -> npt.NDArray[np.float64]:
        """Share of the image that shows the ground, and each leaf."""
        return np.asarray(np.bincount(self.labels.ravel(), minlength=len(self.pile.fills)) / self.labels.size)

    @cached_property
    def category(self) -> npt.NDArray[np.int64]:
        """Place among `CATEGORIES` of the ground, and of each leaf."""
        fills = self.pile.fills
        thing = np.digitize(fills[:, :3].mean(axis=1), _TONES) + 3 * (fills[:, 3] > _ROUGH)
        category = np.where(self.visible < _SMALLEST_THING, _GRAVEL, thing)
        category[0] = _SOIL
        return category

    @property
    def areas(self) -> npt.NDArray[np.float64]:
        """Share of the image that each category covers; they add up to 1."""
        return np.bincount(self.category, weights=self.visible, minlength=len(CATEGORIES)).astype(np.float64)

    def things(self) -> list[int]:
        """Leaves that are annotated, each by itself."""
        return np.flatnonzero((self.category < _GRAVEL) & (self.visible > 0)).tolist()


def category_areas(seed: int, images: Iterable[int], size: int) -> npt.NDArray[np.float32]:
    """Share of each image that each category covers, (n, category)."""
    return np.stack([Scene.of(seed, image, size).areas for image in images]).astype(np.float32)
