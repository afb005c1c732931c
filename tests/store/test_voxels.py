"""The order of voxels, and labels as CF flags."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nsdflow.errors import SelectionError
from nsdflow.names import ROI_GROUPS, ROI_LABELS
from nsdflow.nsd.design import BEHAVIOUR
from nsdflow.nsd.experiments import EXPERIMENTS
from nsdflow.nsd.experiments.record import MEANINGS
from nsdflow.nsd.voxels.maps import MAPS
from nsdflow.nsd.voxels.reserved_names import atlas_trouble
from nsdflow.store.query.regions import atlases_of, region_mask
from nsdflow.store.schema import COORDINATES, STATISTICS, STIMULI_GROUP
from nsdflow.store.voxels import flag_attributes, labels_of, morton_code, positions_of, voxel_order, voxel_table

SHAPE = (5, 6, 7)


def stretches(positions: np.ndarray) -> int:
    """Runs of consecutive positions."""
    return 1 + int((np.diff(positions) > 1).sum()) if len(positions) else 0


@given(hnp.arrays(np.int64, (20, 3), elements=st.integers(0, 200)))
def test_morton_code_interleaves_bits(ijk: np.ndarray) -> None:
    for (i, j, k), code in zip(ijk.tolist(), morton_code(ijk).tolist(), strict=True):
        bits = "".join(a + b + c for a, b, c in zip(f"{i:08b}", f"{j:08b}", f"{k:08b}", strict=True))
        assert code == int(bits, 2)


@given(st.permutations(range(0, 60, 3)), st.data())
def test_positions_are_where_the_voxels_are(there: list[int], data) -> None:
    wanted = np.array(data.draw(st.lists(st.sampled_from(there), unique=True)), dtype=np.int64)
    positions = positions_of(wanted, np.array(there), "subj01")
    assert [there[position] for position in positions] == wanted.tolist()
    with pytest.raises(SelectionError, match=r"subj01: 2 of \d+ voxels are not there, the first with flat_index 100;"):
        positions_of(np.append(wanted, [100, 200]), np.array(there), "subj01")


@given(hnp.arrays(np.int16, SHAPE, elements=st.integers(-1, 25)), st.data())
def test_every_group_of_areas_is_one_stretch(roi: np.ndarray, data) -> None:
    mask = data.draw(hnp.arrays(bool, SHAPE))
    general = data.draw(hnp.arrays(bool, SHAPE))
    flat = np.flatnonzero(mask)
    order = voxel_order(flat, SHAPE, roi.ravel()[flat], general.ravel()[flat])
    assert sorted(order) == list(range(len(flat)))
    here = roi.ravel()[flat][order]
    for name, labels in ROI_GROUPS.items():
        if name != "other":
            assert stretches(np.flatnonzero(np.isin(here, labels))) <= 1
    inside = (here > 0) | general.ravel()[flat][order]
    assert stretches(np.flatnonzero(inside)) <= 1, "areas, then the rest of nsdgeneral, then everything else"


def test_a_real_sized_area_is_few_chunks() -> None:
    """V1 of 1,350 voxels in a whole brain: two chunks of 1,024."""
    rng = np.random.default_rng(0)
    shape = (81, 104, 83)
    flat = np.sort(rng.choice(np.prod(shape), 370_503, replace=False))
    roi = np.zeros(len(flat), np.int16)
    roi[rng.choice(len(flat), 12_000, replace=False)] = np.repeat([2, 1, *range(3, 13)], 1000)
    order = voxel_order(flat, shape, roi)
    v1 = np.flatnonzero(np.isin(roi[order], ROI_GROUPS["V1"]))
    assert len(np.unique(v1 // 1024)) == 2


def test_neighbours_in_the_store_are_neighbours_in_space() -> None:
    """A box of 8 x 8 x 8 lies in fewer stretches than it has rows."""
    shape = (32, 32, 32)
    flat = np.arange(np.prod(shape))
    order = voxel_order(flat, shape, np.zeros(len(flat), int))
    i, j, k = np.unravel_index(flat[order], shape)
    box = (i < 8) & (j < 8) & (k < 8)
    assert stretches(np.flatnonzero(box)) == 1


@given(st.dictionaries(st.integers(-1, 200), st.text("abcXYZ-+12", min_size=1, max_size=8), max_size=10))
def test_flags_there_and_back(labels: dict[int, str]) -> None:
    names = {name: tuple(v for v in sorted(labels) if labels[v] == name) for name in labels.values()}
    assert labels_of(flag_attributes(labels)) == names


def test_blanks_in_names() -> None:
    assert labels_of(flag_attributes({3: "a \tb"})) == {"a_b": (3,)}


def test_table_of_a_volume() -> None:
    rng = np.random.default_rng(0)
    roi, faces, ncsnr = rng.integers(-1, 26, SHAPE), rng.integers(-1, 3, SHAPE), rng.random(SHAPE)
    table = voxel_table([7, 3, 200, 9, 9], SHAPE, roi=roi, atlases={"floc-faces": (faces, {1: "OFA"})}, ncsnr=ncsnr)
    assert sorted(table["flat_index"].values) == [3, 7, 9, 200]
    for flat, i, j, k, area, face, snr in zip(
        *(table[name].values for name in ("flat_index", "i", "j", "k", "roi", "floc_faces", "ncsnr")), strict=True
    ):
        assert (roi[i, j, k], faces[i, j, k], ncsnr[i, j, k]) == (area, face, snr)
        assert flat == np.ravel_multi_index((i, j, k), SHAPE)
    assert table["flat_index"].attrs["shape"] == list(SHAPE)
    assert labels_of(table["roi"].attrs)["VO2"] == (9,)
    assert len(labels_of(table["roi"].attrs)) == len(ROI_LABELS) + 2


def test_table_of_a_surface() -> None:
    """Vertices are counted through the left hemisphere first; there is no i, j, k."""
    table = voxel_table(np.arange(9), (4, 5), roi=np.array([0, 1, 0, 0, 0, 1, 0, 3, 0]))
    assert "i" not in table
    assert table["roi"].values[:3].tolist() == [1, 1, 3]
    left = table["flat_index"].values < 4
    np.testing.assert_array_equal(table["hemisphere"], ~left)
    assert labels_of(table["hemisphere"].attrs) == {"lh": (0,), "rh": (1,)}


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_morton_code_of_any_integers(dtype) -> None:
    assert morton_code(np.array([[255, 255, 255]], dtype)).tolist() == [2**24 - 1]


def test_no_name_of_a_store_or_of_results_is_free_for_an_atlas(store) -> None:
    """Every name in a store except those of atlases."""
    names = {*store.responses(1).coords, *store.responses(1).dims, *store.images().coords, *store.images().dims}
    names |= {*COORDINATES, *STATISTICS, *(name.lower() for name, _, _ in BEHAVIOUR), *MAPS}
    names |= {*EXPERIMENTS, STIMULI_GROUP, *MEANINGS}
    atlases = atlases_of(store.voxels(1))
    assert len(names) > 40
    assert {name for name in names if atlas_trouble(str(name)) is None} <= set(atlases)
    assert all(atlas_trouble(name) is None for name in atlases)


def test_labels_of_any_name_are_their_own_voxels() -> None:
    """Also those that differ by case, look like paths or patterns, or have the name of a visual area."""
    names = dict(enumerate(["a:b", "a,b", "é", "..", "x/y", "FFA", "ffa", "*", "-1", "7", "V1", "visual", "[0-9]"], 1))
    values = np.arange(20) % (len(names) + 1)
    voxels = voxel_table(np.arange(20), (20,), roi=np.ones(20, int), atlases={"own": (values, names)})
    for number, name in names.items():
        found = region_mask(voxels, f"own:{name}")
        np.testing.assert_array_equal(found, voxels["own"] == number, err_msg=name)
        if ":" not in name and name not in ("V1", "visual"):
            np.testing.assert_array_equal(region_mask(voxels, name), found, err_msg=name)
