"""``DataArray.nsd`` against nibabel, nilearn, pandas and formulas by hand."""

from __future__ import annotations

import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import nsdflow
from nsdflow import analysis
from nsdflow.errors import StoreError


def test_store_to_volume_to_store_is_the_identity(store, recording) -> None:
    responses = store.responses(1, zscore=False)
    volume = responses.nsd.to_volume()
    assert volume.dims == ("trial", "i", "j", "k")
    expected = np.where(recording.mask, recording.volumes.reshape(-1, *recording.mask.shape) / np.float32(300), np.nan)
    np.testing.assert_array_equal(volume, expected.astype(np.float32))
    back = volume.values.reshape(len(volume), -1)[:, responses["flat_index"]]
    np.testing.assert_array_equal(back, responses)


@given(st.data())
@settings(max_examples=20)
def test_any_voxels_and_dimensions(store, data) -> None:
    """The order of voxels and of dimensions does not matter."""
    voxels = store.voxels(1)
    size = voxels.sizes["voxel"]
    chosen = data.draw(st.permutations(range(size)))[: data.draw(st.integers(1, size))]
    values = np.random.default_rng(0).normal(size=(3, size, 2))[:, chosen]
    array = xr.DataArray(values, {"flat_index": voxels["flat_index"][chosen]}, ("a", "voxel", "b"))
    volume = array.nsd.to_volume()
    assert volume.dims == ("a", "b", "i", "j", "k")
    i, j, k = (voxels[axis].values[chosen] for axis in "ijk")
    np.testing.assert_array_equal(volume.values[..., i, j, k], values.transpose(0, 2, 1))
    assert np.isnan(volume).sum() == 6 * (np.prod(volume.shape[2:]) - len(chosen))


def test_integers_become_floats(store) -> None:
    voxels = store.voxels(1)
    roi = voxels["roi"].assign_coords(flat_index=voxels["flat_index"])
    volume = roi.nsd.to_volume()
    assert volume.dtype == np.float32
    assert np.nanmax(volume) == roi.max()


@pytest.mark.parametrize("name", ["map.nii", "map.nii.gz"])
def test_nifti_opens_in_the_right_place(store, recording, tmp_path: Path, name: str) -> None:
    responses = store.responses(1, zscore=False)
    path = responses.isel(trial=2).nsd.to_nifti(tmp_path / "new" / name)
    image = nib.load(path)
    assert image.shape == recording.mask.shape
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
    np.testing.assert_allclose(
        image.affine, np.reshape(store.voxels(1)["flat_index"].attrs["affine"], (4, 4)), rtol=1e-6
    )
    np.testing.assert_allclose(image.affine @ [0, 0, 0, 1], [-4.5, -5.4, -6.3, 1], rtol=1e-6)
    expected = np.where(recording.mask, recording.volumes[0, 2] / np.float32(300), np.nan)
    np.testing.assert_array_equal(image.get_fdata(dtype=np.float32), expected.astype(np.float32))
    assert image.header.get_data_dtype() == np.float32
    assert [path.name for path in path.parent.iterdir()] == [name]


def test_nilearn_reads_values_at_their_coordinates(store, recording, tmp_path: Path) -> None:
    with warnings.catch_warnings():  # nilearn warns about its dependencies when it is imported
        warnings.simplefilter("ignore")
        from nilearn import image
    path = store.responses(1, zscore=False).isel(trial=slice(4)).nsd.to_nifti(tmp_path / "four.nii.gz")
    loaded = image.load_img(path)
    assert loaded.shape == (*recording.mask.shape, 4)
    i, j, k = np.argwhere(recording.mask)[17]
    x, y, z = image.coord_transform(i, j, k, loaded.affine)
    np.testing.assert_allclose([x, y, z], np.array([-4.5, -5.4, -6.3]) + 1.8 * np.array([i, j, k]), atol=1e-5)
    np.testing.assert_array_equal(loaded.get_fdata()[i, j, k], recording.volumes[0, :4, i, j, k] / np.float32(300))


def test_what_cannot_be_a_volume_says_why(store, tmp_path: Path) -> None:
    responses = store.responses(1, roi="V1")
    with pytest.raises(StoreError, match="no voxel dimension"):
        responses.mean("voxel").nsd.to_volume()
    bare = responses.drop_attrs()
    with pytest.raises(StoreError, match="lacks its attributes shape and affine"):
        bare.nsd.to_volume()
    vertices = responses.assign_coords(flat_index=responses["flat_index"].assign_attrs(shape=[200, 136]))
    with pytest.raises(StoreError, match="vertices of a surface"):
        vertices.nsd.to_volume()
    with pytest.raises(StoreError, match=r"is called .nii or .nii.gz"):
        responses[0].nsd.to_nifti(tmp_path / "map.img")
    with pytest.raises(StoreError, match="too many"):
        responses.expand_dims(fold=2).nsd.to_nifti(tmp_path / "map.nii")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("lazy", [True, False])
def test_mean_over_repetitions(store, recording, lazy: bool) -> None:
    responses = store.responses(1)
    responses = responses if lazy else responses.compute()
    means = responses.nsd.mean_over_repetitions()
    assert (means.chunks is not None) == lazy
    expected = responses.compute().to_pandas().groupby(recording.nsd_id).mean()
    np.testing.assert_array_equal(means["nsd_id"], expected.index)
    np.testing.assert_allclose(means, expected, atol=1e-6)
    np.testing.assert_array_equal(means["repetitions"], np.unique(recording.nsd_id, return_counts=True)[1])
    first = [list(recording.nsd_id).index(i) for i in means["nsd_id"]]
    np.testing.assert_array_equal(means["shared"], recording.shared[first])
    assert means.dims == ("image", "voxel")
    assert "flat_index" in means.coords
    with pytest.raises(StoreError, match="needs a trial dimension"):
        means.nsd.mean_over_repetitions()


def test_mean_over_repetitions_of_any_dimensions(store) -> None:
    responses = store.responses(1).compute()
    np.testing.assert_array_equal(responses.T.nsd.mean_over_repetitions().T, responses.nsd.mean_over_repetitions())


@pytest.mark.parametrize("n", [1, 3, 1 / (0.5 / 3 + 0.5)])
def test_noise_ceiling(store, n: float) -> None:
    responses = store.responses(1)
    shares, ceilings = responses.nsd.explainable_variance(n), responses.nsd.noise_ceiling(n)
    values = (responses["ncsnr"].values, shares.values, ceilings.values)
    for snr, share, ceiling in zip(*(v.tolist() for v in values), strict=True):
        np.testing.assert_allclose(share, snr**2 / (snr**2 + 1 / n), rtol=1e-5)
        np.testing.assert_allclose(ceiling**2, share, rtol=1e-5)
    assert ceilings.name == "noise_ceiling"
    assert ceilings.attrs["long_name"] == f"noise ceiling (correlation), mean of {n:g} trials"
    with pytest.raises(StoreError, match="no coordinate ncsnr"):
        responses.drop_vars("ncsnr").nsd.noise_ceiling(1)
    for less in (0, -1, 0.5, np.nan):
        with pytest.raises(StoreError, match="1 or more"):
            responses.nsd.noise_ceiling(less)


def test_what_xarray_writes_as_netcdf(store, tmp_path: Path) -> None:
    """Attributes are numbers, texts and rows of them: nothing else fits into a file."""
    responses = store.responses(1).compute()
    volume = responses.isel(trial=0, drop=True).nsd.to_volume()
    for number, labelled in enumerate((responses, volume, store.trials(1), store.voxels(1))):
        path = tmp_path / f"{number}.nc"
        labelled.to_netcdf(path)
        assert path.stat().st_size > 0
    again = xr.load_dataarray(tmp_path / "0.nc")
    xr.testing.assert_identical(
        again.nsd.to_volume().reset_coords(drop=True), responses.nsd.to_volume().reset_coords(drop=True)
    )


def test_tables_say_which_voxel_or_image_a_row_is(store) -> None:
    volume = store.voxels(1)["roi"].nsd.to_volume()
    assert int(volume.notnull().sum()) == store.voxels(1).sizes["voxel"]
    means = store.trials(1)["rt"].nsd.mean_over_repetitions()
    np.testing.assert_array_equal(means["nsd_id"], np.unique(store.trials(1)["nsd_id"]))


def test_reliability_is_that_of_the_analysis(small_store):
    responses = nsdflow.open_store(small_store).responses("subj01", roi="V1").compute()
    expected = analysis.reliability(responses, splits=4, seed=1)
    xr.testing.assert_identical(responses.nsd.reliability(splits=4, seed=1), expected)
