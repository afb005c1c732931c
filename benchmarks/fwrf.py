"""AlexNet-fwRF of one subject: the published loop, himalaya's ridge solver, and nsdflow, on the same data.

    python benchmarks/fwrf.py           900 images x 3 trials, 2,000 voxels, 30 candidates: minutes on two cores
    python benchmarks/fwrf.py --full    the same, and a full-size subject on a GPU if there is one

(a) The published loop, written here from its specification: for every candidate the network runs over every trial, and
nine matrices of features by features are inverted. (b) himalaya's ``solve_ridge_cv_svd`` (torch backend, one split) for
every candidate, given the pooled and z-scored features of the trials: the network's time is not counted. (c) nsdflow,
everything included. (a) and (b) are timed on three of the candidates and scaled. All three must choose the same
candidate and lambda for every voxel among those three.

The floor is the floating-point work of (c) at the rate that this machine reaches on a large matrix product in float32,
although some of the work is done in float64, at half that rate.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from himalaya.backend import get_backend, set_backend
from himalaya.ridge import solve_ridge_cv_svd
from sklearn.model_selection import PredefinedSplit
from torch import Tensor
from torch.nn import functional

from nsdflow.fit.fwrf import PUBLISHED, PUBLISHED_LAMBDAS, FwrfPartial, fit, fit_shape, search
from nsdflow.fit.fwrf.features import MapFeatures
from nsdflow.fit.fwrf.trials import sum_trials
from nsdflow.fit.ridge import floating_point_work
from nsdflow.fit.split import last_trials_holdout
from nsdflow.models.networks.alexnet import AlexNet, imagenet_normalised
from nsdflow.models.networks.alexnet_weights import ALEXNET_SHAPES
from nsdflow.models.networks.levels import Levels, channel_moments, fit_levels, select_channels
from nsdflow.models.pooling import candidate_grid, log_spaced_sizes, pool, pooling_weights

Result = TypeVar("Result")

REPEATS, HOLDOUT_FRACTION = 3, 0.1
#: subject 1 of the published run: images, training trials, voxels
FULL_IMAGES, FULL_TRIALS, FULL_VOXELS = 10_000, 27_000, 11_838
PUBLISHED_SECONDS_FULL = 16_850  # on one A100 40 GB


@dataclass(frozen=True)
class Data:
    """Images, trials and responses of one subject."""

    weights: dict[str, Tensor]
    images: Tensor
    shown: Tensor
    responses: Tensor
    holdout: Tensor
    candidates: np.ndarray


# ---- data ------------------------------------------------------------------------------------------------------------


def random_weights(seed: int) -> dict[str, Tensor]:
    generator, state = torch.Generator().manual_seed(seed), {}
    for name, shape in ALEXNET_SHAPES.items():
        state[f"{name}.weight"] = torch.randn(shape, generator=generator) * (2 / np.prod(shape[1:])) ** 0.5
        state[f"{name}.bias"] = torch.randn(shape[0], generator=generator) * 0.01
    return state


def random_images(count: int, seed: int) -> Tensor:
    """Noise at several scales, which correlates distant pixels as in photographs."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.zeros(count, 3, 227, 227)
    for size in (3, 8, 24, 72, 227):
        images += functional.interpolate(torch.randn(count, 3, size, size, generator=generator), 227, mode="bilinear")
    return (images * 25 + 128).clamp(0, 255).to(torch.uint8)


def simulate(images: int, voxels: int, candidates: int) -> Data:
    """Each voxel follows the features of one candidate; three trials per image, in random order."""
    grid = candidate_grid(log_spaced_sizes())
    grid = grid[np.linspace(0, len(grid) - 1, candidates).round().astype(int)]
    weights, pictures = random_weights(0), random_images(images, 1)
    levels = fit_levels(AlexNet(weights), pictures)
    generator = torch.Generator().manual_seed(2)
    chosen = torch.randint(candidates, (voxels,), generator=generator)
    shown = torch.arange(images).repeat(REPEATS)[torch.randperm(images * REPEATS, generator=generator)]
    responses = torch.randn(len(shown), voxels, generator=generator)
    for index, pooled in enumerate(pool(levels.maps, grid, range(candidates), torch.arange(images))):
        driven = (chosen == index).nonzero()[:, 0]
        signal = zscored(pooled) @ torch.randn(pooled.shape[1], len(driven), generator=generator)
        responses[:, driven] += 0.5 * zscored(signal)[shown]
    holdout = torch.from_numpy(last_trials_holdout(len(shown), HOLDOUT_FRACTION))
    return Data(weights, pictures, shown, responses, holdout, grid)


def zscored(values: Tensor) -> Tensor:
    return (values - values.mean(0)) / (values.std(0, correction=0) + 1e-6)


# ---- (a) the published loop, plainly ---------------------------------------------------------------------------------


def plain_layers(images: Tensor, weights: dict[str, Tensor]) -> list[Tensor]:
    def conv(x: Tensor, key: str, **options: int) -> Tensor:
        return torch.relu(functional.conv2d(x, weights[f"{key}.weight"], weights[f"{key}.bias"], **options))

    def linear(x: Tensor, key: str) -> Tensor:
        return functional.linear(x, weights[f"{key}.weight"], weights[f"{key}.bias"])

    conv1 = functional.max_pool2d(conv(imagenet_normalised(images), "features.0", stride=4, padding=2), 3, 2)
    conv2 = conv(conv1, "features.3", padding=2)
    conv3 = conv(functional.max_pool2d(conv2, 3, 2), "features.6", padding=1)
    conv4 = conv(conv3, "features.8", padding=1)
    conv5 = conv(conv4, "features.10", padding=1)
    fc6 = torch.relu(linear(functional.max_pool2d(conv5, 3, 2).flatten(1), "classifier.1"))
    fc7 = torch.relu(linear(fc6, "classifier.4"))
    fc8 = linear(fc7, "classifier.6")
    return [conv1, conv2, conv3, conv4, conv5, *(vector[:, :, None, None] for vector in (fc6, fc7, fc8))]


def plain_kept(data: Data) -> list[Tensor]:
    """Channels to keep of each layer; not timed."""
    layers = plain_layers(data.images[:100], data.weights)
    total = channel_moments(layers)
    for start in range(100, len(data.images), 100):
        total = total + channel_moments(plain_layers(data.images[start : start + 100], data.weights))
    kept: list[Tensor] = []
    for index in range(len(layers)):
        (channels,), _ = select_channels(total, [[index]], 512)
        kept.append(channels)
    return kept


def published_loop(data: Data, candidates: np.ndarray, kept: list[Tensor], batch: int = 100) -> FwrfPartial:
    voxels, train, held = data.responses.shape[1], ~data.holdout, data.holdout
    best = torch.full((voxels,), torch.inf)
    best_candidate, best_lambda = (torch.zeros(voxels, dtype=torch.int64) for _ in range(2))
    best_weights = torch.zeros(voxels, sum(map(len, kept)) + 1)
    for number, candidate in enumerate(candidates):
        rows = []
        for start in range(0, len(data.shown), batch):
            layers = plain_layers(data.images[data.shown[start : start + batch]], data.weights)
            pooled = []
            for maps, channels in zip(layers, kept, strict=True):
                field = pooling_weights(candidate[None], maps.shape[-1])[0].float()
                pooled.append(torch.tensordot(maps[:, channels], field, dims=2))
            rows.append(torch.cat(pooled, dim=1))
        features = zscored(torch.cat(rows))
        features = torch.cat([features, torch.ones(len(features), 1)], dim=1)
        fitted, tested = features[train], features[held]
        gram = fitted.T @ fitted
        inverses = torch.stack(
            [torch.inverse(gram + strength * torch.eye(len(gram))) for strength in PUBLISHED_LAMBDAS]
        )
        weights = inverses @ (fitted.T @ data.responses[train])
        losses = (data.responses[held] - tested @ weights).square().sum(1)
        loss, index = losses.min(0)
        better = loss < best
        best[better], best_candidate[better], best_lambda[better] = loss[better], number, index[better]
        best_weights[better] = weights[index[better], :, better.nonzero()[:, 0]]
    return FwrfPartial(range(len(candidates)), best, best_candidate, best_lambda)


# ---- (b) himalaya ----------------------------------------------------------------------------------------------------


@contextmanager
def himalaya_on_torch() -> Iterator[None]:
    """Set himalaya's backend, a global of the process, and restore it afterwards."""
    before = get_backend().name
    set_backend("torch")
    try:
        yield
    finally:
        set_backend(before)


def himalaya_loop(data: Data, levels: Levels, candidates: np.ndarray) -> FwrfPartial:
    voxels = data.responses.shape[1]
    best = torch.full((voxels,), torch.inf)
    best_candidate, best_lambda = (torch.zeros(voxels, dtype=torch.int64) for _ in range(2))
    lambdas = torch.tensor(PUBLISHED_LAMBDAS)
    split = PredefinedSplit(np.where(data.holdout.numpy(), 0, -1))
    for number in range(len(candidates)):
        pooled = pool(levels.maps, candidates, range(number, number + 1), torch.arange(len(data.images)))[0]
        features = zscored(pooled[data.shown])
        features = torch.cat([features, torch.ones(len(features), 1)], dim=1)
        chosen, _, scores = solve_ridge_cv_svd(features, data.responses, alphas=lambdas, cv=split, warn=False)
        loss = -scores.reshape(voxels) * int(data.holdout.sum())
        better = loss < best
        best[better], best_candidate[better] = loss[better], number
        best_lambda[better] = (chosen[better, None].log() - lambdas.log()).abs().argmin(1)
    return FwrfPartial(range(len(candidates)), best, best_candidate, best_lambda)


# ---- (c) nsdflow -----------------------------------------------------------------------------------------------------


def network_work(images: int) -> float:
    """Additions and multiplications of AlexNet on images of 227 pixels."""
    positions = {
        "features.0": 56**2,
        "features.3": 27**2,
        "features.6": 13**2,
        "features.8": 13**2,
        "features.10": 13**2,
    }
    return images * sum(2.0 * positions.get(name, 1) * np.prod(shape) for name, shape in ALEXNET_SHAPES.items())


def fwrf_work(data: Data, levels: Levels) -> float:
    """Additions and multiplications of (c): network, pooling, all candidates; the winners' weights are not counted."""
    features = MapFeatures(levels.maps, data.candidates)
    trials = sum_trials(data.shown, data.responses, data.holdout)
    shape = fit_shape(features, trials, PUBLISHED)
    scoring = floating_point_work(
        shape.form,
        rows=shape.train,
        features=shape.features + 1,
        holdout=shape.holdout,
        voxels=shape.voxels,
        lambdas=len(PUBLISHED_LAMBDAS),
        repeated=len(trials.repeated),
    )
    pooling = 2.0 * len(data.images) * features.image_bytes[1] / 4
    return network_work(len(data.images)) + len(data.candidates) * (scoring + pooling)


def matrix_product_rate(device: str, size: int) -> float:
    """Floating-point operations per second of a float32 matrix product, the best of several."""
    a = torch.randn(size, size, device=device)
    seconds = []
    for _ in range(8):
        start = now(device)
        _ = a @ a
        seconds.append(now(device) - start)
    return 2.0 * size**3 / min(seconds)


def now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


@dataclass(frozen=True)
class Cost:
    """Wall time and processor time in seconds. On a shared machine, processor time varies less."""

    seconds: float
    processor: float

    def times(self, factor: float) -> Cost:
        return Cost(self.seconds * factor, self.processor * factor)

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s ({self.processor:.1f} s of processor time)"


def timed(what: Callable[[], Result], device: str = "cpu") -> tuple[Result, Cost]:
    start, processor = now(device), time.process_time()
    result = what()
    return result, Cost(now(device) - start, time.process_time() - processor)


def compare(name: str, theirs: FwrfPartial, ours: FwrfPartial) -> bool:
    """Whether both chose the same candidate and lambda for every voxel; says where not."""
    other = (theirs.candidate != ours.candidate) | (theirs.lambda_index != ours.lambda_index)
    difference = float(((theirs.loss - ours.loss).abs() / ours.loss).max())
    print(f"  {name} and ours: {int(other.sum())} of {len(other)} winners differ, losses by at most {difference:.1e}")
    return not bool(other.any())


def compared(arguments: argparse.Namespace) -> dict[str, object]:
    """The three implementations on one small subject."""
    data = simulate(arguments.images, arguments.voxels, arguments.candidates)
    some = data.candidates[np.linspace(0, len(data.candidates) - 1, arguments.timed).round().astype(int)]
    scale = len(data.candidates) / arguments.timed
    rate = matrix_product_rate("cpu", 3000)

    def ours() -> tuple[Levels, Cost]:
        levels, network = timed(lambda: fit_levels(AlexNet(data.weights), data.images))
        fit(levels.maps, data.shown, data.responses, data.holdout, data.candidates)
        return levels, network

    (levels, network), cost_ours = timed(ours)
    print(f"(c) nsdflow: {cost_ours} for {len(data.candidates)} candidates, network and weights included")
    print(f"    of which the network, once per image: {network}", flush=True)

    with himalaya_on_torch():
        by_himalaya, cost = timed(lambda: himalaya_loop(data, levels, some))
    cost_himalaya = cost.times(scale)
    print(f"(b) himalaya: {cost} for {arguments.timed} candidates; scaled to all {cost_himalaya}", flush=True)

    kept = plain_kept(data)
    by_loop, cost = timed(lambda: published_loop(data, some, kept))
    cost_published = cost.times(scale)
    print(f"(a) published loop: {cost} for {arguments.timed} candidates; scaled to all {cost_published}")

    rate = max(rate, matrix_product_rate("cpu", 3000))
    floor = fwrf_work(data, levels) / rate
    print(f"floor: {fwrf_work(data, levels):.2e} operations at {rate / 1e9:.0f} GFLOP/s are {floor:.1f} s")
    features, trials = MapFeatures(levels.maps, some), sum_trials(data.shown, data.responses, data.holdout)
    found = search(features, trials)
    same = [compare(name, theirs, found) for name, theirs in (("published", by_loop), ("himalaya", by_himalaya))]
    print(
        f"speedup: {cost_published.seconds / cost_ours.seconds:.1f} over the published loop (wanted: 60), "
        f"{cost_himalaya.seconds / cost_ours.seconds:.1f} over himalaya (wanted: 10); "
        f"{cost_ours.seconds / floor:.2f} times the floor (wanted: at most 3)"
    )
    print(
        f"in processor time: {cost_published.processor / cost_ours.processor:.1f} over the published loop, "
        f"{cost_himalaya.processor / cost_ours.processor:.1f} over himalaya"
    )
    return {
        "seconds_published": round(cost_published.seconds, 2),
        "seconds_himalaya": round(cost_himalaya.seconds, 2),
        "seconds_ours": round(cost_ours.seconds, 2),
        "processor_seconds_published": round(cost_published.processor, 2),
        "processor_seconds_himalaya": round(cost_himalaya.processor, 2),
        "processor_seconds_ours": round(cost_ours.processor, 2),
        "same_winners": all(same),
        "flop_floor_seconds": round(floor, 2),
        "scaled_from_candidates": arguments.timed,
        "candidates": len(data.candidates),
        "images": len(data.images),
        "voxels": data.responses.shape[1],
    }


def full_size(
    device: str = "cuda", images: int = FULL_IMAGES, trials: int = FULL_TRIALS, voxels: int = FULL_VOXELS
) -> dict[str, object]:
    """A subject of true size on a GPU: network, search over all candidates, weights."""
    if device == "cuda" and not torch.cuda.is_available():
        print("full size: no GPU here, so this number is missing")
        return {"full": "missing: no GPU"}
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(256, (images, 3, 227, 227), dtype=torch.uint8, generator=generator)
    shown = torch.arange(images).repeat(REPEATS)[torch.randperm(REPEATS * images, generator=generator)][:trials]
    responses = torch.randn(trials, voxels, generator=generator)
    holdout = torch.from_numpy(last_trials_holdout(trials, HOLDOUT_FRACTION))
    data = Data(random_weights(0), pictures, shown, responses, holdout, candidate_grid(log_spaced_sizes()))
    network = AlexNet(data.weights).to(device)

    def ours() -> Levels:
        levels = fit_levels(network, data.images, batch=500, device=device, keep_on=device)
        fit(levels.maps, data.shown, data.responses, data.holdout, data.candidates, device=device)
        return levels

    rate = matrix_product_rate(device, 8192 if device == "cuda" else 2000)
    levels, cost = timed(ours, device)
    achieved = fwrf_work(data, levels) / cost.seconds
    name = torch.cuda.get_device_name() if device == "cuda" else device
    print(
        f"full size on {name}: {cost.seconds:.0f} s (published: {PUBLISHED_SECONDS_FULL} s on one A100), "
        f"{achieved / 1e12:.1f} TFLOP/s of {rate / 1e12:.1f} in a matrix product"
    )
    return {
        "full": "measured",
        "full_device": name,
        "full_seconds": round(cost.seconds, 1),
        "full_tflops": round(achieved / 1e12, 2),
        "full_tflops_matrix_product": round(rate / 1e12, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="also a full-size subject, on a GPU")
    parser.add_argument("--images", type=int, default=900)
    parser.add_argument("--voxels", type=int, default=2000)
    parser.add_argument("--candidates", type=int, default=30)
    parser.add_argument("--timed", type=int, default=3, help="candidates that (a) and (b) are timed on")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {arguments.threads} threads, {platform.machine()}")
    with torch.inference_mode():
        figures = compared(arguments)
        if arguments.full:
            figures |= full_size()
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
