"""NSD's sister experiments: the same subjects and voxels, other images, one further session each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from nsdflow.errors import one_of
from nsdflow.nsd.experiments.imagery import IMAGERY
from nsdflow.nsd.experiments.record import SisterExperiment
from nsdflow.nsd.experiments.synthetic import SYNTHETIC

__all__ = ["EXPERIMENTS", "SisterExperiment", "parse_experiments"]

EXPERIMENTS: Final[Mapping[str, SisterExperiment]] = {one.name: one for one in (SYNTHETIC, IMAGERY)}


def parse_experiments(names: str | Iterable[str]) -> tuple[str, ...]:
    """Names of experiments, each once, in the order of the table.

    >>> parse_experiments("imagery,synthetic")
    ('synthetic', 'imagery')

    Raises
    ------
    SelectionError
        No such experiment.
    """
    asked = [name.strip() for name in (names.split(",") if isinstance(names, str) else names) if name.strip()]
    for name in asked:
        if name not in EXPERIMENTS:
            raise one_of("sister experiment", name, EXPERIMENTS)
    return tuple(name for name in EXPERIMENTS if name in asked)
