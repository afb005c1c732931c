"""Batches of single trials for plain torch loops and for Lightning.

The order depends only on the seed and the epoch, so that training resumes exactly where it stopped. Chunks of images
are read once per epoch at most; the next batch is prepared in a thread, and no process is started: workers of Dask may
not have children.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from nsdflow.errors import SelectionError
from nsdflow.names import select_subjects
from nsdflow.store import Store, open_store

__all__ = ["Batch", "TrialDataset"]

#: Images that are read at once by ``shuffle="blocks"``.
SHUFFLED_IMAGES = 128


class Batch(NamedTuple):
    """Trials of one subject."""

    images: Tensor
    """(trial, 3, y, x) uint8"""
    responses: Tensor
    """(trial, voxel) float32"""
    nsd_id: Tensor
    """(trial,) int64"""
    subject: str


@dataclass(frozen=True)
class _Subject:
    responses: Tensor
    nsd_id: NDArray[np.int64]
    images: NDArray[np.int64]
    """Ascending ids."""
    row: NDArray[np.intp]
    """(trial,) position in ``images``."""


class TrialDataset(IterableDataset[Batch]):
    """Batches of (images, responses, ids) of trials.

    Parameters
    ----------
    store : Store or str
    subjects : sequence of int or str, one of them, or "all"
        Batches hold trials of one subject, since subjects differ in their voxels.
    roi, voxels : optional
        As in :meth:`nsdflow.store.Store.responses`.
    shared : bool, optional
        False (default): trials of images that only this subject saw; True: those of shared images; None: all.
    batch_size : int
    shuffle : {"trials", "blocks"} or None
        ``"trials"``: random order; images are kept in memory as bytes. ``"blocks"``: blocks of images come in any
        order, and trials are shuffled among ``buffer_blocks`` blocks; only these are in memory. None: order of
        presentation.
    seed : int
        0 or more.
    average : bool
        One row per image, the mean of its trials.
    buffer_blocks : int
        For ``"blocks"``.
    **query
        Further conditions of a query: ``ncsnr_min``, ``sessions``, ``zscore``, ...

    Raises
    ------
    SelectionError
        An argument is wrong, or no trials or voxels are left.

    Notes
    -----
    Give it to a ``DataLoader`` with ``batch_size=None``. Worker processes of a ``DataLoader`` share the batches: each
    comes once, in the same order as without workers. The workers count for themselves, so that :meth:`state_dict` does
    not advance, and workers that start with each epoch need :meth:`set_epoch` before it.

    Examples
    --------
    >>> dataset = TrialDataset("nsd.zarr", [1], roi="V1", batch_size=100, seed=0)  # doctest: +SKIP
    >>> for images, responses, nsd_id, subject in dataset:  # doctest: +SKIP
    ...     loss = ((model(images) - responses) ** 2).mean()
    """

    def __init__(
        self,
        store: Store | str,
        subjects: Iterable[int | str] | int | str = "all",
        *,
        roi: Any = None,
        voxels: Any = None,
        shared: bool | None = False,
        batch_size: int = 100,
        shuffle: Literal["trials", "blocks"] | None = "trials",
        seed: int = 0,
        average: bool = False,
        buffer_blocks: int = 8,
        **query: Any,
    ) -> None:
        if shuffle not in ("trials", "blocks", None):
            raise SelectionError(f"unknown shuffle {shuffle!r}; write 'trials', 'blocks' or None")
        if batch_size < 1 or buffer_blocks < 1 or seed < 0:
            raise SelectionError(
                f"batch_size {batch_size} and buffer_blocks {buffer_blocks} must be 1 or more, seed {seed} 0 or more"
            )
        self.store = open_store(store) if isinstance(store, str) else store
        several = [subjects] if isinstance(subjects, int) else subjects
        wanted = several if isinstance(several, str) else [_name(subject) for subject in several]
        self.subjects = select_subjects(self.store.subjects, wanted)
        self.batch_size, self.shuffle, self.seed, self.average = batch_size, shuffle, seed, average
        self.buffer_images = SHUFFLED_IMAGES * buffer_blocks
        self._query = {"roi": roi, "voxels": voxels, "shared": shared, **query}
        self._data = {name: self._load(name) for name in self.subjects}
        self._images: tuple[NDArray[np.int64], NDArray[np.uint8]] | None = None
        self.epoch, self._position = 0, 0

    @property
    def voxels(self) -> dict[str, int]:
        """Number of voxels of each subject."""
        return {name: data.responses.shape[1] for name, data in self._data.items()}

    def __len__(self) -> int:
        return sum(-(-len(data.nsd_id) // self.batch_size) for data in self._data.values())

    def state_dict(self) -> dict[str, Any]:
        """Return the state that :meth:`load_state_dict` needs to continue after the last batch."""
        return {"epoch": self.epoch, "position": self._position, "seed": self.seed, "order": self._determines_order()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where another dataset with the same arguments stopped.

        Raises
        ------
        SelectionError
            The other dataset had other batches.
        """
        ours, theirs = self._determines_order(), state.get("order")
        for name, value in (theirs or {}).items():
            if ours.get(name) != value:
                raise SelectionError(
                    f"the state is of a dataset with {name} {value}, not {ours.get(name)}; use the same"
                )
        self.epoch, self._position, self.seed = state["epoch"], state["position"], state["seed"]

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch; in the present one, stay at the present batch."""
        if epoch != self.epoch:
            self.epoch, self._position = epoch, 0

    def _determines_order(self) -> dict[str, Any]:
        """What the order of the batches depends on, in addition to seed and epoch."""
        arguments = {"batch_size": self.batch_size, "shuffle": self.shuffle, "average": self.average}
        rows = {name: len(data.nsd_id) for name, data in self._data.items()}
        return arguments | {"buffer_images": self.buffer_images, "rows": rows}

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        source = self._batches(*((worker.id, worker.num_workers) if worker else (0, 1)))
        with ThreadPoolExecutor(1, thread_name_prefix="nsdflow-loader") as pool:
            ahead = pool.submit(next, source, None)
            while (batch := ahead.result()) is not None:
                ahead = pool.submit(next, source, None)
                self._position += 1
                yield batch
        self.epoch, self._position = self.epoch + 1, 0

    def _load(self, name: str) -> _Subject:
        lazy = self.store.responses(name, **self._query)
        values = lazy.compute(scheduler="threads")
        responses, nsd_id = torch.from_numpy(np.ascontiguousarray(values.values)), values["nsd_id"].values
        if responses.numel() == 0:
            raise SelectionError(f"{name} has {tuple(responses.shape)} trials and voxels under these conditions")
        images, row = np.unique(nsd_id.astype(np.int64), return_inverse=True)
        if not self.average:
            return _Subject(responses, nsd_id.astype(np.int64), images, row)
        counts = torch.from_numpy(np.bincount(row))[:, None]
        mean = torch.zeros(len(images), responses.shape[1]).index_add_(0, torch.from_numpy(row), responses)
        return _Subject(mean / counts, images, images, np.arange(len(images)))

    def _batches(self, worker: int, workers: int) -> Iterator[Batch]:
        """Batches of this epoch from the current position: those of one of several workers, which take turns."""
        first = self._position
        orders = {name: self._order(name) for name in self.subjects}
        turns = [name for name in self.subjects for _ in range(-(-len(orders[name]) // self.batch_size))]
        if self.shuffle is not None:
            turns = [turns[number] for number in self._rng("turns").permutation(len(turns))]
        buffers: dict[str, tuple[NDArray[np.int64], NDArray[np.uint8]]] = {}
        taken = dict.fromkeys(self.subjects, 0)
        for number, name in enumerate(turns):
            start = taken[name]
            taken[name] += self.batch_size
            if number < first or (number - first) % workers != worker:
                continue
            yield self._batch(name, orders[name], start, buffers)

    def _batch(self, name: str, order: NDArray[np.intp], start: int, buffers: dict[str, Any]) -> Batch:
        data = self._data[name]
        trials = order[start : start + self.batch_size]
        ids = data.nsd_id[trials]
        if self.shuffle == "blocks":
            if name not in buffers or not np.isin(ids, buffers[name][0]).all():
                kept = buffers.get(name)
                ahead = np.unique(data.nsd_id[order[start : start + self.batch_size + self._per_buffer(name)]])
                buffers[name] = self._read(ahead, kept)
            here, pixels = buffers[name]
        else:
            here, pixels = self._everything()
        images = torch.from_numpy(pixels[np.searchsorted(here, ids)])
        return Batch(images, data.responses[torch.from_numpy(trials)], torch.from_numpy(ids), name)

    def _per_buffer(self, name: str) -> int:
        """Trials of a buffer of images."""
        data = self._data[name]
        return max(self.batch_size, round(self.buffer_images * len(data.nsd_id) / len(data.images)))

    def _read(
        self, ids: NDArray[np.int64], kept: tuple[NDArray[np.int64], NDArray[np.uint8]] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Images of some ids (ascending); images in memory are not read again."""
        missing = ids if kept is None else np.setdiff1d(ids, kept[0])
        read = self.store.images(missing).compute(scheduler="threads").values
        if kept is None or len(missing) == len(ids):
            return ids, read
        pixels = np.empty((len(ids), *read.shape[1:]), np.uint8)
        pixels[np.searchsorted(ids, missing)] = read
        old = np.intersect1d(ids, kept[0])
        pixels[np.searchsorted(ids, old)] = kept[1][np.searchsorted(kept[0], old)]
        return ids, pixels

    def _everything(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """All images, read once and kept in memory."""
        if self._images is None:
            ids = np.unique(np.concatenate([data.images for data in self._data.values()]))
            self._images = ids, self.store.images(ids).compute(scheduler="threads").values
        return self._images

    def _order(self, name: str) -> NDArray[np.intp]:
        """Trials in the order of this epoch."""
        data = self._data[name]
        if self.shuffle is None:
            return np.arange(len(data.nsd_id))
        rng = self._rng(name)
        if self.shuffle == "trials":
            return rng.permutation(len(data.nsd_id))
        blocks = -(-len(data.images) // SHUFFLED_IMAGES)
        place = rng.permutation(blocks)[data.row // SHUFFLED_IMAGES] * SHUFFLED_IMAGES // self.buffer_images
        return np.lexsort((rng.random(len(place)), place))

    def _rng(self, purpose: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, self.epoch, *purpose.encode()])


def _name(subject: int | str) -> str:
    return f"subj{subject:02d}" if isinstance(subject, int) else subject
