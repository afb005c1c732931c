"""Laws of mapping between spaces for any data, and errors for bad input."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsdflow.errors import MissingDataError, SelectionError, SourceError
from nsdflow.nsd.source import open_source
from nsdflow.nsd.spaces import cast_values, open_map, sample, targets_of, valid_points
from nsdflow.nsd.spaces.grids import functional_offset
from nsdflow.nsd.spaces.resampling import resample
from nsdflow.nsd.spaces.steps import Sample

SHAPE = (6, 5, 7)
METHODS = ("nearest", "linear", "cubic")


def own_indices(shape: tuple[int, ...]) -> np.ndarray:
    """The 1-based index of each voxel, in C order."""
    return np.stack(np.meshgrid(*[np.arange(1, n + 1) for n in shape], indexing="ij"), -1).reshape(-1, 3)


@pytest.mark.parametrize("method", METHODS)
def test_a_transform_of_own_indices_changes_nothing(method: str) -> None:
    values = np.random.default_rng(0).normal(size=(210, 2))
    np.testing.assert_array_equal(sample(values, SHAPE, valid_points(own_indices(SHAPE), SHAPE), method), values)


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(METHODS),
    st.lists(st.tuples(*[st.floats(0, n + 1, width=32) for n in SHAPE]), min_size=1, max_size=20),
)
def test_a_constant_stays_a_constant_at_valid_points(method: str, coordinates: list[tuple[float, ...]]) -> None:
    c = np.array(coordinates)
    mapped = sample(np.full((210, 1), 3.5), SHAPE, valid_points(c, SHAPE), method)[:, 0]
    valid = ((c >= 1) & (c <= SHAPE)).all(axis=1)
    np.testing.assert_allclose(mapped[valid], 3.5, rtol=1e-12)
    assert np.isnan(mapped[~valid]).all()


@pytest.mark.parametrize("method", ["linear", "cubic"])
def test_a_ramp_is_reproduced_between_the_second_and_the_last_but_one(method: str) -> None:
    c = np.random.default_rng(1).uniform(2, np.array(SHAPE) - 1, (50, 3))
    ramp = own_indices(SHAPE) @ [1.0, -2.0, 0.5]
    mapped = sample(ramp[:, None], SHAPE, valid_points(c, SHAPE), method)[:, 0]
    np.testing.assert_allclose(mapped, c @ [1.0, -2.0, 0.5], rtol=1e-12)


def test_a_missing_tap_makes_the_result_missing_even_with_no_weight() -> None:
    values = np.zeros((*SHAPE, 1))
    values[3] = np.nan  # 1-based 4
    at_three = valid_points([[3.0, 2.0, 2.0]], SHAPE)
    for method, missing in (("nearest", False), ("linear", True), ("cubic", True)):
        assert np.isnan(sample(values.reshape(-1, 1), SHAPE, at_three, method)).all() == missing


def test_missing_voxels_can_be_left_out() -> None:
    """The mean of those with data, by weight, where they have at least half of it."""
    values = np.full((*SHAPE, 1), np.nan)
    values[:3] = 2.0
    points = valid_points([[3.25, 2, 2], [3.75, 2, 2], [2.5, 2, 2]], SHAPE)
    found = Sample(SHAPE, (points,), "linear", "ignore").apply(values.reshape(-1, 1))[:, 0]
    np.testing.assert_array_equal(found, [2.0, np.nan, 2.0])


def test_nearest_rounds_halves_up_and_validity_comes_first() -> None:
    values = np.arange(1.0, 8.0)[None, None, :].repeat(6, 0).repeat(5, 1).reshape(-1, 1)
    points = valid_points([[1, 1, 2.5], [1, 1, 0.6], [1, 1, 7.0], [1, 1, 7.001], [1, 1, np.nan]], SHAPE)
    np.testing.assert_array_equal(sample(values, SHAPE, points, "nearest")[:, 0], [3, np.nan, 7, np.nan, np.nan])


def test_integers_round_half_away_from_zero_and_saturate() -> None:
    found = cast_values(np.array([0.5, -0.5, 2.5, 1e9, -1e9, np.nan]), np.int16, fill=np.nan)
    assert found.tolist() == [1, -1, 3, 32767, -32768, 0]


@pytest.mark.parametrize("new", [(4, 5, 7), (9, 10, 14), (3, 3, 3)])
def test_resampling_against_sums_written_out(new: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(2)
    values = rng.normal(size=210)
    expected = values.reshape(SHAPE)
    for axis, (size, count) in enumerate(zip(SHAPE, new, strict=True)):
        expected = np.apply_along_axis(slow_line, axis, expected, size, count)
    found = resample(values[:, None], SHAPE, new).reshape(new)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_allclose(found, expected, atol=1e-10)
    assert np.isnan(found[0]).all() == (new[0] > SHAPE[0]), "finer grids lose their outermost layers"


def slow_line(line: np.ndarray, size: int, count: int) -> np.ndarray:
    if count < size:
        spectrum = np.fft.fft(line)
        for k in range(size):
            f = min(k, size - k)
            spectrum[k] *= 1 / np.sqrt(1 + (f / (count / 2)) ** 20)
        line = np.fft.ifft(spectrum).real
    out = []
    for k in range(count):
        c = 0.5 + size / (2 * count) + k * size / count
        if not 1 <= c <= size:
            out.append(np.nan)
            continue
        total = 0.0
        for tap in range(int(np.floor(c)) - 1, int(np.floor(c)) + 3):
            d = abs(c - tap)
            weight = 1 - 2.5 * d**2 + 1.5 * d**3 if d <= 1 else 2 - 4 * d + 2.5 * d**2 - 0.5 * d**3
            total += weight * line[min(max(tap, 1), size) - 1] if d < 2 else 0
        out.append(total)
    return np.array(out)


@pytest.mark.parametrize(("low", "high", "first"), [
    # subjects 1 to 3 of the table in NSD's own preprocessing: x1 of i = 1, y1 of j = 1, z1 of k = Z8
    ((81, 104, 83), (145, 186, 148), (1.0, 0.6, 148.6)),
    ((82, 106, 84), (146, 190, 150), (0.2, 1.0, 150.4)),
    ((81, 106, 82), (145, 190, 146), (1.0, 1.0, 146.8)),
])  # fmt: skip
def test_the_functional_grids_share_one_voxel(
    low: tuple[int, int, int], high: tuple[int, int, int], first: tuple[float, ...]
) -> None:
    x, y, z = functional_offset(low, high, to_low=True)
    np.testing.assert_allclose((x[0], y[0], z[-1]), first, atol=1e-9)
    assert (x[-1], y[-1], z[0]) == (high[0], high[1], 1)
    for there, back in zip((x, y, z), functional_offset(low, high, to_low=False), strict=True):
        np.testing.assert_allclose(np.interp(there, np.arange(1, len(back) + 1), back)[1:-1],
                                   np.arange(1, len(there) + 1)[1:-1], atol=1e-9)  # fmt: skip


# --------------------------------------------------------------------------------------------------------- bad input


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    transforms = tmp_path / "nsddata/ppdata/subj01/transforms"
    transforms.mkdir(parents=True)
    ramps = own_indices(SHAPE).reshape(*SHAPE, 3).astype(np.float32)
    nib.save(nib.Nifti1Image(ramps, np.eye(4)), transforms / "func1pt8-to-anat1pt0.nii.gz")
    nib.save(nib.Nifti1Image(ramps, np.eye(4)), transforms / "anat1pt0-to-func1pt8.nii.gz")
    vertices = np.ones((9, 1, 1), np.float32) * 12
    nib.save(nib.freesurfer.MGHImage(vertices, np.eye(4)), transforms / "lh.white-to-fsaverage.mgz")
    nib.save(nib.freesurfer.MGHImage(vertices, np.eye(4)), transforms / "rh.white-to-fsaverage.mgz")
    nib.save(nib.freesurfer.MGHImage(vertices, np.eye(4)), transforms / "lh.fsaverage-to-white.mgz")
    nib.save(nib.freesurfer.MGHImage(vertices, np.eye(4)), transforms / "rh.fsaverage-to-white.mgz")
    return tmp_path


@pytest.mark.parametrize(("arguments", "error", "says"), [
    (("func1pt8mm", "fsavrage"), SelectionError, "unknown space 'fsavrage'.*did you mean 'fsaverage'"),
    (("fsaverage", "func1pt8mm"), SelectionError, "no way from fsaverage to func1pt8mm; available from .*: anat"),
    (("func1pt8mm", "MNI"), MissingDataError, "func1pt8-to-MNI.nii.gz: no such file"),
    (("nativesurface", "fsaverage"), SourceError, "vertices from 12 to 12 where the surface has 1 to 9"),
])  # fmt: skip
def test_one_line_for(folder: Path, arguments: tuple[str, str], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says) as caught:
        open_map(open_source(folder), "subj01", *arguments)
    assert "\n" not in str(caught.value)


def test_one_line_for_another_grid_layer_method_or_size(folder: Path) -> None:
    source = open_source(folder)
    with pytest.raises(SourceError, match="func1pt8mm of subj01: 6 x 5 x 8 where its transforms have 6 x 5 x 7"):
        open_map(source, "subj01", "func1pt8mm", "anat1pt0", shape=(6, 5, 8))
    with pytest.raises(SelectionError, match="unknown layer 'layerB4'"):
        open_map(source, "subj01", "func1pt8mm", "fsaverage", layers="layerB4")
    with pytest.raises(SelectionError, match="unknown method 'spline'"):
        open_map(source, "subj01", "func1pt8mm", "anat1pt0", method="spline")
    mapping = open_map(source, "subj01", "func1pt8mm", "anat1pt0")
    with pytest.raises(SourceError, match="209 values where func1pt8mm of subj01 has 210"):
        mapping(np.zeros(209))
    one = nib.Nifti1Image(np.zeros(SHAPE, np.float32), np.eye(4))
    nib.save(one, folder / "nsddata/ppdata/subj01/transforms/func1pt8-to-MNI.nii.gz")
    with pytest.raises(SourceError, match="1 values per target where a transform has 3"):
        open_map(source, "subj01", "func1pt8mm", "MNI")


def write_vertices(folder: Path, name: str, values: np.ndarray) -> None:
    path = folder / f"nsddata/ppdata/subj01/transforms/{name}.mgz"
    nib.save(nib.freesurfer.MGHImage(values.astype(np.float32), np.eye(4)), path)


@pytest.fixture
def layered(folder: Path) -> Path:
    """Three layers of 9 + 8 vertices, in the middle of the volume."""
    for layer in ("layerB1", "layerB2", "layerB3"):
        for half, count in (("lh", 9), ("rh", 8)):
            write_vertices(folder, f"{half}.func1pt8-to-{layer}", np.full((count, 1, 1, 3), 3.0))
    return folder


@pytest.mark.parametrize(("name", "count", "says"), [
    ("rh.func1pt8-to-layerB2", 7, r"\?h.func1pt8-to-layerB2.mgz: 9 \+ 7 vertices where layerB1 has 9 \+ 8; take both"),
    ("lh.func1pt8-to-layerB3", 8, r"layerB3.mgz: 8 \+ 8 vertices where layerB1 has 9 \+ 8"),
])  # fmt: skip
def test_one_line_for_a_layer_of_another_subject_or_hemisphere(layered: Path, name: str, count: int, says: str) -> None:
    assert open_map(open_source(layered), "subj01", "func1pt8mm", "nativesurface").target_shape == (9, 8)
    write_vertices(layered, name, np.full((count, 1, 1, 3), 3.0))
    with pytest.raises(SourceError, match=says) as caught:
        open_map(open_source(layered), "subj01", "func1pt8mm", "nativesurface")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("keep", "says"), [(0.6, "truncated"), (0.02, "func1pt8-to-layerB1.mgz: ")])
def test_one_line_for_a_transform_that_is_cut_off(layered: Path, keep: float, says: str) -> None:
    path = layered / "nsddata/ppdata/subj01/transforms/rh.func1pt8-to-layerB1.mgz"
    rng = np.random.default_rng(0)
    write_vertices(layered, path.name.removesuffix(".mgz"), rng.uniform(1, 5, (4000, 1, 1, 3)))
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(SourceError, match=says) as caught:
        open_map(open_source(layered), "subj01", "func1pt8mm", "layerB1")
    assert "\n" not in str(caught.value)


def test_coordinates_that_are_no_numbers_are_missing_data(layered: Path) -> None:
    places = np.full((9, 1, 1, 3), 3.0)
    places[2, 0, 0, 1], places[4], places[6, 0, 0, 2] = np.nan, np.inf, -np.inf
    write_vertices(layered, "lh.func1pt8-to-layerB2", places)
    found = open_map(open_source(layered), "subj01", "func1pt8mm", "layerB2", method="linear")(np.ones(210))
    assert np.flatnonzero(np.isnan(found)).tolist() == [2, 4, 6]


@pytest.mark.parametrize("labels", [np.full(210, np.nan), np.linspace(0, 1, 210), np.full(210, np.inf)])
def test_one_line_for_values_that_are_no_labels(layered: Path, labels: np.ndarray) -> None:
    mapping = open_map(open_source(layered), "subj01", "func1pt8mm", "layerB2", method="wta")
    with pytest.raises(SelectionError, match="'wta' is for labels, which are whole numbers; write 'linear'"):
        mapping(labels)


def test_the_ways_there_are() -> None:
    assert targets_of("fsaverage") == ("anat0pt5", "anat0pt8", "anat1pt0", "nativesurface")
    assert "fsaverage" in targets_of("MNI")
    assert "func1mm" in targets_of("func1pt8mm")
