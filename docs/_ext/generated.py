"""Pages that are written from other files while the documentation is built: the changelog and the commands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from typer.main import get_command

from nsdflow.cli.app import app as nsdflow_app

if TYPE_CHECKING:
    from sphinx.application import Sphinx

# the types of changes/README.md, in the order in which a reader wants them
FRAGMENT_TITLES = {
    "feature": "New",
    "bugfix": "Corrected",
    "performance": "Faster or smaller",
    "removal": "Gone or changed",
    "doc": "Documentation",
}


def changelog(folder: Path) -> str:
    """The fragments of a ``changes/`` folder as Markdown, by type and then by issue."""
    fragments = sorted(folder.glob("[1-9]*.md"), key=lambda path: (int(path.name.split(".")[0]), path.name))
    sections = []
    for kind, title in FRAGMENT_TITLES.items():
        texts = [path.read_text().strip() for path in fragments if path.name.split(".")[1] == kind]
        if texts:
            items = ["- " + text.replace("\n", "\n  ") for text in texts]
            sections.append("\n".join([f"### {title}", "", *items]))
    return "\n\n".join(sections)


def commands() -> str:
    """Every command with its help, arguments and options, as ``--help`` prints them."""
    root: Any = get_command(nsdflow_app)
    sections = []
    for name, command in root.commands.items():
        parameters = [parameter for parameter in command.params if parameter.name != "help"]
        arguments = [parameter.opts[0] for parameter in parameters if not parameter.opts[0].startswith("-")]
        usage = f"`{' '.join(['nsdflow', name, *(argument.upper() for argument in arguments), '[options]'])}`"
        table = ["| | |", "|---|---|", *map(_row, parameters)] if parameters else []
        sections.append("\n".join([f"## {name}", "", usage, "", command.help.strip(), "", *table]))
    return "\n\n".join(sections)


def _row(parameter: Any) -> str:
    flags = ", ".join(f"`{flag}`" for flag in [*parameter.opts, *parameter.secondary_opts])
    has_default = parameter.default not in (None, False, "") and not parameter.required
    default = f" Default: `{parameter.default}`." if has_default else ""
    return f"| {flags} | {' '.join((parameter.help or '').split())}{default} |"


def write(app: Sphinx, docname: str, source: list[str]) -> None:
    """Append what is generated to the page that asks for it by its name."""
    if docname == "changelog":
        source[0] += f"\n\n{changelog(Path(app.confdir).parent / 'changes')}\n"
    if docname == "api/commands":
        source[0] += f"\n\n{commands()}\n"


def setup(app: Sphinx) -> dict[str, bool]:
    """Let Sphinx call :func:`write` for every page as it is read."""
    app.connect("source-read", write)
    return {"parallel_read_safe": True}
