"""The design files against section 3 and 4 of NSD's data manual, read as NSD's users read them."""

import numpy as np
import pandas as pd
import pytest
import scipy.io


@pytest.fixture(scope="module")
def design(nsd):
    return scipy.io.loadmat(nsd / "nsddata/experiments/nsd/nsd_expdesign.mat")


@pytest.fixture(scope="module")
def images(nsd):
    return pd.read_csv(nsd / "nsddata/experiments/nsd/nsd_stim_info_merged.csv", index_col=0)


def responses(nsd, subject):
    return pd.read_csv(nsd / f"nsddata/ppdata/subj{subject:02d}/behav/responses.tsv", sep="\t")


def test_shapes_and_ranges_of_the_mat_file(design, spec):
    assert design["masterordering"].shape == (1, spec.trials)
    assert design["subjectim"].shape == (spec.subjects, spec.images_per_subject)
    assert design["sharedix"].shape == (1, spec.shared_images)
    assert design["basiccnt"].shape == (3, spec.sessions)
    assert design["stimpattern"].shape == (spec.sessions, 12, 75)
    assert design["masterordering"].min() == 1
    assert design["masterordering"].max() == spec.images_per_subject
    assert design["subjectim"].min() == 1
    assert design["subjectim"].max() == spec.image_count


def test_every_image_is_shown_three_times(design):
    assert set(np.unique(design["masterordering"], return_counts=True)[1]) == {3}


def test_shared_images_come_first_and_all_others_are_one_subjects_own(design, spec):
    lists, shared = design["subjectim"], design["sharedix"][0]
    assert (lists[:, : spec.shared_images] == shared).all()
    assert (np.diff(shared) > 0).all()
    own = lists[:, spec.shared_images :]
    assert np.unique(own).size == own.size
    assert not np.isin(own, shared).any()


def test_counts_within_sessions(design, spec):
    ordering = design["masterordering"].reshape(spec.sessions, -1)
    for session, shown in enumerate(ordering):
        times = np.unique(shown, return_counts=True)[1]
        assert design["basiccnt"][:, session].tolist() == [(times == k).sum() for k in (1, 2, 3)]
    assert (design["basiccnt"][1] > 0).all()  # some repeats are soon, as in NSD


def test_stimulus_pattern(design, spec):
    pattern = design["stimpattern"]
    assert set(np.unique(pattern)) == {0, 1}
    assert (pattern.sum(axis=(1, 2)) == spec.trials_per_session).all()
    assert not pattern[..., :3].any()
    assert not pattern[..., -4:].any()


def test_the_table_of_images(images, design, spec):
    subjects = [f"subject{s}" for s in range(1, 9)]
    repeats = [f"{subject}_rep{k}" for subject in subjects for k in range(3)]
    first = ["cocoId", "cocoSplit", "cropBox", "loss", "nsdId", "flagged", "BOLD5000", "shared1000"]
    assert images.columns.tolist() == first + subjects + repeats
    assert images.index.tolist() == images.nsdId.tolist() == list(range(spec.image_count))
    assert np.flatnonzero(images.shared1000).tolist() == (design["sharedix"][0] - 1).tolist()
    assert images.cropBox.map(lambda box: eval(box)[:2] == (0, 0) or eval(box)[2:] == (0, 0)).all()
    for subject in range(1, spec.subjects + 1):
        members = np.flatnonzero(images[f"subject{subject}"]) + 1
        assert set(members) == set(design["subjectim"][subject - 1])
    assert not images[subjects[spec.subjects :]].any(axis=None)


def test_trials_of_the_table_are_one_based_and_go_beyond_the_sessions_done(images, design, spec):
    for subject in range(1, spec.subjects + 1):
        columns = images[[f"subject{subject}_rep{k}" for k in range(3)]].to_numpy()
        shown = columns[images[f"subject{subject}"] == 1]
        assert sorted(shown.ravel()) == list(range(1, spec.trials + 1))
        assert (np.diff(shown, axis=1) > 0).all()
        image, _ = np.nonzero(columns)
        expected = design["subjectim"][
            subject - 1, design["masterordering"][0, columns[columns > 0] - 1].astype(int) - 1
        ]
        assert (image + 1 == expected).all()


def test_the_pickle_is_the_same_table(nsd, images):
    pickled = pd.read_pickle(nsd / "nsddata/experiments/nsd/nsd_stim_info_merged.pkl")
    pd.testing.assert_frame_equal(pickled, images, check_index_type=False)


def test_images_never_shown(nsd, spec, design):
    never = {int(line) for line in (nsd / "nsddata/experiments/nsd/notshown.tsv").read_text().split()}
    shown = set()
    for subject, sessions in enumerate(spec.sessions_done):
        ordering = design["masterordering"][0, : sessions * spec.trials_per_session].astype(int)
        shown |= set(design["subjectim"][subject, ordering - 1].astype(int))
    assert never == set(range(1, spec.image_count + 1)) - shown


@pytest.mark.parametrize("subject", [1, 2])
def test_responses_follow_the_design(nsd, spec, design, subject):
    table = responses(nsd, subject)
    count = spec.sessions_done[subject - 1] * spec.trials_per_session
    assert table.shape == (count, 19)
    ordering = design["masterordering"][0, :count].astype(int)
    assert (table["10KID"] == ordering).all()
    assert (table["73KID"] == design["subjectim"][subject - 1, ordering - 1]).all()
    assert (subject == table.SUBJECT).all()
    assert (np.diff(table.TIME) > 0).all()
    per_run = table.groupby(["SESSION", "RUN"]).TRIAL
    assert (per_run.min() == 1).all()
    assert (per_run.max() == per_run.size()).all()
    in_slots = design["stimpattern"].sum(axis=2)[: spec.sessions_done[subject - 1]]
    assert (per_run.size().unstack().to_numpy() == in_slots).all()


@pytest.mark.parametrize("subject", [1, 2])
def test_memory_columns_against_a_plain_loop(nsd, subject):
    table = responses(nsd, subject)
    seen: dict[int, list[int]] = {}
    for trial, row in enumerate(table.to_dict("records")):
        before = seen.setdefault(row["73KID"], [])
        assert row["ISOLD"] == bool(before)
        expected = [trial - t - 1 for t in before[::-1][:2]] + [np.nan, np.nan]
        np.testing.assert_equal([row["MEMORYRECENT"], row["MEMORYFIRST"]], expected[:2])
        sessions = [table.SESSION[t] for t in before]
        assert row["ISOLDCURRENT"] == (row["SESSION"] in sessions)
        before.append(trial)


def test_nan_rules_of_responses(nsd):
    table = responses(nsd, 2)
    lost = table.MISSINGDATA == 1
    assert table[lost].groupby(["SESSION", "RUN"]).ngroups == 1
    assert set(zip(table[lost].SESSION, table[lost].RUN, strict=True)) == {(1, 10)}
    needs_press = ["ISCORRECT", "RT", "CHANGEMIND", "ISCORRECTCURRENT", "BUTTON"]
    assert table.loc[lost, [*needs_press, "TOTAL1", "TOTAL2"]].isna().all(axis=None)
    silent = table.BUTTON.isna() & ~lost
    assert silent.any()
    assert table.loc[silent, needs_press].isna().all(axis=None)
    assert not table.loc[silent, ["TOTAL1", "TOTAL2"]].any(axis=None)
    pressed = table[table.BUTTON.notna()]
    assert ((pressed.BUTTON == 2) == (pressed.ISCORRECT == pressed.ISOLD)).all()
    assert 0.7 < pressed.ISCORRECT.mean() < 1


def test_numbers_are_written_as_matlab_writes_them(nsd):
    lines = (nsd / "nsddata/ppdata/subj01/behav/responses.tsv").read_text().splitlines()
    first = lines[1].split("\t")
    assert first[:4] == ["1", "1", "1", "1"]
    assert first[11] == "NaN"
    reaction = next(line.split("\t")[9] for line in lines[1:] if line.split("\t")[9] != "NaN")
    assert len(reaction.replace(".", "")) == 20
