"""`write_nsd`: from a specification to a folder in the published layout, with the truth beside it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import numpy.typing as npt
import scipy.io
from PIL import Image

from nsdflow.errors import ConfigError
from nsdflow.names import subject_name
from nsdflow.synthetic.behaviour import responses, responses_text
from nsdflow.synthetic.betas import write_session, write_summaries
from nsdflow.synthetic.design import Experiment, expdesign, plan_experiment, stim_info
from nsdflow.synthetic.images import draw_images
from nsdflow.synthetic.maps import write_label_tables, write_surface_maps, write_volume_maps
from nsdflow.synthetic.network import PlantedNetwork
from nsdflow.synthetic.participant import Participant
from nsdflow.synthetic.planting import Planted, calibrate, plant, planted_responses, subject_anatomy
from nsdflow.synthetic.recording import prepare_recording
from nsdflow.synthetic.truth import STIMULI, save_spec, save_truth, signal_path

if TYPE_CHECKING:
    from nsdflow.synthetic.spec import SyntheticSpec

__all__ = ["Progress", "write_nsd"]

#: Called with the name of a stage, steps done, and steps in all.
Progress = Callable[[str, int, int], None]

_BLOCK = 128  # images in memory at a time; the first block also calibrates the planted weights
_MAT_HEADER = b"MATLAB 5.0 MAT-file, written by nsdflow"  # in place of the date: the same seed gives the same bytes


def write_nsd(folder: str | Path, spec: SyntheticSpec, *, progress: Progress | None = None) -> Path:
    """Write a synthetic NSD in exactly the published layout, and the truth beside it.

    The folder appears under its name only when it is complete. At most one session of betas and one block of images
    are in memory, at any size.

    Parameters
    ----------
    folder : str or Path
        Must not exist, or be empty.
    spec : SyntheticSpec
        What to write; `SyntheticSpec.demo` and `SyntheticSpec.published` are two ready ones.
    progress : callable, optional
        Called as ``progress(stage, done, total)`` after every step.

    Returns
    -------
    Path
        The folder. `nsdflow.synthetic.read_truth` reads what was planted.

    Raises
    ------
    ConfigError
        If the folder has something in it.
    """
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(str(target), ["is not an empty folder; name another one, or remove it first"])
    target.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        _write_all(building, spec, progress or (lambda stage, done, total: None))
        building.chmod(0o755)
        building.replace(target)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return target


def _write_all(root: Path, spec: SyntheticSpec, report: Progress) -> None:
    experiment = plan_experiment(spec)
    save_spec(root, spec)
    _write_design(root, spec, experiment)
    everyone = _write_images(root, spec, experiment, _cast(spec), report)
    for label_owner in ("fsaverage", *(subject_name(number) for number in range(1, spec.subjects + 1))):
        write_label_tables(root, label_owner)
    for who in everyone:
        save_truth(root, who, experiment.images[who.subject - 1])
        if who.space in ("func1pt8mm", "func1mm"):
            write_volume_maps(root, spec, who)
        else:
            write_surface_maps(root, who)
    sessions = list(_sessions(spec, everyone))
    for done, (who, version, session) in enumerate(sessions, start=1):
        signal = np.load(signal_path(root, who.name, who.space), mmap_mode="r")
        write_session(root, spec, who, version, session, signal[experiment.session(session)])
        if session == 1:
            write_summaries(root, spec, who, version)
        report("betas", done, len(sessions))


def _cast(spec: SyntheticSpec) -> list[Participant]:
    """Every subject in every space, not calibrated yet."""
    everyone = []
    for subject in range(1, spec.subjects + 1):
        for space in spec.spaces:
            anatomy = subject_anatomy(spec, subject, space)
            planted = plant(spec, subject, space, anatomy)
            recording = prepare_recording(spec, subject, space, anatomy, planted)
            everyone.append(Participant(subject, space, anatomy, planted, recording))
    return everyone


def _sessions(spec: SyntheticSpec, everyone: list[Participant]) -> Iterator[tuple[Participant, str, int]]:
    """Every session whose betas are public; NSD has no betas_assumehrf at 1 mm."""
    for who in everyone:
        for version in spec.betas:
            if (who.space, version) != ("func1mm", "betas_assumehrf"):
                for session in range(1, spec.sessions_done[who.subject - 1] - spec.held_out + 1):
                    yield who, version, session


def _write_design(root: Path, spec: SyntheticSpec, experiment: Experiment) -> None:
    """The design, the table of images, those never shown, and the behaviour."""
    folder = root / "nsddata/experiments/nsd"
    folder.mkdir(parents=True)
    design = folder / "nsd_expdesign.mat"
    scipy.io.savemat(str(design), expdesign(spec, experiment), format="5")
    design.write_bytes(_MAT_HEADER.ljust(116) + design.read_bytes()[116:])
    table = stim_info(spec, experiment)
    table.to_csv(folder / "nsd_stim_info_merged.csv")
    table.to_pickle(folder / "nsd_stim_info_merged.pkl")
    trials_done = np.asarray(spec.sessions_done) * spec.trials_per_session
    lists = zip(experiment.images, trials_done.tolist(), strict=True)
    shown = np.concatenate([images[experiment.ordering[:count]] for images, count in lists])
    never = np.setdiff1d(np.arange(spec.image_count), shown)
    (folder / "notshown.tsv").write_text("".join(f"{image + 1}\n" for image in never))
    for subject in range(1, spec.subjects + 1 if spec.behaviour else 1):
        path = root / "nsddata/ppdata" / subject_name(subject) / "behav/responses.tsv"
        path.parent.mkdir(parents=True)
        path.write_text(responses_text(responses(spec, experiment, subject)))


def _write_images(
    root: Path, spec: SyntheticSpec, experiment: Experiment, everyone: list[Participant], report: Progress
) -> list[Participant]:
    """Draw the brick block by block, and everyone's noiseless responses along with it; returns everyone calibrated."""
    network, levels = PlantedNetwork(spec.seed), max(who.planted.levels for who in everyone)
    images = draw_images(spec.seed, range(min(_BLOCK, spec.image_count)), spec.image_size)
    maps = network.maps(images, levels)
    everyone = [replace(who, planted=calibrate(who.planted, maps)) for who in everyone]
    signals = [_Signal(root, who, experiment.images[who.subject - 1], spec.image_count) for who in everyone]
    shared = {image: rank for rank, image in enumerate(experiment.images[0, : experiment.shared].tolist(), start=1)}
    pictures = root / "nsddata/stimuli/nsd/shared1000"
    for folder in (pictures, (root / STIMULI).parent):
        folder.mkdir(parents=True)
    shape = (spec.image_count, spec.image_size, spec.image_size, 3)
    with h5py.File(root / STIMULI, "w", libver="earliest") as file:
        brick = file.create_dataset("imgBrick", shape=shape, dtype=np.uint8)
        for start in range(0, spec.image_count, _BLOCK):
            ids = np.arange(start, min(start + _BLOCK, spec.image_count))
            if start:
                images = draw_images(spec.seed, ids.tolist(), spec.image_size)
                maps = network.maps(images, levels)
            brick[ids[0] : ids[-1] + 1] = images
            for image in sorted(shared.keys() & set(ids.tolist())):
                name = f"shared{shared[image]:04d}_nsd{image + 1:05d}.png"
                Image.fromarray(images[image - start]).save(pictures / name, compress_level=1)
            for signal in signals:
                signal.add(ids, maps)
            report("images", int(ids[-1]) + 1, spec.image_count)
    return [replace(signal.who, planted=signal.finish()) for signal in signals]


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

    def add(self, ids: npt.NDArray[np.int64], maps: list[npt.NDArray[np.float32]]) -> None:
        """Responses to those of these images that the subject sees."""
        rows = self._row_of[ids]
        own = rows >= 0
        if own.any():
            seen = [level[own] for level in maps[: self.who.planted.levels]]
            self._file[rows[own]] = planted_responses(self.who.planted, self._pooling, seen)

    def finish(self) -> Planted:
        """Give every voxel mean 0 and standard deviation 1 over the subject's images."""
        blocks = [slice(start, start + _BLOCK) for start in range(0, len(self._file), _BLOCK)]
        mean = sum(self._file[block].sum(axis=0, dtype=np.float64) for block in blocks) / len(self._file)
        square = sum(((self._file[block] - mean) ** 2).sum(axis=0) for block in blocks) / len(self._file)
        std = np.sqrt(square)
        for block in blocks:
            self._file[block] = (self._file[block] - mean) / std
        self._file.flush()
        return self.who.planted.standardised(mean, std)
