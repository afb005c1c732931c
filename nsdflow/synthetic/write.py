"""`write_nsd`: from a specification to a folder in the published layout, with the planted truth."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scipy.io

from nsdflow.errors import ConfigError
from nsdflow.io.paths import normalize
from nsdflow.io.reach import writing
from nsdflow.names import SYNTHETIC_DESIGN, subject_name
from nsdflow.synthetic.brain.participant import Participant
from nsdflow.synthetic.brain.planting import plant, subject_anatomy
from nsdflow.synthetic.brain.recording import prepare_recording
from nsdflow.synthetic.experiment.behaviour import responses, responses_text
from nsdflow.synthetic.experiment.design import Experiment, draw_experiment, expdesign, stim_info
from nsdflow.synthetic.published.betas import write_session_files, write_summaries
from nsdflow.synthetic.published.cortex import write_cortex
from nsdflow.synthetic.published.maps import (
    MNI_BETAS,
    write_label_tables,
    write_mni_maps,
    write_surface_maps,
    write_volume_maps,
)
from nsdflow.synthetic.published.stimuli import OnProgress, show_images
from nsdflow.synthetic.sisters.write import write_sisters
from nsdflow.synthetic.spec import SyntheticSpec
from nsdflow.synthetic.truth import save_spec, save_truth, signal_path

__all__ = ["write_nsd"]


def write_nsd(folder: str | Path, spec: SyntheticSpec, *, progress: OnProgress | None = None) -> Path:
    """Write a synthetic NSD in exactly the published layout, and the planted truth.

    The folder appears under its name only when it is complete. At most one session of betas and one block of images
    are in memory, at any size.

    Parameters
    ----------
    folder : str or Path
        Must not exist, or be empty.
    spec : SyntheticSpec
        Specification; `SyntheticSpec.demo` and `SyntheticSpec.published` return two.
    progress : callable, optional
        Called as ``progress(stage, done, total)`` after every step.

    Returns
    -------
    Path
        The folder. `nsdflow.synthetic.read_truth` reads what was planted.

    Raises
    ------
    ConfigError
        The folder is not empty.
    StoreError
        The disk is full, or the folder cannot be made.
    """
    target = Path(normalize(folder))
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(str(target), ["is not an empty folder; name another one, or remove it first"])
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            _write_all(building, spec, progress or (lambda stage, done, total: None))
            building.chmod(0o755)
            building.replace(target)
        finally:
            if building.exists():
                shutil.rmtree(building)
    return target


def _write_all(root: Path, spec: SyntheticSpec, report: OnProgress) -> None:
    experiment = draw_experiment(spec)
    save_spec(root, spec)
    _write_design(root, spec, experiment)
    everyone = show_images(root, spec, experiment, _cast(spec), report)
    for label_owner in ("fsaverage", *(subject_name(number) for number in range(1, spec.subjects + 1))):
        write_label_tables(root, label_owner)
    write_cortex(root, spec)
    for who in everyone:
        save_truth(root, who, experiment.images[who.subject - 1])
        if who.space in ("func1pt8mm", "func1mm"):
            write_volume_maps(root, spec, who)
        elif who.space == "MNI":
            write_mni_maps(root, spec, who)
        else:
            write_surface_maps(root, spec, who)
    sessions = list(_sessions(spec, everyone))
    for done, (who, version, session) in enumerate(sessions, start=1):
        signal = np.load(signal_path(root, who.name, who.space), mmap_mode="r")
        write_session_files(root, spec, who, version, session, signal[experiment.session(session)])
        if session == 1:
            write_summaries(root, spec, who, version)
        report("betas", done, len(sessions))
    write_sisters(root, spec, experiment, everyone, report)


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
    """Every session whose betas are public; NSD has no betas_assumehrf at 1 mm, and one version in MNI."""
    for who in everyone:
        for version in (MNI_BETAS,) if who.space == "MNI" else spec.betas:
            if (who.space, version) != ("func1mm", "betas_assumehrf"):
                for session in range(1, spec.sessions_done[who.subject - 1] - spec.held_out + 1):
                    yield who, version, session


def _write_design(root: Path, spec: SyntheticSpec, experiment: Experiment) -> None:
    """The design, the table of images, those never shown, and the behaviour."""
    folder = root / "nsddata/experiments/nsd"
    folder.mkdir(parents=True)
    design = folder / "nsd_expdesign.mat"
    scipy.io.savemat(str(design), expdesign(spec, experiment), format="5")
    # in place of the date: the same seed gives the same bytes
    design.write_bytes(SYNTHETIC_DESIGN.ljust(116) + design.read_bytes()[116:])
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
