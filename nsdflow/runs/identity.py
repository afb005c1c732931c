"""Identity of what a run reads: a run continues only with the store, files and earlier runs with which it began."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import google_crc32c
import numpy as np

from nsdflow.errors import MissingDataError, SelectionError, StoreError
from nsdflow.io.folders import exists
from nsdflow.io.paths import normalize, public
from nsdflow.io.read import read_json, read_metadata
from nsdflow.io.tensors import tensors_header
from nsdflow.io.yaml_files import read_yaml
from nsdflow.names import select_subjects
from nsdflow.runs.results import has_results
from nsdflow.store import Store, open_store
from nsdflow.store.schema import ANNOTATIONS_GROUP

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nsdflow.config.pipeline import PipelineBase

__all__ = [
    "changed_inputs",
    "input_identity",
    "is_same_store",
    "made_on_other_data",
    "open_recorded_store",
    "same_voxels",
    "store_identity",
]

#: Bytes of a file that are in memory while it is read for its checksum.
SUMMED_BYTES: Final = 16 << 20


def store_identity(store: str) -> dict[str, Any]:
    """Describe a store by its place and its content.

    Parameters
    ----------
    store : str
        Path or URL.

    Returns
    -------
    dict
        ``url``; ``identity``, a hash of the attributes; ``content``, a hash of the attributes and of the manifest:
        source files, sessions, voxels, layout and the findings of each task of the ingestion found; ``synthetic``, only
        if the responses are not measured.
    """
    attributes = dict(open_store(store).attrs)
    try:
        manifest = read_json(f"{store.rstrip('/')}/manifest.json", "ingest again")
    except FileNotFoundError:
        manifest = {}
    except StoreError as error:
        raise StoreError(f"{store}: its manifest cannot be read ({error})") from None
    content = {key: value for key, value in manifest.items() if key != "nsdflow"}
    marked = {"synthetic": True} if attributes.get("synthetic") else {}
    return {"url": public(store), "identity": _hash(attributes), "content": _hash([attributes, content]), **marked}


def is_same_store(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether two identities are of stores with the same content; runs of version 0.1.0 recorded attributes only."""
    key = "content" if "content" in before else "identity"
    return before.get(key) == now.get(key)


def open_recorded_store(record: Mapping[str, Any], run: str) -> Store:
    """Open the store on which a run was made, with the content that it had then.

    Parameters
    ----------
    record : mapping
        ``run.yaml`` of the run.
    run : str
        Path or URL of the run, for messages.

    Returns
    -------
    Store
        The store.

    Raises
    ------
    MissingDataError
        The run recorded no store, or the store is not there.
    StoreError
        The store is damaged, or holds other data than when the run was made, such as one session less.
    """
    before = _mapping(record.get("store"))
    url = str(before.get("url") or "")
    if not url:
        raise MissingDataError(f"{run}: says no store in run.yaml")
    if _differs(before, url):
        raise StoreError(
            f"{url}: holds other data than when {run} was made; restore that store, or run again under another name"
        )
    return open_store(url)


def made_on_other_data(run: str, store: str) -> bool:
    """Whether the store on which a run was made had other content than a store has now; False if it is not known."""
    return exists(f"{run}/run.yaml") and _differs(_mapping(_record(run).get("store")), store)


def _differs(before: Mapping[str, Any], store: str) -> bool:
    return bool({"content", "identity"} & set(before)) and not is_same_store(before, store_identity(store))


def _record(run: str) -> dict[str, Any]:
    return read_yaml(f"{run}/run.yaml", "restore it, or delete the folder and run again")


def input_identity(
    pipeline: PipelineBase, store: str, sibling: Callable[[str], str], files: Mapping[str, Sequence[str]] | None = None
) -> dict[str, dict[str, str]]:
    """Describe by their content the files, earlier runs and annotations that a pipeline reads.

    Parameters
    ----------
    pipeline : PipelineBase
        Settings.
    store : str
        Path or URL of the store.
    sibling : callable
        Gives the path of an earlier run by its name.
    files : mapping, optional
        Further files, as :meth:`~nsdflow.config.pipeline.PipelineBase.input_files` gives them.

    Returns
    -------
    dict
        ``content`` of each input by its name, and for files ``stamp``, which tells quickly that nothing has changed.
        Inputs that are not there are left out.
    """
    found = _inputs(pipeline, store, sibling, files)
    return {
        name: {"content": content(), **({"stamp": stamp} if stamp else {})} for name, (stamp, content) in found.items()
    }


def changed_inputs(
    said: Mapping[str, Mapping[str, str]] | None,
    pipeline: PipelineBase,
    store: str,
    sibling: Callable[[str], str],
    files: Mapping[str, Sequence[str]] | None = None,
) -> list[str]:
    """Names of the inputs whose content is not the recorded one.

    Parameters
    ----------
    said : mapping or None
        What :func:`input_identity` returned when the run began; None for runs of earlier versions, where none count.
    pipeline, store, sibling, files : PipelineBase, str, callable, mapping
        As for :func:`input_identity`.

    Returns
    -------
    list of str
        Inputs that are no longer there are not among them: a finished run does not need them.
    """
    if said is None:
        return []
    contents, stamps = _entries(said, "content"), _entries(said, "stamp")
    return [
        name
        for name, (stamp, content) in _inputs(pipeline, store, sibling, files).items()
        if not (stamp and stamp == stamps.get(name)) and content() != contents.get(name)
    ]


def _entries(inputs: Any, key: str) -> dict[str, str]:
    """One entry of each input of a record, which may come from anyone."""
    return {
        str(name): str(one[key]) for name, one in _mapping(inputs).items() if isinstance(one, Mapping) and key in one
    }


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


_Input = tuple[str, "Callable[[], str]"]


def _inputs(
    pipeline: PipelineBase, store: str, sibling: Callable[[str], str], files: Mapping[str, Sequence[str]] | None
) -> dict[str, _Input]:
    """The stamp of each input that is there (empty for other inputs than files), and a function for its content."""
    inputs: dict[str, _Input] = {}
    for name, paths in {**pipeline.input_files(), **(files or {})}.items():
        if there := _files(paths):
            inputs[f"file {name}"] = _stamp(there), partial(_checksum, there)
    for name in pipeline.input_runs():
        run = sibling(name)
        if has_results(run) and exists(f"{run}/run.yaml"):
            inputs[f"run {name}"] = "", partial(_run_content, run)
    annotations = f"{store.rstrip('/')}/{ANNOTATIONS_GROUP}/zarr.json"
    if pipeline.reads_annotations() and exists(annotations):
        inputs["group annotations of the store"] = "", lambda: _hash(read_metadata(annotations).get("attributes"))
    return inputs


def _files(paths: Sequence[str]) -> list[Path]:
    """The files that are there; all files of a folder."""
    places = [Path(normalize(path)) for path in paths]
    found = [sorted(place.rglob("*")) if place.is_dir() else [place] for place in places]
    return [file for files in found for file in files if file.is_file()]


def _stamp(files: Sequence[Path]) -> str:
    stats = [(file.name, file.stat()) for file in files]
    return _hash([[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats])


def _checksum(files: Sequence[Path]) -> str:
    """Hash of names and bytes."""
    sums = []
    for file in files:
        crc = google_crc32c.Checksum()
        with file.open("rb") as opened:
            while block := opened.read(SUMMED_BYTES):
                crc.update(block)
        sums.append([file.name, file.stat().st_size, crc.hexdigest().decode()])
    return _hash(sums)


def _run_content(run: str) -> str:
    """Hash of what determined the results of a run, and of the checksums of its model."""
    record = _record(run)
    before = _mapping(record.get("store"))
    said = [record.get("pipeline"), before.get("content", before.get("identity")), record.get("network")]
    inputs = _entries(record.get("inputs"), "content")
    model = f"{run}/model.safetensors"
    header = hashlib.sha256(tensors_header(model)).hexdigest() if exists(model) else None
    return _hash([said, inputs, header])


def same_voxels(store: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether two pipelines select the same voxels of a store, in the same order, of each subject of the second.

    Parameters
    ----------
    store : str
        Path or URL.
    before, now : mapping
        Settings of the pipelines; ``subjects``, ``rois`` and ``voxels`` count.
    """
    opened = open_store(store)

    def index_of(settings: Mapping[str, Any], subject: str) -> NDArray[np.int64]:
        chosen = opened.responses(subject, roi=settings.get("rois"), voxels=settings.get("voxels"))
        index: NDArray[np.int64] = chosen["flat_index"].values
        return index

    try:
        subjects = select_subjects(opened.subjects, now.get("subjects", "all"))
        return all(np.array_equal(index_of(before, name), index_of(now, name)) for name in subjects)
    except SelectionError:  # the store has no such voxels
        return False


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
