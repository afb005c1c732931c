"""The published split into training and validation trials."""

from __future__ import annotations

import numpy as np
import pytest

from nsdflow.fit.split import split_trials


@pytest.mark.parametrize("average", [False, True])
def test_split(golden, average: bool) -> None:
    arrays = golden("split")
    split = split_trials(arrays["ordering"], arrays["betas"], average=average)
    np.testing.assert_array_equal(split.train_images, arrays[f"train_order_{average:d}"])
    np.testing.assert_array_equal(split.validation_images, arrays[f"val_order_{average:d}"])
    np.testing.assert_allclose(split.train_betas, arrays[f"train_betas_{average:d}"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(split.validation_betas, arrays[f"val_betas_{average:d}"], rtol=1e-5, atol=1e-6)
