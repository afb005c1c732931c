"""Tables of text (``.csv``, ``.tsv``), and their columns of numbers."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsdflow.errors import SourceError

__all__ = ["column_of_numbers", "parse_table"]


def parse_table(content: bytes, url: str, **options: Any) -> pd.DataFrame:
    """Parse a table with a header.

    Parameters
    ----------
    content : bytes
        Content of the file.
    url : str
        Its address, for messages.
    **options
        As for :func:`pandas.read_csv`.

    Returns
    -------
    pandas.DataFrame
        The table.

    Raises
    ------
    SourceError
        It is no such table.
    """
    try:
        table: pd.DataFrame = pd.read_csv(io.BytesIO(content), **options)
    except ValueError as error:  # so are those of pandas and of decoding
        reason = " ".join(str(error).split())
        raise SourceError(f"{url}: not a readable table ({reason}); fetch it again") from None
    return table


def column_of_numbers(table: pd.DataFrame, name: str, url: str) -> NDArray[np.float64]:
    """The numbers of a column, NaN where a cell is empty or says so.

    Parameters
    ----------
    table : pandas.DataFrame
        From :func:`parse_table`.
    name : str
        The column.
    url : str
        Address of the file, for messages.

    Returns
    -------
    numpy.ndarray
        Float64, (row,).

    Raises
    ------
    SourceError
        A cell is no number; the message names its line.
    """
    values = pd.to_numeric(table[name], errors="coerce").to_numpy(np.float64)
    wrong = np.flatnonzero(np.isnan(values) & table[name].notna().to_numpy())
    if len(wrong):
        cell = table[name].iloc[wrong[0]]
        raise SourceError(f"{url}: line {wrong[0] + 2}: {name} is {cell!r}, not a number; fetch it again")
    return values
