"""``nsdflow masks``: the voxel sets of every subject as NIfTI files, counted beside NSD's own brain mask."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import xarray as xr

from nsdflow.errors import MissingDataError, SelectionError
from nsdflow.names import DEFAULT_BETAS, DEFAULT_SPACE, parse_subjects
from nsdflow.nsd import layout
from nsdflow.nsd.formats.nifti import write_nifti
from nsdflow.nsd.inventory import take_inventory
from nsdflow.nsd.masks import VOXEL_SETS, voxel_set
from nsdflow.nsd.source import Source, open_source
from nsdflow.nsd.volumes import read_brainmask

__all__ = ["describe_counts", "write_masks"]


def write_masks(
    source: str | Source,
    folder: Path,
    *,
    subjects: str | Iterable[int | str] | None = None,
    space: str = DEFAULT_SPACE,
    betas: str = DEFAULT_BETAS,
    wrap: bool = True,
) -> xr.DataArray:
    """Write ``subj01_evc.nii.gz`` ... on the grid of NSD's own files, 1 inside and 0 outside.

    Parameters
    ----------
    source
        Where NSD is: a folder or an fsspec URL.
    folder
        Where the files go; made if it is not there.
    subjects
        All that are there if not given.
    wrap
        Whether the inflated set wraps around at the borders of the volume, as published.

    Returns
    -------
    (subject, set) number of voxels, also of the set ``brain``, NSD's own mask.

    Raises
    ------
    SelectionError
        If the space is a surface, or a subject is not there.
    MissingDataError
        If a file of the subject is not there.
    """
    if layout.is_surface(space):
        raise SelectionError(f"{space} is a surface and has no volumes; choose func1pt8mm or func1mm")
    origin = source if isinstance(source, Source) else open_source(source)
    asked = None if subjects is None else parse_subjects(subjects)
    names = [found.subject for found in take_inventory(origin, space=space, betas=betas, subjects=asked).subjects]
    counts = []
    for subject in names:
        brain = read_brainmask(origin, subject, space=space)
        if brain.affine is None:
            raise MissingDataError(f"{subject}: its brain mask has no affine; fetch it again")
        row = []
        for name in VOXEL_SETS:
            mask = voxel_set(origin, subject, name, space=space, shape=brain.values.shape, wrap=wrap)
            file = folder / f"{subject}_{name}.nii.gz"
            write_nifti(file, mask.astype(np.uint8), brain.affine, f"nsdflow voxel set {name}")
            row.append(int(mask.sum()))
        counts.append(row)
    return xr.DataArray(
        counts, dims=("subject", "set"), coords={"subject": names, "set": list(VOXEL_SETS)}, name="voxels"
    )


def describe_counts(counts: xr.DataArray) -> str:
    """A table: a row a subject, a column a set."""
    names = counts["set"].values.tolist()
    width = max(12, *map(len, names))
    rows = [("subject", *names)]
    rows += [(subject, *(f"{count:,}" for count in counts.sel(subject=subject).values.tolist()))
             for subject in counts["subject"].values.tolist()]  # fmt: skip
    lines = [row[0].ljust(10) + "".join(cell.rjust(width) for cell in row[1:]) for row in rows]
    return "\n".join([*lines, "brain is NSD's own brainmask"])
