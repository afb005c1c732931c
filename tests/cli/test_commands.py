"""The command line: what the commands print, and one clear line with exit status 2 for every mistake."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import dask
import nibabel
import numpy as np
import pytest

import nsdflow
from nsdflow.cli import main
from nsdflow.cli.app import COMMANDS
from nsdflow.nsd import layout
from nsdflow.pipelines.load import load_pipeline
from nsdflow.report.sections import accuracy
from nsdflow.runs.folder import RunFolder
from tests.few_files import keep_few_files

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def _bound() -> list[str]:
    """Every address to which this process binds a socket; a hook of the interpreter stays to its end."""
    bound: list[str] = []

    def note(event: str, arguments: tuple) -> None:
        if event == "socket.bind" and isinstance(arguments[1], tuple):
            bound.append(arguments[1][0])

    sys.addaudithook(note)
    return bound


@pytest.fixture
def opened() -> dict[str, set[str]]:
    """Addresses on which the commands of a test opened sockets, by command."""
    return {}


@pytest.fixture
def nsd(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], _bound: list[str], opened: dict[str, set[str]]
) -> Command:
    """Run ``nsdflow ...`` in this process; return its exit status, output and errors."""

    def command(*words: object) -> tuple[int, str, str]:
        _bound.clear()
        monkeypatch.setattr(sys, "argv", ["nsdflow", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capfd.readouterr()
        opened.setdefault(str(words[0]), set()).update(_bound)
        return int(stopped.value.code or 0), out, err

    return command


@pytest.fixture
def copied(small_nsd: Path, tmp_path: Path) -> Path:
    """A copy of the small NSD that a test may break, with few atlases and maps."""
    return keep_few_files(Path(shutil.copytree(small_nsd, tmp_path / "nsd")))


def complaint(outcome: tuple[int, str, str]) -> str:
    """The single line of a mistake."""
    status, _, err = outcome
    assert status == 2, err
    lines = [line for line in err.splitlines() if "error" in line.lower()]
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    assert err.endswith(lines[0] + "\n"), "nothing follows it"
    return lines[0]


def test_every_command_explains_itself_with_an_example(nsd: Command) -> None:
    names = [command.__name__.rstrip("_") for command in COMMANDS]
    assert set(names) >= {"demo", "synth", "check", "masks", "ingest", "run", "status", "report", "export", "doctor"}
    for name in names:
        status, out, _ = nsd(name, "--help")
        assert status == 0
        assert f"nsdflow {name}" in out.split("Example:")[1]


@pytest.mark.usefixtures("blank_pictures")  # tests/report draws them, and all sections
def test_from_synth_to_report(
    nsd: Command, opened: dict[str, set[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nsdflow.report.html.SECTIONS", accuracy.SECTIONS)
    source, store, runs = tmp_path / "nsd", tmp_path / "nsd.zarr", tmp_path / "runs"
    small = ("--subjects", 1, "--sessions", 2, "--trials", 48, "--shared", 8, "--image-size", 72, "--evc-voxels", 40)
    status, _, err = nsd("synth", source, *small)
    assert (status, "betas 2/2" in err) == (0, True)
    status, out, _ = nsd("check", source)
    assert (status, "2 sessions x 48 trials" in out, "complete" in out) == (0, True, True)
    size = ("--image-size", 67, "--cluster", "threads")
    status, out, _ = nsd("ingest", "--source", source, "--store", store, *size, "--dry-run")
    assert status == 0
    assert "peak memory per task" in out
    assert not store.exists()
    assert not list(tmp_path.glob("*.building"))
    status, out, _ = nsd("ingest", "--source", source, "--store", store, *size)
    assert status == 0, out
    assert "published, with subj01" in out
    settings = [
        word for key in ("prefilter=gabor", "width=4", "train.epochs=1", "bootstrap=4") for word in ("--set", key)
    ]
    run = ("run", "gnet8j", "--store", store, "--runs", runs, "--cluster", "threads", *settings)
    status, out, err = nsd(*run)
    assert status == 0, err
    assert re.search(r"gnet8j +│ subj01 +│ +40 │ +-?0\.\d{3} │ +0\.\d{3} │ +-?\d+% │", out), out
    assert (runs / "gnet8j" / "report.html").stat().st_size > 10_000
    status, out, err = nsd(*run)
    assert (status, err) == (0, "")  # no cluster was started
    assert out.startswith("finished before; nothing to do\n")
    status, out, _ = nsd("status", runs)
    assert "finished" in out
    assert re.search(r"gnet8j/joint +1 / 1 +\d", out), out
    assert nsd("report", runs / "gnet8j")[0] == 0
    status, out, _ = nsd("export", runs / "gnet8j", tmp_path / "maps", "--to", "nifti")
    image = nibabel.load(tmp_path / "maps" / "subj01_accuracy.nii.gz")
    volume = image.get_fdata()
    results = nsdflow.open_run(str(runs / "gnet8j"))["subj01"].to_dataset()
    found = volume[tuple(results[axis].values for axis in "ijk")]
    np.testing.assert_allclose(found, results["accuracy"], rtol=1e-6)
    assert np.isnan(volume).sum() == volume.size - results.sizes["voxel"]
    for words in (("info", store), ("list", tmp_path), ("explore", runs / "gnet8j"), ("masks", source, tmp_path / "m"),
                  ("compare", "--published", runs / "gnet8j"), ("doctor", "--cluster", "threads")):  # fmt: skip
        nsd(*words)
    clusters = {"ingest", "run", "doctor"}
    assert {name for name, hosts in opened.items() if hosts} == clusters, "only these open sockets"
    assert set().union(*opened.values()) == {"127.0.0.1"}
    others = {"demo": "synth, ingest and run", "adopt": "no cluster"}
    assert opened.keys() == {command.__name__.rstrip("_") for command in COMMANDS} - others.keys()


def test_mistakes_in_arguments(nsd: Command, small_nsd: Path, small_store: str, tmp_path: Path) -> None:
    ingest = ("ingest", "--source", small_nsd, "--store", tmp_path / "x.zarr")
    run = ("run", "gnet8j", "--store", small_store, "--runs", tmp_path / "runs")
    told = {
        ("check", tmp_path / "nowhere"): "no such folder",
        ("ingest", "--store", tmp_path / "x.zarr"): "write --source",
        (*ingest, "--subjects", "1,7"): "subj07",
        (*ingest, "--subjects", "one"): "'one' is not a subject; write subj01 or 1",
        (*ingest, "--betas", "betas_b4"): "available: betas_fithrf_GLMdenoise_RR",
        (*ingest, "--space", "func1mm"): "available: func1pt8mm",
        (*ingest, "--space", "func2mm"): "func1pt8mm",
        (*ingest, "--voxels", "v1"): "unknown voxel set",
        (*ingest, "--storage", "laptop"): "available: demo, local, s3, scratch",
        (*ingest, "--cluster", "slrum"): "did you mean 'slurm'?",
        (*ingest, "--cluster", "slrum", "--dry-run"): "did you mean 'slurm'?",
        (*run, "--cluster", "slrm", "--dry-run", "--set", "prefilter=gabor"): "did you mean 'slurm'?",
        ("ingest", "--source", small_nsd, "--store", small_store): "exists",
        ("run", "gnet9", "--store", small_store): "unknown pipeline 'gnet9'",
        ("run", "gnet8j", "--store", tmp_path / "x.zarr"): "no store there",
        (*run, "--set", "epochs"): "write for example train.epochs=2",
        (*run, "--set", "rois=[V9]", "--set", "prefilter=gabor"): "unknown ROI 'V9'; nearest: ",
        (*run, "--set", "subjects=9"): "unknown subject 'subj09'; available: subj01, subj02",
        ("status", tmp_path): "neither a run",
        ("report", tmp_path / "no-run"): "no such run",
        ("export", tmp_path / "no-run", tmp_path / "maps", "--to", "dicom"): "available: nifti",
        ("synth", small_nsd): "is not an empty folder",
        ("synth", tmp_path / "y", "--size", "huge"): "available: small, demo, published",
        ("synth", tmp_path / "y", "--subjects", 9): "less than or equal to 8; see nsdflow synth --help",
        ("rn", "gnet8j"): "no such command 'rn'; did you mean 'run'? See nsdflow --help",
        ("run",): "see nsdflow run --help",
        (*run, "--stor", "x"): "no such option: --stor; did you mean --store? See nsdflow run --help",
        (*run, "--workers", "x"): "valid integer; see nsdflow run --help",
        (*run, "more"): "unexpected extra argument",
    }
    for words, expected in told.items():
        assert expected in complaint(nsd(*words)), words
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_mistakes_of_a_file_and_of_what_it_asks_of_the_store_are_told_together_before_a_cluster_starts(
    nsd: Command, small_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nsdflow.cli.session.connect", lambda *_, **__: pytest.fail("a cluster was started"))
    file = tmp_path / "mine.yaml"
    file.write_text(
        'name: "my fwrf"\nkind: fwrf\nfeatures: gabor\nsubjects: [1, 12]\nrois: V9\nlambda_min: 10\nlambda_max: 1\n'
    )
    status, out, err = nsd("run", file, "--store", small_store, "--runs", tmp_path / "runs")
    assert (status, out) == (2, "")
    assert err.splitlines() == [
        f"error: {file}: 4 problems",
        "  - line 1: name: letters, digits, . _ - only, got 'my fwrf'; write my_fwrf",
        "  - the file: lambda_min 10 is larger than lambda_max 1",
        "  - line 5: rois: unknown ROI 'V9'; nearest: VO, V3, V2 (of 98; store.rois(subject) lists them)",
        "  - line 4: subjects: unknown subject 'subj12'; available: subj01, subj02",
    ]
    run = ("--store", small_store, "--runs", tmp_path / "runs")
    weights = ("--set", "prefilter_weights=a.pth")
    told = {
        (
            "run",
            "gabor_fwrf",
            *run,
            "--set",
            "rois=FFA",
        ): "--set rois=FFA: subj01 has no voxel in FFA; it has voxels in: V1",
        ("run", "gabor_fwrf", *run, "--set", "voxels=v1"): "--set voxels=v1: unknown ROI 'v1'",
        ("run", "paper", *run, "--set", "gnet8j.rois=V9"): "step 1, gnet8j: --set rois=V9: unknown ROI 'V9'",
        ("run", "tuning", *run): "gnet8j: no such run; do nsdflow run first, tuning starts from it",
        ("run", "tuning", *run, "--dry-run"): "gnet8j: no such run; do nsdflow run first, tuning starts from it",
        ("run", "gnet8j", *run, *weights): "a.pth: no such file; give torchvision's alexnet",
        ("run", "gnet8j", *run, *weights, "--dry-run"): "a.pth: no such file; give torchvision's alexnet",
    }
    for words, expected in told.items():
        assert expected in complaint(nsd(*words)), words
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_refuses_a_folder_that_holds_another_run(nsd: Command, small_store: str, tmp_path: Path) -> None:
    begun = load_pipeline("gnet8j", {"width": 8})
    RunFolder.of(begun, str(tmp_path)).begin(begun, small_store)
    run = ("run", "gnet8j", "--store", small_store, "--runs", tmp_path, "--set", "prefilter=gabor")
    for words in (run, (*run, "--dry-run")):
        line = complaint(nsd(*words))
        assert 'holds a run with other settings (prefilter was "alexnet", now "gabor"; width was 8, now 64)' in line
        assert "choose another name with --set name=..., or delete the folder" in line


def test_broken_files_are_named_and_leave_no_store(nsd: Command, copied: Path, tmp_path: Path) -> None:
    session = copied / layout.betas_paths("subj01", 2, "func1pt8mm", "betas_fithrf_GLMdenoise_RR", "nii.gz")[0]
    whole = session.read_bytes()
    session.with_name("betas_session02.hdf5").unlink(missing_ok=True)  # otherwise it would be read instead
    store = tmp_path / "nsd.zarr"
    ingest = ("ingest", "--source", copied, "--store", store, "--image-size", 67, "--cluster", "threads")

    session.write_bytes(whole[: len(whole) // 2])
    line = complaint(nsd(*ingest, "--no-resume"))
    assert session.name in line
    assert not store.exists()

    flipped = bytearray(whole)
    flipped[-6] ^= 1  # in the CRC
    session.write_bytes(bytes(flipped))
    assert session.name in complaint(nsd(*ingest, "--no-resume"))

    image = nibabel.Nifti1Image.from_bytes(__import__("gzip").decompress(whole))
    nibabel.save(image.slicer[..., :-3], session)
    line = complaint(nsd(*ingest, "--no-resume"))
    assert session.name in line
    assert "72" in line
    assert "69" in line

    session.write_bytes(whole)
    status, _, err = nsd(*ingest, "--no-resume")
    assert status == 0, err
    assert nsdflow.open_store(str(store)).subjects == ("subj01", "subj02")


def test_a_dry_run_refuses_workers_that_are_too_small_and_counts_the_jobs(
    nsd: Command, small_nsd: Path, small_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ingest = ("ingest", "--source", small_nsd, "--store", tmp_path / "x.zarr", "--cluster", "slurm", "--dry-run")
    with dask.config.set({"jobqueue.slurm": {"cores": 8, "memory": "1GiB", "maximum-jobs": 3}}):
        assert "but a worker has 128.00 MiB" in complaint(nsd(*ingest))
    with dask.config.set({"jobqueue.slurm": {"cores": 2, "memory": "64GiB", "maximum-jobs": 3}}):
        status, out, err = nsd(*ingest)
    assert status == 0, err
    assert "cpu pool: at most 3 jobs of slurm at once" in out
    assert "#SBATCH --mem=64G" in out
    assert not list(tmp_path.iterdir())


def test_paths_with_a_tilde_and_variables_are_the_home_folders(
    nsd: Command, small_nsd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, work = tmp_path / "home of mine", tmp_path / "work"
    work.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("DATA", str(home))
    monkeypatch.chdir(work)
    assert nsd("synth", "~/nsd", "--sessions", 1, "--trials", 24, "--shared", 2, "--image-size", 32)[0] == 0
    assert (home / "nsd" / "nsddata").is_dir()
    assert nsd("check", "$DATA/nsd")[0] == 0
    assert nsd("masks", "~/nsd", "$DATA/masks")[0] == 0
    assert "no store there" in complaint(nsd("run", "gnet8j", "--store=~/x.zarr", "--set", "prefilter=gabor"))
    assert "NOWHERE" in complaint(nsd("check", "$NOWHERE/nsd"))
    assert not list(work.iterdir())


def test_a_page_that_cannot_be_drawn_does_not_hide_the_run(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from nsdflow.cli import session

    def fail(run: str) -> str:
        raise RuntimeError("latex could not be found\nand more")

    monkeypatch.setattr("nsdflow.report.write_report", fail)
    assert session.write_reports(["runs/gnet8j"]) == []
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "no report of runs/gnet8j: RuntimeError: latex could not be found and more" in err
    assert "nsdflow report runs/gnet8j" in err
