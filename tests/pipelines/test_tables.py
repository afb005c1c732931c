"""The paper's tables from runs, and the sequence of all pipelines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from distributed import Client

import nsdflow
from nsdflow.errors import MissingDataError
from tests.report.conftest import KINDS, write_run


def test_tables_of_what_is_there(small_store: str, tmp_path: Path, threads_client: Client) -> None:
    """From results as GNet8r and its transfer write them; ``test_paper.py`` has the runs themselves."""
    where = {"store": small_store, "runs": str(tmp_path), "client": threads_client}
    with pytest.raises(MissingDataError, match="is a finished run; do nsdflow run first"):
        nsdflow.run("tables", **where)
    gnet, transfer = (
        nsdflow.open_run(write_run(tmp_path / name, kind, KINDS[kind]()))
        for name, kind in (("gnet8r", "gnet"), ("transfer", "transfer"))
    )
    tables = nsdflow.run("tables", **where)
    subject = gnet["subj02"].to_dataset()
    v2 = np.isin(subject["roi"], nsdflow.names.ROI_GROUPS["V2"])
    percent = tables["accuracy"]["explained_variance"].sel(subject="subj02", roi="V2")
    np.testing.assert_allclose(
        percent.sel(column="GNet8r-fpf"), 100 * (subject["accuracy"].values[v2].astype(float) ** 2).mean(), rtol=1e-5
    )
    assert np.isnan(percent.sel(column="GNet8j-fpf"))
    alpha = transfer["transfer"]["alpha"].sel(subject="all")
    assert np.isfinite(alpha)
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
