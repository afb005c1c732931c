"""In-place Cholesky factors: one square array holds a symmetric matrix and the factor of another.

The strict upper triangle of S (n, n) keeps a Gram matrix, which is reused for each lambda and each fold. The lower
triangle receives A (n, n), the system of one lambda, and then its factor L (n, n), with A = L L'. No other array has
n^2 items. The functions process tiles of t rows. They ignore rows outside the tiles, such as those of a fold that is
held out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = [
    "TILE_ROWS",
    "add_products_",
    "factor_",
    "forward_",
    "inverse_diagonal",
    "make_tiles",
    "runs",
    "solve_",
    "symmetric_times",
]

#: Rows per tile.
TILE_ROWS = 512

Tiles = Sequence[slice]


def make_tiles(used: Tensor, tile: int = TILE_ROWS) -> list[slice]:
    """Split the rows marked in ``used`` (n,) bool into tiles of at most ``tile`` consecutive rows."""
    zero = torch.zeros(1, dtype=torch.int8)
    edges = torch.diff(used.cpu().to(torch.int8), prepend=zero, append=zero)
    starts, stops = (edges == 1).nonzero()[:, 0].tolist(), (edges == -1).nonzero()[:, 0].tolist()
    return [
        slice(first, min(first + tile, stop))
        for start, stop in zip(starts, stops, strict=True)
        for first in range(start, stop, tile)
    ]


def runs(tiles: Tiles) -> list[slice]:
    """Join adjacent tiles."""
    joined: list[slice] = []
    for tile in tiles:
        if joined and joined[-1].stop == tile.start:
            joined[-1] = slice(joined[-1].start, tile.stop)
        else:
            joined.append(tile)
    return joined


def add_products_(S: Tensor, Z: Tensor, tiles: Tiles) -> None:
    """Add Z Z' to the upper triangle of S, including the full tiles on the diagonal.

    Parameters
    ----------
    S : torch.Tensor
        (n, n), modified in place.
    Z : torch.Tensor
        (n, f), of the dtype of S.
    tiles : sequence of slice
        Tiles that cover all n rows.
    """
    for rows in tiles:
        S[rows, rows.start :].addmm_(Z[rows], Z[rows.start :].T)


def symmetric_times(S: Tensor, diagonal: Tensor, x: Tensor, tiles: Tiles) -> Tensor:
    """Compute K x (n,) in float64 for the symmetric matrix K (n, n).

    Parameters
    ----------
    S : torch.Tensor
        (n, n), whose strict upper triangle is that of K.
    diagonal : torch.Tensor
        (n,) diagonal of K.
    x : torch.Tensor
        (n,) vector.
    tiles : sequence of slice
        Tiles that cover all n rows.
    """
    y = diagonal.double() * x.double()
    for rows in tiles:
        U = S[rows, rows.stop :]  # (t, n - stop), K right of the diagonal tile
        D = S[rows, rows].triu(1)  # (t, t), strict upper triangle of the diagonal tile
        v = x[rows].to(S.dtype)
        y[rows] += (U @ x[rows.stop :].to(S.dtype) + D @ v + D.T @ v).double()
        y[rows.stop :] += (U.T @ v).double()
    return y


def factor_(S: Tensor, tiles: Tiles) -> None:
    """Replace A in the lower triangle of S, including the diagonal, by L; NaN if A has no factor.

    With tiles k and m > k, L_kk L_kk' = A_kk - sum_{j<k} L_kj L_kj' and L_mk = (A_mk - sum_{j<k} L_mj L_kj') L_kk^-T.

    The cost is n^3/3 additions and multiplications.
    """
    for k, cols in enumerate(tiles):
        D = S[cols, cols]  # (t, t), A_kk below the diagonal and the Gram matrix above
        before, below = runs(tiles[:k]), runs(tiles[k + 1 :])
        A = D.tril()  # (t, t), becomes L_kk L_kk'
        for done in before:
            A.addmm_(S[cols, done], S[cols, done].T, alpha=-1)
        L, failed = torch.linalg.cholesky_ex(A)
        L.masked_fill_(failed != 0, torch.nan)
        D.copy_(L.tril_() + D.triu(1))
        for rows in below:
            B = S[rows, cols]  # (m, t), a view of the m rows below: A_mk becomes L_mk
            for done in before:
                B.addmm_(S[rows, done], S[cols, done].T, alpha=-1)
            B.copy_(torch.linalg.solve_triangular(L.T, B, upper=True, left=False))


def solve_(S: Tensor, tiles: Tiles, B: Tensor) -> Tensor:
    """Replace B by A^-1 B, with A = L L' and L in the lower triangle of S, and return it.

    Parameters
    ----------
    S : torch.Tensor
        (n, n), with L in its lower triangle.
    tiles : sequence of slice
        Tiles of the rows of A.
    B : torch.Tensor
        (n, m), of the dtype of S, modified in place. Rows outside the tiles are unchanged.
    """
    forward_(S, tiles, B)  # L^-1 B
    # backward substitution with L' by tiles: B_k = L_kk^-T (B_k - sum_{j>k} L_jk' B_j)
    for k in reversed(range(len(tiles))):
        rows = tiles[k]
        for done in runs(tiles[k + 1 :]):
            B[rows].addmm_(S[done, rows].T, B[done], alpha=-1)
        B[rows] = torch.linalg.solve_triangular(S[rows, rows].tril().T, B[rows], upper=True)
    return B


def inverse_diagonal(S: Tensor, tiles: Tiles) -> Tensor:
    """Compute the diagonal (n,) float64 of A^-1 = L^-T L^-1, with 0 outside the tiles.

    Item j is the sum of squares of column j of L^-1. Columns are computed tile by tile. The cost is n^3/3 additions
    and multiplications.
    """
    found = S.new_zeros(len(S), dtype=torch.float64)
    for k, cols in enumerate(tiles):
        width = cols.stop - cols.start
        Z = S.new_zeros(len(S) - cols.start, width)  # rows from cols.start
        Z[:width].fill_diagonal_(1)  # columns of the identity; forward_ makes them columns of L^-1
        shifted = [slice(tile.start - cols.start, tile.stop - cols.start) for tile in tiles[k:]]
        forward_(S[cols.start :, cols.start :], shifted, Z)
        found[cols] = sum((Z[rows].square().sum(0, dtype=torch.float64) for rows in shifted), found.new_zeros(width))
    return found


def forward_(S: Tensor, tiles: Tiles, B: Tensor) -> None:
    """Replace B (n, m) by L^-1 B, with L in the lower triangle of S (n, n)."""
    # forward substitution by tiles: B_k = L_kk^-1 (B_k - sum_{j<k} L_kj B_j)
    for k, rows in enumerate(tiles):
        for done in runs(tiles[:k]):
            B[rows].addmm_(S[rows, done], B[done], alpha=-1)
        B[rows] = torch.linalg.solve_triangular(S[rows, rows].tril(), B[rows], upper=False)
