"""A training small enough to run many times: 64-pixel images, planted responses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

from nsdflow.fit.gnet import Trials
from nsdflow.models.gabor_prefilter import gabor_prefilter_weights
from nsdflow.models.gnet import Encoder, Prefilter, Readout, level_shapes


@dataclass(frozen=True)
class Problem:
    images: torch.Tensor
    trials: dict[str, Trials]
    encoder: Encoder
    readouts: dict[str, Readout]

    @property
    def arguments(self) -> tuple:
        """The positional arguments of ``train``."""
        return self.images, self.trials, self.encoder, self.readouts


def make_problem(
    *,
    subjects: int = 2,
    images: int = 24,
    trials: int = 40,
    voxels: int = 6,
    width: int = 4,
    dtype: torch.dtype = torch.float32,
) -> Problem:
    """Responses are the output of a random network of the same kind plus noise; every image is shown about twice."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 256, (images, 3, 8, 8), dtype=torch.uint8, generator=generator)
    pixels = coarse.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)
    weights, mean = gabor_prefilter_weights(0), (0.5, 0.5, 0.5)
    encoder, truth = (Encoder(Prefilter(weights, mean), width, generator=generator) for _ in range(2))
    truth.eval()
    shapes = level_shapes(encoder, pixels)
    by_subject, readouts = {}, {}
    for number in range(1, subjects + 1):
        planted = Readout(voxels, shapes, generator=generator)
        with torch.no_grad():
            signal = planted(truth(pixels))
        signal = (signal - signal.mean(0)) / signal.std(0)
        rows = torch.randint(0, images, (trials + 3 * number,), generator=generator)
        responses = signal[rows] + 0.3 * torch.randn(len(rows), voxels, generator=generator)
        by_subject[f"subj{number:02d}"] = Trials(rows, responses.to(dtype), torch.arange(len(rows)) >= 0.8 * len(rows))
        readouts[f"subj{number:02d}"] = Readout(voxels, shapes, generator=generator).to(dtype)
    return Problem(pixels, by_subject, encoder.to(dtype), readouts)


@pytest.fixture
def problem() -> Problem:
    return make_problem()


@pytest.fixture
def planted() -> Callable[..., Problem]:
    return make_problem
