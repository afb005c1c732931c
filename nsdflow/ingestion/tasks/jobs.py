"""Records that the tasks of an ingestion take: paths, names and numbers, frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nsdflow.ingestion.settings import IngestSettings
from nsdflow.io.paths import is_local
from nsdflow.nsd.experiments import EXPERIMENTS
from nsdflow.nsd.source import Source
from nsdflow.store.schema import STIMULI_GROUP
from nsdflow.store.shard_sizes import Cut

__all__ = [
    "AnnotationJob",
    "ExperimentJob",
    "ImageJob",
    "ImageShardJob",
    "SessionJob",
    "SubjectJob",
    "TableJob",
    "VerifyJob",
]

#: Shards of a session that are put into an object store concurrently: one is sent while another is computed.
UPLOADS_AT_ONCE = 2


@dataclass(frozen=True)
class SubjectJob:
    """One subject's part of an ingestion."""

    source: Source
    built: str
    """Root of the store while it is being built."""
    folder: str
    """Workspace, for intermediate files."""
    subject: str
    settings: IngestSettings
    """Options of the ingestion."""
    voxel_count: int
    sessions: tuple[int, ...]
    """All sessions of the store, ascending."""
    trials: int
    """Trials per session."""
    shape: tuple[int, ...]
    affine: tuple[float, ...] | None
    """Row by row."""
    dtype: str
    cut: Cut
    experiment: str = ""
    """A sister experiment, whose only session is 1; empty for the main experiment."""

    @property
    def name(self) -> str:
        """The subject, and the sister experiment if it is one: ``subj01-synthetic``."""
        return f"{self.subject}-{self.experiment}" if self.experiment else self.subject

    @property
    def space(self) -> str:
        """Space of the betas."""
        return self.settings.space

    @property
    def betas(self) -> str:
        """Version of the betas: the folder that holds them."""
        version = self.settings.betas
        return EXPERIMENTS[self.experiment].betas(version) if self.experiment else version

    @property
    def group(self) -> str:
        """Path or URL of the group of the subject, or of its sister experiment."""
        return "/".join([self.built, self.subject, *([self.experiment] if self.experiment else [])])

    @property
    def shards_at_once(self) -> int:
        """Shards of a session that are written at once; local files one by one, since a task takes one core."""
        return 1 if is_local(self.built) else UPLOADS_AT_ONCE

    def statistics_url(self, session: int) -> str:
        """Folder of the statistics of single sessions until those of all sessions exist."""
        return f"{self.folder}/statistics/{self.name}-session{session:02d}.npz"

    def in_files(self, session: int) -> int | str:
        """Name of the session in NSD's file names."""
        return EXPERIMENTS[self.experiment].file_name if self.experiment else session


@dataclass(frozen=True)
class TableJob:
    """The group of a subject with its coordinates."""

    subject: SubjectJob
    atlases: tuple[str, ...]
    maps: tuple[str, ...]
    stamps: Mapping[str, str]
    """Stamps of the files that coordinates come from, when the ingestion was planned."""


@dataclass(frozen=True)
class ExperimentJob:
    """The group of a sister experiment with its coordinates, images and ceilings."""

    subject: SubjectJob
    image_size: int
    """Pixels per side of its images."""
    image_cut: Cut | None
    """None without images."""
    stamps: Mapping[str, str]
    """Stamps of the files that trials and images come from, when the ingestion was planned."""


@dataclass(frozen=True)
class SessionJob:
    """The betas of one session."""

    subject: SubjectJob
    session: int
    format: str
    """Ending of the files that are read."""
    stamps: tuple[str, ...]
    """Stamps of these files when the ingestion was planned."""
    before: str | None = None
    """A published store that has the session already; its betas are copied instead of read from NSD."""


@dataclass(frozen=True)
class VerifyJob:
    """The check of a finished subject."""

    subject: SubjectJob
    formats: Mapping[int, str]
    """Ending of the files of each session that was read from NSD."""


@dataclass(frozen=True)
class ImageJob:
    """The images of an ingestion."""

    source: Source
    built: str
    settings: IngestSettings
    """Options of the ingestion."""
    sessions: Mapping[str, tuple[int, ...]]
    """Sessions by subject."""
    count: int
    cut: Cut
    before: str | None = None
    """A published store that has some of the images already."""

    @property
    def group(self) -> str:
        """Path or URL of the images' group."""
        return f"{self.built}/{STIMULI_GROUP}"


@dataclass(frozen=True)
class ImageShardJob:
    """One shard of the images."""

    images: ImageJob
    shard: int


@dataclass(frozen=True)
class AnnotationJob:
    """The annotations of the images of all trials."""

    source: Source
    """NSD, for the crop of each image."""
    built: str
    """Root of the store while it is being built, or of a finished one."""
    subjects: tuple[str, ...]
    folder: Source
    """COCO's annotation files."""
    files: Mapping[str, int]
    """Their bytes by name, when the ingestion was planned."""
