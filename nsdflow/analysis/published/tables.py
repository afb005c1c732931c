"""Look up published numbers, and read the three tables published with the paper."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Final

import pandas as pd

from nsdflow.analysis.published.numbers import NUMBERS, Number
from nsdflow.errors import MissingDataError, one_of

__all__ = ["SOURCE_TABLES", "find", "source_table", "value_of"]

#: The published source data: file and content of each table. Subject 9 is all subjects together.
SOURCE_TABLES: Final[Mapping[str, tuple[str, str]]] = {
    "accuracy": (
        "model_accuracy_summary_source.csv",
        "percent of the variance of single trials that each model explains, by subject and ROI, and the noise ceiling",
    ),
    "explainable": (
        "model_FEV_summary_source.csv",
        "percent of the explainable variance that each model explains, by subject and ROI",
    ),
    "transfer": (
        "transfer_learning_summary_source.csv",
        "asymmetry of transfer and its error by set of responses and subject; 9 is all subjects",
    ),
}


def find(
    quantity: str | None = None,
    *,
    model: str | None = None,
    subject: str | None = None,
    roi: str | None = None,
    data: str | None = None,
) -> tuple[Number, ...]:
    """All published numbers with these labels; None matches any.

    Parameters
    ----------
    quantity, model, subject, roi, data : str, optional
        Fields of :class:`Number`.

    Returns
    -------
    tuple of Number
        Empty if nothing matches.

    Raises
    ------
    SelectionError
        No such quantity.

    Examples
    --------
    >>> from nsdflow.analysis import published
    >>> [number.value for number in published.find("median_accuracy", model="gnet8r", subject="subj03")]
    [0.373]
    """
    known = list(dict.fromkeys(number.quantity for number in NUMBERS))
    if quantity is not None and quantity not in known:
        raise one_of("published quantity", quantity, known)
    wanted = {"quantity": quantity, "model": model, "subject": subject, "roi": roi, "data": data}
    asked = {name: value for name, value in wanted.items() if value is not None}
    return tuple(n for n in NUMBERS if all(getattr(n, name) == value for name, value in asked.items()))


def value_of(quantity: str, model: str, subject: str = "all", roi: str = "all", *, data: str = "measured") -> float:
    """The single published number with these labels.

    Raises
    ------
    MissingDataError
        It is not published.
    """
    found = find(quantity, model=model, subject=subject, roi=roi, data=data)
    if len(found) != 1:
        raise MissingDataError(f"no published {quantity} of {model}, {subject}, {roi} ({data} responses)")
    return found[0].value


@cache
def _read(name: str) -> pd.DataFrame:
    file, _ = SOURCE_TABLES[name]
    with resources.files("nsdflow.analysis.published").joinpath(file).open() as lines:
        return pd.read_csv(lines)


def source_table(name: str) -> pd.DataFrame:
    """One of the paper's three tables, as published.

    Parameters
    ----------
    name : {"accuracy", "explainable", "transfer"}

    Returns
    -------
    pandas.DataFrame
        Columns ``subj`` (1 to 8, 9 for all together), ``ROI`` or ``set``, and one per model in percent, or ``mean`` and
        ``std``.

    Raises
    ------
    SelectionError
        There is no such table.
    """
    if name not in SOURCE_TABLES:
        raise one_of("published table", name, list(SOURCE_TABLES))
    return _read(name).copy()
