"""Aligning trials, images and statistics: laws, and plain loops as oracles."""

from __future__ import annotations

import numpy as np
import pytest
from distributed import Client
from hypothesis import given
from hypothesis import strategies as st

from nsdflow.fit.zscoring import zscore_on
from nsdflow.pipelines.common.data import dealt_out, load_images, load_trials
from nsdflow.store import open_store


@given(seed=st.integers(0, 2**16), images=st.integers(2, 30), trials=st.integers(1, 90))
def test_shuffling_deals_images_out_within_their_kind(seed: int, images: int, trials: int) -> None:
    rng = np.random.default_rng(seed)
    nsd_id = rng.choice(1000, size=2 * images, replace=False)
    kind = np.repeat([True, False], images)
    drawn = rng.integers(0, 2 * images, size=trials)
    dealt = nsd_id[drawn][dealt_out(kind[drawn], seed)]
    for part in (kind[drawn], ~kind[drawn]):
        np.testing.assert_array_equal(np.sort(nsd_id[drawn][part]), np.sort(dealt[part]))


def test_shuffling_separates_the_trials_of_an_image() -> None:
    nsd_id = np.repeat(np.arange(300), 3)
    dealt = nsd_id[dealt_out(np.zeros(900, dtype=bool), 0)]
    assert (dealt == nsd_id).mean() < 0.02
    assert np.mean([len(set(dealt[nsd_id == image])) == 3 for image in range(300)]) > 0.9


def test_zscore_on_uses_only_the_trials_it_may_see() -> None:
    rng = np.random.default_rng(0)
    responses = rng.normal(3, 2, size=(60, 4)).astype(np.float32)
    responses[:, 3] = 1.5  # a voxel without signal
    session = np.repeat([1, 2, 3], 20)
    fitted_on = rng.random(60) < 0.6
    fitted_on[session == 3] = False
    scored = zscore_on(responses, session, fitted_on)
    for trial in range(60):
        seen = responses[(session == session[trial]) & fitted_on].astype(np.float64)
        expected = (responses[trial] - seen.mean(0)) / (seen.std(0) + 1e-6) if len(seen) else np.zeros(4)
        np.testing.assert_allclose(scored[trial], expected, rtol=1e-5, atol=1e-5)
    changed = responses.copy()
    changed[~fitted_on] += 100
    np.testing.assert_array_equal(zscore_on(changed, session, fitted_on)[fitted_on], scored[fitted_on])
    assert not scored[:, 3].any()


def test_zscore_on_makes_nan_zero() -> None:
    responses = np.full((4, 1), np.nan, dtype=np.float32)
    assert not zscore_on(responses, np.ones(4, dtype=np.int64), np.ones(4, dtype=bool)).any()


def test_shuffling_is_seeded() -> None:
    shared = np.zeros(50, dtype=bool)
    np.testing.assert_array_equal(dealt_out(shared, 1), dealt_out(shared, 1))
    with pytest.raises(AssertionError):
        np.testing.assert_array_equal(dealt_out(shared, 1), dealt_out(shared, 2))


def read_all(url: str) -> int:
    store = open_store(url)
    trials = load_trials(store, "subj01")
    return trials.responses.nbytes + load_images(store, np.unique(trials.nsd_id)).nbytes


def compute_lazily(url: str) -> int:
    return open_store(url).responses("subj01").compute().nbytes


def test_a_task_reads_for_itself_and_asks_nothing_of_the_cluster_it_runs_on(
    threads_client: Client, small_store: str
) -> None:
    assert threads_client.submit(read_all, small_store).result() > 0
    # otherwise the read that tests/conftest.py forbids would go through the scheduler
    with pytest.raises(AssertionError, match="read_here"):
        threads_client.submit(compute_lazily, small_store).result()
