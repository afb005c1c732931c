"""What a running task tells the world: events, from any worker to the driver, the run's log and the dashboard.

A task calls :func:`emit`; Dask carries the event to the scheduler, which keeps the last thousand and forwards each to
whoever called :func:`subscribe`. Outside Dask nothing happens, so that functions that report can be called anywhere.

An event is a flat dictionary of JSON values with at least ``kind`` and ``time`` (seconds since 1970); events from a
task also carry ``task`` (its key), ``worker_name`` and ``worker`` (the address, which Dask adds). Kinds in use:

===============  ====================================================  ====================================
kind             fields                                                who
===============  ====================================================  ====================================
``stage``        stage, total, done, bytes                             driver, once a stage before it starts
``task-done``    key, stage, seconds, bytes                            driver, once a task
``task-failed``  key, stage, error                                     driver, when a task failed
``epoch``        run, epoch, epochs, seconds, loss, accuracy, ...      training task, once an epoch
``job``          pool, name, id, state, reason, jobs                   pools: submitted, waiting, up, lost, released
``note``         text                                                  anyone: one line worth reading
===============  ====================================================  ====================================
"""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from distributed import get_worker

from nsdflow.errors import StoreError
from nsdflow.io.paths import filesystem, is_local
from nsdflow.io.reach import reaching, writing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from distributed import Client
    from tornado.ioloop import IOLoop

__all__ = [
    "DRIVER_TOPIC",
    "TOPIC",
    "Event",
    "Listener",
    "Publisher",
    "RunLog",
    "emit",
    "make_event",
    "read_log",
    "subscribe",
]

#: Where workers and pools report.
TOPIC = "nsdflow"
#: Where a driver shows its own events to the dashboard.
DRIVER_TOPIC = "nsdflow-driver"
#: Seconds for which events of a driver are gathered.
PUBLISH_EVERY = 0.25
#: Seconds between two uploads of a log to an object store.
UPLOAD_EVERY = 30.0

Event: TypeAlias = dict[str, Any]
Listener: TypeAlias = "Callable[[Event], None]"


def make_event(kind: str, **fields: Any) -> Event:
    """An event that happens now."""
    return {"kind": kind, "time": time.time(), **fields}


def emit(kind: str, **fields: Any) -> None:
    """Report from inside a Dask task; does nothing anywhere else.

    ``fields`` are JSON values: plain numbers, text, lists, dictionaries. Delivery is asynchronous and costs
    microseconds; a worker that is killed may lose its last event, so nothing may depend on events.
    """
    try:
        worker = get_worker()
    except ValueError:  # not in a task
        return
    event = make_event(kind, task=str(worker.get_current_task()), worker_name=str(worker.name), **fields)
    worker.log_event(TOPIC, event)


class Publisher:
    """The listener that shows a driver's own events on the dashboard; the driver does not wait for it.

    Events of a quarter of a second travel together: a round trip to the scheduler for each of ten thousand tasks takes
    longer than small tasks do. Use it as a context manager; at the end everything has arrived.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._loop = cast("IOLoop", client.loop)
        self._waiting: list[Event] = []
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        with self._lock:
            self._waiting.append(event)
            first = len(self._waiting) == 1
        if first:
            self._loop.add_callback(self._loop.call_later, PUBLISH_EVERY, self._send)

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:  # perhaps because the scheduler is gone: do not wait for it
            self._loop.add_callback(self._send)
        elif events := self._take():
            self._client.log_event(DRIVER_TOPIC, events)

    def _take(self) -> list[Event]:
        with self._lock:
            events, self._waiting = self._waiting, []
        return events

    async def _send(self) -> None:
        scheduler = self._client.scheduler
        if scheduler is not None and (events := self._take()):
            with suppress(OSError):  # the scheduler is gone, which the driver is told elsewhere
                await scheduler.log_event(topic=DRIVER_TOPIC, msg=events)


@contextmanager
def subscribe(client: Client, listener: Listener) -> Iterator[None]:
    """Call ``listener(event)`` for each event of any task of this scheduler while the block runs.

    The listener runs on the client's network thread: it must be quick and safe to call from there. A client has one
    subscription at a time; give it a listener that passes events on if several want them.
    """
    client.subscribe_topic(TOPIC, lambda stamped: listener(dict(stamped[1])))
    try:
        yield
    finally:
        client.unsubscribe_topic(TOPIC)


class RunLog:
    """The listener that appends each event to ``log.jsonl``, one JSON object a line, as it happens.

    On a file system a line is a single ``write`` to a file opened for appending: two drivers cannot interleave within
    a line, and what was logged survives whatever kills the driver. Object stores cannot append: there the log is
    rewritten every half minute and at the end.

    A line that cannot be written now (the disk is full, the network is down) waits for the next one: a log is no reason
    to stop a run. :meth:`close` tries a last time.
    """

    def __init__(self, url: str | Path) -> None:
        self.url = str(url)
        self._lock = threading.Lock()
        self._fs, self._path = filesystem(self.url)
        self._file: int | None = None
        self._text = b""
        """What waits to be written; of an object, all of it."""
        self._uploaded = time.monotonic()
        with writing(self.url):
            if is_local(self.url):
                Path(self._path).parent.mkdir(parents=True, exist_ok=True)
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
                size = os.fstat(self._file).st_size
                if size and os.pread(self._file, 1, size - 1) != b"\n":
                    self._text = b"\n"  # a driver died within a line: do not write on behind it
            elif self._fs.exists(self._path):
                self._text = self._fs.cat_file(self._path)

    def __call__(self, event: Event) -> None:
        line = json.dumps(event, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            self._text += line
            if self._file is not None or time.monotonic() - self._uploaded > UPLOAD_EVERY:
                with suppress(StoreError, OSError):
                    self._write()

    def close(self) -> None:
        """Finish the file; the log stays.

        Raises
        ------
        StoreError
            Lines could not be written.
        """
        with self._lock:
            try:
                self._write()
            finally:
                if self._file is not None:
                    os.close(self._file)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with suppress(*([] if kind is None else [StoreError, OSError])):  # what failed first says more
            self.close()

    def _write(self) -> None:
        with writing(self.url):
            if self._file is None:
                self._uploaded = time.monotonic()
                self._fs.pipe_file(self._path, self._text)
            elif self._text:
                written = os.write(self._file, self._text)
                self._text = self._text[written:]


def read_log(url: str | Path) -> list[Event]:
    """The events of a log, oldest first, without the lines that a killed driver left unfinished."""
    events = []
    with reaching(str(url)):
        fs, path = filesystem(str(url))
        text = fs.cat_file(path).decode(errors="replace")
    for line in text.splitlines():
        with suppress(json.JSONDecodeError):
            events.append(json.loads(line))
    return events
