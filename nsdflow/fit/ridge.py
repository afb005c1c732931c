"""Ridge regression of many voxels on one set of rows, for many lambdas, in whichever form is cheaper.

With Z (row, feature) the training rows and B (row, voxel) their responses, the predictions of holdout rows H are

    primal    H (Z'Z + lambda I)^-1 Z'B        a features x features system
    dual      H Z' (Z Z' + lambda I)^-1 B      a rows x rows system

and both are K(lambda) T with K = R (A + lambda I)^-1: only A, R and T differ. K is solved for the holdout rows by
Cholesky, never as an inverse, and no weights are needed to compare lambdas.

The dual system is formed and factored in float64: it has as many directions as rows, most of them far below its
largest, and float32 rounding would compare with lambda there. The primal one is as good in float32 (measured on the
published cases: losses within 1e-6 of an all-float64 fit in either, against 2e-4 for a float32 dual).

Holdout rows that repeat training rows (the published holdout splits the trials of an image) need no product with them
in the dual form: A (A + lambda I)^-1 = I - lambda (A + lambda I)^-1, of which the last rows cost a third of a solve.

Both forms factor once a lambda. One eigendecomposition for all lambdas would serve the dual form too, at the cost of
some fifteen factors and of a product with all responses: with nine lambdas it took 6 % longer on one CPU thread (900
images, 2,000 voxels).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

__all__ = [
    "Form",
    "cheaper_form",
    "floating_point_work",
    "gram",
    "holdout_operators",
    "ridge_weights",
    "system_dtype",
]

Form = Literal["primal", "dual"]

#: Rows of a Gram matrix that are multiplied at once.
GRAM_TILE = 192


def floating_point_work(form: Form, *, rows: int, features: int, holdout: int, voxels: int, lambdas: int) -> float:
    """Additions and multiplications to score all lambdas on the holdout rows."""
    if form == "primal":
        side, setup = features, 2.0 * rows * features * (features + voxels)
    else:
        side, setup = rows, 2.0 * rows * features * (rows + holdout)
    return setup + lambdas * (side**3 / 3 + 2.0 * side**2 * holdout + 2.0 * holdout * side * voxels)


def cheaper_form(*, rows: int, features: int, holdout: int, voxels: int, lambdas: int) -> Form:
    """The form with less work."""
    primal, dual = (
        floating_point_work(form, rows=rows, features=features, holdout=holdout, voxels=voxels, lambdas=lambdas)
        for form in ("primal", "dual")
    )
    return "primal" if primal <= dual else "dual"


def system_dtype(form: Form) -> torch.dtype:
    """Precision in which a form's system is formed and factored."""
    return torch.float32 if form == "primal" else torch.float64


def holdout_operators(
    rows: Tensor, holdout: Tensor, lambdas: Sequence[float], form: Form, repeated: Tensor | None = None
) -> Iterator[Tensor]:
    """K of each lambda in turn, (holdout row, feature) or (holdout row, training row), float32.

    Multiply by ``rows.T @ responses`` (primal) or by ``responses`` (dual) for predictions.

    Parameters
    ----------
    rows : (training row, feature).
    holdout : (holdout row, feature).
    repeated : (r,) factors by which the first r holdout rows are the last r training rows; none if None.
    """
    if form == "primal":
        system = gram(rows.T)
        for strength in lambdas:
            yield torch.cholesky_solve(holdout.T, _factor(system, strength)).T
        return
    factors = rows.new_empty(0).double() if repeated is None else repeated.double()
    wide = rows.double()
    system, new = gram(wide), holdout[len(factors) :].double() @ wide.T
    for strength in lambdas:
        factor = _factor(system, strength)
        old = _last_rows_of_inverse(factor, len(factors)).mul_(-strength)
        old[:, len(rows) - len(factors) :].diagonal().add_(1)
        yield torch.cat([old.mul_(factors[:, None]), torch.cholesky_solve(new.T, factor).T]).float()


def ridge_weights(rows: Tensor, responses: Tensor, strengths: Tensor, form: Form) -> Tensor:
    """Weights (feature, voxel) of every voxel with its own lambda, ``strengths`` (voxel,)."""
    system = gram(rows.T if form == "primal" else rows.double())
    right = rows.T @ responses if form == "primal" else responses.double()
    solved = torch.empty_like(right)
    for strength in strengths.unique():
        voxels = strengths == strength
        solved[:, voxels] = torch.cholesky_solve(right[:, voxels], _factor(system, float(strength)))
    return solved if form == "primal" else rows.T @ solved.float()


def gram(rows: Tensor) -> Tensor:
    """``rows @ rows.T``, of which only the lower triangle is filled: half the work."""
    product = torch.zeros(len(rows), len(rows), dtype=rows.dtype, device=rows.device)
    for start in range(0, len(rows), GRAM_TILE):
        stop = min(start + GRAM_TILE, len(rows))
        torch.mm(rows[start:stop], rows[:stop].T, out=product[start:stop, :stop])
    return product


def _factor(system: Tensor, strength: float) -> Tensor:
    """Cholesky factor of ``system + strength I``."""
    shifted = system.clone()
    shifted.diagonal().add_(strength)
    factor: Tensor = torch.linalg.cholesky(shifted)
    return factor


def _last_rows_of_inverse(factor: Tensor, count: int) -> Tensor:
    """Last ``count`` rows of the inverse of ``factor @ factor.T``."""
    first = len(factor) - count
    corner = torch.cholesky_inverse(factor[first:, first:])
    right = factor[first:, :first].T @ corner
    beside = torch.linalg.solve_triangular(factor[:first, :first].T, right, upper=True)
    return torch.cat([-beside.T, corner], dim=1)
