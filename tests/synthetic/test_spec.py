import dataclasses

import numpy as np
import pytest

from nsdflow.errors import ConfigError
from nsdflow.synthetic import SyntheticSpec
from nsdflow.synthetic.experiment.design import draw_experiment, run_lengths


@pytest.mark.parametrize("spec", [SyntheticSpec(), SyntheticSpec.demo(seed=3), SyntheticSpec.published()])
def test_json_round_trip(spec):
    assert SyntheticSpec.from_json(spec.to_json()) == spec


def test_all_mistakes_are_listed_at_once():
    with pytest.raises(ConfigError) as caught:
        SyntheticSpec(
            subjects=9, sessions=1, trials_per_session=100, formats=("zip",), ncsnr=(2.0, 1.0), hierarchy="up", seed=-1
        )
    named = [problem.split(":")[0].split()[0] for problem in caught.value.problems]
    assert named == ["subjects", "sessions", "formats", "ncsnr", "hierarchy", "seed"]


def test_too_many_voxels_for_the_volume():
    with pytest.raises(ConfigError, match="evc_voxels: 20 to"):
        SyntheticSpec(subjects=1, evc_voxels=5000, shapes=((20, 24, 18),))


def test_the_default_volume_has_room_for_the_voxels_asked_for():
    for count in (20, 150, 700, 5000):
        assert SyntheticSpec(subjects=3, evc_voxels=count).evc_voxels == count


def test_ready_specifications_can_be_changed():
    assert SyntheticSpec.demo(subjects=3, sessions=2).sessions_done == (2, 2, 1)
    one = SyntheticSpec.published(subjects=1, sessions=2)
    assert (one.sessions_done, one.shapes, one.shared_images) == ((2,), ((81, 104, 83),), 500)


def test_the_last_of_several_subjects_misses_a_session():
    assert SyntheticSpec(subjects=3, sessions=3).sessions_done == (3, 3, 2)
    assert SyntheticSpec(subjects=1, sessions=3).sessions_done == (3,)


def test_runs_share_trials_as_published():
    assert run_lengths(750).tolist() == [63, 62] * 6
    for trials in (12, 100, 375, 751):
        lengths = run_lengths(trials)
        assert lengths.sum() == trials
        assert np.ptp(lengths) <= 1


def test_the_published_size_gives_the_published_counts():
    spec = SyntheticSpec.published()
    experiment = draw_experiment(spec)
    assert spec.image_count == 73_000
    assert sum(spec.sessions_done) * spec.trials_per_session == 213_000
    assert experiment.ordering.shape == (30_000,)
    assert experiment.images.shape == (8, 10_000)
    assert np.unique(experiment.images).size == 73_000
    assert (np.bincount(experiment.ordering) == 3).all()
    assert spec.volume_shape(1, "func1pt8mm") == (81, 104, 83)


def test_specifications_are_values():
    assert SyntheticSpec(seed=1) != SyntheticSpec(seed=2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        SyntheticSpec().seed = 1
