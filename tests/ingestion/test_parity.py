"""``nsdflow check --parity``: counts beside the published ones."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
from typer.testing import CliRunner

from nsdflow.analysis import published
from nsdflow.cli.app import app
from nsdflow.ingestion.parity import Count, check_parity, describe_parity
from nsdflow.nsd import layout


def test_counts_are_those_of_the_volumes(small_nsd: Path) -> None:
    counts = {(c.subject, c.voxels, c.roi): c for c in check_parity(str(small_nsd))}
    early = np.asarray(nibabel.load(small_nsd / layout.roi_paths("subj02", "prf-visualrois", "func1pt8mm")[0]).dataobj)
    assert counts["subj02", "evc", "all"].ours == (early > 0).sum()
    assert counts["subj02", "evc", "V2"].ours == np.isin(early, (3, 4)).sum()
    assert counts["subj02", "evc", "V2"].published == published.value_of("voxels", "evc", "subj02", "V2")
    assert sum(c.ours for (s, v, r), c in counts.items() if (s, v) == ("subj01", "visual") and r != "all") == (
        counts["subj01", "visual", "all"].ours
    )


def test_the_command_says_what_differs(small_nsd: Path) -> None:
    outcome = CliRunner().invoke(app, ["check", str(small_nsd), "--parity"])
    assert outcome.exit_code == 0, outcome.output
    assert "on synthetic data the comparison means nothing" in " ".join(outcome.output.split())
    same = describe_parity((Count("subj01", "evc", "all", 4627, 4627),))
    assert same.splitlines()[-1] == "1 of 1 counts are the published ones"
