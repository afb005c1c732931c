"""One training step of GNet: the published one, written plainly from its specification, against nsdflow's.

Both run in this process on the same data, from the same weights. Without arguments: 2,000 voxels and batches of 50 on
two CPU threads. ``--full`` adds an epoch of the true size (8 subjects, 29,597 voxels, 172,692 training trials,
synthetic data) on a GPU. The last line is one JSON object.

Memory is the peak of what torch allocates during a step, from torch's own allocation records, without the weights,
images and optimizer states that both need. On a GPU, it comes from the allocator's statistics.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from nsdflow.fit.gnet import TrainSettings, Trials, train
from nsdflow.fit.gnet.loss import backpropagate
from nsdflow.fit.gnet.step import TrainingModules, TrialBatch, build_modules, choose_step
from nsdflow.fit.precision import Precision
from nsdflow.models.gabor_prefilter import gabor_prefilter_weights
from nsdflow.models.gnet import Encoder, Prefilter, Readout, level_shapes

IMAGE_SIZE = 227
PENALTY = float(np.float32(0.1))  # the published program holds it in float32
PUBLISHED_VOXELS = (4627, 3765, 3778, 3027, 3685, 4024, 3201, 3490)
#: Training trials per subject, the last tenth of which is holdout: 172,692 and 19,190 over all subjects.
PUBLISHED_TRIALS = (27000, 27000, 21647, 20294, 27000, 21647, 27000, 20294)
PUBLISHED_SECONDS = 201.6  # an epoch on one A100 40 GB
#: peak of matrix products in TF32 (operations per second, dense) and of memory (bytes per second), from the data sheets
PEAKS = {"H100": (494.7e12, 3.35e12), "H200": (494.7e12, 4.8e12), "A100": (156e12, 1.555e12)}


# ---- (a) the published step, plainly -------------------------------------------------------------------------------


def f(x: Tensor) -> Tensor:
    return torch.log(1 + torch.abs(x)) * torch.tanh(x)


class PlainBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, padding: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs, momentum=0.25)
        self.drop = nn.Dropout2d(dropout)
        self.conv = nn.Conv2d(inputs, outputs, kernel_size=3, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(self.drop(self.norm(x))))


class PlainEncoder(nn.Module):
    def __init__(self, t: int, dropout: float) -> None:
        super().__init__()
        self.t = t
        self.conv1 = nn.Conv2d(3, 64, kernel_size=11, stride=4, padding=2)
        self.conv2 = nn.Conv2d(64, 192, kernel_size=5, padding=2)
        self.register_buffer("mean", torch.zeros(1, 3, 1, 1))
        sizes = {"c3": (192, 128), "c4a": (128, 2 * t), "c4b": (2 * t, 2 * t), "c5a": (2 * t, 2 * t)}
        sizes |= {"c5b": (2 * t, 2 * t), "c6a": (2 * t, 2 * t), "c6b": (2 * t, t)}
        for name, (inputs, outputs) in sizes.items():
            setattr(self, name, PlainBlock(inputs, outputs, 0 if name == "c3" else 1, dropout))

    def forward(self, images: Tensor) -> list[Tensor]:
        with torch.no_grad():
            x = torch.relu(self.conv1(images - self.mean))
            x = functional.max_pool2d(x, kernel_size=3, stride=2)
            x = torch.relu(self.conv2(x))
        c3 = self.c3(x)
        c4a = self.c4a(c3)
        c4b = self.c4b(c4a)
        c5a = self.c5a(functional.max_pool2d(c4b, kernel_size=3, stride=2, padding=1))
        c5b = self.c5b(c5a)
        c6a = self.c6a(c5b)
        c6b = self.c6b(c6a)
        t = self.t
        return [torch.cat([c3, c4a[:, :t], c4b[:, :t]], 1), torch.cat([c5a[:, :t], c5b[:, :t], c6a[:, :t], c6b], 1)]


class PlainReadout(nn.Module):
    def __init__(self, voxels: int, pixels: list[int], features: int) -> None:
        super().__init__()
        self.logits = nn.ParameterList(torch.ones(voxels, n) for n in pixels)
        self.w = nn.Parameter(torch.zeros(voxels, features))
        self.b = nn.Parameter(torch.zeros(voxels))

    def forward(self, levels: list[Tensor]) -> Tensor:
        pooled = [
            torch.tensordot(torch.softmax(logits, dim=1), f(level).flatten(2), dims=([1], [2]))
            for logits, level in zip(self.logits, levels, strict=True)
        ]
        phi = f(torch.cat(pooled, dim=2))  # (voxel, image, feature)
        return torch.bmm(phi, self.w[:, :, None]).squeeze(2).T + self.b


def plain_loss(r: Tensor, v: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    err = ((r - v) ** 2).sum(0)
    rc, vc = r - r.mean(0), v - v.mean(0)
    weight = torch.clip((rc * vc).mean(0) ** 2 / ((rc**2).mean(0) * (vc**2).mean(0) + 1e-6), 0.1, 1).detach()
    return (weight * err).sum() / weight.mean() + PENALTY * w.abs().sum(), err


class Plain:
    """Both passes in full, as specified: all gradients each time, the prefilter twice, phi in memory."""

    def __init__(self, encoder: Encoder, readout: Readout, dropout: float) -> None:
        trunk = encoder.trunk
        self.encoder = PlainEncoder(trunk.width, dropout).to(readout.bias)
        self.encoder.load_state_dict(encoder.prefilter.state_dict() | trunk.state_dict())
        self.readout = PlainReadout(
            len(readout.bias), [p[0].numel() for p in readout.pooling_logits], readout.weights.shape[1]
        ).to(readout.bias)
        with torch.no_grad():
            self.readout.w.copy_(readout.weights)
            self.readout.b.copy_(readout.bias)
        trained = [p for name, p in self.encoder.named_parameters() if not name.startswith("conv")]
        self.trunk_optimizer = torch.optim.Adam(trained, lr=1e-3)
        self.readout_optimizer = torch.optim.Adam(self.readout.parameters(), lr=1e-3)

    def step(self, images: Tensor, responses: Tensor) -> Tensor:
        for optimizer in (self.trunk_optimizer, self.readout_optimizer):
            optimizer.zero_grad()
            inputs = images.to(responses.dtype) / 255
            loss, err = plain_loss(self.readout(self.encoder(inputs)), responses, self.readout.w)
            loss.backward()
            optimizer.step()
        return err.detach()


# ---- (b) nsdflow's, and the two against each other ------------------------------------------------------------------


def build(voxels: int, *, width: int, dropout: float, dtype: torch.dtype) -> tuple[Encoder, Readout]:
    generator = torch.Generator().manual_seed(0)
    prefilter = Prefilter(gabor_prefilter_weights(0), mean=(0.45, 0.44, 0.4))
    encoder = Encoder(prefilter, width, dropout=dropout, generator=generator)
    shapes = level_shapes(encoder, torch.zeros(1, 3, IMAGE_SIZE, IMAGE_SIZE, dtype=torch.uint8))
    return encoder.to(dtype), Readout(voxels, shapes, generator=generator).to(dtype)


def draw(images: int, voxels: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (images, 3, IMAGE_SIZE, IMAGE_SIZE), dtype=torch.uint8, generator=generator)
    return pixels, torch.randn(images, voxels, generator=generator, dtype=dtype)


def network_of(encoder: Encoder, readout: Readout, settings: TrainSettings) -> TrainingModules:
    readouts = {"subj01": copy.deepcopy(readout)}
    return build_modules(copy.deepcopy(encoder), readouts, settings, torch.device("cpu"))


def same_result() -> float:
    """Largest difference, relative to the largest value, of all parameters after two steps: float64, no dropout."""
    encoder, readout = build(30, width=8, dropout=0.0, dtype=torch.float64)
    images, responses = draw(6, 30, torch.float64)
    plain, settings = Plain(encoder, readout, dropout=0.0), TrainSettings()
    network = network_of(encoder, readout, settings)
    for _ in range(2):
        plain.step(images, responses)
        choose_step(settings)(network, TrialBatch("subj01", images, responses, torch.Generator()), settings)
    ours = network.readouts["subj01"]
    pairs = [(plain.readout.w, ours.weights), (plain.readout.b, ours.bias)]
    pairs += zip(plain.readout.logits, (p.flatten(1) for p in ours.pooling_logits), strict=True)
    theirs = plain.encoder.state_dict()
    pairs += [(theirs[name], value) for name, value in network.encoder.trunk.state_dict().items()]
    with torch.no_grad():
        return max(float((a - b).abs().max() / b.abs().max().clip(1e-300)) for a, b in pairs)


def seconds(steps: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Shortest of ``repeats`` for each candidate, in turn, after one call of each to warm up."""
    best = dict.fromkeys(steps, math.inf)
    for repeat in range(repeats + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if repeat > 0:
                best[name] = min(best[name], time.perf_counter() - start)
    return best


def peak_bytes(step: Callable[[], object]) -> int:
    """Most bytes that torch had allocated at once during ``step``, over what it held before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as records:
        step()
    held = peak = 0
    for event in records.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def phases(network: TrainingModules, images: Tensor, responses: Tensor, repeats: int) -> dict[str, float]:
    """Seconds of the parts of our step."""
    encoder, readout = network.encoder, network.readouts["subj01"]
    assert isinstance(encoder, Encoder)
    trunk, generator, maps = encoder.trunk, torch.Generator(), encoder.prefilter(images)
    levels = trunk(maps, generator)
    leaves = [level.detach().requires_grad_() for level in levels]
    gradients = [torch.randn_like(level) for level in levels]

    def forward() -> object:
        with torch.no_grad():
            return trunk(maps, generator)

    def backward() -> None:
        torch.autograd.backward(levels, gradients, retain_graph=True)

    def into(encoder: bool) -> object:
        return backpropagate(readout, leaves, responses, into_encoder=encoder, into_readout=not encoder)

    parts: dict[str, Callable[[], object]] = {
        "prefilter (once)": lambda: encoder.prefilter(images),
        "trunk forward (twice)": forward,
        "readout, gradient of the maps": lambda: into(True),
        "trunk backward": backward,
        "readout, gradient of its parameters": lambda: into(False),
    }
    return seconds(parts, repeats)


def product_rate(repeats: int, size: int = 2048) -> float:
    """Operations per second of a matrix product in float32."""
    one, other = torch.rand(2, size, size)
    return 2 * size**3 / seconds({"product": lambda: one @ other}, repeats)["product"]


def compare(voxels: int, batch: int, width: int, repeats: int) -> dict[str, float]:
    encoder, readout = build(voxels, width=width, dropout=0.5, dtype=torch.float32)
    images, responses = draw(batch, voxels, torch.float32)
    settings = TrainSettings()
    plain, network = Plain(encoder, readout, dropout=0.5), network_of(encoder, readout, settings)
    generator = torch.Generator().manual_seed(2)
    step = choose_step(settings)
    steps: dict[str, Callable[[], object]] = {
        "published": lambda: plain.step(images, responses),
        "ours": lambda: step(network, TrialBatch("subj01", images, responses, generator), settings),
    }
    best = seconds(steps, repeats)
    figures: dict[str, float] = {f"seconds_{name}": best[name] for name in steps}
    figures |= {f"peak_bytes_{name}": peak_bytes(run) for name, run in steps.items()}
    for name in steps:
        print(f"  {name:10} {figures[f'seconds_{name}']:8.3f} s  {figures[f'peak_bytes_{name}'] / 2**20:8.0f} MiB")
    time_ratio = figures["seconds_published"] / figures["seconds_ours"]
    memory_ratio = figures["peak_bytes_ours"] / figures["peak_bytes_published"]
    print(f"  {time_ratio:.2f} times faster, {memory_ratio:.3f} of the memory")
    operations, _ = epoch_work(encoder, [(voxels, batch)], cached=False)
    rate = product_rate(repeats)
    print(
        f"  floor of ours: {operations / 1e9:.0f} GFLOP at the {rate / 1e9:.0f} GFLOP/s of a large matrix product here"
    )
    print(f"  would take {operations / rate:.3f} s; our step by phase:")
    for name, value in phases(network, images, responses, repeats).items():
        print(f"  {value:8.3f} s  {name}")
    return figures


# ---- --full --------------------------------------------------------------------------------------------------------


def full_epoch(
    device: str = "cuda", *, width: int = 64, shrink: int = 1, settings: TrainSettings | None = None
) -> dict[str, float]:
    """An epoch of the true size: the second of two, synthetic images and responses; ``shrink`` divides all counts."""
    generator = torch.Generator(device).manual_seed(0)
    shape = (73000 // shrink, 3, IMAGE_SIZE, IMAGE_SIZE)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, device=device, generator=generator)
    encoder, _ = build(1, width=width, dropout=0.5, dtype=torch.float32)
    shapes = level_shapes(encoder, images[:1].cpu())
    published = zip(PUBLISHED_VOXELS, PUBLISHED_TRIALS, strict=True)
    sizes = [(-(-voxels // shrink), count // shrink) for voxels, count in published]
    trials, readouts = {}, {}
    for number, (voxels, count) in enumerate(sizes, start=1):
        rows = torch.randint(0, len(images), (10000,), device=device, generator=generator)
        order = rows[torch.randint(0, 9000, (count,), device=device, generator=generator)]
        holdout = torch.arange(count, device=device) >= count - math.ceil(0.1 * count)
        responses = torch.randn(count, voxels, device=device, generator=generator)
        trials[f"subj{number:02d}"] = Trials(order, responses, holdout)
        readouts[f"subj{number:02d}"] = Readout(voxels, shapes)
    settings = replace(settings or TrainSettings(), epochs=2)
    result = train(images, trials, encoder, readouts, settings=settings, device=device)
    epoch = result.history[-1]["seconds"]
    training = [(voxels, count - math.ceil(0.1 * count)) for voxels, count in sizes]
    operations, moved = epoch_work(encoder, training, cached=result.prefilter_cache != "none")
    print(f"  {epoch:.1f} s per epoch ({result.precision}, prefilter cache {result.prefilter_cache})")
    print(f"  published {PUBLISHED_SECONDS} s on an A100; {operations / epoch / 1e12:.1f} TFLOP/s")
    if device == "cuda":
        for known in (name for name in PEAKS if name in torch.cuda.get_device_name()):
            peak, bandwidth = PEAKS[known]
            print(f"  floors on {known}: TF32 products {operations / peak:.1f} s, memory {moved / bandwidth:.1f} s")
        print(f"  {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")
    return {"seconds_epoch": epoch}


def epoch_work(encoder: Encoder, sizes: list[tuple[int, int]], *, cached: bool) -> tuple[float, float]:
    """Floating-point operations of an epoch, and bytes of pooled values that go through memory.

    ``sizes``: (voxels, training trials) by subject. A trial passes the trunk forward twice and backward (twice the
    work) once, and the prefilter once if it is not ``cached``; each of the two passes has two products of pooling
    fields with maps. In each pass a pooled value is written by a product, read to predict, read for the gradient of
    the weights, read and overwritten for its own, and read by a product.
    """
    flops, encoder = FlopCounterMode(display=False), copy.deepcopy(encoder).eval()
    with torch.no_grad(), flops:
        maps = encoder.prefilter(torch.zeros(1, 3, IMAGE_SIZE, IMAGE_SIZE, dtype=torch.uint8))
    prefilter = 0 if cached else flops.get_total_flops()
    with torch.no_grad(), flops:
        levels = encoder.trunk(maps)
    trunk = flops.get_total_flops()
    products = 2 * sum(level[0].numel() for level in levels)
    features = sum(level.shape[1] for level in levels)
    trials = sum(count for _, count in sizes)
    pairs = sum(voxels * count for voxels, count in sizes)
    return trials * (prefilter + 4.0 * trunk) + 4.0 * pairs * products, 2 * 6 * 4.0 * pairs * features


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="also an epoch of the true size, on a GPU")
    parser.add_argument("--voxels", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--kernels", choices=["auto", "plain", "compiled"], default="auto", help="of --full")
    parser.add_argument("--precision", choices=get_args(Precision), default="auto", help="of --full")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {platform.machine()}, {arguments.threads} threads")
    print(f"the same parameters after two steps in float64: relative difference {same_result():.1e}")
    print(f"one step, {arguments.voxels} voxels, batch of {arguments.batch}, width {arguments.width}, float32:")
    figures = compare(arguments.voxels, arguments.batch, arguments.width, arguments.repeats)
    if arguments.full and torch.cuda.is_available():
        print(f"an epoch of the true size on {torch.cuda.get_device_name()}:")
        settings = TrainSettings(kernels=arguments.kernels, precision=arguments.precision)
        figures |= full_epoch(settings=settings)
    elif arguments.full:
        print("an epoch of the true size: no GPU here, the number is missing")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
