"""Files appear complete or not at all: a partial write continues or fails."""

from __future__ import annotations

import io
import os

import pytest

from nsdflow.errors import StoreError
from nsdflow.io.write import atomic_file


class Partial(io.FileIO):
    """A file whose ``write`` takes at most ``most`` bytes; that of the operating system takes 2,147,479,552."""

    most = 7

    def write(self, data) -> int:
        return super().write(memoryview(data).cast("B")[: self.most])


class Full(Partial):
    """A disk that fills up after the first bytes."""

    def write(self, data) -> int:
        return super().write(data) if self.tell() == 0 else 0


@pytest.fixture
def files(monkeypatch):
    """Open files of a kind instead of plain unbuffered ones."""

    def use(kind: type[io.FileIO]) -> None:
        opened = io.open

        def unbuffered(file, mode="r", *args, **options):
            if "b" in mode and "w" in mode:
                return kind(os.fspath(file), mode.replace("b", ""))
            return opened(file, mode, *args, **options)

        monkeypatch.setattr("io.open", unbuffered)

    return use


def test_a_short_write_is_continued_until_everything_is_written(tmp_path, files):
    files(Partial)
    data = os.urandom(1000)
    with atomic_file(f"{tmp_path}/a") as file:
        assert file.write(data) == len(data)
        assert file.write(memoryview(data).cast("H")) == len(data)
    assert (tmp_path / "a").read_bytes() == data + data


def test_a_disk_that_takes_nothing_more_is_an_error_and_leaves_nothing(tmp_path, files):
    files(Full)
    with pytest.raises(StoreError, match="no space left"), atomic_file(f"{tmp_path}/a") as file:
        file.write(bytes(100))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_more_than_two_gibibytes_in_one_write(tmp_path):
    size = 2_147_479_552 + 4096  # the limit of one write on Linux plus a page
    with atomic_file(f"{tmp_path}/large") as file:
        assert file.write(memoryview(bytearray(size))) == size
    assert (tmp_path / "large").stat().st_size == size
