"""Checks whether a site is ready: runs one tiny task on each pool and returns the findings as records."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from dask.utils import format_bytes

from nsdflow.cluster.batch.job_pool import LOG_FOLDER, PLACEHOLDERS, job_scripts
from nsdflow.cluster.batch.pool_cluster import JobPools
from nsdflow.cluster.connect import connect, dashboard_of
from nsdflow.cluster.demand import POOL_TIMES, PoolTimes
from nsdflow.cluster.doctor.probe import environment, interface_of, open_to_others, probe
from nsdflow.cluster.feed import Feed
from nsdflow.cluster.local import visible_gpus
from nsdflow.errors import RunError
from nsdflow.monitor.state import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from distributed import Client

__all__ = ["Examination", "Finding", "doctor"]

#: Less free scratch space or fewer free files than this gives a warning.
SCRATCH_BYTES = 10 << 30
SCRATCH_FILES = 10_000


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    where: str
    """``driver`` or the name of a pool."""
    what: str
    state: Literal["ok", "warning", "problem"]
    text: str


@dataclass(frozen=True)
class Examination:
    """All findings about one cluster."""

    cluster: str
    findings: tuple[Finding, ...]
    job_scripts: Mapping[str, str]
    links: Mapping[str, str]

    @property
    def healthy(self) -> bool:
        """Whether no finding would stop a run."""
        return all(finding.state != "problem" for finding in self.findings)

    def describe(self) -> str:
        """All as text: job scripts, one line per finding, links to the dashboard, and the verdict."""
        lines = []
        for pool, script in self.job_scripts.items():
            lines += [f"--- job script of the {pool} pool ({PLACEHOLDERS})", "", *script.strip().splitlines(), ""]
        lines.append(f"--- findings on {self.cluster}")
        lines.append("")
        lines += [f"{one.state:<9}{one.where:<8}{one.what + ':':<13}{one.text}" for one in self.findings]
        if self.links:
            lines += ["", "--- the dashboard of a run (the port may differ)", ""]
            lines += [f"{way + ':':<17}{link}" for way, link in self.links.items()]
        count = Counter(one.state for one in self.findings)
        verdict = "ready" if self.healthy else "not ready: first solve the lines marked problem"
        lines += ["", f"{self.cluster} is {verdict} (problems: {count['problem']}, warnings: {count['warning']})"]
        return "\n".join(lines)


def doctor(
    cluster: str = "local",
    *,
    folders: Sequence[str] = ("runs", "nsd.zarr", LOG_FOLDER),
    wait_s: float = 600.0,
    times: PoolTimes = POOL_TIMES,
) -> Examination:
    """Start one worker of each pool, examine its surroundings, and compare them with this machine.

    Parameters
    ----------
    cluster : str
        As for :func:`~nsdflow.cluster.connect.connect`.
    folders : sequence of str
        Folders that should be closed to other users; missing ones are skipped.
    wait_s : float
        Seconds to wait for a worker of each pool; queues can be long.
    times : PoolTimes, optional
        As for :func:`~nsdflow.cluster.connect.connect`.

    Returns
    -------
    Examination
        All findings, job scripts and links.

    Raises
    ------
    PlanError, ConfigError
        Nothing can be examined: the batch system is not installed here, or its section of ``jobqueue.yaml`` has
        mistakes.
    """
    scripts = job_scripts(cluster, workers=1, gpus=None)
    findings = list(_closed(folders))
    with connect(cluster, times=times) as client:
        links = dashboard_of(client)
        findings.append(_network(client))
        for pool in scripts or (("cpu", "gpu") if visible_gpus() else ("cpu",)):
            findings += _examine(client, pool, wait_s)
    return Examination(cluster, tuple(findings), scripts, links)


def _closed(folders: Sequence[str]) -> Iterator[Finding]:
    """Whether other users may read or change runs, stores and logs, existing or future ones in this folder."""
    for folder in folders:
        if not Path(folder).exists():
            continue
        may = open_to_others(folder)
        if may:
            state: Literal["warning", "problem"] = "problem" if may == "write" else "warning"
            yield Finding(
                "driver", "privacy", state, f"every user can {may} {folder}; close it with: chmod o-rwx {folder}"
            )
        else:
            yield Finding("driver", "privacy", "ok", f"{folder} is closed to other users")
    if not all(Path(folder).exists() for folder in folders) and open_to_others(Path.cwd()) and _makes_readable():
        text = "every user can read new files in this folder; first run: umask 007, or: chmod o-rwx ."
        yield Finding("driver", "privacy", "warning", text)


def _makes_readable() -> bool:
    """Whether every user can read new files."""
    with TemporaryDirectory() as folder:
        trial = Path(folder) / "trial"
        trial.touch()
        return bool(trial.stat().st_mode & 0o004)


def _network(client: Client) -> Finding:
    """Examine how workers reach the scheduler, and whether other users could."""
    address = str(client.scheduler_info(n_workers=1)["address"])
    here = f" ({interface_of(address)})" if client.cluster is not None and "inproc" not in address else ""
    if address.startswith("tls://"):
        text = f"workers reach the scheduler at {address}{here}, encrypted; only holders of its key can connect"
        return Finding("driver", "network", "ok", text)
    if address.startswith("inproc://") or "://127.0.0.1:" in address:
        return Finding("driver", "network", "ok", f"the scheduler at {address} is reached from this machine only")
    text = f"the scheduler at {address} is not encrypted: anyone who reaches it can run code as you"
    return Finding("driver", "network", "warning", text)


def _examine(client: Client, pool: str, wait_s: float) -> Iterator[Finding]:
    """Findings of one worker of a pool."""
    token = f".nsdflow-doctor-{secrets.token_hex(4)}"
    folder = Path.cwd()
    (folder / token).touch()
    started = time.monotonic()
    try:
        seen = _run_probe(client, pool, str(folder), token, wait_s)
    except RunError as error:
        yield Finding(pool, "start", "problem", str(error))
        return
    finally:
        (folder / token).unlink()
    took = format_duration(time.monotonic() - started)
    yield Finding(pool, "start", "ok", f"a worker on {seen['host']} answered after {took} (m:ss)")
    yield _same_environment(pool, seen)
    yield _shared(pool, seen, folder)
    yield _scratch(pool, seen)
    if pool == "gpu" or seen["gpus"]:
        yield _gpu(pool, seen)
    limit = format_bytes(seen["memory_limit"]) if seen["memory_limit"] else "no limit"
    yield Finding(pool, "network", "ok", f"the worker is at {seen['address']} ({seen['interface']})")
    yield Finding(pool, "size", "ok", f"{seen['threads']} thread(s) and {limit} of memory per worker")
    if seen["seconds_left"] is not None:
        left = format_duration(seen["seconds_left"])
        text = f"a training leaves its job in {left} (m:ss), before the walltime, and continues in the next"
        yield Finding(pool, "walltime", "ok", text)


def _run_probe(client: Client, pool: str, folder: str, token: str, wait_s: float) -> dict[str, Any]:
    """Run :func:`~nsdflow.cluster.doctor.probe.probe` on a pool, waiting for its worker."""
    feed = Feed(client)
    ends = time.monotonic() + wait_s
    submitted = False
    try:
        while time.monotonic() < ends:
            if not submitted and feed.room(pool) > 0:
                feed.submit(pool, probe, folder, token, key=f"probe-{token}")
                submitted = True
            for future in feed.done({pool: int(not submitted)}):
                answer: dict[str, Any] = future.result()
                return answer
    finally:
        feed.close()
    reported = client.cluster.last_answer(pool) if isinstance(client.cluster, JobPools) else ""
    reason = f"; the batch system reports {reported}" if reported else ""
    raise RunError(f"no worker within {format_duration(wait_s)}{reason}")


def _same_environment(pool: str, seen: Mapping[str, Any]) -> Finding:
    here, there = environment(), seen["environment"]
    differ = [f"{name} {here[name]} here, {there[name]} there" for name in here if here[name] != there[name]]
    if differ:
        text = f"{'; '.join(differ)}; use one environment on a file system that all nodes see"
        return Finding(pool, "environment", "problem", text)
    return Finding(pool, "environment", "ok", f"the same {len(here)} versions as here, {seen['executable']}")


def _shared(pool: str, seen: Mapping[str, Any], folder: Path) -> Finding:
    if seen["shared"]:
        return Finding(pool, "files", "ok", f"the worker sees this folder, {folder}")
    text = f"the worker does not see {folder}; put store and runs where all nodes see them, or in an object store"
    return Finding(pool, "files", "problem", text)


def _scratch(pool: str, seen: Mapping[str, Any]) -> Finding:
    free, files = seen["scratch_free"], seen["scratch_files"]
    text = f"{seen['scratch']} has room for {format_bytes(free)} and {files:,} files"
    if free < SCRATCH_BYTES or files < SCRATCH_FILES:
        return Finding(pool, "scratch", "warning", f"{text}; set local-directory in jobqueue.yaml to a larger disk")
    return Finding(pool, "scratch", "ok", text)


def _gpu(pool: str, seen: Mapping[str, Any]) -> Finding:
    gpus = [f"{gpu['name']} ({format_bytes(gpu['memory'])})" for gpu in seen["gpus"]]
    visible = f"CUDA_VISIBLE_DEVICES={seen['visible']}"
    if len(gpus) == 1:
        return Finding(pool, "GPU", "ok", f"torch sees {gpus[0]}, {visible}")
    if not gpus:
        text = f"torch sees no GPU, {visible}; ask for one in job-extra-directives, and check torch.version.cuda"
        return Finding(pool, "GPU", "problem", text)
    text = f"torch sees {len(gpus)} GPUs, {visible}; trainings would share the first; ask for one GPU per job"
    return Finding(pool, "GPU", "problem", text)
