"""Maps that NSD publishes: a statistic per voxel or vertex, one record for each.

A map becomes a coordinate of the voxels under its own name, with units and with NaN where it says nothing. On fsaverage
NSD has no maps of single subjects; there the probability maps of its areas, ``probmap_*``, are found by their names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from nsdflow.errors import SourceError
from nsdflow.names import BETAS_SCALE
from nsdflow.nsd import layout
from nsdflow.nsd.formats.frames import read_header
from nsdflow.nsd.source import Source
from nsdflow.nsd.voxels.volumes import read_means

__all__ = [
    "MAPS",
    "PublishedMap",
    "is_map_label",
    "list_maps",
    "map_paths",
    "map_problem",
    "map_record",
    "maps_by_file",
    "read_published_maps",
]

#: Values at which NSD cuts pRF parameters off; they mean "no fit".
_CAP: Final = 1000.0
#: Prefix of the files of fsaverage with the share of the subjects who have an area at a vertex.
_PROBABILITY: Final = "probmap_"
#: Splits of the localizer's runs, of which the file of its betas has one frame each, category after category.
_FLOC_SPLITS: Final = 6


@dataclass(frozen=True)
class PublishedMap:
    """One map.

    Attributes
    ----------
    long_name, units : str
        Attributes of the coordinate.
    volume : str or None
        Name of the file, in the folder of the other volumes of the subject, without ending.
    label : str or None
        Name of the two files among the labels of the subject's own surface, without hemisphere and ending.
    statistic : str or None
        Name of the file in the folder of the betas, without ending.
    scale : float
        Stored values times this are in ``units``.
    floor, cap : float
        Values from ``cap`` on, and up to ``floor``, are NaN.
    valid : str
        The NaN rule in words, for the attribute ``comment``.
    circular : float or None
        Period of an angle, which must be averaged on the circle.
    frames : tuple of int
        First and last frame of the file whose mean the map is, and how many frames the file has.
    """

    long_name: str
    units: str
    volume: str | None = None
    label: str | None = None
    statistic: str | None = None
    scale: float = 1.0
    floor: float = -np.inf
    cap: float = np.inf
    valid: str = "NaN where there are no data"
    circular: float | None = None
    frames: tuple[int, int, int] = (0, 0, 1)

    @property
    def attributes(self) -> dict[str, Any]:
        """Attributes of the coordinate."""
        circular = {} if self.circular is None else {"period": self.circular}
        return {"long_name": self.long_name, "units": self.units, "comment": self.valid, **circular}

    def clean(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        """Convert stored values to units, with NaN for missing values."""
        values = stored.astype(np.float32) * np.float32(self.scale)
        values[(stored >= self.cap) | (stored <= self.floor)] = np.nan
        return values


def _prf(name: str, long_name: str, units: str, **rules: Any) -> PublishedMap:
    limits: dict[str, Any] = {
        "cap": _CAP,
        "valid": "NaN outside the brain mask, without data, or at NSD's cap of 1000",
    } | rules
    return PublishedMap(long_name, units, volume=f"prf_{name}", label=f"prf{name}", **limits)


def _floc(stem: str, long_name: str, units: str, **rules: Any) -> PublishedMap:
    return PublishedMap(long_name, units, volume=f"floc_{stem}", label=f"floc{stem}", **rules)


def _floc_beta(category: str) -> PublishedMap:
    first = _FLOC_SPLITS * _SUBDOMAINS.index(category)
    frames = (first, first + _FLOC_SPLITS - 1, _FLOC_SPLITS * len(_SUBDOMAINS))
    text = f"fLoc beta of {category}, the mean of {_FLOC_SPLITS} splits"
    return _floc("betas", text, "percent signal change", frames=frames)


#: Categories of the localizer, in the order of its betas, and domains of two categories each.
_SUBDOMAINS: Final = (*("word", "number", "body", "limb", "adult", "child", "corridor", "house", "car", "instrument"),)
_CATEGORIES: Final = ("characters", "bodies", "faces", "places", "objects", *_SUBDOMAINS)

_NO_FLOOR: Final = "NaN outside the brain mask, without data, or at NSD's floor of -1000"

#: Every map by the name of its coordinate.
MAPS: Final[Mapping[str, PublishedMap]] = {
    "prf_angle": _prf(
        "angle", "pRF polar angle, 0 right horizontal meridian, 90 upper vertical", "degrees",
        circular=360.0, cap=np.inf, valid="NaN outside the brain mask, without data, or where eccentricity is 0",
    ),
    "prf_eccentricity": _prf("eccentricity", "pRF eccentricity", "degrees of visual angle"),
    "prf_size": _prf("size", "pRF size, sigma / sqrt(exponent)", "degrees of visual angle"),
    "prf_exponent": _prf("exponent", "pRF exponent of the compressive nonlinearity", "1"),
    "prf_gain": _prf("gain", "pRF gain", "percent signal change"),
    "prf_R2": _prf("R2", "variance explained by the pRF model", "percent", cap=np.inf, floor=-_CAP, valid=_NO_FLOOR),
    "prf_meanvol": _prf("meanvol", "mean signal of the pRF experiment", "scanner units", cap=np.inf),
    **{
        f"floc_{category}tval": _floc(f"{category}tval", f"fLoc t-value of {category} against the others", "1")
        for category in _CATEGORIES
    },
    **{
        f"floc_{category}anglemetric": _floc(
            f"{category}anglemetric", f"fLoc preference for {category}, above 0 prefers them", "degrees"
        )
        for category in _CATEGORIES
    },
    **{f"floc_{category}beta": _floc_beta(category) for category in _SUBDOMAINS},
    "floc_R2": _floc("R2", "variance explained by the fLoc model", "percent"),
    "floc_R2xval": PublishedMap(
        "cross-validated variance explained by the fLoc model", "percent", volume="floc_R2xval"
    ),
    "floc_meanvol": _floc("meanvol", "mean signal of the fLoc experiment", "scanner units"),
    "signaldropout": PublishedMap(
        "signal drop-out, T2 over mean EPI over threshold; above 1 is bad", "1", volume="signaldropout",
        label="signaldropout",
    ),
    "signaldropout_masked": PublishedMap(
        "signal drop-out within the brain mask; above 1 is bad", "1", volume="signaldropout_masked"
    ),
    "surfaceimperfections": PublishedMap(
        "imperfections of the reconstructed surface; above 0.01 is imperfect", "1", volume="surfaceimperfections",
        label="surfaceimperfections",
    ),
    "mean_epi": PublishedMap("mean EPI signal of the NSD sessions", "scanner units", volume="mean", label="mean"),
    "onoff_R2": PublishedMap(
        "variance explained by the ON-OFF model of the NSD sessions", "percent", volume="R2", label="R2"
    ),
    "onoff_beta": PublishedMap("beta of the ON-OFF model", "percent signal change", volume="onoffbeta"),
    "valid_share": PublishedMap("share of the sessions with data in every volume", "1", volume="valid", label="valid"),
    "valid_prffloc": PublishedMap("1 where all pRF and fLoc runs have data", "1", volume="valid_prffloc"),
    "mean_epi_prffloc": PublishedMap("mean EPI signal of pRF and fLoc runs", "scanner units", volume="mean_prffloc"),
    "mean_epi_first5": PublishedMap("mean EPI signal of the first five sessions", "scanner units", volume="meanFIRST5"),
    "b3R2": PublishedMap(
        "variance explained by the betas of betas_fithrf_GLMdenoise_RR", "percent", volume="b3R2", label="b3R2"
    ),
    "betas_R2": PublishedMap("variance explained by the single-trial betas", "percent", statistic="R2"),
    "betas_mean": PublishedMap(
        "mean single-trial beta", "percent signal change", statistic="meanbeta", scale=BETAS_SCALE
    ),
    "ncsnr_split1": PublishedMap("ncsnr from odd images", "1", statistic="ncsnr_split1"),
    "ncsnr_split2": PublishedMap("ncsnr from even images", "1", statistic="ncsnr_split2"),
}  # fmt: skip


def map_record(name: str) -> PublishedMap:
    """The record of a map: of :data:`MAPS`, or that of a probability map of fsaverage.

    >>> map_record("probmap_V1v").long_name
    'share of the subjects who have V1v here'
    """
    if name in MAPS or not name.startswith(_PROBABILITY):
        return MAPS[name]
    return PublishedMap(f"share of the subjects who have {name.removeprefix(_PROBABILITY)} here", "1", label=name)


def is_map_label(label: str) -> bool:
    """Whether the file ``lh.LABEL.mgz`` of a surface is a published map.

    >>> is_map_label("prfR2"), is_map_label("Kastner2015")
    (True, False)
    """
    return label.startswith(_PROBABILITY) or any(label == record.label for record in MAPS.values())


def map_paths(name: str, subject: str, space: str, betas: str) -> tuple[str, ...] | None:
    """Files of a map in a space: one volume, or the two hemispheres; None where NSD does not publish it."""
    record = map_record(name)
    if space == "MNI" or (name.startswith(_PROBABILITY) and space != "fsaverage"):
        return None
    if record.statistic is not None:
        if layout.is_surface(space) and not record.statistic.startswith("ncsnr"):
            return None
        return layout.statistic_paths(subject, space, betas, record.statistic)
    if not layout.is_surface(space):
        return None if record.volume is None else (layout.volume_path(subject, space, record.volume),)
    if record.label is None or (space == "fsaverage" and name in MAPS):
        return None
    folder = layout.atlas_folder(subject, space)
    return tuple(f"{folder}/{half}.{record.label}.mgz" for half in ("lh", "rh"))


def list_maps(source: Source, subject: str, space: str, betas: str) -> tuple[str, ...]:
    """Names of the maps whose files are listed, in the order of :data:`MAPS`."""
    listings: dict[str, tuple[str, ...]] = {}

    def listed(path: str) -> bool:
        folder, _, name = path.rpartition("/")
        names = listings.setdefault(folder, source.listdir(folder)) if folder not in listings else listings[folder]
        return name in names or name.removesuffix(".gz") in names

    found = ((name, map_paths(name, subject, space, betas)) for name in (*MAPS, *_probabilities(source, space)))
    return tuple(name for name, paths in found if paths is not None and all(map(listed, paths)))


def _probabilities(source: Source, space: str) -> tuple[str, ...]:
    """Names of the probability maps of fsaverage."""
    if space != "fsaverage":
        return ()
    start, end = f"lh.{_PROBABILITY}", ".mgz"
    names = source.listdir(str(layout.atlas_folder("", space)))
    return tuple(sorted(name[3 : -len(end)] for name in names if name.startswith(start) and name.endswith(end)))


def map_problem(source: Source, name: str, subject: str, space: str, betas: str, grids: Sequence[Any]) -> str | None:
    """Why the files of a map do not fit the ``grids`` of the betas, one per file; None if they do.

    Raises
    ------
    MissingDataError, SourceError
        A header cannot be read.
    """
    count = map_record(name).frames[2]
    for path, grid in zip(map_paths(name, subject, space, betas) or (), grids, strict=True):
        header = read_header(source, source.find(path) or path)
        if header.shape != grid:
            return f"{source.join(path)}: not on the grid of the betas"
        if header.count != count:
            return f"{source.join(path)}: {header.count} volumes where the map has {count}"
    return None


def maps_by_file(names: Iterable[str], subject: str, space: str, betas: str) -> tuple[tuple[str, ...], ...]:
    """Maps that come from the same files, together, so that each file is read once."""
    groups: dict[tuple[str, ...] | None, list[str]] = {}
    for name in names:
        groups.setdefault(map_paths(name, subject, space, betas), []).append(name)
    return tuple(map(tuple, groups.values()))


def read_published_maps(
    source: Source, names: Sequence[str], subject: str, space: str, betas: str, *, shape: Sequence[int] | None = None
) -> dict[str, NDArray[np.float32]]:
    """Maps of the same files on the whole grid, in their units: float32 (i, j, k) or (vertex,), by name.

    Parameters
    ----------
    names : sequence of str
        Keys of :data:`MAPS`, or probability maps of fsaverage; see :func:`maps_by_file`.
    shape : sequence of int, optional
        The grid that the files must have.

    Raises
    ------
    MissingDataError, SourceError
        NSD publishes no such map there, or a file cannot be read, is on another grid or has other frames.
    """
    paths = map_paths(names[0], subject, space, betas)
    if paths is None:
        raise SourceError(f"{names[0]}: NSD publishes no such map in {space}")
    records = [map_record(name) for name in names]
    spans = [record.frames[:2] for record in records]
    values = read_means(source, paths, space, spans, count=records[0].frames[2], shape=shape)
    return {name: record.clean(one) for name, record, one in zip(names, records, values, strict=True)}
