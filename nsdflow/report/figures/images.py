"""Images beside what was predicted for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nsdflow.report.style import PALETTE, empty_figure, styled

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

__all__ = ["image_mosaic"]


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
        What the values are.
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


def _picture(images: xr.DataArray, row: int) -> NDArray[Any]:
    one = images.isel(image=row).transpose("y", "x", "channel")
    return np.asarray(one).astype(np.uint8)
