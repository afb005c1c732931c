"""The parity checks, and their table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from nsdflow.analysis.published import Cell, cells_text
from nsdflow.analysis.published.numbers import VOLUME_SHAPES
from nsdflow.errors import MissingDataError
from nsdflow.names import DEFAULT_SPACE, subject_number
from nsdflow.nsd.design import is_synthetic, read_design
from nsdflow.nsd.inventory import take_inventory
from nsdflow.nsd.source import Source, open_source
from nsdflow.pipelines.parity.checkpoints import checkpoint_cells
from nsdflow.pipelines.parity.counts import trial_counts, voxel_counts
from nsdflow.pipelines.parity.means import sampled_means, store_means
from nsdflow.store import open_store

__all__ = ["check_parity", "describe_parity"]


def check_parity(
    source: str | Source, *, store: str | None = None, checkpoints: Sequence[str | os.PathLike[str]] = ()
) -> tuple[Cell, ...]:
    """Compare a copy of NSD with the numbers that the notebooks print: counts, input means, correlations.

    Parameters
    ----------
    source : str or Source
        Where NSD is: a folder or an fsspec URL. Masks, ROI volumes, the design and a sample of the images are read.
    store : str, optional
        A store of it. Where it has all images of the subjects' lists (``ingest --images subjects``), input means are
        exact; and published networks predict its responses.
    checkpoints : sequence of str or path
        Published files, such as ``gnet8j_model_params.pt``.

    Returns
    -------
    tuple of Cell
        Sets whose files the source lacks are left out.

    Raises
    ------
    MissingDataError
        The source has none of the subjects of the paper, or a checkpoint does not exist.
    SelectionError
        Voxels of a checkpoint do not match those of the store.
    SourceError
        A file is not one of the published programs.
    """
    origin = source if isinstance(source, Source) else open_source(source)
    inventory = take_inventory(origin, space=DEFAULT_SPACE)
    found = {one.subject: one for one in inventory.subjects if subject_number(one.subject) <= len(VOLUME_SHAPES)}
    if not found:
        raise MissingDataError("the source has none of the subjects 1 to 8 of the paper; check the folder")
    files = [Path(path) for path in checkpoints]
    if absent := [str(path) for path in files if not path.is_file()]:
        raise MissingDataError(f"{absent[0]}: no such file; give files such as gnet8j_model_params.pt")
    design, opened = read_design(origin), None if store is None else open_store(store)
    cells = [cell for subject in found for cell in voxel_counts(origin, subject)]
    cells += [cell for one in found.values() for cell in trial_counts(design, one)]
    means = [] if opened is None or not opened.has_images else [*store_means(opened, opened.subjects)]
    if not means and inventory.image_count:
        means = [*sampled_means(origin, design, tuple(found))]
    cells += means
    for path in files:
        cells += checkpoint_cells(path, opened)
    return tuple(cells)


def describe_parity(source: str | Source, cells: tuple[Cell, ...]) -> str:
    """The cells as a table, the number of counts that agree, and caveats."""
    origin = source if isinstance(source, Source) else open_source(source)
    counts = [cell for cell in cells if cell.quantity.startswith("voxels") or cell.quantity.endswith("trials")]
    same = sum(cell.difference == 0 for cell in counts)
    lines = [cells_text(cells, ours="here"), f"{same} of {len(counts)} counts are the published ones"]
    if is_synthetic(origin):
        lines.append("this NSD is synthetic: the comparison means nothing")
    subjects = {cell.subject for cell in counts}
    if len(subjects) < len(VOLUME_SHAPES):
        lines.append(f"printed input means are over 8 subjects, these over {len(subjects)}")
    return "\n".join(lines)
