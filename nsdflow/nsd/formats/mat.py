"""Whole numbers from MATLAB's files (format 5).

Only arrays of numbers are read, and each length is checked: scipy's reader can end the process on a damaged file.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from nsdflow.errors import SourceError
from nsdflow.nsd.source import Source

__all__ = ["read_whole_numbers"]

#: Values of the largest variable of a design; NSD's largest has 80,000.
LARGEST_VARIABLE_VALUES: Final = 10_000_000
#: Numbers of a design are far below those that floats hold exactly.
LARGEST_NUMBER: Final = 2**53

_HEADER_BYTES: Final = 128
_BYTE_ORDERS: Final = {b"IM": "<", b"MI": ">"}
_VERSION: Final = 0x0100
#: Types of the values of an element, and the two that contain others.
_TYPES: Final = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
}  # fmt: skip
_MATRIX: Final = 14
_COMPRESSED: Final = 15
#: Classes of arrays of numbers, double to uint64, and the flag of complex ones.
_NUMBERS: Final = range(6, 16)
_COMPLEX: Final = 0x08


def read_whole_numbers(
    source: Source, path: str, wanted: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, NDArray[np.int64]]:
    """Variables of a MAT file that count something: int64 in their stored shapes, by name.

    Parameters
    ----------
    wanted : sequence of str
        Variables that the file must have.
    optional : sequence of str
        Variables that are read where the file has them.

    Raises
    ------
    MissingDataError
        No such file.
    SourceError
        Not readable, a variable is missing, or it does not hold whole numbers.
    """
    url = source.join(path)
    content = source.read(path)
    try:
        found = dict(_variables(content, url, {*wanted, *optional}))
    except SourceError:
        raise
    except (ValueError, struct.error, zlib.error) as error:
        raise SourceError(f"{url}: not a readable MAT file of format 5 ({error}); fetch it again") from None
    absent = [name for name in wanted if name not in found]
    if absent:
        raise SourceError(f"{url}: no variable {', '.join(absent)}; fetch it again")
    return {name: _whole_numbers(found, name, url) for name in (*wanted, *optional) if name in found}


def _variables(content: bytes, url: str, names: set[str]) -> Iterator[tuple[str, NDArray[Any] | None]]:
    """Variables with some names; None for one that is no array of real numbers."""
    order = _BYTE_ORDERS.get(content[_HEADER_BYTES - 2 : _HEADER_BYTES])
    if order is None or struct.unpack_from(f"{order}H", content, _HEADER_BYTES - 4)[0] != _VERSION:
        raise ValueError("its header is another")
    place = _HEADER_BYTES
    while place < len(content):
        kind, data, place = _element(content, place, order)
        if kind == _COMPRESSED:
            kind, data = _inflated(data, order)
        if kind == _MATRIX:
            name, values = _array(data, order, url, names)
            if name in names:
                yield name, values


def _inflated(data: bytes, order: str) -> tuple[int, bytes]:
    """Type and content of a compressed element; at most as many bytes as the largest variable has."""
    inflater = zlib.decompressobj()
    inside = inflater.decompress(data, LARGEST_VARIABLE_VALUES * 8 + 4096)
    whole = inflater.eof or bool(inflater.unconsumed_tail)
    if not whole:
        raise ValueError("it ends early")
    if inflater.eof:
        kind, content, _ = _element(inside, 0, order)
        return kind, content
    return struct.unpack_from(f"{order}I", inside)[0], inside[8:]  # too large, as its dimensions say


def _element(data: bytes, start: int, order: str) -> tuple[int, bytes, int]:
    """Type and content of an element, and the place of the next one."""
    kind, size = struct.unpack_from(f"{order}II", data, start)
    if kind >> 16:  # small: type, size and content share eight bytes
        kind, size = kind & 0xFFFF, kind >> 16
        if size > 4:
            raise ValueError(f"a small element of {size} bytes")
        return kind, data[start + 4 : start + 4 + size], start + 8
    end = start + 8 + size
    if end > len(data):
        raise ValueError("it ends early")
    return kind, data[start + 8 : end], end if kind == _COMPRESSED else -(-end // 8) * 8


def _array(data: bytes, order: str, url: str, names: set[str]) -> tuple[str, NDArray[Any] | None]:
    """Name and values of a matrix; None where it is not wanted, or no array of real numbers."""
    _, flags, place = _element(data, 0, order)
    _, sizes, place = _element(data, place, order)
    _, called, place = _element(data, place, order)
    (word,) = struct.unpack_from(f"{order}I", flags)
    shape, name = np.frombuffer(sizes, f"{order}i4").tolist(), called.decode("latin-1")
    if name not in names or word & 0xFF not in _NUMBERS or (word >> 8) & _COMPLEX:
        return name, None
    if min(shape, default=0) < 0:
        raise ValueError(f"{name} of shape {shape}")
    if math.prod(shape) > LARGEST_VARIABLE_VALUES:
        raise SourceError(
            f"{url}: {name} has {math.prod(shape):,} values, more than any design; copy the published file"
        )
    kind, stored, _ = _element(data, place, order)
    if kind not in _TYPES:
        raise ValueError(f"{name} of type {kind}")
    values = np.frombuffer(stored, f"{order}{_TYPES[kind]}")
    if len(values) != math.prod(shape):
        raise ValueError(f"{len(values)} values of {name} where its shape is {shape}")
    return name, values.reshape(shape, order="F")


def _whole_numbers(found: Mapping[str, NDArray[Any] | None], name: str, url: str) -> NDArray[np.int64]:
    values = found[name]
    if (
        values is None
        or not values.size
        or not np.isfinite(values).all()
        or (values % 1).any()
        or np.abs(values.astype(np.float64)).max() >= LARGEST_NUMBER
    ):
        raise SourceError(f"{url}: {name} is not whole numbers; fetch it again")
    return values.astype(np.int64)  # MATLAB's class, perhaps unsigned, would wrap when 1 is subtracted
