"""Laws of the splits; tests/golden compares them with the published arrays."""

from __future__ import annotations

import hashlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nsdflow.fit.split import average_trials, image_holdout, last_trials_holdout

trial_images = st.lists(st.integers(0, 3000), min_size=1, max_size=60).map(
    lambda values: np.array(values, dtype=np.int64)
)


@given(images=trial_images)
def test_average_is_the_mean_of_each_image(images: np.ndarray) -> None:
    betas = np.random.default_rng(0).standard_normal((len(images), 2))
    unique, means = average_trials(images, betas)
    assert list(unique) == sorted(set(images.tolist()))
    for image, mean in zip(unique, means, strict=True):
        np.testing.assert_allclose(mean, np.mean([b for i, b in zip(images, betas, strict=True) if i == image], axis=0))


def test_last_trials() -> None:
    assert np.flatnonzero(last_trials_holdout(11, 0.1)).tolist() == [9, 10]  # the ceiling of 1.1
    assert last_trials_holdout(172_692 + 19_190, 0.1).sum() == 19_189  # of one list; by subject the ceilings add up


@given(images=trial_images, order=st.randoms(use_true_random=False))
def test_image_holdout_depends_on_the_image_alone(images: np.ndarray, order) -> None:
    shuffled = list(range(len(images)))
    order.shuffle(shuffled)
    holdout = image_holdout(images, 0.3)
    np.testing.assert_array_equal(image_holdout(images[shuffled], 0.3), holdout[shuffled])
    np.testing.assert_array_equal(image_holdout(images[:1], 0.3), holdout[:1])


def test_image_holdout_is_a_share_and_grows() -> None:
    images = np.arange(20_000)
    small, large = image_holdout(images, 0.1), image_holdout(images, 0.2)
    assert abs(small.mean() - 0.1) < 0.01
    assert large[small].all()


def test_image_holdout_is_the_stated_hash() -> None:
    """The holdout must not change between versions of this library, because runs are compared over years."""
    digests = [hashlib.blake2b(b"nsdflow:%d" % image, digest_size=8).digest() for image in range(50)]
    expected = [int.from_bytes(digest, "big") < 2**63 for digest in digests]
    assert image_holdout(np.arange(50), 0.5).tolist() == expected
    assert image_holdout(np.arange(8), 0.5).tolist() == [False, True, True, True, True, False, True, False]
