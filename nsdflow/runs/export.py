"""``nsdflow export``: the voxel maps of a run as files for other programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from zipfile import ZipFile

import numpy as np

from nsdflow.errors import SelectionError, StoreError, one_of
from nsdflow.io.paths import normalize
from nsdflow.io.reach import writing
from nsdflow.io.write import aside
from nsdflow.nsd.spaces import LAYERS, grid_named
from nsdflow.runs import open_run
from nsdflow.runs.weights import weights_of
from nsdflow.store.surface.files import write_surfaces

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["EXPORT_FORMATS", "ExportFormat", "export_maps"]

#: Values that are read at once.
EXPORT_BLOCK_BYTES = 1 << 27


@dataclass(frozen=True)
class ExportFormat:
    """A format of files.

    Attributes
    ----------
    ending : str
        Ending of the file name.
    surface : bool or None
        True if it holds vertices, False if it holds volumes, None if it holds either.
    write : callable
        Writes one map to a path; returns the files written.
    whole : bool
        Whether it holds arrays with further dimensions beside the voxels, such as weights.
    geometry : callable or None
        Writes the surfaces on which the maps lie: (map, folder, prefix, source) to the files written.
    """

    ending: str
    surface: bool | None
    write: Callable[[xr.DataArray, Path], list[Path]]
    whole: bool = False
    geometry: Callable[[xr.DataArray, Path, str, str | None], list[Path]] | None = None


def _write_npz(array: xr.DataArray, path: Path) -> list[Path]:
    """Write the values of an array, its dimensions and its coordinates, for programs that read NumPy files.

    Values are read and written by blocks along the last dimension, in Fortran order: weights may exceed the memory.
    """
    columns = {str(name): one.values for name, one in array.coords.items() if len(one.dims) == 1}
    columns["dims"] = np.array(array.dims)
    with aside(path.absolute(), ending=".npz") as temporary, ZipFile(temporary, "w") as file:
        for name, values in columns.items():
            with file.open(f"{name}.npy", "w", force_zip64=True) as member:
                plain = values.astype(str) if values.dtype.kind == "O" else values
                np.lib.format.write_array(member, plain, allow_pickle=False)
        with file.open("values.npy", "w", force_zip64=True) as member:
            header = {"descr": array.dtype.str, "fortran_order": True, "shape": array.shape}
            np.lib.format.write_array_header_1_0(member, header)
            step = max(1, EXPORT_BLOCK_BYTES * array.shape[-1] // max(1, array.nbytes))
            for start in range(0, array.shape[-1], step):
                member.write(array[..., start : start + step].values.tobytes(order="F"))
    return [path]


#: The formats that ``--to`` accepts. A new format is one record.
EXPORT_FORMATS: Final[Mapping[str, ExportFormat]] = {
    "nifti": ExportFormat(".nii.gz", False, lambda array, path: [array.nsd.to_nifti(path)]),
    "gifti": ExportFormat(".func.gii", True, lambda array, path: [*array.nsd.to_gifti(path)], geometry=write_surfaces),
    "npz": ExportFormat(".npz", None, _write_npz, whole=True),
    "mgz": ExportFormat(".mgz", True, lambda array, path: [*array.nsd.to_mgz(path)]),
}


def export_maps(
    run: str,
    folder: Path,
    to: str = "nifti",
    *,
    space: str | None = None,
    layers: str = "mean",
    method: str | None = None,
    missing: str = "ignore",
    source: str | None = None,
) -> list[Path]:
    """Write one file (or one per hemisphere) per subject and variable with one value per voxel, and the visual ROIs.

    Files of NumPy also hold variables with further dimensions, and the weights (voxel, feature) that a linear run keeps
    in ``weights.zarr`` by layer, as long as no other space is asked for.

    Parameters
    ----------
    run : str
        A finished run.
    folder : Path
        Folder for files such as ``subj01_accuracy.nii.gz`` or ``hemi-L_subj01_accuracy.func.gii``.
    to : str
        A key of `EXPORT_FORMATS`.
    space : str, optional
        Space of the files; by default the run's own, or fsaverage where a format of surfaces meets a volume.
    layers, method, missing : str
        As in ``DataArray.nsd.to_space``; by default "linear" for values, "wta" for labels.
    source : str, optional
        NSD; by default the one from which the store was made.

    Raises
    ------
    SelectionError
        Unknown format or space, or a format that cannot hold the space.
    StoreError
        The run has no such variable, or the folder cannot be written.
    """
    if to not in EXPORT_FORMATS:
        raise one_of("export format", to, EXPORT_FORMATS)
    form = EXPORT_FORMATS[to]
    if space is not None and form.surface is not None and _is_surface(space) != form.surface:
        fitting = [name for name, other in EXPORT_FORMATS.items() if other.surface != form.surface]
        raise SelectionError(f"{to} files cannot hold {space}; write --to {' or '.join(fitting)}, or another --space")
    results, folder = open_run(run), Path(normalize(folder))
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for subject, node in results.children.items():
        maps = list(_voxel_maps(run, subject, node, whole=form.whole and space is None))
        for array in maps:
            target = space or ("fsaverage" if form.surface and "hemisphere" not in array.coords else None)
            mapped = array
            if target is not None and target != array.attrs.get("space"):
                how = method or ("wta" if "flag_values" in array.attrs else "linear")
                mapped = array.nsd.to_space(target, layers=layers, method=how, missing=missing, source=source)
            paths += form.write(mapped, folder / f"{subject}_{array.name}{form.ending}")
        if maps and form.surface is not None and "roi" in mapped.coords:
            paths += form.write(_regions(mapped), folder / f"{subject}_roi{form.ending}")
        if maps and form.geometry is not None:
            paths += form.geometry(mapped, folder, subject, source)
    if not paths:
        raise StoreError(f"{run}: no variable has one value per voxel; there is nothing to export")
    return paths


def _regions(array: xr.DataArray) -> xr.DataArray:
    """Labels of the joined visual ROI, which a map takes from the nearest voxel."""
    place = {name: array.attrs[name] for name in ("subject", "space", "source") if name in array.attrs}
    return array["roi"].assign_attrs({**place, **array["roi"].attrs})


def _is_surface(space: str) -> bool:
    """Whether a space, or a surface of a subject, has vertices."""
    return space in LAYERS or not grid_named(space).is_volume


def _voxel_maps(run: str, subject: str, node: xr.DataTree, *, whole: bool) -> Iterator[xr.DataArray]:
    """Variables with one value per voxel, with the attributes of the subject; all variables with voxels if whole."""
    further = weights_of(normalize(run).rstrip("/"), subject, node.to_dataset()) if whole else ()
    for variable in (*node.dataset.data_vars.values(), *further):
        by_voxel = "voxel" in variable.dims if whole else variable.dims == ("voxel",)
        if by_voxel and variable.dtype.kind in "fiu":
            yield variable.assign_attrs({**node.attrs, **variable.attrs})
