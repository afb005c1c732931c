"""The linear system of a ridge fit, in its dual or its primal form, behind one interface.

With features x_i, standardised, weights c_i (trials) and mean responses y_i of the training images, let

    mu = sum c_i x_i / sum c_i,       nu = sum c_i y_i / sum c_i,
    Z_i = sqrt(c_i) (x_i - mu),       B_i = sqrt(c_i) (y_i - nu).

Predictions of any rows are R A(lambda)^-1 T + nu with

    dual       A = Z Z' + lambda I  (image, image),      T = B,       R_h = (x_h - mu) Z'
    primal     A = Z'Z + lambda I   (feature, feature),  T = Z'B,     R_h = x_h - mu.

Without an intercept, mu and nu are 0. The dual form needs X X' alone, which is accumulated over blocks of features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import torch
from torch import Tensor

from nsdflow.errors import RunError
from nsdflow.fit.ridge.cholesky import (
    add_products_,
    factor_,
    forward_,
    inverse_diagonal,
    make_tiles,
    solve_,
    symmetric_times,
)
from nsdflow.fit.ridge.inputs import blocks

__all__ = ["DualSystem", "PrimalSystem", "System", "SystemForm"]

SystemForm = Literal["primal", "dual"]

#: Right sides that are solved at once.
COLUMNS = 1024


class System(Protocol):
    """One side of a ridge fit, for training images that change from fold to fold."""

    side: int
    """Rows and columns of A."""
    dtype: torch.dtype

    def begin(self, c: Tensor) -> None:
        """Train on the images of weight c (image,) float64."""

    def rows(self, held: Tensor) -> Tensor:
        """R (held, side) of some images."""

    def right(self, B: Tensor) -> Tensor:
        """T (side, voxel) of responses B (image, voxel)."""

    def factor(self, strength: float) -> None:
        """Factor A(lambda) in place."""

    def solve(self, T: Tensor) -> Tensor:
        """A^-1 T (side, m), in place."""

    def left_out(self, strength: float) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        """Residuals of B (image, voxel), weighted by sqrt(c), as a function; and leverages h (image,) float64."""


class _Solver:
    """The part that both forms share: S and its tiles."""

    def __init__(self, S: Tensor) -> None:
        self.S, self.side, self.dtype = S, len(S), S.dtype
        self.tiles = make_tiles(torch.ones(len(S), dtype=torch.bool))

    def solve(self, T: Tensor) -> Tensor:
        """A^-1 T."""
        for some in blocks(T.shape[1], COLUMNS):
            solve_(self.S, self.tiles, T[:, some])
        return T


class DualSystem(_Solver):
    """Images by images.

    Parameters
    ----------
    S : Tensor
        (image, image), X X' in its upper triangle; the lower one is overwritten.
    intercept : bool
        Whether mu and nu are means of the training images.
    """

    def __init__(self, S: Tensor, *, intercept: bool) -> None:
        super().__init__(S)
        self.intercept = intercept
        self.all_tiles, self.diagonal = self.tiles, S.diagonal().clone()

    def begin(self, c: Tensor) -> None:
        self.c = c
        self.tiles = make_tiles(c > 0)
        share = c / c.sum()
        Ks = symmetric_times(self.S, self.diagonal, share, self.all_tiles) if self.intercept else torch.zeros_like(c)
        # (x_i - mu)'(x_j - mu) = K_ij - a_i - a_j
        self.a = (Ks - (share @ Ks) / 2).to(self.dtype)
        self.q = c.sqrt().to(self.dtype)

    def rows(self, held: Tensor) -> Tensor:
        above = held[:, None] < torch.arange(self.side)
        R = torch.where(above, self.S[held], self.S[:, held].T)  # (held, image)
        R[torch.arange(len(held)), held] = self.diagonal[held]
        return R.sub_(self.a[held, None]).sub_(self.a).mul_(self.q)

    def right(self, B: Tensor) -> Tensor:
        return B.to(self.dtype)

    def factor(self, strength: float) -> None:
        for rows in self.tiles:
            A = self.S[: rows.stop, rows].T.contiguous()  # (t, rows.stop), of whose last tile the upper triangle is K
            D = A[:, rows.start :]
            D.copy_(D.tril(-1))  # the transpose of the upper triangle is the lower one
            A.sub_(self.a[rows, None]).sub_(self.a[: rows.stop]).mul_(self.q[rows, None]).mul_(self.q[: rows.stop])
            self.S[rows, : rows.start] = A[:, : rows.start]
            diagonal = (self.diagonal[rows] - 2 * self.a[rows]) * self.q[rows].square() + strength
            here = self.S[rows, rows]
            here.copy_(here.triu(1) + D.tril(-1) + torch.diag(diagonal))
        factor_(self.S, self.tiles)
        _check(self.S, self.tiles, strength)

    def left_out(self, strength: float) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        used = self.c > 0
        h = torch.where(used, 1 - strength * inverse_diagonal(self.S, self.tiles), 0.0)

        def residuals(B: Tensor) -> Tensor:
            return self.solve(B.to(self.dtype, copy=True)).mul_(strength)

        return residuals, h


class PrimalSystem(_Solver):
    """Features by features.

    Parameters
    ----------
    X : Tensor
        (image, feature), standardised.
    """

    def __init__(self, X: Tensor, dtype: torch.dtype, *, intercept: bool) -> None:
        super().__init__(torch.zeros(X.shape[1], X.shape[1], dtype=dtype))
        self.X, self.intercept = X, intercept

    def begin(self, c: Tensor) -> None:
        self.c = c
        share = (c / c.sum()).to(self.X.dtype)
        self.mu = share @ self.X if self.intercept else self.X.new_zeros(self.X.shape[1])
        self.q = c.sqrt().to(self.dtype)
        self.S.zero_()
        for some in blocks(len(self.X), COLUMNS):
            add_products_(self.S, self._Z(some).T, self.tiles)
        self.diagonal = self.S.diagonal().clone()

    def _Z(self, rows: slice) -> Tensor:
        """(image, feature) of some rows."""
        return (self.X[rows] - self.mu).to(self.dtype).mul_(self.q[rows, None])

    def rows(self, held: Tensor) -> Tensor:
        return (self.X[held] - self.mu).to(self.dtype)

    def right(self, B: Tensor) -> Tensor:
        T = torch.zeros(self.side, B.shape[1], dtype=self.dtype)
        for some in blocks(len(self.X), COLUMNS):
            T.addmm_(self._Z(some).T, B[some].to(self.dtype))
        return T

    def factor(self, strength: float) -> None:
        for rows in self.tiles:
            self.S[rows, : rows.start] = self.S[: rows.start, rows].T
            here = self.S[rows, rows]
            upper = here.triu(1)
            here.copy_(upper + upper.T + torch.diag(self.diagonal[rows] + strength))
        factor_(self.S, self.tiles)
        _check(self.S, self.tiles, strength)

    def left_out(self, strength: float) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        h = torch.zeros(len(self.X), dtype=torch.float64)
        for some in blocks(len(self.X), COLUMNS):
            V = self._Z(some).T.contiguous()
            forward_(self.S, self.tiles, V)
            h[some] = V.square().sum(0, dtype=torch.float64)

        def residuals(B: Tensor) -> Tensor:
            W = self.solve(self.right(B))
            E = B.to(self.dtype, copy=True)
            for some in blocks(len(self.X), COLUMNS):
                E[some].addmm_(self._Z(some), W, alpha=-1)
            return E

        return residuals, h


def _check(S: Tensor, tiles: list[slice], strength: float) -> None:
    """Refuse a system that has no factor.

    Raises
    ------
    RunError
        Rounding hides the lambda, or features are not finite.
    """
    if tiles and not bool(S.diagonal()[tiles[-1]].isfinite().all()):
        raise RunError(
            f"the ridge system has no Cholesky factor with lambda {strength:g}: features are not finite, or lambda is "
            "below their rounding; check the features, or raise the smallest lambda"
        )
