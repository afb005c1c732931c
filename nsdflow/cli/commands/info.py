"""``nsdflow list`` and ``info``: existing pipelines, stores and runs, and the contents of one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from nsdflow.cli.options import complete_thing, normalized

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["info", "list_"]


def list_(
    folder: Annotated[str, typer.Argument(help="Folder to search.", callback=normalized)] = ".",
) -> None:
    """List the pipelines, networks and storage profiles of nsdflow, and the stores and runs of a folder.

    Example: `nsdflow list`
    """
    from nsdflow.config.documents import read_document, shipped_names, storage_names

    # as text: settings of every kind would load torch
    shipped = {name: read_document(name, folder="pipelines", kind="pipeline") for name in shipped_names("pipelines")}
    _section("pipelines (nsdflow run NAME)", {name: file.raw.get("description", "") for name, file in shipped.items()})
    _section("storage profiles (--storage NAME)", dict.fromkeys(storage_names(), ""))
    stores, runs = _stores_and_runs(folder)
    _section(f"stores in {folder}", dict.fromkeys(stores, ""))
    _section(f"runs in {folder}", runs)


def info(
    thing: Annotated[
        str,
        typer.Argument(
            metavar="PATH",
            help="A store, a run folder, a pipeline (name or YAML file), or the name of a network.",
            autocompletion=complete_thing,
        ),
    ],
) -> None:
    """Describe a store, a run, a pipeline or a network; reads no large arrays.

    Example: `nsdflow info runs/gnet8j`
    """
    from difflib import get_close_matches

    from nsdflow.errors import MissingDataError
    from nsdflow.io.paths import normalize
    from nsdflow.io.places import not_wanted
    from nsdflow.io.text import for_terminal
    from nsdflow.pipelines.load import pipeline_names

    place = normalize(thing)
    for kind in THINGS:
        if kind.matches(thing, place):
            print(for_terminal(kind.describe(thing, place)))
            return
    if other := not_wanted(place, "a store or a run"):
        raise MissingDataError(f"{thing}: {other}")
    near = get_close_matches(thing, pipeline_names(), n=1)
    hint = f"did you mean {near[0]!r}?" if near else "nsdflow list shows what exists"
    raise MissingDataError(f"{thing}: no store, run, pipeline or network; {hint}")


@dataclass(frozen=True)
class Thing:
    """Kind of thing that ``nsdflow info`` describes. Its functions take the argument and its normalised path."""

    matches: Callable[[str, str], bool]
    describe: Callable[[str, str], str]


def _section(title: str, items: dict[str, str]) -> None:
    from nsdflow.io.text import for_terminal

    width = max((len(name) for name in items), default=0)
    lines = [f"  {name.ljust(width)}  {text}".rstrip() for name, text in items.items()]
    print(for_terminal("\n".join([f"{title}:", *(lines or ["  none"]), ""])))


def _stores_and_runs(folder: str) -> tuple[list[str], dict[str, str]]:
    """Paths of stores, and of runs with their state, in a folder and the folders within it."""
    from nsdflow.io.folders import exists
    from nsdflow.runs.folder import RunFolder

    stores: list[str] = []
    runs: dict[str, str] = {}
    for name in _names(folder):
        path = f"{folder}/{name}"
        if exists(f"{path}/run.yaml"):
            inside = [path]
        elif exists(f"{path}/zarr.json"):
            stores.append(name)
            continue
        else:
            inside = [f"{path}/{inner}" for inner in _names(path) if exists(f"{path}/{inner}/run.yaml")]
        for run in inside:
            state = "finished" if RunFolder(run).finished else "not finished"
            runs[run.removeprefix(f"{folder}/")] = state
    return stores, runs


def _names(folder: str) -> list[str]:
    from nsdflow.io.folders import list_folder

    return [name for name in list_folder(folder) if not name.startswith(".")]


def _exists(*parts: str) -> bool:
    from nsdflow.io.folders import exists

    return exists("/".join(parts))


def _table(pairs: dict[str, Any]) -> list[str]:
    width = max(len(name) for name in pairs)
    return [f"  {name.ljust(width)}  {value}" for name, value in pairs.items() if value not in (None, "")]


def _describe_run(_: str, path: str) -> str:
    """A run: its pipeline, store, versions, subjects and accuracies."""
    from nsdflow.analysis.summary import summary_table
    from nsdflow.runs import open_run
    from nsdflow.runs.folder import RunFolder

    folder = RunFolder(path)
    record = folder.record()
    pipeline, store = record.get("pipeline", {}), record.get("store", {})
    facts = {
        "pipeline": f"{pipeline.get('name')} ({pipeline.get('kind')})",
        "protocol": pipeline.get("protocol"),
        "store": store.get("url") if isinstance(store, dict) else store,
        "created": record.get("created"),
        "nsdflow": record.get("nsdflow") or (record.get("versions") or {}).get("nsdflow"),
        "state": "finished" if folder.finished else "not finished; see nsdflow status",
    }
    lines = [f"{path}: a run", *_table(facts)]
    if folder.finished:
        results = open_run(path)
        lines += [*_groups(results)]
        for row in summary_table(results):
            ceiling = "" if row.noise_ceiling != row.noise_ceiling else f", noise ceiling {row.noise_ceiling:.3f}"
            lines.append(f"  {row.subject}: {row.voxels:,} voxels, median accuracy {row.accuracy:.3f}{ceiling}")
    return "\n".join(lines)


def _groups(results: xr.DataTree) -> Iterator[str]:
    for name, node in results.children.items():
        variables = [f"{variable} {dict(array.sizes)}" for variable, array in node.dataset.data_vars.items()]
        if variables:
            yield f"  /{name}: {', '.join(variables)}"


def _describe_store(_: str, path: str) -> str:
    """A store: its space, and sessions, trials, voxels and ROIs per subject."""
    from nsdflow.store import open_store

    store = open_store(path)
    known = ("space", "betas_version", "voxel_set")
    first = store.voxels(store.subjects[0]).attrs if store.subjects else {}
    facts = {name.replace("_", " "): first.get(name) for name in known}
    lines = [f"{path}: a store of {len(store.subjects)} subject(s)", *_table(facts)]
    for subject in store.subjects:
        trials, voxels, rois = store.trials(subject), store.voxels(subject), store.rois(subject)
        rois = rois[rois["voxels"] > 0]
        sessions = len(set(trials["session"].values.tolist()))
        areas = ", ".join(f"{name} {count:,}" for name, count in rois["voxels"].head(8).items())
        lines.append(
            f"  {subject}: {sessions} sessions, {trials.sizes['trial']:,} trials, {voxels.sizes['voxel']:,} voxels, "
            f"{len(rois)} ROIs ({areas}{', ...' if len(rois) > 8 else ''})"
        )
    return "\n".join(lines)


def _is_pipeline(name: str, _: str) -> bool:
    from nsdflow.pipelines.load import pipeline_names

    return name.endswith((".yaml", ".yml")) or name in pipeline_names()


def _describe_pipeline(name: str, path: str) -> str:
    """A pipeline: its description and all its settings, defaults included, as YAML."""
    import yaml

    from nsdflow.pipelines.load import load_pipeline

    pipeline = load_pipeline(path if name.endswith((".yaml", ".yml")) else name)
    settings = yaml.safe_dump(pipeline.model_dump(mode="json"), sort_keys=False, width=110)
    return f"{name}: a pipeline; every setting with --set KEY=VALUE\n\n{settings}".rstrip()


def _is_network(name: str, _: str) -> bool:
    from nsdflow.models.networks import NETWORKS

    return name in NETWORKS or name.partition(":")[0] + ":" in NETWORKS


def _describe_network(name: str, _: str) -> str:
    from nsdflow.models.networks import describe_network

    return describe_network(name)


#: Kinds of things that ``nsdflow info`` describes; the first match is used.
THINGS: Final = (
    Thing(lambda _, path: _exists(path, "run.yaml"), _describe_run),
    Thing(_is_pipeline, _describe_pipeline),
    Thing(lambda _, path: _exists(path, "zarr.json"), _describe_store),
    Thing(_is_network, _describe_network),
)
