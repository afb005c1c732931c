"""Ridge as a pipeline: the numbers of scikit-learn on single trials for any division into tasks; a planted layer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from distributed import Client
from torch import nn

import nsdflow
from nsdflow.errors import NsdflowError, RunError
from nsdflow.fit.ridge import LambdaSelection, RidgeProblem, fit
from nsdflow.fit.split import image_holdout
from nsdflow.fit.zscoring import zscore_on
from nsdflow.pipelines.ridge import tasks
from nsdflow.pipelines.ridge.weights import open_weights

LAMBDAS = np.geomspace(1e1, 1e5, 5)
SMALL: dict[str, Any] = {"lambda_min": 1e1, "lambda_max": 1e5, "lambdas": 5, "bootstrap": 4, "rois": ["V1", "V2"]}


@pytest.fixture(scope="module")
def features(small_store: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with two feature spaces of all shown images: one with more, one with fewer features than images."""
    store = nsdflow.open_store(small_store)
    ids = np.unique(np.concatenate([store.trials(subject)["nsd_id"].values for subject in store.subjects]))
    images = store.images(ids).values
    pixels = images[:, :, ::8, ::8].reshape(len(ids), -1).astype(np.float32)
    path = tmp_path_factory.mktemp("features") / "pixels.npz"
    np.savez(
        path, nsd_id=ids, pixels=pixels, grey=images.mean(1)[:, ::60, ::60].reshape(len(ids), -1).astype(np.float32)
    )
    return path


def own() -> nn.Module:
    """A network of two convolutions."""
    return nn.Sequential(nn.Conv2d(3, 6, 7, stride=4), nn.Tanh(), nn.Conv2d(6, 8, 3), nn.Tanh())


def run(store: str, runs: Path, client: Client, features: Path, **settings: Any) -> xr.DataTree:
    where = {"store": store, "runs": str(runs), "client": client}
    return nsdflow.run("ridge", features=str(features), subjects=[2], **where, **(SMALL | settings))


def test_numbers_of_scikit_learn_on_trials(
    small_store: str, tmp_path: Path, threads_client: Client, features: Path
) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    results = run(small_store, tmp_path, threads_client, features, weights=True)["subj02"].to_dataset()
    store = nsdflow.open_store(small_store)
    lazy = store.responses("subj02", roi=["V1", "V2"], zscore=False).compute()
    shared, ids = lazy["shared"].values.astype(bool), lazy["nsd_id"].values
    held = image_holdout(ids[~shared], 0.1)
    fitted_on = ~shared
    fitted_on[~shared] = ~held
    responses = zscore_on(lazy.values, lazy["session"].values, fitted_on)
    with np.load(features) as file:
        order = np.searchsorted(file["nsd_id"], ids)
        spaces = {name: file[name][order].astype(np.float64) for name in ("pixels", "grey")}
    for number, (layer, X) in enumerate(spaces.items()):
        std = X[~shared].std(0)
        Z = (X - X[~shared].mean(0)) / np.where(std > 0, std, 1)
        loss, accuracy, weights = [], [], []
        for strength in LAMBDAS:
            chosen = linear_model.Ridge(strength).fit(Z[~shared][~held], responses[~shared][~held])
            loss.append(((responses[~shared][held] - chosen.predict(Z[~shared][held])) ** 2).mean(0))
            final = linear_model.Ridge(strength).fit(Z[~shared], responses[~shared])
            predicted = final.predict(Z[shared])
            weights.append(final.coef_)
            accuracy.append([np.corrcoef(p, y)[0, 1] for p, y in zip(predicted.T, responses[shared].T, strict=True)])
        best = np.argmin(loss, axis=0)
        voxels = np.arange(len(best))
        np.testing.assert_allclose(results["layer_lambda"][number], LAMBDAS[best], rtol=1e-5)
        np.testing.assert_allclose(results["layer_holdout_loss"][number], np.array(loss)[best, voxels], rtol=2e-3)
        np.testing.assert_allclose(results["layer_accuracy"][number], np.array(accuracy)[best, voxels], atol=2e-3)
        written = open_weights(f"{tmp_path}/ridge", "subj02", layer)
        np.testing.assert_array_equal(written["flat_index"], results["flat_index"])
        np.testing.assert_allclose(written * np.where(std > 0, std, 1), np.array(weights)[best, voxels], atol=1e-3)
    better = results["layer_holdout_loss"].argmin("layer")
    assert (results["best_layer"] == results["layer"][better]).all()
    np.testing.assert_array_equal(results["accuracy"], results["layer_accuracy"].isel(layer=better))
    assert {"accuracy_std", "noise_ceiling", "lambda"} <= set(results.data_vars)


@pytest.mark.parametrize("settings", [{"lambda_by": "loo"}, {"lambda_by": "gcv"}, {"lambda_by": "kfold", "folds": 3}])
def test_blocks_of_voxels_change_no_lambda(
    small_store: str, tmp_path: Path, threads_client: Client, features: Path, settings: dict[str, Any]
) -> None:
    whole = run(small_store, tmp_path, threads_client, features, **settings)["subj02"].to_dataset()
    sizes = {"voxels_per_task": 10, "voxels_at_once": 3, "features_at_once": 50, "name": "parts"}
    parts = run(small_store, tmp_path, threads_client, features, **settings, **sizes)["subj02"].to_dataset()
    xr.testing.assert_equal(whole["layer_lambda"], parts["layer_lambda"])
    np.testing.assert_allclose(whole["accuracy"], parts["accuracy"], atol=1e-4)


def test_one_lambda_still_chooses_layers(
    small_store: str, tmp_path: Path, threads_client: Client, features: Path
) -> None:
    one = {"lambdas": 1, "lambda_min": 1e3, "lambda_max": 1e3, "bootstrap": 0}
    found = run(small_store, tmp_path, threads_client, features, **one)["subj02"].to_dataset()
    assert (found["layer_holdout_loss"] > 0).all()
    assert len(set(found["best_layer"].values.tolist())) == 2


def test_the_published_protocol_holds_out_the_last_trials(
    small_store: str, tmp_path: Path, threads_client: Client, features: Path
) -> None:
    tree = run(small_store, tmp_path, threads_client, features, protocol="published", layers=["pixels"])
    assert np.isfinite(tree["subj02"]["accuracy"]).all()
    assert list(tree["subj02"]["layer"].values) == ["pixels"]


def test_trials_of_an_image_can_be_averaged(
    small_store: str, tmp_path: Path, threads_client: Client, features: Path
) -> None:
    """One row per image, in the order of the subject's list, in the fit, the holdout and the validation."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    settings = {"protocol": "published", "combine_trial": True, "layers": ["grey"], "bootstrap": 0}
    results = run(small_store, tmp_path, threads_client, features, **settings)["subj02"].to_dataset()
    lazy = nsdflow.open_store(small_store).responses("subj02", roi=["V1", "V2"]).compute()
    place = lazy["subject_image"].values
    rows = [np.flatnonzero(place == image) for image in np.unique(place)]
    means = np.stack([lazy.values[trials].mean(0) for trials in rows])
    ids, shared = (lazy[name].values[[trials[0] for trials in rows]] for name in ("nsd_id", "shared"))
    shared, counts = shared.astype(bool), np.array([len(trials) for trials in rows])
    train, held = np.flatnonzero(~shared), np.zeros((~shared).sum(), bool)
    held[-int(np.ceil(0.1 * len(train))) :] = True
    with np.load(features) as file:
        X = file["grey"][np.searchsorted(file["nsd_id"], ids)].astype(np.float64)
    std = X[train].std(0)
    Z = (X - X[train].mean(0)) / np.where(std > 0, std, 1)
    loss, accuracy = [], []
    for strength in LAMBDAS:
        chosen = linear_model.Ridge(strength).fit(Z[train[~held]], means[train[~held]])
        loss.append(((means[train[held]] - chosen.predict(Z[train[held]])) ** 2).mean(0))
        predicted = linear_model.Ridge(strength).fit(Z[train], means[train]).predict(Z[shared])
        accuracy.append([np.corrcoef(p, y)[0, 1] for p, y in zip(predicted.T, means[shared].T, strict=True)])
    best = np.argmin(loss, axis=0)
    np.testing.assert_allclose(results["lambda"], LAMBDAS[best], rtol=1e-5)
    np.testing.assert_allclose(results["accuracy"], np.array(accuracy)[best, np.arange(len(best))], atol=2e-3)
    ncsnr = results["ncsnr"].values.astype(np.float64)
    ceiling = np.sqrt(ncsnr**2 / (ncsnr**2 + (1 / counts[shared]).mean()))
    np.testing.assert_allclose(results["noise_ceiling"], ceiling, rtol=1e-5)


def test_an_interrupted_run_does_not_mix_features(
    small_store: str, tmp_path: Path, threads_client: Client, features: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file has other values when the run goes on."""
    with np.load(features) as file:
        ids, grey = file["nsd_id"], file["grey"]
    np.savez(tmp_path / "mine.npz", nsd_id=ids, grey=grey)
    sizes, calls, plain = {"voxels_per_task": 16, "bootstrap": 0}, [], tasks.read_block

    def counted(*arguments: Any) -> Any:
        calls.append(arguments[-1])
        if len(calls) == 2:
            raise KeyError("pulled the plug")
        return plain(*arguments)

    monkeypatch.setattr(tasks, "read_block", counted)
    with pytest.raises(RunError, match="pulled the plug"):
        run(small_store, tmp_path / "a", threads_client, tmp_path / "mine.npz", **sizes)
    np.savez(tmp_path / "mine.npz", nsd_id=ids, grey=grey[::-1])
    again, fresh = (
        run(small_store, tmp_path / name, threads_client, tmp_path / "mine.npz", **sizes)["subj02"].to_dataset()
        for name in ("a", "b")
    )
    xr.testing.assert_identical(again.drop_attrs(), fresh.drop_attrs())


def test_names_that_differ_in_a_sign_are_two_layers(
    small_store: str, tmp_path: Path, threads_client: Client, features: Path
) -> None:
    """Files of a layer are named after it."""
    with np.load(features) as file:
        np.savez(
            tmp_path / "signs.npz", **{"nsd_id": file["nsd_id"], "a b": file["grey"], "a_b": -2 * file["grey"][::-1]}
        )
    found = run(small_store, tmp_path, threads_client, tmp_path / "signs.npz", bootstrap=0)["subj02"].to_dataset()
    assert (found["layer_accuracy"].sel(layer="a b") != found["layer_accuracy"].sel(layer="a_b")).any()


def test_a_plan_that_cannot_fit_says_what_would(small_store: str, tmp_path: Path, features: Path) -> None:
    plan = nsdflow.plan("ridge", features=str(features), store=small_store, runs=str(tmp_path), **SMALL)
    assert "dual and primal form" in str(plan.describe())
    needed = max(task.memory for task in plan.tasks)
    with pytest.raises(NsdflowError, match=r"; set .*, which needs") as refused:
        plan.validate(needed - 1)
    changes = re.search(r"; set (.*), which needs", str(refused.value))
    assert changes is not None
    fitting = dict(one.split("=") for one in changes[1].split())
    nsdflow.plan(
        "ridge", features=str(features), store=small_store, runs=str(tmp_path), **SMALL,
        **{name: int(value) if value.isdigit() else value for name, value in fitting.items()},
    ).validate(needed - 1)  # fmt: skip
    with pytest.raises(NsdflowError, match=r"with precision=float32.* it still needs"):
        plan.validate(1 << 20)
    with pytest.raises(NsdflowError, match=r"no such run|no such file"):
        nsdflow.plan("ridge", features="nowhere", store=small_store, runs=str(tmp_path))


def test_a_planted_layer_and_its_weights_are_found() -> None:
    """Responses are linear in one layer of a random network: that layer is selected, and its weights are recovered."""
    from nsdflow.models.networks import open_network
    from nsdflow.models.networks.reduce import reduce_output

    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (400, 3, 63, 63), dtype=torch.uint8, generator=generator)
    network = open_network(f"{__name__}:own", "random")
    with torch.inference_mode():
        spaces = [reduce_output(output, "grid(3)", "keep") for output in network.outputs(images)]
    spaces = [(space - space.mean(0)) / space.std(0) for space in spaces]
    for planted in (0, 1):
        weights = torch.randn(spaces[planted].shape[1], 6, generator=generator)
        signal = spaces[planted] @ weights
        Y = signal + 0.3 * signal.std() * torch.randn(signal.shape, generator=generator)
        problem = RidgeProblem(tuple(np.geomspace(1e-2, 1e4, 13).tolist()), LambdaSelection("kfold"), standardise=False)
        fits = [fit(space, Y, problem) for space in spaces]
        losses = torch.stack([one.loss.min(0).values for one in fits])
        assert (losses.argmin(0) == planted).all()
        found, _ = fits[planted].weights(spaces[planted])
        for voxel in range(6):
            assert np.corrcoef(found[:, voxel], weights[:, voxel])[0, 1] > 0.7


@pytest.mark.usefixtures("blank_pictures")
def test_the_page_and_the_card_of_a_run(
    small_store: str, tmp_path: Path, threads_client: Client, features: Path
) -> None:
    from nsdflow.report import write_report

    run(small_store, tmp_path, threads_client, features)
    page = Path(write_report(tmp_path / "ridge")).read_text()
    assert "Accuracy by layer" in page
    assert "Lambdas at the ends of the grid" in page
    card = (tmp_path / "ridge" / "README.md").read_text()
    assert "| subj02 |" in card
    assert "protocol `strict`" in card
    assert "NSD terms" in card


def test_a_planted_category_is_found_by_its_weight(
    small_store: str, tmp_path: Path, threads_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Annotations of the store are features; without them, an error says how to ingest them."""
    with pytest.raises(NsdflowError, match="ingest again with --annotations"):
        nsdflow.plan("ridge", features="annotations", store=small_store, runs=str(tmp_path))
    ids = nsdflow.open_store(small_store).images()["nsd_id"].values
    shown = np.random.default_rng(0).random((len(ids), 3)) < 0.4
    table = xr.Dataset(
        {"instances": (("image", "category"), shown.astype(np.uint16)),
         "area": (("image", "category"), shown.astype(np.float32))},
        coords={"nsd_id": ("image", ids), "category": np.array(["cat", "dog", "oven"], object)},
    )  # fmt: skip
    monkeypatch.setattr("nsdflow.store.Store.annotations", lambda _: table)
    place = {int(image): row for row, image in enumerate(ids)}
    plain = tasks.read_block

    def planted(config: Any, store: Any, subject: str, design: Any, voxels: slice) -> Any:
        """Responses that rise by 1 for a dog."""
        block = plain(config, store, subject, design, voxels)
        block.Y[:] = torch.tensor(
            [float(shown[place[int(design.images[image])], 1]) for image in design.observations.image]
        )[:, None]
        return block

    monkeypatch.setattr(tasks, "read_block", planted)
    where = {"store": small_store, "runs": str(tmp_path), "client": threads_client}
    settings = SMALL | {"features": "annotations", "layers": ["categories"], "weights": True, "subjects": [2]}
    tree = nsdflow.run("ridge", **where, **settings)
    assert list(tree["subj02"]["layer"].values) == ["categories"]
    weights = open_weights(str(tmp_path / "ridge"), "subj02", "categories")
    assert weights["label"].values.tolist() == ["cat", "dog", "oven"]
    assert (abs(weights.isel(feature=1) - 1) < 0.2).all()
    assert (abs(weights.isel(feature=[0, 2])) < 0.1).all()
    with pytest.raises(NsdflowError, match="no weights of subj02 on area"):
        open_weights(str(tmp_path / "ridge"), "subj02", "area")
