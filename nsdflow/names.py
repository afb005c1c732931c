"""The vocabulary: names of subjects, ROIs, label tables and dimensions, each in one place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from nsdflow.errors import ConfigError, one_of

__all__ = [
    "BETAS_SCALE",
    "BETAS_VERSIONS",
    "DEFAULT_BETAS",
    "DEFAULT_SPACE",
    "HEMISPHERES",
    "LAYER_NAMES",
    "PRF_VISUALROIS",
    "ROI_GROUPS",
    "ROI_LABELS",
    "SPACES",
    "STIMULI_FILE",
    "SYNTHETIC_DESIGN",
    "ZSCORE_EPSILON",
    "atlas_coordinate",
    "number_ranges",
    "parse_sessions",
    "parse_subjects",
    "select_subjects",
    "subject_name",
    "subject_number",
]

#: Spaces in which NSD publishes single-trial betas.
SPACES: Final = ("func1pt8mm", "func1mm", "nativesurface", "fsaverage", "MNI")
DEFAULT_SPACE: Final = "func1pt8mm"

#: The three versions of the betas, in NSD's order b1, b2, b3.
BETAS_VERSIONS: Final = ("betas_assumehrf", "betas_fithrf", "betas_fithrf_GLMdenoise_RR")
DEFAULT_BETAS: Final = "betas_fithrf_GLMdenoise_RR"

#: Factor from int16 betas to percent signal change (func* and nativesurface; fsaverage is not scaled).
BETAS_SCALE: Final = 1.0 / 300.0

#: Added to the standard deviation when responses or features are z-scored, as published.
ZSCORE_EPSILON: Final = 1e-6

HEMISPHERES: Final = ("lh", "rh")

#: File of the 73,000 images, below the folder of NSD.
STIMULI_FILE: Final = "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"

#: Labels of the joined visual ROI: prf-visualrois (1..7) written over Kastner2015 (1..25).
ROI_LABELS: Final[Mapping[int, str]] = {
    1: "V1v", 2: "V1d", 3: "V2v", 4: "V2d", 5: "V3v", 6: "V3d", 7: "hV4", 8: "VO1", 9: "VO2", 10: "PHC1",
    11: "PHC2", 12: "MST", 13: "hMT", 14: "LO2", 15: "LO1", 16: "V3b", 17: "V3a", 18: "IPS0", 19: "IPS1",
    20: "IPS2", 21: "IPS3", 22: "IPS4", 23: "IPS5", 24: "SPL1", 25: "FEF",
}  # fmt: skip

#: The seven labels of prf-visualrois, the retinotopic early visual cortex ("evc").
PRF_VISUALROIS: Final[Mapping[int, str]] = {label: ROI_LABELS[label] for label in range(1, 8)}

#: Groups by which the paper reports, as labels of the joined ROI.
ROI_GROUPS: Final[Mapping[str, tuple[int, ...]]] = {
    "V1": (1, 2), "V2": (3, 4), "V3": (5, 6), "hV4": (7,), "V3ab": (16, 17), "LO": (14, 15),
    "IPS": (18, 19, 20, 21, 22, 23), "VO": (8, 9), "PHC": (10, 11), "MT": (13,), "MST": (12,),
    "other": (24, 25, 0),
}  # fmt: skip

#: The seven layers that feed GNet's readout, in feature order.
LAYER_NAMES: Final = ("c3", "c4a", "c4b", "c5a", "c5b", "c6a", "c6b")


#: First bytes of the experiment's design in a synthetic NSD, by which a copy of it is recognised.
SYNTHETIC_DESIGN: Final = b"MATLAB 5.0 MAT-file, written by nsdflow"


def subject_name(number: int) -> str:
    """``1 -> "subj01"``."""
    return f"subj{number:02d}"


def subject_number(name: str) -> int:
    """``"subj01" -> 1``; also accepts ``"1"`` and ``"S1"``."""
    match = re.fullmatch(r"(?:(?:subj|sub|s)-?)?0*([1-9][0-9]?)", str(name).strip(), flags=re.IGNORECASE)
    if match is None:
        raise ConfigError("subject", [f"{name!r} is not a subject; write subj01 or 1"])
    return int(match.group(1))


def parse_subjects(text: str | Iterable[int | str]) -> tuple[str, ...]:
    """``"1,2"``, ``"1-3"``, ``["subj01", 2]`` -> sorted subject names, each once.

    Raises
    ------
    ConfigError
        A name or range is malformed, or nothing is given.
    """
    parts = text.split(",") if isinstance(text, str) else [str(part) for part in text]
    numbers: set[int] = set()
    for part in parts:
        low, dash, high = part.strip().partition("-")
        if dash and low.isdigit() and high.isdigit():
            first, last = subject_number(low), subject_number(high)
            if first > last:
                raise ConfigError("subjects", [f"{part.strip()!r} is not a range; write the lower number first"])
            numbers.update(range(first, last + 1))
        else:
            numbers.add(subject_number(part))
    if not numbers:
        raise ConfigError("subjects", ["none given; write for example 1,2 or 1-8"])
    return tuple(subject_name(number) for number in sorted(numbers))


def parse_sessions(text: str | int | Iterable[int | str]) -> tuple[int, ...]:
    """Sorted session numbers, each once.

    Raises
    ------
    ConfigError
        A part is neither a positive number nor a range, or nothing is given.

    Examples
    --------
    >>> parse_sessions("1-3,7")
    (1, 2, 3, 7)
    """
    parts = text.split(",") if isinstance(text, str) else [text] if isinstance(text, int) else list(text)
    numbers: set[int] = set()
    for part in map(str, parts):
        match = re.fullmatch(r"\s*([1-9]\d*)(?:\s*-\s*([1-9]\d*))?\s*", part)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise ConfigError(
                "sessions", [f"{part.strip()!r} is neither a session nor a range; write for example 1-37"]
            )
        numbers.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    if not numbers:
        raise ConfigError("sessions", ["none given; write for example 1-37"])
    return tuple(sorted(numbers))


def number_ranges(numbers: Iterable[int]) -> str:
    """Numbers as text, with ranges.

    >>> number_ranges([1, 2, 3, 7])
    '1-3, 7'
    """
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs) or "none"


def select_subjects(available: Sequence[str], wanted: str | Sequence[str]) -> tuple[str, ...]:
    """The subjects of a store that a pipeline asks for; ``"all"`` selects every one.

    Raises
    ------
    SelectionError
        A subject is not available.
    """
    if wanted == "all":
        return tuple(available)
    for subject in wanted:
        if subject not in available:
            raise one_of("subject", subject, available)
    return tuple(wanted)


def atlas_coordinate(atlas: str) -> str:
    """The coordinate an atlas becomes: ``"prf-visualrois" -> "prf_visualrois"``."""
    return atlas.replace("-", "_")
