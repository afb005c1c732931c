"""NSD-imagery: 18 targets (6 simple shapes, 6 scenes, 6 concepts), seen, attended to and imagined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
import xarray as xr

from nsdflow.errors import SourceError
from nsdflow.nsd.experiments.record import SisterExperiment, labelled, repetitions
from nsdflow.nsd.formats.tables import parse_table
from nsdflow.nsd.pictures import read_picture

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nsdflow.nsd.source import Source

__all__ = ["IMAGERY", "IMAGERY_RUNS", "LETTERS", "STIMULI_FOLDER", "ImageryRun", "behaviour_path"]

STIMULI_FOLDER: Final = "nsddata_stimuli/stimuli/nsdimagery/allstim"
_TASKS: Final = ("vision", "attention", "imagery")
_SETS: Final = "ABC"
#: The letter that stands for each target of a set in the cues.
LETTERS: Final = {"A": "HRVLPE", "B": "WKBCDT", "C": "SZMYNF"}
_PER_SET: Final = 6
_TARGETS: Final = len(_SETS) * _PER_SET
_CLASSES: Final = tuple(f"{task} {name}" for task in _TASKS for name in _SETS)


@dataclass(frozen=True)
class ImageryRun:
    """A run of the session: its name in file names, its task, its set of targets, and the betas of a trial."""

    name: str
    task: int
    targets: str
    betas: int = 1


#: In the order of the betas. A trial of attention has one beta for the cue and one for the detection.
IMAGERY_RUNS: Final = (
    *(
        run
        for name in _SETS
        for run in (
            ImageryRun(f"vis{name}", 0, name),
            ImageryRun(f"att{name}", 1, name, betas=2),
            ImageryRun(f"img{name}_1", 2, name),
        )
    ),
    *(ImageryRun(f"img{name}_2", 2, name) for name in _SETS),
)


def behaviour_path(subject: str, run: ImageryRun) -> str:
    """Table of one run, a row per trial."""
    return f"nsddata/bdata/nsdimagery/nsdimagery_{subject}_{run.name}.tsv"


def _read_run(source: Source, subject: str, run: ImageryRun) -> pd.DataFrame:
    """``target`` (0..17, -1 in runs of attention) and ``image`` (a file name) of each trial of a run.

    The target of a vision trial is the image shown, CONDITION; that of an imagery trial is the CUE. Both are written as
    the target's letter, as its number within the set, or as its number among all.
    """
    path = behaviour_path(subject, run)
    url = source.join(path)
    column = "CUE" if _TASKS[run.task] == "imagery" else "CONDITION"
    table = parse_table(source.read(path), url, sep="\t", dtype=str, skipinitialspace=True)
    if absent := [name for name in (column, "IMAGEFILE") if name not in table]:
        raise SourceError(f"{url}: no column {', '.join(absent)}; fetch it again")
    image = table["IMAGEFILE"].fillna("").str.replace("\\", "/").str.rpartition("/")[2]
    if _TASKS[run.task] == "attention":
        return pd.DataFrame({"target": -1, "image": image})
    first = _PER_SET * _SETS.index(run.targets)
    names = {letter: first + number for number, letter in enumerate(LETTERS[run.targets])}
    names |= {str(start + number + 1): first + number for start in {0, first} for number in range(_PER_SET)}
    values = table[column].fillna("").str.strip().str.removesuffix(".0")
    if unknown := sorted(set(values) - names.keys()):
        raise SourceError(
            f"{url}: {column} is {unknown[0]!r}, which is no target of set {run.targets} "
            f"({', '.join(LETTERS[run.targets])}, or 1 to {_PER_SET}); fetch it again"
        )
    return pd.DataFrame({"target": values.map(names).to_numpy(np.int64), "image": image})


def _read_trials(source: Source, subject: str) -> xr.Dataset:
    parts = []
    for number, run in enumerate(IMAGERY_RUNS, start=1):
        table = _read_run(source, subject, run)
        rows = np.repeat(np.arange(len(table)), run.betas)
        parts.append(
            pd.DataFrame(
                {
                    "run": number,
                    "task": run.task,
                    "image_class": run.task * len(_SETS) + _SETS.index(run.targets),
                    "target": table["target"].to_numpy()[rows],
                    "event": np.tile(np.arange(run.betas), len(table)),
                }
            )
        )
    trials = pd.concat(parts, ignore_index=True)
    target = trials["target"].to_numpy(np.int64)
    # a target that is seen and one that is imagined are different conditions
    condition = np.where(target < 0, -1, target + _TARGETS * (trials["task"].to_numpy() == _TASKS.index("imagery")))
    return xr.Dataset(
        {
            "run": ("trial", trials["run"].to_numpy()),
            "condition": labelled("condition", "trial", condition),
            "target": labelled("target", "trial", target),
            "image_class": labelled("image_class", "trial", trials["image_class"], _CLASSES),
            "repetition": labelled("repetition", "trial", repetitions(condition)),
            "task": labelled("task", "trial", trials["task"], _TASKS),
            "event": labelled("event", "trial", trials["event"], ("cue", "detection")),
        }
    )


def _shown(source: Source, subject: str) -> pd.DataFrame:
    """Images of the runs of vision, each once, by target and name."""
    tables = [_read_run(source, subject, run) for run in IMAGERY_RUNS if _TASKS[run.task] == "vision"]
    images = pd.concat(tables, ignore_index=True).drop_duplicates().sort_values(["target", "image"], ignore_index=True)
    return images[images["image"] != ""]


def _list_images(source: Source, subject: str) -> xr.Dataset:
    target = _shown(source, subject)["target"].to_numpy()
    return xr.Dataset(
        {
            "target": labelled("target", "image", target),
            "image_class": labelled("image_class", "image", target // _PER_SET, _CLASSES),
        }
    )


def _read_images(source: Source, subject: str, rows: Sequence[int]) -> NDArray[np.uint8]:
    """The centre squares, all of the size of the first."""
    names = _shown(source, subject)["image"].iloc[list(rows)]
    squares: list[NDArray[np.uint8]] = []
    for name in names:
        path = f"{STIMULI_FOLDER}/{name}"
        image = read_picture(source.join(path), source.read(path))
        side = min(image.shape[:2])
        top, left = ((size - side) // 2 for size in image.shape[:2])
        square = image[top : top + side, left : left + side]
        if squares and square.shape != squares[0].shape:
            raise SourceError(
                f"{source.join(path)}: {side} pixels where {names.iloc[0]} has {len(squares[0])}; fetch both again"
            )
        squares.append(square)
    return np.stack(squares)


IMAGERY: Final = SisterExperiment(
    name="imagery",
    title="NSD-imagery",
    file_name="nsdimagery",
    classes=_CLASSES,
    within=frozenset({"vision B"}),
    together={f"all {task}": tuple(f"{task} {name}" for name in _SETS) for task in ("vision", "imagery")},
    read_trials=_read_trials,
    list_images=_list_images,
    read_images=_read_images,
    design_files=lambda subject: tuple(behaviour_path(subject, run) for run in IMAGERY_RUNS),
    image_files=lambda source, subject: tuple(
        dict.fromkeys(f"{STIMULI_FOLDER}/{name}" for name in _shown(source, subject)["image"])
    ),
)
