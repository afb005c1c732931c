"""Help, completion, ``list`` and ``info``."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from nsdflow.cli import app as module
from nsdflow.cli import main
from nsdflow.pipelines.load import pipeline_names

NSDFLOW = str(Path(sys.executable).with_name("nsdflow"))
HEAVY = ("dask", "distributed", "torch", "xarray", "numpy", "pandas", "bokeh", "matplotlib", "fsspec")


@pytest.fixture
def nsd(monkeypatch, capfd):
    """Run ``nsdflow ...`` in this process: exit status and output."""

    def command(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["nsdflow", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capfd.readouterr()
        return int(stopped.value.code or 0), out + err

    return command


def loaded(*words: str) -> tuple[str, list[str]]:
    """What a command prints, and the modules that it loads."""
    code = (
        "import sys, json; from nsdflow.cli import main; sys.argv = ['nsdflow', *json.loads(sys.argv[1])]\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "sys.stderr.write(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, json.dumps(words)], capture_output=True, text=True, check=True)
    return done.stdout, json.loads(done.stderr)


def test_pipelines_are_listed_without_torch(tmp_path: Path) -> None:
    printed, modules = loaded("list", str(tmp_path))
    assert "gnet8r" in printed
    assert "torch" not in modules


def test_help_loads_nothing_heavy_and_takes_a_third_of_a_second():
    for words in ([], ["run"], ["ingest"], ["status"]):
        printed, modules = loaded(*words, "--help")
        assert [name for name in HEAVY if name in modules] == []
        assert "Usage" in printed
    before = os.times()
    subprocess.run([NSDFLOW, "--help"], capture_output=True, check=True)
    after = os.times()  # processor time: other processes of this machine do not count
    used = after.children_user + after.children_system - before.children_user - before.children_system
    assert used < 0.6  # 0.2 on a quiet machine


def test_no_option_is_without_help():
    from typer.main import get_command

    empty = [
        f"{name} {parameter.name}"
        for name, command in get_command(module.app).commands.items()
        for parameter in command.params
        if not getattr(parameter, "help", None)
    ]
    assert empty == []


def complete(*words: str) -> list[str]:
    """Completions of the last word."""
    environment = {**os.environ, "_NSDFLOW_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(("nsdflow", *words))}
    environment["COMP_CWORD"] = str(len(words))
    done = subprocess.run([NSDFLOW], capture_output=True, text=True, env=environment, check=False)
    return done.stdout.split()


def test_the_shell_completes_commands_pipelines_clusters_settings_subjects_and_rois(small_store):
    assert "status" in complete("st")
    assert complete("run", "gnet8j") == [name for name in pipeline_names() if name.startswith("gnet8j")]
    assert complete("run", "gnet8j", "--cluster", "s") == ["slurm", "sge"]
    assert "train.epochs=" in complete("run", "gnet8j", "--set", "train.e")
    assert complete("ingest", "--subjects", "1,8") == ["1,8"]
    assert "nsdgeneral" in complete("ingest", "--voxels", "n")
    assert "rois=[V1,V2" in complete("run", "gnet8j", "--store", small_store, "--set", "rois=[V1,V2")
    assert complete("run", "gnet8j", "--storage", "scr") == ["scratch"]


def test_list_shows_pipelines_profiles_and_the_stores_and_runs_of_a_folder(nsd, tmp_path, small_store):
    (tmp_path / "nsd.zarr").symlink_to(small_store)
    run = tmp_path / "runs" / "mine"
    run.mkdir(parents=True)
    (run / "run.yaml").write_text("created: x\n")
    status, out = nsd("list", tmp_path)
    assert status == 0
    sections = dict(section.split(":\n", 1) for section in out.strip().split("\n\n"))
    assert sections[f"stores in {tmp_path}"].split() == ["nsd.zarr"]
    assert sections[f"runs in {tmp_path}"].split() == ["runs/mine", "not", "finished"]
    assert {line.split()[0] for line in sections["pipelines (nsdflow run NAME)"].splitlines()} == set(pipeline_names())
    assert "scratch" in sections["storage profiles (--storage NAME)"]


def test_info_describes_a_store_and_a_pipeline(nsd, small_store, tmp_path):
    status, out = nsd("info", small_store)
    assert status == 0
    assert "a store of 2 subject(s)" in out
    assert re.search(r"subj01: \d sessions, \d+ trials, \d+ voxels, \d+ ROIs \(V1 ", out)
    status, out = nsd("info", "gnet8j")
    assert status == 0
    assert yaml.safe_load(out.split("\n\n", 1)[1])["train"]["epochs"] == 50
    status, out = nsd("info", "gabor")
    assert (status, out.startswith("gabor: 12 layers")) == (0, True)
    status, out = nsd("info", tmp_path)
    assert (status, out.strip().endswith("nsdflow list shows what exists")) == (2, True)


def test_info_describes_a_run_that_is_not_finished(nsd, tmp_path):
    pipeline = {"name": "gnet8j", "kind": "gnet", "protocol": "strict"}
    record = {"created": "2026-11-27", "pipeline": pipeline, "store": {"url": "/data/nsd.zarr"}}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(record))
    status, out = nsd("info", tmp_path)
    assert status == 0
    for part in ("gnet8j (gnet)", "strict", "/data/nsd.zarr", "not finished; see nsdflow status"):
        assert part in out


def test_a_matplotlibrc_that_is_no_text_is_one_line(monkeypatch, capsys):
    """matplotlib reads its file when it is imported, in the middle of any command that draws."""
    namespace = {"__name__": "matplotlib"}
    exec("def importing(**options): bytes([0xFF]).decode()", namespace)
    monkeypatch.setattr(module, "app", namespace["importing"])
    with pytest.raises(SystemExit) as stopped:
        module.run_command()
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: matplotlibrc: not a text in UTF-8")
    assert said.count("\n") == 1
    namespace["__name__"] = "another"
    with pytest.raises(UnicodeDecodeError):
        module.run_command()
