"""Settings of a synthetic NSD: one frozen record, checked when it is made."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from nsdflow.errors import ConfigError
from nsdflow.names import BETAS_VERSIONS, DEFAULT_BETAS, DEFAULT_SPACE, SPACES
from nsdflow.synthetic.brain.cortex.spheres import ICOSAHEDRA

__all__ = ["FORMATS", "HIERARCHIES", "SISTERS", "VERSION_SNR", "SyntheticSpec"]


@dataclass(frozen=True)
class Hierarchy:
    """Layers of the planted network that V1, V2, V3 and hV4 (with every area beyond) read.

    Parameters
    ----------
    depths : (float, float, float, float)
        Levels. A voxel of depth 1 reads the first one; one of depth 1.25 has a fifth of its variance from the second.
    channels : (int, int, int, int), optional
        Number of channels of the first level that each area reads. All areas count from the start of the same order,
        so a smaller set lies within a larger one. A voxel reads one channel of its area, minus the mean of all
        channels. By default, voxels are tuned smoothly.
    """

    depths: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    channels: tuple[int, int, int, int] | None = None


#: "mild" is close to what Gabor models can predict, and its pooling fields grow from area to area as in the brain. In
#: the others, areas differ only in the channels that they read: those of one area contain those of another, or are the
#: same for all. Fields are broad there, and a short training suffices.
HIERARCHIES: Final[Mapping[str, Hierarchy]] = {
    "mild": Hierarchy(depths=(1.0, 1.1, 1.2, 1.3)),
    "ordered": Hierarchy(channels=(3, 6, 12, 24)),
    "reversed": Hierarchy(channels=(24, 12, 6, 3)),
    "same": Hierarchy(channels=(12, 12, 12, 12)),
}

#: Files in which the volume betas of a session are written; "mat" is the early releases' MAT v7.3.
FORMATS: Final = ("nii.gz", "hdf5", "mat")

#: Sister experiments, as users name them; their files are called nsdsynthetic and nsdimagery.
SISTERS: Final = ("synthetic", "imagery")

#: ncsnr of each version of the betas as a share of the planted one: each version denoises a little more.
VERSION_SNR: Final[Mapping[str, float]] = dict(zip(BETAS_VERSIONS, (0.75, 0.85, 1.0), strict=True))

_PUBLISHED_SHAPES: Final = (
    (81, 104, 83), (82, 106, 84), (81, 106, 82), (85, 99, 80), (79, 97, 78), (85, 113, 83), (78, 95, 81), (80, 103, 78),
)  # fmt: skip
_PUBLISHED_SESSIONS: Final = (40, 40, 32, 30, 40, 32, 40, 30)
_VISUAL_PER_EVC: Final = 3.2  # visually responsive voxels per voxel of early visual cortex
_CORTEX_SHARE: Final = 0.14  # share of the voxels of a volume


@dataclass(frozen=True)
class SyntheticSpec:
    """A synthetic NSD: its sizes, its predictability, and the seed.

    Parameters
    ----------
    subjects : int
        1 to 8.
    sessions : int
        Sessions of the design, in which each image of a subject is shown three times.
    sessions_done : tuple of int, optional
        Sessions each subject completed; by default all, and one less for the last of several subjects.
    held_out : int
        Last sessions of each subject without published betas; their behaviour is published.
    trials_per_session : int
        750 as published; 12 runs share them as evenly as NSD's 63 and 62 do.
    shared_images : int
        Images that all subjects see.
    image_size : int
        Pixels per side of ``imgBrick``; 425 as published.
    shapes : tuple of (int, int, int), optional
        Grid of each subject in func1pt8mm; by default a small one with room for the voxels asked for.
    evc_voxels : int
        Voxels of V1 to hV4 in func1pt8mm; 3.2 times as many carry signal at all.
    vertices : int
        Vertices per hemisphere of fsaverage: a divided icosahedron, 162, 642, 2562, 10242, 40962 or 163842. A native
        surface has about as many.
    spaces, betas, formats : tuples of str
        Spaces, versions of the betas, and files of the volume betas to write.
    ncsnr : (float, float)
        Range of the planted ncsnr in early visual cortex; areas beyond have 0.6 of it.
    hierarchy : str
        Levels of the planted network that the areas read, a key of `HIERARCHIES`.
    noise_correlation : float
        Share of the noise variance, in [0, 1), that comes from a few sources spread smoothly over the brain.
    experiments : tuple of str
        Sister experiments to write as well: ``"synthetic"``, ``"imagery"``.
    behaviour : bool
        Write ``responses.tsv``.
    annotations : bool
        Write COCO's annotation files of the images to ``coco/annotations``, and let the areas of the localizer respond
        to the categories in the images.
    lost_runs : tuple of (subject, session, run)
        Runs, 1-based, whose button presses were lost (``MISSINGDATA``).
    seed : int
        Seed of all random numbers.

    Raises
    ------
    ConfigError
        Lists all problems.
    """

    subjects: int = 2
    sessions: int = 3
    sessions_done: tuple[int, ...] = ()
    held_out: int = 0
    trials_per_session: int = 120
    shared_images: int = 20
    image_size: int = 128
    shapes: tuple[tuple[int, int, int], ...] = ()
    evc_voxels: int = 150
    vertices: int = 2562
    spaces: tuple[str, ...] = (DEFAULT_SPACE,)
    betas: tuple[str, ...] = (DEFAULT_BETAS,)
    formats: tuple[str, ...] = ("nii.gz", "hdf5")
    ncsnr: tuple[float, float] = (0.6, 1.5)
    hierarchy: str = "mild"
    noise_correlation: float = 0.0
    experiments: tuple[str, ...] = ()
    behaviour: bool = True
    annotations: bool = False
    lost_runs: tuple[tuple[int, int, int], ...] = ((1, 1, 10),)
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.sessions_done:
            done = [self.sessions] * self.subjects
            done[-1:] = [self.sessions - (self.subjects > 1 and self.sessions > 1)]
            object.__setattr__(self, "sessions_done", tuple(done))
        if not self.shapes:
            object.__setattr__(self, "shapes", tuple(_small_shape(s, self.evc_voxels) for s in range(self.subjects)))
        problems = list(_problems(self))
        if problems:
            raise ConfigError("synthetic NSD", problems)

    @classmethod
    def demo(cls, **changes: Any) -> SyntheticSpec:
        """The demo's NSD: two subjects, enough trials to learn from, written in a few seconds."""
        demo: dict[str, Any] = {
            "sessions": 4,
            "trials_per_session": 450,
            "shared_images": 80,
            "image_size": 134,
            "evc_voxels": 250,
            "formats": ("nii.gz",),
            "ncsnr": (0.8, 2.0),
        }
        return cls(**(demo | changes))

    @classmethod
    def published(cls, **changes: Any) -> SyntheticSpec:
        """The size of the real thing: eight subjects, 73,000 images, 213,000 trials, some 300 GB."""
        subjects, sessions = changes.get("subjects", 8), changes.get("sessions", 40)
        published: dict[str, Any] = {
            "subjects": subjects,
            "sessions": sessions,
            "sessions_done": tuple(min(done, sessions) for done in _PUBLISHED_SESSIONS[:subjects]),
            "trials_per_session": 750,
            "shared_images": min(1000, sessions * 750 // 3),
            "image_size": 425,
            "shapes": _PUBLISHED_SHAPES[:subjects],
            "evc_voxels": 4000,
            "vertices": 163_842,
            "experiments": SISTERS,
            "ncsnr": (0.1, 0.9),
            "lost_runs": ((6, 19, 10), (4, 23, 3)),
        }
        return cls(**(published | changes))

    @property
    def trials(self) -> int:
        """Trials of the design, for each subject."""
        return self.sessions * self.trials_per_session

    @property
    def images_per_subject(self) -> int:
        """Images in each subject's list, the shared ones first."""
        return self.trials // 3

    @property
    def image_count(self) -> int:
        """Images in ``imgBrick``."""
        return self.shared_images + self.subjects * (self.images_per_subject - self.shared_images)

    def volume_shape(self, subject: int, space: str) -> tuple[int, int, int]:
        """Grid of a subject (1-based) in func1pt8mm or func1mm, or of all in MNI."""
        if space == "MNI":
            return (182, 218, 182) if self.shapes[0] == _PUBLISHED_SHAPES[0] else self.shapes[0]
        i, j, k = self.shapes[subject - 1]
        scale = 1.0 if space == "func1pt8mm" else 1.8
        return round(i * scale), round(j * scale), round(k * scale)

    def vertex_counts(self, subject: int, space: str) -> tuple[int, int]:
        """Vertices of the left and the right hemisphere of a subject (1-based) in a surface space."""
        if space == "fsaverage":
            return self.vertices, self.vertices
        return self.vertices + 11 * subject, self.vertices + 7 * subject

    def generator(self, *purpose: str | int) -> np.random.Generator:
        """A random generator for one purpose, such as ``("planting", subject, space)``, independent of all others."""
        return np.random.default_rng((self.seed, *" ".join(map(str, purpose)).encode()))

    def to_json(self) -> str:
        """All settings as JSON; `from_json` gives the same specification back."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> SyntheticSpec:
        """The inverse of `to_json`."""
        return cls(**{name: _as_tuples(value) for name, value in json.loads(text).items()})


def _small_shape(subject: int, evc_voxels: int) -> tuple[int, int, int]:
    """A volume with room for these voxels of early visual cortex, of another shape for each of three subjects."""
    scale = max(evc_voxels / 150, 1) ** (1 / 3)
    return round(20 * scale) + subject % 3, round(24 * scale) - subject % 2, round(18 * scale) + subject % 2


def _as_tuples(value: Any) -> Any:
    return tuple(_as_tuples(item) for item in value) if isinstance(value, list) else value


def _problems(spec: SyntheticSpec) -> Iterator[str]:
    """One line for each mistake: what is wrong and what to write instead."""
    if not 1 <= spec.subjects <= 8:
        yield f"subjects: NSD has 1 to 8, not {spec.subjects}"
    if not 1 <= spec.sessions <= 99:
        yield f"sessions: 1 to 99, not {spec.sessions}"
    if spec.trials_per_session < 12:
        yield f"trials_per_session: at least one for each of 12 runs, not {spec.trials_per_session}"
    if spec.trials % 3:
        yield f"sessions x trials_per_session must be divisible by 3 (three repeats per image), not {spec.trials}"
    if len(spec.sessions_done) != spec.subjects or not all(1 <= n <= spec.sessions for n in spec.sessions_done):
        yield f"sessions_done: one number from 1 to {spec.sessions} for each subject, not {spec.sessions_done}"
    if not 0 <= spec.held_out < min(spec.sessions_done, default=1):
        yield f"held_out: fewer than the sessions every subject did, not {spec.held_out}"
    if not 1 <= spec.shared_images <= spec.images_per_subject:
        yield (
            f"--shared is {spec.shared_images}, but {spec.sessions} x {spec.trials_per_session} trials show only "
            f"{spec.images_per_subject} images; write --shared {max(1, spec.images_per_subject // 2)}, or more --trials"
        )
    if spec.image_size < 32:
        yield f"image_size: at least 32 pixels, not {spec.image_size}"
    if len(spec.shapes) != spec.subjects or not all(len(shape) == 3 and min(shape) >= 10 for shape in spec.shapes):
        yield f"shapes: three sides of at least 10 voxels for each subject, not {spec.shapes}"
    if spec.vertices not in ICOSAHEDRA[2:]:
        yield f"vertices: one of {', '.join(map(str, ICOSAHEDRA[2:]))}, not {spec.vertices}"
    yield from _crowding(spec)
    for name, known in (("spaces", SPACES), ("betas", BETAS_VERSIONS), ("formats", FORMATS)):
        asked = getattr(spec, name)
        if not asked or not set(asked) <= set(known):
            yield f"{name}: one or more of {', '.join(known)}, not {', '.join(asked) or 'none'}"
    if unknown := [name for name in spec.experiments if name not in SISTERS]:
        yield f"experiments: {', '.join(SISTERS)}, or none, not {', '.join(unknown)}"
    if not (len(spec.ncsnr) == 2 and 0 < spec.ncsnr[0] <= spec.ncsnr[1]):
        yield f"ncsnr: a positive low and high, not {spec.ncsnr}"
    if spec.hierarchy not in HIERARCHIES:
        yield f"hierarchy: one of {', '.join(HIERARCHIES)}, not {spec.hierarchy}"
    if not 0 <= spec.noise_correlation < 1:
        yield f"noise_correlation: from 0 to less than 1, not {spec.noise_correlation}"
    if spec.seed < 0:
        yield f"seed: zero or more, not {spec.seed}"


def _crowding(spec: SyntheticSpec) -> Iterator[str]:
    """Early visual cortex must leave the smallest cortex some room."""
    smallest = min((i * j * k for i, j, k in spec.shapes), default=0)
    most = int(_CORTEX_SHARE * smallest / _VISUAL_PER_EVC)
    if not 20 <= spec.evc_voxels <= most:
        yield f"evc_voxels: 20 to {most} in a volume of {smallest} voxels, not {spec.evc_voxels}"
