"""Sharded Zarr arrays, written and read chunk by chunk.

A shard is one file: inner chunks one after the other, then an index of (offset, bytes) for each, then the index's
CRC-32C (Zarr v3, ``sharding_indexed``). A session is a whole row of shards, so its task streams chunks into files
that no other task ever touches, and a query fetches the byte ranges of just the chunks it needs. Zarr reads and
writes these same files several times slower (``docs/performance.md``), which is why this module exists; everything
else goes through zarr, and the tests hold each against the other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from math import ceil, prod
from typing import Any, Final

import google_crc32c
import numpy as np
from numcodecs import blosc, zstd
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, ZstdCodec

from nsdflow.errors import StoreError, one_of
from nsdflow.store.files import atomic_file, open_ranges, read_bytes

__all__ = [
    "ABSENT",
    "CODECS",
    "Piece",
    "ShardedArray",
    "iter_chunks",
    "open_sharded",
    "read_region",
    "read_spans",
    "write_region",
    "write_shard",
]

#: Offset and length of a chunk that was never written.
ABSENT: Final = 2**64 - 1

Index = NDArray[np.intp]
Data = bytes | memoryview


@dataclass(frozen=True)
class Codec:
    """A lossless compression: as zarr's metadata names it, and as this module does it."""

    zarr: BloscCodec | ZstdCodec | None
    encode: Callable[[NDArray[Any]], Data]
    decode: Callable[[Data], Data]


#: By the names of :class:`nsdflow.config.storage.Layout`. Bits are shuffled first, so that the sign's copies align.
CODECS: Final[Mapping[str, Codec]] = {
    "none": Codec(None, lambda values: values.data, lambda data: data),
    "lz4": Codec(
        BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle"),
        lambda values: blosc.compress(values, b"lz4", 5, blosc.BITSHUFFLE),
        blosc.decompress,
    ),
    "zstd": Codec(ZstdCodec(level=1), lambda values: zstd.compress(values, 1), zstd.decompress),
}


@dataclass(frozen=True)
class ShardedArray:
    """A sharded array as its metadata describes it: all a task needs to find its chunks, and nothing open."""

    url: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk: tuple[int, ...]
    shard: tuple[int, ...]
    codec: str
    fill_value: Any

    @property
    def chunks_per_shard(self) -> tuple[int, ...]:
        """Inner chunks of a shard along each axis."""
        return tuple(shard // chunk for shard, chunk in zip(self.shard, self.chunk, strict=True))

    @property
    def shards(self) -> tuple[int, ...]:
        """Shards along each axis."""
        return tuple(ceil(size / shard) for size, shard in zip(self.shape, self.shard, strict=True))

    @property
    def index_bytes(self) -> int:
        """Bytes at the end of a shard that say where its chunks are."""
        return 16 * prod(self.chunks_per_shard) + 4

    def count_chunks(self, *selection: Index) -> int:
        """Inner chunks that a selection touches."""
        return prod(len(np.unique(chosen // size)) for chosen, size in zip(selection, self.chunk, strict=True))

    def count_shards(self, *selection: Index) -> int:
        """Shards (files) that a selection touches."""
        return prod(len(np.unique(chosen // size)) for chosen, size in zip(selection, self.shard, strict=True))

    def shard_url(self, position: Sequence[int]) -> str:
        """The file of a shard."""
        return "/".join([self.url, "c", *(str(number) for number in position)])


def open_sharded(url: str) -> ShardedArray:
    """Read the metadata of a sharded array.

    Raises
    ------
    StoreError
        No such array, or one that is not sharded as :mod:`nsdflow.store.build` does it.
    """
    try:
        metadata = json.loads(read_bytes(f"{url}/zarr.json"))
        (sharding,) = metadata["codecs"]
        settings = sharding["configuration"]
        fixed = (sharding["name"], settings["index_location"], settings["codecs"][0]["name"])
        if fixed != ("sharding_indexed", "end", "bytes"):
            raise StoreError(f"{url}: not an array of an nsdflow store ({', '.join(fixed)}); ingest again")
        return ShardedArray(
            url=url,
            shape=tuple(metadata["shape"]),
            dtype=np.dtype(metadata["data_type"]).newbyteorder("<"),
            chunk=tuple(settings["chunk_shape"]),
            shard=tuple(metadata["chunk_grid"]["configuration"]["chunk_shape"]),
            codec=_codec_name(settings["codecs"][1:]),
            fill_value=metadata["fill_value"],
        )
    except FileNotFoundError as error:
        raise StoreError(f"{url}: no such array; the store is incomplete, ingest again") from error


def _codec_name(codecs: Sequence[Mapping[str, Any]]) -> str:
    if not codecs:
        return "none"
    name = str(codecs[0].get("configuration", {}).get("cname", codecs[0]["name"]))
    if name not in CODECS:
        raise one_of("codec", name, CODECS)
    return name


def write_region(array: ShardedArray, start: Sequence[int], values: NDArray[Any]) -> None:
    """Write whole shards.

    Parameters
    ----------
    array : ShardedArray
        Where to.
    start : sequence of int
        Index of the first element along each axis.
    values : ndarray
        What to write; it must reach exactly from shard boundary to shard boundary (or to the end of the array).

    Raises
    ------
    StoreError
        The region is not made of whole shards, so that another task could own a part of one of them; or the disk is
        full.
    """
    stop = tuple(first + size for first, size in zip(start, values.shape, strict=True))
    for axis, (first, last, shard, size) in enumerate(zip(start, stop, array.shard, array.shape, strict=True)):
        if first % shard or (last % shard and last != size) or not 0 <= first <= last <= size:
            raise StoreError(
                f"{array.url}: region {first}:{last} on axis {axis} is not made of whole shards of {shard} "
                f"(of {size}); a shard has one writer"
            )
    ranges = (
        range(first // shard, ceil(last / shard)) for first, last, shard in zip(start, stop, array.shard, strict=True)
    )
    for position in product(*ranges):
        lows = [number * shard - first for number, shard, first in zip(position, array.shard, start, strict=True)]
        block = values[tuple(slice(low, low + shard) for low, shard in zip(lows, array.shard, strict=True))]
        write_shard(array, position, _split(array, block))


def _split(array: ShardedArray, block: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The inner chunks of a shard in order: smaller at the edge of the array, empty beyond it."""
    for number in np.ndindex(array.chunks_per_shard):
        yield block[tuple(slice(n * size, (n + 1) * size) for n, size in zip(number, array.chunk, strict=True))]


def write_shard(array: ShardedArray, position: Sequence[int], chunks: Iterable[NDArray[Any]]) -> None:
    """Stream the inner chunks of one shard, in C order, into its file.

    Chunks at the edge of the array may be smaller, those beyond it are empty (or left out at the end).
    """
    encode = CODECS[array.codec].encode
    index = np.full((prod(array.chunks_per_shard), 2), ABSENT, "<u8")
    offset = 0
    with atomic_file(array.shard_url(position)) as file:
        for number, chunk in enumerate(chunks):
            if chunk.size == 0:
                continue
            data = memoryview(encode(_whole(array, chunk))).cast("B")
            file.write(data)
            index[number] = offset, data.nbytes
            offset += data.nbytes
        table = index.tobytes()
        file.write(table + google_crc32c.value(table).to_bytes(4, "little"))


def _whole(array: ShardedArray, chunk: NDArray[Any]) -> NDArray[Any]:
    """A contiguous chunk in the type of the array, padded to full size."""
    if chunk.shape == array.chunk:
        return np.ascontiguousarray(chunk, array.dtype)
    whole = np.full(array.chunk, array.fill_value, array.dtype)
    whole[tuple(slice(size) for size in chunk.shape)] = chunk
    return whole


@dataclass(frozen=True)
class Piece:
    """What one inner chunk contributes to a selection: where it goes, and its values there."""

    where: tuple[slice, ...]
    values: NDArray[Any]


def iter_chunks(array: ShardedArray, selection: Sequence[Index | None]) -> Iterator[Piece]:
    """The part of a selection in each inner chunk, reading only chunks that are touched.

    Parameters
    ----------
    array : ShardedArray
        Where from.
    selection : sequence
        For each axis the indices to take, ascending, or None for all; the axes are selected independently.

    Raises
    ------
    StoreError
        A chunk or a shard is missing or damaged: a hole is an error, never zeros.
    """
    axes = [
        _axis_pieces(np.arange(size) if chosen is None else chosen, chunk)
        for chosen, size, chunk in zip(selection, array.shape, array.chunk, strict=True)
    ]
    by_shard: dict[tuple[int, ...], list[tuple[_AxisPiece, ...]]] = {}
    for pieces in product(*axes):
        position = tuple(piece.chunk // count for piece, count in zip(pieces, array.chunks_per_shard, strict=True))
        by_shard.setdefault(position, []).append(pieces)
    for position, wanted in by_shard.items():
        numbers = [tuple(p.chunk % n for p, n in zip(pieces, array.chunks_per_shard, strict=True)) for pieces in wanted]
        for pieces, chunk in zip(wanted, _read_chunks(array, position, numbers), strict=True):
            for axis, piece in enumerate(pieces):
                chunk = chunk[(slice(None),) * axis + (piece.inside,)]
            yield Piece(tuple(piece.where for piece in pieces), chunk)


def read_region(array: ShardedArray, selection: Sequence[Index | None]) -> NDArray[Any]:
    """The selected values; see :func:`iter_chunks`."""
    sizes = (size if chosen is None else len(chosen) for chosen, size in zip(selection, array.shape, strict=True))
    values = np.empty(tuple(sizes), array.dtype.newbyteorder("="))
    for piece in iter_chunks(array, selection):
        values[piece.where] = piece.values
    return values


@dataclass(frozen=True)
class _AxisPiece:
    """Along one axis: a chunk, the indices wanted inside it, and where they go."""

    chunk: int
    inside: slice | Index
    where: slice


def _axis_pieces(indices: Index, size: int) -> list[_AxisPiece]:
    """Split ascending indices at the boundaries of chunks of ``size``."""
    numbers, firsts = np.unique(indices // size, return_index=True)
    bounds = [*firsts.tolist(), len(indices)]
    pieces = []
    for number, low, high in zip(numbers.tolist(), bounds[:-1], bounds[1:], strict=True):
        inside = indices[low:high] - number * size
        first, last = int(inside[0]), int(inside[-1])
        contiguous = last - first + 1 == high - low
        pieces.append(_AxisPiece(number, slice(first, last + 1) if contiguous else inside, slice(low, high)))
    return pieces


def _read_chunks(
    array: ShardedArray, position: Sequence[int], numbers: Sequence[tuple[int, ...]]
) -> Iterator[NDArray[Any]]:
    """Inner chunks of one shard; neighbours in the file are read at once."""
    decode = CODECS[array.codec].decode
    with _open_shard(array, position) as (read, index):
        spans = [(int(offset), int(length)) for offset, length in (index[number] for number in numbers)]
        if any(offset == ABSENT for offset, _ in spans):
            raise StoreError(f"{array.shard_url(position)}: a chunk was never written; ingest again")
        for start, lengths in _runs(spans):
            data = memoryview(read(start, sum(lengths)))
            if len(data) != sum(lengths):
                raise StoreError(f"{array.shard_url(position)}: truncated; ingest again")
            for length in lengths:
                chunk, data = data[:length], data[length:]
                yield np.frombuffer(decode(chunk), array.dtype).reshape(array.chunk)


def read_spans(array: ShardedArray, position: Sequence[int]) -> NDArray[np.uint64]:
    """Offset and length of each chunk of a shard, ``(*chunks, 2)``; :data:`ABSENT` where a chunk was never written.

    Raises
    ------
    StoreError
        The shard is missing or damaged.
    """
    with _open_shard(array, position) as (_, index):
        return index


@contextmanager
def _open_shard(
    array: ShardedArray, position: Sequence[int]
) -> Iterator[tuple[Callable[[int, int], bytes], NDArray[np.uint64]]]:
    """A shard's byte ranges and its index, checked."""
    url = array.shard_url(position)
    try:
        with open_ranges(url) as read:
            data = read(-array.index_bytes, array.index_bytes)
            table, checksum = data[:-4], data[-4:]
            if len(data) != array.index_bytes or google_crc32c.value(table).to_bytes(4, "little") != checksum:
                raise StoreError(f"{url}: damaged (its index fails its checksum); ingest again")
            yield read, np.frombuffer(table, "<u8").reshape(*array.chunks_per_shard, 2)
    except FileNotFoundError as error:
        raise StoreError(f"{url}: the shard is missing; the store is incomplete, ingest again") from error


def _runs(spans: Iterable[tuple[int, ...]]) -> Iterator[tuple[int, list[int]]]:
    """Join (offset, length) spans that follow each other: (offset of the first, their lengths)."""
    start, lengths = 0, list[int]()
    for offset, length in spans:
        if lengths and offset == start + sum(lengths):
            lengths.append(length)
            continue
        if lengths:
            yield start, lengths
        start, lengths = offset, [length]
    if lengths:
        yield start, lengths
