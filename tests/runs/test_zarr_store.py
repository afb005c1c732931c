"""zarr's own tests of stores, on the one store that we hand to zarr: a folder of results that names a damaged file.

They apply to nothing else. :mod:`nsdflow.store.shard_format` reads and writes the chunks of stores without a store of
zarr, and zarr-python is the oracle of its tests. The overlay of a publication hides one key of its folder on purpose.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from zarr.core.buffer import Buffer, cpu
from zarr.core.sync import sync
from zarr.testing.store import StoreTests

from nsdflow.runs.results import _Verified

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class TestVerified(StoreTests[Any, cpu.Buffer]):
    """Values are set and read behind the store's back."""

    store_cls = _Verified
    buffer_cls = cpu.Buffer

    async def get(self, store: Any, key: str) -> Buffer:
        return self.buffer_cls.from_bytes((store.root / key).read_bytes())

    async def set(self, store: Any, key: str, value: Buffer) -> None:
        file = store.root / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(value.to_bytes())

    @pytest.fixture
    def store(self, open_kwargs: dict[str, Any]) -> Any:
        return sync(self.store_cls.open(**open_kwargs))

    @pytest.fixture
    def store_not_open(self, store_kwargs: dict[str, Any]) -> Any:
        return self.store_cls(**store_kwargs)

    def test_store_repr(self, store: Any) -> None:
        assert str(store.root) in str(store)

    def test_store_supports_writes(self, store: Any) -> None:
        assert store.supports_writes

    def test_store_supports_listing(self, store: Any) -> None:
        assert store.supports_listing

    @pytest.fixture
    def store_kwargs(self, tmp_path: Path) -> dict[str, Any]:
        return {"root": tmp_path, "read_only": False}
