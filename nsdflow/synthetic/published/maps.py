"""What NSD publishes of a subject besides the betas: masks, tissue, areas with their label tables, pRF maps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nsdflow.synthetic.brain.anatomy import ATLAS_LABELS, SURFACE_ATLASES, in_hemisphere
from nsdflow.synthetic.published.files import write_ctab, write_mgh, write_nifti

if TYPE_CHECKING:
    from nsdflow.synthetic.brain.participant import Participant
    from nsdflow.synthetic.spec import SyntheticSpec

__all__ = ["write_label_tables", "write_surface_maps", "write_volume_maps"]

Volume = npt.NDArray[Any]

_DEGREES = 8.4  # width of an image in the visual field


def write_label_tables(root: Path, subject: str) -> None:
    """``label/<roi>.mgz.ctab`` of a subject ("subj01" or "fsaverage"), and the two that NSD keeps elsewhere."""
    freesurfer, templates = root / "nsddata/freesurfer", root / "nsddata/templates"
    for atlas, labels in ATLAS_LABELS.items():
        of_surface = atlas in SURFACE_ATLASES
        if of_surface and atlas not in _surface_atlases(subject):
            continue
        path = freesurfer / subject / "label" / f"{atlas}.mgz.ctab" if of_surface else templates / f"{atlas}.ctab"
        write_ctab(path, labels.values())


def write_volume_maps(root: Path, spec: SyntheticSpec, who: Participant) -> None:
    """Everything in ``ppdata/subjAA/func*``: the masks and maps, and ``roi/`` with both hemispheres and each alone."""
    folder = root / "nsddata/ppdata" / who.name / who.space
    done = range(1, spec.sessions_done[who.subject - 1] + 1)
    for name, volume in _maps(spec, who).items():
        write_nifti(folder / f"{name}.nii.gz", volume, who.voxel_size)
    valid = [_valid(who, session) for session in done]
    for session, volume in zip(done, valid, strict=True):
        write_nifti(folder / f"valid_session{session:02d}.nii.gz", volume, who.voxel_size)
    write_nifti(folder / "valid.nii.gz", np.mean(valid, axis=0, dtype=np.float32), who.voxel_size)
    for name, volume in _areas(who).items():
        write_nifti(folder / "roi" / f"{name}.nii.gz", volume, who.voxel_size)


def write_surface_maps(root: Path, who: Participant) -> None:
    """``label/[lh,rh].<roi>.mgz``; on surfaces no label is below 0, and none is of the volume's own atlases."""
    owner = "fsaverage" if who.space == "fsaverage" else who.name
    for atlas in _surface_atlases(owner):
        labels = np.maximum(who.anatomy.atlases[atlas], 0)
        for hemisphere in ("lh", "rh"):
            path = root / "nsddata/freesurfer" / owner / "label" / f"{hemisphere}.{atlas}.mgz"
            write_mgh(path, labels[who.anatomy.left == (hemisphere == "lh")])


def _surface_atlases(owner: str) -> tuple[str, ...]:
    """Atlases on the surface of a subject; fsaverage lacks those that were drawn for each subject."""
    drawn = ("prf-", "floc-")
    return tuple(atlas for atlas in SURFACE_ATLASES if owner != "fsaverage" or not atlas.startswith(drawn))


def _areas(who: Participant) -> dict[str, Volume]:
    """Every atlas three times; float64 where it comes from the surface (-1 off the cortex), else int16."""
    volumes = {}
    for atlas, labels in who.anatomy.atlases.items():
        dtype, background = (np.float64, -1) if atlas in SURFACE_ATLASES else (np.int16, 0)
        volumes[atlas] = who.grid(labels, dtype)
        for hemisphere in ("lh", "rh"):
            own = in_hemisphere(labels, who.anatomy.left, hemisphere, background)
            volumes[f"{hemisphere}.{atlas}"] = who.grid(own, dtype)
    return volumes


def _valid(who: Participant, session: int) -> Volume:
    """1 where the session has data in every volume, inside the brain mask or not; 0 in the slice never covered."""
    valid = np.where(who.anatomy.brain, 0, 1).reshape(who.anatomy.shape)
    valid += who.recorded(who.recording.valid[session - 1], np.int64, fill=0)
    valid[:, :, 0] = 0
    return valid.astype(np.int16)


def _maps(spec: SyntheticSpec, who: Participant) -> dict[str, Volume]:
    """Masks, tissue, mean images, ON-OFF variance and population receptive fields, by file name."""
    anatomy, planted = who.anatomy, who.planted
    rng = spec.generator("maps", who.subject, who.space)
    count = anatomy.x.size
    tissue = np.select([anatomy.cortex, anatomy.aseg > 0, anatomy.brain], [700.0, 1000.0, 250.0], default=0.0)
    mean = np.clip(tissue + rng.normal(0, 30, count), 0, None)
    little, anywhere = rng.uniform(0, 3, count), rng.uniform(0, 360, count)
    explained = 100 * planted.ncsnr**2 / (1 + planted.ncsnr**2)
    eccentricity = _DEGREES * np.hypot(planted.x, planted.y)
    angle = np.degrees(np.arctan2(planted.y, planted.x)) % 360
    none = np.zeros(count)
    return {
        "brainmask": who.grid(anatomy.brain, np.int16),
        "aseg": who.grid(anatomy.aseg, np.int16),
        "mean": who.grid(mean, np.float32),
        f"T1_to_{who.space}": who.grid(tissue, np.int16),
        "R2": who.planted_map(0.8 * explained, little),
        "prf_angle": who.planted_map(angle, anywhere),
        "prf_eccentricity": who.planted_map(eccentricity, little),
        "prf_size": who.planted_map(_DEGREES * planted.sigma, little),
        "prf_R2": who.planted_map(0.9 * explained, little),
        "prf_gain": who.planted_map(planted.ncsnr, none),
        "prf_exponent": who.planted_map(np.full(planted.x.size, 0.5), none + 0.5),
        "prf_meanvol": who.planted_map(mean[planted.flat_index], mean),
    }
