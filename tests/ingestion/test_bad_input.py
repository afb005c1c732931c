"""Bad input gives one line that says what, where and what to do, and leaves nothing that looks like a store."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
import scipy.io

from nsdflow.config.storage import Layout
from nsdflow.errors import MissingDataError, NsdflowError, SourceError, StoreError
from nsdflow.ingestion.ingest import carry_out
from nsdflow.ingestion.tasks import betas as ingest_tasks
from nsdflow.store import open_store
from nsdflow.store.shard_format import write_shard

BETAS = "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR"
SESSION = f"{BETAS}/betas_session02.nii.gz"
ROIS = "nsddata/ppdata/subj01/func1pt8mm/roi"
DESIGN = "nsddata/experiments/nsd/nsd_expdesign.mat"
BRICK = "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"


def replace(path: Path, content: bytes) -> None:
    """Replaces the file, which is shared with other tests."""
    path.unlink()
    path.write_bytes(content)


def truncate(path: Path) -> None:
    replace(path, path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path: Path) -> None:
    """Changes a byte of the data; the deflate stream stays intact, so only the CRC detects it."""
    raw = bytearray(gzip.decompress(path.read_bytes()))
    packed = gzip.compress(bytes(raw), 0)
    damaged = bytearray(packed)
    damaged[len(damaged) // 2] ^= 1
    replace(path, bytes(damaged))


def reshape(path: Path, *shape: slice) -> None:
    image = nib.load(path)
    smaller = nib.Nifti1Image(np.asanyarray(image.dataobj)[shape], image.affine)
    replace(path, gzip.compress(smaller.to_bytes()))


def drop_a_trial(path: Path) -> None:
    reshape(path, ..., slice(-1))


def add_a_trial(path: Path) -> None:
    image = nib.load(path)
    values = np.asanyarray(image.dataobj)
    more = nib.Nifti1Image(np.concatenate([values, values[..., :1]], axis=-1), image.affine)
    replace(path, gzip.compress(more.to_bytes()))


def drop_a_slice(path: Path) -> None:
    reshape(path, slice(-1))


def contradict_the_betas(path: Path) -> None:
    design = {k: v for k, v in scipy.io.loadmat(path).items() if not k.startswith("_")}
    design["stimpattern"][:, 0, np.flatnonzero(design["stimpattern"][0, 0])[0]] = 0  # one trial less in each session
    count = int(design["stimpattern"].sum())
    design["masterordering"] = design["masterordering"][:, :count]
    path.unlink()
    scipy.io.savemat(path, design)


def show_unknown_images(path: Path) -> None:
    with h5py.File(path) as file:
        images = file["imgBrick"][:5]
    path.unlink()
    with h5py.File(path, "w") as file:
        file["imgBrick"] = images


@pytest.mark.parametrize(
    ("file", "spoil", "message"),
    [
        (SESSION, truncate, r"betas_session02.nii.gz: truncated"),
        (SESSION, flip_a_bit, r"betas_session02.nii.gz: corrupt"),
        (SESSION, drop_a_trial, r"betas_session02.nii.gz: 59 trials .* 60"),
        (SESSION, add_a_trial, r"betas_session02.nii.gz: 61 trials .* 60"),
        (SESSION, drop_a_slice, r"betas_session02.nii.gz: .*20 x 24 x 18"),
        (DESIGN, contradict_the_betas, r"nsd_expdesign.mat"),
        (DESIGN, truncate, r"nsd_expdesign.mat"),
        (f"{ROIS}/prf-visualrois.nii.gz", drop_a_slice, r"prf-visualrois.nii.gz: a grid of 19 x 24 x 18"),
        (f"{BETAS}/ncsnr.nii.gz", drop_a_slice, r"ncsnr.nii.gz: a grid of"),
        (BRICK, truncate, r"nsd_stimuli.hdf5"),
        (BRICK, show_unknown_images, r"nsd_stimuli.hdf5: 5 images where the design shows nsd_id \d+"),
        (BRICK, Path.unlink, r"nsd_stimuli.hdf5: no images there"),
        (DESIGN, Path.unlink, r"nsd_expdesign.mat: no such file"),
    ],
)
def test_broken_files(own_source, plan, client, tmp_path: Path, file: str, spoil, message: str) -> None:
    if file == SESSION:  # otherwise the intact twin would be read
        (own_source / file.replace("nii.gz", "hdf5")).unlink()
    spoil(own_source / file)
    store = tmp_path / "out" / "nsd.zarr"
    with pytest.raises(NsdflowError, match=message) as error:
        carry_out(plan(own_source, store, voxels="evc"), client)
    assert "\n" not in str(error.value)
    assert isinstance(error.value, SourceError | MissingDataError)
    assert not store.exists()
    with pytest.raises(MissingDataError, match="no store there"):
        open_store(store)


def test_a_target_that_exists(source, plan, tmp_path: Path) -> None:
    (tmp_path / "nsd.zarr").mkdir()
    with pytest.raises(
        StoreError, match="exists and is not a store that ingest made; remove it, or choose another store"
    ):
        plan(source, tmp_path / "nsd.zarr")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission_to_write(source, plan, client, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match=r"may not be written .*choose another place"):
        carry_out(plan(source, tmp_path / "nsd.zarr", voxels="evc"), client)


def test_no_place_to_write(source, plan, client) -> None:
    """Not even root makes folders in /proc."""
    with pytest.raises(StoreError, match="choose another place"):
        carry_out(plan(source, Path("/proc/nsd.zarr"), voxels="evc"), client)


def test_a_full_disk_and_then_a_freed_one(source, whole, plan, client, contents, tmp_path: Path, monkeypatch) -> None:
    """The third shard finds no space; with space again, the same command finishes."""
    store = tmp_path / "nsd.zarr"
    shards = 0

    def full(array, position, chunks) -> None:
        nonlocal shards
        shards += 1
        number = shards  # others are written at the same time

        def until_full():
            yield from chunks
            if number == 3:
                raise OSError(28, "No space left on device")

        write_shard(array, position, until_full())

    with monkeypatch.context() as patch:
        patch.setattr(ingest_tasks, "write_shard", full)
        with pytest.raises(StoreError, match=r"no space left .*run the same command again"):
            carry_out(plan(source, store), client)
    assert not store.exists()
    assert contents(carry_out(plan(source, store), client).url) == contents(whole.url)


def test_a_damaged_copy_is_found_before_publishing(source, plan, client, tmp_path: Path, monkeypatch) -> None:
    """The second read finds values that differ from the source."""

    def shifted(array, position, chunks) -> None:
        write_shard(array, position, (chunk + np.int16(1) for chunk in chunks))

    monkeypatch.setattr(ingest_tasks, "write_shard", shifted)
    with pytest.raises(StoreError, match="differs from a second read"):
        carry_out(plan(source, tmp_path / "nsd.zarr", voxels="evc", images="none"), client)
    assert not (tmp_path / "nsd.zarr").exists()


def test_a_budget_that_cannot_be_met(source, plan, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="files per subject where the budget allows 20"):
        plan(source, tmp_path / "nsd.zarr", layout=Layout(file_budget=20))


def test_a_set_without_voxels(own_source, plan, tmp_path: Path) -> None:
    path = own_source / ROIS / "prf-visualrois.nii.gz"
    image = nib.load(path)
    empty = nib.Nifti1Image(np.zeros(image.shape), image.affine)
    replace(path, gzip.compress(empty.to_bytes()))
    with pytest.raises(SourceError, match="subj01: no voxel in evc; choose another voxel set"):
        plan(own_source, tmp_path / "nsd.zarr", voxels="evc")
