"""Annotations of the images: their categories, captions and boxes, as a group of a store.

Zarr has no standard form for texts. Names of categories are therefore attributes of the group, and captions are one
array of UTF-8 bytes with the position at which each caption ends; :func:`read_annotations` puts the texts back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nsdflow.errors import SelectionError, StoreError
from nsdflow.io.folders import exists, list_folder
from nsdflow.io.reach import writing
from nsdflow.io.read import read_metadata
from nsdflow.io.seal import sealed
from nsdflow.io.write import atomic_file
from nsdflow.store.build import create_annotations
from nsdflow.store.coordinates import read_coordinates
from nsdflow.store.query.indexes import index_images
from nsdflow.store.query.regions import no_such
from nsdflow.store.schema import ANNOTATIONS_GROUP

__all__ = ["enlist_annotations", "images_showing", "read_annotations", "write_annotations"]

#: Variables that hold texts, by their stored form: attributes of the group, positions of categories, bytes.
CATEGORY_VARIABLES: Final = {"category": "category", "supercategory": "category", "keypoint": "keypoint"}
POSITION: Final = "instance_category"
CAPTIONS: Final = "captions"
#: Run-length codes of the masks, the one array that is read on request.
MASKS: Final = "mask_code"
#: Variables that every group of annotations has.
REQUIRED: Final = {"nsd_id": ("image",), "category": ("category",), "instances": ("image", "category"),
                   "area": ("image", "category")}  # fmt: skip


def write_annotations(root: str, annotations: xr.Dataset, attributes: Mapping[str, Any]) -> None:
    """Create the group ``annotations`` of a store that is being built.

    Parameters
    ----------
    annotations : Dataset
        ``nsd_id`` (image), ``category`` (category) names, ``instances`` (image, category) numbers of instances and
        ``area`` (image, category) shares of the image that they cover, 0 to 1. Optional: ``supercategory``
        (category) names, ``captions`` (image, caption) texts, empty where an image has fewer; a table of instances
        with ``instance_nsd_id``, ``instance_category`` (a name), ``box`` (instance, edge) left, top, width, height
        as shares of the image; their masks as run-length codes, ``mask_code`` (byte) with ``mask_end`` and
        ``mask_size`` (instance, side); any further numbers.
    attributes : mapping
        Source and licence, as JSON values.

    Raises
    ------
    StoreError
        A required variable is missing or has other dimensions.
    """
    for name, dims in REQUIRED.items():
        if name not in annotations.variables or annotations[name].dims != dims:
            raise StoreError(f"annotations: {name} ({', '.join(dims)}) is required")
    stored: dict[Any, Any] = {}
    known = dict(attributes)
    for key, variable in annotations.variables.items():
        name = str(key)
        if name in CATEGORY_VARIABLES:
            known[f"{name}_names"] = [str(text) for text in variable.values]
        elif name == POSITION:
            position = {text: number for number, text in enumerate(annotations["category"].values.tolist())}
            numbers = np.array([position[text] for text in variable.values.tolist()], np.int16)
            stored[name] = (variable.dims, numbers, variable.attrs)
        elif name == CAPTIONS:
            texts = [str(text).encode() for text in variable.values.ravel()]
            ends = np.cumsum([len(text) for text in texts], dtype=np.int64).reshape(variable.shape)
            stored["caption_end"] = (variable.dims, ends, {"long_name": "end of the caption among the bytes"})
            stored["caption_text"] = (
                "character",
                np.frombuffer(b"".join(texts), np.uint8),
                {"long_name": "UTF-8 bytes"},
            )
        elif name != MASKS:
            stored[name] = (variable.dims, variable.values, variable.attrs)
    masks = annotations[MASKS].values if MASKS in annotations else np.empty(0, np.uint8)
    create_annotations(root, xr.Dataset(coords=stored), masks, known)


def read_annotations(url: str) -> xr.Dataset:
    """Annotations of a store, as for :func:`write_annotations`, with indexes of ``nsd_id`` and ``category``."""
    stored = read_coordinates(url, ANNOTATIONS_GROUP)
    table = stored.reset_coords()
    names = {name: table.attrs.pop(f"{name}_names") for name in CATEGORY_VARIABLES if f"{name}_names" in table.attrs}
    if POSITION in table:
        table[POSITION] = ("instance", np.asarray(names["category"])[table[POSITION].values], table[POSITION].attrs)
    if "caption_end" in table:
        texts = _captions(table["caption_text"].values, table["caption_end"].values)
        table = table.drop_vars(["caption_text", "caption_end"]).assign({CAPTIONS: (("image", "caption"), texts)})
    identifying = [name for name in ("nsd_id", "category_id") if name in table]
    table = table.assign_coords({name: (CATEGORY_VARIABLES[name], texts) for name, texts in names.items()}).set_coords(
        identifying
    )
    return index_images(table)


def enlist_annotations(store: str) -> None:
    """Add the group to the metadata of the root of a finished store.

    The root is replaced in one step. If it already names the group, nothing happens.
    """
    url = f"{store}/{ANNOTATIONS_GROUP}"
    root, group = (read_metadata(f"{folder}/zarr.json") for folder in (store, url))
    nodes = root["consolidated_metadata"]["metadata"]
    arrays = [name for name in list_folder(url) if exists(f"{url}/{name}/zarr.json")]
    found = {f"{ANNOTATIONS_GROUP}/{name}": read_metadata(f"{url}/{name}/zarr.json") for name in arrays}
    inline = {"consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": {}}}
    listed = {**nodes, ANNOTATIONS_GROUP: {**group, **inline}, **found}
    if listed != nodes:
        whole = {**root, "consolidated_metadata": {**root["consolidated_metadata"], "metadata": listed}}
        with writing(store), atomic_file(f"{store}/zarr.json") as file:
            file.write((json.dumps(sealed(whole), indent=1) + "\n").encode())


def _captions(data: NDArray[np.uint8], ends: NDArray[np.int64]) -> NDArray[np.object_]:
    raw, starts = data.tobytes(), np.concatenate([[0], ends.ravel()[:-1]])
    texts = [raw[start:end].decode() for start, end in zip(starts.tolist(), ends.ravel().tolist(), strict=True)]
    return np.array(texts, object).reshape(ends.shape)


def images_showing(annotations: xr.Dataset, category: Any) -> NDArray[np.int64]:
    """``nsd_id`` of the images that show any of some categories.

    Parameters
    ----------
    annotations : Dataset
        Result of :func:`read_annotations`.
    category : str, iterable of str, or mapping of str to float
        Categories or supercategories; with a mapping, each must cover at least this share of the image.

    Raises
    ------
    SelectionError
        An unknown category, or a share that is not between 0 and 1.
    """
    asked = {category: None} if isinstance(category, str) else category
    wanted = dict(asked) if isinstance(asked, Mapping) else dict.fromkeys(asked)
    names = annotations["category"].values
    groups = annotations["supercategory"].values if "supercategory" in annotations.coords else np.full(len(names), "")
    shown = np.zeros(annotations.sizes["image"], bool)
    for name, least in wanted.items():
        columns = np.flatnonzero((names == name) | (groups == name))
        if not len(columns):
            raise no_such("category", name, [*names, *np.unique(groups)], "store.annotations().category lists them")
        if least is None:
            shown |= (annotations["instances"].values[:, columns] > 0).any(axis=1)
        elif not isinstance(least, bool) and isinstance(least, int | float | np.number) and 0 <= least <= 1:
            shown |= annotations["area"].values[:, columns].sum(axis=1) >= least
        else:
            raise SelectionError(
                f"category {name!r}: {least!r} is not a share of the image; write a number from 0 to 1"
            )
    ids: NDArray[np.int64] = annotations["nsd_id"].values[shown]
    return ids
