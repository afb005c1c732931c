"""Where everything stands, folded from events: what the dashboard page shows, and what it would take to show it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from distributed.diagnostics.plugin import SchedulerPlugin

from nsdflow.monitor.events import DRIVER_TOPIC, TOPIC

if TYPE_CHECKING:
    from collections.abc import Mapping

    from distributed import Client

    from nsdflow.monitor.events import Event

__all__ = ["PAGE", "Stage", "Training", "Watch", "Watching", "clock", "has_page"]

#: Address of nsdflow's page below the Dask dashboard's own.
PAGE = "nsdflow"


@dataclass
class Stage:
    """Tasks of one heading of a plan."""

    name: str
    total: int
    done: int
    first: int
    """Tasks that were done before this execution; they say nothing about its pace."""
    started: float

    def seconds_left(self, now: float) -> float | None:
        """Time to the end at the mean pace so far; None before anything was done."""
        fresh = self.done - self.first
        return (now - self.started) / fresh * (self.total - self.done) if fresh else None


@dataclass
class Training:
    """One training: its last epoch, and its curves so far."""

    last: Event
    epochs: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    holdout_loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)

    def take(self, event: Event) -> None:
        """Add an epoch. One that was trained again after an interruption replaces what came of it before."""
        keep = sum(epoch < event["epoch"] for epoch in self.epochs)
        for curve, key in self._curves():
            curve[keep:] = [event.get(key, float("nan"))]
        self.last = event

    def _curves(self) -> tuple[tuple[list[Any], str], ...]:
        named = (self.epochs, "epoch"), (self.loss, "loss"), (self.holdout_loss, "holdout_loss")
        return (*named, (self.accuracy, "accuracy"))

    def row(self, now: float) -> dict[str, str]:
        """The training as a row of text, one cell a column."""
        last = self.last
        left = (last["epochs"] - last["epoch"]) * last.get("seconds", 0.0)
        return {
            "training": self.name,
            "epoch": f"{last['epoch']} / {last['epochs']}",
            "loss": _number(last.get("loss")),
            "holdout loss": _number(last.get("holdout_loss")),
            "median accuracy": _number(last.get("accuracy")),
            "s / epoch": f"{last.get('seconds', 0.0):.1f}",
            "time left": clock(left) if left else "done",
            "checkpoint age": clock(now - last["time"]),
            "GPU memory": _gibibytes(last.get("gpu_memory")),
            "worker": str(last.get("worker_name", "")),
        }

    @property
    def name(self) -> str:
        """``gnet8r/V1``."""
        return "/".join(str(self.last[part]) for part in ("run", "group") if self.last.get(part))


@dataclass
class Watch:
    """The state that a stream of events describes."""

    stages: dict[str, Stage] = field(default_factory=dict)
    trainings: dict[str, Training] = field(default_factory=dict)
    jobs: dict[str, Mapping[str, int]] = field(default_factory=dict)
    news: list[str] = field(default_factory=list)
    """Failures, lost jobs and notes, newest first."""

    def take(self, event: Event) -> None:
        """Fold one event in."""
        match event["kind"]:
            case "stage":
                done = event["done"]
                self.stages[event["stage"]] = Stage(event["stage"], event["total"], done, done, event["time"])
            case "task-done" if event["stage"] in self.stages:
                self.stages[event["stage"]].done += 1
            case "epoch":
                training = Training(event)
                self.trainings.setdefault(training.name, training).take(event)
            case "job":
                self.jobs = dict(event["jobs"])
                self._tell(event, f"{event['name']} {event['state']}: {event['reason']}")
            case "task-failed":
                self._tell(event, f"{event['key']} failed: {event['error']}")
            case "note":
                self._tell(event, event["text"])

    def _tell(self, event: Event, text: str) -> None:
        when = time.strftime("%H:%M:%S", time.localtime(event["time"]))
        self.news = [f"{when} {text}", *self.news[:19]]

    def stage_rows(self, now: float) -> list[dict[str, str]]:
        """A row for each stage."""
        rows = []
        for stage in self.stages.values():
            left = stage.seconds_left(now)
            eta = "done" if stage.done == stage.total else "" if left is None else clock(left)
            rows.append({"stage": stage.name, "tasks": f"{stage.done} / {stage.total}", "time left": eta})
        return rows

    def training_rows(self, now: float) -> list[dict[str, str]]:
        """A row for each training."""
        return [training.row(now) for training in self.trainings.values()]

    def job_rows(self) -> list[dict[str, str]]:
        """A row for each pool of batch jobs."""
        return [{"pool": pool, **{key: str(count) for key, count in jobs.items()}} for pool, jobs in self.jobs.items()]

    def subject_rows(self) -> list[dict[str, str]]:
        """A row for each training: median holdout accuracy by subject, at its last epoch."""
        bars = self.accuracy_by_subject()
        subjects = sorted({subject for subject, _ in bars})
        return [
            {"median accuracy": name, **{subject: _number(bars.get((subject, name))) for subject in subjects}}
            for name in dict.fromkeys(name for _, name in bars)
        ]

    def accuracy_by_subject(self) -> dict[tuple[str, str], float]:
        """Median holdout accuracy of each subject in each training, at its last epoch."""
        return {
            (subject, training.name): accuracy
            for training in self.trainings.values()
            for subject, accuracy in sorted(training.last.get("subjects", {}).items())
        }


class Watching(SchedulerPlugin):
    """Folds the events that pass the scheduler into a :class:`~nsdflow.monitor.state.Watch`."""

    name = "nsdflow-watching"

    def __init__(self) -> None:
        self.watch = Watch()

    def log_event(self, topic: str, msg: Any) -> None:
        """Called by the scheduler for each message of any topic: an event, or from a driver several."""
        if topic in (TOPIC, DRIVER_TOPIC):
            for event in (msg,) if topic == TOPIC else msg:
                self.watch.take(dict(event))


def has_page(client: Client) -> bool:
    """Whether a client's scheduler runs in this process and shows nsdflow's page."""
    scheduler = getattr(client.cluster, "scheduler", None)
    return scheduler is not None and Watching.name in scheduler.plugins


def clock(seconds: float) -> str:
    """``3725 -> "1:02:05"``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _gibibytes(value: float | None) -> str:
    return "" if value is None else f"{value / 2**30:.1f} GiB"
