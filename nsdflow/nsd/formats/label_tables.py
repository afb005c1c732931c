"""Label numbers and names of atlases (``.mgz.ctab``): NSD's own two columns, or FreeSurfer's colour tables."""

from __future__ import annotations

import re

from nsdflow.errors import SourceError

__all__ = ["distinct_names", "parse_label_table"]

_ENTRY = re.compile(r"(-?\d+)\s+(\S+).*")


def parse_label_table(data: bytes, url: str) -> dict[int, str]:
    """Names by label, in the order of the file.

    Blank lines and lines that begin with ``#`` or ``%`` are skipped, stray tabs and blanks are dropped, and columns
    after the name (colours) are ignored.

    Parameters
    ----------
    data : bytes
        Content of the file.
    url : str
        Its address, for messages.

    Raises
    ------
    SourceError
        The file is no text, a line is neither an entry nor a comment, or a number has two names.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(f"{url}: not a table of numbers and names ({error}); copy the published file") from error
    if "\0" in text:
        raise SourceError(f"{url}: a table of numbers and names with zero bytes, an incomplete copy; copy it again")
    labels: dict[int, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        entry = line.strip()
        if not entry or entry[0] in "#%":
            continue
        match = _ENTRY.fullmatch(entry)
        if match is None:
            raise SourceError(f"{url}: line {number} is {entry!r}, not a number and a name; copy the published file")
        label, name = int(match[1]), match[2]
        if labels.setdefault(label, name) != name:
            raise SourceError(
                f"{url}: line {number}: label {label} is called {name!r} and {labels[label]!r}; keep one of the two"
            )
    return labels


def distinct_names(labels: dict[int, str]) -> dict[int, str]:
    """Labels with one name each: where several share a name, their numbers are appended.

    >>> distinct_names({1: "EBA", 2: "FBA", 3: "EBA"})
    {1: 'EBA-1', 2: 'FBA', 3: 'EBA-3'}
    """
    names = list(labels.values())
    return {label: f"{name}-{label}" if names.count(name) > 1 else name for label, name in labels.items()}
