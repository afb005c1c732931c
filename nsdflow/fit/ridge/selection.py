"""A ridge problem, and its lambda per voxel: by a holdout, k folds, leave-one-out or generalised cross-validation.

Folds consist of images, so all trials of an image are on the same side. The exception is a holdout given per trial (the
published one). The loss of a lambda is the squared error of the trials held out.

The closed forms use, for images i of weight c_i (trials), the weighted residuals e_i = sqrt(c_i) (y_i - yhat_i) per
voxel, the leverages h_i, the leverages u_i^2 = c_i / sum c of the intercept (0 without intercept), and the squared
deviation ``within`` of trials from the mean of their image:

    leave-one-out   sum_i (e_i / (1 - h_i - u_i^2))^2 + within            (leaves out all trials of an image)
    generalised     (sum_i e_i^2 + within) / (1 - (sum_i h_i + 1) / N)^2  (N trials; without intercept, no + 1)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
import torch
from torch import Tensor

from nsdflow.fit.ridge.inputs import Columns, Observations, as_tensor, blocks
from nsdflow.fit.ridge.products import RidgePrecision
from nsdflow.fit.ridge.system import DualSystem, System

__all__ = [
    "CLOSED",
    "Folds",
    "LambdaSelection",
    "RidgeProblem",
    "fold_order",
    "make_folds",
    "score_closed",
    "score_fold",
]

#: Selections in closed form.
CLOSED: Final = ("loo", "gcv")


@dataclass(frozen=True)
class LambdaSelection:
    """Selection of lambda.

    Parameters
    ----------
    method : {"holdout", "kfold", "loo", "gcv"}
        Holdout, k folds, leave-one-out or generalised cross-validation.
    fraction : float
        Share of the images held out by ``holdout``.
    folds : int
        Number of folds of ``kfold``.
    seed : int
        Seed of the random assignment of images to folds.
    """

    method: Literal["holdout", "kfold", "loo", "gcv"] = "holdout"
    fraction: float = 0.1
    folds: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in ("holdout", "kfold", *CLOSED):
            raise ValueError(f"unknown selection {self.method!r}; write holdout, kfold, loo or gcv")
        if not 0 < self.fraction < 1:
            raise ValueError(f"holdout fraction must lie between 0 and 1, received {self.fraction}")
        if self.folds < 2:
            raise ValueError(f"kfold needs at least 2 folds, received {self.folds}")


@dataclass(frozen=True)
class RidgeProblem:
    """Definition of a fit, without the data.

    Parameters
    ----------
    lambdas : tuple of float
        Candidate lambdas, positive.
    selection : LambdaSelection
        Selection of lambda per voxel.
    intercept : bool
        Fit an unpenalised intercept.
    standardise : bool
        Divide features by their standard deviation over training trials.
    form : {"auto", "primal", "dual"}
        Form of the system. ``auto`` selects the smaller system.
    precision : {"auto", "float32", "float64"}
        Precision of the system. ``auto`` is float32 unless rounding would be comparable with the smallest lambda.
    features_at_once, voxels_at_once, lambdas_at_once : int
        Block sizes. They bound memory and do not affect the selected lambdas.
    """

    lambdas: tuple[float, ...]
    selection: LambdaSelection = field(default_factory=LambdaSelection)
    intercept: bool = True
    standardise: bool = True
    form: Literal["auto", "primal", "dual"] = "auto"
    precision: RidgePrecision = "auto"
    features_at_once: int = 2048
    voxels_at_once: int = 2048
    lambdas_at_once: int = 16

    def __post_init__(self) -> None:
        if not self.lambdas or not all(strength > 0 for strength in self.lambdas):
            raise ValueError(f"lambdas must be positive numbers, received {self.lambdas}")


#: One mask (observation,) bool per fold, True for observations held out.
Folds = Sequence[Tensor]


def make_folds(selection: LambdaSelection, observations: Observations) -> Folds:
    """Draw the folds of images at random, and mark the observations (observation,) held out in each.

    Raises
    ------
    ValueError
        The images are too few for the folds.
    """
    if selection.method in CLOSED:
        return ()
    shown = observations.image.unique().numpy()
    drawn = np.random.default_rng(selection.seed).permutation(shown)
    count = selection.folds if selection.method == "kfold" else 1
    size = max(1, round(selection.fraction * len(shown)))
    parts = np.array_split(drawn, count) if selection.method == "kfold" else [drawn[:size]]
    if len(shown) < max(2, count) or (count == 1 and size >= len(shown)):
        raise ValueError(f"{len(shown)} images are too few for {count} fold(s); use fewer folds, or loo")
    return [torch.isin(observations.image, torch.from_numpy(part)) for part in parts]


def fold_order(folds: Folds, observations: Observations) -> Tensor:
    """Return an order (image,) of the images: training images first, then the held-out images of each fold together.

    Images with both held-out and training trials count as training images.
    """
    fold = torch.full((observations.images,), -1, dtype=torch.int64)
    for number, held in enumerate(folds):
        trained = torch.isin(torch.arange(observations.images), observations.image[~held])
        alone = torch.isin(torch.arange(observations.images), observations.image[held]) & ~trained
        fold[alone] = number
    return torch.sort(fold, stable=True).indices


def centre_responses(
    observations: Observations, Y: Tensor, intercept: bool, used: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Compute B = sqrt(c) (y - nu) (image, voxel), and the mean response nu (voxel,), from all or ``used`` rows."""
    c = observations.counts(used)  # (image,)
    mean = observations.means(Y, used)
    share = (c / c.sum()).to(mean.dtype)
    nu = share @ mean if intercept else mean.new_zeros(mean.shape[1])
    return mean.sub_(nu).mul_(c.sqrt().to(mean.dtype)[:, None]), nu


def score_fold(
    system: System, observations: Observations, responses: Columns, problem: RidgeProblem, held: Tensor
) -> Tensor:
    """Compute the squared error (lambda, voxel) float64 of the observations held out, summed over trials.

    Predictions of the m images held out are O'T + nu, with the operator O = A(lambda)^-1 R' (side, m) and the right
    sides T (side, voxel) of :mod:`nsdflow.fit.ridge.system`. Per lambda, the factor costs side^3 / 3 operations, the
    operator 2 side^2 m, and the predictions 2 side m per voxel. No coefficients are computed.
    """
    system.begin(observations.counts(~held))
    image, place = observations.image[held].unique(return_inverse=True)
    R = system.rows(image)  # (m, side)
    weight = observations.weight[held]
    voxels, kind = int(responses.shape[1]), as_tensor(responses[:, :1]).dtype
    loss = torch.zeros(len(problem.lambdas), voxels, dtype=torch.float64)
    for some in blocks(len(problem.lambdas), problem.lambdas_at_once):
        operators = []
        for strength in problem.lambdas[some]:
            system.factor(strength)
            O = system.solve(R.T.contiguous())  # noqa: E741  A^-1 R', (side, m)
            operators.append(O.to(kind) if isinstance(system, DualSystem) else O)
            del O
        for columns in blocks(voxels, problem.voxels_at_once):
            Y = as_tensor(responses[:, columns], system.device)
            B, nu = centre_responses(observations, Y, problem.intercept, ~held)
            T = system.right(B)  # (side, voxel)
            wanted = (Y[held] - nu).to(T.dtype)  # (held observation, voxel)
            for number, O in enumerate(operators, some.start):  # noqa: E741
                residual = wanted - (O.T.to(T.dtype) @ T)[place]
                loss[number, columns] = (weight @ residual.square_().double()).cpu()
    return loss


def score_closed(
    system: System,
    observations: Observations,
    responses: Columns,
    problem: RidgeProblem,
    within: Tensor | None = None,
) -> Tensor:
    """Compute the leave-one-out or generalised cross-validation loss (lambda, voxel) float64 in closed form.

    ``within`` (voxel,) float64 are the squared deviations of trials from their averages, if the responses (observation,
    voxel) are averages of trials.
    """
    c, voxels = observations.counts(), int(responses.shape[1])
    within = torch.zeros(voxels, dtype=torch.float64) if within is None else within
    system.begin(c)
    trials = float(c.sum())
    u2 = c / trials if problem.intercept else torch.zeros_like(c)
    loss = torch.zeros(len(problem.lambdas), voxels, dtype=torch.float64)
    for number, strength in enumerate(problem.lambdas):
        system.factor(strength)
        residuals, h = system.left_out(strength)  # h (image,)
        kept = (1 - h - u2).clamp(min=1e-12)[:, None]  # (image, 1)
        for columns in blocks(voxels, problem.voxels_at_once):
            Y = as_tensor(responses[:, columns], system.device)
            B, nu = centre_responses(observations, Y, problem.intercept)
            apart = _within(observations, Y, B, nu, c) + within[columns].to(system.device)
            E = residuals(B).double()  # e, (image, voxel)
            score = _CLOSED[problem.selection.method]
            loss[number, columns] = score(E, kept, apart, float((h + u2).sum()), trials).cpu()
    return loss


def _loo(E: Tensor, kept: Tensor, apart: Tensor, freedom: float, trials: float) -> Tensor:
    return E.div_(kept).square_().sum(0) + apart


def _gcv(E: Tensor, kept: Tensor, apart: Tensor, freedom: float, trials: float) -> Tensor:
    return (E.square_().sum(0) + apart) / max(1 - freedom / trials, 1e-12) ** 2


_CLOSED: dict[str, Callable[[Tensor, Tensor, Tensor, float, float], Tensor]] = {"loo": _loo, "gcv": _gcv}


def _within(observations: Observations, Y: Tensor, B: Tensor, nu: Tensor, c: Tensor) -> Tensor:
    """Compute the squared deviation (voxel,) float64 of observations from the mean of their image."""
    if len(observations.image) == int((c > 0).sum()):
        return Y.new_zeros(Y.shape[1], dtype=torch.float64)
    total = Y.new_zeros(Y.shape[1], dtype=torch.float64)
    for rows in blocks(len(Y), 1024):
        total += observations.weight[rows] @ (Y[rows] - nu).double().square()
    return (total - B.double().square().sum(0)).clamp(min=0)
