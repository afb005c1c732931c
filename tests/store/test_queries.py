"""Queries against plain loops over the arrays that a store was made from."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import nsdflow
from nsdflow.config.storage import Layout
from nsdflow.errors import MissingDataError, SelectionError, StoreError
from nsdflow.names import ROI_GROUPS


def percent(recording, flat: np.ndarray) -> np.ndarray:
    """int16 / 300 in float32, as published."""
    return recording.at(flat).astype(np.float32) / 300


def test_percent_signal_change_is_exact(store, recording) -> None:
    responses = store.responses("subj01", zscore=False)
    assert responses.dtype == np.float32
    assert responses.dims == ("trial", "voxel")
    assert responses.attrs["units"] == "percent signal change"
    np.testing.assert_array_equal(responses.values, percent(recording, responses["flat_index"].values))


def test_zscore_is_the_published_one(store, recording, published_zscore) -> None:
    responses = store.responses(1)
    expected = published_zscore(percent(recording, responses["flat_index"].values), len(recording.sessions))
    assert np.isfinite(responses.values).all()
    np.testing.assert_allclose(responses.values, expected, atol=2e-5)


def test_a_voxel_without_data_scores_zero(store, recording) -> None:
    responses = store.responses(1).compute()
    (without,) = np.flatnonzero(responses["flat_index"] == 0)
    constant = np.flatnonzero(responses["flat_index"] == 1)
    assert (responses[:, without] == 0).all()
    assert (responses[: recording.trials, constant] == 0).all()


@given(st.data())
@settings(max_examples=40)
def test_any_selection_is_the_selection_of_all(store, recording, data) -> None:
    """Conditions combine with "and", and equal indexing of the whole array."""
    everything = WHOLE.setdefault(store.url, store.responses(1).compute())
    query = {
        "roi": data.draw(st.sampled_from([None, "V1", "IPS", "other", "V2d", "nsdgeneral", "FFA-1", ["V1", "hV4"]])),
        "ncsnr_min": data.draw(st.sampled_from([None, 0.2, 0.7])),
        "sessions": data.draw(st.sampled_from([None, 2, [1, 4], range(1, 3)])),
        "shared": data.draw(st.sampled_from([None, True, False])),
        "nsd_id": data.draw(st.sampled_from([None, sorted({int(i) for i in recording.nsd_id[3:9]})])),
    }
    voxel, trial = everything.voxel.copy(data=np.ones(everything.sizes["voxel"], bool)), np.ones(len(everything), bool)
    roi, i, j, k = (everything[name].values for name in ("roi", "i", "j", "k"))
    if query["roi"] is not None:
        asked = [query["roi"]] if isinstance(query["roi"], str) else query["roi"]
        in_any = np.zeros(len(roi), bool)
        for name in asked:
            in_any |= {
                "V2d": roi == 4,
                "nsdgeneral": recording.general[i, j, k] > 0,
                "FFA-1": recording.faces[i, j, k] == 2,
            }.get(name, np.isin(roi, ROI_GROUPS.get(name, ())))
        voxel = voxel & in_any
    if query["ncsnr_min"] is not None:
        voxel = voxel & (recording.ncsnr[i, j, k] >= query["ncsnr_min"])
    if query["sessions"] is not None:
        trial &= np.isin(everything["session"], np.atleast_1d(list(np.atleast_1d(query["sessions"]))))
    if query["shared"] is not None:
        trial &= recording.shared == query["shared"]
    rows = np.flatnonzero(trial)
    if query["nsd_id"] is not None:
        rows = np.array([row for image in query["nsd_id"] for row in rows if recording.nsd_id[row] == image], int)
    found = store.responses(1, **query)
    expected = everything.isel(trial=rows, voxel=np.asarray(voxel))
    xr.testing.assert_identical(found.compute(), expected)
    explained = store.explain(1, **query)
    assert explained.shape == expected.shape
    assert explained.result_bytes == expected.nbytes


WHOLE: dict[str, xr.DataArray] = {}


@pytest.mark.parametrize(
    "layout",
    [
        Layout(chunk_voxels=1, shard_voxels=7),
        Layout(chunk_voxels=1000, codec="none"),
        Layout(chunk_voxels=50, shard_voxels=50, codec="zstd"),
        Layout(chunk_voxels=8, file_budget=60, codec="none"),
    ],
    ids=str,
)
def test_the_layout_never_changes_a_value(store, recording, build_store, tmp_path: Path, layout: Layout) -> None:
    other = build_store(tmp_path / "other.zarr", recording, layout=layout.model_copy(update={"file_budget": 5000}))
    for zscore in (True, False):
        query = {"roi": ["V1", "IPS"], "shared": False, "zscore": zscore}
        xr.testing.assert_identical(store.responses(1, **query).compute(), other.responses(1, **query).compute())


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
def test_the_executor_never_changes_a_value(store, scheduler: str) -> None:
    query = store.responses(1, roi="V2", ncsnr_min=0.1)
    with dask.config.set(scheduler="synchronous"):
        expected = query.compute()
    with dask.config.set(scheduler=scheduler, num_workers=2):
        xr.testing.assert_identical(query.compute(), expected)


def test_nothing_is_read_before_computing(build_store, record, tmp_path: Path) -> None:
    store = build_store(tmp_path / "nsd.zarr", record())
    for name in ("betas", "beta_mean", "beta_std"):
        shutil.rmtree(tmp_path / "nsd.zarr" / "subj01" / name / "c")
    lazy = store.responses(1, roi="V1")
    assert str(store.explain(1, roi="V1")).endswith("files")
    with pytest.raises(StoreError, match="the shard is missing"):
        lazy.compute()


def test_explain_names_just_what_is_read(build_store, record, tmp_path: Path) -> None:
    """Shards that explain does not count can be deleted; one that it counts cannot."""
    store = build_store(tmp_path / "nsd.zarr", record(), layout=Layout(chunk_voxels=16, shard_voxels=16))
    query = {"roi": "V1", "sessions": [1, 4], "zscore": False}
    chunk = 15 * 16 * 2
    voxels = np.isin(store.voxels(1)["roi"], (1, 2)).sum()
    columns = -(-voxels // 16)
    explained = store.explain(1, **query)
    assert (explained.chunks, explained.files) == (2 * columns, 2 * columns)
    assert explained.bytes == explained.chunks * chunk
    before = store.responses(1, **query).compute()
    shutil.rmtree(tmp_path / "nsd.zarr/subj01/betas/c/1")
    for path in (tmp_path / "nsd.zarr/subj01/betas/c").glob("*/*"):
        if int(path.name) >= columns:
            path.unlink()
    xr.testing.assert_identical(store.responses(1, **query).compute(), before)


def test_the_graph_is_small_and_holds_no_data(store, recording) -> None:
    responses = store.responses(1)
    assert responses.data.npartitions == 1
    assert len(responses.__dask_graph__()) <= 3


def test_coordinates(store, recording) -> None:
    voxels, trials = store.voxels("subj01"), store.trials("S1")
    flat = voxels["flat_index"].values
    assert set(flat) == set(np.flatnonzero(recording.mask))
    np.testing.assert_array_equal(np.ravel_multi_index([voxels[a] for a in "ijk"], recording.mask.shape), flat)
    for name, volume in {"roi": recording.roi, "prf_visualrois": recording.prf, "ncsnr": recording.ncsnr}.items():
        np.testing.assert_array_equal(voxels[name], volume.ravel()[flat])
    np.testing.assert_array_equal(trials["nsd_id"], recording.nsd_id)
    assert trials["nsd_id"].dtype == np.int64
    assert trials["shared"].dtype == bool
    assert np.isnan(trials["rt"]).sum() == 9
    assert list(trials["session"].values[:: recording.trials]) == list(recording.sessions)
    assert voxels["roi"].attrs["flag_meanings"].split()[2:4] == ["V1v", "V1d"]


def test_images(store, images) -> None:
    lazy = store.images()
    assert lazy.dims == ("image", "channel", "y", "x")
    np.testing.assert_array_equal(lazy.values, images)
    with pytest.raises(SelectionError, match="unknown nsd_id 3; available: 0, 7, 14"):
        store.images(3)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"subject": 2}, "unknown subject '2'; available: subj01"),
        ({"subject": "foo"}, "unknown subject 'foo'; available: subj01"),
        ({"subject": "subj99"}, "unknown subject 'subj99'; available: subj01$"),
        ({"subject": -1}, "unknown subject '-1'; available: subj01"),
        ({"subject": True}, "unknown subject 'True'; available: subj01"),
        ({"subject": 1, "roi": b"V1"}, "unknown ROI "),
        (
            {"subject": 1, "roi": "nsdgenral"},
            r"unknown ROI 'nsdgenral'; nearest: nsdgeneral, .*\(of \d+; store.rois\(subject\) lists them\)",
        ),
        ({"subject": 1, "roi": "v1"}, r"unknown ROI 'v1'; nearest: V1, .*\(of"),
        ({"subject": 1, "roi": "floc-faces:PPA"}, "unknown label of floc_faces 'PPA'; available: .*OFA"),
        ({"subject": 1, "roi": "HCP:V1"}, "unknown atlas 'HCP'; available: .*nsdgeneral"),
        ({"subject": 1, "sessions": 3}, "unknown session 3; available: 1, 2, 4"),
        ({"subject": 1, "nsd_id": [0, 1]}, "unknown nsd_id 1; available: 0, "),
        ({"subject": 1, "voxels": [0, 4000]}, "positions 0 to"),
        ({"subject": 1, "voxels": [True, False]}, r"a mask of shape \(2,\) for \d+ voxels; give one bool per voxel"),
        ({"subject": 1, "voxels": [0.5]}, r"voxels: .*0.5.* is not a position; write whole numbers"),
        ({"subject": 1, "roi": 3}, r"unknown ROI '3'; .*store.rois\(subject\)"),
        ({"subject": 1, "roi": ["V1", None]}, "unknown ROI 'None'; "),
        ({"subject": 1, "voxels": "tight"}, "unknown ROI 'tight'; "),
        ({"subject": 1, "zscore": "train"}, r'zscore=\'train\': .*write "session", "training", True .* or False'),
        ({"subject": 1, "zscore": None}, "zscore=None: unknown value"),
        ({"subject": 1, "zscore": 1}, "zscore=1: unknown value"),
        ({"subject": 1, "shared": "yes"}, "shared='yes': unknown value; write True, False or None"),
        ({"subject": 1, "shared": 1}, "shared=1: unknown value"),
        ({"subject": 1, "ncsnr_min": "high"}, "ncsnr_min='high': unknown value; write a number"),
        ({"subject": 1, "ncsnr_min": True}, "ncsnr_min=True: unknown value"),
        ({"subject": 1, "ncsnr_min": float("nan")}, "ncsnr_min=nan: unknown value"),
        ({"subject": 1, "sessions": "two"}, "session: 'two' is not a whole number"),
        ({"subject": 1, "sessions": True}, "session: True is not a whole number"),
        ({"subject": 1, "sessions": "1"}, "session: '1' is not a whole number; write numbers"),
        ({"subject": 1, "sessions": slice(1, 3)}, r"session: slice\(1, 3, None\) is not a whole number"),
    ],
)
def test_unknown_names_list_what_there_is(store, query: dict, message: str) -> None:
    with pytest.raises(SelectionError, match=message) as error:
        store.responses(**query)
    assert error.value.__suppress_context__ or error.value.__context__ is None
    assert len(str(error.value)) <= 200


def test_voxels_by_position_and_by_set(store, recording) -> None:
    everything = store.responses(1).compute()
    mask = np.arange(everything.sizes["voxel"]) % 7 == 0
    for positions in (slice(5, 40, 3), slice(40, 5, -3), [3, 11, 4, 3], [-1, 2], mask):
        xr.testing.assert_identical(store.responses(1, voxels=positions).compute(), everything[:, positions])
    xr.testing.assert_identical(store.responses(1, voxels={3, 11, 4}).compute(), everything[:, [3, 4, 11]])
    assert store.responses(1, voxels=[]).shape == (45, 0)
    assert store.responses(1, voxels=7).shape == (45, 1)
    listed = store.responses(1, roi="V1", voxels=[30, 1, 30, 200])
    inside = [p for p in (30, 1, 30, 200) if everything["roi"].values[p] in (1, 2)]
    xr.testing.assert_identical(listed.compute(), everything[:, inside])
    assert store.responses(1, voxels="brain").shape == everything.shape, "the set it was ingested with"
    evc = store.responses(1, voxels="evc")
    assert (evc["prf_visualrois"] > 0).all()
    assert evc.sizes["voxel"] == ((recording.prf > 0) & recording.mask).sum()


def test_no_voxel_is_an_empty_array(store) -> None:
    nothing = store.responses(1, ncsnr_min=2).compute()
    assert nothing.shape == (45, 0)
    assert store.explain(1, ncsnr_min=2).chunks == 0


def test_any_xarray_opens_a_store(store, recording) -> None:
    tree = xr.open_datatree(store.url, engine="zarr")
    here = tree["subj01"]
    assert {"session", "nsd_id", "flat_index", "roi", "nsdgeneral"} <= set(here.coords)
    expected = percent(recording, here["flat_index"].values)
    np.testing.assert_allclose(here["betas"], expected, rtol=1e-6)
    raw = xr.open_datatree(store.url, engine="zarr", mask_and_scale=False)["subj01"]["betas"]
    assert raw.dtype == np.int16
    np.testing.assert_array_equal(raw, recording.at(here["flat_index"].values))
    np.testing.assert_array_equal(zarr.open_array(f"{store.url}/subj01/betas", mode="r")[...], raw)


def test_a_store_travels_as_url(store) -> None:
    assert nsdflow.open_store(f"file://{store.url}").subjects == ("subj01",)
    assert "subj01" in repr(store)


def test_opening_what_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="no store there; `nsdflow ingest` makes one"):
        nsdflow.open_store(tmp_path / "nothing")
    (tmp_path / "half.zarr.building").mkdir()
    with pytest.raises(MissingDataError, match="unfinished build"):
        nsdflow.open_store(tmp_path / "half.zarr")
    zarr.create_group(tmp_path / "other.zarr")
    with pytest.raises(StoreError, match="not an nsdflow store"):
        nsdflow.open_store(tmp_path / "other.zarr")
    zarr.create_group(tmp_path / "new.zarr", attributes={"nsdflow_schema": 99, "subjects": []})
    with pytest.raises(StoreError, match="schema 99, newer than the 1"):
        nsdflow.open_store(tmp_path / "new.zarr")
    (tmp_path / "bad.zarr").mkdir()
    (tmp_path / "bad.zarr" / "zarr.json").write_text("{")
    with pytest.raises(StoreError, match="damaged"):
        nsdflow.open_store(tmp_path / "bad.zarr")
    (tmp_path / "bad.zarr" / "zarr.json").write_text("[]")
    with pytest.raises(StoreError, match=r"bad\.zarr/zarr\.json: damaged \(not an object\)"):
        nsdflow.open_store(tmp_path / "bad.zarr")


@given(seed=st.integers(0, 2**16), order=st.randoms(use_true_random=False))
@settings(max_examples=6)
def test_the_order_of_voxels_never_changes_a_value(build_store, record, seed: int, order) -> None:
    """Another atlas, hence another order of voxels: the same value at the same place of the volume."""
    recording = record(seed % 5)
    roi = recording.roi.ravel().tolist()
    order.shuffle(roi)
    shuffled = type(recording)(**{**vars(recording), "roi": np.array(roi, np.int16).reshape(recording.roi.shape)})
    with tempfile.TemporaryDirectory() as folder:
        stores = [build_store(Path(folder) / f"{n}.zarr", r) for n, r in enumerate((recording, shuffled))]
        one, other = (store.responses(1).compute().sortby("flat_index") for store in stores)
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(one["flat_index"], other["flat_index"])
