"""``nsdflow masks``: the voxel sets of every subject as NIfTI files, with counts compared with NSD's brain mask."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import xarray as xr

from nsdflow.errors import MissingDataError, SelectionError
from nsdflow.io.paths import normalize
from nsdflow.names import DEFAULT_BETAS, DEFAULT_SPACE, parse_subjects
from nsdflow.nsd import layout
from nsdflow.nsd.formats.nifti import write_nifti
from nsdflow.nsd.inventory import take_inventory
from nsdflow.nsd.source import Source, open_source
from nsdflow.nsd.voxels.masks import VOXEL_SETS, voxel_set
from nsdflow.nsd.voxels.volumes import read_brainmask

__all__ = ["describe_counts", "write_masks"]


def write_masks(
    source: str | Source,
    folder: Path,
    *,
    subjects: str | Iterable[int | str] | None = None,
    space: str = DEFAULT_SPACE,
    wrap: bool = True,
) -> xr.DataArray:
    """Write ``subj01_evc.nii.gz`` ... on the grid of NSD's own files, 1 inside and 0 outside.

    Parameters
    ----------
    source : str or Source
        Where NSD is: a folder or an fsspec URL.
    folder : Path
        Folder for the files; created if it does not exist.
    subjects : optional
        ``"1,2"``, ``[1, 2]`` or names; all subjects by default.
    space : str
        Space of the volumes; subjects are found by their betas of the usual version.
    wrap : bool
        Whether the inflated set wraps around at the borders of the volume, as published.

    Returns
    -------
    xarray.DataArray
        Number of voxels (subject, set), also of the set ``brain``, NSD's own mask.

    Raises
    ------
    SelectionError
        The space has no volumes of atlases, or a subject does not exist.
    MissingDataError
        A file of the subject does not exist.
    """
    if layout.is_surface(space) or layout.atlas_folder("subj01", space) is None:
        raise SelectionError(f"{space} has no volumes of atlases; choose func1pt8mm or func1mm")
    origin = source if isinstance(source, Source) else open_source(source)
    asked = None if subjects is None else parse_subjects(subjects)
    inventory = take_inventory(origin, space=space, betas=DEFAULT_BETAS, subjects=asked)
    names = [found.subject for found in inventory.subjects]
    counts = []
    for subject in names:
        brain = read_brainmask(origin, subject, space=space)
        if brain.affine is None:
            raise MissingDataError(f"{subject}: its brain mask has no affine; copy the published file")
        row = []
        for name in VOXEL_SETS:
            mask = voxel_set(origin, subject, name, space=space, shape=brain.values.shape, wrap=wrap)
            file = Path(normalize(folder)) / f"{subject}_{name}.nii.gz"
            write_nifti(file, mask.astype(np.uint8), brain.affine, f"nsdflow voxel set {name}")
            row.append(int(mask.sum()))
        counts.append(row)
    return xr.DataArray(
        counts, dims=("subject", "set"), coords={"subject": names, "set": list(VOXEL_SETS)}, name="voxels"
    )


def describe_counts(counts: xr.DataArray) -> str:
    """A table with one row per subject and one column per set."""
    names = counts["set"].values.tolist()
    width = max(12, *map(len, names))
    rows = [("subject", *names)]
    rows += [(subject, *(f"{count:,}" for count in counts.sel(subject=subject).values.tolist()))
             for subject in counts["subject"].values.tolist()]  # fmt: skip
    lines = [row[0].ljust(10) + "".join(cell.rjust(width) for cell in row[1:]) for row in rows]
    return "\n".join([*lines, "brain is NSD's own brainmask"])
