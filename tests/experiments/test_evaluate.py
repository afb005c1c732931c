"""A run on the sister experiments, with predictions that are known: the planted signal itself."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from nsdflow.analysis import accuracy_by_class, explained_share
from nsdflow.errors import ConfigError, MissingDataError, SelectionError
from nsdflow.pipelines.load import load_pipeline
from nsdflow.pipelines.predict import evaluate
from nsdflow.pipelines.predict.evaluate import EvaluateJob, evaluate_subject, plan_evaluate
from nsdflow.report.figures import accuracy_of_classes
from nsdflow.report.sections.predictions import SECTIONS
from nsdflow.runs.folder import RunFolder
from nsdflow.runs.parts import open_parts
from nsdflow.store import Store


class Knows:
    """A predictor that returns rows of a table, in the order of the requested images."""

    def __init__(self, store: Store, tables: list[np.ndarray], columns: np.ndarray) -> None:
        self.voxels = store.voxels(1)[["flat_index", "roi"]].set_coords(["flat_index", "roi"]).isel(voxel=columns)
        self.tables = iter(tables)

    def to(self, device: object) -> Knows:
        return self

    def check_size(self, images: object) -> None:
        pass

    def predict(self, images, *, batch_size: int) -> np.ndarray:
        table = next(self.tables)
        assert len(images) == len(table)
        return table


@pytest.fixture(scope="module")
def scores(source: Path, store: Store, tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    """Of the planted signal, in early visual cortex."""
    with np.load(source / "truth/func1pt8mm/subj01.npz") as truth:
        place = {flat: number for number, flat in enumerate(truth["flat_index"].tolist())}
        listed = truth["nsd_id"]
    (columns,) = np.nonzero(np.isin(store.voxels(1)["roi"].values, np.arange(1, 8)))
    order = [place[flat] for flat in store.voxels(1)["flat_index"].values[columns].tolist()]
    signal = {
        name: np.load(source / f"truth/func1pt8mm/subj01{name}_signal.npy")[:, order]
        for name in ("", "_synthetic", "_imagery")
    }
    trials = store.trials(1)
    shared = np.unique(trials["nsd_id"].values[trials["shared"].values])
    main = signal[""][[listed.tolist().index(image) for image in shared]]
    predictor = Knows(store, [main, signal["_synthetic"], signal["_imagery"]], columns)
    folder = str(tmp_path_factory.mktemp("evaluate"))
    Path(folder, "run.yaml").write_text("pipeline: {protocol: strict}\nstore: {}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "load_predictor", lambda run, subject: predictor)
        job = EvaluateJob(load_pipeline("evaluate"), store.url, folder, folder, "subj01", ("synthetic", "imagery"))
        evaluate_subject(job)
    return open_parts(folder, ["subj01"])["subj01"]["subj01"].to_dataset().load()


def test_classes_are_counted(scores: xr.Dataset) -> None:
    counts = dict(zip(scores["image_class"].values.tolist(), scores["conditions"].values.tolist(), strict=True))
    assert counts["noise"] == 12
    assert counts["spiral gratings"] == 112
    assert counts["all images"] == 284
    assert [counts[f"{task} {name}"] for task in ("vision", "imagery") for name in "ABC"] == [6] * 6
    assert counts["all imagery"] == 18
    assert "attention A" not in counts
    trials = dict(zip(scores["image_class"].values.tolist(), scores["trials"].values.tolist(), strict=True))
    assert (trials["all images"], trials["all vision"], trials["all imagery"]) == (744, 144, 288)
    within = scores["image_class"].values[scores["distribution"].values == "within"]
    assert within.tolist() == ["shared images", "natural scenes", "vision B"]


@pytest.mark.parametrize("name", ["all images", "spiral gratings", "chromatic noise", "all vision", "all imagery"])
def test_a_perfect_model_reaches_the_ceiling(scores: xr.Dataset, name: str) -> None:
    """The predictions are the planted signal, so accuracy and ceiling differ only by sampling."""
    one = scores.sel(image_class=name)
    assert abs(float((one["class_accuracy"] - one["class_ceiling"]).median())) < 0.05
    assert float(one["class_accuracy"].median()) > 0.75


def test_results_by_plain_loops(store: Store, scores: xr.Dataset, source: Path) -> None:
    """One class of one voxel, from raw trials."""
    flat = scores["flat_index"].values
    voxel = 5
    column = store.voxels(1)["flat_index"].values.tolist().index(flat[voxel])
    trials = store.trials(1, "synthetic")["condition"].values
    y = store.responses(1, experiment="synthetic", voxels=[column]).values[:, 0].astype(float)
    with np.load(source / "truth/func1pt8mm/subj01.npz") as truth:
        place = truth["flat_index"].tolist().index(flat[voxel])
    x = np.load(source / "truth/func1pt8mm/subj01_synthetic_signal.npy")[:, place]
    images = range(216, 284)
    repeats = [y[trials == image] for image in images]
    means = [values.mean() for values in repeats]
    one = scores.sel(image_class="chromatic noise").isel(voxel=voxel)
    assert float(one["class_accuracy"]) == pytest.approx(np.corrcoef(x[216:], means)[0, 1], abs=1e-5)
    freedom = sum(len(values) - 1 for values in repeats)
    noise = sum(((values - values.mean()) ** 2).sum() for values in repeats) / freedom
    signal = max(0, np.concatenate(repeats).var(ddof=1) - noise) / noise
    ceiling = np.sqrt(signal / (signal + np.mean([1 / len(values) for values in repeats])))
    assert float(one["class_ceiling"]) == pytest.approx(ceiling, rel=1e-4)


def test_a_class_that_says_little() -> None:
    """Two conditions have no correlation worth the name; without repetitions there is no ceiling."""
    rng = np.random.default_rng(0)
    responses = xr.DataArray(
        rng.normal(size=(8, 3)).astype(np.float32),
        dims=("trial", "voxel"),
        coords={"condition": ("trial", [0, 0, 1, 1, 2, 3, 4, 5])},
    )
    predictions = xr.DataArray(
        rng.normal(size=(6, 3)), dims=("image", "voxel"), coords={"condition": ("image", np.arange(6))}
    )
    found = accuracy_by_class(predictions, responses, {"few": [0, 1], "once": [2, 3, 4], "none": [9]})
    assert found["image_class"].values.tolist() == ["few", "once"]
    assert np.isnan(found["class_accuracy"][0]).all()
    assert np.isfinite(found["class_ceiling"][0]).all()
    assert np.isfinite(found["class_accuracy"][1]).all()
    assert np.isnan(found["class_ceiling"][1]).all()
    with pytest.raises(SelectionError, match="1 conditions have no prediction, the first is 5"):
        accuracy_by_class(predictions.isel(image=slice(5)), responses)


def test_shares() -> None:
    accuracy, ceiling = xr.DataArray([0.3, -0.2, 0.9, 0.5]), xr.DataArray([0.6, 0.6, 0.8, 0.05])
    np.testing.assert_allclose(explained_share(accuracy, ceiling), [0.25, 0, 1, np.nan])


def test_figure_and_section(scores: xr.Dataset) -> None:
    tree = xr.DataTree.from_dict({"subj01": scores})
    figure = accuracy_of_classes(tree)
    axes = figure.axes[0]
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert len(labels) == scores.sizes["image_class"]
    assert labels[0] == f"shared images  (n={int(scores['conditions'][0])})"
    good = scores["class_ceiling"].isel(image_class=0).values >= 0.1
    wanted = np.median(scores["class_accuracy"].values[:, good], axis=1)
    drawn = next(line for line in axes.lines if len(line.get_xdata()) == len(labels))
    np.testing.assert_allclose(drawn.get_xdata(), wanted, rtol=1e-5)
    section = next(section for section in SECTIONS if section.title == "Accuracy by class of image")
    page = section.content(SimpleNamespace(results=tree, subjects=lambda: {"subj01": scores}))
    assert page.count("<tr>") == 1 + scores.sizes["image_class"]


def test_what_cannot_be_evaluated(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown sister experiment 'imaging'"):
        load_pipeline("evaluate", {"experiments": ["imaging"]})
    one = load_pipeline("evaluate", {"experiments": "imagery"})
    assert one.experiments == ("imagery",)
    plan = plan_evaluate(one, store=store.url, folder=RunFolder(str(tmp_path / "evaluate")))
    assert [task.job.experiments for task in plan.tasks[:1]] == [("imagery",)]
    bare = Store(store.url, store.subjects, {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "open_store", lambda url: bare)
        with pytest.raises(MissingDataError, match="no sister experiment of subj01; ingest with --experiments"):
            plan_evaluate(one, store=store.url, folder=RunFolder(str(tmp_path / "evaluate")))
