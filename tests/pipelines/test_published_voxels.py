"""Pipelines after the paper on stores of evc, visual and brain voxels: the same voxels, order and results."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import xarray as xr
from distributed import Client

import nsdflow
from nsdflow.config.storage import Layout
from nsdflow.ingestion.ingest import carry_out, plan_ingest

SMALL: Mapping[str, Any] = {
    "prefilter": "gabor", "width": 2, "threads": 1, "bootstrap": 4, "subjects": [2],
    "train": {"epochs": 1, "batch_size": 40}, "rois": ["V1", "hV4"], "roi_groups": ["V1", "hV4"],
}  # fmt: skip


@pytest.fixture(scope="module", params=["visual", "brain"])
def larger_store(
    request: pytest.FixtureRequest, small_nsd: Path, tmp_path_factory: pytest.TempPathFactory, threads_client: Client
) -> str:
    """A store with voxels that only Kastner2015 calls V1, as in NSD; a copy of the source says so of its area LO."""
    nsd = tmp_path_factory.mktemp("nsd") / "nsd"
    shutil.copytree(small_nsd, nsd, copy_function=os.link)
    atlas = nsd / "nsddata/ppdata/subj02/func1pt8mm/roi/Kastner2015.nii.gz"
    image = nib.load(atlas)
    labels = np.asarray(image.dataobj)
    atlas.unlink()
    nib.save(nib.Nifti1Image(np.where(np.isin(labels, (14, 15)), 1, labels), image.affine, image.header), atlas)
    target = str(tmp_path_factory.mktemp("store") / f"{request.param}.zarr")
    plan = plan_ingest(
        str(nsd), target, subjects="2", voxels=request.param, image_size=67, layout=Layout(chunk_voxels=64)
    )
    carry_out(plan, threads_client)
    return target


@pytest.fixture(scope="module")
def reference(small_store: str, tmp_path_factory: pytest.TempPathFactory, threads_client: Client) -> xr.DataTree:
    runs = str(tmp_path_factory.mktemp("evc"))
    return nsdflow.run("gnet8r", store=small_store, runs=runs, client=threads_client, **SMALL)


def test_gnet8r_is_the_same_on_a_larger_store(
    reference: xr.DataTree, larger_store: str, small_store: str, tmp_path: Path, threads_client: Client
) -> None:
    whole = nsdflow.open_store(larger_store).voxels("subj02")
    ours = nsdflow.open_store(small_store).voxels("subj02")
    assert whole.sizes["voxel"] > ours.sizes["voxel"]
    assert ((whole["roi"] > 0) & (whole["roi"] < 8)).sum() > ours.sizes["voxel"], "Kastner2015 adds none to V1"
    found = nsdflow.run("gnet8r", store=larger_store, runs=str(tmp_path), client=threads_client, **SMALL)
    one, other = found["subj02"].to_dataset().load(), reference["subj02"].to_dataset().load()
    labels = [label for area in SMALL["rois"] for label in nsdflow.names.ROI_GROUPS[area]]
    np.testing.assert_array_equal(one["flat_index"], ours["flat_index"][np.isin(ours["roi"], labels)])
    for name in other.data_vars:
        np.testing.assert_array_equal(one[name].values, other[name].values, err_msg=str(name))
    for name in ("flat_index", "roi", "ncsnr", "part"):
        np.testing.assert_array_equal(one[name].values, other[name].values, err_msg=name)
