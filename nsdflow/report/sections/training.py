"""Sections on a training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsdflow.report import markup
from nsdflow.report.figures.training import holdout_violins, learning_curves
from nsdflow.report.sections.record import Section, whole

if TYPE_CHECKING:
    from nsdflow.runs.contents import Run

__all__ = ["SECTIONS"]


def _learning_curves(run: Run) -> str:
    """The curves, and the choices of a training that depend on where it ran."""
    history = run.results["history"].to_dataset().load()
    drawn = markup.picture(learning_curves(history), "Losses and holdout accuracy by epoch")
    named = {"arithmetic": "precision", "prefilter's output kept": "prefilter_cache"}
    return drawn + markup.facts({name: history.attrs.get(key) for name, key in named.items()})


SECTIONS = (
    Section(
        "Learning curves",
        "The epoch with the highest median holdout accuracy is kept. Holdout trials are set aside from the training "
        "trials; validation images play no part in it. Training losses are taken with dropout, holdout losses without.",
        ("history/train_loss", "history/holdout_accuracy"),
        _learning_curves,
    ),
    Section(
        "Holdout accuracy of all voxels by epoch",
        "Distribution over voxels of the correlation on holdout trials after each epoch.",
        ("holdout_accuracy_history",),
        whole(holdout_violins, "Violins of holdout accuracy by epoch and subject"),
    ),
)
