"""Checks that a store is complete: every chunk written, every index valid, no more files than allowed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import ceil

from nsdflow.errors import StoreError
from nsdflow.io.folders import list_files
from nsdflow.store.chunks import read_spans
from nsdflow.store.shard_format import ABSENT, ShardedArray, open_sharded

__all__ = ["check_files", "check_whole"]


def check_whole(url: str, shape: Sequence[int]) -> int:
    """Check that an array has its shape and that each of its chunks was written; returns the number of chunks.

    Reads the indices of the shards, not the chunks.

    Raises
    ------
    StoreError
        Another shape, or a hole: the message names the file.
    """
    array = open_sharded(url)
    if array.shape != tuple(shape):
        raise StoreError(f"{url}: shape {array.shape} where {tuple(shape)} was ingested; remove it and ingest again")
    count = 0
    for position in product(*(range(number) for number in array.shards)):
        spans = read_spans(array, position)[_inside(array, position)]
        if (spans == ABSENT).any():
            raise StoreError(f"{array.shard_url(position)}: a chunk was never written; ingest again")
        count += spans.size // 2
    return count


def _inside(array: ShardedArray, position: Sequence[int]) -> tuple[slice, ...]:
    """The chunks of a shard that lie in the array; shards at its edge have fewer."""
    left = (size - number * shard for size, number, shard in zip(array.shape, position, array.shard, strict=True))
    counts = zip(left, array.chunk, array.chunks_per_shard, strict=True)
    return tuple(slice(min(most, ceil(rest / chunk))) for rest, chunk, most in counts)


def check_files(url: str, budget: int) -> int:
    """Count the files of a group.

    Raises
    ------
    StoreError
        More than the budget.
    """
    count = len(list_files(url))
    if count > budget:
        raise StoreError(f"{url}: {count} files where {budget} are allowed; raise layout.file_budget and ingest again")
    return count
