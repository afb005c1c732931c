"""Who drives a run or an ingestion: one command at a time, and the next one when that has died.

A driver holds what it works on by a file ``NAME.000001.hold`` that it alone could create: exclusively on a file
system, on condition of absence in an object store. It says who holds, and its count of beats goes up every few
seconds. Whoever comes second asks the machine whether that process lives, if it runs on the same one, and otherwise
looks for long enough at the count; no clock is compared. In place of a dead one it creates the next number, which
again only one can do. Afterwards it looks once more: of two that begin at the same moment both may then give way and
try again, but never do both go on.

Should two get through all the same (a driver that was suspended for minutes and wakes up, an object store that
ignores conditions), results stay right: markers, checkpoints and shards are written whole, and of two copies of a
training the older leaves (:mod:`nsdflow.engine.training_lease`).
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
from typing import Any
from uuid import uuid4

from nsdflow.errors import NsdflowError, RunError
from nsdflow.io.folders import list_folder
from nsdflow.io.paths import filesystem
from nsdflow.io.reach import reaching
from nsdflow.io.write import create_text, write_text

__all__ = ["Hold", "holder", "holding"]

#: Seconds between two beats.
BEAT = 15.0
#: Seconds without one after which a driver on another machine counts as dead; file systems show files a minute late.
PATIENCE = 90.0
#: Seconds between two looks at a holder's count of beats.
LOOK_EVERY = 1.0
#: How often to try against others that begin at the same moment.
TRIES = 5

Record = dict[str, Any]


@dataclass
class Hold:
    """The right to work on something, while its driver lives; see :func:`holding`."""

    target: str
    number: int
    record: Record
    _stop: threading.Event = field(default_factory=threading.Event, repr=False)
    _lost: bool = field(default=False, repr=False)

    @property
    def url(self) -> str:
        """The file."""
        return _url(self.target, self.number)

    def check(self) -> None:
        """Refuse to go on if another driver has taken over.

        Raises
        ------
        RunError
            This one was out of reach for so long that it was taken for dead.
        """
        if self._lost:
            raise RunError(
                f"{_label(self.target)}: another command took over while this one gave no sign of life; nothing is "
                "lost, that one goes on"
            )

    def beat(self) -> None:
        """Count up, unless somebody else holds by now."""
        with suppress(NsdflowError, OSError):  # a beat that could not be written is missed, no more
            self._lost = self._lost or _numbers(self.target)[-1:] != [self.number]
            if not self._lost:
                self.record["beats"] += 1
                write_text(self.url, json.dumps(self.record))

    def release(self) -> None:
        """Let the next one have it."""
        self._stop.set()
        with suppress(NsdflowError, OSError):  # one that stays behind belongs to a dead process
            _remove(self.url)

    def keep_beating(self) -> None:
        """Until :meth:`release`."""
        while not self._stop.wait(BEAT):
            self.beat()


@contextmanager
def holding(target: str, *, tell: Callable[[str], None] | None = None) -> Iterator[Hold]:
    """Be the only driver of a target while the block runs.

    Parameters
    ----------
    target
        Path or URL without ending; the file is made beside it.
    tell
        Called with a line when this has to wait, or takes over from a dead driver.

    Raises
    ------
    RunError
        Another driver works on it; the line says which.
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
    """A line on who holds a target; None if nobody does."""
    numbers = _numbers(target)
    record = _read(_url(target, numbers[-1])) if numbers else None
    if record is None:
        return None
    if record.get("machine") == _machine():
        return f"{_who(record)} {'works on it' if _runs(record) else 'worked on it and died'}"
    return f"{_who(record)} holds it"


def _take(target: str, tell: Callable[[str], None]) -> Hold:
    record = _myself()
    for _ in range(TRIES):
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
            continue  # somebody else was faster: look at it
        if set(_numbers(target)) <= {*dead, hold.number} and _read(hold.url) == record:
            for number in dead:
                _remove(_url(target, number))
                tell(f"{_label(target)}: taken over from a command that died")
            return hold
        hold.release()
        time.sleep(random.uniform(0, LOOK_EVERY))
    raise RunError(f"{_label(target)}: several commands began at once; run one of them again")


def _alive(url: str, before: Record, tell: Callable[[str], None]) -> Record | None:
    """What a holder says of itself, if it lives."""
    if before.get("machine") == _machine():
        return before if _runs(before) else None
    tell(f"waiting up to {PATIENCE:.0f} s to see whether {_who(before)} still lives")
    ends = time.monotonic() + (PATIENCE if before else 2 * LOOK_EVERY)  # nobody beats in a damaged file
    while time.monotonic() < ends:
        time.sleep(LOOK_EVERY)
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
    """What is worked on: a store, or the folder of a run."""
    return target.removesuffix("/driver")


def _who(record: Record) -> str:
    if "pid" not in record:
        return "a command whose file is damaged"
    return f"a command on {record.get('host')} (process {record['pid']}, since {record.get('since')})"


def _machine() -> str:
    """What processes share that see one another by number: a boot of a machine, or a container on it."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # not Linux
        return socket.gethostname()


def _born(pid: int) -> str | None:
    """When a process of this machine started: numbers are given out again. None if it is dead or cannot be seen."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else fields[18]


def _runs(record: Record) -> bool:
    """Whether the process of a record from this machine still runs."""
    try:
        os.kill(record["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's, and alive
        return True
    return _born(record["pid"]) == record.get("born")


def _url(target: str, number: int) -> str:
    return f"{target}.{number:06d}.hold"


def _numbers(target: str) -> list[int]:
    """Numbers of the holds there are, ascending."""
    folder, _, name = target.rpartition("/")
    pattern = re.compile(re.escape(name) + r"\.(\d{6})\.hold")
    return sorted(int(found[1]) for file in list_folder(folder or ".") if (found := pattern.fullmatch(file)))


def _read(url: str) -> Record | None:
    """What a hold says: None if it is gone, an empty record if it is damaged."""
    with reaching(url):
        system, path = filesystem(url)
        try:
            record = json.loads(system.cat_file(path))
        except FileNotFoundError:
            return None
        except ValueError:
            return {}
    return record if isinstance(record, dict) else {}


def _remove(url: str) -> None:
    with reaching(url):
        system, path = filesystem(url)
        with suppress(FileNotFoundError):
            system.rm_file(path)
