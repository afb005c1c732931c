"""Sums over trials of an image are exact rearrangements of sums over trials."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nsdflow.fit.fwrf.trials import sum_trials


@given(
    images=st.lists(st.integers(0, 9), min_size=2, max_size=40),
    seed=st.integers(0, 1000),
    held=st.integers(1, 39),
    training=st.booleans(),
)
@settings(max_examples=50)
def test_sums(images: list[int], seed: int, held: int, training: bool) -> None:
    shown, generator = torch.tensor(images), torch.Generator().manual_seed(seed)
    holdout = torch.arange(len(images)) >= max(1, len(images) - held)
    features = torch.randn(10, 4, generator=generator).double()
    responses = torch.randn(len(images), 3, generator=generator)
    trials = sum_trials(shown, responses, holdout, statistics="training" if training else "all")

    rows, observed = features[shown], responses.double()
    fitted = features[trials.images]
    weighted = fitted[trials.train] * trials.train_count.double().sqrt()[:, None]
    close = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(weighted.T @ weighted, rows[~holdout].T @ rows[~holdout], **close)
    torch.testing.assert_close(weighted.T @ trials.train_sum.double(), rows[~holdout].T @ observed[~holdout], **close)

    statistic_rows = rows[~holdout] if training else rows
    torch.testing.assert_close(trials.share.double() @ fitted, statistic_rows.mean(0), **close)

    weights = torch.randn(4, 3, generator=generator).double()
    predicted = fitted[trials.holdout] @ weights * trials.holdout_count.double().sqrt()[:, None]
    loss = (trials.holdout_mean.double() - predicted).square().sum(0) + trials.unexplainable
    torch.testing.assert_close(loss, (observed - rows @ weights)[holdout].square().sum(0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("images", "holdout", "message"),
    [
        ([0, 1], [False, True, True], "2 images, 3 responses and 3 holdout marks"),
        ([0, 1, 2], [True, True, True], "3 of 3 trials are holdout"),
        ([0, 1, 2], [False, False, False], "0 of 3 trials are holdout"),
    ],
)
def test_refusals(images: list[int], holdout: list[bool], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sum_trials(torch.tensor(images), torch.zeros(3, 2), torch.tensor(holdout))


def test_responses_must_be_finite() -> None:
    responses = torch.tensor([[0.0, 1.0], [float("nan"), 1.0]])
    with pytest.raises(ValueError, match="responses of 1 voxels are not finite"):
        sum_trials(torch.tensor([0, 1]), responses, torch.tensor([False, True]))
