"""Least squares fits of rotated Gaussians to many small images at once, by Levenberg-Marquardt in batches."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["PARAMETERS", "fit_gaussians", "gaussian"]

Floats = NDArray[np.float64]

PARAMETERS = ("log_amplitude", "x", "y", "log_sigma_x", "log_sigma_y", "angle", "offset")

_BLOCK = 256
"""Images fitted together: the Jacobian of a block of 25 x 25 pixels is 9 MB."""

_ITERATIONS = 300


def fit_gaussians(images: NDArray[np.floating[Any]]) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Parameters (..., 7), root of the residual sum of squares (...) and success (...) for ``images`` (..., y, x).

    A flat image, or one with a value that is not finite, gives NaN and no success.
    """
    shape = images.shape[:-2]
    flat = images.reshape(-1, *images.shape[-2:]).astype(np.float64)
    parameters = np.full((len(flat), len(PARAMETERS)), np.nan)
    residual = np.full(len(flat), np.nan)
    success = np.zeros(len(flat), dtype=bool)
    spans = flat.max((1, 2)) - flat.min((1, 2))
    usable = np.flatnonzero(np.isfinite(spans) & (spans > 0))
    grid = _grid(*images.shape[-2:])
    for start in range(0, usable.size, _BLOCK):
        block = usable[start : start + _BLOCK]
        parameters[block], residual[block], success[block] = _fit(flat[block].reshape(block.size, -1), grid)
    return parameters.reshape(*shape, -1), residual.reshape(shape), success.reshape(shape)


def gaussian(parameters: Floats, height: int, width: int) -> Floats:
    """The images (..., y, x) that ``parameters`` (..., 7) describe."""
    values, _ = _model(parameters.reshape(-1, len(PARAMETERS)), _grid(height, width))
    return values.reshape(*parameters.shape[:-1], height, width)


def _grid(height: int, width: int) -> Floats:
    """Positions (2, pixel), x to the right and y up, outermost pixels at -0.5 and 0.5."""
    x, y = np.meshgrid(np.linspace(-0.5, 0.5, width), np.linspace(0.5, -0.5, height))
    return np.stack([x.ravel(), y.ravel()])


def _model(parameters: Floats, grid: Floats) -> tuple[Floats, Floats]:
    """Values (n, pixel) and their derivatives by each parameter (n, pixel, 7)."""
    log_amplitude, x0, y0, log_x, log_y, angle, offset = parameters.T[..., None]
    cos, sin = np.cos(angle), np.sin(angle)
    dx, dy = grid[0] - x0, grid[1] - y0
    precision_x, precision_y = np.exp(-2 * log_x), np.exp(-2 * log_y)
    u, v = cos * dx - sin * dy, sin * dx + cos * dy
    bump = np.exp(log_amplitude - (u * u * precision_x + v * v * precision_y) / 2)
    derivatives = (
        bump,
        bump * (cos * u * precision_x + sin * v * precision_y),
        bump * (cos * v * precision_y - sin * u * precision_x),
        bump * u * u * precision_x,
        bump * v * v * precision_y,
        bump * u * v * (precision_x - precision_y),
        np.ones_like(bump),
    )
    return bump + offset, np.stack(derivatives, -1)


def _moments(values: Floats, grid: Floats) -> Floats:
    """Start of the fit: moments of the image minus its smallest value, taken as a density."""
    offset = values.min(1)
    height = values.max(1) - offset
    density = values - offset[:, None]
    density = density / density.sum(1, keepdims=True)
    centre = density @ grid.T
    spread = grid[None] - centre[..., None]
    xx, yy, xy = (np.einsum("np,np,np->n", density, spread[:, a], spread[:, b]) for a, b in ((0, 0), (1, 1), (0, 1)))
    smallest = np.min(np.diff(np.unique(grid[0]))) ** 2 / 4
    angle = -np.arctan2(2 * xy, xx - yy) / 2
    mean, half = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    log_x, log_y = (np.log(np.maximum(mean + sign * half, smallest)) / 2 for sign in (1, -1))
    return np.stack([np.log(height), *centre.T, log_x, log_y, angle, offset], 1)


def _fit(values: Floats, grid: Floats) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Levenberg-Marquardt for all images of a block (n, pixel); converged images no longer change."""
    scale = np.ptp(values, axis=1)  # a common scale for values and offset: log amplitudes shift by its log
    values = values / scale[:, None]
    best = _moments(values, grid)
    fitted, jacobian = _model(best, grid)
    cost = ((fitted - values) ** 2).sum(1)
    damping = np.full(len(values), 1e-3)
    active = np.ones(len(values), dtype=bool)
    for _ in range(_ITERATIONS):
        step = _step(jacobian[active], (values - fitted)[active], damping[active])
        with np.errstate(over="ignore", invalid="ignore"):  # a step that is too large gives inf or NaN, and is rejected
            trial_values, trial_jacobian = _model(best[active] + step, grid)
            trial_cost = ((trial_values - values[active]) ** 2).sum(1)
        better = trial_cost < cost[active]
        small = np.abs(step).max(1) < 1e-9
        rows = np.flatnonzero(active)
        won = rows[better]
        best[won] += step[better]
        fitted[won], jacobian[won], cost[won] = trial_values[better], trial_jacobian[better], trial_cost[better]
        damping[rows] = np.where(better, damping[rows] / 10, damping[rows] * 10).clip(1e-12, 1e12)
        active[rows[small]] = False
        if not active.any():
            break
    best[:, 0] += np.log(scale)
    best[:, 6] *= scale
    return _upright(best), np.sqrt(cost) * scale, ~active


def _step(jacobian: Floats, residual: Floats, damping: Floats) -> Floats:
    """Damped Gauss-Newton step (n, 7)."""
    curvature = jacobian.mT @ jacobian
    gradient = jacobian.mT @ residual[..., None]
    diagonal = np.einsum("nkk->nk", curvature)
    floor = 1e-12 * diagonal.max(1, keepdims=True) + np.finfo(np.float64).tiny  # a round bump has no angle
    damped = curvature + (damping[:, None] * np.maximum(diagonal, floor))[:, :, None] * np.eye(len(PARAMETERS))
    return np.linalg.solve(damped, gradient)[..., 0]


def _upright(parameters: Floats) -> Floats:
    """The same Gaussians with angles in [-pi/4, pi/4): a quarter turn exchanges the two sizes."""
    quarters = np.floor(parameters[:, 5] / (np.pi / 2) + 0.5)
    odd = quarters % 2 == 1
    turned = parameters.copy()
    turned[:, 5] -= quarters * (np.pi / 2)
    turned[odd, 3], turned[odd, 4] = parameters[odd, 4], parameters[odd, 3]
    return turned
