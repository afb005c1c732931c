"""One training in several tasks with one GPU each. The tasks meet, train, and meet again when one is lost.

Every process is a task of the plan. The processes find each other through two kinds of small files in the folder of
their checkpoint, which all of them can read. Each process but the first *calls*, with a word that it uses once. When
all have called, the first process writes the *round*: the address at which they meet, and the calls that it answers.
If a process is lost, its connections close. All others notice it in their next exchange and meet again, together with
the copy of the lost process that Dask starts on another worker. Then all continue from the last checkpoint, which the
first process wrote.

Dask can bind that copy to a worker on which another process waits for it; :mod:`nsdflow.cluster.rebind` moves it to a
free worker. A process deletes its call when it is answered or leaves. The call of a process that died while it waited
remains. If the first process answers such a call, the meeting fails for all processes, and they call again.
"""

from __future__ import annotations

import json
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from distributed import get_worker

from nsdflow.errors import RunError
from nsdflow.fit.gnet import TrainResult
from nsdflow.fit.gnet.checkpoint import read_checkpoint
from nsdflow.fit.gnet.parallel import Backend, RankLost, Ranks, join_ranks
from nsdflow.io.paths import filesystem
from nsdflow.io.write import write_text
from nsdflow.monitor.events import emit

__all__ = ["Seat", "train_together"]

#: Seconds between two reads of the folder.
FOLDER_CHECK_INTERVAL_S = 0.5
#: Seconds until a process that waits for the others gives up. Their workers may wait in a queue.
MEETING_TIMEOUT_S = 6 * 3600.0
#: Seconds from the answer of the first process until all must connect; network file systems can be a minute late.
JOIN_TIMEOUT_S = 180.0
#: Largest number of meetings that fail or end early, per process.
MOST_MEETINGS = 20


@dataclass(frozen=True)
class Seat:
    """Process ``rank`` of ``size`` of the training whose checkpoint is ``folder/part.pt``."""

    folder: str
    """A path or URL."""
    part: str
    rank: int
    size: int

    @property
    def checkpoint(self) -> str:
        """The file that the first process writes and all read."""
        return f"{self.folder}/{self.part}.pt"

    @property
    def name(self) -> str:
        """Name of this process's claim to the training."""
        return self.part if self.size == 1 else f"{self.part}-{self.rank}"

    def call(self, rank: int) -> str:
        """The file in which a process calls."""
        return f"{self.folder}/{self.part}-{rank}.call"

    @property
    def round(self) -> str:
        """The file in which the first process answers."""
        return f"{self.folder}/{self.part}.round"

    def complete(self, epochs: int) -> bool:
        """Whether the checkpoint has all epochs, so that no meeting is needed."""
        found = read_checkpoint(self.checkpoint)
        return found is not None and found.progress.epoch >= epochs


def train_together(
    seat: Seat,
    train: Callable[[Ranks], TrainResult],
    *,
    backend: Backend,
    told_to_leave: Callable[[], bool],
    leave: Callable[[], NoReturn],
) -> TrainResult:
    """Meet the other processes and ``train`` with them, repeatedly until all epochs are done.

    When ``told_to_leave`` of one process returns True, the training stops in all processes. That process then calls
    ``leave``, which does not return, and the others wait for its copy.

    Raises
    ------
    RunError
        The other processes do not connect, or are lost repeatedly.
    """
    answered: set[str] = set()
    for _ in range(MOST_MEETINGS):
        address = _meet(seat, answered, told_to_leave)
        if address is None:
            leave()
        try:
            with join_ranks(seat.rank, seat.size, address, backend=backend, timeout=JOIN_TIMEOUT_S) as ranks:
                result = train(ranks)
        except RankLost as lost:
            emit("note", text=f"{seat.name}: {lost}; all processes of this training meet again")
            continue
        finally:
            if seat.rank == 0 and address.startswith("file://"):
                shutil.rmtree(Path(address.removeprefix("file://")).parent, ignore_errors=True)
        if result.status == "done":
            return result
        if told_to_leave():
            leave()
    raise RunError(f"{seat.name}: the processes met {MOST_MEETINGS} times and lost each other; run nsdflow doctor")


def _meet(seat: Seat, answered: set[str], told_to_leave: Callable[[], bool]) -> str | None:
    """Address of the next round, or None if the process must leave; ``answered`` holds the words already answered."""
    look = _convene if seat.rank == 0 else _answer
    word = secrets.token_hex(8)
    ends = time.monotonic() + MEETING_TIMEOUT_S
    try:
        while not told_to_leave():
            address = look(seat, answered, word)
            if address is not None:
                return address
            if time.monotonic() > ends:
                raise RunError(
                    f"{seat.name}: the other {seat.size - 1} processes did not come within "
                    f"{MEETING_TIMEOUT_S / 3600:.0f} hours; see that as many GPU workers can run at once, "
                    "or set processes=1"
                )
            time.sleep(FOLDER_CHECK_INTERVAL_S)
    finally:
        if _read(seat.call(seat.rank)).get("word") == word:
            system, path = filesystem(seat.call(seat.rank))
            system.rm_file(path)
    return None


def _convene(seat: Seat, answered: set[str], _: str) -> str | None:
    """First process: when all others have called with new words, write the address of the meeting."""
    calls = {rank: _read(seat.call(rank)).get("word") for rank in range(1, seat.size)}
    words = {word for word in calls.values() if word is not None}
    if len(words) < seat.size - 1 or words & answered:
        return None
    answered |= words
    address = _meeting_point()
    write_text(seat.round, json.dumps({"address": address, "words": calls}))
    return address


def _answer(seat: Seat, _: set[str], word: str) -> str | None:
    """Other processes: call, and read the address of the meeting when the first process has answered."""
    call = seat.call(seat.rank)
    if _read(call).get("word") != word:
        write_text(call, json.dumps({"word": word}))
    found = _read(seat.round)
    answered: bool = found.get("words", {}).get(str(seat.rank)) == word
    return found["address"] if answered else None


def _read(file: str) -> dict[str, Any]:
    system, path = filesystem(file)
    try:
        content: dict[str, Any] = json.loads(system.cat_file(path))
    except FileNotFoundError:
        return {}
    return content


def _meeting_point() -> str:
    """A file for processes on this machine, whose sockets are then on loopback; otherwise a port of this process."""
    host = _host()
    if host in ("127.0.0.1", "::1", "localhost"):
        return f"file://{tempfile.mkdtemp(prefix='nsdflow-')}/meet"
    return f"tcp://{host}:{_free_port()}"


def _host() -> str:
    """The address at which other workers reach this one."""
    try:
        host = urlsplit(get_worker().address).hostname
    except ValueError:  # this process is not in a task
        host = None
    return host or socket.gethostname()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
    return port
