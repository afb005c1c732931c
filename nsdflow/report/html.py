"""The page of a run: one HTML file that needs no network and no other file."""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import yaml

from nsdflow.fit.protocols import PROTOCOLS
from nsdflow.report import markup
from nsdflow.report.sections import SECTIONS
from nsdflow.report.writing import write_page
from nsdflow.runs.contents import Run, read_run

__all__ = ["page_of", "render_report", "write_report"]

_PAGE = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$style</style>
</head>
<body>
<header><h1>$title</h1><p>$description</p></header>
<nav>$contents</nav>
<main>
$sections
</main>
<footer>nsdflow $version. Data: the Natural Scenes Dataset, Allen et al. (2022), Nature Neuroscience 25.</footer>
</body>
</html>
""")


def write_report(run_folder: str | os.PathLike[str], out: str | os.PathLike[str] | None = None) -> Path | str:
    """Write the page of a finished run; an earlier one is replaced in one step.

    Parameters
    ----------
    run_folder : path or URL
        Folder ``runs/NAME`` with ``results.zarr`` and, if a pipeline made it, ``run.yaml``.
    out : path or URL, optional
        The page; by default ``report.html`` in the folder of the run.

    Returns
    -------
    pathlib.Path or str
        The page.

    Raises
    ------
    MissingDataError
        There is no such run, or it has no results yet.
    RunError
        ``run.yaml`` is damaged; a run without it (written by ``write_results``) is shown without settings.
    StoreError
        The page cannot be written.
    """
    run = read_run(run_folder)
    return write_page(render_report(run), out, f"{run.folder}/report.html")


def render_report(run: Run) -> str:
    """The page as text: every section whose variables the results have, then versions and machine."""
    parts: list[tuple[str, str]] = []
    for section in SECTIONS:
        content = section.content(run) if all(run.has(name) for name in section.needs) else ""
        if content:
            parts.append((section.title, f"<p>{_text(section.text)}</p>{content}"))
    parts.append(("What ran on what", _what_ran(run)))
    if run.record:
        parts.append(("Settings", _settings(run)))
    description = str(run.record.get("pipeline", {}).get("description", ""))
    version = str(run.record.get("versions", {}).get("nsdflow", ""))
    return page_of(run.name, description, parts, version)


def page_of(title: str, description: str, parts: Sequence[tuple[str, str]], version: str) -> str:
    """A page with a heading, a description and parts (title and HTML of each)."""
    return _PAGE.substitute(
        title=escape(title),
        description=escape(description),
        style=resources.files("nsdflow.report").joinpath("page.css").read_text(),
        contents="".join(f'<a href="#{_anchor(name)}">{escape(name)}</a>' for name, _ in parts),
        sections="\n".join(
            f'<section id="{_anchor(name)}"><h2>{escape(name)}</h2>{content}</section>' for name, content in parts
        ),
        version=escape(version),
    )


def _what_ran(run: Run) -> str:
    record, pipeline = run.record, run.record.get("pipeline", {})
    subjects = run.subjects()
    voxels = sum(data.sizes["voxel"] for data in subjects.values())
    store = record.get("store", {})
    facts = {
        "pipeline": f"{pipeline.get('name', run.name)} ({pipeline.get('kind', 'unknown kind')})",
        "protocol": _protocol(pipeline),
        "subjects": f"{', '.join(subjects)}; {voxels:,} voxels" if subjects else None,
        "store": f"{store['url']} (identity {store.get('identity', 'unknown')})" if "url" in store else None,
        "responses": "synthetic" if store.get("synthetic") else None,
        "started": str(record.get("created", "")).replace("T", " ").replace("+00:00", " UTC"),
        "duration": _duration(run),
        "machine": _machine(record.get("machine", {})),
        "commit": record.get("commit"),
        "versions": record.get("versions"),
        "seed": pipeline.get("seed"),
    }
    stages = _stages(run)
    timing = markup.table(("stage", "tasks", "seconds of work", "failures"), stages) if stages else ""
    return markup.facts(facts) + timing


def _protocol(pipeline: Mapping[str, Any]) -> str | None:
    name = pipeline.get("protocol")
    protocol = PROTOCOLS.get(str(name))
    if protocol is None:
        return name
    steps = "one optimizer step" if protocol.joint_step else "two optimizer steps"
    return f"{name}: {protocol.text}{f'; {steps} per batch' if 'train' in pipeline else ''}"


def _machine(machine: Mapping[str, Any]) -> str | None:
    if not machine:
        return None
    known = [f"{machine['cpus']} CPUs" if "cpus" in machine else "", machine.get("system", ""), machine.get("host", "")]
    return ", ".join(str(value) for value in known if value)


def _duration(run: Run) -> str | None:
    """Time from the first event of the log to the last, pauses included."""
    if len(run.events) < 2:
        return None
    seconds = run.events[-1]["time"] - run.events[0]["time"]
    return str(datetime.timedelta(seconds=round(seconds)))


def _stages(run: Run) -> list[tuple[object, ...]]:
    done = [event for event in run.events if event["kind"] == "task-done"]
    failed = [event for event in run.events if event["kind"] == "task-failed"]
    names = dict.fromkeys(str(event["stage"]) for event in done)
    return [
        (
            name,
            sum(event["stage"] == name for event in done),
            round(sum(event["seconds"] for event in done if event["stage"] == name)),
            sum(event["stage"] == name for event in failed),
        )
        for name in names
    ]


def _settings(run: Run) -> str:
    text = yaml.safe_dump(dict(run.record), sort_keys=False)
    return markup.details("run.yaml: the settings and the origin of this run", f"<pre>{escape(text)}</pre>")


def _text(plain: str) -> str:
    """A sentence as HTML; text in backticks is code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(plain))


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
