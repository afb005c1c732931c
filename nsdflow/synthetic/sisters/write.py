"""Writing the sister experiments of a synthetic NSD: designs, images, betas, and the planted signal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nsdflow.synthetic.brain.network import PlantedNetwork
from nsdflow.synthetic.brain.participant import Participant
from nsdflow.synthetic.brain.planting import planted_responses
from nsdflow.synthetic.experiment.design import Experiment
from nsdflow.synthetic.published.betas import write_session_files
from nsdflow.synthetic.published.files import write_volume
from nsdflow.synthetic.published.maps import MNI_BETAS
from nsdflow.synthetic.published.stimuli import OnProgress
from nsdflow.synthetic.sisters.designs import Sister, write_imagery, write_synthetic
from nsdflow.synthetic.spec import SyntheticSpec
from nsdflow.synthetic.truth import signal_path

__all__ = ["write_sisters"]

_BLOCK = 64  # images in memory as feature maps


def write_sisters(
    root: Path, spec: SyntheticSpec, experiment: Experiment, everyone: Sequence[Participant], report: OnProgress
) -> None:
    """Write the sister experiments that the specification asks for, of every subject in every space."""
    total = spec.subjects * len(spec.experiments)
    done = 0
    for subject in range(1, spec.subjects + 1):
        for name in spec.experiments:
            sister = (
                write_synthetic(root, spec, subject)
                if name == "synthetic"
                else write_imagery(root, spec, experiment, subject)
            )
            for who in everyone:
                if who.subject == subject:
                    _write_betas(root, spec, who, name, sister)
            done += 1
            report("sister experiments", done, total)


def _write_betas(root: Path, spec: SyntheticSpec, who: Participant, name: str, sister: Sister) -> None:
    """Betas in each version that NSD publishes, the signal of each image in the truth, and the valid voxels."""
    signal = _responses(spec, who, sister.images)
    path = signal_path(root, who.name, who.space)
    np.save(path.with_name(f"{who.name}_{name}_signal.npy"), signal)
    versions = (MNI_BETAS,) if who.space == "MNI" else tuple(v for v in spec.betas if v != "betas_assumehrf")
    for version in versions:
        write_session_files(root, spec, who, version, sister.name, sister.mixture @ signal)
    if who.space in ("func1pt8mm", "func1mm"):
        valid = who.recorded(np.asarray(who.recording.valid.all(axis=0)), np.int16, fill=0)
        write_volume(root / f"nsddata/ppdata/{who.name}/{who.space}/valid_{sister.name}.nii.gz", valid, who.voxel_size)


def _responses(spec: SyntheticSpec, who: Participant, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Noiseless responses (image, voxel), in units of the signal in the main experiment."""
    network, pooling = PlantedNetwork(spec.seed), who.planted.pooling()
    starts = range(0, len(images), _BLOCK)
    maps = (network.maps(images[start : start + _BLOCK], who.planted.levels) for start in starts)
    return np.concatenate([planted_responses(who.planted, pooling, block) for block in maps])
