"""Names and versions of all tasks. A finished task runs again if one of them changes, so a change is deliberate."""

from __future__ import annotations

import importlib
import pkgutil

import nsdflow
from nsdflow.engine.plan import TaskName, task_name

#: Add a line for a new task. Raise the version if the same record now gives another result; never rename.
NAMES: dict[str, int] = {
    "banded_ridge.kernels": 2,
    "banded_ridge.publish": 3,
    "banded_ridge.solve": 3,
    "evaluate.subject": 2,
    "features.block": 1,
    "features.create": 2,
    "features.project": 2,
    "features.publish": 1,
    "features.share": 2,
    "fpf.train": 3,
    "fwrf.create": 2,
    "fwrf.features": 1,
    "fwrf.publish": 1,
    "fwrf.search": 1,
    "fwrf.solve": 2,
    "gnet.train": 2,
    "ingest.annotations": 1,
    "ingest.coordinates": 2,
    "ingest.copy_session": 1,
    "ingest.experiment": 1,
    "ingest.experiment_images": 1,
    "ingest.experiment_ncsnr": 1,
    "ingest.images": 1,
    "ingest.images_table": 1,
    "ingest.session": 1,
    "ingest.statistics": 1,
    "ingest.verify_images": 1,
    "ingest.verify_subject": 1,
    "predict.block": 3,
    "predict.create": 2,
    "predict.publish": 1,
    "ridge.gram": 3,
    "ridge.publish": 3,
    "ridge.solve": 5,
    "runs.publish": 1,
    "semantic.fit": 3,
    "semantic.publish": 1,
    "synthetic_data.create": 2,
    "synthetic_data.noise_model": 3,
    "synthetic_data.publish": 2,
    "synthetic_data.responses": 2,
    "tables.make": 2,
    "transfer.fit": 3,
    "transfer.publish": 2,
    "tuning.publish": 1,
    "tuning.subject": 3,
}


def test_every_task_has_its_line() -> None:
    found: dict[str, tuple[int, str]] = {}
    for module in pkgutil.walk_packages(nsdflow.__path__, "nsdflow."):
        for function in vars(importlib.import_module(module.name)).values():
            name = task_name(function) if callable(function) else None
            if isinstance(name, TaskName):
                where = f"{function.__module__}.{function.__qualname__}"
                assert found.setdefault(name.name, (name.version, where)) == (name.version, where), name
    assert {name: version for name, (version, _) in found.items()} == NAMES
