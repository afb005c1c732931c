"""Correlations of published checkpoints, in the file or of predictions on a store, against the printed ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from nsdflow.analysis.published import Cell, beside_published
from nsdflow.engine.compute import choose_device, read_here, torch_threads
from nsdflow.fit.statistics import correlate_columns
from nsdflow.models.published import PublishedModel, load_checkpoint, read_published
from nsdflow.models.published_fwrf import is_fwrf, load_fwrf_file
from nsdflow.pipelines.adopt.files import kind_of_model
from nsdflow.pipelines.adopt.voxels import match_voxels
from nsdflow.pipelines.common.data import load_images
from nsdflow.pipelines.common.networks import BATCH_IMAGES
from nsdflow.store import Store

__all__ = ["checkpoint_cells"]

AS_THE_FILE_SAYS = "as the file says it; --store computes it from the responses"


def checkpoint_cells(path: Path, store: Store | None = None) -> tuple[Cell, ...]:
    """Compare medians and explained variance of a published file with the printed numbers, by subject and ROI.

    Parameters
    ----------
    path : Path
        File of GNet8j, GNet8r, transfer or AlexNet-fwRF.
    store : Store, optional
        Store of the voxels, the shared images and the responses to them. A GNet then predicts, and the first cells
        say how far the correlations are from those in the file. Without it, and for AlexNet-fwRF, the correlations in
        the file are used.

    Raises
    ------
    SelectionError
        Voxels do not match those of the store.
    SourceError
        The file is not one of the published programs.
    """
    if is_fwrf(read_published(path)):
        fwrf = load_fwrf_file(path)
        return _beside("alexnet_fwrf", fwrf.validation_accuracy, fwrf.roi, AS_THE_FILE_SAYS)
    model = load_checkpoint(path)
    name = kind_of_model(model)
    if store is None or name == "transfer":
        return _beside(name, model.validation_accuracy, model.roi, AS_THE_FILE_SAYS)
    positions = match_voxels(store, {s: model.flat_index[s] for s in model.readouts}, model.volume_shape, str(path))
    found = _correlations(model, store, positions)
    distances = [
        Cell(f"{name}, largest distance from r in the file", subject, "all",
             float(abs(accuracy - np.nan_to_num(model.validation_accuracy[subject])).max()), 0.0, float("nan"))
        for subject, accuracy in found.items()
    ]  # fmt: skip
    return (*distances, *_beside(name, found, model.roi, ""))


def _correlations(
    model: PublishedModel, store: Store, positions: Mapping[str, NDArray[np.intp]]
) -> dict[str, NDArray[np.float64]]:
    """(voxel,) correlations of predictions and single trials of the shared images, by subject."""
    measured = {s: read_here(store.responses(s, voxels=rows, shared=True)) for s, rows in positions.items()}
    ids = np.unique(np.concatenate([trials["nsd_id"].values for trials in measured.values()]))
    predicted = _predictions(model, torch.from_numpy(load_images(store, ids)), tuple(positions))
    found = {}
    for subject, trials in measured.items():
        rows = torch.from_numpy(np.searchsorted(ids, trials["nsd_id"].values))
        found[subject] = correlate_columns(predicted[subject][rows], torch.from_numpy(trials.values)).numpy()
    return found


@torch.no_grad()
def _predictions(model: PublishedModel, images: torch.Tensor, subjects: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """(image, voxel) by subject. The maps of a batch are computed once, for all readouts."""
    device = choose_device("auto")
    encoder = model.encoder.float().to(device)
    readouts = {subject: model.readouts[subject].float().to(device) for subject in subjects}
    parts: dict[str, list[torch.Tensor]] = {subject: [] for subject in subjects}
    with torch_threads(None):
        for batch in images.split(BATCH_IMAGES):
            maps = encoder(batch.to(device))
            for subject, readout in readouts.items():
                parts[subject].append(readout(maps).cpu())
    return {subject: torch.cat(part) for subject, part in parts.items()}


def _beside(
    name: str, accuracy: Mapping[str, NDArray[np.floating]], roi: Mapping[str, NDArray[np.number]], note: str
) -> tuple[Cell, ...]:
    """Cells of accuracies by subject, without the counts of voxels."""
    datasets = {
        subject: xr.Dataset(
            {"accuracy": ("voxel", np.nan_to_num(np.asarray(values, np.float64)))},
            coords={"roi": ("voxel", roi[subject].astype(np.int64))},
        )
        for subject, values in accuracy.items()
        if subject in roi
    }
    cells = beside_published(xr.DataTree.from_dict(datasets), name)
    kept = (cell for cell in cells if cell.quantity != "voxels")
    return tuple(
        replace(cell, quantity=f"{name}, {cell.quantity}", note="; ".join(filter(None, (cell.note, note))))
        for cell in kept
    )
