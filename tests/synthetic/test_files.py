"""Bytes, headers, types and values of the image files, as NSD's manual and users' printouts have them."""

import gzip
import struct

import h5py
import nibabel as nib
import numpy as np
import pytest

BETAS = "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR"
PPDATA = "nsddata/ppdata/subj01/func1pt8mm"

TYPES = {
    f"{BETAS}/betas_session01": ("int16", 4 / 3),
    f"{BETAS}/meanbeta_session01": ("float32", 1),
    f"{BETAS}/R2_session02": ("float32", 1),
    f"{BETAS}/R2": ("float32", 1),
    f"{BETAS}/HRFindex_session01": ("int16", 1),
    f"{BETAS}/FRACvalue_session01": ("float32", 1),
    f"{BETAS}/ncsnr": ("float32", 1),
    f"{PPDATA}/mean": ("float32", 1),
    f"{PPDATA}/R2": ("float32", 1),
    f"{PPDATA}/valid_session01": ("int16", 1),
    f"{PPDATA}/valid": ("float32", 1),
    f"{PPDATA}/brainmask": ("int16", 1),
    f"{PPDATA}/aseg": ("int16", 1),
    f"{PPDATA}/T1_to_func1pt8mm": ("int16", 1),
    f"{PPDATA}/prf_angle": ("float32", 1),
    f"{PPDATA}/roi/prf-visualrois": ("float64", 1),
    f"{PPDATA}/roi/lh.Kastner2015": ("float64", 1),
    f"{PPDATA}/roi/thalamus": ("int16", 1),
}


def volume(nsd, name):
    return np.asanyarray(nib.load(nsd / f"{name}.nii.gz").dataobj)


@pytest.mark.parametrize("name", TYPES)
def test_header_bytes(nsd, spec, name):
    dtype, tr = TYPES[name]
    with gzip.open(nsd / f"{name}.nii.gz") as file:
        raw = file.read()
    shape = spec.volume_shape(1, "func1pt8mm")
    dims = struct.unpack("<8h", raw[40:56])
    pixdim = struct.unpack("<8f", raw[76:108])
    assert struct.unpack("<i", raw[:4]) == (348,)
    assert dims[1:4] == shape
    assert dims[0] == (4 if "betas_session" in name else 3)
    assert struct.unpack("<h", raw[70:72])[0] == {"int16": 4, "float32": 16, "float64": 64}[dtype]
    assert pixdim[1:5] == pytest.approx((1.8, 1.8, 1.8, tr))
    assert pixdim[1] == np.float32(1.8)
    assert struct.unpack("<f", raw[108:112]) == (352.0,)
    assert raw[112:120] == bytes(8)  # slope and intercept
    assert raw[123] == 0  # units unknown
    assert struct.unpack("<2h", raw[252:256]) == (0, 1)  # qform, sform codes
    rows = np.frombuffer(raw[280:328], "<f4").reshape(3, 4)
    np.testing.assert_allclose(rows[:, :3], np.diag([1.8] * 3), rtol=1e-6)
    np.testing.assert_allclose(rows[:, 3], -(np.array(shape) - 1) / 2 * 1.8, rtol=1e-6)
    assert raw[344:352] == b"n+1\0" + bytes(4)
    assert len(raw) == 352 + np.prod(dims[1 : dims[0] + 1]) * np.dtype(dtype).itemsize
    assert nib.aff2axcodes(nib.load(nsd / f"{name}.nii.gz").affine) == ("R", "A", "S")


def test_the_affine_of_the_published_grid(tmp_path):
    from nsdflow.synthetic.published.files import write_volume

    path = tmp_path / "a.nii.gz"
    write_volume(path, np.zeros((81, 104, 83), np.int16), 1.8)
    np.testing.assert_allclose(nib.load(path).affine[:3, 3], (-72.0, -92.7, -73.8), atol=1e-4)


@pytest.mark.parametrize("session", [1, 3])
def test_hdf5_reversed_is_the_nifti(nsd, spec, session):
    betas = volume(nsd, f"{BETAS}/betas_session{session:02d}")
    assert betas.dtype == np.int16
    with h5py.File(nsd / f"{BETAS}/betas_session{session:02d}.hdf5") as file:
        stored = file["betas"]
        assert stored.dtype == np.dtype("<i2")
        assert stored.chunks == (spec.trials_per_session, 1, 1, 1)
        assert (stored.compression, stored.shuffle) == (None, False)
        np.testing.assert_array_equal(stored[:].T, betas)
    with h5py.File(nsd / f"{BETAS}/betas_session{session:02d}.mat") as file:
        assert file.userblock_size == 512
        np.testing.assert_array_equal(file["betas"][:].T, betas)
    assert (nsd / f"{BETAS}/betas_session{session:02d}.mat").read_bytes().startswith(b"MATLAB 7.3 MAT-file")


def test_which_sessions_there_are(nsd, spec):
    for subject, done in enumerate(spec.sessions_done, start=1):
        folder = nsd / BETAS.replace("subj01", f"subj{subject:02d}")
        public = done - spec.held_out
        for pattern in ("betas_session??.nii.gz", "betas_session??.hdf5", "meanbeta_session??.nii.gz"):
            assert len(list(folder.glob(pattern))) == public
        ppdata = nsd / PPDATA.replace("subj01", f"subj{subject:02d}")
        assert len(list(ppdata.glob("valid_session??.nii.gz"))) == done
    assert spec.sessions_done == (5, 4)


def test_betas_are_zero_outside_the_brain_and_where_a_session_has_no_data(nsd):
    inside = volume(nsd, f"{PPDATA}/brainmask") > 0
    for session in range(1, 5):
        betas = volume(nsd, f"{BETAS}/betas_session{session:02d}")
        valid = volume(nsd, f"{PPDATA}/valid_session{session:02d}") > 0
        assert not betas[~inside].any()
        assert not betas[~valid].any()
        assert (betas[inside & valid].std(axis=-1) > 0).all()
    share = volume(nsd, f"{PPDATA}/valid")[inside]
    assert set(np.unique(share)) == {0, np.float32(0.8), 1}  # five sessions: all fail, one fails, none


def test_some_betas_saturate_and_none_of_visual_cortex(nsd):
    betas = volume(nsd, f"{BETAS}/betas_session01")
    assert (betas.min(), betas.max()) == (-32768, 32767)
    visual = volume(nsd, f"{PPDATA}/roi/nsdgeneral") > 0
    assert np.abs(betas[visual].astype(int)).max() < 32767


def test_mean_betas_are_not_scaled(nsd):
    betas = volume(nsd, f"{BETAS}/betas_session02")
    mean = volume(nsd, f"{BETAS}/meanbeta_session02")
    np.testing.assert_allclose(mean, betas.mean(axis=-1), rtol=1e-4, atol=1e-3)


def test_ncsnr_is_nan_exactly_where_there_are_never_data(nsd):
    ncsnr = volume(nsd, f"{BETAS}/ncsnr")
    valid = volume(nsd, f"{PPDATA}/valid") > 0
    inside = volume(nsd, f"{PPDATA}/brainmask") > 0
    np.testing.assert_array_equal(np.isfinite(ncsnr), valid & inside)
    assert (ncsnr[np.isfinite(ncsnr)] >= 0).all()
    assert (ncsnr == 0).any()


def test_roi_volumes(nsd):
    aseg = volume(nsd, f"{PPDATA}/aseg")
    for atlas, labels in {"prf-visualrois": 7, "Kastner2015": 25, "nsdgeneral": 1, "prf-eccrois": 4}.items():
        both, left, right = (volume(nsd, f"{PPDATA}/roi/{side}{atlas}") for side in ("", "lh.", "rh."))
        np.testing.assert_array_equal(np.unique(both), range(-1, labels + 1))
        np.testing.assert_array_equal((both == -1), (aseg != 3) & (aseg != 42))
        np.testing.assert_array_equal(np.maximum(left, right), both)
        assert not ((left >= 0) & (right >= 0)).any()
        assert left[0].max() <= left[: len(left) // 2].max()
        assert (right[: len(right) // 2] == -1).all()  # the first axis goes from left to right
    assert volume(nsd, f"{PPDATA}/roi/thalamus").min() == 0


def test_label_tables_have_stray_tabs_and_the_published_names(nsd):
    text = (nsd / "nsddata/freesurfer/subj01/label/Kastner2015.mgz.ctab").read_text()
    assert "1 V1v\t   \n" in text
    rows = [line.split() for line in text.splitlines()]
    assert rows[0] == ["0", "Unknown"]
    assert [int(number) for number, _ in rows] == list(range(26))
    assert rows[7][1] == "hV4"
    prf = (nsd / "nsddata/freesurfer/subj02/label/prf-visualrois.mgz.ctab").read_text().split()[1::2]
    assert prf == ["Unknown", "V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "hV4"]
    assert (nsd / "nsddata/templates/thalamus.ctab").is_file()


def test_fsaverage_is_big_endian_percent_and_not_a_byte_longer(nsd, spec):
    folder = nsd / "nsddata_betas/ppdata/subj01/fsaverage/betas_fithrf_GLMdenoise_RR"
    for hemisphere in ("lh", "rh"):
        path = folder / f"{hemisphere}.betas_session01.mgh"
        assert path.stat().st_size == 284 + spec.vertices * spec.trials_per_session * 4 + 16
        image = nib.MGHImage.from_bytes(path.read_bytes())
        assert image.shape == (spec.vertices, 1, 1, spec.trials_per_session)
        assert image.get_data_dtype() == np.dtype(">f4")
        assert 0.5 < np.nanstd(np.asanyarray(image.dataobj)) < 10
        ncsnr = nib.MGHImage.from_bytes((folder / f"{hemisphere}.ncsnr.mgh").read_bytes())
        assert ncsnr.shape[0] == spec.vertices
        labels = nib.load(nsd / f"nsddata/freesurfer/fsaverage/label/{hemisphere}.Kastner2015.mgz")
        assert set(np.unique(np.asanyarray(labels.dataobj))) <= set(range(26))
    label = nsd / "nsddata/freesurfer/fsaverage/label"
    assert not [*label.glob("*prf-*"), *label.glob("*floc-*")]  # drawn for each subject, which fsaverage is not


def test_nativesurface_is_hdf5_by_vertex(nsd, spec):
    folder = nsd / "nsddata_betas/ppdata/subj02/nativesurface/betas_fithrf_GLMdenoise_RR"
    for hemisphere, vertices in zip(("lh", "rh"), spec.vertex_counts(2, "nativesurface"), strict=True):
        with h5py.File(folder / f"{hemisphere}.betas_session02.hdf5") as file:
            assert file["betas"].shape == (spec.trials_per_session, vertices)
            assert file["betas"].chunks == (spec.trials_per_session, 1)
            assert file["betas"].dtype == np.int16
            assert (file["betas"][:].std(axis=0) > 0).mean() > 0.9
        labels = nib.load(nsd / f"nsddata/freesurfer/subj02/label/{hemisphere}.nsdgeneral.mgz")
        assert labels.shape[0] == vertices


def test_grids_differ_between_subjects(nsd):
    shapes = {volume(nsd, PPDATA.replace("subj01", f"subj{s:02d}") + "/brainmask").shape for s in (1, 2)}
    assert len(shapes) == 2
