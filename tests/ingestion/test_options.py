"""Options of ingest: one record, compared on resuming; sessions, images and defaults."""

from __future__ import annotations

import dataclasses
import inspect
import json
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import typer

from nsdflow.cli.commands import ingest
from nsdflow.config.storage import Layout
from nsdflow.errors import ConfigError, MissingDataError, SelectionError
from nsdflow.ingestion.ingest import carry_out
from nsdflow.ingestion.settings import GROWING, IngestSettings, differences, settings_of
from nsdflow.names import number_ranges, parse_sessions

#: Another valid value of every option: a new option needs one here.
OTHER = {
    "subjects": "2",
    "sessions": "1",
    "betas": "betas_fithrf",
    "space": "func1mm",
    "voxels": "visual",
    "image_size": 64,
    "images": "all",
    "experiments": "synthetic",
    "layout": Layout(codec="zstd"),
}
#: Parameters of the command that do not change the content of the store, and annotations, which are added later.
OF_THE_COMMAND = {"annotations", "source", "store", "storage", "cluster", "workers", "dashboard", "resume", "dry_run"}


def test_every_option_is_in_the_record_that_resuming_compares() -> None:
    fields = {field.name for field in dataclasses.fields(IngestSettings)}
    assert fields == OTHER.keys()
    command = inspect.signature(ingest.ingest).parameters.keys() - OF_THE_COMMAND
    assert command <= fields
    assert fields - command == {"layout"}, "which comes from the storage profile"
    assert typer is not None


@pytest.mark.parametrize("option", OTHER)
def test_resuming_with_another_value_is_noticed(option: str) -> None:
    before, now = IngestSettings.of(), IngestSettings.of(**{option: OTHER[option]})
    compared = [settings_of({"settings": settings.record()}) for settings in (before, now)]
    assert option in differences(*compared)


def test_an_earlier_manifest_lacks_newer_options() -> None:
    """Options that an earlier version lacked have their defaults, so that the store can still grow."""
    record = json.loads(json.dumps(IngestSettings.of().record()))
    earlier = {name: value for name, value in record.items() if name not in ("experiments", "image_size")}
    earlier["layout"] = {"codec": "none"}
    assert differences(settings_of({"settings": earlier}), settings_of({"settings": record})) == {}


def test_what_may_grow_is_compared_by_its_effect() -> None:
    """Subjects and sessions are compared as found (test_resume.py), not as written."""
    assert GROWING == ("subjects", "sessions")


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"sessions": "3-1"}, ConfigError, "'3-1' is neither a session nor a range; write for example 1-37"),
        ({"sessions": "0"}, ConfigError, "'0' is neither a session"),
        ({"sessions": []}, ConfigError, "none given"),
        ({"image_size": 0}, ConfigError, "image_size is 0; write a number of pixels"),
        ({"image_size": True}, ConfigError, "image_size is True"),
        ({"images": "some"}, SelectionError, "available: shown, subjects, all, none|available: shown"),
        ({"space": "func2mm"}, SelectionError, "unknown space 'func2mm'"),
        ({"voxel": "evc"}, SelectionError, "unknown option of ingest 'voxel'.*voxels"),
    ],
)
def test_options_that_mean_nothing(options: dict, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        IngestSettings.of(**options)


def test_defaults_of_spaces() -> None:
    wanted = {"func1pt8mm": "evc", "nativesurface": "evc", "fsaverage": "visual", "MNI": "brain"}
    assert {space: IngestSettings.of(space=space).voxels for space in wanted} == wanted
    assert IngestSettings.of(space="MNI").betas == "betas_fithrf"


def test_session_numbers() -> None:
    assert parse_sessions("1-3, 7") == parse_sessions([7, 1, "2-3"]) == (1, 2, 3, 7)
    assert parse_sessions(4) == (4,)
    assert number_ranges([5, 1, 2, 3]) == "1-3, 5"


def test_chosen_sessions(source, plan, client, tmp_path: Path) -> None:
    """Subjects with fewer sessions contribute those that they have."""
    planned = plan(source, tmp_path / "nsd.zarr", sessions="2-3", voxels="evc", images="none")
    store = carry_out(planned, client)
    assert np.unique(store.trials(1)["session"]).tolist() == [2, 3]
    assert np.unique(store.trials(2)["session"]).tolist() == [2]
    with pytest.raises(MissingDataError, match="no sessions of subj02"):
        plan(source, tmp_path / "other.zarr", subjects="1,2", sessions="3", voxels="evc")
    with pytest.raises(MissingDataError, match="none of the sessions asked for; it has 1-3, asked for 38-40"):
        plan(source, tmp_path / "other.zarr", sessions="38-40", voxels="evc")


def test_images_of_the_subjects(source, plan, client, tmp_path: Path) -> None:
    """The whole list of each ingested subject, shown or not, and no other image."""
    planned = plan(source, tmp_path / "nsd.zarr", subjects=[2], sessions=1, voxels="evc", images="subjects")
    images = carry_out(planned, client).images()
    design = scipy.io.loadmat(source / "nsddata/experiments/nsd/nsd_expdesign.mat")
    listed = design["subjectim"].astype(int) - 1
    np.testing.assert_array_equal(images["nsd_id"], np.unique(listed[1]))
    shared = design["sharedix"].ravel().astype(int) - 1
    np.testing.assert_array_equal(images["listed_by"], np.where(np.isin(images["nsd_id"], shared), 0, 2))
