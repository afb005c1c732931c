"""The wrong kind of path gives one line that names what lies there, in every command and opening function."""

from __future__ import annotations

import shutil
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
import xarray as xr
import yaml

import nsdflow
from nsdflow.cli import main
from nsdflow.errors import NsdflowError
from nsdflow.runs import write_results

Places = dict[str, Path]


@pytest.fixture(scope="module")
def places(small_nsd: Path, small_store: str, tmp_path_factory: pytest.TempPathFactory) -> Places:
    """One of each: a store, NSD, a folder of runs, a run, its results, a folder and a file of something else."""
    root = tmp_path_factory.mktemp("places")
    run = root / "runs" / "mine"
    write_results(run, xr.DataTree.from_dict({"/history": xr.Dataset({"loss": ("epoch", [1.0])})}))
    record = {"created": "2026-11-27", "pipeline": {"name": "mine", "kind": "gnet"}, "store": {"url": small_store}}
    (run / "run.yaml").write_text(yaml.safe_dump(record))
    (root / "folder").mkdir()
    (root / "file.txt").write_text("text")
    return {
        "STORE": Path(small_store), "NSD": small_nsd, "RUNS": run.parent, "RUN": run, "RESULTS": run / "results.zarr",
        "FOLDER": root / "folder", "FILE": root / "file.txt", "NOTHING": root / "nothing",
    }  # fmt: skip


#: What a message says of a place where a store, a run or NSD is wanted.
NO_STORE = {
    "RUN": "a run, not a store; `nsdflow info ",
    "RESULTS": "the results of a run, not a store; the run is ",
    "NSD": "NSD, not a store; `nsdflow ingest --source ",
    "RUNS": "a folder of runs, not a store; it has mine",
    "FOLDER": "no store there; `nsdflow ingest` makes one",
    "FILE": "no store there; `nsdflow ingest` makes one",
    "NOTHING": "no store there; `nsdflow ingest` makes one",
}
NO_RUN = {
    "STORE": "a store, not a run; `nsdflow info ",
    "RESULTS": "the results of a run, not a run; the run is ",
    "NSD": "NSD, not a run; `nsdflow ingest --source ",
    "RUNS": "a folder of runs, not a run; it has mine",
    "FOLDER": "no run, for it has no run.yaml; give the folder that `nsdflow run` made",
    "FILE": "no run, for it has no run.yaml; give the folder that `nsdflow run` made",
    "NOTHING": "no such run",
}
NO_NSD = {
    "STORE": " is a store, not NSD; `nsdflow info ",
    "RUN": " is a run, not NSD; `nsdflow info ",
    "RESULTS": " is the results of a run, not NSD; the run is ",
    "RUNS": " is a folder of runs, not NSD; it has mine",
    "FOLDER": "no such folder; give the folder or bucket that holds nsddata_betas",
    "NOTHING": "no such folder; give the folder or bucket that holds nsddata_betas",
}
NO_MODEL = {
    "RUN": "a run that has kept no model; ",
    "STORE": "a store or results, not a run; give the folder of a finished run",
    "RESULTS": "a store or results, not a run; give the folder of a finished run",
    "RUNS": "no run, for it has no run.yaml; ",
    "FILE": "not a .safetensors file; nsdflow adopt makes runs of published files",
    "NOTHING": "no such run; give the folder of a finished run, or its model.safetensors",
}


@pytest.mark.parametrize(
    ("function", "told"),
    [(nsdflow.open_store, NO_STORE), (nsdflow.open_run, NO_RUN), (nsdflow.load_model, NO_MODEL)],
    ids=["open_store", "open_run", "load_model"],
)
def test_opening_the_wrong_thing_is_one_error(places: Places, function: Callable[[str], object], told: dict) -> None:
    for name, expected in told.items():
        with pytest.raises(NsdflowError) as caught:
            function(str(places[name]))
        assert f"{places[name]}: {expected}" in str(caught.value), name
        assert "\n" not in str(caught.value)
        shown = "".join(traceback.format_exception(caught.value))
        assert shown.count("Traceback") == 1, "no chain of errors"


#: Commands with a word in place of the wrong path, and what each says of the places.
COMMANDS = (
    ("check WRONG", NO_NSD),
    ("masks WRONG NEW", NO_NSD),
    ("ingest --source WRONG --store NEW", NO_NSD),
    ("run gabor_fwrf --store WRONG --runs NEW", NO_STORE),
    ("run gabor_fwrf --store WRONG --runs NEW --dry-run", NO_STORE),
    ("run paper --store WRONG --runs NEW", NO_STORE),
    ("check NSD --parity --store WRONG", NO_STORE),
    ("adopt FILE --store WRONG --runs NEW", NO_STORE),
    ("report WRONG", NO_RUN),
    ("explore WRONG", NO_RUN),
    ("export WRONG NEW", NO_RUN),
    ("compare WRONG RUN", NO_RUN),
    ("compare --published WRONG", NO_RUN),
    ("ingest --source NSD --store WRONG", {"RUN": NO_STORE["RUN"], "RUNS": NO_STORE["RUNS"], "NSD": NO_STORE["NSD"]}),
    (
        "run gabor_fwrf --store STORE --runs WRONG",
        {"STORE": "a store, not a folder of runs", "RUN": "a run, not a fol"},
    ),
    ("info WRONG", {"NSD": "NSD, not a store or a run", "RUNS": "a folder of runs, not a store or a run; it has mine"}),
    ("status WRONG", {"NSD": "neither a run, nor a folder of runs", "FOLDER": "neither a run, nor a folder of runs"}),
)


@pytest.mark.parametrize(("line", "told"), COMMANDS, ids=[line.replace(" ", "_") for line, _ in COMMANDS])
def test_a_command_with_the_wrong_thing_says_so_in_one_line(
    places: Places, line: str, told: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    for name, expected in told.items():
        here = {**places, "WRONG": places[name], "NEW": tmp_path / "new"}
        words = [str(here.get(word, word)) for word in line.split()]
        monkeypatch.setattr(sys, "argv", ["nsdflow", *words])
        with pytest.raises(SystemExit) as stopped:
            main()
        _, err = capfd.readouterr()
        assert stopped.value.code == 2, err
        assert err.startswith("error: "), err
        assert err.count("\n") == 1, err
        assert expected in err, (name, err)
    shutil.rmtree(tmp_path / "new", ignore_errors=True)
