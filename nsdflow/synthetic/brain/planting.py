"""The truth: the tuning of each voxel of visual cortex, and its signal-to-noise ratio."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from nsdflow.synthetic.brain.anatomy import Anatomy, cortex_voxels, surface_anatomy, volume_anatomy
from nsdflow.synthetic.brain.cortex.surfaces import hemispheres
from nsdflow.synthetic.brain.network import CHANNELS, FREQUENCIES, LEVELS, MAP_SIZES_PX, ORIENTATIONS, level_of_feature
from nsdflow.synthetic.experiment.scenes import CATEGORIES
from nsdflow.synthetic.spec import HIERARCHIES, SyntheticSpec

__all__ = ["Planted", "calibrate", "gaussian_masses", "plant", "planted_responses", "subject_anatomy"]

Floats = npt.NDArray[np.floating]
Images = npt.NDArray[np.uint8]

#: Pooling field size = intercept + slope x eccentricity, in image widths, for V1, V2, V3, hV4 and what lies beyond.
_SIZES = np.array([(0.045, 0.12), (0.06, 0.16), (0.08, 0.20), (0.10, 0.25), (0.12, 0.30)])
_BROAD = 0.2  # one field size, in image widths, where areas differ only in the channels that they read
_BEYOND_EVC = 0.6  # ncsnr beyond early visual cortex, as a share of that in it
_TUNED_CHANNELS = 6  # channels of level 1 with non-zero weight in a voxel
_MIXED_CHANNELS = 4  # the same for level 2
#: Tuning of the localizer's areas: weights by position in `CATEGORIES`.
_PREFERENCES: Mapping[str, Mapping[int, float]] = {
    "floc-faces": {2: 1.0, 5: 0.5},  # bright leaves; bright bark less
    "floc-bodies": {0: 1.0, 3: 0.5},  # dark leaves, and dark bark
    "floc-places": {7: 1.0},  # soil
    "floc-words": {4: 1.0},  # grey bark
}
_CATEGORY_SHARE = 0.7  # share of the signal's variance in these areas


@dataclass(frozen=True)
class Planted:
    """The v visual voxels of one subject and space.

    The noiseless response of a voxel to an image is ``bias + sum_c weights[c] * pooled_c + sum_k categories[k] *
    area_k``, where ``pooled_c`` is the mass of a Gaussian (x, y, sigma) over the map of feature c, and ``area_k`` the
    share of the image that category k covers; over the subject's own images it has mean 0 and standard deviation 1.

    Attributes
    ----------
    flat_index : (v,) int64
        Place in the volume in C order, ascending; on a surface the vertex, the right hemisphere's after the left's.
    roi : (v,) int64
        prf-visualrois over Kastner2015.
    depth : (v,) float64
        How many levels of the planted network the voxel reads, the last one perhaps in part.
    x, y, sigma : (v,) float64
        Pooling field in image widths; the image's centre is the origin, y goes upward.
    ncsnr : (v,) float64
        Standard deviation of the signal over that of the noise.
    weights : (v, feature) float32
        See `nsdflow.synthetic.brain.network.level_of_feature`.
    bias : (v,) float32
        Centres the response.
    categories : (v, category) float32
        See `nsdflow.synthetic.experiment.scenes.CATEGORIES`; zero outside the areas of the localizer.
    """

    flat_index: npt.NDArray[np.int64]
    roi: npt.NDArray[np.int64]
    depth: Floats
    x: Floats
    y: Floats
    sigma: Floats
    ncsnr: Floats
    weights: Floats
    bias: Floats
    categories: Floats

    @property
    def levels(self) -> int:
        """Deepest level that any voxel reads."""
        return int(np.ceil(self.depth.max()))

    def pooling(self) -> dict[int, npt.NDArray[np.float32]]:
        """`pooling_weights` for each size of map that these voxels read."""
        sizes = set(MAP_SIZES_PX[: self.levels])
        return {size: gaussian_masses(self.x, self.y, self.sigma, size) for size in sizes}

    def standardised(self, mean: Floats, std: Floats) -> Planted:
        """The same voxels with responses (response - mean) / std, both (v,)."""
        return replace(
            self,
            weights=(self.weights / std[:, None]).astype(np.float32),
            bias=((self.bias - mean) / std).astype(np.float32),
            categories=(self.categories / std[:, None]).astype(np.float32),
        )


def subject_anatomy(spec: SyntheticSpec, subject: int, space: str) -> Anatomy:
    """The anatomy of a subject (1-based) in a space; fsaverage is the same brain for all."""
    rng = spec.generator("anatomy", "average" if space == "fsaverage" else subject)
    if space in ("fsaverage", "nativesurface"):
        halves = hemispheres(spec, None if space == "fsaverage" else subject)
        places = np.concatenate([half.positions(depth=0.5) for half in halves])
        shares = [spec.evc_voxels / cortex_voxels(shape) for shape in spec.shapes]
        share = float(np.mean(shares)) if space == "fsaverage" else shares[subject - 1]
        return surface_anatomy(places, share, rng)
    shape = spec.volume_shape(subject, space)
    grid_ratio = np.prod(shape) / np.prod(spec.volume_shape(subject, "func1pt8mm"))
    return volume_anatomy(shape, round(spec.evc_voxels * grid_ratio), rng)


def plant(spec: SyntheticSpec, subject: int, space: str, anatomy: Anatomy) -> Planted:
    """Draw pooling fields, feature weights and ncsnr of a subject (1-based); `calibrate` sets the scale."""
    rng = spec.generator("planting", subject, space)
    flat_index = np.flatnonzero(anatomy.visual)
    count = flat_index.size
    roi = anatomy.joined_roi[flat_index].astype(np.int64)
    area = np.select([np.isin(roi, (1, 2)), np.isin(roi, (3, 4)), np.isin(roi, (5, 6)), roi == 7], range(4), default=4)
    x, y = anatomy.x[flat_index], anatomy.y[flat_index]
    hierarchy, rank = HIERARCHIES[spec.hierarchy], np.minimum(area, 3)
    intercept, slope = _SIZES[area].T if hierarchy.channels is None else (_BROAD, 0.0)
    depth = np.asarray(hierarchy.depths)[rank]
    channels = None if hierarchy.channels is None else np.asarray(hierarchy.channels)[rank]
    return Planted(
        flat_index=flat_index,
        roi=roi,
        depth=depth,
        x=x,
        y=y,
        sigma=(intercept + slope * np.hypot(x, y)) * np.exp(rng.normal(0, 0.1, count)),
        ncsnr=rng.uniform(*spec.ncsnr, count) * np.where(area < 4, 1.0, _BEYOND_EVC),
        weights=_draw_weights(rng, _level_shares(depth), channels, spec.generator("channels")),
        bias=np.zeros(count, dtype=np.float32),
        categories=_preferred_categories(anatomy, flat_index) * np.float32(spec.annotations),
    )


def _preferred_categories(anatomy: Anatomy, flat_index: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Preferences (v, category) of the areas of the localizer; an area of two atlases has the sum."""
    weights = np.zeros((flat_index.size, len(CATEGORIES)), dtype=np.float32)
    for atlas, preferred in _PREFERENCES.items():
        inside = anatomy.atlases[atlas][flat_index] > 0
        for category, weight in preferred.items():
            weights[inside, category] += weight
    return weights


def _level_shares(depth: Floats) -> Floats:
    """Share of the variance that each level has in voxels of these depths, (v, level)."""
    return np.asarray(np.clip(depth[:, None] - np.arange(LEVELS), 0, 1) / depth[:, None])


def _draw_weights(
    rng: np.random.Generator, shares: Floats, channels: npt.NDArray[np.int64] | None, order: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Weights of each level that has a share in a voxel, (v, feature)."""
    count = len(shares)
    first = _tuned_weights(rng, count) if channels is None else _single_weights(rng, channels, order)
    weights = np.stack([first, _mixed_weights(rng, count)], axis=1) * (shares > 0)[..., None]
    return weights.reshape(count, -1).astype(np.float32)


def _tuned_weights(rng: np.random.Generator, count: int) -> Floats:
    """Smooth tuning to orientation and spatial frequency over the channels of level 1."""
    orientation = rng.uniform(0, np.pi, (count, 1, 1))
    octave = rng.uniform(np.log2(FREQUENCIES[0]), np.log2(FREQUENCIES[-1]), (count, 1, 1))
    angle, octaves = np.asarray(ORIENTATIONS), np.log2(FREQUENCIES)[:, None]
    tuning = np.exp(1.5 * (np.cos(2 * (angle - orientation)) - 1) - 0.5 * ((octaves - octave) / 0.6) ** 2)
    return _strongest(tuning.reshape(count, -1), _TUNED_CHANNELS)


def _single_weights(rng: np.random.Generator, channels: npt.NDArray[np.int64], order: np.random.Generator) -> Floats:
    """One channel of level 1 per voxel, of the first ``channels`` (v,) in an order that ``order`` draws.

    The mean of all channels is subtracted: contrast, which they have in common, is the same for all voxels, and would
    make the features of one area predict every other.
    """
    channel = order.permutation(CHANNELS)[rng.integers(channels)]
    return np.asarray(np.eye(CHANNELS)[channel] - 1 / CHANNELS)


def _mixed_weights(rng: np.random.Generator, count: int) -> Floats:
    """A few channels of level 2, without order."""
    return _strongest(rng.random((count, CHANNELS)), _MIXED_CHANNELS)


def _strongest(weights: Floats, keep: int) -> Floats:
    """All but the largest ``keep`` weights of each row set to zero."""
    threshold = np.partition(weights, -keep, axis=1)[:, -keep, None]
    return np.where(weights >= threshold, weights, 0)


def gaussian_masses(x: Floats, y: Floats, sigma: Floats, size: int) -> npt.NDArray[np.float32]:
    """Mass of each Gaussian in each pixel of a size x size map, (v, size * size), rows from the top down.

    The image is 1 wide, its centre the origin, y upward.
    """
    edges = np.linspace(-0.5, 0.5, size + 1)
    columns = np.diff(ndtr((edges - x[:, None]) / sigma[:, None]), axis=1)
    rows = np.diff(ndtr((edges - y[:, None]) / sigma[:, None]), axis=1)[:, ::-1]
    return (rows[:, :, None] * columns[:, None, :]).reshape(len(x), -1).astype(np.float32)


def planted_responses(
    planted: Planted, pooling: Mapping[int, Floats], maps: list[Floats], areas: Floats | None = None
) -> npt.NDArray[np.float32]:
    """Noiseless responses (n, v) to images whose feature maps these are.

    Parameters
    ----------
    pooling : mapping of map size to (v, size * size)
        `pooling_weights` of the voxels for every size that occurs.
    maps : list of (n, channel, size, size)
        The levels' maps, as `PlantedNetwork.maps` gives them.
    areas : (n, category), optional
        Share of each image that each category covers; by default the images show none of them.
    """
    responses = np.tile(planted.bias, (len(maps[0]), 1))
    if areas is not None:
        responses += (areas @ planted.categories.T).astype(np.float32)
    for level_responses in _by_level(planted, pooling, maps):
        responses += level_responses
    return responses


def _by_level(planted: Planted, pooling: Mapping[int, Floats], maps: list[Floats]) -> Iterator[npt.NDArray[np.float32]]:
    """Each level's part of the responses, (n, v)."""
    level_of = level_of_feature()
    for level, level_maps in enumerate(maps, start=1):
        fields, part = pooling[level_maps.shape[-1]], np.zeros((len(level_maps), len(planted.x)), dtype=np.float32)
        for channel, weights in enumerate(planted.weights[:, level_of == level].T):
            readers = np.flatnonzero(weights)  # weights are sparse: each voxel pools only what it reads
            pooled = level_maps[:, channel].reshape(len(level_maps), -1) @ fields[readers].T
            part[:, readers] += pooled * weights[readers]
        yield part


def calibrate(planted: Planted, maps: list[Floats], areas: Floats) -> Planted:
    """Scale the weights so that levels and categories have their shares of a unit variance over some images.

    Levels are correlated, so the variance of their sum is still to be set, by `Planted.standardised`, once the
    responses to all images are known.
    """
    level_of, shares = level_of_feature(), _level_shares(planted.depth)
    weights = planted.weights.copy()
    driven = planted.categories.any(axis=1)
    left = np.where(driven, 1 - _CATEGORY_SHARE, 1)
    for level, part in enumerate(_by_level(planted, planted.pooling(), maps[: planted.levels]), start=1):
        spread = np.maximum(part.std(axis=0), np.float32(1e-6))
        weights[:, level_of == level] *= (np.sqrt(left * shares[:, level - 1]) / spread)[:, None]
    # weights of categories are those of z-scored areas
    categories = planted.categories / np.maximum(areas.std(axis=0), np.float32(1e-3))
    spread = np.maximum((areas @ categories.T).std(axis=0), np.float32(1e-6))
    categories *= np.where(driven, np.sqrt(_CATEGORY_SHARE) / spread, 0)[:, None]
    return replace(planted, weights=weights, categories=categories.astype(np.float32))
