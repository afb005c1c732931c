"""``RidgeCV`` among scikit-learn's estimators, and with tensors and labelled arrays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

from nsdflow.fit.ridge import RidgeCV

sklearn = pytest.importorskip("sklearn")
from sklearn.linear_model import Ridge  # noqa: E402
from sklearn.linear_model import RidgeCV as TheirRidgeCV  # noqa: E402
from sklearn.model_selection import GroupKFold, cross_val_score  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import check_estimator  # noqa: E402

LAMBDAS = np.geomspace(0.1, 1e4, 8)


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 25))
    return X, X @ rng.standard_normal((25, 4)) + np.array([0.5, 2, 8, 32]) * rng.standard_normal((60, 4))


@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_takes_it_as_an_estimator() -> None:
    results = check_estimator(RidgeCV(), on_fail=None)
    assert len(results) > 50
    assert [(r["check_name"], r["exception"]) for r in results if r["status"] not in ("passed", "skipped")] == []


def test_lambda_as_scikit_learn_leaves_one_out(data: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = data
    theirs = TheirRidgeCV(LAMBDAS, alpha_per_target=True).fit(X, y)
    ours = RidgeCV(LAMBDAS, cv="loo", precision="float64").fit(X, y)
    np.testing.assert_allclose(ours.lambda_, theirs.alpha_)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-6)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-6)


def test_in_a_pipeline_with_groups(data: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = data
    groups = np.repeat(np.arange(20), 3)
    model = make_pipeline(StandardScaler(), RidgeCV(LAMBDAS, cv=GroupKFold(4)))
    model.fit(X, y, ridgecv__groups=groups)
    scores = [
        sum(
            ((y[test] - Ridge(s).fit(Z[train], y[train]).predict(Z[test])) ** 2).sum(0)
            for train, test in GroupKFold(4).split(Z, y, groups)
        )
        for Z in [StandardScaler().fit_transform(X)]
        for s in LAMBDAS
    ]
    np.testing.assert_allclose(model[-1].lambda_, LAMBDAS[np.argmin(scores, axis=0)])
    assert cross_val_score(RidgeCV(LAMBDAS), X, y[:, 0], cv=GroupKFold(3), groups=groups).mean() > 0.5


def test_tensors_and_labels_stay(data: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = data
    plain = RidgeCV(LAMBDAS).fit(X, y).predict(X)
    tensors = RidgeCV(LAMBDAS).fit(torch.from_numpy(X), torch.from_numpy(y)).predict(torch.from_numpy(X))
    assert isinstance(tensors, torch.Tensor)
    np.testing.assert_allclose(tensors, plain)
    features = xr.DataArray(X, dims=("image", "feature"), coords={"nsd_id": ("image", np.arange(60))})
    responses = xr.DataArray(y, dims=("image", "voxel"), coords={"roi": ("voxel", ["V1", "V1", "V2", "V2"])})
    labelled = RidgeCV(LAMBDAS).fit(features, responses).predict(features[:9])
    assert labelled.dims == ("image", "voxel")
    assert labelled["roi"].values.tolist() == ["V1", "V1", "V2", "V2"]
    assert labelled["nsd_id"].values.tolist() == list(range(9))
    np.testing.assert_allclose(labelled, plain[:9])
    turned = responses.assign_coords(nsd_id=("image", np.arange(60)[::-1]))
    with pytest.raises(ValueError, match="other values of nsd_id"):
        RidgeCV(LAMBDAS).fit(features, turned)
