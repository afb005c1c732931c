"""The golden tests read every size from their files: they pass on a second set, computed here, plainly and in float64,
from the specification alone, with other numbers of levels, channels, pixels, images, trials, voxels and candidates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.ndimage
import scipy.special
import torch
from torch.nn import functional

from nsdflow.models.networks.alexnet_weights import ALEXNET_SHAPES
from tests.golden.again import run_again

TESTS = ("test_fwrf", "test_gabor", "test_alexnet", "test_pooling_grid")


def test_the_golden_tests_pass_on_files_of_other_sizes(tmp_path: Path) -> None:
    for zscore, bias, nonlinearity, seed in ((1, 0, "log", 0), (0, 1, "none", 1)):
        np.savez(
            tmp_path / f"fwrf_zscore{zscore}_bias{bias}_{nonlinearity}.npz", **fwrf(zscore, bias, nonlinearity, seed)
        )
    np.savez(tmp_path / "pooling_grid.npz", **pooling_grid())
    np.savez(tmp_path / "gabor_features.npz", **gabor_features())
    np.savez(tmp_path / "alexnet_features.npz", **alexnet_features())
    assert "25 passed" in run_again(TESTS, tmp_path), "two fwRF cases in two forms x 4 tests, and what the others hold"


# ---- section 3 of the specification, one loop after the other --------------------------------------------------------


def candidates_of(sizes: np.ndarray) -> np.ndarray:
    grid = []
    for size in sizes:
        axis = np.linspace(-0.55, 0.55, int(np.ceil(1.1 / size)))
        grid += [(x, y, size) for y in axis for x in axis]
    return np.array(grid)


def pooling_mass(candidate: np.ndarray, pixels: int) -> np.ndarray:
    x, y, sigma = candidate
    width = 1 / pixels
    centres = -0.5 + width / 2 + width * np.arange(pixels)
    mass = np.zeros((pixels, pixels))
    for row in range(pixels):
        for column in range(pixels):
            dx, dy = centres[column] - x, centres[pixels - 1 - row] - y
            if sigma >= width:
                mass[row, column] = width**2 / (2 * np.pi * sigma**2) * np.exp(-(dx**2 + dy**2) / (2 * sigma**2))
            else:
                edges = [
                    scipy.special.ndtr((d + width / 2) / sigma) - scipy.special.ndtr((d - width / 2) / sigma)
                    for d in (dx, dy)
                ]
                mass[row, column] = edges[0] * edges[1]
    return mass


def pooling_grid() -> dict[str, np.ndarray]:
    candidates = candidates_of(np.geomspace(0.05, 0.5, 5))
    picked = np.arange(0, len(candidates), 29)
    masses = {f"mass_{n}": np.array([pooling_mass(candidates[k], n) for k in picked]) for n in (1, 5, 17)}
    return {"candidates": candidates, "picked": picked, **masses}


def fwrf(zscore: int, bias: int, nonlinearity: str, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    n_images, n_trials, n_voxels, held = 44, 131, 9, 23
    maps = [np.abs(rng.standard_normal((n_images, c, n, n))).astype(np.float32) for c, n in ((5, 11), (4, 3))]
    candidates = candidates_of(np.array([0.2, 0.35])).astype(np.float32)
    lambdas = np.array([0.5, 5.0, 50.0, 500.0], np.float32)
    order = rng.integers(0, n_images, n_trials)
    features = np.empty((len(candidates), n_images, 9))
    for number, candidate in enumerate(candidates.astype(float)):
        pooled = [np.einsum("icyx,yx->ic", level, pooling_mass(candidate, level.shape[-1])) for level in maps]
        features[number] = np.concatenate(pooled, axis=1)
    if nonlinearity == "log":
        features = np.log(1 + np.abs(features))
    planted = rng.integers(0, len(candidates), n_voxels)
    signal = np.stack([_zscored(features[k]) @ rng.standard_normal(9) for k in planted], axis=1)
    betas = (signal[order] + 0.7 * rng.standard_normal((n_trials, n_voxels))).astype(np.float32)

    best = np.full(n_voxels, np.inf)
    winner: list[tuple[np.ndarray, ...]] = [()] * n_voxels
    for candidate, pooled in zip(candidates, features, strict=True):
        rows = pooled[order]
        mean, std = (rows.mean(0), rows.std(0) + 1e-6) if zscore else (np.zeros(9), np.ones(9))
        images = (pooled - mean) / std
        if bias:
            images = np.column_stack([images, np.ones(n_images)])
        train, test = images[order[:-held]], images[order[-held:]]
        for index, strength in enumerate(lambdas):
            inverse = np.linalg.inv(train.T @ train + strength * np.eye(train.shape[1]))
            weights = inverse @ train.T @ betas[:-held]
            losses = ((betas[-held:] - test @ weights) ** 2).sum(0)
            for voxel in np.flatnonzero(losses < best):
                best[voxel] = losses[voxel]
                prediction = images @ weights[:, voxel]
                winner[voxel] = (
                    candidate,
                    np.int64(index),
                    weights[:9, voxel],
                    weights[-1, voxel],
                    mean,
                    std,
                    prediction,
                )
    names = ("rf", "best_lambda", "weights", "bias", "feature_mean", "feature_std", "pred")
    found = {name: np.stack(values) for name, values in zip(names, zip(*winner, strict=True), strict=True)}
    found["pred"] = found["pred"].T
    for name in (() if bias else ("bias",)) + (() if zscore else ("feature_mean", "feature_std")):
        del found[name]
    given = {f"images_features_{level}": values for level, values in enumerate(maps)}
    given |= {"order": order, "betas": betas, "candidates": candidates, "lambdas": lambdas}
    given |= found | {"best_loss": best, "holdout_size": np.int64(held)}
    return {name: array.astype(np.float32) if array.dtype == np.float64 else array for name, array in given.items()}


def _zscored(values: np.ndarray) -> np.ndarray:
    return (values - values.mean(0)) / values.std(0)


def draw_images(seed: int, count: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse, fine = rng.integers(0, 128, (count, 3, 8, 8)), rng.integers(0, 128, (count, 3, 227, 227))
    return (np.kron(coarse, np.ones((29, 29), int))[..., :227, :227] + fine).astype(np.uint8)


def gabor_features() -> dict[str, np.ndarray]:
    frequencies, angles, used = np.geomspace(4.0, 20.0, 3), np.arange(4) * np.pi / 4, 3
    axis = np.linspace(-6, 6, 12)
    x, y = np.meshgrid(axis, axis)
    envelope = np.exp(-(x**2 + y**2) / (2 * 2.891**2)) / (2 * np.pi * 2.891**2)
    phases = [2 * np.pi * 2.8 / 12 * (x * np.cos(angle) + y * np.sin(angle)) for angle in angles]
    found: dict[str, np.ndarray] = {
        "image_seed": np.int64(7), "n_images": np.int64(4), "n_used": np.int64(used), "orientations": angles,
        "cycles_per_image": frequencies, "filter_pixels": np.int64(12),
        "filter_real": np.array([np.cos(phase) * envelope for phase in phases]),
        "filter_imag": np.array([np.sin(phase) * envelope for phase in phases]),
    }  # fmt: skip
    grey = np.tensordot(draw_images(7, 4)[:used] / 255, [0.2126, 0.7152, 0.0722], axes=([1], [0]))
    for level, frequency in enumerate(frequencies):
        side = round(4.13 * frequency)
        position = np.clip((np.arange(side) + 0.5) * 227 / side - 0.5, 0, 226)
        grid = np.stack(np.meshgrid(position, position, indexing="ij"))
        small = np.stack([scipy.ndimage.map_coordinates(image, grid, order=1) for image in grey])
        padded = np.pad(small, ((0, 0), (6, 6), (6, 6)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (12, 12), axis=(1, 2))
        even, odd = (np.einsum("iyxab,kab->ikyx", windows, found[f"filter_{part}"]) for part in ("real", "imag"))
        maps = np.log(1 + np.sqrt(np.sqrt(even**2 + odd**2)))
        found |= _described(f"level_{level}", maps)
    return found


def alexnet_features() -> dict[str, np.ndarray]:
    rng, n_images, used, limit = np.random.default_rng(5), 5, 2, 70
    layers, x = [], None
    weights = {}
    for name, shape in ALEXNET_SHAPES.items():
        weights[name] = (rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)
        weights[f"{name}.bias"] = (rng.standard_normal(shape[0]) * 0.01).astype(np.float32)
    scale = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, :, None, None]
    x = torch.from_numpy((draw_images(9, n_images) / 255 - scale[0]) / scale[1])
    tensors = {name: torch.from_numpy(values).double() for name, values in weights.items()}
    for name, stride, padding in (
        ("features.0", 4, 2), ("features.3", 1, 2), ("features.6", 1, 1), ("features.8", 1, 1), ("features.10", 1, 1),
    ):  # fmt: skip
        x = functional.conv2d(x, tensors[name], tensors[f"{name}.bias"], stride=stride, padding=padding).clamp(min=0)
        if name == "features.0":
            x = functional.max_pool2d(x, 3, 2)
        layers.append(x)
        if name in ("features.3", "features.10"):
            x = functional.max_pool2d(x, 3, 2)
    x = x.flatten(1)
    for name in ("classifier.1", "classifier.4", "classifier.6"):
        x = x @ tensors[name].T + tensors[f"{name}.bias"]
        x = x if name == "classifier.6" else x.clamp(min=0)
        layers.append(x[:, :, None, None])
    found: dict[str, np.ndarray] = {
        "image_seed": np.int64(9), "n_images": np.int64(n_images), "n_used": np.int64(used), "weight_seed": np.int64(5),
        "select_max": np.int64(limit), "select_images": np.int64(n_images), "select_batch": np.int64(2),
    }  # fmt: skip
    kept: dict[int, list[int]] = {27: [], 13: [], 1: []}
    members: dict[int, list[int]] = {27: [], 13: [], 1: []}
    total, origin = dict.fromkeys(kept, 0), []
    for number, layer in enumerate(layers):
        maps = layer.numpy()
        found |= _described(f"layer_{number}", maps[:used])
        variance = (maps**2).mean((0, 2, 3)) - maps.mean((0, 2, 3)) ** 2
        chosen = np.sort(np.argsort(-variance)[:limit])
        size = maps.shape[-1]
        kept[size] += (chosen + total[size]).tolist()
        members[size].append(number)
        total[size] += maps.shape[1]
        origin += [number] * len(chosen)
    for level, size in enumerate(kept):
        found |= {f"kept_{level}": np.array(kept[size]), f"kept_layers_{level}": np.array(members[size])}
        found[f"kept_shape_{level}"] = np.array([n_images, len(kept[size]), size, size])
    return found | {"layer_of_feature": np.array(origin)}


def _described(name: str, maps: np.ndarray) -> dict[str, np.ndarray]:
    pixel = maps[:, :256, maps.shape[2] // 2, maps.shape[3] // 3]
    return {f"{name}_shape": np.array(maps.shape), f"{name}_mean": maps[:, :256].mean((2, 3)), f"{name}_pix": pixel}
