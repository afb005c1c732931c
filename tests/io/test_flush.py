"""Files are on disk before a marker or name claims that they exist."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nsdflow.io.flush import publish, recorded, recording
from nsdflow.io.write import atomic_file, write_text


@pytest.fixture
def flushed(monkeypatch) -> list[str]:
    names: list[str] = []

    def note(descriptor: int) -> None:
        names.append(Path(f"/proc/self/fd/{descriptor}").readlink().name.partition(".tmp")[0])

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(os, "fdatasync", note)
    return names


def test_outside_of_a_task_a_file_is_flushed_before_its_rename_and_the_folders_after(tmp_path, flushed):
    write_text(tmp_path / "a" / "b" / "file", "text")
    assert flushed[0].startswith(".file")
    assert sorted(flushed[1:]) == sorted(["b", "a", tmp_path.name])


def test_the_files_of_a_task_are_flushed_together_other_threads_included(tmp_path, flushed):
    def write(name: str) -> None:
        with atomic_file(tmp_path / "a" / name) as file:
            file.write(b"12345")

    with recording() as written:
        write("one")
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(recorded(write), ["two", "gone"]))
        assert flushed == []
        (tmp_path / "a" / "gone").unlink()
        assert written.flush() == {str(tmp_path / "a" / "one"): 5, str(tmp_path / "a" / "two"): 5}
    assert {"one", "two", "a", tmp_path.name} == set(flushed)


def test_a_tree_is_flushed_before_it_gets_its_name(tmp_path, flushed):
    built = tmp_path / "built"
    (built / "inner").mkdir(parents=True)
    (built / "inner" / "chunk").write_bytes(b"1")
    with recording():
        with atomic_file(tmp_path / "model") as file:
            file.write(b"2")
        publish(built, tmp_path / "results")
    assert flushed[0] == "model"
    assert flushed.index("chunk") < flushed.index("built") < flushed.index(tmp_path.parent.name)
    assert (tmp_path / "results" / "inner" / "chunk").exists()
