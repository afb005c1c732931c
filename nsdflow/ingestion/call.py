"""Ingestion as one call, for notebooks and scripts."""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from nsdflow.engine.session import clients
from nsdflow.io.paths import normalize
from nsdflow.monitor.progress import Listen, progress

if TYPE_CHECKING:
    from distributed import Client

    from nsdflow.nsd.source import Source
    from nsdflow.store import Store

__all__ = ["ingest"]


def ingest(
    source: str | os.PathLike[str] | Source,
    store: str | os.PathLike[str],
    *,
    cluster: str | Client = "local",
    client: Client | None = None,
    resume: bool = True,
    listen: Listen = "auto",
    annotations: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Store:
    """Turn NSD's files into a store, as ``nsdflow ingest`` does, and open it.

    The same call continues an interrupted ingestion, and opens a store that is complete at once, without a cluster.

    Parameters
    ----------
    source : str, path or Source
        NSD: a folder, an ``s3://`` URL, or a result of :func:`nsdflow.nsd.source.open_source`.
    store : str or path
        Path or URL of the store.
    cluster : str or distributed.Client
        As for :func:`nsdflow.run`.
    client : distributed.Client, optional
        A client to use instead of ``cluster``.
    resume : bool
        Continue an interrupted ingestion; otherwise begin again.
    listen : callable, "auto" or None
        Receives events of progress, as for :func:`nsdflow.run`.
    annotations : str or path, optional
        Folder of COCO's annotation files, also for a finished store.
    **options
        Fields of :class:`~nsdflow.ingestion.settings.IngestSettings`, such as ``subjects``, ``voxels`` and ``layout``.

    Returns
    -------
    Store
        The published store.

    Raises
    ------
    NsdflowError
        As for :func:`nsdflow.ingestion.ingest.carry_out`.

    Examples
    --------
    >>> store = nsdflow.ingest("nsd", "nsd.zarr", subjects=[1, 2], voxels="nsdgeneral")  # doctest: +SKIP
    >>> store.responses(1, roi="V1")  # doctest: +SKIP
    """
    from nsdflow.ingestion import ingest as carried_out
    from nsdflow.ingestion.plan import plan_ingest
    from nsdflow.monitor.events import subscribe

    place: Any = normalize(source) if isinstance(source, str | os.PathLike) else source
    plan = plan_ingest(place, normalize(store), annotations=annotations, **options)
    if plan.finished:
        return carried_out.finish(plan)
    with progress(listen) as hear, clients(cluster, client, listen=hear) as get_client:
        connected = get_client()
        with subscribe(connected, hear) if hear is not None else nullcontext():
            return carried_out.carry_out(plan, connected, resume=resume, listen=hear)
