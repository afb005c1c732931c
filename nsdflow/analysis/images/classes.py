"""Accuracy by class of images, against the ceiling of each class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import xarray as xr

from nsdflow.analysis.metrics import accuracy
from nsdflow.analysis.noise.ceilings import noise_ceiling
from nsdflow.analysis.noise.estimates import estimate_ncsnr
from nsdflow.errors import SelectionError

__all__ = ["accuracy_by_class", "explained_share"]


def accuracy_by_class(
    predictions: xr.DataArray, responses: xr.DataArray, classes: Mapping[str, Iterable[int]] | None = None
) -> xr.Dataset:
    r"""Correlate predictions with responses averaged over repetitions, within each class of conditions.

    The ceiling of a class follows from its own trials. With the noise variance :math:`\sigma_n^2` pooled over its
    conditions, the variance :math:`\sigma^2` of all its trials and :math:`n_i` trials of condition i,

    .. math:: \sqrt{s^2 / (s^2 + \overline{1/n_i})}, \qquad s^2 = \max(0, \sigma^2 - \sigma_n^2) / \sigma_n^2.

    Parameters
    ----------
    predictions : xr.DataArray, (condition, voxel)
        With coordinate ``condition``.
    responses : xr.DataArray, (trial, voxel)
        Single trials with coordinate ``condition``, in memory.
    classes : mapping of str to iterable of int, optional
        Conditions of each class; by default all in one class, ``"all"``. Conditions without a trial are left out.

    Returns
    -------
    xr.Dataset
        On ``image_class``: ``class_accuracy`` and ``class_ceiling`` (image_class, voxel), correlations; ``conditions``
        and ``trials`` counted. NaN where a class has fewer than three conditions; a ceiling also where none was
        repeated.

    Raises
    ------
    SelectionError
        A condition of the responses has no prediction, or no class has a trial.
    """
    condition = np.asarray(responses["condition"])
    predicted = np.asarray(predictions["condition"])
    if (missing := np.setdiff1d(condition, predicted)).size:
        raise SelectionError(f"{missing.size} conditions have no prediction, the first is {missing[0]}; predict them")
    asked = {"all": predicted} if classes is None else classes
    members = {name: np.intersect1d(np.asarray(list(numbers)), condition) for name, numbers in asked.items()}
    members = {name: numbers for name, numbers in members.items() if numbers.size}
    if not members:
        raise SelectionError(f"no class of {', '.join(asked)} has a trial; select other trials")
    by_image = predictions.rename({predictions["condition"].dims[0]: "image"}).rename(condition="nsd_id")
    by_trial = responses.drop_vars("nsd_id", errors="ignore").rename(condition="nsd_id")
    parts = [_of_class(by_image, by_trial.isel(trial=np.isin(condition, numbers))) for numbers in members.values()]
    return xr.concat(parts, xr.Variable("image_class", list(members)), combine_attrs="override")


def _of_class(predictions: xr.DataArray, trials: xr.DataArray) -> xr.Dataset:
    """Scores of one class, (voxel,)."""
    shown, first, counts = np.unique(trials["nsd_id"].values, return_inverse=True, return_counts=True)
    sums = np.zeros((shown.size, trials.sizes["voxel"]))
    np.add.at(sums, first, trials.values)
    voxels = {name: c for name, c in trials.coords.items() if c.dims == ("voxel",) and name != "ncsnr"}
    means = xr.DataArray(
        (sums / counts[:, None]).astype(np.float32), {"nsd_id": ("image", shown), **voxels}, ("image", "voxel")
    )
    unknown = xr.full_like(means.isel(image=0, drop=True), np.nan)
    enough, repeated = shown.size >= 3, bool((counts > 1).any())
    ceiling = noise_ceiling(estimate_ncsnr(trials.drop_vars("ncsnr", errors="ignore")), counts) if repeated else unknown
    scores = accuracy(predictions, means) if enough else unknown
    return xr.Dataset(
        {
            "class_accuracy": scores.astype(np.float32).assign_attrs(
                long_name="correlation of predictions with averaged responses", units="1"
            ),
            "class_ceiling": ceiling.astype(np.float32).assign_attrs(
                long_name="noise ceiling of averaged responses (correlation)", units="1"
            ),
            "conditions": shown.size,
            "trials": trials.sizes["trial"],
        }
    )


def explained_share(accuracy: xr.DataArray, ceiling: xr.DataArray, *, minimum: float = 0.1) -> xr.DataArray:
    r"""Share of the explainable variance that predictions explain: :math:`\min(1, \max(0, r)^2 / c^2)`.

    Parameters
    ----------
    accuracy : xr.DataArray
        Correlations r.
    ceiling : xr.DataArray
        Noise ceilings c, as correlations.
    minimum : float
        The share is NaN where the ceiling is lower.

    Returns
    -------
    xr.DataArray
        In [0, 1].
    """
    share = (accuracy.clip(min=0) / ceiling.where(ceiling >= minimum)) ** 2
    return share.clip(max=1).assign_attrs(long_name="share of the explainable variance", units="1")
