"""Untrusted runs: nothing in them is executed, decoded beyond its size, or followed out of the folder."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from numcodecs import zstd

import nsdflow
from nsdflow.cli import main
from nsdflow.errors import NsdflowError, RunError
from nsdflow.monitor.events import RunLog, make_event, read_log
from nsdflow.runs import write_results
from nsdflow.runs.folder import RunFolder
from nsdflow.runs.status import read_status
from nsdflow.runs.trust import zstd_content_size


@pytest.fixture
def run(tmp_path) -> Path:
    values = xr.Dataset({"accuracy": ("voxel", np.arange(8.0)), "name": ("voxel", list("abcdefgh"))})
    write_results(tmp_path / "run", xr.DataTree.from_dict({"/subj01": values}))
    (tmp_path / "run" / "run.yaml").write_text("pipeline: {kind: gnet}\nstore: {}\n")
    return tmp_path / "run"


def change(run: Path, path: str, **changes) -> None:
    """Change the metadata of one node, in the consolidated metadata too."""
    file = run / "results.zarr" / "zarr.json"
    root = json.loads(file.read_text())
    root["consolidated_metadata"]["metadata"][path] |= changes
    file.write_text(json.dumps(root))


def refused(run: Path, says: str) -> None:
    with pytest.raises(RunError, match=says) as error:
        nsdflow.open_run(run)
    assert "\n" not in str(error.value)


def test_results_of_ours_open(run):
    assert nsdflow.open_run(run)["subj01/accuracy"].values[7] == 7


def test_zarr_format_2_is_refused_whatever_its_filters(run):
    shutil.rmtree(run / "results.zarr")
    zarr.create_array(run / "results.zarr" / "a", shape=3, dtype="i4", zarr_format=2)
    refused(run, r"no zarr.json \(Zarr format 3\)")


def test_a_foreign_codec_is_refused(run):
    change(run, "subj01/accuracy", codecs=[{"name": "numcodecs.pickle", "configuration": {}}])
    refused(run, "codec 'numcodecs.pickle' is not one that nsdflow writes")
    inner = {"chunk_shape": [1], "codecs": [{"name": "numcodecs.pickle"}], "index_codecs": []}
    change(run, "subj01/accuracy", codecs=[{"name": "sharding_indexed", "configuration": inner}])
    refused(run, "codec 'numcodecs.pickle'")


def test_a_size_is_bounded_before_anything_is_decoded(run):
    chunk = next((run / "results.zarr" / "subj01" / "accuracy").glob("c/*"))
    chunk.write_bytes(zstd.compress(bytes(1 << 20), 1))
    refused(run, "decompresses to more than the 64 bytes of a chunk")
    change(run, "subj01/accuracy", shape=[1 << 50])
    refused(run, "is too large")


def test_sizes_that_zstd_frames_state():
    for size in (0, 1, 255, 256, 65_791, 65_792, 1 << 20):
        assert zstd_content_size(bytes(zstd.compress(bytes(size), 1))[:18]) == size
    assert zstd_content_size(b"no frame at all") is None
    assert zstd_content_size(b"\x28\xb5\x2f\xfd\x00\x58" + bytes(12)) == 2**64  # a stream, which states none


def test_a_link_out_of_the_folder_a_pipe_and_a_name_are_refused(run, tmp_path):
    chunk = next((run / "results.zarr" / "subj01" / "accuracy").glob("c/*"))
    (tmp_path / "secret").write_bytes(chunk.read_bytes())
    chunk.unlink()
    chunk.symlink_to(tmp_path / "secret")
    refused(run, "a symbolic link out of the folder")
    chunk.unlink()
    os.mkfifo(chunk)
    refused(run, "a pipe or a device")
    folder = chunk.parent
    shutil.move(folder, tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    refused(run, "a symbolic link out of the folder")
    folder.unlink()
    shutil.move(tmp_path / "elsewhere", folder)
    chunk.unlink()
    change(run, "subj01/accuracy")
    file = run / "results.zarr" / "zarr.json"
    file.write_text(file.read_text().replace('"subj01/accuracy"', '"../accuracy"'))
    refused(run, "is called '../accuracy'")


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
        + "".join(
            f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefg", "bcdefgh", strict=True)
        ),
        "a: &a [*a]\n",
        "[" * 100_000,
        "!!python/object/apply:os.system [true]\n",
    ],
    ids=["aliases", "alias of itself", "deep", "python"],
)
def test_a_yaml_bomb_is_one_line_at_once(run, text):
    (run / "run.yaml").write_text(text)
    start = time.process_time()
    with pytest.raises(NsdflowError) as error:
        RunFolder(str(run)).record()
    assert time.process_time() - start < 5
    assert "\n" not in str(error.value)
    assert "run.yaml" in str(error.value)


def test_a_pipe_in_place_of_the_settings_does_not_hang(run):
    (run / "run.yaml").unlink()
    os.mkfifo(run / "run.yaml")
    with pytest.raises(RunError, match="a pipe or a device"):
        RunFolder(str(run)).record()


@pytest.mark.parametrize("name", ["tasks/train.json", "plan.json", "driver.000001.hold", "log.jsonl", "run.yaml"])
def test_a_pipe_in_place_of_any_record_does_not_hang_status(run, name):
    file = run / name
    shutil.rmtree(run / "results.zarr")
    file.parent.mkdir(exist_ok=True)
    file.unlink(missing_ok=True)
    (run / "plan.json").write_text('{"train": ["train"]}')
    file.unlink(missing_ok=True)
    os.mkfifo(file)
    if name == "driver.000001.hold":
        assert "a command whose file is damaged" in read_status(str(run))[0].title
    else:
        with pytest.raises(NsdflowError, match=r"a pipe or a device|plan\.json is damaged"):
            read_status(str(run))


@pytest.mark.parametrize("name", ["parts", "checkpoint", "tasks", "log.jsonl", "model.safetensors"])
def test_nothing_is_written_through_a_link(run, tmp_path, name):
    (tmp_path / "elsewhere").mkdir()
    (run / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match=rf"{name}: a symbolic link; nsdflow writes only into the folder itself"):
        RunFolder(str(run)).begin(None, "nowhere")  # type: ignore[arg-type]
    if name in ("parts", "checkpoint", "tasks"):
        (run / name).unlink()
        (run / name / "deeper").mkdir(parents=True)
        (run / name / "deeper" / "results.zarr").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(RunError, match=rf"{name}/deeper/results.zarr: a symbolic link"):
            RunFolder(str(run)).begin(None, "nowhere")  # type: ignore[arg-type]
    if name == "log.jsonl":
        with pytest.raises((NsdflowError, OSError)):
            RunLog(run / name)


def test_a_terminal_obeys_nothing_in_a_log(tmp_path):
    with RunLog(tmp_path / "log.jsonl") as log:
        log(make_event("note", text="a\x1b]0;title\x07\u202e", list=["\x9b2J"]))
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('[1]\n{"kind": 3}\n' + "[" * 100_000 + "\n")
    (event,) = read_log(tmp_path / "log.jsonl")
    assert event["text"] == r"a\x1b]0;title\x07\u202e"
    assert event["list"] == [r"\x9b2J"]


def test_what_a_run_says_of_itself_cannot_steer_a_terminal_or_end_status(run, capsys, monkeypatch):
    (run / "run.yaml").write_text('pipeline: {kind: "gnet\\e[2J", name: "\\e]0;x\\a"}\nstore: {url: "a\\e[1m"}\n')
    (run / "log.jsonl").write_text('{"kind": "stage", "time": 1}\n{"kind": "epoch", "time": 2, "epoch": "three"}\n')
    for words in (["status", str(run), "--once"], ["info", str(run)], ["list", str(run.parent)], ["info", "a\x1b[2J"]):
        monkeypatch.setattr(sys, "argv", ["nsdflow", *words])
        with pytest.raises(SystemExit):
            main()
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        assert (out + err).replace("\n", "").isprintable()
        assert out or words[1].startswith("a")
