"""A checksum in the root metadata of a store or of results, which describe every array below."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import google_crc32c

from nsdflow.errors import StoreError

__all__ = ["SEAL", "check_seal", "sealed"]

#: Attribute of the root that holds the CRC-32C of all other metadata in its file.
SEAL: Final = "nsdflow_crc32c"


def sealed(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata of a root with their checksum among the attributes.

    >>> check_seal(sealed({"attributes": {"subjects": ["subj01"]}}), "nsd.zarr", "ingest again")
    """
    content = _without_seal(metadata)
    return {**content, "attributes": {**content["attributes"], SEAL: _checksum(content)}}


def check_seal(metadata: Mapping[str, Any], where: str, advice: str) -> None:
    """Refuse metadata that do not match their checksum; earlier versions wrote none.

    Parameters
    ----------
    metadata : mapping
        As read from the root's ``zarr.json``.
    where : str
        This file, for the message.
    advice : str
        What to do; ends the message.

    Raises
    ------
    StoreError
        The metadata are damaged, or another program changed them.
    """
    attributes = metadata.get("attributes")
    if not isinstance(attributes, Mapping) or SEAL not in attributes:
        return
    if attributes[SEAL] != _checksum(_without_seal(metadata)):
        raise StoreError(f"{where}: damaged, or changed by another program (it does not match its checksum); {advice}")


def _without_seal(metadata: Mapping[str, Any]) -> dict[str, Any]:
    attributes = {name: value for name, value in (metadata.get("attributes") or {}).items() if name != SEAL}
    return {**metadata, "attributes": attributes}


def _checksum(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return f"{google_crc32c.value(text.encode()):08x}"
