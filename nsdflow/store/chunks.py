"""Reads selections from sharded arrays: only the chunks that hold them; a missing chunk is an error."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nsdflow.errors import StoreError
from nsdflow.io.read import open_ranges
from nsdflow.store.memory import fresh_array
from nsdflow.store.shard_format import ABSENT, CODECS, Index, ShardedArray, verified

__all__ = ["read_region", "read_spans"]


def read_region(
    array: ShardedArray,
    selection: Sequence[Index | None],
    dtype: DTypeLike | None = None,
    finish: Callable[[NDArray[Any], int], None] | None = None,
) -> NDArray[Any]:
    """Read the selected values, and only the chunks that hold them.

    Parameters
    ----------
    selection : sequence
        For each axis the indices to take, ascending and each once, or None for all; axes are selected independently.
    dtype : dtype, optional
        Type of the result; that of the array if not given.
    finish : callable, optional
        ``finish(values, first)`` works in place on the values of one chunk along the first axis when all of them are
        read; ``first`` is their place in the result.

    Raises
    ------
    StoreError
        A chunk or a shard is missing or damaged: a hole is an error, never zeros.
    """
    indices = [
        np.arange(size) if chosen is None else chosen for chosen, size in zip(selection, array.shape, strict=True)
    ]
    pieces = [_axis_pieces(wanted, chunk) for wanted, chunk in zip(indices, array.chunk, strict=True)]
    values = fresh_array([len(wanted) for wanted in indices], dtype or array.dtype.newbyteorder("="))
    by_shard = [_by_shard(some, count) for some, count in zip(pieces, array.chunks_per_shard, strict=True)]
    for first, rows in by_shard[0].items():
        for position in product((first,), *by_shard[1:]):
            inside = [axis[number] for axis, number in zip(by_shard, position, strict=True)]
            _fill(values, array, position, list(product(*inside)))
        if finish is not None:
            for piece in rows:
                finish(values[piece.where], piece.where.start)
    return values


def _fill(
    values: NDArray[Any], array: ShardedArray, position: Sequence[int], wanted: list[tuple[_AxisPiece, ...]]
) -> None:
    """Put the wanted parts of one shard into their places."""
    counts = array.chunks_per_shard
    numbers = [tuple(p.chunk % n for p, n in zip(pieces, counts, strict=True)) for pieces in wanted]
    for pieces, chunk in zip(wanted, _read_chunks(array, position, numbers), strict=True):
        for axis, piece in enumerate(pieces):
            chunk = chunk[(slice(None),) * axis + (piece.inside,)]
        values[tuple(piece.where for piece in pieces)] = chunk


@dataclass(frozen=True)
class _AxisPiece:
    """Along one axis: a chunk, the indices to take inside it, and their places in the result."""

    chunk: int
    inside: slice | Index
    where: slice


def _axis_pieces(indices: Index, size: int) -> list[_AxisPiece]:
    """Split ascending indices at the boundaries of chunks of ``size``."""
    if not len(indices):
        return []
    numbers = range(int(indices[0]) // size, int(indices[-1]) // size + 1)
    bounds = [0, *np.searchsorted(indices, [number * size for number in numbers[1:]]).tolist(), len(indices)]
    pieces = []
    for number, low, high in zip(numbers, bounds[:-1], bounds[1:], strict=True):
        if low == high:
            continue
        inside = indices[low:high] - number * size
        first, last = int(inside[0]), int(inside[-1])
        contiguous = last - first + 1 == high - low
        pieces.append(_AxisPiece(number, slice(first, last + 1) if contiguous else inside, slice(low, high)))
    return pieces


def _by_shard(pieces: list[_AxisPiece], count: int) -> dict[int, list[_AxisPiece]]:
    """Pieces along one axis by the number of their shard, which has ``count`` chunks there."""
    shards: dict[int, list[_AxisPiece]] = {}
    for piece in pieces:
        shards.setdefault(piece.chunk // count, []).append(piece)
    return shards


def _read_chunks(
    array: ShardedArray, position: Sequence[int], numbers: Sequence[tuple[int, ...]]
) -> Iterator[NDArray[Any]]:
    """Inner chunks of one shard; neighbours in the file are read at once."""
    decode, url = CODECS[array.codec].decode, array.shard_url(position)
    with _open_shard(array, position) as (read, index):
        spans = [(int(offset), int(length)) for offset, length in (index[number] for number in numbers)]
        if any(offset == ABSENT for offset, _ in spans):
            raise StoreError(f"{url}: a chunk was never written; ingest again")
        for start, lengths in _runs(spans):
            data = memoryview(read(start, sum(lengths)))
            if len(data) != sum(lengths):
                raise StoreError(f"{url}: damaged (truncated); ingest again")
            for length in lengths:
                content = verified(data[:length], url) if array.has_checksums else data[:length]
                data = data[length:]
                if array.codec == "none" and len(content) == array.chunk_bytes:  # no copy
                    yield np.frombuffer(content, array.dtype).reshape(array.chunk)
                    continue
                chunk = np.empty(array.chunk, array.dtype)
                try:
                    decode(content, chunk)
                except (RuntimeError, ValueError) as error:
                    raise StoreError(f"{url}: damaged ({error}); ingest again") from None
                yield chunk


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
        with open_ranges(url) as (read, size):
            if size is not None and size < array.index_bytes:  # before memory for the index is allocated
                raise StoreError(f"{url}: damaged (truncated to {size} bytes); ingest again")
            data = read(-array.index_bytes, array.index_bytes)
            if len(data) != array.index_bytes:
                raise StoreError(f"{url}: damaged (truncated to {len(data)} bytes); ingest again")
            index = np.frombuffer(verified(data, url, "the index"), "<u8").reshape(*array.chunks_per_shard, 2)
            if size is not None:
                _check_ends(index, size - array.index_bytes, url)
            yield read, index
    except FileNotFoundError:
        raise StoreError(f"{url}: the shard is missing; the store is incomplete, ingest again") from None


def _check_ends(index: NDArray[np.uint64], data_bytes: int, url: str) -> None:
    """Every chunk must end before the index does; an index that was written after a short write says otherwise."""
    offsets, lengths = index[..., 0], index[..., 1]
    written = offsets != ABSENT
    limit = np.uint64(data_bytes)
    inside = (offsets <= limit) & (lengths <= limit - np.minimum(offsets, limit))
    if not inside[written].all():
        raise StoreError(f"{url}: damaged (a chunk ends beyond the {data_bytes} bytes of data); ingest again")


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
