"""``DataArray.nsd`` on other spaces: lazy, labelled, and correct for nibabel and nilearn."""

from __future__ import annotations

from pathlib import Path

import dask
import nibabel as nib
import numpy as np
import pytest
import xarray as xr

import nsdflow.store  # noqa: F401  (registers the accessor)
from nsdflow.errors import SelectionError, SourceError, StoreError
from tests.store.surface.conftest import SHAPE, SPEC


def tkr(nsd: Path, hemisphere: str, surface: str) -> np.ndarray:
    return nib.freesurfer.read_geometry(nsd / f"nsddata/freesurfer/subj01/surf/{hemisphere}.{surface}")[0]


def expected_heights(nsd: Path, layers: tuple[str, ...]) -> np.ndarray:
    """Functional mm of the vertices, (vertex, axis), from the surfaces: the anatomy is turned and shifted."""
    cos, sin = np.cos(np.radians(4)), np.sin(np.radians(4))
    turn = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    both = [np.concatenate([tkr(nsd, h, layer) for h in ("lh", "rh")]) for layer in layers]
    return (np.mean(both, axis=0) + 0.4 - [1.2, -2.0, 0.8]) @ turn


def test_a_lazy_array_stays_lazy_and_arrives(nsd: Path, heights: xr.DataArray) -> None:
    lazy = heights.chunk({"axis": 1, "voxel": 500})
    with dask.config.set(scheduler="synchronous"):
        native = lazy.nsd.to_space("nativesurface")
        assert native.chunks is not None
        assert native.chunks[0] == (1, 1, 1)
        assert native.dims == ("axis", "voxel")
        np.testing.assert_allclose(native.values.T, expected_heights(nsd, ("layerB1", "layerB2", "layerB3")), atol=1e-3)
    assert native.attrs["layers"] == "layerB1 layerB2 layerB3"
    assert (native.attrs["space"], native.attrs["mapped_from"]) == ("nativesurface", "func1pt8mm")
    assert "affine" not in native.attrs
    xr.testing.assert_allclose(native.compute(), heights.nsd.to_space("nativesurface"))


def test_hemispheres_and_labels_come_along(nsd: Path, heights: xr.DataArray) -> None:
    native = heights.nsd.to_space("white", method="linear")
    left = native.isel(voxel=native["hemisphere"].values == 0)
    assert left.sizes["voxel"] == len(tkr(nsd, "lh", "white"))
    assert float(left.sel(axis="x").max()) <= 1
    z = native.sel(axis="z").values
    clear = np.abs(z) > 1.8
    assert set(native["roi"].values[clear & (z < 0)]) == {1}
    assert set(native["roi"].values[clear & (z > 0)]) == {3}
    assert native["roi"].attrs["flag_meanings"] == heights["roi"].attrs["flag_meanings"]


def test_a_volume_target_keeps_the_voxels_with_data(heights: xr.DataArray) -> None:
    some = heights.isel(voxel=heights["i"].values < 10)
    anatomy = some.nsd.to_space("anat1pt0")
    assert np.isfinite(anatomy.values).all()
    assert float(anatomy.sel(axis="x").max()) < (10 - 23 / 2) * 1.8
    volume = anatomy.nsd.to_volume()
    i, j, k = (int(anatomy[axis][0]) for axis in "ijk")
    np.testing.assert_array_equal(volume.values[:, i, j, k], anatomy.values[:, 0])
    # world mm of the anatomy, turned back, are functional mm
    affine = np.array(volume.attrs["affine"]).reshape(4, 4)
    world = (affine @ [i, j, k, 1])[:3]
    np.testing.assert_allclose(anatomy.values[0, 0], world[0] - 1.2, atol=1e-3)


def test_missing_voxels_can_be_ignored(heights: xr.DataArray) -> None:
    ribbon = heights.isel(voxel=heights["k"].values > 12)
    plain = ribbon.nsd.to_space("nativesurface")
    kept = ribbon.nsd.to_space("nativesurface", method="linear", missing="ignore")
    assert np.isfinite(kept.values).sum() > np.isfinite(plain.values).sum() > 0


def test_labels_by_vote(heights: xr.DataArray) -> None:
    labels = heights["roi"].astype(np.int16).assign_attrs({**heights.attrs, **heights["roi"].attrs})
    mapped = labels.nsd.to_space("fsaverage", method="wta", fill=-1)
    assert mapped.dtype == np.int16
    assert set(np.unique(mapped)) <= {-1, 1, 3}


def test_angles_are_averaged_on_the_circle(nsd: Path, heights: xr.DataArray) -> None:
    """Around the right horizontal meridian, 359 and 1 degrees are neighbours; a plain mean would give 180."""
    x, z = (heights.sel(axis=axis, drop=True) for axis in "xz")
    angle = (np.degrees(np.arctan2(z, x + 40)) % 360).assign_attrs({**heights.attrs, "period": 360.0})
    places = expected_heights(nsd, ("layerB2",))
    expected = np.degrees(np.arctan2(places[:, 2], places[:, 0] + 40)) % 360
    for lazy in (angle, angle.chunk()):
        with dask.config.set(scheduler="synchronous"):
            found = lazy.nsd.to_space("layerB2", method="linear").values
        assert ((found >= 0) & (found <= 360)).all()
        assert np.abs((found - expected + 180) % 360 - 180).max() < 0.1
    assert (expected < 30).any()
    assert (expected > 330).any()


def test_gifti_is_what_workbench_and_nilearn_read(nsd: Path, heights: xr.DataArray, tmp_path: Path) -> None:
    native = heights.nsd.to_space("nativesurface")
    paths = native.nsd.to_gifti(tmp_path / "heights.func.gii")
    assert [path.name for path in paths] == ["hemi-L_heights.func.gii", "hemi-R_heights.func.gii"]
    count = 0
    for path, structure in zip(paths, ("CortexLeft", "CortexRight"), strict=True):
        image = nib.load(path)
        assert image.meta["AnatomicalStructurePrimary"] == structure
        assert image.meta["space"] == "nativesurface"
        assert [array.meta["Name"] for array in image.darrays] == [f"heights axis {axis}" for axis in "xyz"]
        assert {array.datatype for array in image.darrays} == {nib.nifti1.data_type_codes["NIFTI_TYPE_FLOAT32"]}
        values = np.stack(image.agg_data())
        np.testing.assert_allclose(values, native.values[:, count : count + values.shape[1]], rtol=1e-6)
        count += values.shape[1]
    assert count == native.sizes["voxel"]
    from nilearn.surface import load_surf_data

    np.testing.assert_allclose(load_surf_data(paths[0])[:, 0], native.values[0, : len(tkr(nsd, "lh", "white"))])


def test_labels_become_a_label_file_with_its_table(heights: xr.DataArray, tmp_path: Path) -> None:
    native = heights.nsd.to_space("layerB2", method="nearest")
    labels = native["roi"].assign_attrs(subject="subj01", space="nativesurface", **native["roi"].attrs)
    left, _ = labels.nsd.to_gifti(tmp_path / "roi.label.gii")
    image = nib.load(left)
    (array,) = image.darrays
    assert array.intent == nib.nifti1.intent_codes["NIFTI_INTENT_LABEL"]
    names = image.labeltable.get_labels_as_dict()
    assert (names[1], names[3]) == ("V1v", "V2v")
    np.testing.assert_array_equal(array.data, native["roi"].values[: len(array.data)])


def test_mgz_is_what_freesurfer_and_nsd_keep(heights: xr.DataArray, tmp_path: Path) -> None:
    average = heights.nsd.to_space("fsaverage")
    left, right = average.nsd.to_mgz(tmp_path / "heights.mgz")
    assert (left.name, right.name) == ("lh.heights.mgz", "rh.heights.mgz")
    image = nib.load(right)
    assert image.shape == (642, 1, 1, 3)
    np.testing.assert_allclose(np.squeeze(image.dataobj).T, average.values[:, 642:], rtol=1e-6)
    from nilearn.surface import load_surf_data

    np.testing.assert_allclose(load_surf_data(left), average.values[:, :642].T, rtol=1e-6)


def test_nilearn_gets_a_surface_image(nsd: Path, heights: xr.DataArray) -> None:
    native = heights.nsd.to_space("nativesurface")
    image = native.nsd.to_surface_image("white")
    assert image.mesh.parts["left"].n_vertices == len(tkr(nsd, "lh", "white"))
    np.testing.assert_allclose(image.data.parts["left"], native.values[:, : len(tkr(nsd, "lh", "white"))].T)
    # the mesh lies in mm of the anatomy, where nilearn expects a surface
    np.testing.assert_allclose(image.mesh.parts["right"].coordinates, tkr(nsd, "rh", "white") + 0.4, atol=1e-4)


def test_nifti_of_the_anatomy_lies_over_the_surface(nsd: Path, heights: xr.DataArray, tmp_path: Path) -> None:
    """nilearn samples the exported volume at the exported surface, and finds the values of the surface."""
    from nilearn.surface import vol_to_surf

    anatomy = heights.nsd.to_space("anat0pt8")
    path = anatomy.isel(axis=2).nsd.to_nifti(tmp_path / "z.nii.gz")
    image = nib.load(path)
    mesh = heights.nsd.to_space("nativesurface").nsd.to_surface_image("layerB2").mesh
    part = mesh.parts["left"]
    sampled = vol_to_surf(
        nib.Nifti1Image(np.nan_to_num(image.get_fdata()), image.affine),
        (part.coordinates, part.faces), radius=0.1, interpolation="linear", kind="ball",
    )  # fmt: skip
    expected = expected_heights(nsd, ("layerB2",))[: part.n_vertices, 2]
    assert np.abs(sampled - expected).max() < 0.3


@pytest.mark.parametrize("space", ["MNI", "anat1pt0"])
@pytest.mark.parametrize("method", ["wta", "nearest"])
def test_labels_in_a_nifti_lie_where_the_transform_says(
    nsd: Path, heights: xr.DataArray, tmp_path: Path, space: str, method: str
) -> None:
    """Read by nibabel and nilearn; the transform file by nibabel too, whose MNI axis runs from right to left."""
    from nilearn.image import load_img

    x, z = (heights.sel(axis=axis, drop=True) for axis in "xz")
    labels = x.copy(data=np.where(x < 0, 3, 7).astype(np.int16) + (z.values > 4))
    labels = labels.assign_attrs({**heights.attrs, "flag_values": [3, 4, 7, 8], "flag_meanings": "a b c d"})
    mapped = labels.nsd.to_space(space, method=method, fill=-1)
    image = load_img(mapped.nsd.to_nifti(tmp_path / "labels.nii.gz"))
    found = image.get_fdata()
    assert set(np.unique(found[np.isfinite(found)])) <= {-1, 3, 4, 7, 8}
    coordinates = nib.load(nsd / f"nsddata/ppdata/subj01/transforms/func1pt8-to-{space}.nii.gz").get_fdata()
    coordinates = coordinates[::-1] if space == "MNI" else coordinates
    inside = ((coordinates >= 1) & (coordinates <= SHAPE)).all(axis=-1)
    at = np.floor(coordinates[inside] + 0.5).astype(int) - 1
    expected = labels.nsd.to_volume().values[tuple(at.T)]
    same = found[inside] == expected
    assert same.all() if method == "nearest" else same.mean() > 0.97
    assert not np.isin(found[~inside], (3, 4, 7, 8)).any()
    world = nib.affines.apply_affine(image.affine, np.argwhere(np.isin(found, (3, 4))))
    assert world[:, 0].mean() < nib.affines.apply_affine(image.affine, np.argwhere(found >= 7))[:, 0].mean()


def test_pycortex_finds_the_values_of_voxels_and_vertices(nsd: Path, heights: xr.DataArray) -> None:
    """As pycortex draws: ``data[z, y, x]`` at the place of each vertex, and vertices of both hemispheres in a row."""
    z = heights.sel(axis="z", drop=True).assign_attrs(heights.attrs)
    volume = z.nsd.to_volume().transpose("k", "j", "i").values
    folder = nsd / "nsddata/ppdata/subj01/transforms"
    files = [nib.load(folder / f"{half}.func1pt8-to-layerB2.mgz").get_fdata() for half in ("lh", "rh")]
    x, y, k = np.floor(np.concatenate([np.squeeze(one) for one in files]) + 0.5).astype(int).T - 1
    np.testing.assert_allclose(z.nsd.to_space("layerB2", method="nearest"), volume[k, y, x], rtol=1e-6)
    average = z.nsd.to_space("fsaverage", method="nearest")
    assert average["hemisphere"].values.tolist() == [0] * SPEC.vertices + [1] * SPEC.vertices


def test_flat_patches_lie_as_pycortex_lays_them(nsd: Path) -> None:
    """pycortex reads (x, y) of the file as (y, -x)."""
    from nsdflow.nsd.source import open_source
    from nsdflow.nsd.spaces.surfaces import read_flat

    content = (nsd / "nsddata/freesurfer/subj01/surf/lh.full.flat.patch.3d").read_bytes()
    rows = np.frombuffer(content, np.dtype([("vertex", ">i4"), ("xyz", ">f4", 3)]), offset=8)
    places = read_flat(open_source(nsd), "subj01", "lh").places
    inside = np.abs(rows["vertex"]) - 1
    np.testing.assert_allclose(places[inside], np.stack([rows["xyz"][:, 1], -rows["xyz"][:, 0]], axis=1))
    assert np.isnan(np.delete(places, inside, axis=0)).all()


@pytest.mark.parametrize(("call", "error", "says"), [
    (lambda a: a.nsd.to_space("MINI"), SelectionError, "unknown space 'MINI'"),
    (lambda a: a.nsd.to_gifti("x.func.gii"), StoreError, "its voxels are in a volume .*to_space"),
    (lambda a: a.drop_attrs().nsd.to_space("MNI"), StoreError, "flat_index lacks its attribute shape"),
    (lambda a: a.drop_attrs(deep=False).nsd.to_space("MNI"), StoreError, "no attribute 'subject'"),
    (lambda a: a.drop_vars("flat_index").nsd.to_space("MNI"), StoreError, "no voxel dimension with the coordinate"),
    (lambda a: a.assign_attrs(source="").nsd.to_space("MNI"), StoreError, "no attribute 'source'"),
    (lambda a: a.nsd.to_space("nativesurface").nsd.to_gifti("x.gifti"), StoreError, "a GIFTI file ends in"),
    (lambda a: a.nsd.to_space("nativesurface").nsd.to_space("func1mm"), SelectionError, "no way from nativesurface"),
    (lambda a: a.nsd.to_space("nativesurface").assign_attrs(space="fsaverage").nsd.to_space("anat1pt0"), SourceError,
     "where its transforms have 642"),
])  # fmt: skip
def test_one_line_for(heights: xr.DataArray, call: object, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says) as caught:
        call(heights)  # type: ignore[operator]
    assert "\n" not in str(caught.value)
