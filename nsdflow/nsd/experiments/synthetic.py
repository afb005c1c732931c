"""NSD-synthetic: 284 images made by computer, from noise to spirals, of which 64 are calibrated for each subject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import xarray as xr

from nsdflow.errors import SourceError
from nsdflow.nsd.experiments.record import SisterExperiment, labelled, repetitions
from nsdflow.nsd.formats.hdf5 import check_written
from nsdflow.nsd.formats.mat import read_whole_numbers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nsdflow.nsd.source import Source

__all__ = ["CLASS_SIZES", "DESIGN", "SYNTHETIC", "SYNTHETIC_STIMULI", "as_seen", "colour_stimuli"]

DESIGN: Final = "nsddata/experiments/nsdsynthetic/nsdsynthetic_expdesign.mat"
_FOLDER: Final = "nsddata_stimuli/stimuli/nsdsynthetic"
SYNTHETIC_STIMULI: Final = f"{_FOLDER}/nsdsynthetic_stimuli.hdf5"
_BRICK: Final = "imgBrick"

#: Images of each class, in the order of their numbers.
CLASS_SIZES: Final[Mapping[str, int]] = {
    "noise": 12,
    "natural scenes": 4,
    "manipulated scenes": 12,
    "contrast": 20,
    "phase coherence": 16,
    "single words": 40,
    "spiral gratings": 112,
    "chromatic noise": 68,
}
_CLASSES: Final = tuple(CLASS_SIZES)
_CLASS_OF_IMAGE: Final = np.repeat(np.arange(len(CLASS_SIZES)), list(CLASS_SIZES.values()))
#: Odd runs, even runs.
_TASKS: Final = ("fixation", "one back")


def colour_stimuli(subject: str) -> str:
    """Path of the images whose colours were calibrated for a subject."""
    return f"{_FOLDER}/nsdsynthetic_colorstimuli_{subject}.hdf5"


def as_seen(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The centre square of images, in pixel values of the main experiment.

    In the main experiment the luminance was the square of a pixel's value; in this one it was proportional to it.

    >>> seen = as_seen(np.full((1, 2, 4, 3), 64, np.uint8))
    >>> seen.shape, int(seen[0, 0, 0, 0])
    ((1, 2, 2, 3), 128)
    """
    side = min(images.shape[1:3])
    top, left = ((size - side) // 2 for size in images.shape[1:3])
    rooted = np.sqrt(np.arange(256) / 255) * 255
    table = np.floor(rooted + 0.5).astype(np.uint8)
    return table[images[:, top : top + side, left : left + side]]


def _read_trials(source: Source, subject: str) -> xr.Dataset:
    url = source.join(DESIGN)
    found = read_whole_numbers(source, DESIGN, ("masterordering", "stimpattern"))
    image, pattern = found["masterordering"].ravel() - 1, found["stimpattern"]
    lengths = pattern.reshape(-1, pattern.shape[-1]).sum(axis=-1)
    count = len(_CLASS_OF_IMAGE)
    if not 0 <= image.min() <= image.max() < count or lengths.sum() != len(image):
        raise SourceError(
            f"{url}: {len(image)} trials of images {image.min() + 1} to {image.max() + 1} in runs of {lengths.sum()} "
            f"trials where NSD-synthetic has images 1 to {count}; fetch it again"
        )
    run = np.repeat(np.arange(1, len(lengths) + 1), lengths)
    return xr.Dataset(
        {
            "run": ("trial", run),
            "condition": labelled("condition", "trial", image),
            "target": labelled("target", "trial", image),
            "image_class": labelled("image_class", "trial", _CLASS_OF_IMAGE[image], _CLASSES),
            "repetition": labelled("repetition", "trial", repetitions(image)),
            "task": labelled("task", "trial", (run - 1) % 2, _TASKS),
        }
    )


def _list_images(source: Source, subject: str) -> xr.Dataset:
    counts = {}
    for path in _image_files(source, subject):
        with source.open_hdf5(path, _BRICK) as brick:
            if brick.ndim != 4 or brick.shape[3] != 3 or brick.dtype != np.uint8:
                raise SourceError(
                    f"{source.join(path)}: {brick.dtype} {brick.shape} where NSD has uint8 (image, y, x, 3); "
                    "fetch it again"
                )
            counts[path] = brick.shape
    total = sum(shape[0] for shape in counts.values())
    if total != len(_CLASS_OF_IMAGE) or len({shape[1:] for shape in counts.values()}) > 1:
        raise SourceError(
            f"{source.join(SYNTHETIC_STIMULI)}: with {subject}'s own, {total} images of {list(counts.values())} where "
            f"NSD-synthetic has {len(_CLASS_OF_IMAGE)} of one size; take both files from the same release"
        )
    return xr.Dataset(
        {
            "target": labelled("target", "image", np.arange(total)),
            "image_class": labelled("image_class", "image", _CLASS_OF_IMAGE, _CLASSES),
        }
    )


def _read_images(source: Source, subject: str, rows: Sequence[int]) -> NDArray[np.uint8]:
    """The images of all subjects come first, then the subject's own."""
    parts, first = [], 0
    wanted = np.asarray(rows)
    for path in _image_files(source, subject):
        with source.open_hdf5(path, _BRICK) as brick:
            check_written(brick)
            here = wanted[(wanted >= first) & (wanted < first + len(brick))] - first
            parts += [brick[row] for row in here.tolist()]
            first += len(brick)
    return as_seen(np.stack(parts))


def _image_files(source: Source, subject: str) -> tuple[str, ...]:
    return SYNTHETIC_STIMULI, colour_stimuli(subject)


SYNTHETIC: Final = SisterExperiment(
    name="synthetic",
    title="NSD-synthetic",
    file_name="nsdsynthetic",
    classes=_CLASSES,
    within=frozenset({"natural scenes"}),
    together={"all images": _CLASSES},
    read_trials=_read_trials,
    list_images=_list_images,
    read_images=_read_images,
    design_files=lambda subject: (DESIGN,),
    image_files=_image_files,
)
