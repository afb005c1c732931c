"""``nsdflow check --parity``: counts, input means and correlations compared with the published ones."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
import scipy.io
import torch
from typer.testing import CliRunner

from nsdflow.analysis import published
from nsdflow.analysis.published import Cell, cells_text
from nsdflow.cli.app import app
from nsdflow.errors import MissingDataError
from nsdflow.models.published import load_checkpoint
from nsdflow.names import STIMULI_FILE
from nsdflow.nsd import layout
from nsdflow.pipelines.parity import check_parity, describe_parity
from nsdflow.pipelines.parity import means as parity_means
from nsdflow.pipelines.parity.checkpoints import checkpoint_cells
from nsdflow.store import open_store
from tests.pipelines.made_store import store_for

GOLDEN = Path(os.environ.get("NSDFLOW_GOLDEN", Path(__file__).parents[1] / "golden" / "data"))
JOINT, ONE_AREA = GOLDEN / "gnet8j_model_params.pt", GOLDEN / "gnet8r_model_params.pt"


@pytest.fixture(scope="module")
def cells(small_nsd: Path) -> dict[tuple[str, str, str], Cell]:
    """Every cell of the small NSD without store and checkpoint."""
    found = check_parity(str(small_nsd))
    assert len({(c.quantity, c.subject, c.roi) for c in found}) == len(found)
    return {(c.quantity, c.subject, c.roi): c for c in found}


def test_counts_are_those_of_the_volumes(small_nsd: Path, cells: dict[tuple[str, str, str], Cell]) -> None:
    early = np.asarray(nibabel.load(small_nsd / layout.roi_paths("subj02", "prf-visualrois", "func1pt8mm")[0]).dataobj)
    assert cells["voxels, evc", "subj02", "all"].ours == (early > 0).sum()
    assert cells["voxels, evc", "subj02", "V2"].ours == np.isin(early, (3, 4)).sum()
    assert cells["voxels, evc", "subj02", "V2"].published == published.value_of("voxels", "evc", "subj02", "V2")
    parts = sum(c.ours for (q, s, r), c in cells.items() if (q, s) == ("voxels, visual", "subj01") and r != "all")
    assert parts == cells["voxels, visual", "subj01", "all"].ours
    design = scipy.io.loadmat(small_nsd / layout.EXPERIMENT_DESIGN)
    for subject, sessions in (("subj01", 3), ("subj02", 2)):
        shown = design["masterordering"].ravel()[: 72 * sessions]
        shared = int((shown <= design["sharedix"].size).sum())
        assert cells["validation trials", subject, "all"].ours == shared
        assert cells["training trials", subject, "all"].ours == 72 * sessions - shared
    assert cells["validation trials", "subj02", "all"].published == 3000


def test_sampled_input_means_are_near_the_exact_ones(
    small_nsd: Path, cells: dict[tuple[str, str, str], Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = scipy.io.loadmat(small_nsd / layout.EXPERIMENT_DESIGN)["subjectim"][:2].astype(int) - 1
    with h5py.File(small_nsd / STIMULI_FILE) as file:
        every = file["imgBrick"][...].mean((1, 2)) / 255
    exact = np.mean([every[row].mean(0) for row in lists], 0)
    for channel, value in zip(("red", "green", "blue"), exact, strict=True):
        cell = cells["input mean, gnet8j", "all", channel]
        assert 0 < cell.error < 0.05
        assert abs(cell.ours - value) < 4 * cell.error
    monkeypatch.setattr(parity_means, "SAMPLED_PER_SUBJECT", lists.shape[1])  # all of the list
    whole = {(c.quantity, c.roi): c.ours for c in check_parity(str(small_nsd)) if c.quantity.startswith("input")}
    np.testing.assert_allclose([whole["input mean, gnet8j", c] for c in ("red", "green", "blue")], exact, rtol=1e-9)


def test_a_checkpoint_predicts_the_responses_of_a_store(tmp_path: Path) -> None:
    """The store's responses are the file's predictions plus noise; correlations come from plain loops."""
    store = open_store(store_for(tmp_path / "nsd.zarr", JOINT))
    model = load_checkpoint(JOINT)
    found = {(c.quantity, c.subject, c.roi): c for c in checkpoint_cells(JOINT, store)}
    for subject in model.readouts:
        trials = store.responses(subject, shared=True).compute()
        images = store.images(np.unique(trials["nsd_id"].values))
        predicted = model.predict(torch.from_numpy(images.values), subject).numpy()
        rows = np.searchsorted(images["nsd_id"].values, trials["nsd_id"].values)
        expected = []
        for column, index in enumerate(model.flat_index[subject]):
            response = trials.values[:, np.flatnonzero(trials["flat_index"].values == index)[0]]
            expected.append(np.corrcoef(predicted[rows, column], response)[0, 1])
        expected = np.nan_to_num(expected)
        cell = found["gnet8j, median accuracy r", subject, "all"]
        assert cell.ours == pytest.approx(np.median(expected), abs=1e-5)
        assert cell.published == published.value_of("median_accuracy", "gnet8j", subject)
        distance = found["gnet8j, largest distance from r in the file", subject, "all"]
        assert distance.ours == pytest.approx(abs(expected - model.validation_accuracy[subject]).max(), abs=1e-5)


def test_without_a_store_the_correlations_of_the_file_count() -> None:
    for file, name in ((JOINT, "gnet8j"), (ONE_AREA, "gnet8r")):
        model = load_checkpoint(file)
        found = {(c.quantity, c.subject, c.roi): c for c in checkpoint_cells(file)}
        for (quantity, subject, roi), cell in found.items():
            assert "as the file says it" in cell.note
            if quantity == "gnet8j, median accuracy r":
                assert roi == "all"
                assert cell.ours == pytest.approx(np.median(model.validation_accuracy[subject]))
        explained = [key for key in found if key[0] == f"{name}, explained variance (%)"]
        assert explained, "the tables of the paper have both models"


def test_the_command_says_what_differs(small_nsd: Path) -> None:
    outcome = CliRunner().invoke(app, ["check", str(small_nsd), "--parity", "--checkpoint", str(JOINT)])
    assert outcome.exit_code == 0, outcome.output
    assert "this NSD is synthetic: the comparison means nothing" in outcome.output
    assert "median accuracy r" in outcome.output
    same = describe_parity(str(small_nsd), (Cell("voxels, evc", "subj01", "all", 4627, 4627, float("nan")),))
    assert "1 of 1 counts are the published ones" in same
    alone = CliRunner().invoke(app, ["check", str(small_nsd), "--checkpoint", str(JOINT)])
    assert alone.exit_code != 0
    assert "are for --parity" in str(alone.exception)
    with pytest.raises(MissingDataError, match="no such file"):
        check_parity(str(small_nsd), checkpoints=["absent.pt"])


def test_means_are_shown_with_the_decimals_that_tell_them_apart() -> None:
    text = cells_text([Cell("input mean, gnet8j", "all", "red", 0.476118, 0.47611815, 0.001)], ours="here")
    assert "0.47612" in text
