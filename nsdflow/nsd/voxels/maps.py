"""Maps that NSD publishes: a statistic per voxel or vertex, one record for each.

A map becomes a coordinate of the voxels under its own name, with units and with NaN where it says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from nsdflow.errors import SourceError
from nsdflow.names import BETAS_SCALE
from nsdflow.nsd import layout
from nsdflow.nsd.voxels.volumes import read_map

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nsdflow.nsd.source import Source

__all__ = ["MAPS", "PublishedMap", "list_maps", "map_paths", "read_published_map"]

#: Values at which NSD cuts pRF parameters off; they stand for "no fit".
_CAP: Final = 1000.0


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


def _floc(stem: str, long_name: str, units: str) -> PublishedMap:
    return PublishedMap(long_name, units, volume=f"floc_{stem}", label=f"floc{stem}")


_CATEGORIES: Final = (
    *("characters", "bodies", "faces", "places", "objects"),
    *("word", "number", "body", "limb", "adult", "child", "corridor", "house", "car", "instrument"),
)

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
    "floc_R2": _floc("R2", "variance explained by the fLoc model", "percent"),
    "floc_R2xval": PublishedMap(
        "cross-validated variance explained by the fLoc model", "percent", volume="floc_R2xval"
    ),
    "floc_meanvol": _floc("meanvol", "mean signal of the fLoc experiment", "scanner units"),
    "signaldropout": PublishedMap(
        "signal drop-out, T2 over mean EPI over threshold; above 1 is bad", "1", volume="signaldropout",
        label="signaldropout",
    ),
    "mean_epi": PublishedMap("mean EPI signal of the NSD sessions", "scanner units", volume="mean", label="mean"),
    "onoff_R2": PublishedMap(
        "variance explained by the ON-OFF model of the NSD sessions", "percent", volume="R2", label="R2"
    ),
    "onoff_beta": PublishedMap("beta of the ON-OFF model", "percent signal change", volume="onoffbeta"),
    "valid_share": PublishedMap("share of the sessions with data in every volume", "1", volume="valid", label="valid"),
    "betas_R2": PublishedMap("variance explained by the single-trial betas", "percent", statistic="R2"),
    "betas_mean": PublishedMap(
        "mean single-trial beta", "percent signal change", statistic="meanbeta", scale=BETAS_SCALE
    ),
    "ncsnr_split1": PublishedMap("ncsnr from odd images", "1", statistic="ncsnr_split1"),
    "ncsnr_split2": PublishedMap("ncsnr from even images", "1", statistic="ncsnr_split2"),
}  # fmt: skip


def map_paths(name: str, subject: str, space: str, betas: str) -> tuple[str, ...] | None:
    """Files of a map in a space: one volume, or the two hemispheres; None where NSD does not publish it."""
    record = MAPS[name]
    if space == "MNI":
        return None
    if record.statistic is not None:
        if layout.is_surface(space) and not record.statistic.startswith("ncsnr"):
            return None
        return layout.statistic_paths(subject, space, betas, record.statistic)
    if not layout.is_surface(space):
        return None if record.volume is None else (layout.volume_path(subject, space, record.volume),)
    if record.label is None or space == "fsaverage":  # fsaverage has atlases, and no maps of single subjects
        return None
    return tuple(f"nsddata/freesurfer/{subject}/label/{half}.{record.label}.mgz" for half in ("lh", "rh"))


def list_maps(source: Source, subject: str, space: str, betas: str) -> tuple[str, ...]:
    """Names of the maps whose files are listed, in the order of :data:`MAPS`."""
    listings: dict[str, tuple[str, ...]] = {}

    def listed(path: str) -> bool:
        folder, _, name = path.rpartition("/")
        names = listings.setdefault(folder, source.listdir(folder)) if folder not in listings else listings[folder]
        return name in names or name.removesuffix(".gz") in names

    found = ((name, map_paths(name, subject, space, betas)) for name in MAPS)
    return tuple(name for name, paths in found if paths is not None and all(map(listed, paths)))


def read_published_map(
    source: Source, name: str, subject: str, space: str, betas: str, *, shape: Sequence[int] | None = None
) -> NDArray[np.float32]:
    """Values of a map on the whole grid, in its units.

    Parameters
    ----------
    source : Source
        Where NSD is.
    name : str
        A key of :data:`MAPS`.
    subject, space, betas : str
        For example ``"subj01"``, ``"func1pt8mm"``, ``"betas_fithrf"``.
    shape : sequence of int, optional
        The grid that the files must have.

    Returns
    -------
    numpy.ndarray
        Float32, (i, j, k) or (vertex,).

    Raises
    ------
    SelectionError, MissingDataError, SourceError
        The map is not published there, cannot be read, or is on another grid.
    """
    paths = map_paths(name, subject, space, betas)
    if paths is None:
        raise SourceError(f"{name}: NSD publishes no such map in {space}")
    values = read_map(source, paths, space, shape=shape).values
    if values.ndim not in (1, 3):
        raise SourceError(f"{source.join(paths[0])}: several volumes where a map has one; copy the published file")
    return MAPS[name].clean(values)
