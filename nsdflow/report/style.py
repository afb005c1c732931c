"""Style of all figures: sizes, colours that colour-blind readers can distinguish, and axes.

Figures do not depend on the user's matplotlib (a matplotlibrc, ``MPLBACKEND``, a dark style, ``text.usetex``): they are
drawn and saved with matplotlib's defaults and the settings below, on a canvas that belongs to no window.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nsdflow.names import ROI_GROUPS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

__all__ = [
    "CEILING",
    "IMAGE_DEGREES",
    "INK",
    "PALETTE",
    "colour_of_roi",
    "empty_figure",
    "grid_of",
    "house_style",
    "nothing_to_show",
    "panel_grid",
    "percentile_limits",
    "styled",
    "used",
    "zero_line",
]

P = ParamSpec("P")

#: Width of NSD's images in degrees of visual angle; results are in image widths.
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
    "text.parse_math": False,  # names may hold dollar signs
}


@contextmanager
def house_style() -> Iterator[None]:
    """Matplotlib's defaults with the settings of this module; the user's settings are back afterwards."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Decorate a function that returns a figure: it draws in :func:`house_style`."""

    @wraps(draw)
    def in_style(*arguments: P.args, **options: P.kwargs) -> Figure:
        with house_style():
            return draw(*arguments, **options)

    return in_style


def empty_figure(width: float, height: float) -> Figure:
    """A figure of ``width`` by ``height`` inches that keeps labels apart, and belongs to no window or global list."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def colour_of_roi(name: str) -> str:
    """The colour of an ROI, the same in every figure; areas without a colour are grey."""
    groups = [group for group in ROI_GROUPS if group != "other"]
    return dict(zip(groups, (*PALETTE[:-1], *_MORE), strict=True)).get(name, _OTHER)


def used(panels: NDArray[Any], count: int) -> list[Axes]:
    """The first ``count`` panels of a grid; the others are hidden. The lowest of each column keeps its numbers."""
    for axes in panels.flat[count:]:
        axes.set_visible(False)
    for column in range(panels.shape[1]):
        visible = [axes for axes in panels[:, column] if axes.get_visible()]
        if visible:
            visible[-1].tick_params(labelbottom=True)
    return list(panels.flat[:count])


def percentile_limits(values: NDArray[Any]) -> tuple[float, float]:
    """Ends of the colours of finite values: 0 (the 1st percentile if that is lower) to the 99th percentile."""
    low, high = (float(end) for end in np.percentile(values, [1, 99])) if values.size else (0.0, 1.0)
    low = min(0.0, low)
    return low, high if high > low else low + 1


def zero_line(axes: Axes) -> None:
    """The line of chance: a correlation of zero."""
    axes.axhline(0, color=CEILING, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)


def grid_of(count: int, most: int = 4) -> tuple[int, int]:
    """Rows and columns for ``count`` panels, at most ``most`` side by side."""
    columns = min(most, max(count, 1))
    return -(-count // columns) if count else 1, columns


def panel_grid(
    count: int,
    size: tuple[float, float],
    margins: tuple[float, float],
    *,
    least: float = 0.0,
    most: int = 4,
    **shared: Any,
) -> tuple[Figure, NDArray[Any], list[Axes]]:
    """A figure, all its panels (row, column), and the first ``count`` of them; the others are hidden.

    Sizes of a panel and margins are (width, height) in inches; a narrower figure is ``least`` inches wide.
    """
    rows, columns = grid_of(count, most)
    figure = empty_figure(max(least, size[0] * columns + margins[0]), size[1] * rows + margins[1])
    panels = figure.subplots(rows, columns, squeeze=False, **shared)
    return figure, panels, used(panels, count)


def nothing_to_show(reason: str) -> Figure:
    """Figure with the reason why there is nothing to draw."""
    figure = empty_figure(6.4, 0.5)
    figure.text(0.5, 0.5, reason, ha="center", va="center", color="#666666")
    return figure
