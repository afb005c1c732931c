"""The fwRF solver against the plain trial-level problem, and laws of its division into blocks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor

from nsdflow.errors import PlanError, RunError
from nsdflow.fit.fwrf import FwrfPartial, FwrfResult, FwrfSettings, combine, fit, predict, search, solve
from nsdflow.fit.fwrf import solver as fwrf
from nsdflow.fit.fwrf.features import MapFeatures, PooledFeatures
from nsdflow.fit.fwrf.memory import FwrfMemory
from nsdflow.fit.fwrf.trials import TrialSums, sum_trials
from nsdflow.fit.ridge import Form
from nsdflow.models.networks.levels import ChannelSelection, Levels
from nsdflow.models.pooling import candidate_grid, pooling_weights

LAMBDAS = (0.3, 3.0, 30.0, 300.0)


@dataclass(frozen=True)
class Problem:
    """Maps, trials and responses of a few voxels, each driven by a planted candidate."""

    maps: list[Tensor]
    candidates: np.ndarray
    images: Tensor
    responses: Tensor
    holdout: Tensor

    @property
    def features(self) -> MapFeatures:
        return MapFeatures(self.maps, self.candidates)

    def trials(self, settings: FwrfSettings) -> TrialSums:
        return sum_trials(self.images, self.responses, self.holdout, statistics=settings.statistics)

    def fit(self, settings: FwrfSettings, memory: int | None = None) -> FwrfResult:
        return fit(self.maps, self.images, self.responses, self.holdout, self.candidates, settings, memory=memory)


def make_problem(*, images: int = 40, trials: int = 100, voxels: int = 6, seed: int = 0) -> Problem:
    generator = np.random.default_rng(seed)
    maps = [
        torch.from_numpy(np.abs(generator.standard_normal((images, channels, size, size))).astype(np.float32))
        for channels, size in ((5, 9), (4, 4), (3, 1))
    ]
    candidates = candidate_grid([0.1, 0.25, 0.5])
    shown = torch.from_numpy(generator.integers(0, images, trials))
    chosen = generator.integers(0, len(candidates), voxels)
    pooled = plain_features(maps, candidates)[chosen]  # (voxel, image, feature)
    centred = (pooled - pooled.mean(1, keepdims=True)) / (pooled.std(1, keepdims=True) + 1e-6)
    signal = np.einsum("vif,vf->iv", centred, generator.standard_normal((voxels, pooled.shape[2])))
    responses = signal[shown] + generator.standard_normal((trials, voxels)) * signal.std()
    return Problem(
        maps, candidates, shown, torch.from_numpy(responses.astype(np.float32)), torch.arange(trials) >= 0.8 * trials
    )


def plain_features(maps: list[Tensor], candidates: np.ndarray) -> np.ndarray:
    """Pooled features (candidate, image, feature), one sum at a time, in float64."""
    levels = [
        torch.einsum("icyx,kyx->kic", level.double(), pooling_weights(candidates, level.shape[-1])) for level in maps
    ]
    return torch.cat(levels, dim=2).numpy()


@pytest.fixture(scope="module")
def problem() -> Problem:
    return make_problem()


@dataclass(frozen=True)
class Plain:
    """Loss (candidate, lambda) and weights (candidate, lambda, column) of one voxel."""

    loss: np.ndarray
    weights: np.ndarray


def plain_fit(problem: Problem, voxel: int, settings: FwrfSettings) -> Plain:
    """The published loop for one voxel: one row per trial, normal equations solved by scipy, in float64."""
    images, holdout = problem.images.numpy(), problem.holdout.numpy()
    observed = problem.responses[:, voxel].double().numpy()
    losses, weights = [], []
    for pooled in plain_features(problem.maps, problem.candidates):
        rows = pooled[images]
        rows = np.log(1 + np.abs(rows)) if settings.nonlinearity == "log" else rows
        if settings.zscore:
            basis = rows if settings.statistics == "all" else rows[~holdout]
            rows = (rows - basis.mean(0)) / (basis.std(0) + 1e-6)
        if settings.bias:
            rows = np.column_stack([rows, np.ones(len(rows))])
        train, held = rows[~holdout], rows[holdout]
        for strength in settings.lambdas:
            system = train.T @ train + strength * np.eye(rows.shape[1])
            weights.append(scipy.linalg.solve(system, train.T @ observed[~holdout], assume_a="pos"))
            losses.append(np.sum((observed[holdout] - held @ weights[-1]) ** 2))
    shape = (len(problem.candidates), len(settings.lambdas))
    return Plain(np.reshape(losses, shape), np.reshape(weights, (*shape, -1)))


@pytest.mark.parametrize("form", ["primal", "dual"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"zscore": False},
        {"bias": False},
        {"nonlinearity": "log"},
        {"statistics": "training"},
    ],
    ids=str,
)
def test_oracle(problem: Problem, options: dict[str, object], form: str) -> None:
    settings = FwrfSettings(lambdas=LAMBDAS, form=form, **options)  # type: ignore[arg-type]
    result = problem.fit(settings)
    for voxel in range(len(result.rf)):
        plain = plain_fit(problem, voxel, settings)
        candidate, lambda_index = np.unravel_index(plain.loss.argmin(), plain.loss.shape)
        assert (result.candidate[voxel], result.lambda_index[voxel]) == (candidate, lambda_index)
        np.testing.assert_allclose(result.holdout_loss[voxel], plain.loss.min(), rtol=1e-5)
        weights = np.append(result.weights[voxel], [result.bias[voxel]] * settings.bias)
        expected = plain.weights[candidate, lambda_index]
        np.testing.assert_allclose(weights, expected, atol=1e-4 * np.abs(expected).max())


def test_any_function_serves_as_nonlinearity(problem: Problem) -> None:
    named = problem.fit(FwrfSettings(lambdas=LAMBDAS, nonlinearity="log"))
    given_ = problem.fit(FwrfSettings(lambdas=LAMBDAS, nonlinearity=lambda values: torch.log(1 + values.abs())))
    assert torch.equal(named.weights, given_.weights)


def test_repeated_trials_are_trials_of_separate_images(problem: Problem) -> None:
    """Summing trials by image changes nothing: a fit with a separate image per trial is the same."""
    settings = FwrfSettings(lambdas=LAMBDAS)
    apart = replace(
        problem, maps=[level[problem.images] for level in problem.maps], images=torch.arange(len(problem.images))
    )
    one, other = problem.fit(settings), apart.fit(settings)
    assert torch.equal(one.candidate, other.candidate)
    assert torch.equal(one.lambda_index, other.lambda_index)
    torch.testing.assert_close(one.holdout_loss, other.holdout_loss, rtol=1e-5, atol=0)
    torch.testing.assert_close(one.weights, other.weights, rtol=1e-3, atol=1e-4)


@given(seed=st.integers(0, 2**32 - 1), images=st.integers(8, 60))
@hypothesis_settings(max_examples=12)
def test_primal_and_dual_choose_alike(seed: int, images: int) -> None:
    problem = make_problem(images=images, seed=seed, trials=80)
    primal, dual = (problem.fit(FwrfSettings(lambdas=LAMBDAS, form=form)) for form in ("primal", "dual"))
    torch.testing.assert_close(primal.holdout_loss, dual.holdout_loss, rtol=1e-4, atol=0)
    apart = primal.candidate != dual.candidate
    losses = {
        int(voxel): plain_fit(problem, int(voxel), FwrfSettings(lambdas=LAMBDAS)).loss for voxel in apart.nonzero()
    }
    for voxel, loss in losses.items():  # only if two candidates are almost equal
        np.testing.assert_allclose(loss[primal.candidate[voxel]].min(), loss[dual.candidate[voxel]].min(), rtol=1e-5)


@given(cuts=st.sets(st.integers(1, 100), max_size=6), order=st.randoms(use_true_random=False))
@hypothesis_settings(max_examples=15)
def test_combined_blocks_are_the_whole(cuts: set[int], order: object) -> None:
    problem, settings = make_problem(), FwrfSettings(lambdas=LAMBDAS)
    count = len(problem.candidates)
    edges = [0, *sorted(cut for cut in cuts if cut < count), count]
    blocks = [range(a, b) for a, b in pairwise(edges)]
    trials = problem.trials(settings)
    partials = [search(problem.features, trials, settings, block=block) for block in blocks]
    order.shuffle(partials)  # type: ignore[attr-defined]
    assert_same_bits(combine(partials), search(problem.features, trials, settings))


def assert_same_bits(one: FwrfPartial, other: FwrfPartial) -> None:
    assert one.block == other.block
    for name in ("loss", "candidate", "lambda_index"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("form", get_args(Form))
@pytest.mark.parametrize(
    ("voxels", "candidates", "resident"), [(3, 16, False), (6, 1, True), (9, 5, False), (11, 3, True)]
)
def test_blocks_never_change_a_bit(
    monkeypatch: pytest.MonkeyPatch, voxels: int, candidates: int, resident: bool, form: Form, kept: bool
) -> None:
    monkeypatch.setattr(fwrf, "VOXEL_TILE", 3)
    problem, settings = make_problem(voxels=11), FwrfSettings(lambdas=LAMBDAS, form=form)
    whole = problem.fit(settings)
    plan = FwrfMemory(0, voxels, candidates, resident, kept)
    monkeypatch.setattr(fwrf, "plan_memory", lambda *_, keep: plan)
    for name, values in vars(problem.fit(settings)).items():
        if isinstance(values, Tensor):
            assert torch.equal(values, getattr(whole, name)), name


def test_too_little_memory_is_refused_before_anything_runs(problem: Problem) -> None:
    with pytest.raises(PlanError, match=r"needs at least 0\.\d\d GiB"):
        problem.fit(FwrfSettings(), memory=1 << 20)


@given(permutation=st.permutations(range(6)))
@hypothesis_settings(max_examples=10)
def test_voxels_are_independent(permutation: list[int]) -> None:
    problem, settings = make_problem(), FwrfSettings(lambdas=LAMBDAS)
    plain = problem.fit(settings)
    permuted = replace(problem, responses=problem.responses[:, permutation]).fit(settings)
    assert torch.equal(permuted.candidate, plain.candidate[permutation])
    assert torch.equal(permuted.lambda_index, plain.lambda_index[permutation])
    torch.testing.assert_close(permuted.holdout_loss, plain.holdout_loss[permutation], rtol=1e-6, atol=0)
    torch.testing.assert_close(permuted.weights, plain.weights[permutation], rtol=1e-4, atol=1e-5)


def test_first_of_equals_wins(problem: Problem) -> None:
    once, settings = problem.fit(FwrfSettings(lambdas=LAMBDAS)), FwrfSettings(lambdas=LAMBDAS * 2)
    twice = replace(problem, candidates=np.concatenate([problem.candidates] * 2)).fit(settings)
    assert torch.equal(twice.lambda_index, once.lambda_index)
    assert torch.equal(twice.rf, once.rf)


def test_silent_voxel_takes_the_first(problem: Problem) -> None:
    result = replace(problem, responses=torch.zeros_like(problem.responses)).fit(FwrfSettings(lambdas=LAMBDAS))
    assert not result.candidate.any()
    assert not result.lambda_index.any()
    assert not result.holdout_loss.any()
    assert not result.weights.any()


def test_pooled_features_serve_as_well_as_maps(problem: Problem) -> None:
    settings = FwrfSettings(lambdas=LAMBDAS)
    everything = torch.arange(len(problem.maps[0]))
    pooled = problem.features.block(range(len(problem.candidates)), everything, torch.device("cpu")).numpy()
    stored = PooledFeatures(pooled, problem.candidates)
    result = fit(stored, problem.images, problem.responses, problem.holdout, settings=settings)
    expected = problem.fit(settings)
    assert torch.equal(result.weights, expected.weights)
    assert torch.equal(predict(result, stored), predict(expected, problem.features))


def test_predictions_are_those_of_the_weights(problem: Problem) -> None:
    settings = FwrfSettings(lambdas=LAMBDAS, nonlinearity="log")
    result = problem.fit(settings)
    wanted = torch.tensor([7, 3, 3, 30])
    predictions = predict(result, problem.features, images=wanted)
    pooled = np.log(1 + np.abs(plain_features(problem.maps, result.rf.numpy())))[:, wanted]
    scaled = (pooled - result.feature_mean.numpy()[:, None]) / result.feature_std.numpy()[:, None]
    expected = np.einsum("vif,vf->iv", scaled, result.weights) + result.bias.numpy()
    np.testing.assert_allclose(predictions, expected, atol=1e-4)


def test_prediction_needs_the_grid_of_the_fit(problem: Problem) -> None:
    result = problem.fit(FwrfSettings(lambdas=LAMBDAS))
    with pytest.raises(ValueError, match="grid of candidates"):
        predict(result, MapFeatures(problem.maps, problem.candidates + 0.01))


def test_predict_takes_what_fit_takes(problem: Problem) -> None:
    channels = ChannelSelection(np.array([0] * 5 + [1] * 4 + [2] * 3), np.array([*range(5), *range(4), *range(3)]))
    levels = Levels(tuple(problem.maps), channels)
    settings = FwrfSettings(lambdas=LAMBDAS, nonlinearity="log")
    result = fit(levels, problem.images, problem.responses, problem.holdout, problem.candidates, settings)
    expected = predict(problem.fit(settings), problem.features)
    for maps in (levels, problem.maps, problem.features):
        assert torch.equal(predict(result, maps), expected)
    other = ChannelSelection(channels.layer, channels.channel[::-1].copy())
    for maps in (Levels(levels.maps, other), problem.maps[:2]):
        with pytest.raises(ValueError, match=r"features are not the 12 channels of the fit; extract them with"):
            predict(result, maps)
    arrays = result.arrays()
    assert arrays["rf"][0] == ("voxel", "parameter")
    np.testing.assert_array_equal(arrays["weights"][1], result.weights)


def test_planted_candidates_come_back() -> None:
    problem = make_problem(images=300, trials=900, voxels=8, seed=5)
    generator = np.random.default_rng(5)
    for channels, size in ((5, 9), (4, 4), (3, 1)):
        generator.standard_normal((300, channels, size, size))
    generator.integers(0, 300, 900)
    planted = generator.integers(0, len(problem.candidates), 8)
    result = problem.fit(FwrfSettings(lambdas=LAMBDAS))
    distance = np.hypot(*(result.rf.numpy()[:, :2] - problem.candidates[planted, :2]).T)
    assert np.median(distance) < 0.1


def test_blocks_must_follow_each_other(problem: Problem) -> None:
    settings = FwrfSettings(lambdas=LAMBDAS)
    trials = problem.trials(settings)
    one, other = (search(problem.features, trials, settings, block=block) for block in (range(0, 3), range(4, 6)))
    with pytest.raises(ValueError, match="do not follow each other"):
        combine([one, other])


def test_features_that_are_not_finite_are_reported(problem: Problem) -> None:
    settings = FwrfSettings(lambdas=LAMBDAS, form="dual")
    trials = problem.trials(settings)
    best = search(problem.features, trials, settings, block=range(0, 1))
    unfinished = FwrfPartial(best.block, best.loss, torch.full_like(best.candidate, -1), best.lambda_index)
    with pytest.raises(RunError, match="6 voxels have no finite loss"):
        solve(problem.features, trials, settings, unfinished)


def test_wrong_arguments(problem: Problem) -> None:
    with pytest.raises(ValueError, match="positive"):
        FwrfSettings(lambdas=(1.0, 0.0))
    with pytest.raises(ValueError, match="grid of candidates"):
        fit(problem.maps, problem.images, problem.responses, problem.holdout)
