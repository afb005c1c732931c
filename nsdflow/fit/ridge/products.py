"""Gram matrix of standardised features, accumulated over blocks of features, and its required precision."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from nsdflow.errors import RunError
from nsdflow.fit.ridge.cholesky import add_products_, make_tiles
from nsdflow.fit.ridge.inputs import CPU, Columns, FeatureStatistics, as_tensor, blocks, standardised_columns

__all__ = ["RidgePrecision", "accumulate", "cross_products", "float32_limit", "upper_norm"]

#: ``auto`` is float32 if the norm is below :func:`float32_limit`, else float64.
RidgePrecision = Literal["auto", "float32", "float64"]

#: Largest float32 rounding error of the largest eigenvalue, in units of lambda, for predictions of a holdout.
FLOAT32_ROUNDING = 0.05
#: The same for leverages h, where the difference 1 - h matters.
FLOAT32_ROUNDING_CLOSED = 0.005


def accumulate(
    features: Columns,
    order: Tensor,
    weight: Tensor,
    *,
    center: bool,
    scale: bool,
    dtype: torch.dtype,
    at_once: int,
    keep: bool = False,
    limit: float = math.inf,
    device: torch.device = CPU,
) -> tuple[Tensor | None, FeatureStatistics, Tensor | None]:
    """Accumulate X X' of all images over blocks of features, without holding X; or return X.

    Parameters
    ----------
    features : Columns
        (image, feature) raw features.
    order : torch.Tensor
        (image,) int64, rows of the features in output order.
    weight : torch.Tensor
        (image,) float64, in output order, number of trials as weight in mean and standard deviation.
    center : bool
        Subtract the mean.
    scale : bool
        Divide by the standard deviation.
    dtype : torch.dtype
        Dtype of S.
    at_once : int
        Features per block.
    keep : bool
        Return the standardised X instead of the products (the primal form).
    limit : float
        Frobenius norm of X X' above which the products are given up. The norm grows with every block of features, so
        that a part of them can show that it exceeds the limit.

    Returns
    -------
    S : torch.Tensor or None
        (image, image) on the device, with X X' in its upper triangle; None with ``keep``, and above the limit.
    statistics : FeatureStatistics
        Mean and standard deviation (feature,), on the CPU.
    X : torch.Tensor or None
        (image, feature) standardised features on the device; None without ``keep``.

    Raises
    ------
    RunError
        A feature is not finite.
    """
    images, count = len(order), int(features.shape[1])
    S = None if keep else torch.zeros(images, images, dtype=dtype, device=device)
    kind = as_tensor(features[:, :1]).dtype
    X = torch.empty(images, count, dtype=kind, device=device) if keep else None
    mean, std = torch.empty(count, dtype=kind), torch.empty(count, dtype=kind)
    tiles = make_tiles(torch.ones(images, dtype=torch.bool))
    straight = bool((order == torch.arange(images)).all())
    order = order.to(device)
    for number, columns in enumerate(blocks(count, at_once), 1):
        values = as_tensor(features[:, columns], device)
        values = values.clone() if straight else values[order]
        if not bool(values.sum().isfinite()) and not bool(values.isfinite().all()):
            broken = int((~values.isfinite()).any(1).nonzero()[0, 0])
            raise RunError(
                f"features of image row {int(order[broken])} are not finite; check the images or the network"
            )
        values, centre, deviation = standardised_columns(values, weight, center=center, scale=scale)
        mean[columns], std[columns] = centre.cpu(), deviation.cpu()
        if X is not None:
            X[:, columns] = values
        if S is not None:
            add_products_(S, values.to(dtype), tiles)
            power_of_two = number & (number - 1) == 0
            if (columns.stop == count or power_of_two) and limit < math.inf and upper_norm(S) > limit:
                return None, FeatureStatistics(mean, std), X
    return S, FeatureStatistics(mean, std), X


def cross_products(
    features: Columns,
    order: Tensor,
    others: Columns,
    statistics: FeatureStatistics,
    *,
    at_once: int,
    device: torch.device = CPU,
) -> Tensor:
    """Compute the products K (other, image) of other rows with the training images, both standardised, on a device."""
    statistics, order = statistics.to(device), order.to(device)
    K = torch.zeros(int(others.shape[0]), len(order), dtype=statistics.mean.dtype, device=device)
    for columns in blocks(int(features.shape[1]), at_once):
        here = statistics.apply(as_tensor(features[:, columns], device)[order], columns)
        there = statistics.apply(as_tensor(others[:, columns], device).clone(), columns)
        K.addmm_(there, here.T)
    return K


def upper_norm(S: Tensor) -> float:
    """Compute the Frobenius norm of the symmetric matrix in the upper triangle of S, a bound on its eigenvalues."""
    total = 0.0
    for start in range(0, len(S), 1024):
        rows = S[start : start + 1024].triu(start + 1)
        total += 2 * float(rows.square().sum(dtype=torch.float64))
    return float((total + float(S.diagonal().double().square().sum())) ** 0.5)


def float32_limit(smallest: float, *, closed: bool = False) -> float:
    """Return the largest norm of a system that can be factored in float32 with ``smallest``, the smallest lambda.

    The rounding error of a factorisation is relative to the largest eigenvalue, which the norm bounds. The error must
    be well below lambda, which dominates the small directions. ``closed`` applies the stricter limit of leave-one-out
    and generalised cross-validation.
    """
    allowed = FLOAT32_ROUNDING_CLOSED if closed else FLOAT32_ROUNDING
    return allowed * smallest / torch.finfo(torch.float32).eps
