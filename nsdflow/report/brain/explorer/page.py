"""The page itself: a template, and the data of one subject inside it."""

from __future__ import annotations

import os
from html import escape
from importlib import resources
from pathlib import Path
from typing import Final

from nsdflow.errors import MissingDataError, one_of
from nsdflow.io.paths import is_local, local_path
from nsdflow.io.write import write_text
from nsdflow.report.brain.explorer.data import explorer_data
from nsdflow.report.markup import script_data
from nsdflow.runs.contents import read_run

__all__ = ["write_explorer"]

#: Validation images per page: 30,000 voxels take 8 MB for them.
SHOWN_IMAGES: Final = 100


def write_explorer(
    run: str | os.PathLike[str], subject: str | None = None, *, images: int = SHOWN_IMAGES, source: str | None = None
) -> Path | str:
    """Write ``explore_SUBJECT.html`` into the folder of a finished run, and return its path.

    Parameters
    ----------
    subject : str, optional
        By default the first of the run.
    images : int
        Shared images whose responses, predictions and pictures the page holds.
    source : str, optional
        NSD, for its flat maps; by default the one from which the store was made.

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
    target = f"{contents.folder}/explore_{name}.html"
    write_text(target, f"{before}{script_data(data)}{after}")
    return local_path(target) if is_local(target) else target
