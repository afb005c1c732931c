"""Record of a section of a run's page, and its construction from a figure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsdflow.analysis import table_frame
from nsdflow.report import markup

if TYPE_CHECKING:
    from collections.abc import Callable

    import xarray as xr
    from matplotlib.figure import Figure

    from nsdflow.runs.contents import Run

__all__ = ["Section", "each_subject", "group", "table_of", "whole"]


@dataclass(frozen=True)
class Section:
    """A heading, an explanatory text, and the content.

    The page shows a section when the results have everything it needs.
    """

    title: str
    text: str
    """Readable without the code: what is shown, in which units, and what to look for."""
    needs: tuple[str, ...]
    """Variables or coordinates of the subjects, ``group/variable``, or ``../run`` for another run in the folder."""
    content: Callable[[Run], str]
    """The HTML below the text. An empty string leaves the section out."""


def whole(draw: Callable[[xr.DataTree], Figure], description: str, *, raster: bool = False) -> Callable[[Run], str]:
    """One figure of all results."""
    return lambda run: markup.picture(draw(run.results), description, raster=raster)


def group(name: str, draw: Callable[[xr.Dataset], Figure], description: str) -> Callable[[Run], str]:
    """One figure of one group of the results, such as ``history``."""
    return lambda run: markup.picture(draw(run.results[name].to_dataset().load()), description)


def each_subject(
    draw: Callable[[xr.Dataset], Figure], description: str, needs: str, *, raster: bool = True
) -> Callable[[Run], str]:
    """A figure per subject that has the variable ``needs``; all but the first open on a click."""

    def content(run: Run) -> str:
        subjects = {name: data for name, data in run.subjects().items() if needs in data}
        pictures = {
            name: markup.picture(draw(data), f"{description}, {name}", raster=raster) for name, data in subjects.items()
        }
        return markup.first_open(pictures)

    return content


def table_of(name: str, variable: str | None = None) -> Callable[[Run], str]:
    """A group of the results as a table, in the rows and columns of the paper."""

    def content(run: Run) -> str:
        dataset = run.results[name].to_dataset().load()
        frame = table_frame(dataset if variable is None else dataset[variable])
        return markup.table(list(frame.columns), frame.itertuples(index=False, name=None))

    return content
