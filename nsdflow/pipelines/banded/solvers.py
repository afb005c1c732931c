"""Solvers of a ridge on several bands: himalaya's random search over their weightings, or one ridge on all of them.

Both get the kernels K_b = (X_b - mu)(X_b - mu)' (image, image) of the training images by band, with weighted means mu
(feature,) over trials, and give dual coefficients C (image, voxel) and weights w (band, voxel): predictions of other
images are nu + sum_b w_b (x_b - mu)(X_b - mu)' C.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch

from nsdflow.errors import MissingDataError
from nsdflow.fit.ridge.inputs import Observations
from nsdflow.fit.ridge.solver import choose, solve_voxels
from nsdflow.fit.ridge.system import DualSystem
from nsdflow.pipelines.ridge.matrix import read_matrix

if TYPE_CHECKING:
    from torch import Tensor

    from nsdflow.pipelines.banded.settings import BandedRidgePipeline
    from nsdflow.pipelines.ridge.data import TrialSplit

__all__ = ["SOLVERS", "Solution", "Weighting", "himalaya_solver", "run_himalaya"]


@dataclass(frozen=True)
class Solution:
    """Coefficients of some bands."""

    dual: Tensor
    """(image, voxel) float32 coefficients C, which all bands share."""
    deltas: Tensor
    """(band, voxel) log weights of the bands."""
    lambda_: Tensor | None = None
    """(voxel,) chosen lambdas, where the weights do not include them."""

    def contributions(self, crosses: Sequence[Tensor]) -> Tensor:
        """Parts (band, image, voxel) of the predictions, from the products (image, training image) of each band."""
        pairs = zip(crosses, self.deltas, strict=True)
        return torch.stack([cross @ self.dual * torch.exp(delta) for cross, delta in pairs])


@dataclass(frozen=True)
class Weighting:
    """How the bands are weighted."""

    solve: Callable[[Sequence[str], TrialSplit, Tensor, BandedRidgePipeline, torch.device], Solution]
    """Kernels of the bands, by the place of their matrices; trials; responses (image, voxel); settings; device."""
    dtype: torch.dtype
    """Precision of the kernels."""


def _search(
    kernels: Sequence[str], design: TrialSplit, Y: Tensor, config: BandedRidgePipeline, device: torch.device
) -> Solution:
    """Weights of each voxel by random search: himalaya gets Q K_b Q and Q (Y - nu), with Q = diag(sqrt(c))."""
    c = design.observations.counts()
    q, share = c.sqrt().float(), (c / c.sum()).float()  # (image,)
    Ks = torch.stack([read_matrix(kernel) for kernel in kernels])
    Ks.mul_(q[:, None]).mul_(q)
    deltas, dual = run_himalaya(Ks.to(device), (q[:, None] * (Y - share @ Y)).to(device), config)
    return Solution(dual.cpu().mul_(q[:, None]), deltas.cpu())


def _equal(
    kernels: Sequence[str], design: TrialSplit, Y: Tensor, config: BandedRidgePipeline, device: torch.device
) -> Solution:
    """One ridge on the features of all bands, whose kernel is the sum of theirs."""
    S = read_matrix(kernels[0])
    for kernel in kernels[1:]:
        S += read_matrix(kernel)
    system, problem = DualSystem(S.to(device), intercept=True), config.as_ridge().problem()
    observations = Observations.of(len(S), None, design.observations.counts())
    loss = choose(system, observations, Y, problem, design.folds)
    lambda_ = torch.tensor(problem.lambdas, dtype=torch.float64)[loss.argmin(0)]
    dual = torch.empty(len(S), Y.shape[1])
    for voxels, C, _ in solve_voxels(system, observations, Y, problem, lambda_):
        dual[:, voxels] = C
    return Solution(dual, torch.zeros(len(kernels), Y.shape[1]), lambda_)


#: Ways to weight the bands, by the value of the setting.
SOLVERS: Final[Mapping[str, Weighting]] = {
    "search": Weighting(_search, torch.float32),
    "equal": Weighting(_equal, torch.float64),
}


def himalaya_solver() -> Any:
    """himalaya's random search.

    Raises
    ------
    MissingDataError
        himalaya is not installed.
    """
    try:
        from himalaya.kernel_ridge import solve_multiple_kernel_ridge_random_search
    except ImportError:
        raise MissingDataError(
            "banded_ridge needs himalaya; pip install 'nsdflow[banded]', or set weighting: equal"
        ) from None
    return solve_multiple_kernel_ridge_random_search


def run_himalaya(Ks: Tensor, Y: Tensor, config: BandedRidgePipeline) -> tuple[Tensor, Tensor]:
    """Find log kernel weights (band, voxel) and dual coefficients (image, voxel) by himalaya's random search.

    Parameters
    ----------
    Ks : Tensor
        (band, image, image) kernels of the training images.
    Y : Tensor
        (image, voxel) responses, centred, on the device of the kernels.
    """
    from himalaya.backend import set_backend
    from sklearn.model_selection import KFold

    set_backend("torch_cuda" if Ks.device.type == "cuda" else "torch")
    deltas, dual, _ = himalaya_solver()(
        Ks,
        Y,
        n_iter=config.iterations,
        alphas=torch.tensor(config.grid(), dtype=torch.float64).to(Y),
        cv=KFold(config.folds, shuffle=True, random_state=config.seed),
        return_weights="dual",
        random_state=config.seed,
        progress_bar=False,
    )
    return deltas, dual
