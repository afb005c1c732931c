"""``nsdflow adopt``: published checkpoints become runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nsdflow.cli.options import Profile, RunsFolder, StoreUrl, normalized

__all__ = ["adopt"]


def adopt(
    checkpoints: Annotated[
        list[Path], typer.Argument(help="Files of the published GNet8j, GNet8r, transfer or AlexNet-fwRF.")
    ],
    store: StoreUrl = None,
    runs: RunsFolder = None,
    name: Annotated[str | None, typer.Option(help="Name of the run; default: that of the pipeline.")] = None,
    storage: Profile = "local",
) -> None:
    """Turn published checkpoints into runs, for `predict`, `tuning`, `transfer`, `report` and `export`.

    Example: `nsdflow adopt gnet8j_model_params.pt --store nsd.zarr --runs runs`
    """
    from nsdflow.config import load_storage
    from nsdflow.pipelines.adopt import adopt as make_runs

    profile = load_storage(storage)
    files = [str(normalized(path)) for path in checkpoints]
    for folder in make_runs(files, store=store or profile.store, runs=runs or profile.runs, name=name):
        print(folder)
