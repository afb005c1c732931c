"""A trained GNet as labelled arrays: what it weighs, where it looks, how well it predicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr

from nsdflow.fit.evaluate import predict
from nsdflow.models.gnet import layer_slices
from nsdflow.workflows.compute import choose_device
from nsdflow.workflows.evaluation import validation_accuracy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nsdflow.config.pipeline import GNetPipeline
    from nsdflow.fit.gnet import TrainResult
    from nsdflow.models.gnet import Readout
    from nsdflow.workflows.data import SubjectTrials

__all__ = ["group_results", "model_state", "readout_arrays"]


def group_results(
    config: GNetPipeline,
    subjects: Sequence[SubjectTrials],
    nsd_ids: NDArray[np.int64],
    images: torch.Tensor,
    result: TrainResult,
) -> dict[str, xr.Dataset]:
    """``subj01`` ... with the best epoch's readout and its accuracy by voxel, and ``history`` by epoch.

    ``images`` (image, channel, y, x) are those of ``nsd_ids`` (image,), ascending.
    """
    device = choose_device(config.device)
    encoder = result.encoder.to(device)
    tree = {}
    for subject in subjects:
        readout = result.readouts[subject.subject].to(device)
        shown = np.unique(subject.nsd_id[subject.shared])
        rows = torch.from_numpy(np.searchsorted(nsd_ids, shown))
        predictions = predict(encoder, readout, images, rows, batch_size=config.train.batch_size)
        variables = readout_arrays(readout, config.width)
        variables |= validation_accuracy(
            predictions.cpu().numpy(),
            shown,
            subject.responses[subject.shared],
            subject.nsd_id[subject.shared],
            subject.voxels.get("ncsnr"),
            resamples=config.bootstrap,
            seed=config.seed,
        )
        holdout = result.holdout_cc[subject.subject]
        if result.best_epoch is not None:
            best = np.asarray(holdout[result.best_epoch], dtype=np.float32)
            variables["holdout_accuracy"] = xr.DataArray(best, dims="voxel")
        tree[subject.subject] = xr.Dataset(variables).assign_coords(subject.voxels.coords).assign_attrs(subject.attrs)
    tree["history"] = history(result)
    return tree


def readout_arrays(readout: Readout, width: int) -> dict[str, xr.DataArray]:
    """``weights`` (voxel, feature), ``bias`` (voxel), ``pooling_logits_0``, ``_1`` (voxel, y, x of the level)."""
    layer = np.concatenate([[name] * (part.stop - part.start) for name, part in layer_slices(width).items()])
    arrays = {
        "weights": xr.DataArray(
            _numpy(readout.weights), dims=("voxel", "feature"), coords={"layer": ("feature", layer)}
        ),
        "bias": xr.DataArray(_numpy(readout.bias), dims="voxel"),
    }
    for level, logits in enumerate(readout.pooling_logits):
        arrays[f"pooling_logits_{level}"] = xr.DataArray(_numpy(logits), dims=("voxel", f"y_{level}", f"x_{level}"))
    return arrays


def history(result: TrainResult) -> xr.Dataset:
    """Losses and holdout correlations by epoch, over all subjects and by subject."""
    records = result.history
    subjects = list(records[0]["subjects"])
    by_subject = {
        name: (("epoch", "subject"), np.array([[record["subjects"][s][key] for s in subjects] for record in records]))
        for name, key in (
            ("subject_train_loss", "train_loss"),
            ("subject_holdout_loss", "holdout_loss"),
            ("subject_holdout_accuracy", "holdout_cc_median"),
        )
    }
    overall = {
        name: ("epoch", np.array([record[key] for record in records]))
        for name, key in (
            ("train_loss", "train_loss"),
            ("holdout_loss", "holdout_loss"),
            ("holdout_accuracy", "holdout_cc_median"),
            ("seconds", "seconds"),
        )
    }
    best = -1 if result.best_epoch is None else result.best_epoch
    return xr.Dataset(
        overall | by_subject,
        coords={"epoch": np.arange(1, len(records) + 1), "subject": subjects},
        attrs={"best_epoch": best + 1, "best_holdout_accuracy": result.best_score, "precision": result.precision},
    )


def model_state(result: TrainResult) -> Mapping[str, torch.Tensor]:
    """Tensors of the best epoch's networks: ``encoder.*`` and ``readouts.subj01.*``."""
    state: dict[str, Any] = {f"encoder.{name}": tensor for name, tensor in result.encoder.state_dict().items()}
    for subject, readout in result.readouts.items():
        state |= {f"readouts.{subject}.{name}": tensor for name, tensor in readout.state_dict().items()}
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}


def _numpy(tensor: torch.Tensor) -> NDArray[np.float32]:
    return tensor.detach().cpu().numpy().astype(np.float32)
