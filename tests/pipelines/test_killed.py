"""Features, ridge and banded ridge killed with -9 anywhere, and by any workers: the bits of an undisturbed run."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster
from torch import nn

import nsdflow
from nsdflow.cluster.connect import connect
from nsdflow.monitor.events import Event

pytest.importorskip("himalaya")


def own() -> nn.Module:
    """A network of two convolutions."""
    return nn.Sequential(nn.Conv2d(3, 4, 9, stride=8), nn.Tanh(), nn.Conv2d(4, 6, 3))


SMALL: dict[str, Any] = {
    "lambda_min": 1e1, "lambda_max": 1e5, "lambdas": 3, "bootstrap": 2, "rois": ["V1", "V2"], "subjects": [2],
    "voxels_per_task": 16, "threads": 1,
}  # fmt: skip
BANDS = {name: {"features": "features", "layer": name} for name in ("0", "2")}
PIPELINES: list[tuple[Any, dict[str, Any]]] = [
    ("features", {"features": f"{__name__}:own", "feature_weights": "random", "layers": ["0", "2"],
                  "projection": "pca(9)", "images_per_task": 64, "subjects": [2], "threads": 1}),
    ("ridge", {**SMALL, "weights": True}),
    ({"kind": "banded_ridge", "name": "banded", "bands": BANDS, "protocol": "strict"},
     {**SMALL, "iterations": 3, "folds": 2, "predictions": True}),
]  # fmt: skip
Ask = Callable[[Path, int | None], tuple[int, int]]


@pytest.fixture(scope="module")
def ask(small_store: str) -> Iterator[Ask]:
    """Runs everything in a folder, in a process that dies at the n-th change of a file."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-m", "tests.pipelines.killed"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:

        def asked(runs: Path, last: int | None) -> tuple[int, int]:
            process.stdin.write(json.dumps([PIPELINES, small_store, str(runs), last]) + "\n")
            process.stdin.flush()
            status, changes = json.loads(process.stdout.readline())
            return status, changes

        yield asked
        process.stdin.close()


@pytest.fixture(scope="module")
def undisturbed(ask: Ask, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], int]:
    """Contents of all files, and the number of changes that made them."""
    runs = tmp_path_factory.mktemp("undisturbed")
    status, changes = ask(runs, None)
    assert status == 0
    return contents(runs), changes


def contents(runs: Path) -> dict[str, bytes]:
    """Every file with values, by its path."""
    kept = ("results.zarr", "weights.zarr", "coefficients", "model.safetensors", "projection.safetensors")
    files = (path for run in runs.iterdir() for name in kept for path in [run / name, *(run / name).rglob("*")])
    return {str(path.relative_to(runs)): path.read_bytes() for path in files if path.is_file()}


@pytest.mark.parametrize("kills", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_a_killed_command_goes_on_to_the_same_bits(
    ask: Ask, undisturbed: tuple[dict[str, bytes], int], tmp_path: Path, kills: int
) -> None:
    whole, changes = undisturbed
    assert {path.split("/")[0] for path in whole} == {"features", "ridge", "banded"}
    drawn, killed, number = random.Random(kills), 0, 0
    while killed < kills:
        runs = tmp_path / str(number := number + 1)
        while killed < kills and (status := ask(runs, drawn.randrange(1, changes))[0]):
            assert status == -9, "it failed, instead of being killed"
            killed += 1
        assert ask(runs, None)[0] == 0
        assert contents(runs) == whole


def carry_out(store: str, runs: Path, client: Client, listen: Callable[[Event], None] | None = None) -> None:
    for pipeline, settings in PIPELINES:
        nsdflow.run(pipeline, store=store, runs=str(runs), client=client, listen=listen, **settings)


def test_the_number_of_workers_changes_no_bit(
    small_store: str, undisturbed: tuple[dict[str, bytes], int], tmp_path: Path
) -> None:
    """Two workers of two threads each."""
    ports = {"dashboard_address": "127.0.0.1:0", "worker_dashboard_address": "127.0.0.1:0"}
    settings: dict[str, Any] = {"n_workers": 2, "threads_per_worker": 2, "processes": False, "memory_limit": "8GiB"}
    settings |= {"resources": {"CPU": 2, "GPU": 1}, "scheduler_kwargs": {"dashboard": False}, **ports}
    with LocalCluster(**settings) as cluster, Client(cluster) as client:
        carry_out(small_store, tmp_path, client)
    assert contents(tmp_path) == undisturbed[0]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_killed_workers_change_no_bit(
    small_store: str, undisturbed: tuple[dict[str, bytes], int], tmp_path: Path, seed: int
) -> None:
    drawn, done, killed = random.Random(seed), 0, []
    when = sorted(drawn.sample(range(2, 10), 3))
    with connect("local", workers=2, memory="4GiB", dashboard=None) as client:

        def kill(event: Event) -> None:
            nonlocal done
            if event["kind"] != "task-done":
                return
            done += 1
            if len(killed) < 3 and done >= when[len(killed)]:
                alive = client.run(os.getpid, on_error="ignore")  # another one may be dying
                if alive:
                    killed.append(drawn.choice(sorted(alive.values())))
                    os.kill(killed[-1], signal.SIGKILL)

        carry_out(small_store, tmp_path, client, kill)
    assert len(killed) == 3
    assert contents(tmp_path) == undisturbed[0]
