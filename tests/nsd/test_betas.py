"""Every format gives the same numbers, and damaged files are refused."""

from __future__ import annotations

import gzip
import itertools
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsdflow.errors import MissingDataError, SelectionError, SourceError
from nsdflow.nsd.betas import (
    is_saturated,
    read_session,
    read_session_header,
    session_statistics,
    stream_session,
)
from nsdflow.nsd.formats.frames import read_header, stream_frames
from nsdflow.nsd.layout import BETAS_FORMATS
from nsdflow.nsd.source import open_source

FORMATS = BETAS_FORMATS["func1pt8mm"]


def by_definition(values: np.ndarray, voxels: Any) -> np.ndarray:
    """(trial, voxel) from (i, j, k, trial): flat_index counts in C order."""
    flat = values.reshape(-1, values.shape[-1])
    return flat[voxels].T


@pytest.mark.parametrize("format", FORMATS)
def test_whole_session(nsd: Any, format: str) -> None:
    for (subject, session), values in nsd.betas.items():
        found = read_session(open_source(nsd.root), subject, session, format=format)
        assert found.dtype == np.int16
        np.testing.assert_array_equal(found, by_definition(values, slice(None)))


def test_fixture_is_what_nibabel_reads(nsd: Any) -> None:
    path = nsd.betas_folder() / "betas_session02.nii.gz"
    image = nib.load(path)
    assert np.isnan(image.header["scl_slope"]) or image.header["scl_slope"] == 0
    found = read_session(open_source(nsd.root), "subj01", 2, [0, 17, 200])
    np.testing.assert_array_equal(found, by_definition(np.asanyarray(image.dataobj), [0, 17, 200]))


@given(voxels=st.lists(st.integers(0, 5 * 7 * 6 - 1), max_size=300), session=st.sampled_from([1, 2, 3]))
def test_formats_agree_on_any_selection(nsd: Any, voxels: list[int], session: int) -> None:
    source = open_source(nsd.root)
    wanted = by_definition(nsd.betas["subj01", session], voxels)
    for format in FORMATS:
        found = read_session(source, "subj01", session, voxels, format=format)
        assert found.shape == (nsd.trials, len(voxels))
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("space", ["nativesurface", "fsaverage"])
@pytest.mark.parametrize("session", [1, 2, 3])  # footers of 16, 20 and no bytes in the .mgh files
def test_surfaces_count_left_then_right(nsd: Any, space: str, session: int) -> None:
    source = open_source(nsd.root)
    values = nsd.surface["subj01", session]
    if space == "nativesurface":
        values = np.nan_to_num(values * 300).astype(np.int16)
    header = read_session_header(source, "subj01", session, space=space)
    assert header.shape == nsd.vertices
    assert header.trials == nsd.trials
    np.testing.assert_array_equal(read_session(source, "subj01", session, space=space), values)
    some = [20, 3, 10, 11, 3]
    found = read_session(source, "subj01", session, some, space=space)
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values[:, some])


@pytest.mark.parametrize("format", ["nii.gz", "nii"])
def test_stream_gives_volumes(nsd: Any, format: str) -> None:
    volumes = stream_session(open_source(nsd.root), "subj01", 1, format=format)
    for trial, volume in enumerate(volumes):
        np.testing.assert_array_equal(volume, nsd.betas["subj01", 1][..., trial])
    assert trial == nsd.trials - 1


def test_stream_needs_nifti(nsd: Any) -> None:
    with pytest.raises(SelectionError, match="volume by volume"):
        next(stream_session(open_source(nsd.root), "subj01", 1, format="hdf5"))


def test_header(nsd: Any) -> None:
    header = read_session_header(open_source(nsd.root), "subj02", 1)
    assert (header.shape, header.trials, header.format, header.voxels) == (nsd.shape, nsd.trials, "nii.gz", 210)
    image = nib.load(nsd.betas_folder("subj02") / "betas_session01.nii.gz")
    np.testing.assert_array_equal(header.affine, image.affine)


def test_best_format_is_taken(broken: Any) -> None:
    source = open_source(broken.root)
    for format, following in itertools.pairwise(FORMATS):
        (broken.betas_folder() / f"betas_session01.{format}").unlink()
        assert read_session_header(source, "subj01", 1).format == following
        np.testing.assert_array_equal(
            read_session(source, "subj01", 1), by_definition(broken.betas["subj01", 1], slice(None))
        )


@pytest.mark.parametrize("chunks", [(4, 2, 3, 5), (9, 2, 3, 5), (1, 6, 7, 5)])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_any_layout_of_hdf5(broken: Any, chunks: tuple[int, ...], compression: str | None) -> None:
    values = broken.betas["subj01", 1]
    with h5py.File(broken.betas_folder() / "betas_session01.hdf5", "w") as file:
        file.create_dataset("betas", data=values.T, chunks=chunks, compression=compression)
    voxels = np.random.default_rng(0).permutation(210)[:50]
    found = read_session(open_source(broken.root), "subj01", 1, voxels, format="hdf5")
    np.testing.assert_array_equal(found, by_definition(values, voxels))


def test_statistics_are_those_published() -> None:
    """As the published code: float32 percent signal change, numpy's mean and std; here in float64."""
    rng = np.random.default_rng(1)
    betas = rng.integers(-32768, 32768, (750, 2100)).astype(np.int16)
    betas[:, 0], betas[:, 1] = 0, 32767
    mean, std = session_statistics(betas, 1 / 300)
    assert mean.dtype == std.dtype == np.float32
    wanted = betas.astype(np.float64) / 300
    np.testing.assert_allclose(mean, wanted.mean(0), rtol=1e-7)
    np.testing.assert_allclose(std, wanted.std(0), rtol=1e-7, atol=1e-12)
    assert std[0] == 0
    assert std[1] == 0


def test_statistics_of_float32_far_from_zero() -> None:
    betas = (1e4 + np.random.default_rng(2).standard_normal((90, 7))).astype(np.float32)
    betas[4, 3] = np.nan
    mean, std = session_statistics(betas)
    np.testing.assert_allclose(mean, betas.astype(np.float64).mean(0), rtol=1e-7)
    np.testing.assert_allclose(std, betas.astype(np.float64).std(0), rtol=1e-6)


@given(st.data())
def test_saturated_voxels_are_all_found(data) -> None:
    """The shortcut by mean and deviation misses none, whatever the other values are."""
    trials = data.draw(st.integers(1, 40))
    values = st.sampled_from([-32768, -32767, -300, 0, 5, 32766, 32767])
    columns = data.draw(st.lists(st.lists(values, min_size=trials, max_size=trials), min_size=1, max_size=6))
    betas = np.array(columns, np.int16).T
    mean, std = session_statistics(betas, 1 / 300)
    wanted = [any(value in (-32768, 32767) for value in column) for column in columns]
    np.testing.assert_array_equal(is_saturated(betas, mean, std, 1 / 300), wanted)


def test_floats_do_not_saturate() -> None:
    betas = np.full((5, 2), 32767, np.float32)
    assert not is_saturated(betas, *session_statistics(betas)).any()


# what bad input gets


def session_file(nsd: Any) -> Path:
    path: Path = nsd.betas_folder() / "betas_session01.nii.gz"
    return path


@pytest.mark.parametrize("left", [10, 30, 400, -9, -1])
def test_truncated(broken: Any, left: int) -> None:
    path = session_file(broken)
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(SourceError, match=f"^{path}: truncated.*fetch it again$"):
        read_session(open_source(broken.root), "subj01", 1, [0])


def test_corrupt_crc(broken: Any) -> None:
    path = session_file(broken)
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(SourceError, match=f"^{path}: corrupt .*fetch it again$"):
        read_session(open_source(broken.root), "subj01", 1, [0])


def test_crc_of_a_long_file(tmp_path: Path) -> None:
    """Long enough that reading the header does not reach the CRC at the end."""
    values = np.random.default_rng(0).integers(-(2**15), 2**15, (40, 50, 60, 3)).astype(np.int16)
    content = bytearray(gzip.compress(nib.Nifti1Image(values, np.eye(4)).to_bytes(), 1))
    content[-6] ^= 1
    (tmp_path / "long.nii.gz").write_bytes(bytes(content))
    source = open_source(tmp_path)
    assert read_header(source, "long.nii.gz").count == 3
    with pytest.raises(SourceError, match=r"long.nii.gz: corrupt .CRC"):
        list(stream_frames(source, "long.nii.gz"))


def test_the_file_may_not_change_while_it_is_read(nsd: Any) -> None:
    source, path = open_source(nsd.root), "nsddata/ppdata/subj01/func1pt8mm/aseg.nii.gz"
    other = read_header(source, path.replace("aseg", "R2"))
    with pytest.raises(SourceError, match=r"aseg.nii.gz: the file changed while it was read"):
        next(stream_frames(source, path, header=other))


def test_corrupt_middle(broken: Any) -> None:
    path = session_file(broken)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 40] = bytes(40)
    path.write_bytes(bytes(content))
    with pytest.raises(SourceError, match=f"^{path}: (corrupt|truncated)"):
        read_session(open_source(broken.root), "subj01", 1, [0])


@pytest.mark.parametrize(("change", "says"), [(-4, "truncated: 8 whole volumes"), (2, "2 bytes follow the 9 volumes")])
@pytest.mark.parametrize("format", ["nii.gz", "nii"])
def test_wrong_length(broken: Any, change: int, says: str, format: str) -> None:
    content = gzip.decompress(session_file(broken).read_bytes())
    content = content[:change] if change < 0 else content + bytes(change)
    path = broken.betas_folder() / f"betas_session01.{format}"
    path.write_bytes(gzip.compress(content) if format == "nii.gz" else content)
    with pytest.raises(SourceError, match=f"^{path}: {says}"):
        read_session(open_source(broken.root), "subj01", 1, format=format)


@pytest.mark.parametrize(
    ("position", "content", "says"),
    [
        (0, bytes(348), "no n.1 magic"),
        (344, b"ni1\0", "no n.1 magic"),
        (112, np.float32(0.5).tobytes(), "scaled by 0.5"),
        (70, b"\x10\0\x20\0", "float32 values where NSD has int16"),
        (70, b"\x0f\x27", "not a readable NIfTI-1"),
        (42, b"\xff\xff", "not a readable NIfTI-1"),
        (108, bytes(4), "data from byte 0 on"),
    ],
)
def test_wrong_header(broken: Any, position: int, content: bytes, says: str) -> None:
    path = session_file(broken)
    header = bytearray(gzip.decompress(path.read_bytes()))
    header[position : position + len(content)] = content
    path.write_bytes(gzip.compress(bytes(header)))
    with pytest.raises(SourceError, match=f"^{path}: .*{says}"):
        read_session(open_source(broken.root), "subj01", 1)


def test_not_as_expected(nsd: Any) -> None:
    source = open_source(nsd.root)
    path = session_file(nsd)
    read_session(source, "subj01", 1, [0], expected=(nsd.shape, nsd.trials))
    with pytest.raises(SourceError, match=f"^{path}: 9 trials where the design has 10"):
        read_session(source, "subj01", 1, [0], expected=(nsd.shape, 10))
    with pytest.raises(SourceError, match=f"^{path}: 5 x 7 x 6 where the subject's other files have 5 x 7 x 7"):
        read_session(source, "subj01", 1, [0], expected=((5, 7, 7), nsd.trials))


def test_hemispheres_contradict(broken: Any) -> None:
    folder = broken.betas_folder(space="nativesurface")
    with h5py.File(folder / "rh.betas_session01.hdf5", "w") as file:
        file.create_dataset("betas", data=np.zeros((8, 13), np.int16))
    with pytest.raises(SourceError, match="8 trials where the left hemisphere has 9"):
        read_session(open_source(broken.root), "subj01", 1, space="nativesurface")


@pytest.mark.parametrize("content", [b"", b"nothing of HDF5", None])
def test_broken_hdf5(broken: Any, content: bytes | None) -> None:
    path = broken.betas_folder() / "betas_session01.hdf5"
    path.write_bytes(path.read_bytes()[:3000] if content is None else content)
    with pytest.raises(SourceError, match=f"^{path}: cannot be read"):
        read_session(open_source(broken.root), "subj01", 1, format="hdf5")


def test_hdf5_without_betas(broken: Any) -> None:
    path = broken.betas_folder() / "betas_session01.hdf5"
    with h5py.File(path, "w") as file:
        file["other"] = 1
    with pytest.raises(SourceError, match=f"^{path}: no dataset 'betas', only other"):
        read_session(open_source(broken.root), "subj01", 1, format="hdf5")


@pytest.mark.parametrize("voxels", [[210], [-1], [0, 10**9]])
def test_no_such_voxel(nsd: Any, voxels: list[int]) -> None:
    with pytest.raises(SelectionError, match="0 to 209"):
        read_session(open_source(nsd.root), "subj01", 1, voxels)


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ({"subject": "subj09"}, "unknown subject .*'subj09'; available: subj01, subj02"),
        ({"space": "func1mm"}, "unknown space .*'func1mm'; available: fsaverage, func1pt8mm, nativesurface"),
        ({"space": "MNI"}, "unknown space .*'MNI'; available: fsaverage, func1pt8mm, nativesurface"),
        ({"betas": "betas_fithrf"}, "unknown betas version .*; available: betas_fithrf_GLMdenoise_RR"),
        ({"format": "npy"}, "unknown format .*'npy'; available: nii.gz, nii, hdf5, mat"),
    ],
)
def test_unknown_names_list_what_there_is(nsd: Any, what: dict[str, str], says: str) -> None:
    arguments = {"subject": "subj01", "session": 1} | what
    with pytest.raises(SelectionError, match=says):
        read_session(open_source(nsd.root), **arguments)


def test_no_such_session(nsd: Any) -> None:
    with pytest.raises(MissingDataError, match=r"betas_session03.nii.gz: no such session.*listed: 1, 2$"):
        read_session(open_source(nsd.root), "subj02", 3)
