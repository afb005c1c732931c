"""The photograph of COCO that each image of NSD shows, and the part of it."""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsdflow.errors import SourceError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CroppedImage", "cropped_images"]

#: Pixels by which the sides of a crop may differ: NSD rounded each margin.
ROUNDING_PX = 2


@dataclass(frozen=True)
class CroppedImage:
    """One image of NSD as a part of a photograph of COCO.

    Attributes
    ----------
    nsd_id, coco_id : int
        The image here and in COCO.
    split : str
        ``"train2017"`` or ``"val2017"``: the file in which its annotations are.
    crop : tuple of float
        Shares that are cut away at the top, bottom, left and right.
    """

    nsd_id: int
    coco_id: int
    split: str
    crop: tuple[float, float, float, float]

    def window(self, height: int, width: int) -> tuple[slice, slice]:
        """Rows and columns that are kept; margins are rounded half to even, as NSD's crop was made.

        Raises
        ------
        SourceError
            They are not square, so the photograph is another one.
        """
        top, bottom, left, right = self.crop
        rows = slice(round(height * top), height - round(height * bottom))
        columns = slice(round(width * left), width - round(width * right))
        high, wide = rows.stop - rows.start, columns.stop - columns.start
        if abs(high - wide) > ROUNDING_PX or min(high, wide) < 1:
            raise SourceError(
                f"photograph {self.coco_id} of {self.split} has {width} x {height} pixels, of which NSD's image "
                f"{self.nsd_id} would be {wide} x {high}, not a square; fetch the annotation files of {self.split}"
            )
        return rows, columns


def cropped_images(info: pd.DataFrame) -> list[CroppedImage]:
    """The images of NSD's table ``nsd_stim_info_merged``, whose crops are texts in the CSV file.

    Raises
    ------
    SourceError
        The table lacks a column, or a number or a crop cannot be read.
    """
    for column in ("nsdId", "cocoId", "cocoSplit", "cropBox"):
        if column not in info:
            raise SourceError(f"nsd_stim_info_merged: no column {column}; copy the published file")
    rows = info[["nsdId", "cocoId", "cocoSplit", "cropBox"]].itertuples(index=False, name=None)
    images = []
    for line, (nsd, coco, split, crop) in enumerate(rows, start=2):
        nsd_id, coco_id = _whole_number(nsd, "nsdId", line), _whole_number(coco, "cocoId", line)
        images.append(CroppedImage(nsd_id, coco_id, str(split), _crop(crop, nsd_id)))
    return images


def _whole_number(value: object, column: str, line: int) -> int:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        number = math.nan
    if not number.is_integer():
        raise SourceError(
            f"nsd_stim_info_merged: line {line}: {column} is {value!r}, not a whole number; copy the published file"
        )
    return int(number)


def _crop(text: object, nsd_id: int) -> tuple[float, float, float, float]:
    try:
        top, bottom, left, right = ast.literal_eval(text) if isinstance(text, str) else text  # type: ignore[misc]
        return float(top), float(bottom), float(left), float(right)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise SourceError(
            f"nsd_stim_info_merged: cropBox of image {nsd_id} is {text!r}, not (top, bottom, left, right); "
            "copy the published file"
        ) from None
