"""``nsdflow compare``: a table, a page with figures, and the published numbers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from nsdflow.cli.app import app
from nsdflow.errors import SelectionError
from nsdflow.report.compare import compare_published, compare_run_folders


def test_two_runs_beside_each_other(run_folders: dict[str, Path], tmp_path: Path) -> None:
    """Both runs have the same accuracies: no voxel is won, and no difference is more than 0."""
    runs = run_folders["gnet"].parent
    outcome = CliRunner().invoke(
        app, ["compare", str(runs / "gnet8r"), str(runs / "gnet8j"), "--out", str(tmp_path / "page.html")]
    )
    assert outcome.exit_code == 0, outcome.output
    (line,) = [line for line in outcome.output.splitlines() if line.split()[:2] == ["all", "all"]]
    assert "+0.000 (+0.000 to +0.000)" in line
    page = (tmp_path / "page.html").read_text()
    assert page.count("<img") >= 4
    assert "gnet8r against gnet8j" in page


def test_the_page_lies_beside_the_first_run(run_folders: dict[str, Path]) -> None:
    text, page = compare_run_folders([str(run_folders["fwrf"]), str(run_folders["gnet"])])
    assert page == run_folders["fwrf"].parent / "compare.html"
    assert "gnet minus fwrf" in text
    assert "different data" not in text


@pytest.mark.usefixtures("blank_pictures")
def test_runs_on_different_data_say_so(run_folders: dict[str, Path], tmp_path: Path) -> None:
    other = shutil.copytree(run_folders["gnet"], tmp_path / "other")
    record = yaml.safe_load((other / "run.yaml").read_text())
    store = {"url": "nsd.zarr", "content": "fedcba9876543210"}
    (other / "run.yaml").write_text(yaml.safe_dump(record | {"store": store}))
    text, page = compare_run_folders([str(run_folders["fwrf"]), str(other)], tmp_path / "page.html")
    (line,) = (line for line in text.splitlines() if "different data" in line)
    said = "fwrf on nsd.zarr (0123456789abcdef), gnet on nsd.zarr (fedcba9876543210)"
    assert line == f"The runs were made on different data: {said}."
    assert line in Path(page).read_text()


def test_one_run_needs_the_published_numbers(run_folders: dict[str, Path]) -> None:
    with pytest.raises(SelectionError, match="two runs or more"):
        compare_run_folders([str(run_folders["gnet"])])
    assert "the comparison means nothing" in compare_published(str(run_folders["gnet"]))
    outcome = CliRunner().invoke(app, ["compare", str(run_folders["gnet"]), "--published"])
    assert outcome.exit_code == 0
    assert "synthetic data" in outcome.output
