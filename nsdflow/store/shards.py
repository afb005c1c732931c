"""Sharded Zarr arrays: their metadata, and writing them chunk by chunk (:mod:`nsdflow.store.chunks` reads them).

A shard is one file: inner chunks one after the other, then an index of (offset, bytes) for each, then the index's
CRC-32C (Zarr v3, ``sharding_indexed``). A session is a whole row of shards, so its task streams chunks into files
that no other task ever touches, and a query fetches the byte ranges of just the chunks it needs. Zarr reads and
writes these same files several times slower (``docs/performance.md``), which is why this module exists; everything
else goes through zarr, and the tests hold each against the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil, prod
from typing import Any, Final

import google_crc32c
import numpy as np
from numcodecs import blosc, zstd
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, ZstdCodec

from nsdflow.errors import StoreError
from nsdflow.io.read import read_metadata
from nsdflow.io.write import atomic_file

__all__ = [
    "ABSENT",
    "CODECS",
    "ShardedArray",
    "open_sharded",
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
        metadata = read_metadata(f"{url}/zarr.json")
    except FileNotFoundError as error:
        raise StoreError(f"{url}: no such array; the store is incomplete, ingest again") from error
    try:
        (sharding,) = metadata["codecs"]
        settings = sharding["configuration"]
        serializer, *compressors = settings["codecs"]
        if (sharding["name"], settings["index_location"], serializer["name"]) != ("sharding_indexed", "end", "bytes"):
            raise KeyError("sharding_indexed")
        return ShardedArray(
            url=url,
            shape=tuple(metadata["shape"]),
            dtype=np.dtype(metadata["data_type"]).newbyteorder("<"),
            chunk=tuple(settings["chunk_shape"]),
            shard=tuple(metadata["chunk_grid"]["configuration"]["chunk_shape"]),
            codec=_codec_name(compressors),
            fill_value=metadata["fill_value"],
        )
    except (KeyError, ValueError, TypeError) as error:
        raise StoreError(f"{url}: not sharded as in a store of nsdflow ({error}); ingest again") from error


def _codec_name(codecs: Sequence[Mapping[str, Any]]) -> str:
    if not codecs:
        return "none"
    name = str(codecs[0].get("configuration", {}).get("cname", codecs[0]["name"]))
    if name not in CODECS:
        raise KeyError(f"codec {name}")
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
