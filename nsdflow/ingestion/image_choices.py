"""Choices of the images that a store gets: one function per choice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nsdflow.nsd.design import read_design
from nsdflow.nsd.source import Source

__all__ = ["IMAGE_CHOICES", "chosen_images"]

Sessions = Mapping[str, Sequence[int]]


def _shown(source: Source, sessions: Sessions, count: int) -> NDArray[np.int64]:
    """Images of the ingested trials."""
    design = read_design(source)
    shown = [design.nsd_id(subject)[np.isin(design.session, list(numbers))] for subject, numbers in sessions.items()]
    return np.unique(np.concatenate(shown))


def _listed(source: Source, sessions: Sessions, count: int) -> NDArray[np.int64]:
    """All images in the lists of the ingested subjects, including those that no ingested trial shows."""
    design = read_design(source)
    return np.unique(design.subjectim[[design.subjects.index(subject) for subject in sessions]])


def _all(source: Source, sessions: Sessions, count: int) -> NDArray[np.int64]:
    """All images of NSD."""
    return np.arange(count)


#: Choices by the value of the option ``images``; None for a store without images. A new one is one function.
IMAGE_CHOICES: Final[Mapping[str, Callable[[Source, Sessions, int], NDArray[np.int64]] | None]] = {
    "shown": _shown,
    "subjects": _listed,
    "all": _all,
    "none": None,
}


def chosen_images(name: str, source: Source, sessions: Sessions, count: int) -> NDArray[np.int64]:
    """``nsd_id`` of the images of an ingestion, ascending.

    Parameters
    ----------
    name : str
        Key of :data:`IMAGE_CHOICES` that chooses images.
    sessions : mapping
        Ingested sessions by subject.
    count : int
        Images in the brick.
    """
    choose = IMAGE_CHOICES[name]
    assert choose is not None
    return choose(source, sessions, count)
