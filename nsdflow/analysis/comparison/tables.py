"""The paper's tables, in its rows and columns, from runs of nsdflow.

St-Yves, Allen, Wu, Kay and Naselaris (2023), Nature Communications 14, 3329, published three tables: explained
variance, share of the explainable variance, and asymmetry of transfer. Tables are labelled xarray; :func:`table_frame`
gives them the published header, so that a CSV file can be compared with the published one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from nsdflow.analysis.features.transfer import transfer_asymmetry
from nsdflow.analysis.rois import EARLY_AREAS, roi_names
from nsdflow.analysis.summary import ceiling_of, subject_results
from nsdflow.names import subject_number

__all__ = [
    "ACCURACY_COLUMNS",
    "EXPLAINABLE_COLUMNS",
    "PIPELINE_COLUMNS",
    "accuracy_table",
    "explainable_table",
    "table_frame",
    "transfer_table",
]

#: The column that each pipeline fills.
PIPELINE_COLUMNS: Mapping[str, str] = {
    "gabor_fwrf": "Gabor-fwrf",
    "alexnet_fpf": "Alexnet-fpf",
    "alexnet_fwrf": "Alexnet-fwrf",
    "gnet8j": "GNet8j-fpf",
    "gnet8r": "GNet8r-fpf",
    "gnet8jft": "GNet8jft-fpf",
}

#: Columns of the published table of explained variance, and of that of explainable variance explained.
ACCURACY_COLUMNS = tuple(PIPELINE_COLUMNS.values())
EXPLAINABLE_COLUMNS = ("Gabor-fwrf", "Alexnet-fwrf", "GNet8jft-fpf")

_CEILING = "noise ceiling"
_EVERYONE = "all"


def accuracy_table(
    models: Mapping[str, xr.DataTree],
    *,
    columns: Sequence[str] = ACCURACY_COLUMNS,
    areas: Sequence[str] = EARLY_AREAS,
) -> xr.DataArray:
    """Percent (subject, roi, column) of the variance of single trials that each model explains.

    Each entry is the mean over the area's voxels of the squared validation correlation, times 100; the column
    ``noise ceiling`` is the same mean of the ceiling's share of variance.

    Parameters
    ----------
    models : mapping of str to xr.DataTree
        Results of a run for each column (see :data:`PIPELINE_COLUMNS`), with ``accuracy``, ``roi`` and a noise ceiling.
        Columns without a run are NaN.
    columns : sequence of str
        Columns of the models, in order.
    areas : sequence of str
        ROI groups.
    """
    table = _by_area(models, columns, areas, lambda r2, _: 100 * r2.mean())
    ceilings = _by_area(models, columns, areas, lambda _, ceiling: 100 * ceiling.mean()).max("column", skipna=True)
    return xr.concat([ceilings.expand_dims(column=[_CEILING]), table], "column").transpose("subject", "roi", "column")


def explainable_table(
    models: Mapping[str, xr.DataTree],
    *,
    columns: Sequence[str] = EXPLAINABLE_COLUMNS,
    areas: Sequence[str] = EARLY_AREAS,
) -> xr.DataArray:
    """Percent of the explainable variance that each model explains, by subject and area.

    Each entry is the median over the area's voxels of squared correlation over ceiling, times 100. The published
    table does not say how it averages; a mean of these ratios has no bound where a ceiling is near 0, and a ratio of
    :func:`accuracy_table`'s columns lies a few percent above the published figures.

    Parameters and returned dimensions as for :func:`accuracy_table`.
    """

    def share(r2: xr.DataArray, ceiling: xr.DataArray) -> xr.DataArray:
        return 100 * (r2 / ceiling.where(ceiling > 0)).median()

    return _by_area(models, columns, areas, share)


def transfer_table(sets: Mapping[str, xr.DataArray]) -> xr.Dataset:
    """Asymmetry of transfer and its error for each set of transfer matrices (published: variables mean and std).

    Parameters
    ----------
    sets : mapping of str to xr.DataArray
        Matrices (subject, model, roi) of :func:`nsdflow.analysis.transfer_matrices`, by the name of the model whose
        predictions are the signal of the synthetic responses, or ``"Experimental"`` for measured responses.

    Returns
    -------
    xr.Dataset, (set, subject)
        ``mean`` and ``std``.
    """
    found = [transfer_asymmetry(matrices)[["alpha", "alpha_error"]] for matrices in sets.values()]
    return xr.concat(found, pd.Index(list(sets), name="set")).rename(alpha="mean", alpha_error="std")


def table_frame(table: xr.DataArray | xr.Dataset) -> pd.DataFrame:
    """A table in the published layout; write it with ``.to_csv(path, index=False)``.

    Subjects are numbers; all subjects together come last under the next number, as published (9 for eight).
    """
    dataset = table if isinstance(table, xr.Dataset) else table.to_dataset("column")
    order = [dim for dim in ("set", "subject", "roi") if dim in dataset.dims]
    frame = dataset.reset_coords(drop=True).to_dataframe(dim_order=order).reset_index()
    names = [name for name in frame["subject"].unique() if name != _EVERYONE]
    numbers = {name: subject_number(name) for name in names}
    numbers[_EVERYONE] = max(numbers.values(), default=0) + 1
    frame["subject"] = frame["subject"].map(numbers)
    return frame.rename(columns={"subject": "subj", "roi": "ROI"})


def _by_area(
    models: Mapping[str, xr.DataTree],
    columns: Sequence[str],
    areas: Sequence[str],
    statistic: Callable[[xr.DataArray, xr.DataArray], xr.DataArray],
) -> xr.DataArray:
    """(subject, roi, column) of a statistic of squared correlation and ceiling (shares of variance) of voxels."""
    subjects = sorted({name for tree in models.values() for name, _ in subject_results(tree)})
    shape = (len(subjects), len(areas), len(columns))
    table = xr.DataArray(
        np.full(shape, np.nan),
        {"subject": subjects, "roi": list(areas), "column": list(columns)},
        ("subject", "roi", "column"),
    )
    for column in set(columns) & set(models):
        for subject, results in subject_results(models[column]):
            r2, names, ceiling = _bare(results["accuracy"]) ** 2, roi_names(_bare(results["roi"])), ceiling_of(results)
            limit = xr.full_like(r2, np.nan) if ceiling is None else _bare(ceiling) ** 2
            for area in areas:
                inside = names == area
                value = statistic(r2.where(inside), limit.where(inside))
                table.loc[{"subject": subject, "roi": area, "column": column}] = float(value)
    return table


def _bare(values: xr.DataArray) -> xr.DataArray:
    """Values in memory without their coordinates, which every operation on them would compare."""
    return values.drop_vars(list(values.coords)).load()
