"""``nsdflow export``: a run's voxel maps as files that other programs read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from nsdflow.errors import StoreError
from nsdflow.runs import open_run

__all__ = ["EXPORTERS", "export_nifti"]


def export_nifti(run: str, folder: Path) -> list[Path]:
    """One NIfTI file a subject and variable with one number a voxel, such as ``subj01_accuracy.nii.gz``.

    Raises
    ------
    StoreError
        If the run has no such variable.
    """
    paths = []
    folder.mkdir(parents=True, exist_ok=True)
    for subject, node in open_run(run).children.items():
        for name, variable in node.dataset.data_vars.items():
            if variable.dims != ("voxel",) or variable.dtype.kind not in "fiu":
                continue
            path = folder / f"{subject}_{name}.nii.gz"
            variable.assign_attrs({**node.attrs, **variable.attrs}).nsd.to_nifti(path)
            paths.append(path)
    if not paths:
        raise StoreError(f"{run}: no variable has one number a voxel; there is nothing to export")
    return paths


#: What ``--to`` accepts.
EXPORTERS: Mapping[str, Callable[[str, Path], list[Path]]] = {"nifti": export_nifti}
