"""The designs of NSD-synthetic and NSD-imagery: the image of each beta."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import scipy.io
from PIL import Image

from nsdflow.synthetic.experiment.design import Experiment
from nsdflow.synthetic.experiment.images import draw_image
from nsdflow.synthetic.sisters.pictures import draw_bar, draw_concept, draw_synthetic
from nsdflow.synthetic.spec import SyntheticSpec

__all__ = ["Sister", "write_imagery", "write_synthetic"]

Integers = npt.NDArray[np.int64]

_COMMON, _IMAGES = 220, 284
_RUNS, _RUN_TRIALS, _SLOTS = 8, 93, 107
#: Numbers of images, and how often each of them is shown; 744 trials in all.
_REPEATS = ((8, 10), (8, 8), (32, 4), (236, 2))
_BACKGROUND = (126, 110, 108)

_LETTERS = {"A": "HRVLPE", "B": "WKBCDT", "C": "SZMYNF"}
_BARS = ((0.0,), (45.0,), (90.0,), (135.0,), (0.0, 90.0), (45.0, 135.0))
_ORDER = ("visA", "attA", "imgA_1", "visB", "attB", "imgB_1", "visC", "attC", "imgC_1", "imgA_2", "imgB_2", "imgC_2")
_COLUMNS = [
    "SUBJECT",
    "SESSION",
    "RUN",
    "TRIAL",
    "CONDITION",
    "CUE",
    "FRAMEFILE",
    "IMAGEFILE",
    "GROUNDTRUTH",
    "ISCORRECT",
    "CHANGEMIND",
    "TOTAL1",
    "TOTAL2",
    "BUTTON",
    "TRIALONSET",
    "TRIALEND",
    "IMAGEONSET",
    "IMAGESERIESENDS",
    "FINALDECISIONTIME",
    "RT",
]


@dataclass(frozen=True)
class Sister:
    """Stimuli of a subject in one session.

    Attributes
    ----------
    name : str
        Name in its files.
    images : (image, y, x, 3) uint8
        In pixel values of the main experiment.
    mixture : (beta, image) float32
        Weights of the responses to each image in a beta.
    """

    name: str
    images: npt.NDArray[np.uint8]
    mixture: npt.NDArray[np.float32]


def write_synthetic(root: Path, spec: SyntheticSpec, subject: int) -> Sister:
    """Write design and images of NSD-synthetic for a subject (1-based). Shared images are written with the first."""
    size = 714 if spec.image_size == 425 else spec.image_size
    pictures = np.stack([draw_synthetic(spec.seed, image, size) for image in range(_IMAGES)])
    stored = np.floor((pictures / 255.0) ** 2 * 255 + 0.5).astype(np.uint8)  # its screen was linear
    folder = root / "nsddata_stimuli/stimuli/nsdsynthetic"
    folder.mkdir(parents=True, exist_ok=True)
    if subject == 1:
        _write_brick(folder / "nsdsynthetic_stimuli.hdf5", stored[:_COMMON])
    _write_brick(folder / f"nsdsynthetic_colorstimuli_subj{subject:02d}.hdf5", stored[_COMMON:])
    rng = spec.generator("NSD-synthetic")  # one order for all subjects
    often = np.repeat([times for _, times in _REPEATS], [count for count, _ in _REPEATS])
    order = rng.permutation(np.repeat(rng.permutation(_IMAGES), often))
    pattern = np.zeros((1, _RUNS, _SLOTS), np.int64)
    for run in range(_RUNS):
        pattern[0, run, np.sort(rng.choice(np.arange(4, _SLOTS - 4), _RUN_TRIALS, replace=False))] = 1
    path = root / "nsddata/experiments/nsdsynthetic/nsdsynthetic_expdesign.mat"
    path.parent.mkdir(parents=True, exist_ok=True)
    variables = {"masterordering": order[None] + 1.0, "stimpattern": pattern.astype(np.float64)}
    scipy.io.savemat(str(path), variables, format="5")
    path.write_bytes(b"MATLAB 5.0 MAT-file, written by nsdflow".ljust(116) + path.read_bytes()[116:])
    seen = np.floor(np.sqrt(stored / 255.0) * 255 + 0.5).astype(np.uint8)
    return Sister("nsdsynthetic", seen, np.eye(_IMAGES, dtype=np.float32)[order])


def _write_brick(path: Path, pictures: npt.NDArray[np.uint8]) -> None:
    """Pictures in the middle of a wide screen."""
    count, height, side, _ = pictures.shape
    width = round(height * 1360 / 714)
    left = (width - side) // 2
    with h5py.File(path, "w", libver="earliest") as file:
        brick = file.create_dataset("imgBrick", shape=(count, height, width, 3), dtype=np.uint8)
        screen = np.empty((height, width, 3), np.uint8)
        screen[:] = _BACKGROUND
        for row, picture in enumerate(pictures):
            screen[:, left : left + side] = picture
            brick[row] = screen


def write_imagery(root: Path, spec: SyntheticSpec, experiment: Experiment, subject: int) -> Sister:
    """Write tables and images of NSD-imagery for a subject (1-based).

    Imagery is half of the mean response to the target's images; betas of attention contain only noise.
    """
    names, pictures, target = _imagery_pictures(spec, experiment)
    if subject == 1:
        folder = root / "nsddata_stimuli/stimuli/nsdimagery/allstim"
        folder.mkdir(parents=True, exist_ok=True)
        for name, picture in zip(names, pictures, strict=True):
            Image.fromarray(picture).save(folder / name, compress_level=1)
    rng = spec.generator("NSD-imagery", subject)
    of_target = [np.flatnonzero(target == number) for number in range(target.max() + 1)]
    rows: list[npt.NDArray[np.float32]] = []
    folder = root / "nsddata/bdata/nsdimagery"
    folder.mkdir(parents=True, exist_ok=True)
    for number, run in enumerate(_ORDER, start=1):
        task, name = run[:3], run[3]
        first = 6 * "ABC".index(name)
        shown = rng.permutation(np.tile(np.arange(6), 8))
        turn = np.zeros(6, np.int64)
        lines = ["\t".join(_COLUMNS)]
        for trial, which in enumerate(shown.tolist(), start=1):
            images = of_target[first + which]
            image = int(images[turn[which] % images.size])
            turn[which] += 1
            weights = np.zeros((2 if task == "att" else 1, len(names)), np.float32)
            if task == "vis":
                weights[0, image] = 1
            elif task == "img":
                weights[0, images] = 0.5 / images.size
            rows.append(weights)
            letter = _LETTERS[name][which]
            file = names[image] if task == "vis" else "NaN"
            known = [subject, 1, number, trial, letter, letter, f"{run}_frame{trial:02d}.png", file]
            lines.append("\t".join(map(str, known + ["NaN"] * (len(_COLUMNS) - len(known)))))
        (folder / f"nsdimagery_subj{subject:02d}_{run}.tsv").write_text("\n".join(lines) + "\n")
    return Sister("nsdimagery", pictures, np.concatenate(rows))


def _imagery_pictures(spec: SyntheticSpec, experiment: Experiment) -> tuple[list[str], npt.NDArray[np.uint8], Integers]:
    """File names, pictures and targets (0..17) of all images: bars, shared images, and examples of concepts."""
    size = spec.image_size
    found: list[tuple[str, npt.NDArray[np.uint8], int]] = []
    for number, (letter, angles) in enumerate(zip(_LETTERS["A"], _BARS, strict=True)):
        found.append((f"setA_{letter}.png", draw_bar(angles, size), number))
    for number, letter in enumerate(_LETTERS["B"]):
        shared = number % experiment.shared
        image = int(experiment.images[0, shared])
        found.append(
            (f"{letter}_shared{shared:04d}_nsd{image:05d}.png", draw_image(spec.seed, image, size), 6 + number)
        )
    for number, letter in enumerate(_LETTERS["C"]):
        for exemplar in range(8):
            picture = draw_concept(spec.seed, number, exemplar, size)
            found.append((f"setC_{letter}_{exemplar + 1}.png", picture, 12 + number))
    names, pictures, target = zip(*found, strict=True)
    return list(names), np.stack(pictures), np.array(target)
