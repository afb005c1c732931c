"""Exact ridge regression of many voxels, out of core over features and voxels.

Features are read in blocks of columns, and responses in blocks of voxels. :mod:`nsdflow.fit.ridge.system` gives the
formulas. By default, the fit uses the form with the smaller system. A dual fit keeps dual coefficients: predictions of
other images multiply them by the Gram matrix of these images and the training images. Weights are computed only on
request.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from nsdflow.fit.ridge.inputs import CPU, Columns, FeatureStatistics, Observations, as_tensor, blocks, take_columns
from nsdflow.fit.ridge.products import accumulate, cross_products, float32_limit
from nsdflow.fit.ridge.selection import (
    CLOSED,
    Folds,
    RidgeProblem,
    centre_responses,
    fold_order,
    make_folds,
    score_closed,
    score_fold,
)
from nsdflow.fit.ridge.system import DualSystem, PrimalSystem, System, SystemForm

__all__ = ["RidgeFit", "choose", "choose_form", "fit", "make_system", "solve_voxels"]

#: Function that receives ascending voxels (voxel,) and coefficients (side, voxel), in the row order of the features.
Writer = Callable[[Tensor, Tensor], None]


@dataclass(frozen=True)
class RidgeFit:
    """A fitted model."""

    form: SystemForm
    lambda_: Tensor
    """(voxel,) float64, selected lambda."""
    loss: Tensor
    """(lambda, voxel) float64 losses, see :mod:`nsdflow.fit.ridge.selection`; zeros for a single lambda."""
    bias: Tensor
    """(voxel,) mean response nu, the prediction for an image with average features."""
    statistics: FeatureStatistics
    coefficients: Tensor | None
    """(image, voxel) in the dual form or (feature, voxel) in the primal form; None if they were written."""

    def predict(self, features: Columns, training: Columns | None = None, *, features_at_once: int = 2048) -> Tensor:
        """Predict responses from features.

        Parameters
        ----------
        features : Columns
            (row, feature) raw features.
        training : Columns, optional
            (image, feature) raw features of the training images. Required in the dual form.
        features_at_once : int
            Features per block.

        Returns
        -------
        torch.Tensor
            (row, voxel) predictions.
        """
        if self.coefficients is None:
            raise ValueError(
                "coefficients were written elsewhere; read them, and give dataclasses.replace(fit, coefficients=...)"
            )
        if self.form == "dual":
            if training is None:
                raise ValueError("a dual fit predicts from the training features; give training=")
            order = torch.arange(int(training.shape[0]))
            # K (row, image), products of the rows with the training images
            K = cross_products(training, order, features, self.statistics, at_once=features_at_once)
            return K.to(self.coefficients.dtype) @ self.coefficients + self.bias
        predictions = self.bias.repeat(int(features.shape[0]), 1)
        for columns in blocks(int(features.shape[1]), features_at_once):
            Z = self.statistics.apply(as_tensor(features[:, columns]).clone(), columns)
            predictions += Z @ self.coefficients[columns]
        return predictions

    def weights(self, training: Columns | None = None, *, features_at_once: int = 2048) -> tuple[Tensor, Tensor]:
        """Compute the weights (feature, voxel) of raw features, and the intercept (voxel,)."""
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


def choose_form(images: int, features: int, form: str = "auto") -> SystemForm:
    """Return the form with the smaller system. The cost per lambda grows with the cube of its side."""
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
    device: torch.device | str = CPU,
) -> RidgeFit:
    """Fit one ridge model and select one lambda per voxel.

    Parameters
    ----------
    features : Columns
        (image, feature) features, in memory or on disk.
    responses : Columns
        (observation, voxel) finite responses, in memory or on disk.
    problem : RidgeProblem
        Definition of the fit.
    images : torch.Tensor, optional
        (observation,) int64, row of the features for each observation. Default: observation i has row i.
    weights : torch.Tensor, optional
        (observation,) number of trials averaged in each observation. Default: 1.
    folds : sequence of torch.Tensor, optional
        Masks (observation,) bool of the observations held out in each fold. Default: drawn according to the selection.
    within : torch.Tensor, optional
        (voxel,) squared deviations of trials from averaged observations, for ``gcv``.
    write : callable, optional
        Function that receives coefficients in blocks. With it, the result holds no coefficients.
    device : torch.device or str
        Device of the system and of all products. Blocks are moved to it as they are read; results are on the CPU.

    Returns
    -------
    RidgeFit
        The fitted models of all voxels.

    Raises
    ------
    ValueError
        Shapes do not match.
    RunError
        Features are not finite, or a lambda is below their rounding error.
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
    sorted_ = observations.reordered(order)
    system, statistics = make_system(features, order, sorted_, problem, torch.device(device))
    if len(problem.lambdas) > 1:
        loss = choose(system, sorted_, responses, problem, folds, within)
    else:
        loss = torch.zeros(1, int(responses.shape[1]), dtype=torch.float64)  # there is nothing to choose
    lambda_ = torch.tensor(problem.lambdas, dtype=torch.float64)[loss.argmin(0)]
    bias = torch.empty(int(responses.shape[1]), dtype=as_tensor(responses[:, :1]).dtype)
    coefficients = torch.empty(system.side, len(bias), dtype=bias.dtype) if write is None else None
    back = torch.argsort(order)
    dual = isinstance(system, DualSystem)
    for voxels, C, nu in solve_voxels(system, sorted_, responses, problem, lambda_):
        bias[voxels] = nu
        C = C[back] if dual else C
        if write is not None:
            write(voxels, C)
        elif coefficients is not None:
            coefficients[:, voxels] = C
    return RidgeFit("dual" if dual else "primal", lambda_, loss, bias, statistics, coefficients)


def make_system(
    features: Columns,
    order: Tensor,
    observations: Observations,
    problem: RidgeProblem,
    device: torch.device = CPU,
) -> tuple[System, FeatureStatistics]:
    """Form the system of the images in the given order (image,), and return it with the feature statistics."""
    counts = observations.counts()
    form = choose_form(len(order), int(features.shape[1]), problem.form)
    smallest = min(problem.lambdas) / float(counts.max())

    gather = partial(
        accumulate,
        features,
        order,
        counts,
        center=problem.intercept,
        scale=problem.standardise,
        at_once=problem.features_at_once,
        keep=form == "primal",
        device=device,
    )
    dtype = torch.float64 if problem.precision == "float64" else torch.float32
    closed = problem.selection.method in CLOSED
    limit = float32_limit(smallest, closed=closed) if problem.precision == "auto" else math.inf
    S, statistics, X = gather(dtype=dtype, limit=limit)
    if S is None and X is None:
        S, statistics, X = gather(dtype=(dtype := torch.float64))
    elif X is not None and float(X.square().sum(dtype=torch.float64)) > limit:
        dtype = torch.float64
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
    """Compute the losses (lambda, voxel) float64 of every lambda."""
    observations = observations.to(system.device)
    if problem.selection.method in CLOSED:
        return score_closed(system, observations, responses, problem, within)
    total = torch.zeros(len(problem.lambdas), int(responses.shape[1]), dtype=torch.float64)
    for held in folds:
        total += score_fold(system, observations, responses, problem, held.to(system.device))
    return total


def solve_voxels(
    system: System, observations: Observations, responses: Columns, problem: RidgeProblem, lambda_: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Solve from all observations with ``lambda_`` (voxel,), one lambda at a time.

    Yields voxels (voxel,), their coefficients C (side, voxel) for standardised features, and their mean response nu
    (voxel,), all on the CPU. C is A(lambda)^-1 T in the primal form, and sqrt(c) A(lambda)^-1 T in the dual form.
    """
    observations = observations.to(system.device)
    system.begin(observations.counts())
    for strength in lambda_.unique().tolist():
        system.factor(strength)
        for voxels in (lambda_ == strength).nonzero()[:, 0].split(problem.voxels_at_once):
            Y = take_columns(responses, voxels, problem.voxels_at_once).to(system.device)
            B, nu = centre_responses(observations, Y, problem.intercept)
            del Y
            C = system.solve(system.right(B))
            if isinstance(system, DualSystem):
                C = C.mul_(system.q[:, None])
            yield voxels, C.to(nu.dtype).cpu(), nu.cpu()
