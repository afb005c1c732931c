"""Pipelines and profiles: the shipped files are valid, and a wrong file gets all its mistakes with corrections."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nsdflow.config import load_storage, parse_overrides, storage_names
from nsdflow.errors import ConfigError, SelectionError
from nsdflow.names import parse_subjects
from nsdflow.pipelines.load import load_pipeline, pipeline_names
from nsdflow.pipelines.steps import resolve, steps_of

ROOT = Path(__file__).parents[2]


def test_every_shipped_file_is_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("NSD_ROOT", "SCRATCH", "NSDFLOW_BUCKET"):
        monkeypatch.setenv(variable, "/somewhere")
    assert set(pipeline_names()) == {path.stem for path in (ROOT / "pipelines").glob("*.yaml")}
    assert {"gnet8j", "gnet8r", "alexnet_fwrf", "gabor_fwrf"} <= set(pipeline_names())
    assert {"local", "scratch", "s3", "demo"} == set(storage_names())
    for name in pipeline_names():
        assert load_pipeline(name).name == name
    for name in storage_names():
        assert load_storage(name).layout.file_budget > 0


def test_published_constants() -> None:
    gnet = load_pipeline("gnet8j")
    assert gnet.kind == "gnet"
    assert (gnet.width, gnet.train.epochs, gnet.train.batch_size, gnet.train.learning_rate) == (64, 50, 100, 1e-3)
    fwrf = load_pipeline("alexnet_fwrf")
    assert fwrf.kind == "fwrf"
    assert (fwrf.lambdas, fwrf.lambda_min, fwrf.lambda_max, fwrf.max_features_per_layer) == (9, 1e3, 1e6, 512)


def test_all_mistakes_are_listed_with_line_and_remedy(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: mine\nkind: gnet\ntrain:\n  epoch: 3\n  batch_size: many\nprefilter: vgg\nroi_groups: [V9]\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_pipeline(path)
    assert len(caught.value.problems) == 4
    text = str(caught.value)
    assert "line 4: train.epoch: no such key; did you mean 'epochs'?" in text
    assert "line 5: train.batch_size:" in text
    assert "write for example batch_size: 100" in text
    assert "line 6: prefilter: must be one of alexnet, gabor, got 'vgg'" in text
    assert "line 7: roi_groups: 'V9' is not an ROI group; available: V1, V2" in text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: x\nkind: nope", "write kind: one of gnet, "),
        ("just words", "not a mapping"),
        ("a: [1", "not YAML"),
        ("kind: gnet\nname: a\nname: b", r"x\.yaml: line 3: duplicate key 'name'; keep one of them$"),
    ],
)
def test_hopeless_files_say_so(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says):
        load_pipeline(path)


def test_unknown_names_list_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match=r"unknown pipeline 'gnet8k'; available: .*gnet8j"):
        load_pipeline("gnet8k")
    with pytest.raises(ConfigError, match="no such file"):
        load_pipeline(tmp_path / "absent.yaml")
    (tmp_path / "latin.yaml").write_bytes("# Müller".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin\.yaml: not UTF-8 .*; save it as UTF-8"):
        load_pipeline(tmp_path / "latin.yaml")
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(ConfigError, match=r"folder\.yaml: cannot be read \(Is a directory\)"):
        load_storage(tmp_path / "folder.yaml")


def test_unset_environment_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NSD_ROOT", raising=False)
    monkeypatch.delenv("SCRATCH", raising=False)
    with pytest.raises(ConfigError, match="export NSD_ROOT=") as caught:
        load_storage("scratch")
    assert len(caught.value.problems) == 2
    (tmp_path / "mine.yaml").write_text("source: $NOWHERE/nsd\nspcae: MNI\nimage_size: small\n")
    with pytest.raises(ConfigError) as caught:
        load_storage(tmp_path / "mine.yaml")
    assert len(caught.value.problems) == 3, caught.value
    assert "the environment has no NOWHERE; export NOWHERE=..." in str(caught.value)


def test_overrides_reach_the_leaves() -> None:
    overrides = parse_overrides(["train.epochs=2", "subjects=[2,1]", "train.learning_rate=3e-4"])
    pipeline = load_pipeline("gnet8j", overrides)
    assert pipeline.kind == "gnet"
    assert (pipeline.train.epochs, pipeline.subjects, pipeline.train.learning_rate) == (2, ("subj01", "subj02"), 3e-4)
    assert pipeline.train.batch_size == 100
    with pytest.raises(ConfigError, match="name is not a section"):
        load_pipeline("gnet8j", {"name.x": 1})
    with pytest.raises(ConfigError) as caught:
        parse_overrides(["epochs", "a=[1"])
    assert len(caught.value.problems) == 2


@given(st.lists(st.integers(1, 99), min_size=1, max_size=8))
def test_subjects_in_any_spelling(numbers: list[int]) -> None:
    names = tuple(f"subj{number:02d}" for number in sorted(set(numbers)))
    for spelling in (numbers, ",".join(map(str, numbers)), list(names)):
        assert load_pipeline("gnet8j", {"subjects": spelling}).subjects == names


@pytest.mark.parametrize("subjects", [[], "3-1", "0-2", "1-2000", "", "subj01-subj02"])
def test_subjects_that_are_none(subjects) -> None:
    with pytest.raises(ConfigError, match="neither all nor subjects"):
        load_pipeline("gnet8j", {"subjects": subjects})
    with pytest.raises(ConfigError):
        parse_subjects(subjects)


def test_a_pipeline_survives_its_own_yaml() -> None:
    for name in pipeline_names():
        pipeline = load_pipeline(name)
        assert load_pipeline(yaml.safe_load(yaml.safe_dump(pipeline.model_dump(mode="json")))) == pipeline


def problems_of(text: str, overrides: dict | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_pipeline(yaml.safe_load(text), overrides)
    return str(caught.value)


def test_a_single_name_is_a_list_of_one() -> None:
    assert load_pipeline("gnet8j", {"rois": "V1"}).rois == ("V1",)
    assert load_pipeline("gnet8r", {"roi_groups": "V1"}).roi_groups == ("V1",)
    assert load_pipeline("alexnet_fpf", {"layers": "conv3"}).layers == ("conv3",)
    assert load_pipeline("gnet8j", {"subjects": "all"}).subjects == "all"


def test_mistakes_that_only_show_together_are_listed_with_the_others() -> None:
    text = problems_of("{name: a, kind: fwrf, subjects: [1, 123], lambda_min: 10, lambda_max: 1, bootstrap: many}")
    assert "subjects: neither all nor subjects" in text
    assert "bootstrap: Input should be a valid integer" in text
    assert "lambda_min 10 is larger than lambda_max 1" in text
    assert "name: missing; write name: ..." in problems_of("{kind: fwrf, lambda_min: 10, lambda_max: 1}")
    assert "lambda_min 10 is larger" in problems_of("{kind: fwrf, lambda_min: 10, lambda_max: 1}")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{name: a, kind: gnet, learning_rate: 1}", "learning_rate: learning_rate belongs under train:"),
        ("{name: a, kind: gnet, train: {width: 4}}", "width belongs at the top level of the file"),
        ("{name: my gnet, kind: gnet}", "name: letters, digits, . _ - only, got 'my gnet'; write my_gnet"),
        ("{name: a, kind: sequence, steps: [{pipeline: gnet8j}, gabor_fwrf]}",
         "step 2: not a mapping, got 'gabor_fwrf'; write - pipeline: gabor_fwrf"),
    ],
)  # fmt: skip
def test_messages_say_what_to_write(text: str, says: str) -> None:
    assert says in problems_of(text)


def test_a_mistake_in_an_override_names_it() -> None:
    with pytest.raises(ConfigError, match=r"--set train.epochs=many: Input should be a valid integer"):
        load_pipeline("gnet8j", {"train.epochs": "many"})


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (
            "name: s\nkind: sequence\nsteps: [gabor_fwrf, {pipline: x}]\n",
            [
                "line 3: step 1: not a mapping, got 'gabor_fwrf'; write - pipeline: gabor_fwrf",
                "line 3: step 2 pipeline: missing; write pipeline: ...",
                "line 3: step 2 pipline: no such key; did you mean 'pipeline'?",
            ],
        ),
        (
            "name: x\nkind: gnet\ntrain: 5\nlearning_rate: 1\nrois: [V1, 5]\nzz: 1\n",
            [
                "line 5: rois.1: a text, got 5; write '5'",
                "line 3: train: a section, got 5; write train: and its settings indented below",
                "line 4: learning_rate: learning_rate belongs under train:",
                "line 6: zz: no such key; nearest: ",
            ],
        ),
    ],
)
def test_each_mistake_of_a_file_is_one_short_line(tmp_path: Path, text: str, lines: list[str]) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_pipeline(file)
    assert len(error.value.problems) == len(lines), error.value
    for problem, line in zip(error.value.problems, lines, strict=True):
        assert problem.startswith(line)
        assert len(problem) < 160


@pytest.mark.parametrize(
    ("text", "overrides", "lines"),
    [
        # a mistake of the text, of a key of --set, of the kind, and of values: all at once
        (
            "name: x\nkind: gnett\nwidth: 4\nwidth: many\n",
            {"name.x": 1, "learning_rate": 1},
            [
                "line 4: duplicate key 'width'; keep one of them",
                "--set name.x: name is not a section; write --set name=VALUE",
                "line 2: kind: unknown kind 'gnett'; did you mean 'gnet'?",
                "line 4: width: Input should be a valid integer",
                "--set learning_rate=1: learning_rate belongs under train:; write --set train.learning_rate=...",
            ],
        ),
        (
            "name: x\nkind: tables\nmodels: 5\n",
            {},
            ["line 3: models: a list of names, got 5; write for example models: [gabor_fwrf, "],
        ),
        (
            "name: x\nkind: gnet\nrois: 5\nvoxels: 7\n",
            {"train.width": 3},
            [
                "line 3: rois: a list of names, got 5; write for example rois: [V1, V2]",
                "line 4: voxels: a text, got 7; write voxels: '7'",
                "--set train.width=3: width belongs at the top level of the file; write --set width=...",
            ],
        ),
        ("name: x\nkind: nope\n", {}, ["line 2: kind: unknown kind 'nope'; write kind: one of gnet, "]),
        ("name: x\n", {}, ["kind: missing; write kind: one of gnet, "]),
    ],
)
def test_mistakes_of_text_kind_and_overrides_come_together(
    tmp_path: Path, text: str, overrides: dict, lines: list[str]
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_pipeline(file, overrides)
    found = list(error.value.problems)
    assert len(found) == len(lines), found
    assert [(problem, line) for problem, line in zip(found, lines, strict=True) if not problem.startswith(line)] == []


def test_settings_of_steps_given_to_a_sequence_say_where_they_belong() -> None:
    with pytest.raises(ConfigError) as error:
        resolve("paper", {"train.epochs": 3, "gnet8.width": 4, "seed": "x", "nonsense": 1})
    text = str(error.value)
    assert "--set train.epochs: train belongs to a step; write --set gnet8j.train.epochs=..." in text
    assert "--set gnet8.width: no step is called gnet8; did you mean --set gnet8r.width=...?" in text
    assert "--set seed=x: Input should be a valid integer" in text
    assert "--set nonsense: neither the sequence nor a step has nonsense; its steps are " in text
    assert len(error.value.problems) == 4


def test_mistakes_of_all_steps_are_listed_together() -> None:
    wrong = [{"pipeline": "nope"}, {"pipeline": "gnet8j", "set": {"train.epoch": 3, "width": "a"}}]
    with pytest.raises(ConfigError) as error:
        steps_of({"kind": "sequence", "name": "s", "steps": wrong}, {}, store="x.zarr", runs="runs")
    assert error.value.problems[0].startswith("step 1, nope: unknown pipeline 'nope'; available: ")
    assert "step 2, gnet8j: --set train.epoch=3: no such key; did you mean 'epochs'?" in str(error.value)
    assert "--set width=a: Input should be a valid integer" in str(error.value)


def test_paths_in_settings_are_expanded_as_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DATA", "/data")
    monkeypatch.chdir(tmp_path)
    assert (
        load_pipeline("gnet8j", {"prefilter_weights": "~/alexnet.pth"}).prefilter_weights == f"{tmp_path}/alexnet.pth"
    )
    assert load_pipeline("alexnet_fwrf", {"feature_weights": "random"}).feature_weights == "random"
    assert load_pipeline("alexnet_fwrf", {"feature_weights": "w.pth"}).feature_weights == f"{tmp_path}/w.pth"
    assert load_pipeline("predict", {"images": "$DATA/pictures/"}).images == "/data/pictures"
    assert load_pipeline("predict", {"images": "all"}).images == "all"
    with pytest.raises(ConfigError, match="environment variable NOWHERE is not set"):
        load_pipeline("predict", {"images": "$NOWHERE/pictures"})
    profile = tmp_path / "mine.yaml"
    profile.write_text("store: ~/nsd.zarr\nruns: runs/\nscratch: ~/scratch\nsource: s3://bucket/nsd/\n")
    storage = load_storage(profile)
    assert (storage.store, storage.runs) == (f"{tmp_path}/nsd.zarr", f"{tmp_path}/runs")
    assert (storage.scratch, storage.source) == (f"{tmp_path}/scratch", "s3://bucket/nsd")


def test_a_file_that_nests_without_end_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "deep.yaml").write_text("kind: gnet\nname: " + "[" * 100_000)
    with pytest.raises(ConfigError, match="not YAML") as error:
        load_pipeline(tmp_path / "deep.yaml")
    assert "\n" not in str(error.value)
