"""Coordinates that are read when their values are first used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import DTypeLike, NDArray

__all__ = ["LateArray", "in_memory"]


class LateArray(NDArrayOperatorsMixin):
    """A one-dimensional array whose values are read when they are first used.

    xarray takes it as it takes any array, and does not read it in ``compute`` and ``load``. Selecting positions gives
    another late array; all other operations read the values and give NumPy arrays. Copies and pickles hold values.

    Parameters
    ----------
    read : callable
        Returns the whole array, which is never written to, because others may hold it.
    length : int
        Of the array.
    dtype : dtype
        Of the array.
    positions : (length,) int, optional
        Positions of these values in the whole array; all of them if not given.

    Examples
    --------
    >>> late = LateArray(lambda: np.arange(10) ** 2, 10, np.dtype(np.int64))
    >>> late[np.array([2, 3])] + 1
    array([ 5, 10])
    """

    def __init__(
        self,
        read: Callable[[], NDArray[Any]],
        length: int,
        dtype: DTypeLike,
        positions: NDArray[np.intp] | None = None,
    ) -> None:
        self._read, self._positions = read, positions
        self._values: NDArray[Any] | None = None
        self.shape, self.ndim, self.dtype = (length,), 1, np.dtype(dtype)

    def _load(self) -> NDArray[Any]:
        if self._values is None:
            whole = self._read()
            self._values = whole.copy() if self._positions is None else whole[self._positions]
        return self._values

    def __getitem__(self, key: Any) -> Any:
        only = key
        if isinstance(key, tuple) and (len(key) == 1 or (len(key) == 2 and key[1] is Ellipsis)):  # as xarray asks
            only = key[0]
        one_axis = isinstance(only, slice) or (isinstance(only, np.ndarray) and only.ndim == 1)
        if self._values is not None or not one_axis:
            return self._load()[key]
        if isinstance(only, slice) and only == slice(None):
            return self
        positions: NDArray[np.intp]
        if self._positions is not None:
            positions = self._positions[only]
        elif isinstance(only, np.ndarray) and only.dtype.kind in "iu" and (only >= 0).all():
            positions = only.astype(np.intp, copy=False)
        else:
            positions = np.arange(len(self))[only]
        return LateArray(self._read, len(positions), self.dtype, positions)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._load()[key] = value

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._load())

    def __contains__(self, value: object) -> bool:
        return value in self._load()

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        values = np.asarray(self._load(), dtype)
        return values.copy() if copy and values is self._values else values

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        return getattr(ufunc, method)(*_loaded(inputs), **_loaded(options))

    def __array_function__(self, function: Callable[..., Any], types: Any, args: Any, options: Any) -> Any:
        return function(*_loaded(args), **_loaded(options))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(np.ndarray, name):  # without reading
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self._load(), name)

    def __reduce__(self) -> tuple[Any, ...]:
        return np.asarray, (self._load(),)

    def __copy__(self) -> LateArray:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> NDArray[Any]:
        return self._load().copy()

    def __dask_tokenize__(self) -> NDArray[Any]:
        return self._load()

    def __repr__(self) -> str:
        return repr(self._load())

    def _repr_inline_(self, max_width: int) -> str:
        from xarray.core.formatting import format_array_flat

        return str(format_array_flat(self._load(), max_width))


def _loaded(value: Any) -> Any:
    """Arguments with values instead of arrays to be read."""
    if isinstance(value, LateArray):
        return value._load()
    if isinstance(value, list | tuple):
        return type(value)([_loaded(part) for part in value])
    if isinstance(value, dict):
        return {key: _loaded(part) for key, part in value.items()}
    return value


def in_memory(table: xr.Dataset) -> xr.Dataset:
    """A table with NumPy arrays in place of late arrays."""
    late = {name: variable for name, variable in table.variables.items() if isinstance(variable.data, LateArray)}
    read = {name: (variable.dims, np.asarray(variable.data), variable.attrs) for name, variable in late.items()}
    coordinates = {name: read.pop(name) for name in [name for name in read if name in table.coords]}
    return table.assign(read).assign_coords(coordinates)
