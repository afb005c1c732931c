"""Pages generated from the code when the documentation is built: the API and the commands."""

from __future__ import annotations

import ast
import pydoc
import re
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from typer.main import get_command

from nsdflow.cli.app import app as nsdflow_app

if TYPE_CHECKING:
    from sphinx.application import Sphinx

# layers in the order of the API page, the most used first
LAYERS = {
    "store": "Store",
    "analysis": "Analysis",
    "models": "Models",
    "fit": "Fit",
    "nsd": "NSD",
    "synthetic": "Synthetic NSD",
    "pipelines": "Pipelines",
    "ingestion": "Ingestion",
    "runs": "Runs",
    "engine": "Engine",
    "monitor": "Monitor",
    "cluster": "Cluster",
    "report": "Report",
    "io": "Files",
    "config": "Configuration",
}
#: The names that scripts call, by purpose; everything else may move between versions.
PUBLIC = {
    "Stores and runs": ["open_store", "store.Store", "ingest", "open_run", "load_model", "loaders.TrialDataset"],
    "Pipelines": ["run", "plan"],
    "Models and fits": [
        "models.gnet.Encoder", "models.gnet.Readout", "models.published.load_checkpoint", "fit.gnet.train",
        "fit.fwrf.fit", "fit.ridge.fit", "fit.ridge.RidgeCV",
    ],
    "Results": ["store.accessor.NsdAccessor", "analysis"],
}  # fmt: skip
API_HEAD = """# API

Scripts call the names of the first tables. The sections below them hold one page per module, for those who read the
code. The commands are on [their own page](commands.md).
"""


def api(package: Path) -> str:
    """The page that lists every module with public names, by layer."""
    modules = {}
    for path in sorted(package.rglob("*.py")):
        tree = ast.parse(path.read_text())
        if any(isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__" for node in tree.body):
            parts = path.relative_to(package.parent).with_suffix("").parts
            modules[".".join(parts).removesuffix(".__init__")] = path
    sections = [
        _api_section(
            "The package", package, ["nsdflow", "nsdflow.loaders", "nsdflow.labels", "nsdflow.names", "nsdflow.errors"]
        )
    ]
    for layer, title in LAYERS.items():
        names = [name for name in modules if name.split(".")[1:2] == [layer]]
        sections.append(_api_section(title, package / layer, names))
    return "\n".join([API_HEAD, *(_public_section(title, names) for title, names in PUBLIC.items()), *sections])


def _public_section(title: str, names: list[str]) -> str:
    """A table of public names with their first sentences, linked to the pages of their modules."""
    rows = [_public_row(f"nsdflow.{name}") for name in names]
    return "\n".join([f"## {title}", "", "| | |", "|---|---|", *rows, ""])


def _public_row(name: str) -> str:
    """The name as scripts write it, which links to where it is documented, and its first sentence."""
    home = _home(name)
    sentence = re.split(r"(?<=[.;:]) |\n\n", pydoc.getdoc(pydoc.locate(home)))[0].replace("\n", " ").rstrip(".;:") + "."
    plain = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", sentence)
    return f"| {{py:obj}}`{name} <{home}>` | {plain} |"


def _home(name: str) -> str:
    """The full name of a short public name: ``nsdflow.run`` is a function of another module."""
    package, _, last = name.rpartition(".")
    thing = getattr(import_module(package), last, None) or import_module(name)
    return name if isinstance(thing, ModuleType) else f"{thing.__module__}.{thing.__qualname__}"


def _api_section(title: str, package: Path, names: list[str]) -> str:
    docstring = ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""
    listing = [
        "```{eval-rst}",
        ".. autosummary::",
        "   :toctree: generated",
        "",
        *(f"   {name}" for name in names),
        "```",
    ]
    return "\n".join([f"## {title}", "", docstring.split("\n\n")[0], "", *listing, ""])


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


def write_api(app: Sphinx) -> None:
    """Write the API page before autosummary reads it, unless it is unchanged."""
    page = Path(app.srcdir) / "api" / "index.md"
    text = api(Path(app.confdir).parent / "nsdflow")
    if not page.exists() or page.read_text() != text:
        page.write_text(text)


def write(app: Sphinx, docname: str, source: list[str]) -> None:
    """Append the generated text to the page with this name."""
    if docname == "api/commands":
        source[0] += f"\n\n{commands()}\n"


def setup(app: Sphinx) -> dict[str, bool]:
    """The API page is a file, because autosummary looks for files; the others are completed as they are read."""
    # before Sphinx collects the documents: autosummary makes no stubs for a page that is written later
    app.connect("config-inited", lambda app, _: write_api(app))
    app.connect("env-get-outdated", lambda *_: ["api/commands", "changelog"])
    app.connect("source-read", write)
    # scikit-learn adds methods whose docstrings link to its own manual
    app.connect("autodoc-skip-member", lambda *found: True if found[2].endswith("_request") else None)
    return {"parallel_read_safe": True}
