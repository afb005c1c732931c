"""Lazy, labelled queries: nothing is read from a store's large arrays until a result is computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import xarray as xr

from nsdflow.errors import ConfigError, MissingDataError, SelectionError, StoreError, one_of
from nsdflow.io.folders import exists
from nsdflow.io.paths import normalize
from nsdflow.io.places import STORE, not_wanted
from nsdflow.io.seal import SEAL
from nsdflow.names import subject_name, subject_number
from nsdflow.store.annotations import images_showing, read_annotations
from nsdflow.store.coordinates import read_coordinates
from nsdflow.store.query.arrays import SubjectArrays, open_subject, read_root
from nsdflow.store.query.experiments import check_known, check_selection, read_experiment
from nsdflow.store.query.forks import survive_forks
from nsdflow.store.query.indexes import TRIAL_KEY, index_images, trial_coordinates
from nsdflow.store.query.late import in_memory
from nsdflow.store.query.lazy import Explanation, Positions, explain, lazy_images, lazy_responses
from nsdflow.store.query.masks import add_masks
from nsdflow.store.query.selection import Selection, select_trials, select_voxels
from nsdflow.store.schema import ANNOTATIONS_GROUP, SCHEMA, SCHEMA_VERSION, STIMULI_GROUP
from nsdflow.store.shard_format import open_sharded
from nsdflow.store.views.pictures import picture_grid
from nsdflow.store.views.summary import summarise
from nsdflow.store.views.tables import list_rois, voxel_maps

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

__all__ = ["Explanation", "Store", "open_store"]

#: Variables kept as coordinates in tables because they identify the rows.
LABELS: Final = (*TRIAL_KEY, "nsd_id", "flat_index", "hemisphere")
#: Pixels per side of NSD's images as published.
NSD_IMAGE_PX: Final = 425


class Store:
    """A store of NSD, opened by :func:`open_store`; holds coordinates, never responses.

    Attributes
    ----------
    url : str
        Path or URL of the store.
    subjects : tuple of str
        ``("subj01", ...)``.
    attrs : mapping
        Attributes of the store.
    """

    def __init__(
        self,
        url: str,
        subjects: tuple[str, ...],
        attrs: Mapping[str, Any],
        root: Mapping[str, Any] | None = None,
    ) -> None:
        self.url, self.subjects, self.attrs = url, subjects, dict(attrs)
        self._root = root or {}
        self._coordinates: dict[str, xr.Dataset] = {}
        self._arrays: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"<nsdflow.Store {self.url}: {', '.join(self.subjects)}>"

    def experiments(self, subject: str | int) -> tuple[str, ...]:
        """Sister experiments that the store has of a subject: ``"synthetic"``, ``"imagery"``."""
        return tuple(self.attrs.get("experiments", {}).get(self._subject(subject), ()))

    def trials(self, subject: str | int, experiment: str | None = None) -> xr.Dataset:
        """The trials of a subject in the order of presentation: session, run, nsd_id, repetition, ..."""
        return self._table(self._place(subject, experiment), "trial")

    def voxels(self, subject: str | int, experiment: str | None = None) -> xr.Dataset:
        """The voxels of a subject in the order of the store: flat_index, roi, ncsnr, one label per atlas, maps.

        A sister experiment has the same voxels, with its own ``ncsnr``.
        """
        return self._table(self._place(subject, experiment), "voxel")

    def images(
        self,
        nsd_id: ArrayLike | None = None,
        *,
        subject: str | int | None = None,
        experiment: str | None = None,
    ) -> xr.DataArray:
        """The images, lazily.

        Parameters
        ----------
        nsd_id : int or sequence of int, optional
            Images in this order, repeats included; by default all, by ascending ``nsd_id``.
        subject, experiment : optional
            Images of a sister experiment of a subject, which have no ``nsd_id``: all of them, in their order.

        Returns
        -------
        xr.DataArray
            (image, channel, y, x) uint8, RGB, with an index of ``nsd_id``. ``x`` counts pixels from the left edge,
            ``y`` from the bottom edge, so that the first row of pixels has the largest ``y`` and plots are upright.

        Raises
        ------
        MissingDataError
            The store was made without images.
        SelectionError
            An image is not in the store.
        """
        if not self.has_images:
            raise MissingDataError(f"{self.url}: ingested without images; ingest again with --images shown, or all")
        group = STIMULI_GROUP
        if experiment is not None:
            if subject is None or nsd_id is not None:
                raise SelectionError(
                    f"images of {experiment}: name the subject, and no nsd_id: "
                    f"images(subject={self.subjects[0]!r}, experiment={experiment!r})"
                )
            group = f"{self._place(subject, experiment)}/{STIMULI_GROUP}"
        table = self._group(group)
        return lazy_images(self._arrays[group], table, nsd_id)

    def responses(
        self,
        subject: str | int,
        roi: str | Iterable[str] | None = None,
        voxels: str | slice | ArrayLike | None = None,
        ncsnr_min: float | None = None,
        sessions: int | Iterable[int] | None = None,
        shared: bool | None = None,
        zscore: str | bool = "session",
        nsd_id: ArrayLike | None = None,
        hemisphere: str | None = None,
        repetition: int | Iterable[int] | None = None,
        category: str | Iterable[str] | Mapping[str, float] | None = None,
        where: str | None = None,
        experiment: str | None = None,
    ) -> xr.DataArray:
        """Single-trial responses of a subject, lazily; conditions are combined with "and".

        Trials are in the order of presentation and voxels in that of the store, unless ``nsd_id``, ``sessions`` or
        ``voxels`` list them in another order: that order is kept, repeats included.

        Parameters
        ----------
        subject : str or int
            ``"subj01"`` or 1.
        roi : str or iterable of str, optional
            A group (V1, V2, V3, hV4, V3ab, LO, IPS, VO, PHC, MT, MST, other), a label (``"V1v"``), an atlas
            (``"nsdgeneral"``), a label of an atlas (``"FFA-1"``; ``"FFA"`` for FFA-1 and FFA-2;
            ``"floc-faces:FFA-1"``), or several of these (voxels in any of them).
        voxels : str, slice, sequence of int or bool mask, optional
            Positions along ``voxel``, or a voxel set by its name (``"evc"``, ``"nsdgeneral"``, ...).
        ncsnr_min : float, optional
            Smallest noise ceiling signal-to-noise ratio; voxels whose ncsnr is NaN are left out.
        sessions : int or iterable of int, optional
            Session numbers, from 1.
        shared : bool, optional
            True: only trials of images that all subjects saw; False: only the others.
        zscore : str or bool
            A key of :data:`nsdflow.store.query.zscoring.ZSCORINGS`. ``"session"`` or True, as published: x/300 in
            percent signal change, minus the mean of the session's trials, divided by their standard deviation (ddof 0)
            + 1e-6; NaN becomes 0. ``"training"``: mean and standard deviation over the trials of the session that show
            no shared image, so that the statistics do not depend on shared images. False: percent signal change.
        nsd_id : int or sequence of int, optional
            Only trials that show these images, image by image.
        hemisphere : {"lh", "rh"}, optional
            Only voxels of the left or the right hemisphere.
        repetition : int or iterable of int, optional
            Only first (0), second (1) or third (2) presentations of an image.
        category : str, iterable of str, or mapping of str to float, optional
            Only trials whose image shows any of these COCO categories or supercategories; with a mapping, only
            where the category covers at least this share of the image: ``{"person": 0.05}``.
        where : str, optional
            Further conditions on coordinates of voxels and of trials: ``"prf_eccentricity < 4.2 and rt < 1500"``,
            ``"roi in ('V1', 'V2')"``. It is parsed, and never evaluated as code.
        experiment : {"synthetic", "imagery"}, optional
            Responses in a sister experiment, whose trials have ``condition``, ``image_class``, ``task`` instead of
            ``nsd_id``.

        Returns
        -------
        xr.DataArray
            (trial, voxel) float32 with the coordinates of both, which are read when they are first used, and an index
            of (session, trial_in_session).

        Raises
        ------
        SelectionError
            An unknown subject, ROI, session, image, category or coordinate, or a value that an argument does not
            take.
        MissingDataError
            ``category`` is given, and the store has no annotations.
        """
        selection = Selection(
            roi=roi, voxels=voxels, ncsnr_min=ncsnr_min, sessions=sessions, shared=shared, zscore=zscore,
            nsd_id=nsd_id, hemisphere=hemisphere, repetition=repetition, category=category, where=where,
        )  # fmt: skip
        return lazy_responses(*self._positions(subject, selection, experiment))

    def explain(
        self,
        subject: str | int,
        roi: str | Iterable[str] | None = None,
        voxels: str | slice | ArrayLike | None = None,
        ncsnr_min: float | None = None,
        sessions: int | Iterable[int] | None = None,
        shared: bool | None = None,
        zscore: str | bool = "session",
        nsd_id: ArrayLike | None = None,
        hemisphere: str | None = None,
        repetition: int | Iterable[int] | None = None,
        category: str | Iterable[str] | Mapping[str, float] | None = None,
        where: str | None = None,
        experiment: str | None = None,
    ) -> Explanation:
        """Return what :meth:`responses` would read for the same arguments, without reading it."""
        selection = Selection(
            roi=roi, voxels=voxels, ncsnr_min=ncsnr_min, sessions=sessions, shared=shared, zscore=zscore,
            nsd_id=nsd_id, hemisphere=hemisphere, repetition=repetition, category=category, where=where,
        )  # fmt: skip
        return explain(*self._positions(subject, selection, experiment))

    def rois(self, subject: str | int) -> pd.DataFrame:
        """Names that ``roi=`` accepts for a subject, with numbers of voxels, also per hemisphere if known.

        Returns
        -------
        DataFrame
            Indexed by name: ``atlas`` (the coordinate with the label; ``group`` for groups of visual areas),
            ``voxels``, and ``lh``, ``rh``.
        """
        return list_rois(self._group(self._subject(subject)))

    def maps(self, subject: str | int) -> xr.Dataset:
        """Published statistics of the voxels, such as ``ncsnr`` and ``prf_eccentricity``, with their units."""
        return voxel_maps(self.voxels(subject))

    def annotations(self, *, masks: bool | int = False) -> xr.Dataset:
        """COCO's annotations of the images: categories, captions and boxes in memory, masks lazily.

        Parameters
        ----------
        masks : bool or int
            True adds the mask of each instance, lazily, at the size of the store's images (425 without images); a
            number gives the pixels per side.

        Returns
        -------
        Dataset
            ``instances`` (image, category) numbers of instances, ``area`` (image, category) shares of the image that
            they cover, ``captions`` (image, caption), with indexes of ``nsd_id`` and ``category``. For each instance
            ``box`` (instance, edge) left, top, width, height as shares of the image, ``instance_nsd_id``,
            ``instance_category``, ``instance_area``, ``instance_kept`` (the share of it inside the crop), ``crowd``,
            and with ``masks`` the ``mask`` (instance, y, x) bool. For each person with keypoints ``keypoints`` (person,
            keypoint, axis) x and y as shares of the image from its left and top edge, ``keypoint_visible`` (0 not
            there, 1 hidden, 2 visible) and ``person_instance``.

        Raises
        ------
        MissingDataError
            The store was made without annotations, or without masks.
        """
        if ANNOTATIONS_GROUP not in self._coordinates:
            if not exists(f"{self.url}/{ANNOTATIONS_GROUP}"):
                raise MissingDataError(
                    f"{self.url}: ingested without annotations; ingest again with --annotations FOLDER"
                )
            self._coordinates[ANNOTATIONS_GROUP] = read_annotations(self.url)
        table = self._coordinates[ANNOTATIONS_GROUP].copy()
        if masks is False:
            return table
        if isinstance(masks, bool):
            masks = self.images().sizes["x"] if self.has_images else NSD_IMAGE_PX
        elif not isinstance(masks, int) or masks < 1:
            raise ConfigError("annotations", [f"masks is {masks!r}; write True, or a number of pixels such as 227"])
        return add_masks(table, f"{self.url}/{ANNOTATIONS_GROUP}", masks)

    def plot_images(
        self, nsd_id: ArrayLike, *, captions: bool = False, boxes: bool = False, columns: int = 4
    ) -> Figure:
        """Draw some images.

        Parameters
        ----------
        nsd_id : int or sequence of int
            Images in this order.
        captions, boxes : bool
            Write the first caption below each image; draw the boxes of the annotated objects with their categories.
        columns : int
            Images in a row.

        Returns
        -------
        matplotlib.figure.Figure
            A notebook shows it; ``savefig`` writes it.
        """
        annotations = self.annotations() if captions or boxes else None
        return picture_grid(self.images(nsd_id), annotations, captions=captions, boxes=boxes, columns=columns)

    @property
    def has_images(self) -> bool:
        """Whether the store has images."""
        return STIMULI_GROUP in self._coordinates or exists(f"{self.url}/{STIMULI_GROUP}")

    def _repr_html_(self) -> str:
        return summarise(self)

    def _positions(
        self, subject: str | int, selection: Selection, experiment: str | None
    ) -> tuple[SubjectArrays, xr.Dataset, Positions, str | bool]:
        """Resolve a query: the subject's arrays, its coordinates, positions and z-scoring."""
        name = self._place(subject, experiment)
        if experiment is not None:
            check_selection(selection, experiment)
        table = self._group(name)
        shown = None if selection.category is None else images_showing(self.annotations(), selection.category)
        positions = select_trials(table, selection, shown), select_voxels(table, selection)
        return self._arrays[name], table, positions, selection.zscore

    def _subject(self, subject: str | int) -> str:
        with suppress(ConfigError):  # a malformed name gets the same error as an unknown subject
            name = subject_name(subject_number(str(subject)))
            if name in self.subjects:
                return name
        raise one_of("subject", subject, self.subjects)

    def _place(self, subject: str | int, experiment: str | None) -> str:
        """Group of a subject, or of a sister experiment of the subject."""
        name = self._subject(subject)
        if experiment is None:
            return name
        check_known(name, experiment, self.experiments(name))
        return f"{name}/{experiment}"

    def _table(self, group: str, dim: str) -> xr.Dataset:
        coordinates = self._group(group)
        names = [name for name, variable in coordinates.variables.items() if dim in variable.dims]
        table = in_memory(coordinates.reset_coords()[names])
        return table.set_coords([name for name in LABELS if name in names])

    def _group(self, group: str) -> xr.Dataset:
        """Coordinates of a group with their index, and the arrays to which they belong."""
        if group not in self._coordinates:
            subject, _, experiment = group.partition("/")
            if group.endswith(STIMULI_GROUP):
                array, table = open_sharded(f"{self.url}/{group}/images"), read_coordinates(self.url, group)
                if table.sizes.get("image") != array.shape[0]:  # the store grew between the two reads
                    array = open_sharded(array.url)
                self._arrays[group] = array
                self._coordinates[group] = index_images(table) if group == STIMULI_GROUP else table
            elif experiment:
                arrays = SubjectArrays.open(f"{self.url}/{group}")
                table = read_experiment(self.url, subject, experiment, self._group(subject))
                self._arrays[group] = arrays
                self._coordinates[group] = xr.Dataset(coords=trial_coordinates(table.variables), attrs=table.attrs)
            else:
                self._arrays[group], self._coordinates[group] = open_subject(self._root, self.url, group)
        return self._coordinates[group]


def open_store(url: str) -> Store:
    """Open a store.

    Parameters
    ----------
    url : str or path
        A folder, or an fsspec URL to read it from elsewhere.

    Raises
    ------
    MissingDataError
        Nothing exists there, or only an unfinished build.
    StoreError
        Not a store of nsdflow, or one of a newer schema.
    """
    where = normalize(url)
    root = read_root(where)
    attributes = {name: value for name, value in root.get("attributes", {}).items() if name != SEAL}
    if SCHEMA not in attributes:
        other = not_wanted(where, STORE) or "a Zarr group, but not an nsdflow store; `nsdflow ingest` makes one"
        raise StoreError(f"{where}: {other}")
    if attributes[SCHEMA] > SCHEMA_VERSION:
        raise StoreError(
            f"{where}: schema {attributes[SCHEMA]}, newer than the {SCHEMA_VERSION} this nsdflow reads; "
            "upgrade nsdflow, or ingest again with this one"
        )
    survive_forks()
    return Store(where, tuple(attributes["subjects"]), attributes, root)
