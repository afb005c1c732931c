"""nsdflow's own page in the Dask dashboard: stages, trainings with their curves, accuracy by subject, batch jobs.

:func:`dask_setup` adds the page to a scheduler. :func:`~nsdflow.cluster.connect.connect` calls it for the schedulers it
starts; start another one with ``dask scheduler --preload nsdflow.monitor.dashboard``.
"""

from __future__ import annotations

import time
from html import escape
from itertools import cycle
from typing import TYPE_CHECKING, Any, Final

from bokeh.layouts import column, row
from bokeh.models import BasicTicker, ColumnDataSource, DataRange1d, FactorRange
from bokeh.models.widgets import Div
from bokeh.palettes import Category10_10
from bokeh.plotting import figure
from distributed.dashboard.components.scheduler import BOKEH_THEME, env
from distributed.dashboard.core import BokehApplication
from distributed.dashboard.scheduler import template_variables
from tornado.ioloop import IOLoop

from nsdflow.monitor.state import PAGE, LiveState, LiveStatePlugin, Training

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bokeh.document import Document
    from bokeh.models import LayoutDOM
    from distributed import Scheduler

__all__ = ["Page", "dask_setup", "text_table"]

REFRESH_MS = 1000


def dask_setup(dask_scheduler: Scheduler) -> None:
    """Add the page and the link to it to a scheduler; its dashboard must be on."""
    if LiveStatePlugin.name in dask_scheduler.plugins:
        return
    plugin = LiveStatePlugin()
    dask_scheduler.add_plugin(plugin)
    variables = template_variables(dask_scheduler)
    variables["pages"].insert(0, PAGE)

    def serve(scheduler: Scheduler, extra: dict[str, Any], doc: Document) -> None:
        page = Page(plugin.state)
        doc.title = ", ".join(plugin.state.run_names()) or "nsdflow"
        doc.add_root(page.root)
        doc.template = env.get_template("simple.html")
        doc.template_variables.update(extra)
        doc.theme = BOKEH_THEME
        doc.add_periodic_callback(page.update, REFRESH_MS)

    application = BokehApplication({f"/{PAGE}": serve}, dask_scheduler, template_variables=variables)
    dask_scheduler.http_application.add_application(application)
    application.initialize(IOLoop.current())
    application.start()


class Page:
    """The page for one browser window; :meth:`update` brings it up to date.

    Parameters
    ----------
    state : LiveState
        What the page shows.
    now : callable
        Returns the current time in seconds since 1970.
    """

    def __init__(self, state: LiveState, now: Callable[[], float] = time.time) -> None:
        self.state, self.now = state, now
        self.curves = ColumnDataSource({"x": [], "y": [], "name": [], "color": [], "dash": []})
        self.accuracies = ColumnDataSource({"x": [], "y": [], "name": [], "color": []})
        self.points = {name: ColumnDataSource({"x": [], "y": [], "color": []}) for name in ("loss", "accuracy")}
        self.subjects = ColumnDataSource({"x": [], "top": [], "color": []})
        self.subject_range = FactorRange()
        self.title, self.trainings, self.stages, self.jobs, self.news = (
            Div(stylesheets=[STYLE], sizing_mode="stretch_width") for _ in range(5)
        )
        self.plots = self._plots()
        self.root = column(
            self.title,
            self.trainings,
            self.plots,
            self.stages,
            self.jobs,
            self.news,
            sizing_mode="stretch_width",
        )
        self.update()

    def _plots(self) -> LayoutDOM:
        """Three plots in a row, or below one another in a narrow window."""
        shape: dict[str, Any] = {
            "height": 260,
            "min_width": 340,
            "sizing_mode": "stretch_width",
            "toolbar_location": None,
        }
        loss = figure(title="loss by epoch (dashed: holdout)", **shape)
        loss.multi_line("x", "y", color="color", line_dash="dash", line_width=2, source=self.curves)
        loss.scatter("x", "y", color="color", size=5, source=self.points["loss"])
        accuracy = figure(title="median holdout accuracy by epoch", **shape)
        accuracy.multi_line("x", "y", color="color", line_width=2, legend_field="name", source=self.accuracies)
        accuracy.scatter("x", "y", color="color", size=5, source=self.points["accuracy"])
        accuracy.legend.location = "bottom_right"
        subjects = figure(
            title="median holdout accuracy by subject",
            x_range=self.subject_range,
            y_range=DataRange1d(start=0),
            **shape,
        )
        subjects.vbar("x", top="top", width=0.9, color="color", source=self.subjects)
        subjects.xaxis.major_label_text_font_size = "0px"  # colours identify the trainings, as in the curves
        subjects.xaxis.major_tick_line_color = None
        for plot in (loss, accuracy):
            plot.xaxis.axis_label = "epoch"
            plot.x_range = DataRange1d(start=0)
            plot.xaxis.ticker = BasicTicker(min_interval=1)
        return row(loss, accuracy, subjects, styles=WRAPPED, sizing_mode="stretch_width")

    def update(self) -> None:
        """Show the current state."""
        now, trainings = self.now(), list(self.state.trainings.values())
        self.title.text = self._heading(trainings)
        self.stages.text = text_table(self.state.stage_rows(now))
        self.trainings.text = text_table(self.state.training_rows(now))
        self.jobs.text = text_table(self.state.job_rows())
        self.news.text = "<br>".join(escape(line) for line in self.state.news)
        self.plots.visible = any(training.epochs for training in trainings)
        colors = dict(zip((training.name for training in trainings), cycle(Category10_10), strict=False))
        self.curves.data = {
            "x": [training.epochs for training in trainings] * 2,
            "y": [training.loss for training in trainings] + [training.holdout_loss for training in trainings],
            "name": [training.name for training in trainings] * 2,
            "color": list(colors.values()) * 2,
            "dash": ["solid"] * len(trainings) + ["dashed"] * len(trainings),
        }
        self.accuracies.data = {
            "x": [training.epochs for training in trainings],
            "y": [training.accuracy for training in trainings],
            "name": list(colors),
            "color": list(colors.values()),
        }
        self.points["loss"].data = _points(self.curves.data)
        self.points["accuracy"].data = _points(self.accuracies.data)
        bars = self.state.accuracy_by_subject()
        self.subject_range.factors = sorted(bars)
        self.subjects.data = {
            "x": list(bars),
            "top": list(bars.values()),
            "color": [colors[name] for _, name in bars],
        }

    def _heading(self, trainings: Sequence[Training]) -> str:
        """The names of the runs, and why there are no curves yet."""
        runs = self.state.run_names()
        heading = f"<h2>{escape(', '.join(runs)) or 'nsdflow'}</h2>"
        if not self.state.stages and not trainings:
            return f"{heading}<p>waiting for the first task</p>"
        if trainings and not any(training.epochs for training in trainings):
            return f"{heading}<p>waiting for the first epoch</p>"
        return heading


def _points(lines: Any) -> dict[str, Any]:
    """The points of lines that are given by (x, y, color); a line of one point would not be visible."""
    points = [
        (x, y, color)
        for xs, ys, color in zip(lines["x"], lines["y"], lines["color"], strict=True)
        for x, y in zip(xs, ys, strict=True)
    ]
    return {name: [point[index] for point in points] for index, name in enumerate(("x", "y", "color"))}


#: Plots side by side, as many as the window is wide enough for.
WRAPPED: Final = {"flex-wrap": "wrap"}
#: Tables are plain HTML: Bokeh's own does not repaint when values change but their number does not.
STYLE: Final = """
:host { overflow-x: auto }
h2 { margin: 4px 0 8px 0; font-size: 18px }
p { color: #555 }
table { border-collapse: collapse; font-size: 13px; margin: 4px 0 12px 0 }
th { text-align: left; font-weight: 600; color: #555; border-bottom: 1px solid #bbb }
th, td { padding: 3px 6px 3px 4px; font-variant-numeric: tabular-nums }
td { white-space: nowrap }
tr:nth-child(odd) td { background: #f2f2f2 }
"""


def text_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Rows of text as an HTML table, titled by the keys of the first row; empty without rows."""
    if not rows:
        return ""
    head = "".join(f"<th>{escape(title)}</th>" for title in rows[0])
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row.values())}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"
