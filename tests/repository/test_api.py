"""Every public name can be imported and is documented in the API."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from nsdflow.cli.app import app

ROOT = Path(__file__).parents[2]


def with_public_names() -> list[str]:
    """Modules that define ``__all__``; the commands (cli) have a separate page, written from their help."""
    names = []
    for path in sorted((ROOT / "nsdflow").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        targets = [t for node in ast.parse(path.read_text()).body if isinstance(node, ast.Assign) for t in node.targets]
        if any(isinstance(t, ast.Name) and t.id == "__all__" for t in targets) and not name.startswith("nsdflow.cli"):
            names.append(name)
    return names


def generated() -> Any:
    """The part of the documentation's build that writes pages."""
    spec = importlib.util.spec_from_file_location("generated", ROOT / "docs" / "_ext" / "generated.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_module_stands_in_the_api_pages() -> None:
    modules = with_public_names()
    assert len(modules) > 60
    listed = re.findall(
        r"^   (nsdflow[\w.]*)$", generated().api(ROOT / "nsdflow").split("## The package")[1], flags=re.MULTILINE
    )
    assert sorted(listed) == modules


def test_every_command_stands_in_its_page() -> None:
    page = generated().commands()
    commands = list(get_command(app).commands)
    assert len(commands) >= 10
    assert [name for name in commands if f"\n## {name}\n" not in f"\n{page}"] == []
    assert page.count("Example: `nsdflow ") >= len(commands)


@pytest.mark.parametrize("module", with_public_names())
def test_public_names_exist(module: str) -> None:
    loaded = importlib.import_module(module)
    assert [name for name in loaded.__all__ if not hasattr(loaded, name)] == []


def test_fixed_names() -> None:
    """Scripts outside of this repository call these."""
    fixed = """
        nsdflow: open_store open_run run plan ingest load_model Store
        nsdflow.loaders: TrialDataset
        nsdflow.models.gnet: Encoder Readout
        nsdflow.models.published: load_checkpoint
        nsdflow.fit.gnet: train
        nsdflow.fit.fwrf: fit
        nsdflow.fit.ridge: fit RidgeCV
        nsdflow.models.networks: NETWORKS
        nsdflow.analysis: accuracy noise_ceiling tuning transfer_asymmetry pooling_field_fits noise_model
        nsdflow.analysis: reliability rsa variance_partition
        nsdflow.errors: NsdflowError
    """
    absent = []
    for line in fixed.split("\n"):
        module, _, names = line.strip().partition(": ")
        absent += [f"{module}.{n}" for n in names.split() if not hasattr(importlib.import_module(module), n)]
    assert absent == []
