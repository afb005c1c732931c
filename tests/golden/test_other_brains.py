"""The golden tests of mapping pass unchanged on a second set of files with other sizes: it is made here by one loop per
target and tap, from the rules of NSD's MATLAB tool."""

from __future__ import annotations

import itertools
from math import floor
from pathlib import Path

import numpy as np

from tests.golden.again import run_again

FUNC, ANAT, MNI = (10, 14, 12), (9, 13, 11), (8, 10, 12)
NATIVE, AVERAGE, FRAMES, CUBE = 203, 170, 4, 11


def test_mapping_of_another_brain(tmp_path: Path) -> None:
    for name, arrays in second_set(np.random.default_rng(2)).items():
        np.savez(tmp_path / f"mapdata_{name}.npz", **arrays)
    assert " passed" in run_again(["test_mapdata"], tmp_path)


def second_set(rng: np.random.Generator) -> dict[str, dict[str, np.ndarray]]:
    func, labels = rng.normal(size=FUNC), rng.integers(-1, 5, FUNC).astype(float)
    holed = func.copy()
    holed[2:5, 3:6, 2:4] = np.nan
    there, back, template = (coordinates(rng, grid, origin) for grid, origin in
                             ((ANAT, FUNC), (FUNC, ANAT), (MNI, FUNC)))  # fmt: skip
    anat, linear_mni = rng.normal(size=ANAT), sampled(func, template, "linear")
    volumes = {
        "transform": there, "transform_back": back, "transform_mni": template,
        "func": func, "func_nan": holed, "labels": labels, "anat": anat,
        **{f"ml_{method}": sampled(func, there, method) for method in TAPS},
        **{f"ml_{method}_nan": sampled(holed, there, method) for method in TAPS},
        "ml_wta": winner(labels, there), "ml_back_linear": sampled(anat, back, "linear"),
        "py_anat_affine": affine(1.0, -(np.array(ANAT) - 1) / 2), "py_mni_affine": affine(1.0, (-91, -126, -72)),
        "py_mni_array_with_file": np.nan_to_num(linear_mni[::-1]),
    }  # fmt: skip
    layers = {f"transform_layerB{n}": coordinates(rng, (NATIVE,), FUNC) for n in (1, 2, 3)}
    on_layers = {
        f"ml_layerB{n}_{method}": sampled(func, layers[f"transform_layerB{n}"], method)
        for n in (1, 2, 3)
        for method in TAPS
    }
    surfaces = {
        "func": func, "labels": labels, **layers, **on_layers,
        "ml_layerB2_wta": winner(labels, layers["transform_layerB2"]),
        "ml_mean_cubic": sum(on_layers[f"ml_layerB{n}_cubic"] for n in (1, 2, 3)) / 3,
    }  # fmt: skip
    frames, whole = rng.normal(size=(*FUNC, FRAMES)), rng.integers(-900, 900, FUNC).astype(np.int16)
    rounded = [rounded_int16(value) for value in sampled(whole.astype(float), there, "linear").ravel()]
    return {
        "vol2vol": volumes,
        "vol2surf": surfaces,
        "surf2surf": exchanged(rng),
        "surf2vol": splatted(rng),
        "quirks": {
            "transform": there, "frames": frames, "func_int16": whole,
            "ml_frames_linear": np.stack(
                [sampled(frames[..., n], there, "linear") for n in range(FRAMES)], axis=-1
            ).astype(np.float32),
            "ml_int16_linear": np.array(rounded, np.int16).reshape(ANAT),
        },
    }  # fmt: skip


def coordinates(rng: np.random.Generator, grid: tuple[int, ...], origin: tuple[int, ...]) -> np.ndarray:
    """Random places in and around a volume, some of them planted at and beyond its borders."""
    found = rng.uniform(-1, np.array(origin) + 2, (*grid, 3)).astype(np.float32)
    rows = found.reshape(-1, 3)
    for axis, n in enumerate(origin):
        planted = (1, 1.25, 1.5, 1.999, 0.999, 0.5, 0, -3, n, n - 0.25, n + 0.001, n + 0.75, n + 1, n + 1.5, 12498.625,
                   19997.5, 9999, np.nan)  # fmt: skip
        for value in planted:
            row = rng.integers(len(rows))
            rows[row] = rng.uniform(1.5, np.array(origin) - 0.5)
            rows[row, axis] = value
    return found


def tap_weights(t: float) -> tuple[tuple[int, float], ...]:
    """Catmull-Rom: place of the tap and its weight."""
    return (
        (-1, -t / 2 + t**2 - t**3 / 2),
        (0, 1 - 5 * t**2 / 2 + 3 * t**3 / 2),
        (1, t / 2 + 2 * t**2 - 3 * t**3 / 2),
        (2, -(t**2) / 2 + t**3 / 2),
    )


#: Taps of a coordinate by method: (1-based place, weight).
TAPS = {
    "nearest": lambda c: ((floor(c + 0.5), 1.0),),
    "linear": lambda c: ((floor(c), 1 - (c - floor(c))), (floor(c) + 1, c - floor(c))),
    "cubic": lambda c: tuple((floor(c) + place, weight) for place, weight in tap_weights(c - floor(c))),
}


def sampled(source: np.ndarray, transform: np.ndarray, method: str) -> np.ndarray:
    rows = transform.reshape(-1, 3).astype(float)
    out = np.full(len(rows), np.nan)
    for row, place in enumerate(rows):
        if not all(1 <= c <= n for c, n in zip(place, source.shape, strict=True)):
            continue
        total = 0.0
        for taps in itertools.product(*(TAPS[method](c) for c in place)):
            index = tuple(min(max(tap, 1), n) - 1 for (tap, _), n in zip(taps, source.shape, strict=True))
            total += taps[0][1] * taps[1][1] * taps[2][1] * source[index]  # NaN times 0 is NaN
        out[row] = total
    return out.reshape(transform.shape[:-1])


def winner(labels: np.ndarray, transform: np.ndarray) -> np.ndarray:
    maps = {label: sampled((labels == label).astype(float), transform, "linear") for label in np.unique(labels)}
    out = np.full(transform.shape[:-1], -1.0)
    for place in np.ndindex(out.shape):
        shares = [(values[place], -label) for label, values in maps.items() if not np.isnan(values[place])]
        if shares:
            out[place] = -max(shares)[1]
    return out


def rounded_int16(value: float) -> int:
    """Half away from zero; -1 where there is nothing."""
    return -1 if np.isnan(value) else int(np.sign(value) * floor(abs(value) + 0.5))


def affine(size: float, origin: tuple[float, ...] | np.ndarray) -> np.ndarray:
    matrix = np.diag([size] * 3 + [1.0])
    matrix[:3, 3] = origin
    return matrix


def exchanged(rng: np.random.Generator) -> dict[str, np.ndarray]:
    there, back = rng.integers(1, NATIVE + 1, (AVERAGE, 1)), rng.integers(1, AVERAGE + 1, (NATIVE, 1))
    there[0], back[0] = NATIVE, AVERAGE
    native, average = rng.normal(size=(NATIVE, FRAMES)), rng.normal(size=AVERAGE)
    labels = rng.integers(0, 8, AVERAGE).astype(float)
    return {
        "white_to_fsaverage": there.astype(np.float32), "fsaverage_to_white": back.astype(np.float32),
        "native": native[:, 0], "native_frames": native, "fsaverage": average, "fsaverage_labels": labels,
        "py_native_to_fsaverage": np.array([native[int(one) - 1, 0] for one in there[:, 0]]),
        "py_native_frames_to_fsaverage": np.array([native[int(one) - 1] for one in there[:, 0]]),
        "py_fsaverage_to_native": np.array([average[int(one) - 1] for one in back[:, 0]]),
        "py_fsaverage_labels_to_native": np.array([labels[int(one) - 1] for one in back[:, 0]]),
    }  # fmt: skip


def splatted(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Weights of a vertex to the corners around it are sums over the axes; an integer has one corner, twice."""
    places = rng.uniform(1, CUBE, (NATIVE, 3)).astype(np.float32)
    places[:20] = np.round(2 * places[:20]) / 2
    values, labels = rng.normal(size=(NATIVE, 1)), rng.integers(0, 4, (NATIVE, 1))
    weights: dict[tuple[int, ...], list[tuple[float, int]]] = {}
    for vertex, place in enumerate(places.astype(float)):
        for corner in itertools.product(*((floor(c), -floor(-c)) for c in place)):
            weight = sum(1 - abs(c - at) for c, at in zip(place, corner, strict=True))
            weights.setdefault(tuple(at - 1 for at in corner), []).append((weight, vertex))
    linear, won = np.full((CUBE,) * 3, -7.0), np.full((CUBE,) * 3, -1.0)
    for corner, parts in weights.items():
        total = sum(weight for weight, _ in parts)
        if total < 1e-5:
            continue
        linear[corner] = sum(weight * values[vertex, 0] for weight, vertex in parts) / total
        votes = [sum(weight for weight, vertex in parts if labels[vertex, 0] == label) for label in range(4)]
        won[corner] = int(np.argmax(votes))
    return {
        "coords": places, "values": values, "labels": labels, "res": np.array(CUBE),
        "ml_linear": linear[..., None], "ml_surfacewta": won,
    }  # fmt: skip
