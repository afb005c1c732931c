"""``nsdflow explore``: one self-contained page to explore the voxels of a run."""

from __future__ import annotations

from nsdflow.report.brain.explorer.page import write_explorer

__all__ = ["write_explorer"]
