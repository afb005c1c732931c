"""One subject in one space: its anatomy, its planted voxels and how it is recorded, held together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nsdflow.names import subject_name

if TYPE_CHECKING:
    from nsdflow.synthetic.brain.anatomy import Anatomy
    from nsdflow.synthetic.brain.planting import Planted
    from nsdflow.synthetic.brain.recording import Recording

__all__ = ["Participant"]


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
