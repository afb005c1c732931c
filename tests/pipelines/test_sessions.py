"""A pipeline that names sessions gives what it gives on a store that holds no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from distributed import Client

import nsdflow
from nsdflow.config.storage import Layout
from nsdflow.errors import ConfigError, SelectionError
from nsdflow.ingestion.ingest import carry_out, plan_ingest
from nsdflow.pipelines.common.earlier import run_settings
from nsdflow.pipelines.gnet.settings import GNetPipeline
from nsdflow.pipelines.load import load_pipeline
from nsdflow.pipelines.tuning import validation_trials
from nsdflow.runs.folder import RunFolder

# strict, since the published input mean is over the subject's whole list where the store holds it
TRAIN: dict[str, Any] = {
    "protocol": "strict",
    "prefilter": "gabor",
    "width": 2,
    "train": {"epochs": 1, "batch_size": 40},
}
FWRF: dict[str, Any] = {"features": "gabor_low", "candidates": {"sizes": 1, "smallest": 0.4}, "lambdas": 2}
RUNS: dict[str, dict[str, Any]] = {"gnet8j": TRAIN, "gabor_fwrf": FWRF, "ridge": {"lambdas": 2}}


@pytest.fixture(scope="module")
def two_sessions(small_nsd: Path, tmp_path_factory: pytest.TempPathFactory, threads_client: Client) -> str:
    """The first subject of the small store without its third session."""
    target = str(tmp_path_factory.mktemp("store") / "nsd.zarr")
    settings = {
        "voxels": "evc",
        "image_size": 67,
        "layout": Layout(chunk_voxels=16),
        "sessions": "1-2",
        "subjects": "1",
    }
    carry_out(plan_ingest(str(small_nsd), target, **settings), threads_client)
    return target


def test_other_sessions_change_nothing(
    small_store: str, two_sessions: str, tmp_path: Path, threads_client: Client
) -> None:
    ids = nsdflow.open_store(small_store).images()["nsd_id"].values
    np.save(tmp_path / "drawn.npy", np.random.default_rng(0).standard_normal((len(ids), 5), np.float32))
    np.save(tmp_path / "drawn.nsd_id.npy", ids)
    shared: dict[str, Any] = {"client": threads_client, "threads": 1, "bootstrap": 2, "subjects": [1], "rois": ["V1"]}
    for name, settings in RUNS.items():
        more = {"features": str(tmp_path / "drawn.npy")} if name == "ridge" else {}
        found, validated = [], []
        for store, chosen in ((small_store, {"sessions": "1-2"}), (two_sessions, {})):
            runs = str(tmp_path / ("chosen" if chosen else "held"))
            tree = nsdflow.run(name, store=store, runs=runs, **shared, **settings, **more, **chosen)
            found.append(tree["subj01"].to_dataset().load())
            if name == "gnet8j":  # the trials that tuning resamples
                config, flat_index = run_settings(RunFolder(f"{runs}/gnet8j"), GNetPipeline), found[-1]["flat_index"]
                validated.append(validation_trials(config, nsdflow.open_store(store), "subj01", flat_index.values))
        ours, theirs = found
        assert set(ours.data_vars) == set(theirs.data_vars)
        for variable in ours.data_vars:
            np.testing.assert_array_equal(ours[variable], theirs[variable], err_msg=f"{name} {variable}")
        if validated:
            xr.testing.assert_identical(*validated)
            assert ours.attrs["training_trials"] < 144, "two sessions of 72 trials, of which shared ones validate"


def test_mistakes_in_sessions_are_one_line(small_store: str, tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match=r"sessions=38-40: subj01 has no session 38-40; the store holds 1-3"):
        nsdflow.run("gnet8j", store=small_store, runs=str(tmp_path), sessions="38-40")
    with pytest.raises(ConfigError, match=r"sessions=first: neither sessions such as 1-37 nor a list of numbers"):
        nsdflow.run("gnet8j", store=small_store, runs=str(tmp_path), sessions="first")


@pytest.mark.parametrize("written", ["1-3", [3, 1, 2], ["1", "2-3"]])
def test_ways_to_write_sessions(written: Any) -> None:
    assert load_pipeline("gnet8j", {"sessions": written}).sessions == (1, 2, 3)  # type: ignore[attr-defined]
