"""The inputs of a pipeline that ``nsdflow check`` lists."""

from __future__ import annotations

from pathlib import Path

import pytest

from nsdflow.pipelines.needs import check_source


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch) -> Path:
    """An empty folder for downloaded weights."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "nsdflow"


@pytest.mark.parametrize(
    ("pipeline", "needs"),
    [
        ("gnet8j", "gnet8j will fetch AlexNet's weights from http"),
        ("alexnet_fpf", "without network: --set feature_weights=FILE"),
        ("transfer", "transfer starts from the run gnet8r: finish that first"),
        ("predict", "predict starts from the run gnet8j: finish that first"),
        ("paper", "paper runs in turn: gnet8j, gnet8r, "),
    ],
)
def test_what_a_pipeline_needs_beside_nsd(small_nsd: Path, pipeline: str, needs: str) -> None:
    plain, page = check_source(str(small_nsd)), check_source(str(small_nsd), pipeline=pipeline)
    assert page.startswith(plain)
    assert needs in page.removeprefix(plain)


def test_gabor_needs_nothing(small_nsd: Path) -> None:
    assert check_source(str(small_nsd), pipeline="gabor_fwrf") == check_source(str(small_nsd))


def test_weights_that_are_there_or_are_not(
    small_nsd: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.mkdir()
    (cache / "alexnet-owt-7be5be79.pth").touch()
    assert f"gnet8j finds AlexNet's weights in {cache}" in check_source(str(small_nsd), pipeline="gnet8j")
    mine = tmp_path / "mine.yaml"
    mine.write_text("name: mine\nkind: gnet\nsubjects: [2]\nprefilter_weights: nowhere.pth\n")
    monkeypatch.chdir(tmp_path)
    page = check_source(str(small_nsd), pipeline=str(mine))
    assert f"missing: {tmp_path}/nowhere.pth, AlexNet's weights for mine" in page
    assert "subj02: " in page
    assert "subj01: " not in page
