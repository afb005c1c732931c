"""Finished runs as plain torch modules: from images to predictions, with torch and safetensors alone.

``model.safetensors`` of a run holds everything: readouts, the network with its weights, and how images become its
input. Neither Zarr, Dask nor the settings of the run are needed. Networks of a library (``transformers:NAME``) need
that library, which builds them without weights.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from nsdflow.errors import MissingDataError, RunError
from nsdflow.io.paths import normalize
from nsdflow.io.tensors import load_tensors
from nsdflow.models.saved.frozen import fpf_parts, fwrf_parts
from nsdflow.models.saved.gnet import gnet_trunks
from nsdflow.models.saved.linear import linear_parts
from nsdflow.models.saved.parts import Part, unpack_about

__all__ = ["SavedModel", "load_model"]

#: Functions from (file, description, tensors, subject) to the subject and the parts of its model, by kind of model.
MODEL_READERS = {"fpf": fpf_parts, "fwrf": fwrf_parts, "linear": linear_parts}


class SavedModel(nn.Module):
    """One subject's voxels, predicted by one or several parts of a model.

    ``parts`` names them with the number of voxels of each. Parts of a GNet run with several trunks follow each other in
    the columns of the predictions. In every other run the voxels are in the order of its results.
    """

    def __init__(self, subject: str, parts: Sequence[Part]) -> None:
        super().__init__()
        self.subject, self.columns = subject, [part.columns for part in parts]
        self.parts = {part.name: len(part.readout.bias) for part in parts}  # type: ignore[arg-type]
        self.encoders = nn.ModuleList(part.encoder for part in parts)
        self.readouts = nn.ModuleList(part.readout for part in parts)
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> Tensor:
        """Predictions (image, voxel) of images (image, 3, y, x), uint8 or floats of 0 to 255."""
        pairs = zip(self.encoders, self.readouts, strict=True)
        predicted = torch.cat([readout(encoder(images)) for encoder, readout in pairs], dim=1)
        if any(columns is None for columns in self.columns):
            return predicted
        columns = torch.cat([columns for columns in self.columns if columns is not None])
        return predicted[:, torch.argsort(columns).to(predicted.device)]


def load_model(run: str | os.PathLike[str], subject: str | None = None) -> SavedModel:
    """Load the model of a finished run of kind gnet, fpf, fwrf, ridge or banded_ridge.

    Parameters
    ----------
    run : path
        Folder of the run, or a copy of its ``model.safetensors``.
    subject : str, optional
        Subject such as ``"subj01"``; the only one if None.

    Returns
    -------
    SavedModel
        The networks and readouts, in evaluation mode, on the CPU.

    Raises
    ------
    MissingDataError
        The run does not exist, is not finished, or has kept no model; or the library of its network is missing.
    RunError
        The file is damaged, or it is not one of a run.
    SelectionError
        The run lacks the subject, or has several.

    Examples
    --------
    >>> model = nsdflow.load_model("runs/gnet8j", "subj01")  # doctest: +SKIP
    >>> predictions = model(images)  # doctest: +SKIP
    """
    path = Path(normalize(run))
    file = path if path.suffix == ".safetensors" else path / "model.safetensors"
    if not file.is_file():
        raise MissingDataError(f"{path}: {_why_no_model(path)}")
    state = load_tensors(str(file))
    about = unpack_about(state)
    if about is None:
        return SavedModel(*gnet_trunks(file, state, subject))
    if about.get("kind") not in MODEL_READERS:
        raise RunError(f"{file}: a model of kind {about.get('kind')}; a newer nsdflow reads it")
    return SavedModel(*MODEL_READERS[about["kind"]](file, about, state, subject))


def _why_no_model(path: Path) -> str:
    """Why there is no model at a path; local checks only, since this runs where nothing but torch is installed."""
    if (path / "run.yaml").is_file():
        if not (path / "results.zarr").exists():
            return "the run is not finished; do nsdflow run again, it continues"
        return "a run that has kept no model; of ridge, run again with --set weights=true"
    if (path / "zarr.json").is_file():
        return "a store or results, not a run; give the folder of a finished run"
    if path.is_file():
        return "not a .safetensors file; nsdflow adopt makes runs of published files"
    there = "no run, for it has no run.yaml" if path.is_dir() else "no such run"
    return f"{there}; give the folder of a finished run, or its model.safetensors"
