"""The ``nsdflow`` command, which kills itself with -9 at a given event.

``python driver.py KIND:VALUE NUMBER ARGUMENT...``: ``task-done:betas`` is a task of that stage, ``epoch:2`` the second
epoch, ``published:`` the moment after a store or results got their name; NUMBER counts them. No dashboard is started.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from nsdflow.cli import main, session
from nsdflow.ingestion import ingest
from nsdflow.monitor.terminal import TerminalProgress
from nsdflow.pipelines import run as pipelines

listen, connect, publish, remove = (
    TerminalProgress.__call__,
    session.connect,
    ingest.publish_store,
    pipelines.remove_parts,
)


def die() -> None:
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)


def hear(self: TerminalProgress, event: dict[str, Any]) -> None:
    listen(self, event)
    if event["kind"] == kind and value in (str(event.get("stage", "")), str(event.get("epoch", ""))):
        die()


if __name__ == "__main__":  # worker processes import this file too
    kind, _, value = sys.argv[1].partition(":")
    left = int(sys.argv[2])
    sys.argv[1:3] = []
    TerminalProgress.__call__ = hear
    session.connect = lambda cluster, **settings: connect(
        cluster, **settings | {"dashboard": None}
    )  # seconds a command
    if kind == "published":
        ingest.publish_store = lambda *arguments: (publish(*arguments), die())
        pipelines.remove_parts = lambda folder: (die(), remove(folder))
    main()
