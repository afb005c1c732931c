"""Small results of every kind of run, with the layout of runs and known numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml

from nsdflow.analysis import (
    accuracy_table,
    explainable_table,
    pooling_field_fits,
    pooling_fields,
    transfer_asymmetry,
    transfer_matrices,
    transfer_table,
    tuning,
    variance_partition,
)
from nsdflow.analysis.fields.gaussians import gaussian
from nsdflow.names import LAYER_NAMES
from nsdflow.pipelines.semantic.tasks import weigh_categories
from nsdflow.runs import write_results

AREAS = ("V1", "V2", "V3", "hV4")
SUBJECTS = ("subj01", "subj02")
Results = dict[str, xr.Dataset]


def cortex(voxels: int, seed: int, labels: int = 7) -> xr.Dataset:
    """Voxels of two hemispheres with accuracies below their ceilings; nothing else."""
    rng = np.random.default_rng(seed)
    shape = (40, 50, 40)
    side = rng.integers(0, 2, voxels)
    angle, height = rng.uniform(0, np.pi, voxels), rng.uniform(0, 1, voxels)
    i = np.round(20 + (2 * side - 1) * (3 + 14 * np.sin(angle) * (1 - 0.4 * height))).astype(int)
    j = np.round(25 + 18 * np.cos(angle) + rng.normal(0, 0.7, voxels)).astype(int)
    k = np.round(6 + 26 * height).astype(int)
    flat = np.ravel_multi_index((i, j, k), shape)
    flat, first = np.unique(flat, return_index=True)
    i, j, k = (axis[first] for axis in (i, j, k))
    roi = 1 + np.minimum((labels * j / 50).astype(int), labels - 1)
    ncsnr = rng.gamma(3.0, 0.14, flat.size) * (1.2 - 0.08 * roi)
    ceiling = np.sqrt(ncsnr**2 / (ncsnr**2 + 1))
    accuracy = ceiling * rng.beta(6, 3, flat.size) + rng.normal(0, 0.02, flat.size)
    grid = {"shape": shape, "affine": [1.8, 0, 0, -36, 0, 1.8, 0, -45, 0, 0, 1.8, -36, 0, 0, 0, 1]}
    return xr.Dataset(
        {
            "accuracy": ("voxel", accuracy.astype(np.float32)),
            "accuracy_std": ("voxel", np.full(flat.size, 0.02, np.float32)),
            "accuracy_shuffled": ("voxel", rng.normal(0, 0.02, flat.size).astype(np.float32)),
            "noise_ceiling": ("voxel", ceiling.astype(np.float32)),
        },
        coords={
            "flat_index": ("voxel", flat, grid),
            "i": ("voxel", i),
            "j": ("voxel", j),
            "k": ("voxel", k),
            "roi": ("voxel", roi),
            "ncsnr": ("voxel", ncsnr.astype(np.float32)),
        },
    )


def history(epochs: int, subjects: tuple[str, ...], seed: int = 0) -> xr.Dataset:
    rng = np.random.default_rng(seed)
    epoch = np.arange(1, epochs + 1)
    curve = 0.3 * (1 - np.exp(-epoch / (epochs / 5))) - 0.0008 * np.maximum(epoch - 0.7 * epochs, 0)
    each = curve[:, None] * np.linspace(1.3, 0.7, len(subjects)) + rng.normal(0, 0.003, (epochs, len(subjects)))
    return xr.Dataset(
        {
            "train_loss": ("epoch", 1 - 0.8 * curve),
            "holdout_loss": ("epoch", 1.01 - 0.55 * curve),
            "holdout_accuracy": ("epoch", each.mean(1)),
            "subject_holdout_accuracy": (("epoch", "subject"), each),
        },
        coords={"epoch": epoch, "subject": list(subjects)},
        attrs={"best_epoch": int(each.mean(1).argmax()) + 1},
    )


def gnet(voxels: int = 150, epochs: int = 8, subjects: tuple[str, ...] = SUBJECTS, size: int = 9) -> Results:
    tree = {}
    for number, name in enumerate(subjects):
        data = cortex(voxels, number)
        rng = np.random.default_rng(number)
        count = data.sizes["voxel"]
        x, y = rng.uniform(-0.35, 0.35, (2, count))
        width = np.log(0.05 + 0.25 * np.hypot(x, y) + 0.01 * data["roi"].values)
        zeros = np.zeros(count)
        planted = np.stack(
            [zeros, x, y, width, width + rng.normal(0, 0.2, count), rng.uniform(-0.7, 0.7, count), zeros], 1
        )
        for level, pixels in enumerate((size, size // 2 + 1)):
            field = np.log(gaussian(planted, pixels, pixels) + 0.02) + rng.normal(0, 0.1, (count, pixels, pixels))
            data[f"pooling_logits_{level}"] = (("voxel", f"y_{level}", f"x_{level}"), field.astype(np.float32))
        features = 4 * len(LAYER_NAMES)
        data["weights"] = (("voxel", "feature"), rng.normal(size=(count, features)).astype(np.float32))
        data["bias"] = ("voxel", np.zeros(count, np.float32))
        growth = (1 - np.exp(-np.arange(1, epochs + 1) / (epochs / 5)))[:, None]
        by_epoch = growth * data["accuracy"].values + rng.normal(0, 0.02, (epochs, count))
        data["holdout_accuracy_history"] = (("epoch", "voxel"), by_epoch.astype(np.float32))
        data = data.assign_attrs(training_trials=240, training_images=80, holdout_trials=27, holdout_images=27)
        data = data.assign_attrs(validation_trials=30, validation_images=10)
        tree[name] = data.assign_coords(layer=("feature", np.repeat(LAYER_NAMES, 4)), epoch=np.arange(1, epochs + 1))
    return {**tree, "history": history(epochs, subjects)}


def fwrf(voxels: int = 150, subjects: tuple[str, ...] = SUBJECTS) -> Results:
    tree = {}
    layers = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
    for number, name in enumerate(subjects):
        data = cortex(voxels, number, labels=17)
        rng = np.random.default_rng(number)
        count = data.sizes["voxel"]
        place = np.round(rng.normal(0, 0.18, (count, 2)) * 14) / 14
        sigma = 0.03 + 0.012 * data["roi"].values + 0.3 * np.hypot(*place.T) * rng.uniform(0.6, 1.4, count)
        sigma = 0.03 * 1.4 ** np.round(np.log(sigma / 0.03) / np.log(1.4))
        data["rf"] = (("voxel", "parameter"), np.column_stack([place, sigma]))
        depth = np.linspace(0, 1, len(layers))
        strength = np.exp(-((depth - data["roi"].values[:, None] / 20) ** 2) * 6)
        data["weights"] = (("voxel", "feature"), np.repeat(strength, 3, axis=1) * rng.normal(size=(count, 24)))
        data["holdout_loss"] = ("voxel", np.ones(count))
        data["lambda"] = ("voxel", rng.choice(np.geomspace(1e3, 1e6, 9), count).astype(np.float32))
        data.attrs["lambdas"] = np.geomspace(1e3, 1e6, 9).tolist()
        tree[name] = data.assign_coords(layer=("feature", np.repeat(layers, 3)), parameter=["x", "y", "sigma"])
    return {**tree, "candidates": xr.Dataset({"rf": (("candidate", "parameter"), candidates())})}


def candidates() -> np.ndarray:
    """The published grid: eight sizes, each with centres so dense that fields overlap."""
    grids = []
    for sigma in np.geomspace(0.03, 0.4, 8):
        centres = np.linspace(-0.55, 0.55, int(np.ceil(1.1 / sigma)))
        x, y = np.meshgrid(centres, centres)
        grids.append(np.column_stack([x.ravel(), y.ravel(), np.full(x.size, sigma)]))
    return np.concatenate(grids)


def transfer(voxels: int = 150, epochs: int = 8, subjects: tuple[str, ...] = SUBJECTS) -> Results:
    tree = {}
    for number, name in enumerate(subjects):
        data = cortex(voxels, number)
        own = np.searchsorted((3, 5, 7), data["roi"].values, side="right")
        steps = np.arange(4)[:, None] - own
        loss = np.where(steps > 0, 0.02 * steps, -0.008 * steps)
        noise = np.random.default_rng(number).normal(0, 0.02, loss.shape)
        data["transfer_accuracy"] = (("model", "voxel"), data["accuracy"].values - loss + noise)
        growth = (1 - np.exp(-np.arange(1, epochs + 1) / (epochs / 5)))[None, :, None]
        by_epoch = growth * data["transfer_accuracy"].values[:, None]
        data["transfer_holdout_accuracy_history"] = (("model", "epoch", "voxel"), by_epoch.astype(np.float32))
        tree[name] = data.assign_coords(model=list(AREAS), epoch=np.arange(1, epochs + 1))
    matrix = transfer_matrices(tree)
    histories = [history(epochs, subjects, seed) for seed in range(4)]
    joined = xr.concat(histories, xr.Variable("model", list(AREAS)), combine_attrs="drop_conflicts")
    return {**tree, "transfer": transfer_asymmetry(matrix).assign(transfer=matrix), "history": joined}


def tuned(voxels: int = 120, subjects: tuple[str, ...] = SUBJECTS) -> Results:
    tree = {}
    for number, name in enumerate(subjects):
        data = cortex(voxels, number)
        rng = np.random.default_rng(number)
        depth = (data["roi"].values[:, None] - 1) * 0.9
        strength = np.exp(-((depth - np.arange(len(LAYER_NAMES))) ** 2) / 6).astype(np.float32)
        parts = strength[None] * rng.standard_normal((100, *strength.shape), dtype=np.float32)
        noise = 3 * rng.standard_normal(parts.shape[:2], dtype=np.float32)
        result = tuning(
            xr.DataArray(parts, dims=("trial", "voxel", "partition")),
            xr.DataArray(parts.sum(-1) + noise, dims=("trial", "voxel")),
        )
        coords = {key: coord for key, coord in data.coords.items() if key != "ncsnr"}
        result = result.assign_coords(coords).assign_coords(partition=list(LAYER_NAMES))
        halves = result[["shared", "shared_error", "unique", "unique_error"]].isel(partition=[0, -1])
        halves = halves.assign_coords(partition=["first", "second"]).rename(partition="half")
        place = pooling_field_fits(pooling_fields(gnet(voxels, 2, (name,))[name]["pooling_logits_0"]))
        tree[name] = result.merge(halves.rename({v: f"half_{v}" for v in halves.data_vars})).assign(
            {v: ("voxel", np.resize(place[v].values, len(coords["roi"]))) for v in ("eccentricity", "size", "fitted")}
        )
    return tree


def banded(voxels: int = 120, subjects: tuple[str, ...] = SUBJECTS) -> Results:
    """Three bands; the deeper the band, the higher the area that it explains."""
    tree = {}
    for number, name in enumerate(subjects):
        data = cortex(voxels, number)
        rng = np.random.default_rng(number)
        strength = np.exp(-((data["roi"].values[:, None] / 3 - np.arange(3)) ** 2))
        parts = strength * rng.standard_normal((200, *strength.shape))
        responses = parts.sum(-1) + 2 * rng.standard_normal(parts.shape[:2])
        found = variance_partition(
            xr.DataArray(parts, dims=("trial", "voxel", "band"), coords={"band": ["edges", "shapes", "objects"]}),
            xr.DataArray(responses, dims=("trial", "voxel")),
            resamples=8,
        )
        tree[name] = data.merge(found)
    return tree


def semantic(voxels: int = 120, subjects: tuple[str, ...] = SUBJECTS) -> Results:
    """Thirty categories; each area prefers a different one."""
    tree, names = {}, [f"thing {number}" for number in range(30)]
    for number, name in enumerate(subjects):
        data = cortex(voxels, number)
        values = np.random.default_rng(number).random((40, len(names)))
        weights = np.eye(len(names))[np.clip(data["roi"].values, 0, 29)]
        tree[name] = data.merge(weigh_categories(weights, values, names))
    return tree


def tables(subjects: tuple[str, ...] = SUBJECTS) -> Results:
    trees = {
        name: xr.DataTree.from_dict(make(subjects=subjects))
        for name, make in (("GNet8j-fpf", gnet), ("Gabor-fwrf", fwrf), ("GNet8jft-fpf", gnet))
    }
    return {
        "accuracy": accuracy_table(trees).rename("explained_variance").to_dataset(),
        "explainable": explainable_table(trees).rename("share_of_explainable_variance").to_dataset(),
        "transfer": transfer_table(
            {
                name: transfer(voxels, subjects=subjects)["transfer"]["transfer"]
                for name, voxels in (("GNet8j", 200), ("Experimental", 150))
            }
        ),
    }


def synthetic(voxels: int = 150, subjects: tuple[str, ...] = SUBJECTS) -> Results:
    tree = {}
    for number, name in enumerate(subjects):
        data = cortex(voxels, number)
        rng = np.random.default_rng(number)
        measured = data["accuracy"].values
        data["gain"] = data["planted_accuracy"] = ("voxel", measured + rng.normal(0, 0.03, measured.size))
        data["measured_accuracy"], data["noise_std"] = ("voxel", measured), ("voxel", np.sqrt(1 - measured**2))
        data["mixing"] = (("voxel", "component"), rng.normal(size=(measured.size, 9)))
        tree[name] = data.drop_vars(["accuracy", "accuracy_std", "accuracy_shuffled"]).assign(
            residual=0.4, target_norm=20.0
        )
    return tree


def predicted() -> Results:
    images = {"nsd_id": ("image", np.arange(30))}
    return {
        name: xr.Dataset(
            {"predictions": (("image", "voxel"), np.ones((30, data.sizes["voxel"]), np.float32))},
            {**images, "roi": data["roi"]},
        )
        for name, data in ((name, cortex(60, 0)) for name in SUBJECTS)
    }


KINDS: dict[str, Callable[..., Results]] = {
    "gnet": gnet,
    "fwrf": fwrf,
    "transfer": transfer,
    "tuning": tuned,
    "banded_ridge": banded,
    "semantic": semantic,
    "tables": tables,
    "predict": predicted,
    "synthetic_data": synthetic,
}

RECORD = {
    "created": "2026-03-01T12:00:00+00:00",
    "pipeline": {
        "name": "a run",
        "kind": "gnet",
        "description": "a <small> run & its report",
        "protocol": "published",
        "subjects": ["subj01", "subj02"],
        "seed": 0,
        "train": {"epochs": 8, "learning_rate": 0.001},
    },
    "store": {"url": "nsd.zarr", "identity": "0123456789abcdef"},
    "commit": "0123456789abcdef0123456789abcdef01234567",
    "versions": {"python": "3.11.9", "nsdflow": "0.1.0", "torch": "2.13.0"},
    "machine": {"host": "somewhere", "system": "Linux", "cpus": 2},
}

LOG = """\
{"kind": "stage", "time": 100.0, "stage": "train", "total": 1, "done": 0}
{"kind": "epoch", "time": 120.0, "run": "a run", "epoch": 1, "epochs": 8, "seconds": 20.0, "loss": 0.9}
{"kind": "task-failed", "time": 130.0, "key": "train-joint", "stage": "train", "error": "worker died"}
{"kind": "task-done", "time": 400.0, "key": "train-joint", "stage": "train", "seconds": 270.0, "bytes": 0}
{"kind": "stage", "time": 401.0, "stage": "publish", "total": 1, "done": 0}
{"kind": "task-done", "time": 403.5, "key": "publish", "stage": "publish", "seconds": 2.5, "bytes": 1000}
"""


def write_run(folder: Path, kind: str, results: Results) -> Path:
    folder.mkdir(parents=True)
    record = {**RECORD, "pipeline": {**RECORD["pipeline"], "kind": kind, "name": folder.name}}  # type: ignore[dict-item]
    (folder / "run.yaml").write_text(yaml.safe_dump(record, sort_keys=False))
    (folder / "log.jsonl").write_text(LOG)
    write_results(folder, xr.DataTree.from_dict(results))
    return folder


@pytest.fixture(scope="session", name="cortex")
def cortex_of() -> Callable[..., xr.Dataset]:
    return cortex


@pytest.fixture(scope="session")
def results() -> dict[str, xr.DataTree]:
    """A tree of each kind."""
    return {kind: xr.DataTree.from_dict(make()) for kind, make in KINDS.items()}


@pytest.fixture(scope="session")
def run_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run folder of each kind."""
    runs = tmp_path_factory.mktemp("runs")
    for name in ("gnet8j", "gnet8r"):  # the runs that the page of the tables compares
        write_run(runs / name, "gnet", gnet(epochs=2))
    return {kind: write_run(runs / kind, kind, make()) for kind, make in KINDS.items()}
