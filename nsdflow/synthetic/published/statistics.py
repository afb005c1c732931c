"""Published maps of a synthetic subject: pRF, localizer, signal drop-out and mean signal, per voxel or vertex."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from nsdflow.synthetic.brain.participant import Participant
from nsdflow.synthetic.spec import SyntheticSpec

__all__ = ["LOCALIZER_CATEGORIES", "label_name", "statistic_maps"]

StatisticMaps = dict[str, npt.NDArray[Any]]

_DEGREES: Final = 8.4  # width of an image in the visual field
#: Domains of the localizer, and the atlas of their areas; objects have none.
_DOMAINS: Final = {
    "characters": "floc-words", "bodies": "floc-bodies", "faces": "floc-faces", "places": "floc-places", "objects": "",
}  # fmt: skip
#: The two categories of each domain, which its areas prefer a little less.
_SUBDOMAINS: Final = {
    "word": "characters", "number": "characters", "body": "bodies", "limb": "bodies", "adult": "faces",
    "child": "faces", "corridor": "places", "house": "places", "car": "objects", "instrument": "objects",
}  # fmt: skip
#: Splits of the localizer's runs.
_SPLITS: Final = 6
LOCALIZER_CATEGORIES: Final = (*_DOMAINS, *_SUBDOMAINS)


def label_name(name: str) -> str:
    """Name of a map among the labels of a surface: ``prf_size -> prfsize``."""
    return name.replace("prf_", "prf").replace("floc_", "floc")


def statistic_maps(spec: SyntheticSpec, who: Participant) -> StatisticMaps:
    """Maps by the name of their volume file, float32 (signal drop-out float64), NaN outside the brain."""
    mean = _mean_signal(spec, who)
    return {"mean": who.grid(mean, np.float32), **_prf(spec, who, mean), **_localizer(spec, who), **_quality(spec, who)}


def _mean_signal(spec: SyntheticSpec, who: Participant) -> npt.NDArray[np.float64]:
    """Mean EPI signal, flat: cortex darker than white matter."""
    anatomy = who.anatomy
    rng = spec.generator("maps", who.subject, who.space)
    return np.clip(tissue_signal(who) + rng.normal(0, 30, anatomy.x.size), 0, None)


def tissue_signal(who: Participant) -> npt.NDArray[np.float64]:
    """Signal of the tissue without noise, flat."""
    anatomy = who.anatomy
    return np.select([anatomy.cortex, anatomy.aseg > 0, anatomy.brain], [700.0, 1000.0, 250.0], default=0.0)


def _prf(spec: SyntheticSpec, who: Participant, mean: npt.NDArray[np.float64]) -> StatisticMaps:
    """The planted pooling fields as population receptive fields; noise elsewhere in the brain."""
    planted = who.planted
    rng = spec.generator("prf maps", who.subject, who.space)
    count = who.anatomy.x.size
    little, anywhere, none = rng.uniform(0, 3, count), rng.uniform(0, 360, count), np.zeros(count)
    explained = 100 * planted.ncsnr**2 / (1 + planted.ncsnr**2)
    return {
        "R2": who.planted_map(0.8 * explained, little),
        "prf_angle": who.planted_map(np.degrees(np.arctan2(planted.y, planted.x)) % 360, anywhere),
        "prf_eccentricity": who.planted_map(_DEGREES * np.hypot(planted.x, planted.y), little),
        "prf_size": who.planted_map(_DEGREES * planted.sigma, little),
        "prf_R2": who.planted_map(0.9 * explained, little),
        "prf_gain": who.planted_map(planted.ncsnr, none),
        "prf_exponent": who.planted_map(np.full(planted.x.size, 0.5), none + 0.5),
        "prf_meanvol": who.planted_map(mean[planted.flat_index], mean),
    }


def _localizer(spec: SyntheticSpec, who: Participant) -> StatisticMaps:
    """t-values of every category, high in the areas of its domain."""
    anatomy = who.anatomy
    rng = spec.generator("localizer", who.subject, who.space)
    maps: StatisticMaps = {}
    for category in LOCALIZER_CATEGORIES:
        domain = _SUBDOMAINS.get(category, category)
        strength = 8.0 if category in _DOMAINS else 5.0
        labels = anatomy.atlases.get(_DOMAINS[domain])
        inside = np.zeros(anatomy.x.size, bool) if labels is None else labels > 0
        t = rng.normal(0, 1, anatomy.x.size) + strength * inside
        maps[f"floc_{category}tval"] = _in_brain(who, t)
        maps[f"floc_{category}anglemetric"] = _in_brain(who, np.clip(6 * t, -180, 180))
    explained = _in_brain(who, rng.uniform(0, 60, anatomy.x.size))
    return {
        **maps,
        "floc_betas": _localizer_betas(maps, spec, who),
        "floc_R2": explained,
        "floc_R2xval": (0.8 * explained).astype(np.float32),
        "floc_meanvol": _in_brain(who, rng.uniform(200, 1000, anatomy.x.size)),
    }


def _localizer_betas(maps: StatisticMaps, spec: SyntheticSpec, who: Participant) -> npt.NDArray[np.float32]:
    """Betas of ten categories, six splits of each: the splits scatter about a share of the t-value."""
    rng = spec.generator("localizer betas", who.subject, who.space)
    means = np.stack([maps[f"floc_{category}tval"] / 4 for category in _SUBDOMAINS], axis=-1)
    splits = means[..., None] + rng.normal(0, 0.1, (*means.shape, _SPLITS))
    return splits.reshape(*means.shape[:-1], -1).astype(np.float32)


def _quality(spec: SyntheticSpec, who: Participant) -> StatisticMaps:
    """Signal drop-out, largest at the front below; and the response to any image."""
    position = who.anatomy.positions
    dropout = np.clip(1 + position[:, 1] - position[:, 2], 0, None)
    rng, count = spec.generator("onoff", who.subject, who.space), len(position)
    rough = np.zeros(count, bool)
    rough[spec.generator("surface imperfections", who.subject, who.space).integers(count, size=9)] = True
    return {
        "signaldropout": who.grid(dropout, np.float64),
        "signaldropout_masked": who.grid(np.where(who.anatomy.brain, dropout, 0), np.float64),
        "surfaceimperfections": who.grid(rough, np.int16),
        "onoffbeta": _in_brain(who, rng.normal(0, 0.5, count) + who.anatomy.visual),
        "b3R2": _in_brain(who, rng.uniform(0, 30, count)),
    }


def _in_brain(who: Participant, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Flat values as a volume (or vertices), NaN outside the brain."""
    return who.grid(np.where(who.anatomy.brain, values, np.nan), np.float32)
