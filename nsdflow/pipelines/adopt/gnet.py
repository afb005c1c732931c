"""Published GNet8j, GNet8r and transfer files as runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from nsdflow.analysis import noise_ceiling
from nsdflow.errors import SelectionError
from nsdflow.models.gnet import Readout, layer_slices
from nsdflow.models.published import PublishedModel
from nsdflow.pipelines.adopt.voxels import match_voxels, subject_table
from nsdflow.pipelines.gnet.input_mean import JOINT
from nsdflow.pipelines.gnet.results import readout_arrays
from nsdflow.pipelines.gnet.settings import GNetPipeline, TrainSection
from nsdflow.pipelines.transfer import TransferPipeline, TransferPublication, publish_transfer
from nsdflow.runs.folder import RunFolder
from nsdflow.runs.parts import PublishPartsJob, publish_parts, write_part
from nsdflow.store import Store

__all__ = ["PublishedFile", "adopt_gnet", "adopt_transfer"]


@dataclass(frozen=True)
class PublishedFile:
    """One file of the published GNet programs: the networks of its best and of its last epoch."""

    path: str
    best: PublishedModel
    final: PublishedModel

    @property
    def part(self) -> str:
        """Name of the trunk."""
        return self.best.group or JOINT


def adopt_gnet(files: Sequence[PublishedFile], store: Store, folder: RunFolder) -> None:
    """Make a run of one GNet8j file, or of the files of GNet8r's trunks.

    Raises
    ------
    SelectionError
        Voxels do not match those of the store.
    """
    positions = {file.path: _positions(store, file, file.best.flat_index) for file in files}
    first = files[0].best
    groups = tuple(file.part for file in files)
    config = GNetPipeline(
        name=folder.name,
        description=_adopted(files),
        subjects=_subjects(store, positions.values()),
        roi_groups=None if groups == (JOINT,) else groups,
        width=first.encoder.trunk.width,
        bootstrap=0,
        train=_training(first),
    )
    folder.begin(config, store.url, {file.path: (file.path,) for file in files})
    for file in files:
        results, state = _part(store, file, positions[file.path])
        write_part(folder.path, file.part, results, state)
    publish_parts(PublishPartsJob(folder.path, store.url, tuple(groups)))


def adopt_transfer(
    files: Sequence[PublishedFile], store: Store, folder: RunFolder, trunks: RunFolder,
    flat_index: Mapping[str, NDArray[np.int64]],
) -> None:  # fmt: skip
    """Make a run of the files of readouts on the trunks of GNet8r.

    Parameters
    ----------
    files : sequence of PublishedFile
        Files of the readouts, one per trunk.
    folder : RunFolder
        Folder of the new run.
    trunks : RunFolder
        Folder of the finished run of the trunks.
    flat_index : mapping of str to array of int
        (early voxel,) index in the volume, for files without indices.

    Raises
    ------
    SelectionError
        Voxels do not match those of the store.
    """
    positions = {file.path: _positions(store, file, file.best.flat_index or flat_index) for file in files}
    parts = tuple(file.part for file in files)
    config = TransferPipeline(
        name=folder.name,
        description=_adopted(files),
        subjects=_subjects(store, positions.values()),
        trunks=trunks.path,
        trunk_rois=parts,
        bootstrap=0,
        train=_training(files[0].best),
    )
    folder.begin(config, store.url, {file.path: (file.path,) for file in files})
    for file in files:
        results, state = _part(store, file, positions[file.path])
        write_part(folder.path, file.part, results, state)
    publish_transfer(TransferPublication(folder.path, trunks.path, parts))


def _positions(store: Store, file: PublishedFile, flat_index: Mapping[str, NDArray[np.int64]]) -> dict[str, Any]:
    for subject, readout in file.best.readouts.items():
        if subject not in flat_index:
            raise SelectionError(
                f"{file.path} has no voxel_index for {subject}; adopt it together with the file of GNet8r or GNet8j "
                "of the same voxels"
            )
        if len(flat_index[subject]) != len(readout.bias):
            raise SelectionError(
                f"{file.path}: {len(readout.bias)} readouts for {len(flat_index[subject])} voxels of {subject}"
            )
    wanted = {subject: flat_index[subject] for subject in file.best.readouts}
    return match_voxels(store, wanted, file.best.volume_shape, file.path)


def _part(
    store: Store, file: PublishedFile, positions: Mapping[str, NDArray[np.intp]]
) -> tuple[dict[str, xr.Dataset], dict[str, torch.Tensor]]:
    """Results and tensors of one trunk, voxels in the order of the store."""
    model, results = file.best, {}
    state = {f"encoder.{name}": tensor for name, tensor in model.encoder.state_dict().items()}
    state |= {f"final.encoder.{name}": tensor for name, tensor in file.final.encoder.state_dict().items()}
    slices = layer_slices(model.encoder.trunk.width)
    layer = np.concatenate([np.full(part.stop - part.start, name) for name, part in slices.items()])
    for subject, places in positions.items():
        order = np.argsort(places)
        best, final = (_reordered(one.readouts[subject], order) for one in (model, file.final))
        state |= {f"readouts.{subject}.{name}": tensor for name, tensor in best.state_dict().items()}
        state |= {f"final.readouts.{subject}.{name}": tensor for name, tensor in final.state_dict().items()}
        table, attrs = subject_table(store, subject, places[order])
        by_epoch = np.atleast_2d(model.holdout_accuracy[subject])[:, order].astype(np.float32)
        accuracy = np.nan_to_num(model.validation_accuracy[subject][order]).astype(np.float32)
        variables = readout_arrays(best) | {
            "accuracy": xr.DataArray(accuracy, dims="voxel", attrs={"long_name": "accuracy as the file says it"}),
            "holdout_accuracy": xr.DataArray(by_epoch[model.best_epoch], dims="voxel"),
            "holdout_accuracy_history": xr.DataArray(by_epoch, dims=("epoch", "voxel")),
        }
        if "ncsnr" in table:
            ceiling = noise_ceiling(table["ncsnr"]).reset_coords(drop=True).astype(np.float32)
            variables["noise_ceiling"] = ceiling
        coords = {**table.coords, "layer": ("feature", layer), "epoch": np.arange(1, len(by_epoch) + 1)}
        results[subject] = xr.Dataset(variables).assign_coords(coords).assign_attrs(attrs)
    results["history"] = _history(model, list(positions))
    return results, state


def _history(model: PublishedModel, subjects: Sequence[str]) -> xr.Dataset:
    """Curves by epoch. Totals include subjects that the store lacks, as in the training."""
    joined = np.concatenate([np.atleast_2d(cc) for cc in model.holdout_accuracy.values()], axis=1)
    medians = np.array([np.median(np.atleast_2d(model.holdout_accuracy[name]), axis=1) for name in subjects]).T
    return xr.Dataset(
        {
            "train_loss": ("epoch", model.train_loss),
            "holdout_loss": ("epoch", model.holdout_loss),
            "holdout_accuracy": ("epoch", np.median(joined, axis=1)),
            "max_holdout_accuracy": ("epoch", joined.max(axis=1)),
            "subject_holdout_accuracy": (("epoch", "subject"), medians),
        },
        coords={"epoch": np.arange(1, len(joined) + 1), "subject": list(subjects)},
        attrs={
            "best_epoch": model.best_epoch + 1,
            "best_holdout_accuracy": model.best_score,
            "input_mean": [float(value) for value in model.input_mean],
            "input_mean_over": "as the file says it",
        },
    )


def _reordered(readout: Readout, order: NDArray[np.intp]) -> Readout:
    """A readout with its voxels in another order."""
    rows = torch.from_numpy(order)
    with torch.no_grad():
        for parameter in readout.parameters():
            parameter.data = parameter.data[rows].float().contiguous()
    return readout


def _subjects(store: Store, positions: Any) -> tuple[str, ...]:
    found = {subject for one in positions for subject in one}
    return tuple(subject for subject in store.subjects if subject in found)


def _training(model: PublishedModel) -> TrainSection:
    return TrainSection(epochs=len(model.train_loss), batch_size=model.batch_size, holdout_fraction=model.holdout_frac)


def _adopted(files: Sequence[PublishedFile]) -> str:
    names = ", ".join(file.path.rpartition("/")[2] for file in files)
    return f"adopted from {names}"
