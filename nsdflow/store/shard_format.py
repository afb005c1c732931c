"""Sharded Zarr arrays: their metadata, and writing them chunk by chunk (:mod:`nsdflow.store.chunks` reads them).

A shard is one file: consecutive inner chunks, each followed by its CRC-32C, then an index of (offset, bytes) for each,
then the index's CRC-32C (Zarr v3, ``sharding_indexed`` with ``crc32c``). A session is a whole row of shards, so its
task streams chunks into files that no other task ever touches, and a query fetches only the byte ranges of the chunks
it needs. zarr-python reads the same files: a whole query takes 1.6 times as long with it, and 1.26 times with the codec
pipeline of ``zarrs`` (``benchmarks/query.py``), which is chosen for the whole process and not per array. This module is
kept while zarr takes more than 1.2 times as long; everything else goes through zarr, and tests compare the two.
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
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from nsdflow.errors import StoreError
from nsdflow.io.read import read_metadata
from nsdflow.io.write import atomic_file

__all__ = [
    "ABSENT",
    "CODECS",
    "ShardedArray",
    "checksum",
    "compressors",
    "open_sharded",
    "parse_sharded",
    "verified",
    "write_region",
    "write_shard",
]

#: Offset and length of a chunk that was never written.
ABSENT: Final = 2**64 - 1
#: Bytes of a CRC-32C.
CHECKSUM_BYTES: Final = 4
#: Largest chunk; metadata that announce more are refused before memory is allocated.
LARGEST_CHUNK_BYTES: Final = 1 << 30

Index = NDArray[np.intp]
Data = bytes | memoryview


@dataclass(frozen=True)
class Codec:
    """A lossless compression: its name in zarr's metadata, and its functions here."""

    zarr: BloscCodec | ZstdCodec | None
    encode: Callable[[NDArray[Any]], Data]
    size: Callable[[Data], int]
    """Decoded size that encoded data state."""
    fill: Callable[[Data, NDArray[Any]], object]
    """Decodes data of this size."""

    def decode(self, data: Data, out: NDArray[Any]) -> None:
        """Fill an array; data of any other size are an error, so that memory is bounded.

        Raises
        ------
        ValueError, RuntimeError
            The data decode to another size, or not at all.
        """
        if (size := self.size(data)) != out.nbytes:
            raise ValueError(f"{size} bytes where {out.nbytes} are expected")
        self.fill(data, out)


def _copy(data: Data, out: NDArray[Any]) -> None:
    out.view(np.uint8).ravel()[...] = np.frombuffer(data, np.uint8)


def _blosc_size(data: Data) -> int:
    """The decoded size in the header of a Blosc buffer; -1 if its encoded size is not that of the data."""
    decoded, encoded = (int.from_bytes(data[start : start + 4], "little") for start in (4, 12))
    return decoded if len(data) >= 16 and encoded == len(data) else -1


def _zstd_size(data: Data) -> int:
    """The content size in the header of a Zstandard frame (RFC 8878, 3.1.1.1); -1 if it has none."""
    if len(data) < 6 or bytes(data[:4]) != b"\x28\xb5\x2f\xfd":
        return -1
    single = data[4] >> 5 & 1
    length = (single, 2, 4, 8)[data[4] >> 6]
    start = 5 + (1 - single) + (0, 1, 2, 4)[data[4] & 3]
    return int.from_bytes(data[start : start + length], "little") + 256 * (length == 2) if length else -1


#: By the names of :class:`nsdflow.config.storage.Layout`. Bits are shuffled first, so that the sign's copies align.
CODECS: Final[Mapping[str, Codec]] = {
    "none": Codec(None, lambda values: values.data, len, _copy),
    "lz4": Codec(
        BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle"),
        lambda values: blosc.compress(values, b"lz4", 5, blosc.BITSHUFFLE),
        _blosc_size,
        blosc.decompress,
    ),
    "zstd": Codec(ZstdCodec(level=1), lambda values: zstd.compress(values, 1), _zstd_size, zstd.decompress),
}


def compressors(codec: str) -> tuple[BloscCodec | ZstdCodec | Crc32cCodec, ...]:
    """The steps after ``bytes`` of the arrays of a store, as zarr takes them."""
    compression = CODECS[codec].zarr
    return (*((compression,) if compression else ()), Crc32cCodec())


def checksum(data: Data) -> bytes:
    """CRC-32C as Zarr stores it."""
    values = np.frombuffer(data, np.uint8)  # the library takes arrays and bytes, but no memoryviews
    return int(google_crc32c.value(values)).to_bytes(CHECKSUM_BYTES, "little")


def verified(data: Data, where: str, what: str = "a chunk") -> Data:
    """Data without the checksum at their end; ``where`` and ``what`` name them in the message.

    Raises
    ------
    StoreError
        The data do not match the checksum.
    """
    content = data[:-CHECKSUM_BYTES]
    if len(data) < CHECKSUM_BYTES or checksum(content) != bytes(data[-CHECKSUM_BYTES:]):
        raise StoreError(f"{where}: damaged ({what} does not match its checksum); ingest again")
    return content


@dataclass(frozen=True)
class ShardedArray:
    """The metadata that a task needs to find the chunks of a sharded array. No file stays open."""

    url: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk: tuple[int, ...]
    shard: tuple[int, ...]
    codec: str
    fill_value: Any
    has_checksums: bool = True
    """Whether each chunk is followed by its CRC-32C; not in stores made by version 0.1.0."""

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a chunk in memory."""
        return prod(self.chunk) * self.dtype.itemsize

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
        """Size of the index at the end of a shard."""
        return 16 * prod(self.chunks_per_shard) + CHECKSUM_BYTES

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
        return parse_sharded(url, read_metadata(f"{url}/zarr.json"))
    except FileNotFoundError:
        raise StoreError(f"{url}: no such array; the store is incomplete, ingest again") from None


def parse_sharded(url: str, metadata: Mapping[str, Any]) -> ShardedArray:
    """A sharded array from its metadata.

    Raises
    ------
    StoreError
        The array is not sharded as :mod:`nsdflow.store.build` does it.
    """
    try:
        (sharding,) = metadata["codecs"]
        settings = sharding["configuration"]
        serializer, *steps = settings["codecs"]
        if (sharding["name"], settings["index_location"], serializer["name"]) != ("sharding_indexed", "end", "bytes"):
            raise KeyError("sharding_indexed")
        codec, has_checksums = _codec_of(steps)
        array = ShardedArray(
            url=url,
            shape=tuple(metadata["shape"]),
            dtype=np.dtype(metadata["data_type"]).newbyteorder("<"),
            chunk=tuple(settings["chunk_shape"]),
            shard=tuple(metadata["chunk_grid"]["configuration"]["chunk_shape"]),
            codec=codec,
            fill_value=metadata["fill_value"],
            has_checksums=has_checksums,
        )
        if not 0 < array.chunk_bytes <= LARGEST_CHUNK_BYTES:
            raise ValueError(f"chunks of {array.chunk_bytes} bytes")
        return array
    except (KeyError, ValueError, TypeError) as error:
        raise StoreError(f"{url}: not sharded as in a store of nsdflow ({error}); ingest again") from None


def _codec_of(steps: Sequence[Mapping[str, Any]]) -> tuple[str, bool]:
    """Name of the compression, and whether checksums follow; other codecs are refused, never looked up."""
    names = [str(step.get("configuration", {}).get("cname", step["name"])) for step in steps]
    has_checksums = names[-1:] == ["crc32c"]
    compression = names[:-1] if has_checksums else names
    if compression and (len(compression) > 1 or compression[0] not in CODECS):
        raise KeyError(f"codec {', '.join(names)}")
    return compression[0] if compression else "none", has_checksums


def write_region(array: ShardedArray, start: Sequence[int], values: NDArray[Any]) -> None:
    """Write whole shards.

    Parameters
    ----------
    start : sequence of int
        Index of the first element along each axis.
    values : ndarray
        Values that span whole shards, or reach to the end of the array.

    Raises
    ------
    StoreError
        The region is not made of whole shards, so that another task could write a part of one of them; or the disk is
        full.
    """
    stop = tuple(first + size for first, size in zip(start, values.shape, strict=True))
    for axis, (first, last, shard, size) in enumerate(zip(start, stop, array.shard, array.shape, strict=True)):
        if first % shard or (last % shard and last != size) or not 0 <= first <= last <= size:
            raise StoreError(
                f"{array.url}: region {first}:{last} on axis {axis} is not made of whole shards of {shard} "
                f"(of {size}); a shard must be written by a single task, align regions to multiples of {shard}"
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
            if array.has_checksums:
                file.write(checksum(data))
            index[number] = offset, data.nbytes + array.has_checksums * CHECKSUM_BYTES
            offset += int(index[number, 1])
        table = index.tobytes()
        file.write(table + checksum(table))


def _whole(array: ShardedArray, chunk: NDArray[Any]) -> NDArray[Any]:
    """A contiguous chunk in the type of the array, padded to full size."""
    if chunk.shape == array.chunk:
        return np.ascontiguousarray(chunk, array.dtype)
    whole = np.full(array.chunk, array.fill_value, array.dtype)
    whole[tuple(slice(size) for size in chunk.shape)] = chunk
    return whole
