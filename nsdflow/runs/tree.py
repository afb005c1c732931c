"""The results of a run as a tree that notebooks show with a summary: subjects, trials, accuracy, noise ceilings."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Final

import xarray as xr
from dask.utils import format_bytes

from nsdflow.errors import NsdflowError
from nsdflow.io.folders import exists
from nsdflow.io.yaml_files import read_yaml
from nsdflow.store.views.summary import table_row

__all__ = ["RunTree"]

RUN_COLUMNS: Final = (
    "subject", "voxels", "training trials", "holdout trials", "validation trials", "size", "accuracy",
    "ceiling, 1 trial", "accuracy / ceiling",
)  # fmt: skip
#: Parts that a run divides the trials of a subject into, where it trains.
PARTS: Final = ("training", "holdout", "validation")


class RunTree(xr.DataTree):
    """The `xarray.DataTree` that :func:`nsdflow.open_run` returns; a notebook shows a summary above the tree.

    What xarray computes from it (``isel``, ``map_over_datasets``, one of its groups) is a plain `xarray.DataTree`.
    """

    __slots__ = ()

    @classmethod
    def of(cls, tree: xr.DataTree, run: str) -> RunTree:
        """The tree of the run in the folder ``run``."""
        made = cls(dataset=tree.to_dataset(inherit=False), children=tree.children)
        made.encoding["source"] = run
        return made

    def _repr_html_(self) -> str:
        return f"{_summary(self)}{super()._repr_html_()}"


def _summary(tree: RunTree) -> str:
    run = str(tree.encoding.get("source", ""))
    lines = [f"<strong>nsdflow run</strong> <code>{escape(run)}</code>"]
    try:
        lines += [escape(line) for line in _facts(run)]
        rows = "".join(table_row(cells, "td") for cells in _subjects(tree))
    except NsdflowError as error:  # the tree can be shown, whatever is damaged
        return f"<div>{lines[0]}<br>{escape(str(error))}</div>"
    note = "accuracy and ceiling: medians over voxels, correlations with single trials; the ceiling is that of the run"
    table = f"<table>{table_row(RUN_COLUMNS, 'th')}{rows}</table><small>{note}</small>" if rows else ""
    return f"<div>{'<br>'.join(lines)}{table}</div>"


def _facts(run: str) -> Iterator[str]:
    """The pipeline and the store, of runs with a record."""
    record = read_yaml(f"{run}/run.yaml", "restore it") if run and exists(f"{run}/run.yaml") else {}
    pipeline, store = record.get("pipeline"), record.get("store")
    if isinstance(pipeline, dict):
        protocol = f", protocol {pipeline['protocol']}" if pipeline.get("protocol") else ""
        yield f"pipeline {pipeline.get('name')} (kind {pipeline.get('kind')}){protocol}"
    if isinstance(store, dict):
        yield f"store {store.get('url')}{', of a synthetic NSD' if store.get('synthetic') else ''}"


def _subjects(tree: xr.DataTree) -> Iterator[tuple[str, ...]]:
    from nsdflow.analysis.summary import subject_results, summary_table  # scipy and more, which only notebooks need

    measured = {row.subject: row for row in summary_table(tree)}
    for name, data in subject_results(tree):
        trials = (data.attrs.get(f"{part}_trials") for part in PARTS)
        row = measured.get(name)
        figures = (row.accuracy, row.noise_ceiling) if row else (float("nan"),) * 2
        yield (
            name,
            f"{data.sizes['voxel']:,}",
            *("–" if count is None else f"{count:,}" for count in trials),
            format_bytes(data.nbytes),
            *("–" if figure != figure else f"{figure:.3f}" for figure in figures),
            f"{row.ratio:.0%}" if row and row.ratio == row.ratio else "–",
        )
