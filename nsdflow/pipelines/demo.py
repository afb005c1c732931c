"""``nsdflow demo``: the whole of nsdflow on a synthetic NSD, small enough for two cores and a minute."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nsdflow.config import load_storage
from nsdflow.ingestion.ingest import carry_out, plan_ingest
from nsdflow.pipelines.run import resolve, run, run_folders
from nsdflow.synthetic import SyntheticSpec, write_nsd

if TYPE_CHECKING:
    from distributed import Client

    from nsdflow.monitor.events import Listener
    from nsdflow.synthetic.published.stimuli import OnProgress

__all__ = ["run_demo"]


def run_demo(
    out: Path, client: Client, *, listen: Listener | None = None, progress: OnProgress | None = None
) -> list[str]:
    """Write a synthetic NSD, ingest it, run the ``demo`` pipeline, and return the run folders.

    All files are written below ``out``. Existing files are kept, so a second call only shows the results. ``listen``
    hears of ingestion and runs, ``progress`` of the files of the synthetic NSD.
    """
    profile = load_storage("demo")
    nsd, store, runs = out / "nsd", out / "nsd.zarr", out / "runs"
    if not (nsd / "truth").exists():
        write_nsd(nsd, SyntheticSpec.demo(), progress=progress)
    if not store.exists():
        plan = plan_ingest(
            str(nsd), str(store), voxels=profile.voxels, image_size=profile.image_size, layout=profile.layout
        )
        carry_out(plan, client, listen=listen)
    run("demo", store=str(store), runs=str(runs), client=client, listen=listen)
    return run_folders(resolve("demo"), str(runs))
