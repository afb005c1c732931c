"""Images with their predictions, and accuracy by class of image."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from nsdflow.analysis.summary import subject_results
from nsdflow.report.style import CEILING, INK, PALETTE, empty_figure, styled

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

__all__ = ["accuracy_of_classes", "image_mosaic"]


@styled
def image_mosaic(images: xr.DataArray, values: xr.DataArray, *, columns: int = 6, label: str = "") -> Figure:
    """The images with the highest and the lowest values, each with its value.

    Parameters
    ----------
    images : xr.DataArray, (image, channel, y, x)
        RGB, uint8, with coordinate ``nsd_id``. Only the images shown are read.
    values : xr.DataArray, (image,)
        A number per image with coordinate ``nsd_id``, such as predictions averaged over an ROI.
    columns : int
        Images per row.
    label : str
        Description of the values.
    """
    available = {int(number): row for row, number in enumerate(np.asarray(images["nsd_id"]))}
    known = [row for row, number in enumerate(np.asarray(values["nsd_id"])) if int(number) in available]
    numbers = np.asarray(values, dtype=np.float64)[known]
    ids = np.asarray(values["nsd_id"])[known]
    order = np.argsort(-numbers)
    count = min(columns, order.size // 2) or order.size
    figure = empty_figure(1.35 * count + 0.3, 3.3)
    panels = figure.subplots(2, count, squeeze=False)
    chosen = (("highest", order[:count], PALETTE[5]), ("lowest", order[::-1][:count], PALETTE[0]))
    for row, (name, places, colour) in zip(panels, chosen, strict=True):
        for axes, place in zip(row, places, strict=True):
            axes.imshow(_picture(images, available[int(ids[place])]))
            axes.set(xticks=[], yticks=[])
            axes.set_title(f"{numbers[place]:.2f}", fontweight="normal", loc="center", fontsize=8.5)
            axes.set_xlabel(f"nsd_id {ids[place]}", fontsize=7.5)
            for spine in axes.spines.values():
                spine.set(visible=True, color=colour, linewidth=1.5)
        row[0].set_ylabel(name, fontweight="bold")
    figure.supxlabel(label or str(values.name or ""), fontsize=9)
    return figure


@styled
def accuracy_of_classes(results: xr.DataTree, *, minimum: float = 0.1) -> Figure:
    """Median accuracy of every class of images by subject, under the median ceiling of the class.

    Parameters
    ----------
    results : xr.DataTree
        Of every subject ``class_accuracy`` and ``class_ceiling`` (image_class, voxel), with the coordinates
        ``experiment`` and ``distribution`` (image_class,) and the numbers ``conditions`` (image_class,).
    minimum : float
        Voxels whose ceiling in the first class, the shared images, is lower are left out.
    """
    subjects = {name: data for name, data in subject_results(results) if "class_accuracy" in data}
    rows: dict[tuple[str, str], list[Any]] = {}
    for data in subjects.values():
        for key, within, count in zip(
            zip(data["experiment"].values.tolist(), data["image_class"].values.tolist(), strict=True),
            data["distribution"].values.tolist(), data["conditions"].values.tolist(), strict=True,
        ):  # fmt: skip
            rows.setdefault(key, [within, count])
    place = _places([experiment for experiment, _ in rows])
    figure = empty_figure(6.6, 0.6 + 0.23 * (max(place) + 1))
    axes = figure.subplots()
    step = 0.7 / len(subjects)
    for number, (colour, (name, data)) in enumerate(zip(PALETTE * 2, subjects.items(), strict=False)):
        used = np.asarray(data["class_ceiling"].isel(image_class=0)) >= minimum
        keys = list(zip(data["experiment"].values.tolist(), data["image_class"].values.tolist(), strict=True))
        height = np.array([place[list(rows).index(key)] for key in keys]) + step * (number - (len(subjects) - 1) / 2)
        accuracy, ceiling = (_medians(np.asarray(data[f"class_{what}"])[:, used]) for what in ("accuracy", "ceiling"))
        axes.barh(height, ceiling, 0.8 * step, color=CEILING, alpha=0.35)
        axes.plot(accuracy, height, "o", color=colour, markersize=4.5, label=name)
    axes.axvline(0, color=INK, linewidth=0.7, zorder=0)
    axes.set_yticks(place, [f"{name}  (n={count})" for (_, name), (_, count) in rows.items()])
    for text, (within, _) in zip(axes.get_yticklabels(), rows.values(), strict=True):
        text.set_fontweight("bold" if within == "within" else "normal")
    for experiment in dict.fromkeys(experiment for experiment, _ in rows):
        first = min(p for p, (name, _) in zip(place, rows, strict=True) if name == experiment)
        axes.text(1.01, first, f"NSD-{experiment}" if experiment != "main" else "NSD", fontsize=8.5, va="center",
                  transform=axes.get_yaxis_transform())  # fmt: skip
    axes.set(ylim=(max(place) + 0.7, -0.7), xlabel="correlation r, averages over repetitions (bars: ceiling)")
    axes.tick_params(axis="y", length=0)
    axes.legend(loc="lower left", bbox_to_anchor=(1.01, 0))
    return figure


def _medians(rows: NDArray[Any]) -> list[float]:
    """Median of the finite values of each row; NaN where there are none."""
    finite = (row[np.isfinite(row)] for row in rows)
    return [float(np.median(row)) if row.size else float("nan") for row in finite]


def _places(experiments: list[str]) -> list[float]:
    """Heights of the rows, from 0 downward, with a gap where another experiment begins."""
    gaps = np.cumsum([0, *(0.6 * (a != b) for a, b in pairwise(experiments))])
    return [float(place) for place in np.arange(len(experiments)) + gaps]


def _picture(images: xr.DataArray, row: int) -> NDArray[Any]:
    one = images.isel(image=row).transpose("y", "x", "channel")
    return np.asarray(one).astype(np.uint8)
