"""Operators that score all lambdas of one fwRF candidate on its holdout rows, in the cheaper of two forms.

Let Z (row, feature) be the training rows, B (row, voxel) their responses and H (holdout, feature) the holdout rows.
Predictions (holdout, voxel) of the holdout rows are

    primal    H (Z'Z + lambda I)^-1 Z'B        with a system (feature, feature)
    dual      H Z' (Z Z' + lambda I)^-1 B      with a system (row, row)

Both have the form K(lambda) T. The operator K (holdout, side) does not depend on voxels, and T (side, voxel) does not
depend on lambda (:meth:`Scorer.right`). The side is feature or row. Comparing lambdas requires no weights.

The primal system is factored once per lambda (Cholesky) and solved for the holdout rows. Float32 suffices if lambda is
well above the rounding error of the largest directions (:func:`float32_suffices`). On the published cases, float32
losses are within 1e-6 of those in float64, compared with 2e-4 for a float32 dual. Otherwise the form ``primal64``
computes everything in float64.

The dual system is formed and factored in float64. It has one direction per row, most of them far smaller than the
largest, so float32 rounding would be comparable with lambda. One eigendecomposition serves all lambdas. It covers only
a part of the system: the published holdout splits the trials of an image, so most holdout rows repeat training rows.
Let the last r training rows be the repeated ones, and let a be the number of rows before them. In blocks,

    A = Z Z' = [A1 W0'; W0 A2],     A1 = Q E Q' (a, a),     W0 (r, a),     A2 (r, r),     B = [B1; B2],

where E (a,) holds the eigenvalues. With W = W0 Q (r, a), D = (E + lambda I)^-1 (a, a) and the Schur complement
S = A2 + lambda I - W D W' (r, r),

    x2 = S^-1 (B2 - W D Q'B1),     x1 = Q D (Q'B1 - W'x2)     solve (A + lambda I) x = B.

Predictions of the repeated rows are A x = B - lambda x and need no product with features. If no row is repeated,
A1 = A. Weights are needed only for the selected lambdas, for which A + lambda I is factored directly
(:meth:`RidgeSystem.weights`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from nsdflow.errors import RunError

__all__ = [
    "DualScorer",
    "Form",
    "PrimalScorer",
    "RidgeSystem",
    "Scorer",
    "cheaper_form",
    "float32_suffices",
    "floating_point_work",
    "gram",
    "ridge_system",
    "scorer",
    "system_dtype",
]

Form = Literal["primal", "primal64", "dual"]

#: Largest float32 rounding error of the trace of the system, in units of lambda, for a float32 factorisation.
FACTOR_ROUNDING = 0.05
#: Rows of a Gram matrix per product.
GRAM_TILE = 192


def floating_point_work(
    form: Form, *, rows: int, features: int, holdout: int, voxels: int, lambdas: int, repeated: int = 0
) -> float:
    """Count additions and multiplications to score all lambdas on the holdout rows.

    ``repeated`` is the number of holdout rows that repeat training rows. A symmetric product counts half, a Cholesky
    factor of n rows n^3/3, and an eigendecomposition 4 n^3.
    """
    if form != "dual":
        setup = 1.0 * rows * features**2 + 2.0 * rows * features * voxels
        return setup + lambdas * (features**3 / 3 + 2.0 * features**2 * holdout + 2.0 * holdout * features * voxels)
    apart, new = rows - repeated, holdout - repeated
    setup = 1.0 * rows**2 * features + 2.0 * rows * features * new + 4.0 * apart**3
    setup += 2.0 * apart**2 * (holdout + voxels)
    schur = 3.0 * repeated**2 * apart + 1.0 * repeated**3 + 2.0 * new * repeated * (rows + apart)
    return setup + lambdas * (schur + 2.0 * holdout * rows * voxels)


def cheaper_form(*, rows: int, features: int, holdout: int, voxels: int, lambdas: int, repeated: int = 0) -> Form:
    """Return the form with fewer operations."""
    sizes = {"rows": rows, "features": features, "holdout": holdout, "voxels": voxels, "lambdas": lambdas}
    primal, dual = (floating_point_work(form, repeated=repeated, **sizes) for form in ("primal", "dual"))
    return "primal" if primal <= dual else "dual"


def float32_suffices(trace: float, strength: float) -> bool:
    """Whether a primal system Z'Z with this trace can be factored in float32 with ``strength``, the smallest lambda.

    Rounding is relative to the largest eigenvalue, which is at most the trace.
    """
    return torch.finfo(torch.float32).eps * trace <= FACTOR_ROUNDING * strength


def system_dtype(form: Form) -> torch.dtype:
    """Return the dtype in which the system is formed and factored."""
    return torch.float32 if form == "primal" else torch.float64


@dataclass(frozen=True)
class RidgeSystem:
    """Training rows and their products, for any responses and any lambda.

    Parameters
    ----------
    form : {"primal", "primal64", "dual"}
        Form of the system.
    rows : torch.Tensor
        Z (row, feature) float32, training rows.
    gram : torch.Tensor
        Z'Z (feature, feature) in the primal forms, or Z Z' (row, row) in the dual form. Only the lower triangle is
        filled.
    """

    form: Form
    rows: Tensor
    gram: Tensor

    def weights(self, responses: Tensor, strengths: Tensor) -> Tensor:
        """Solve for the weights of all voxels, with one lambda per voxel.

        Parameters
        ----------
        responses : torch.Tensor
            B (row, voxel).
        strengths : torch.Tensor
            (voxel,) lambda of each voxel.

        Returns
        -------
        torch.Tensor
            (feature, voxel) float32: (Z'Z + lambda I)^-1 Z'B, or Z' (Z Z' + lambda I)^-1 B in the dual form.
        """
        dual, dtype = self.form == "dual", self.gram.dtype
        solved = responses.to(dtype) if dual else self.rows.T.to(dtype) @ responses.to(dtype)
        for strength in strengths.unique().tolist():
            voxels = strengths == strength
            solved[:, voxels] = torch.cholesky_solve(solved[:, voxels], _factor(self.gram, strength))
        # the product Z'x stays in float64, because large terms cancel in it
        return (self.rows.T.to(dtype) @ solved if dual else solved).float()


class Scorer(Protocol):
    """Prediction of holdout rows with every lambda, without weights."""

    def right(self, responses: Tensor) -> Tensor:
        """Return T (side, voxel): the responses B (row, voxel) in the coordinates of the system."""

    def operators(self, holdout: Tensor, lambdas: Sequence[float]) -> Iterator[Tensor]:
        """Yield the operator K (holdout, side) of each lambda in turn.

        ``K @ right(responses)`` (holdout, voxel) are the predictions of ``holdout`` (holdout, feature). The first rows
        of ``holdout`` must be the repeated rows passed to the scorer.
        """


def ridge_system(rows: Tensor, form: Form) -> RidgeSystem:
    """Form the system of training rows Z (row, feature).

    Raises
    ------
    RunError
        A row is not finite. Only the dual form checks this; in the primal forms the losses become NaN.
    """
    if form != "dual":
        return RidgeSystem(form, rows, gram(rows.T.to(system_dtype(form))))
    products = gram(rows.double())
    if not bool(products.diagonal().isfinite().all()):
        raise RunError("features of some images are not finite; look at the images and at the network's weights")
    return RidgeSystem(form, rows, products)


def scorer(system: RidgeSystem, repeated: Tensor | None = None) -> Scorer:
    """Create the scorer of a system, in its form.

    Parameters
    ----------
    system : RidgeSystem
        System of the training rows.
    repeated : torch.Tensor, optional
        (r,) factors. The first r holdout rows equal the last r training rows times these factors. Default: no row is
        repeated.
    """
    if system.form != "dual":
        return PrimalScorer(system)
    return DualScorer(system, system.rows.new_empty(0) if repeated is None else repeated)


class PrimalScorer:
    """Primal scorer, in the dtype of the system.

    T = Z'B (feature, voxel) and K = H (Z'Z + lambda I)^-1 (holdout, feature).
    """

    def __init__(self, system: RidgeSystem) -> None:
        self.system = system

    def right(self, responses: Tensor) -> Tensor:
        dtype = self.system.gram.dtype
        return self.system.rows.T.to(dtype) @ responses.to(dtype)

    def operators(self, holdout: Tensor, lambdas: Sequence[float]) -> Iterator[Tensor]:
        for strength in lambdas:
            # K' = (Z'Z + lambda I)^-1 H', (feature, holdout)
            yield torch.cholesky_solve(holdout.T.to(self.system.gram.dtype), _factor(self.system.gram, strength)).T


class DualScorer:
    """Dual scorer, in float64. The letters are those of the module docstring.

    T = [Q'B1; B2] (a + r, voxel) holds the responses of the first a rows in the eigenbasis of A1, and those of the r
    repeated rows. K (holdout, a + r) has two blocks of rows: the r repeated rows, then the new holdout rows.

    Parameters
    ----------
    system : RidgeSystem
        Dual system of the n = a + r training rows.
    repeated : torch.Tensor
        (r,) factors between the first r holdout rows and the last r training rows.
    """

    def __init__(self, system: RidgeSystem, repeated: Tensor) -> None:
        self.rows, self.repeated = system.rows, repeated.double()
        self.apart = apart = len(system.rows) - len(repeated)
        E, self.Q = torch.linalg.eigh(system.gram[:apart, :apart])  # A1 = Q E Q': E (a,), Q (a, a)
        self.E = E.clamp_(min=0)  # rounding can make eigenvalues negative
        self.W = system.gram[apart:, :apart] @ self.Q  # W = W0 Q, (r, a)
        self.A2 = system.gram[apart:, apart:]  # (r, r), lower triangle

    def right(self, responses: Tensor) -> Tensor:
        QB = self.Q.T.float() @ responses[: self.apart]  # Q'B1, (a, voxel)
        return torch.cat([QB, responses[self.apart :]])

    def operators(self, holdout: Tensor, lambdas: Sequence[float]) -> Iterator[Tensor]:
        # H is the product of the new holdout rows with Z', (new, a + r); H1 and H2 are its blocks, H1 times Q
        H = holdout[len(self.repeated) :].double() @ self.rows.T.double()
        H1, H2 = H[:, : self.apart] @ self.Q, H[:, self.apart :]  # (new, a), (new, r)
        for strength in lambdas:
            WD = self.W / (self.E + strength)  # W D, (r, a)
            S = self.A2 - gram(self.W / (self.E + strength).sqrt())  # A2 - W D W' = S - lambda I, (r, r)
            S_inverse = torch.cholesky_inverse(_factor(S, strength))  # (r, r)
            X2 = torch.cat([-S_inverse @ WD, S_inverse], dim=1)  # (r, a + r): x2 = X2 T
            # repeated rows: (A x)_2 = B2 - lambda x2 = ([0 I] - lambda X2) T, times their factors; (r, a + r)
            old = X2 * -strength
            old[:, self.apart :].diagonal().add_(1)
            old.mul_(self.repeated[:, None])
            if not len(H):
                yield old.float()
                continue
            # new rows: H1 D (Q'B1 - W'x2) + H2 x2 = ([H1 D 0] + (H2 - H1 D W') X2) T; (new, a + r)
            HD = H1 / (self.E + strength)
            new = (H2 - HD @ self.W.T) @ X2
            new[:, : self.apart] += HD
            yield torch.cat([old, new]).float()


def gram(rows: Tensor) -> Tensor:
    """Compute ``rows @ rows.T`` (row, row), tile by tile. Only the lower triangle is filled, with half the work."""
    product = torch.zeros(len(rows), len(rows), dtype=rows.dtype, device=rows.device)
    for start in range(0, len(rows), GRAM_TILE):
        stop = min(start + GRAM_TILE, len(rows))
        torch.mm(rows[start:stop], rows[:stop].T, out=product[start:stop, :stop])
    return product


def _factor(system: Tensor, strength: float) -> Tensor:
    """Compute the Cholesky factor of ``system + strength I`` from the lower triangle; NaN if it does not exist.

    An error would require waiting for the GPU. NaN losses reveal the failure later.
    """
    shifted = system.clone()
    shifted.diagonal().add_(strength)
    factor: Tensor
    factor, failed = torch.linalg.cholesky_ex(shifted)
    return factor.masked_fill_(failed != 0, torch.nan)
