"""A noise model of measured responses, and synthetic responses drawn from it.

Synthetic responses have the signal of a known model and the noise correlations of the data. Whatever an analysis finds
in them that the model does not have is an artefact of the analysis.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.linalg import eigh

from nsdflow.analysis.alignment import align_trials
from nsdflow.analysis.moments import centred
from nsdflow.labels import described

__all__ = ["add_noise", "nearest_factor", "noise_model", "synthetic_responses"]

Floats = NDArray[np.floating[Any]]


def noise_model(predictions: xr.DataArray, responses: xr.DataArray) -> xr.Dataset:
    r"""Splits the correlations between voxels into those of the predicted signal and those of noise.

    With the correlations C of the measured voxels, A of the predicted ones and P of measured (rows) with predicted
    voxels (columns), the gain of each voxel's signal is

    .. math:: b_v = \sum_w P_{vw} A_{vw} \Big/ \sum_w A_{vw}^2,

    and the noise must explain :math:`T = C - \operatorname{diag}(b)\, A \operatorname{diag}(b)`. The mixing matrix R
    is such that R R' is the positive semi-definite matrix nearest to T (Frobenius norm): the eigenvalues of T below
    zero are set to zero, which is the exact minimum over all R (Higham 1988, Linear Algebra Appl. 103, 103-118).

    Parameters
    ----------
    predictions : xr.DataArray, (trial, voxel) or (image, voxel)
        Of one subject; by ``image`` with coordinate ``nsd_id``. Loaded.
    responses : xr.DataArray, (trial, voxel)
        Validation responses, single trials. Loaded.

    Returns
    -------
    xr.Dataset
        ``gain`` b (voxel,); ``mixing`` R (voxel, component) with as many components as T has positive eigenvalues, the
        largest first; ``residual``, the Frobenius norm of R R' - T; ``target_norm``, that of T.
    """
    predicted, measured = align_trials(predictions, responses)
    p, y = (_unit_columns(values.transpose("voxel", "trial").values) for values in (predicted, measured))
    gain, target = _noise_target(p, y)
    mixing, residual = nearest_factor(target)
    voxel = {name: c for name, c in measured.coords.items() if c.dims == ("voxel",)}
    model = xr.Dataset(
        {
            "gain": ("voxel", gain),
            "mixing": (("voxel", "component"), mixing),
            "residual": residual,
            "target_norm": float(np.linalg.norm(target)),
        },
        voxel,
    )
    return described(model)


def synthetic_responses(
    model: xr.Dataset, signal: xr.DataArray, *, repeats: int = 3, noise: bool = True, seed: int = 0, first: int = 0
) -> xr.DataArray:
    r"""Responses of a known signal: :math:`y = b \cdot \text{signal} + R n`, n standard normal.

    Parameters
    ----------
    model : xr.Dataset
        What :func:`noise_model` returned.
    signal : xr.DataArray, (image, voxel)
        Predictions, each voxel z-scored, with coordinate ``nsd_id``. Lazy along ``image`` or not.
    repeats : int
        Presentations of every image, each with independent noise.
    noise : bool
        False leaves the noise out.
    seed : int
        The noise of a presentation is drawn from (seed, nsd_id, its number): no chunk, selection of images or number of
        repeats changes it.
    first : int
        Number of the first presentation, so that presentations can be drawn a few at a time.

    Returns
    -------
    xr.DataArray, (image, repetition, voxel)
        float32, in units of the z-scored responses; lazy if ``signal`` is.
    """
    gain, mixing = (model[name].astype(np.float32) for name in ("gain", "mixing"))
    result: xr.DataArray = xr.apply_ufunc(
        _draw,
        signal.chunk(voxel=-1) if signal.chunks else signal,
        signal["nsd_id"],
        gain,
        mixing if noise else mixing.isel(component=slice(0)),
        kwargs={"repetitions": range(first, first + repeats), "seed": seed},
        input_core_dims=[["voxel"], [], ["voxel"], ["voxel", "component"]],
        output_core_dims=[["repetition", "voxel"]],
        dask="parallelized",
        output_dtypes=[np.float32],
        dask_gufunc_kwargs={"output_sizes": {"repetition": repeats}},
    )
    return described(result.rename("responses"))


def nearest_factor(target: Floats) -> tuple[Floats, float]:
    """R (n, k) with R R' the positive semi-definite matrix nearest to a symmetric one, and the distance."""
    values, vectors = eigh(target, driver="evd", check_finite=False)
    values, vectors = values[::-1], vectors[:, ::-1]
    # the smallest eigenvalues of a singular target are rounding: they would add components of no size
    kept = values > max(values[0], 0) * target.shape[0] * np.finfo(target.dtype).eps
    return vectors[:, kept] * np.sqrt(values[kept]), float(np.linalg.norm(values[~kept]))


def add_noise(signal: Floats, mixing: Floats, normal: Floats) -> Floats:
    """``signal`` b s (trial, voxel) plus R n, for R (voxel, component) and standard normal n (trial, component)."""
    noisy: Floats = signal + normal @ mixing.T
    return noisy


def _unit_columns(values: Floats) -> Floats:
    """Each voxel (voxel, trial) centred and of length one, so that products are correlations; constants are 0."""
    x = centred(values)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    unit: Floats = np.divide(x, length, out=np.zeros_like(x), where=length > 0)
    return unit


def _noise_target(p: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Gain b (voxel,) and target T (voxel, voxel) from unit columns of predictions and responses."""
    a = p @ p.T
    power = (a * a).sum(1)
    gain = np.divide(((y @ p.T) * a).sum(1), power, out=np.zeros_like(power), where=power > 0)
    a *= gain[:, None] * gain
    return gain, y @ y.T - a


def _draw(
    signal: Floats, nsd_id: NDArray[np.integer[Any]], gain: Floats, mixing: Floats, *, repetitions: range, seed: int
) -> Floats:
    response = np.repeat((gain * signal)[..., None, :], len(repetitions), axis=-2).astype(np.float32)
    if components := mixing.shape[1]:
        for presentation, repetition in enumerate(repetitions):
            drawn = (np.random.default_rng((seed, int(image), repetition)) for image in nsd_id)
            normal = np.stack([generator.standard_normal(components, np.float32) for generator in drawn])
            response[:, presentation] = add_noise(response[:, presentation], mixing, normal)
    return response
