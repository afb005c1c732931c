"""Lock on a run folder or a store being built: one command at a time; another one takes over from one that died.

A driver creates a file ``NAME.000001.hold``: exclusively on a file system, on condition of absence in an object store.
The file names the process, and its count of heartbeats increases every few seconds. A second driver on the same machine
asks the system whether the process is alive; on another machine it watches the count. Clocks are never compared. To
take over from a dead driver it creates the next number, which only one process can do, and then lists the folder again:
two drivers that start at the same moment may both give way and retry, but they never both continue.

If two continue nevertheless (a driver was suspended for minutes, an object store ignores conditions), results stay
correct: markers, checkpoints and shards are written whole, and the older of two copies of a training stops
(:mod:`nsdflow.engine.training_lease`).
"""

from __future__ import annotations

import datetime
import json
import os
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from nsdflow.errors import NsdflowError, RunError, StoreError
from nsdflow.io.folders import list_folder
from nsdflow.io.paths import filesystem, is_local
from nsdflow.io.reach import reaching
from nsdflow.io.read import METADATA_BYTES, read_bytes
from nsdflow.io.write import create_text, write_text

__all__ = ["Hold", "holder", "holding"]

#: Time between two heartbeats.
HEARTBEAT_INTERVAL_S: Final = 15.0
#: Time without a heartbeat after which a driver on another machine counts as dead; files appear up to a minute late.
HEARTBEAT_TIMEOUT_S: Final = 90.0
#: Time between two checks of a holder's heartbeats.
CHECK_INTERVAL_S: Final = 1.0
#: Number of attempts when drivers start at the same moment.
ATTEMPTS: Final = 5

Record = dict[str, Any]


@dataclass
class Hold:
    """A held lock; see :func:`holding`."""

    target: str
    number: int
    record: Record
    _stop: threading.Event = field(default_factory=threading.Event, repr=False)
    _lost: bool = field(default=False, repr=False)

    @property
    def url(self) -> str:
        """Path or URL of the file."""
        return _url(self.target, self.number)

    def check(self) -> None:
        """Stop if another driver has taken over.

        Raises
        ------
        RunError
            This driver sent no heartbeats for so long that it counted as dead.
        """
        if self._lost:
            raise RunError(
                f"{_label(self.target)}: another command took over while this one gave no sign of life; nothing is "
                "lost, that one goes on"
            )

    def beat(self) -> None:
        """Send a heartbeat, unless another driver has taken over."""
        with suppress(NsdflowError, OSError):  # a heartbeat that cannot be written is skipped
            self._lost = self._lost or _numbers(self.target)[-1:] != [self.number]
            if not self._lost:
                self.record["beats"] += 1
                write_text(self.url, json.dumps(self.record))

    def release(self) -> None:
        """Remove the file."""
        self._stop.set()
        with suppress(NsdflowError, OSError):  # a leftover belongs to a dead process
            _remove(self.url)

    def keep_beating(self) -> None:
        """Send heartbeats until :meth:`release`."""
        while not self._stop.wait(HEARTBEAT_INTERVAL_S):
            self.beat()


@contextmanager
def holding(target: str, *, tell: Callable[[str], None] | None = None) -> Iterator[Hold]:
    """Hold the lock on a target while the block runs.

    Parameters
    ----------
    target : str
        Path or URL without an ending; the file is created next to it.
    tell : callable, optional
        Receives a line when this driver waits, or takes over from a dead one.

    Yields
    ------
    hold : Hold
        Checked while tasks run.

    Raises
    ------
    RunError
        Another driver holds the lock; the message names it.
    """
    hold = _take(target, tell or (lambda _: None))
    beating = threading.Thread(target=hold.keep_beating, name=f"beating for {target}", daemon=True)
    beating.start()
    try:
        yield hold
    finally:
        hold.release()
        beating.join()


def holder(target: str) -> str | None:
    """A line about the driver that holds a target; None if none does."""
    numbers = _numbers(target)
    record = _read(_url(target, numbers[-1])) if numbers else None
    if record is None:
        return None
    if record.get("machine") == _machine():
        return f"{_who(record)} {'works on it' if _runs(record) else 'worked on it and died'}"
    return f"{_who(record)} holds it"


def _take(target: str, tell: Callable[[str], None]) -> Hold:
    record = _myself()
    for _ in range(ATTEMPTS):
        dead = _numbers(target)
        for number in dead:
            before = _read(_url(target, number))
            if before is not None and (alive := _alive(_url(target, number), before, tell)) is not None:
                raise RunError(
                    f"{_label(target)}: {_who(alive)} works on it already; wait for it "
                    "(nsdflow status says how far it is), or stop it and run the same command again"
                )
        hold = Hold(target, max(dead, default=0) + 1, record)
        if not create_text(hold.url, json.dumps(record)) and _read(hold.url) != record:
            continue  # another driver was faster: check it
        if set(_numbers(target)) <= {*dead, hold.number} and _read(hold.url) == record:
            for number in dead:
                _remove(_url(target, number))
                tell(f"{_label(target)}: taken over from a command that died")
            return hold
        hold.release()
        time.sleep(random.uniform(0, CHECK_INTERVAL_S))
    raise RunError(f"{_label(target)}: several commands started at once; run one of them again")


def _alive(url: str, before: Record, tell: Callable[[str], None]) -> Record | None:
    """The record of a holder, if it is alive."""
    if before.get("machine") == _machine():
        return before if _runs(before) else None
    tell(f"waiting up to {HEARTBEAT_TIMEOUT_S:.0f} s to see whether {_who(before)} still lives")
    ends = time.monotonic() + (HEARTBEAT_TIMEOUT_S if before else 2 * CHECK_INTERVAL_S)  # damaged: no heartbeats
    while time.monotonic() < ends:
        time.sleep(CHECK_INTERVAL_S)
        now = _read(url)
        if now != before:
            return now
    return None


def _myself() -> Record:
    return {
        "host": socket.gethostname(),
        "machine": _machine(),
        "pid": os.getpid(),
        "born": _born(os.getpid()),
        "since": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "token": uuid4().hex,
        "beats": 0,
    }


def _label(target: str) -> str:
    """The store or run folder, for messages."""
    return target.removesuffix("/driver")


def _who(record: Record) -> str:
    if "pid" not in record:
        return "a command whose file is damaged"
    return f"a command on {record.get('host')} (process {record['pid']}, since {record.get('since')})"


def _machine() -> str:
    """Identity of the process id namespace: a boot of a machine, or a container on it."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # not Linux
        return socket.gethostname()


def _born(pid: int) -> str | None:
    """Start time of a process of this machine, because ids are reused; None if it is dead or invisible."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else fields[18]


def _runs(record: Record) -> bool:
    """Whether the process of a record from this machine still runs; a damaged record names none."""
    pid = record.get("pid")
    if not isinstance(pid, int) or pid < 1:  # 0 and less would ask about groups of processes
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # of another user, and alive
        return True
    return _born(pid) == record.get("born")


def _url(target: str, number: int) -> str:
    return f"{target}.{number:06d}.hold"


def _numbers(target: str) -> list[int]:
    """Numbers of the existing files, ascending."""
    folder, _, name = target.rpartition("/")
    pattern = re.compile(re.escape(name) + r"\.(\d{6})\.hold")
    return sorted(int(found[1]) for file in list_folder(folder or ".") if (found := pattern.fullmatch(file)))


def _read(url: str) -> Record | None:
    """The record in a file: None if there is no file, empty if it is damaged."""
    try:
        record = json.loads(read_bytes(url, limit_bytes=METADATA_BYTES))
    except FileNotFoundError:
        return None
    except StoreError:
        if not is_local(url):  # a bucket that cannot be reached
            raise
        return {}
    except (ValueError, IsADirectoryError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _remove(url: str) -> None:
    with reaching(url):
        system, path = filesystem(url)
        with suppress(FileNotFoundError):
            system.rm_file(path)
