"""Files shared between folders: links where possible, copies elsewhere, never half a file."""

from __future__ import annotations

import errno
from pathlib import Path

import fsspec
import pytest

from nsdflow.io.folders import share_files


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "c" / "0").mkdir(parents=True)
    (folder / "zarr.json").write_text("{}")
    (folder / "c" / "0" / "1").write_bytes(bytes(range(256)) * 40)
    return folder


def test_links_on_one_file_system(source: Path, tmp_path: Path) -> None:
    for _ in range(2):  # a second attempt at the same task finds them there
        assert share_files(str(source), str(tmp_path / "target")) == 2
    assert (tmp_path / "target" / "c" / "0" / "1").samefile(source / "c" / "0" / "1")


def test_copies_where_links_cannot_be(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    assert share_files(str(source), str(tmp_path / "target")) == 2
    copy = tmp_path / "target" / "c" / "0" / "1"
    assert copy.read_bytes() == (source / "c" / "0" / "1").read_bytes()
    assert not copy.samefile(source / "c" / "0" / "1")
    assert {path.name for path in (tmp_path / "target").rglob("*") if path.is_file()} == {"zarr.json", "1"}


def test_copies_to_and_from_object_stores(source: Path, tmp_path: Path) -> None:
    assert share_files(str(source), "memory://bucket/target") == 2
    assert fsspec.filesystem("memory").cat_file("/bucket/target/zarr.json") == b"{}"
    assert share_files("memory://bucket/target", str(tmp_path / "back")) == 2
    assert (tmp_path / "back" / "c" / "0" / "1").read_bytes() == (source / "c" / "0" / "1").read_bytes()


def test_other_errors_are_told(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "hardlink_to", full)
    with pytest.raises(OSError, match="No space left"):
        share_files(str(source), str(tmp_path / "target"))
