"""Compare the results of a run with the published numbers, cell by cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nsdflow.analysis.comparison.tables import PIPELINE_COLUMNS
from nsdflow.analysis.published.numbers import ALEXNET_CAVEAT, ASYMMETRY_CAVEAT, VOLUME_SHAPES
from nsdflow.analysis.published.tables import find, source_table
from nsdflow.analysis.rois import EARLY_AREAS, roi_masks
from nsdflow.analysis.summary import ceiling_of, subject_results, with_accuracy
from nsdflow.names import subject_number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import xarray as xr
    from numpy.typing import NDArray

__all__ = ["Cell", "beside_published", "why_not_comparable"]

#: Share by which voxel counts of an ROI may differ from the published ones: ROI files were revised between releases.
COUNT_TOLERANCE = 0.03


@dataclass(frozen=True)
class Cell:
    """One number of a run and the published one."""

    quantity: str
    subject: str
    roi: str
    ours: float
    published: float
    error: float
    """Standard error of the difference; NaN for counts, and if a run has no bootstrap."""
    note: str = ""

    @property
    def difference(self) -> float:
        """Ours minus published."""
        return self.ours - self.published

    @property
    def in_errors(self) -> float:
        """The difference in units of its standard error; NaN without one."""
        return self.difference / self.error if self.error > 0 else float("nan")


def why_not_comparable(results: xr.DataTree, record: Mapping[str, Any] | None = None) -> str | None:
    """Why a comparison of these results with the published numbers is meaningless, or None if it is meaningful.

    Parameters
    ----------
    results : xr.DataTree
        Results of a run. Their volumes must be those of NSD's func1pt8mm, and the early areas must have the published
        numbers of voxels (within 3 %: ROI files were revised between releases).
    record : mapping, optional
        ``run.yaml``; a store marked as synthetic there is believed.
    """
    store = (record or {}).get("store") or {}
    if store.get("synthetic"):
        return "the responses are synthetic, so the comparison means nothing"
    subjects = {name: data for name, data in subject_results(results) if "roi" in data}
    if not subjects:
        return "the results have no voxels with ROI labels"
    for name, data in subjects.items():
        number = subject_number(name)
        shape = tuple(int(n) for n in data["flat_index"].attrs.get("shape", ())) if "flat_index" in data.coords else ()
        if number > len(VOLUME_SHAPES) or shape != VOLUME_SHAPES[number - 1]:
            return (
                f"{name} does not have the volume of NSD's func1pt8mm ({shape or 'none'}): synthetic data, or another "
                "space; the comparison means nothing"
            )
        if not any(_counts_match(data, name, voxels) for voxels in ("evc", "visual")):
            return (
                f"{name} does not have the voxels of the paper (V1 to hV4 by prf-visualrois, or the joined visual "
                "ROIs): synthetic data, or another voxel set; the comparison means nothing"
            )
    return None


def beside_published(results: xr.DataTree, model: str) -> tuple[Cell, ...]:
    """Pair every number of a run with its published counterpart.

    Parameters
    ----------
    results : xr.DataTree
        Results of a run, or of the tables.
    model : str
        Name of the pipeline: ``gnet8j``, ``gnet8r``, ``transfer``, ``alexnet_fwrf``, ...

    Returns
    -------
    tuple of Cell
        Voxel counts; median accuracies by subject and ROI; explained variance and noise ceiling by subject and ROI
        (percent); asymmetries of transfer. The error of a median or mean is the bootstrap error over trials of a voxel,
        averaged over the voxels, as in the published figures: an upper bound, since it is not divided by the square
        root of the number of voxels, whose errors are correlated.
    """
    cells = [*_counts(results), *_medians(results, model), *_explained(results, model), *_asymmetries(results)]
    return tuple(cells)


def _counts(results: xr.DataTree) -> Iterator[Cell]:
    for name, data in subject_results(results):
        if "roi" not in data:
            continue
        masks = roi_masks(data["roi"])
        voxels = "evc" if set(masks) <= set(EARLY_AREAS) else "visual"
        for roi, mask in masks.items():
            for number in find("voxels", model=voxels, subject=name, roi=roi):
                yield Cell("voxels", name, roi, float(mask.sum()), number.value, float("nan"), number.note)


def _medians(results: xr.DataTree, model: str) -> Iterator[Cell]:
    subjects = with_accuracy(results)
    for number in find("median_accuracy", model=model, data="measured"):
        chosen = list(subjects.values()) if number.subject == "all" else [subjects.get(number.subject)]
        if number.subject == "all" and len(subjects) < len(VOLUME_SHAPES):
            continue
        parts = [_values(data, number.roi) for data in chosen if data is not None]
        accuracy, error = (np.concatenate(side) for side in zip(*parts, strict=True)) if parts else (np.empty(0),) * 2
        if accuracy.size:
            known = error[np.isfinite(error)]  # none in a run without bootstrap
            ours, spread = float(np.nanmedian(accuracy)), float(known.mean()) if known.size else float("nan")
            note = ALEXNET_CAVEAT if model == "alexnet_fwrf" else ""
            yield Cell("median accuracy r", number.subject, number.roi, ours, number.value, spread, note)


def _values(data: xr.Dataset, roi: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Accuracy and its bootstrap error of the voxels of an ROI."""
    inside = np.ones(data.sizes["voxel"], bool) if roi == "all" else np.zeros(data.sizes["voxel"], bool)
    if roi != "all" and roi in (masks := roi_masks(data["roi"])):
        inside = np.asarray(masks[roi])
    accuracy = np.asarray(data["accuracy"], dtype=np.float64)[inside]
    error = data["accuracy_std"] if "accuracy_std" in data else np.full(data.sizes["voxel"], np.nan)
    return accuracy, np.asarray(error, dtype=np.float64)[inside]


def _explained(results: xr.DataTree, model: str) -> Iterator[Cell]:
    column = PIPELINE_COLUMNS.get(model)
    table = source_table("accuracy").set_index(["subj", "ROI"])
    if column not in table:
        return
    note = ALEXNET_CAVEAT if model == "alexnet_fwrf" else ""
    for name, data in with_accuracy(results).items():
        ceiling = ceiling_of(data)
        for roi, mask in roi_masks(data["roi"]).items():
            key = (subject_number(name), roi)
            if key not in table.index:
                continue
            accuracy, error = _values(data, roi)
            spread = 100 * float(np.mean(2 * abs(accuracy) * error))  # of the square
            explained, published = 100 * float(np.mean(accuracy**2)), float(table.loc[key, column])  # type: ignore[arg-type]
            yield Cell("explained variance (%)", name, roi, explained, published, spread, note)
            if ceiling is not None:
                limit = 100 * float(np.nanmean(np.asarray(ceiling)[np.asarray(mask)] ** 2))
                published = float(table.loc[key, "noise ceiling"])  # type: ignore[arg-type]
                yield Cell("explainable variance (%)", name, roi, limit, published, float("nan"))


def _asymmetries(results: xr.DataTree) -> Iterator[Cell]:
    """Compare a transfer run with the numbers of the notebook and of the CSV file, which disagree."""
    if "transfer" not in results.children or "alpha" not in results["transfer"].dataset:
        return
    transfer = results["transfer"].dataset
    table = source_table("transfer")
    csv = table[table["set"] == "Experimental"].set_index("subj")
    for number in find("asymmetry", data="measured"):
        if number.subject not in transfer["subject"].values or (
            number.subject == "all" and transfer.sizes["subject"] < 9
        ):
            continue
        alpha, error = (float(transfer[v].sel(subject=number.subject)) for v in ("alpha", "alpha_error"))
        row = csv.loc[9 if number.subject == "all" else subject_number(number.subject)]
        for source, value, spread in (
            ("notebook", number.value, number.error or 0.0),
            ("CSV", float(np.asarray(row["mean"])), float(np.asarray(row["std"]))),
        ):
            quantity = f"asymmetry α ({source})"
            yield Cell(quantity, number.subject, "all", alpha, value, float(np.hypot(error, spread)), ASYMMETRY_CAVEAT)


def _counts_match(data: xr.Dataset, subject: str, voxels: str) -> bool:
    """Whether each early area in the results has about the published number of voxels."""
    masks = {roi: mask for roi, mask in roi_masks(data["roi"]).items() if roi in EARLY_AREAS}
    for roi, mask in masks.items():
        (number,) = find("voxels", model=voxels, subject=subject, roi=roi)
        if abs(float(mask.sum()) - number.value) > COUNT_TOLERANCE * number.value:
            return False
    return bool(masks)
