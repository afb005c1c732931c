"""Ridge by blocks against scipy's normal equations, scikit-learn and himalaya; laws of its blocks and forms."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nsdflow.errors import RunError
from nsdflow.fit.ridge import LambdaSelection, RidgeProblem, fit
from nsdflow.fit.ridge.cholesky import (
    add_products_,
    factor_,
    inverse_diagonal,
    make_tiles,
    solve_,
    symmetric_times,
)
from nsdflow.fit.ridge.products import float32_limit
from nsdflow.fit.ridge.selection import make_folds

LAMBDAS = tuple(float(strength) for strength in np.geomspace(1.0, 1e4, 9))


def planted(
    images: int, features: int, voxels: int = 5, repeats: float = 1.0, noise: float = 20.0, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features (image, feature), image of each trial, responses (trial, voxel) with noise that grows by voxel."""
    generator = torch.Generator().manual_seed(seed)
    X = 3 * torch.randn(images, features, generator=generator, dtype=torch.float64) + 1
    shown = torch.arange(images).repeat(3)[: int(images * repeats)]
    Y = (X @ torch.randn(features, voxels, generator=generator, dtype=torch.float64))[shown]
    scale = torch.logspace(-1, 1, voxels, dtype=torch.float64) * noise
    return X, shown, Y + scale * torch.randn(len(shown), voxels, generator=generator, dtype=torch.float64)


def normal_equations(X: np.ndarray, Y: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights and intercept of trials, standardised with their mean and deviation."""
    mean, std = X.mean(0), X.std(0)
    Z, B = (X - mean) / std, Y - Y.mean(0)
    w = scipy.linalg.solve(Z.T @ Z + strength * np.eye(Z.shape[1]), Z.T @ B) / std[:, None]
    return w, Y.mean(0) - mean @ w


def test_blocked_cholesky_with_rows_left_out() -> None:
    generator = torch.Generator().manual_seed(0)
    Z = torch.randn(70, 90, generator=generator, dtype=torch.float64)
    used = torch.ones(70, dtype=torch.bool)
    used[20:33] = False
    S = torch.zeros(70, 70, dtype=torch.float64)
    add_products_(S, Z, make_tiles(torch.ones(70, dtype=torch.bool), 16))
    K, upper = Z @ Z.T, S.triu(1)
    x = torch.randn(70, generator=generator, dtype=torch.float64)
    everything = make_tiles(torch.ones(70, dtype=torch.bool), 16)
    torch.testing.assert_close(symmetric_times(S, S.diagonal().clone(), x, everything), K @ x)
    S.copy_(S.triu() + S.triu(1).T)
    tiles = make_tiles(used, 16)
    assert len(tiles) == 5
    factor_(S, tiles)
    B = torch.randn(70, 4, generator=generator, dtype=torch.float64)
    A = K[used][:, used]
    torch.testing.assert_close(solve_(S, tiles, B.clone())[used], torch.linalg.solve(A, B[used]))
    torch.testing.assert_close(inverse_diagonal(S, tiles)[used], torch.linalg.inv(A).diagonal())
    torch.testing.assert_close(S.triu(1), upper, rtol=0, atol=0)


@pytest.mark.parametrize(("images", "features"), [(50, 20), (30, 70)])
@pytest.mark.parametrize(("form", "method"), [*product(["primal", "dual"], ["holdout", "kfold", "loo", "gcv"])])
def test_against_the_normal_equations_of_trials(images: int, features: int, form: str, method: str) -> None:
    """Lambda by the plain definition of each method, weights by scipy, all on single trials."""
    X, shown, Y = planted(images, features, repeats=2.4)
    selection = LambdaSelection(method, folds=4)
    found = fit(X, Y, RidgeProblem(LAMBDAS, selection, form=form, precision="float64"), images=shown)
    loss = np.array([expected_loss(X, shown, Y, selection, strength) for strength in LAMBDAS])
    np.testing.assert_allclose(found.loss, loss, rtol=1e-8)
    weights, intercept = found.weights(X)
    for voxel, strength in enumerate(np.asarray(LAMBDAS)[loss.argmin(0)]):
        assert found.lambda_[voxel] == strength
        w, b = normal_equations(X[shown].numpy(), Y.numpy(), strength)
        np.testing.assert_allclose(weights[:, voxel], w[:, voxel], rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(intercept[voxel], b[voxel], rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(found.predict(X[:7] + 1, X), (X[:7] + 1) @ weights + intercept)


def expected_loss(
    X: torch.Tensor, shown: torch.Tensor, Y: torch.Tensor, selection: LambdaSelection, strength: float
) -> np.ndarray:
    """Refits without the held-out images; features are standardised on all trials, as documented."""
    everything = X[shown].numpy()
    Z, B = (everything - everything.mean(0)) / everything.std(0), Y.numpy()
    if selection.method == "gcv":
        C, centred = Z - Z.mean(0), B - B.mean(0)
        hat = C @ scipy.linalg.solve(C.T @ C + strength * np.eye(C.shape[1]), C.T)
        residual = centred - hat @ centred
        return (residual**2).sum(0) / (1 - (np.trace(hat) + 1) / len(Z)) ** 2
    from nsdflow.fit.ridge.inputs import Observations

    observations = Observations.of(len(X), shown)
    folds = (
        [shown == image for image in shown.unique()]
        if selection.method == "loo"
        else make_folds(selection, observations)
    )
    total = np.zeros(B.shape[1])
    for held in (fold.numpy() for fold in folds):
        mu, nu = Z[~held].mean(0), B[~held].mean(0)
        C = Z[~held] - mu
        w = scipy.linalg.solve(C.T @ C + strength * np.eye(C.shape[1]), C.T @ (B[~held] - nu))
        total += ((B[held] - (Z[held] - mu) @ w - nu) ** 2).sum(0)
    return total


def test_trial_counts_are_the_trials() -> None:
    X, shown, Y = planted(40, 60, repeats=3.0)
    mean = torch.stack([Y[shown == image].mean(0) for image in range(40)])
    within = sum(((Y[shown == image] - mean[image]) ** 2).sum(0) for image in range(40))
    for method in ("loo", "gcv"):
        problem = RidgeProblem(LAMBDAS, LambdaSelection(method), precision="float64")
        trials = fit(X, Y, problem, images=shown)
        averaged = fit(X, mean, problem, weights=torch.full((40,), 3.0), within=within)
        assert torch.equal(trials.lambda_, averaged.lambda_)
        torch.testing.assert_close(trials.weights(X)[0], averaged.weights(X)[0])
        if method == "gcv":
            torch.testing.assert_close(trials.loss, averaged.loss)


def test_a_holdout_by_trial_may_share_images() -> None:
    """The published split: the last trials select lambda, whatever images they show."""
    X, shown, Y = planted(40, 25, repeats=2.0)
    held = torch.arange(80) >= 66
    dual, primal = (
        fit(X, Y, RidgeProblem(LAMBDAS, form=form, precision="float64"), images=shown, folds=[held])
        for form in ("dual", "primal")
    )
    plain = fit(X[shown], Y, RidgeProblem(LAMBDAS, precision="float64"), folds=[held])
    torch.testing.assert_close(dual.loss, plain.loss)
    torch.testing.assert_close(primal.loss, plain.loss)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    wide=st.booleans(),
    method=st.sampled_from(["holdout", "kfold", "loo", "gcv"]),
    blocks=st.tuples(st.integers(1, 50), st.integers(1, 9), st.integers(1, 9)),
)
def test_blocks_order_and_form_change_no_lambda(
    seed: int, wide: bool, method: str, blocks: tuple[int, int, int]
) -> None:
    X, shown, Y = planted(24, 40 if wide else 10, voxels=7, repeats=1.7, seed=seed)
    chosen = LambdaSelection(method, folds=3, fraction=0.25)
    whole = fit(X, Y, RidgeProblem(LAMBDAS, chosen, precision="float64"), images=shown)
    sizes = dict(zip(("features_at_once", "voxels_at_once", "lambdas_at_once"), blocks, strict=True))
    order, voxels, rows = torch.randperm(len(shown)), torch.randperm(7), torch.randperm(24)
    place = torch.argsort(rows)[shown[order]]
    folds = make_folds_of(chosen, shown, 24)
    moved = None if folds is None else [fold[order] for fold in folds]
    for form in ("primal", "dual"):
        problem = RidgeProblem(LAMBDAS, chosen, form=form, precision="float64", **sizes)
        found = fit(X[rows], Y[order][:, voxels], problem, images=place, folds=moved)
        assert torch.equal(found.lambda_, whole.lambda_[voxels])
        predicted = found.predict(X, X[rows])
        torch.testing.assert_close(predicted, whole.predict(X, X)[:, voxels], rtol=1e-6, atol=1e-6)


def make_folds_of(selection: LambdaSelection, shown: torch.Tensor, images: int) -> list[torch.Tensor] | None:
    from nsdflow.fit.ridge.inputs import Observations

    return list(make_folds(selection, Observations.of(images, shown))) or None


def test_collinear_features_ask_for_float64() -> None:
    generator = torch.Generator().manual_seed(3)
    few = torch.randn(60, 4, generator=generator)
    X = few @ torch.randn(4, 200, generator=generator) + 1e-3 * torch.randn(60, 200, generator=generator)
    Y = few[:, :2] + 0.1 * torch.randn(60, 2, generator=generator)
    lambdas = (1e-2, 1.0)
    exact = fit(X.double(), Y.double(), RidgeProblem(lambdas, LambdaSelection("loo"), precision="float64"))
    auto = fit(X, Y, RidgeProblem(lambdas, LambdaSelection("loo")))
    torch.testing.assert_close(auto.loss, exact.loss, rtol=1e-3, atol=0)
    plain = fit(X, Y, RidgeProblem(lambdas, LambdaSelection("loo"), precision="float32"))
    wrong = (plain.loss[0] / exact.loss[0] - 1).abs().max()
    assert wrong > 1e-3, "otherwise float32 would have been enough, and this test shows nothing"
    assert 1e4 < float32_limit(1.0) < 1e6
    assert float32_limit(1.0, closed=True) < 1e5


def test_against_himalaya() -> None:
    kernel_ridge = pytest.importorskip("himalaya.kernel_ridge")
    model_selection = pytest.importorskip("sklearn.model_selection")
    X, _, Y = planted(60, 90, voxels=8)
    Z = ((X - X.mean(0)) / X.std(0)).float()
    held = torch.arange(60) >= 48
    theirs = kernel_ridge.KernelRidgeCV(
        alphas=np.asarray(LAMBDAS), cv=model_selection.PredefinedSplit(np.where(held, 0, -1))
    ).fit(Z.numpy(), (Y - Y[:48].mean(0)).float().numpy())
    ours = fit(Z, Y - Y[:48].mean(0), RidgeProblem(LAMBDAS, intercept=False, standardise=False), folds=[held])
    np.testing.assert_allclose(ours.lambda_, theirs.best_alphas_, rtol=1e-6)
    np.testing.assert_allclose(ours.predict(Z[:5], Z), theirs.predict(Z[:5].numpy()), rtol=2e-3, atol=2e-3)


def test_features_and_responses_may_lie_on_disk(tmp_path: Path) -> None:
    X, _, Y = planted(40, 70)
    arrays = {}
    for name, values in {"X": X, "Y": Y}.items():
        np.save(tmp_path / f"{name}.npy", values.float().numpy())
        arrays[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r+")
    problem = RidgeProblem(LAMBDAS, features_at_once=16, voxels_at_once=2)
    parts = {}
    here = fit(X.float(), Y.float(), problem)
    written = fit(arrays["X"], arrays["Y"], problem, write=lambda voxels, c: parts.update({int(voxels[0]): c}))
    assert torch.equal(here.lambda_, written.lambda_)
    assert written.coefficients is None
    assert sum(part.shape[1] for part in parts.values()) == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": torch.zeros(30)}, "weights must be positive"),
        ({"images": torch.full((30,), 30)}, "outside 0..29"),
        ({"images": torch.arange(20)}, "30 rows for 20 observations"),
    ],
)
def test_bad_input_gets_one_line(change: dict, message: str) -> None:
    X, _, Y = planted(30, 10)
    with pytest.raises(ValueError, match=message):
        fit(X, Y, RidgeProblem(LAMBDAS), **change)


def test_features_that_are_not_finite_are_named() -> None:
    X, _, Y = planted(30, 10)
    X[17, 3] = torch.nan
    with pytest.raises(RunError, match="image row 17"):
        fit(X, Y, RidgeProblem(LAMBDAS))


def test_constant_features_have_no_weight() -> None:
    X, _, Y = planted(30, 10)
    X[:, 4] = 7.3
    weights, _ = fit(X, Y, RidgeProblem(LAMBDAS)).weights(X)
    assert (weights[4] == 0).all()


def test_float32_products_are_given_up_as_soon_as_they_cannot_do() -> None:
    X, _, Y = planted(30, 64)
    read: list[int] = []

    class Counted:
        shape = tuple(X.shape)

        def __getitem__(self, key: tuple[slice, slice]) -> torch.Tensor:
            read.append(len(range(*key[1].indices(64))))
            return X.float()[key]

    problem = RidgeProblem((1e-5, 1.0), features_at_once=8, form="dual")
    found = fit(Counted(), Y.float(), problem)
    assert read.count(8) == 9, "eight blocks in float64, after one in float32"
    read.clear()
    fit(Counted(), Y.float(), RidgeProblem((10.0, 1e3), features_at_once=8, form="dual"))
    assert read.count(8) == 8
    exact = fit(X, Y, RidgeProblem((1e-5, 1.0), precision="float64", form="dual"))
    assert torch.equal(found.lambda_, exact.lambda_)
