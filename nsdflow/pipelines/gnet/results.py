"""A trained GNet as labelled arrays: weights, pooling fields and accuracies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr

from nsdflow.analysis import split_counts
from nsdflow.engine.compute import choose_device
from nsdflow.fit.gnet.evaluate import predict
from nsdflow.fit.streams import seed_of
from nsdflow.pipelines.common.evaluation import validation_accuracy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nsdflow.fit.gnet import TrainResult
    from nsdflow.models.gnet import Readout
    from nsdflow.pipelines.gnet.settings import TrainedPipeline
    from nsdflow.pipelines.gnet.training import TrainingData

__all__ = ["group_results", "model_state", "readout_arrays", "readout_bytes"]


def group_results(
    config: TrainedPipeline,
    data: TrainingData,
    result: TrainResult,
    layers: Mapping[str, slice],
    noted: Mapping[str, Any] | None = None,
) -> dict[str, xr.Dataset]:
    """``subj01`` ... with the best epoch's readout and its accuracy by voxel, and ``history`` by epoch.

    ``layers`` holds the slice of the features of each layer of the network, and becomes the coordinate ``layer``.
    ``noted`` becomes the attributes of the history.
    """
    layer = np.concatenate([np.full(part.stop - part.start, name) for name, part in layers.items()])
    device = choose_device(config.device)
    encoder = result.encoder.to(device)
    tree = {}
    for subject in data.subjects:
        readout = result.readouts[subject.subject].to(device)
        shown = np.unique(subject.nsd_id[subject.shared])
        rows = torch.from_numpy(np.searchsorted(data.nsd_ids, shown))
        predictions = predict(encoder, readout, data.images, rows, batch_size=config.train.batch_size)
        variables = readout_arrays(readout) | validation_accuracy(
            predictions.cpu().numpy(),
            shown,
            subject.responses[subject.shared],
            subject.nsd_id[subject.shared],
            subject.voxels.get("ncsnr"),
            resamples=config.bootstrap,
            seed=seed_of(config.seed, config.kind, "bootstrap", subject.subject),
            repetitions=None if subject.repetitions is None else subject.repetitions[subject.shared],
        )
        if result.best_epoch is not None:
            best = result.holdout_accuracy[subject.subject][result.best_epoch]
            variables["holdout_accuracy"] = xr.DataArray(best.numpy().astype(np.float32), dims="voxel")
        by_epoch = result.holdout_accuracy[subject.subject].numpy().astype(np.float32)
        variables["holdout_accuracy_history"] = xr.DataArray(by_epoch, dims=("epoch", "voxel"))
        counts = split_counts(subject.nsd_id, subject.shared, data.trials[subject.subject].holdout.numpy())
        coords = {
            **subject.voxels.coords,
            "layer": ("feature", layer),
            "epoch": np.arange(1, len(by_epoch) + 1),
        }
        tree[subject.subject] = xr.Dataset(variables).assign_coords(coords).assign_attrs(subject.attrs | counts)
    tree["history"] = history(result, noted or {})
    return tree


def readout_bytes(voxels: int) -> int:
    """Bytes while the readouts of some voxels are published: best and last epoch, three copies, published sizes."""
    weights, pixels, itemsize = 512, 25 * 25 + 13 * 13, 4
    return 2 * 3 * itemsize * voxels * (weights + pixels)


def readout_arrays(readout: Readout) -> dict[str, xr.DataArray]:
    """``weights`` (voxel, feature), ``bias`` (voxel), ``pooling_logits_0``, ``_1`` (voxel, y, x of the level)."""
    arrays = {
        "weights": xr.DataArray(_numpy(readout.weights), dims=("voxel", "feature")),
        "bias": xr.DataArray(_numpy(readout.bias), dims="voxel"),
    }
    for level, logits in enumerate(readout.pooling_logits):
        arrays[f"pooling_logits_{level}"] = xr.DataArray(_numpy(logits), dims=("voxel", f"y_{level}", f"x_{level}"))
    return arrays


def history(result: TrainResult, noted: Mapping[str, Any]) -> xr.Dataset:
    """Losses and holdout correlations by epoch, over all subjects and by subject; attributes ``noted``."""
    records = result.history
    subjects = list(records[0]["subjects"])
    by_subject = {
        name: (("epoch", "subject"), np.array([[record["subjects"][s][key] for s in subjects] for record in records]))
        for name, key in (
            ("subject_train_loss", "train_loss"),
            ("subject_holdout_loss", "holdout_loss"),
            ("subject_holdout_accuracy", "holdout_accuracy"),
        )
    }
    overall = {
        name: ("epoch", np.array([record[key] for record in records]))
        for name, key in (
            ("train_loss", "train_loss"),
            ("holdout_loss", "holdout_loss"),
            ("holdout_accuracy", "holdout_accuracy"),
            ("max_holdout_accuracy", "max_holdout_accuracy"),
            ("seconds", "seconds"),
        )
    }
    best = -1 if result.best_epoch is None else result.best_epoch
    return xr.Dataset(
        overall | by_subject,
        coords={"epoch": np.arange(1, len(records) + 1), "subject": subjects},
        attrs={
            "best_epoch": best + 1,
            "best_holdout_accuracy": result.best_score,
            "precision": result.precision,
            **noted,
            "prefilter_cache": result.prefilter_cache,
        },
    )


def model_state(result: TrainResult) -> Mapping[str, torch.Tensor]:
    """Tensors of the best epoch, ``encoder.*`` and ``readouts.subj01.*``, and under ``final.`` those of the last."""
    state: dict[str, Any] = {}
    snapshots = (("", result.encoder, result.readouts), ("final.", result.final_encoder, result.final_readouts))
    for prefix, encoder, readouts in snapshots:
        state |= {f"{prefix}encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
        for subject, readout in readouts.items():
            state |= {f"{prefix}readouts.{subject}.{name}": tensor for name, tensor in readout.state_dict().items()}
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}


def _numpy(tensor: torch.Tensor) -> NDArray[np.float32]:
    return tensor.detach().cpu().numpy().astype(np.float32)
