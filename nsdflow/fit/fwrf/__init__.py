"""Feature-weighted receptive fields: the best pooling field per voxel, and ridge weights on its features."""

from nsdflow.fit.fwrf.results import FwrfResult, predict
from nsdflow.fit.fwrf.settings import FwrfSettings
from nsdflow.fit.fwrf.solver import (
    PUBLISHED,
    PUBLISHED_LAMBDAS,
    FwrfPartial,
    combine,
    fit,
    fit_shape,
    search,
    solve,
)

__all__ = [
    "PUBLISHED",
    "PUBLISHED_LAMBDAS",
    "FwrfPartial",
    "FwrfResult",
    "FwrfSettings",
    "combine",
    "fit",
    "fit_shape",
    "predict",
    "search",
    "solve",
]
