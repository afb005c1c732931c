"""The Dask array of a query."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nsdflow.store.query.blocks import Sizes

__all__ = ["query_array"]


class _QueryArray(da.Array):
    """A Dask array that hands over the result of its only block as it is.

    Dask copies it, since a block may also lie in the memory of a worker or in a graph. The blocks of a query are made
    for whoever computes it. Whatever is derived from this array, and what ``persist`` returns, are plain Dask arrays.
    """

    __slots__ = ()

    def __dask_postcompute__(self) -> tuple[Callable[..., Any], tuple[()]]:
        return (_only_block if self.npartitions == 1 else super().__dask_postcompute__()[0]), ()

    def __dask_postpersist__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        plain = da.Array(self.dask, self.name, self.chunks, meta=self._meta)
        return plain.__dask_postpersist__()  # type: ignore[no-any-return]


def _only_block(results: Any) -> Any:
    while isinstance(results, list | tuple):
        (results,) = results
    return results


def query_array(
    read: Callable[[NDArray[np.intp], NDArray[np.intp]], NDArray[Any]],
    positions: tuple[NDArray[np.intp], NDArray[np.intp]],
    sizes: tuple[Sizes, Sizes],
    *tokens: Hashable,
) -> da.Array:
    """A lazy float32 array (trial, voxel) of one task per block.

    Parameters
    ----------
    read : callable
        ``read(rows, columns)`` returns a block; its arguments are all that a task holds.
    positions : (trial,) int, (voxel,) int
        Rows and columns of the array.
    sizes : tuple of int, tuple of int
        Sizes of the blocks along both axes.
    *tokens
        What else the values depend on, for the name of the array.
    """
    name = f"responses-{tokenize(*positions, sizes, *tokens)}"
    rows, columns = (_cut(values, lengths) for values, lengths in zip(positions, sizes, strict=True))
    tasks: dict[Any, Any] = {
        (name, i, j): (read, some, others) for i, some in enumerate(rows) for j, others in enumerate(columns)
    }
    graph = HighLevelGraph.from_collections(name, tasks)
    return _QueryArray(graph, name, sizes, meta=np.empty((0, 0), np.float32))


def _cut(values: NDArray[np.intp], sizes: Sequence[int]) -> list[NDArray[np.intp]]:
    return np.split(values, np.cumsum(sizes)[:-1])
