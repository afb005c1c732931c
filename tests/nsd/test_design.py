"""Trials against plain loops over the written values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.io

from nsdflow.errors import MissingDataError, SelectionError, SourceError
from nsdflow.nsd.design import read_design, read_stimulus_info, trial_table
from nsdflow.nsd.layout import EXPERIMENT_DESIGN, STIMULUS_INFO, responses_path
from nsdflow.nsd.source import open_source


def rewrite_design(nsd: Any, **changes: Any) -> None:
    """Replace variables of the design file; None removes one."""
    path = nsd.root / EXPERIMENT_DESIGN
    found = {name: value for name, value in scipy.io.loadmat(path).items() if not name.startswith("__")}
    found |= changes
    scipy.io.savemat(path, {name: value for name, value in found.items() if value is not None}, format="5")


def edit_line(path: Any, line: int, column: int, value: str, separator: str) -> None:
    """Change one cell of a text table; lines count from 1."""
    lines = path.read_text().split("\n")
    cells = lines[line - 1].split(separator)
    cells[column] = value
    lines[line - 1] = separator.join(cells)
    path.write_text("\n".join(lines))


def test_design_counts_from_zero(nsd: Any) -> None:
    design = read_design(open_source(nsd.root))
    for name, wanted in (
        ("masterordering", nsd.ordering),
        ("subjectim", nsd.subjectim),
        ("sharedix", nsd.sharedix),
        ("trials_per_session", [nsd.trials] * 3),
        ("run", [1, 1, 1, 1, 1, 2, 2, 2, 2] * 3),
        ("session", np.repeat([1, 2, 3], nsd.trials)),
    ):
        found = getattr(design, name)
        assert found.dtype == np.int64
        np.testing.assert_array_equal(found, wanted)
    assert design.subjects == ("subj01", "subj02")


@pytest.mark.parametrize("subject", ["subj01", "subj02"])
@pytest.mark.parametrize("sessions", [(1, 2, 3), (2,), (1, 3)])
def test_trial_table(nsd: Any, subject: str, sessions: tuple[int, ...]) -> None:
    table = trial_table(open_source(nsd.root), subject, sessions)
    row = nsd.subjectim[int(subject[-1]) - 1]
    seen = dict.fromkeys(range(100), 0)
    wanted = []
    for trial, own in enumerate(nsd.ordering):
        session = trial // nsd.trials + 1
        if session in sessions:
            wanted.append((session, row[own], own, seen[own], row[own] in nsd.sharedix))
        seen[own] += 1
    names = ("session", "nsd_id", "subject_image", "repetition", "shared")
    found = list(zip(*(table[name].values for name in names), strict=True))
    assert found == wanted
    assert table["run"].values.tolist() == [1] * 5 + [2] * 4 if len(sessions) == 1 else True
    assert set(table.sizes) == {"trial"}
    assert table["shared"].dtype == bool


def test_coco_ids(nsd: Any) -> None:
    source = open_source(nsd.root)
    info = pd.read_csv(nsd.root / STIMULUS_INFO)
    table = trial_table(source, "subj02", [1, 2])
    np.testing.assert_array_equal(table["coco_id"], [info["cocoId"][image] for image in table["nsd_id"].values])
    read = read_stimulus_info(source)
    assert read is not None
    np.testing.assert_array_equal(read["cocoId"], info["cocoId"])


def test_behaviour(nsd: Any) -> None:
    path = nsd.root / responses_path("subj01")
    written = [line.split("\t") for line in path.read_text().splitlines()[1:]]
    table = trial_table(open_source(nsd.root), "subj01", [2, 3])
    reaction = [float(row[9]) for row in written if row[1] == "2"]
    assert table["rt"].dtype == np.float64
    assert 0 < np.isnan(reaction).sum() < len(reaction)
    np.testing.assert_array_equal(table["rt"][: nsd.trials], reaction)
    assert np.isnan(table["rt"][nsd.trials :]).all()  # the third session has no rows
    assert table["rt"].attrs["units"] == "ms"
    assert "rt" not in trial_table(open_source(nsd.root), "subj02", [1])


def test_without_tables(broken: Any) -> None:
    (broken.root / STIMULUS_INFO).unlink()
    (broken.root / responses_path("subj01")).unlink()
    source = open_source(broken.root)
    assert read_stimulus_info(source) is None
    assert set(trial_table(source, "subj01", [1])) == {
        "session",
        "run",
        "nsd_id",
        "subject_image",
        "repetition",
        "shared",
    }


def test_without_stimpattern(broken: Any) -> None:
    """Trials per session are then those of the betas, runs those of responses.tsv."""
    full = trial_table(open_source(broken.root), "subj01", [1, 2, 3])
    rewrite_design(broken, stimpattern=None)
    source = open_source(broken.root)
    assert read_design(source).trials_per_session.tolist() == [broken.trials] * 3
    told = 2 * broken.trials
    table = trial_table(source, "subj01", [1, 2, 3])
    np.testing.assert_array_equal(table["run"][:told], full["run"][:told])
    assert (table["run"][told:] == 0).all()
    assert table.drop_vars("run").identical(full.drop_vars("run"))


def test_sessions_of_unequal_length(broken: Any) -> None:
    pattern = np.zeros((2, 3, 10), np.uint8)
    for session, counts in enumerate([(4, 6, 2), (7, 5, 3)]):
        for run, count in enumerate(counts):
            pattern[session, run, :count] = 1
    rewrite_design(broken, stimpattern=pattern)
    (broken.root / responses_path("subj01")).unlink()
    table = trial_table(open_source(broken.root), "subj01", [2])
    assert table["run"].values.tolist() == [1] * 7 + [2] * 5 + [3] * 3
    np.testing.assert_array_equal(table["subject_image"], broken.ordering[12:])


# what bad input gets


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sharedix": np.array([[1, 2, 3]])}, "the first images of subjectim are not those of sharedix"),
        ({"masterordering": np.arange(1, 28)[None]}, "masterordering has 27 where subjectim has 9 images"),
        ({"masterordering": np.zeros((1, 27))}, "masterordering has numbers below 1"),
        ({"subjectim": np.zeros((2, 9))}, "subjectim has numbers below 1"),
        ({"stimpattern": np.ones((3, 2, 5))}, "masterordering has 27 trials where the sessions have 30"),
        ({"subjectim": None}, "no variable subjectim"),
        ({"sharedix": np.arange(1, 20)[None]}, "the first images of subjectim are not those of sharedix"),
        ({"masterordering": np.full((1, 27), 1.5)}, "masterordering is not whole numbers"),
        ({"masterordering": np.full((1, 27), np.nan)}, "masterordering is not whole numbers"),
        ({"masterordering": np.zeros((1, 0))}, "masterordering is not whole numbers"),
        ({"subjectim": np.array([["a", "b"]], dtype=object)}, "subjectim is not whole numbers"),
        ({"stimpattern": np.ones((3, 9))}, "stimpattern is not by session, run and trial"),
    ],
)
def test_design_contradicts_itself(broken: Any, changes: dict[str, Any], says: str) -> None:
    rewrite_design(broken, **changes)
    with pytest.raises(SourceError, match=f"^{broken.root / EXPERIMENT_DESIGN}: {says}; fetch it again$"):
        read_design(open_source(broken.root))


@pytest.mark.parametrize("keep", [0, 60, 200, -30])
def test_broken_design(broken: Any, keep: int) -> None:
    path = broken.root / EXPERIMENT_DESIGN
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(SourceError, match=f"^{path}: "):
        read_design(open_source(broken.root))


def test_no_design(broken: Any) -> None:
    (broken.root / EXPERIMENT_DESIGN).unlink()
    with pytest.raises(MissingDataError, match="no such file"):
        read_design(open_source(broken.root))


def test_no_such_subject_or_session(nsd: Any) -> None:
    source = open_source(nsd.root)
    with pytest.raises(SelectionError, match="unknown subject of the design 'subj03'; available: subj01, subj02"):
        trial_table(source, "subj03", [1])
    with pytest.raises(SelectionError, match="session 4: the design has sessions 1 to 3"):
        trial_table(source, "subj01", [4])


@pytest.mark.parametrize(
    ("column", "name", "value"), [(1, "SESSION", "3"), (2, "RUN", "2"), (4, "73KID", "99"), (5, "10KID", "8888")]
)
def test_responses_contradict(broken: Any, column: int, name: str, value: str) -> None:
    path = broken.root / responses_path("subj01")
    was = path.read_text().split("\n")[4].split("\t")[column]
    edit_line(path, 5, column, value, "\t")
    with pytest.raises(SourceError, match=f"^{path}: line 5: {name} is {value} where the design .*{was}"):
        trial_table(open_source(broken.root), "subj01", [2])


def test_responses_too_long(broken: Any) -> None:
    path = broken.root / responses_path("subj01")
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines + lines[1:]) + "\n")
    with pytest.raises(SourceError, match="36 rows where the design has 27 trials"):
        trial_table(open_source(broken.root), "subj01", [1])


@pytest.mark.parametrize(
    ("keep", "says"), [(-3, "line 19 has other columns than line 1"), (-60, "other columns|ends within session 2")]
)
def test_responses_cut_off(broken: Any, keep: int, says: str) -> None:
    """A truncated file must not give smaller numbers, or trials without behaviour."""
    path = broken.root / responses_path("subj01")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(SourceError, match=f"^{path}: .*({says}).*; fetch it again"):
        trial_table(open_source(broken.root), "subj01", [1])


def test_responses_end_within_a_session(broken: Any) -> None:
    path = broken.root / responses_path("subj01")
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:14]) + "\n")
    with pytest.raises(SourceError, match=f"^{path}: it ends within session 2; fetch it again"):
        trial_table(open_source(broken.root), "subj01", [1])


def test_responses_without_column(broken: Any) -> None:
    path = broken.root / responses_path("subj01")
    path.write_text(path.read_text().replace("73KID", "other"))
    with pytest.raises(SourceError, match=f"^{path}: no column 73KID"):
        trial_table(open_source(broken.root), "subj01", [1])


@pytest.mark.parametrize("column", ["shared1000", "subject1_rep0", "subject1_rep2"])
def test_stimulus_info_contradicts(broken: Any, column: str) -> None:
    path = broken.root / STIMULUS_INFO
    table = pd.read_csv(path, index_col=0)
    image = int(broken.subjectim[0, 4])
    was = table.loc[image, column]
    table.loc[image, column] = not was if column == "shared1000" else was + 1
    table.to_csv(path)
    with pytest.raises(SourceError, match=f"^{path}: line {image + 2}: {column} is .* gives {was}"):
        trial_table(open_source(broken.root), "subj01", [1])


def test_stimulus_info_too_short(broken: Any) -> None:
    path = broken.root / STIMULUS_INFO
    last = broken.subjectim.max()
    path.write_text("\n".join(path.read_text().splitlines()[: last + 1]) + "\n")
    with pytest.raises(SourceError, match=f"{last} images where the design shows nsd_id {last}"):
        trial_table(open_source(broken.root), "subj01", [1])


@pytest.mark.parametrize("content", ["\n", '"a\n\n"b'])
def test_unreadable_tables(broken: Any, content: str) -> None:
    for path in (STIMULUS_INFO, responses_path("subj01")):
        (broken.root / path).write_text(content)
        with pytest.raises(SourceError, match=f"{path}: "):
            trial_table(open_source(broken.root), "subj01", [1])
        (broken.root / path).unlink()
