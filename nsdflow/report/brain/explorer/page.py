"""The page itself: a template, and the data of one subject inside it."""

from __future__ import annotations

import os
from collections.abc import Callable
from html import escape
from importlib import resources
from pathlib import Path
from typing import Final

from nsdflow.errors import MissingDataError, one_of
from nsdflow.report.brain.explorer.data import explorer_data
from nsdflow.report.markup import script_data
from nsdflow.report.writing import write_page
from nsdflow.runs.contents import read_run

__all__ = ["write_explorer"]

#: Validation images per page: 30,000 voxels take 8 MB for them.
SHOWN_IMAGES: Final = 100


def write_explorer(
    run: str | os.PathLike[str],
    subject: str | None = None,
    *,
    images: int = SHOWN_IMAGES,
    source: str | None = None,
    out: str | os.PathLike[str] | None = None,
    tell: Callable[[str], None] | None = None,
) -> Path | str:
    """Write the page of one subject of a finished run, and return its path.

    Without the store of the run, or if it holds other data now, the page lacks responses and images and says why.

    Parameters
    ----------
    subject : str, optional
        By default the first of the run.
    images : int
        Shared images whose responses, predictions and pictures the page holds.
    source : str, optional
        NSD, for its flat maps; by default the one from which the store was made.
    out : path or URL, optional
        The page; by default ``explore_SUBJECT.html`` in the folder of the run.
    tell : callable, optional
        Receives a line for each part that the page lacks.

    Raises
    ------
    MissingDataError
        No finished run, or its results have no voxels.
    SelectionError
        The run lacks the subject.
    """
    contents = read_run(run)
    subjects = {name: data for name, data in contents.subjects().items() if "flat_index" in data.coords}
    if not subjects:
        raise MissingDataError(f"{contents.folder}: no voxels in its results; explore a run that fits voxels")
    if subject is not None and subject not in subjects:
        raise one_of("subject", subject, subjects)
    name = subject or next(iter(subjects))
    data = explorer_data(contents, name, subjects[name].load(), images, source)
    template = (resources.files("nsdflow.report.brain.explorer") / "explorer.html").read_text()
    before, after = template.replace("$title", escape(f"{contents.name}: {name}").replace("$", "&#36;")).split("$data")
    page = write_page(f"{before}{script_data(data)}{after}", out, f"{contents.folder}/explore_{name}.html")
    if tell is not None:
        for line in data["notes"][1:]:  # the first describes the view
            tell(line)
    return page
