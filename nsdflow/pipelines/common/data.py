"""Arrays for a fit, from a store: one subject's trials, responses and images, aligned by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from nsdflow.analysis.rois import roi_masks
from nsdflow.engine.compute import read_here
from nsdflow.errors import SelectionError
from nsdflow.fit.split import average_trials
from nsdflow.names import number_ranges, subject_number

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from nsdflow.config.pipeline import ModelPipeline
    from nsdflow.fit.protocols import Protocol
    from nsdflow.store import Store

__all__ = [
    "SCORED",
    "ImageList",
    "SubjectTrials",
    "check_voxels",
    "chosen_sessions",
    "dealt_out",
    "listed_images",
    "load_images",
    "load_trials",
    "query_of",
    "read_responses",
    "score_on",
    "trials_of",
]

#: Attribute of a store whose responses are z-scored already, such as synthetic ones. They are not z-scored again.
SCORED: Final = "responses_are_scored"


@dataclass(frozen=True)
class SubjectTrials:
    """All trials of a subject in trial order, or one row per image in the order of the subject's list."""

    subject: str
    responses: NDArray[np.float32]
    """(trial, voxel)"""
    nsd_id: NDArray[np.int64]
    """(trial,)"""
    subject_image: NDArray[np.int64]
    """(trial,) image in the subject's own list"""
    session: NDArray[np.int64]
    """(trial,)"""
    shared: NDArray[np.bool_]
    """(trial,) whether the trial shows a shared image; such trials validate"""
    voxels: xr.Dataset
    """Voxel coordinates (flat_index, roi, ncsnr, ...) without data, in the order of the responses."""
    attrs: dict[str, Any]
    """Attributes of the subject such as volume shape and affine, without those of the responses."""
    repetitions: NDArray[np.int64] | None = None
    """(trial,) number of presentations that each row averages; None for single trials"""

    def averaged(self) -> SubjectTrials:
        """One row per image: the mean over its presentations, in the order of the subject's list."""
        images, responses = average_trials(self.subject_image, self.responses)
        _, first, counts = np.unique(self.subject_image, return_index=True, return_counts=True)
        return replace(
            self,
            responses=np.ascontiguousarray(responses, np.float32),
            nsd_id=self.nsd_id[first],
            subject_image=images,
            session=self.session[first],
            shared=self.shared[first],
            repetitions=counts.astype(np.int64),
        )


def load_trials(
    store: Store,
    subject: str,
    selection: Mapping[str, Any] | None = None,
    *,
    zscore: str | bool = "session",
    shuffle: int | None = None,
) -> SubjectTrials:
    """Read one subject's responses into memory, all trials in their order.

    Parameters
    ----------
    selection : mapping, optional
        ``roi``, ``voxels`` and ``sessions`` of a query; all voxels and sessions by default.
    zscore : str or bool
        As for :func:`read_responses`.
    shuffle : int, optional
        Seed of the control, which shuffles the images among trials; no control by default.

    Raises
    ------
    SelectionError
        The subject has no voxel in the selection.
    """
    selection = dict(selection or {})
    lazy = read_responses(store, subject, zscore=zscore, **selection)
    check_voxels(store, subject, lazy.sizes["voxel"], selection)
    values = read_here(lazy)
    shared = values["shared"].values.astype(bool)
    shown = np.arange(len(shared)) if shuffle is None else dealt_out(shared, shuffle)
    dropped = ("long_name", "units")
    return SubjectTrials(
        subject=subject,
        responses=np.ascontiguousarray(values.values),
        nsd_id=values["nsd_id"].values.astype(np.int64)[shown],
        subject_image=values["subject_image"].values.astype(np.int64)[shown],
        session=values["session"].values.astype(np.int64),
        shared=shared,
        voxels=values.isel(trial=0, drop=True).coords.to_dataset(),
        attrs={name: value for name, value in values.attrs.items() if name not in dropped},
    )


def chosen_sessions(config: ModelPipeline, store: Store, subject: str) -> tuple[int, ...] | None:
    """Sessions of a subject whose trials a pipeline uses; None for all.

    The subjects of NSD have 30 to 40 sessions, so those that a subject lacks are left out.

    Raises
    ------
    SelectionError
        The subject has none of the sessions.
    """
    if config.sessions is None:
        return None
    held = set(store.trials(subject)["session"].values.tolist())
    chosen = tuple(session for session in config.sessions if session in held)
    if not chosen:
        raise SelectionError(
            f"{subject} has no session {number_ranges(config.sessions)}; the store holds {number_ranges(held)}"
        )
    return chosen


def query_of(config: ModelPipeline, store: Store, subject: str, *rois: str) -> dict[str, Any]:
    """Arguments of the query for the responses of a pipeline, restricted to ``rois`` where given."""
    return {**config.selection(*rois), "sessions": chosen_sessions(config, store, subject)}


def trials_of(store: Store, subject: str, sessions: Sequence[int] | None) -> xr.Dataset:
    """Coordinates of the trials of some sessions, or of all, in the order of presentation."""
    trials = store.trials(subject)
    return trials if sessions is None else trials.isel(trial=np.isin(trials["session"].values, sessions))


def read_responses(store: Store, subject: str, *, zscore: str | bool, **selection: Any) -> xr.DataArray:
    """Responses of a query for a fit or its evaluation, lazy.

    Parameters
    ----------
    zscore : str or bool
        A key of :data:`nsdflow.store.query.zscoring.ZSCORINGS`, of the protocol
        (:class:`nsdflow.fit.protocols.Protocol`). Responses that the store holds z-scored, such as synthetic ones, are
        not changed.
    **selection
        Further arguments of :meth:`nsdflow.store.Store.responses`.
    """
    return store.responses(subject, **selection, zscore=False if store.attrs.get(SCORED, False) else zscore)


def score_on(
    store: Store,
    protocol: Protocol,
    responses: NDArray[np.float32],
    session: NDArray[np.int64],
    fitted_on: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """Responses (trial, voxel) z-scored on the trials ``fitted_on`` (trial,), where the protocol asks for that."""
    if protocol.zscore_on is None or store.attrs.get(SCORED, False):
        return responses
    return protocol.zscore_on(responses, session, fitted_on)


def check_voxels(store: Store, subject: str, voxels: int, selection: Mapping[str, Any]) -> None:
    """Raise if the selection has no voxel of a subject.

    Raises
    ------
    SelectionError
        If ``voxels`` is 0. The message names the ROIs that have voxels.
    """
    if not voxels:
        there = ", ".join(roi_masks(store.voxels(subject)["roi"]))
        asked = ", ".join([*(selection.get("roi") or ()), *([selection["voxels"]] if selection.get("voxels") else [])])
        raise SelectionError(f"{subject} has no voxel in {asked or 'the store'}; it has voxels in: {there}")


@dataclass(frozen=True)
class ImageList:
    """Images of a subject's list of 10,000 that a store holds."""

    nsd_id: NDArray[np.int64]
    """(image,) ascending"""
    shared: NDArray[np.bool_]
    """(image,) whether all subjects see the image"""
    complete: bool
    """Whether the store holds the whole list; otherwise ``nsd_id`` holds the images that the subject's trials show."""


def listed_images(store: Store, subject: str, sessions: Sequence[int] | None = None) -> ImageList:
    """Images of a subject's list: all if the store holds them, or else those shown in these sessions."""
    images = store.images()
    length = images.attrs.get("list_length")
    if "listed_by" in images.coords and length is not None:
        listed = np.isin(images["listed_by"].values, (0, subject_number(subject)))
        if listed.sum() == length:
            ids, shared = images["nsd_id"].values[listed], images["listed_by"].values[listed] == 0
            order = np.argsort(ids)
            return ImageList(ids[order].astype(np.int64), shared[order], complete=True)
    trials = trials_of(store, subject, sessions)
    ids, first = np.unique(trials["nsd_id"].values, return_index=True)
    return ImageList(ids.astype(np.int64), trials["shared"].values[first].astype(bool), complete=False)


def load_images(store: Store, nsd_ids: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Images (image, channel, y, x) of the given ids, in their order.

    Raises
    ------
    SelectionError
        The store lacks one of them.
    """
    absent = np.setdiff1d(nsd_ids, store.images()["nsd_id"].values)
    if len(absent):
        raise SelectionError(
            f"the store has no image {absent[0]} (and {len(absent) - 1} more); ingest with --images all"
        )
    return np.ascontiguousarray(read_here(store.images(nsd_ids)).values)


def dealt_out(shared: NDArray[np.bool_], seed: int) -> NDArray[np.intp]:
    """For each trial, the trial whose image it gets in the control: random, with shared images among themselves.

    Trials of one image get different images, so that a memory of an image does not help with another trial.
    """
    rng = np.random.default_rng(seed)
    dealt = np.arange(len(shared))
    for part in (shared, ~shared):
        dealt[part] = rng.permutation(np.flatnonzero(part))
    return dealt
