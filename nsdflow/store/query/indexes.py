"""Indexes of trials and images, so that xarray selects, aligns and joins them by their identity.

A trial is identified by its session and its number in the session, which mean the same slot of the experiment in all
subjects; an image by its ``nsd_id``. xarray's own index of several coordinates would add a coordinate ``trial`` that no
file format can hold; :class:`TrialIndex` leaves the coordinates as they are.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import numpy as np
import pandas as pd
import xarray as xr

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from xarray.core.indexing import IndexSelResult

__all__ = ["TRIAL_KEY", "TrialIndex", "index_images", "trial_coordinates"]

Labelled = TypeVar("Labelled", xr.Dataset, xr.DataArray)

#: The coordinates that identify a trial of a subject.
TRIAL_KEY: Final = ("session", "trial_in_session")


def trial_coordinates(variables: Mapping[Any, xr.Variable]) -> xr.Coordinates:
    """Variables as coordinates, with ``trial_in_session`` (from 1), and the index of :data:`TRIAL_KEY`.

    xarray neither compares nor aligns variables in this form.
    """
    session = np.asarray(variables["session"].values)
    number = variables.get(TRIAL_KEY[1])
    if number is None:
        counts = pd.Series(session).groupby(session).cumcount().to_numpy(np.int64) + 1
        number = xr.Variable("trial", counts, {"long_name": "trial within the session, from 1"})
    keys = dict(zip(TRIAL_KEY, (variables["session"], number), strict=True))
    index = TrialIndex.from_variables(keys, options={})
    return xr.Coordinates({**variables, **index.create_variables(keys)}, indexes=dict.fromkeys(TRIAL_KEY, index))


def index_images(labelled: Labelled) -> Labelled:
    """Add the index of ``nsd_id`` (image,)."""
    return labelled.set_xindex("nsd_id")


class TrialIndex(xr.Index):
    """Index of one dimension by several coordinates, none of which has the name of the dimension.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        Values of the coordinates, all of the same length.
    dim : str
        Their dimension.
    """

    def __init__(self, arrays: Mapping[Hashable, NDArray[Any]], dim: Hashable) -> None:
        self.arrays, self.dim = dict(arrays), dim

    @cached_property
    def pandas(self) -> pd.MultiIndex:
        """The same index in pandas, made when it is first needed."""
        return pd.MultiIndex.from_arrays(list(self.arrays.values()), names=list(self.arrays))

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    @classmethod
    def from_variables(cls, variables: Mapping[Any, xr.Variable], *, options: Mapping[str, Any]) -> Self:
        """Make the index of one-dimensional coordinates of the same dimension."""
        dims = {variable.dims for variable in variables.values()}
        if len(dims) != 1 or len(next(iter(dims))) != 1:
            raise ValueError(f"{', '.join(map(str, variables))}: one index needs coordinates of one dimension")
        return cls({name: np.asarray(variable.values) for name, variable in variables.items()}, next(iter(dims))[0])

    @classmethod
    def concat(cls, indexes: Sequence[Self], dim: Hashable, positions: Iterable[Iterable[int]] | None = None) -> Self:
        """Concatenate indexes, in the order of ``positions`` if given."""
        joined = {name: np.concatenate([index.arrays[name] for index in indexes]) for name in indexes[0].arrays}
        if positions is not None:
            order = np.argsort(np.concatenate([np.asarray(list(part), np.intp) for part in positions]))
            joined = {name: values[order] for name, values in joined.items()}
        return cls(joined, dim)

    def create_variables(self, variables: Mapping[Any, xr.Variable] | None = None) -> dict[Any, xr.Variable]:
        """The coordinates of the index, with their attributes."""
        attributes = {name: variable.attrs for name, variable in (variables or {}).items()}
        return {name: xr.Variable(self.dim, values, attributes.get(name)) for name, values in self.arrays.items()}

    def isel(self, indexers: Mapping[Any, Any]) -> Self | None:
        """The index of some positions; None for a single one."""
        indexer = indexers[self.dim]
        if isinstance(indexer, xr.Variable):
            if indexer.dims != (self.dim,):
                return None
            indexer = indexer.values
        if not isinstance(indexer, slice) and np.ndim(indexer) == 0:
            return None
        return type(self)({name: values[indexer] for name, values in self.arrays.items()}, self.dim)

    def sel(self, labels: dict[Any, Any], **options: Any) -> IndexSelResult:
        """Positions with some labels, in the order of the labels.

        Raises
        ------
        KeyError
            A label does not occur.
        """
        from xarray.core.indexing import IndexSelResult

        if any(value is not None for value in options.values()):
            raise ValueError(f"{', '.join(map(str, self.arrays))}: select exact labels, without method or tolerance")
        positions: Any = np.arange(len(self))
        for name, asked in labels.items():
            positions = positions[_find(str(name), self.arrays[name][positions], asked)]
        single = set(labels) == set(self.arrays) and all(np.ndim(_plain(asked)) == 0 for asked in labels.values())
        return IndexSelResult({self.dim: int(positions[0]) if single and len(positions) == 1 else positions})

    def equals(self, other: xr.Index, *, exclude: frozenset[Hashable] | None = None) -> bool:
        """Whether another index has the same labels in the same order."""
        return (
            isinstance(other, TrialIndex)
            and self.arrays.keys() == other.arrays.keys()
            and all(np.array_equal(values, other.arrays[name]) for name, values in self.arrays.items())
        )

    def join(self, other: Self, how: str = "inner") -> Self:
        """Labels of both (``inner``), of either (``outer``), or of one of them (``left``, ``right``)."""
        kept = {"left": self, "right": other}.get(how)
        if kept is not None:
            return kept
        joined = self.pandas.join(other.pandas, how="inner" if how == "inner" else "outer")
        return type(self)(
            {name: joined.get_level_values(level).to_numpy() for level, name in enumerate(self.arrays)}, self.dim
        )

    def reindex_like(self, other: Self) -> dict[Hashable, NDArray[np.intp]]:
        """Positions in this index of the labels of another; -1 for labels that it lacks.

        Raises
        ------
        ValueError
            A trial occurs twice, so that its position is ambiguous.
        """
        if not self.pandas.is_unique:
            raise ValueError(f"{self.dim}: labels that occur twice cannot be aligned; select each {self.dim} once")
        return {self.dim: np.asarray(self.pandas.get_indexer(other.pandas), np.intp)}

    def roll(self, shifts: Mapping[Any, int]) -> Self:
        """The index shifted along its dimension."""
        return type(self)({name: np.roll(values, shifts[self.dim]) for name, values in self.arrays.items()}, self.dim)

    def rename(self, name_dict: Mapping[Any, Hashable], dims_dict: Mapping[Any, Hashable]) -> Self:
        """The same labels under other names."""
        arrays = {name_dict.get(name, name): values for name, values in self.arrays.items()}
        return type(self)(arrays, dims_dict.get(self.dim, self.dim))

    def to_pandas_index(self) -> pd.Index:
        """The index as pandas has it."""
        return self.pandas

    def __repr__(self) -> str:
        return f"TrialIndex({', '.join(map(str, self.arrays))}; {len(self)} on {self.dim})"

    def _repr_inline_(self, max_width: int) -> str:
        return repr(self)


def _plain(asked: Any) -> Any:
    """A label or labels as numpy takes them."""
    return asked.values if isinstance(asked, xr.DataArray | xr.Variable) else asked


def _find(name: str, values: NDArray[Any], asked: Any) -> NDArray[np.intp]:
    """Positions of labels: a slice of values (both ends included), one label or several in their order."""
    if isinstance(asked, slice):
        if asked.step not in (None, 1):
            raise KeyError(f"{name}: a slice of labels has no step")
        low, high = asked.start, asked.stop
        inside = (values >= low if low is not None else True) & (values <= high if high is not None else True)
        return np.flatnonzero(np.broadcast_to(inside, values.shape))
    found = [np.flatnonzero(values == label) for label in np.atleast_1d(_plain(asked)).tolist()]
    for label, where in zip(np.atleast_1d(_plain(asked)).tolist(), found, strict=True):
        if not len(where):
            raise KeyError(f"{name} {label!r}")
    return np.concatenate(found) if found else np.empty(0, np.intp)
