"""A synthetic NSD with few of its optional files, for tests that are about none of them."""

from __future__ import annotations

from pathlib import Path

__all__ = ["keep_few_files"]

#: Atlases and maps that stay; a store of all has some sixty coordinates per subject, each of them a file.
KEPT = ("prf-visualrois", "Kastner2015", "nsdgeneral", "prf_eccentricity", "prf_size")
#: Volumes that ingestion reads for every store.
NEEDED = ("brainmask", "aseg", "T1_to_func1pt8mm", "valid_session")


def keep_few_files(nsd: Path, *others: str) -> Path:
    """Delete most atlases and maps of all subjects in func1pt8mm; those of ``others`` stay, too."""
    for folder in nsd.glob("nsddata/ppdata/*/func1pt8mm"):
        for path in (*folder.glob("*.nii.gz"), *folder.glob("roi/*.nii.gz")):
            name = path.name.removesuffix(".nii.gz").removeprefix("lh.").removeprefix("rh.")
            if name not in (*KEPT, *others) and not name.startswith(NEEDED):
                path.unlink()
    return nsd
