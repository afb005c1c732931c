"""Representational similarity: dissimilarities between images, of models against brains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nsdflow.analysis.alignment import as_labelled, ids_of
from nsdflow.errors import SelectionError, one_of
from nsdflow.labels import described

__all__ = ["dissimilarities", "rsa"]

Patterns = xr.DataArray | Mapping[str, xr.DataArray]


def dissimilarities(
    patterns: xr.DataArray, metric: Literal["correlation", "euclidean"] = "correlation"
) -> xr.DataArray:
    r"""Dissimilarity of every pair of images.

    ``"correlation"`` is :math:`1 - r` over the voxels (or features) of two patterns, ``"euclidean"`` the mean squared
    difference.

    Parameters
    ----------
    patterns : xr.DataArray, (image, ...)
        A pattern per image, along one further dimension such as ``voxel`` or ``feature``. Lazy arrays are multiplied in
        blocks and stay lazy. A pattern with a NaN, or a constant one, gives NaN.
    metric : {"correlation", "euclidean"}

    Returns
    -------
    xr.DataArray, (image, other)
        Symmetric, 0 on the diagonal; the coordinate ``nsd_id`` is kept on ``image``.

    Raises
    ------
    SelectionError
        Not one further dimension, or an unknown metric.
    """
    if metric not in ("correlation", "euclidean"):
        raise one_of("dissimilarity", metric, ("correlation", "euclidean"))
    patterns = as_labelled(patterns, ("image", "feature"))
    along = [dim for dim in patterns.dims if dim != "image"]
    if "image" not in patterns.dims or len(along) != 1:
        raise SelectionError(
            f"patterns have the dimensions {', '.join(map(str, patterns.dims))}; image and one other are needed"
        )
    values = patterns.transpose("image", ...).astype(np.float64)
    if metric == "correlation":
        values = values - values.mean(along, skipna=False)
        values = values / ((values**2).sum(along, skipna=False) ** 0.5)
    bare = values.drop_vars([name for name in values.coords if name != "nsd_id"])
    other = bare.drop_vars("nsd_id", errors="ignore").rename(image="other")
    product = xr.dot(bare, other, dim=along)
    distance: xr.DataArray
    if metric == "correlation":
        distance = 1 - product
    else:
        square = (bare**2).sum(along, skipna=False)
        squares = square + square.drop_vars("nsd_id", errors="ignore").rename(image="other")
        distance = (squares - 2 * product) / patterns.sizes[along[0]]
    return described(distance.rename("dissimilarity"))


def rsa(
    models: Patterns,
    brains: Patterns,
    *,
    metric: Literal["correlation", "euclidean"] = "correlation",
    similarity: Literal["spearman", "pearson"] = "spearman",
    resamples: int = 200,
    seed: int = 0,
) -> xr.Dataset:
    """Compare the dissimilarities between images of models with those of brains.

    Parameters
    ----------
    models, brains : xr.DataArray, (image, ...), or mapping of str to such
        Patterns of each model, and of each subject or region; with coordinate ``nsd_id`` (then only images that all
        have are compared, in one order), or of the same images in the same order.
    metric : {"correlation", "euclidean"}
        See :func:`dissimilarities`.
    similarity : {"spearman", "pearson"}
        Correlation of the dissimilarities over pairs of images.
    resamples, seed : int
        Bootstrap over images; pairs of an image with itself are left out.

    Returns
    -------
    xr.Dataset
        ``similarity``, and ``similarity_std``, ``low``, ``high`` (95 %) over the resamples, (model, brain);
        ``mean_similarity`` (model,) over the brains. With two brains or more, ``ceiling_upper`` (mean similarity of a
        brain with the average of all) and ``ceiling_lower`` (with the average of the others), as of Nili et al. (2014),
        PLoS Computational Biology 10, e1003553: the best that any model can reach lies between them.

    Raises
    ------
    SelectionError
        Fewer than four common images, images that cannot be matched, or patterns that hold NaN or are constant.
    """
    if similarity not in ("spearman", "pearson"):
        raise one_of("similarity", similarity, ("spearman", "pearson"))
    model_names, model_arrays = _named(models, "model")
    brain_names, brain_arrays = _named(brains, "brain")
    aligned = _common_images([*model_arrays, *brain_arrays])
    matrices = np.stack([dissimilarities(patterns, metric).values for patterns in aligned])
    for name, matrix in zip([*model_names, *brain_names], matrices, strict=True):
        if broken := int(np.isnan(np.diagonal(matrix)).sum()):
            raise SelectionError(
                f"{name}: {broken} of {len(matrix)} patterns are constant or hold NaN; leave out their images, or "
                "voxels with NaN"
            )
    of_models, of_brains = matrices[: len(model_names)], matrices[len(model_names) :]
    images = matrices.shape[1]
    whole = _similarity(of_models, of_brains, np.arange(images), similarity)
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, images, (resamples, images))
    sampled = [_similarity(of_models, of_brains, np.asarray(rows), similarity) for rows in draws]
    drawn = np.stack(sampled or [np.full_like(whole, np.nan)])
    dims = ("model", "brain")
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    result = xr.Dataset(
        {
            "similarity": (dims, whole),
            "similarity_std": (dims, drawn.std(0)),
            "low": (dims, low),
            "high": (dims, high),
            "mean_similarity": ("model", whole.mean(1)),
        },
        {"model": model_names, "brain": brain_names},
        attrs={"images": images, "metric": metric, "similarity": similarity, "bootstrap_resamples": resamples},
    )
    if len(brain_names) > 1:
        lower, upper = _ceiling(of_brains, similarity)
        result = result.assign(ceiling_lower=lower, ceiling_upper=upper)
    return described(result)


def _named(patterns: Patterns, default: str) -> tuple[list[str], list[xr.DataArray]]:
    named = patterns if isinstance(patterns, Mapping) else {str(getattr(patterns, "name", None) or default): patterns}
    return list(named), [as_labelled(one, ("image", "feature")) for one in named.values()]


def _common_images(arrays: list[xr.DataArray]) -> list[xr.DataArray]:
    """The images that all arrays have, in the order of the first."""
    if all("nsd_id" in array.coords for array in arrays):
        rows = [{number: row for row, number in enumerate(ids_of(one, "patterns").tolist())} for one in arrays]
        shared = [number for number in rows[0] if all(number in own for own in rows[1:])]
        chosen = [[own[number] for number in shared] for own in rows]
        arrays = [array.isel(image=places) for array, places in zip(arrays, chosen, strict=True)]
    sizes = {array.sizes["image"] for array in arrays}
    if len(sizes) > 1:
        raise SelectionError("patterns have different numbers of images and no nsd_id to match them by; assign nsd_id")
    if min(sizes) < 4:
        raise SelectionError(f"{min(sizes)} images in common; four or more are needed to compare dissimilarities")
    return arrays


def _pairs(matrices: NDArray[np.float64], rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Dissimilarities (matrix, pair) of the chosen images, without pairs of an image with itself."""
    one, two = np.triu_indices(rows.size, 1)
    differ = rows[one] != rows[two]
    return matrices[:, rows[one[differ]], rows[two[differ]]]


def _similarity(
    models: NDArray[np.float64], brains: NDArray[np.float64], rows: NDArray[np.intp], similarity: str
) -> NDArray[np.float64]:
    """Correlation over pairs (model, brain)."""
    x, y = (_scaled(_pairs(matrices, rows), similarity) for matrices in (models, brains))
    return x @ y.T


def _scaled(pairs: NDArray[np.float64], similarity: str) -> NDArray[np.float64]:
    """Rows centred and of length one, of ranks for Spearman: products are correlations."""
    values = pairs
    if similarity == "spearman":
        from scipy.stats import rankdata  # takes half a second to import

        values = rankdata(pairs, axis=-1)
    values = values - values.mean(-1, keepdims=True)
    length = np.linalg.norm(values, axis=-1, keepdims=True)
    scaled: NDArray[np.float64] = np.divide(values, length, out=np.zeros_like(values), where=length > 0)
    return scaled


def _ceiling(brains: NDArray[np.float64], similarity: str) -> tuple[float, float]:
    """Lower and upper bound of the best mean similarity with all brains."""
    scaled = _scaled(_pairs(brains, np.arange(brains.shape[1])), similarity)
    total = scaled.sum(0)
    lower = [float(_scaled((total - one)[None], "pearson")[0] @ one) for one in scaled]
    upper = [float(_scaled(total[None], "pearson")[0] @ one) for one in scaled]
    return float(np.mean(lower)), float(np.mean(upper))
