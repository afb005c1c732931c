"""Damage of a finished run: every changed byte of results and models is detected, and every error has a remedy."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
import xarray as xr
from numcodecs import zstd

import nsdflow
from nsdflow.cli.commands.info import _stores_and_runs
from nsdflow.errors import MissingDataError, RunError
from nsdflow.ingestion.ingest import carry_out, plan_ingest
from nsdflow.io.tensors import load_tensors, save_tensors
from nsdflow.runs import write_results
from nsdflow.runs.card import describe_run
from nsdflow.runs.export import export_maps
from nsdflow.runs.status import read_status
from nsdflow.synthetic import SyntheticSpec, write_nsd
from tests.damages import DAMAGES, damage_each_file
from tests.few_files import keep_few_files
from tests.same_run import assert_same_run

SMALL = {"prefilter": "gabor", "width": 2, "threads": 1, "train": {"epochs": 1, "batch_size": 40}}


@pytest.fixture(scope="module")
def store(threads_client, tmp_path_factory) -> str:
    """One subject with few coordinates: their values are read after each damage."""
    spec = SyntheticSpec(
        subjects=1, sessions=2, trials_per_session=60, shared_images=8, image_size=72, evc_voxels=60,
        formats=("nii.gz",),
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("store")
    nsd = keep_few_files(write_nsd(folder / "nsd", spec))
    return carry_out(plan_ingest(str(nsd), str(folder / "nsd.zarr"), image_size=67), threads_client).url


@pytest.fixture(scope="module")
def finished(store, threads_client, tmp_path_factory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    nsdflow.run("gnet8j", store=store, runs=runs, client=threads_client, **SMALL)
    return runs / "gnet8j"


def flip(file: Path, place: int) -> None:
    data = bytearray(file.read_bytes())
    data[place] ^= 1 << (place % 8)
    file.write_bytes(data)


def values(run: Path) -> str:
    """Everything that the results hold; only bytes that say the same may differ."""
    tree = nsdflow.open_run(run).load()
    return repr([(node.path, node.dataset.to_dict()) for node in tree.subtree])


@pytest.mark.parametrize("ways", [1, pytest.param(len(DAMAGES), marks=pytest.mark.slow)])
def test_no_damage_of_a_file_of_a_run_goes_unnoticed(finished, tmp_path, ways):
    """Each file in turn: never other values, a traceback or an endless reading."""
    run = tmp_path / "gnet8j"
    shutil.copytree(finished, run, ignore=shutil.ignore_patterns("results.zarr"))
    voxels = xr.Dataset({"accuracy": ("voxel", np.arange(8.0)), "layer": ("voxel", list("abcdefgh"))})
    write_results(run, xr.DataTree.from_dict({"/subj01": voxels}))
    readers = {
        "values": lambda: values(run),
        "model": lambda: [tensor.tolist() for tensor in nsdflow.load_model(run, "subj01").state_dict().values()],
        "status": lambda: read_status(str(run)) and None,
        "card": lambda: describe_run(str(run)) and None,
        "list": lambda: _stores_and_runs(str(tmp_path)) and None,
    }
    assert len(damage_each_file(run, readers, ways=ways)) > len(DAMAGES) / 2


def test_every_flipped_bit_of_a_chunk_is_noticed(finished, tmp_path):
    whole, draw = nsdflow.open_run(finished).load(), random.Random(0)
    chunks = sorted(path for path in (finished / "results.zarr").rglob("c/*") if path.is_file())
    copy, noticed = tmp_path / "run", 0
    shutil.copytree(finished, copy)
    for file in draw.sample(chunks, 25):
        changed = copy / file.relative_to(finished)
        flip(changed, draw.randrange(changed.stat().st_size))
        try:
            assert nsdflow.open_run(copy).load().identical(whole), f"{file}: other values, in silence"
        except (RunError, ValueError, RuntimeError):
            noticed += 1
        shutil.copyfile(file, changed)
    assert noticed == 25


def test_every_flipped_bit_of_the_metadata_is_noticed(finished, tmp_path):
    whole, draw = nsdflow.open_run(finished).load(), random.Random(1)
    shutil.copytree(finished, tmp_path / "run")
    root = tmp_path / "run/results.zarr/zarr.json"
    data = root.read_bytes()
    for _ in range(60):
        flip(root, draw.randrange(len(data)))
        told = ""
        try:
            assert nsdflow.open_run(tmp_path / "run").load().identical(whole), "other values, in silence"
        except (MissingDataError, RunError) as error:
            told = str(error)
        assert "\n" not in told
        root.write_bytes(data)


def test_results_in_a_bucket_are_checked_as_those_in_a_folder(finished):
    """A missing chunk, a chunk that grows in memory, and a changed root give one line each."""
    system = fsspec.filesystem("memory")
    system.put(str(finished), "/bucket/run", recursive=True)
    url = "memory://bucket/run"
    assert nsdflow.open_run(url).load().identical(nsdflow.open_run(finished).load())
    chunk, root = "/bucket/run/results.zarr/subj01/accuracy/c/0", "/bucket/run/results.zarr/zarr.json"
    kept = {name: system.cat_file(name) for name in (chunk, root)}
    changed = kept[root].replace(b'"voxel"', b'"boxel"', 1)
    for name, content, says in (
        (chunk, None, "1 of 1 chunks are missing"),
        (chunk, zstd.compress(bytes(1 << 20), 1), "decompresses to more than"),
        (root, changed, "does not match its checksum"),
    ):
        system.rm_file(name) if content is None else system.pipe_file(name, content)
        with pytest.raises(RunError, match=says) as error:
            nsdflow.open_run(url)
        assert "\n" not in str(error.value)
        system.pipe_file(name, kept[name])


def test_a_missing_chunk_is_an_error_and_never_zeros(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    next(file for file in (tmp_path / "run" / "results.zarr" / "subj01").rglob("c/0") if file.is_file()).unlink()
    with pytest.raises(RunError, match="1 of 1 chunks are missing"):
        nsdflow.open_run(tmp_path / "run")


def test_every_flipped_bit_of_a_model_is_noticed(tmp_path):
    state = {"a": torch.arange(300.0), "b": torch.ones(3, 5, dtype=torch.int64)}
    save_tensors(f"{tmp_path}/m", state)
    loaded = load_tensors(f"{tmp_path}/m")
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    data = (tmp_path / "m").read_bytes()
    noticed = 0
    for place in (*range(0, len(data), 7), *range(120)):
        flip(tmp_path / "m", place)
        try:
            again = load_tensors(f"{tmp_path}/m")
        except RunError as error:
            noticed += "damaged" in str(error)
        else:
            assert all(torch.equal(again[name], state[name]) for name in state), f"byte {place}, in silence"
        (tmp_path / "m").write_bytes(data)
    assert noticed > len(data) // 8
    (tmp_path / "m").write_bytes(data[:200])
    with pytest.raises(RunError, match=r"restore it, or delete the folder of the run"):
        load_tensors(f"{tmp_path}/m")


def test_results_that_were_deleted_are_made_again(finished, store, threads_client, tmp_path):
    shutil.copytree(finished, tmp_path / "gnet8j")
    shutil.rmtree(tmp_path / "gnet8j" / "results.zarr")
    heard = []
    nsdflow.run("gnet8j", store=store, runs=tmp_path, client=threads_client, listen=heard.append, **SMALL)
    assert_same_run(finished, tmp_path / "gnet8j")


def test_maps_as_numpy_files(finished, tmp_path):
    files = export_maps(str(finished), tmp_path, to="npz")
    with np.load(next(file for file in files if "subj01_accuracy." in file.name)) as saved:
        tree = nsdflow.open_run(finished)
        np.testing.assert_array_equal(saved["values"], tree["subj01"]["accuracy"].values)
        np.testing.assert_array_equal(saved["flat_index"], tree["subj01"]["flat_index"].values)
