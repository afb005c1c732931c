"""One subject in one space: its anatomy, its planted voxels and its recording."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nsdflow.names import subject_name
from nsdflow.synthetic.brain.anatomy import Anatomy
from nsdflow.synthetic.brain.planting import Planted

__all__ = ["Participant", "Recording"]

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Recording:
    """All parts of a recording but the signal, for the b places of one subject and space that have data.

    Attributes
    ----------
    places : (b,) int64
        Place in the file: Fortran order of the volume, or the vertex.
    seen : (b,) int64
        Which planted voxel a place is, -1 = none.
    ncsnr : (b,) float64
        Planted ncsnr of the best version of the betas; 0 where nothing is planted.
    gain, offset : (b,) float32
        Standard deviation of the noise, and mean response, in percent signal change.
    valid : (session, b) bool
        Whether a place has data in a session.
    sources : (b, source) float32
        Loadings of the correlated noise, rows of unit length.
    """

    places: Labels
    seen: Labels
    ncsnr: Floats
    gain: Floats
    offset: Floats
    valid: Bools
    sources: Floats


@dataclass(frozen=True)
class Participant:
    """A subject (1-based) in a space."""

    subject: int
    space: str
    anatomy: Anatomy
    planted: Planted
    recording: Recording

    @property
    def name(self) -> str:
        """``subj01``."""
        return subject_name(self.subject)

    @property
    def voxel_size(self) -> float:
        """Millimetres; of volumes."""
        return 1.8 if self.space == "func1pt8mm" else 1.0

    @property
    def tr(self) -> float:
        """Seconds from volume to volume, which beta series carry in their header."""
        return 4 / 3 if self.space == "func1pt8mm" else 1.0

    @property
    def origin(self) -> tuple[int, ...] | None:
        """Voxel at 0 mm; None where it is the middle of the grid. MNI's is the anterior commissure."""
        if self.space != "MNI":
            return None
        share = (91 / 182, 126 / 218, 72 / 182)
        return tuple(round(part * size) for part, size in zip(share, self.anatomy.shape, strict=True))

    def grid(self, values: npt.NDArray[Any], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """A flat array in C order as a volume."""
        return values.astype(dtype).reshape(self.anatomy.shape)

    def recorded(self, values: npt.NDArray[Any], dtype: npt.DTypeLike, fill: float = np.nan) -> npt.NDArray[Any]:
        """Values of the recorded places as a volume (or as vertices), ``fill`` elsewhere."""
        full = np.full(self.anatomy.x.size, fill, dtype=dtype)
        full[self.recording.places] = values
        return full.reshape(self.anatomy.shape, order="F")

    def planted_map(self, values: npt.NDArray[Any], elsewhere: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Values of the planted voxels as a volume; others of the brain as given (n,), NaN outside the brain."""
        full = elsewhere.astype(np.float32)
        full[self.planted.flat_index] = values
        full[~self.anatomy.brain] = np.nan
        return full.reshape(self.anatomy.shape)
