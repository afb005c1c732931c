"""Run by test_parallel.py: trainings over several processes, forked here so that torch is imported once.

Arguments: a folder and a JSON list of runs, one after the other. A run's processes write ``NAME-RANK.pt``.
"""

from __future__ import annotations

import json
import os
import sys
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import torch
from conftest import make_problem

from nsdflow.fit.gnet import TrainSettings, train
from nsdflow.fit.gnet.parallel import join_ranks


def train_as(rank: int, folder: Path, run: dict[str, Any]) -> None:
    """Train as one of the run's processes; the second gets a stop signal at its ``asks``-th query."""
    answers, records = chain(repeat(False, run["asks"]), repeat(rank == 1)), []
    with join_ranks(rank, run["size"], f"file://{folder}/{run['name']}-meet", timeout=60) as ranks:
        result = train(
            *make_problem(dtype=torch.float64).arguments,
            settings=TrainSettings(**run["settings"]),
            ranks=ranks,
            checkpoint=folder / run["checkpoint"],
            on_epoch=records.append,
            should_stop=lambda: next(answers),
        )
    readouts = {name: readout.state_dict() for name, readout in result.final_readouts.items()}
    state = {"encoder": result.final_encoder.state_dict(), **readouts}
    torch.save([result.status, result.history, len(records), state], folder / f"{run['name']}-{rank}.pt")


def main(folder: Path, runs: list[dict[str, Any]]) -> None:
    for run in runs:
        children = []
        for rank in range(run["size"]):
            child = os.fork()
            if child == 0:
                train_as(rank, folder, run)
                os._exit(0)
            children.append(child)
        for child in children:
            if os.waitpid(child, 0)[1] != 0:
                sys.exit(f"a process of {run['name']} failed")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
