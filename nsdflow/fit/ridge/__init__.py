"""Exact ridge regression in blocks with one lambda per voxel, and the ridge systems of fwRF candidates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nsdflow.fit.ridge.forms import (
    DualScorer,
    Form,
    PrimalScorer,
    RidgeSystem,
    Scorer,
    cheaper_form,
    float32_suffices,
    floating_point_work,
    gram,
    ridge_system,
    scorer,
    system_dtype,
)
from nsdflow.fit.ridge.memory import RidgeMemory, RidgeShape, plan_memory
from nsdflow.fit.ridge.selection import LambdaSelection, RidgeProblem
from nsdflow.fit.ridge.solver import RidgeFit, fit

if TYPE_CHECKING:
    from nsdflow.fit.ridge.estimator import RidgeCV

__all__ = [
    "DualScorer",
    "Form",
    "LambdaSelection",
    "PrimalScorer",
    "RidgeCV",
    "RidgeFit",
    "RidgeMemory",
    "RidgeProblem",
    "RidgeShape",
    "RidgeSystem",
    "Scorer",
    "cheaper_form",
    "fit",
    "float32_suffices",
    "floating_point_work",
    "gram",
    "plan_memory",
    "ridge_system",
    "scorer",
    "system_dtype",
]


def __getattr__(name: str) -> Any:
    if name != "RidgeCV":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from nsdflow.fit.ridge.estimator import RidgeCV  # needs scikit-learn

    return RidgeCV
