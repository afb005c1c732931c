"""Random operations on a store, with zarr-python as the oracle of every value.

Steps build a store, write rows of shards in any order, kill and resume, publish, read, add a session, damage and
repair. The long run is in the nightly set; Hypothesis prints the steps and the seed of a failure.
"""

from __future__ import annotations

import pickle
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from nsdflow.config.storage import Layout
from nsdflow.errors import MissingDataError, StoreError
from nsdflow.store import open_store
from nsdflow.store.build import create_subject, publish_store, workspace_of
from nsdflow.store.schema import STATISTICS
from nsdflow.store.shard_format import open_sharded, write_region
from nsdflow.store.shard_sizes import cut_subject
from nsdflow.store.verify import check_whole
from nsdflow.store.voxels import voxel_table

SHAPE, TRIALS = (3, 4, 5), 4


class Life(RuleBasedStateMachine):
    """A store of one subject whose betas and coordinates are known."""

    @initialize(
        codec=st.sampled_from(["none", "lz4", "zstd"]), chunk=st.integers(3, 20), shards=st.integers(1, 3),
        sessions=st.integers(1, 3), seed=st.integers(0, 99),
    )  # fmt: skip
    def create(self, codec: str, chunk: int, shards: int, sessions: int, seed: int) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.rng = np.random.default_rng(seed)
        self.layout = Layout(chunk_voxels=chunk, shard_voxels=chunk * shards, codec=codec, file_budget=5000)
        self.betas = self.rng.integers(-32768, 32768, (5, TRIALS, 60)).astype(np.int16)
        self.roi = self.rng.integers(-1, 26, SHAPE)
        self.published: list[int] = []
        self.query: tuple[xr.DataArray, np.ndarray] | None = None
        self.damage: tuple[Path, bytes] | None = None
        self.begin(list(range(1, sessions + 1)))

    def begin(self, sessions: list[int]) -> None:
        """A workspace with the metadata of a build; nothing is written yet."""
        self.sessions, self.written, self.gathered = sessions, set[int](), False
        self.place = workspace_of(self.folder / "nsd.zarr" if not self.published else self.folder / "grown.zarr")
        table = voxel_table(np.arange(60), SHAPE, roi=self.roi)
        self.flat = table["flat_index"].values
        session = np.repeat(sessions, TRIALS)
        trials = xr.Dataset(
            coords={
                "session": ("trial", session), "nsd_id": ("trial", np.arange(len(session)) % 7),
                "shared": ("trial", np.arange(len(session)) % 3 == 0),
            }
        )  # fmt: skip
        cut = cut_subject(sessions=len(sessions), trials=TRIALS, voxels=60, itemsize=2, arrays=9, layout=self.layout)
        create_subject(
            self.place.built, "subj01", trials=trials, voxels=table, sessions=len(sessions), dtype="int16", cut=cut,
            attributes={"sessions": sessions},
        )  # fmt: skip

    @property
    def building(self) -> bool:
        return self.sessions != self.published

    def expected(self, sessions: list[int]) -> np.ndarray:
        return self.betas[np.array(sessions) - 1][:, :, self.flat].reshape(-1, 60)

    @precondition(lambda self: self.building)
    @rule(data=st.data())
    def write_a_session(self, data: st.DataObject) -> None:
        row = data.draw(st.integers(0, len(self.sessions) - 1))
        array = open_sharded(f"{self.place.built}/subj01/betas")
        write_region(array, (row * TRIALS, 0), self.betas[self.sessions[row] - 1][:, self.flat])
        self.written.add(row)

    @precondition(lambda self: self.building)
    @rule(data=st.data())
    def die_while_writing(self, data: st.DataObject) -> None:
        """A killed process leaves a temporary file next to the shards, perhaps of an existing shard."""
        folder = Path(self.place.built) / "subj01/betas/c" / str(data.draw(st.integers(0, len(self.sessions) - 1)))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f".0.{data.draw(st.integers(0, 9))}.tmp").write_bytes(b"half a shard")

    @precondition(lambda self: self.building)
    @rule()
    def gather(self) -> None:
        percent = self.betas[np.array(self.sessions) - 1][:, :, self.flat] / 300
        values = {"beta_mean": percent.mean(1), "beta_std": percent.std(1), "valid": percent.any(1)}
        for name, statistic in STATISTICS.items():
            value = values.get(name, np.zeros(percent.shape[::2])).astype(statistic.dtype)
            write_region(open_sharded(f"{self.place.built}/subj01/{name}"), (0, 0), value)
        self.gathered = True

    @precondition(lambda self: self.building)
    @rule(data=st.data())
    def go_on(self, data: st.DataObject) -> None:
        """Write what is missing, in any order."""
        array = open_sharded(f"{self.place.built}/subj01/betas")
        for row in data.draw(st.permutations([n for n in range(len(self.sessions)) if n not in self.written])):
            write_region(array, (row * TRIALS, 0), self.betas[self.sessions[row] - 1][:, self.flat])
            self.written.add(row)
        self.gather()

    @precondition(lambda self: self.building)
    @rule()
    def publish(self) -> None:
        shape = (len(self.sessions) * TRIALS, 60)
        if len(self.written) < len(self.sessions) or not self.gathered:
            name, rows = ("betas", shape[0]) if self.gathered else ("beta_mean", len(self.sessions))
            with pytest.raises(StoreError, match=r"missing|never written"):
                check_whole(f"{self.place.built}/subj01/{name}", (rows, 60))
            return
        check_whole(f"{self.place.built}/subj01/betas", shape)
        publish_store(self.place, {"subjects": ["subj01"]}, {"subjects": {}})
        if self.published:
            (self.folder / "nsd.zarr").rename(self.folder / "old.zarr")
            (self.folder / "grown.zarr").rename(self.folder / "nsd.zarr")
            shutil.rmtree(self.folder / "old.zarr")
            self.damage = None  # it was removed with the old store
        self.published = self.sessions
        assert not list(self.folder.rglob("*.tmp"))

    @precondition(lambda self: self.published and not self.building and len(self.published) < 5)
    @rule(data=st.data())
    def add_a_session(self, data: st.DataObject) -> None:
        self.mend()
        new = data.draw(st.sampled_from([n for n in range(1, 6) if n not in self.published]))
        self.begin(sorted([*self.published, new]))

    @precondition(lambda self: self.published and self.damage is None)
    @rule(data=st.data())
    def ask(self, data: st.DataObject) -> None:
        """A query, to be computed now and later."""
        store = open_store(str(self.folder / "nsd.zarr"))
        sessions = data.draw(st.lists(st.sampled_from(self.published), min_size=1, max_size=4))
        voxels = data.draw(st.lists(st.integers(0, 59), min_size=1, max_size=9))
        rows = np.concatenate([TRIALS * self.published.index(n) + np.arange(TRIALS) for n in sessions])
        expected = self.expected(self.published)[np.ix_(rows, voxels)] / np.float32(300)
        self.query = store.responses(1, sessions=sessions, voxels=voxels, zscore=False), expected

    @precondition(lambda self: self.query is not None and self.damage is None)
    @rule()
    def compute_what_was_asked(self) -> None:
        query, expected = self.query
        np.testing.assert_array_equal(query.compute(scheduler="synchronous"), expected)

    @precondition(lambda self: self.published and self.damage is None)
    @rule(data=st.data())
    def damage_a_file(self, data: st.DataObject) -> None:
        """A file with a changed byte, a truncated file or a missing file is an error on reading."""
        root = self.folder / "nsd.zarr/subj01"
        files = sorted(path for path in root.glob("*/c/**/*") if path.is_file() and "valid" not in path.parts)
        path = data.draw(st.sampled_from([path for path in files if path.parts[-4] != "saturated"]))
        content = path.read_bytes()
        self.damage = path, content
        how, where = data.draw(st.sampled_from(["byte", "cut", "gone"])), data.draw(st.integers(0, len(content) - 1))
        if how == "gone":
            path.unlink()
        else:
            changed = bytearray(content)
            changed[where] ^= data.draw(st.integers(1, 255))
            path.write_bytes(changed if how == "byte" else content[:where])
        with pytest.raises(StoreError, match=r"damaged|missing"):
            self._read_everything()

    def _read_everything(self) -> None:
        everything = open_store(str(self.folder / "nsd.zarr")).responses(1)
        pickle.loads(pickle.dumps(everything.compute(scheduler="synchronous")))  # a pickle holds all coordinates

    @precondition(lambda self: self.damage is not None)
    @rule()
    def mend(self) -> None:
        if self.damage is not None:
            self.damage[0].write_bytes(self.damage[1])
            self.damage = None

    @invariant()
    def what_is_published_is_what_zarr_reads(self) -> None:
        if not self.published:
            with pytest.raises(MissingDataError, match="no store there"):
                open_store(str(self.folder / "nsd.zarr"))
        elif self.damage is None:
            url = self.folder / "nsd.zarr/subj01"
            stored = zarr.open_array(url / "betas", mode="r")[...]
            np.testing.assert_array_equal(stored, self.expected(self.published))
            read = open_store(str(self.folder / "nsd.zarr")).responses(1, zscore=False)
            np.testing.assert_array_equal(read.compute(scheduler="synchronous"), stored.astype(np.float32) / 300)
            np.testing.assert_array_equal(read["session"], zarr.open_array(url / "session", mode="r")[...])
            np.testing.assert_array_equal(read["flat_index"], zarr.open_array(url / "flat_index", mode="r")[...])

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)


QUIET = [HealthCheck.too_slow, HealthCheck.filter_too_much]


def test_the_life_of_a_store() -> None:
    run_state_machine_as_test(
        Life, settings=settings(max_examples=4, stateful_step_count=16, deadline=None, suppress_health_check=QUIET)
    )


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_long_life_of_a_store() -> None:
    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=300, stateful_step_count=60, deadline=None, suppress_health_check=QUIET, print_blob=True
        ),
    )
