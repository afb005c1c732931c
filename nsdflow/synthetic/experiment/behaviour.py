"""``responses.tsv``: button presses on every trial, in NSD's 19 columns and with its NaN rules."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nsdflow.synthetic.experiment.design import Experiment, run_lengths
from nsdflow.synthetic.spec import SyntheticSpec

__all__ = ["BEHAVIOUR_COLUMNS", "responses", "responses_text"]

BEHAVIOUR_COLUMNS = (
    "SUBJECT", "SESSION", "RUN", "TRIAL", "73KID", "10KID", "TIME", "ISOLD", "ISCORRECT", "RT", "CHANGEMIND",
    "MEMORYRECENT", "MEMORYFIRST", "ISOLDCURRENT", "ISCORRECTCURRENT", "TOTAL1", "TOTAL2", "BUTTON", "MISSINGDATA",
)  # fmt: skip

#: Columns that are NaN where no button was pressed, and columns that are NaN where the presses were lost.
_NEEDS_A_PRESS = ("ISCORRECT", "RT", "CHANGEMIND", "ISCORRECTCURRENT", "BUTTON")
_NEEDS_THE_RECORD = (*_NEEDS_A_PRESS, "TOTAL1", "TOTAL2")

_DAY_S = 86_400.0  # TIME counts in days
_HIT, _FALSE_ALARM, _NO_PRESS, _CHANGE = 0.85, 0.2, 0.03, 0.03


def responses(spec: SyntheticSpec, experiment: Experiment, subject: int) -> dict[str, npt.NDArray[np.float64]]:
    """All columns of a subject (1-based), one value for each trial of the sessions it did."""
    count = spec.sessions_done[subject - 1] * spec.trials_per_session
    trial = np.arange(count)
    session, within = np.divmod(trial, spec.trials_per_session)
    lengths = run_lengths(spec.trials_per_session)
    run = np.repeat(np.arange(len(lengths)), lengths)[within]
    shown = experiment.ordering[:count]
    previous, before = _earlier_presentations(experiment, count)
    lost = {(s - 1, r - 1) for who, s, r in spec.lost_runs if who == subject}
    table: dict[str, npt.ArrayLike] = {
        "SUBJECT": np.full(count, subject),
        "SESSION": session + 1,
        "RUN": run + 1,
        "TRIAL": within - np.cumsum([0, *lengths])[run] + 1,
        "73KID": experiment.images[subject - 1, shown] + 1,
        "10KID": shown + 1,
        "TIME": 0.5 + 7 * session + (4.0 * within + 90.0 * run) / _DAY_S,
        "ISOLD": previous >= 0,
        "MEMORYRECENT": np.where(previous >= 0, trial - previous - 1, np.nan),
        "MEMORYFIRST": np.where(before >= 0, trial - before - 1, np.nan),
        "ISOLDCURRENT": (previous >= 0) & (previous // spec.trials_per_session == session),
        "MISSINGDATA": [(s, r) in lost for s, r in zip(session.tolist(), run.tolist(), strict=True)],
    }
    columns = {name: np.asarray(values, dtype=np.float64) for name, values in table.items()}
    columns |= _presses(spec.generator("buttons", subject), columns)
    for name in _NEEDS_THE_RECORD:
        columns[name][columns["MISSINGDATA"] == 1] = np.nan
    return {name: columns[name] for name in BEHAVIOUR_COLUMNS}


def responses_text(columns: dict[str, npt.NDArray[np.float64]]) -> str:
    """The file as MATLAB's ``dlmwrite`` leaves it: tabs, ``%.20g``, ``NaN``."""
    rows = np.column_stack([columns[name] for name in BEHAVIOUR_COLUMNS]).tolist()
    lines = ("\t".join(f"{value:.20g}" for value in row) for row in rows)
    return "\n".join(["\t".join(BEHAVIOUR_COLUMNS), *lines, ""]).replace("nan", "NaN")


def _earlier_presentations(experiment: Experiment, count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Trial of the latest and of the second latest earlier presentation of each trial's image, -1 = none."""
    latest = np.full(experiment.ordering.size, -1)
    second = np.full(experiment.ordering.size, -1)
    first_three = experiment.presentations
    latest[first_three[:, 1:]] = first_three[:, :2]
    second[first_three[:, 2]] = first_three[:, 0]
    return latest[:count], second[:count]


def _presses(rng: np.random.Generator, known: dict[str, npt.NDArray[np.float64]]) -> dict[str, npt.NDArray[np.float64]]:
    """Buttons (1 = new, 2 = old) of an observer who remembers well but not perfectly."""
    old = known["ISOLD"] == 1
    says_old = rng.random(old.size) < np.where(old, _HIT, _FALSE_ALARM)
    pressed = rng.random(old.size) >= _NO_PRESS
    changed = pressed & (rng.random(old.size) < _CHANGE)
    table = {
        "ISCORRECT": says_old == old,
        "RT": np.clip(rng.lognormal(6.8, 0.35, old.size), 250, 3900),
        "CHANGEMIND": changed,
        "ISCORRECTCURRENT": says_old == (known["ISOLDCURRENT"] == 1),
        "TOTAL1": pressed & (~says_old | changed),
        "TOTAL2": pressed & (says_old | changed),
        "BUTTON": 1 + says_old,
    }
    columns = {name: np.asarray(values, dtype=np.float64) for name, values in table.items()}
    for name in _NEEDS_A_PRESS:
        columns[name][~pressed] = np.nan
    return columns
