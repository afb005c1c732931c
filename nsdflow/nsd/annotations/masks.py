"""COCO's segmentations as masks: polygons and run-length codes, by the rules of COCO's own tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from nsdflow.errors import SourceError

__all__ = ["annotation_mask", "decode_rle", "encode_rle", "resize_mask"]

#: COCO's tools draw the outline of a polygon on a grid that is finer by this factor.
FINER: Final = 5
#: Characters of a run-length code begin here, and carry 5 bits each.
FIRST, BITS = 48, 5
MORE, SIGN, VALUE = 0x20, 0x10, 0x1F
#: Characters of the longest run: an image of 2^24 pixels.
RUN_CHARACTERS: Final = 6


def annotation_mask(segmentation: Any, height: int, width: int) -> NDArray[np.bool_]:
    """The pixels (height, width) of polygons, or of a run-length code, as COCO's tools draw them.

    Parameters
    ----------
    segmentation : list or dict
        Polygons ``[[x0, y0, x1, y1, ...], ...]`` in pixels, or ``{"counts": ..., "size": [height, width]}``.
    height, width : int
        Of the photograph.

    Raises
    ------
    SourceError
        The run-length code belongs to an image of another size.

    Examples
    --------
    >>> annotation_mask([[1, 0, 3, 0, 3, 1, 1, 1]], 2, 4).astype(int).tolist()
    [[0, 1, 1, 0], [0, 0, 0, 0]]
    """
    if isinstance(segmentation, Mapping):
        return decode_rle(segmentation["counts"], height, width)
    mask = np.zeros((width, height), bool)
    for polygon in segmentation:
        borders = _crossings(np.asarray(polygon, np.float64).reshape(-1, 2), height, width)
        if len(borders) > 1:
            first, last = int(borders[0]) // height, int(borders[-1] - 1) // height + 1
            changes = np.bincount(borders - first * height, minlength=(last - first) * height)
            inside = np.cumsum(changes[: (last - first) * height]) % 2 == 1
            mask[first:last] |= inside.reshape(-1, height)
    return mask.T


def _crossings(corners: NDArray[np.float64], height: int, width: int) -> NDArray[np.int64]:
    """Boundaries of a polygon along the columns of an image: flat positions down the columns, ascending.

    The outline is followed on a grid five times as fine. It is crossed where it steps from one column of that grid to
    the next, at the middle of a pixel.
    """
    fine = (FINER * corners + 0.5).astype(np.int64)
    start, end = fine, np.roll(fine, -1, axis=0)
    change = np.abs(end - start)
    flat = change[:, 0] >= change[:, 1]
    flip = np.where(flat, start[:, 0] > end[:, 0], start[:, 1] > end[:, 1])
    low, high = np.where(flip[:, None], end, start), np.where(flip[:, None], start, end)
    length = change.max(axis=1)
    along = np.where(flat, high[:, 1] - low[:, 1], high[:, 0] - low[:, 0]) / np.maximum(length, 1)
    edge = np.repeat(np.arange(len(fine)), length + 1)
    step = np.arange(len(edge)) - np.repeat(np.cumsum(length + 1) - length - 1, length + 1)
    step = np.where(flip[edge], length[edge] - step, step)
    straight, slant = step, (along[edge] * step)
    x = np.where(flat[edge], straight + low[edge, 0], np.trunc(low[edge, 0] + slant + 0.5)).astype(np.int64)
    y = np.where(flat[edge], np.trunc(low[edge, 1] + slant + 0.5), straight + low[edge, 1]).astype(np.int64)
    crossed = np.flatnonzero(np.diff(x)) + 1
    column = np.where(x[crossed] < x[crossed - 1], x[crossed], x[crossed] - 1)
    column, left_over = np.divmod(column - FINER // 2, FINER)
    row = (np.minimum(y[crossed], y[crossed - 1]) + 0.5) / FINER - 0.5
    row = np.ceil(np.clip(row, 0, height)).astype(np.int64)
    inside = (left_over == 0) & (column >= 0) & (column < width)
    return np.sort(column[inside] * height + row[inside])


def decode_rle(counts: str | bytes | Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    """Decode COCO's run-length code: runs of 0 and 1 in turn, down the columns.

    Raises
    ------
    SourceError
        The runs do not add up to the image.

    Examples
    --------
    >>> decode_rle([2, 3, 1], height=2, width=3).astype(int).tolist()
    [[0, 1, 1], [0, 1, 0]]
    """
    compressed = isinstance(counts, str | bytes)
    runs = _decode_text(counts) if compressed else np.asarray(counts, np.int64)  # type: ignore[arg-type]
    if runs.sum() != height * width or (runs < 0).any():
        raise SourceError(
            f"run-length code of {runs.sum()} pixels for an image of {width} x {height}; fetch the file again"
        )
    values = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return values.reshape(width, height).T


def encode_rle(mask: NDArray[np.bool_]) -> bytes:
    """Encode a mask (height, width) as COCO's compressed run-length code.

    Examples
    --------
    >>> encode_rle(np.array([[0, 1, 1], [0, 1, 0]], bool))
    b'231'
    """
    flat = mask.T.ravel()
    if not flat.size:
        return b""
    borders = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1, [flat.size]])
    runs = np.diff(borders)
    if flat[0]:
        runs = np.concatenate([[0], runs])
    runs[3:] -= runs[1:-2].copy()
    characters = np.zeros((len(runs), RUN_CHARACTERS), np.uint8)
    used = np.zeros(characters.shape, bool)
    going = np.ones(len(runs), bool)
    for place in range(RUN_CHARACTERS):
        low = runs & VALUE
        runs >>= BITS
        more = going & np.where(low & SIGN, runs != -1, runs != 0)
        characters[:, place], used[:, place] = low + MORE * more + FIRST, going
        going = more
    return characters[used].tobytes()


def _decode_text(text: str | bytes) -> NDArray[np.int64]:
    """Lengths of the runs of a compressed code: 5 bits per character, later runs as differences to two before."""
    data = np.frombuffer(text.encode() if isinstance(text, str) else text, np.uint8).astype(np.int64) - FIRST
    last = data & MORE == 0
    if not data.size or not last[-1]:
        return np.zeros(1, np.int64)  # empty or truncated: it does not add up to the image
    starts = np.concatenate([[0], np.flatnonzero(last[:-1]) + 1])
    lengths = np.diff(np.append(starts, data.size))
    shift = BITS * (np.arange(data.size) - np.repeat(starts, lengths))
    runs = np.add.reduceat((data & VALUE) << np.minimum(shift, 60), starts)
    negative = data[last] & SIGN != 0
    runs -= negative.astype(np.int64) << np.minimum(BITS * lengths, 60)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def resize_mask(mask: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """A mask (height, width) at ``size`` x ``size`` pixels; each takes the pixel that is nearest to its centre.

    Examples
    --------
    >>> resize_mask(np.eye(4, dtype=bool), 2).astype(int).tolist()
    [[1, 0], [0, 1]]
    """
    rows, columns = (((2 * np.arange(size) + 1) * side) // (2 * size) for side in mask.shape)
    return mask[np.ix_(rows, columns)]
