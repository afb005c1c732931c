"""Shares of variance by ROI and over subjects as the published cells average them, for bars and for curves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

from nsdflow.analysis import roi_summary
from nsdflow.analysis.features.partitions import variance_shares
from nsdflow.analysis.summary import across_subjects

Arrays = dict[str, np.ndarray]
AREAS = ["V1", "V2", "V3", "hV4"]


@pytest.fixture(scope="module")
def published(golden: Callable[[str], Arrays]) -> Arrays:
    return golden("tuning_bootstrap")


def summaries(published: Arrays, kind: str) -> xr.Dataset:
    """Published weighting of every subject's shares: (subject, roi, partition)."""
    subjects = sorted(int(name.rpartition("_")[2]) for name in published if name.startswith("summary_roi_"))
    found = []
    for s in subjects:
        tables = {
            "accuracy": ("voxel", published[f"{kind}_val_cc_{s}"]),
            "inclusion": (("partition", "voxel"), published[f"{kind}_incl_val_cc_{s}"]),
            "exclusion": (("partition", "voxel"), published[f"{kind}_excl_val_cc_{s}"]),
        }
        data = {name: (dims, values[..., 0].astype(float)) for name, (dims, values) in tables.items()}
        data |= {f"{name}_std": (dims, values[..., 1].astype(float)) for name, (dims, values) in tables.items()}
        correlations = xr.Dataset(data)
        roi = xr.DataArray(published[f"summary_roi_{s}"].astype(int), dims="voxel")
        shares = variance_shares(correlations)[["shared", "shared_error", "unique", "unique_error"]]
        summary = roi_summary(shares, correlations["accuracy"], roi, average="published", threshold=0.055)
        found.append(summary.reindex(roi=AREAS))
    return xr.concat(found, xr.Variable("subject", subjects)).transpose("subject", "roi", "partition")


@pytest.mark.parametrize("name", ["shared", "unique"])
def test_curves_by_subject_roi_and_layer(published: Arrays, name: str) -> None:
    found = summaries(published, "curve")
    np.testing.assert_allclose(found[name], published[f"curve_{name}"], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(found[f"{name}_error"], published[f"curve_{name}_err"], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", ["shared", "unique"])
def test_bars_by_subject_and_their_mean_over_subjects(published: Arrays, name: str) -> None:
    first = summaries(published, "bar").isel(partition=0)
    np.testing.assert_allclose(first[name], published[f"bar_{name}"], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(first[f"{name}_error"], published[f"bar_{name}_err"], rtol=1e-4, atol=1e-3)
    mean, error = across_subjects(first[name].values, first[f"{name}_error"].values)
    np.testing.assert_allclose(mean, published[f"bar_{name}_mean"], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(error, published[f"bar_{name}_mean_err"], rtol=1e-4, atol=1e-3)
