"""The asymmetry of a transfer matrix as the published code computes it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

from nsdflow.analysis import transfer_asymmetry


def test_alpha_and_its_error(golden: Callable[[str], dict[str, np.ndarray]]) -> None:
    published = golden("transfer_asymmetry")
    result = transfer_asymmetry(xr.DataArray(published["matrix"], dims=("model", "roi")))
    assert float(result["alpha"]) == pytest.approx(float(published["alpha"]), rel=1e-9)
    # the published error comes from a numerical derivative, good to some 1e-7
    assert float(result["alpha_error"]) == pytest.approx(float(published["alpha_err"]), rel=1e-6)
