"""Pictures of the brain: flat maps, surfaces and slices, and the page to explore voxels."""

from __future__ import annotations

from nsdflow.report.brain.pictures import draw_map, plot_flat, plot_slices, plot_surface
from nsdflow.report.brain.views import View, best_view, flat_view, slice_view, surface_view

__all__ = [
    "View",
    "best_view",
    "draw_map",
    "flat_view",
    "plot_flat",
    "plot_slices",
    "plot_surface",
    "slice_view",
    "surface_view",
]
