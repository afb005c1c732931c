"""What the tasks of an ingestion do. Arguments are paths, names and numbers; every task opens what it reads."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr
import zarr

from nsdflow.errors import SourceError, StoreError
from nsdflow.ingestion.stamps import coordinate_stamps, session_listing, session_stamps
from nsdflow.io.flush import recorded
from nsdflow.io.paths import is_local
from nsdflow.io.read import read_bytes
from nsdflow.io.write import atomic_file
from nsdflow.names import BETAS_SCALE, atlas_coordinate
from nsdflow.nsd import layout as paths
from nsdflow.nsd.betas import (
    is_saturated,
    iter_session,
    read_session,
    read_session_header,
    session_statistics,
    stream_session,
)
from nsdflow.nsd.design import read_design, read_stimulus_info, trial_table
from nsdflow.nsd.images import read_images, resize_images
from nsdflow.nsd.masks import voxel_set
from nsdflow.nsd.rois import joined_roi, list_atlases, read_atlas
from nsdflow.nsd.source import Source
from nsdflow.nsd.volumes import read_ncsnr, read_valid
from nsdflow.store.build import STATISTICS, create_stimuli, create_subject
from nsdflow.store.chunks import read_region
from nsdflow.store.schema import STIMULI, Cut
from nsdflow.store.shards import open_sharded, write_region, write_shard
from nsdflow.store.verify import check_whole
from nsdflow.store.voxels import voxel_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nsdflow.nsd.betas import Block
    from nsdflow.store.shards import ShardedArray

__all__ = [
    "ImageJob",
    "SubjectJob",
    "create_images",
    "create_subject_group",
    "gather_statistics",
    "shown_images",
    "verify_images",
    "verify_subject",
    "write_images",
    "write_session",
]

#: What verification reads a second time: sessions of a subject, trials of each, images.
SAMPLED_SESSIONS: Final = 2
SAMPLED_TRIALS: Final = 3
SAMPLED_IMAGES: Final = 3
#: Shards of a session that are put into an object store at once: while one is on its way, another is measured.
UPLOADS_AT_ONCE: Final = 2
#: Images that are read from the brick at once.
IMAGES_AT_ONCE: Final = 64


@dataclass(frozen=True)
class SubjectJob:
    """One subject's part of an ingestion, as JSON values."""

    source: Mapping[str, Any]
    built: str
    """Root of the store while it is being built."""
    folder: str
    """Of the workspace, for intermediate files."""
    subject: str
    space: str
    betas: str
    voxels: str
    """Name of the voxel set."""
    voxel_count: int
    sessions: Sequence[int]
    trials: int
    """Of a session."""
    shape: Sequence[int]
    affine: Sequence[float] | None
    """Row by row."""
    dtype: str
    cut: Mapping[str, Any]

    @property
    def nsd(self) -> Source:
        """Where NSD is."""
        return Source(**self.source)

    @property
    def group(self) -> str:
        """Path or URL of the subject's group."""
        return f"{self.built}/{self.subject}"

    @property
    def shards_at_once(self) -> int:
        """Shards of a session that are written at once; files one by one, for a task is to take one core."""
        return 1 if is_local(self.built) else UPLOADS_AT_ONCE

    def statistics_url(self, session: int) -> str:
        """Where the statistics of a session wait until those of all sessions are there."""
        return f"{self.folder}/statistics/{self.subject}-session{session:02d}.npz"


@dataclass(frozen=True)
class ImageJob:
    """The images of an ingestion, as JSON values."""

    source: Mapping[str, Any]
    built: str
    sessions: Mapping[str, Sequence[int]] | None
    """Sessions by subject whose images to take; None for all images."""
    count: int
    size: int
    cut: Mapping[str, Any]

    @property
    def nsd(self) -> Source:
        """Where NSD is."""
        return Source(**self.source)

    @property
    def group(self) -> str:
        """Path or URL of the images' group."""
        return f"{self.built}/{STIMULI}"


def create_subject_group(job: Mapping[str, Any], stamps: Mapping[str, str]) -> dict[str, Any]:
    """Create a subject's group with the coordinates of its trials and voxels.

    ``stamps`` are those of the files they come from when the ingestion was planned: with others it is another task.
    """
    here = SubjectJob(**job)
    source = here.nsd
    if (now := coordinate_stamps(source, here.subject, here.space, here.betas)) != dict(stamps):
        changed = sorted(file for file in now.keys() | stamps.keys() if now.get(file) != stamps.get(file))
        raise SourceError(
            f"{source.join(changed[0])}: changed since the ingestion was planned; run the same command again"
        )
    voxels = _read_voxels(source, here)
    trials = trial_table(source, here.subject, here.sessions)
    if voxels.sizes["voxel"] != here.voxel_count:
        raise SourceError(
            f"{here.subject}: {voxels.sizes['voxel']} voxels in {here.voxels} where {here.voxel_count} were planned; "
            "the source changed, plan again"
        )
    create_subject(
        here.built,
        here.subject,
        trials=trials,
        voxels=voxels,
        sessions=len(here.sessions),
        dtype=here.dtype,
        cut=Cut.of(here.cut),
        attributes={
            "subject": here.subject,
            "space": here.space,
            "betas_version": here.betas,
            "voxel_set": here.voxels,
            "sessions": list(here.sessions),
            "shape": list(here.shape),
            "source": source.url,
        }
        | ({"affine": list(here.affine)} if here.affine else {}),
    )
    return {"trials": trials.sizes["trial"], "voxels": here.voxel_count}


def _read_voxels(source: Source, job: SubjectJob) -> xr.Dataset:
    """The coordinates of the voxels of a set, in the order of the store."""
    subject, space, shape = job.subject, job.space, job.shape
    mask = voxel_set(source, subject, job.voxels, space=space, shape=shape)
    names = list_atlases(source, subject, space)
    atlases = {name: read_atlas(source, subject, name, space, shape=shape) for name in names}
    if atlases.keys().isdisjoint(("prf-visualrois", "Kastner2015")):
        roi = np.full(mask.shape, -1, np.int16)  # nothing says what is cortex
    else:
        roi = joined_roi(source, subject, space, shape=shape).values
    has_ncsnr = all(source.exists(path) for path in paths.statistic_paths(subject, space, job.betas, "ncsnr"))
    ncsnr = read_ncsnr(source, subject, space=space, betas=job.betas, shape=shape).values if has_ncsnr else None
    return voxel_table(
        np.flatnonzero(mask),
        tuple(shape),
        roi=roi,
        atlases={atlas_coordinate(name): (atlas.values, atlas.labels) for name, atlas in atlases.items()},
        ncsnr=ncsnr,
        affine=job.affine,
    )


def write_session(job: Mapping[str, Any], session: int, stamps: Sequence[str]) -> dict[str, Any]:
    """Stream a session's betas through the mask into its own row of shards, with statistics in the same pass.

    Parameters
    ----------
    job : mapping
        Fields of :class:`SubjectJob`.
    session : int
        Its number.
    stamps : sequence of str
        Of the files when the ingestion was planned; other ones now are an error.
    """
    here = SubjectJob(**job)
    source = here.nsd
    listing = session_listing(source, here.subject, here.space, here.betas)
    if (now := session_stamps(listing, session, here.space)) != list(stamps):
        raise SourceError(
            f"{here.subject} session {session}: its files changed since the ingestion was planned "
            f"({', '.join(stamps)} before, {', '.join(now)} now); run the same command again"
        )
    flat = _coordinate(here.group, "flat_index")
    array = open_sharded(f"{here.group}/betas")
    header = read_session_header(
        source, here.subject, session, space=here.space, betas=here.betas, expected=(here.shape, here.trials)
    )
    chunks = _by_chunk(iter_session(source, header, flat), here.trials, len(flat), array)
    row = list(here.sessions).index(session)
    found = {name: np.empty(len(flat), statistic.dtype) for name, statistic in STATISTICS.items()}

    def write(column: int) -> None:
        write_shard(array, (row, column), _measured(chunks, array, column, found))

    with ThreadPoolExecutor(here.shards_at_once) as pool:
        list(pool.map(recorded(write), range(array.shards[1])))
    found["valid"] = _valid(source, here, session, flat, found["beta_mean"], found["beta_std"])
    buffer = io.BytesIO()
    np.savez(buffer, **found)  # type: ignore[arg-type]
    with atomic_file(here.statistics_url(session)) as file:
        file.write(buffer.getbuffer())
    return {"trials": here.trials, "valid": int(found["valid"].sum()), "saturated": int(found["saturated"].sum())}


def _by_chunk(blocks: Iterator[Block], trials: int, voxels: int, array: ShardedArray) -> NDArray[Any]:
    """A session as (chunk, trial, voxel of the chunk): each chunk one piece of memory, ready to be written."""
    width = array.chunk[1]
    chunks = np.empty((-(-voxels // width), trials, width), array.dtype)
    number, place = np.divmod(np.arange(voxels), width)
    whole = voxels // width
    for block in blocks:
        if isinstance(block.trials, int) and isinstance(block.columns, slice):  # a whole trial, in two large moves
            chunks[:whole, block.trials] = block.values[: whole * width].reshape(whole, width)
            chunks[whole:, block.trials, : voxels - whole * width] = block.values[whole * width :]
        else:
            chunks[number[block.columns], block.trials, place[block.columns]] = block.values.T
    return chunks


def _measured(
    chunks: NDArray[Any], array: ShardedArray, column: int, found: Mapping[str, NDArray[Any]]
) -> Iterator[NDArray[Any]]:
    """The chunks of a shard; each one's statistics are filled in while it is in the cache."""
    scale = BETAS_SCALE if array.dtype.kind == "i" else 1.0
    width, many, voxels = array.chunk[1], array.chunks_per_shard[1], len(found["beta_mean"])
    for number, chunk in enumerate(chunks[column * many : (column + 1) * many], start=column * many):
        here = slice(number * width, min((number + 1) * width, voxels))
        inside = chunk[:, : here.stop - here.start]
        mean, std = session_statistics(inside, scale)
        found["beta_mean"][here], found["beta_std"][here] = mean, std
        found["saturated"][here] = is_saturated(inside, mean, std, scale)
        yield inside


def _valid(
    source: Source,
    job: SubjectJob,
    session: int,
    flat: NDArray[np.int64],
    mean: NDArray[np.float32],
    std: NDArray[np.float32],
) -> NDArray[np.bool_]:
    """Voxels with data in every volume: from the published file, or those neither constant zero nor NaN."""
    if not paths.is_surface(job.space) and source.exists(paths.valid_path(job.subject, session, job.space)):
        volume = read_valid(source, job.subject, session, space=job.space, shape=job.shape).values
        return np.asarray(volume.ravel()[flat])
    valid: NDArray[np.bool_] = np.isfinite(mean) & ((mean != 0) | (std != 0))
    return valid


def gather_statistics(job: Mapping[str, Any]) -> dict[str, Any]:
    """Write the statistics of all sessions of a subject, one file each."""
    here = SubjectJob(**job)
    parts = []
    for session in here.sessions:
        with np.load(io.BytesIO(read_bytes(here.statistics_url(session)))) as part:
            parts.append({name: part[name] for name in STATISTICS})
    for name in STATISTICS:
        write_region(open_sharded(f"{here.group}/{name}"), (0, 0), np.stack([part[name] for part in parts]))
    return {"sessions": len(parts)}


def verify_subject(job: Mapping[str, Any]) -> dict[str, Any]:
    """Check that nothing is missing, and hold some volumes against a second, independent read of the source."""
    here = SubjectJob(**job)
    shape = (len(here.sessions) * here.trials, here.voxel_count)
    chunks = check_whole(f"{here.group}/betas", shape)
    for name in STATISTICS:
        chunks += check_whole(f"{here.group}/{name}", (len(here.sessions), here.voxel_count))
    source, array = here.nsd, open_sharded(f"{here.group}/betas")
    flat = _coordinate(here.group, "flat_index")
    rng = np.random.default_rng(len(flat))
    rows = np.sort(rng.permutation(len(here.sessions))[:SAMPLED_SESSIONS])
    for row in rows.tolist():
        trials = np.sort(rng.permutation(here.trials)[:SAMPLED_TRIALS])
        again = _read_again(source, here, here.sessions[row], trials, flat)
        stored = read_region(array, (row * here.trials + trials, None))
        if not np.array_equal(again, stored, equal_nan=again.dtype.kind == "f"):
            raise StoreError(
                f"{array.url}: session {here.sessions[row]} differs from a second read of "
                f"{source.url} in {int((again != stored).sum())} values; ingest again with --no-resume"
            )
    return {"chunks": chunks, "volumes": len(rows) * min(SAMPLED_TRIALS, here.trials)}


def _read_again(
    source: Source, job: SubjectJob, session: int, trials: NDArray[np.intp], flat: NDArray[np.int64]
) -> NDArray[Any]:
    """Some trials of a session: volume by volume where the format is one of volumes, else with the whole session."""
    which: dict[str, Any] = {"space": job.space, "betas": job.betas}
    if not read_session_header(source, job.subject, session, **which).format.startswith("nii"):
        return read_session(source, job.subject, session, flat, **which)[trials]
    volumes = islice(stream_session(source, job.subject, session, **which), int(trials[-1]) + 1)
    wanted = set(trials.tolist())
    return np.stack([volume.ravel()[flat] for number, volume in enumerate(volumes) if number in wanted])


def shown_images(source: Source, sessions: Mapping[str, Sequence[int]]) -> NDArray[np.int64]:
    """``nsd_id`` of the images that the trials of some sessions show, ascending."""
    design = read_design(source)
    shown = [design.nsd_id(subject)[np.isin(design.session, list(numbers))] for subject, numbers in sessions.items()]
    return np.unique(np.concatenate(shown))


def create_images(job: Mapping[str, Any]) -> dict[str, Any]:
    """Create the group of the images with their coordinates."""
    here = ImageJob(**job)
    source = here.nsd
    ids = np.arange(here.count) if here.sessions is None else shown_images(source, here.sessions)
    if len(ids) != here.count:
        raise SourceError(f"{len(ids)} images where {here.count} were planned; the source changed, plan again")
    table = {"nsd_id": ("image", ids), "shared": ("image", np.isin(ids, read_design(source).sharedix))}
    info = read_stimulus_info(source)
    if info is not None and "cocoId" in info:
        table["coco_id"] = ("image", info["cocoId"].to_numpy()[ids])
    attributes = {"source": source.url, "resize": "PIL bilinear, antialiased, on uint8"}
    create_stimuli(here.built, xr.Dataset(coords=table), size=here.size, cut=Cut.of(here.cut), attributes=attributes)
    return {"images": len(ids)}


def write_images(job: Mapping[str, Any], shard: int) -> dict[str, Any]:
    """Read and resize the images of one shard."""
    here = ImageJob(**job)
    array = open_sharded(f"{here.group}/images")
    ids = _coordinate(here.group, "nsd_id")[shard * array.shard[0] : (shard + 1) * array.shard[0]]
    write_shard(array, (shard, 0, 0, 0), _resized(here.nsd, ids, here.size, array.chunk[0]))
    return {"images": len(ids)}


def _resized(source: Source, ids: NDArray[np.int64], size: int, chunk: int) -> Iterator[NDArray[np.uint8]]:
    """Chunks of resized images, read some chunks at a time."""
    step = chunk * max(1, IMAGES_AT_ONCE // chunk)
    for first in range(0, len(ids), step):
        images = resize_images(read_images(source, ids[first : first + step]), size)
        yield from (images[start : start + chunk] for start in range(0, len(images), chunk))


def verify_images(job: Mapping[str, Any]) -> dict[str, Any]:
    """Check that no image is missing, and hold some against a second read."""
    here = ImageJob(**job)
    chunks = check_whole(f"{here.group}/images", (here.count, 3, here.size, here.size))
    rows = np.sort(np.random.default_rng(here.count).permutation(here.count)[:SAMPLED_IMAGES])
    again = resize_images(read_images(here.nsd, _coordinate(here.group, "nsd_id")[rows]), here.size)
    if not np.array_equal(again, read_region(open_sharded(f"{here.group}/images"), (rows, None, None, None))):
        raise StoreError(f"{here.group}/images: differs from a second read of {here.nsd.url}; ingest again")
    return {"chunks": chunks, "images": len(rows)}


def _coordinate(group: str, name: str) -> NDArray[Any]:
    return np.asarray(zarr.open_array(f"{group}/{name}", mode="r", zarr_format=3)[:])
