"""The mean that GNet subtracts from its input, as each notebook takes it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nsdflow.fit.statistics import channel_mean, channel_sums

SHARED = 1000


@pytest.mark.parametrize("case", ["equal", "unequal"])
@pytest.mark.parametrize(("notebook", "first"), [("gnet8j", 0), ("synthetic", 0), ("gnet8r", SHARED)])
def test_input_mean(golden, case: str, notebook: str, first: int) -> None:
    arrays = golden("input_mean")
    high, pixels = arrays[f"{case}_high"], arrays[f"{case}_pixels"]
    random = np.random.default_rng(int(arrays["image_seed"]))
    images = random.integers(0, high[:, None, None, None], (len(high), 3, *pixels)).astype(np.uint8)
    lists = [torch.from_numpy(arrays[name][first:]) for name in arrays if name.startswith(f"{case}_images_")]
    assert len(lists) > 1
    mean = channel_mean(channel_sums(torch.from_numpy(images)), lists, int(np.prod(pixels)))
    np.testing.assert_allclose(mean, arrays[f"{case}_{notebook}"].ravel(), atol=1e-6)
