"""The experiment: the image of each trial, and the subject's behaviour.

NSD counts from 1; here images (``nsd_id``), ``subject_image`` and repetitions count from 0, while sessions and runs
keep their published numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from nsdflow.errors import MissingDataError, SelectionError, SourceError, one_of
from nsdflow.names import SPACES, SYNTHETIC_DESIGN, number_ranges, subject_name, subject_number
from nsdflow.nsd import layout
from nsdflow.nsd.betas import read_session_header
from nsdflow.nsd.formats.mat import read_whole_numbers
from nsdflow.nsd.formats.tables import column_of_numbers, parse_table
from nsdflow.nsd.source import Source

__all__ = [
    "BEHAVIOUR",
    "Design",
    "behaviour_gaps",
    "is_synthetic",
    "read_coco_ids",
    "read_design",
    "read_stimulus_info",
    "trial_table",
]

#: Columns of responses.tsv on behaviour: (name, meaning, units).
BEHAVIOUR: Final = (
    ("TIME", "onset, from midnight of the first session's day", "days"),
    ("ISOLD", "image was shown before in any session", "1"),
    ("ISCORRECT", "answer was correct", "1"),
    ("RT", "reaction time from image onset", "ms"),
    ("CHANGEMIND", "more than one button press", "1"),
    ("MEMORYRECENT", "trials between this and the most recent presentation", "1"),
    ("MEMORYFIRST", "trials between this and the second most recent presentation", "1"),
    ("ISOLDCURRENT", "image was shown before in this session", "1"),
    ("ISCORRECTCURRENT", "answer was correct with respect to this session", "1"),
    ("TOTAL1", "presses of button 1, new", "1"),
    ("TOTAL2", "presses of button 2, old", "1"),
    ("BUTTON", "button that counts, 1 new or 2 old", "1"),
    ("MISSINGDATA", "responses of the run were lost", "1"),
)


@dataclass(frozen=True)
class Design:
    """``nsd_expdesign.mat``, counted from 0.

    Attributes
    ----------
    masterordering : int64 array, shape (trial,)
        The subject's own image (``subject_image``) of each trial of the whole experiment, the same for all subjects.
    subjectim : int64 array, shape (subject, subject_image)
        ``nsd_id`` of each subject's images; those shared by all subjects come first.
    sharedix : int64 array, shape (shared image,)
        ``nsd_id`` of the shared images.
    trials_per_session : int64 array, shape (session,)
    run : int64 array, shape (trial,)
        1-based run of each trial within its session; 0 where the file does not say.
    """

    masterordering: NDArray[np.int64]
    subjectim: NDArray[np.int64]
    sharedix: NDArray[np.int64]
    trials_per_session: NDArray[np.int64]
    run: NDArray[np.int64]

    @property
    def subjects(self) -> tuple[str, ...]:
        """Names of the subjects the design has."""
        return tuple(subject_name(number + 1) for number in range(len(self.subjectim)))

    @property
    def session(self) -> NDArray[np.int64]:
        """1-based session of each trial."""
        return np.repeat(np.arange(1, len(self.trials_per_session) + 1), self.trials_per_session)

    def nsd_id(self, subject: str) -> NDArray[np.int64]:
        """``nsd_id`` of each trial of a subject.

        Raises
        ------
        SelectionError
            The design has no such subject.
        """
        if subject not in self.subjects:
            raise one_of("subject of the design", subject, self.subjects)
        row: NDArray[np.int64] = self.subjectim[subject_number(subject) - 1]
        return row[self.masterordering]


def read_design(source: Source) -> Design:
    """Read and check ``nsd_expdesign.mat``.

    A file without ``stimpattern`` has neither runs nor trials per session; these are then taken from the betas.

    Raises
    ------
    MissingDataError
        No design file.
    SourceError
        Not readable, or it contradicts itself.
    """
    url = source.join(layout.EXPERIMENT_DESIGN)
    wanted = ("masterordering", "subjectim", "sharedix")
    found = read_whole_numbers(source, layout.EXPERIMENT_DESIGN, wanted, optional=("stimpattern",))
    ordering, shared = (found[name].ravel() - 1 for name in ("masterordering", "sharedix"))
    subjectim = np.atleast_2d(found["subjectim"]) - 1
    if "stimpattern" in found:
        pattern = found["stimpattern"]
        if pattern.ndim != 3:
            raise SourceError(f"{url}: stimpattern is not by session, run and trial; fetch it again")
        runs = pattern.sum(axis=2)
        trials = runs.sum(axis=1)
        run = np.concatenate([np.repeat(np.arange(1, len(counts) + 1), counts) for counts in runs])
    else:
        count = _trials_of_betas(source)
        trials = np.full(len(ordering) // count, count)
        run = np.zeros(len(ordering), np.int64)
    design = Design(ordering, subjectim, shared, trials.astype(np.int64), run.astype(np.int64))
    _check_design(design, url)
    return design


def is_synthetic(source: Source) -> bool:
    """Whether ``nsdflow synth`` wrote a source, by the header of its design.

    Raises
    ------
    MissingDataError
        No design file.
    """
    return source.head(layout.EXPERIMENT_DESIGN, len(SYNTHETIC_DESIGN)) == SYNTHETIC_DESIGN


def trial_table(source: Source, subject: str, sessions: Sequence[int]) -> xr.Dataset:
    """All trials of some sessions of a subject, in order of presentation.

    Parameters
    ----------
    source : Source
    subject : str
    sessions : sequence of int
        1-based; rows follow this order.

    Returns
    -------
    xarray.Dataset, dimension ``trial``
        ``session``, ``run`` (1-based), ``nsd_id``, ``subject_image`` (0-based), ``repetition`` (earlier presentations
        in the whole experiment), ``shared``; ``coco_id`` if the stimulus table exists; and, if ``responses.tsv``
        exists, its columns of behaviour, in lower case, as float64 with NaN.

    Raises
    ------
    SourceError
        ``responses.tsv`` or ``nsd_stim_info_merged.csv`` contradicts the design; the message names file, line and
        both values.
    """
    design = read_design(source)
    nsd_id = design.nsd_id(subject)
    ids = pd.Series(design.masterordering)
    table = pd.DataFrame(
        {
            "session": design.session,
            "run": design.run,
            "nsd_id": nsd_id,
            "subject_image": design.masterordering,
            "repetition": ids.groupby(ids).cumcount().to_numpy(),
            "shared": design.masterordering < len(design.sharedix),
        }
    )
    info = read_stimulus_info(source)
    if info is not None:
        _check_stimulus_info(info, table, subject, design, source.join(layout.STIMULUS_INFO))
        if "cocoId" in info:
            table["coco_id"] = _coco_ids(info, source.join(layout.STIMULUS_INFO))[nsd_id]
    responses = _read_responses(source, subject)
    if responses is not None:
        table = _with_behaviour(table, responses, source.join(layout.responses_path(subject)))
    rows = [_rows_of_session(design, session) for session in sessions]
    chosen = table.iloc[np.concatenate(rows) if rows else []]
    result = xr.Dataset({str(name): ("trial", column.to_numpy()) for name, column in chosen.items()})
    for name, meaning, units in BEHAVIOUR:
        if name.lower() in result:
            result[name.lower()].attrs.update(long_name=meaning, units=units)
    return result


def behaviour_gaps(source: Source, subject: str, sessions: Iterable[int]) -> list[str]:
    """What ``responses.tsv`` lacks of the behaviour in some sessions, a phrase each.

    Raises
    ------
    SourceError
        It is not readable.
    """
    responses = _read_responses(source, subject)
    if responses is None:
        return []
    gaps = []
    if absent := [name for name, _, _ in BEHAVIOUR if name not in responses]:
        gaps.append(f"no column {', '.join(absent)}, which the store will lack")
    numbers = pd.to_numeric(responses["SESSION"], errors="coerce")
    if silent := sorted(set(sessions) - set(numbers.dropna().astype(int))):
        gaps.append(f"no rows of session {number_ranges(silent)}, whose behaviour is missing")
    return gaps


def read_stimulus_info(source: Source) -> pd.DataFrame | None:
    """``nsd_stim_info_merged.csv`` as published, one row per image (row = ``nsd_id``); None if it does not exist."""
    if source.trouble(layout.STIMULUS_INFO) is not None:
        return None
    url = source.join(layout.STIMULUS_INFO)
    table = parse_table(source.read(layout.STIMULUS_INFO), url, index_col=0)
    if "nsdId" in table and not np.array_equal(table["nsdId"], np.arange(len(table))):
        raise SourceError(f"{url}: column nsdId does not count the rows from 0; fetch it again")
    return table


def read_coco_ids(source: Source) -> NDArray[np.int64] | None:
    """COCO's number of every image by ``nsd_id``, -1 where the stimulus table has none; None without the table.

    Raises
    ------
    SourceError
        A number is not whole, or not positive.
    """
    info = read_stimulus_info(source)
    if info is None or "cocoId" not in info:
        return None
    return _coco_ids(info, source.join(layout.STIMULUS_INFO))


def _coco_ids(info: pd.DataFrame, url: str) -> NDArray[np.int64]:
    numbers = pd.to_numeric(info["cocoId"], errors="coerce").to_numpy(np.float64)
    written = info["cocoId"].notna().to_numpy()
    wrong = np.flatnonzero(written & ~((numbers >= 1) & (numbers % 1 == 0) & (numbers < 2**53)))
    if len(wrong):
        raise SourceError(
            f"{url}: line {wrong[0] + 2}: cocoId is {info['cocoId'].iloc[wrong[0]]}, not a whole number from 1 on; "
            "copy the published file"
        )
    return np.where(written, np.nan_to_num(numbers), -1).astype(np.int64)


def _check_design(design: Design, url: str) -> None:
    images = design.subjectim.shape[1]
    shared = len(design.sharedix)
    ordering, trials = design.masterordering, int(design.trials_per_session.sum())
    problem = None
    if min(ordering.min(), design.subjectim.min()) < 0:
        problem = f"{'masterordering' if ordering.min() < 0 else 'subjectim'} has numbers below 1"
    elif ordering.max() >= images:
        problem = f"masterordering has {ordering.max() + 1} where subjectim has {images} images"
    elif shared > images or not (design.subjectim[:, :shared] == design.sharedix).all():
        problem = "the first images of subjectim are not those of sharedix"
    elif trials != len(ordering):
        problem = f"masterordering has {len(ordering)} trials where the sessions have {trials}"
    if problem:
        raise SourceError(f"{url}: {problem}; fetch it again")


def _rows_of_session(design: Design, session: int) -> NDArray[np.int64]:
    count = len(design.trials_per_session)
    if not 1 <= session <= count:
        raise SelectionError(f"session {session}: the design has sessions 1 to {count}")
    stop = int(design.trials_per_session[:session].sum())
    return np.arange(stop - int(design.trials_per_session[session - 1]), stop)


def _trials_of_betas(source: Source) -> int:
    """Trials of the first existing session of betas."""
    root = "nsddata_betas/ppdata"
    for subject in source.listdir(root):
        for space in source.listdir(f"{root}/{subject}"):
            for betas in source.listdir(f"{root}/{subject}/{space}") if space in SPACES else ():
                names = source.listdir(layout.betas_folder(subject, space, betas))
                for session in layout.sessions_of(names, space):
                    return read_session_header(source, subject, session, space=space, betas=betas).trials
    raise MissingDataError(
        f"{source.join(layout.EXPERIMENT_DESIGN)}: no stimpattern, and no betas to count trials in; "
        "fetch the published design file"
    )


def _check_stimulus_info(info: pd.DataFrame, table: pd.DataFrame, subject: str, design: Design, url: str) -> None:
    """The csv lists the same trials (1-based, of all sessions planned) and the same shared images."""
    if len(info) <= design.subjectim.max():
        raise SourceError(
            f"{url}: {len(info)} images where the design shows nsd_id {design.subjectim.max()}; "
            "take both from the same release"
        )
    if "shared1000" in info:
        flags = np.zeros(len(info), dtype=bool)
        flags[design.sharedix] = True
        _agree(url, "shared1000", np.arange(len(info)) + 2, info["shared1000"].to_numpy(), flags, "sharedix")
    for repetition in range(3):
        column = f"subject{subject_number(subject)}_rep{repetition}"
        if column in info:
            shown = table.loc[table["repetition"] == repetition, "nsd_id"]
            listed = info[column].to_numpy()[shown.to_numpy()]
            _agree(url, column, shown.to_numpy() + 2, listed, shown.index.to_numpy() + 1, "masterordering")


def _read_responses(source: Source, subject: str) -> pd.DataFrame | None:
    path = layout.responses_path(subject)
    if source.trouble(path) is not None:
        return None
    written = source.read(path).splitlines()
    while written and not written[-1].strip():  # editors and spreadsheets leave blank lines at the end
        written.pop()
    content, fields = b"\n".join(written), [line.count(b"\t") for line in written]
    if short := [number for number, count in enumerate(fields, start=1) if count != fields[0]]:
        raise SourceError(f"{source.join(path)}: line {short[0]} has other columns than line 1; fetch it again")
    table = parse_table(content, source.join(path), sep="\t")
    absent = [name for name in ("SESSION", "RUN", "73KID", "10KID") if name not in table]
    if absent:
        raise SourceError(f"{source.join(path)}: no column {', '.join(absent)}; fetch it again")
    return table


def _with_behaviour(table: pd.DataFrame, responses: pd.DataFrame, url: str) -> pd.DataFrame:
    """Add the columns of behaviour, NaN for sessions without a row; every row must agree with the design."""
    if len(responses) > len(table):
        raise SourceError(
            f"{url}: {len(responses)} rows where the design has {len(table)} trials; take both from the same release"
        )
    if 0 < len(responses) < len(table) and table["session"].iloc[[len(responses) - 1, len(responses)]].nunique() == 1:
        raise SourceError(f"{url}: it ends within session {table['session'].iloc[len(responses)]}; fetch it again")
    start = table.iloc[: len(responses)]
    lines = np.arange(len(responses)) + 2  # the header is line 1
    checks = {"SESSION": start["session"], "10KID": start["subject_image"] + 1, "73KID": start["nsd_id"] + 1}
    if start["run"].all():
        checks["RUN"] = start["run"]
    for column, wanted in checks.items():
        _agree(url, column, lines, responses[column].to_numpy(), wanted.to_numpy(), "the design")
    result = table.copy()
    if not start["run"].all():
        result["run"] = responses["RUN"].reindex(table.index, fill_value=0)
    for name, _, _ in BEHAVIOUR:
        if name in responses:
            numbers = pd.Series(column_of_numbers(responses, name, url), responses.index)
            result[name.lower()] = numbers.reindex(table.index)
    return result


def _agree(url: str, column: str, lines: Any, found: Any, wanted: Any, other: str) -> None:
    """Raise for the first line at which a column of a file contradicts the design."""
    different = np.flatnonzero(np.asarray(found) != np.asarray(wanted))
    if len(different):
        first = different[0]
        raise SourceError(
            f"{url}: line {lines[first]}: {column} is {found[first]} where {other} of "
            f"{layout.EXPERIMENT_DESIGN} gives {wanted[first]}; take both files from the same release"
        )
