"""Exact ridge regression of many voxels, out of core in both directions.

Features are read by blocks of columns and responses by blocks of voxels; see :mod:`nsdflow.fit.ridge.system` for the
formulas. The form is the cheaper one. Coefficients stay dual where the system is: predictions of other images are
products of their Gram matrix with the training images, and weights are made only where they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from nsdflow.fit.ridge.inputs import Columns, Observations, Statistics, as_tensor, blocks, take_columns
from nsdflow.fit.ridge.products import Precision, accumulate, cross_products, float32_is_enough, upper_norm
from nsdflow.fit.ridge.selection import (
    CLOSED,
    Folds,
    Selection,
    centred,
    fold_order,
    make_folds,
    score_closed,
    score_fold,
)
from nsdflow.fit.ridge.system import DualSystem, PrimalSystem, System, SystemForm

__all__ = ["RidgeFit", "RidgeProblem", "choose", "choose_form", "fit", "make_system", "solve_voxels"]

#: Receives voxels (ascending) and their coefficients (side, voxel), in the order of the features' rows.
Writer = Callable[[Tensor, Tensor], None]


@dataclass(frozen=True)
class RidgeProblem:
    """What a fit is, apart from the data.

    Parameters
    ----------
    lambdas : sequence of float
        Candidates, positive.
    selection : Selection
    intercept, standardise : bool
        An unpenalised mean; features divided by their standard deviation over training trials.
    form : {"auto", "primal", "dual"}
        ``auto`` takes the smaller system.
    precision : {"auto", "float32", "float64"}
        Of the system. ``auto`` is float32 unless rounding would compare with the smallest lambda.
    features_at_once, voxels_at_once, lambdas_at_once : int
        Blocks; they bound memory and change no lambda.
    """

    lambdas: tuple[float, ...]
    selection: Selection = field(default_factory=Selection)
    intercept: bool = True
    standardise: bool = True
    form: Literal["auto", "primal", "dual"] = "auto"
    precision: Precision = "auto"
    features_at_once: int = 2048
    voxels_at_once: int = 2048
    lambdas_at_once: int = 16

    def __post_init__(self) -> None:
        if not self.lambdas or not all(strength > 0 for strength in self.lambdas):
            raise ValueError(f"lambdas must be positive numbers, received {self.lambdas}")


@dataclass(frozen=True)
class RidgeFit:
    """A fitted model."""

    form: SystemForm
    lambda_: Tensor
    """(voxel,) float64"""
    loss: Tensor
    """(lambda, voxel) float64, see :mod:`nsdflow.fit.ridge.selection`."""
    bias: Tensor
    """(voxel,) float32, mean response: what an image of average features gets."""
    statistics: Statistics
    coefficients: Tensor | None
    """(image, voxel) in the dual form, (feature, voxel) in the primal one, float32; None if they were written."""

    def predict(self, features: Columns, training: Columns | None = None, *, features_at_once: int = 2048) -> Tensor:
        """Predictions (row, voxel) float32 of features (row, feature).

        Parameters
        ----------
        training : Columns, optional
            Features of the training images, which the dual form needs.
        """
        if self.coefficients is None:
            raise ValueError("coefficients were written elsewhere; read them, and use predict_from")
        return predict_from(self, features, self.coefficients, training, features_at_once=features_at_once)

    def weights(self, training: Columns | None = None, *, features_at_once: int = 2048) -> tuple[Tensor, Tensor]:
        """Weights (feature, voxel) of raw features, and the intercept (voxel,), float32."""
        if self.coefficients is None:
            raise ValueError("coefficients were written elsewhere")
        parts = []
        for columns in blocks(len(self.statistics.mean), features_at_once):
            part = self.coefficients[columns]
            if self.form == "dual":
                if training is None:
                    raise ValueError("a dual fit needs the training features to make weights; give training=")
                part = self.statistics.apply(as_tensor(training[:, columns]).clone(), columns).T @ self.coefficients
            parts.append(part / self.statistics.std[columns, None])
        weights = torch.cat(parts)
        return weights, self.bias - self.statistics.mean @ weights


def predict_from(
    fitted: RidgeFit, features: Columns, coefficients: Tensor, training: Columns | None, *, features_at_once: int
) -> Tensor:
    """Predictions from coefficients, by blocks of features."""
    rows = int(features.shape[0])
    if fitted.form == "dual":
        if training is None:
            raise ValueError("a dual fit predicts from the training features; give training=")
        order = torch.arange(int(training.shape[0]))
        K = cross_products(training, order, features, fitted.statistics, at_once=features_at_once)
        return K.to(coefficients.dtype) @ coefficients + fitted.bias
    predictions = fitted.bias.repeat(rows, 1)
    for columns in blocks(int(features.shape[1]), features_at_once):
        Z = fitted.statistics.apply(as_tensor(features[:, columns]).clone(), columns)
        predictions += Z @ coefficients[columns]
    return predictions


def choose_form(images: int, features: int, form: str = "auto") -> SystemForm:
    """The form with the smaller system: both cost its side cubed per lambda."""
    if form != "auto":
        return "primal" if form == "primal" else "dual"
    return "primal" if features < images else "dual"


def fit(
    features: Columns,
    responses: Columns,
    problem: RidgeProblem,
    *,
    images: Tensor | None = None,
    weights: Tensor | None = None,
    folds: Folds | None = None,
    within: Tensor | None = None,
    write: Writer | None = None,
) -> RidgeFit:
    """Fit a ridge model per voxel, with its own lambda.

    Parameters
    ----------
    features : Columns
        (image, feature), in memory or on disk.
    responses : Columns
        (observation, voxel), likewise; finite.
    images : Tensor, optional
        (observation,) row of the features that each observation shows; observation i shows row i if None.
    weights : Tensor, optional
        (observation,) number of trials that an observation is the mean of; 1 if None.
    folds : sequence of Tensor, optional
        (observation,) bool, observations held out in each fold; drawn as the selection says if None.
    within : Tensor, optional
        (voxel,) squared deviations within averaged observations, for ``gcv``.
    write : callable, optional
        Receives coefficients in blocks instead of keeping them.

    Raises
    ------
    ValueError
        Shapes do not match.
    RunError
        Features are not finite, or rounding hides a lambda.
    """
    count = int(features.shape[0])
    observations = Observations.of(count, images, weights)
    if len(observations.image) != int(responses.shape[0]):
        raise ValueError(
            f"responses have {int(responses.shape[0])} rows for {len(observations.image)} observations of {count} "
            "images; give one row per observation, and images= where images repeat"
        )
    folds = make_folds(problem.selection, observations) if folds is None else folds
    order = fold_order(folds, observations)
    sorted_ = _reordered(observations, order)
    system, statistics = make_system(features, order, sorted_, problem)
    loss = choose(system, sorted_, responses, problem, folds, within)
    lambda_ = torch.tensor(problem.lambdas, dtype=torch.float64)[loss.argmin(0)]
    bias = torch.empty(int(responses.shape[1]), dtype=as_tensor(responses[:, :1]).dtype)
    coefficients = torch.empty(system.side, len(bias), dtype=bias.dtype) if write is None else None
    back = torch.argsort(order)
    dual = isinstance(system, DualSystem)

    def receive(voxels: Tensor, C: Tensor, nu: Tensor) -> None:
        bias[voxels] = nu
        C = C[back] if dual else C
        if write is not None:
            write(voxels, C)
        elif coefficients is not None:
            coefficients[:, voxels] = C

    solve_voxels(system, sorted_, responses, problem, lambda_, receive)
    return RidgeFit("dual" if dual else "primal", lambda_, loss, bias, statistics, coefficients)


def make_system(
    features: Columns, order: Tensor, observations: Observations, problem: RidgeProblem
) -> tuple[System, Statistics]:
    """The system of the images in an order, and how its features were standardised."""
    counts = observations.counts()
    form = choose_form(len(order), int(features.shape[1]), problem.form)
    smallest = min(problem.lambdas) / float(counts.max())
    closed = problem.selection.method in CLOSED

    def gather(dtype: torch.dtype) -> tuple[Tensor | None, Statistics, Tensor | None]:
        return accumulate(
            features,
            order,
            counts,
            center=problem.intercept,
            scale=problem.standardise,
            dtype=dtype,
            at_once=problem.features_at_once,
            keep=form == "primal",
        )

    dtype = torch.float64 if problem.precision == "float64" else torch.float32
    S, statistics, X = gather(dtype)
    norm = upper_norm(S) if S is not None else float(X.square().sum(dtype=torch.float64)) if X is not None else 0.0
    if problem.precision == "auto" and not float32_is_enough(norm, smallest, closed=closed):
        dtype = torch.float64
        if S is not None:
            del S
            S, statistics, X = gather(dtype)
    if X is not None:
        return PrimalSystem(X, dtype, intercept=problem.intercept), statistics
    assert S is not None
    return DualSystem(S, intercept=problem.intercept), statistics


def choose(
    system: System,
    observations: Observations,
    responses: Columns,
    problem: RidgeProblem,
    folds: Folds,
    within: Tensor | None = None,
) -> Tensor:
    """Losses (lambda, voxel) float64 of every lambda."""
    if len(problem.lambdas) == 1:
        return torch.zeros(1, int(responses.shape[1]), dtype=torch.float64)
    intercept, voxels_at_once, method = problem.intercept, problem.voxels_at_once, problem.selection.method
    if method == "loo" or method == "gcv":
        return score_closed(
            system,
            observations,
            responses,
            problem.lambdas,
            method,
            intercept=intercept,
            voxels_at_once=voxels_at_once,
            within=within,
        )
    total = torch.zeros(len(problem.lambdas), int(responses.shape[1]), dtype=torch.float64)
    for held in folds:
        total += score_fold(
            system,
            observations,
            responses,
            held,
            problem.lambdas,
            intercept=intercept,
            voxels_at_once=voxels_at_once,
            lambdas_at_once=problem.lambdas_at_once,
        )
    return total


def solve_voxels(
    system: System,
    observations: Observations,
    responses: Columns,
    problem: RidgeProblem,
    lambda_: Tensor,
    receive: Callable[[Tensor, Tensor, Tensor], None],
) -> None:
    """Coefficients on all observations, of each voxel with its lambda (voxel,), a lambda at a time.

    ``receive`` gets voxels, C (side, voxel) float32 of standardised features, and their mean response.
    """
    everything = torch.ones(len(observations.image), dtype=torch.bool)
    system.begin(observations.counts())
    for strength in lambda_.unique().tolist():
        system.factor(strength)
        for voxels in (lambda_ == strength).nonzero()[:, 0].split(problem.voxels_at_once):
            B, nu = centred(
                observations, take_columns(responses, voxels, problem.voxels_at_once), everything, problem.intercept
            )
            C = system.solve(system.right(B))
            if isinstance(system, DualSystem):
                C = C.mul_(system.q[:, None])
            receive(voxels, C.to(nu.dtype), nu)


def _reordered(observations: Observations, order: Tensor) -> Observations:
    """The same observations of images in another order."""
    return Observations(torch.argsort(order)[observations.image], observations.weight, observations.images)
