"""The mean that GNet subtracts from its input, over the images that the protocol selects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from nsdflow.fit.protocols import PROTOCOLS
from nsdflow.fit.statistics import channel_mean, channel_sums
from nsdflow.pipelines.common.data import chosen_sessions, listed_images, load_images

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from nsdflow.pipelines.common.data import ImageList
    from nsdflow.pipelines.gnet.settings import GNetPipeline
    from nsdflow.pipelines.gnet.training import TrainingData
    from nsdflow.store import Store

__all__ = ["JOINT", "InputMean", "choose_input_mean", "image_sums", "list_mean"]

#: The single group of a model that is trained on all its voxels jointly.
JOINT: Final = "joint"
#: Number of images in memory at once, besides those of the training.
LOADED_IMAGES: Final = 512


@dataclass(frozen=True)
class InputMean:
    """The input mean of one trunk."""

    value: Tensor
    """(3,) float64, mean of image / 255 by channel"""
    over: str
    """Description of the images that the mean is computed over."""

    def attributes(self) -> dict[str, Any]:
        """Attributes of the run's results."""
        return {"input_mean": self.value.tolist(), "input_mean_over": self.over}


def choose_input_mean(config: GNetPipeline, store: Store, data: TrainingData, group: str) -> InputMean:
    """Compute the input mean of one trunk, by protocol.

    The published mean is over the images of each subject's list (GNet8j: all images; GNet8r: all but the shared ones),
    then over subjects. If the store lacks images of a list, the images that the subject's trials show replace it. The
    strict mean is over the images of training trials without the holdout.

    Parameters
    ----------
    data : TrainingData
        Images that are in memory already.
    group : str
        ROI group of the trunk, or :data:`JOINT`.
    """
    if PROTOCOLS[config.protocol].training_only:
        mean = channel_mean(channel_sums(data.images), data.image_rows(training_only=True), data.images[0, 0].numel())
        return InputMean(mean, "images of training trials, without the holdout")
    names = [subject.subject for subject in data.subjects]
    lists = [listed_images(store, name, chosen_sessions(config, store, name)) for name in names]
    wanted = np.unique(np.concatenate([one.nsd_id for one in lists]))
    sums = image_sums(store, wanted, data)
    kind = "all images" if group == JOINT else "all images but the shared ones"
    seen = "" if all(one.complete for one in lists) else " that its trials show (the store lacks the others)"
    return InputMean(
        list_mean(sums, wanted, lists, data.images[0, 0].numel(), own_only=group != JOINT),
        f"{kind} of each subject's list{seen}, then over subjects",
    )


def list_mean(
    sums: Tensor, wanted: NDArray[np.int64], lists: Sequence[ImageList], pixels: int, *, own_only: bool
) -> Tensor:
    """Compute the published mean (3,), over the images of each list and then over the lists.

    Parameters
    ----------
    sums : Tensor
        (image, 3) pixel sums.
    wanted : array of int
        (image,) ``nsd_id`` of their images, ascending.
    lists : sequence of ImageList
        Lists of the subjects.
    pixels : int
        Pixels per image.
    own_only : bool
        Whether to leave the shared images out.
    """
    ids = [one.nsd_id[~one.shared] if own_only else one.nsd_id for one in lists]
    return channel_mean(sums, [torch.from_numpy(np.searchsorted(wanted, one)) for one in ids], pixels)


def image_sums(store: Store, wanted: NDArray[np.int64], data: TrainingData | None = None) -> Tensor:
    """Sum the pixels (image, 3) of each channel; images that are not in ``data`` are read block by block."""
    sums = torch.zeros(len(wanted), 3, dtype=torch.int64)
    known = np.zeros(len(wanted), bool)
    if data is not None:
        position = np.searchsorted(data.nsd_ids, wanted)
        known = data.nsd_ids[np.minimum(position, len(data.nsd_ids) - 1)] == wanted
        sums[known] = channel_sums(data.images, torch.from_numpy(position[known]))
    others = np.flatnonzero(~known)
    for start in range(0, len(others), LOADED_IMAGES):
        block = others[start : start + LOADED_IMAGES]
        sums[block] = channel_sums(torch.from_numpy(load_images(store, wanted[block])))
    return sums
