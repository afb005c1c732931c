"""The commands of the page on generalisation, on a small NSD: a model, its evaluation, the page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from distributed import Client

import nsdflow
from nsdflow.errors import NsdflowError
from nsdflow.pipelines.predict.predictors import load_predictor
from nsdflow.report import write_report
from nsdflow.runs.folder import RunFolder
from nsdflow.store import Store


@pytest.mark.usefixtures("blank_pictures")
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


LAMBDAS = {"lambda_min": 1e-2, "lambda_max": 1e3, "lambdas": 3, "bootstrap": 0, "rois": ["V1"]}


def test_a_ridge_is_evaluated_as_its_model_predicts(store: Store, threads_client: Client, tmp_path: Path) -> None:
    """A ridge run is evaluated with the network of its features; accuracies agree with those of the loaded model."""
    where = {"store": store.url, "runs": str(tmp_path), "client": threads_client}
    nsdflow.run("features", **where, features="gabor_low", layers=None, spatial="grid(2)", images_per_task=200)
    nsdflow.run("ridge", **where, features="features", layers=["12.7 cycles/image"], weights=True, **LAMBDAS)
    tree = nsdflow.run("evaluate", **where, model="ridge", experiments=["synthetic"], threads=1)
    scores = tree["subj01"].to_dataset().load()
    assert set(np.unique(scores["experiment"])) == {"main", "synthetic"}
    images = store.images(subject=1, experiment="synthetic").compute()
    predictor = load_predictor(RunFolder(str(tmp_path / "ridge")), "subj01")
    predicted = predictor.predict(torch.from_numpy(images.values), batch_size=50)
    measured = store.responses(1, roi="V1", experiment="synthetic", where="image_class == 'noise'").compute()
    means = measured.groupby("condition").mean()
    shown = predicted[[images["target"].values.tolist().index(one) for one in means["condition"].values]]
    order = [measured["flat_index"].values.tolist().index(one) for one in scores["flat_index"].values]
    found = scores["class_accuracy"].sel(image_class="noise").values
    expected = [np.corrcoef(shown[:, v], means.values[:, order[v]])[0, 1] for v in range(len(order))]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_one_line_for_a_ridge_on_features_without_other_images(
    store: Store, threads_client: Client, tmp_path: Path
) -> None:
    where = {"store": store.url, "runs": str(tmp_path), "client": threads_client}
    ids = np.unique(store.trials(1)["nsd_id"])
    np.savez(tmp_path / "mine.npz", nsd_id=ids, features=np.random.default_rng(0).normal(size=(len(ids), 5)))
    nsdflow.run("ridge", **where, features=str(tmp_path / "mine.npz"), **LAMBDAS)
    with pytest.raises(NsdflowError, match="features come from a file, with a row per image of NSD") as raised:
        nsdflow.run("evaluate", **where, model="ridge", experiments=["synthetic"], threads=1)
    assert "\n" not in str(raised.value)
