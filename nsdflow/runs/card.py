"""The model card of a finished run, ``README.md`` in its folder, for readers who do not know its authors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from nsdflow.fit.protocols import PROTOCOLS
from nsdflow.io.folders import exists
from nsdflow.io.write import write_text
from nsdflow.runs.folder import read_record
from nsdflow.runs.results import open_run

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["describe_run", "write_card"]

TERMS: Final = (
    "The model was fitted to the Natural Scenes Dataset (Allen et al., 2022). Its use is bound to the NSD terms and "
    "conditions: https://naturalscenesdataset.org. Cite the data set when you publish results of this model."
)


def write_card(run: str) -> None:
    """Write ``README.md`` into the folder of a finished run."""
    write_text(f"{run.rstrip('/')}/README.md", describe_run(run))


def describe_run(run: str) -> str:
    """The text of the card: the model, its voxels, its accuracy, and the terms of use."""
    record, tree = read_record(run), open_run(run)
    pipeline = record.get("pipeline", {})
    name, kind = str(pipeline.get("name", "")), str(pipeline.get("kind", ""))
    lines = [f"# {name}", "", str(pipeline.get("description") or f"A run of kind {kind} of nsdflow."), ""]
    lines += [
        f"- kind: {kind}; made {record.get('created', 'at an unknown time')} with nsdflow "
        f"{record.get('versions', {}).get('nsdflow', '')}",
        f"- store: {record.get('store', {}).get('identity', 'unknown')}",
    ]
    if record.get("store", {}).get("synthetic"):
        lines.append("- responses: synthetic, so that accuracies say nothing about brains")
    if pipeline.get("features"):
        lines.append(f"- features: {pipeline['features']}")
    lines += [_network_line(network) for network in _networks(record.get("network"))]
    if name := pipeline.get("protocol"):
        known = PROTOCOLS.get(str(name))
        lines.append(f"- protocol `{name}`: {known.text if known else 'see the documentation'}")
    subjects = {key: node.to_dataset() for key, node in tree.children.items() if "voxel" in node.sizes}
    if table := [_row(subject, data) for subject, data in subjects.items() if "accuracy" in data]:
        lines += [
            "",
            "| subject | voxels | areas | median accuracy | median noise ceiling |",
            "|---|---|---|---|---|",
            *table,
        ]
        lines += ["", "Accuracy is the correlation with single trials of images that were not used for training."]
    if exists(f"{run.rstrip('/')}/model.safetensors"):
        lines += [
            "",
            "```python",
            "model = nsdflow.load_model(FOLDER, subject)  # images -> predictions, torch only",
            "```",
        ]
    lines += [
        "",
        "All settings are in `run.yaml`, labelled results in `results.zarr` (`nsdflow.open_run`).",
        "",
        TERMS,
        "",
    ]
    return "\n".join(lines)


def _networks(said: Any) -> list[dict[str, Any]]:
    """The networks that a run recorded: none, one, or several by the name of their features."""
    if not isinstance(said, dict):
        return []
    return [said] if "name" in said else [one for one in said.values() if isinstance(one, dict)]


def _network_line(network: dict[str, Any]) -> str:
    layers, sha = ", ".join(map(str, network.get("layers", ()))), str(network.get("weights_sha256", ""))[:12]
    name, weights = f"{network['name']} ({network.get('version')})", network.get("weights")
    return f"- network: {name}, layers {layers}, weights {weights}, SHA-256 {sha}..."


def _row(subject: str, data: xr.Dataset) -> str:
    areas: Any = np.unique(data["roi"].values.astype(str)) if "roi" in data.coords else []
    named = ", ".join(areas[:8]) + (", ..." if len(areas) > 8 else "")
    ceiling = f"{float(data['noise_ceiling'].median()):.3f}" if "noise_ceiling" in data else "unknown"
    return f"| {subject} | {data.sizes['voxel']} | {named} | {float(data['accuracy'].median()):.3f} | {ceiling} |"
