"""``nsdflow check``: the files of a copy of NSD, as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nsdflow.ingestion.experiments import describe_experiments
from nsdflow.io.text import format_bytes
from nsdflow.names import DEFAULT_BETAS, DEFAULT_SPACE, number_ranges
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
    """Describe a source in several lines: subjects, sessions, shapes and sizes, then files left out or missing.

    Parameters
    ----------
    source : str
        Folder or URL of NSD.
    subjects : sequence of str, optional
        Names of the subjects to check; all by default.
    needs : iterable of str
        Lines to append, one per input of a pipeline other than NSD.
    space, betas : str, optional
        Space and version of the betas; func1pt8mm and betas_fithrf_GLMdenoise_RR by default.

    Raises
    ------
    MissingDataError
        The source has no betas, or is a store.
    SelectionError
        The space, the version of the betas or a subject does not exist.
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
    lines += describe_experiments(origin, first.subject, first.space, first.betas)
    lines += [f"left out: {line}" for line in inventory.left_out]
    lines += [f"missing: {path}" for path in inventory.missing]
    if not inventory.missing and not inventory.left_out:
        lines.append("complete: everything that ingestion reads is there")
    lines += needs
    return "\n".join(lines)


def _subject_line(subject: SubjectInventory) -> str:
    shape = " x ".join(str(size) for size in subject.shape)
    held_out = f", sessions {number_ranges(subject.held_out)} cannot be read" if subject.held_out else ""
    return (
        f"  {subject.subject}: {len(subject.sessions)} sessions x {subject.trials} trials{held_out}, "
        f"{shape} voxels, {subject.format}, {format_bytes(subject.bytes)}; "
        f"atlases: {', '.join(subject.atlases) or 'none'}; {len(subject.maps)} maps"
    )


def _images_line(inventory: Inventory) -> str:
    if not inventory.image_count:
        return "  images: none"
    y, x, _ = inventory.image_shape
    return f"  images: {inventory.image_count:,} of {x} x {y} pixels"
