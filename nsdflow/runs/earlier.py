"""What a pipeline takes from an earlier run that it builds on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from nsdflow.config.load import load_pipeline
from nsdflow.config.pipeline import GNetPipeline, ModelPipeline
from nsdflow.errors import MissingDataError, RunError, one_of
from nsdflow.fit.gnet.evaluate import predict
from nsdflow.models.gnet import level_shapes
from nsdflow.names import select_subjects
from nsdflow.runs import open_run
from nsdflow.runs.networks import load_gnet

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    import xarray as xr
    from numpy.typing import NDArray
    from torch import nn

    from nsdflow.models.gnet import Readout
    from nsdflow.runs.folder import RunFolder
    from nsdflow.store import Store

__all__ = ["SubjectModel", "Trunk", "input_subjects", "load_model", "run_settings", "voxels_of"]

Settings = TypeVar("Settings", bound=ModelPipeline)


@dataclass(frozen=True)
class Trunk:
    """An encoder with one subject's readout, and the voxels (columns) of the run that it predicts."""

    name: str
    encoder: nn.Module
    readout: Readout
    columns: NDArray[np.intp]


@dataclass(frozen=True)
class SubjectModel:
    """All that predicts one subject: a single trunk, or one for each group of voxels."""

    trunks: tuple[Trunk, ...]
    voxels: xr.Dataset
    """Voxel coordinates of the run."""

    def to(self, device: torch.device) -> SubjectModel:
        """Move the networks to a device."""
        for trunk in self.trunks:
            trunk.encoder.to(device)
            trunk.readout.to(device)
        return self

    def predict(self, images: torch.Tensor, *, batch_size: int = 100) -> NDArray[np.float32]:
        """Predictions (image, voxel) of images (image, 3, y, x), uint8, for all voxels of the run."""
        whole = np.empty((len(images), self.voxels.sizes["voxel"]), np.float32)
        for trunk in self.trunks:
            part = predict(trunk.encoder, trunk.readout, images, batch_size=batch_size)
            whole[:, trunk.columns] = part.cpu().numpy()
        return whole

    def check_size(self, images: torch.Tensor) -> None:
        """Refuse images of another size than those of the training.

        Raises
        ------
        RunError
            If the pooling fields of the readouts would not fit the feature maps.
        """
        for trunk in self.trunks:
            fields = [tuple(logits.shape[1:]) for logits in trunk.readout.pooling_logits]
            if fields != [(level.y, level.x) for level in level_shapes(trunk.encoder, images)]:
                raise RunError(
                    f"{trunk.name} was trained on images of another size than these of "
                    f"{images.shape[-1]} pixels; use the store it was trained on"
                )


def run_settings(run: RunFolder, *kinds: type[Settings]) -> Settings:
    """Settings of a run of one of these kinds of pipeline.

    Raises
    ------
    MissingDataError
        If there is no such run.
    RunError
        If it is a run of another kind.
    """
    if not run.exists("run.yaml"):
        raise MissingDataError(f"{run.path}: no such run; do nsdflow run first")
    config = load_pipeline(run.record()["pipeline"])
    if not isinstance(config, kinds):
        needed = " or ".join(kind.model_fields["kind"].default for kind in kinds)
        raise RunError(f"{run.path} is a run of kind {config.kind}; one of kind {needed} is needed")
    return config


def input_subjects(
    run: RunFolder, store: Store, wanted: str | Sequence[str], *kinds: type[ModelPipeline]
) -> tuple[str, ...]:
    """Subjects of a store that a run has, or is going to have if it is not there yet, and that are asked for."""
    if not run.exists("run.yaml"):
        return select_subjects(store.subjects, wanted)
    return select_subjects(select_subjects(store.subjects, run_settings(run, *kinds).subjects), wanted)


def load_model(run: RunFolder, subject: str) -> SubjectModel:
    """Networks of one subject of a finished GNet run.

    Raises
    ------
    MissingDataError
        If there is no such run, or it is not finished.
    RunError
        If it is a run of another kind.
    SelectionError
        If the run lacks the subject.
    """
    groups = run_settings(run, GNetPipeline).roi_groups or ()
    parts = groups if len(groups) > 1 else (None,)
    saved = {part: load_gnet(run, part) for part in parts}
    voxels = voxels_of(run, subject)
    trunks = []
    for part, networks in saved.items():
        if subject not in networks.readouts:
            continue  # a subject without voxels in one area
        columns = np.arange(voxels.sizes["voxel"]) if part is None else np.flatnonzero(voxels["part"].values == part)
        trunks.append(Trunk(networks.config.name, networks.encoder, networks.readouts[subject], columns))
    return SubjectModel(tuple(trunks), voxels)


def voxels_of(run: RunFolder, subject: str) -> xr.Dataset:
    """Voxel coordinates of one subject of a run, with the attributes of the subject.

    Raises
    ------
    SelectionError
        If the run lacks the subject.
    """
    results = open_run(run.path)
    if subject not in results.children:
        raise one_of(f"subject of {run.path}", subject, [name for name in results.children if name != "history"])
    dataset = results[subject].to_dataset()
    names = [name for name, coordinate in dataset.coords.items() if coordinate.dims == ("voxel",)]
    return dataset[names].load()
