"""Arrays as text inside a page: base64 of little-endian bytes, in as few bits as the display needs."""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["pack", "pack_rows", "thumbnail"]

#: Typed arrays of JavaScript, by numpy's name of the type.
_TYPES: Final = {
    "uint8": "Uint8Array", "int8": "Int8Array", "int16": "Int16Array", "uint16": "Uint16Array", "int32": "Int32Array",
    "float32": "Float32Array",
}  # fmt: skip


#: Pixels per side of a thumbnail.
THUMBNAIL_PX: Final = 72


def pack(values: NDArray[Any]) -> dict[str, str]:
    """An array as ``{"type": "Float32Array", "data": base64}``; rows after rows."""
    little = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"))
    return {"type": _TYPES[values.dtype.name], "data": b64encode(little.tobytes()).decode()}


def pack_rows(values: NDArray[np.floating[Any]]) -> dict[str, Any]:
    """Rows (voxel, n) as int8 in units of the largest magnitude of each row, which is stored as float32."""
    finite = np.nan_to_num(values)
    largest = np.abs(finite).max(axis=1, initial=0).astype(np.float32)
    scaled = 127 * finite / np.where(largest > 0, largest, 1)[:, None]
    return {"values": pack(np.round(scaled).astype(np.int8)), "largest": pack(largest)}


def thumbnail(image: NDArray[np.uint8]) -> str:
    """An image (3, y, x) as a small JPEG, base64."""
    from PIL import Image

    picture = Image.fromarray(np.moveaxis(image, 0, -1)).resize((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    picture.save(buffer, format="JPEG", quality=80)
    return b64encode(buffer.getvalue()).decode()
