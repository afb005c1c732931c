"""Each file of a store damaged in each way: never other values, a traceback or an endless reading."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import dask
import numpy as np
import pytest

from nsdflow.store import Store, open_store
from tests.damages import DAMAGES, damage_each_file


def values(place: str) -> dict[str, bytes]:
    """Everything that a store holds, as bytes."""
    store = open_store(place)
    found = {"images": store.images().compute().values.tobytes()}
    for subject in store.subjects:
        found[subject] = store.responses(subject, zscore="session").compute().values.tobytes()
        for table in (store.trials(subject), store.voxels(subject)):
            found |= {f"{subject}/{name}": np.asarray(v.data).tobytes() for name, v in table.variables.items()}
    return found


def damaged(store: Store, **options: int) -> Counter[str]:
    with dask.config.set(scheduler="synchronous"):
        return damage_each_file(Path(store.url), {"values": lambda: values(store.url)}, **options)


def test_no_damage_of_a_file_goes_unnoticed(build_store, record, images, tmp_path: Path) -> None:
    store = build_store(tmp_path / "nsd.zarr", record(sessions=(1,), trials=4), images[:2])
    assert set(damaged(store, ways=2)) == set(DAMAGES)


@pytest.mark.slow
def test_no_damage_of_any_kind_goes_unnoticed(build_store, record, images, annotations, tmp_path: Path) -> None:
    store = build_store(tmp_path / "nsd.zarr", record(sessions=(1, 2), trials=4), images, annotations=annotations)
    noticed = damaged(store, seed=random.randrange(1000))
    assert set(noticed) == set(DAMAGES)
    assert min(noticed.values()) > 20
