"""Checkpoints of the published GNet (``gnet8j_model_params.pt`` and its kind), read without running code in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import torch
from torch import Tensor

from nsdflow.errors import MissingDataError, SourceError
from nsdflow.models.gnet import Encoder, LevelShape, Prefilter, Readout
from nsdflow.models.torch_files import read_torch_file
from nsdflow.names import LAYER_NAMES, subject_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PublishedModel", "load_checkpoint"]


@dataclass(frozen=True)
class PublishedModel:
    """A published model; everything by subject is keyed "subj01" ...

    Parameters
    ----------
    encoder, readouts
        In evaluation mode, on the CPU, in the precision of the file.
    input_mean
        (3,), subtracted from image / 255; the encoder has it already.
    volume_shape, flat_index, roi
        Shape of the subject's volume; (voxel,) index of each voxel in it, C order; (voxel,) ROI label.
    validation_accuracy
        (voxel,) correlation on validation trials.
    train_loss, holdout_loss, holdout_cc
        One value an epoch; and (epoch, voxel).
    best_epoch, best_score
        Epoch, counted from 0, and median holdout correlation of the best snapshot.
    """

    encoder: Encoder
    readouts: Mapping[str, Readout]
    input_mean: NDArray[np.floating]
    volume_shape: Mapping[str, tuple[int, ...]]
    flat_index: Mapping[str, NDArray[np.int64]]
    roi: Mapping[str, NDArray[np.integer]]
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
    which
        The snapshot of the best epoch, or that of the last.

    Raises
    ------
    MissingDataError
        There is no such file.
    SourceError
        It is not such a checkpoint, or holds anything but tensors, arrays, numbers, strings and plain containers;
        nothing of it has been executed then.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingDataError(f"{path}: no such file; give a checkpoint such as gnet8j_model_params.pt")
    content = _read(path)
    try:
        return _assemble(content, which)
    except (LookupError, TypeError, AttributeError, RuntimeError, ValueError) as error:
        raise SourceError(
            f"{path}: not a checkpoint of the published GNet ({type(error).__name__}: {error})"
        ) from error


def _assemble(content: Mapping[str, Any], which: Literal["best", "final"]) -> PublishedModel:
    parameters = content[f"{which}_params"]
    encoder = _encoder(parameters["enc"])
    readouts = {subject_name(int(s)): _readout(state, encoder) for s, state in parameters["fwrfs"].items()}
    return PublishedModel(
        encoder=encoder,
        readouts=MappingProxyType(readouts),
        input_mean=np.asarray(content["input_mean"]).reshape(3),
        volume_shape=_by_subject(content["brain_nii_shape"], lambda shape: tuple(int(n) for n in shape)),
        flat_index=_by_subject(content["voxel_index"], lambda index: np.asarray(index).astype(np.int64)),
        roi=_by_subject(content["voxel_roi"], np.asarray),
        validation_accuracy=_by_subject(content["val_cc"], np.asarray),
        train_loss=np.asarray(content["trn_loss_history"], dtype=np.float64),
        holdout_loss=np.asarray(content["hold_loss_history"], dtype=np.float64),
        holdout_accuracy=_by_subject(content["hold_cc_history"], np.asarray),
        best_epoch=int(content["best_epoch"]),
        best_score=float(content["best_joint_cc_score"]),
        batch_size=int(content["batch_size"]),
        holdout_frac=float(content["holdout_frac"]),
    )


def _by_subject(values: Mapping[int, Any], convert: Any) -> Mapping[str, Any]:
    return MappingProxyType({subject_name(int(subject)): convert(value) for subject, value in values.items()})


def _encoder(state: Mapping[str, Tensor]) -> Encoder:
    """From the published names: ``mu``, ``pre.conv1.0``, ``enc.conv3``, ``enc.bn1``, ``enc.conv4a.conv1`` ..."""
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
    """What numpy's arrays and scalars are pickled as, under the module names of numpy 1 and 2."""
    reconstruct, scalar = np.array(0).__reduce__()[0], np.float64(0).__reduce__()[0]
    functions: list[Any] = [
        (function, f"numpy.{core}.multiarray.{name}")
        for function, name in ((reconstruct, "_reconstruct"), (scalar, "scalar"))
        for core in ("core", "_core")
    ]
    dtypes = {type(np.dtype(code)) for code in "?bhilqBHILQefdgSU"}
    return [np.ndarray, np.dtype, *functions, *dtypes]


#: Everything besides torch's own list that a checkpoint may name; none of these calls code from the file.
_ALLOWED: Final = _numpy_globals()


def _read(path: Path) -> Mapping[str, Any]:
    content = read_torch_file(path, allowed=_ALLOWED)
    if not isinstance(content, Mapping):
        raise SourceError(f"{path}: holds a {type(content).__name__}, not the published dictionary")
    return content
