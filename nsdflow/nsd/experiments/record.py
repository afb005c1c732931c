"""The record of a sister experiment, and the attributes of its coordinates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import ArrayLike, NDArray

    from nsdflow.nsd.source import Source

__all__ = ["MEANINGS", "SisterExperiment", "labelled", "repetitions"]

#: Meaning of the coordinates of a sister experiment.
MEANINGS: Final = {
    "condition": "what is repeated, from 0: an image in NSD-synthetic, a target and a task in NSD-imagery; -1 none",
    "target": "image or target that the trial shows or asks to imagine, from 0; -1 none",
    "image_class": "class of the image",
    "task": "what the subject did",
    "event": "part of the trial to which the beta belongs",
    "repetition": "presentation of the condition to the subject, from 0",
}


@dataclass(frozen=True)
class SisterExperiment:
    """One experiment of the same subjects with other images, in one further session."""

    name: str
    """Its group in a store, and its name for users."""
    title: str
    file_name: str
    """Name in its files: ``betas_nsdsynthetic.hdf5`` in ``nsdsyntheticbetas_fithrf``."""
    classes: tuple[str, ...]
    """Classes of its trials; the number of a class is its place."""
    within: frozenset[str]
    """Classes of photographs such as those of the main experiment."""
    together: Mapping[str, tuple[str, ...]]
    """Groups of classes that are also evaluated together, by name."""
    read_trials: Callable[[Source, str], xr.Dataset]
    """Trials of a subject in order: ``run``, ``condition``, ``target``, ``image_class``, ``repetition``, ``task``."""
    list_images: Callable[[Source, str], xr.Dataset]
    """Images of a subject: ``target`` and ``image_class``, (image,)."""
    read_images: Callable[[Source, str, Sequence[int]], NDArray[np.uint8]]
    """Some images by their row, prepared as the main experiment's are: square, uint8 (image, y, x, 3)."""
    design_files: Callable[[str], tuple[str, ...]]
    """Paths of the files that trials of a subject come from."""
    image_files: Callable[[Source, str], tuple[str, ...]]
    """Paths of the files that images of a subject come from."""

    def betas(self, version: str) -> str:
        """Folder of a version of the betas: ``nsdsyntheticbetas_fithrf``."""
        return f"{self.file_name}{version}"


def labelled(name: str, dim: str, values: ArrayLike, labels: Sequence[str] = ()) -> tuple[str, Any, dict[str, Any]]:
    """A coordinate with its meaning: whole numbers, or (with ``labels``) flags of CF."""
    attributes: dict[str, Any] = {"long_name": MEANINGS[name]}
    if labels:
        meanings = " ".join(label.replace(" ", "_") for label in labels)
        attributes |= {"flag_values": list(range(len(labels))), "flag_meanings": meanings}
    return dim, np.asarray(values, np.int16 if labels else np.int64), attributes


def repetitions(condition: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of earlier presentations of the condition of each trial.

    >>> repetitions(np.array([3, 5, 3, 3])).tolist()
    [0, 0, 1, 2]
    """
    order = np.argsort(condition, kind="stable")
    _, starts, counts = np.unique(condition[order], return_index=True, return_counts=True)
    found = np.empty(len(condition), np.int64)
    found[order] = np.arange(len(condition)) - np.repeat(starts, counts)
    return found
