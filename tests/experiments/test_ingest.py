"""Sister experiments in a store: trials, betas, images and ncsnr against the files, read with other libraries."""

from __future__ import annotations

import csv
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import xarray as xr
from PIL import Image

import nsdflow
from nsdflow.engine.execute import run_task
from nsdflow.errors import MissingDataError, NsdflowError, SelectionError, SourceError
from nsdflow.ingestion.check import describe_source
from nsdflow.ingestion.plan import plan_ingest
from nsdflow.store import Store

FOLDER = "nsddata_betas/ppdata/subj01/func1pt8mm"
RUNS = ["visA", "attA", "imgA_1", "visB", "attB", "imgB_1", "visC", "attC", "imgC_1", "imgA_2", "imgB_2", "imgC_2"]


def raw_betas(source: Path, store: Store, experiment: str) -> np.ndarray:
    """(trial, voxel) int16 of the file, at the voxels of the store."""
    path = source / f"{FOLDER}/nsd{experiment}betas_fithrf_GLMdenoise_RR/betas_nsd{experiment}.hdf5"
    i, j, k = (store.voxels(1)[axis].values for axis in "ijk")
    with h5py.File(path) as file:
        return file["betas"][:][:, k, j, i]


def test_trials_of_synthetic(source: Path, store: Store) -> None:
    design = scipy.io.loadmat(source / "nsddata/experiments/nsdsynthetic/nsdsynthetic_expdesign.mat")
    shown = design["masterordering"].ravel().astype(int)
    trials = store.trials("subj01", "synthetic")
    np.testing.assert_array_equal(trials["condition"], shown - 1)
    np.testing.assert_array_equal(trials["run"], np.repeat(np.arange(1, 9), 93))
    np.testing.assert_array_equal(trials["task"], (trials["run"].values - 1) % 2)
    names = trials["image_class"].attrs["flag_meanings"].split()
    edges = {"noise": (1, 12), "natural_scenes": (13, 16), "spiral_gratings": (105, 216), "chromatic_noise": (217, 284)}
    for name, (first, last) in edges.items():
        here = trials["image_class"].values == names.index(name)
        np.testing.assert_array_equal(here, (shown >= first) & (shown <= last))
    counts = np.unique(np.unique(shown, return_counts=True)[1], return_counts=True)
    assert dict(zip(*map(np.ndarray.tolist, counts), strict=True)) == {2: 236, 4: 32, 8: 8, 10: 8}


def test_trials_of_imagery(source: Path, store: Store) -> None:
    letters = {"A": "HRVLPE", "B": "WKBCDT", "C": "SZMYNF"}
    wanted = []
    for run in RUNS:
        with (source / f"nsddata/bdata/nsdimagery/nsdimagery_subj01_{run}.tsv").open() as file:
            for row in csv.DictReader(file, delimiter="\t"):
                first = 6 * "ABC".index(run[3])
                if run.startswith("att"):
                    wanted += [-1, -1]
                else:
                    letter = row["CUE" if run.startswith("img") else "CONDITION"]
                    wanted.append(first + letters[run[3]].index(letter) + (18 if run.startswith("img") else 0))
    trials = store.trials("subj01", "imagery")
    assert trials.sizes["trial"] == 720
    np.testing.assert_array_equal(trials["condition"], wanted)
    seen, imagined = (np.bincount(trials["condition"].values[trials["task"] == task]) for task in (0, 2))
    assert (seen == 8).all()
    assert (imagined[18:] == 16).all()
    np.testing.assert_array_equal(trials["event"][trials["task"] == 1], np.tile([0, 1], 144))


@pytest.mark.parametrize("experiment", ["synthetic", "imagery"])
def test_betas_are_those_of_the_files(source: Path, store: Store, experiment: str) -> None:
    raw = raw_betas(source, store, experiment).astype(np.float32) / 300
    given = store.responses("subj01", experiment=experiment, zscore=False)
    np.testing.assert_allclose(given.values, raw, rtol=1e-6)
    scored = store.responses(1, experiment=experiment)
    np.testing.assert_allclose(scored.values, (raw - raw.mean(0)) / (raw.std(0) + 1e-6), atol=2e-5)
    assert given.attrs["experiment"] == f"NSD-{experiment}"


@pytest.mark.parametrize("experiment", ["synthetic", "imagery"])
def test_ncsnr_by_a_plain_loop(source: Path, store: Store, experiment: str) -> None:
    raw = raw_betas(source, store, experiment).astype(float)
    condition = store.trials(1, experiment)["condition"].values
    raw, condition = raw[condition >= 0], condition[condition >= 0]
    squares, freedom = 0.0, 0
    for number in np.unique(condition):
        repeats = raw[condition == number]
        squares = squares + ((repeats - repeats.mean(0)) ** 2).sum(0)
        freedom += len(repeats) - 1
    noise = squares / freedom
    with np.errstate(invalid="ignore", divide="ignore"):
        wanted = np.sqrt(np.maximum(raw.var(0, ddof=1) - noise, 0) / noise)
    voxels = store.voxels(1, experiment)
    np.testing.assert_allclose(voxels["ncsnr"], np.where(noise > 0, wanted, np.nan), rtol=1e-5)
    np.testing.assert_array_equal(voxels["roi"], store.voxels(1)["roi"])


def test_images_are_prepared_as_those_of_the_main_experiment(source: Path, store: Store) -> None:
    stored = store.images(subject=1, experiment="synthetic")
    folder = source / "nsddata_stimuli/stimuli/nsdsynthetic"
    for name, row, image in (("stimuli", 109, 109), ("colorstimuli_subj01", 10, 230)):
        with h5py.File(folder / f"nsdsynthetic_{name}.hdf5") as file:
            screen = file["imgBrick"][row]
        left = (screen.shape[1] - screen.shape[0]) // 2
        square = np.sqrt(screen[:, left : left + len(screen)] / 255) * 255 + 0.5
        small = Image.fromarray(square.astype(np.uint8)).resize((32, 32), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(stored[image].values.transpose(1, 2, 0), np.asarray(small))
    shown = store.images(subject=1, experiment="imagery")
    np.testing.assert_array_equal(np.bincount(shown["target"]), [1] * 12 + [8] * 6)
    with Image.open(source / "nsddata_stimuli/stimuli/nsdimagery/allstim/setA_V.png") as bar:
        np.testing.assert_array_equal(shown[2].values.transpose(1, 2, 0), np.asarray(bar))


def averages(store: Store, experiment: str, columns: np.ndarray, conditions: np.ndarray) -> np.ndarray:
    """(condition, voxel) means over repetitions in percent signal change."""
    values = store.responses(1, experiment=experiment, voxels=columns, zscore=False).values
    condition = store.trials(1, experiment)["condition"].values
    return np.stack([values[condition == number].mean(axis=0) for number in conditions])


def test_the_planted_signal_is_found_again(source: Path, store: Store) -> None:
    """Means over repetitions follow the truth; imagery is half of vision."""
    truth = nsdflow.synthetic.read_truth(source, 1)
    place = {flat: number for number, flat in enumerate(truth["flat_index"].values.tolist())}
    early = store.voxels(1)["roi"].values
    columns = np.flatnonzero((early >= 1) & (early <= 7))
    order = [place[flat] for flat in store.voxels(1)["flat_index"].values[columns].tolist()]
    signal = np.load(source / "truth/func1pt8mm/subj01_synthetic_signal.npy")[:, order]
    means = averages(store, "synthetic", columns, np.arange(284))
    r = [np.corrcoef(means[:, v], signal[:, v])[0, 1] for v in range(len(columns))]
    assert np.nanmedian(r) > 0.9
    seen, imagined = (averages(store, "imagery", columns, np.arange(12) + shift) for shift in (0, 18))
    slopes = [np.polyfit(seen[:, v], imagined[:, v], 1)[0] for v in range(len(columns))]
    assert 0.4 < np.nanmedian(slopes) < 0.6


def test_a_query_of_classes_and_what_it_reads(store: Store) -> None:
    gratings = store.responses(1, experiment="synthetic", where="image_class == 'spiral_gratings'", roi="V1")
    assert gratings.sizes["trial"] == np.isin(store.trials(1, "synthetic")["condition"], np.arange(104, 216)).sum()
    assert (gratings["roi"] <= 2).all()
    assert store.explain(1, experiment="synthetic", roi="V1").shape[0] == 744
    tree = xr.open_datatree(store.url, engine="zarr")
    assert tree["subj01/synthetic"].sizes["synthetic_trial"] == 744
    assert tree["subj01/synthetic/stimuli"].sizes["image"] == 284


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"experiment": "imaginary"}, "no experiment 'imaginary' in this store, which has: synthetic, imagery"),
        ({"experiment": "synthetic", "shared": True}, "shared=True: the experiment synthetic has one session"),
        ({"experiment": "imagery", "nsd_id": [3]}, r"nsd_id=\[3\]: the experiment imagery has one session"),
        ({"experiment": "imagery", "sessions": 2}, "sessions=2: the experiment imagery has one session"),
        ({"experiment": "synthetic", "zscore": "training"}, 'zscore="training": .* write "session" or False'),
        ({"experiment": "synthetic", "where": "rt < 5"}, "unknown coordinate in where: 'rt'"),
    ],
)
def test_queries_that_mean_nothing(store: Store, asked: dict, says: str) -> None:
    with pytest.raises(SelectionError, match=says) as caught:
        store.responses(1, **asked)
    assert "\n" not in str(caught.value)


def test_images_need_a_subject(store: Store) -> None:
    with pytest.raises(SelectionError, match=r"images\(subject='subj01', experiment='synthetic'\)"):
        store.images(experiment="synthetic")


def test_check_and_plan_say_what_a_source_has(source: Path, own_source: Path, tmp_path: Path) -> None:
    assert "--experiments: synthetic (744 trials), imagery (720 trials)" in describe_source(str(source))
    plan = plan_ingest(str(source), str(tmp_path / "nsd.zarr"), experiments=["imagery"], images="none")
    keys = {task.key for task in plan.tasks}
    assert {"coordinates-subj01-imagery", "betas-subj01-imagery", "ncsnr-subj01-imagery"} <= keys
    assert "images-subj01-imagery" not in keys
    assert plan.manifest["subjects"]["subj01"]["experiments"]["imagery"]["trials"] == 720
    (own_source / "nsddata_stimuli/stimuli/nsdimagery/allstim/setA_H.png").unlink()
    assert "missing for NSD-imagery of subj01: " in (described := describe_source(str(own_source)))
    assert "allstim/setA_H.png" in described


def rewrite(path: Path, text: str) -> None:
    path.unlink()
    path.write_text(text)


def _no_betas(source: Path) -> None:
    (path,) = source.glob(f"{FOLDER}/nsdsyntheticbetas_fithrf_GLMdenoise_RR/betas_*")
    path.unlink()


def _no_design(source: Path) -> None:
    (source / "nsddata/experiments/nsdsynthetic/nsdsynthetic_expdesign.mat").unlink()


def _no_image(source: Path) -> None:
    (source / "nsddata_stimuli/stimuli/nsdimagery/allstim/setC_S_1.png").unlink()


def _no_colours(source: Path) -> None:
    (source / "nsddata_stimuli/stimuli/nsdsynthetic/nsdsynthetic_colorstimuli_subj01.hdf5").unlink()


def _other_cue(source: Path) -> None:
    path = source / "nsddata/bdata/nsdimagery/nsdimagery_subj01_imgB_1.tsv"
    head, first, *rest = path.read_text().splitlines()
    cells = first.split("\t")
    cells[5] = "Q"
    rewrite(path, "\n".join([head, "\t".join(cells), *rest]))


def _short_table(source: Path) -> None:
    path = source / "nsddata/bdata/nsdimagery/nsdimagery_subj01_visA.tsv"
    rewrite(path, "\n".join(path.read_text().splitlines()[:-3]))


def _no_column(source: Path) -> None:
    path = source / "nsddata/bdata/nsdimagery/nsdimagery_subj01_visC.tsv"
    rewrite(path, path.read_text().replace("CONDITION", "KONDITION"))


@pytest.mark.parametrize(
    ("experiment", "damage", "error", "says"),
    [
        ("synthetic", _no_betas, MissingDataError, "betas_nsdsynthetic.nii.gz: no such session"),
        ("synthetic", _no_design, MissingDataError, "nsdsynthetic_expdesign.mat: no such file; fetch it, or leave"),
        ("synthetic", _no_colours, MissingDataError, "nsdsynthetic_colorstimuli_subj01.hdf5"),
        ("imagery", _no_image, MissingDataError, "setC_S_1.png: no such file; fetch it, or leave imagery out"),
        ("imagery", _other_cue, SourceError, r"CUE is 'Q', which is no target of set B \(W, K, B, C, D, T, or 1 to 6"),
        ("imagery", _short_table, SourceError, "717 trials where the betas of subj01 in NSD-imagery have 720"),
        ("imagery", _no_column, SourceError, "imagery_subj01_visC.tsv: no column CONDITION"),
        (
            "imaging",
            lambda source: None,
            SelectionError,
            "unknown sister experiment 'imaging'; available: synthetic, imagery",
        ),
    ],
)
def test_bad_sources(own_source: Path, tmp_path: Path, experiment: str, damage, error, says: str) -> None:
    damage(own_source)
    with pytest.raises(error, match=says) as caught:
        plan_ingest(str(own_source), str(tmp_path / "nsd.zarr"), voxels="visual", experiments=experiment)
    assert isinstance(caught.value, NsdflowError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("asked", ["imagery,synthetic", "imagery", None])
def test_a_store_that_has_the_experiments_is_finished(source: Path, store: Store, asked: str | None) -> None:
    again = plan_ingest(str(source), store.url, experiments=asked, voxels="visual", image_size=32)
    assert again.finished


def test_an_experiment_is_added_to_a_finished_store(source: Path, tmp_path: Path) -> None:
    """One after the other, as if all had been ingested at once; betas of the main experiment are not read again."""
    options = {"voxels": "visual", "images": "none", "cluster": "threads"}
    target = tmp_path / "nsd.zarr"
    for asked in (None, "imagery"):
        planned = plan_ingest(str(source), str(target), experiments=asked, voxels="visual", images="none")
        if asked is not None:
            assert f"keeps what it has: experiment {asked}" in "\n".join(planned.notes)
            copied = {task.key for task in planned.tasks if task.function.__name__ == "copy_session"}
            assert copied == {"betas-subj01-session01", "betas-subj01-session02"}
        grown = nsdflow.ingest(source, target, experiments=asked, **options)
    assert grown.experiments(1) == ("imagery",)
    fresh = nsdflow.ingest(source, tmp_path / "fresh.zarr", experiments="imagery", **options)
    here, there = (
        {path.relative_to(one.url): path.read_bytes() for path in Path(one.url).rglob("*") if path.is_file()}
        for one in (grown, fresh)
    )
    assert {str(path) for path in here if here[path] != there[path]} == {"manifest.json"}
    assert here.keys() == there.keys()


def test_an_interrupted_ingestion_reads_a_replaced_table_again(own_source: Path, tmp_path: Path) -> None:
    options = {"experiments": "imagery", "images": "none", "voxels": "visual"}
    target = str(tmp_path / "nsd.zarr")
    planned = plan_ingest(str(own_source), target, **options)
    for task in planned.tasks:
        if task.stage == "coordinates":
            run_task(planned.folder, task.call)
    table = own_source / "nsddata/bdata/nsdimagery/nsdimagery_subj01_visA.tsv"
    head, *rows = table.read_text().splitlines()
    rewrite(table, "\n".join([head, *reversed(rows)]))
    missing = {task.key for task in plan_ingest(str(own_source), target, **options).missing()}
    assert "coordinates-subj01-imagery" in missing
    assert "coordinates-subj01" not in missing
    trials = nsdflow.ingest(own_source, target, cluster="threads", **options).trials(1, "imagery")
    letters = [row.split("\t")[4] for row in reversed(rows)]
    assert trials["target"].values[:48].tolist() == ["HRVLPE".index(letter) for letter in letters]
