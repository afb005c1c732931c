"""The published split into training and validation trials."""

from __future__ import annotations

import numpy as np
import pytest

from nsdflow.fit.split import average_trials


@pytest.mark.parametrize("average", [False, True])
def test_split(golden, average: bool) -> None:
    arrays = golden("split")
    betas = arrays["betas"]
    images = arrays["ordering"][: len(betas)]
    if average:
        images, betas = average_trials(images, betas)
    for part, chosen in (("train", images >= 1000), ("val", images < 1000)):
        np.testing.assert_array_equal(images[chosen], arrays[f"{part}_order_{average:d}"])
        np.testing.assert_allclose(betas[chosen], arrays[f"{part}_betas_{average:d}"], rtol=1e-5, atol=1e-6)
