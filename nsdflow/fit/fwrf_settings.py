"""What an fwRF model is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from nsdflow.fit.fwrf_features import Nonlinearity
    from nsdflow.fit.fwrf_trials import Statistics
    from nsdflow.fit.ridge import Form

__all__ = ["PUBLISHED", "PUBLISHED_LAMBDAS", "FwrfSettings"]

PUBLISHED_LAMBDAS = tuple(float(strength) for strength in np.geomspace(1e3, 1e6, 9))


@dataclass(frozen=True)
class FwrfSettings:
    """What the model is; the defaults are the published AlexNet-fwRF."""

    lambdas: tuple[float, ...] = PUBLISHED_LAMBDAS
    zscore: bool = True
    bias: bool = True
    """Append a column of ones, which is penalised like every feature."""
    nonlinearity: Nonlinearity = "none"
    statistics: Statistics = "all"
    form: Form | None = None
    """None takes the cheaper one."""

    def __post_init__(self) -> None:
        if not self.lambdas or min(self.lambdas) <= 0:
            raise ValueError(f"lambdas must be positive numbers, not {self.lambdas}")


#: The published AlexNet-fwRF.
PUBLISHED = FwrfSettings()
