"""Files that NSD publishes of a subject besides the betas: masks, tissue, areas with their label tables, maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nsdflow.synthetic.brain.anatomy import ATLAS_LABELS, SURFACE_ATLASES, in_hemisphere
from nsdflow.synthetic.brain.participant import Participant
from nsdflow.synthetic.published.files import write_ctab, write_mgh, write_volume
from nsdflow.synthetic.published.statistics import label_name, statistic_maps, tissue_signal
from nsdflow.synthetic.spec import SyntheticSpec

__all__ = ["MNI_BETAS", "write_label_tables", "write_mni_maps", "write_surface_maps", "write_volume_maps"]

VolumeArray = npt.NDArray[Any]

#: The one version of the betas that NSD publishes in MNI.
MNI_BETAS = "betas_fithrf"


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
    """Write all of ``ppdata/subjAA/func*``: masks, maps, and ``roi/`` with both hemispheres and with each."""
    folder = root / "nsddata/ppdata" / who.name / who.space
    done = range(1, spec.sessions_done[who.subject - 1] + 1)
    for name, volume in _maps(spec, who).items():
        write_volume(folder / f"{name}.nii.gz", volume, who.voxel_size)
    valid = [_valid(who, session) for session in done]
    for session, volume in zip(done, valid, strict=True):
        write_volume(folder / f"valid_session{session:02d}.nii.gz", volume, who.voxel_size)
    write_volume(folder / "valid.nii.gz", np.mean(valid, axis=0, dtype=np.float32), who.voxel_size)
    for name, volume in _areas(who).items():
        write_volume(folder / "roi" / f"{name}.nii.gz", volume, who.voxel_size)


def write_mni_maps(root: Path, spec: SyntheticSpec, who: Participant) -> None:
    """``MNI/betas_fithrf/valid_sessionBB.nii.gz``; NSD publishes only this and the betas in MNI."""
    folder = root / "nsddata_betas/ppdata" / who.name / who.space / MNI_BETAS
    for session in range(1, spec.sessions_done[who.subject - 1] + 1):
        volume = who.recorded(who.recording.valid[session - 1], np.int16, fill=0)
        path = folder / f"valid_session{session:02d}.nii.gz"
        write_volume(path, volume, who.voxel_size, origin=who.origin)


def write_surface_maps(root: Path, spec: SyntheticSpec, who: Participant) -> None:
    """``label/[lh,rh].<name>.mgz``: atlases, whose labels are never below 0, and maps of single subjects."""
    owner = "fsaverage" if who.space == "fsaverage" else who.name
    maps = _probability_maps(who) if owner == "fsaverage" else statistic_maps(spec, who)
    for name in ("floc_R2xval", "onoffbeta", "signaldropout_masked"):  # which NSD has as volumes alone
        maps.pop(name, None)
    if owner != "fsaverage":
        done = spec.sessions_done[who.subject - 1]
        maps["valid"] = who.recorded(who.recording.valid[:done].mean(axis=0), np.float32, fill=0)
    for name, values in maps.items():
        for hemisphere in ("lh", "rh"):
            path = root / "nsddata/freesurfer" / owner / "label" / f"{hemisphere}.{label_name(name)}.mgz"
            write_mgh(path, values[who.anatomy.left == (hemisphere == "lh")])
    for atlas in _surface_atlases(owner):
        labels = np.maximum(who.anatomy.atlases[atlas], 0)
        for hemisphere in ("lh", "rh"):
            path = root / "nsddata/freesurfer" / owner / "label" / f"{hemisphere}.{atlas}.mgz"
            write_mgh(path, labels[who.anatomy.left == (hemisphere == "lh")])


def _probability_maps(who: Participant) -> dict[str, VolumeArray]:
    """Share of the subjects who have an early visual area at a vertex: 0 or 1, since all share one anatomy there."""
    labels, names = who.anatomy.atlases["prf-visualrois"], ATLAS_LABELS["prf-visualrois"]
    return {f"probmap_{name}": (labels == label).astype(np.float32) for label, name in names.items() if label > 0}


def _surface_atlases(owner: str) -> tuple[str, ...]:
    """Atlases on the surface of a subject; fsaverage lacks those that were drawn for each subject."""
    drawn = ("prf-", "floc-")
    return tuple(atlas for atlas in SURFACE_ATLASES if owner != "fsaverage" or not atlas.startswith(drawn))


def _areas(who: Participant) -> dict[str, VolumeArray]:
    """Every atlas three times; float64 where it comes from the surface (-1 off the cortex), else int16."""
    volumes = {}
    for atlas, labels in who.anatomy.atlases.items():
        dtype, background = (np.float64, -1) if atlas in SURFACE_ATLASES else (np.int16, 0)
        volumes[atlas] = who.grid(labels, dtype)
        for hemisphere in ("lh", "rh"):
            own = in_hemisphere(labels, who.anatomy.left, hemisphere, background)
            volumes[f"{hemisphere}.{atlas}"] = who.grid(own, dtype)
    return volumes


def _valid(who: Participant, session: int) -> VolumeArray:
    """1 where the session has data in every volume, inside the brain mask or not; 0 in the slice never covered."""
    valid = np.where(who.anatomy.brain, 0, 1).reshape(who.anatomy.shape)
    valid += who.recorded(who.recording.valid[session - 1], np.int64, fill=0)
    valid[:, :, 0] = 0
    return valid.astype(np.int16)


def _maps(spec: SyntheticSpec, who: Participant) -> dict[str, VolumeArray]:
    """Masks, tissue and published maps, by file name."""
    maps = statistic_maps(spec, who)
    return {
        **maps,
        "meanFIRST5": maps["mean"],
        "mean_prffloc": maps["prf_meanvol"],
        "valid_prffloc": who.grid(who.anatomy.brain, np.int16),
        "brainmask": who.grid(who.anatomy.brain, np.int16),
        "aseg": who.grid(who.anatomy.aseg, np.int16),
        f"T1_to_{who.space}": who.grid(tissue_signal(who), np.int16),
    }
