"""Choice of the files of a session: the best complete format, and the sessions without one."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from nsdflow.errors import NsdflowError
from nsdflow.io.paths import is_local
from nsdflow.nsd import layout
from nsdflow.nsd.formats.frames import check_length, read_header
from nsdflow.nsd.source import Source

__all__ = ["Sessions", "choose_sessions"]

#: Number of sessions that are examined concurrently, because a bucket needs a request per file.
_AT_ONCE = 16


@dataclass(frozen=True)
class Sessions:
    """The sessions of one subject, space and version.

    Attributes
    ----------
    formats : dict
        Format to read by session, for sessions that can be read.
    held_out : tuple of int
        Sessions that are listed, but of which no format can be read.
    left_out : tuple of str
        One line per listed file that is not used because it cannot be read.
    """

    formats: dict[int, str]
    held_out: tuple[int, ...]
    left_out: tuple[str, ...]


def choose_sessions(source: Source, subject: str, space: str, betas: str, sizes: Mapping[str, int]) -> Sessions:
    """Choose the files of every session that a listing has.

    Of the formats of a session the best one is read, unless its files cannot be read (a link to nothing, an empty
    file, a pointer, no permission) or do not hold what their headers announce, and another format is whole.

    Parameters
    ----------
    sizes : mapping
        Bytes of the files in the folder of the betas by name.
    """
    listed = layout.sessions_of(sizes, space)
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        jobs = {
            session: pool.submit(_choose, source, subject, session, space, betas, formats)
            for session, formats in listed.items()
        }
        found = {session: job.result() for session, job in jobs.items()}
    return Sessions(
        formats={session: chosen for session, (chosen, _) in found.items() if chosen is not None},
        held_out=tuple(session for session, (chosen, _) in found.items() if chosen is None),
        left_out=tuple(line for _, lines in found.values() for line in lines),
    )


def _choose(
    source: Source, subject: str, session: int, space: str, betas: str, formats: tuple[str, ...]
) -> tuple[str | None, list[str]]:
    """The format to read, None if there is none; and a line per better file that cannot be read."""
    problems: dict[str, str] = {}
    doubtful: str | None = None
    chosen: str | None = None
    for format in formats:
        paths = layout.betas_paths(subject, session, space, betas, format)
        problem = next((f"{source.join(path)} {reason}" for path in paths if (reason := source.trouble(path))), None)
        if problem is None and len(formats) > 1 and is_local(source.url):
            problem = next((f"{source.join(path)} {doubt}" for path in paths if (doubt := _doubt(source, path))), None)
            doubtful = doubtful or (format if problem else None)
        if problem is None:
            chosen = format
            break
        problems[format] = problem
    chosen = chosen or doubtful  # only reading it to its end shows this
    problems.pop(chosen or "", None)
    instead = f"{chosen} is read instead" if chosen else f"{subject} session {session} is left out"
    return chosen, [f"{problem}; {instead}" for problem in problems.values()]


def _doubt(source: Source, path: str) -> str | None:
    """Why a local file seems incomplete, without reading its betas."""
    try:
        if path.endswith((".hdf5", ".mat")):
            with source.open_hdf5(path, "betas"):
                return None
        return check_length(source, path, read_header(source, path))
    except NsdflowError as error:
        return f"cannot be read ({str(error).removeprefix(source.join(path)).lstrip(': ')})"
