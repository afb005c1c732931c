"""How every figure looks: sizes, colours that colour-blind readers tell apart, and what axes have in common."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

import matplotlib as mpl
from matplotlib.figure import Figure

from nsdflow.names import ROI_GROUPS

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

__all__ = ["CEILING", "IMAGE_DEGREES", "INK", "PALETTE", "colour_of_roi", "empty_figure", "styled", "used", "zero_line"]

P = ParamSpec("P")

#: Degrees of visual angle that NSD's images span: results are in image widths.
IMAGE_DEGREES = 8.4

_OTHER = "#595959"
#: Okabe and Ito's colours, with a darker yellow and a grey.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#B8A800", _OTHER)
_MORE = ("#332288", "#882255", "#44AA99", "#999933")  # of Tol's muted scheme
INK = "#222222"
CEILING = "#9a9a9a"
"""Grey of noise ceilings and other limits."""

_STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#888888",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
}


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Makes a function that draws a figure draw it in this style, leaving matplotlib's settings as they were."""

    @wraps(draw)
    def in_style(*arguments: P.args, **options: P.kwargs) -> Figure:
        with mpl.rc_context(_STYLE):
            return draw(*arguments, **options)

    return in_style


def empty_figure(width: float, height: float) -> Figure:
    """A figure of that many inches that keeps labels apart, and belongs to no window or global list."""
    return Figure(figsize=(width, height), layout="constrained")


def colour_of_roi(name: str) -> str:
    """The same colour for an ROI in every figure; areas without one of their own are grey."""
    groups = [group for group in ROI_GROUPS if group != "other"]
    return dict(zip(groups, (*PALETTE[:-1], *_MORE), strict=True)).get(name, _OTHER)


def used(panels: NDArray[Any], count: int) -> list[Axes]:
    """The first ``count`` panels of a grid; the others are hidden, and the lowest of each column keeps its numbers."""
    for axes in panels.flat[count:]:
        axes.set_visible(False)
    for column in range(panels.shape[1]):
        visible = [axes for axes in panels[:, column] if axes.get_visible()]
        if visible:
            visible[-1].tick_params(labelbottom=True)
    return list(panels.flat[:count])


def zero_line(axes: Axes) -> None:
    """The line of chance: a correlation of zero."""
    axes.axhline(0, color=CEILING, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
