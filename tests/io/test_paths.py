"""Paths as users write them: expanded once, otherwise literal."""

from __future__ import annotations

from pathlib import Path

import pytest

from nsdflow.errors import ConfigError
from nsdflow.io.paths import filesystem, normalize, public
from nsdflow.io.write import write_text


def test_home_variables_and_working_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SCRATCH", "/scratch/ann")
    monkeypatch.chdir(tmp_path)
    assert normalize("~/runs/") == f"{tmp_path}/runs"
    assert normalize("~") == str(tmp_path)
    assert normalize("$SCRATCH/nsd.zarr") == normalize("${SCRATCH}/nsd.zarr") == "/scratch/ann/nsd.zarr"
    assert normalize("runs") == normalize("./runs") == normalize(Path("runs")) == f"{tmp_path}/runs"
    assert normalize("file:///data/nsd") == "/data/nsd"
    assert normalize("s3://bucket/nsd.zarr/") == "s3://bucket/nsd.zarr"
    assert normalize(normalize("~/a b::c")) == f"{tmp_path}/a b::c"


def test_a_folder_whose_name_looks_like_a_variable_is_taken_as_it_is(tmp_path, monkeypatch):
    monkeypatch.delenv("b", raising=False)
    (tmp_path / "a$b").mkdir()
    assert normalize(f"{tmp_path}/a$b") == f"{tmp_path}/a$b"


def test_a_new_folder_in_one_whose_name_looks_like_a_variable(tmp_path, monkeypatch):
    monkeypatch.delenv("b", raising=False)
    (tmp_path / "a$b").mkdir()
    monkeypatch.chdir(tmp_path / "a$b")
    runs = normalize("runs")
    assert runs == normalize(runs) == f"{tmp_path}/a$b/runs"
    monkeypatch.setenv("b", "B")
    assert normalize(f"{tmp_path}/a$b/$b") == f"{tmp_path}/a$b/B"


def test_file_urls(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert normalize("file://localhost/data/nsd") == normalize("file:///data/nsd/") == "/data/nsd"
    (tmp_path / "s3:").mkdir()
    assert normalize("s3:/bucket") == f"{tmp_path}/s3:/bucket"


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("s3:/bucket/nsd.zarr", "lacks a slash; write s3://bucket/nsd.zarr"),
        ("", "empty"),
        ("  ", "empty"),
        ("$NO_SUCH_VARIABLE/runs", "environment variable NO_SUCH_VARIABLE is not set"),
        ("~nobody-of-this-name/runs", "no home folder for '~nobody-of-this-name'"),
        ("runs\x1b[2J", "control character"),
        ("s3://bucket/a::b", "chained URLs"),
        ("nothing://bucket", "cannot read nothing:// URLs"),
    ],
)
def test_one_line_for_a_path_that_cannot_be_meant(path, says):
    with pytest.raises(ConfigError, match=says) as error:
        normalize(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["a b", "a::b", "a%20b", "x$(touch y)z", "ä"])
def test_a_folder_may_have_any_name(tmp_path, name):
    write_text(f"{tmp_path}/{name}/file", "text")
    assert (tmp_path / name / "file").read_text() == "text"
    system, path = filesystem(f"{tmp_path}/{name}/file")
    assert system.cat_file(path) == b"text"


def test_credentials_in_a_url_are_not_shown():
    assert public("http://ann:secret@example.org/a@b") == "http://example.org/a@b"
    assert public("/data/a@b") == "/data/a@b"
    assert public("s3://key:s@cr@t@bucket/a and s3://k:s@b/c") == "s3://bucket/a and s3://b/c"
