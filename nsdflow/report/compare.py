"""Text and page of ``nsdflow compare``: runs compared with each other or with the published numbers."""

from __future__ import annotations

from html import escape
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

import nsdflow
from nsdflow.analysis.comparison.winners import common_voxels, compare_many
from nsdflow.analysis.published import beside_published, cells_text, why_not_comparable
from nsdflow.analysis.published.lines import aligned, as_text
from nsdflow.errors import SelectionError
from nsdflow.report import markup
from nsdflow.report.figures.slices import category_map
from nsdflow.report.html import page_of
from nsdflow.report.sections.comparison import compared_pair
from nsdflow.report.style import PALETTE
from nsdflow.report.writing import write_page
from nsdflow.runs.contents import Run, read_run
from nsdflow.runs.identity import is_same_store

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import xarray as xr

__all__ = ["compare_published", "compare_run_folders"]


def compare_published(folder: str) -> str:
    """Compare a run with the numbers of the paper, as text.

    Parameters
    ----------
    folder : str
        Folder of a finished run, a path or URL.

    Returns
    -------
    str
        A line per number, with the difference in standard errors; or the reason why a comparison means nothing.
    """
    run = read_run(folder)
    reason = why_not_comparable(run.results, run.record)
    if reason is not None:
        return f"{run.name}: no comparison with the published numbers: {reason}"
    cells = beside_published(run.results, str(run.record.get("pipeline", {}).get("name", run.name)))
    if not cells:
        return f"{run.name}: no number of this run has a published counterpart"
    return f"{run.name} and the published numbers\n{cells_text(cells, ours='this run')}"


def compare_run_folders(folders: Sequence[str], out: str | os.PathLike[str] | None = None) -> tuple[str, Path | str]:
    """Compare finished runs on the voxels that all of them have: a table as text, and the path of a page.

    Parameters
    ----------
    folders : sequence of str
        Folders of two or more finished runs.
    out : path or URL, optional
        The page with figures; by default ``compare.html`` next to the first run.

    Raises
    ------
    SelectionError
        Fewer than two runs, or no subject or voxel in common.
    """
    if len(folders) < 2:
        raise SelectionError("compare needs two runs or more; or add --published for the numbers of the paper")
    runs = _named([read_run(folder) for folder in folders])
    trees = dict(zip(runs, common_voxels([run.results for run in runs.values()]), strict=True))
    table = compare_many(trees)
    names, data = list(trees), _other_data(runs)
    rows = _rows(table, names)
    header = ("subject", "ROI", "voxels", *(f"median {name}" for name in names), *_extra(names))
    parts = [
        (
            "Accuracy",
            _introduction(names)
            + (f"<p>{escape(data)}</p>" if data else "")
            + markup.table(header, [[*row] for row in rows]),
        ),
        ("Which run predicts each voxel best", _winners(trees)),
    ]
    for one, two in combinations(names, 2):
        parts.append((f"{one} against {two}", compared_pair(trees[one], trees[two], (one, two))))
    page = page_of(f"Comparison of {', '.join(names)}", "On the voxels that all runs have.", parts, nsdflow.__version__)
    written = write_page(page, out, f"{runs[names[0]].folder.rpartition('/')[0] or '.'}/compare.html")
    text = aligned(header, [tuple(as_text(value) for value in row) for row in rows])
    return f"{text}\n{data}" if data else text, written


def _other_data(runs: Mapping[str, Run]) -> str:
    """A sentence if the stores of the runs are not known to have held the same data, otherwise nothing."""
    stores = {name: run.record.get("store", {}) for name, run in runs.items()}
    known = [store for store in stores.values() if {"content", "identity"} & set(store)]
    if all(is_same_store(known[0], other) for other in known[1:]):
        return ""
    said = (
        f"{name} on {store.get('url')} ({store.get('content', store.get('identity'))})"
        for name, store in stores.items()
    )
    return f"The runs were made on different data: {', '.join(said)}."


def _named(runs: Sequence[Run]) -> dict[str, Run]:
    """Runs by name; runs of the same name by folder."""
    short = [run.name for run in runs]
    names = [run.name if short.count(run.name) == 1 else run.folder for run in runs]
    return dict(zip(names, runs, strict=True))


def _extra(names: Sequence[str]) -> list[str]:
    first, *others = names
    return [*(f"{name} minus {first} (95 %)" for name in others), *(f"{name} best (%)" for name in names)]


def _rows(table: xr.Dataset, names: Sequence[str]) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for subject in table["subject"].values:
        for roi in table["roi"].values:
            cell = table.sel(subject=subject, roi=roi)
            if not int(cell["voxels"]):
                continue
            medians = [float(cell["median"].sel(run=name)) for name in names]
            differences = [_interval(cell.sel(run=name)) for name in names[1:]]
            best = [f"{float(cell['best'].sel(run=name)):.1f}" for name in names]
            rows.append((str(subject), str(roi), int(cell["voxels"]), *medians, *differences, *best))
    return rows


def _interval(cell: xr.Dataset) -> str:
    difference, low, high = (float(cell[name]) for name in ("difference", "low", "high"))
    return f"{difference:+.3f} ({low:+.3f} to {high:+.3f})"


def _introduction(names: Sequence[str]) -> str:
    return (
        "<p>Medians of the accuracy (correlation r) over voxels; mean differences to "
        f"{escape(names[0])} with an interval that holds 95 % of bootstrap resamples of the voxels (pairs stay "
        "together); and the share of the voxels that each run alone predicts best.</p>"
    )


def _winners(trees: dict[str, xr.DataTree]) -> str:
    """Slices coloured by the run that predicts each voxel best, for the subjects with a volume."""
    names = dict(enumerate(trees))
    colours = {name: PALETTE[number % len(PALETTE)] for number, name in names.items()}
    pictures = {}
    for subject in next(iter(trees.values())).children:
        data = [tree[subject].to_dataset() for tree in trees.values()]
        if {"i", "j", "k"} <= set(data[0].coords):
            values = np.stack([np.nan_to_num(np.asarray(one["accuracy"], float), nan=-2) for one in data])
            best = np.where((values == values.max(0)).sum(0) == 1, values.argmax(0), -1)
            figure = category_map(data[0], best, names, colours=colours, title="best run\n(voxels)")
            described = f"Run that predicts each voxel best, {subject}"
            pictures[subject] = markup.picture(figure, described, raster=True)
    if not pictures:
        return "<p>These runs have no volume to show slices of.</p>"
    return markup.first_open(pictures)
