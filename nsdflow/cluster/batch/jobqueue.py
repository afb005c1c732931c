"""The table of batch systems: everything nsdflow knows about SLURM, PBS, SGE, LSF, HTCondor, Moab and OAR.

A new batch system is one more record in :data:`BATCH_SYSTEMS`. One that dask-jobqueue does not support also needs a
module with a subclass of ``dask_jobqueue.core.Job``, and with the defaults of its section of ``jobqueue.yaml``
(:func:`dask.config.update_defaults`).

dask-jobqueue is imported inside functions: its import replaces the process's SIGINT handler (restored here) and writes
a commented template to ``~/.config/dask/jobqueue.yaml`` (left there for sites and users to fill in).
"""

from __future__ import annotations

import asyncio
import importlib
import re
import shutil
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from nsdflow.errors import PlanError

__all__ = ["BATCH_SYSTEMS", "SUBMIT_HOSTS", "BatchSystem", "import_jobqueue", "last_lines", "still_queued"]


#: Seconds of each part of ``SS``, ``MM:SS``, ``HH:MM:SS`` and ``DD:HH:MM:SS``.
HMS: Final = ((1,), (60, 1), (3600, 60, 1), (86400, 3600, 60, 1))


@dataclass(frozen=True)
class BatchSystem:
    """Properties of one batch system that nsdflow depends on."""

    name: str
    """The word after ``--cluster``, and the name of its section in ``jobqueue.yaml``."""
    job_class: str
    """``module:class`` of its jobs."""
    status: tuple[str, ...]
    """Command that, followed by a job id, prints the job's state, and prints nothing or fails when it has ended."""
    ended: str = r"(?!)"
    """Regular expression of the states of jobs that have ended but are still listed; default: never."""
    walltime: tuple[tuple[int, ...], ...] | None = HMS
    """Seconds of each part of a walltime of one part, of two...: SLURM's "30" is minutes, PBS's seconds. None: the
    batch system has no walltime."""
    walltime_example: str = "04:00:00"
    """A walltime of four hours."""
    submit_host: str | None = None
    """Variable in a job that holds the host on which it was submitted."""
    end_time: str | None = None
    """Variable in a job that holds its end, in seconds since 1970."""
    job_id: str | None = None
    """Variable in a job that holds its id."""
    cores: tuple[str, ...] = ()
    """Variables in a job that hold the number of its cores; the first that is set counts."""
    memory_mib: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Variables in a job that hold memory in MiB, and those that say how many times: the first that is set counts."""
    synonyms: Mapping[str, str] = field(default_factory=dict)
    """Words of the batch system's manual that users write instead of a key of ``jobqueue.yaml``."""
    directives: Mapping[str, str] = field(default_factory=dict)
    """Words of the manual that no key of ``jobqueue.yaml`` stands for, with the option of a job script to write."""
    plain_paths: bool = False
    """Whether its submit files cannot hold a path that needs quotes in the shell."""

    @property
    def job_type(self) -> Any:
        """Class of its jobs; importing it registers the defaults of its section of ``jobqueue.yaml``."""
        module, _, name = self.job_class.partition(":")
        return getattr(import_jobqueue(module, self.name), name)

    def check(self) -> None:
        """Refuse a batch system that cannot be reached from this machine.

        Raises
        ------
        PlanError
            Its submit command is not installed here.
        """
        command = self.job_type.submit_command.split()[0]
        if shutil.which(command) is None:
            raise PlanError(
                f"{command!r} is not installed on this machine, so no jobs can be submitted to {self.name}; "
                "run this on a login node, or use --cluster local"
            )


#: Batch systems by name.
BATCH_SYSTEMS: Final[Mapping[str, BatchSystem]] = {
    system.name: system
    for system in (
        BatchSystem(
            "slurm",
            "dask_jobqueue.slurm:SLURMJob",
            status=("squeue", "--noheader", "--format", "%T %r", "--jobs"),
            ended="BOOT_FAIL|CANCELLED|COMPLET|DEADLINE|FAILED|NODE_FAIL|OUT_OF_ME|PREEMPTED|TIMEOUT",
            walltime=((60,), *HMS[1:]),
            submit_host="SLURM_SUBMIT_HOST",
            end_time="SLURM_JOB_END_TIME",
            job_id="SLURM_JOB_ID",
            cores=("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"),
            memory_mib={
                "SLURM_MEM_PER_NODE": (),
                "SLURM_MEM_PER_CPU": ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"),
                "SLURM_MEM_PER_GPU": ("SLURM_GPUS_ON_NODE",),
            },
            synonyms={"partition": "queue", "time": "walltime", "mem": "memory", "cpus-per-task": "cores"},
            directives={
                word: f"--{word}={{}}" for word in ("gres", "gpus", "qos", "constraint", "nodelist", "exclude")
            },
        ),
        BatchSystem(
            "pbs",
            "dask_jobqueue.pbs:PBSJob",
            status=("qstat",),
            submit_host="PBS_O_HOST",
            job_id="PBS_JOBID",
            cores=("NCPUS", "PBS_NP"),
        ),
        BatchSystem(
            "sge",
            "dask_jobqueue.sge:SGEJob",
            status=("qstat", "-j"),
            submit_host="SGE_O_HOST",
            job_id="JOB_ID",
            cores=("NSLOTS",),
            directives={"parallel-environment": "-pe {}", "pe": "-pe {}", "gpu": "-l gpu={}"},
        ),
        BatchSystem(
            "lsf",
            "dask_jobqueue.lsf:LSFJob",
            status=("bjobs", "-noheader", "-o", "stat"),
            ended=r"\bDONE\b|\bEXIT\b",
            walltime=((60,), (3600, 60)),
            walltime_example="04:00",
            submit_host="LSB_SUB_HOST",
            job_id="LSB_JOBID",
            cores=("LSB_DJOB_NUMPROC",),
            synonyms={"runtime": "walltime"},
            directives={"gpus": "-gpu num={}", "gpu": "-gpu {}"},
        ),
        BatchSystem(
            "htcondor",
            "dask_jobqueue.htcondor:HTCondorJob",
            status=("condor_q", "-format", "%d", "JobStatus"),
            walltime=None,
            plain_paths=True,  # submit files have quotes and macros
        ),
        BatchSystem("moab", "dask_jobqueue.moab:MoabJob", status=("checkjob",)),  # its jobs have the variables of PBS
        BatchSystem(
            "oar",
            "dask_jobqueue.oar:OARJob",
            status=("oarstat", "--state", "--job"),
            ended="Terminated",
            walltime=((3600,), (3600, 60), (3600, 60, 1)),
        ),
    )
}

#: Variables in which batch systems write the host that submitted a job.
SUBMIT_HOSTS: Final = tuple(
    dict.fromkeys(system.submit_host for system in BATCH_SYSTEMS.values() if system.submit_host)
)

#: How batch systems say that they do not know a job; any other failure of the command says nothing about the job.
UNKNOWN_JOB: Final = re.compile(r"invalid job|unknown job|not found|do(es)? not exist|has finished", re.IGNORECASE)


def import_jobqueue(module: str, cluster: str) -> ModuleType:
    """Import a module of job classes without the change to SIGINT that dask-jobqueue makes when it is imported.

    Raises
    ------
    PlanError
        dask-jobqueue is not installed.
    """
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        raise PlanError(
            f"--cluster {cluster} needs dask-jobqueue; install it with: pip install 'nsdflow[hpc]'"
        ) from None
    finally:
        if in_main:
            signal.signal(signal.SIGINT, handler)


async def still_queued(system: BatchSystem, job_id: str) -> tuple[bool, str]:
    """Whether a batch job waits or runs, and the batch system's answer about it.

    If the batch system does not answer, the job counts as queued.
    """
    process = await asyncio.create_subprocess_exec(
        *system.status, job_id, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = (" ".join(stream.decode(errors="replace").split()) for stream in await process.communicate())
    if process.returncode != 0:
        return UNKNOWN_JOB.search(err + out) is None, err
    return bool(out) and re.search(system.ended, out) is None, out


def last_lines(folder: str | Path, job_id: str) -> str:
    """The last three lines of a job's log files (their names contain its id), joined to one line."""
    number = re.compile(rf"(?<!\d){re.escape(job_id)}(?!\d)")
    logs = sorted(path for path in Path(folder).iterdir() if path.is_file() and number.search(path.name))
    texts = (path.read_text(errors="replace").strip() for path in logs)
    written = [line.strip() for text in texts for line in text.splitlines()[-3:] if line.strip()]
    return " | ".join(written[-3:])
