"""Names that an atlas may have: unused in stores and results, and readable by every tool."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from nsdflow.labels import VARIABLE_LABELS
from nsdflow.names import ROI_GROUPS, ROI_LABELS, atlas_coordinate
from nsdflow.nsd.design import BEHAVIOUR
from nsdflow.nsd.voxels.maps import MAPS

__all__ = ["RESERVED", "atlas_trouble"]

#: Names of dimensions, coordinates, arrays and files of a store, and of variables of results, which share coordinates.
RESERVED: Final = frozenset(
    {
        *("trial", "voxel", "image", "channel", "y", "x", "category", "caption", "instance", "edge"),
        *("session", "run", "trial_in_session", "nsd_id", "subject_image", "repetition", "shared", "coco_id"),
        *("listed_by", "flat_index", "i", "j", "k", "hemisphere", "ncsnr", "roi", *MAPS),
        *(name.lower() for name, _, _ in BEHAVIOUR),
        *("betas", "beta_mean", "beta_std", "valid", "saturated", "images", "zarr.json", "c"),
        *VARIABLE_LABELS,
        *("accuracy_std", "subject_holdout_accuracy", "parameter", "layer", "best_layer"),
        # sister experiments: their groups, and coordinates that join those of the voxels
        *("synthetic", "imagery", "stimuli", "condition", "target", "image_class", "task", "event"),
        *("epoch", "subject", "part", "candidate", "band", "feature", "file", "group", "history", "tuning"),
    }
)
#: Regions that a query knows by these names already.
REGIONS: Final = frozenset({*ROI_GROUPS, *ROI_LABELS.values(), "visual", "evc", "tight", "inflated", "brain"})
#: Lists of coordinates are separated by blanks, labels follow a colon, and paths have slashes.
NAME: Final = re.compile(r"(?!__)\w[\w.+-]*")


def atlas_trouble(atlas: str, others: Iterable[str] = ()) -> str | None:
    """Why an atlas cannot be a coordinate of a store; None if it can.

    Parameters
    ----------
    atlas : str
        Name of the file, without ``.nii.gz``.
    others : iterable of str
        Atlases that are coordinates already.

    Examples
    --------
    >>> atlas_trouble("floc-faces"), atlas_trouble("RT")
    (None, 'the atlas has the name of a coordinate of the store')
    """
    name = atlas_coordinate(atlas)
    if not NAME.fullmatch(name):
        return "the name of the atlas has other characters than letters, digits, - _ . +"
    # some file systems ignore case
    if name.casefold() in {reserved.casefold() for reserved in RESERVED}:
        return "the atlas has the name of a coordinate of the store"
    if name.casefold() in {region.casefold() for region in REGIONS}:
        return "the atlas has the name of a region that is known already"
    for other in others:
        if atlas_coordinate(other).casefold() == name.casefold():
            return f"the atlas would become the same coordinate as {other}"
    return None
