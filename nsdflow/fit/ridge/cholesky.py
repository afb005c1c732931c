"""Cholesky factors in place: one square array holds a symmetric matrix and the factor of another.

The strict upper triangle of S keeps a Gram matrix, which is used again for each lambda and each fold; the lower
triangle receives A, the system of one lambda, and then its factor L, with A = L L'. Nothing but S is ever of its size.
Rows are taken in tiles. Rows outside the tiles (those of a fold that is held out) do not take part.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = [
    "TILE",
    "add_products_",
    "factor_",
    "forward_",
    "inverse_diagonal",
    "make_tiles",
    "runs",
    "solve_",
    "symmetric_times",
]

#: Rows of a tile.
TILE = 512

Tiles = Sequence[slice]


def make_tiles(used: Tensor, tile: int = TILE) -> list[slice]:
    """Tiles of at most ``tile`` rows that cover the rows marked in ``used`` (n,) bool, and no others."""
    zero = torch.zeros(1, dtype=torch.int8)
    edges = torch.diff(used.cpu().to(torch.int8), prepend=zero, append=zero)
    starts, stops = (edges == 1).nonzero()[:, 0].tolist(), (edges == -1).nonzero()[:, 0].tolist()
    return [
        slice(first, min(first + tile, stop))
        for start, stop in zip(starts, stops, strict=True)
        for first in range(start, stop, tile)
    ]


def runs(tiles: Tiles) -> list[slice]:
    """Tiles that follow each other, joined."""
    joined: list[slice] = []
    for tile in tiles:
        if joined and joined[-1].stop == tile.start:
            joined[-1] = slice(joined[-1].start, tile.stop)
        else:
            joined.append(tile)
    return joined


def add_products_(S: Tensor, Z: Tensor, tiles: Tiles) -> None:
    """Add Z Z' to the upper triangle of S (and to all of the tiles on its diagonal).

    Parameters
    ----------
    S : Tensor
        (n, n), changed in place.
    Z : Tensor
        (n, f) of the same dtype.
    tiles : sequence of slice
        All n rows.
    """
    for rows in tiles:
        S[rows, rows.start :].addmm_(Z[rows], Z[rows.start :].T)


def symmetric_times(S: Tensor, diagonal: Tensor, x: Tensor, tiles: Tiles) -> Tensor:
    """K x, (n,) float64, of the matrix K whose strict upper triangle is that of S, and its ``diagonal`` (n,)."""
    y = diagonal.double() * x.double()
    for rows in tiles:
        U = S[rows, rows.stop :]  # (t, n - stop)
        D = S[rows, rows].triu(1)  # (t, t)
        v = x[rows].to(S.dtype)
        y[rows] += (U @ x[rows.stop :].to(S.dtype) + D @ v + D.T @ v).double()
        y[rows.stop :] += (U.T @ v).double()
    return y


def factor_(S: Tensor, tiles: Tiles) -> None:
    """Replace A in the lower triangle of S, diagonal included, by L; NaN where A has no factor.

    Work: n^3/3 additions and multiplications.
    """
    for k, cols in enumerate(tiles):
        D = S[cols, cols]  # (t, t)
        before, below = runs(tiles[:k]), runs(tiles[k + 1 :])
        A = D.tril()
        for done in before:
            A.addmm_(S[cols, done], S[cols, done].T, alpha=-1)
        L, failed = torch.linalg.cholesky_ex(A)
        L.masked_fill_(failed != 0, torch.nan)
        D.copy_(L.tril_() + D.triu(1))
        for rows in below:
            B = S[rows, cols]  # (m, t)
            for done in before:
                B.addmm_(S[rows, done], S[cols, done].T, alpha=-1)
            B.copy_(torch.linalg.solve_triangular(L.T, B, upper=True, left=False))


def solve_(S: Tensor, tiles: Tiles, B: Tensor) -> Tensor:
    """Replace B by A^-1 B, with A = L L' and L in the lower triangle of S.

    Parameters
    ----------
    B : Tensor
        (n, m) of the dtype of S; rows outside the tiles are left as they are.

    Returns
    -------
    Tensor
        B.
    """
    forward_(S, tiles, B)
    for k in reversed(range(len(tiles))):
        rows = tiles[k]
        for done in runs(tiles[k + 1 :]):
            B[rows].addmm_(S[done, rows].T, B[done], alpha=-1)
        B[rows] = torch.linalg.solve_triangular(S[rows, rows].tril().T, B[rows], upper=True)
    return B


def inverse_diagonal(S: Tensor, tiles: Tiles) -> Tensor:
    """The diagonal (n,) of A^-1 = L^-T L^-1: squared columns of L^-1, found tile by tile; 0 outside the tiles.

    Work: n^3/3 additions and multiplications.
    """
    found = torch.zeros(len(S), dtype=torch.float64, device=S.device)
    for k, cols in enumerate(tiles):
        width = cols.stop - cols.start
        Z = torch.zeros(len(S) - cols.start, width, dtype=S.dtype, device=S.device)  # rows from cols.start
        Z[:width].fill_diagonal_(1)
        shifted = [slice(tile.start - cols.start, tile.stop - cols.start) for tile in tiles[k:]]
        forward_(S[cols.start :, cols.start :], shifted, Z)
        found[cols] = sum((Z[rows].square().sum(0, dtype=torch.float64) for rows in shifted), found.new_zeros(width))
    return found


def forward_(S: Tensor, tiles: Tiles, B: Tensor) -> None:
    """Replace B by L^-1 B."""
    for k, rows in enumerate(tiles):
        for done in runs(tiles[:k]):
            B[rows].addmm_(S[rows, done], B[done], alpha=-1)
        B[rows] = torch.linalg.solve_triangular(S[rows, rows].tril(), B[rows], upper=False)
