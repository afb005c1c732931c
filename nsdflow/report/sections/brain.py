"""The results on the brain: flat maps where NSD's surfaces can be read, slices otherwise."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from nsdflow.errors import NsdflowError
from nsdflow.report import markup
from nsdflow.report.brain.maps import brain_maps
from nsdflow.report.brain.pictures import draw_map
from nsdflow.report.brain.turning import turning_surface
from nsdflow.report.brain.views import best_view
from nsdflow.report.sections.record import Section

if TYPE_CHECKING:
    import xarray as xr

    from nsdflow.runs.contents import Run

__all__ = ["SECTIONS"]

#: Number of maps of the first subject that are open; other subjects have only these.
_SHOWN = 2


def _on_the_brain(run: Run) -> str:
    """All maps of the first subject, and the first ones of the others, which open on a click."""
    parts: dict[str, str] = {}
    for name, data in run.subjects().items():
        if "accuracy" in data and "flat_index" in data.coords:
            parts[name] = _subject(name, data, _SHOWN if parts else None)
    if not parts:
        return ""
    return markup.first_open(parts)


def _subject(name: str, data: xr.Dataset, most: int | None) -> str:
    try:
        view = best_view(data)
    except NsdflowError as error:
        return f"<p>No picture of {escape(name)}: {escape(str(error))}</p>"
    roi = data["roi"] if "roi" in data.coords else None
    pictures = []
    for found in brain_maps(data)[:most]:
        figure = draw_map(
            view, found.values, roi=roi, label=found.label, cmap=found.cmap, limits=found.limits,
            categories=found.categories,
        )  # fmt: skip
        picture = markup.picture(figure, f"{found.name} on the brain of {name}", raster=True)
        pictures.append((found, f"<p>{escape(found.text)}</p>{picture}"))
    shown = "".join(f"<h4>{escape(_heading(found.name))}</h4>{html}" for found, html in pictures[:_SHOWN])
    rest = "".join(markup.details(_heading(found.name), html) for found, html in pictures[_SHOWN:])
    return f"<p>{escape(view.note)}</p>{shown}{rest}"


def _to_turn(run: Run) -> str:
    """The surface of the first subject whose surface can be read."""
    for name, data in run.subjects().items():
        if "accuracy" in data and "flat_index" in data.coords:
            try:
                return markup.first_open({name: turning_surface(data, brain_maps(data))})
            except NsdflowError:
                continue  # the section above says what is missing
    return ""


def _heading(name: str) -> str:
    return name if name == "ncsnr" else name[0].upper() + name[1:]


SECTIONS = (
    Section(
        "On the brain",
        "Each pixel shows the voxel nearest to it in the middle of cortex; nothing is interpolated. Lines are the "
        "borders of visual areas. `nsdflow explore` opens all maps of all subjects, with everything known of a voxel.",
        ("accuracy", "flat_index"),
        _on_the_brain,
    ),
    Section(
        "The brain to turn",
        "The inflated cortex of one subject, coarser than NSD's surfaces: each vertex shows one voxel of those that it "
        "stands for. Grey: no voxel of the run; darker in sulci.",
        ("accuracy", "flat_index"),
        _to_turn,
    ),
)
