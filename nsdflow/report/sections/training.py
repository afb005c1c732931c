"""Sections on a training."""

from __future__ import annotations

import xarray as xr

from nsdflow.report import markup
from nsdflow.report.figures.models.training import holdout_violins, learning_curves
from nsdflow.report.sections.record import Section, whole
from nsdflow.runs.contents import Run

__all__ = ["SECTIONS"]


def _learning_curves(run: Run) -> str:
    """The curves, and the choices of a training that depend on where it ran."""
    history = run.results["history"].to_dataset().load()
    drawn = markup.picture(learning_curves(history), "Losses and holdout accuracy by epoch")
    named = {"arithmetic": "precision", "prefilter's output kept": "prefilter_cache"}
    return drawn + markup.facts({name: history.attrs.get(key) for name, key in named.items()})


def _violins_by_trunk(run: Run) -> str:
    """Violins of the readouts on each trunk, under its name."""
    name = "transfer_holdout_accuracy_history"
    subjects = {key: data[name] for key, data in run.subjects().items() if name in data}
    pictures = {}
    for trunk in next(iter(subjects.values()))["model"].values:
        chosen = {
            key: values.sel(model=trunk).rename("holdout_accuracy_history").to_dataset().drop_vars("model")
            for key, values in subjects.items()
        }
        figure = holdout_violins(xr.DataTree.from_dict(chosen))
        described = f"Violins of holdout accuracy by epoch and subject, readouts on the trunk of {trunk}"
        pictures[f"on the trunk of {trunk}"] = markup.picture(figure, described)
    return markup.first_open(pictures)


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
    Section(
        "Holdout accuracy on each trunk by epoch",
        "Distribution over voxels of the correlation on holdout trials after each epoch, for new readouts on the trunk "
        "of one area.",
        ("transfer_holdout_accuracy_history",),
        _violins_by_trunk,
    ),
)
