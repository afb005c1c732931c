"""The published fwRF: the same candidate and lambda for every voxel, the same losses and predictions."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from nsdflow.fit.fwrf import FwrfResult, FwrfSettings, fit, predict
from nsdflow.fit.fwrf.features import MapFeatures
from nsdflow.fit.ridge import Form

GOLDEN = Path(os.environ.get("NSDFLOW_GOLDEN", Path(__file__).parent / "data"))
CASES = sorted(path.stem for path in GOLDEN.glob("fwrf_*.npz"))

Case = tuple[dict[str, np.ndarray], FwrfSettings, MapFeatures, FwrfResult]


@pytest.fixture(scope="module", params=[(case, form) for case in CASES for form in ("primal", "dual")], ids="-".join)
def case(request: pytest.FixtureRequest) -> Case:
    name, form = request.param
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        published = dict(arrays)
    settings = settings_of(name, published, form)
    keys = sorted((key for key in published if key.startswith("images_features_")), key=lambda key: int(key[16:]))
    maps = [torch.from_numpy(published[key]) for key in keys]
    images, responses = torch.from_numpy(published["order"]), torch.from_numpy(published["betas"])
    holdout = torch.arange(len(images)) >= len(images) - int(published["holdout_size"])
    result = fit(maps, images, responses, holdout, published["candidates"], settings)
    return published, settings, MapFeatures(maps, published["candidates"]), result


def settings_of(name: str, published: dict[str, np.ndarray], form: Form) -> FwrfSettings:
    _, zscore, bias, nonlinearity = name.split("_")
    assert nonlinearity in ("none", "log")
    return FwrfSettings(
        lambdas=tuple(published["lambdas"].tolist()),
        zscore=zscore == "zscore1",
        bias=bias == "bias1",
        nonlinearity=nonlinearity,
        form=form,
    )


def test_there_are_cases() -> None:
    assert CASES


def test_winners(case: Case) -> None:
    published, _, _, result = case
    np.testing.assert_array_equal(result.rf, published["rf"])
    np.testing.assert_array_equal(result.lambda_index, published["best_lambda"])
    np.testing.assert_array_equal(result.lambda_, published["lambdas"][published["best_lambda"]])


def test_losses(case: Case) -> None:
    published, _, _, result = case
    np.testing.assert_allclose(result.holdout_loss, published["best_loss"], rtol=1e-4)


def test_predictions(case: Case) -> None:
    published, _settings, features, result = case
    predictions = predict(result, features).numpy()
    error = np.abs(predictions - published["pred"]).max(axis=0)
    assert (error <= 1e-3 * published["pred"].std(axis=0)).all()


def test_weights_where_the_file_holds_the_voxels_own(case: Case) -> None:
    """On the CPU the published code overwrites the weights of some voxels, which then do not give its predictions."""
    published, _settings, features, result = case
    theirs = FwrfResult(
        **{
            **vars(result),
            "weights": torch.from_numpy(published["weights"]),
            "bias": torch.from_numpy(published.get("bias", np.zeros(len(result.rf), np.float32))),
        }
    )
    given = predict(theirs, features).numpy()
    own = np.abs(given - published["pred"]).max(axis=0) <= 1e-3 * published["pred"].std(axis=0)
    assert own.any()
    scale = np.abs(published["weights"]).max(axis=1, keepdims=True)
    for found, key in ((result.weights, "weights"), (result.bias[:, None], "bias")):
        expected = published.get(key, np.zeros(len(scale))).reshape(len(scale), -1)
        assert (np.abs(found.numpy() - expected) <= 1e-3 * scale)[own].all()
    for key in ("feature_mean", "feature_std"):
        if key in published:
            np.testing.assert_allclose(getattr(result, key)[own], published[key][own], rtol=1e-3, atol=2e-6)
