"""Identity of the store that a run used: a run continues only on the store that it began with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from nsdflow.errors import StoreError
from nsdflow.io.paths import public
from nsdflow.io.read import read_json
from nsdflow.store import open_store

__all__ = ["is_same_store", "store_identity"]


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
        source files, sessions, voxels, layout and what each task of the ingestion found.
    """
    attributes = dict(open_store(store).attrs)
    try:
        manifest = read_json(f"{store.rstrip('/')}/manifest.json", "ingest again")
    except FileNotFoundError:
        manifest = {}
    except StoreError as error:
        raise StoreError(f"{store}: its manifest cannot be read ({error})") from error
    content = {key: value for key, value in manifest.items() if key != "nsdflow"}
    return {"url": public(store), "identity": _hash(attributes), "content": _hash([attributes, content])}


def is_same_store(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether two identities are of stores with the same content; runs of version 0.1.0 recorded attributes only."""
    key = "content" if "content" in before else "identity"
    return before.get(key) == now.get(key)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
