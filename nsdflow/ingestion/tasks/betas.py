"""Tasks: the betas of a session, the statistics of a subject's sessions, and the check of a finished subject."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from nsdflow.engine.plan import task
from nsdflow.errors import SourceError, StoreError
from nsdflow.ingestion.stamps import session_listing, session_stamps
from nsdflow.ingestion.tasks.jobs import SessionJob, SubjectJob, VerifyJob
from nsdflow.io.flush import recorded
from nsdflow.io.folders import share_files
from nsdflow.io.paths import public
from nsdflow.io.read import read_bytes, read_metadata
from nsdflow.io.write import atomic_file
from nsdflow.names import BETAS_SCALE
from nsdflow.nsd import layout as paths
from nsdflow.nsd.betas import (
    BetaBlock,
    is_saturated,
    iter_session,
    read_session,
    read_session_header,
    session_statistics,
    statistics_scratch,
    stream_session,
)
from nsdflow.nsd.voxels.volumes import read_valid
from nsdflow.store.chunks import read_region
from nsdflow.store.coordinates import read_coordinate
from nsdflow.store.schema import STATISTICS
from nsdflow.store.shard_format import ShardedArray, open_sharded, write_region, write_shard
from nsdflow.store.verify import check_whole

__all__ = ["SAMPLED_SESSIONS", "copy_session", "gather_statistics", "verify_subject", "write_session"]

#: Sessions of a subject, and trials of each, that verification reads a second time.
SAMPLED_SESSIONS: Final = 2
SAMPLED_TRIALS: Final = 3


@task("ingest.session", version=1)
def write_session(job: SessionJob) -> dict[str, Any]:
    """Stream a session's betas through the mask into its own row of shards, with statistics in the same pass.

    Raises
    ------
    SourceError
        A file changed since the ingestion was planned, or is broken.
    """
    subject, source = job.subject, job.subject.source
    listing = session_listing(source, subject.subject, subject.space, subject.betas)
    called = subject.in_files(job.session)
    if (now := session_stamps(listing, called, subject.space, job.format)) != job.stamps:
        raise SourceError(
            f"{subject.name} session {job.session}: its files changed since the ingestion was planned "
            f"({', '.join(job.stamps)} before, {', '.join(now)} now); run the same command again"
        )
    flat = read_coordinate(subject.group, "flat_index")
    array = open_sharded(f"{subject.group}/betas")
    header = read_session_header(
        source,
        subject.subject,
        called,
        space=subject.space,
        betas=subject.betas,
        expected=(subject.shape, subject.trials),
        format=job.format,
    )
    chunks = _by_chunk(iter_session(source, header, flat), subject.trials, len(flat), array)
    found = _write_row(array, subject, job.session, chunks, len(flat))
    found["valid"] = _valid(job, flat, found["beta_mean"], found["beta_std"])
    _keep_statistics(subject, job.session, found)
    return {"trials": subject.trials, "valid": int(found["valid"].sum()), "saturated": int(found["saturated"].sum())}


@task("ingest.copy_session", version=1)
def copy_session(job: SessionJob) -> dict[str, Any]:
    """Copy a session's betas and statistics from the published store to which this ingestion adds.

    Raises
    ------
    StoreError
        The published store holds other voxels.
    """
    subject = job.subject
    before = f"{job.before}/{subject.subject}"
    flat = read_coordinate(subject.group, "flat_index")
    if not np.array_equal(read_coordinate(before, "flat_index"), flat):
        raise StoreError(
            f"{before}: other voxels than its source has now; choose another store, and ingest everything into it"
        )
    old, array = open_sharded(f"{before}/betas"), open_sharded(f"{subject.group}/betas")
    row = list(subject.sessions).index(job.session)
    trials = np.arange(row * subject.trials, (row + 1) * subject.trials)
    width = array.chunk[1]

    def chunk(number: int) -> NDArray[Any]:
        stop = min((number + 1) * width, len(flat))
        return np.asarray(read_region(old, (trials, np.arange(number * width, stop))))

    if _same_files(before, subject.group):
        share_files(f"{before}/betas/c/{row}", f"{subject.group}/betas/c/{row}")
    else:
        many, total = array.chunks_per_shard[1], -(-len(flat) // width)
        for column in range(array.shards[1]):
            numbers = range(column * many, min((column + 1) * many, total))
            write_shard(array, (row, column), (chunk(number) for number in numbers))
    found = {
        name: np.asarray(read_region(open_sharded(f"{before}/{name}"), (np.array([row]), None)))[0]
        for name in STATISTICS
    }
    _keep_statistics(subject, job.session, found)
    return {"trials": subject.trials, "valid": int(found["valid"].sum()), "saturated": int(found["saturated"].sum())}


@task("ingest.statistics", version=1)
def gather_statistics(job: SubjectJob) -> dict[str, Any]:
    """Write the statistics of all sessions of a subject, one file each."""
    parts = []
    for session in job.sessions:
        with np.load(io.BytesIO(read_bytes(job.statistics_url(session)))) as part:
            parts.append({name: part[name] for name in STATISTICS})
    for name in STATISTICS:
        write_region(open_sharded(f"{job.group}/{name}"), (0, 0), np.stack([part[name] for part in parts]))
    return {"sessions": len(parts)}


@task("ingest.verify_subject", version=1)
def verify_subject(job: VerifyJob) -> dict[str, Any]:
    """Check that no chunk is missing, and compare some volumes with a second, independent read of the source.

    Raises
    ------
    StoreError
        A chunk is missing, or values differ.
    """
    subject = job.subject
    shape = (len(subject.sessions) * subject.trials, subject.voxel_count)
    chunks = check_whole(f"{subject.group}/betas", shape)
    for name in STATISTICS:
        chunks += check_whole(f"{subject.group}/{name}", (len(subject.sessions), subject.voxel_count))
    array = open_sharded(f"{subject.group}/betas")
    flat = read_coordinate(subject.group, "flat_index")
    rng = np.random.default_rng(len(flat))
    from_nsd = np.array([row for row, session in enumerate(subject.sessions) if session in job.formats], np.intp)
    rows = np.sort(rng.permutation(from_nsd)[:SAMPLED_SESSIONS])
    for row in rows.tolist():
        session = subject.sessions[row]
        trials = np.sort(rng.permutation(subject.trials)[:SAMPLED_TRIALS])
        again = _read_again(subject, session, job.formats[session], trials, flat)
        stored = read_region(array, (row * subject.trials + trials, None))
        if not np.array_equal(again, stored, equal_nan=again.dtype.kind == "f"):
            raise StoreError(
                f"{array.url}: session {session} differs from a second read of {public(subject.source.url)} in "
                f"{int((again != stored).sum())} values; ingest again with --no-resume"
            )
    return {"chunks": chunks, "volumes": len(rows) * min(SAMPLED_TRIALS, subject.trials)}


def _write_row(
    array: ShardedArray, job: SubjectJob, session: int, chunks: NDArray[Any], voxels: int
) -> dict[str, NDArray[Any]]:
    """Write the row of shards of a session; its statistics by name."""
    row = list(job.sessions).index(session)
    found = {name: np.empty(voxels, statistic.dtype) for name, statistic in STATISTICS.items()}

    def write(column: int) -> None:
        write_shard(array, (row, column), _measured(chunks, array, column, found))

    with ThreadPoolExecutor(job.shards_at_once) as pool:
        list(pool.map(recorded(write), range(array.shards[1])))
    return found


def _same_files(before: str, group: str) -> bool:
    """Whether two stores cut and encode shards in the same way, so that files can be shared."""
    one, other = (read_metadata(f"{url}/betas/zarr.json") for url in (before, group))
    return all(one[key] == other[key] for key in ("chunk_grid", "chunk_key_encoding", "codecs", "data_type"))


def _by_chunk(blocks: Iterator[BetaBlock], trials: int, voxels: int, array: ShardedArray) -> NDArray[Any]:
    """A session as (chunk, trial, voxel of the chunk): each chunk one piece of memory, ready to be written."""
    width = array.chunk[1]
    chunks = np.empty((-(-voxels // width), trials, width), array.dtype)
    number, place = np.divmod(np.arange(voxels), width)
    whole = voxels // width
    for block in blocks:
        if isinstance(block.trials, int) and isinstance(block.columns, slice):  # a whole trial, in two large copies
            chunks[:whole, block.trials] = block.values[: whole * width].reshape(whole, width)
            chunks[whole:, block.trials, : voxels - whole * width] = block.values[whole * width :]
        else:
            chunks[number[block.columns], block.trials, place[block.columns]] = block.values.T
    return chunks


def _measured(
    chunks: NDArray[Any], array: ShardedArray, column: int, found: Mapping[str, NDArray[Any]]
) -> Iterator[NDArray[Any]]:
    """The chunks of a shard; the statistics of each one are filled in while it is in the processor's cache."""
    scale = BETAS_SCALE if array.dtype.kind == "i" else 1.0
    width, many, voxels = array.chunk[1], array.chunks_per_shard[1], len(found["beta_mean"])
    scratch = statistics_scratch(chunks.shape[1:])
    for number, chunk in enumerate(chunks[column * many : (column + 1) * many], start=column * many):
        part = slice(number * width, min((number + 1) * width, voxels))
        inside = chunk[:, : part.stop - part.start]
        mean, std = session_statistics(inside, scale, scratch)
        found["beta_mean"][part], found["beta_std"][part] = mean, std
        found["saturated"][part] = is_saturated(inside, mean, std, scale)
        yield inside


def _valid(
    job: SessionJob, flat: NDArray[np.int64], mean: NDArray[np.float32], std: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Voxels with data in every volume: from the published file, or those neither constant zero nor NaN."""
    subject, called = job.subject, job.subject.in_files(job.session)
    path = None if paths.is_surface(subject.space) else paths.valid_path(subject.subject, called, subject.space)
    if path is not None and subject.source.find(path):
        volume = read_valid(subject.source, subject.subject, called, space=subject.space, shape=subject.shape).values
        return np.asarray(volume.ravel()[flat])
    valid: NDArray[np.bool_] = np.isfinite(mean) & ((mean != 0) | (std != 0))
    return valid


def _keep_statistics(job: SubjectJob, session: int, found: Mapping[str, NDArray[Any]]) -> None:
    """Keep the statistics of a session until those of all sessions exist."""
    buffer = io.BytesIO()
    np.savez(buffer, **found)  # type: ignore[arg-type]
    with atomic_file(job.statistics_url(session)) as file:
        file.write(buffer.getbuffer())


def _read_again(
    job: SubjectJob, session: int, format: str, trials: NDArray[np.intp], flat: NDArray[np.int64]
) -> NDArray[Any]:
    """Some trials of a session: volume by volume where the format is one of volumes, else with the whole session."""
    which: dict[str, Any] = {"space": job.space, "betas": job.betas, "format": format}
    called = job.in_files(session)
    if not format.startswith("nii"):
        return read_session(job.source, job.subject, called, flat, **which)[trials]
    volumes = islice(stream_session(job.source, job.subject, called, **which), int(trials[-1]) + 1)
    wanted = set(trials.tolist())
    return np.stack([volume.ravel()[flat] for number, volume in enumerate(volumes) if number in wanted])
