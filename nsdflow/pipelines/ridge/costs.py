"""Planned peak memory of ridge tasks, and the settings with which they need less."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from nsdflow.engine.memory import Memory
from nsdflow.fit.ridge import RidgeShape, plan_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsdflow.pipelines.features.source import FeatureTable
    from nsdflow.pipelines.ridge.data import TrialSplit
    from nsdflow.pipelines.ridge.settings import RidgePipeline

__all__ = ["TaskCosts"]


@dataclass(frozen=True)
class TaskCosts:
    """Sizes of the tasks of one subject and layer."""

    design: TrialSplit
    table: FeatureTable
    voxels: int
    """Voxels of the subject."""
    response_bytes: int
    """Bytes of all responses of the subject."""

    def gram(self, pipeline: RidgePipeline) -> Memory:
        """Peak of a task without responses: the larger of forming the system and of solving it."""
        held = max((int(fold.sum()) for fold in self.design.folds), default=0)
        images = len(self.design.images)
        shape = RidgeShape(
            images=images,
            features=self.table.count,
            voxels=min(self.voxels, pipeline.voxels_per_task),
            observations=len(self.design.observations.image),
            held=held,
            keep=True,
        )
        planned = plan_memory(shape, pipeline.problem())
        terms = {field.name: getattr(planned, field.name) for field in fields(planned)}
        validation, held = 4 * len(self.design.shown) * images, self.table.matrix.held_bytes
        return Memory.with_torch(validation=validation, file=held, **terms)

    def solve(self, pipeline: RidgePipeline) -> Memory:
        """Peak of the task of one block of voxels."""
        share = min(pipeline.voxels_per_task, self.voxels) / self.voxels
        return Memory.of(**self.gram(pipeline).terms, responses=2 * share * self.response_bytes)

    def smaller(self, pipeline: RidgePipeline) -> tuple[tuple[str, int], ...]:
        """Settings with which the tasks need less memory, and how much, from the mildest."""
        found, least = [], int(self.solve(pipeline))
        for changes in _changes(pipeline):
            needed = int(self.solve(pipeline.model_copy(update=changes)))
            if needed < least:
                found.append((" ".join(f"{name}={value}" for name, value in changes.items()), needed))
                least = needed
        return tuple(found)


def _changes(pipeline: RidgePipeline) -> Iterator[dict[str, Any]]:
    """Smaller blocks, then a smaller system with smaller blocks."""
    blocks = ("voxels_per_task", "voxels_at_once", "features_at_once")
    precisions: list[dict[str, Any]] = [{}] + ([{"precision": "float32"}] if pipeline.precision != "float32" else [])
    for precision in precisions:
        for divisor in (1, 2, 4, 8, 16, 32):
            sizes = {name: max(1, getattr(pipeline, name) // divisor) for name in blocks}
            changes = {**precision, **({} if divisor == 1 else sizes)}
            if changes:
                yield changes
