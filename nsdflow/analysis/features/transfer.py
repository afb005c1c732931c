"""Transfer between areas: how well features learned from one area predict another, and in which direction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nsdflow.analysis.rois import EARLY_AREAS, roi_names
from nsdflow.labels import described

__all__ = ["transfer_asymmetry", "transfer_matrices", "transfer_matrix"]

Floats = NDArray[np.float64]


def transfer_matrix(
    transferred: xr.DataArray, own: xr.DataArray, roi: xr.DataArray, *, areas: tuple[str, ...] = EARLY_AREAS
) -> xr.DataArray:
    r"""Loss of accuracy (below 0) of each area that is predicted from the trunk of another.

    .. math:: m_{ij} = \operatorname{mean}_{v \in \text{area } j} (c^{(i)}_v - c^{\text{own}}_v)

    Parameters
    ----------
    transferred : xr.DataArray, (model, voxel)
        Accuracy of readouts fitted on the trunk of area i, with coordinate ``model`` naming the area.
    own : xr.DataArray, (voxel,)
        Accuracy of the model trained on the voxel's own area.
    roi : xr.DataArray, (voxel,)
        Labels or names.
    areas : tuple of str
        Rows and columns, from the lowest to the highest of the supposed hierarchy.

    Returns
    -------
    xr.DataArray, (model, roi)
        Differences of correlations; NaN for an area without voxels.
    """
    names = roi_names(roi)
    own = own.drop_vars("model", errors="ignore").astype(np.float64)
    loss = (transferred.astype(np.float64) - own).sel(model=list(areas))
    columns = [loss.where(names == area).mean("voxel") for area in areas]
    matrix = xr.concat(columns, dim=xr.DataArray(list(areas), dims="roi", name="roi"))
    return described(matrix.transpose("model", "roi").rename("transfer"))


def transfer_matrices(subjects: Mapping[str, xr.Dataset], *, areas: tuple[str, ...] = EARLY_AREAS) -> xr.DataArray:
    """:func:`transfer_matrix` of every subject, and of all their voxels together as subject ``"all"``.

    Parameters
    ----------
    subjects : mapping of str to xr.Dataset
        Of each subject ``transfer_accuracy`` (model, voxel), ``accuracy`` (voxel,) of the areas' own models, and
        ``roi`` (voxel,).
    areas : tuple of str
        As for :func:`transfer_matrix`.

    Returns
    -------
    xr.DataArray, (subject, model, roi)
        Differences of correlations.
    """
    kept = [subject[["transfer_accuracy", "accuracy", "roi"]].reset_coords("roi") for subject in subjects.values()]
    bare = [subject.drop_vars([n for n in subject.coords if n != "model"]) for subject in kept]
    everyone = [*bare, xr.concat(bare, "voxel", data_vars="minimal")]
    matrices = [transfer_matrix(s["transfer_accuracy"], s["accuracy"], s["roi"], areas=areas) for s in everyone]
    return xr.concat(matrices, xr.DataArray([*subjects, "all"], dims="subject", name="subject"))


def transfer_asymmetry(matrix: xr.DataArray) -> xr.Dataset:
    r"""Whether transfer works better up the hierarchy or down.

    Let d = \|row - column\| count the steps between two areas. The slope of m = a d through the origin, by least
    squares, over the entries below the diagonal (the model of a higher area predicts a lower one) is
    :math:`a_\uparrow`, over those above it :math:`a_\downarrow`, with standard errors :math:`e`. Then

    .. math:: \alpha = \frac{a_\uparrow - a_\downarrow}{|a_\uparrow| + |a_\downarrow|}, \qquad
        e_\alpha = |\alpha| \sqrt{\frac{e_\uparrow^2 + e_\downarrow^2}{(a_\uparrow - a_\downarrow)^2}
                                + \frac{e_\uparrow^2 + e_\downarrow^2}{(|a_\uparrow| + |a_\downarrow|)^2}}

    Parameters
    ----------
    matrix : xr.DataArray, (..., model, roi)
        Areas in the same order on both, and any further dimensions (such as ``subject``).

    Returns
    -------
    xr.Dataset, (...)
        ``alpha``, ``alpha_error``, ``up``, ``up_error``, ``down``, ``down_error``. The errors need three areas (two
        entries per triangle); with fewer they are NaN.
    """
    names = ("alpha", "alpha_error", "up", "up_error", "down", "down_error")
    outputs = xr.apply_ufunc(
        _asymmetry,
        matrix,
        input_core_dims=[["model", "roi"]],
        output_core_dims=[[]] * len(names),
        dask="parallelized",
        output_dtypes=[np.float64] * len(names),
    )
    return described(xr.Dataset(dict(zip(names, outputs, strict=True))))


def _asymmetry(matrix: NDArray[np.floating[Any]]) -> tuple[Floats, ...]:
    rows, columns = np.indices(matrix.shape[-2:])
    steps = np.abs(rows - columns).astype(np.float64)
    (up, up_error), (down, down_error) = (
        _slope(steps[side], matrix[..., side].astype(np.float64)) for side in (rows > columns, rows < columns)
    )
    difference, total, variance = up - down, abs(up) + abs(down), up_error**2 + down_error**2
    with np.errstate(divide="ignore", invalid="ignore"):
        alpha = difference / total
        # |alpha| times the root of the relative variances, written so that alpha = 0 keeps its error
        error = np.sqrt(variance * (1 + alpha**2)) / total
    return alpha, error, up, up_error, down, down_error


def _slope(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Least squares slope through the origin of ``y`` (..., point) on ``x`` (point,), and its standard error."""
    slope: Floats = np.einsum("...n,n->...", y, x) / np.square(x).sum()
    squares = ((y - slope[..., None] * x) ** 2).sum(-1)
    freedom = x.size - 1
    error = np.sqrt(squares / freedom / np.square(x).sum()) if freedom else np.full_like(slope, np.nan)
    return slope, error
