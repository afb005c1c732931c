"""Files of the repository besides the code: constraints, changelog, citation, the wheel."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import nsdflow

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())


def pins() -> dict[str, str]:
    lines = (line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#"))
    pairs = (line.split("==") for line in lines)
    return {canonicalize_name(name): version for name, version in pairs}


def requirements() -> list[Requirement]:
    groups = PROJECT["dependency-groups"].values()
    named = [entry for group in groups for entry in group if isinstance(entry, str)]
    return [Requirement(text) for text in PROJECT["project"]["dependencies"] + named]


def test_constraints_satisfy_every_requirement() -> None:
    pinned = pins()
    asked = requirements()
    assert len(asked) > 30
    wrong = [str(r) for r in asked if not r.specifier.contains(pinned[canonicalize_name(r.name)])]
    assert wrong == []
    assert "+" not in pinned["torch"], "a build tag would tie users to one kind of machine"


def test_extras_equal_the_groups_of_the_same_name() -> None:
    for name, entries in PROJECT["project"]["optional-dependencies"].items():
        assert entries == PROJECT["dependency-groups"][name]


def test_the_changelog_has_the_sections_of_keep_a_changelog() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text().splitlines()
    versions = [line.removeprefix("## ") for line in lines if line.startswith("## ")]
    assert versions[0] == "[Unreleased]"
    kinds = {line.removeprefix("### ") for line in lines if line.startswith("### ")}
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert {"Added", "Changed", "Fixed", "Security"} <= kinds


def test_versions_agree() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert PROJECT["project"]["version"] == nsdflow.__version__ == str(citation["version"])


def test_citation_names_the_dataset_and_the_model() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["license"] == PROJECT["project"]["license"]
    dois = {reference["doi"]: len(reference["authors"]) for reference in citation["references"]}
    assert dois == {"10.1038/s41593-021-00962-x": 13, "10.1038/s41467-023-38674-4": 5}


def test_wheel_holds_the_library_and_its_pipelines(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    here = {path.relative_to(ROOT).as_posix() for path in (ROOT / "nsdflow").rglob("*.py")}
    data = {f"nsdflow/_data/{folder}/{path.name}"
            for folder in ("pipelines", "storage_config") for path in (ROOT / folder).glob("*.yaml")}  # fmt: skip
    assert here | data | {"nsdflow/py.typed"} <= names
    assert len(data) > 4
    extra = names - here - data - {"nsdflow/py.typed"}
    assert [
        name for name in extra if not name.startswith(("nsdflow/", f"nsdflow-{nsdflow.__version__}.dist-info/"))
    ] == []
