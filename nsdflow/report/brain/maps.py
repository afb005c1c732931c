"""The maps of a run that pictures of the brain show: one table for the report and the explorer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from nsdflow.analysis.fields.pooling import pooling_fields
from nsdflow.report.style import IMAGE_DEGREES, percentile_limits

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

__all__ = ["BRAIN_MAPS", "LEAST_CEILING", "BrainMap", "brain_maps", "centres_in_degrees", "layer_shares"]

#: Lowest noise ceiling at which a share of it is meaningful; medians leave out voxels below it.
LEAST_CEILING: Final = 0.1
#: Least accuracy at which a preference is drawn, and number of categories drawn.
LEAST_ACCURACY: Final = 0.055
MOST_CATEGORIES: Final = 8
#: Eccentricities are drawn up to the border of NSD's images.
MOST_DEGREES: Final = IMAGE_DEGREES / 2


@dataclass(frozen=True)
class BrainMap:
    """One value per voxel, and its style.

    Attributes
    ----------
    name : str
        Name in a table of contents.
    values : numpy.ndarray
        (voxel,) float64; NaN is not drawn.
    label : str
        Of the colour bar, with the unit.
    text : str
        Description of its computation.
    cmap : str
        Name of a matplotlib colour map.
    limits : (float, float) or None
        Of the colours.
    categories : tuple of str
        Names of the values 0, 1, 2, ...; empty for a continuous map.
    """

    name: str
    values: NDArray[np.float64]
    label: str
    text: str
    cmap: str = "viridis"
    limits: tuple[float, float] | None = None
    categories: tuple[str, ...] = field(default=())

    def colour_limits(self) -> tuple[float, float]:
        """Ends of the colours: ``limits``, or those of :func:`~nsdflow.report.style.percentile_limits`."""
        if self.limits is not None:
            return self.limits
        return percentile_limits(self.values[np.isfinite(self.values)])


def brain_maps(subject: xr.Dataset) -> list[BrainMap]:
    """All maps that the results of a subject hold."""
    return [found for make in BRAIN_MAPS for found in make(subject)]


def centres_in_degrees(subject: xr.Dataset) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Centres of the fields of a model, x and y (voxel,) in degrees, y upwards; None for models without fields.

    Receptive fields of fwRF have a centre. The centre of a pooling field is the mean position of its weights above
    those of an even field.
    """
    if "rf" in subject:
        x, y = (np.asarray(subject["rf"].sel(parameter=axis), np.float64) * IMAGE_DEGREES for axis in ("x", "y"))
        return x, y
    for level in ("pooling_logits_0", "pooling_logits_1"):
        if level in subject:
            fields = np.asarray(pooling_fields(subject[level]), np.float64)
            return _centroids(fields)
    return None


def layer_shares(subject: xr.Dataset) -> tuple[NDArray[np.float64], tuple[str, ...]] | None:
    """Share of the squared weights that each layer has, (voxel, layer), and the layers in the order of features."""
    if "weights" not in subject or "layer" not in subject["weights"].coords:
        return None
    layer = np.asarray(subject["layer"]).astype(str)
    names = tuple(dict.fromkeys(layer.tolist()))
    squares = np.asarray(subject["weights"].transpose("voxel", "feature"), np.float64) ** 2
    sums = np.stack([squares[:, layer == name].sum(axis=1) for name in names], axis=1)
    with np.errstate(invalid="ignore"):
        return sums / sums.sum(axis=1, keepdims=True), names


def _accuracy(subject: xr.Dataset) -> Iterator[BrainMap]:
    if "accuracy" in subject:
        yield BrainMap(
            "accuracy", _values(subject["accuracy"]), "accuracy (correlation r)",
            "Correlation of prediction and response over the validation trials or images.",
        )  # fmt: skip


def _over_ceiling(subject: xr.Dataset) -> Iterator[BrainMap]:
    if "accuracy" in subject and "noise_ceiling" in subject:
        ceiling = _values(subject["noise_ceiling"])
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.where(ceiling > LEAST_CEILING, _values(subject["accuracy"]) / ceiling, np.nan)
        yield BrainMap(
            "accuracy over ceiling", share, "accuracy / noise ceiling",
            f"Accuracy divided by the noise ceiling, both correlations, where the ceiling is above {LEAST_CEILING}.",
            limits=(0.0, 1.0),
        )  # fmt: skip


def _ceiling(subject: xr.Dataset) -> Iterator[BrainMap]:
    for name in ("noise_ceiling", "ncsnr"):
        if name in subject or name in subject.coords:
            unit = "correlation" if name == "noise_ceiling" else "ratio"
            yield BrainMap(name.replace("_", " "), _values(subject[name]), f"{name.replace('_', ' ')} ({unit})",
                           "How well a perfect model could do.", cmap="magma")  # fmt: skip


def _preferred_layer(subject: xr.Dataset) -> Iterator[BrainMap]:
    shares = layer_shares(subject)
    if shares is not None and len(shares[1]) > 1:
        weights, names = shares
        best = np.where(np.isfinite(weights).all(axis=1), np.nan_to_num(weights).argmax(axis=1), np.nan)
        yield BrainMap(
            "preferred layer", best.astype(np.float64), "layer",
            "The layer with the largest share of the squared readout weights.", categories=names,
        )  # fmt: skip


def _preferred_category(subject: xr.Dataset) -> Iterator[BrainMap]:
    """The categories that most voxels prefer, by name; all others together."""
    if "preferred_category" in subject and "accuracy" in subject:
        preferred = np.asarray(subject["preferred_category"])
        sure = (np.nan_to_num(_values(subject["accuracy"])) > LEAST_ACCURACY) & (preferred >= 0)
        numbers, counts = np.unique(preferred[sure], return_counts=True)
        common = np.sort(numbers[np.argsort(-counts, kind="stable")[:MOST_CATEGORIES]])
        names = [str(name) for name in subject["preferred_category"].attrs["flag_meanings"]]
        place = np.searchsorted(common, preferred).astype(np.float64)
        place[~np.isin(preferred, common)] = len(common)
        others = ("others",) if len(numbers) > len(common) else ()
        yield BrainMap(
            "preferred category", np.where(sure, place, np.nan), "category",
            f"The category with the largest weight, of voxels with an accuracy above {LEAST_ACCURACY}.",
            categories=(*(names[number] for number in common), *others),
        )  # fmt: skip


def _eccentricity(subject: xr.Dataset) -> Iterator[BrainMap]:
    centres = centres_in_degrees(subject)
    if centres is not None:
        yield BrainMap(
            "eccentricity, model", np.hypot(*centres), "eccentricity (degrees)",
            "Distance of the receptive or pooling field from the centre of the image, as the model found it.",
            cmap="turbo", limits=(0.0, MOST_DEGREES),
        )  # fmt: skip
    if "prf_eccentricity" in subject.coords:
        measured = _values(subject["prf_eccentricity"])
        yield BrainMap(
            "eccentricity, NSD", np.where(measured < 1000, measured, np.nan), "eccentricity (degrees)",
            "NSD's own pRF experiment, for comparison with the model.", cmap="turbo", limits=(0.0, MOST_DEGREES),
        )  # fmt: skip


#: Functions from the results of a subject to a map; a new map is one function here.
BRAIN_MAPS: Final[tuple[Callable[[Any], Iterator[BrainMap]], ...]] = (
    _accuracy, _over_ceiling, _ceiling, _preferred_layer, _preferred_category, _eccentricity,
)  # fmt: skip


def _values(array: xr.DataArray) -> NDArray[np.float64]:
    return np.asarray(array, np.float64)


def _centroids(fields: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean position (degrees, y upwards) of the part of each field (voxel, y, x) above its mean."""
    above = np.clip(fields - fields.mean(axis=(1, 2), keepdims=True), 0, None)
    mass = above.sum(axis=(1, 2))
    rows, columns = fields.shape[1:]
    y = (0.5 - (np.arange(rows) + 0.5) / rows) * IMAGE_DEGREES
    x = ((np.arange(columns) + 0.5) / columns - 0.5) * IMAGE_DEGREES
    with np.errstate(invalid="ignore", divide="ignore"):
        return (above.sum(axis=1) @ x) / mass, (above.sum(axis=2) @ y) / mass
