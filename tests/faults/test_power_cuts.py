"""Power cuts: only what was flushed is on the disk afterwards, and the same command continues to the same bits.

The simulated disk is strict. A file that was not flushed since its last change is empty after the cut, and a name whose
folder was not flushed since is gone, with all that is below. Real file systems lose less.
"""

from __future__ import annotations

import os
import random
import shutil
import threading
from contextlib import suppress
from pathlib import Path

import pytest

import nsdflow
from nsdflow.cluster.connect import connect
from nsdflow.ingestion.ingest import carry_out, plan_ingest
from tests.faults.conftest import INGEST, TRAIN, contents
from tests.same_run import assert_same_run

CUTS = 4


class Disk:
    """Records what was flushed, and keeps copies of the disk as power cuts at some moments would leave it."""

    def __init__(self, root: Path, copies: Path) -> None:
        self.root, self.copies = root, copies
        self.flushed: dict[int, int] = {}
        self.names: dict[int, dict[str, int]] = {}
        self.flushes = 0
        self.moments: list[int] = []
        self._random, self._lock = random.Random(0), threading.RLock()

    def flush(self, descriptor: int) -> None:
        with self._lock:
            path, status = Path(f"/proc/self/fd/{descriptor}").readlink(), os.fstat(descriptor)
            if path.is_dir():
                self.names[status.st_ino] = {entry.name: entry.inode() for entry in os.scandir(path)}
            else:
                self.flushed[status.st_ino] = status.st_mtime_ns
            if self.root in path.parents:
                self.flushes += 1
                self._sample()

    def _sample(self) -> None:
        """Keep some moments, every one equally likely, although how many come is not known."""
        place = len(self.moments) if len(self.moments) < CUTS - 1 else self._random.randrange(self.flushes)
        if place < CUTS - 1:
            for replaced in self.moments[place : place + 1]:
                shutil.rmtree(self.copies / str(replaced))
            self.moments[place : place + 1] = [self.flushes]
            self.cut(self.root, self.copies / str(self.flushes))

    def cut(self, place: Path, copy: Path) -> None:
        """Copy what a power cut leaves of a folder."""
        copy.mkdir(parents=True)
        names = self.names.get(place.stat().st_ino, {})
        for entry in os.scandir(place):
            with suppress(FileNotFoundError):  # another task continues meanwhile
                if names.get(entry.name) != entry.inode() or entry.name.endswith(".hold"):  # its process is dead
                    continue
                if entry.is_dir():
                    self.cut(Path(entry.path), copy / entry.name)
                elif self.flushed.get(entry.inode()) == entry.stat().st_mtime_ns:
                    shutil.copyfile(entry.path, copy / entry.name)
                else:
                    (copy / entry.name).touch()


@pytest.fixture
def power_cuts(tmp_path, monkeypatch):
    """Run a function, with power cuts at random moments and at its end; yields the folder after each cut."""

    def after_each(work, root: Path):
        disk = Disk(root, tmp_path / "cuts")
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", disk.flush)
            patched.setattr(os, "fdatasync", disk.flush)
            root.mkdir()
            work()
        disk.cut(root, disk.copies / str(disk.flushes + 1))
        for copy in sorted(disk.copies.iterdir(), key=lambda one: int(one.name)):
            shutil.rmtree(root)
            copy.rename(root)
            yield int(copy.name)

    return after_each


@pytest.fixture(scope="module")
def client():
    with connect("threads", threads_per_worker=1, dashboard=None) as client:
        yield client


def test_an_ingestion_survives_power_cuts(nsd, whole, client, tmp_path, power_cuts):
    root = tmp_path / "disk"
    work = lambda: carry_out(plan_ingest(str(nsd), str(root / "nsd.zarr"), **INGEST), client)  # noqa: E731
    cuts = 0
    for _ in power_cuts(work, root):
        if not (root / "nsd.zarr").exists():
            work()
        assert contents(root / "nsd.zarr") == contents(whole[0])
        assert (root / "nsd.zarr" / "manifest.json").stat().st_size
        cuts += 1
    assert cuts == CUTS


def test_a_training_survives_power_cuts(whole, client, tmp_path, power_cuts):
    root = tmp_path / "disk"
    work = lambda: nsdflow.run("gnet8j", store=whole[0], runs=str(root), client=client, **TRAIN)  # noqa: E731
    cuts = 0
    for _ in power_cuts(work, root):
        work()
        assert_same_run(whole[1], root / "gnet8j")
        cuts += 1
    assert cuts == CUTS
