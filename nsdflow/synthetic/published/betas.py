"""The betas of every session, and their maps, with one session in memory at a time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nsdflow.synthetic.brain.participant import Participant
from nsdflow.synthetic.brain.recording import SCALE, quantise, session_betas
from nsdflow.synthetic.published.files import open_mgh, open_nifti, write_hdf5, write_mat73, write_mgh, write_volume
from nsdflow.synthetic.spec import VERSION_SNR, SyntheticSpec

__all__ = ["version_folder", "write_session_files", "write_summaries"]

Betas = npt.NDArray[np.int16]

_WRITERS = {"hdf5": write_hdf5, "mat": write_mat73}


def version_folder(root: Path, who: Participant, version: str) -> Path:
    """Folder of the betas of a subject, space and version."""
    return root / "nsddata_betas/ppdata" / who.name / who.space / version


def write_session_files(
    root: Path, spec: SyntheticSpec, who: Participant, version: str, session: int | str, signal: npt.NDArray[Any]
) -> None:
    """All files of a session; ``signal`` (trial, v) are the noiseless responses on its trials.

    ``session`` is 1-based, or the name of a sister experiment, such as ``"nsdsynthetic"``.
    """
    sister = isinstance(session, str)
    called = session if isinstance(session, str) else f"session{session:02d}"
    folder = version_folder(root, who, f"{session}{version}" if sister else version)
    folder.mkdir(parents=True, exist_ok=True)
    trials = session_betas(spec, who, version, session, signal)
    if who.space == "fsaverage":
        _write_frames(folder, f"betas_{called}.mgh", who, trials, len(signal))
        return
    betas = np.empty((len(signal), who.recording.places.size), dtype=np.int16)
    for row, trial in zip(betas, trials, strict=True):
        row[:] = quantise(trial)
    if who.space == "nativesurface":
        _write_vertices(folder, f"betas_{called}.hdf5", who, betas)
        return
    if who.space == "MNI":
        _write_volumes(folder / f"betas_{called}.nii.gz", who, betas)
        return
    if "nii.gz" in spec.formats:
        _write_volumes(folder / f"betas_{called}.nii.gz", who, betas)
    for suffix in set(spec.formats) & set(_WRITERS):
        shape = (len(betas), *reversed(who.anatomy.shape))
        _WRITERS[suffix](folder / f"betas_{called}.{suffix}", shape, _slices(who, betas))
    mean = who.recorded(betas.mean(axis=0, dtype=np.float32), np.float32, fill=0)
    write_volume(folder / f"meanbeta_{called}.nii.gz", mean, who.voxel_size)
    for name, volume in _fit_maps(spec, who, version, session).items():
        write_volume(folder / f"{name}_{called}.nii.gz", volume, who.voxel_size)


def write_summaries(root: Path, spec: SyntheticSpec, who: Participant, version: str) -> None:
    """ncsnr, the planted one, and R2 of a version of the betas."""
    folder = version_folder(root, who, version)
    if who.space == "MNI":
        return
    ncsnr = who.recorded(VERSION_SNR[version] * who.recording.ncsnr, np.float32)
    for name in ("ncsnr", "ncsnr_split1", "ncsnr_split2"):
        if who.space in ("fsaverage", "nativesurface"):
            for hemisphere in ("lh", "rh"):
                write_mgh(folder / f"{hemisphere}.{name}.mgh", _of_hemisphere(who, ncsnr, hemisphere))
        else:
            write_volume(folder / f"{name}.nii.gz", ncsnr, who.voxel_size)
    if who.space in ("func1pt8mm", "func1mm"):
        write_volume(folder / "R2.nii.gz", _explained(who, version), who.voxel_size)
        mean = who.recorded(SCALE * who.recording.offset, np.float32, fill=0)
        write_volume(folder / "meanbeta.nii.gz", mean, who.voxel_size)


def _fit_maps(spec: SyntheticSpec, who: Participant, version: str, session: int | str) -> dict[str, npt.NDArray[Any]]:
    """Further results of the GLM: R2, and the response shape and ridge fraction, where it selects them."""
    rng = spec.generator("glm", who.subject, session)
    places = who.recording.places.size
    maps = {"R2": _explained(who, version)}
    if version != "betas_assumehrf":
        maps["HRFindex"] = who.recorded(rng.integers(1, 21, places), np.int16, fill=0)
    if version == "betas_fithrf_GLMdenoise_RR":
        maps["FRACvalue"] = who.recorded(rng.integers(1, 21, places) / 20, np.float32)
    return maps


def _explained(who: Participant, version: str) -> npt.NDArray[Any]:
    ncsnr = VERSION_SNR[version] * who.recording.ncsnr
    return who.recorded(20 + 60 * ncsnr**2 / (1 + ncsnr**2), np.float32)


def _write_volumes(path: Path, who: Participant, betas: Betas) -> None:
    shape = (*who.anatomy.shape, len(betas))
    frame = np.zeros(who.anatomy.x.size, dtype="<i2")
    with open_nifti(path, shape, np.int16, who.voxel_size, who.tr, who.origin) as stream:
        for trial in betas:
            frame[who.recording.places] = trial
            stream.write(frame.tobytes())


def _slices(who: Participant, betas: Betas) -> Iterator[Betas]:
    """Horizontal slices (trial, 1, j, i) from below; a slice is a stretch of the file order."""
    i, j, k = who.anatomy.shape
    bounds = np.searchsorted(who.recording.places, i * j * np.arange(k + 1))
    for level, (start, stop) in enumerate(itertools.pairwise(bounds)):
        block = np.zeros((len(betas), i * j), dtype=np.int16)
        block[:, who.recording.places[start:stop] - i * j * level] = betas[:, start:stop]
        yield block.reshape(len(betas), 1, j, i)


def _of_hemisphere(who: Participant, values: npt.NDArray[Any], hemisphere: str) -> npt.NDArray[Any]:
    return np.asarray(values[who.anatomy.left == (hemisphere == "lh")])


def _write_vertices(folder: Path, name: str, who: Participant, betas: Betas) -> None:
    """nativesurface: one ``.hdf5`` per hemisphere, (trial, vertex)."""
    for hemisphere in ("lh", "rh"):
        vertices = np.flatnonzero(who.anatomy.left == (hemisphere == "lh"))
        offset, count = vertices[0], vertices.size
        start, stop = np.searchsorted(who.recording.places, [offset, offset + count])
        block = np.zeros((len(betas), count), dtype=np.int16)
        block[:, who.recording.places[start:stop] - offset] = betas[:, start:stop]
        write_hdf5(folder / f"{hemisphere}.{name}", block.shape, [block])


def _write_frames(folder: Path, name: str, who: Participant, trials: Iterator[npt.NDArray[Any]], count: int) -> None:
    """fsaverage: one ``.mgh`` per hemisphere, percent signal change, NaN where there are no data."""
    with ExitStack() as files:
        write: dict[str, Callable[[bytes], object]] = {}
        for hemisphere in ("lh", "rh"):
            vertices = int((who.anatomy.left == (hemisphere == "lh")).sum())
            write[hemisphere] = files.enter_context(open_mgh(folder / f"{hemisphere}.{name}", vertices, count)).write
        for trial in trials:
            frame = who.recorded(trial, np.dtype(">f4"))
            for hemisphere, write_frame in write.items():
                write_frame(_of_hemisphere(who, frame, hemisphere).tobytes())
