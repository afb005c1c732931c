"""The small NSD and the small trainings that several modules read; tests/conftest.py makes each once per process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from nsdflow.synthetic import SyntheticSpec

#: Two subjects of 3 and 2 sessions.
SMALL_NSD: Final = SyntheticSpec(
    subjects=2, sessions=3, trials_per_session=72, shared_images=12, image_size=96, evc_voxels=60
)

#: A joint run of two epochs.
GNET8J: Final[Mapping[str, Any]] = {
    "prefilter": "gabor", "width": 4, "threads": 1, "bootstrap": 8, "train": {"epochs": 2, "batch_size": 40},
}  # fmt: skip
#: Areas with a trunk each in the run of several trunks.
AREAS: Final = ("V1", "V2", "hV4")
#: A run of several trunks and one epoch.
GNET8R: Final[Mapping[str, Any]] = {
    **GNET8J, "rois": AREAS, "roi_groups": AREAS, "train": {"epochs": 1, "batch_size": 40},
}  # fmt: skip
