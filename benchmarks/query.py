"""All trials of V1 of one subject: from a store, and from NSD's own files.

``python benchmarks/query.py [--full] [--sessions N] [--repeats N]``. The subject is of real size (81 x 104 x 83,
whole-brain mask of 370,503 voxels, V1 of 1,350, 40 sessions of 750 trials, which all hold the same synthetic betas);
of its store only the shards that hold V1 are written (4 GB). In the same run, in turn: the store's V1, opened,
selected and z-scored; the same from the .hdf5 twins of the sessions, one voxel per chunk; the same from one raw file;
and once from the .nii.gz files, streamed: four sessions, scaled to all unless ``--full``. ``seconds_nsd`` is the faster
of NSD's two formats. The page cache is warm for all, and each runs on one thread.

``seconds_zarr`` and ``seconds_zarrs`` are the whole query with its chunks read by zarr-python, and by zarr-python with
the codec pipeline of the ``zarrs`` package; everything else is the same. ``seconds_chunks``, ``seconds_chunks_zarr``
and ``seconds_chunks_zarrs`` are the stored integers of V1 alone. Where ``zarrs`` is not installed, ``zarrs`` says so.
``graph_tasks`` counts the tasks of a query over everything of the subject.

The raw file holds just the betas of V1, and a second one means and standard deviations, which the store also has.
``seconds_raw`` is the time to read, convert, subtract and divide in place, in one array, without metadata, selection,
labels or joined sessions. ``seconds_bytes`` is the time to read that file.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import numpy as np
from ingest import BRAIN_VOXELS, SHAPE, TRIALS, brain_mask, frames, write_hdf5_twin, write_session_file

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from nsdflow.store.shard_format import ShardedArray

V1_VOXELS = 1350
SESSIONS = 40
#: Number of sessions that are streamed from .nii.gz unless --full: each takes as long as the first.
STREAMED = 4
EPSILON = np.float32(1e-6)


def areas(mask: np.ndarray) -> np.ndarray:
    """A compact joined ROI of some 12,000 voxels, with a V1 of 1,350 voxels."""
    roi = np.where(mask, 0, -1).astype(np.int16)
    i, j, k = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
    distance = np.where(mask, abs(i - 40) + 2.0 * abs(j - 25) + abs(k - 38), np.inf).ravel()
    nearest = np.argsort(distance, kind="stable")[: 9 * V1_VOXELS]
    roi.ravel()[nearest] = 1 + np.arange(len(nearest)) * 18 // len(nearest)
    return roi


def prepare(folder: Path, sessions: int) -> np.ndarray:
    """NSD's files of some sessions, a store made from them, and V1 as one raw file; the mask of V1."""
    import xarray as xr

    from nsdflow.config.storage import Layout
    from nsdflow.nsd.betas import session_statistics
    from nsdflow.store.build import create_subject, publish_store, workspace_of
    from nsdflow.store.shard_format import open_sharded, write_region
    from nsdflow.store.shard_sizes import cut_subject
    from nsdflow.store.voxels import voxel_table

    mask = brain_mask()
    roi = areas(mask)
    v1 = np.isin(roi, (1, 2))
    # the number of coordinates of a store of NSD
    atlases = {f"atlas-{number}": (roi, {1: "a", 2: "b"}) for number in range(13)}
    ncsnr = np.where(mask, np.float32(0.3), np.float32(np.nan))
    voxels = voxel_table(np.flatnonzero(mask), SHAPE, roi=roi, atlases=atlases, ncsnr=ncsnr)
    cut = cut_subject(sessions=SESSIONS, trials=TRIALS, voxels=BRAIN_VOXELS, itemsize=2, arrays=40, layout=Layout())
    place = workspace_of(folder / "nsd.zarr")
    count = sessions * TRIALS
    design = {name: np.arange(count) % 997 for name in ("run", "nsd_id", "subject_image", "repetition", "coco_id")}
    behaviour = {f"behaviour_{number}": np.random.default_rng(number).random(count) for number in range(13)}
    columns = {"session": np.repeat(np.arange(1, sessions + 1), TRIALS)} | design | behaviour
    trials = xr.Dataset(coords={name: ("trial", column) for name, column in columns.items()})
    create_subject(
        place.built, "subj01", trials=trials, voxels=voxels, sessions=sessions, dtype="int16", cut=cut, attributes={}
    )
    first = folder / "betas_session01.nii.gz"
    write_session_file(first, mask, TRIALS)
    volumes = np.stack(list(frames(first)))
    write_hdf5_twin(folder / "betas_session01.hdf5", volumes)
    for session in range(2, sessions + 1):
        for ending in ("nii.gz", "hdf5"):
            (folder / f"betas_session{session:02d}.{ending}").hardlink_to(folder / f"betas_session01.{ending}")
    flat = voxels["flat_index"].values
    values = volumes[:, np.ravel_multi_index(np.unravel_index(flat, SHAPE), SHAPE, order="F")]
    del volumes
    betas = open_sharded(f"{place.built}/subj01/betas")
    width = betas.shard[1]
    starts = np.unique(np.flatnonzero(v1.ravel()[flat]) // width) * width
    with (folder / "v1.raw").open("wb") as raw:
        for session in range(sessions):
            for start in starts:
                write_region(betas, (session * TRIALS, start), values[:, start : start + width])
            raw.write(values[:, v1.ravel()[flat]].tobytes())
    parts = np.array_split(values, BRAIN_VOXELS // 1000, axis=1)
    moments = np.concatenate([np.stack(session_statistics(part, 1 / 300)) for part in parts], axis=1)
    np.save(folder / "v1.npy", moments[:, v1.ravel()[flat]])
    for name, moment in zip(("beta_mean", "beta_std"), moments, strict=True):
        write_region(open_sharded(f"{place.built}/subj01/{name}"), (0, 0), np.tile(moment, (sessions, 1)))
    write_region(open_sharded(f"{place.built}/subj01/valid"), (0, 0), np.ones((sessions, len(flat)), bool))
    publish_store(place, {"subjects": ["subj01"]}, {})
    return v1


def zscore(stored: np.ndarray) -> np.ndarray:
    """One session, as published."""
    values = stored.astype(np.float32)
    values /= np.float32(300)
    values -= values.mean(axis=0)
    values /= values.std(axis=0) + EPSILON
    return values


def from_store(folder: Path, v1: np.ndarray) -> np.ndarray:
    """The query, on one thread."""
    import nsdflow

    return nsdflow.open_store(folder / "nsd.zarr").responses(1, roi="V1").compute(scheduler="synchronous").values


def from_hdf5(folder: Path, v1: np.ndarray) -> np.ndarray:
    """Voxel by voxel: each is a separate chunk."""
    import h5py

    parts = []
    for path in sorted(folder.glob("*.hdf5")):
        with h5py.File(path) as file:
            betas = file["betas"]
            parts.append(zscore(np.stack([betas[:, k, j, i] for i, j, k in np.argwhere(v1)], axis=1)))
    return np.concatenate(parts)


def from_nifti(folder: Path, v1: np.ndarray, sessions: int) -> np.ndarray:
    """Streamed through igzip, one volume in memory."""
    index = np.ravel_multi_index(np.nonzero(v1), SHAPE, order="F")
    paths = sorted(folder.glob("*.nii.gz"))[:sessions]
    return np.concatenate([zscore(np.stack([volume[index] for volume in frames(path)])) for path in paths])


def from_raw(folder: Path, v1: np.ndarray) -> np.ndarray:
    """The same bytes from one file, then the same arithmetic with statistics from another: the floor."""
    stored = from_bytes(folder, v1)
    mean, std = np.load(folder / "v1.npy")
    values = np.empty(stored.shape, np.float32)
    for session, betas in zip(values, stored, strict=True):
        session[...] = betas
        session /= np.float32(300)
        session -= mean
        session /= std + EPSILON
    return values.reshape(-1, stored.shape[2])


def region_by_zarr(
    array: ShardedArray,
    selection: Sequence[np.ndarray],
    dtype: DTypeLike | None = None,
    finish: Callable[[np.ndarray, int], None] | None = None,
) -> np.ndarray:
    """The same as our ``read_region``, by zarr-python, which reads consecutive indices as slices."""
    import zarr

    stretches = tuple(slice(int(chosen[0]), int(chosen[-1]) + 1) for chosen in selection)
    values = zarr.open_array(array.url, mode="r", zarr_format=3)[stretches]
    if dtype is not None:
        values = values.astype(dtype)
    for first in range(0, len(values), array.chunk[0]) if finish else ():
        finish(values[first : first + array.chunk[0]], first)
    return values


def from_zarr(folder: Path, v1: np.ndarray) -> np.ndarray:
    """The query with its chunks read by zarr-python."""
    with mock.patch("nsdflow.store.query.zscoring.read_region", region_by_zarr):
        return from_store(folder, v1)


def by_zarrs(read: Callable[[Path, np.ndarray], np.ndarray]) -> Callable[[Path, np.ndarray], np.ndarray]:
    """Decoded by the ``zarrs`` package, on one thread as all others."""

    def call(folder: Path, v1: np.ndarray) -> np.ndarray:
        import zarr

        with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline", "threading.max_workers": 1}):
            return read(folder, v1)

    return call


def from_chunks(folder: Path, v1: np.ndarray) -> np.ndarray:
    """The stored integers of V1, by our reader."""
    from nsdflow.store.chunks import read_region
    from nsdflow.store.shard_format import open_sharded

    return read_region(open_sharded(f"{folder}/nsd.zarr/subj01/betas"), (None, np.arange(int(v1.sum()))))


def from_chunks_zarr(folder: Path, v1: np.ndarray) -> np.ndarray:
    """The stored integers of V1, by zarr-python."""
    import zarr

    return zarr.open_array(folder / "nsd.zarr/subj01/betas", mode="r", zarr_format=3)[:, : int(v1.sum())]


def count_tasks(folder: Path) -> int:
    """Tasks of a query over everything of the subject."""
    import nsdflow

    return len(nsdflow.open_store(folder / "nsd.zarr").responses(1).__dask_graph__())


def from_bytes(folder: Path, v1: np.ndarray) -> np.ndarray:
    """The bytes alone."""
    return np.fromfile(folder / "v1.raw", "<i2").reshape(-1, TRIALS, int(v1.sum()))


WAYS: dict[str, Callable[[Path, np.ndarray], np.ndarray]] = {
    "store": from_store, "hdf5": from_hdf5, "raw": from_raw, "bytes": from_bytes, "zarr": from_zarr,
    "chunks": from_chunks, "chunks_zarr": from_chunks_zarr,
}  # fmt: skip
#: Readers of chunks, in whole queries and alone.
COMPARED = ("zarr", "zarrs", "chunks", "chunks_zarr", "chunks_zarrs")
#: Why there are no figures of zarrs; empty where there are.
NO_ZARRS = "" if find_spec("zarrs") else "not measured: the package is not installed (pip install zarrs)"
if not NO_ZARRS:
    WAYS |= {"zarrs": by_zarrs(from_zarr), "chunks_zarrs": by_zarrs(from_chunks_zarr)}


def timed(read: Callable[..., np.ndarray], *arguments: object) -> tuple[float, float]:
    """Seconds on the wall, and of processor time."""
    start, busy = time.perf_counter(), time.process_time()
    read(*arguments)
    return time.perf_counter() - start, time.process_time() - busy


def measure(folder: Path, streamed: int, repeats: int) -> dict[str, list[tuple[float, float]]]:
    """Check that all agree, and measure in turn."""
    v1 = np.load(folder / "mask.npy")
    expected = np.sort(from_hdf5(folder, v1)[0])
    np.testing.assert_allclose(np.sort(from_store(folder, v1)[0]), expected, atol=1e-4)
    for way in {"zarr", "raw", "zarrs"} & WAYS.keys():
        np.testing.assert_array_equal(from_store(folder, v1), WAYS[way](folder, v1))
    for way in {"chunks_zarr", "chunks_zarrs"} & WAYS.keys():
        np.testing.assert_array_equal(from_chunks(folder, v1), WAYS[way](folder, v1))
    rounds = [{way: timed(read, folder, v1) for way, read in WAYS.items()} for _ in range(repeats)]
    found = {way: [times[way] for times in rounds] for way in WAYS}
    return found | {"nifti": [timed(from_nifti, folder, v1, streamed)], "tasks": [(count_tasks(folder), 0)]}


def main(sessions: int, streamed: int, repeats: int) -> dict[str, float | str]:
    """Prepare, and measure in another process, as a user's is.

    This process has freed memory after the preparation, which some of the ways would reuse without page faults.
    """
    with tempfile.TemporaryDirectory() as folder:
        v1 = prepare(Path(folder), sessions)
        np.save(Path(folder) / "mask.npy", v1)
        command = [sys.executable, __file__, "--repeats", str(repeats), "--measure", folder, str(streamed)]
        # zarrs has separate threads, which the setting of zarr does not limit
        alone = os.environ | {"RAYON_NUM_THREADS": "1"}
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=alone)
    found = json.loads(done.stdout.splitlines()[-1])
    tasks = int(found.pop("tasks")[0][0])
    medians = {way: statistics.median(seconds for seconds, _ in times) for way, times in found.items()}
    least = {way: min(processor for _, processor in times) for way, times in found.items()}
    medians["nifti"] *= sessions / streamed
    print(f"V1 ({int(v1.sum())} voxels) of {sessions} sessions x {TRIALS} trials:")
    for way, median in medians.items():
        scaled = f" (scaled from {streamed} sessions)" if way == "nifti" and streamed < sessions else ""
        times = least[way] / least["raw"]
        print(f"  {way}: {median:.3f} s{scaled}, {median / medians['raw']:.2f} times raw (processor: {times:.2f})")
    if NO_ZARRS:
        print(f"  zarrs: {NO_ZARRS}")
    return {
        "seconds_store": medians["store"],
        "seconds_nsd": min(medians["hdf5"], medians["nifti"]),
        "seconds_raw": medians["raw"],
        "seconds_bytes": medians["bytes"],
        **{f"seconds_{way}": medians[way] for way in COMPARED if way in medians},
        **({"zarrs": NO_ZARRS} if NO_ZARRS else {}),
        "graph_tasks": tasks,
        **{f"processor_seconds_{way}": least[way] for way in ("store", "raw", *COMPARED) if way in least},
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="stream all sessions from .nii.gz, too")
    parser.add_argument("--sessions", type=int, default=SESSIONS)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--measure", nargs=2, metavar=("FOLDER", "STREAMED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        place, count = options.measure
        print(json.dumps(measure(Path(place), int(count), options.repeats)))
    else:
        streamed = options.sessions if options.full else min(STREAMED, options.sessions)
        print(json.dumps(main(options.sessions, streamed, options.repeats)))
