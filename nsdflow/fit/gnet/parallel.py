"""Training over several processes, each with a part of every batch. The result is the same within rounding.

Each process runs :func:`nsdflow.fit.gnet.training.train` with the same arguments and its own :class:`Ranks`::

    with join_ranks(rank, size, "tcp://node1:29500", backend="nccl") as ranks:
        result = train(images, trials, encoder, readouts, settings=settings, device="cuda:0", ranks=ranks)

Processes sum the quantities of a whole batch: the moments of batch normalisation, the moments behind the voxel weights
of the loss, and the gradients. Every process draws the dropout masks of the whole batch and takes its rows.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal, cast

import torch
from torch import Tensor, distributed, nn

from nsdflow.errors import RunError
from nsdflow.models.gnet import NORM_MOMENTUM, ChannelDropout, ConvBlock

__all__ = ["Backend", "RankLost", "Ranks", "join_ranks", "share_batches"]

Backend = Literal["gloo", "nccl"]

#: Names of the loopback interface on Linux and on macOS.
LOOPBACK_INTERFACES: Final = ("lo", "lo0")
#: Environment variables that choose the interface of gloo and of NCCL.
INTERFACES: Final = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


class RankLost(RunError):
    """A process of the training exited or did not join. The others can join again from their checkpoint."""


@dataclass
class Ranks:
    """Processes that share each batch. This one is ``rank`` of ``size``. A single process does not communicate."""

    rank: int = 0
    size: int = 1
    trials: int = 0
    """Trials of the current batch over all processes."""

    @property
    def largest_part(self) -> int:
        """Trials of the current batch in the process with the largest part."""
        return -(-self.trials // self.size)

    def part(self, count: int) -> slice:
        """Return the slice of ``count`` items for this process. Part sizes differ by at most one."""
        edges = [count * rank // self.size for rank in (self.rank, self.rank + 1)]
        return slice(*edges)

    def sum(self, x: Tensor) -> Tensor:
        """Sum a tensor over the processes, in place.

        Raises
        ------
        RankLost
            A process exited. With nccl, this process may be terminated instead after the timeout.
        """
        if self.size > 1:
            try:
                distributed.all_reduce(x)
            except RuntimeError as error:
                raise RankLost(f"process {self.rank} of {self.size} lost another ({_first_line(error)})") from error
        return x

    def mean(self, x: Tensor, dim: int) -> Tensor:
        """Average over the trials of the current batch along ``dim``, which is kept with length 1."""
        if self.size == 1:
            return x.mean(dim, keepdim=True)
        return self.sum(x.sum(dim, keepdim=True)) / self.trials

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum all gradients over the processes in one message."""
        if self.size > 1:
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            total = self.sum(torch.cat([gradient.flatten() for gradient in gradients]))
            for gradient, part in zip(gradients, total.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(part.view_as(gradient))

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether ``flag`` is True in any process."""
        return flag if self.size == 1 else bool(self.sum(torch.tensor(float(flag), device=device)))


@contextmanager
def join_ranks(
    rank: int, size: int, address: str, *, backend: Backend = "gloo", timeout: float = 600.0
) -> Iterator[Ranks]:
    """Join ``size`` processes.

    Parameters
    ----------
    rank, size : int
        Number of this process, and of all.
    address : str
        ``file://`` and a path, for processes on one machine: every socket is on its loopback interface. Otherwise
        ``tcp://host:port`` of the first process; torch listens on all interfaces then, without encryption.
    backend : {"gloo", "nccl"}
        For processes on CPUs, on GPUs.
    timeout : float
        Seconds.

    Raises
    ------
    RankLost
        Not all processes joined within ``timeout`` seconds.
    """
    with _loopback() if address.startswith("file://") else nullcontext():
        try:
            distributed.init_process_group(
                backend, init_method=address, rank=rank, world_size=size, timeout=timedelta(seconds=timeout)
            )
        except (RuntimeError, ValueError) as error:  # errors of torch are subclasses of RuntimeError
            raise RankLost(
                f"{address}: process {rank} of {size} did not meet the others ({_first_line(error)})"
            ) from error
        try:
            yield Ranks(rank, size)
        finally:
            distributed.destroy_process_group()


@contextmanager
def _loopback() -> Iterator[None]:
    """Have gloo and NCCL use the loopback interface, unless the user named another one."""
    found = [name for _, name in socket.if_nameindex() if name in LOOPBACK_INTERFACES]
    ours = [variable for variable in INTERFACES if found and variable not in os.environ]
    os.environ.update(dict.fromkeys(ours, "".join(found[:1])))
    try:
        yield
    finally:
        for variable in ours:
            os.environ.pop(variable, None)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def share_batches(encoder: nn.Module, ranks: Ranks) -> None:
    """Make the normalisation and dropout of the encoder act on whole batches. With one process, nothing changes."""
    if ranks.size == 1:
        return
    for block in encoder.modules():
        if isinstance(block, ConvBlock):
            block.norm = _SharedNorm(block.norm, ranks)
            block.dropout = _SharedDropout(block.dropout, ranks)


class _SharedDropout(ChannelDropout):
    """Channel dropout that draws the masks of the whole batch and takes the rows of this process."""

    def __init__(self, own: ChannelDropout, ranks: Ranks) -> None:
        super().__init__(own.share, own.channels)
        self.ranks = ranks
        self.train(own.training)

    def _factors(self, images: int, like: Tensor, generator: torch.Generator | None) -> Tensor:
        return super()._factors(self.ranks.trials, like, generator)[self.ranks.part(self.ranks.trials)]


class _SharedNorm(nn.BatchNorm2d):
    """Batch normalisation with the moments of the whole batch. Parameter names are unchanged."""

    def __init__(self, own: nn.BatchNorm2d, ranks: Ranks) -> None:
        super().__init__(own.num_features, eps=own.eps, momentum=NORM_MOMENTUM)
        self.to(own.weight)
        self.load_state_dict(own.state_dict())
        self.ranks = ranks
        self.train(own.training)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        count = self.ranks.trials * x.shape[2] * x.shape[3]
        mean = _SumOverProcesses.apply(x.sum((0, 2, 3)), self.ranks)[:, None, None] / count
        variance = _SumOverProcesses.apply((x - mean).square().sum((0, 2, 3)), self.ranks)[:, None, None] / count
        with torch.no_grad():
            cast(Tensor, self.num_batches_tracked).add_(1)
            cast(Tensor, self.running_mean).lerp_(mean.flatten(), NORM_MOMENTUM)
            cast(Tensor, self.running_var).lerp_(variance.flatten() * (count / (count - 1)), NORM_MOMENTUM)
        scale = self.weight[:, None, None] * torch.rsqrt(variance + self.eps)
        shifted: Tensor = (x - mean) * scale + self.bias[:, None, None]
        return shifted


class _SumOverProcesses(torch.autograd.Function):
    """Sum over processes. The gradient is the sum of the gradients of all processes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        return ranks.sum(x.clone())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.ranks.sum(grad.clone()), None
