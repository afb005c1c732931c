"""One real-sized session (81 x 104 x 83 x 750) into the store, by one worker process, against bare decompression.

``python benchmarks/ingest.py [--full] [--repeats N]``. One run measures, in turn: decompression of the file alone
(isal's igzip), our task of one session (whole-brain mask, shards, statistics, CRC), and the obvious way (nibabel, the
whole array in memory, masked). Each runs in a separate process that is set up like a worker. It runs twice there, and
the second time counts, because a worker processes many sessions. The benchmark compares medians. It then compares two
workers at once with one, and measures the task on the session's .hdf5 twin once. The session is synthetic: smooth int16
noise in the 53 % of voxels that NSD's brain mask has, and zeros elsewhere, which compress like real betas (468 MB). The
size is always the real one; ``--full`` only repeats more often.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

SHAPE = (81, 104, 83)
TRIALS = 750
BRAIN_VOXELS = 370_503
#: Distinct volumes. The file repeats them, farther apart than gzip's window.
DISTINCT = 25
BETAS = "betas_fithrf_GLMdenoise_RR"


def brain_mask() -> np.ndarray:
    """An ellipsoid of as many voxels as subject 1's brain mask."""
    axes = np.meshgrid(*(np.linspace(-1, 1, size) for size in SHAPE), indexing="ij")
    radius = sum(axis**2 for axis in axes)
    return radius <= np.partition(radius.ravel(), BRAIN_VOXELS - 1)[BRAIN_VOXELS - 1]


def write_session_file(path: Path, mask: np.ndarray, trials: int, seed: int = 0) -> None:
    """A .nii.gz of one gzip member, as NSD's are; zlib's level 6, as MATLAB's are."""
    import nibabel as nib

    rng = np.random.default_rng(seed)
    header = nib.Nifti1Image(np.empty((*SHAPE, 1), np.int16), np.diag([1.8, 1.8, 1.8, 1])).header
    header.set_data_shape((*SHAPE, trials))
    header["vox_offset"] = 352
    head = header.binaryblock + bytes(4)
    spread = np.exp(rng.normal(6.0, 0.45, SHAPE))  # standard deviations differ between voxels
    blocks = []
    for _ in range(min(DISTINCT, trials)):
        noise = rng.normal(size=SHAPE)
        for axis in range(3):
            noise = noise + 0.5 * (np.roll(noise, 1, axis) + np.roll(noise, -1, axis))
        volume = np.where(mask, np.clip(np.rint(spread * noise / noise.std()), -32768, 32767), 0).astype("<i2")
        blocks.append(volume.tobytes(order="F"))
    deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
    start = deflate.compress(head) + deflate.flush(zlib.Z_FULL_FLUSH)
    packed = [deflate.compress(block) + deflate.flush(zlib.Z_FULL_FLUSH) for block in blocks]
    crc = zlib.crc32(head)
    with path.open("wb") as file:
        file.write(b"\x1f\x8b\x08\x00" + bytes(4) + b"\x00\x03" + start)
        for trial in range(trials):
            file.write(packed[trial % len(packed)])
            crc = zlib.crc32(blocks[trial % len(blocks)], crc)
        file.write(deflate.flush(zlib.Z_FINISH))
        file.write(struct.pack("<II", crc, (len(head) + trials * len(blocks[0])) % 2**32))


def frames(path: Path) -> Iterator[np.ndarray]:
    """The volumes of a .nii.gz, one after the other, flat and with the first axis fastest."""
    from isal import igzip

    with igzip.open(path, "rb") as file:
        file.read(352)
        while len(data := file.read(2 * int(np.prod(SHAPE)))):
            yield np.frombuffer(data, "<i2")


def write_hdf5_twin(path: Path, volumes: np.ndarray) -> None:
    """Betas (trial, flat voxel) as NSD's .hdf5 files have them: axes reversed, one voxel per chunk."""
    import h5py

    with h5py.File(path, "w", libver="earliest") as file:
        file.create_dataset(
            "betas", data=volumes.reshape(-1, *reversed(SHAPE)), chunks=(len(volumes), 1, 1, 1), dtype="<i2"
        )


def prepare(folder: Path, trials: int) -> dict[str, Any]:
    """The source with its one session, and the store's group; returns the task's arguments."""
    import xarray as xr
    from pydantic import TypeAdapter

    from nsdflow.ingestion.settings import IngestSettings
    from nsdflow.ingestion.stamps import session_stamps
    from nsdflow.ingestion.tasks.jobs import SessionJob, SubjectJob
    from nsdflow.nsd.source import open_source
    from nsdflow.store.build import create_subject, workspace_of
    from nsdflow.store.shard_sizes import cut_subject
    from nsdflow.store.voxels import voxel_table

    source = open_source(folder / "nsd")
    betas = folder / "nsd" / "nsddata_betas" / "ppdata" / "subj01" / "func1pt8mm" / BETAS
    betas.mkdir(parents=True)
    mask = brain_mask()
    write_session_file(betas / "betas_session01.nii.gz", mask, trials)
    place = workspace_of(folder / "nsd.zarr")
    voxels = voxel_table(np.flatnonzero(mask), SHAPE, roi=np.zeros(SHAPE, int))
    # the file budget is that of 40 sessions, so that shards are as large as they would be
    cut = cut_subject(sessions=40, trials=trials, voxels=BRAIN_VOXELS, itemsize=2, arrays=40)
    trial = xr.Dataset(coords={"session": ("trial", np.ones(trials, int))})
    create_subject(
        place.built, "subj01", trials=trial, voxels=voxels, sessions=1, dtype="int16", cut=cut, attributes={}
    )
    job = SubjectJob(
        source=source, built=place.built, folder=place.folder, subject="subj01",
        settings=IngestSettings(betas=BETAS, voxels="brain"),
        voxel_count=BRAIN_VOXELS,
        sessions=(1,),
        trials=trials,
        shape=SHAPE,
        affine=None, dtype="int16", cut=cut,
    )  # fmt: skip
    stamps = session_stamps(source.stamps(str(betas.relative_to(folder / "nsd"))), 1, "func1pt8mm", "nii.gz")
    arguments: dict[str, Any] = TypeAdapter(SessionJob).dump_python(SessionJob(job, 1, "nii.gz", stamps), mode="json")
    return arguments


def igzip(path: Path, scratch: Path) -> Callable[[], object]:
    """Decompress and nothing else, in blocks of one volume."""
    from isal import igzip

    def decompress() -> None:
        buffer = memoryview(bytearray(2 * int(np.prod(SHAPE))))
        with igzip.open(path, "rb") as file:
            while file.readinto(buffer):
                pass

    return decompress


def task(arguments: dict[str, Any], scratch: Path) -> Callable[[], object]:
    """The task of one session, into an empty copy of the store, where no file is written twice.

    As in the engine, all files are on disk at its end, before a done-marker would be written.
    """
    from pydantic import TypeAdapter

    from nsdflow.ingestion.tasks.betas import write_session
    from nsdflow.ingestion.tasks.jobs import SessionJob
    from nsdflow.io.flush import recording

    store = scratch / "store"
    shutil.rmtree(store, ignore_errors=True)
    shutil.copytree(arguments["subject"]["built"], store)
    subject = arguments["subject"] | {"built": str(store), "folder": str(scratch)}
    job = TypeAdapter(SessionJob).validate_python(arguments | {"subject": subject})

    def write_and_flush() -> None:
        with recording() as written:
            write_session(job)
            written.flush()

    return write_and_flush


def ingest(path: Path, scratch: Path) -> Callable[[], object]:
    """The task on the .nii.gz file."""
    return task(json.loads((path.parents[6] / "task.json").read_text()), scratch)


def from_hdf5(path: Path, scratch: Path) -> Callable[[], object]:
    """The task on the .hdf5 file alone."""
    from nsdflow.ingestion.stamps import session_stamps
    from nsdflow.nsd.source import Source

    twin = path.parents[6] / "hdf5" / path.relative_to(path.parents[5]).with_name("betas_session01.hdf5")
    arguments = json.loads((path.parents[6] / "task.json").read_text())
    source = Source(str(path.parents[6] / "hdf5"))
    listing = source.stamps(str(twin.parent.relative_to(source.url)))
    arguments["subject"]["source"] = asdict(source)
    stamps = session_stamps(listing, 1, "func1pt8mm", "hdf5")
    return task(arguments | {"format": "hdf5", "stamps": stamps}, scratch)


def nibabel(path: Path, scratch: Path) -> Callable[[], object]:
    """The obvious way: the whole array, then the mask."""
    import nibabel as nib

    mask = brain_mask()
    return lambda: np.asanyarray(nib.load(path).dataobj)[mask]


WAYS = {"igzip": igzip, "ingest": ingest, "nibabel": nibabel}
OTHER_WAYS = {"ingest_hdf5": from_hdf5}


def measure(what: str, folder: str) -> None:
    """One measurement, in this process: seconds, processor seconds, and the peak of resident memory in bytes."""
    (path,) = Path(folder).rglob("betas_session01.nii.gz")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        for _ in range(2):
            run = (WAYS | OTHER_WAYS)[what](path, Path(scratch))
            start, processor = time.perf_counter(), time.process_time()
            run()
            found = {"seconds": time.perf_counter() - start, "processor": time.process_time() - processor}
    # getrusage also counts the process that started this one
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    print(json.dumps(found | {"peak": 1024 * int(peak)}))


def in_processes(what: str, folder: str, count: int = 1) -> list[dict[str, float]]:
    """The same measurement in fresh processes, at the same time."""
    from nsdflow.cluster.settings import LONG_TASKS

    command = [sys.executable, __file__, "--measure", what, folder]
    spawn = "distributed.nanny.pre-spawn-environ."
    settings = {key.removeprefix(spawn): value for key, value in LONG_TASKS.items() if key.startswith(spawn)}
    environment = {**os.environ, **settings, "OMP_NUM_THREADS": "1"}
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(count)]
    return [json.loads(process.communicate()[0].splitlines()[-1]) for process in running]


def main(trials: int, repeats: int) -> dict[str, float]:
    """Prepare, measure in turn, and compare."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = prepare(Path(folder), trials)
        (Path(folder) / "task.json").write_text(json.dumps(arguments))
        (path,) = Path(folder).rglob("betas_session01.nii.gz")
        raw = 2 * int(np.prod(SHAPE)) * trials
        print(f"{trials} volumes, {raw / 1e6:.0f} MB, {path.stat().st_size / 1e6:.0f} MB compressed")
        found: dict[str, list[dict[str, float]]] = {what: [] for what in WAYS}
        speedups = []
        for _ in range(repeats):
            for what, results in found.items():
                results += in_processes(what, folder)
                print(f"  {what}: {results[-1]['seconds']:.2f} s, peak {results[-1]['peak'] / 2**20:.0f} MiB")
            together = max(result["seconds"] for result in in_processes("ingest", folder, count=2))
            speedups.append(2 * found["ingest"][-1]["seconds"] / together)
            print(f"  two workers: {together:.2f} s for two sessions")
        twin = Path(folder) / "hdf5" / path.relative_to(Path(folder) / "nsd").with_name("betas_session01.hdf5")
        twin.parent.mkdir(parents=True)
        write_hdf5_twin(twin, np.stack(list(frames(path))))
        (hdf5,) = in_processes("ingest_hdf5", folder)
        print(f"  ingest of the .hdf5 twin: {hdf5['seconds']:.2f} s, peak {hdf5['peak'] / 2**20:.0f} MiB")
    figures = {f"seconds_{what}": statistics.median(r["seconds"] for r in rs) for what, rs in found.items()}
    ratio = figures["seconds_ingest"] / figures["seconds_igzip"]
    print(f"ingest takes {ratio:.2f} times bare decompression ({raw / figures['seconds_ingest'] / 1e6:.0f} MB/s)")
    processor = statistics.median(result["processor"] for result in found["ingest"])
    return {
        **figures,
        "peak_bytes": max(result["peak"] for result in found["ingest"]),
        "speedup_two_workers": statistics.median(speedups),
        "processor_seconds_ingest": processor,
        "seconds_ingest_hdf5": hdf5["seconds"],
        "peak_bytes_hdf5": hdf5["peak"],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="the real size (as by default), more repeats")
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--measure", nargs=2, metavar=("WHAT", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(*options.measure)
    else:
        print(json.dumps(main(options.trials, options.repeats or (7 if options.full else 3))))
