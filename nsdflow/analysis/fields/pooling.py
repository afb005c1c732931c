"""Gaussians fitted to the pooling fields of voxels."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nsdflow.analysis.fields.gaussians import PARAMETERS, fit_gaussians
from nsdflow.labels import described

__all__ = ["pooling_field_fits", "pooling_fields"]

Floats = NDArray[np.floating[Any]]


def pooling_fields(logits: xr.DataArray) -> xr.DataArray:
    """Pooling fields from a readout's logits: the softmax over all pixels, so that each field sums to 1.

    Parameters
    ----------
    logits : xr.DataArray, (voxel, y, x)
        Such as ``pooling_logits_0`` of a run, whose dimensions ``y_0`` and ``x_0`` become ``y`` and ``x``. Lazy or not.

    Returns
    -------
    xr.DataArray, (voxel, y, x)
        Weights of the pixels.
    """
    logits = logits.rename({dim: str(dim)[0] for dim in logits.dims if str(dim)[:2] in ("y_", "x_")})
    raised: xr.DataArray = xr.apply_ufunc(np.exp, logits - logits.max(("y", "x")), dask="allowed")
    return described((raised / raised.sum(("y", "x"))).rename("pooling_field"))


def pooling_field_fits(fields: xr.DataArray) -> xr.Dataset:
    r"""Fit a rotated two-dimensional Gaussian with offset to every pooling field.

    .. math:: g(x, y) = e^{A} \exp\left(-\frac{u^2}{2 \sigma_x^2} - \frac{v^2}{2 \sigma_y^2}\right) + o,
        \quad u = \cos\theta\,(x - x_0) - \sin\theta\,(y - y_0),
        \quad v = \sin\theta\,(x - x_0) + \cos\theta\,(y - y_0)

    by least squares from a moment estimate, amplitude and sizes through exp. Positions are in image widths from the
    centre of gaze, x to the right and y up; as published, the centres of the outermost pixels lie at -0.5 and 0.5.

    Parameters
    ----------
    fields : xr.DataArray, (voxel, y, x)
        Rows downward; see :func:`pooling_fields`. Lazy or not.

    Returns
    -------
    xr.Dataset
        ``parameters`` (voxel, parameter): log_amplitude, x, y, log_sigma_x, log_sigma_y, angle (radians, in
        [-pi/4, pi/4)), offset. By voxel: ``residual``, root of the sum of squared differences; ``eccentricity``,
        distance of the centre from the centre of gaze; ``size``, :math:`\sqrt{\sigma_x \sigma_y}`; ``polar_angle``,
        direction of the centre, radians anticlockwise from the right; ``orientation``, direction of the longer axis
        minus ``polar_angle``, in [-pi/2, pi/2), where 0 points at the centre of gaze; ``fitted``, False where the field
        is flat or not finite, the fit did not converge, or its result is wider than the image or outside it. Such
        voxels keep the result (NaN where there is none).
    """
    parameters, residual, converged = xr.apply_ufunc(
        fit_gaussians,
        fields.chunk(y=-1, x=-1) if fields.chunks else fields,
        input_core_dims=[["y", "x"]],
        output_core_dims=[["parameter"], [], []],
        dask="parallelized",
        output_dtypes=[np.float64, np.float64, np.bool_],
        dask_gufunc_kwargs={"output_sizes": {"parameter": len(PARAMETERS)}},
    )
    parameters = parameters.assign_coords(parameter=list(PARAMETERS))
    geometry = _geometry(parameters)
    fitted = converged & (geometry["size"] < 1) & (geometry["eccentricity"] < 1)
    return described(geometry.assign(parameters=parameters, residual=residual, fitted=fitted))


def _geometry(parameters: xr.DataArray) -> xr.Dataset:
    """Compute position, size and orientation from the parameters."""
    x, y, log_x, log_y, angle = (
        parameters.sel(parameter=name, drop=True) for name in ("x", "y", "log_sigma_x", "log_sigma_y", "angle")
    )
    polar = xr.apply_ufunc(np.arctan2, y, x, dask="allowed")
    longer = xr.where(log_x >= log_y, -angle, np.pi / 2 - angle)
    return xr.Dataset(
        {
            "eccentricity": (x**2 + y**2) ** 0.5,
            "size": xr.apply_ufunc(_exp, (log_x + log_y) / 2, dask="parallelized"),
            "polar_angle": polar,
            "orientation": (longer - polar + np.pi / 2) % np.pi - np.pi / 2,
        }
    )


def _exp(values: Floats) -> Floats:
    """exp, infinite where a fit that did not converge went out of range."""
    with np.errstate(over="ignore"):
        result: Floats = np.exp(values)
    return result
