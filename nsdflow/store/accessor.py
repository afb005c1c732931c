"""``DataArray.nsd``: voxels back to volumes and files, averages over repetitions, noise ceilings."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import xarray as xr

from nsdflow.errors import StoreError
from nsdflow.io.paths import local_path
from nsdflow.nsd.formats.nifti import write_nifti
from nsdflow.store.query.indexes import index_images
from nsdflow.store.surface.files import surface_image, write_giftis, write_mgzs
from nsdflow.store.surface.mapping import to_space

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from nsdflow.nsd.source import Source

__all__ = ["NsdAccessor"]

#: Voxels of a lazy block while trials are averaged: all trials of a full subject are then some 120 MB.
AVERAGING_VOXELS: Final = 1024
#: Coordinates that are the same for all trials of an image.
OF_IMAGE: Final = ("nsd_id", "subject_image", "shared", "coco_id")


@xr.register_dataarray_accessor("nsd")
class NsdAccessor:
    """Operations on arrays with a ``voxel`` or ``trial`` dimension, of stores and of results."""

    def __init__(self, array: xr.DataArray) -> None:
        self._array = array

    def to_volume(self) -> xr.DataArray:
        """Put the voxels back into their volume, NaN elsewhere (computes a lazy array).

        Returns
        -------
        xr.DataArray
            (..., i, j, k) floating point; the attribute ``affine`` (16 numbers, row by row) takes (i, j, k) to mm, as
            in NSD's files.

        Raises
        ------
        StoreError
            The array has no ``voxel`` dimension with ``flat_index``, or its voxels are vertices of a surface.
        """
        shape, affine = self._grid()
        values = self._array.transpose(..., "voxel")
        flat = np.full((*values.shape[:-1], int(np.prod(shape))), np.nan, np.result_type(values.dtype, np.float32))
        flat[..., self._array["flat_index"].values] = values.values
        coords = {name: c for name, c in self._array.coords.items() if "voxel" not in c.dims}
        attrs = {**self._array.attrs, "affine": affine.ravel().tolist()}
        return xr.DataArray(
            flat.reshape(*values.shape[:-1], *shape),
            coords,
            (*values.dims[:-1], "i", "j", "k"),
            self._array.name,
            attrs,
        )

    def to_nifti(self, path: str | os.PathLike[str]) -> Path:
        """Write the voxels as a NIfTI file on the grid of NSD's own files (``.nii`` or ``.nii.gz``), float32.

        One further dimension becomes the fourth of the file.

        Raises
        ------
        StoreError
            As :meth:`to_volume`; more than one further dimension; or the file cannot be written.
        """
        target = local_path(path)
        if not target.name.endswith((".nii", ".nii.gz")):
            raise StoreError(f"{target}: a NIfTI file is called .nii or .nii.gz; rename it")
        volume = self.to_volume()
        if volume.ndim > 4:
            raise StoreError(
                f"{target}: dimensions {', '.join(map(str, volume.dims))} are too many; select or average first"
            )
        values = volume.transpose("i", "j", "k", ...).values.astype(np.float32)
        write_nifti(target, values, self._grid()[1], str(self._array.name or "nsdflow"))
        return target

    def to_space(
        self,
        target: str,
        *,
        layers: str | Sequence[str] = "mean",
        method: str = "cubic",
        missing: Literal["propagate", "ignore"] = "propagate",
        fill: float = np.nan,
        source: str | Source | None = None,
    ) -> xr.DataArray:
        """Map the voxels to another space of NSD, by NSD's own transform files; lazy arrays stay lazy.

        Parameters
        ----------
        target : str
            ``"fsaverage"``, ``"nativesurface"`` (or one of its surfaces: ``"layerB2"``, ``"pial"``, ...), ``"MNI"``,
            ``"anat0pt5"``, ``"anat0pt8"``, ``"anat1pt0"``, ``"func1pt8mm"`` or ``"func1mm"``.
        layers : str or sequence of str
            From a volume to a surface: ``"mean"`` over the three layers of cortex, as NSD's published data, or the
            layers to average (``"layerB1"``, ``"layerB2"``, ``"layerB3"``, ``"white"``, ``"pial"``).
        method : {"cubic", "linear", "nearest", "wta"}
            How volumes are sampled; NSD mapped betas by ``"cubic"``, pRF and fLoc maps by ``"linear"``. ``"wta"``
            (winner takes all) is for labels. Between surfaces the nearest vertex is taken, whatever the method. Angles,
            which have the attribute ``period``, are averaged on the circle.
        missing : {"propagate", "ignore"}
            Targets near missing voxels: NaN, as in NSD's tool, or the mean of the existing voxels if these have at
            least half of the weight. With ROIs only, ``"ignore"`` keeps their borders.
        fill : float
            Value where there are no data; with a number, integers stay integers.
        source : str or Source, optional
            NSD, with its transforms; by default the one from which the store was made.

        Returns
        -------
        xr.DataArray
            The same dimensions; ``voxel`` is all vertices (left hemisphere first), or the voxels of the target volume
            that have data. Labels of atlases are those of the nearest voxel; attributes name the space, the layers and
            the interpolation.

        Raises
        ------
        SelectionError
            An unknown space or method, or no mapping to the space; the message lists the available ones.
        MissingDataError
            A transform file is missing.
        SourceError
            The transforms are of another grid than the array.
        """
        return to_space(self._array, target, layers=layers, method=method, missing=missing, fill=fill, source=source)

    def to_gifti(self, path: str | os.PathLike[str]) -> tuple[Path, Path]:
        """Write both hemispheres as GIFTI, as Connectome Workbench, nilearn and nibabel read it.

        ``accuracy.func.gii`` becomes ``hemi-L_accuracy.func.gii`` and ``hemi-R_accuracy.func.gii``.
        Labels (arrays with ``flag_values``) become ``.label.gii`` with their names. One further dimension becomes the
        maps of the file. Vertices without data are NaN.

        Raises
        ------
        StoreError
            The array is in a volume, has more than one further dimension, or the name has another ending.
        """
        return write_giftis(self._array, path)

    def to_mgz(self, path: str | os.PathLike[str]) -> tuple[Path, Path]:
        """Write both hemispheres as FreeSurfer does: ``a.mgz`` becomes ``lh.a.mgz`` and ``rh.a.mgz``.

        Raises
        ------
        StoreError
            As :meth:`to_gifti`.
        """
        return write_mgzs(self._array, path)

    def to_surface_image(self, surface: str = "inflated", *, source: str | Source | None = None) -> Any:
        """The array as nilearn's ``SurfaceImage`` on a surface of NSD: ``white``, ``pial``, ``inflated``, ``sphere``.

        Raises
        ------
        StoreError
            The array is in a volume, nilearn is not installed, or the surface has other vertices.
        """
        return surface_image(self._array, surface, source)

    def plot_flat(self, *, source: str | Source | None = None, **options: Any) -> Figure:
        """Draw the voxels (one value each) on the flattened hemispheres of their subject, or of fsaverage.

        Parameters
        ----------
        source : str or Source, optional
            NSD, with its flat patches; by default the one from which the store was made.
        **options
            ``label``, ``cmap``, ``limits=(low, high)``, ``rois`` (a coordinate with labels to outline, or None),
            ``categories`` (names of the values 0, 1, ...).

        Returns
        -------
        matplotlib.figure.Figure
            A notebook shows it; ``.savefig("accuracy.png")`` writes it.

        Raises
        ------
        MissingDataError
            The flat patch does not exist; ``plot_slices`` needs no files.
        """
        figure: Figure = _pictures().plot_flat(self._array, source=source, **options)
        return figure

    def plot_surface(self, surface: str = "inflated", *, source: str | Source | None = None, **options: Any) -> Figure:
        """Draw the voxels on a surface (``inflated``, ``white``, ``pial``) from four sides; see :meth:`plot_flat`."""
        figure: Figure = _pictures().plot_surface(self._array, surface, source=source, **options)
        return figure

    def plot_slices(self, **options: Any) -> Figure:
        """Draw the voxels in slices of their volume, which needs no files; see :meth:`plot_flat`."""
        figure: Figure = _pictures().plot_slices(self._array, **options)
        return figure

    def mean_over_repetitions(self) -> xr.DataArray:
        """Average the trials that show the same image; lazy arrays stay lazy, coordinates stay in memory.

        Returns
        -------
        xr.DataArray
            ``image`` in place of ``trial``, by ascending ``nsd_id``, which is its index, with ``repetitions`` (number
            of trials averaged) and the coordinates that are the same for all trials of an image.

        Raises
        ------
        StoreError
            The array has no ``trial`` dimension with ``nsd_id``.
        """
        array = self._array
        if "trial" not in array.dims or "nsd_id" not in array.coords:
            raise StoreError("mean_over_repetitions needs a trial dimension with nsd_id; responses() gives both")
        ids, first, inverse, counts = np.unique(
            array["nsd_id"].values, return_index=True, return_inverse=True, return_counts=True
        )
        if array.chunks is not None:  # the variable alone: DataArray.chunk would make coordinates lazy as well
            blocks = {"trial": -1, **({"voxel": AVERAGING_VOXELS} if "voxel" in array.dims else {})}
            array = array.copy(data=array.variable.chunk(blocks).data)
        means: xr.DataArray = xr.apply_ufunc(
            _group_means,
            array,
            kwargs={"order": np.argsort(inverse, kind="stable"), "counts": counts},
            input_core_dims=[["trial"]],
            output_core_dims=[["image"]],
            dask="parallelized",
            output_dtypes=[array.dtype],
            dask_gufunc_kwargs={"output_sizes": {"image": len(ids)}},
            keep_attrs=True,
        )
        same = [array[name] for name in OF_IMAGE if name in array.coords]
        coords: dict[Any, Any] = {c.name: ("image", c.values[first], c.attrs) for c in same}
        coords["repetitions"] = ("image", counts, {"long_name": "trials averaged"})
        means = means.transpose(*("image" if dim == "trial" else dim for dim in array.dims)).assign_coords(coords)
        return index_images(means)

    def noise_ceiling(self, n: float | None = None) -> xr.DataArray:
        """The highest correlation with these responses that a model of the image can reach, from 0 to 1.

        The square root of :meth:`explainable_variance`, which explains ``n``.
        """
        share = self.explainable_variance(n)
        trials = share.attrs["long_name"].partition(", ")[2]
        ceiling = share**0.5
        return ceiling.rename("noise_ceiling").assign_attrs(
            long_name=f"noise ceiling (correlation), {trials}", units="1"
        )

    def explainable_variance(self, n: float | None = None) -> xr.DataArray:
        """Share of variance that depends on the image, ncsnr^2 / (ncsnr^2 + 1/n), from 0 to 1.

        Parameters
        ----------
        n : float, optional
            Trials that are averaged into a response. If not given, those that
            :meth:`mean_over_repetitions` has averaged, and 1 for single trials. For images with unequal numbers of
            trials, 1/n is the mean over images of 1/trials.

        Raises
        ------
        StoreError
            The array has no ``ncsnr``, or ``n`` is less than one trial.
        """
        if n is None:
            counts = self._array.coords.get("repetitions")
            n = 1 if counts is None or not counts.size else 1 / float((1 / counts).mean())
        if not n >= 1:
            raise StoreError(f"n={n:g}: a ceiling needs the number of trials that are averaged, 1 or more")
        if "ncsnr" not in self._array.coords:
            raise StoreError("the array has no coordinate ncsnr; take the voxels from a store that has it")
        signal = self._array["ncsnr"] ** 2
        share: xr.DataArray = signal / (signal + 1 / n)
        return share.rename("explainable_variance").assign_attrs(
            long_name=f"share of variance that depends on the image, mean of {n:g} trials", units="1"
        )

    def reliability(self, *, splits: int = 20, seed: int = 0) -> xr.DataArray:
        """Split-half reliability of each voxel, see :func:`nsdflow.analysis.reliability`.

        Parameters
        ----------
        splits : int
            Number of random splits.
        seed : int
            Seed of the splits.

        Returns
        -------
        xr.DataArray
            (voxel,) from -1 to 1; lazy if the responses are.
        """
        measure = import_module("nsdflow.analysis").reliability  # in a layer above the store, so it is imported by name
        reliable: xr.DataArray = measure(self._array, splits=splits, seed=seed)
        return reliable

    def _grid(self) -> tuple[tuple[int, ...], NDArray[np.float64]]:
        """Shape and affine of the volume, attributes of the coordinate ``flat_index``."""
        array = self._array
        if "voxel" not in array.dims or "flat_index" not in array.coords:
            raise StoreError(f"{array.name or 'array'}: no voxel dimension with the coordinate flat_index; keep it")
        known: dict[str, Any] = {**array.attrs, **array["flat_index"].attrs}
        if len(known.get("shape", ())) == 2:
            raise StoreError(f"{array.name or 'array'}: its voxels are vertices of a surface, which have no volume")
        if "shape" not in known or "affine" not in known:
            raise StoreError(f"{array.name or 'array'}: flat_index lacks its attributes shape and affine; keep them")
        return tuple(int(size) for size in known["shape"]), np.asarray(known["affine"], np.float64).reshape(4, 4)


def _pictures() -> Any:
    """Module that draws. It is in a layer above the store, so it is imported by name when it is needed."""
    return import_module("nsdflow.report.brain")


def _group_means(values: NDArray[Any], *, order: NDArray[np.intp], counts: NDArray[np.intp]) -> NDArray[Any]:
    """Means over runs of the last axis once sorted by ``order``; ``counts`` are the lengths of the runs."""
    if not len(counts):
        return values
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    sums = np.add.reduceat(values[..., order], starts, axis=-1)
    return np.asarray(sums / counts.astype(values.dtype), values.dtype)
