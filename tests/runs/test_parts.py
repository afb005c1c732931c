"""Parts of a run: one file of labelled arrays each, the same when read, or refused."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from nsdflow.errors import RunError
from nsdflow.runs.parts import open_parts, write_part


def results() -> dict[str, xr.Dataset]:
    """Every kind of value that pipelines keep, and attributes with NumPy's types."""
    subject = xr.Dataset(
        {
            "accuracy": ("voxel", np.array([0.5, np.nan], np.float32), {"long_name": "accuracy"}),
            "weights": (("voxel", "feature"), np.arange(6.0).reshape(2, 3)),
            "count": ((), np.int64(3)),
            "empty": (("voxel", "nothing"), np.empty((2, 0), np.float32)),
        },
        coords={
            "flat_index": ("voxel", [7, 4], {"units": "1"}),
            "roi": ("voxel", ["V1", "hV4"]),
            "inside": ("voxel", [True, False]),
            "feature": ["a", "b", "é"],
        },
        attrs={"shape": np.array([2, 3]), "scale": np.float32(0.5), "name": "subj01", "affine": [[1.0, 0.0]]},
    )
    return {"subj01": subject, "history": xr.Dataset({"loss": ("epoch", [1.0])}, attrs={"best_epoch": 1})}


def test_a_part_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_part(str(tmp_path), "V1", results())
    assert [path.name for path in (tmp_path / "parts" / "V1").iterdir()] == ["results.npz"]
    tree = open_parts(str(tmp_path), ["V1"])["V1"]
    expected = results()
    expected["subj01"].attrs |= {"shape": [2, 3], "scale": 0.5}
    assert set(tree.children) == set(expected)
    for group, dataset in expected.items():
        xr.testing.assert_identical(tree[group].to_dataset(), dataset)
        assert {name: values.dtype for name, values in tree[group].variables.items()} == {
            name: values.dtype for name, values in dataset.variables.items()
        }


@pytest.mark.parametrize("way", ["flip", "truncate", "empty", "compress", "no layout", "foreign"])
def test_a_damaged_part_is_one_line(tmp_path: Path, way: str) -> None:
    write_part(str(tmp_path), "V1", results())
    path = tmp_path / "parts" / "V1" / "results.npz"
    data = path.read_bytes()
    if way == "flip":
        place = data.index(np.arange(6.0).tobytes())
        path.write_bytes(data[:place] + b"\xff" + data[place + 1 :])
    elif way in ("compress", "no layout"):
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files if way == "compress" or name != "layout"}
        (np.savez_compressed if way == "compress" else np.savez)(path, **arrays)
    else:
        path.write_bytes({"truncate": data[: len(data) // 2], "empty": b"", "foreign": os.urandom(100)}[way])
    with pytest.raises(RunError, match=r"results\.npz: damaged \(.*\); restore it, or delete the folder") as caught:
        open_parts(str(tmp_path), ["V1"])
    assert "\n" not in str(caught.value)


def test_texts_that_are_objects_become_texts(tmp_path: Path) -> None:
    """xarray makes objects of texts where it fills gaps or sorts."""
    write_part(str(tmp_path), "V1", {"subj01": xr.Dataset({"roi": ("voxel", np.array(["V1", "hV4"], object))})})
    read = open_parts(str(tmp_path), ["V1"])["V1"]["subj01"]["roi"]
    assert read.dtype == np.dtype("<U3")
    assert read.values.tolist() == ["V1", "hV4"]


def test_the_order_in_memory_is_that_of_c(tmp_path: Path) -> None:
    """The bits of a sum depend on it."""
    values = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    write_part(str(tmp_path), "V1", {"subj01": xr.Dataset({"weights": (("voxel", "feature"), values)})})
    assert open_parts(str(tmp_path), ["V1"])["V1"]["subj01"]["weights"].values.flags.c_contiguous


def test_objects_are_never_written(tmp_path: Path) -> None:
    """They would have to be pickled, and a pickle runs code when it is read."""
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        write_part(str(tmp_path), "V1", {"subj01": xr.Dataset({"text": ("voxel", np.array(["a", None], object))})})
