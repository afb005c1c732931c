"""File budgets, complete files, publication, holes."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from nsdflow.config.storage import Layout
from nsdflow.errors import MissingDataError, StoreError
from nsdflow.io.folders import list_files, remove_leftovers
from nsdflow.io.write import atomic_file
from nsdflow.store import build, open_store
from nsdflow.store.build import publish_store, workspace_of
from nsdflow.store.coordinates import read_coordinate
from nsdflow.store.query.regions import region_mask
from nsdflow.store.schema import STATISTICS
from nsdflow.store.shard_sizes import cut_images, cut_subject
from nsdflow.store.verify import check_files, check_whole
from nsdflow.store.voxels import voxel_table

# sessions, func1pt8mm brain mask, nsdgeneral of the published subjects
SUBJECTS = [
    (40, 370503, 15724), (40, 343107, 14278), (32, 358199, 15226), (30, 329650, 13153),
    (40, 302566, 13039), (32, 412281, 17907), (40, 296155, 12682), (30, 321595, 14386),
]  # fmt: skip


@pytest.mark.parametrize(("sessions", "brain", "general"), SUBJECTS)
@pytest.mark.parametrize("budget", [200, 400, 1000])
def test_every_published_subject_stays_within_the_budget(sessions: int, brain: int, general: int, budget: int) -> None:
    for voxels in (brain, general, 1):
        cut = cut_subject(
            sessions=sessions, trials=750, voxels=voxels, itemsize=2, arrays=39, layout=Layout(file_budget=budget)
        )
        assert cut.files <= budget
        assert cut.chunk == (750, 1024)
        assert cut.shard[1] % cut.chunk[1] == 0
        assert cut.shard[1] < voxels + 1024
        columns = -(-voxels // cut.shard[1])
        assert cut.files == 10 + 2 * 39 + sessions * columns
    assert cut_subject(sessions=40, trials=750, voxels=general, itemsize=2, arrays=39).shard[1] >= general, (
        "one file a session where that is small enough"
    )


def test_chunks_stay_small_for_floats_and_many_trials() -> None:
    cut = cut_subject(sessions=2, trials=750, voxels=300_000, itemsize=4, arrays=20)
    assert cut.chunk == (750, 512)
    assert 750 * 512 * 4 <= 2 << 20


def test_a_budget_that_cannot_be_met() -> None:
    with pytest.raises(StoreError, match="128 files per subject where the budget allows 60"):
        cut_subject(sessions=40, trials=750, voxels=10, itemsize=2, arrays=39, layout=Layout(file_budget=60))
    with pytest.raises(StoreError, match=r"leave .*shard_voxels to be chosen"):
        cut_subject(sessions=40, trials=750, voxels=99999, itemsize=2, arrays=9, layout=Layout(shard_voxels=1024))


@pytest.mark.parametrize(("images", "size"), [(73_000, 227), (10_000, 227), (3, 425), (1, 64), (9_000, 32)])
def test_images_stay_within_the_budget(images: int, size: int) -> None:
    cut = cut_images(images=images, size=size, arrays=3)
    assert cut.files <= 400
    assert cut.chunk[0] * 3 * size * size <= 2 << 20
    assert cut.shard[0] % cut.chunk[0] == 0
    assert cut.shard[0] < images + cut.chunk[0]


def test_a_store_has_the_files_that_were_planned(store, recording) -> None:
    here = list_files(f"{store.url}/subj01")
    names = {*store.voxels(1).variables, *store.trials(1).variables} - {"trial_in_session"}  # which is not stored
    cut = cut_subject(
        sessions=3, trials=15, voxels=int(recording.mask.sum()), itemsize=2, arrays=len(names),
        layout=Layout(chunk_voxels=16, shard_voxels=48),
    )  # fmt: skip
    assert len(here) == cut.files == check_files(f"{store.url}/subj01", cut.files)
    with pytest.raises(StoreError, match=f"{cut.files} files where {cut.files - 1} are allowed"):
        check_files(f"{store.url}/subj01", cut.files - 1)


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file"

    def fail_half_way() -> None:
        with atomic_file(str(target)) as file:
            file.write(b"half")
            assert not target.exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_half_way()
    assert list_files(str(tmp_path)) == []
    with atomic_file(str(target)) as file:
        file.write(b"whole")
    assert target.read_bytes() == b"whole"


def test_sweep_removes_what_a_killed_process_left(tmp_path: Path) -> None:
    code = """
import os, sys
from nsdflow.io.write import atomic_file
with atomic_file(sys.argv[1]) as file:
    file.write(b"half")
    os.kill(os.getpid(), 9)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "a" / "file")]
    assert subprocess.run(command, check=False).returncode == -9
    (left,) = list_files(str(tmp_path))
    assert left.endswith(".tmp")
    (tmp_path / "kept").write_text("x")
    (tmp_path / "0.135cecdf5c784799adba7750d8c28a8d.partial").write_text("half of a chunk, as zarr names it")
    assert remove_leftovers(str(tmp_path)) == 2
    assert list_files(str(tmp_path)) == ["kept"]


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "no space left"),
        (errno.EDQUOT, "no space left"),
        (errno.EACCES, "may not be written"),
        (errno.EROFS, "may not be written"),
    ],
)
def test_what_the_disk_refuses(tmp_path: Path, number: int, message: str) -> None:
    with pytest.raises(StoreError, match=message), atomic_file(str(tmp_path / "file")):
        raise OSError(number, os.strerror(number))


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("a file")
    with pytest.raises(StoreError, match="choose another place"), atomic_file(str(tmp_path / "folder" / "file")):
        pass


def test_nothing_is_visible_before_publishing(build_store, record, tmp_path: Path, monkeypatch) -> None:
    """A failure at the last step leaves no store; repeating the step makes one."""
    place = workspace_of(tmp_path / "nsd.zarr")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", lambda *args: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
        with pytest.raises(StoreError, match="no space left"):
            build_store(tmp_path / "nsd.zarr", record())
    with pytest.raises(MissingDataError, match="unfinished build"):
        open_store(place.store)
    publish_store(place, {"subjects": ["subj01"]}, {})
    assert open_store(place.store).subjects == ("subj01",)
    assert [path.name for path in tmp_path.iterdir()] == ["nsd.zarr"]


@pytest.mark.parametrize("lost", ["zarr.json", "session", "nsd_id/c/0"])
def test_a_group_whose_files_vanish_is_not_kept(build_store, record, tmp_path: Path, monkeypatch, lost: str) -> None:
    """A task that outlived its command writes into a folder that another command empties and uses again."""
    create = build._create_array

    def create_late(group: zarr.Group, *arguments, **settings) -> None:
        for file in [*(tmp_path / "nsd.zarr.building").rglob(f".subj01.*/{lost}")]:
            shutil.rmtree(file) if file.is_dir() else file.unlink()
        return create(group, *arguments, **settings)

    monkeypatch.setattr(build, "_create_array", create_late)
    with pytest.raises(StoreError, match="subj01: removed while it was written, by another command; run the same"):
        build_store(tmp_path / "nsd.zarr", record())
    assert not list((tmp_path / "nsd.zarr.building").rglob("subj01"))


def test_publishing_never_overwrites(build_store, record, tmp_path: Path) -> None:
    (tmp_path / "nsd.zarr").mkdir()
    (tmp_path / "nsd.zarr" / "mine").write_text("precious")
    with pytest.raises(StoreError, match="exists"):
        build_store(tmp_path / "nsd.zarr", record())
    assert [path.name for path in (tmp_path / "nsd.zarr").iterdir()] == ["mine"]


def test_holes_are_found(build_store, record, tmp_path: Path) -> None:
    store = build_store(tmp_path / "nsd.zarr", record())
    betas = f"{store.url}/subj01/betas"
    shape = (45, store.voxels(1).sizes["voxel"])
    assert check_whole(betas, shape) == 3 * -(-shape[1] // 16)
    with pytest.raises(StoreError, match="shape"):
        check_whole(betas, (45, 1))
    path = Path(betas) / "c" / "1" / "2"
    content = bytearray(path.read_bytes())
    path.write_bytes(content[:-4] + bytes(4))
    with pytest.raises(StoreError, match="c/1/2: damaged"):
        check_whole(betas, shape)
    path.unlink()
    with pytest.raises(StoreError, match="c/1/2: the shard is missing"):
        check_whole(betas, shape)


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


@pytest.mark.parametrize(
    ("harm", "message"), [(Path.unlink, "roi/c/0: missing; the store is incomplete"), (damaged, "roi: damaged")]
)
def test_a_coordinate_is_never_made_of_zeros(build_store, record, tmp_path: Path, harm, message: str) -> None:
    store = build_store(tmp_path / "nsd.zarr", record())
    harm(tmp_path / "nsd.zarr/subj01/roi/c/0")
    with pytest.raises(StoreError, match=message):
        store.responses(1, roi="V1")


def test_a_coordinate_that_another_program_wrote(build_store, record, tmp_path: Path) -> None:
    """Cut and compressed in another way."""
    store = build_store(tmp_path / "nsd.zarr", record())
    times = np.arange(store.trials(1).sizes["trial"], dtype=np.float64)
    zarr.create_array(
        f"{store.url}/subj01/rt", data=times, chunks=(7,), compressors=zarr.codecs.GzipCodec(), overwrite=True,
        dimension_names=["trial"], attributes={"units": "ms"},
    )  # fmt: skip
    np.testing.assert_array_equal(open_store(store.url).trials(1)["rt"], times)


def test_a_coordinate_with_a_codec_from_elsewhere_is_refused(build_store, record, tmp_path: Path) -> None:
    """A codec is looked up by name, and pickle among them runs code: only those of Zarr's core are."""
    store = build_store(tmp_path / "nsd.zarr", record())
    path = tmp_path / "nsd.zarr/subj01/rt/zarr.json"
    text = path.read_text()
    for key, value in {
        "codecs": [{"name": "bytes"}, {"name": "numcodecs.pickle"}], "data_type": "object", "shape": [2**50],
        "zarr_format": 2,
    }.items():  # fmt: skip
        path.write_text(json.dumps(json.loads(text) | {key: value}))
        with pytest.raises(StoreError, match="rt: not a coordinate of nsdflow"):
            open_store(store.url).trials(1)


def test_any_changed_byte_of_a_coordinate_is_an_error(build_store, record, tmp_path: Path) -> None:
    store = build_store(tmp_path / "nsd.zarr", record())
    for name in ("roi", "flat_index", "rt", "shared"):
        path = tmp_path / f"nsd.zarr/subj01/{name}/c/0"
        content = path.read_bytes()
        for position in range(len(content)):
            changed = bytearray(content)
            changed[position] ^= 1 << position % 8
            path.write_bytes(changed)
            with pytest.raises(StoreError, match=f"{name}: damaged"):
                read_coordinate(f"{store.url}/subj01", name)
        path.write_bytes(content)


def test_any_changed_bit_of_metadata_is_an_error_or_without_effect(build_store, record, tmp_path: Path) -> None:
    """A damaged file of a coordinate, which is read late, gives neither a wrong value nor a traceback."""
    store = build_store(tmp_path / "nsd.zarr", record())
    expected = store.voxels(1)["roi"].values
    path = tmp_path / "nsd.zarr/subj01/roi/zarr.json"
    content, refused = path.read_bytes(), list[str]()
    for position in range(0, len(content), 3):
        changed = bytearray(content)
        changed[position] ^= 1 << position % 7
        path.write_bytes(changed)
        try:
            found = open_store(store.url).voxels(1)["roi"].values
        except StoreError as error:
            refused.append(str(error))
        else:
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)
    assert len(refused) > len(content) / 12
    assert all("roi" in message and "\n" not in message for message in refused)


def test_names_that_are_taken(tmp_path: Path, record, build_store) -> None:
    """An atlas with the name of a coordinate or of another atlas gets a new name; labels may occur twice."""
    flat, shape = np.arange(8), (2, 2, 2)
    roi, labels = np.zeros(shape, int), np.arange(8).reshape(shape)
    atlases = {
        name: (labels, {1: "a", 2: "b", 3: "a"})
        for name in ("ncsnr", "roi", "session", "flat_index", "x-y", "x_y", "betas")
    }
    table = voxel_table(flat, shape, roi=roi, ncsnr=np.full(shape, 0.5), atlases=atlases)
    assert (table["ncsnr"] == 0.5).all()
    assert (table["roi"] == 0).all()
    assert {"atlas_ncsnr", "atlas_roi", "atlas_session", "atlas_flat_index", "x_y", "atlas_x_y", "atlas_betas"} <= set(
        table.variables
    )
    np.testing.assert_array_equal(table["atlas_ncsnr"], labels.ravel()[table["flat_index"].values])
    assert region_mask(table, "ncsnr:a").sum() == 2
    assert region_mask(table, "atlas_roi:b").sum() == 1


def test_statistics_are_one_file_each(store) -> None:
    for name in STATISTICS:
        assert list_files(f"{store.url}/subj01/{name}") == ["c/0/0", "zarr.json"]
    assert np.prod(check_whole(f"{store.url}/subj01/valid", (3, store.voxels(1).sizes["voxel"]))) > 0


def test_a_changed_root_is_noticed(store, tmp_path: Path) -> None:
    """The root describes every array; a flipped bit in it never gives other values."""
    shutil.copytree(store.url, tmp_path / "nsd.zarr")
    root = tmp_path / "nsd.zarr/zarr.json"
    data, draw = root.read_bytes(), np.random.default_rng(0)
    expected = store.responses(1, roi="V1").compute(scheduler="synchronous")
    for _ in range(40):
        place = int(draw.integers(len(data)))
        root.write_bytes(data[:place] + bytes([data[place] ^ 1 << int(draw.integers(8))]) + data[place + 1 :])
        told = ""
        try:
            read = open_store(str(tmp_path / "nsd.zarr")).responses(1, roi="V1").compute(scheduler="synchronous")
            xr.testing.assert_identical(read, expected)
        except StoreError as error:
            told = str(error)
        assert "\n" not in told
