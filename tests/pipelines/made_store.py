"""A store of random responses for given voxels, without any NSD."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import scipy.stats
import torch
import xarray as xr

import nsdflow
from nsdflow.models.published import load_checkpoint
from nsdflow.names import PRF_VISUALROIS
from nsdflow.nsd.betas import session_statistics
from nsdflow.store.build import STATISTICS, create_stimuli, create_subject, publish_store, workspace_of
from nsdflow.store.schema import STIMULI_GROUP
from nsdflow.store.shard_format import open_sharded, write_region
from nsdflow.store.shard_sizes import cut_images, cut_subject
from nsdflow.store.voxels import flag_attributes

__all__ = ["make_store", "store_for"]

TRIALS, SHARED = 60, 10


def make_store(
    path: Path,
    voxels: Mapping[str, tuple[np.ndarray, np.ndarray, tuple[int, ...]]],
    *,
    size: int,
    seed: int = 0,
    signal: Callable[[str, np.ndarray], np.ndarray] | None = None,
) -> str:
    """Two sessions of 30 trials per subject; the first ten images are shared.

    ``voxels`` by subject: flat index and ROI label of each, in the order of the store, and the volume's shape.
    ``signal`` gives the responses (image, voxel) of a subject to some images; without it they are noise.
    """
    random, workspace = np.random.default_rng(seed), workspace_of(str(path))
    ids = np.concatenate([np.arange(SHARED), *(100 * (n + 1) + np.arange(25) for n in range(len(voxels)))])
    pixels = random.integers(0, 256, (len(ids), 3, size, size), dtype=np.uint8)
    for number, (subject, (flat_index, roi, shape)) in enumerate(voxels.items()):
        own = 100 * (number + 1) + np.arange(25)
        shown = np.concatenate([np.arange(SHARED), own, random.choice(own, TRIALS - SHARED - len(own))])
        shown = random.permutation(shown)
        table = xr.Dataset(coords={
            "flat_index": ("voxel", flat_index), "roi": ("voxel", roi.astype(np.int16)),
            "prf_visualrois": ("voxel", roi.astype(np.int16), flag_attributes(PRF_VISUALROIS)),
            "ncsnr": ("voxel", random.uniform(0.2, 1, len(roi)).astype(np.float32)),
        })  # fmt: skip
        trials = xr.Dataset(coords={
            "session": ("trial", np.repeat([1, 2], TRIALS // 2)), "run": ("trial", np.ones(TRIALS, int)),
            "nsd_id": ("trial", shown), "subject_image": ("trial", shown), "shared": ("trial", shown < SHARED),
            "repetition": ("trial", [int((shown[:i] == image).sum()) for i, image in enumerate(shown)]),
        })  # fmt: skip
        cut = cut_subject(sessions=2, trials=TRIALS // 2, voxels=len(roi), itemsize=2, arrays=12)
        attributes = {"subject": subject, "shape": list(shape), "sessions": [1, 2], "space": "func1pt8mm"}
        create_subject(
            workspace.built, subject, trials=trials, voxels=table, sessions=2, dtype="int16", cut=cut,
            attributes=attributes,
        )  # fmt: skip
        betas = random.integers(-900, 900, (TRIALS, len(roi)), dtype=np.int16)
        if signal is not None:
            rows = np.searchsorted(ids, shown)
            betas = (betas / 3 + 1000 * signal(subject, pixels)[rows]).astype(np.int16)
        group, halves = f"{workspace.built}/{subject}", betas.reshape(2, TRIALS // 2, -1)
        for session, values in enumerate(halves):
            write_region(open_sharded(f"{group}/betas"), (session * TRIALS // 2, 0), values)
        mean, std = (np.stack(values) for values in zip(*(session_statistics(v, 1 / 300) for v in halves), strict=True))
        flags = {"valid": np.ones(mean.shape, bool), "saturated": np.zeros(mean.shape, bool)}
        for name, values in {"beta_mean": mean, "beta_std": std, **flags}.items():
            assert name in STATISTICS
            write_region(open_sharded(f"{group}/{name}"), (0, 0), values)
    coords = xr.Dataset(coords={"nsd_id": ("image", ids), "shared": ("image", ids < SHARED)})
    cut = cut_images(images=len(ids), size=size, arrays=3)
    create_stimuli(workspace.built, coords, size=size, cut=cut, attributes={})
    write_region(open_sharded(f"{workspace.built}/{STIMULI_GROUP}/images"), (0, 0, 0, 0), pixels)
    publish_store(workspace, {"subjects": list(voxels)}, {"schema": 1, "nsdflow": nsdflow.__version__, "files": {}})
    return str(path)


def store_for(path: Path, checkpoint: Path, *, without: int = 0) -> str:
    """A store that holds the voxels of a checkpoint among others, in another order."""
    model, random = load_checkpoint(checkpoint), np.random.default_rng(1)
    voxels = {}
    for subject, own in model.all_flat_index.items():
        shape = model.volume_shape[subject]
        others = np.setdiff1d(np.arange(int(np.prod(shape))), own)[:5]
        index = np.concatenate([own[without:], others])
        roi = np.concatenate([model.all_roi[subject][without:], np.zeros(len(others))])
        order = random.permutation(len(index))
        voxels[subject] = (index[order], roi[order], shape)

    def signal(subject: str, images: np.ndarray) -> np.ndarray:
        """What the checkpoint predicts, scored; noise alone in voxels that it does not model."""
        predictions = model.predict(torch.from_numpy(images), subject).numpy()
        by_index = dict(zip(model.flat_index[subject].tolist(), scipy.stats.zscore(predictions).T, strict=True))
        return np.array([by_index.get(index, np.zeros(len(images))) for index in voxels[subject][0].tolist()]).T

    return make_store(path, voxels, size=227, signal=signal)
