"""Lease on a training: of several copies that run at once, the one that started last continues.

A retiring worker continues its task while Dask starts the task elsewhere, and two drivers may work on one run folder by
mistake. Checkpoints are written whole, so that neither copy damages those of the other, but the older copy wastes a
GPU. Each copy therefore creates a small file with the next number, and stops as soon as it sees a higher one. No clocks
are compared and nothing is locked, so that this works on any shared file system or object store.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nsdflow.cluster.batch.jobqueue import BATCH_SYSTEMS
from nsdflow.errors import RunError, StoreError
from nsdflow.io.paths import filesystem, is_local
from nsdflow.io.reach import reaching, writing

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

__all__ = ["Lease"]

#: Time between two listings of the folder.
LEASE_CHECK_INTERVAL_S = 5.0


@dataclass
class Lease:
    """The claim of one copy to the training ``name`` in ``folder`` (a path or URL); see :meth:`claim`."""

    folder: str
    name: str
    attempt: int
    token: str = field(default_factory=lambda: secrets.token_hex(4))
    _looked: float = field(default=float("-inf"), repr=False)
    _newest: str = field(default="", repr=False)

    @classmethod
    def claim(cls, folder: str, name: str) -> Lease:
        """Become the newest copy. Of two copies that claim at the same moment, both agree which one is newer."""
        job = next((os.environ[s.job_id] for s in BATCH_SYSTEMS.values() if s.job_id and s.job_id in os.environ), None)
        who = {"host": socket.gethostname(), "pid": os.getpid(), "job": job, "claimed": time.time()}
        with writing(folder):
            fs, root = filesystem(folder)
            if is_local(folder):  # an object store has no folders, and may refuse to create a bucket
                fs.makedirs(root, exist_ok=True)
            taken = [_attempt(lease) for lease in _leases(fs, root, name)]
            lease = cls(folder, name, attempt=max(taken, default=0) + 1)
            fs.pipe_file(f"{root}/{lease.file}", json.dumps(who).encode())
        return lease

    @property
    def file(self) -> str:
        """Name of the file; names sort in the order of the claims."""
        return f"{self.name}.{self.attempt:06d}-{self.token}.lease"

    def superseded(self) -> bool:
        """Whether a newer copy has started; lists the folder at most every few seconds."""
        now = time.monotonic()
        if self._newest <= self.file and now - self._looked >= LEASE_CHECK_INTERVAL_S:
            self._looked = now
            with suppress(StoreError, OSError):  # a failed listing is no reason to stop
                fs, root = filesystem(self.folder)
                with reaching(self.folder):
                    self._newest = max(_leases(fs, root, self.name), default="")
        return self._newest > self.file

    def check(self) -> None:
        """Stop if a newer copy has started.

        Raises
        ------
        RunError
            The message says where the newer copy runs.
        """
        if not self.superseded():
            return
        raise RunError(f"{self.name}: a newer copy of this training runs{self._where()}; this one stopped")

    def _where(self) -> str:
        fs, root = filesystem(self.folder)
        try:
            with reaching(self.folder):
                who = json.loads(fs.cat_file(f"{root}/{self._newest}"))
            return f" on {who['host']} (process {who['pid']}, job {who['job'] or 'none'})"
        except (StoreError, OSError, ValueError, KeyError, TypeError):  # gone meanwhile, or damaged
            return " elsewhere"

    def release(self) -> None:
        """Remove this file and those of older copies, when the training is done."""
        with reaching(self.folder):
            fs, root = filesystem(self.folder)
            for lease in _leases(fs, root, self.name):
                if lease <= self.file:
                    with suppress(FileNotFoundError):  # another copy that ends at the same moment was faster
                        fs.rm_file(f"{root}/{lease}")


def _leases(fs: AbstractFileSystem, root: str, name: str) -> list[str]:
    """File names of all claims to a training."""
    pattern = re.compile(re.escape(name) + r"\.\d{6}-[0-9a-f]{8}\.lease")
    try:
        files = [path.rsplit("/", 1)[-1] for path in fs.ls(root, detail=False, refresh=True)]
    except FileNotFoundError:
        return []
    return [file for file in files if pattern.fullmatch(file)]


def _attempt(file: str) -> int:
    return int(file.split(".")[-2].split("-")[0])
