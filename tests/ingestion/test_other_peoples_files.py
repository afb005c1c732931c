"""Imperfect copies of NSD: readable files are read, omissions are reported, and damage gives one line."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from nsdflow.errors import MissingDataError, NsdflowError, SourceError
from nsdflow.ingestion.check import describe_source
from nsdflow.ingestion.ingest import carry_out
from nsdflow.nsd.betas import read_session
from nsdflow.nsd.design import trial_table
from nsdflow.nsd.formats.frames import read_header
from nsdflow.nsd.images import read_images
from nsdflow.nsd.layout import responses_path
from nsdflow.nsd.source import open_source
from nsdflow.nsd.voxels.rois import read_atlas
from nsdflow.nsd.voxels.volumes import read_volume

FUNC = "nsddata/ppdata/subj01/func1pt8mm"
BETAS = "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR"
BRICK = "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"
SETTINGS = {"subjects": [1], "voxels": "evc", "images": "none"}


def replaced(path: Path, content: bytes) -> Path:
    """Replaces the file, which is shared with other tests."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    return path


def link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to("../.git/annex/objects/zZ/not-fetched")


def pointer(path: Path) -> None:
    replaced(path, b"/annex/objects/SHA256E-s1048788000--0123.nii.gz\n")


def lfs(path: Path) -> None:
    replaced(path, b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n")


def empty(path: Path) -> None:
    replaced(path, b"")


def half(path: Path) -> None:
    replaced(path, path.read_bytes()[: path.stat().st_size // 2])


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("spoil", [link_to_nothing, pointer, lfs, empty, half, pipe])
def test_the_whole_twin_of_a_session_is_read(own_source, whole, plan, client, tmp_path: Path, spoil) -> None:
    spoil(own_source / BETAS / "betas_session02.nii.gz")
    planned = plan(own_source, tmp_path / "nsd.zarr", **SETTINGS)
    line = f"left out: {own_source / BETAS}/betas_session02.nii.gz "
    assert any(note.startswith(line) and note.endswith("; hdf5 is read instead") for note in planned.notes)
    assert line in describe_source(str(own_source))
    store = carry_out(planned, client)
    assert np.unique(store.trials(1)["session"]).tolist() == [1, 2, 3]
    found = store.responses(1, zscore=False).compute()
    wanted = whole.responses(1, "evc", zscore=False).compute()
    np.testing.assert_array_equal(found.values, wanted.values)
    manifest = json.loads((tmp_path / "nsd.zarr/manifest.json").read_text())
    assert any("betas_session02.nii.gz" in entry for entry in manifest["left_out"])


def test_a_session_without_a_whole_file_is_left_out_aloud(own_source, plan, client, tmp_path: Path) -> None:
    for format in ("nii.gz", "hdf5"):
        link_to_nothing(own_source / BETAS / f"betas_session02.{format}")
    planned = plan(own_source, tmp_path / "nsd.zarr", **SETTINGS)
    assert "subj01: sessions 2 cannot be read, so they are left out" in planned.notes
    assert "sessions 2 cannot be read" in describe_source(str(own_source))
    store = carry_out(planned, client)
    assert np.unique(store.trials(1)["session"]).tolist() == [1, 3]
    assert json.loads((tmp_path / "nsd.zarr/manifest.json").read_text())["held_out"] == {"subj01": [2]}


@pytest.mark.parametrize("spoil", [link_to_nothing, half, empty, pipe])
def test_a_broken_atlas_that_nobody_asked_for(own_source, plan, client, tmp_path: Path, spoil) -> None:
    spoil(own_source / FUNC / "roi/streams.nii.gz")
    planned = plan(own_source, tmp_path / "nsd.zarr", **SETTINGS)
    assert any("streams.nii.gz" in note and "the atlas is left out" in note for note in planned.notes)
    voxels = carry_out(planned, client).voxels(1)
    assert "streams" not in voxels
    assert "floc_faces" in voxels
    with pytest.raises(NsdflowError, match=r"streams\.nii\.gz") as error:
        plan(own_source, tmp_path / "other.zarr", **SETTINGS | {"voxels": "streams"})
    assert "did you mean" not in str(error.value)


def test_a_broken_prf_visualrois_stops_only_those_who_ask_for_it(own_source, plan, client, tmp_path: Path) -> None:
    """The joined ROI is then Kastner2015 alone, as where the file does not exist."""
    half(own_source / FUNC / "roi/prf-visualrois.nii.gz")
    planned = plan(own_source, tmp_path / "nsd.zarr", **SETTINGS | {"voxels": "nsdgeneral", "sessions": [1]})
    assert any("prf-visualrois.nii.gz" in note and "the atlas is left out" in note for note in planned.notes)
    voxels = carry_out(planned, client).voxels(1)
    kastner = nib.load(own_source / FUNC / "roi/Kastner2015.nii.gz").get_fdata().ravel()
    np.testing.assert_array_equal(voxels["roi"], kastner[voxels["flat_index"].values])
    for name in ("evc", "visual"):
        with pytest.raises(NsdflowError, match=r"prf-visualrois\.nii\.gz: truncated"):
            plan(own_source, tmp_path / "other.zarr", **SETTINGS | {"voxels": name})


def test_an_atlas_with_the_name_of_a_coordinate(own_source, plan, client, tmp_path: Path) -> None:
    """One rule for all names: the published array keeps its name, and the atlas is left out with a line."""
    left_out = {
        "has the name of a coordinate": (
            "ncsnr", "roi", "prf_size", "beta_std", "rt", "Session", "valid", "voxel", "responses",
        ),
        "other characters than": ("my atlas", "a:b", "__x"),
        "the name of a region": ("V1", "visual"),
        "the same coordinate as": ("floc_faces",),
    }  # fmt: skip
    for name in (name for names in left_out.values() for name in names):
        (own_source / FUNC / f"roi/{name}.nii.gz").hardlink_to(own_source / FUNC / "roi/streams.nii.gz")
    (own_source / FUNC / "roi/mine.v2.nii.gz").hardlink_to(own_source / FUNC / "roi/streams.nii.gz")
    planned = plan(own_source, tmp_path / "nsd.zarr", **SETTINGS)
    lines = planned.manifest["left_out"]
    for says, names in left_out.items():
        assert [sum(says in line and f"/{name}.nii.gz:" in line for line in lines) for name in names] == [1] * len(
            names
        )
    voxels = carry_out(planned, client).voxels(1)
    assert voxels["ncsnr"].dtype == np.float32
    assert 0 < float(voxels["ncsnr"].max()) < 5
    assert {"floc_faces", "mine.v2"} <= set(voxels)


def test_names_that_occur_twice_and_comments(own_source, plan, client, tmp_path: Path) -> None:
    table = own_source / "nsddata/freesurfer/subj01/label/floc-bodies.mgz.ctab"
    replaced(
        table, b"# a colour table\n% 2 columns\n\n0 Unknown 0 0 0 0\n1 EBA 255 0 0 0\n2 FBA\t\n3 EBA\n4 mTL-bodies\n"
    )
    found = read_atlas(open_source(own_source), "subj01", "floc-bodies", "func1pt8mm")
    assert found.labels == {1: "EBA-1", 2: "FBA", 3: "EBA-3", 4: "mTL-bodies"}


def test_minus_one_without_its_sign(own_source, plan, tmp_path: Path) -> None:
    path = own_source / FUNC / "roi/prf-visualrois.nii.gz"
    image = nib.load(path)
    unsigned = np.asanyarray(image.dataobj).astype(np.int8).astype(np.uint8)
    replaced(path, gzip.compress(nib.Nifti1Image(unsigned, image.affine).to_bytes()))
    with pytest.raises(SourceError, match=r"prf-visualrois.nii.gz: label 255 where prf-visualrois has -1 to 7"):
        plan(own_source, tmp_path / "nsd.zarr", **SETTINGS)


def test_an_affine_of_zeros_is_none(own_source, plan, client, tmp_path: Path) -> None:
    for path in (own_source / BETAS).glob("betas_session0*.nii.gz"):
        content = bytearray(gzip.decompress(path.read_bytes()))
        content[280:328] = bytes(48)
        replaced(path, gzip.compress(bytes(content)))
    store = carry_out(plan(own_source, tmp_path / "nsd.zarr", **SETTINGS), client)
    wanted = nib.load(own_source / FUNC / "brainmask.nii.gz").affine
    np.testing.assert_array_equal(np.reshape(store.voxels(1)["flat_index"].attrs["affine"], (4, 4)), wanted)


def test_quaternions_that_are_not_quite_one(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), None)
    image.header.set_qform(np.diag([-2, -2, 2, 1]), 1)
    content = bytearray(image.to_bytes())
    content[264:268] = np.float32(1.0001).tobytes()  # quatern_d
    (tmp_path / "a.nii").write_bytes(bytes(content))
    header = read_header(open_source(tmp_path), "a.nii")
    np.testing.assert_allclose(np.array(header.affine)[:3, :3], np.diag([-2, -2, 2]), atol=1e-4)
    content[264:268] = np.float32(5.0).tobytes()
    (tmp_path / "a.nii").write_bytes(bytes(content))
    assert read_header(open_source(tmp_path), "a.nii").affine is None


def test_gunzipped_volumes(own_source, whole, plan, client, contents, tmp_path: Path) -> None:
    source = open_source(own_source)
    before = carry_out(plan(own_source, tmp_path / "gzipped.zarr", **SETTINGS), client)
    for path in (own_source / FUNC).rglob("*.nii.gz"):
        replaced(path.with_suffix(""), gzip.decompress(path.read_bytes()))
        path.unlink()
    assert read_volume(source, f"{FUNC}/brainmask.nii.gz").values.any()
    assert "missing" not in describe_source(str(own_source))
    after = carry_out(plan(own_source, tmp_path / "gunzipped.zarr", **SETTINGS), client)
    assert contents(after.url) == contents(before.url)


def test_blank_lines_at_the_end_of_the_answers(own_source) -> None:
    path = own_source / responses_path("subj01")
    wanted = trial_table(open_source(own_source), "subj01", [1])
    replaced(path, path.read_bytes() + b"\n\n\t\n")
    assert trial_table(open_source(own_source), "subj01", [1]).identical(wanted)


def test_empty_cells_at_the_end_of_the_answers(own_source) -> None:
    path = own_source / responses_path("subj01")
    lines = path.read_text().splitlines()
    path.unlink()
    path.write_text("\ufeff" + "\r\n".join([f"{lines[0]}\tNOTE", *(f"{line}\t" for line in lines[1:])]) + "\r\n")
    assert trial_table(open_source(own_source), "subj01", [1])["rt"].notnull().any()


@pytest.mark.parametrize("spoil", [empty, lambda path: (path.unlink(), path.mkdir())], ids=["empty", "folder"])
@pytest.mark.parametrize("file", [responses_path("subj01"), "nsddata/experiments/nsd/nsd_stim_info_merged.csv"])
def test_a_table_that_cannot_be_read_is_left_out_aloud(own_source, plan, tmp_path: Path, file: str, spoil) -> None:
    spoil(own_source / file)
    assert any(
        f"left out: {own_source / file} is " in note for note in plan(own_source, tmp_path / "a", **SETTINGS).notes
    )
    table = trial_table(open_source(own_source), "subj01", [1])
    assert ("rt" in table, "coco_id" in table) == ("stim_info" in file, "responses" in file)


@pytest.mark.parametrize("spoil", [empty, link_to_nothing, pointer, lambda path: (path.unlink(), path.mkdir())])
def test_of_two_copies_of_a_volume_the_whole_one_is_read(own_source, spoil) -> None:
    path = own_source / FUNC / "roi/prf-visualrois.nii.gz"
    wanted = read_atlas(open_source(own_source), "subj01", "prf-visualrois", "func1pt8mm").values
    replaced(path.with_suffix(""), gzip.decompress(path.read_bytes()))
    spoil(path)
    np.testing.assert_array_equal(
        read_atlas(open_source(own_source), "subj01", "prf-visualrois", "func1pt8mm").values, wanted
    )


def test_a_broken_volume_that_nobody_needs(own_source, plan, tmp_path: Path) -> None:
    for path in (own_source / BETAS).glob("*.nii.gz"):  # the .hdf5 has no affine, which is read from a file next to it
        path.unlink()
    whole = plan(own_source, tmp_path / "nsd.zarr", **SETTINGS)
    replaced(own_source / FUNC / "brainmask.nii.gz", b"no volume")
    assert [task.key for task in plan(own_source, tmp_path / "nsd.zarr", **SETTINGS).tasks] == [
        task.key for task in whole.tasks
    ]


@pytest.mark.parametrize("offset", [np.inf, -np.inf, np.nan, 1e18, 0.0])
def test_headers_with_impossible_offsets(tmp_path: Path, offset: float) -> None:
    content = bytearray(nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.eye(4)).to_bytes())
    content[108:112] = np.float32(offset).tobytes()
    (tmp_path / "a.nii").write_bytes(bytes(content))
    with pytest.raises(SourceError, match=r"a\.nii: not a readable NIfTI-1 or MGH file"):
        read_header(open_source(tmp_path), "a.nii")


@pytest.mark.parametrize(("value", "says"), [("12.5", "cocoId is 12.5"), ("-4", "cocoId is -4"), ("", None)])
def test_odd_numbers_of_coco(own_source, value: str, says: str | None) -> None:
    path = own_source / "nsddata/experiments/nsd/nsd_stim_info_merged.csv"
    table = pd.read_csv(path, index_col=0, dtype={"cocoId": str})
    image = int(trial_table(open_source(own_source), "subj01", [1])["nsd_id"][0])
    table.loc[image, "cocoId"] = value
    path.unlink()
    table.to_csv(path)
    if says is not None:
        with pytest.raises(SourceError, match=f"nsd_stim_info_merged.csv: line {image + 2}: {says}"):
            trial_table(open_source(own_source), "subj01", [1])
    else:
        assert trial_table(open_source(own_source), "subj01", [1])["coco_id"][0] == -1


def test_chunks_that_were_never_written(own_source) -> None:
    path = own_source / BETAS / "betas_session01.hdf5"
    with h5py.File(path) as file:
        betas = file["betas"][...]
    path.unlink()
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("betas", betas.shape, "<i2", chunks=(len(betas), 1, 1, 1))
        dataset[:, :-1] = betas[:, :-1]
    missing = int(np.prod(betas.shape[2:]))
    with pytest.raises(SourceError, match=f"{missing} of .* chunks of /betas were never written"):
        read_session(open_source(own_source), "subj01", 1, [0], format="hdf5")
    with h5py.File(own_source / BRICK) as file:
        shape = file["imgBrick"].shape
    (own_source / BRICK).unlink()
    with h5py.File(own_source / BRICK, "w") as file:
        file.create_dataset("imgBrick", shape, np.uint8)
    with pytest.raises(SourceError, match="bytes of /imgBrick were never written"):
        read_images(open_source(own_source), [0])


@pytest.mark.parametrize("locking", [None, True, False, "best-effort"])
def test_hdf5_that_is_open_elsewhere(own_source, locking) -> None:
    source = open_source(own_source)
    with h5py.File(own_source / BRICK, "r", locking=locking) as mine:
        np.testing.assert_array_equal(read_images(source, [3, 5]), mine["imgBrick"][[3, 5]])


def test_hdf5_that_is_open_for_writing(own_source) -> None:
    with h5py.File(own_source / BRICK, "r+") as mine:
        np.testing.assert_array_equal(read_images(open_source(own_source), [0])[0], mine["imgBrick"][0])


@pytest.mark.parametrize(
    "file", [f"{FUNC}/aseg.nii.gz", "nsddata/experiments/nsd/nsd_expdesign.mat", responses_path("subj01")]
)
def test_pipes_do_not_hang(own_source, plan, tmp_path: Path, file: str) -> None:
    pipe(own_source / file)
    if "responses" in file:  # optional, so it is left out with a message
        notes = plan(own_source, tmp_path / "nsd.zarr", **SETTINGS).notes
        assert f"left out: {own_source / file} is a pipe, socket or device; behaviour is left out" in notes
    else:
        with pytest.raises(NsdflowError, match=Path(file).name):
            plan(own_source, tmp_path / "nsd.zarr", **SETTINGS | {"voxels": "tight"})


def test_streams_that_would_fill_the_memory(own_source) -> None:
    source, path = open_source(own_source), own_source / FUNC / "aseg.nii.gz"
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[42:48] = np.array([30000, 30000, 3000], "<i2").tobytes()
    replaced(path, gzip.compress(bytes(content)))
    with pytest.raises(SourceError, match="more than the file can hold"):
        read_volume(source, f"{FUNC}/aseg.nii.gz")
    header = gzip.decompress((own_source / FUNC / "brainmask.nii.gz").read_bytes())
    replaced(path, gzip.compress(header + bytes(300 << 20)))
    with pytest.raises(SourceError, match="bytes follow the 1 volumes"):
        read_volume(source, f"{FUNC}/aseg.nii.gz")


@pytest.mark.parametrize("folder", ["a folder with blanks", "chained::url", 'quo\'te "$(touch x)"'])
def test_folders_of_any_name(source, plan, client, contents, tmp_path: Path, folder: str) -> None:
    place = tmp_path / folder
    place.mkdir()
    (place / "nsd").symlink_to(source)
    store = carry_out(plan(place / "nsd", place / "nsd.zarr", **SETTINGS), client)
    assert np.unique(store.trials(1)["session"]).tolist() == [1, 2, 3]


def test_a_store_is_not_nsd(whole) -> None:
    with pytest.raises(MissingDataError, match="is a store, not NSD; `nsdflow info "):
        describe_source(whole.url)
