"""Draws the images block by block into the brick, and computes all participants' noiseless responses to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
from PIL import Image

from nsdflow.names import STIMULI_FILE
from nsdflow.synthetic.brain.network import PlantedNetwork
from nsdflow.synthetic.brain.participant import Participant
from nsdflow.synthetic.brain.planting import Planted, calibrate, planted_responses
from nsdflow.synthetic.experiment.design import Experiment, stim_info
from nsdflow.synthetic.experiment.images import render_images
from nsdflow.synthetic.experiment.scenes import CATEGORIES, Scene
from nsdflow.synthetic.published.coco import Annotator, annotating
from nsdflow.synthetic.spec import SyntheticSpec
from nsdflow.synthetic.truth import signal_path

__all__ = ["OnProgress", "show_images"]

#: Called with the name of a stage, steps done, and steps in all.
OnProgress = Callable[[str, int, int], None]

Floats = npt.NDArray[np.float32]

_BLOCK = 128  # images in memory at a time


def show_images(
    root: Path, spec: SyntheticSpec, experiment: Experiment, everyone: list[Participant], report: OnProgress
) -> list[Participant]:
    """Write ``imgBrick``, the PNG files of the shared images, annotations, and each participant's signal.

    Returns
    -------
    list of Participant
        With weights scaled so that a signal has unit variance over the images of its subject.
    """
    network, levels = PlantedNetwork(spec.seed), max(who.planted.levels for who in everyone)
    shared = experiment.images[0, : experiment.shared].tolist()
    signals: list[_Signal] = []
    table = stim_info(spec, experiment)
    with annotating(root, table, spec.image_size) if spec.annotations else nullcontext() as annotator:
        for ids, images in _brick(root, spec):
            maps, areas = network.maps(images, levels), _describe(spec, ids, annotator)
            if not signals:  # the first block shows how large the parts of levels and categories are
                calibrated = [replace(who, planted=calibrate(who.planted, maps, areas)) for who in everyone]
                lists = [experiment.images[who.subject - 1] for who in calibrated]
                signals = [_Signal(root, *one, spec.image_count) for one in zip(calibrated, lists, strict=True)]
            for signal in signals:
                signal.add(ids, maps, areas)
            for image in np.intersect1d(ids, shared).tolist():
                name = f"shared{shared.index(image) + 1:04d}_nsd{image + 1:05d}.png"
                path = root / "nsddata/stimuli/nsd/shared1000" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(images[image - ids[0]]).save(path, compress_level=1)
            report("images", int(ids[-1]) + 1, spec.image_count)
    return [replace(signal.who, planted=signal.finish()) for signal in signals]


def _describe(spec: SyntheticSpec, ids: npt.NDArray[np.int64], annotator: Annotator | None) -> Floats:
    """Annotate the images of a block; the share of each image that each category covers, zero without annotations."""
    areas = np.zeros((len(ids), len(CATEGORIES)), dtype=np.float32)
    if annotator is not None:
        for row, image in zip(areas, ids.tolist(), strict=True):
            scene = Scene.of(spec.seed, image, spec.image_size)
            annotator.add(image, scene)
            row[...] = scene.areas
    return areas


def _brick(root: Path, spec: SyntheticSpec) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]]:
    """Draw and write all images; yields each block with its ``nsd_id``."""
    path = root / STIMULI_FILE
    path.parent.mkdir(parents=True)
    shape = (spec.image_count, spec.image_size, spec.image_size, 3)
    with h5py.File(path, "w", libver="earliest") as file:
        brick = file.create_dataset("imgBrick", shape=shape, dtype=np.uint8)
        for start in range(0, spec.image_count, _BLOCK):
            ids = np.arange(start, min(start + _BLOCK, spec.image_count))
            images = render_images(spec.seed, ids.tolist(), spec.image_size)
            brick[start : start + len(ids)] = images
            yield ids, images


class _Signal:
    """The noiseless responses of one participant on disk, filled block by block and standardised at the end."""

    def __init__(self, root: Path, who: Participant, images: npt.NDArray[np.int64], image_count: int) -> None:
        self.who = who
        self._row_of = np.full(image_count, -1)
        self._row_of[images] = np.arange(images.size)
        self._pooling = who.planted.pooling()
        path = signal_path(root, who.name, who.space)
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (images.size, who.planted.x.size)
        self._file = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)

    def add(self, ids: npt.NDArray[np.int64], maps: list[npt.NDArray[np.float32]], areas: Floats) -> None:
        """Responses to those of these images that the subject sees."""
        rows = self._row_of[ids]
        own = rows >= 0
        if own.any():
            seen = [level[own] for level in maps[: self.who.planted.levels]]
            self._file[rows[own]] = planted_responses(self.who.planted, self._pooling, seen, areas[own])

    def finish(self) -> Planted:
        """Give every voxel mean 0 and standard deviation 1 over the subject's images."""
        blocks = [slice(start, start + _BLOCK) for start in range(0, len(self._file), _BLOCK)]
        mean = sum(self._file[block].sum(axis=0, dtype=np.float64) for block in blocks) / len(self._file)
        square = sum(((self._file[block] - mean) ** 2).sum(axis=0) for block in blocks) / len(self._file)
        std = np.sqrt(np.maximum(square, np.finfo(np.float32).tiny))
        for block in blocks:
            self._file[block] = (self._file[block] - mean) / std
        self._file.flush()
        return self.who.planted.standardised(mean, std)
