"""Existing, missing and unreadable files of a source."""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np
import pytest

from nsdflow.errors import MissingDataError, SelectionError
from nsdflow.names import STIMULI_FILE
from nsdflow.nsd.inventory import list_betas, take_inventory
from nsdflow.nsd.layout import EXPERIMENT_DESIGN, STIMULUS_INFO, responses_path
from nsdflow.nsd.source import Source, open_source


def test_everything_is_there(nsd: Any) -> None:
    inventory = take_inventory(open_source(nsd.root))
    assert [subject.subject for subject in inventory.subjects] == ["subj01", "subj02"]
    first, second = inventory.subjects
    assert first.sessions == (1, 2, 3)
    assert second.sessions == (1, 2)
    assert first.held_out == second.held_out == ()
    assert (first.shape, first.trials, first.format) == (nsd.shape, nsd.trials, "nii.gz")
    assert first.atlases == ("Kastner2015", "MTL", "aseg", "nsdgeneral", "prf-visualrois")
    np.testing.assert_array_equal(first.affine, nib.load(nsd.betas_folder() / "betas_session01.nii.gz").affine)
    assert first.bytes == sum(path.stat().st_size for path in nsd.betas_folder().glob("betas_*.nii.gz"))
    assert (inventory.image_count, *inventory.image_shape) == nsd.images.shape
    assert inventory.bytes == first.bytes + second.bytes + (nsd.root / STIMULI_FILE).stat().st_size
    assert inventory.missing == ()


@pytest.mark.parametrize("space", ["nativesurface", "fsaverage"])
def test_surfaces(nsd: Any, space: str) -> None:
    inventory = take_inventory(open_source(nsd.root), space=space, subjects=["subj02"])
    (subject,) = inventory.subjects
    assert subject.sessions == (1, 2)
    assert (subject.shape, subject.affine) == (nsd.vertices, None)
    assert subject.format == {"nativesurface": "hdf5", "fsaverage": "mgh"}[space]
    files = nsd.betas_folder("subj02", space).glob("*.betas_*")
    assert subject.bytes == sum(path.stat().st_size for path in files)


def test_all_betas_are_listed(nsd: Any) -> None:
    root = nsd.root / "nsddata_betas/ppdata/subj02"
    there = {f"{path.parent.parent.name}/{path.parent.name}" for path in root.glob("*/*/*betas_session01*")}
    found = list_betas(open_source(nsd.root), "subj02")
    assert set(found) == there
    assert len(found) == len(there) >= 3


def test_what_is_missing(broken: Any) -> None:
    for path in (EXPERIMENT_DESIGN, STIMULI_FILE, "nsddata/ppdata/subj02/func1pt8mm/valid_session02.nii.gz"):
        (broken.root / path).unlink()
    (broken.betas_folder() / "ncsnr.nii.gz").unlink()
    inventory = take_inventory(open_source(broken.root))
    assert set(inventory.missing) == {
        f"{broken.root}/{path}"
        for path in (
            EXPERIMENT_DESIGN,
            STIMULI_FILE,
            "nsddata/ppdata/subj02/func1pt8mm/valid_session02.nii.gz",
            "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR/ncsnr.nii.gz",
        )
    }
    assert (inventory.image_count, inventory.image_shape) == (0, ())


def test_half_a_session_of_a_surface_is_missing(broken: Any) -> None:
    folder = broken.betas_folder("subj02", "fsaverage")
    (half,) = folder.glob("rh.betas_session02.mgh")
    half.unlink()
    inventory = take_inventory(open_source(broken.root), space="fsaverage", subjects=["subj02"])
    assert inventory.subjects[0].sessions == (1,)
    assert str(half) in inventory.missing


def test_what_may_not_be_read_is_held_out(nsd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behaves like a bucket that lists a session but denies access (tests/nsd/test_s3.py uses a real server)."""
    trouble = Source.trouble
    answer = lambda self, path: "is not public" if "session03" in path else trouble(self, path)  # noqa: E731
    monkeypatch.setattr(Source, "trouble", answer)
    first, second = take_inventory(open_source(nsd.root)).subjects
    assert (first.sessions, first.held_out) == ((1, 2), (3,))
    assert (second.sessions, second.held_out) == ((1, 2), ())


def test_mixed_formats(broken: Any) -> None:
    folder = broken.betas_folder()
    for format in ("nii.gz", "nii"):
        (folder / f"betas_session02.{format}").unlink()
    first = take_inventory(open_source(broken.root), subjects=["subj01"]).subjects[0]
    assert first.sessions == (1, 2, 3)
    assert first.format == "hdf5, nii.gz"
    for path in folder.glob("betas_session*"):
        if not path.name.endswith(".hdf5"):
            path.unlink()
    bare = take_inventory(open_source(broken.root), subjects=["subj01"]).subjects[0]
    assert (bare.format, bare.affine) == ("hdf5", first.affine)  # as ROI volumes and masks on the same grid have it


def test_headers_only(broken: Any) -> None:
    """Only the first bytes of a session are read: the files here contain nothing else."""
    for path in broken.betas_folder().glob("betas_session*"):
        if not path.name.endswith(".nii.gz"):
            path.unlink()
    for path in broken.betas_folder().glob("betas_session*.nii.gz"):
        path.write_bytes(path.read_bytes()[:500])
    first = take_inventory(open_source(broken.root), subjects=["subj01"]).subjects[0]
    assert (first.shape, first.trials, first.bytes) == (broken.shape, broken.trials, 1500)


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ({"subjects": ["subj05"]}, "unknown subject in .*'subj05'; available: subj01, subj02"),
        ({"space": "func1mm"}, "unknown space in .*'func1mm'; available: fsaverage, func1pt8mm, nativesurface"),
        ({"betas": "betas_fithrf"}, "unknown betas version .*'betas_fithrf'; available: betas_fithrf_GLMdenoise_RR"),
        ({"space": "MNI"}, "unknown space .*'MNI'; available: fsaverage, func1pt8mm, nativesurface"),
    ],
)
def test_unknown_names(nsd: Any, what: dict[str, Any], says: str) -> None:
    with pytest.raises(SelectionError, match=says):
        take_inventory(open_source(nsd.root), **what)


def test_no_nsd_here(tmp_path: Any) -> None:
    with pytest.raises(MissingDataError, match="nsddata_betas/ppdata: no such folder; give the folder or bucket"):
        take_inventory(open_source(tmp_path))
    (tmp_path / "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR").mkdir(parents=True)
    with pytest.raises(MissingDataError, match="no session that can be read"):
        take_inventory(open_source(tmp_path))
    (tmp_path / "nsddata_betas/ppdata/subj01").rename(tmp_path / "nsddata_betas/ppdata/sub-1")
    with pytest.raises(MissingDataError, match="no folder such as subj01; it has sub-1"):
        take_inventory(open_source(tmp_path))


def test_folders_beside_the_subjects_are_left_out_aloud(broken: Any) -> None:
    """A copy under another name does not stop anyone, and is no subject."""
    for name in ("subj01_old", "subj1", "sub-01", "templates"):
        (broken.root / "nsddata_betas/ppdata" / name).mkdir()
    inventory = take_inventory(open_source(broken.root))
    assert [subject.subject for subject in inventory.subjects] == ["subj01", "subj02"]
    told = [line.split(" has not")[0].rpartition("/")[2] for line in inventory.left_out if " has not " in line]
    assert told == ["sub-01", "subj01_old", "subj1"]
    assert take_inventory(open_source(broken.root), subjects=["subj01"]).others == ()


def test_gaps_of_the_tables_are_said(broken: Any) -> None:
    """Columns that were renamed, and sessions whose behaviour is not in a table that ends before them."""
    answers = broken.root / responses_path("subj01")
    lines = answers.read_text().replace("RT", "REACTION", 1).splitlines(keepends=True)
    answers.write_text("".join(line for line in lines if line.split("\t")[1] != "3"))
    info = broken.root / STIMULUS_INFO
    info.write_text(info.read_text().replace("cocoId", "number", 1))
    told = " ".join(take_inventory(open_source(broken.root), subjects=["subj01"]).left_out)
    assert "responses.tsv has no column RT, " in told
    assert "responses.tsv has no rows of session 3, whose behaviour is missing" in told
    assert "nsd_stim_info_merged.csv has no column cocoId; COCO's numbers are left out" in told
