"""A store as HTML, for notebooks: its subjects with sessions, sizes and noise ceilings."""

from __future__ import annotations

from html import escape
from math import prod
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
from dask.utils import format_bytes

from nsdflow.names import number_ranges
from nsdflow.store.shard_format import open_sharded

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["summarise", "table_row"]

SUMMARY_COLUMNS: Final = (
    "subject", "sessions", "trials", "images shown", "voxels", "responses", "ceiling, 1 trial", "ceiling, 3 trials",
)  # fmt: skip


class Summarised(Protocol):
    """Part of :class:`~nsdflow.store.queries.Store` that a summary needs."""

    @property
    def url(self) -> str: ...

    @property
    def subjects(self) -> tuple[str, ...]: ...

    @property
    def has_images(self) -> bool: ...

    def trials(self, subject: str) -> xr.Dataset: ...

    def voxels(self, subject: str) -> xr.Dataset: ...


def summarise(store: Summarised) -> str:
    """A table with one row per subject, and a line on images and space; everything from the store is escaped."""
    rows = "".join(table_row(cells, "td") for cells in (_subject(store, name) for name in store.subjects))
    lines = [f"<strong>nsdflow.Store</strong> <code>{escape(store.url)}</code>"]
    lines += [escape(line) for line in (_images(store), _space(store)) if line]
    note = "responses: size as float32; ceiling: median noise ceiling (correlation) of the voxels that have an ncsnr"
    return (
        f"<div>{'<br>'.join(lines)}<table>{table_row(SUMMARY_COLUMNS, 'th')}{rows}</table><small>{note}</small></div>"
    )


def table_row(cells: tuple[str, ...], tag: str) -> str:
    """Cells, escaped, as a row of a table; ``tag`` is ``th`` or ``td``."""
    return (
        "<tr>"
        + "".join(f"<{tag} style='text-align:right;padding:0 .5em'>{escape(cell)}</{tag}>" for cell in cells)
        + "</tr>"
    )


def _subject(store: Summarised, subject: str) -> tuple[str, ...]:
    trials, voxels = store.trials(subject), store.voxels(subject)
    numbers = np.unique(trials["session"].values).tolist()
    size = prod((trials.sizes["trial"], voxels.sizes["voxel"], 4))
    share = voxels["ncsnr"].values.astype(float) ** 2 if "ncsnr" in voxels else np.full(1, np.nan)
    ceilings = [np.sqrt(share / (share + 1 / n)) for n in (1, 3)]
    medians = [f"{np.nanmedian(c):.2f}" if np.isfinite(c).any() else "not known" for c in ceilings]
    return (
        subject,
        number_ranges(numbers),
        f"{trials.sizes['trial']:,}",
        f"{len(np.unique(trials['nsd_id'].values)):,}",
        f"{voxels.sizes['voxel']:,}",
        format_bytes(size),
        *medians,
    )


def _images(store: Summarised) -> str:
    if not store.has_images:
        return "no images"
    count, _, height, width = open_sharded(f"{store.url}/stimuli/images").shape
    return f"{count:,} images of {height} x {width} pixels"


def _space(store: Summarised) -> str:
    known = [store.voxels(subject).attrs for subject in store.subjects[:1]]
    wanted = ("space", "betas_version", "voxel_set")
    return ", ".join(f"{name.replace('_', ' ')} {a[name]}" for a in known for name in wanted if name in a)
