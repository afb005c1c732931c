"""The table of accuracy metrics, and the functions that apply one of them to predictions and responses.

A metric is one record of :data:`METRICS`. A new one is one function of :class:`~nsdflow.analysis.moments.Moments`, one
line in the table, and the long name of its variable in :data:`nsdflow.labels.VARIABLE_LABELS`. With ``stored=True``
it appears in the results of every run and on its page.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import xarray as xr

from nsdflow.analysis.alignment import align_trials, as_labelled
from nsdflow.analysis.moments import (
    Floats,
    Moments,
    centred,
    correlation_of,
    mean_and_std,
    moments,
    ratio,
    resample_counts,
    resampled_moments,
)
from nsdflow.analysis.noise.ceilings import noise_ceiling
from nsdflow.errors import SelectionError, one_of
from nsdflow.labels import VARIABLE_LABELS, described, label_of

__all__ = ["METRICS", "Metric", "accuracy", "evaluate", "normalised_accuracy", "shuffle_images", "uncertainty"]


@dataclass(frozen=True)
class Metric:
    """One way to score predictions of a voxel."""

    name: str
    """Name for users and of the variable (the variable of the Pearson correlation is ``accuracy``)."""
    of: Callable[[Moments], Floats]
    ranked: bool = False
    """Whether values are replaced by their ranks over the trials first."""
    stored: bool = False
    """Whether the results of every run have it."""
    unit: Literal["correlation", "variance"] = "correlation"
    """Its ceiling is the noise ceiling (a correlation), or its square, the explainable variance."""

    @property
    def variable(self) -> str:
        """Name of the variable that holds it."""
        return "accuracy" if self.name == "correlation" else self.name

    @property
    def long_name(self) -> str:
        """Long name of the variable."""
        return VARIABLE_LABELS[self.variable][0]


def _r2(m: Moments) -> Floats:
    return 1 - ratio(m.xx - 2 * m.xy + m.yy + m.n * m.bias**2, m.yy)


def _explained_variance(m: Moments) -> Floats:
    return 1 - ratio(m.xx - 2 * m.xy + m.yy, m.yy)


METRICS: Final[Mapping[str, Metric]] = {
    metric.name: metric
    for metric in (
        Metric("correlation", correlation_of, stored=True),
        Metric("rank_correlation", correlation_of, ranked=True),
        Metric("r2", _r2, unit="variance"),
        Metric("explained_variance", _explained_variance, unit="variance"),
    )
}


def accuracy(predictions: xr.DataArray, responses: xr.DataArray, *, metric: str = "correlation") -> xr.DataArray:
    r"""Score predictions of each voxel over single trials, or over images averaged over repetitions.

    The default is the Pearson correlation

    .. math:: r_v = \frac{\sum_t (p_{tv} - \bar p_v)(y_{tv} - \bar y_v)}
                         {\sqrt{\sum_t (p_{tv} - \bar p_v)^2 \sum_t (y_{tv} - \bar y_v)^2}}.

    Parameters
    ----------
    predictions : xr.DataArray, (trial, voxel) or (image, voxel)
        Any scale, lazy or not. Predictions by ``image`` need the coordinate ``nsd_id``; they are looked up for each
        trial (or image) of the responses. Arrays of NumPy and tensors are paired with the responses row by row.
    responses : xr.DataArray, (trial, voxel) or (image, voxel)
        By ``image``: averages such as ``.nsd.mean_over_repetitions()`` returns. Their ceiling is
        ``noise_ceiling(responses)``, which reads the number of repetitions from the coordinate.
    metric : str
        A key of :data:`METRICS`: ``correlation``, ``rank_correlation``, ``r2`` or ``explained_variance``.

    Returns
    -------
    xr.DataArray, (voxel,)
        Lazy if an input is. Correlations lie in [-1, 1] and are 0 where either side is constant or holds a NaN, as
        published; ``r2`` and ``explained_variance`` are at most 1, and NaN where responses are constant or NaN. The
        attribute ``trials_per_image`` of a score on averages is the harmonic mean of their numbers of trials.

    Raises
    ------
    SelectionError
        An image has no prediction, voxels differ, or the metric is unknown.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from nsdflow.analysis import accuracy
    >>> y = xr.DataArray(np.arange(8.0).reshape(4, 2), dims=("trial", "voxel"))
    >>> accuracy(2 * y + 1, y).values
    array([1., 1.])
    """
    chosen = _metric(metric)
    predicted, measured = align_trials(predictions, responses)
    result: xr.DataArray = xr.apply_ufunc(
        _score,
        predicted,
        measured,
        kwargs={"metric": chosen},
        input_core_dims=[["trial"], ["trial"]],
        dask="parallelized",
        output_dtypes=[np.float64],
    )
    attrs = label_of(chosen.variable) | _averaged(as_labelled(responses, ("trial", "voxel")))
    return result.rename(chosen.variable).assign_attrs(attrs)


def uncertainty(
    predictions: xr.DataArray,
    responses: xr.DataArray,
    *,
    metric: str = "correlation",
    resamples: int = 64,
    seed: int = 0,
) -> xr.Dataset:
    """Mean and standard deviation of :func:`accuracy` over bootstrap resamples of the trials.

    Parameters
    ----------
    predictions, responses : xr.DataArray
        As for :func:`accuracy`.
    metric : str
        As for :func:`accuracy`.
    resamples : int
        Number of resamples; each draws as many trials as the responses have, with replacement.
    seed : int
        Seed of the draw. All voxels share the resamples, so chunks never change a value.

    Returns
    -------
    xr.Dataset
        ``accuracy_mean`` and ``accuracy_std`` (voxel,), the latter with ddof 0. Lazy if an input is.
    """
    chosen = _metric(metric)
    predicted, measured = align_trials(predictions, responses)
    counts = resample_counts(measured.sizes["trial"], resamples, seed)
    mean, std = xr.apply_ufunc(
        _resampled_score,
        predicted,
        measured,
        kwargs={"counts": counts, "metric": chosen},
        input_core_dims=[["trial"], ["trial"]],
        output_core_dims=[[], []],
        dask="parallelized",
        output_dtypes=[np.float64, np.float64],
    )
    bootstrap = {"bootstrap_resamples": resamples, "bootstrap_seed": seed, "metric": metric}
    return described(xr.Dataset({"accuracy_mean": mean, "accuracy_std": std}, attrs=bootstrap))


def evaluate(predictions: xr.DataArray, responses: xr.DataArray, *, resamples: int = 64, seed: int = 0) -> xr.Dataset:
    """Compute all scores of validation predictions that the results of a run hold.

    Parameters
    ----------
    predictions : xr.DataArray, (image, voxel)
        With coordinate ``nsd_id``.
    responses : xr.DataArray, (trial, voxel) or (image, voxel)
        With coordinate ``nsd_id`` and, for the ceiling, ``ncsnr`` (voxel,); by image also ``repetitions``.
    resamples : int
        Bootstrap resamples of the trials; 0 leaves out ``accuracy_std``.
    seed : int
        Seed of the bootstrap and of the control.

    Returns
    -------
    xr.Dataset
        (voxel,) float32: ``accuracy`` and the other stored metrics, ``accuracy_std``, ``accuracy_shuffled`` (the
        control: predictions of other images), ``noise_ceiling`` of single trials or of the averages; attributes count
        validation trials and images.

    Raises
    ------
    SelectionError
        As for :func:`accuracy`, or averages lack the coordinate ``repetitions``.
    """
    variables = {
        metric.variable: accuracy(predictions, responses, metric=name)
        for name, metric in METRICS.items()
        if metric.stored
    }
    if resamples:
        variables["accuracy_std"] = uncertainty(predictions, responses, resamples=resamples, seed=seed)["accuracy_std"]
    if predictions.sizes["image"] > 1:
        control = accuracy(shuffle_images(predictions, seed), responses)
        variables["accuracy_shuffled"] = control.assign_attrs(label_of("accuracy_shuffled"))
    if "ncsnr" in responses.coords:
        of = "averaged trials" if "image" in responses.dims else "single trials"
        ceiling = noise_ceiling(responses)
        variables["noise_ceiling"] = ceiling.assign_attrs(long_name=f"noise ceiling of {of} (correlation)")
    trials = responses["repetitions"].sum() if "repetitions" in responses.coords else responses["nsd_id"].size
    counts = {"validation_trials": int(trials), "validation_images": np.unique(responses["nsd_id"]).size}
    bare = {name: values.reset_coords(drop=True).astype(np.float32) for name, values in variables.items()}
    return xr.Dataset(bare, attrs=counts)


def shuffle_images(predictions: xr.DataArray, seed: int = 0) -> xr.DataArray:
    """Give every image the predictions of another one: the control that any accuracy must beat.

    Parameters
    ----------
    predictions : xr.DataArray, (image, ...)
    seed : int

    Returns
    -------
    xr.DataArray
        The same rows under other images; with two images or more, none keeps its own.
    """
    order = np.random.default_rng(seed).permutation(predictions.sizes["image"])
    source = np.empty_like(order)
    source[order] = np.roll(order, 1)  # one cycle through all images
    return predictions.copy(data=predictions.isel(image=source).data)


def normalised_accuracy(
    accuracy: xr.DataArray, ceiling: xr.DataArray | None = None, *, minimum: float = 0.1
) -> xr.DataArray:
    """Accuracy as a share of what can be reached.

    Parameters
    ----------
    accuracy : xr.DataArray, (voxel,)
        Scores by a metric of :data:`METRICS`, under the name of its variable; correlations under any other name.
    ceiling : xr.DataArray, (voxel,), optional
        By default the noise ceiling from the coordinate ``ncsnr`` of ``accuracy``, for single trials, or for averages
        of as many trials as the attribute ``trials_per_image`` of ``accuracy`` says; its square for a metric that is a
        share of variance.
    minimum : float
        Voxels with a lower ceiling become NaN: the ratio has no bound near 0. Summarise by the median, or divide the
        medians.

    Returns
    -------
    xr.DataArray, (voxel,)
        1 is a perfect model. Values above 1 occur by chance, since both sides are estimates.

    Raises
    ------
    SelectionError
        There is neither a ceiling nor ``ncsnr``.
    """
    trials = accuracy.attrs.get("trials_per_image", 1)
    if ceiling is None and "ncsnr" not in accuracy.coords:
        raise SelectionError("accuracy lacks the coordinate ncsnr; give the ceiling")
    limit = noise_ceiling(accuracy["ncsnr"], trials) ** _power(accuracy.name) if ceiling is None else ceiling
    share = accuracy / limit.where(limit >= minimum)
    return described(share.rename("normalised_accuracy"))


def _power(variable: Hashable) -> int:
    """Power of the noise ceiling that is the ceiling of a metric."""
    return 2 if variable in {metric.variable for metric in METRICS.values() if metric.unit == "variance"} else 1


def _averaged(responses: xr.DataArray) -> dict[str, float]:
    """Attribute of scores on averages: trials per image, 1 / mean(1 / k)."""
    if "image" not in responses.dims or "repetitions" not in responses.coords:
        return {}
    return {"trials_per_image": float(1 / (1 / responses["repetitions"].values).mean())}


def _metric(name: str) -> Metric:
    if name not in METRICS:
        raise one_of("metric", name, list(METRICS))
    return METRICS[name]


def _score(x: Floats, y: Floats, *, metric: Metric) -> Floats:
    if metric.ranked:
        from scipy.stats import rankdata  # takes half a second to import

        x, y = rankdata(x, axis=-1, nan_policy="propagate"), rankdata(y, axis=-1, nan_policy="propagate")
    return metric.of(moments(x, y))


def _resampled_score(x: Floats, y: Floats, *, counts: Floats, metric: Metric) -> tuple[Floats, Floats]:
    if metric.ranked:
        drawn = (np.repeat(np.arange(counts.shape[1]), row) for row in counts.astype(int))
        return mean_and_std(np.stack([_score(x[..., rows], y[..., rows], metric=metric) for rows in drawn], -1))
    bias = x.mean(-1, dtype=np.float64) - y.mean(-1, dtype=np.float64)
    return mean_and_std(metric.of(resampled_moments(y, counts)(centred(x), bias)))
