"""Settings of an fwRF model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np

from nsdflow.fit.fwrf.features import Nonlinearity
from nsdflow.fit.fwrf.trials import StatisticsTrials
from nsdflow.fit.ridge import Form

__all__ = ["PUBLISHED", "PUBLISHED_LAMBDAS", "FwrfSettings"]

PUBLISHED_LAMBDAS = tuple(float(strength) for strength in np.geomspace(1e3, 1e6, 9))


@dataclass(frozen=True)
class FwrfSettings:
    """Settings of an fwRF model. The defaults are those of the published AlexNet-fwRF."""

    lambdas: tuple[float, ...] = PUBLISHED_LAMBDAS
    zscore: bool = True
    bias: bool = True
    """Append a column of ones, penalised like the features."""
    nonlinearity: Nonlinearity = "none"
    statistics: StatisticsTrials = "all"
    form: Form | None = None
    """None selects the cheaper form. ``primal`` becomes ``primal64`` if float32 does not suffice for the lambdas."""

    def __post_init__(self) -> None:
        if not self.lambdas or min(self.lambdas) <= 0:
            raise ValueError(f"lambdas must be positive numbers, not {self.lambdas}")
        choices = {"statistics": get_args(StatisticsTrials), "form": (None, *get_args(Form))}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is one of {', '.join(map(str, known))}, not {getattr(self, name)!r}")
        if not callable(self.nonlinearity) and self.nonlinearity not in ("none", "log"):
            raise ValueError(f"nonlinearity is none, log or a function of a tensor, not {self.nonlinearity!r}")


#: Settings of the published AlexNet-fwRF.
PUBLISHED = FwrfSettings()
