"""NIfTI files on NSD's grid; a file appears when it is complete."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib

from nsdflow.io.write import aside

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["write_nifti"]


def write_nifti(path: Path, values: NDArray[Any], affine: NDArray[np.floating[Any]], description: str) -> None:
    """Write ``values`` (i, j, k) or (i, j, k, n) in their dtype; ``affine`` takes (i, j, k) to mm of the scanner.

    Raises
    ------
    StoreError
        As :func:`nsdflow.io.reach.writing` says.
    """
    image = nib.Nifti1Image(values, affine)
    image.header.set_sform(affine, code="scanner")
    image.header.set_qform(affine, code="scanner")
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = description.encode()[:79]
    with aside(path, ending=".nii.gz" if path.name.endswith(".gz") else path.suffix) as temporary:
        nib.save(image, temporary)
