"""Conversion of published files into runs, by the kind of their content."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from nsdflow.analysis.rois import EARLY_AREAS
from nsdflow.errors import ConfigError, MissingDataError, RunError
from nsdflow.models.published import PublishedModel, load_checkpoint, read_published
from nsdflow.models.published_fwrf import is_fwrf
from nsdflow.pipelines.adopt.fwrf import adopt_fwrf
from nsdflow.pipelines.adopt.gnet import PublishedFile, adopt_gnet, adopt_transfer
from nsdflow.runs.folder import RunFolder
from nsdflow.runs.parts import remove_parts
from nsdflow.store import open_store

__all__ = ["adopt", "kind_of_model"]


def adopt(
    checkpoints: Sequence[str | os.PathLike[str]], *, store: str, runs: str = "runs", name: str | None = None
) -> list[str]:
    """Convert files of the published programs into runs.

    One file of GNet8j becomes the run ``gnet8j``. The files of the trunks of GNet8r become ``gnet8r``. The files of the
    readouts on these trunks, adopted with them or after them, become ``transfer``. One file of AlexNet-fwRF becomes
    ``alexnet_fwrf``. Voxels are matched with those of the store by their index in the volume.

    Parameters
    ----------
    checkpoints : sequence of str or path
        Paths of the files.
    store : str
        Path or URL of a store that holds the voxels.
    runs : str
        Folder that receives the runs.
    name : str, optional
        Name of the run instead of the published name, if the files make a single run.

    Returns
    -------
    list of str
        Folders of the runs.

    Raises
    ------
    ConfigError
        Two files hold the same trunk, or one name is given for several runs.
    MissingDataError
        A file, the store, or the run of the trunks does not exist.
    RunError
        A run of that name exists already.
    SelectionError
        Voxels do not match those of the store. The message lists them.
    SourceError
        A file is not one of the published programs.

    Examples
    --------
    >>> adopt(["gnet8j_model_params.pt"], store="nsd.zarr", runs="runs")  # doctest: +SKIP
    ['runs/gnet8j']
    """
    opened = open_store(store)
    kinds: dict[str, list[PublishedFile]] = {}
    fwrf: list[str] = []
    for path in [os.fspath(checkpoint) for checkpoint in checkpoints]:
        if not Path(path).is_file():
            raise MissingDataError(f"{path}: no such file; give files such as gnet8j_model_params.pt")
        if is_fwrf(read_published(Path(path))):
            fwrf.append(path)
            continue
        file = PublishedFile(path, load_checkpoint(path), load_checkpoint(path, which="final"))
        kinds.setdefault(kind_of_model(file.best), []).append(file)
    count = len(kinds) + len(fwrf)
    if name is not None and count > 1:
        raise ConfigError("adopt", [f"--name {name} is for one run, and these files give {count}; leave it out"])
    folders = {
        kind: RunFolder(f"{runs.rstrip('/')}/{name or kind}") for kind in (*kinds, *(["alexnet_fwrf"] * bool(fwrf)))
    }
    _check(kinds, fwrf, folders)
    for kind in ("gnet8j", "gnet8r"):
        if kind in kinds:
            adopt_gnet(_sorted(kinds[kind]), opened, folders[kind])
    if "transfer" in kinds:
        trunks = RunFolder(f"{runs.rstrip('/')}/gnet8r")
        if not trunks.finished:
            raise MissingDataError(
                f"{trunks.path}: no finished run of the trunks; adopt the files of GNet8r with these"
            )
        known = [file.best.all_flat_index for kind in ("gnet8r", "gnet8j") for file in kinds.get(kind, ())]
        adopt_transfer(_sorted(kinds["transfer"]), opened, folders["transfer"], trunks, known[0] if known else {})
    for path in fwrf:
        adopt_fwrf(path, opened, folders["alexnet_fwrf"])
    for folder in folders.values():
        remove_parts(folder.path)
    return [folder.path for folder in folders.values()]


def kind_of_model(model: PublishedModel) -> str:
    """Name of the run that a published GNet belongs to: ``gnet8j``, ``gnet8r`` or ``transfer``."""
    if model.group is None:
        return "gnet8j"
    return "gnet8r" if model.group_mask else "transfer"


def _check(kinds: dict[str, list[PublishedFile]], fwrf: list[str], folders: dict[str, RunFolder]) -> None:
    problems = [f"{', '.join(fwrf)}: adopt one file of AlexNet-fwRF at a time"] if len(fwrf) > 1 else []
    for kind, files in kinds.items():
        for file in files[1:]:
            same = [other.path for other in files[: files.index(file)] if other.part == file.part]
            problems += [f"{file.path} and {other} are both of {kind}, {file.part}; adopt one" for other in same]
    if problems:
        raise ConfigError("adopt", problems)
    for folder in folders.values():  # an interrupted adoption is continued, if it is of the same files
        if folder.finished:
            raise RunError(f"{folder.path} exists; give another name with --name, or delete it")


def _sorted(files: list[PublishedFile]) -> list[PublishedFile]:
    """From the lowest area to the highest."""
    rank = {area: number for number, area in enumerate(EARLY_AREAS)}
    return sorted(files, key=lambda file: (rank.get(file.part, len(rank)), file.part))
