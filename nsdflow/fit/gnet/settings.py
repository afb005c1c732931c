"""Settings of a training that affect its results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from nsdflow.errors import ConfigError
from nsdflow.fit.gnet.inputs import PrefilterCache
from nsdflow.fit.gnet.loss import L1_PENALTY
from nsdflow.fit.precision import Precision
from nsdflow.fit.protocols import PROTOCOLS

__all__ = ["TrainSettings"]


@dataclass(frozen=True)
class TrainSettings:
    """Settings of a training that affect its results. The defaults are the published values.

    Parameters
    ----------
    protocol : str
        A key of :data:`nsdflow.fit.protocols.PROTOCOLS`. Steps per batch: two in turn (published) or one joint step
        (strict). The caller provides the matching split.
    epochs : int
        Number of epochs, at least 1.
    batch_size : int
        Number of trials per batch, at least 1.
    learning_rate : float
        Learning rate of the optimizer, above 0.
    l1 : float
        Penalty on the sum of absolute readout weights.
    seed : int
        Seed of all random streams.
    stream : tuple of str
        Names added to all random streams. Trainings with different names draw independently.
    shuffle : bool
        Draw a random order of batches each epoch. If False, batches run subject by subject, in trial order.
    train_encoder : bool
        Train the encoder and the readouts. If False, only the readouts are trained, on a frozen encoder, with one step
        per batch (the transfer experiment).
    frozen_encoder : {"train", "eval"}
        Mode of a frozen encoder. In "train" mode, the trunk applies dropout, uses batch statistics and updates its
        running statistics, as in the published transfer experiment. In "eval" mode, it applies no dropout and uses
        fixed running statistics.
    train_prefilter : bool
        Train the prefilter together with the trunk (GNet8jft).
    prefilter_cache : {"auto", "none", "half", "full"}
        Keep the maps of the frozen prefilter on the device instead of the images. "full" keeps them in the dtype of
        the encoder (560 kB per image of 227 x 227 pixels in float32). "half" rounds them to float16. "none" computes
        them for each batch. For "auto", see :func:`nsdflow.fit.gnet.inputs.choose_cache`.
    precision : {"auto", "float32", "tf32", "bfloat16"}
        Arithmetic precision, see :mod:`nsdflow.fit.precision`.
    kernels : {"auto", "plain", "compiled"}
        Kernels of the trunk, and of the readout between its matrix products. "plain" runs operation by operation.
        "compiled" uses ``torch.compile`` (:mod:`nsdflow.models.compiled_trunk`,
        :mod:`nsdflow.models.compiled_readout`), with the same results up to rounding. "auto" is compiled on a GPU if
        compilation works, else plain.
    """

    protocol: str = "published"
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
            "protocol": tuple(PROTOCOLS),
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
