"""Transfer between areas, and synthetic responses with a known signal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsdflow.analysis.summary import subject_results
from nsdflow.report.style import INK, PALETTE, empty_figure, panel_grid, styled, used, zero_line

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

__all__ = ["signal_accuracy", "transfer_asymmetries", "transfer_losses"]


@styled
def transfer_losses(transfer: xr.Dataset, *, limit: float = 0.05) -> Figure:
    """Loss of each area on the features of another, by subject and over all, with the asymmetry.

    As published, rows are trunks and columns ROIs with the first area (V1) at the bottom left, and red is a gain.

    Parameters
    ----------
    transfer : xr.Dataset
        ``transfer`` (subject, model, roi), ``alpha`` and ``alpha_error`` (subject,).
    limit : float
        End of the colours (published: 0.05); numbers beyond it are written in like all others.
    """
    matrices = transfer["transfer"]
    count = matrices.sizes["subject"]
    columns = min(3 if count in (2, 3, 5, 6, 9) else 4, count)
    rows = -(-count // columns)
    figure = empty_figure(2.45 * columns + 0.8, 2.5 * rows + 0.2)
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes, name in zip(used(panels, count), matrices["subject"].values, strict=True):
        matrix = matrices.sel(subject=name)
        values = matrix.values
        image = axes.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, origin="lower")
        for row, column in np.ndindex(values.shape):
            strong = abs(values[row, column]) > 0.6 * limit
            axes.text(
                column, row, _signed(1000 * float(values[row, column]), 0), ha="center", va="center", fontsize=8,
                color="white" if strong else INK,
            )  # fmt: skip
        alpha, error = (float(transfer[v].sel(subject=name)) for v in ("alpha", "alpha_error"))
        axes.set_title(f"{name}   α = {_signed(alpha, 2)} ± {error:.2f}")
        axes.set_xticks(range(values.shape[1]), matrix["roi"].values)
        axes.set_yticks(range(values.shape[0]), matrix["model"].values)
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
    figure.supxlabel("predicted area", fontsize=9)
    figure.supylabel("area whose features are used", fontsize=9)
    bar = figure.colorbar(image, ax=panels, shrink=0.7, aspect=25, pad=0.02, extend="both")
    bar.set_label("change of r (numbers: thousandths)")
    bar.outline.set_visible(False)
    return figure


@styled
def transfer_asymmetries(table: xr.Dataset) -> Figure:
    """Asymmetry of transfer by subject and over all, for every set of responses.

    Parameters
    ----------
    table : xr.Dataset
        :func:`nsdflow.analysis.transfer_table`: ``mean`` and ``std`` (set, subject).
    """
    sets, subjects = ([str(name) for name in table[dim].values] for dim in ("set", "subject"))
    figure = empty_figure(2.6 + max(0.5, 0.13 * len(sets)) * len(subjects), 3.2)
    axes = figure.subplots()
    place = np.arange(len(subjects))
    for number, name in enumerate(sets):
        shift = 0.6 * (number / max(len(sets) - 1, 1) - 0.5) if len(sets) > 1 else 0
        alpha, error = (table[variable].sel(set=name).values for variable in ("mean", "std"))
        axes.errorbar(
            place + shift, alpha, error, fmt="o", color=PALETTE[number % len(PALETTE)], markersize=4, elinewidth=1.2,
            label=name,
        )  # fmt: skip
    zero_line(axes)
    for edge in place[1:] - 0.5:
        axes.axvline(edge, color="#dddddd", linewidth=0.6, zorder=0)
    axes.set_xticks(place, [name.removeprefix("subj0") for name in subjects])
    axes.tick_params(axis="x", length=0)
    axes.set(xlabel="subject", ylabel="asymmetry of transfer α", xlim=(-0.5, len(subjects) - 0.5))
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), title="signal of the responses", alignment="left")
    return figure


@styled
def signal_accuracy(results: xr.DataTree) -> Figure:
    """Accuracy of the signal on synthetic trials against its accuracy on measured trials, by subject.

    Parameters
    ----------
    results : xr.DataTree
        Results of a ``synthetic_data`` run: ``measured_accuracy``, ``planted_accuracy``, ``residual``, ``target_norm``.
    """
    subjects = {name: data for name, data in subject_results(results) if "planted_accuracy" in data}
    figure, _, shown = panel_grid(len(subjects), (2.4, 2.6), (0.4, 0.5), least=3.4, sharex=True, sharey=True)
    pairs = {name: [np.asarray(d[f"{w}_accuracy"]) for w in ("measured", "planted")] for name, d in subjects.items()}
    values = np.concatenate([np.concatenate(pair) for pair in pairs.values()])
    low, high = min(-0.05, float(np.nanmin(values))) - 0.02, max(0.2, float(np.nanmax(values))) + 0.05
    for axes, (name, (measured, planted)) in zip(shown, pairs.items(), strict=True):
        axes.plot([low, high], [low, high], color=INK, linewidth=0.7, zorder=0)
        axes.hexbin(
            measured, planted, gridsize=30, bins="log", mincnt=1, cmap="Blues", extent=(low, high, low, high), vmin=0.3,
            linewidths=0.1,
        )  # fmt: skip
        left = 100 * float(subjects[name]["residual"] / subjects[name]["target_norm"])
        axes.set_title(f"{name}   residual {left:.1f} %")
        axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    figure.supxlabel("correlation of the signal with measured trials", fontsize=9)
    figure.supylabel("with synthetic trials", fontsize=9)
    return figure


def _signed(value: float, digits: int) -> str:
    """A rounded number with a minus sign instead of a hyphen, and no sign on zero."""
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "\N{MINUS SIGN}")
