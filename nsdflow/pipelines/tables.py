"""The paper's tables from finished runs: xarray in ``results.zarr``, and CSV files with the published header."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import xarray as xr
from pydantic import Field

from nsdflow.analysis import accuracy_table, compare_runs, explainable_table, table_frame, transfer_table
from nsdflow.analysis.comparison.tables import PIPELINE_COLUMNS
from nsdflow.config.pipeline import PipelineBase
from nsdflow.engine.memory import Memory
from nsdflow.engine.plan import Plan, Task, task
from nsdflow.errors import MissingDataError, one_of
from nsdflow.io.write import write_text
from nsdflow.runs import open_run, write_results
from nsdflow.runs.folder import RunFolder

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TablesJob", "TablesPipeline", "make_tables", "plan_tables"]


class TablesPipeline(PipelineBase):
    """The paper's tables from finished runs."""

    kind: Literal["tables"] = "tables"
    models: tuple[str, ...] = ("gabor_fwrf", "alexnet_fpf", "alexnet_fwrf", "gnet8j", "gnet8r", "gnet8jft")
    """Runs that fill the columns of the pipelines they are named after; the columns of a missing run are NaN."""
    transfers: dict[str, str] = Field(default_factory=lambda: {"Experimental": "transfer"})
    """Transfer runs, by the name of the set of responses they were fitted on."""
    comparisons: dict[str, tuple[str, str]] = Field(default_factory=dict)
    """Further pairs of runs on the same voxels, by the name of their responses; the first has one trunk per ROI."""

    def input_runs(self) -> tuple[str, ...]:
        pairs = (name for pair in self.comparisons.values() for name in pair)
        return tuple(dict.fromkeys([*self.models, *self.transfers.values(), *pairs]))


#: A run with one trunk per area, compared with a run with a single trunk.
COMPARED = {"gnet8j", "gnet8r"}


def plan_tables(pipeline: TablesPipeline, *, store: str, folder: RunFolder) -> Plan:
    """Plan one task, which reads the results of other runs and nothing from ``store``."""
    for name in pipeline.models:
        if name not in PIPELINE_COLUMNS:
            raise one_of("pipeline with a column in the paper's tables", name, list(PIPELINE_COLUMNS))
    job = TablesJob(
        folder.path,
        {name: folder.sibling(name).path for name in pipeline.models},
        {name: folder.sibling(run).path for name, run in pipeline.transfers.items()},
        {name: (folder.sibling(r).path, folder.sibling(j).path) for name, (r, j) in pipeline.comparisons.items()},
    )
    tables = Task("tables", make_tables, job, "tables", memory=Memory.with_torch(), files=4)
    note = "from finished runs; columns of runs that do not exist stay empty"
    return Plan(f"{pipeline.name}: the paper's tables", folder.path, (tables,), notes=(note,))


@dataclass(frozen=True)
class TablesJob:
    """All tables."""

    folder: str
    models: dict[str, str]
    """Folder of each run, by the pipeline whose column it fills."""
    transfers: dict[str, str]
    """Folder of each transfer run, by the name of its responses."""
    comparisons: dict[str, tuple[str, str]]
    """Folders of two runs on the same voxels, by the name of their responses."""


@task("tables.make", version=2)
def make_tables(job: TablesJob) -> dict[str, Any]:
    """Write ``/accuracy``, ``/explainable``, ``/comparison`` and ``/transfer``, and a CSV file of each.

    ``/comparison`` compares GNet8r (first) and GNet8j (second), by subject and area. ``/comparison_NAME`` compares
    other pairs, such as the two on synthetic responses.

    Raises
    ------
    MissingDataError
        None of the runs is finished.
    """
    found = {name: open_run(path) for name, path in job.models.items() if RunFolder(path).finished}
    if not found:
        raise MissingDataError(f"none of {', '.join(job.models.values())} is a finished run; do nsdflow run first")
    columns = {PIPELINE_COLUMNS[name]: tree for name, tree in found.items()}
    tables: dict[str, xr.DataArray | xr.Dataset] = {
        "accuracy": accuracy_table(columns).rename("explained_variance").assign_attrs(units="percent"),
        "explainable": explainable_table(columns).rename("share_of_explainable_variance"),
    }
    if found.keys() >= COMPARED:
        tables["comparison"] = compare_runs(found["gnet8r"], found["gnet8j"])
    for name, (separate, joint) in job.comparisons.items():
        if RunFolder(separate).finished and RunFolder(joint).finished:
            tables[f"comparison_{_identifier(name)}"] = compare_runs(open_run(separate), open_run(joint))
    matrices = _matrices(job.transfers)
    if matrices:
        tables["transfer"] = transfer_table(matrices)
    for name, table in tables.items():
        frame: pd.DataFrame = table_frame(table)
        write_text(f"{job.folder}/{name}.csv", frame.to_csv(index=False))
    groups = {name: table.to_dataset() if isinstance(table, xr.DataArray) else table for name, table in tables.items()}
    write_results(job.folder, xr.DataTree.from_dict(groups))
    return {"models": list(found), "transfers": list(matrices)}


def _identifier(name: str) -> str:
    """``"GNet8j noiseless" -> "GNet8j_noiseless"``, for groups and files."""
    return re.sub(r"\W+", "_", name)


def _matrices(transfers: Mapping[str, str]) -> dict[str, xr.DataArray]:
    """Transfer matrices of the finished runs among these, in memory."""
    found: Sequence[tuple[str, RunFolder]] = [(name, RunFolder(path)) for name, path in transfers.items()]
    return {name: open_run(run.path)["transfer"].to_dataset()["transfer"].load() for name, run in found if run.finished}
