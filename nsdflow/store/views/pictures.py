"""Images of a store as one figure, with their annotations."""

from __future__ import annotations

import textwrap
from math import ceil
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from nsdflow.errors import MissingDataError

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["picture_grid"]

#: Inches of an image.
IMAGE_INCHES: Final = 2.4
#: Inches below an image for a caption.
CAPTION_INCHES: Final = 0.8
#: Characters of a line of a caption, and lines.
CAPTION_COLUMNS, CAPTION_LINES = 36, 4
#: First number after COCO's things: stuff, such as sky, and crowds have no useful box.
FIRST_STUFF: Final = 92
#: Height of a name as a share of the image; without room above a box, its name is inside.
LABEL_SHARE: Final = 0.06
#: Colours of boxes that can be told apart with colour blindness (Okabe and Ito), by category in turn.
BOX_COLOURS: Final = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")


def picture_grid(
    images: xr.DataArray, annotations: xr.Dataset | None, *, captions: bool, boxes: bool, columns: int
) -> Figure:
    """Draw images in rows; see :meth:`nsdflow.store.Store.plot_images`."""
    from matplotlib.figure import Figure

    count = images.sizes["image"]
    columns = max(1, min(columns, count))
    rows = ceil(count / columns) or 1
    height = IMAGE_INCHES + 0.25 + (CAPTION_INCHES if captions else 0)
    figure = Figure(figsize=(columns * IMAGE_INCHES, rows * height), layout="constrained")
    pixels = images.transpose("image", "y", "x", "channel").values
    for number, axes in enumerate(np.ravel(figure.subplots(rows, columns, squeeze=False))):
        axes.set_axis_off()
        if number >= count:
            continue
        nsd_id = int(images["nsd_id"].values[number])
        axes.imshow(pixels[number], origin="upper")
        axes.set_title(f"nsd_id {nsd_id}", fontsize=8)
        if annotations is not None and nsd_id in annotations.indexes["nsd_id"]:
            if boxes:
                _draw_boxes(axes, annotations, nsd_id, pixels.shape[1:3])
            if captions:
                _write_caption(axes, annotations, nsd_id)
    return figure


def _draw_boxes(axes: Axes, annotations: xr.Dataset, nsd_id: int, size: tuple[int, ...]) -> None:
    from matplotlib.patches import Rectangle

    if "box" not in annotations:
        raise MissingDataError("boxes=True: the annotations of this store have no boxes; leave boxes out")
    here = annotations["instance_nsd_id"].values == nsd_id
    if "crowd" in annotations:
        here &= ~annotations["crowd"].values
    if "category_id" in annotations.coords:
        stuff = annotations["category"].values[annotations["category_id"].values >= FIRST_STUFF]
        here &= ~np.isin(annotations["instance_category"].values, stuff)
    height, width = size
    names = annotations["category"].values.tolist()
    for row in np.flatnonzero(here).tolist():
        left, top, wide, high = annotations["box"].values[row].tolist()
        name = str(annotations["instance_category"].values[row])
        colour = BOX_COLOURS[names.index(name) % len(BOX_COLOURS)]
        corner = (left * width - 0.5, top * height - 0.5)
        axes.add_patch(Rectangle(corner, wide * width, high * height, fill=False, edgecolor=colour, linewidth=1.5))
        style: dict[str, Any] = {"facecolor": colour, "edgecolor": "none", "pad": 1}
        inside = top < LABEL_SHARE
        axes.text(*corner, name, fontsize=6, color="black", va="top" if inside else "bottom", bbox=style, clip_on=True)


def _write_caption(axes: Axes, annotations: xr.Dataset, nsd_id: int) -> None:
    if "captions" not in annotations:
        raise MissingDataError("captions=True: the annotations of this store have no captions; leave captions out")
    texts = [text for text in annotations["captions"].sel(nsd_id=nsd_id).values.tolist() if text]
    lines = textwrap.wrap(texts[0], CAPTION_COLUMNS, max_lines=CAPTION_LINES, placeholder=" ...") if texts else []
    # captions are shown as they are: a dollar sign must not begin a formula
    axes.text(
        0.5, -0.03, "\n".join(lines), fontsize=7, ha="center", va="top", transform=axes.transAxes, parse_math=False
    )
