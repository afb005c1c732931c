"""One interface for reading, wherever NSD is."""

from __future__ import annotations

import gzip
import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from nsdflow.errors import ConfigError, MissingDataError, SourceError
from nsdflow.io.paths import filesystem
from nsdflow.nsd.betas import read_session
from nsdflow.nsd.design import trial_table
from nsdflow.nsd.images import read_images
from nsdflow.nsd.inventory import take_inventory
from nsdflow.nsd.source import Source, open_source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/one.bin").write_bytes(b"0123456789")
    (tmp_path / "a/two.gz").write_bytes(gzip.compress(b"unpacked"))
    return tmp_path


@pytest.fixture(params=["folder", "file", "memory"])
def source(folder: Path, request: pytest.FixtureRequest) -> Source:
    if request.param == "folder":
        return open_source(folder)
    if request.param == "file":
        return open_source(folder.as_uri() + "/")
    memory = fsspec.filesystem("memory")
    memory.put(f"{folder}/a", f"/{folder.name}/a", recursive=True)
    memory.mkdirs(f"/{folder.name}/a/b", exist_ok=True)
    return open_source(f"memory://{folder.name}")


def test_reads_the_same_everywhere(source: Source) -> None:
    assert source.listdir("a") == ("b", "one.bin", "two.gz")
    assert source.sizes("a")["one.bin"] == 10
    assert source.size("a/one.bin") == 10
    assert source.exists("a/one.bin")
    assert source.exists("a")
    assert source.head("a/one.bin", 4) == b"0123"
    with source.open("a/one.bin") as file:
        assert file.read() == b"0123456789"
    with source.open_stream("a/two.gz") as stream:
        assert stream.read() == b"unpacked"


def test_what_is_not_there(source: Source) -> None:
    assert source.listdir("nothing") == ()
    assert source.listdir("a/one.bin/below") == ()
    assert not source.exists("nothing")
    for read in (lambda: source.size("no.bin"), lambda: source.head("no.bin", 3)):
        with pytest.raises(MissingDataError, match=r"no\.bin: no such file; `nsdflow check"):
            read()
    with pytest.raises(FileNotFoundError, match="no such file"), source.open("a/no.bin"):
        pass


def test_stamps_change_with_the_file(folder: Path) -> None:
    source = open_source(folder)
    before = source.stamps("a")
    assert list(before) == list(source.sizes("a"))
    (folder / "a/one.bin").write_bytes(b"9876543210")
    os.utime(folder / "a/one.bin", (1, 1))
    after = source.stamps("a")
    assert {name for name in after if after[name] != before[name]} == {"one.bin"}
    assert source.stamps("nothing") == {}


def test_a_link_to_nothing_is_not_there(folder: Path) -> None:
    """Like a DataLad clone whose content was not fetched."""
    (folder / "a/annexed.gz").symlink_to(folder / "objects/not-fetched")
    source = open_source(folder)
    assert "annexed.gz" in source.listdir("a")
    assert not source.exists("a/annexed.gz")


def test_travels_to_a_worker(folder: Path) -> None:
    source = open_source(folder, {"auto_mkdir": False})
    there = pickle.loads(pickle.dumps(source))
    assert there == source
    assert hash(there) == hash(source)
    assert there.listdir("a") == source.listdir("a")


def test_a_folder_is_absolute(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    source = open_source("a")
    monkeypatch.chdir(folder.parent)
    assert source.listdir() == ("b", "one.bin", "two.gz")
    assert source.join("one.bin") == f"{folder}/a/one.bin"
    monkeypatch.setenv("HOME", str(folder))
    assert open_source("~/a") == source


def test_s3_is_anonymous_unless_told() -> None:
    assert open_source("s3://natural-scenes-dataset").storage_options["anon"] is True
    assert open_source("s3://mirror", {"profile": "lab"}).storage_options["anon"] is False
    assert open_source("s3://mirror", {"anon": False}).storage_options["anon"] is False


def test_unknown_protocol() -> None:
    with pytest.raises(ConfigError, match="cannot read nfs4:// URLs"):
        open_source("nfs4://somewhere/nsd")


def test_without_s3fs_it_is_said_what_to_install(monkeypatch) -> None:
    def missing(protocol: str):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    for reach in (open_source, filesystem):
        with pytest.raises(ConfigError, match=r"cannot read s3:// URLs: .* pip install '\.\[s3\]'"):
            reach("s3://natural-scenes-dataset")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file_is_not_there(folder: Path) -> None:
    (folder / "a/one.bin").chmod(0)
    source = open_source(folder)
    assert not source.exists("a/one.bin")
    with pytest.raises(MissingDataError, match="no permission"):
        source.head("a/one.bin", 1)


def test_an_error_names_the_file(folder: Path) -> None:
    source = open_source(folder)
    with pytest.raises(MissingDataError, match="secret: not public"), source.reading("secret"):
        raise PermissionError
    with pytest.raises(SourceError, match="half: truncated"), source.reading("half"):
        raise EOFError
    with pytest.raises(SourceError, match=r"disk: cannot be read .*check the disk"), source.reading("disk"):
        raise OSError(5, "Input/output error")


def test_whole_nsd_from_memory(nsd: Any) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(nsd.root), "/bucket", recursive=True)
    source = open_source("memory://bucket")
    local = open_source(nsd.root)
    for format in ("nii.gz", "hdf5", "mat"):
        np.testing.assert_array_equal(
            read_session(source, "subj01", 2, [5, 80], format=format), read_session(local, "subj01", 2, [5, 80])
        )
    np.testing.assert_array_equal(read_images(source, [3, 4]), nsd.images[3:5])
    assert trial_table(source, "subj01", [1]).identical(trial_table(local, "subj01", [1]))
    remote, here = ([replace(one, left_out=()) for one in take_inventory(place).subjects] for place in (source, local))
    assert remote == here
