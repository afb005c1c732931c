"""Peak memory of a ridge fit, from a formula that is known before the fit runs.

Let n be the number of images, p features, o observations, v voxels and m images held out. Blocks have f features, b
voxels and l lambdas, and items have s bytes (4 or 8). The peak in bytes is the largest of three stages:

    gram      s n^2 + 4 (2 n f) [+ 8 n f in float64]
    score     s n^2 + (2 s + 4 l) n m + b (8 o + (4 + s) n + ...)
    solve     s n^2 + b (4 o + (8 + s) n)

The coefficients add 4 n v if they are kept. In the primal form, the system has p^2 items and X adds 4 n p.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from nsdflow.fit.ridge.cholesky import TILE_ROWS
from nsdflow.fit.ridge.selection import RidgeProblem
from nsdflow.fit.ridge.solver import choose_form
from nsdflow.fit.ridge.system import COLUMNS_AT_ONCE

__all__ = ["RIDGE_OVERHEAD_BYTES", "RidgeMemory", "RidgeShape", "plan_memory"]

#: Bytes for the workspace of libraries and for memory that the allocator does not release.
RIDGE_OVERHEAD_BYTES = 12 << 20


@dataclass(frozen=True)
class RidgeShape:
    """Sizes of one fit."""

    images: int
    features: int
    voxels: int
    observations: int
    held: int
    """Images held out in the largest fold; 0 for a closed form."""
    from_disk: bool = True
    """Whether blocks of features and responses are read from disk, and held in addition to their products."""
    keep: bool = False
    """Whether coefficients of all voxels are returned."""


@dataclass(frozen=True)
class RidgeMemory:
    """Bytes of each term at the peak."""

    system: int
    """S; in the primal form also X."""
    block: int
    """Features, or responses and right sides T, of one block."""
    operators: int
    """R (m, side) and the operators O (side, m) of a fold."""
    kept: int
    """Coefficients and losses."""
    overhead: int = RIDGE_OVERHEAD_BYTES

    @property
    def bytes(self) -> int:
        """Peak of the fit."""
        return sum(getattr(self, field.name) for field in fields(self))


def plan_memory(shape: RidgeShape, problem: RidgeProblem, *, double: bool | None = None) -> RidgeMemory:
    """Compute the peak of a fit, in addition to the interpreter and data that are already in memory.

    Parameters
    ----------
    shape : RidgeShape
        Sizes of the fit.
    problem : RidgeProblem
        Problem with its block sizes.
    double : bool, optional
        Whether the system is in float64. Default: the precision of the problem, where ``auto`` counts as float64.

    Returns
    -------
    RidgeMemory
        Bytes of each term at the peak.
    """
    n, p, o, m = shape.images, shape.features, shape.observations, shape.held
    double = problem.precision != "float32" if double is None else double
    s = 8 if double else 4
    primal = choose_form(n, p, problem.form) == "primal"
    side = p if primal else n
    f, b = min(problem.features_at_once, p), min(problem.voxels_at_once, shape.voxels)
    lambdas = min(problem.lambdas_at_once, len(problem.lambdas))
    system = s * side**2 + (4 * n * p if primal else 0)
    read = 4 if shape.from_disk else 0
    gram = RidgeMemory(system, n * f * (12 if double and not primal else 4 + read), 0, 0)
    panel = 3 * s * TILE_ROWS * side
    factor = RidgeMemory(system, panel, 3 * s * m * side, 0)
    kept = 4 * side * shape.voxels if shape.keep else 0
    losses = 8 * len(problem.lambdas) * shape.voxels
    converted = s * side if primal or double else 0
    left = o * m // max(1, n)  # observations held out in the largest fold
    scoring = b * (4 * o + 4 * n + converted + left * (4 + 3 * s + 8) + m * s)
    columns = min(b, COLUMNS_AT_ONCE)
    closed = b * (4 * o + (4 + s + 8 + 8) * n) + s * side * columns
    operators = m * side * ((s if primal else 4) * (lambdas - 1) + 2 * s)
    score = RidgeMemory(system, scoring if m else closed, operators, losses)
    solving = b * (2 * read * o + 4 * n + converted + (4 if double else 0) * side + (4 * n if not primal else 0))
    solve = RidgeMemory(system, solving, 0, kept + losses)
    return max((gram, factor, score, solve), key=lambda stage: stage.bytes)
