"""Reading and writing of shards, compared with zarr and tested with damage."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from nsdflow.errors import StoreError
from nsdflow.store.chunks import read_region, read_spans
from nsdflow.store.shard_format import ABSENT, CODECS, checksum, compressors, open_sharded, write_region, write_shard


@st.composite
def arrays(draw: st.DrawFn) -> dict:
    """Shape, chunk and shard of a two- or three-dimensional array, its type and codec."""
    ndim = draw(st.integers(2, 3))
    chunk = tuple(draw(st.integers(1, 5)) for _ in range(ndim))
    shard = tuple(size * draw(st.integers(1, 3)) for size in chunk)
    shape = tuple(draw(st.integers(1, 3 * size)) for size in shard)
    return {
        "shape": shape,
        "chunks": chunk,
        "shards": shard,
        "dtype": draw(st.sampled_from(["int16", "float32", "uint8", "bool"])),
        "codec": draw(st.sampled_from([*CODECS])),
        "checksums": draw(st.booleans()),
    }


def create(folder: str, codec: str = "none", checksums: bool = True, **settings) -> zarr.Array:
    fill = {"int16": -32768, "float32": np.nan, "uint8": 0, "bool": False}[settings["dtype"]]
    steps = compressors(codec) if checksums else CODECS[codec].zarr
    config = {"write_empty_chunks": True}
    return zarr.create_array(f"{folder}/a", compressors=steps, fill_value=fill, config=config, **settings)


def random_values(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).integers(-32768, 32768, shape)
    return values > 0 if dtype == "bool" else values.astype(dtype)


@given(arrays(), st.data())
@settings(max_examples=40)
def test_ours_and_zarr_agree(setting: dict, data: st.DataObject) -> None:
    """zarr reads our shards and we read zarr's, in any selection."""
    values = random_values(setting["shape"], setting["dtype"])
    with tempfile.TemporaryDirectory() as folder:
        theirs = create(folder, **setting)
        ours = open_sharded(f"{folder}/a")
        write_region(ours, (0,) * values.ndim, values)
        np.testing.assert_array_equal(theirs[...], values)
        theirs[...] = values[::-1]
        selection = [data.draw(st.sets(st.integers(0, size - 1), min_size=1)) for size in values.shape]
        chosen = [np.array(sorted(indices)) for indices in selection]
        np.testing.assert_array_equal(read_region(ours, chosen), values[::-1][np.ix_(*chosen)])
        np.testing.assert_array_equal(read_region(ours, [None] * values.ndim), values[::-1])


@given(arrays(), st.data())
@settings(max_examples=25)
def test_rows_of_shards_in_any_order(setting: dict, data: st.DataObject) -> None:
    """Tasks write their own shards, in whatever order: the result is the same."""
    values = random_values(setting["shape"], setting["dtype"])
    with tempfile.TemporaryDirectory() as folder:
        create(folder, **setting)
        array = open_sharded(f"{folder}/a")
        step = array.shard[0]
        for row in data.draw(st.permutations(range(array.shards[0]))):
            write_region(array, (row * step, *(0,) * (values.ndim - 1)), values[row * step : (row + 1) * step])
        np.testing.assert_array_equal(read_region(array, [None] * values.ndim), values)


@pytest.fixture
def array(tmp_path: Path):
    create(str(tmp_path), shape=(8, 30), chunks=(4, 5), shards=(4, 15), dtype="int16")
    return open_sharded(f"{tmp_path}/a")


@pytest.mark.parametrize(
    ("start", "shape"),
    [((0, 0), (3, 30)), ((2, 0), (4, 30)), ((0, 5), (4, 15)), ((0, 0), (4, 20)), ((4, 0), (8, 30)), ((-4, 0), (4, 30))],
)
def test_a_region_that_is_not_whole_shards_is_refused(array, start, shape) -> None:
    with pytest.raises(StoreError, match="not made of whole shards"):
        write_region(array, start, np.zeros(shape, np.int16))
    assert not Path(array.shard_url((0, 0))).exists()


def test_half_a_shard_is_what_zarr_lets_pass(array) -> None:
    """The check is needed: zarr itself accepts half a shard."""
    zarr.open_array(array.url)[0:2, 0:15] = 1
    assert Path(array.shard_url((0, 0))).exists()


def test_a_missing_shard_is_an_error_not_the_fill_value(array) -> None:
    write_region(array, (0, 0), np.ones((8, 30), np.int16))
    Path(array.shard_url((1, 1))).unlink()
    read_region(array, (np.arange(4), None))
    with pytest.raises(StoreError, match=r"c/1/1: the shard is missing"):
        read_region(array, (None, None))


def test_a_missing_chunk_is_an_error_not_the_fill_value(array) -> None:
    write_shard(array, (0, 0), [np.ones((4, 5), np.int16), np.empty((0, 5), np.int16), np.ones((4, 5), np.int16)])
    assert (read_spans(array, (0, 0))[0, 1] == ABSENT).all()
    read_region(array, (np.arange(4), np.arange(5)))
    with pytest.raises(StoreError, match="never written"):
        read_region(array, (np.arange(4), np.arange(7)))


@pytest.mark.parametrize("damage", ["index", "cut", "empty"])
def test_damage_is_an_error(array, damage: str) -> None:
    write_region(array, (0, 0), np.ones((8, 30), np.int16))
    path = Path(array.shard_url((0, 0)))
    content = bytearray(path.read_bytes())
    content[-10] ^= 1
    path.write_bytes({"index": bytes(content), "cut": path.read_bytes()[:-9], "empty": b""}[damage])
    with pytest.raises(StoreError, match="damaged"):
        read_region(array, (None, None))


def test_only_the_chunks_asked_for_are_read(array) -> None:
    """Everything but the wanted chunk is overwritten with noise; the index stays."""
    values = random_values((8, 30), "int16")
    write_region(array, (0, 0), values)
    path = Path(array.shard_url((1, 0)))
    content = bytearray(path.read_bytes())
    chunk = 4 * 5 * 2 + 4
    content[:chunk] = bytes(chunk)
    content[2 * chunk : 3 * chunk] = bytes(chunk)
    path.write_bytes(content)
    shutil.rmtree(Path(array.url) / "c" / "0")
    chosen = (np.array([4, 7]), np.array([5, 6, 9]))
    np.testing.assert_array_equal(read_region(array, chosen), values[np.ix_(*chosen)])


def test_arrays_of_others_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such array"):
        open_sharded(f"{tmp_path}/nothing")
    zarr.create_array(
        f"{tmp_path}/gz", shape=(4, 4), chunks=(2, 2), shards=(4, 4), dtype="i2", compressors=zarr.codecs.GzipCodec()
    )
    with pytest.raises(StoreError, match="codec gzip"):
        open_sharded(f"{tmp_path}/gz")
    zarr.create_array(f"{tmp_path}/plain", shape=(4, 4), chunks=(2, 2), dtype="i2", compressors=None)
    with pytest.raises(StoreError, match="not sharded"):
        open_sharded(f"{tmp_path}/plain")


@given(arrays(), st.data())
@settings(max_examples=40)
def test_any_changed_byte_is_an_error(setting: dict, data: st.DataObject) -> None:
    """In chunks, their checksums and the index; never another value."""
    values = random_values(setting["shape"], setting["dtype"])
    with tempfile.TemporaryDirectory() as folder:
        create(folder, **setting | {"checksums": True})
        array = open_sharded(f"{folder}/a")
        write_region(array, (0,) * values.ndim, values)
        path = data.draw(st.sampled_from(sorted(path for path in Path(array.url).glob("c/**/*") if path.is_file())))
        content = bytearray(path.read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        path.write_bytes(content)
        with pytest.raises(StoreError, match=r"damaged|never written"):
            read_region(array, [None] * values.ndim)


def rewrite_index(array, index: np.ndarray) -> None:
    path = Path(array.shard_url((0, 0)))
    table = index.astype("<u8").tobytes()
    path.write_bytes(path.read_bytes()[: -array.index_bytes] + table + checksum(table))


@pytest.mark.parametrize("span", [(0, 2**40), (2**62, 44), (44, 2**64 - 20), (100, 60), (88, 48)])
def test_an_index_that_points_beyond_the_data(array, span: tuple[int, int]) -> None:
    """As after a short write: the index and its checksum are whole, the data are not. Nothing large is allocated."""
    write_region(array, (0, 0), np.ones((8, 30), np.int16))
    index = read_spans(array, (0, 0)).copy()
    index[0, 2] = span
    rewrite_index(array, index)
    with pytest.raises(StoreError, match="a chunk ends beyond the 132 bytes of data"):
        read_region(array, (np.arange(4), np.arange(5)))


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_a_chunk_that_decodes_to_another_size(tmp_path: Path, codec: str) -> None:
    """More than a chunk holds (a bomb), or less."""
    create(str(tmp_path), codec=codec, shape=(4, 5), chunks=(4, 5), shards=(4, 5), dtype="int16")
    array = open_sharded(f"{tmp_path}/a")
    for size in (1 << 24, 3):
        data = bytes(CODECS[codec].encode(np.zeros(size, np.int16)))
        data += checksum(data)
        table = np.array([0, len(data)], "<u8").tobytes()
        Path(array.shard_url((0, 0))).parent.mkdir(parents=True, exist_ok=True)
        Path(array.shard_url((0, 0))).write_bytes(data + table + checksum(table))
        with pytest.raises(StoreError, match="damaged"):
            read_region(array, (None, None))


def test_metadata_that_promise_too_much(tmp_path: Path) -> None:
    create(str(tmp_path), shape=(4, 5), chunks=(4, 5), shards=(4, 5), dtype="int16")
    path = tmp_path / "a/zarr.json"
    text = path.read_text()
    metadata = json.loads(text)
    metadata["codecs"][0]["configuration"]["chunk_shape"] = [2**20, 2**20]
    path.write_text(json.dumps(metadata))
    with pytest.raises(StoreError, match="chunks of 2199023255552 bytes"):
        open_sharded(f"{tmp_path}/a")
    metadata = json.loads(text)
    metadata["chunk_grid"]["configuration"]["chunk_shape"] = [2**20, 2**20 * 5]
    path.write_text(json.dumps(metadata))
    array = open_sharded(f"{tmp_path}/a")
    Path(array.shard_url((0, 0))).parent.mkdir(parents=True)
    Path(array.shard_url((0, 0))).write_bytes(b"1234")
    with pytest.raises(StoreError, match="truncated to 4 bytes"):
        read_region(array, (None, None))
