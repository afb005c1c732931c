"""One row a subject: how well a run predicts, next to what could be predicted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsdflow.analysis.noise.ceilings import noise_ceiling

if TYPE_CHECKING:
    from collections.abc import Iterator

    import xarray as xr

__all__ = ["SummaryRow", "ceiling_of", "subject_results", "summary_table"]


@dataclass(frozen=True)
class SummaryRow:
    """Accuracy of one subject's voxels; the ceiling is that of single trials, both are correlations."""

    subject: str
    voxels: int
    accuracy: float
    """Median over voxels."""
    noise_ceiling: float
    """Median over voxels; NaN where the run has no estimate."""
    ratio: float
    """``accuracy / noise_ceiling``: of the medians, not the median of ratios, which has no bound near 0."""


def subject_results(results: xr.DataTree) -> Iterator[tuple[str, xr.Dataset]]:
    """Name and dataset of each subject of a run: the groups that have voxels."""
    for name, node in results.children.items():
        if "voxel" in node.dataset.sizes:
            yield name, node.to_dataset()


def ceiling_of(subject: xr.Dataset) -> xr.DataArray | None:
    """The single-trial noise ceiling (correlation) stored with a subject, or given by its ``ncsnr``, or None."""
    if "noise_ceiling" in subject:
        return subject["noise_ceiling"]
    return noise_ceiling(subject["ncsnr"]) if "ncsnr" in subject else None


def summary_table(results: xr.DataTree) -> list[SummaryRow]:
    """Median accuracy and median noise ceiling of every subject of a run that has accuracies.

    Parameters
    ----------
    results
        Groups ``/subj01`` ... with ``accuracy`` (voxel,) and ``noise_ceiling`` (voxel,) or coordinate ``ncsnr``.
    """
    rows = []
    for name, subject in subject_results(results):
        if "accuracy" not in subject:
            continue
        ceiling = ceiling_of(subject)
        accuracy = _median(subject["accuracy"])
        top = float("nan") if ceiling is None else _median(ceiling)
        ratio = accuracy / top if top > 0 else float("nan")
        rows.append(SummaryRow(name, subject.sizes["voxel"], accuracy, top, ratio))
    return rows


def _median(values: xr.DataArray) -> float:
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    return float(np.median(finite)) if finite.size else float("nan")
