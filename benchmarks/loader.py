"""Batches of shuffled trials: ours against single samples from HDF5 and against webdataset tars of the same data.

    python benchmarks/loader.py [--images 3000] [--voxels 1500] [--size 227]

The benchmark first writes a synthetic store of the given size. Every contender yields batches of 100 (image uint8,
response) in a shuffled order. The first epoch warms the page cache, and the second is timed. The last line is one JSON
object of samples per second.
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

BATCH = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=4)
    parser.add_argument("--trials", type=int, default=750, help="per session")
    parser.add_argument("--voxels", type=int, default=1200, help="of early visual cortex")
    parser.add_argument("--size", type=int, default=227, help="pixels per side")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nsdflow-loader-") as folder:
        store = make_store(Path(folder), options)
        arrays = as_arrays(store)
        write_hdf5(Path(folder) / "data.h5", *arrays)
        write_tars(Path(folder), *arrays)
        ours = open_ours(store)
        found = {
            "ours": rate(lambda: iter(ours)),
            "hdf5": rate(lambda: hdf5_batches(Path(folder) / "data.h5")),
            "webdataset": rate(lambda: tar_batches(Path(folder))),
        }
    for name, samples in found.items():
        print(f"{name}: {samples:,.0f} samples per second")
    print(json.dumps(found))


def make_store(folder: Path, options: argparse.Namespace) -> str:
    """A synthetic NSD of one subject, ingested."""
    import nsdflow
    from nsdflow.synthetic import SyntheticSpec, write_nsd

    spec = SyntheticSpec(
        subjects=1,
        sessions=options.sessions,
        trials_per_session=options.trials,
        shared_images=50,
        image_size=options.size + 10,
        evc_voxels=options.voxels,
    )
    source = write_nsd(folder / "nsd", spec)
    target = str(folder / "nsd.zarr")
    nsdflow.ingest(source=str(source), store=target, voxels="evc", image_size=options.size, cluster="threads")
    return target


def as_arrays(url: str) -> tuple[np.ndarray, np.ndarray]:
    """Images of trials, by trial, and responses."""
    import nsdflow

    store = nsdflow.open_store(url)
    responses = store.responses(store.subjects[0], roi="V1", shared=False).compute()
    return store.images(responses["nsd_id"].values).values, responses.values


def open_ours(store: str) -> Any:
    from nsdflow.loaders import TrialDataset

    return TrialDataset(store, roi="V1", batch_size=BATCH, shuffle="trials")


def write_hdf5(path: Path, images: np.ndarray, responses: np.ndarray) -> None:
    """One sample per chunk, as NSD's own image file is read by common recipes."""
    import h5py

    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=images, chunks=(1, *images.shape[1:]))
        file.create_dataset("responses", data=responses, chunks=(1, responses.shape[1]))


def hdf5_batches(path: Path) -> Iterator[Any]:
    """One sample at a time from HDF5, in a random order, by torch's DataLoader without processes."""
    import h5py

    class Samples(torch.utils.data.Dataset[Any]):
        def __init__(self) -> None:
            self.file = h5py.File(path, "r")

        def __len__(self) -> int:
            return len(self.file["images"])

        def __getitem__(self, index: int) -> Any:
            return torch.from_numpy(self.file["images"][index]), torch.from_numpy(self.file["responses"][index])

    return iter(torch.utils.data.DataLoader(Samples(), batch_size=BATCH, shuffle=True))


def write_tars(folder: Path, images: np.ndarray, responses: np.ndarray) -> None:
    """Shards of 1,000 samples as .npy, uncompressed."""
    for start in range(0, len(images), 1000):
        with tarfile.open(folder / f"shard-{start:06d}.tar", "w") as tar:
            for number in range(start, min(start + 1000, len(images))):
                for name, value in (("image", images[number]), ("response", responses[number])):
                    buffer = io.BytesIO()
                    np.save(buffer, value)
                    entry = tarfile.TarInfo(f"{number:06d}.{name}.npy")
                    entry.size = buffer.tell()
                    buffer.seek(0)
                    tar.addfile(entry, buffer)


def tar_batches(folder: Path) -> Iterator[Any]:
    """webdataset, shuffled through a buffer of 1,000 samples."""
    import webdataset

    shards = [str(path) for path in sorted(folder.glob("shard-*.tar"))]
    dataset = webdataset.WebDataset(shards, shardshuffle=len(shards), empty_check=False).shuffle(1000).decode()
    return iter(dataset.to_tuple("image.npy", "response.npy").batched(BATCH))


def rate(batches: Any) -> float:
    """Samples per second of the second epoch."""
    for _ in range(2):
        samples, start = 0, time.perf_counter()
        for batch in batches():
            samples += len(batch[0])
        seconds = time.perf_counter() - start
    return samples / seconds


if __name__ == "__main__":
    main()
