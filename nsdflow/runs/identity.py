"""Identity of the store of a run: a run continues only on the store with which it began."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from nsdflow.errors import SelectionError, StoreError
from nsdflow.io.paths import public
from nsdflow.io.read import read_json
from nsdflow.names import select_subjects
from nsdflow.store import open_store

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["is_same_store", "same_voxels", "store_identity"]


def store_identity(store: str) -> dict[str, Any]:
    """Describe a store by its place and its content.

    Parameters
    ----------
    store : str
        Path or URL.

    Returns
    -------
    dict
        ``url``; ``identity``, a hash of the attributes; ``content``, a hash of the attributes and of the manifest:
        source files, sessions, voxels, layout and the findings of each task of the ingestion found; ``synthetic``, only
        if the responses are not measured.
    """
    attributes = dict(open_store(store).attrs)
    try:
        manifest = read_json(f"{store.rstrip('/')}/manifest.json", "ingest again")
    except FileNotFoundError:
        manifest = {}
    except StoreError as error:
        raise StoreError(f"{store}: its manifest cannot be read ({error})") from None
    content = {key: value for key, value in manifest.items() if key != "nsdflow"}
    marked = {"synthetic": True} if attributes.get("synthetic") else {}
    return {"url": public(store), "identity": _hash(attributes), "content": _hash([attributes, content]), **marked}


def is_same_store(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether two identities are of stores with the same content; runs of version 0.1.0 recorded attributes only."""
    key = "content" if "content" in before else "identity"
    return before.get(key) == now.get(key)


def same_voxels(store: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether two pipelines select the same voxels of a store, in the same order, of each subject of the second.

    Parameters
    ----------
    store : str
        Path or URL.
    before, now : mapping
        Settings of the pipelines; ``subjects``, ``rois`` and ``voxels`` count.
    """
    opened = open_store(store)

    def index_of(settings: Mapping[str, Any], subject: str) -> NDArray[np.int64]:
        chosen = opened.responses(subject, roi=settings.get("rois"), voxels=settings.get("voxels"))
        index: NDArray[np.int64] = chosen["flat_index"].values
        return index

    try:
        subjects = select_subjects(opened.subjects, now.get("subjects", "all"))
        return all(np.array_equal(index_of(before, name), index_of(now, name)) for name in subjects)
    except SelectionError:  # the store has no such voxels
        return False


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
