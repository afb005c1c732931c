"""Events that running tasks report, from any worker to the driver, the run's log and the dashboard.

A task calls :func:`emit`; Dask carries the event to the scheduler, which keeps the last thousand and forwards each to
the clients that called :func:`subscribe`. Outside Dask :func:`emit` does nothing, so that functions that report can be
called anywhere.

An event is a flat dictionary of JSON values with at least ``kind`` and ``time`` (seconds since 1970). Events from a
task also carry ``task`` (its key), ``worker_name`` and ``worker`` (the address, which Dask adds). ``run`` is the name
of the run folder or store. Kinds:

===============  ========================================================  ============================================
kind             fields                                                    sender
===============  ========================================================  ============================================
``stage``        run, stage, total, done, bytes                            driver, per stage, before it starts
``task-done``    run, key, stage, seconds, bytes                           driver, per task
``task-failed``  run, key, stage, error                                    driver, when a task failed
``activity``     run, group, text, epochs, done, total                     training: ``reading data``; ``training`` with
                                                                           batches done and total of the epoch
``epoch``        run, group, epoch, epochs, seconds, loss, accuracy, ...   training, per epoch
``job``          pool, name, id, state, reason, jobs                       pools: submitted, waiting, up, lost, released
``note``         text                                                      anyone: one line of information
===============  ========================================================  ============================================
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from distributed import get_worker

from nsdflow.errors import StoreError
from nsdflow.io.paths import filesystem, is_local, public
from nsdflow.io.reach import writing
from nsdflow.io.read import read_bytes
from nsdflow.io.text import printable

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

#: Topic of the events of workers and pools.
TOPIC = "nsdflow"
#: Topic of the events of a driver, for the dashboard.
DRIVER_TOPIC = "nsdflow-driver"
#: Events of a driver within this time are sent together.
PUBLISH_INTERVAL_S = 0.25
#: Time between two uploads of a log to an object store.
UPLOAD_INTERVAL_S = 30.0
#: Largest log that is read.
LOG_BYTES: Final = 256 << 20

Event: TypeAlias = dict[str, Any]
Listener: TypeAlias = "Callable[[Event], None]"


def make_event(kind: str, **fields: Any) -> Event:
    """An event with the current time; user names and passwords in URLs are left out."""
    shown = {name: public(value) if isinstance(value, str) else value for name, value in fields.items()}
    return {"kind": kind, "time": time.time(), **shown}


def emit(kind: str, **fields: Any) -> None:
    """Report from inside a Dask task; does nothing elsewhere.

    Delivery is asynchronous and costs microseconds. A worker that is killed may lose its last event, so that no result
    may depend on events.

    Parameters
    ----------
    kind : str
        See the table of the module.
    **fields
        JSON values: numbers, text, lists, dictionaries.
    """
    try:
        worker = get_worker()
    except ValueError:  # not in a task
        return
    event = make_event(kind, task=str(worker.get_current_task()), worker_name=str(worker.name), **fields)
    worker.log_event(TOPIC, event)


class Publisher:
    """A listener that sends a driver's own events to the dashboard; the driver does not wait for it.

    Events within a quarter of a second are sent together, because a round trip to the scheduler takes longer than a
    small task. When the context manager exits, all events have arrived.

    Parameters
    ----------
    client : distributed.Client
        Client of the scheduler whose dashboard shows the events.
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
            self._loop.add_callback(self._loop.call_later, PUBLISH_INTERVAL_S, self._send)

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:  # the scheduler may be gone: do not wait for it
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
            with suppress(OSError):  # the scheduler is gone, which the feed reports
                await scheduler.log_event(topic=DRIVER_TOPIC, msg=events)


@contextmanager
def subscribe(client: Client, listener: Listener) -> Iterator[None]:
    """Call a listener for each event of any task of this scheduler while the block runs.

    Parameters
    ----------
    client : distributed.Client
        A client has one subscription at a time.
    listener : callable
        Called with each event on the client's network thread, so it must be quick and thread-safe.
    """
    client.subscribe_topic(TOPIC, lambda stamped: listener(dict(stamped[1])))
    try:
        yield
    finally:
        client.unsubscribe_topic(TOPIC)


class RunLog:
    """A listener that appends each event to ``log.jsonl``, one JSON object per line, as it happens.

    On a file system a line is a single ``write`` to a file opened for appending: two drivers cannot interleave within
    a line, and logged lines survive a driver that is killed. Object stores cannot append: there the log is rewritten
    every half minute and at the end.

    A line that cannot be written (the disk is full, the network is down) waits for the next one, because a log must
    not stop a run. :meth:`close` tries a last time.

    Parameters
    ----------
    url : str or Path
        Path or URL of the log file.
    """

    def __init__(self, url: str | Path) -> None:
        self.url = str(url)
        self._lock = threading.Lock()
        self._fs, self._path = filesystem(self.url)
        self._file: int | None = None
        self._text = b""
        """Text that is not written yet; of an object, all of it."""
        self._uploaded = time.monotonic()
        with writing(self.url):
            if is_local(self.url):
                Path(self._path).parent.mkdir(parents=True, exist_ok=True)
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o644)
                size = os.fstat(self._file).st_size
                if size and os.pread(self._file, 1, size - 1) != b"\n":
                    self._text = b"\n"  # a driver died within a line: end that line
            elif self._fs.exists(self._path):
                self._text = self._fs.cat_file(self._path)

    def __call__(self, event: Event) -> None:
        line = json.dumps(event, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            self._text += line
            if self._file is not None or time.monotonic() - self._uploaded > UPLOAD_INTERVAL_S:
                with suppress(StoreError, OSError):
                    self._write()

    def close(self) -> None:
        """Write the remaining lines and close the file.

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
        with suppress(*([] if kind is None else [StoreError, OSError])):  # the first error says more
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
    """The events of a log, oldest first, without lines that a killed driver left unfinished.

    Parameters
    ----------
    url : str or Path
        Path or URL of the log file.
    """
    text = read_bytes(str(url), limit_bytes=LOG_BYTES).decode(errors="replace")
    events = []
    for line in text.splitlines():
        with suppress(ValueError, TypeError, LookupError, OverflowError, RecursionError):  # no JSON, or no time
            event = json.loads(line)
            if isinstance(event, dict) and "kind" in event and math.isfinite(event["time"]):
                events.append(printable(event))
    return events
