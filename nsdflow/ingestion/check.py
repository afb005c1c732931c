"""``nsdflow check``: what of NSD is there, for the library's own needs or those of a pipeline, as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dask.utils import format_bytes

from nsdflow.names import DEFAULT_BETAS, DEFAULT_SPACE
from nsdflow.nsd.inventory import Inventory, SubjectInventory, list_betas, take_inventory
from nsdflow.nsd.source import open_source

__all__ = ["describe_source"]


def describe_source(
    source: str,
    *,
    subjects: Sequence[str] | None = None,
    needs: Iterable[str] = (),
    space: str | None = None,
    betas: str | None = None,
) -> str:
    """A page on a source: subjects, sessions, shapes and sizes, then what is missing.

    Parameters
    ----------
    source
        Folder or URL of NSD.
    subjects
        Names of the subjects to check; all by default.
    needs
        Lines to append, one per input of a pipeline beside NSD.

    Raises
    ------
    MissingDataError
        If there are no betas at all.
    SelectionError
        If the space, the version of the betas or a subject that the pipeline asks for is not there.
    """
    origin = open_source(source)
    inventory = take_inventory(origin, space=space or DEFAULT_SPACE, betas=betas or DEFAULT_BETAS, subjects=subjects)
    first = inventory.subjects[0]
    lines = [f"{source}: {first.betas} in {first.space}"]
    lines += [_subject_line(subject) for subject in inventory.subjects]
    lines += [_images_line(inventory), f"in all {format_bytes(inventory.bytes)}"]
    others = [name for name in list_betas(origin, first.subject) if name != f"{first.space}/{first.betas}"]
    if others:
        lines.append(f"other betas of {first.subject}, for --space and --betas: {', '.join(others)}")
    lines += [f"missing: {path}" for path in inventory.missing]
    if not inventory.missing:
        lines.append("complete: everything that ingestion reads is there")
    lines += needs
    return "\n".join(lines)


def _subject_line(subject: SubjectInventory) -> str:
    shape = " x ".join(str(size) for size in subject.shape)
    held_out = f", {len(subject.held_out)} sessions not public" if subject.held_out else ""
    return (
        f"  {subject.subject}: {len(subject.sessions)} sessions x {subject.trials} trials{held_out}, "
        f"{shape} voxels, {subject.format}, {format_bytes(subject.bytes)}; atlases: {', '.join(subject.atlases)}"
    )


def _images_line(inventory: Inventory) -> str:
    if not inventory.image_count:
        return "  images: none"
    y, x, _ = inventory.image_shape
    return f"  images: {inventory.image_count:,} of {x} x {y} pixels"
