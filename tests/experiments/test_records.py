"""The table of sister experiments, and the numbers that NSD published about them."""

from __future__ import annotations

import numpy as np
import pytest

from nsdflow.nsd.experiments import EXPERIMENTS, parse_experiments
from nsdflow.nsd.experiments.imagery import IMAGERY_RUNS, LETTERS
from nsdflow.nsd.experiments.record import repetitions
from nsdflow.nsd.experiments.synthetic import CLASS_SIZES, as_seen
from nsdflow.synthetic.spec import SISTERS


def test_published_numbers() -> None:
    assert sum(CLASS_SIZES.values()) == 284
    assert [run.name for run in IMAGERY_RUNS] == (
        ["visA", "attA", "imgA_1", "visB", "attB", "imgB_1", "visC", "attC", "imgC_1", "imgA_2", "imgB_2", "imgC_2"]
    )
    first = np.cumsum([0, *(48 * run.betas for run in IMAGERY_RUNS)]).tolist()
    assert first == [0, 48, 144, 192, 240, 336, 384, 432, 528, 576, 624, 672, 720]
    assert sum(map(len, LETTERS.values())) == 18


def test_names() -> None:
    assert tuple(EXPERIMENTS) == SISTERS
    assert parse_experiments(["imagery", "synthetic", "imagery"]) == ("synthetic", "imagery")
    assert parse_experiments("") == ()
    assert EXPERIMENTS["imagery"].betas("betas_fithrf") == "nsdimagerybetas_fithrf"


@pytest.mark.parametrize("seed", range(3))
def test_repetitions_by_a_plain_loop(seed: int) -> None:
    condition = np.random.default_rng(seed).integers(0, 9, 60)
    wanted = [int((condition[:trial] == condition[trial]).sum()) for trial in range(60)]
    assert repetitions(condition).tolist() == wanted


def test_a_linear_screen_shows_the_luminance_of_the_other() -> None:
    """(v' / 255)^2 = v / 255, within half a step of v'."""
    values = np.arange(256, dtype=np.uint8)
    image = np.broadcast_to(values[None, None, :, None], (1, 256, 256, 3))
    prepared = as_seen(image)[0, 0, :, 0].astype(float)
    assert np.abs(prepared - np.sqrt(values / 255) * 255).max() <= 0.5
