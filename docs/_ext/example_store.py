"""Makes the folder ``demo`` of the examples once: a smaller version of what ``nsdflow demo`` writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

#: Small enough for half a minute on two cores; accuracies are therefore low.
GNET: dict[str, Any] = {
    "prefilter": "gabor",
    "width": 8,
    "train": {"epochs": 4, "batch_size": 40, "learning_rate": 5e-3, "prefilter_cache": "full"},
    "bootstrap": 20,
    "threads": 1,
}
FWRF: dict[str, Any] = {
    "features": "gabor_low",
    "candidates": {"sizes": 4, "smallest": 0.08},
    "lambdas": 5,
    "bootstrap": 20,
    "threads": 1,
}


def make(demo: Path) -> None:
    """Write a synthetic NSD, its store and three runs into ``demo``, unless they exist."""
    import nsdflow
    from nsdflow.cluster.connect import connect
    from nsdflow.ingestion.ingest import carry_out, plan_ingest
    from nsdflow.synthetic import SyntheticSpec, write_nsd

    store, runs = str(demo / "nsd.zarr"), str(demo / "runs")
    if not (demo / "nsd" / "truth").exists():
        spec = SyntheticSpec(
            subjects=2,
            sessions=3,
            trials_per_session=240,
            shared_images=30,
            image_size=134,
            evc_voxels=120,
            ncsnr=(0.8, 2.0),
            formats=("nii.gz",),
        )
        write_nsd(demo / "nsd", spec)
    with connect("threads", threads_per_worker=2, dashboard=None) as client:
        if not Path(store).exists():
            carry_out(plan_ingest(str(demo / "nsd"), store, voxels="visual", image_size=67), client)
        where: dict[str, Any] = {"store": store, "runs": runs, "client": client}
        nsdflow.run("gnet8j", **where, **GNET)
        nsdflow.run("gabor_fwrf", **where, **FWRF)
        nsdflow.run("tuning", **where, model="gnet8j", bootstrap=20)


def setup(app: Sphinx) -> dict[str, bool]:
    """Make the folder before the gallery runs the examples."""
    app.connect("builder-inited", lambda app: make(Path(app.srcdir) / "examples" / "demo"), priority=10)
    return {"parallel_read_safe": True}
