"""The paper's tables: published headers and rows, figures by plain loops."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from nsdflow.analysis import (
    accuracy_table,
    explainable_table,
    table_frame,
    transfer_asymmetry,
    transfer_matrices,
    transfer_table,
)

HEADERS = json.loads((Path(__file__).parent / "published_headers.json").read_text())
GROUPS = {"V1": (1, 2), "V2": (3, 4), "V3": (5, 6), "hV4": (7,)}
SUBJECTS = ("subj01", "subj02", "subj08")


def results(seed: int) -> xr.DataTree:
    rng = np.random.default_rng(seed)
    tree = {}
    for number, name in enumerate(SUBJECTS):
        voxels = 30 + number
        tree[name] = xr.Dataset(
            {"accuracy": ("voxel", rng.uniform(-0.1, 0.6, voxels).astype(np.float32))},
            coords={
                "roi": ("voxel", np.arange(voxels) % 9),
                "ncsnr": ("voxel", np.where(np.arange(voxels) == 10, 0, np.linspace(0.2, 1, voxels))),
            },
        )
    return xr.DataTree.from_dict(tree)


@pytest.fixture(scope="module")
def models() -> dict[str, xr.DataTree]:
    return {"GNet8j-fpf": results(0), "Alexnet-fwrf": results(1), "GNet8jft-fpf": results(2)}


def test_accuracy_table_is_a_loop_over_voxels(models: dict[str, xr.DataTree]) -> None:
    table = accuracy_table(models)
    frame = table_frame(table)
    assert ",".join(frame.columns) == HEADERS["model_accuracy_summary_source.csv"]
    assert frame["subj"].tolist() == [1] * 4 + [2] * 4 + [8] * 4
    assert frame["ROI"].tolist() == list(GROUPS) * 3
    assert frame["Gabor-fwrf"].isna().all()
    for row in frame.to_dict("records"):
        data = models["GNet8j-fpf"][f"subj0{row['subj']}"].dataset
        inside = [v for v in range(data.sizes["voxel"]) if int(data["roi"][v]) in GROUPS[row["ROI"]]]
        squared = [float(data["accuracy"][v]) ** 2 for v in inside]
        snr = [float(data["ncsnr"][v]) for v in inside]
        assert row["GNet8j-fpf"] == pytest.approx(100 * np.mean(squared), rel=1e-6)
        assert row["noise ceiling"] == pytest.approx(100 * np.mean([s * s / (s * s + 1) for s in snr]))


def test_explainable_table(models: dict[str, xr.DataTree]) -> None:
    frame = table_frame(explainable_table(models))
    assert ",".join(frame.columns) == HEADERS["model_FEV_summary_source.csv"]
    data = models["Alexnet-fwrf"]["subj02"].dataset
    inside = [v for v in range(data.sizes["voxel"]) if int(data["roi"][v]) in (1, 2) and data["ncsnr"][v] > 0]
    ratios = [float(data["accuracy"][v]) ** 2 * (1 + float(data["ncsnr"][v]) ** -2) for v in inside]
    assert len(inside) < int(np.isin(data["roi"], (1, 2)).sum())  # the voxel with no ceiling is left out
    assert frame.set_index(["subj", "ROI"])["Alexnet-fwrf"][2, "V1"] == pytest.approx(100 * np.median(ratios), rel=1e-6)


def test_own_models_and_areas(models: dict[str, xr.DataTree]) -> None:
    table = accuracy_table({"mine": models["GNet8j-fpf"]}, columns=["mine"], areas=["hV4", "VO"])
    assert table["column"].values.tolist() == ["noise ceiling", "mine"]
    assert table["roi"].values.tolist() == ["hV4", "VO"]
    np.testing.assert_allclose(
        table.sel(column="mine", roi="hV4"),
        accuracy_table(models).sel(column="GNet8j-fpf", roi="hV4"),
    )


def test_transfer_table(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    subjects = {
        name: xr.Dataset(
            {
                "accuracy": ("voxel", rng.uniform(0, 0.5, 40)),
                "transfer_accuracy": (("model", "voxel"), rng.uniform(0, 0.5, (4, 40))),
            },
            coords={"roi": ("voxel", np.arange(40) % 7 + 1), "model": list(GROUPS)},
        )
        for name in SUBJECTS
    }
    matrices = transfer_matrices(subjects)
    frame = table_frame(transfer_table({"GNet8r": matrices, "Experimental": -matrices}))
    frame.to_csv(tmp_path / "transfer.csv", index=False)
    again = pd.read_csv(tmp_path / "transfer.csv")
    assert ",".join(again.columns) == HEADERS["transfer_learning_summary_source.csv"]
    assert again["set"].tolist() == ["GNet8r"] * 4 + ["Experimental"] * 4
    assert again["subj"].tolist() == [1, 2, 8, 9] * 2
    expected = transfer_asymmetry(matrices.sel(subject="all"))
    assert again["mean"][3] == pytest.approx(float(expected["alpha"]))
    assert again["std"][3] == pytest.approx(float(expected["alpha_error"]))
    assert again["mean"][7] == pytest.approx(-float(expected["alpha"]))
