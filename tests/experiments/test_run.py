"""The commands of the page on generalisation, on a small NSD: a model, its evaluation, the page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from distributed import Client

import nsdflow
from nsdflow.report import write_report
from nsdflow.store import Store


def test_a_run_is_evaluated(store: Store, threads_client: Client, tmp_path: Path) -> None:
    where = {"store": store.url, "runs": str(tmp_path), "client": threads_client}
    train = {"epochs": 1, "batch_size": 40}
    nsdflow.run("gnet8j", **where, rois=["V1"], prefilter="gabor", width=4, threads=1, bootstrap=0, train=train)
    tree = nsdflow.run("evaluate", **where, model="gnet8j", experiments=["synthetic"], threads=1)
    scores = tree["subj01"].to_dataset()
    assert set(np.unique(scores["experiment"])) == {"main", "synthetic"}
    assert (scores["roi"] <= 2).all()
    assert np.isfinite(scores["class_accuracy"]).all()
    page = Path(write_report(tmp_path / "evaluate")).read_text()
    assert "Accuracy by class of image" in page
