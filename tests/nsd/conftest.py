"""A tiny NSD written byte for byte as published, with only nibabel, h5py and scipy."""

from __future__ import annotations

import gzip
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import scipy.io

SHAPE = (5, 7, 6)
VERTICES = (11, 13)
SUBJECTS = ("subj01", "subj02")
SESSIONS = (1, 2, 3)
RUNS = (5, 4)  # trials of the two runs of a session
TRIALS = sum(RUNS)
OWN_IMAGES = 9  # each shown three times in three sessions of nine trials
SHARED = 3
IMAGES = 17
VERSION = "betas_fithrf_GLMdenoise_RR"


def affine(shape: tuple[int, ...], resolution: float = 1.8) -> np.ndarray:
    """NSD's: the origin is the centre of the volume."""
    matrix = np.diag([resolution] * 3 + [1.0])
    matrix[:3, 3] = -(np.array(shape[:3]) - 1) / 2 * resolution
    return matrix


def nifti_bytes(values: np.ndarray, *, slope: float = 0.0) -> bytes:
    """A NIfTI-1 file as MATLAB wrote it: scl_slope is 0 where nibabel would write 1."""
    image = nib.Nifti1Image(values, None)
    image.header["qform_code"] = 0
    image.header.set_sform(affine(values.shape), 1)
    image.header["pixdim"][1:5] = [1.8, 1.8, 1.8, 4 / 3]
    content = bytearray(image.to_bytes())
    content[112:116] = np.float32(slope).tobytes()
    content[116:120] = b"\0\0\0\0"
    return bytes(content)


def write_nifti(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(nifti_bytes(values), 1))


def write_hdf5(path: Path, values: np.ndarray) -> None:
    """Axes reversed, a voxel's trials in one chunk, no compression."""
    path.parent.mkdir(parents=True, exist_ok=True)
    reversed_axes = values.T
    with h5py.File(path, "w", libver="earliest") as file:
        chunks = (reversed_axes.shape[0],) + (1,) * (reversed_axes.ndim - 1)
        file.create_dataset("betas", data=reversed_axes, chunks=chunks)


def write_mat(path: Path, values: np.ndarray) -> None:
    """MAT v7.3 of an older release: HDF5 behind a user block, not chunked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset("betas", data=values.T)


def mgh_bytes(values: np.ndarray, footer: int) -> bytes:
    """(vertex, trial) or (vertex,) float32, big-endian, with a footer of 20 (nibabel), 16 (NSD) or no bytes."""
    frames = values[:, None, None, :] if values.ndim == 2 else values[:, None, None]
    image = nib.MGHImage(frames.astype(np.float32), None)
    content: bytes = image.to_bytes()
    return content[: len(content) - 20 + footer]


def write_mgz(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(nib.MGHImage(values[:, None, None], None).to_bytes(), 1))


@dataclass
class TinyNsd:
    """Its place, and the written values."""

    root: Path
    betas: dict[tuple[str, int], np.ndarray] = field(default_factory=dict)  # (i, j, k, trial) int16
    surface: dict[tuple[str, int], np.ndarray] = field(default_factory=dict)  # (trial, lh then rh) float32
    rois: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    volumes: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    labels: dict[str, dict[int, str]] = field(default_factory=dict)
    images: Any = None
    ordering: Any = None  # 0-based
    subjectim: Any = None  # 0-based
    sharedix: Any = None

    shape = SHAPE
    vertices = VERTICES
    sessions = SESSIONS
    trials = TRIALS

    def betas_folder(self, subject: str = "subj01", space: str = "func1pt8mm", version: str = VERSION) -> Path:
        return self.root / "nsddata_betas/ppdata" / subject / space / version

    def copy(self, root: Path) -> TinyNsd:
        """A copy that a test may damage."""
        shutil.copytree(self.root, root, dirs_exist_ok=True)
        return TinyNsd(**{**self.__dict__, "root": root})


def _write_design(nsd: TinyNsd, rng: np.random.Generator) -> None:
    folder = nsd.root / "nsddata/experiments/nsd"
    folder.mkdir(parents=True)
    ids = rng.permutation(IMAGES)
    own = OWN_IMAGES - SHARED
    nsd.sharedix = np.sort(ids[:SHARED])
    nsd.subjectim = np.stack(
        [np.concatenate([nsd.sharedix, ids[SHARED + s * own : SHARED + (s + 1) * own]]) for s in range(len(SUBJECTS))]
    )
    nsd.ordering = rng.permutation(np.repeat(np.arange(OWN_IMAGES), 3))
    pattern = np.zeros((len(SESSIONS), len(RUNS), max(RUNS) + 2), np.uint8)
    for run, count in enumerate(RUNS):
        pattern[:, run, 1 : 1 + count] = 1
    scipy.io.savemat(
        folder / "nsd_expdesign.mat",
        {
            # uint16 as in "unsigned": 0 - 1 must not wrap
            "masterordering": (nsd.ordering[None] + 1).astype(np.uint16),
            "subjectim": (nsd.subjectim + 1).astype(np.uint32),
            "sharedix": (nsd.sharedix[None] + 1).astype(np.float64),
            "basiccnt": np.zeros((3, len(SESSIONS))),
            "stimpattern": pattern,
        },
        format="5",
    )
    info = pd.DataFrame(
        {
            "cocoId": rng.integers(1, 600_000, IMAGES),
            "nsdId": np.arange(IMAGES),
            "shared1000": np.isin(np.arange(IMAGES), nsd.sharedix),
        }
    )
    for number in range(len(SUBJECTS)):
        shown = nsd.subjectim[number][nsd.ordering]
        for repetition in range(3):
            column = np.zeros(IMAGES, int)
            for image in np.unique(shown):
                column[image] = np.flatnonzero(shown == image)[repetition] + 1
            info[f"subject{number + 1}_rep{repetition}"] = column
    info.to_csv(folder / "nsd_stim_info_merged.csv")


def _write_behaviour(nsd: TinyNsd, rng: np.random.Generator) -> None:
    """Two of the three sessions, with missing button presses; written as MATLAB writes it."""
    for number, subject in enumerate(SUBJECTS[:1]):
        lines = ["SUBJECT\tSESSION\tRUN\tTRIAL\t73KID\t10KID\tTIME\tISOLD\tISCORRECT\tRT\tMISSINGDATA"]
        for trial in range(2 * TRIALS):
            own = nsd.ordering[trial]
            within = trial % TRIALS
            run, place = (1, within + 1) if within < RUNS[0] else (2, within - RUNS[0] + 1)
            pressed = rng.random() < 0.7
            answer = f"{int(rng.random() < 0.8)}\t{rng.uniform(300, 2000):.20g}" if pressed else "NaN\tNaN"
            lines.append(
                f"{number + 1}\t{trial // TRIALS + 1}\t{run}\t{place}\t{nsd.subjectim[number][own] + 1}\t"
                f"{own + 1}\t{0.5 + trial / 1000:.20g}\t{int(own in nsd.ordering[:trial])}\t{answer}\t0"
            )
        path = nsd.root / f"nsddata/ppdata/{subject}/behav/responses.tsv"
        path.parent.mkdir(parents=True)
        path.write_text("\n".join(lines) + "\n")


def _write_anatomy(nsd: TinyNsd, rng: np.random.Generator) -> None:
    tables = {
        "prf-visualrois": "0 Unknown\n1 V1v\t   \n2 V1d\n3 V2v\t\n4 V2d\n5 V3v\n6 V3d\n7 hV4 \n",
        "Kastner2015": "0 Unknown\n1 V1v\t   \n8 VO1\t\n12 TO2\n25 FEF\n",
        "nsdgeneral": "0 Unknown\n1 nsdgeneral\n",
    }
    for subject in SUBJECTS:
        label = nsd.root / f"nsddata/freesurfer/{subject}/label"
        label.mkdir(parents=True)
        folder = nsd.root / f"nsddata/ppdata/{subject}/func1pt8mm"
        cortex = rng.random(SHAPE) < 0.7
        for atlas, highest in (("prf-visualrois", 7), ("Kastner2015", 25), ("nsdgeneral", 1), ("MTL", 2)):
            values = np.where(rng.random(SHAPE) < 0.5, rng.integers(1, highest + 1, SHAPE), 0)
            values = np.where(cortex, values, 0 if atlas == "MTL" else -1)
            nsd.rois[subject, atlas] = values
            stored = values.astype(np.int16 if atlas == "MTL" else np.float64)
            for hemisphere in ("", "lh.", "rh."):
                write_nifti(folder / f"roi/{hemisphere}{atlas}.nii.gz", stored)
            for hemisphere, count in zip(("lh", "rh"), VERTICES, strict=True):
                part = rng.integers(0, highest + 1, count)
                nsd.rois[subject, f"{hemisphere}.{atlas}"] = part
                write_mgz(label / f"{hemisphere}.{atlas}.mgz", part.astype(np.int32))
            if atlas in tables:
                (label / f"{atlas}.mgz.ctab").write_text(tables[atlas])
        write_mgz(label / "lh.prfR2.mgz", rng.random(VERTICES[0]).astype(np.float32))
        volumes = {
            "brainmask": (rng.random(SHAPE) < 0.8).astype(np.int16),
            "aseg": np.where(rng.random(SHAPE) < 0.3, 17, 0).astype(np.int16),
            "R2": rng.random(SHAPE).astype(np.float32) * 50,
            **{f"valid_session{s:02d}": (rng.random(SHAPE) < 0.95).astype(np.int16) for s in SESSIONS},
        }
        for name, values in volumes.items():
            nsd.volumes[subject, name] = values
            write_nifti(folder / f"{name}.nii.gz", values)
    templates = nsd.root / "nsddata/templates"
    templates.mkdir(parents=True)
    (templates / "MTL.ctab").write_text("0 Unknown\n1 CA1\t\n2 CA2/3\n")
    nsd.labels = {"prf-visualrois": {1: "V1v", 2: "V1d", 3: "V2v", 4: "V2d", 5: "V3v", 6: "V3d", 7: "hV4"}}


def _write_betas(nsd: TinyNsd, rng: np.random.Generator) -> None:
    """All formats of the same numbers: subj02 lacks its last session."""
    for subject in SUBJECTS:
        folder = nsd.betas_folder(subject)
        for session in SESSIONS if subject == "subj01" else SESSIONS[:-1]:
            values = rng.integers(-900, 900, (*SHAPE, TRIALS)).astype(np.int16)
            values[0, 0, 0] = 0  # invalid: no data in the session
            values[1, 1, 1, 0], values[1, 1, 1, 1] = -32768, 32767  # saturated
            nsd.betas[subject, session] = values
            name = f"betas_session{session:02d}"
            write_nifti(folder / f"{name}.nii.gz", values)
            (folder / f"{name}.nii").write_bytes(nifti_bytes(values))
            write_hdf5(folder / f"{name}.hdf5", values)
            write_mat(folder / f"{name}.mat", values)
            write_nifti(folder / f"R2_session{session:02d}.nii.gz", rng.random(SHAPE).astype(np.float32))
            vertices = rng.standard_normal((sum(VERTICES), TRIALS)).astype(np.float32)
            vertices[3] = np.nan
            nsd.surface[subject, session] = vertices.T
            native, average = (nsd.betas_folder(subject, space) for space in ("nativesurface", "fsaverage"))
            average.mkdir(parents=True, exist_ok=True)
            for hemisphere, part in zip(("lh", "rh"), np.split(vertices, [VERTICES[0]]), strict=True):
                write_hdf5(native / f"{hemisphere}.{name}.hdf5", np.nan_to_num(part * 300).astype(np.int16))
                (average / f"{hemisphere}.{name}.mgh").write_bytes(mgh_bytes(part, {1: 16, 2: 20, 3: 0}[session]))
        ncsnr = rng.random(SHAPE).astype(np.float32)
        ncsnr[0, 0, 0] = np.nan
        nsd.volumes[subject, "ncsnr"] = ncsnr
        write_nifti(folder / "ncsnr.nii.gz", ncsnr)
        for hemisphere, count in zip(("lh", "rh"), VERTICES, strict=True):
            part = rng.random(count).astype(np.float32)
            nsd.volumes[subject, f"{hemisphere}.ncsnr"] = part
            path = nsd.betas_folder(subject, "nativesurface") / f"{hemisphere}.ncsnr.mgh"
            path.write_bytes(mgh_bytes(part, 16))


@pytest.fixture(scope="session")
def nsd(tmp_path_factory: pytest.TempPathFactory) -> TinyNsd:
    """Two subjects, three sessions of nine trials, every format; for reading only."""
    rng = np.random.default_rng(20)
    tiny = TinyNsd(tmp_path_factory.mktemp("nsd"))
    _write_design(tiny, rng)
    _write_behaviour(tiny, rng)
    _write_anatomy(tiny, rng)
    _write_betas(tiny, rng)
    tiny.images = rng.integers(0, 256, (IMAGES, 9, 9, 3), dtype=np.uint8)
    path = tiny.root / "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as file:
        file.create_dataset("imgBrick", data=tiny.images)
    return tiny


@pytest.fixture
def broken(nsd: TinyNsd, tmp_path: Path) -> TinyNsd:
    """A copy to damage."""
    return nsd.copy(tmp_path / "nsd")
