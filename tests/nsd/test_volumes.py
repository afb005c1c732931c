"""Maps of a subject, as nibabel reads them."""

from __future__ import annotations

import gzip
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from nsdflow.errors import MissingDataError, SourceError
from nsdflow.nsd.source import open_source
from nsdflow.nsd.voxels.volumes import read_aseg, read_brainmask, read_ncsnr, read_valid, read_volume

SPACE = "func1pt8mm"
R2 = "nsddata/ppdata/subj01/func1pt8mm/R2.nii.gz"
VERSION = "betas_fithrf_GLMdenoise_RR"


def test_maps(nsd: Any) -> None:
    source = open_source(nsd.root)
    options: dict[str, Any] = {"space": SPACE, "shape": nsd.shape}
    for volume, name, dtype in (
        (read_brainmask(source, "subj02", **options), "brainmask", bool),
        (read_valid(source, "subj02", 3, **options), "valid_session03", bool),
        (read_aseg(source, "subj02", **options), "aseg", np.int16),
        (read_ncsnr(source, "subj02", betas=VERSION, **options), "ncsnr", np.float32),
    ):
        assert volume.values.dtype == dtype
        np.testing.assert_array_equal(volume.values, nsd.volumes["subj02", name])


def test_values_and_affine_are_nibabels(nsd: Any) -> None:
    path = nsd.betas_folder() / "ncsnr.nii.gz"
    image = nib.load(path)
    volume = read_volume(open_source(nsd.root), str(path.relative_to(nsd.root)))
    np.testing.assert_array_equal(volume.values, image.get_fdata(dtype=np.float32))
    np.testing.assert_array_equal(volume.affine, image.affine)


@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<f4", "<f8", "<u1"])
@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 4, 5, 2), (3, 4)])
def test_any_type_and_byte_order(tmp_path: Any, dtype: str, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).integers(0, 99, shape).astype(dtype)
    header = nib.Nifti1Header(endianness=dtype[0] if dtype[0] in "<>" else "<")
    header.set_data_dtype(dtype)
    nib.Nifti1Image(values, np.eye(4), header).to_filename(tmp_path / "volume.nii.gz")
    volume = read_volume(open_source(tmp_path), "volume.nii.gz")
    assert volume.values.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(volume.values, values.reshape((*shape, 1)[: max(3, len(shape))]))


def test_surface_map(nsd: Any) -> None:
    volume = read_ncsnr(open_source(nsd.root), "subj01", space="nativesurface", betas=VERSION, shape=nsd.vertices)
    wanted = [nsd.volumes["subj01", f"{hemisphere}.ncsnr"] for hemisphere in ("lh", "rh")]
    np.testing.assert_array_equal(volume.values, np.concatenate(wanted))
    assert volume.affine is None


def test_other_grid(nsd: Any) -> None:
    source = open_source(nsd.root)
    with pytest.raises(SourceError, match=r"aseg.nii.gz: a grid of 5 x 7 x 6 where the betas have 5 x 7 x 8"):
        read_aseg(source, "subj01", space=SPACE, shape=(5, 7, 8))
    with pytest.raises(SourceError, match=r"rh.ncsnr.mgh: a grid of 13 x 1 x 1 where the betas have 14 x 1 x 1"):
        read_ncsnr(source, "subj01", space="nativesurface", betas=VERSION, shape=(11, 14))


def test_missing_and_broken(broken: Any) -> None:
    source = open_source(broken.root)
    folder = broken.root / "nsddata/ppdata/subj01/func1pt8mm"
    (folder / "aseg.nii.gz").unlink()
    with pytest.raises(MissingDataError, match=r"aseg.nii.gz: no such file"):
        read_aseg(source, "subj01", space=SPACE)
    content = gzip.decompress((folder / "R2.nii.gz").read_bytes())
    (folder / "R2.nii.gz").write_bytes(gzip.compress(content[:-3]))
    with pytest.raises(SourceError, match=r"R2.nii.gz: truncated"):
        read_volume(source, R2)
    (folder / "R2.nii.gz").write_bytes(b"")
    with pytest.raises(SourceError, match=r"R2.nii.gz: truncated"):
        read_volume(source, R2)
