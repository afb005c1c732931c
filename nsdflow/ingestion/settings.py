"""Options of an ingestion, in one record: what is planned, kept in the store, and compared on resuming."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Final

from nsdflow.config.storage import Layout
from nsdflow.errors import ConfigError, one_of
from nsdflow.ingestion.image_choices import IMAGE_CHOICES
from nsdflow.names import DEFAULT_BETAS, DEFAULT_SPACE, parse_sessions, parse_subjects
from nsdflow.nsd.experiments import parse_experiments
from nsdflow.nsd.layout import BETAS_IN_SPACE, is_surface
from nsdflow.nsd.voxels.masks import default_voxel_set

__all__ = ["GROWING", "IngestSettings", "differences", "settings_of"]

#: Settings that may differ between a finished store and an ingestion that adds to it.
GROWING: Final = ("subjects", "sessions")


@dataclass(frozen=True)
class IngestSettings:
    """Options of an ingestion. Tasks hold this record, the store keeps it, and resuming compares every field of it."""

    subjects: tuple[str, ...] | None = None
    """Users write ``"1,2"``, ``[1, 2]`` or names. By default all subjects of the source."""
    sessions: tuple[int, ...] | None = None
    """Users write ``"1-37"`` or numbers, the same for all subjects. By default all that can be read."""
    betas: str = DEFAULT_BETAS
    """Version of the betas; in MNI space betas_fithrf by default."""
    space: str = DEFAULT_SPACE
    """Space of the betas."""
    voxels: str = "evc"
    """Voxel set: evc, visual, nsdgeneral, tight, inflated, brain or an atlas. By default evc, on fsaverage visual, in
    MNI brain."""
    image_size: int = 227
    """Pixels per side to which the images are resized."""
    images: str = "shown"
    """Key of :data:`~nsdflow.ingestion.image_choices.IMAGE_CHOICES`."""
    experiments: tuple[str, ...] = ()
    """Sister experiments; users write ``"synthetic,imagery"`` or a sequence."""
    layout: Layout = field(default_factory=Layout)
    """Chunks, shards, codec and file budget."""

    @property
    def with_images(self) -> bool:
        """Whether the store gets images."""
        return IMAGE_CHOICES[self.images] is not None

    @classmethod
    def of(cls, **options: Any) -> IngestSettings:
        """Checked settings from options as users write them.

        Raises
        ------
        ConfigError
            A subject, session or size makes no sense, or an option does not exist.
        SelectionError
            No such space or choice of images.
        """
        known = [item.name for item in fields(cls)]
        for name in options:
            if name not in known:
                raise one_of("option of ingest", name, known)
        given = {name: value for name, value in options.items() if value is not None}
        space = given.setdefault("space", DEFAULT_SPACE)
        is_surface(space)  # an unknown space is an error
        given.setdefault("voxels", default_voxel_set(space))
        given.setdefault("betas", BETAS_IN_SPACE.get(space, (DEFAULT_BETAS,))[0])
        if "subjects" in given:
            given["subjects"] = parse_subjects(given["subjects"])
        if "sessions" in given:
            given["sessions"] = parse_sessions(given["sessions"])
        if "experiments" in given:
            given["experiments"] = parse_experiments(given["experiments"])
        if given.get("images", "shown") not in IMAGE_CHOICES:
            raise one_of("choice of images", given["images"], IMAGE_CHOICES)
        size = given.get("image_size", 227)
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ConfigError("ingest", [f"image_size is {size!r}; write a number of pixels, such as 227"])
        return cls(**given)

    def with_layout_of(self, manifest: Mapping[str, Any]) -> IngestSettings:
        """Settings with the layout of a published store wherever the caller gave none; defaults may have changed."""
        given = {name: getattr(self.layout, name) for name in self.layout.model_fields_set}
        stated = {name: value for name, value in settings_of(manifest)["layout"].items() if name in Layout.model_fields}
        return replace(self, layout=Layout(**{**stated, **given}))

    def record(self) -> dict[str, Any]:
        """All settings as JSON values, for the manifest."""
        return {**asdict(self), "layout": self.layout.model_dump(mode="json")}


def settings_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Source and settings that a manifest states, to be compared; also of stores of version 0.1.0.

    A manifest of an earlier version lacks newer settings, which then have their defaults.
    """
    if "settings" in manifest:
        stated = dict(manifest["settings"])
    else:
        images = manifest.get("images", {})
        stated = {name: manifest.get(name) for name in ("space", "betas", "voxels", "layout")}
        stated |= {"images": images.get("which"), "image_size": images.get("size")}
    defaults = json.loads(json.dumps(IngestSettings().record()))
    stated["layout"] = {**defaults["layout"], **(stated.get("layout") or {})}
    return {"schema": manifest.get("schema"), "source": manifest.get("source"), **defaults, **stated}


def differences(before: Mapping[str, Any], now: Mapping[str, Any], ignore: tuple[str, ...] = ()) -> dict[str, str]:
    """Settings that differ, with both values as a phrase."""
    names = [name for name in (*now, *(before.keys() - now.keys())) if name not in ignore]
    return {name: _phrase(before.get(name), now.get(name)) for name in names if before.get(name) != now.get(name)}


def _phrase(before: Any, now: Any) -> str:
    """Both values, of a mapping only the entries that differ."""
    if not isinstance(before, Mapping) or not isinstance(now, Mapping):
        return f"{_short(before)} before, {_short(now)} now"
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return ", ".join(f"{name}: {_short(before.get(name))} before, {_short(now.get(name))} now" for name in names)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
