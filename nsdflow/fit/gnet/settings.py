"""What decides the numbers of a training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from nsdflow.errors import ConfigError
from nsdflow.fit.gnet.inputs import PrefilterCache
from nsdflow.fit.gnet.loss import L1_PENALTY
from nsdflow.fit.precision import Precision

__all__ = ["TrainSettings"]


@dataclass(frozen=True)
class TrainSettings:
    """What decides the numbers of a training; defaults are the published ones.

    Parameters
    ----------
    protocol
        "published" (two steps a batch) or "strict" (one joint step). The split that goes with either is the caller's.
    seed, stream
        Random streams derive from both: trainings with other names in ``stream`` draw independently.
    shuffle
        Draw the order of batches each epoch; otherwise subject by subject, in trial order.
    train_encoder
        False fits readouts on a frozen encoder, one step a batch (the transfer experiment).
    frozen_encoder
        A frozen trunk in "train" mode has dropout, batch statistics and drifting running statistics, as the published
        transfer experiment had; "eval" is what one would expect.
    train_prefilter
        Train the prefilter along with the trunk (GNet8jft).
    prefilter_cache
        Keep the frozen prefilter's maps of all images on the device instead of the images: "full" in the precision of
        the encoder (560 kB for an image of 227 pixels), "half" in float16, which rounds them; "none" computes them
        once a batch. "auto": see :func:`nsdflow.fit.gnet.inputs.choose_cache`.
    precision
        See :mod:`nsdflow.fit.precision`.
    kernels
        How the trunk computes, and the readout between its matrix products: "plain", operation by operation;
        "compiled", by kernels of ``torch.compile`` (:mod:`nsdflow.models.compiled_trunk`,
        :mod:`nsdflow.models.compiled_readout`), the same but for rounding; "auto" is compiled on a GPU where that
        works, else plain.
    """

    protocol: Literal["published", "strict"] = "published"
    epochs: int = 50
    batch_size: int = 100
    learning_rate: float = 1e-3
    l1: float = L1_PENALTY
    seed: int = 0
    stream: tuple[str, ...] = ()
    shuffle: bool = True
    train_encoder: bool = True
    frozen_encoder: Literal["train", "eval"] = "train"
    train_prefilter: bool = False
    prefilter_cache: PrefilterCache = "auto"
    precision: Precision = "auto"
    kernels: Literal["auto", "plain", "compiled"] = "auto"

    def __post_init__(self) -> None:
        choices = {
            "protocol": ("published", "strict"),
            "frozen_encoder": ("train", "eval"),
            "prefilter_cache": get_args(PrefilterCache),
            "precision": get_args(Precision),
            "kernels": ("auto", "plain", "compiled"),
        }
        problems = [
            f"{name}: {getattr(self, name)!r} is not one of {', '.join(allowed)}"
            for name, allowed in choices.items()
            if getattr(self, name) not in allowed
        ]
        problems += [f"{name}: must be at least 1" for name in ("epochs", "batch_size") if getattr(self, name) < 1]
        if self.learning_rate <= 0:
            problems.append("learning_rate: must be above 0")
        if self.train_prefilter and not self.train_encoder:
            problems.append("train_prefilter: needs train_encoder")
        if self.train_prefilter and self.prefilter_cache in ("half", "full"):
            problems.append("prefilter_cache: a prefilter that is trained cannot be cached; write none")
        if problems:
            raise ConfigError("train", problems)
