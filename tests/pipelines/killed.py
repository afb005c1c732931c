"""Runs that kill themselves with -9 at the n-th change of a file, each in a fork of one process that has imported all.

``python -m tests.pipelines.killed``: each line of stdin is ``[[[PIPELINE, SETTINGS], ...], STORE, RUNS, N]``, with null
for an undisturbed run. The answer is ``[STATUS, CHANGES]``: of ``os.waitstatus_to_exitcode``, and the changes counted.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from typing import Any

import torch

import nsdflow
from nsdflow.cluster.connect import connect

#: Imported before the first fork, each in seconds.
MODULES = (
    "himalaya.kernel_ridge", "sklearn.model_selection", "pandas", "nsdflow.pipelines.run", "nsdflow.pipelines.load",
    "nsdflow.pipelines.needs",
    "nsdflow.pipelines.features.tasks", "nsdflow.pipelines.ridge.tasks", "nsdflow.pipelines.banded.tasks",
    "nsdflow.runs.card", "tests.pipelines.test_killed",
)  # fmt: skip
#: What Python says of itself before it changes a file or folder; ``open`` counts where it is for writing.
CHANGES = frozenset({"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "shutil.rmtree"})


class Killer:
    """An audit hook that counts changes below a folder, and kills the process at one of them."""

    def __init__(self, folder: str, last: int | None) -> None:
        self.folder, self.last, self.count = folder, last, 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in CHANGES or not str(arguments[0]).startswith(self.folder):
            return
        if event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR):
            return
        self.count += 1
        if self.count == self.last:
            os.kill(os.getpid(), signal.SIGKILL)


def carry_out(pipelines: list[tuple[Any, dict[str, Any]]], store: str, runs: str) -> None:
    torch.set_num_threads(1)
    with connect("threads", memory="8GiB", dashboard=None) as client:
        for pipeline, settings in pipelines:
            nsdflow.run(pipeline, store=store, runs=runs, client=client, listen=None, **settings)


def main() -> None:
    for name in MODULES:
        importlib.import_module(name)
    for line in sys.stdin:
        pipelines, store, runs, last = json.loads(line)
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            killer = Killer(runs, last)
            sys.addaudithook(killer)
            carry_out(pipelines, store, runs)
            os.write(writing, str(killer.count).encode())
            os._exit(0)
        os.close(writing)
        count = os.read(reading, 32)
        os.close(reading)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps([status, int(count or 0)]), flush=True)


if __name__ == "__main__":
    main()
