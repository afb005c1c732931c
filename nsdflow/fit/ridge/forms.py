"""Operators that score all lambdas of one fwRF candidate on its holdout rows, in whichever form is cheaper.

With Z (row, feature) the training rows and B (row, voxel) their responses, the predictions of holdout rows H are

    primal    H (Z'Z + lambda I)^-1 Z'B        a features x features system
    dual      H Z' (Z Z' + lambda I)^-1 B      a rows x rows system

and both are K(lambda) T: an operator that knows nothing of voxels, and T, which knows nothing of lambda
(:meth:`Scorer.right`). Nothing is inverted, and no weights are needed to compare lambdas.

The primal system is factored once a lambda (Cholesky) and solved for the holdout rows. It is as good in float32
(measured on the published cases, losses are within 1e-6 of an all-float64 fit, against 2e-4 for a float32 dual) as
long as lambda is well above what rounding makes of the largest directions: :func:`float32_suffices`. Where it is not,
all of it is done in float64, which is the form ``primal64``.

The dual system is formed and factored in float64: it has as many directions as rows, most of them far below its
largest, and float32 rounding would compare with lambda there. One eigendecomposition serves all lambdas. It need not
be of the whole: the published holdout splits the trials of an image, so that most holdout rows repeat training rows.
Let those be the last, A = Z Z' = [A1 W0'; W0 A2] and A1 = Q E Q'. With W = W0 Q, D = (E + lambda I)^-1 and the Schur
complement S = A2 + lambda I - W D W', which is as small as the holdout,

    x2 = S^-1 (B2 - W D Q'B1),     x1 = Q D (Q'B1 - W'x2)     solve (A + lambda I) x = B,

and the rows that repeat are predicted as A x = B - lambda x, without a product. Where none repeats, A1 is all of A.
For weights, of the few lambdas that win, A + lambda I is factored as it is (:meth:`RidgeSystem.weights`).
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

#: Rounding of the system's trace in float32, in units of lambda, up to which it may be factored so.
FLOAT32_ROUNDING = 0.05
#: Rows of a Gram matrix that are multiplied at once.
GRAM_TILE = 192


def floating_point_work(
    form: Form, *, rows: int, features: int, holdout: int, voxels: int, lambdas: int, repeated: int = 0
) -> float:
    """Additions and multiplications to score all lambdas on the holdout rows, of which some repeat training rows.

    A symmetric product counts half, a Cholesky factor of n rows n^3/3, an eigendecomposition 4 n^3.
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
    """The form with less work."""
    sizes = {"rows": rows, "features": features, "holdout": holdout, "voxels": voxels, "lambdas": lambdas}
    primal, dual = (floating_point_work(form, repeated=repeated, **sizes) for form in ("primal", "dual"))
    return "primal" if primal <= dual else "dual"


def float32_suffices(trace: float, strength: float) -> bool:
    """Whether a primal system of that trace, Z'Z, may be factored in float32 with that lambda, the smallest.

    Its largest direction is at most the trace, and rounding is relative to it.
    """
    return torch.finfo(torch.float32).eps * trace <= FLOAT32_ROUNDING * strength


def system_dtype(form: Form) -> torch.dtype:
    """Precision in which a form's system is formed and factored."""
    return torch.float32 if form == "primal" else torch.float64


@dataclass(frozen=True)
class RidgeSystem:
    """Training rows and their products, ready for any responses and any lambda.

    ``gram`` is Z'Z in the primal forms and Z Z' in the dual one, of which the lower triangle is filled.
    """

    form: Form
    rows: Tensor
    gram: Tensor

    def weights(self, responses: Tensor, strengths: Tensor) -> Tensor:
        """Weights (feature, voxel) float32 of every voxel with its own lambda, ``strengths`` (voxel,)."""
        dual, dtype = self.form == "dual", self.gram.dtype
        solved = responses.to(dtype) if dual else self.rows.T.to(dtype) @ responses.to(dtype)
        for strength in strengths.unique().tolist():
            voxels = strengths == strength
            solved[:, voxels] = torch.cholesky_solve(solved[:, voxels], _factor(self.gram, strength))
        # what cancels in the last product is large
        return (self.rows.T.to(dtype) @ solved if dual else solved).float()


class Scorer(Protocol):
    """Predicts holdout rows with every lambda, without weights."""

    def right(self, responses: Tensor) -> Tensor:
        """What operators are multiplied by: (row, voxel) responses in the coordinates of the system."""

    def operators(self, holdout: Tensor, lambdas: Sequence[float]) -> Iterator[Tensor]:
        """K of each lambda in turn: ``K @ right(responses)`` are predictions of the rows (row, feature).

        The first rows must be those that repeat training rows, as the scorer was told.
        """


def ridge_system(rows: Tensor, form: Form) -> RidgeSystem:
    """The system of training rows (row, feature).

    Raises
    ------
    RunError
        A row is not finite (found in the dual form; losses show it in the primal one).
    """
    if form != "dual":
        return RidgeSystem(form, rows, gram(rows.T.to(system_dtype(form))))
    products = gram(rows.double())
    if not bool(products.diagonal().isfinite().all()):
        raise RunError("features of some images are not finite; look at the images and at the network's weights")
    return RidgeSystem(form, rows, products)


def scorer(system: RidgeSystem, repeated: Tensor | None = None) -> Scorer:
    """The scorer of a system.

    Parameters
    ----------
    system : RidgeSystem
    repeated : Tensor, optional
        (r,) factors by which the first r holdout rows are the last r training rows; none if None.
    """
    if system.form != "dual":
        return PrimalScorer(system)
    return DualScorer(system, system.rows.new_empty(0) if repeated is None else repeated)


class PrimalScorer:
    """Features by features, in the precision of the system."""

    def __init__(self, system: RidgeSystem) -> None:
        self.system = system

    def right(self, responses: Tensor) -> Tensor:
        dtype = self.system.gram.dtype
        return self.system.rows.T.to(dtype) @ responses.to(dtype)

    def operators(self, holdout: Tensor, lambdas: Sequence[float]) -> Iterator[Tensor]:
        for strength in lambdas:
            yield torch.cholesky_solve(holdout.T.to(self.system.gram.dtype), _factor(self.system.gram, strength)).T


class DualScorer:
    """Rows by rows, in float64; see the module for the symbols."""

    def __init__(self, system: RidgeSystem, repeated: Tensor) -> None:
        self.rows, self.repeated = system.rows, repeated.double()
        self.apart = apart = len(system.rows) - len(repeated)
        E, self.Q = torch.linalg.eigh(system.gram[:apart, :apart])  # (apart,), (apart, apart)
        self.E = E.clamp_(min=0)
        self.W = system.gram[apart:, :apart] @ self.Q  # (repeated, apart)
        self.A2 = system.gram[apart:, apart:]  # (repeated, repeated)

    def right(self, responses: Tensor) -> Tensor:
        QB = self.Q.T.float() @ responses[: self.apart]  # (apart, voxel)
        return torch.cat([QB, responses[self.apart :]])

    def operators(self, holdout: Tensor, lambdas: Sequence[float]) -> Iterator[Tensor]:
        H = holdout[len(self.repeated) :].double() @ self.rows.T.double()  # (new, row)
        H1, H2 = H[:, : self.apart] @ self.Q, H[:, self.apart :]  # (new, apart), (new, repeated)
        for strength in lambdas:
            WD = self.W / (self.E + strength)
            S = self.A2 - gram(self.W / (self.E + strength).sqrt())  # S - lambda I
            S_inverse = torch.cholesky_inverse(_factor(S, strength))
            X2 = torch.cat([-S_inverse @ WD, S_inverse], dim=1)  # x2 = X2 @ right
            old = X2 * -strength  # (repeated, row): A x = B - lambda x
            old[:, self.apart :].diagonal().add_(1)
            old.mul_(self.repeated[:, None])
            if not len(H):
                yield old.float()
                continue
            HD = H1 / (self.E + strength)
            new = (H2 - HD @ self.W.T) @ X2
            new[:, : self.apart] += HD
            yield torch.cat([old, new]).float()


def gram(rows: Tensor) -> Tensor:
    """``rows @ rows.T``, of which only the lower triangle is filled: half the work."""
    product = torch.zeros(len(rows), len(rows), dtype=rows.dtype, device=rows.device)
    for start in range(0, len(rows), GRAM_TILE):
        stop = min(start + GRAM_TILE, len(rows))
        torch.mm(rows[start:stop], rows[:stop].T, out=product[start:stop, :stop])
    return product


def _factor(system: Tensor, strength: float) -> Tensor:
    """Cholesky factor of ``system + strength I``, of which the lower triangle is read; NaN where there is none.

    A GPU would have to be waited for to know whether there is one; losses that are not numbers tell it later.
    """
    shifted = system.clone()
    shifted.diagonal().add_(strength)
    factor: Tensor
    factor, failed = torch.linalg.cholesky_ex(shifted)
    return factor.masked_fill_(failed != 0, torch.nan)
