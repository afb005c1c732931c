"""The table of published numbers is consistent, and runs are compared with it cell by cell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from nsdflow.analysis import published
from nsdflow.analysis.published.numbers import VOLUME_SHAPES
from nsdflow.errors import MissingDataError, SelectionError
from nsdflow.names import ROI_GROUPS

SUBJECTS = [f"subj{number:02d}" for number in range(1, 9)]
EARLY = ("V1", "V2", "V3", "hV4")


def values(quantity: str, **labels: str) -> list[float]:
    return [published.value_of(quantity, subject=subject, **labels) for subject in SUBJECTS]


@pytest.mark.parametrize("voxels", ["evc", "visual"])
def test_voxels_of_the_rois_add_up(voxels: str) -> None:
    rois = EARLY if voxels == "evc" else tuple(ROI_GROUPS)
    total = np.sum([values("voxels", model=voxels, roi=roi) for roi in rois], axis=0)
    np.testing.assert_array_equal(total, values("voxels", model=voxels))


def test_trials_are_those_of_the_sessions() -> None:
    trials = np.sum([values("trials", model=part) for part in ("training", "validation")], axis=0)
    assert (trials <= 30000).all()
    assert trials[[0, 1, 4, 6]].tolist() == [30000] * 4
    assert trials[[2, 5]].tolist() == [24000] * 2


def test_the_table_of_transfer_disagrees_with_the_notebook_where_the_caveat_says() -> None:
    table = published.source_table("transfer").set_index(["set", "subj"])["mean"]
    synthetic = [*values("asymmetry", model="transfer", data="noiseless synthetic"), 0.297]
    np.testing.assert_allclose(table["GNet8r"], synthetic, atol=0.031)
    everyone = published.value_of("asymmetry", "transfer")
    assert everyone - table["Experimental", 9] == pytest.approx(0.236)
    (number,) = published.find("asymmetry", subject="all", data="measured")
    assert "do not agree" in number.note


def test_tables_are_complete() -> None:
    for name, shape in (("accuracy", (32, 9)), ("explainable", (32, 5)), ("transfer", (36, 4))):
        table = published.source_table(name)
        assert table.shape == shape
        assert table.notna().all(axis=None)
    table = published.source_table("accuracy")
    assert (table["noise ceiling"] > table["GNet8j-fpf"]).all()
    with pytest.raises(SelectionError, match="unknown published table 'times'"):
        published.source_table("times")


def test_every_number_has_a_source_and_unit() -> None:
    for number in published.NUMBERS:
        assert ".ipynb" in number.source
        assert number.unit
    assert "nonlinearity" in published.find("median_accuracy", model="alexnet_fwrf")[0].note
    with pytest.raises(SelectionError, match="unknown published quantity"):
        published.find("speed")
    with pytest.raises(MissingDataError, match="no published median_accuracy of gnet9"):
        published.value_of("median_accuracy", "gnet9")


def test_the_page_of_the_documentation_is_written_from_the_table() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference-numbers.md"
    assert page.read_text() == published.page(), "write it again: nsdflow.analysis.published.page()"


def run_of_the_paper(error: float = 0.02) -> xr.DataTree:
    """A result with the published voxels and, in every voxel, the published median of the subject."""
    tree = {}
    for number, subject in enumerate(SUBJECTS):
        counts = [int(published.value_of("voxels", "evc", subject, roi)) for roi in EARLY]
        roi = np.repeat([1, 3, 5, 7], counts)
        flat = ("voxel", np.arange(roi.size), {"shape": VOLUME_SHAPES[number]})
        accuracy = np.full(roi.size, published.value_of("median_accuracy", "gnet8j", subject))
        variables = {"accuracy": ("voxel", accuracy), "accuracy_std": ("voxel", np.full(roi.size, error))}
        tree[subject] = xr.Dataset(variables, {"flat_index": flat, "roi": ("voxel", roi), "ncsnr": ("voxel", accuracy)})
    return xr.DataTree.from_dict(tree)


def test_a_run_is_laid_beside_the_published_numbers() -> None:
    run = run_of_the_paper()
    assert published.why_not_comparable(run) is None
    cells = published.beside_published(run, "gnet8j")
    medians = {cell.subject: cell for cell in cells if cell.quantity == "median accuracy r"}
    assert set(medians) == {"all", *SUBJECTS}
    for subject in SUBJECTS:
        assert medians[subject].difference == 0
        assert medians[subject].error == pytest.approx(0.02)
    shifted = run.map_over_datasets(lambda data: data.assign(accuracy=data["accuracy"] + 0.03) if data else data)
    (cell,) = [
        c for c in published.beside_published(shifted, "gnet8j") if c.quantity[:6] == "median" and c.subject == "subj03"
    ]
    assert cell.in_errors == pytest.approx(1.5)
    counts = [cell for cell in cells if cell.quantity == "voxels"]
    assert len(counts) == 32
    assert all(cell.difference == 0 for cell in counts)
    explained = [cell for cell in cells if cell.quantity == "explained variance (%)"]
    assert len(explained) == 32
    assert explained[0].ours == pytest.approx(100 * 0.361**2)
    assert explained[0].error == pytest.approx(100 * 2 * 0.361 * 0.02)


def test_synthetic_data_are_not_compared() -> None:
    run = run_of_the_paper()
    assert "synthetic" in (published.why_not_comparable(run, {"store": {"synthetic": True}}) or "")
    small = run.map_over_datasets(lambda data: data.isel(voxel=slice(0, 400)) if data else data)
    assert "voxels of the paper" in (published.why_not_comparable(small) or "")
    elsewhere = run["subj01"].to_dataset()
    elsewhere["flat_index"].attrs["shape"] = (20, 24, 18)
    assert "volume of NSD" in (published.why_not_comparable(xr.DataTree.from_dict({"subj01": elsewhere})) or "")


def test_asymmetries_are_compared_with_both_sources() -> None:
    names = [*SUBJECTS, "all"]
    alpha = [*values("asymmetry", model="transfer", data="measured"), 0.226]
    transfer = xr.Dataset(
        {"alpha": ("subject", alpha), "alpha_error": ("subject", np.full(9, 0.05))}, {"subject": names}
    )
    cells = published.beside_published(xr.DataTree.from_dict({"transfer": transfer}), "transfer")
    notebook, csv = ([c for c in cells if source in c.quantity] for source in ("notebook", "CSV"))
    assert [c.difference for c in notebook] == [0.0] * 9
    assert len(csv) == 9
    (everyone,) = [c for c in csv if c.subject == "all"]
    assert everyone.difference == pytest.approx(0.236)
    assert everyone.error == pytest.approx(np.hypot(0.05, 0.08))
