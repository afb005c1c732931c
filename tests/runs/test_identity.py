"""A run continues only on the store with which it began."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import nsdflow
from nsdflow.config.storage import Layout
from nsdflow.errors import RunError
from nsdflow.ingestion.ingest import carry_out, plan_ingest
from nsdflow.runs.identity import is_same_store, store_identity


def test_a_store_without_one_session_is_another_store(small_nsd, small_store, threads_client, tmp_path):
    settings = {"voxels": "evc", "image_size": 67, "layout": Layout(chunk_voxels=16)}
    again = carry_out(plan_ingest(str(small_nsd), str(tmp_path / "again.zarr"), **settings), threads_client).url
    assert is_same_store(store_identity(small_store), store_identity(again))
    fewer = tmp_path / "nsd"
    shutil.copytree(small_nsd, fewer, copy_function=shutil.copy2)
    for file in fewer.rglob("*session03*"):
        if "subj01" in str(file):
            file.unlink()
    other = carry_out(plan_ingest(str(fewer), str(tmp_path / "other.zarr"), **settings), threads_client).url
    assert not is_same_store(store_identity(small_store), store_identity(other))


def test_a_run_is_not_continued_on_a_swapped_store(small_store, threads_client, tmp_path):
    store = tmp_path / "nsd.zarr"
    shutil.copytree(small_store, store)
    settings = {"prefilter": "gabor", "width": 2, "threads": 1, "train": {"epochs": 1, "batch_size": 40}}
    run = lambda: nsdflow.run("gnet8j", store=str(store), runs=str(tmp_path), client=threads_client, **settings)  # noqa: E731
    run()
    manifest = store / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"valid": ', '"valid": 1'))
    with pytest.raises(RunError, match=r"the store .* holds other data"):
        run()
    heard: list[str] = []
    nsdflow.run(
        "predict", store=str(store), runs=str(tmp_path), client=threads_client, subjects=[1], threads=1,
        listen=lambda event: heard.append(event["text"]) if event["kind"] == "note" else None,
    )  # fmt: skip
    assert heard == [f"{tmp_path}/gnet8j was made on other data than {store} holds now; predict uses both"]


def test_a_run_on_a_synthetic_nsd_says_so(small_nsd, small_store, threads_client, tmp_path):
    assert nsdflow.open_store(small_store).attrs["synthetic"] == {"made_by": "nsdflow synth"}
    assert store_identity(small_store)["synthetic"] is True
    measured = tmp_path / "nsd"
    shutil.copytree(small_nsd, measured)
    design = measured / "nsddata/experiments/nsd/nsd_expdesign.mat"
    header = b"MATLAB 5.0 MAT-file, Platform: GLNXA64, Created on: Mon Jul 20 10:05:45 2020".ljust(116)
    design.write_bytes(header + design.read_bytes()[116:])
    plan = plan_ingest(str(measured), str(tmp_path / "nsd.zarr"), subjects=[1], sessions=1, images="none")
    store = carry_out(plan, threads_client)
    assert "synthetic" not in store.attrs
    assert "synthetic" not in store_identity(store.url)


def test_what_version_0_1_0_recorded_still_counts(small_store):
    now = store_identity(small_store)
    assert is_same_store({"url": now["url"], "identity": now["identity"]}, now)
    assert not is_same_store({"url": now["url"], "identity": "other"}, now)
    assert Path(now["url"]).exists()
