"""Categories of objects: ordinary least squares as an oracle, and recovery of planted preferences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from distributed import Client

import nsdflow
from nsdflow.config.storage import Layout
from nsdflow.errors import MissingDataError, NsdflowError
from nsdflow.ingestion.annotations import add_annotations
from nsdflow.nsd.source import open_source
from nsdflow.synthetic import SyntheticSpec, read_truth, write_nsd

SMALL = {"lambda_min": 1e-2, "lambda_max": 1e3, "lambdas": 6, "bootstrap": 4, "subjects": [1]}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = SyntheticSpec(
        subjects=1, sessions=2, trials_per_session=240, image_size=64, ncsnr=(1.5, 2.5), formats=("nii.gz",),
        annotations=True, shared_images=30,
    )  # fmt: skip
    return write_nsd(tmp_path_factory.mktemp("semantic") / "nsd", spec)


@pytest.fixture(scope="module")
def store(source: Path, threads_client: Client) -> str:
    store = source.parent / "nsd.zarr"
    nsdflow.ingest(
        source, store, voxels="nsdgeneral", image_size=32, layout=Layout(chunk_voxels=256), client=threads_client
    )
    add_annotations(str(store), open_source(source), source / "coco/annotations")
    return str(store)


@pytest.fixture(scope="module")
def results(store: str, threads_client: Client) -> xr.Dataset:
    runs = str(Path(store).parent / "runs")
    tree = nsdflow.run("semantic", store=store, runs=runs, client=threads_client, voxels_per_task=300, **SMALL)
    return tree["subj01"].to_dataset().load()


def test_planted_preferences_are_found_again(source: Path, results: xr.Dataset) -> None:
    truth = read_truth(source, 1)
    planted = truth["category_weights"].sel(category=results["category"].values).values
    order = np.searchsorted(truth["flat_index"].values, results["flat_index"].values)
    assert (truth["flat_index"].values[order] == results["flat_index"].values).all()
    driven = planted[order].any(axis=1) & np.isfinite(results["accuracy"].values)
    assert 50 < driven.sum() < 0.7 * len(driven)
    accuracy = results["accuracy"].values
    assert np.median(accuracy[driven]) > 0.4
    assert np.median(accuracy[driven]) > np.nanmedian(accuracy[~driven]) + 0.25
    names = np.asarray(results["preferred_category"].attrs["flag_meanings"])
    assert names.tolist() == results["category"].values.tolist()
    # several atlases overlap; the strongest planted weight of an area is one standard deviation of its category
    areas = nsdflow.open_store(str(source.parent / "nsd.zarr")).annotations()["area"].sel(category=names)
    best = (planted[order] * areas.values.std(axis=0)).argmax(axis=1)
    assert (results["preferred_category"].values[driven] == best[driven]).mean() > 0.8


def test_weights_without_a_penalty_are_ordinary_least_squares(
    store: str, tmp_path: Path, threads_client: Client
) -> None:
    settings = SMALL | {"lambda_min": 1e-2, "lambda_max": 1e-2, "lambdas": 1, "rois": ["V1"], "space": "categories"}
    where = {"store": store, "runs": str(tmp_path), "client": threads_client}
    run = nsdflow.run("semantic", protocol="published", **where, **settings)["subj01"].to_dataset()
    opened = nsdflow.open_store(store)
    responses = opened.responses(1, roi="V1", shared=False).compute()
    shown = opened.annotations()["instances"].sel(nsd_id=responses["nsd_id"].values).values > 0
    varies = shown.any(axis=0) & ~shown.all(axis=0)
    design = np.column_stack([np.ones(len(shown)), shown[:, varies]])
    found = np.linalg.lstsq(design, responses.values, rcond=None)[0][1:]
    images = opened.annotations()["instances"].sel(nsd_id=np.unique(responses["nsd_id"].values)).values > 0
    expected = found * images[:, varies].std(axis=0)[:, None]
    np.testing.assert_allclose(run["category_weight"].values[varies], expected, atol=2e-3)
    assert not run["category_weight"].values[~varies].any()
    assert run["images_showing"].values.tolist() == images.sum(axis=0).tolist()


def test_blocks_of_voxels_do_not_change_anything(store: str, results, tmp_path: Path, threads_client: Client) -> None:
    where = {"store": store, "runs": str(tmp_path), "client": threads_client}
    whole = nsdflow.run("semantic", **where, **SMALL)["subj01"].to_dataset().load()
    for name in ("category_weight", "preferred_category", "accuracy", "lambda"):
        np.testing.assert_allclose(whole[name], results[name], rtol=1e-4, atol=1e-5)


def test_one_line_for(store: str, small_store: str, tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="ingested without annotations; ingest again with --annotations"):
        nsdflow.plan("semantic", store=small_store, runs=str(tmp_path))
    with pytest.raises(NsdflowError, match="space"):
        nsdflow.plan("semantic", store=store, runs=str(tmp_path), space="colour")
