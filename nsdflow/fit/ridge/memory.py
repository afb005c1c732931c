"""Peak memory of a ridge fit, as a formula that is known before it runs.

With n images, p features, o observations, v voxels, m images held out, and blocks of f features, b voxels and l
lambdas, in items of s bytes (4 or 8), the largest of three stages is the peak:

    gram      s n^2 + 4 (2 n f) [+ 8 n f in float64]
    score     s n^2 + (2 s + 4 l) n m + b (8 o + (4 + s) n + ...)
    solve     s n^2 + b (4 o + (8 + s) n)

and the coefficients, 4 n v, where they are kept. In the primal form the system has p^2 items, and X stays: 4 n p.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from nsdflow.errors import PlanError
from nsdflow.fit.ridge.cholesky import TILE
from nsdflow.fit.ridge.solver import RidgeProblem, choose_form
from nsdflow.fit.ridge.system import COLUMNS

__all__ = ["OVERHEAD", "RidgeMemory", "RidgeShape", "fitting", "plan_memory"]

#: Bytes of work space of the libraries and of what the allocator does not give back.
OVERHEAD = 12 << 20


@dataclass(frozen=True)
class RidgeShape:
    """Sizes of one fit."""

    images: int
    features: int
    voxels: int
    observations: int
    held: int
    """Images of the largest fold; 0 for a closed form."""
    from_disk: bool = True
    """Blocks of features and responses are read, and held beside what is made of them."""
    keep: bool = False
    """Coefficients of all voxels are returned."""


@dataclass(frozen=True)
class RidgeMemory:
    """Bytes of each term at the peak."""

    system: int
    """S, and in the primal form X."""
    block: int
    """Features, or responses and right sides, of one block."""
    operators: int
    """R and the operators of a fold."""
    kept: int
    """Coefficients and losses."""
    overhead: int = OVERHEAD

    @property
    def bytes(self) -> int:
        """The peak."""
        return sum(getattr(self, field.name) for field in fields(self))


def plan_memory(shape: RidgeShape, problem: RidgeProblem, *, double: bool | None = None) -> RidgeMemory:
    """The peak of a fit beyond the interpreter and data that are already in memory.

    Parameters
    ----------
    double : bool, optional
        Whether the system is in float64; as the problem says if None, where ``auto`` counts as float64.
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
    panel = 3 * s * TILE * side
    factor = RidgeMemory(system, panel, 3 * s * m * side, 0)
    kept = 4 * side * shape.voxels if shape.keep else 0
    losses = 8 * len(problem.lambdas) * shape.voxels
    converted = s * side if primal or double else 0
    left = o * m // max(1, n)  # observations held out
    scoring = b * (4 * o + 4 * n + converted + left * (4 + 3 * s + 8) + m * s)
    columns = min(b, COLUMNS)
    closed = b * (4 * o + (4 + s + 8 + 8) * n) + s * side * columns
    operators = m * side * ((s if primal else 4) * (lambdas - 1) + 2 * s)
    score = RidgeMemory(system, scoring if m else closed, operators, losses)
    solving = b * (2 * read * o + 4 * n + converted + (4 if double else 0) * side + (4 * n if not primal else 0))
    solve = RidgeMemory(system, solving, 0, kept + losses)
    return max((gram, factor, score, solve), key=lambda stage: stage.bytes)


def fitting(shape: RidgeShape, problem: RidgeProblem, budget: int) -> RidgeProblem:
    """The problem with blocks small enough for a budget in bytes; results do not depend on them.

    Raises
    ------
    PlanError
        Even the smallest blocks need more.
    """
    while (planned := plan_memory(shape, problem)).bytes > budget:
        smaller = replace(
            problem,
            features_at_once=max(256, problem.features_at_once // 2),
            voxels_at_once=max(256, problem.voxels_at_once // 2),
            lambdas_at_once=max(1, problem.lambdas_at_once // 2),
        )
        if smaller == problem:
            advice = "precision=float32 halves it; " if problem.precision != "float32" else ""
            raise PlanError(
                f"a ridge fit of {shape.images} images and {shape.features} features needs "
                f"{planned.bytes / 2**30:.2f} GiB, {budget / 2**30:.2f} GiB are allowed; {advice}"
                "use fewer images (subjects one by one), or a worker with more memory"
            )
        problem = smaller
    return problem
