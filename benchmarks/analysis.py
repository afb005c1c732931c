"""Bootstrap tuning against a plain loop, and the noise model of a full-size subject.

    python benchmarks/analysis.py           the loop over 200 voxels, scaled; some three minutes on two cores
    python benchmarks/analysis.py --full    the loop over all 4,627 voxels of subject 1; some eight minutes

Both sides do the same job: correlations of the whole prediction, and with and without each of 9 partitions, over
3,000 validation trials of 1,000 images, in 64 bootstrap resamples. The loop calls np.corrcoef voxel by voxel, as the
published notebooks do. Both are given the same resamples, and their results are compared before times are printed.
Ours runs over all 4,627 voxels. Without --full the loop runs over the first 200, and its seconds are multiplied by
4,627 / 200 (its time is proportional to the voxels); the last line has what was measured as seconds_loop_part.

The noise model is compared with gradient descent as published (20,000 steps of 0.001 on the squared distance) on the
first 200 voxels and 150 trials (fewer than voxels, as in NSD): how far each stays from the same target.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import xarray as xr
from threadpoolctl import threadpool_limits

from nsdflow.analysis import noise_model, tuning
from nsdflow.analysis.moments import resample_counts

IMAGES, REPEATS, PARTITIONS, RESAMPLES, VOXELS = 1000, 3, 9, 64, 4627
DESCENT_VOXELS, DESCENT_TRIALS, DESCENT_STEPS, DESCENT_RATE = 200, 150, 20_000, 1e-3


def simulate(voxels: int) -> tuple[xr.DataArray, xr.DataArray]:
    """Contributions (image, voxel, partition) and responses (trial, voxel), about as noisy as NSD's."""
    rng = np.random.default_rng(0)
    sources = rng.standard_normal((IMAGES, 60), dtype=np.float32)
    contributions = np.stack(
        [sources @ rng.standard_normal((60, voxels), dtype=np.float32) for _ in range(PARTITIONS)], -1
    )
    signal = contributions.sum(-1)
    signal /= signal.std(0)
    shown = np.repeat(np.arange(IMAGES), REPEATS)
    shared = rng.standard_normal((shown.size, 20), dtype=np.float32) @ rng.standard_normal((20, voxels), np.float32)
    noise = 0.2 * shared + rng.standard_normal((shown.size, voxels), dtype=np.float32)
    nsd_id = np.arange(IMAGES)
    return (
        xr.DataArray(contributions, dims=("image", "voxel", "partition"), coords={"nsd_id": ("image", nsd_id)}),
        xr.DataArray(0.4 * signal[shown] + noise, dims=("trial", "voxel"), coords={"nsd_id": ("trial", nsd_id[shown])}),
    )


def looped(contributions: xr.DataArray, responses: xr.DataArray, seed: int) -> dict[str, np.ndarray]:
    """Mean and standard deviation of every correlation, one np.corrcoef at a time."""
    parts = contributions.values[responses["nsd_id"].values]
    whole = parts.sum(-1)
    predictions = {("accuracy", 0): whole}
    for k in range(parts.shape[-1]):
        predictions["inclusion", k] = parts[..., k].copy()
        predictions["exclusion", k] = whole - parts[..., k]
    trials, voxels = responses.shape
    draws = [np.repeat(np.arange(trials), row.astype(int)) for row in resample_counts(trials, RESAMPLES, seed)]
    result = {}
    for key, prediction in predictions.items():
        sampled = np.zeros((RESAMPLES, voxels))
        for k, rows in enumerate(draws):
            predicted, measured = prediction[rows], responses.values[rows]
            for v in range(voxels):
                sampled[k, v] = np.corrcoef(measured[:, v], predicted[:, v])[0, 1]
        result[key] = np.array([sampled.mean(0), sampled.std(0)])
    return result


def compare(ours: xr.Dataset, theirs: dict[tuple[str, int], np.ndarray]) -> float:
    """Largest difference between the two sides."""
    worst = 0.0
    for (name, k), values in theirs.items():
        for suffix, expected in zip(("", "_std"), values, strict=True):
            found = ours[name + suffix]
            found = found.isel(partition=k) if "partition" in found.dims else found
            worst = max(worst, float(abs(found - expected).max()))
    return worst


def descended(signal: xr.DataArray, responses: xr.DataArray) -> float:
    """Distance from the noise target after gradient descent on R, as published, in float32."""
    voxels = responses.sizes["voxel"]
    joint = np.corrcoef(responses.values.T, signal.values[responses["nsd_id"].values].T)
    c, a, p = joint[:voxels, :voxels], joint[voxels:, voxels:], joint[:voxels, voxels:]
    gain = (p * a).sum(1) / (a**2).sum(1)
    target = (c - gain[:, None] * a * gain).astype(np.float32)
    noise = np.random.default_rng(0).normal(0, 0.1, target.shape)
    factor = (np.diag(np.sqrt(1 - gain**2)) + noise).astype(np.float32)
    for _ in range(DESCENT_STEPS):
        factor -= np.float32(DESCENT_RATE) * ((factor @ factor.T - target) @ factor)
    return float(np.linalg.norm(factor @ factor.T - target))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="all voxels for the loop too (some eight minutes)")
    parser.add_argument("--voxels", type=int, default=200, help="voxels for the loop without --full")
    arguments = parser.parse_args()
    part = VOXELS if arguments.full else arguments.voxels
    contributions, responses = simulate(VOXELS)

    chunked = [values.chunk(voxel=256) for values in (contributions, responses)]
    start = time.perf_counter()
    with threadpool_limits(1):  # one thread, as in a Dask worker
        ours = tuning(*chunked, resamples=RESAMPLES, seed=1).compute()
    seconds_ours = time.perf_counter() - start
    print(f"tuning of {VOXELS} voxels, as nsdflow does it: {seconds_ours:.2f} s")

    few = {"voxel": slice(part)}
    start = time.perf_counter()
    theirs = looped(contributions.isel(few), responses.isel(few), seed=1)
    seconds_part = time.perf_counter() - start
    seconds_loop = seconds_part * VOXELS / part
    print(f"{part} of them voxel by voxel: {seconds_part:.1f} s; all {VOXELS} at this rate: {seconds_loop:.0f} s")
    print(f"{seconds_loop / seconds_ours:.0f} times as long")
    difference = compare(ours.isel(few), theirs)
    print(f"largest difference of a mean or a standard deviation: {difference:.1e}")
    assert difference < 1e-4, "the two sides computed different things"

    signal = contributions.sum("partition")
    del contributions, ours
    start = time.perf_counter()
    model = noise_model(signal, responses)
    seconds_noise_model = time.perf_counter() - start
    relative = float(model["residual"] / model["target_norm"])
    print(f"noise model of {VOXELS} voxels: {seconds_noise_model:.1f} s, residual {relative:.2e} of the target")
    start = time.perf_counter()
    few_signals, few_responses = signal[:, :DESCENT_VOXELS], responses[:DESCENT_TRIALS, :DESCENT_VOXELS]
    with threadpool_limits(1):  # matrices this small gain nothing from threads
        theirs_residual = descended(few_signals, few_responses)
    seconds_descent = time.perf_counter() - start
    small = noise_model(few_signals, few_responses)
    residual, norm = float(small["residual"]), float(small["target_norm"])
    print(
        f"{DESCENT_VOXELS} voxels: {residual:.4f} from a target of norm {norm:.2f}; {DESCENT_STEPS:,} steps of descent "
        f"end {theirs_residual:.4f} from it, after {seconds_descent:.1f} s"
    )
    figures = {
        "voxels": VOXELS,
        "voxels_loop": part,
        "seconds_loop_part": round(seconds_part, 3),
        "seconds_loop": round(seconds_loop, 3),
        "seconds_ours": round(seconds_ours, 3),
        "seconds_noise_model": round(seconds_noise_model, 3),
        "speedup": round(seconds_loop / seconds_ours, 1),
        "difference": difference,
        "noise_residual_relative": relative,
        "residual_exact": residual,
        "residual_descent": theirs_residual,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
