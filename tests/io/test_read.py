"""Reading is bounded and never blocks forever."""

from __future__ import annotations

import os

import pytest

from nsdflow.errors import StoreError
from nsdflow.io.read import read_bytes, read_json


def test_a_pipe_or_a_device_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        with pytest.raises(StoreError, match="a pipe or a device where a file is expected"):
            read_bytes(f"{tmp_path}/{name}")


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(StoreError, match=r"1099511627776 bytes where at most \d+ are expected"):
        read_json(f"{tmp_path}/large", "remove it")


@pytest.mark.parametrize("text", ["{", "[1]", "[" * 100_000])
def test_damaged_json_is_one_line(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(StoreError, match=r"damaged .*; remove it") as error:
        read_json(f"{tmp_path}/a.json", "remove it")
    assert "\n" not in str(error.value)
