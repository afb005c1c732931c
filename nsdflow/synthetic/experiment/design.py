"""The experiment: the image of every trial of every subject. Zero-based here; the files are one-based, as published."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from nsdflow.synthetic.spec import SyntheticSpec

__all__ = ["RUNS_PER_SESSION", "Experiment", "draw_experiment", "expdesign", "run_lengths", "stim_info"]

Integers = npt.NDArray[np.int64]

RUNS_PER_SESSION = 12
_SLOTS = 75  # 4-s slots of a run; the first three and the last four are blank
_COLUMNS_FOR_SUBJECTS = 8  # the table always has NSD's eight


@dataclass(frozen=True)
class Experiment:
    """The design all subjects share, and their lists of images.

    Attributes
    ----------
    ordering : (trials,) int64
        For each trial an index into the subject's own list; each index occurs three times.
    images : (subjects, images_per_subject) int64
        ``nsd_id`` of each entry of each list; the shared ones first, sorted, the same in all rows.
    shared : int
        Number of shared images.
    trials_per_session : int
        Trials of one session.
    """

    ordering: Integers
    images: Integers
    shared: int
    trials_per_session: int

    @cached_property
    def presentations(self) -> Integers:
        """The three trials of each entry of a list, ascending, (images_per_subject, 3)."""
        return np.argsort(self.ordering, kind="stable").reshape(-1, 3)

    @cached_property
    def repetition(self) -> Integers:
        """0, 1 or 2 for each trial: the number of earlier presentations of its image."""
        repetition = np.empty_like(self.ordering)
        repetition[self.presentations] = np.arange(3)
        return repetition

    def session(self, session: int) -> Integers:
        """List indices shown in a session (1-based), in order."""
        last = session * self.trials_per_session
        return self.ordering[last - self.trials_per_session : last]


def draw_experiment(spec: SyntheticSpec) -> Experiment:
    """Draw the order of trials and the images of every subject from the seed."""
    rng = spec.generator("design")
    per_subject, shared = spec.images_per_subject, spec.shared_images
    order = rng.permutation(spec.image_count)
    own = order[shared:].reshape(spec.subjects, per_subject - shared)
    common = np.broadcast_to(np.sort(order[:shared]), (spec.subjects, shared))
    return Experiment(
        ordering=_spread_repeats(rng, per_subject, spec.sessions),
        images=np.concatenate([common, own], axis=1).astype(np.int64),
        shared=shared,
        trials_per_session=spec.trials_per_session,
    )


def _spread_repeats(rng: np.random.Generator, images: int, sessions: int) -> Integers:
    """Each index three times; a repeat comes within about a session, or anywhere, with equal odds."""
    first = rng.random((images, 1))
    soon = rng.laplace(scale=0.3 / sessions, size=(images, 2))
    anywhere = rng.random((images, 2))
    later = np.where(rng.random((images, 2)) < 0.5, soon, anywhere)
    when = (first + np.concatenate([np.zeros_like(first), later], axis=1)) % 1.0
    return np.argsort(when, axis=None, kind="stable") // 3


def run_lengths(trials_per_session: int) -> Integers:
    """Trials of the 12 runs of a session: 63, 62, 63, ... for 750; odd runs take the remainder first."""
    lengths = np.full(RUNS_PER_SESSION, trials_per_session // RUNS_PER_SESSION)
    odd_runs_first = np.argsort(np.arange(RUNS_PER_SESSION) % 2, kind="stable")
    lengths[odd_runs_first[: trials_per_session % RUNS_PER_SESSION]] += 1
    return lengths


def expdesign(spec: SyntheticSpec, experiment: Experiment) -> dict[str, npt.NDArray[np.float64]]:
    """The variables of ``nsd_expdesign.mat``: one-based doubles, as MATLAB saves them."""
    ordering = experiment.ordering.reshape(spec.sessions, -1)
    counts = np.stack([np.bincount(shown, minlength=spec.images_per_subject) for shown in ordering])
    variables = {
        "masterordering": experiment.ordering[None] + 1,
        "subjectim": experiment.images + 1,
        "sharedix": experiment.images[:1, : experiment.shared] + 1,
        "basiccnt": np.stack([(counts == times).sum(axis=1) for times in (1, 2, 3)]),
        "stimpattern": _stimulus_pattern(spec),
    }
    return {name: values.astype(np.float64) for name, values in variables.items()}


def _stimulus_pattern(spec: SyntheticSpec) -> Integers:
    """1 where a slot of a run shows an image, (session, run, slot); blank slots are spread inside the run."""
    rng = spec.generator("stimulus pattern")
    lengths = run_lengths(spec.trials_per_session)
    slots = max(_SLOTS, int(lengths.max()) + 12)
    pattern = np.zeros((spec.sessions, RUNS_PER_SESSION, slots), dtype=np.int64)
    inner = np.arange(4, slots - 5)  # the first and the last of the slots between the blanks are trials
    for session in range(spec.sessions):
        for run, length in enumerate(lengths):
            shown = rng.choice(inner, size=max(length - 2, 0), replace=False)
            pattern[session, run, shown] = 1
            pattern[session, run, [3, slots - 5][: min(length, 2)]] = 1
    return pattern


def stim_info(spec: SyntheticSpec, experiment: Experiment) -> pd.DataFrame:
    """``nsd_stim_info_merged``: one row per image, 40 columns and the index; trial numbers are one-based, 0 = never."""
    rng = spec.generator("stimulus table")
    count = spec.image_count
    table: dict[str, npt.ArrayLike] = {
        "cocoId": np.sort(rng.choice(600_000, count, replace=False)),
        "cocoSplit": np.where(rng.random(count) < 0.95, "train2017", "val2017"),
        "cropBox": _crop_boxes(rng, count),
        "loss": rng.uniform(0, 0.5, count),
        "nsdId": np.arange(count),
        "flagged": rng.random(count) < 0.005,
        "BOLD5000": rng.random(count) < 0.03,
        "shared1000": np.isin(np.arange(count), experiment.images[0, : experiment.shared]),
    }
    members = np.zeros((count, _COLUMNS_FOR_SUBJECTS), dtype=np.int64)
    trials = np.zeros((count, _COLUMNS_FOR_SUBJECTS, 3), dtype=np.int64)
    for subject, images in enumerate(experiment.images):
        members[images, subject] = 1
        trials[images, subject] = experiment.presentations + 1
    for subject in range(_COLUMNS_FOR_SUBJECTS):
        table[f"subject{subject + 1}"] = members[:, subject]
    for subject in range(_COLUMNS_FOR_SUBJECTS):
        for repeat in range(3):
            table[f"subject{subject + 1}_rep{repeat}"] = trials[:, subject, repeat]
    return pd.DataFrame(table)


def _crop_boxes(rng: np.random.Generator, count: int) -> list[str]:
    """(top, bottom, left, right) shares cut off before resizing; only ever the longer side."""
    shares = rng.uniform(0, 0.2, (count, 2)).round(4).tolist()
    upright = (rng.random(count) < 0.3).tolist()
    return [f"({a}, {b}, 0, 0)" if tall else f"(0, 0, {a}, {b})" for (a, b), tall in zip(shares, upright, strict=True)]
