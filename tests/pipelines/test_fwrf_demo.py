"""The demo's claims about fwRF: the fit recovers planted fields, and accuracy nears the planted ceiling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client

import nsdflow
from nsdflow.config import load_storage
from nsdflow.ingestion.ingest import carry_out, plan_ingest
from nsdflow.pipelines.load import load_pipeline
from nsdflow.synthetic import SyntheticSpec, read_truth, write_nsd


@pytest.mark.slow
def test_planted_fields_come_back(tmp_path: Path, threads_client: Client) -> None:
    profile, store = load_storage("demo"), str(tmp_path / "nsd.zarr")
    nsd = write_nsd(tmp_path / "nsd", SyntheticSpec.demo())
    plan = plan_ingest(str(nsd), store, voxels=profile.voxels, image_size=profile.image_size, layout=profile.layout)
    carry_out(plan, threads_client)
    tree = nsdflow.run("gabor_fwrf", store=store, runs=str(tmp_path / "runs"), client=threads_client, **demo_settings())
    assert set(tree.children) == {"candidates", "subj01", "subj02"}
    for subject in ("subj01", "subj02"):
        results = tree[subject].to_dataset()
        truth = read_truth(nsd, subject)
        place = {flat: row for row, flat in enumerate(truth["flat_index"].values.tolist())}
        planted = truth.isel(voxel=[place[flat] for flat in results["flat_index"].values.tolist()])
        heard = planted["noise_ceiling"].values > 0.5
        assert heard.sum() > 100
        rf = results["rf"].values
        distance = np.hypot(rf[:, 0] - planted["x"].values, rf[:, 1] - planted["y"].values)
        assert np.median(distance[heard]) < candidate_spacing(rf[:, 2])[heard].min()
        share = results["accuracy"].values / planted["noise_ceiling"].values
        assert np.median(results["accuracy"]) >= 0.8 * np.nanmedian(planted["noise_ceiling"])
        assert np.nanmedian(share) >= 0.8


def demo_settings() -> dict[str, Any]:
    (step,) = (step for step in load_pipeline("demo").steps if step.pipeline == "gabor_fwrf")
    return dict(step.set)


def candidate_spacing(sigma: np.ndarray) -> np.ndarray:
    """Distance of neighbouring centres among the candidates of a size."""
    return 1.1 / (np.ceil(1.1 / (1.4 * sigma)) - 1)
