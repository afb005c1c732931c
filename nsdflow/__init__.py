"""nsdflow: the Natural Scenes Dataset as labelled Zarr stores, and encoding models as Dask tasks.

Importing nsdflow does nothing: the few names below load their layer when first used, so that a machine with
torch alone can ``import nsdflow.fit``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nsdflow.ingestion.call import ingest
    from nsdflow.models.saved import load_model
    from nsdflow.pipelines.run import plan, run
    from nsdflow.runs import open_run
    from nsdflow.store import Store, open_store

__all__ = ["Store", "__version__", "ingest", "load_model", "open_run", "open_store", "plan", "run"]

__version__ = "0.1.0"

_HOME = {
    "Store": "nsdflow.store",
    "ingest": "nsdflow.ingestion.call",
    "load_model": "nsdflow.models.saved",
    "open_run": "nsdflow.runs",
    "open_store": "nsdflow.store",
    "plan": "nsdflow.pipelines.run",
    "run": "nsdflow.pipelines.run",
}

#: Packages that ``import nsdflow`` is enough for: ``nsdflow.analysis.accuracy(...)``.
_PACKAGES = ("analysis", "errors", "fit", "loaders", "models", "report", "runs", "store")


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"nsdflow.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'nsdflow' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
