"""The page of a run: one file, with the right sections and the right numbers."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from html import escape
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml
from matplotlib.figure import Figure
from PIL import Image

from nsdflow.analysis import split_counts, summary_table
from nsdflow.errors import ConfigError, MissingDataError, RunError
from nsdflow.report import write_report
from nsdflow.report.markup import first_open, picture, script_data
from nsdflow.report.sections import SECTIONS
from nsdflow.report.style import empty_figure
from nsdflow.runs import open_run, write_results
from nsdflow.runs.identity import store_identity

Cortex = Callable[..., xr.Dataset]
#: A name that would be HTML, and a formula without an end.
NASTY = "<img src=x onerror=alert(1)> $frac{1$"
SCORED = {
    "Accuracy",
    "Accuracy against the ceiling",
    "Accuracy by region of interest",
    "Accuracy of all voxels",
    "Accuracy from best to worst voxel",
    "Accuracy in the brain",
    "On the brain",
}
#: Kinds of runs that have published counterparts.
PUBLISHED = {"Comparison with the published numbers"}
EXPECTED = {
    "gnet": SCORED
    | PUBLISHED
    | {
        "Trials and images",
        "Holdout accuracy of all voxels by epoch",
        "Learning curves",
        "Pooling fields, finer level",
        "Pooling fields, coarser level",
    },
    "fwrf": SCORED
    | PUBLISHED
    | {
        "Receptive fields",
        "Size and eccentricity",
        "Layers",
        "Features by layer",
        "Ridge penalties",
        "Candidate receptive fields",
    },
    "transfer": SCORED
    | PUBLISHED
    | {"Learning curves", "Transfer between areas", "Holdout accuracy on each trunk by epoch"},
    "tuning": SCORED
    | {
        "Shared and unique variance by layer",
        "Shared and unique variance by half",
        "Size and eccentricity of pooling fields",
        "Spread of shared and unique variance",
        "Layer of each voxel",
    }
    - {"Accuracy against the ceiling"},
    "tables": {
        "Explained variance",
        "Share of the explainable variance",
        "Asymmetry of transfer",
        "One trunk or four",
    },
    "banded_ridge": SCORED | {"Variance by band of features"},
    "semantic": SCORED | {"Categories by area"},
    "predict": {"Predictions", "Images that drive a region"},
    "synthetic_data": {"Noise model"},
}
#: Number of pictures of pages with fewer than two.
PICTURES = {"predict": 0, "synthetic_data": 1}


class Page(HTMLParser):
    """Tags with their attributes, headings, and the cells of each row."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.headings: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1].append(data)


@pytest.fixture(scope="module")
def pages(run_folders: dict[str, Path]) -> dict[str, str]:
    written = {kind: write_report(folder) for kind, folder in run_folders.items()}
    assert all(path == run_folders[kind] / "report.html" for kind, path in written.items())
    return {kind: path.read_text() for kind, path in written.items()}


@pytest.mark.parametrize("kind", EXPECTED)
def test_sections_are_those_whose_variables_are_there(pages: dict[str, str], kind: str) -> None:
    page = Page(pages[kind])
    assert page.open == []  # every tag is closed
    assert set(page.headings) == {"What ran on what", *EXPECTED[kind], "Settings"}
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert links == [f"#{attributes['id']}" for tag, attributes in page.tags if tag == "section"]


def test_every_section_appears_somewhere() -> None:
    elsewhere = {"Accuracy by layer", "Lambdas at the ends of the grid"}  # tests/pipelines/test_ridge.py has a run
    elsewhere |= {"Accuracy by class of image"}  # tests/experiments/test_run.py
    elsewhere |= {"Variance by layer"}  # tests/pipelines/test_tuning.py
    elsewhere |= {"The brain to turn"}  # needs NSD's surfaces: tests/report/brain, tests/browser/test_turning.py
    assert {section.title for section in SECTIONS} == elsewhere.union(*EXPECTED.values())


def test_the_papers_tables_stand_on_the_page(pages: dict[str, str], run_folders: dict[str, Path]) -> None:
    rows = Page(pages["tables"]).rows
    table = open_run(run_folders["tables"])["accuracy"].dataset["explained_variance"].sel(subject="subj02", roi="V3")
    assert ["2", "V3", *("–" if np.isnan(value) else f"{value:.3f}" for value in table.values)] in rows
    # both runs compared have the same accuracies
    (area,) = [row for row in rows if row[:2] == ["subj01", "all"]]
    assert area[3:] == ["0.000"] * 4


@pytest.mark.parametrize("kind", EXPECTED)
def test_the_page_needs_nothing_else(pages: dict[str, str], kind: str) -> None:
    page = Page(pages[kind])
    assert not {"script", "link", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.tags}
    sources = [attributes["src"] or "" for tag, attributes in page.tags if "src" in attributes]
    assert len(sources) >= PICTURES.get(kind, 2)
    assert all(re.match(r"data:image/(png|svg\+xml);base64,", source) for source in sources)
    pictures = [base64.b64decode(source.split(",", 1)[1], validate=True) for source in sources]
    assert all(picture.startswith((b"\x89PNG", b"<?xml")) for picture in pictures)
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")
    assert not re.search(r"https?://|url\(|@import", re.sub(r"base64,[^\"]*", "", pages[kind]))
    for one in pictures:  # no picture reaches out either
        assert not re.search(rb"(href|src)=\"(?!#|data:)", one)


def test_numbers_of_the_table(pages: dict[str, str], run_folders: dict[str, Path]) -> None:
    rows = Page(pages["gnet"]).rows
    data = open_run(run_folders["gnet"])["subj02"].dataset
    accuracy, ceiling = (float(np.median(data[name])) for name in ("accuracy", "noise_ceiling"))
    control = float(np.median(data["accuracy_shuffled"]))
    expected = ["subj02", f"{data.sizes['voxel']:,}", f"{accuracy:.3f}", f"{ceiling:.3f}", f"{accuracy / ceiling:.3f}"]
    expected.append(f"{control:.3f}")
    assert expected in rows
    assert len(summary_table(open_run(run_folders["gnet"]))) == 2
    inside = np.isin(data["roi"], (1, 2))
    explained = 100 * np.mean(data["accuracy"].values[inside].astype(float) ** 2)
    (area,) = [row for row in rows if row[:2] == ["subj02", "V1"]]
    assert area[2] == str(inside.sum())
    assert float(area[3]) == pytest.approx(explained, abs=6e-4)


def test_what_ran_on_what(pages: dict[str, str]) -> None:
    page = pages["gnet"]
    for told in (
        "gnet (gnet)", "a &lt;small&gt; run &amp; its report", "published: as in the paper", "nsd.zarr", "0:05:04",
        "torch 2.13.0", "2026-03-01 12:00:00 UTC", "somewhere",
    ):  # fmt: skip
        assert told in page
    assert ["train", "1", "270", "1"] in Page(page).rows
    assert "learning_rate: 0.001" in page


def test_a_run_without_log_or_settings_has_a_page_too(run_folders: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(run_folders["transfer"], tmp_path / "bare")
    (folder / "log.jsonl").unlink()
    (folder / "run.yaml").write_text("created: 2026-01-01\n")
    page = write_report(folder).read_text()
    assert "<h1>bare</h1>" in page
    assert "Transfer between areas" in page


def test_results_without_any_settings_have_a_page(cortex: Cortex, tmp_path: Path) -> None:
    """`write_results` alone, as in a notebook."""
    tree = xr.DataTree.from_dict({"subj01": cortex(60, 0)})
    (tmp_path / "mine").mkdir()
    write_results(tmp_path / "mine", tree)
    page = write_report(tmp_path / "mine").read_text()
    assert "<h1>mine</h1>" in page
    assert "Accuracy in the brain" in page
    assert "Settings" not in Page(page).headings


def test_the_page_does_not_depend_on_the_users_matplotlib(
    run_folders: dict[str, Path], pages: dict[str, str], tmp_path: Path
) -> None:
    """Also if the backend that a notebook requests is missing, so that matplotlib cannot be imported."""
    hostile = "text.usetex: True\nfigure.facecolor: black\ntext.color: w\nsavefig.dpi: 7\n"
    (tmp_path / "matplotlibrc").write_text(hostile)
    environment = {**os.environ, "MATPLOTLIBRC": str(tmp_path), "MPLBACKEND": "module://nowhere.backend_inline"}
    folder = shutil.copytree(run_folders["transfer"], tmp_path / "transfer")
    code = f"from nsdflow.report import write_report; write_report({str(folder)!r})"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert (folder / "report.html").read_text() == pages["transfer"]


def test_counts_of_trials_and_the_control_are_on_the_page(cortex: Cortex, tmp_path: Path) -> None:
    data = cortex(60, 0)
    data = data.assign(accuracy_shuffled=("voxel", np.full(data.sizes["voxel"], 0.0125)))
    shared = np.arange(90) % 9 == 0
    counts = split_counts(np.arange(90) // 3, shared, np.arange(80) >= 70)
    write_results(tmp_path, xr.DataTree.from_dict({"subj01": data.assign_attrs(counts)}))
    page = Page(write_report(tmp_path).read_text())
    assert ["subj01", "70", "27", "10", "4", "10", "10"] in page.rows
    header, row = next((h, r) for h, r in pairwise(page.rows) if "control: images shuffled" in h)
    assert row[header.index("control: images shuffled")] == "0.013"


def test_writing_again_gives_the_same_bytes(pages: dict[str, str], run_folders: dict[str, Path]) -> None:
    assert write_report(run_folders["fwrf"]).read_text() == pages["fwrf"]


@pytest.mark.parametrize("kind", ["transfer", "banded_ridge"])
def test_names_of_others_are_text_on_every_page(run_folders: dict[str, Path], kind: str, tmp_path: Path) -> None:
    """Also if matplotlib would take the text between dollar signs for a formula."""
    folder = shutil.copytree(run_folders[kind], tmp_path / "run")
    names = {"subj01": NASTY, "subj02": f"{NASTY}2"}
    groups = {names.get(key, key): node.to_dataset().load() for key, node in open_run(folder).children.items()}
    record = yaml.safe_load((folder / "run.yaml").read_text())
    record["pipeline"] |= {"name": NASTY, "description": NASTY}
    (folder / "run.yaml").write_text(yaml.safe_dump({**record, "commit": NASTY, "created": NASTY}))
    for data in groups.values():
        if "roi" in data.coords:
            label = NASTY.replace(" ", "_")
            data["roi"].attrs = {"flag_values": list(range(1, 26)), "flag_meanings": " ".join([label] * 25)}
    write_results(folder, xr.DataTree.from_dict(groups))
    pages = []
    with suppress(ConfigError):  # a comparison with the paper asks for the number of a subject: one line
        pages.append(write_report(folder).read_text())
    for page in pages:
        tags = Page(page).tags
        assert not [attributes for _, attributes in tags if "onerror" in attributes]
        assert NASTY not in page
        assert escape(NASTY) in page


def test_headings_and_data_cannot_end_what_they_stand_in() -> None:
    page = first_open({NASTY: "<p>one</p>", f"{NASTY}2": "<p>two</p>"})
    assert [tag for tag, _ in Page(page).tags] == ["h3", "p", "details", "summary", "p"]
    data = script_data({"</script><!--<script>": 1})
    assert "<" not in data
    assert json.loads(data) == {"</script><!--<script>": 1}


@pytest.mark.parametrize("raster", [False, True])
def test_a_figure_is_drawn_once_with_everything_in_its_place(raster: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, draw = [], Figure.draw
    monkeypatch.setattr(Figure, "draw", lambda *arguments: (drawn.append(raster), draw(*arguments)))
    figure = empty_figure(3, 2)
    axes = figure.subplots()
    axes.set_ylabel("a label that needs\nroom at the left")
    before = axes.get_position().x0
    data = re.search(r"base64,([^\"]*)", picture(figure, "a figure", raster=raster)).group(1)
    assert drawn == [raster]
    assert axes.get_position().x0 > before
    if raster:
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == (480, 320)  # 160 pixels per inch


@pytest.mark.usefixtures("blank_pictures")
def test_images_of_another_store_are_not_shown(run_folders: dict[str, Path], small_store: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(run_folders["predict"], run)
    (run / "run.yaml").write_text(yaml.safe_dump({"store": store_identity(small_store) | {"content": "0" * 16}}))
    page = write_report(run, tmp_path / "page.html")
    assert page == tmp_path / "page.html"
    assert f"The images are not shown: {small_store}: holds other data than when {run} was made" in page.read_text()


def test_bad_folders(run_folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="no such run"):
        write_report(tmp_path / "nothing")
    folder = shutil.copytree(run_folders["tuning"], tmp_path / "damaged")
    for text, message in (("a: [", "is not YAML"), ("just text", "no settings in it")):
        (folder / "run.yaml").write_text(text)
        with pytest.raises(RunError, match=message):
            write_report(folder)
    assert not (tmp_path / "nothing").exists()
