"""The kinds of pipelines: one record per kind, imported when a pipeline of that kind is loaded or planned.

To add a kind, write its settings and its planner in a module of this package, add its line to :data:`KINDS`, and
write its page in ``docs/analyses``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from nsdflow.config.pipeline import PipelineBase
    from nsdflow.engine.plan import Plan
    from nsdflow.pipelines.predict.record import PredictorKind
    from nsdflow.runs.folder import RunFolder

__all__ = ["KINDS", "Kind", "Planner"]


class Planner(Protocol):
    """Plans a pipeline; the last task of the plan publishes ``results.zarr`` in the run folder."""

    def __call__(self, pipeline: Any, *, store: str, folder: RunFolder) -> Plan:
        """Plan ``pipeline`` on the store at ``store`` for the run in ``folder``."""


@dataclass(frozen=True)
class Kind:
    """One kind of pipeline. Its parts are named ``module:name`` and imported on first use."""

    name: str
    """Value of ``kind`` in a pipeline file."""
    settings_at: str
    """Subclass of :class:`~nsdflow.config.pipeline.PipelineBase`."""
    planner_at: str | None
    """A :class:`Planner`; None for a sequence, which has only the plans of its steps."""
    predictor_at: str | None = None
    """A :class:`~nsdflow.pipelines.predict.record.PredictorKind`; None if runs of this kind predict no images."""

    @property
    def settings(self) -> type[PipelineBase]:
        """Class of the settings."""
        settings: type[PipelineBase] = _imported(self.settings_at)
        return settings

    @property
    def plan(self) -> Planner:
        """Function that plans a pipeline of this kind."""
        if self.planner_at is None:
            raise TypeError(f"a pipeline of kind {self.name} is planned step by step")
        planner: Planner = _imported(self.planner_at)
        return planner

    @property
    def predictor(self) -> PredictorKind | None:
        """Return the record of how finished runs of this kind predict images."""
        predictor: PredictorKind | None = None if self.predictor_at is None else _imported(self.predictor_at)
        return predictor


_PIPELINES: Final = "nsdflow.pipelines"
_PREDICTORS: Final = f"{_PIPELINES}.predict.predictors"

KINDS: Final[Mapping[str, Kind]] = {
    kind.name: kind
    for kind in (
        Kind(
            "gnet",
            settings_at=f"{_PIPELINES}.gnet.settings:GNetPipeline",
            planner_at=f"{_PIPELINES}.gnet.tasks:plan_gnet",
            predictor_at=f"{_PREDICTORS}:GNET",
        ),
        Kind(
            "transfer",
            settings_at=f"{_PIPELINES}.transfer:TransferPipeline",
            planner_at=f"{_PIPELINES}.transfer:plan_transfer",
        ),
        Kind(
            "fpf",
            settings_at=f"{_PIPELINES}.fpf:FpfPipeline",
            planner_at=f"{_PIPELINES}.fpf:plan_fpf",
            predictor_at=f"{_PREDICTORS}:FPF",
        ),
        Kind(
            "fwrf",
            settings_at=f"{_PIPELINES}.fwrf.settings:FwrfPipeline",
            planner_at=f"{_PIPELINES}.fwrf.tasks:plan_fwrf",
            predictor_at=f"{_PREDICTORS}:FWRF",
        ),
        Kind(
            "features",
            settings_at=f"{_PIPELINES}.features.settings:FeaturesPipeline",
            planner_at=f"{_PIPELINES}.features.tasks:plan_features",
        ),
        Kind(
            "ridge",
            settings_at=f"{_PIPELINES}.ridge.settings:RidgePipeline",
            planner_at=f"{_PIPELINES}.ridge.tasks:plan_ridge",
            predictor_at=f"{_PREDICTORS}:RIDGE",
        ),
        Kind(
            "banded_ridge",
            settings_at=f"{_PIPELINES}.banded.settings:BandedRidgePipeline",
            planner_at=f"{_PIPELINES}.banded.tasks:plan_banded",
            predictor_at=f"{_PREDICTORS}:BANDED",
        ),
        Kind(
            "semantic",
            settings_at=f"{_PIPELINES}.semantic.settings:SemanticPipeline",
            planner_at=f"{_PIPELINES}.semantic.tasks:plan_semantic",
        ),
        Kind(
            "predict",
            settings_at=f"{_PIPELINES}.predict.settings:PredictPipeline",
            planner_at=f"{_PIPELINES}.predict.tasks:plan_predict",
        ),
        Kind(
            "evaluate",
            settings_at=f"{_PIPELINES}.predict.evaluate:EvaluatePipeline",
            planner_at=f"{_PIPELINES}.predict.evaluate:plan_evaluate",
        ),
        Kind(
            "synthetic_data",
            settings_at=f"{_PIPELINES}.synthetic_data.settings:SyntheticDataPipeline",
            planner_at=f"{_PIPELINES}.synthetic_data.tasks:plan_synthetic_data",
        ),
        Kind(
            "tuning",
            settings_at=f"{_PIPELINES}.tuning:TuningPipeline",
            planner_at=f"{_PIPELINES}.tuning:plan_tuning",
        ),
        Kind(
            "tables",
            settings_at=f"{_PIPELINES}.tables:TablesPipeline",
            planner_at=f"{_PIPELINES}.tables:plan_tables",
        ),
        Kind("sequence", settings_at=f"{_PIPELINES}.sequence:SequencePipeline", planner_at=None),
    )
}


def _imported(location: str) -> Any:
    module, _, name = location.partition(":")
    return getattr(import_module(module), name)
