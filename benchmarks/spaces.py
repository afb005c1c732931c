"""Map one full-size volume to fsaverage through three layers of cortex, ours against a plain loop over the same files.

    python benchmarks/spaces.py [--scale 1.0] [--runs 3]

The subject is synthetic. Its transforms have the published names and shapes (699,192 voxels, 163,842 vertices per
hemisphere). The plain way is that of NSD's published Python tool: for each hemisphere and layer, SciPy's
``map_coordinates`` of order 3 at the coordinates in the file, then the mean, then the index to fsaverage. It
interpolates with another spline, so only times are compared, not values. Both times exclude reading the files. The last
line is JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import map_coordinates

from nsdflow.nsd.source import open_source
from nsdflow.nsd.spaces import SpaceMap, open_map
from nsdflow.nsd.spaces.mapping import MEAN_LAYERS

SHAPE = (81, 104, 83)
VERTICES = 163_842
HEMISPHERES = ("lh", "rh")


def write_transforms(folder: Path, shape: tuple[int, int, int], vertices: int) -> None:
    """Transforms of a folded ribbon in the volume: neighbours in the file are neighbours in space, as on a surface."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    height = 1 - 2 * (np.arange(vertices) + 0.5) / vertices
    turn = np.pi * (1 + 5**0.5) * np.arange(vertices)
    sphere = np.stack([np.sqrt(1 - height**2) * np.cos(turn), np.sqrt(1 - height**2) * np.sin(turn), height], axis=1)
    for hemisphere in HEMISPHERES:
        for layer, radius in zip(MEAN_LAYERS, (0.42, 0.40, 0.38), strict=True):
            folded = radius + 0.05 * np.sin(9 * sphere).sum(axis=1, keepdims=True) / 3
            c = (0.5 + folded * sphere) * (np.array(shape) - 1) + 1
            save(folder / f"{hemisphere}.func1pt8-to-{layer}.mgz", c)
        save(folder / f"{hemisphere}.white-to-fsaverage.mgz", rng.permutation(vertices) + 1)
    ramp = np.zeros((*shape, 3), np.float32)
    nib.save(nib.Nifti1Image(ramp, np.eye(4)), folder / "anat1pt0-to-func1pt8.nii.gz")


def save(path: Path, values: np.ndarray) -> None:
    frames = values.astype(np.float32).reshape(len(values), 1, 1, *values.shape[1:])
    nib.save(nib.freesurfer.MGHImage(frames, np.eye(4)), path)


def read_plain(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: np.squeeze(nib.load(path).get_fdata()) for path in sorted(folder.glob("*.mgz"))}


def plain(volume: np.ndarray, files: dict[str, np.ndarray]) -> np.ndarray:
    """The published Python way, step by step."""
    halves = []
    for hemisphere in HEMISPHERES:
        layers = []
        for layer in MEAN_LAYERS:
            coordinates = files[f"{hemisphere}.func1pt8-to-{layer}.mgz"].T - 1
            layers.append(map_coordinates(np.nan_to_num(volume), coordinates, order=3, mode="nearest"))
        native = np.mean(np.stack(layers), axis=0)
        halves.append(native[files[f"{hemisphere}.white-to-fsaverage.mgz"].astype(int) - 1])
    return np.concatenate(halves)


def ours(volume: np.ndarray, mapping: SpaceMap) -> np.ndarray:
    return mapping(volume.ravel())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full number of voxels and vertices")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    shape = tuple(max(8, round(n * arguments.scale ** (1 / 3))) for n in SHAPE)
    vertices = max(100, round(VERTICES * arguments.scale))
    volume = np.random.default_rng(1).normal(size=shape)
    with tempfile.TemporaryDirectory() as folder:
        transforms = Path(folder) / "nsddata/ppdata/subj01/transforms"
        write_transforms(transforms, shape, vertices)
        start = time.perf_counter()
        mapping = open_map(open_source(folder), "subj01", "func1pt8mm", "fsaverage", shape=shape)
        print(f"transforms read in {time.perf_counter() - start:.2f} s")
        files = read_plain(transforms)
    seconds = {}
    for name, function in (("ours", lambda: ours(volume, mapping)), ("plain", lambda: plain(volume, files))):
        times = []
        for _ in range(arguments.runs):
            start = time.perf_counter()
            mapped = function()
            times.append(time.perf_counter() - start)
        seconds[name] = min(times)
        print(f"{name:6} {seconds[name]:.3f} s for {volume.size:,} voxels, {mapped.size:,} vertices, three layers")
    tracemalloc.start()
    ours(volume, mapping)
    held = sum(points.coordinates.nbytes + points.index.nbytes for points in mapping.steps[0].sets)
    peak = tracemalloc.get_traced_memory()[1] + held
    print(json.dumps({"seconds_ours": seconds["ours"], "seconds_plain": seconds["plain"], "peak_bytes": peak}))


if __name__ == "__main__":
    main()
