"""What nsdflow takes from dask-jobqueue: job classes, sections of ``jobqueue.yaml``, and what each queue is asked.

dask-jobqueue is imported inside functions: its import replaces the process's SIGINT handler (put back here) and writes
a commented template to ``~/.config/dask/jobqueue.yaml`` (left there: it is the file that sites and users fill in).
"""

from __future__ import annotations

import asyncio
import importlib
import re
import shutil
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import dask

from nsdflow.errors import PlanError

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["QUEUES", "Queue", "import_jobqueue", "last_lines", "read_section", "seconds_of", "still_queued"]


#: Seconds of the parts of ``SS``, ``MM:SS``, ``HH:MM:SS`` and ``DD:HH:MM:SS``.
HMS: Final = ((1,), (60, 1), (3600, 60, 1), (86400, 3600, 60, 1))


@dataclass(frozen=True)
class Queue:
    """One kind of batch system: what differs between them as far as nsdflow is concerned."""

    name: str
    job_class: str
    """Class in the dask_jobqueue module of the same name."""
    status: tuple[str, ...]
    """Command that, followed by a job id, prints the job's state; prints nothing or fails when it has ended."""
    walltime: tuple[tuple[int, ...], ...] = HMS
    """Seconds of each part of a walltime of one part, of two...: SLURM's "30" is minutes, PBS's seconds."""

    @property
    def jobs(self) -> Any:
        """dask-jobqueue's job class."""
        return getattr(import_jobqueue(self.name), self.job_class)

    def check(self) -> None:
        """Refuse a queue that cannot be reached from this machine.

        Raises
        ------
        PlanError
            If its submit command is not installed here.
        """
        command = self.jobs.submit_command.split()[0]
        if shutil.which(command) is None:
            raise PlanError(
                f"no {command!r} on this machine, so no jobs can be submitted to {self.name}; "
                "run this on a login node, or use --cluster local"
            )


QUEUES: Final[Mapping[str, Queue]] = {
    queue.name: queue
    for queue in (
        Queue("slurm", "SLURMJob", ("squeue", "--noheader", "--format", "%T %r", "--jobs"), ((60,), *HMS[1:])),
        Queue("pbs", "PBSJob", ("qstat",)),
        Queue("sge", "SGEJob", ("qstat", "-j")),
        Queue("lsf", "LSFJob", ("bjobs", "-noheader", "-o", "stat"), ((60,), (3600, 60))),
        Queue("htcondor", "HTCondorJob", ("condor_q", "-format", "%d", "JobStatus")),
        Queue("moab", "MoabJob", ("checkjob",)),
        Queue("oar", "OARJob", ("oarstat", "--state", "--job"), ((3600,), (3600, 60), (3600, 60, 1))),
    )
}

#: States of a job that has ended, or is tidied away, but that its queue remembers (SLURM's names, then LSF's).
ENDED = re.compile(
    r"BOOT_FAIL|CANCELLED|COMPLET|DEADLINE|FAILED|NODE_FAIL|OUT_OF_ME|PREEMPTED|TIMEOUT|\bDONE\b|\bEXIT\b|Terminated"
)
#: How queues say that they do not know a job; any other failure of the command says nothing about the job.
UNKNOWN = re.compile(r"invalid job|unknown job|not found|do(es)? not exist|has finished", re.IGNORECASE)


def import_jobqueue(name: str) -> ModuleType:
    """``dask_jobqueue.<name>``, without the change to SIGINT that its import makes."""
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    try:
        return importlib.import_module(f"dask_jobqueue.{name}")
    except ModuleNotFoundError as error:
        raise PlanError(
            f"--cluster {name} needs dask-jobqueue: pip install '.[hpc]' in the clone of nsdflow"
        ) from error
    finally:
        if in_main:
            signal.signal(signal.SIGINT, handler)


def read_section(queue: Queue, section: str) -> dict[str, Any] | None:
    """One section of ``jobqueue.yaml`` over dask-jobqueue's defaults for that queue; None if there is no such section.

    A section other than the queue's own (``slurm-gpu``) needs only what differs from it (``slurm``).

    Raises
    ------
    PlanError
        If cores or memory are missing; the message shows the lines to write.
    """
    import_jobqueue(queue.name)
    sections: dict[str, Any] = dask.config.get("jobqueue", default={})
    if section not in sections:
        return None
    defaults = dask.config.merge(*dask.config.defaults)["jobqueue"][queue.name]
    layers = (defaults, sections.get(queue.name, {}), sections[section])
    settings = {key.replace("_", "-"): value for layer in layers for key, value in layer.items()}
    if settings.get("cores") is None or settings.get("memory") is None:
        raise PlanError(
            f"jobqueue.yaml says no cores or no memory for {section!r}; write for example in ~/.config/dask/"
            f"jobqueue.yaml:  jobqueue: {{{section}: {{cores: 8, memory: 32GiB, walltime: '04:00:00'}}}}"
        )
    return settings


def seconds_of(walltime: str | int | None, parts: tuple[tuple[int, ...], ...] = HMS) -> int | None:
    """Seconds of a walltime as its queue reads it; ``parts`` is :attr:`Queue.walltime`.

    >>> seconds_of("1-02:00"), seconds_of("00:30:00"), seconds_of("04:00", ((60,), (3600, 60)))
    (93600, 1800, 14400)
    """
    if walltime is None:
        return None
    days, dash, clock = str(walltime).strip().rpartition("-")
    numbers = clock.split(":")
    units = (3600, 60, 1) if dash else dict(enumerate(parts, start=1)).get(len(numbers), ())
    if not all(number.isdigit() for number in (*numbers, days or "0")) or len(numbers) > len(units):
        raise PlanError(f"jobqueue.yaml: {walltime!r} is no walltime; write for example '04:00:00'")
    clocked = sum(int(number) * unit for number, unit in zip(numbers, units, strict=False))
    return int(days or 0) * 86400 + clocked


async def still_queued(queue: Queue, job_id: str) -> tuple[bool, str]:
    """Whether a batch job waits or runs, and what its queue says of it; if the queue does not answer, it does."""
    process = await asyncio.create_subprocess_exec(
        *queue.status, job_id, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = (" ".join(stream.decode(errors="replace").split()) for stream in await process.communicate())
    if process.returncode != 0:
        return UNKNOWN.search(err + out) is None, err
    return bool(out) and ENDED.search(out) is None, out


def last_lines(folder: str | Path, job_id: str, lines: int = 3) -> str:
    """The end of what a job wrote to its log files (whose names hold its number), on one line."""
    number = re.compile(rf"(?<!\d){re.escape(job_id)}(?!\d)")
    logs = sorted(path for path in Path(folder).iterdir() if path.is_file() and number.search(path.name))
    texts = (path.read_text(errors="replace").strip() for path in logs)
    written = [line.strip() for text in texts for line in text.splitlines()[-lines:] if line.strip()]
    return " | ".join(written[-lines:])
