"""Checkpoints of the published GNet (``gnet8j_model_params.pt`` and its kind), read without running code in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nsdflow.errors import MissingDataError, SourceError
from nsdflow.models.gnet import Encoder, LevelShape, Prefilter, Readout
from nsdflow.models.torch_files import read_torch_file
from nsdflow.names import LAYER_NAMES, subject_name

__all__ = ["PublishedModel", "by_subject", "load_checkpoint", "read_published"]


@dataclass(frozen=True)
class PublishedModel:
    """A published model. Mappings by subject have the keys "subj01" ...

    Attributes
    ----------
    encoder : Encoder
        Prefilter and trunk, in evaluation mode, on the CPU, in the precision of the file.
    readouts : mapping of str to Readout
        Readouts by subject, in the same state as ``encoder``.
    group : str or None
        ROI group of the trunk, in files of GNet8r and of transfer; None for GNet8j.
    group_mask : mapping of str to numpy.ndarray
        (early voxel,) bool, whether an early voxel has a readout; empty where all of them have one.
    input_mean : numpy.ndarray
        (3,), subtracted from image / 255. The encoder includes it.
    volume_shape : mapping of str to tuple of int
        Shape of the subject's volume; empty in files of the synthetic notebook.
    flat_index, roi : mapping of str to numpy.ndarray
        (voxel,) index of each readout's voxel in the volume, C order, and its ROI label; empty where the file has none.
    all_flat_index, all_roi : mapping of str to numpy.ndarray
        (early voxel,) index and ROI label of all early voxels.
    validation_accuracy : mapping of str to numpy.ndarray
        (voxel,) correlation over validation trials.
    train_loss, holdout_loss : numpy.ndarray
        (epoch,) loss.
    holdout_accuracy : mapping of str to numpy.ndarray
        (epoch, voxel) correlation over holdout trials.
    best_epoch : int
        Epoch of the best snapshot, from 0.
    best_score : float
        Median holdout correlation of that epoch.
    batch_size : int
        Trials per batch.
    holdout_frac : float
        Share of training trials in the holdout.
    """

    encoder: Encoder
    readouts: Mapping[str, Readout]
    group: str | None
    group_mask: Mapping[str, NDArray[np.bool_]]
    input_mean: NDArray[np.floating]
    volume_shape: Mapping[str, tuple[int, ...]]
    flat_index: Mapping[str, NDArray[np.int64]]
    roi: Mapping[str, NDArray[np.number]]
    all_flat_index: Mapping[str, NDArray[np.int64]]
    all_roi: Mapping[str, NDArray[np.number]]
    validation_accuracy: Mapping[str, NDArray[np.floating]]
    train_loss: NDArray[np.float64]
    holdout_loss: NDArray[np.float64]
    holdout_accuracy: Mapping[str, NDArray[np.floating]]
    best_epoch: int
    best_score: float
    batch_size: int
    holdout_frac: float

    @torch.no_grad()
    def predict(self, images: Tensor, subject: str, *, batch_size: int = 100) -> Tensor:
        """Predictions (image, voxel) for uint8 images (image, 3, y, x)."""
        return torch.cat([self.readouts[subject](self.encoder(batch)) for batch in images.split(batch_size)])


def load_checkpoint(path: str | Path, *, which: Literal["best", "final"] = "best") -> PublishedModel:
    """Read a checkpoint in the published file format.

    Parameters
    ----------
    path : str or path
        File such as ``gnet8j_model_params.pt``, or ``model_params_V1`` of GNet8r.
    which : {"best", "final"}
        The snapshot of the best epoch, or of the last.

    Returns
    -------
    PublishedModel
        Networks and results of the file.

    Raises
    ------
    MissingDataError
        There is no such file.
    SourceError
        The file is not such a checkpoint, or it holds anything but tensors, arrays, numbers, strings and plain
        containers. Nothing in it is executed.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingDataError(f"{path}: no such file; give a checkpoint such as gnet8j_model_params.pt")
    content = read_published(path)
    try:
        return _assemble(content, which)
    except (LookupError, TypeError, AttributeError, RuntimeError, ValueError) as error:
        raise SourceError(f"{path}: not a checkpoint of the published GNet ({type(error).__name__}: {error})") from None


def _assemble(content: Mapping[str, Any], which: Literal["best", "final"]) -> PublishedModel:
    parameters = content[f"{which}_params"]
    masks = by_subject(content.get("group_mask", {}), lambda mask: np.asarray(mask, dtype=bool))
    index = by_subject(content.get("voxel_index", {}), lambda index: np.asarray(index).astype(np.int64))
    roi = by_subject(content.get("voxel_roi", {}), np.asarray)
    encoder = _encoder(parameters["enc"])
    readouts = {subject_name(int(s)): _readout(state, encoder) for s, state in parameters["fwrfs"].items()}
    return PublishedModel(
        encoder=encoder,
        readouts=MappingProxyType(readouts),
        group=str(content["group_name"]) if "group_name" in content else None,
        group_mask=masks,
        input_mean=np.asarray(content["input_mean"]).reshape(3),
        volume_shape=by_subject(content.get("brain_nii_shape", {}), lambda shape: tuple(int(n) for n in shape)),
        flat_index=_masked(index, masks),
        roi=_masked(roi, masks),
        all_flat_index=index,
        all_roi=roi,
        validation_accuracy=by_subject(content["val_cc"], np.asarray),
        train_loss=np.asarray(content["trn_loss_history"], dtype=np.float64),
        holdout_loss=np.asarray(content["hold_loss_history"], dtype=np.float64),
        holdout_accuracy=by_subject(content["hold_cc_history"], np.asarray),
        best_epoch=int(content["best_epoch"]),
        best_score=float(content["best_joint_cc_score"]),
        batch_size=int(content["batch_size"]),
        holdout_frac=float(content["holdout_frac"]),
    )


def _masked(values: Mapping[str, NDArray[Any]], masks: Mapping[str, NDArray[np.bool_]]) -> Mapping[str, NDArray[Any]]:
    """Values of the voxels that have a readout."""
    return MappingProxyType({name: of[masks[name]] if name in masks else of for name, of in values.items()})


def by_subject(values: Mapping[int, Any], convert: Any) -> Mapping[str, Any]:
    """Convert the values of a published dictionary by subject number; keys become "subj01" ..."""
    return MappingProxyType({subject_name(int(subject)): convert(value) for subject, value in values.items()})


def _encoder(state: Mapping[str, Tensor]) -> Encoder:
    """Encoder from published names: ``mu``, ``pre.conv1.0``, ``enc.conv3``, ``enc.bn1``, ``enc.conv4a.conv1`` ..."""
    weights = {
        f"{ours}.{kind}": state[f"pre.{theirs}.0.{kind}"]
        for ours, theirs in (("features.0", "conv1"), ("features.3", "conv2"))
        for kind in ("weight", "bias")
    }
    encoder = Encoder(Prefilter(weights, mean=state["mu"]), width=len(state["enc.conv6b.conv1.bias"]))
    encoder.trunk.load_state_dict(
        {
            f"{layer}.{module}.{name}": state[f"{prefix}.{name}"]
            for layer in LAYER_NAMES
            for module, prefix in _published_modules(layer)
            for name in encoder.trunk.get_submodule(f"{layer}.{module}").state_dict()
        }
    )
    return encoder.eval()


def _published_modules(layer: str) -> Iterator[tuple[str, str]]:
    """Our module of a layer -> prefix of the published names."""
    if layer == "c3":
        yield from (("conv", "enc.conv3"), ("norm", "enc.bn1"))
    else:
        yield from ((ours, f"enc.conv{layer[1:]}.{theirs}") for ours, theirs in (("conv", "conv1"), ("norm", "bn1")))


def _readout(state: Mapping[str, Tensor], encoder: Encoder) -> Readout:
    logits = [state[name] for name in sorted(state) if name.startswith("rf")]
    features = encoder.trunk.level_features
    levels = [LevelShape(n, *level.shape[1:]) for n, level in zip(features, logits, strict=True)]
    readout = Readout(len(state["b"]), levels)
    named = {f"pooling_logits.{i}": level for i, level in enumerate(logits)}
    readout.load_state_dict({**named, "weights": state["w"], "bias": state["b"]})
    return readout.eval()


def _numpy_globals() -> list[Any]:
    """Functions that unpickle numpy's arrays and scalars, under the module names of numpy 1 and 2."""
    reconstruct, scalar = np.array(0).__reduce__()[0], np.float64(0).__reduce__()[0]
    functions: list[Any] = [
        (function, f"numpy.{core}.multiarray.{name}")
        for function, name in ((reconstruct, "_reconstruct"), (scalar, "scalar"))
        for core in ("core", "_core")
    ]
    dtypes = {type(np.dtype(code)) for code in "?bhilqBHILQefdgSU"}
    # a memmap pickles its values like any array; as a plain array it opens no file
    plain = [(np.ndarray, name) for name in ("numpy.memmap", "numpy.core.memmap.memmap", "numpy._core.memmap.memmap")]
    return [np.ndarray, np.dtype, *plain, *functions, *dtypes]


#: Everything besides torch's own list that a checkpoint may name. None of these runs code from the file.
_ALLOWED: Final = _numpy_globals()


def read_published(path: Path) -> Mapping[str, Any]:
    """Read the dictionary in a published file, without executing or opening anything in it.

    Raises
    ------
    SourceError
        The file is not a dictionary, or holds anything but tensors, arrays, numbers, strings and plain containers.
    """
    content = read_torch_file(path, allowed=_ALLOWED)
    if not isinstance(content, Mapping):
        raise SourceError(f"{path}: holds a {type(content).__name__}, not the published dictionary")
    return content
