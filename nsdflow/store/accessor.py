"""``DataArray.nsd``: from voxels back to volumes and files, and what repetitions say about noise."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from nsdflow.errors import StoreError
from nsdflow.io.paths import local_path
from nsdflow.nsd.formats.nifti import write_nifti

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["NsdAccessor"]

#: Voxels of a lazy block while trials are averaged: all trials of a full subject are then some 120 MB.
AVERAGING_VOXELS = 1024


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

    def mean_over_repetitions(self) -> xr.DataArray:
        """Average the trials that show the same image; lazy arrays stay lazy.

        Returns
        -------
        xr.DataArray
            ``image`` in place of ``trial``, by ascending ``nsd_id``, with coordinates ``nsd_id``, ``repetitions``
            (how many trials were averaged) and what else is the same for all trials of an image.
        """
        array = self._array
        if "trial" not in array.dims or "nsd_id" not in array.coords:
            raise StoreError("mean_over_repetitions needs a trial dimension with nsd_id; responses() gives both")
        ids, first, inverse, counts = np.unique(
            array["nsd_id"].values, return_index=True, return_inverse=True, return_counts=True
        )
        if array.chunks is not None:
            array = array.chunk({"trial": -1, **({"voxel": AVERAGING_VOXELS} if "voxel" in array.dims else {})})
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
        same = {
            name: array[name].values
            for name in ("nsd_id", "subject_image", "shared", "coco_id")
            if name in array.coords
        }
        coords = {name: ("image", values[first], array[name].attrs) for name, values in same.items()}
        coords["repetitions"] = ("image", counts, {"long_name": "trials averaged"})
        return means.transpose(*("image" if dim == "trial" else dim for dim in array.dims)).assign_coords(coords)

    def noise_ceiling(self, n: float = 1) -> xr.DataArray:
        """Explainable share of variance when ``n`` trials are averaged: ncsnr^2 / (ncsnr^2 + 1/n), from 0 to 1.

        For images with unequal numbers of trials, 1/n is the mean over images of 1/trials. Accuracies are correlations,
        whose ceiling is the square root: :func:`nsdflow.analysis.noise_ceiling` gives it.

        Raises
        ------
        StoreError
            The array has no ``ncsnr``, or ``n`` is less than one trial.
        """
        if not n >= 1:
            raise StoreError(f"noise_ceiling of {n:g} trials: give the number that is averaged, 1 or more")
        if "ncsnr" not in self._array.coords:
            raise StoreError("noise_ceiling needs the coordinate ncsnr; take the voxels from a store that has it")
        signal = self._array["ncsnr"] ** 2
        ceiling = signal / (signal + 1 / n)
        return ceiling.rename("noise_ceiling").assign_attrs(
            long_name=f"noise ceiling of {n:g} trials (share of variance)", units="1"
        )

    def _grid(self) -> tuple[tuple[int, ...], NDArray[np.float64]]:
        """Shape and affine of the volume, which travel with the coordinate ``flat_index``."""
        array = self._array
        if "voxel" not in array.dims or "flat_index" not in array.coords:
            raise StoreError(f"{array.name or 'array'}: no voxel dimension with the coordinate flat_index; keep it")
        if "hemisphere" in array.coords:
            raise StoreError(f"{array.name or 'array'}: its voxels are vertices of a surface, which have no volume")
        known: dict[str, Any] = {**array.attrs, **array["flat_index"].attrs}
        if "shape" not in known or "affine" not in known:
            raise StoreError(f"{array.name or 'array'}: flat_index lacks its attributes shape and affine; keep them")
        return tuple(int(size) for size in known["shape"]), np.asarray(known["affine"], np.float64).reshape(4, 4)


def _group_means(values: NDArray[Any], *, order: NDArray[np.intp], counts: NDArray[np.intp]) -> NDArray[Any]:
    """Means over runs of the last axis once sorted by ``order``; ``counts`` are the lengths of the runs."""
    if not len(counts):
        return values
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    sums = np.add.reduceat(values[..., order], starts, axis=-1)
    return np.asarray(sums / counts.astype(values.dtype), values.dtype)
