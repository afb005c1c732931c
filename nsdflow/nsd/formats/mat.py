"""Whole numbers from MATLAB's files (format 5)."""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from nsdflow.errors import SourceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nsdflow.nsd.source import Source

__all__ = ["read_whole_numbers"]

#: Values of the largest variable of a design; NSD's largest has 80,000.
LARGEST_VARIABLE_VALUES: Final = 10_000_000

#: Numbers of a design are far below those that floats hold exactly.
LARGEST_NUMBER: Final = 2**53

#: Errors of scipy's reader besides its own for a file that is cut short or of another kind.
_UNREADABLE: Final = (
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    NotImplementedError,
    OSError,
    zlib.error,
)


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
    import scipy.io  # here, because commands that read no design should not wait for it
    from scipy.io.matlab import MatReadError

    url = source.join(path)
    content = source.read(path)
    try:
        file_like: Any = io.BytesIO(content)  # scipy-stubs know only paths
        _check_sizes(scipy.io.whosmat(file_like), url)
        file_like.seek(0)
        found = scipy.io.loadmat(file_like, variable_names=(*wanted, *optional))
    except (MatReadError, *_UNREADABLE) as error:
        reason = " ".join(str(error).split())
        raise SourceError(f"{url}: not a readable MAT file ({reason}); fetch it again") from error
    absent = [name for name in wanted if name not in found]
    if absent:
        raise SourceError(f"{url}: no variable {', '.join(absent)}; fetch it again")
    return {name: _whole_numbers(found, name, url) for name in (*wanted, *optional) if name in found}


def _check_sizes(variables: Sequence[tuple[str, tuple[int, ...], str]], url: str) -> None:
    """Refuse variables that would fill the memory when they are decompressed."""
    for name, shape, _ in variables:
        if math.prod(shape) > LARGEST_VARIABLE_VALUES:
            raise SourceError(
                f"{url}: {name} has {math.prod(shape):,} values, more than any design; copy the published file"
            )


def _whole_numbers(found: Mapping[str, Any], name: str, url: str) -> NDArray[np.int64]:
    values = np.asarray(found[name])
    whole = values.dtype.kind in "biuf" and values.size > 0 and np.isfinite(values).all() and not (values % 1).any()
    if not (whole and np.abs(values.astype(np.float64)).max() < LARGEST_NUMBER):
        raise SourceError(f"{url}: {name} is not whole numbers; fetch it again")
    return values.astype(np.int64)  # MATLAB's class, perhaps unsigned, would wrap when 1 is subtracted
