"""One row per subject: accuracy of a run, and its noise ceiling."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from nsdflow.analysis.metrics import METRICS
from nsdflow.analysis.noise.ceilings import noise_ceiling

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import xarray as xr
    from numpy.typing import NDArray

__all__ = [
    "SummaryRow",
    "across_subjects",
    "ceiling_of",
    "split_counts",
    "subject_results",
    "summary_table",
    "with_accuracy",
]


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
    control: float = float("nan")
    """Median accuracy with images shuffled; NaN where the run has no control."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Medians of the other metrics that the run stored, by name of the variable."""


def subject_results(results: xr.DataTree) -> Iterator[tuple[str, xr.Dataset]]:
    """Name and dataset of each subject of a run: the groups that have voxels."""
    for name, node in results.children.items():
        if "voxel" in node.dataset.sizes:
            yield name, node.to_dataset()


def with_accuracy(results: xr.DataTree) -> dict[str, xr.Dataset]:
    """The subjects of a run that have ``accuracy``."""
    return {name: data for name, data in subject_results(results) if "accuracy" in data}


def across_subjects(
    values: NDArray[np.floating[Any]], errors: NDArray[np.floating[Any]]
) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]:
    r"""Mean over subjects and its error, as published.

    .. math:: e = \sqrt{\overline{e_s^2}} / \sqrt n

    Parameters
    ----------
    values, errors : array, (subject, ...)
        NaN where a subject has no value.

    Returns
    -------
    tuple of array, (...)
        Mean over the subjects that have a value; root of their mean squared error over the root of their number n.
    """
    known = np.isfinite(values)
    count = np.maximum(known.sum(0), 1)
    mean = np.where(known.any(0), np.where(known, values, 0).sum(0) / count, np.nan)
    squares = np.where(known, np.asarray(errors, dtype=np.float64) ** 2, 0).sum(0) / count
    return mean, np.where(known.any(0), np.sqrt(squares / count), np.nan)


def split_counts(nsd_id: NDArray[Any], validation: NDArray[np.bool_], holdout: NDArray[np.bool_]) -> dict[str, int]:
    """Numbers of training, holdout and validation trials and images, as attributes of a subject's results.

    Parameters
    ----------
    nsd_id : array of int, (trial,)
        Image of each trial.
    validation : array of bool, (trial,)
        Trials that validate (shared images).
    holdout : array of bool, (trial,) or (training trial,)
        Trials set aside from training: of all trials, or of those that do not validate.
    """
    validation = np.asarray(validation, dtype=bool)
    held = np.zeros(validation.size, dtype=bool)
    if holdout.size == validation.size:
        held = np.asarray(holdout, dtype=bool) & ~validation
    else:
        held[~validation] = holdout
    parts = {"training": ~validation & ~held, "holdout": held, "validation": validation}
    counts = {}
    for name, mask in parts.items():
        counts[f"{name}_trials"] = int(mask.sum())
        counts[f"{name}_images"] = int(np.unique(np.asarray(nsd_id)[mask]).size)
    return counts


def ceiling_of(subject: xr.Dataset) -> xr.DataArray | None:
    """The single-trial noise ceiling (correlation) stored with a subject, or computed from its ``ncsnr``, or None."""
    if "noise_ceiling" in subject:
        return subject["noise_ceiling"]
    return noise_ceiling(subject["ncsnr"]) if "ncsnr" in subject else None


def summary_table(results: xr.DataTree) -> list[SummaryRow]:
    """Medians over the voxels of every subject of a run that has accuracies.

    Parameters
    ----------
    results : xr.DataTree
        Groups ``/subj01`` ... with ``accuracy`` (voxel,) and ``noise_ceiling`` (voxel,) or coordinate ``ncsnr``.
    """
    rows = []
    for name, subject in with_accuracy(results).items():
        ceiling = ceiling_of(subject)
        accuracy = _median(subject["accuracy"])
        top = float("nan") if ceiling is None else _median(ceiling)
        ratio = accuracy / top if top > 0 else float("nan")
        control = _median(subject["accuracy_shuffled"]) if "accuracy_shuffled" in subject else float("nan")
        others = {
            metric.variable: _median(subject[metric.variable])
            for metric in METRICS.values()
            if metric.variable != "accuracy" and metric.variable in subject
        }
        rows.append(SummaryRow(name, subject.sizes["voxel"], accuracy, top, ratio, control, others))
    return rows


def _median(values: xr.DataArray) -> float:
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    return float(np.median(finite)) if finite.size else float("nan")
