"""Input means of whole lists in a store, or of a sample of the source's images, against the printed ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from nsdflow.analysis.published import Cell, find
from nsdflow.fit.statistics import channel_sums
from nsdflow.nsd.design import Design
from nsdflow.nsd.images import read_images
from nsdflow.nsd.source import Source
from nsdflow.pipelines.common.data import listed_images
from nsdflow.pipelines.gnet.input_mean import image_sums, list_mean
from nsdflow.store import Store

__all__ = ["SAMPLED_PER_SUBJECT", "sampled_means", "store_means"]

#: Images of each subject's list in the sample.
SAMPLED_PER_SUBJECT: Final = 64
_CHANNELS: Final = ("red", "green", "blue")
#: Whether a model's mean leaves the shared images out.
_OWN_ONLY: Final = {"gnet8j": False, "gnet8r": True}


def store_means(store: Store, subjects: Sequence[str]) -> Iterator[Cell]:
    """Means over the whole lists of some subjects, exactly; nothing where the store lacks images of a list."""
    lists = [listed_images(store, subject) for subject in subjects]
    if not lists or not all(one.complete for one in lists):
        return
    wanted = np.unique(np.concatenate([one.nsd_id for one in lists]))
    sums, pixels = image_sums(store, wanted), int(np.prod(store.images().shape[2:]))
    for model, own_only in _OWN_ONLY.items():
        mean = list_mean(sums, wanted, lists, pixels, own_only=own_only).numpy()
        yield from _cells(model, mean, np.full(3, np.nan), "all images of each list")


def sampled_means(origin: Source, design: Design, subjects: Sequence[str]) -> Iterator[Cell]:
    """Means over some images of each subject's list, with their standard errors.

    Images are not resized, which changes a mean by less than the sample does.
    """
    random = np.random.default_rng(0)
    rows = [design.subjectim[design.subjects.index(subject)] for subject in subjects]
    size = min(SAMPLED_PER_SUBJECT, len(rows[0]))
    drawn = [np.sort(random.choice(row, size, replace=False)) for row in rows]
    wanted = np.unique(np.concatenate(drawn))
    means = _image_means(origin, wanted)
    for model, own_only in _OWN_ONLY.items():
        lists = [ids[~np.isin(ids, design.sharedix)] if own_only else ids for ids in drawn]
        values = [means[np.searchsorted(wanted, ids)] for ids in lists if len(ids) > 1]
        if not values:
            continue
        errors = np.sqrt(sum(one.var(0, ddof=1) / len(one) for one in values)) / len(values)
        note = f"a sample of {size} images of each list; --store of all images gives the exact mean"
        yield from _cells(model, np.mean([one.mean(0) for one in values], 0), errors, note)


def _image_means(origin: Source, ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """(image, channel) mean of image / 255; the images are read a few at a time."""
    means = []
    for block in np.array_split(ids, max(1, len(ids) // SAMPLED_PER_SUBJECT)):
        images = torch.from_numpy(np.ascontiguousarray(read_images(origin, block).transpose(0, 3, 1, 2)))
        means.append(channel_sums(images).double() / (255.0 * images[0, 0].numel()))
    return torch.cat(means).numpy()


def _cells(model: str, mean: NDArray[np.float64], error: NDArray[np.float64], note: str) -> Iterator[Cell]:
    for channel, ours, spread in zip(_CHANNELS, mean.tolist(), error.tolist(), strict=True):
        (number,) = find("input_mean", model=model, roi=channel)
        yield Cell(f"input mean, {model}", "all", channel, ours, number.value, spread, note)
