"""Files of the published AlexNet-fwRF (``model_params``), read without running code in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nsdflow.errors import MissingDataError, SourceError
from nsdflow.models.published import by_subject, read_published

__all__ = ["PublishedFwrf", "PublishedFwrfSubject", "is_fwrf", "load_fwrf_file"]


@dataclass(frozen=True)
class PublishedFwrfSubject:
    """Fitted fields of one subject, with v voxels and f features.

    Attributes
    ----------
    rf : numpy.ndarray
        (v, 3) values of x, y and sigma.
    weights, feature_mean, feature_std : numpy.ndarray
        (v, f) readout weights, and moments of the features; mean 0 and deviation 1 where features were not z-scored.
    bias : numpy.ndarray
        (v,) readout biases.
    """

    rf: NDArray[np.floating]
    weights: NDArray[np.floating]
    bias: NDArray[np.floating]
    feature_mean: NDArray[np.floating]
    feature_std: NDArray[np.floating]


@dataclass(frozen=True)
class PublishedFwrf:
    """A published fwRF model. Mappings by subject have the keys "subj01" ...

    Attributes
    ----------
    subjects : mapping of str to PublishedFwrfSubject
        Fitted fields by subject.
    level_layers : tuple of numpy.ndarray
        Numbers of the layers that each level joins, from 0.
    kept : tuple of numpy.ndarray
        Channels of each joined level that are features, in ascending order.
    volume_shape : mapping of str to tuple of int
        Shape of the subject's volume.
    flat_index : mapping of str to numpy.ndarray
        (voxel,) index in the volume, C order.
    roi : mapping of str to numpy.ndarray
        (voxel,) ROI label; empty where the file has none.
    validation_accuracy : mapping of str to numpy.ndarray
        (voxel,) correlation over validation trials.
    holdout_frac : float
        Share of training trials in the holdout.
    """

    subjects: Mapping[str, PublishedFwrfSubject]
    level_layers: tuple[NDArray[np.int64], ...]
    kept: tuple[NDArray[np.int64], ...]
    volume_shape: Mapping[str, tuple[int, ...]]
    flat_index: Mapping[str, NDArray[np.int64]]
    roi: Mapping[str, NDArray[np.number]]
    validation_accuracy: Mapping[str, NDArray[np.floating]]
    holdout_frac: float


def is_fwrf(content: Mapping[str, Any]) -> bool:
    """Whether a published dictionary holds an fwRF model."""
    return {"lmask", "fmask"} <= content.keys()


def load_fwrf_file(path: str | Path) -> PublishedFwrf:
    """Read a file of the published AlexNet-fwRF.

    Raises
    ------
    MissingDataError
        There is no such file.
    SourceError
        The file is not of that kind, or it holds anything but tensors, arrays, numbers, strings and plain containers.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingDataError(f"{path}: no such file; give a file such as model_params of AlexNet-fwRF")
    content = read_published(path)
    try:
        return PublishedFwrf(
            subjects=by_subject(content["best_params"], _subject),
            level_layers=tuple(np.asarray(layers).astype(np.int64) for layers in content["lmask"]),
            kept=tuple(np.asarray(kept).astype(np.int64) for kept in content["fmask"]),
            volume_shape=by_subject(content.get("brain_nii_shape", {}), lambda shape: tuple(int(n) for n in shape)),
            flat_index=by_subject(content["voxel_index"], lambda index: np.asarray(index).astype(np.int64)),
            roi=by_subject(content.get("voxel_roi", {}), np.asarray),
            validation_accuracy=by_subject(content["val_cc"], np.asarray),
            holdout_frac=float(content["holdout_frac"]),
        )
    except (LookupError, TypeError, AttributeError, RuntimeError, ValueError) as error:
        raise SourceError(f"{path}: not a file of the published fwRF ({type(error).__name__}: {error})") from None


def _subject(parameters: Sequence[Any]) -> PublishedFwrfSubject:
    """Subject from the list (fields, weights, bias, mean, deviation), of which the last three can be None."""
    rf, weights, bias, mean, deviation = (None if part is None else np.asarray(part) for part in parameters)
    if rf is None or weights is None:
        raise ValueError("no fields or weights")
    return PublishedFwrfSubject(
        rf=rf,
        weights=weights,
        bias=np.zeros(len(rf), weights.dtype) if bias is None else bias,
        feature_mean=np.zeros_like(weights) if mean is None else mean,
        feature_std=np.ones_like(weights) if deviation is None else deviation,
    )
