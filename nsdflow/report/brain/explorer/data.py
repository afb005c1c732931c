"""Data of the explorer page: every voxel of one subject."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
import numpy as np

from nsdflow.analysis.fields.pooling import pooling_fields
from nsdflow.analysis.rois import roi_names
from nsdflow.errors import NsdflowError
from nsdflow.report.brain.explorer.packing import pack, pack_rows, thumbnail
from nsdflow.report.brain.maps import BrainMap, brain_maps, layer_shares
from nsdflow.report.brain.views import View, best_view
from nsdflow.report.style import IMAGE_DEGREES, PALETTE
from nsdflow.runs.folder import RunFolder
from nsdflow.runs.identity import open_recorded_store
from nsdflow.store.voxels import positions_of

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from nsdflow.runs.contents import Run

__all__ = ["explorer_data"]

#: Pooling fields are averaged to at most this many pixels per side.
FIELD_PX: Final = 12
#: Bars of a voxel's tuning at most, those of the largest magnitude.
MOST_TUNING_BARS: Final = 12


def explorer_data(run: Run, subject: str, data: xr.Dataset, images: int, source: str | None) -> dict[str, Any]:
    """All that the page shows, ready for JSON.

    Parameters
    ----------
    data : xr.Dataset
        Its results.
    images : int
        Largest number of validation images with responses and predictions.
    source : str or None
        NSD, for the flat map; None for the source of the store.
    """
    view = best_view(data, source)
    parts: dict[str, Any] = {
        "run": run.name,
        "subject": subject,
        "degrees": IMAGE_DEGREES,
        "view": _view(view),
        "maps": [_map(found) for found in brain_maps(data)],
        "facts": _facts(data),
        "field": _field(data),
        "tuning": _tuning(data),
        "notes": [view.note],
    }
    try:
        parts["responses"] = _responses(run, subject, data, images)
    except (NsdflowError, OSError) as error:
        parts["notes"].append(f"No responses and images: {' '.join(str(error).split())}")
    return parts


def _view(view: View) -> dict[str, Any]:
    rows, columns = view.voxel.shape
    light = np.where(np.isfinite(view.underlay), 60 + 175 * np.nan_to_num(view.underlay), 255).astype(np.uint8)
    edges = [[name, x, y] for name, x, y in view.labels]
    voxel = view.voxel.astype(np.int16) if view.voxel.max() < np.iinfo(np.int16).max else view.voxel
    return {"rows": rows, "columns": columns, "voxel": pack(voxel), "light": pack(light), "labels": edges}


def _map(found: BrainMap) -> dict[str, Any]:
    if found.categories:
        colours = [mpl.colors.to_rgb(colour) for colour in [*PALETTE, *PALETTE][: len(found.categories)]]
        limits = (0.0, float(len(found.categories)))
    else:
        colours = mpl.colormaps[found.cmap](np.arange(256))[:, :3].tolist()
        limits = found.colour_limits()
    return {
        "name": found.name, "label": found.label, "text": found.text, "limits": limits,
        "categories": list(found.categories), "values": pack(found.values.astype(np.float32)),
        "colours": pack((255 * np.asarray(colours)).round().astype(np.uint8)),
    }  # fmt: skip


def _facts(data: xr.Dataset) -> dict[str, Any]:
    """Names of regions, and positions in the volume or on the surface."""
    count = data.sizes["voxel"]
    names = roi_names(data["roi"]).values if "roi" in data.coords else np.full(count, "")
    unique, index = np.unique(names, return_inverse=True)
    facts: dict[str, Any] = {"roi_names": unique.tolist(), "roi": pack(index.astype(np.uint8))}
    facts["flat_index"] = pack(data["flat_index"].values.astype(np.int32))
    if "i" in data.coords:
        facts["ijk"] = pack(np.stack([data[axis].values for axis in "ijk"], axis=1).astype(np.uint16))
    return facts


def _field(data: xr.Dataset) -> dict[str, Any] | None:
    """Receptive fields as circles (degrees), or pooling fields as small images."""
    if "rf" in data:
        rf = np.asarray(data["rf"].sel(parameter=["x", "y", "sigma"]).transpose("voxel", "parameter"))
        return {"kind": "circle", "values": pack((rf * IMAGE_DEGREES).astype(np.float32))}
    for level in ("pooling_logits_0", "pooling_logits_1"):
        if level in data:
            fields = np.asarray(pooling_fields(data[level]), np.float32)
            step = -(-fields.shape[1] // FIELD_PX)
            side = fields.shape[1] // step
            small = fields[:, : side * step, : side * step].reshape(len(fields), side, step, side, step).mean((2, 4))
            top = small.max(axis=(1, 2), keepdims=True)
            return {"kind": "image", "side": side, "values": pack((255 * small / top).round().astype(np.uint8))}
    return None


def _tuning(data: xr.Dataset) -> dict[str, Any] | None:
    """What drives a voxel, as bars: layers, bands of features, or categories; None where the results say nothing."""
    shares = layer_shares(data)
    if shares is not None:
        return _bars("Share of squared weights by layer", shares[1], shares[0], "%")
    for name, title, unit in (
        ("unique_variance", "Variance that a band alone explains", "%"),
        ("category_weight", "Weights of categories", ""),
    ):
        if name in data:
            (dim,) = (str(dim) for dim in data[name].dims if dim != "voxel")
            values = np.asarray(data[name].transpose("voxel", dim), np.float64)
            return _bars(title, data[dim].values.astype(str).tolist(), values, unit)
    return None


def _bars(title: str, names: Sequence[str], values: NDArray[np.float64], unit: str) -> dict[str, Any]:
    return {"title": title, "names": list(names), "unit": unit, "most": MOST_TUNING_BARS, **pack_rows(values)}


def _responses(run: Run, subject: str, data: xr.Dataset, images: int) -> dict[str, Any]:
    """Mean response and prediction of every voxel for shared images, and the images."""
    store = open_recorded_store(run.record, run.folder)
    voxels = positions_of(data["flat_index"].values, store.voxels(subject)["flat_index"].values, subject)
    trials = store.trials(subject)
    shared = np.unique(trials["nsd_id"].values[trials["shared"].values])
    chosen = shared[np.unique(np.linspace(0, len(shared) - 1, min(images, len(shared))).round().astype(int))]
    order = np.argsort(np.argsort(voxels))  # the store returns voxels in its own order
    measured = store.responses(subject, voxels=np.sort(voxels), nsd_id=chosen).nsd.mean_over_repetitions().compute()
    pixels = store.images(measured["nsd_id"].values).compute().values
    result: dict[str, Any] = {
        "nsd_id": [int(image) for image in measured["nsd_id"].values],
        "thumbnails": [thumbnail(image) for image in pixels],
        "measured": pack_rows(measured.transpose("voxel", "image").values[order]),
    }
    try:
        result["predicted"] = pack_rows(_predicted(run, subject, pixels).T)
    except NsdflowError as error:
        result["note"] = f"No predictions: {' '.join(str(error).split())}"
    return result


def _predicted(run: Run, subject: str, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Predictions (image, voxel) in the order of the run's voxels."""
    import torch  # and what imports it: other pages do without

    from nsdflow.pipelines.common.networks import BATCH_IMAGES
    from nsdflow.pipelines.predict.predictors import load_predictor

    predictor = load_predictor(RunFolder(run.folder), subject)
    images = torch.from_numpy(pixels)
    predictor.check_size(images)
    return predictor.predict(images, batch_size=BATCH_IMAGES)
