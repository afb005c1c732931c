"""A small synthetic brain: tissue, areas and the visual field, on a volume's grid or on a surface.

The brain is an ellipsoid that fills the volume, and cortex is a shell in it. Areas are ordered by angular distance from
the occipital pole. V1, V2 and V3 are rings: their ventral halves see the upper visual field, and the left hemisphere
sees the right half. A ventral, a lateral and a dorsal stream follow. Within an area, the polar angle varies with the
distance from the pole, in opposite directions in neighbouring areas, and the eccentricity varies around the pole. This
is the layout of the real maps, simplified.
All arrays are flat in C order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nsdflow.names import PRF_VISUALROIS, ROI_LABELS

__all__ = [
    "ATLAS_LABELS",
    "SURFACE_ATLASES",
    "Anatomy",
    "cortex_voxels",
    "in_hemisphere",
    "surface_anatomy",
    "volume_anatomy",
]

Bools = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.integer[Any]]
Floats = npt.NDArray[np.float64]

_BRAIN, _PIAL, _WHITE = 0.97, 0.87, 0.72  # radii of the ellipsoids, in half sides of the volume
#: aseg's numbers of background, cortex, thalamus, hippocampus and white matter.
_LEFT_TISSUE, _RIGHT_TISSUE = np.array([[0, 3, 10, 17, 2], [0, 42, 49, 53, 41]], dtype=np.int16)
_AREA_SHARES = {"V1": 0.25, "V2": 0.25, "V3": 0.25}  # shares of early visual cortex; hV4 has the rest
_KASTNER_SHRINKS = 0.92  # Kastner's areas differ in size from the subject's own maps
_VISUAL, _GENERAL = 2.5, 3.2  # sizes of all visual areas and of nsdgeneral, relative to early visual cortex

_SECTORS = {
    "ventral": (7, 8, 9, 10, 11),  # hV4 VO1 VO2 PHC1 PHC2
    "lateral": (15, 14, 13, 12),  # LO1 LO2 hMT MST
    "dorsal": (17, 16, 18, 19, 20, 21, 22, 23, 24, 25),  # V3a V3b IPS0-5 SPL1 FEF
}

_KASTNER_NAMES = {
    **ROI_LABELS, 12: "TO2", 13: "TO1", 16: "V3B", 17: "V3A",
}  # fmt: skip

#: Label tables of the atlases that are written.
ATLAS_LABELS: Mapping[str, Mapping[int, str]] = {
    "prf-visualrois": PRF_VISUALROIS,
    "prf-eccrois": dict(enumerate(("ecc0pt5", "ecc1", "ecc2", "ecc4", "ecc4+"), start=1)),
    "Kastner2015": _KASTNER_NAMES,
    "nsdgeneral": {1: "nsdgeneral"},
    "streams": dict(
        enumerate(
            ("early", "midventral", "midlateral", "midparietal", "ventral", "lateral", "parietal"), start=1
        )
    ),
    "floc-faces": dict(enumerate(("OFA", "FFA-1", "FFA-2", "mTL-faces", "aTL-faces"), start=1)),
    "floc-bodies": dict(enumerate(("EBA", "FBA-1", "FBA-2", "mTL-bodies"), start=1)),
    "floc-places": dict(enumerate(("OPA", "PPA", "RSC"), start=1)),
    "floc-words": dict(enumerate(("OWFA", "VWFA-1", "VWFA-2", "mfs-words", "mTL-words"), start=1)),
    "HCP_MMP1": {label: f"HCP{label:03d}" for label in range(1, 181)} | {
        1: "V1", 18: "FFC", 126: "PHA1", 127: "PHA3", 133: "TE1p", 154: "VMV3", 155: "PHA2", 160: "VMV2", 163: "VVC",
    },
    "corticalsulc": {label: f"sulcus{label:02d}" for label in range(1, 29)} | {1: "SFRS", 2: "MFG", 3: "IFG"},
    "thalamus": dict(enumerate(("LGN", "SC", "vPulvinar", "dlPulvinar", "dmPulvinar"), start=1)),
    "MTL": dict(enumerate(("ERC", "A35", "A36", "PHC", "SUB", "CA1", "CA2CA3", "DG"), start=1)),
}  # fmt: skip

#: Atlases that NSD also has as surface labels (the others are drawn in the volume).
SURFACE_ATLASES = tuple(name for name in ATLAS_LABELS if name not in ("thalamus", "MTL"))


@dataclass(frozen=True)
class Anatomy:
    """Labels and positions in one subject and space; n = voxels of the volume, or vertices of both hemispheres.

    Attributes
    ----------
    shape : tuple of int
        Grid of the volume, or ``(n,)``.
    positions : (n, 3) float64
        Left to right, posterior to anterior, inferior to superior, each from -1 to 1.
    brain, cortex, left : (n,) bool
        Brain mask, cortex, left hemisphere.
    aseg : (n,) int16
        FreeSurfer's tissue classes.
    atlases : mapping of name to (n,) int16
        -1 off the cortex, 0 unlabelled, 1..N labels; MTL and thalamus have 0 for all background.
    x, y : (n,) float64
        Place in the visual field in image widths, y upward; NaN outside visual cortex.
    """

    shape: tuple[int, ...]
    positions: Floats
    brain: Bools
    cortex: Bools
    left: Bools
    aseg: Labels
    atlases: Mapping[str, Labels]
    x: Floats
    y: Floats

    @property
    def visual(self) -> Bools:
        """All visual voxels: those of an area or of nsdgeneral."""
        return np.isfinite(self.x)

    @property
    def joined_roi(self) -> Labels:
        """prf-visualrois over Kastner2015."""
        own = self.atlases["prf-visualrois"]
        return np.where(own > 0, own, self.atlases["Kastner2015"])


def in_hemisphere(labels: Labels, left: Bools, hemisphere: str, background: int = -1) -> Labels:
    """Labels of one hemisphere ("lh" or "rh"), the other one set to ``background``."""
    return np.where(left == (hemisphere == "lh"), labels, background)


def volume_anatomy(shape: tuple[int, int, int], evc_voxels: int, rng: np.random.Generator) -> Anatomy:
    """The anatomy of a volume, i left to right, j posterior to anterior, k inferior to superior."""
    axes = np.meshgrid(*[(2 * np.arange(n) + 1) / n - 1 for n in shape], indexing="ij")
    return _anatomy(shape, np.stack(axes, axis=-1).reshape(-1, 3), evc_voxels, rng)


def surface_anatomy(positions: Floats, evc_share: float, rng: np.random.Generator) -> Anatomy:
    """The anatomy of a surface: vertices of the left hemisphere, then of the right. The medial wall is not cortex.

    ``evc_share`` is the share of cortex that is early visual.
    """
    radius = np.linalg.norm(positions, axis=1)
    cortex = int(((radius < _PIAL) & (radius >= _WHITE)).sum())
    return _anatomy((len(positions),), positions, round(evc_share * cortex), rng)


def cortex_voxels(shape: tuple[int, int, int]) -> int:
    """Voxels of cortex in a volume."""
    square = sum(np.ix_(*[((2 * np.arange(n) + 1) / n - 1) ** 2 for n in shape]), np.float64(0))
    return int(((square < _PIAL**2) & (square >= _WHITE**2)).sum())


def _anatomy(shape: tuple[int, ...], positions: Floats, evc_voxels: int, rng: np.random.Generator) -> Anatomy:
    radius = np.linalg.norm(positions, axis=1)
    cortex = (radius < _PIAL) & (radius >= _WHITE)
    left = positions[:, 0] < 0
    from_pole = np.arccos(np.clip(-positions[:, 1] / np.maximum(radius, 1e-9), -1, 1))
    # a little noise breaks the ties of a symmetric grid, differently in each subject
    order = np.flatnonzero(cortex)
    order = order[np.argsort(from_pole[order] + rng.normal(0, 0.01, order.size), kind="stable")]
    own = _visual_areas(positions, order, evc_voxels)
    kastner = _visual_areas(positions, order, round(_KASTNER_SHRINKS * evc_voxels))
    general = np.where(cortex, 0, -1)
    general[order[: round(_GENERAL * evc_voxels)]] = 1
    joined = np.where((own > 0) & (own < 8), own, kastner)
    x, y = _visual_field(positions, from_pole, np.where((joined == 0) & (general > 0), 26, joined), rng)
    atlases = {
        "prf-visualrois": np.where(own > 7, 0, own),
        "prf-eccrois": np.where((own > 0) & (own < 8), _eccentricity_band(x, y), np.minimum(own, 0)),
        "Kastner2015": kastner,
        "nsdgeneral": general,
        "streams": _streams(joined, general),
        **_category_areas(positions, joined, general),
        "HCP_MMP1": _parcels(positions, cortex, from_pole, 180),
        "corticalsulc": _parcels(positions, cortex, from_pole, 28),
        "thalamus": _blob(positions, (0.15, -0.05, 0.0), 0.2, 5),
        "MTL": _blob(positions, (0.4, 0.0, -0.3), 0.2, 8),
    }
    inside = [radius >= _PIAL, cortex, atlases["thalamus"] > 0, atlases["MTL"] > 0]
    tissue = np.select(inside, range(4), default=4)
    return Anatomy(
        shape=shape,
        positions=positions,
        brain=radius < _BRAIN,
        cortex=cortex,
        left=left,
        aseg=np.where(left, _LEFT_TISSUE[tissue], _RIGHT_TISSUE[tissue]),
        atlases={name: labels.astype(np.int16) for name, labels in atlases.items()},
        x=x,
        y=y,
    )


def _sectors(positions: Floats) -> npt.NDArray[np.str_]:
    """Stream of each place: below, lateral to or above the axis from pole to pole."""
    elevation = np.arctan2(positions[:, 2], np.abs(positions[:, 0]))
    return np.select([elevation < -0.35, elevation > 0.45], ["ventral", "dorsal"], default="lateral")


def _visual_areas(positions: Floats, order: Labels, evc: int) -> Labels:
    """Labels 1..25 of the joined visual areas, 0 elsewhere in cortex, -1 off it; ``evc`` voxels have 1..7."""
    labels = np.full(len(positions), -1)
    labels[order] = 0
    ends = np.cumsum([round(share * evc) for share in _AREA_SHARES.values()])
    upper_field = positions[:, 2] < 0
    for first_label, start, end in zip((1, 3, 5), (0, *ends), ends, strict=False):
        ring = order[start:end]
        labels[ring] = first_label + ~upper_field[ring]
    beyond = order[ends[-1] : round(_VISUAL * evc)]
    sector = _sectors(positions)[beyond]
    for name, sequence in _SECTORS.items():
        members, areas = beyond[sector == name], list(sequence)
        if name == "ventral":
            hv4 = evc - int(ends[-1])
            labels[members[:hv4]], members, areas = 7, members[hv4:], areas[1:]
        for label, part in zip(areas, np.array_split(members, len(areas)), strict=True):
            labels[part] = label
    return labels


def _visual_field(
    positions: Floats, from_pole: Floats, areas: Labels, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Place in the visual field of every voxel with a positive label, from its rank within area and hemisphere."""
    x, y = np.full((2, len(positions)), np.nan)
    around = np.abs(np.arctan2(positions[:, 2], np.abs(positions[:, 0])))
    left = positions[:, 0] < 0
    for label, members in _groups(areas, left):
        along = _rank(from_pole[members] + rng.normal(0, 0.01, members.size))
        eccentricity = 0.01 + 0.34 * _rank(around[members] + rng.normal(0, 0.05, members.size)) ** 1.2
        if label > 6:  # a whole hemifield, from the lower to the upper meridian
            angle = np.pi * (along - 0.5)
        else:  # a quadrant: from the horizontal meridian in V1, back to it in V2, away again in V3
            meridian = along if label in (1, 2, 5, 6) else 1 - along
            angle = np.pi / 2 * meridian * np.where(positions[members, 2] < 0, 1, -1)
        x[members] = eccentricity * np.cos(angle) * np.where(left[members], 1, -1)
        y[members] = eccentricity * np.sin(angle)
    return x, y


def _groups(areas: Labels, left: Bools) -> Iterator[tuple[int, Labels]]:
    for label in np.unique(areas[areas > 0]).tolist():
        for side in (True, False):
            members = np.flatnonzero((areas == label) & (left == side))
            if members.size:
                yield label, members


def _rank(values: Floats) -> Floats:
    """Ranks as quantiles strictly between 0 and 1."""
    return (np.argsort(np.argsort(values, kind="stable"), kind="stable") + 0.5) / values.size


def _eccentricity_band(x: Floats, y: Floats) -> Labels:
    """Labels of prf-eccrois: up to 0.5, 1, 2, 4 degrees, and beyond; images are 8.4 degrees wide."""
    degrees = 8.4 * np.hypot(x, y)
    return 1 + np.searchsorted([0.5, 1.0, 2.0, 4.0], np.nan_to_num(degrees))


def _streams(joined: Labels, general: Labels) -> Labels:
    """early = V1 to V3; hV4 and LO and V3ab are the middle, the rest of nsdgeneral is high."""
    labels = np.minimum(general, 0)
    streams = ([*range(1, 7)], [7, 8], [14, 15], [16, 17], [9, 10, 11], [12, 13], [*range(18, 26)])
    for label, areas in enumerate(streams, start=1):
        labels[np.isin(joined, areas) & (general > 0)] = label
    return labels


def _category_areas(positions: Floats, joined: Labels, general: Labels) -> dict[str, Labels]:
    """The floc atlases: patches of the outer part of nsdgeneral, split by sector and by distance from the midline."""
    outer = (general > 0) & ~np.isin(joined, range(1, 8))
    ventral = _sectors(positions) == "ventral"
    medial = np.abs(positions[:, 0]) < 0.35
    within = {
        "floc-faces": ventral & ~medial,
        "floc-bodies": ~ventral & ~medial,
        "floc-places": medial,
        "floc-words": ventral & ~medial & (positions[:, 0] < 0),
    }
    atlases = {}
    for name, region in within.items():
        labels = np.minimum(general, 0)
        members = np.flatnonzero(outer & region)
        members = members[np.argsort(positions[members, 1], kind="stable")]
        for label, part in zip(ATLAS_LABELS[name], np.array_split(members, len(ATLAS_LABELS[name])), strict=True):
            labels[part[: 2 * len(part) // 3]] = label  # gaps between the patches
        atlases[name] = labels
    return atlases


def _parcels(positions: Floats, cortex: Bools, from_pole: Floats, count: int) -> Labels:
    """Cortex cut into ``count`` rings around the pole, alike in both hemispheres. A part of each ring has no label."""
    ring = 1 + np.minimum((from_pole / np.pi * count).astype(np.int64), count - 1)
    gap = (count < 100) & (np.abs(positions[:, 2]) < 0.1)  # sulci do not cover cortex
    return np.where(cortex, np.where(gap, 0, ring), -1)


def _blob(positions: Floats, centre: tuple[float, float, float], radius: float, parts: int) -> Labels:
    """A ball in each hemisphere, cut from back to front into ``parts`` labels; 0 elsewhere."""
    mirrored = positions * np.where(positions[:, :1] < 0, (-1, 1, 1), 1)
    offset = mirrored - np.asarray(centre)
    inside = np.linalg.norm(offset, axis=1) < radius
    slab = np.floor((offset[:, 1] / radius + 1) / 2 * parts).astype(np.int64)
    return np.where(inside, 1 + np.clip(slab, 0, parts - 1), 0)
