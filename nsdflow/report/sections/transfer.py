"""Transfer between areas, and synthetic responses."""

from __future__ import annotations

import numpy as np

from nsdflow.report import markup
from nsdflow.report.figures.models.transfer import signal_accuracy, transfer_asymmetries, transfer_losses
from nsdflow.report.sections.record import Section, group, table_of
from nsdflow.runs.contents import Run

__all__ = ["SECTIONS"]


def _asymmetries(run: Run) -> str:
    table = run.results["transfer"].to_dataset().load()
    picture = markup.picture(transfer_asymmetries(table), "Asymmetry of transfer by subject and set")
    return picture + markup.details("By set and subject, as a table", table_of("transfer")(run))


def _noise_models(run: Run) -> str:
    rows = []
    for name, data in run.subjects().items():
        values = {v: data[v].values for v in ("gain", "noise_std", "measured_accuracy", "planted_accuracy")}
        share = 100 * float(data["residual"] / data["target_norm"])
        sizes = (data.sizes["voxel"], data.sizes["component"])
        rows.append((name, *sizes, *(float(np.median(column)) for column in values.values()), share))
    header = (
        "subject", "voxels", "components", "median gain b", "median noise", "median r with measured trials",
        "with synthetic trials", "residual (% of target)",
    )  # fmt: skip
    picture = markup.picture(signal_accuracy(run.results), "Accuracy of the signal on both kinds of trials")
    return picture + markup.table(header, rows)


SECTIONS = (
    Section(
        "Transfer between areas",
        "Change of the mean accuracy when an area (column) is predicted from the features that another area (row) "
        "learned; V1 is at the bottom left, as published, red is a gain. α above 0: features of higher areas predict "
        "lower ones better than the reverse; below 0: worse. The accuracies on this page are those of the areas' own "
        "models.",
        ("transfer/transfer", "transfer/alpha"),
        group("transfer", transfer_losses, "Transfer matrices and their asymmetry"),
    ),
    Section(
        "Asymmetry of transfer",
        "α and its error by subject, and for all subjects' voxels together. Above 0, features of higher areas predict "
        "lower ones better than the reverse. Where responses are synthetic, the hierarchy is that of the model whose "
        "predictions are their signal; experimental ones are the measured responses.",
        ("transfer/mean", "transfer/std"),
        _asymmetries,
    ),
    Section(
        "Noise model",
        "Synthetic responses are b times the signal plus noise mixed by R. b is chosen so that correlations between "
        "voxels are those of the data, R R' is the positive semi-definite matrix nearest to what is left of them; the "
        "residual says how far that is. Dots on the diagonal: the signal predicts synthetic trials as well as "
        "measured ones.",
        ("gain", "planted_accuracy", "measured_accuracy"),
        _noise_models,
    ),
)
