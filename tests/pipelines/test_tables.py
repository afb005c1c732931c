"""The paper's tables from runs, and the sequence of all pipelines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from distributed import Client

import nsdflow
from nsdflow.errors import MissingDataError

TRAIN: Mapping[str, Any] = {"threads": 1, "bootstrap": 2, "train": {"epochs": 1, "batch_size": 40}}
GNET: Mapping[str, Any] = {**TRAIN, "prefilter": "gabor", "width": 4}


def test_tables_of_what_is_there(small_store: str, tmp_path: Path, threads_client: Client) -> None:
    where = {"store": small_store, "runs": str(tmp_path), "client": threads_client}
    with pytest.raises(MissingDataError, match="is a finished run; do nsdflow run first"):
        nsdflow.run("tables", **where)
    gnet = nsdflow.run("gnet8r", **where, **GNET)
    transfer = nsdflow.run("transfer", **where, **TRAIN)
    tables = nsdflow.run("tables", **where)
    subject = gnet["subj02"].to_dataset()
    v2 = np.isin(subject["roi"], nsdflow.names.ROI_GROUPS["V2"])
    percent = tables["accuracy"]["explained_variance"].sel(subject="subj02", roi="V2")
    np.testing.assert_allclose(
        percent.sel(column="GNet8r-fpf"), 100 * (subject["accuracy"].values[v2].astype(float) ** 2).mean(), rtol=1e-5
    )
    assert np.isnan(percent.sel(column="GNet8j-fpf"))
    alpha = transfer["transfer"]["alpha"].sel(subject="all")
    np.testing.assert_allclose(tables["transfer"]["mean"].sel(set="Experimental", subject="all"), alpha)
    frame = pd.read_csv(tmp_path / "tables" / "accuracy.csv")
    assert list(frame.columns[:3]) == ["subj", "ROI", "noise ceiling"]
    row = frame[(frame["subj"] == 2) & (frame["ROI"] == "V2")]
    np.testing.assert_allclose(row["GNet8r-fpf"], percent.sel(column="GNet8r-fpf"))
    assert {"accuracy.csv", "explainable.csv", "transfer.csv"} <= {
        path.name for path in (tmp_path / "tables").iterdir()
    }


def test_the_paper_is_planned_in_the_order_of_its_inputs(small_store: str, tmp_path: Path) -> None:
    plan = nsdflow.plan("paper", store=small_store, runs=str(tmp_path / "runs")).describe()
    titles = [
        "gnet8j: train",
        "gnet8r: train",
        "transfer: transfer",
        "predict: predict",
        "tuning: tuning",
        "tables: the",
    ]
    places = [plan.index(title) for title in titles]
    assert places == sorted(places)
    assert not (tmp_path / "runs").exists()
