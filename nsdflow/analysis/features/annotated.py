"""Annotations of the images as feature spaces: one row per image, one column per category, supercategory or word."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nsdflow.errors import SelectionError, one_of

__all__ = ["ANNOTATION_SPACES", "AnnotationSpace", "annotation_features"]

#: Images in whose captions a word must occur to be a feature.
WORD_IMAGES: Final = 20
_WORD: Final = re.compile(r"[a-z]+")

_Columns = tuple["NDArray[np.float32]", "NDArray[np.str_]"]


@dataclass(frozen=True)
class AnnotationSpace:
    """A feature space made of annotations."""

    name: str
    long_name: str
    needs: str
    """Variable or coordinate of the annotations from which it is made."""
    make: Callable[[xr.Dataset], _Columns]
    """Function from the annotations to values (image, feature) and names (feature,)."""


def _named(values: NDArray[Any], names: Any) -> _Columns:
    return np.asarray(values, np.float32), np.asarray(names, str)


def _by_supercategory(annotations: xr.Dataset) -> _Columns:
    names, of_category = np.unique(annotations["supercategory"].values.astype(str), return_inverse=True)
    shown = annotations["instances"].values > 0
    return _named(np.stack([shown[:, of_category == n].any(1) for n in range(len(names))], axis=1), names)


def _words(annotations: xr.Dataset) -> _Columns:
    texts = annotations["captions"].values
    said = [[set(_WORD.findall(str(text).lower())) for text in row if str(text)] for row in texts]
    images = Counter(word for row in said for word in set().union(*row))
    words = sorted(word for word, count in images.items() if count >= min(WORD_IMAGES, len(texts)))
    column = {word: number for number, word in enumerate(words)}
    shares = np.zeros((len(said), len(words)), np.float32)
    for image, row in enumerate(said):
        for word in (word for caption in row for word in caption if word in column):
            shares[image, column[word]] += 1 / len(row)
    return _named(shares, words)


def _per_category(values: Callable[[xr.Dataset], Any]) -> Callable[[xr.Dataset], _Columns]:
    return lambda annotations: _named(values(annotations), annotations["category"].values)


#: Feature spaces by name. A new one is one record.
ANNOTATION_SPACES: Final[Mapping[str, AnnotationSpace]] = {
    space.name: space
    for space in (
        AnnotationSpace(
            "categories", "1 if the image shows the category", "instances",
            _per_category(lambda table: table["instances"].values > 0),
        ),
        AnnotationSpace(
            "instances", "log(1 + number of instances of the category)", "instances",
            _per_category(lambda table: np.log1p(table["instances"].values)),
        ),
        AnnotationSpace(
            "area", "share of the image that the category covers", "area",
            _per_category(lambda table: table["area"].values),
        ),
        AnnotationSpace("supercategories", "1 if one of its categories is seen", "supercategory", _by_supercategory),
        AnnotationSpace("captions", "share of the image's captions that use the word", "captions", _words),
    )
}  # fmt: skip


def annotation_features(annotations: xr.Dataset, space: str = "categories") -> xr.DataArray:
    """Annotations of the images as a feature space.

    Parameters
    ----------
    annotations : Dataset
        As :meth:`nsdflow.store.Store.annotations` returns it.
    space : str
        Key of :data:`ANNOTATION_SPACES`: ``categories`` (1 if the image shows the category), ``instances``
        (log(1 + number of instances)), ``area`` (share of the image), ``supercategories``, or ``captions`` (share of
        the image's captions that use a word; words in captions of at least 20 images are features).

    Returns
    -------
    DataArray
        (image, feature) float32 with the coordinates ``nsd_id`` (image) and ``label`` (feature). Columns are in the
        order of the categories of the annotations, or alphabetical. An image without annotations has zeros.

    Raises
    ------
    SelectionError
        There is no such space, or the annotations lack its variable.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from nsdflow.analysis import annotation_features
    >>> table = xr.Dataset(
    ...     {"instances": (("image", "category"), np.array([[0, 2], [1, 0]]))},
    ...     coords={"nsd_id": ("image", [3, 8]), "category": ["cat", "dog"]},
    ... )
    >>> annotation_features(table, "categories").values
    array([[0., 1.],
           [1., 0.]], dtype=float32)
    """
    if space not in ANNOTATION_SPACES:
        raise one_of("feature space of the annotations", space, ANNOTATION_SPACES)
    record = ANNOTATION_SPACES[space]
    if record.needs not in annotations.variables:
        raise SelectionError(
            f"the annotations have no {record.needs}, of which {space} is made; ingest again with the files that do"
        )
    values, names = record.make(annotations)
    return xr.DataArray(
        values,
        dims=("image", "feature"),
        coords={"nsd_id": ("image", annotations["nsd_id"].values.astype(np.int64)), "label": ("feature", names)},
        name=space,
        attrs={"long_name": record.long_name, "units": "1"},
    )
