"""Folds events into the current state of runs, for the terminal, the dashboard page and ``nsdflow status``."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from distributed.diagnostics.plugin import SchedulerPlugin

from nsdflow.monitor.events import DRIVER_TOPIC, TOPIC

if TYPE_CHECKING:
    from collections.abc import Mapping

    from distributed import Client

    from nsdflow.monitor.events import Event

__all__ = ["PAGE", "LiveState", "LiveStatePlugin", "Stage", "Training", "format_duration", "has_page"]

#: Path of nsdflow's page below the address of the Dask dashboard.
PAGE: Final = "nsdflow"
#: Number of news lines that are kept.
NEWS_LINES: Final = 20


@dataclass
class Stage:
    """The tasks of one stage of a plan."""

    run: str
    """Name of the run or store; empty where the event did not say it."""
    name: str
    total: int
    done: int
    first: int
    """Tasks that were done before this execution; they are excluded from the pace."""
    started: float
    """Seconds since 1970."""
    bytes_done: int = 0
    """Bytes read and written by this execution."""

    @property
    def label(self) -> str:
        """``gnet8j: train``, or only the name of the stage."""
        return f"{self.run}: {self.name}" if self.run else self.name

    def seconds_left(self, now: float) -> float | None:
        """Time to the end at the mean pace so far; None before the first task is done."""
        fresh = self.done - self.first
        return (now - self.started) / fresh * (self.total - self.done) if fresh > 0 else None

    def bytes_per_second(self, now: float) -> float:
        """Bytes read and written per second so far."""
        return self.bytes_done / max(now - self.started, 1e-3)


@dataclass
class Training:
    """One training: its last epoch, its curves, and its activity since then."""

    name: str
    """``gnet8r/V1``."""
    total: int = 0
    """Epochs in all; 0 before the training reported it."""
    last: Event = field(default_factory=dict)
    """The event of the last epoch; empty before the first."""
    activity: str = ""
    """``reading data`` or ``training``: the activity since the last epoch."""
    batches: tuple[int, int] = (0, 0)
    """Finished batches of the current epoch, and their number."""
    epochs: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    holdout_loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Epochs that are done."""
        return int(self.last.get("epoch", 0))

    @property
    def label(self) -> str:
        """The name: it begins with the run."""
        return self.name

    def take_epoch(self, event: Event) -> None:
        """Add an epoch. An epoch that is trained again replaces the old one and all later ones."""
        keep = sum(epoch < event["epoch"] for epoch in self.epochs)
        for curve, key in self._curves():
            curve[keep:] = [event.get(key, float("nan"))]
        self.last, self.total = event, event["epochs"]
        self.activity, self.batches = "", (0, 0)

    def take_activity(self, event: Event) -> None:
        """Note the activity of the training before its next epoch is done."""
        self.activity = event["text"]
        self.batches = event.get("done", 0), event.get("total", 0)
        self.total = event.get("epochs", self.total)

    def seconds_left(self, now: float) -> float | None:
        """Time to the end at the pace of the last epoch; None before the first."""
        return (self.total - self.done) * float(self.last.get("seconds", 0.0)) if self.last else None

    def current(self) -> str:
        """``reading data``, ``batch 12/350``, or empty."""
        done, total = self.batches
        return f"batch {done}/{total}" if total else self.activity

    def row(self, now: float) -> dict[str, str]:
        """The training as a row of text, by column title."""
        last, left = self.last, self.seconds_left(now)
        waits = self.total and not last
        return {
            "training": self.name,
            "epoch": f"{self.done} / {self.total}" if self.total or last else "",
            "state": self.current() or ("waiting for the first epoch" if waits else ""),
            "loss": _number(last.get("loss")),
            "holdout loss": _number(last.get("holdout_loss")),
            "median holdout accuracy": _number(last.get("accuracy")),
            "s / epoch": f"{last['seconds']:.1f}" if "seconds" in last else "",
            "time left": "" if left is None else format_duration(left) if left else "done",
            "checkpoint age": format_duration(now - last["time"]) if last else "",
            "GPU memory": _gibibytes(last.get("gpu_memory")),
            "worker": str(last.get("worker_name", "")),
        }

    def _curves(self) -> tuple[tuple[list[Any], str], ...]:
        named = (self.epochs, "epoch"), (self.loss, "loss"), (self.holdout_loss, "holdout_loss")
        return (*named, (self.accuracy, "accuracy"))


@dataclass
class LiveState:
    """The current state that a stream of events describes."""

    stages: dict[str, Stage] = field(default_factory=dict)
    """By label."""
    trainings: dict[str, Training] = field(default_factory=dict)
    """By name."""
    jobs: dict[str, Mapping[str, int]] = field(default_factory=dict)
    """Number of batch jobs by state, by pool."""
    news: list[str] = field(default_factory=list)
    """Failures, changes of jobs and notes with their time of day, newest first."""

    def take(self, event: Event) -> Stage | Training | str | None:
        """Fold one event in.

        Returns
        -------
        Stage, Training, str or None
            The stage or training that changed, or the line of news; None for events of no known kind.
        """
        match event["kind"]:
            case "stage":
                done = event["done"]
                stage = Stage(event.get("run", ""), event["stage"], event["total"], done, done, event["time"])
                self.stages[stage.label] = stage
                return stage
            case "task-done":
                return self._task_done(event)
            case "epoch":
                training = self._training(event)
                training.take_epoch(event)
                return training
            case "activity":
                training = self._training(event)
                training.take_activity(event)
                return training
            case "job":
                self.jobs = dict(event["jobs"])
                number = f"job {event['id']} ({event['name']})" if event.get("id") else f"job {event['name']}"
                return self._add_news(event, f"{number} {event['state']}: {event['reason']}")
            case "task-failed":
                return self._add_news(event, f"{event['key']} failed: {event['error']}")
            case "note":
                return self._add_news(event, event["text"])
        return None

    def run_names(self) -> list[str]:
        """Names of the runs and stores in the order in which they began."""
        names = [stage.run for stage in self.stages.values()]
        names += [name.partition("/")[0] for name in self.trainings]
        return list(dict.fromkeys(name for name in names if name))

    def stage_rows(self, now: float) -> list[dict[str, str]]:
        """A row per stage."""
        rows = []
        for stage in self.stages.values():
            left = stage.seconds_left(now)
            eta = "done" if stage.done == stage.total else "" if left is None else format_duration(left)
            rows.append({"stage": stage.label, "tasks": f"{stage.done} / {stage.total}", "time left": eta})
        return rows

    def training_rows(self, now: float) -> list[dict[str, str]]:
        """A row per training; columns that are empty in every row are left out."""
        rows = [training.row(now) for training in self.trainings.values()]
        filled = {key for row in rows for key, cell in row.items() if cell}
        return [{key: cell for key, cell in row.items() if key in filled} for row in rows]

    def job_rows(self) -> list[dict[str, str]]:
        """A row per pool of batch jobs."""
        return [{"pool": pool, **{key: str(count) for key, count in jobs.items()}} for pool, jobs in self.jobs.items()]

    def subject_rows(self) -> list[dict[str, str]]:
        """A row per training: the median holdout accuracy by subject at its last epoch."""
        bars = self.accuracy_by_subject()
        subjects = sorted({subject for subject, _ in bars})
        return [
            {"median holdout accuracy": name, **{subject: _number(bars.get((subject, name))) for subject in subjects}}
            for name in dict.fromkeys(name for _, name in bars)
        ]

    def accuracy_by_subject(self) -> dict[tuple[str, str], float]:
        """Median holdout accuracy at the last epoch, by (subject, training)."""
        return {
            (subject, training.name): accuracy
            for training in self.trainings.values()
            for subject, accuracy in sorted(training.last.get("subjects", {}).items())
        }

    def _task_done(self, event: Event) -> Stage | None:
        run = event.get("run", "")
        stage = self.stages.get(f"{run}: {event['stage']}" if run else event["stage"])
        if stage is not None:
            stage.done += 1
            stage.bytes_done += event.get("bytes", 0)
        return stage

    def _training(self, event: Event) -> Training:
        name = "/".join(str(event[part]) for part in ("run", "group") if event.get(part))
        return self.trainings.setdefault(name, Training(name))

    def _add_news(self, event: Event, text: str) -> str:
        time_of_day = time.strftime("%H:%M:%S", time.localtime(event["time"]))
        self.news = [f"{time_of_day} {text}", *self.news[: NEWS_LINES - 1]]
        return text


class LiveStatePlugin(SchedulerPlugin):
    """Folds the events that pass a scheduler into a :class:`LiveState`."""

    name = "nsdflow-live-state"

    def __init__(self) -> None:
        self.state = LiveState()

    def log_event(self, topic: str, msg: Any) -> None:
        """Called by the scheduler for each message of any topic: one event, or a list of events from a driver."""
        if topic in (TOPIC, DRIVER_TOPIC):
            for event in (msg,) if topic == TOPIC else msg:
                self.state.take(dict(event))


def has_page(client: Client) -> bool:
    """Whether a client's scheduler runs in this process and serves nsdflow's page."""
    scheduler = getattr(client.cluster, "scheduler", None)
    return scheduler is not None and LiveStatePlugin.name in scheduler.plugins


def format_duration(seconds: float) -> str:
    """Hours, minutes and seconds; nothing is shorter than no time, though clocks of machines differ and jump.

    >>> format_duration(3725), format_duration(-5)
    ('1:02:05', '0:00')
    """
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _gibibytes(value: float | None) -> str:
    return "" if value is None else f"{value / 2**30:.1f} GiB"
