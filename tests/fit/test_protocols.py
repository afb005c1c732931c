"""The records of the two protocols; what each fit makes of them is tested with the pipelines."""

from __future__ import annotations

from typing import get_args

import numpy as np

from nsdflow.config.pipeline import ModelPipeline
from nsdflow.fit.protocols import PROTOCOLS
from nsdflow.fit.split import image_holdout
from nsdflow.store.query.zscoring import ZSCORINGS


def test_every_protocol_of_the_settings_has_a_record() -> None:
    assert tuple(PROTOCOLS) == get_args(ModelPipeline.model_fields["protocol"].annotation)


def test_published_holds_out_the_last_trials_and_strict_whole_images() -> None:
    images = np.tile(np.arange(20), 3)
    published, strict = (PROTOCOLS[name].holdout(images, 0.1) for name in ("published", "strict"))
    assert np.flatnonzero(published).tolist() == [54, 55, 56, 57, 58, 59]
    np.testing.assert_array_equal(strict, image_holdout(images, 0.1))
    assert not PROTOCOLS["published"].training_only
    assert PROTOCOLS["strict"].training_only


def test_responses_are_z_scored_once() -> None:
    """By the query, or on the training trials; a model is evaluated with a z-scoring that needs none of these."""
    for protocol in PROTOCOLS.values():
        assert protocol.zscore in ZSCORINGS
        assert (protocol.zscore is False) == (protocol.zscore_on is not None)
        assert not ZSCORINGS[protocol.evaluation_zscore].training_trials
