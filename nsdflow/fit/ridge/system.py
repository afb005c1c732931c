"""Linear system of a ridge fit in dual or primal form, with a common interface.

Let x_i (feature,) be the standardised features of training image i, c_i its weight (trials), and y_i (voxel,) its mean
response. X (image, feature) stacks x_i. Define

    mu = sum c_i x_i / sum c_i,       nu = sum c_i y_i / sum c_i,
    Z_i = sqrt(c_i) (x_i - mu),       B_i = sqrt(c_i) (y_i - nu).

with mu (feature,), nu (voxel,), Z (image, feature) and B (image, voxel). Predictions of rows h are
R A(lambda)^-1 T + nu (row, voxel), with

    dual       A = Z Z' + lambda I  (image, image),      T = B    (image, voxel),      R_h = (x_h - mu) Z'
    primal     A = Z'Z + lambda I   (feature, feature),  T = Z'B  (feature, voxel),    R_h = x_h - mu.

Without an intercept, mu and nu are 0. The dual form needs only X X', which is accumulated over blocks of features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal

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

#: Right sides per solve, and rows of Z per product.
COLUMNS_AT_ONCE = 1024


class System(ABC):
    """System of a ridge fit, for training images that differ between folds.

    ``S`` (side, side) holds the system and its factor (:mod:`nsdflow.fit.ridge.cholesky`).
    """

    def __init__(self, S: Tensor) -> None:
        self.S, self.side, self.dtype, self.device = S, len(S), S.dtype, S.device
        self.tiles = make_tiles(torch.ones(len(S), dtype=torch.bool))

    @abstractmethod
    def begin(self, c: Tensor) -> None:
        """Set the weights c (image,) float64 of the training images."""

    @abstractmethod
    def rows(self, held: Tensor) -> Tensor:
        """Return R (held, side) for the images ``held`` (held,)."""

    @abstractmethod
    def right(self, B: Tensor) -> Tensor:
        """Return T (side, voxel) for responses B (image, voxel)."""

    @abstractmethod
    def fill(self, strength: float) -> None:
        """Write A(lambda) into the lower triangle of S."""

    @abstractmethod
    def left_out(self, strength: float) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        """Return a function from B (image, voxel) to weighted residuals e, and the leverages h (image,) float64."""

    def factor(self, strength: float) -> None:
        """Factor A(lambda) in place.

        Raises
        ------
        RunError
            The lambda is below the rounding error of features, or features are not finite.
        """
        self.fill(strength)
        factor_(self.S, self.tiles)
        if self.tiles and not bool(self.S.diagonal()[self.tiles[-1]].isfinite().all()):
            raise RunError(
                f"the ridge system has no Cholesky factor with lambda {strength:g}: features are not finite, or lambda "
                "is below their rounding; check the features, or raise the smallest lambda"
            )

    def solve(self, T: Tensor) -> Tensor:
        """Replace T (side, m) by A^-1 T in place, and return it."""
        for some in blocks(T.shape[1], COLUMNS_AT_ONCE):
            solve_(self.S, self.tiles, T[:, some])
        return T


class DualSystem(System):
    """Dual system (image, image).

    With K = X X', weights c, shares p = c / sum c, a = K p - (p'K p) / 2 and q = sqrt(c), all (image,),

        A_ij = q_i (K_ij - a_i - a_j) q_j + lambda [i = j],     R_hj = (K_hj - a_h - a_j) q_j.

    Without an intercept, a = 0.

    Parameters
    ----------
    S : torch.Tensor
        (image, image), with K in its upper triangle. The lower triangle is overwritten.
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
        share = c / c.sum()  # p
        Ks = symmetric_times(self.S, self.diagonal, share, self.all_tiles) if self.intercept else torch.zeros_like(c)
        # (x_i - mu)'(x_j - mu) = K_ij - (K p)_i - (K p)_j + p'K p = K_ij - a_i - a_j
        self.a = (Ks - (share @ Ks) / 2).to(self.dtype)
        self.q = c.sqrt().to(self.dtype)

    def rows(self, held: Tensor) -> Tensor:
        above = held[:, None] < torch.arange(self.side, device=self.device)
        R = torch.where(above, self.S[held], self.S[:, held].T)  # (held, image)
        R[torch.arange(len(held), device=self.device), held] = self.diagonal[held]
        return R.sub_(self.a[held, None]).sub_(self.a).mul_(self.q)

    def right(self, B: Tensor) -> Tensor:
        return B.to(self.dtype)

    def fill(self, strength: float) -> None:
        for rows in self.tiles:
            A = self.S[: rows.stop, rows].T.contiguous()  # (t, rows.stop), K up to the diagonal tile
            D = A[:, rows.start :]
            D.copy_(D.tril(-1))  # the lower triangle holds K
            A.sub_(self.a[rows, None]).sub_(self.a[: rows.stop]).mul_(self.q[rows, None]).mul_(self.q[: rows.stop])
            self.S[rows, : rows.start] = A[:, : rows.start]
            diagonal = (self.diagonal[rows] - 2 * self.a[rows]) * self.q[rows].square() + strength
            here = self.S[rows, rows]
            here.copy_(here.triu(1) + D.tril(-1) + torch.diag(diagonal))

    def left_out(self, strength: float) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        # the hat matrix is Z Z' A^-1 = I - lambda A^-1, so h = 1 - lambda diag(A^-1) and e = lambda A^-1 B
        used = self.c > 0
        h = torch.where(used, 1 - strength * inverse_diagonal(self.S, self.tiles), 0.0)

        def residuals(B: Tensor) -> Tensor:
            return self.solve(B.to(self.dtype, copy=True)).mul_(strength)

        return residuals, h


class PrimalSystem(System):
    """Primal system (feature, feature). The upper triangle of S holds Z'Z, and ``q`` (image,) is sqrt(c).

    Parameters
    ----------
    X : torch.Tensor
        (image, feature) standardised features.
    dtype : torch.dtype
        Dtype of the system.
    intercept : bool
        Whether mu and nu are means of the training images.
    """

    def __init__(self, X: Tensor, dtype: torch.dtype, *, intercept: bool) -> None:
        super().__init__(X.new_zeros(X.shape[1], X.shape[1], dtype=dtype))
        self.X, self.intercept = X, intercept

    def begin(self, c: Tensor) -> None:
        self.c = c
        share = (c / c.sum()).to(self.X.dtype)
        self.mu = share @ self.X if self.intercept else self.X.new_zeros(self.X.shape[1])
        self.q = c.sqrt().to(self.dtype)
        self.S.zero_()
        for some in blocks(len(self.X), COLUMNS_AT_ONCE):
            add_products_(self.S, self._Z(some).T, self.tiles)
        self.diagonal = self.S.diagonal().clone()

    def _Z(self, rows: slice) -> Tensor:
        """Return Z_i = sqrt(c_i) (x_i - mu) of some rows, (row, feature)."""
        return (self.X[rows] - self.mu).to(self.dtype).mul_(self.q[rows, None])

    def rows(self, held: Tensor) -> Tensor:
        return (self.X[held] - self.mu).to(self.dtype)

    def right(self, B: Tensor) -> Tensor:
        T = self.S.new_zeros(self.side, B.shape[1])
        for some in blocks(len(self.X), COLUMNS_AT_ONCE):
            T.addmm_(self._Z(some).T, B[some].to(self.dtype))
        return T

    def fill(self, strength: float) -> None:
        for rows in self.tiles:
            self.S[rows, : rows.start] = self.S[: rows.start, rows].T
            here = self.S[rows, rows]
            upper = here.triu(1)
            here.copy_(upper + upper.T + torch.diag(self.diagonal[rows] + strength))

    def left_out(self, strength: float) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        # with A = L L', h_i = Z_i'A^-1 Z_i = |L^-1 Z_i|^2, and e = B - Z A^-1 Z'B
        h = self.X.new_zeros(len(self.X), dtype=torch.float64)
        for some in blocks(len(self.X), COLUMNS_AT_ONCE):
            V = self._Z(some).T.contiguous()  # (feature, row); forward_ makes it L^-1 Z'
            forward_(self.S, self.tiles, V)
            h[some] = V.square().sum(0, dtype=torch.float64)

        def residuals(B: Tensor) -> Tensor:
            W = self.solve(self.right(B))  # A^-1 Z'B, (feature, voxel)
            E = B.to(self.dtype, copy=True)
            for some in blocks(len(self.X), COLUMNS_AT_ONCE):
                E[some].addmm_(self._Z(some), W, alpha=-1)
            return E

        return residuals, h
