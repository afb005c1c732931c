"""Small stores made from arrays, and the arrays."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from nsdflow.config.storage import Layout
from nsdflow.nsd.annotations import encode_rle
from nsdflow.store import Store, open_store
from nsdflow.store.annotations import write_annotations
from nsdflow.store.build import create_stimuli, create_subject, publish_store, workspace_of
from nsdflow.store.shard_format import open_sharded, write_region
from nsdflow.store.shard_sizes import cut_images, cut_subject
from nsdflow.store.voxels import voxel_table

SHAPE = (6, 7, 8)
AFFINE = np.array([[1.8, 0, 0, -4.5], [0, 1.8, 0, -5.4], [0, 0, 1.8, -6.3], [0, 0, 0, 1]])
PRF_LABELS = dict(enumerate(["Unknown", "V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "hV4"]))
FACES = {0: "Unknown", 1: "OFA", 2: "FFA-1", 3: "FFA-2"}


@dataclass(frozen=True)
class Recording:
    """One subject as arrays: the values that its store must return."""

    volumes: np.ndarray
    """(session, trial, i, j, k) int16"""
    sessions: tuple[int, ...]
    mask: np.ndarray
    roi: np.ndarray
    prf: np.ndarray
    faces: np.ndarray
    general: np.ndarray
    ncsnr: np.ndarray
    nsd_id: np.ndarray
    shared: np.ndarray
    hemisphere: np.ndarray
    eccentricity: np.ndarray

    @property
    def trials(self) -> int:
        return self.volumes.shape[1]

    def at(self, flat: np.ndarray) -> np.ndarray:
        """(trial of all sessions, voxel) int16 at C-order indices, voxel by voxel in a plain loop."""
        rows = self.volumes.reshape(-1, *self.volumes.shape[2:])
        i, j, k = np.unravel_index(flat, self.mask.shape)
        return np.stack([rows[:, a, b, c] for a, b, c in zip(i, j, k, strict=True)], axis=1)


def make_recording(seed: int = 0, sessions: tuple[int, ...] = (1, 2, 4), trials: int = 15) -> Recording:
    rng = np.random.default_rng(seed)
    volumes = np.clip(rng.normal(30, 500, (len(sessions), trials, *SHAPE)).round(), -32768, 32767).astype(np.int16)
    volumes[:, :, 0, 0, 0] = 0  # a voxel without data
    volumes[0, :, 0, 0, 1] = 77  # constant in one session
    volumes[:, 0, 0, 0, 2], volumes[:, 1, 0, 0, 2] = 32767, -32768  # saturated
    mask = rng.random(SHAPE) < 0.7
    mask[0, 0, :3] = True
    prf = rng.integers(-1, 8, SHAPE).astype(np.int16)
    kastner = rng.integers(-1, 26, SHAPE).astype(np.int16)
    count = len(sessions) * trials
    return Recording(
        volumes=volumes,
        sessions=sessions,
        mask=mask,
        roi=np.where(prf > 0, prf, kastner).astype(np.int16),
        prf=prf,
        faces=rng.integers(-1, 4, SHAPE).astype(np.int16),
        general=rng.integers(-1, 2, SHAPE).astype(np.int16),
        ncsnr=np.where(rng.random(SHAPE) < 0.1, np.nan, rng.random(SHAPE)).astype(np.float32),
        nsd_id=rng.integers(0, count // 2, count) * 7,
        shared=rng.random(count) < 0.3,
        hemisphere=np.broadcast_to((np.arange(SHAPE[0]) >= SHAPE[0] // 2)[:, None, None], SHAPE).astype(np.int16),
        eccentricity=np.where(rng.random(SHAPE) < 0.1, np.nan, 8 * rng.random(SHAPE)).astype(np.float32),
    )


def make_store(
    path: Path,
    recording: Recording,
    images: np.ndarray | None = None,
    layout: Layout | None = None,
    annotations: xr.Dataset | None = None,
) -> Store:
    """Build and publish a store of one subject, subj01, and perhaps images (image, 3, size, size)."""
    layout = layout or Layout(chunk_voxels=16, shard_voxels=48)
    place = workspace_of(path)
    atlases = {
        "prf-visualrois": (recording.prf, PRF_LABELS),
        "floc-faces": (recording.faces, FACES),
        "nsdgeneral": (recording.general, {1: "nsdgeneral"}),
    }
    voxels = voxel_table(
        np.flatnonzero(recording.mask),
        recording.mask.shape,
        roi=recording.roi,
        atlases=atlases,
        ncsnr=recording.ncsnr,
        affine=AFFINE,
        hemisphere=recording.hemisphere,
    )
    eccentricity = recording.eccentricity.ravel()[voxels["flat_index"].values].astype(np.float32)
    described = {"units": "degree", "long_name": "pRF eccentricity"}
    voxels = voxels.assign_coords(prf_eccentricity=("voxel", eccentricity, described))
    count = len(recording.nsd_id)
    trials = xr.Dataset(
        coords={
            "session": ("trial", np.repeat(recording.sessions, recording.trials)),
            "run": ("trial", np.ones(count)),
            "nsd_id": ("trial", recording.nsd_id),
            "subject_image": ("trial", np.unique(recording.nsd_id, return_inverse=True)[1]),
            "repetition": ("trial", pd.Series(recording.nsd_id).groupby(recording.nsd_id).cumcount()),
            "shared": ("trial", recording.shared),
            "rt": ("trial", np.where(np.arange(count) % 5 == 0, np.nan, 700.0)),
        }
    )
    sessions = len(recording.sessions)
    names = {*trials.variables, *voxels.variables}
    size = voxels.sizes["voxel"]
    cut = cut_subject(
        sessions=sessions, trials=recording.trials, voxels=size, itemsize=2, arrays=len(names), layout=layout
    )
    attributes: dict[str, Any] = {"subject": "subj01", "space": "func1pt8mm", "voxel_set": "brain"}
    attributes |= {"shape": list(SHAPE), "affine": AFFINE.ravel().tolist(), "sessions": list(recording.sessions)}
    create_subject(
        place.built, "subj01", trials=trials, voxels=voxels, sessions=sessions, dtype="int16", cut=cut,
        attributes=attributes,
    )  # fmt: skip
    values = recording.at(voxels["flat_index"].values)
    percent = values.reshape(sessions, recording.trials, size).astype(np.float64) / 300
    arrays: dict[str, Any] = {
        "betas": values,
        "beta_mean": percent.mean(axis=1).astype(np.float32),
        "beta_std": percent.std(axis=1).astype(np.float32),
        "valid": percent.any(axis=1),
        "saturated": (abs(values.astype(int) + 0.5) > 32767).reshape(sessions, recording.trials, size).any(axis=1),
    }
    for name, array in arrays.items():
        write_region(open_sharded(f"{place.built}/subj01/{name}"), (0, 0), array)
    if images is not None:
        _add_images(place.built, images, layout)
    if annotations is not None:
        write_annotations(place.built, annotations, {"licence": "CC BY 4.0"})
    publish_store(place, {"subjects": ["subj01"]}, {"files": json.loads("{}")})
    return open_store(path)


def _add_images(built: str, images: np.ndarray, layout: Layout) -> None:
    table = xr.Dataset(coords={"nsd_id": ("image", 7 * np.arange(len(images)))})
    size = images.shape[-1]
    cut = cut_images(images=len(images), size=size, arrays=1, layout=layout)
    create_stimuli(built, table, size=size, cut=cut, attributes={})
    write_region(open_sharded(f"{built}/stimuli/images"), (0, 0, 0, 0), images)


def zscore_as_published(percent: np.ndarray, sessions: int) -> np.ndarray:
    """(trial, voxel) float32 percent signal change, z-scored in each session as the published notebooks do."""
    parts = []
    for part in np.split(percent, sessions):
        scored = (part - np.mean(part, axis=0, keepdims=True)) / (np.std(part, axis=0, keepdims=True) + 1e-6)
        parts.append(np.nan_to_num(scored))
    return np.concatenate(parts)


@pytest.fixture(scope="session")
def recording() -> Recording:
    return make_recording()


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (23, 3, 9, 9), dtype=np.uint8)


@pytest.fixture(scope="session")
def annotations() -> xr.Dataset:
    """Annotations of ``images``: an apple on each even one, a dog of growing size on each third."""
    count = 23
    numbers = np.arange(count)
    instances = np.stack([numbers % 2 == 0, 2 * (numbers % 3 == 0)], axis=1).astype(np.uint16)
    area = np.stack([0.1 * instances[:, 0], np.where(instances[:, 1], numbers / count, 0)], axis=1).astype(np.float32)
    small, half = np.zeros((40, 42), bool), np.zeros((10, 10), bool)
    small[0, 0] = half[:5] = True
    codes = [encode_rle(small), encode_rle(half)]
    texts = np.array([[f"Image {n}: a café", "" if n % 2 else "costs $5 & <b>"] for n in numbers], object)
    return xr.Dataset(
        {
            "instances": (("image", "category"), instances),
            "area": (("image", "category"), area),
            "captions": (("image", "caption"), texts),
            "instance_category": ("instance", np.array(["dog", "apple"], object)),
            "instance_nsd_id": ("instance", [0, 7 * 2]),
            "mask_size": (("instance", "side"), [[40, 42], [10, 10]]),
            "mask_end": ("instance", np.cumsum([len(code) for code in codes])),
            "mask_code": ("byte", np.frombuffer(b"".join(codes), np.uint8)),
            "person_instance": ("person", [0]),
            "keypoints": (("person", "keypoint", "axis"), np.array([[[0.2, 0.3], [np.nan, np.nan]]], np.float32)),
            "keypoint_visible": (("person", "keypoint"), np.array([[2, 0]], np.uint8)),
            "box": (("instance", "edge"), np.array([[0.1, 0.2, 0.5, 0.6], [0, 0, 1, 1]], np.float32)),
        },
        {
            "nsd_id": ("image", 7 * numbers),
            "category": ["apple", "dog"],
            "supercategory": ("category", np.array(["food", "animal"], object)),
            "category_id": ("category", [53, 18]),
            "keypoint": ["nose", "tail"],
        },
    )


@pytest.fixture(scope="session")
def store(
    recording: Recording, images: np.ndarray, annotations: xr.Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Store:
    """A published store of ``recording``, ``images`` and ``annotations``; read only."""
    return make_store(tmp_path_factory.mktemp("stores") / "nsd.zarr", recording, images, annotations=annotations)


@pytest.fixture(scope="session")
def build_store() -> Callable[..., Store]:
    """``build_store(path, recording, images=None, layout=None)``."""
    return make_store


@pytest.fixture(scope="session")
def record() -> Callable[..., Recording]:
    """``record(seed, sessions, trials)``."""
    return make_recording


@pytest.fixture(scope="session")
def published_zscore() -> Callable[[np.ndarray, int], np.ndarray]:
    return zscore_as_published
