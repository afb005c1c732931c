"""The plan engine runs exactly the missing tasks, in order, and survives kills."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cloudpickle
import pytest
from distributed import Client

from nsdflow.cluster.connect import connect
from nsdflow.engine import markers
from nsdflow.engine.execute import execute, run_task
from nsdflow.engine.plan import Plan, Task, task
from nsdflow.errors import PlanError, RunError, SourceError
from nsdflow.io.write import atomic_file


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with connect("threads", threads_per_worker=2, memory="16GiB") as client:
        yield client


@dataclass(frozen=True)
class Note:
    log: str
    name: str


@dataclass(frozen=True)
class Nothing:
    pass


@task("tests.note", version=1)
def note(job: Note) -> str:
    with Path(job.log).open("a") as file:
        file.write(job.name + "\n")
    return job.name.upper()


@task("tests.write_file", version=1)
def write_file(job: Note) -> None:
    with atomic_file(job.log) as file:
        file.write(job.name.encode())


@task("tests.break_file", version=1)
def break_file(job: Nothing) -> None:
    raise SourceError("betas.nii.gz: truncated")


@task("tests.crash", version=1)
def crash(job: Nothing) -> None:
    raise ZeroDivisionError("division by zero")


def chain(folder: Path, names: str = "abc") -> Plan:
    log = str(folder / "log")
    tasks = [
        Task(name, note, Note(log, name), "letters", after=tuple(names[:number][-1:]), memory=10, files=1)
        for number, name in enumerate(names)
    ]
    return Plan("three letters", str(folder), tuple(tasks))


def ran(folder: Path) -> list[str]:
    log = folder / "log"
    return log.read_text().split() if log.exists() else []


def test_tasks_run_in_order_and_only_once(client: Client, tmp_path: Path) -> None:
    plan = chain(tmp_path)
    assert execute(plan, client) == {"a": "A", "b": "B", "c": "C"}
    assert ran(tmp_path) == ["a", "b", "c"]
    assert execute(plan, client) == {"a": "A", "b": "B", "c": "C"}
    assert ran(tmp_path) == ["a", "b", "c"]


def test_a_lost_marker_reruns_the_task_and_what_waits_for_it(client: Client, tmp_path: Path) -> None:
    plan = chain(tmp_path)
    execute(plan, client)
    (tmp_path / "tasks" / "b.json").unlink()
    assert [task.key for task in plan.missing()] == ["b", "c"]
    execute(plan, client)
    assert ran(tmp_path) == ["a", "b", "c", "b", "c"]


def test_a_marker_of_another_record_does_not_count(tmp_path: Path) -> None:
    plan = chain(tmp_path)
    markers.write(str(tmp_path), "a", {"fingerprint": "of another call", "result": "A"})
    assert [task.key for task in plan.missing()] == ["a", "b", "c"]
    markers.write(str(tmp_path), "a", {"fingerprint": plan.tasks[0].fingerprint, "result": "A"})
    assert [task.key for task in plan.missing()] == ["b", "c"]


def test_what_the_listener_hears(client: Client, tmp_path: Path) -> None:
    heard: list[dict[str, object]] = []
    plan = chain(tmp_path, "ab")
    execute(plan, client, listen=heard.append)
    assert [event["kind"] for event in heard] == ["stage", "task-done", "task-done"]
    assert {key: heard[0][key] for key in ("stage", "total", "done")} == {"stage": "letters", "total": 2, "done": 0}
    heard.clear()
    execute(plan, client, listen=heard.append)
    assert [(event["kind"], event["done"]) for event in heard] == [("stage", 2)]


def test_gpu_tasks_run_on_the_cpu_where_there_is_no_gpu(client: Client, tmp_path: Path) -> None:
    train = Task("train", note, Note(str(tmp_path / "log"), "t"), "train", pool="gpu")
    assert execute(Plan("one", str(tmp_path), (train,)), client) == {"train": "T"}


def test_the_error_of_a_task_arrives_as_it_was(client: Client, tmp_path: Path) -> None:
    first, *_ = chain(tmp_path).tasks
    plan = Plan("broken", str(tmp_path), (first, Task("bad", break_file, Nothing(), "read", after=("a",))))
    with pytest.raises(SourceError, match="truncated"):
        execute(plan, client)
    assert markers.read_markers(str(tmp_path)).keys() == {"a"}
    plan = Plan("crashing", str(tmp_path), (Task("bug", crash, Nothing(), "read"),))
    with pytest.raises(RunError, match="bug: ZeroDivisionError: division by zero"):
        execute(plan, client)


def test_a_plan_that_cannot_fit_runs_nothing(client: Client, tmp_path: Path) -> None:
    plan = chain(tmp_path)
    big = Task("big", note, plan.tasks[0].job, "letters", memory=2**40)
    with pytest.raises(PlanError, match=r"big needs 1\.00 TiB but a worker has .* GiB"):
        execute(Plan("too big", str(tmp_path), (*plan.tasks, big)), client)
    with pytest.raises(PlanError, match="3 files planned, 2 allowed"):
        execute(Plan("too many", str(tmp_path), plan.tasks, file_budget=2), client)
    assert ran(tmp_path) == []


def test_plans_are_checked_when_made(tmp_path: Path) -> None:
    a, b, _ = chain(tmp_path).tasks
    with pytest.raises(PlanError, match="two tasks are called a"):
        Plan("twice", str(tmp_path), (a, a))
    with pytest.raises(PlanError, match="b waits for"):
        Plan("backwards", str(tmp_path), (b, a))


def test_a_marker_whose_files_are_not_whole_does_not_count(client: Client, tmp_path: Path) -> None:
    job = Note(str(tmp_path / "out" / "a"), "a")
    plan = Plan("one", str(tmp_path), (Task("write", write_file, job, "letters"),))
    execute(plan, client)
    assert json.loads((tmp_path / "tasks" / "write.json").read_text())["files"] == {"out/a": 1}
    assert plan.missing() == ()
    (tmp_path / "out" / "a").write_text("")
    assert [task.key for task in plan.missing()] == ["write"]
    (tmp_path / "out" / "a").unlink()
    assert [task.key for task in plan.missing()] == ["write"]


def test_describe_counts_by_stage(tmp_path: Path) -> None:
    lines = chain(tmp_path).describe().splitlines()
    assert lines[0] == "three letters"
    assert lines[3].split() == ["letters", "3", "cpu", "0", "B", "0", "B", "3", "10", "B"]
    assert lines[4] == "total: 3 tasks, 3 files"


def test_markers_are_whole_or_absent(tmp_path: Path) -> None:
    markers.write(str(tmp_path), "a", {"fingerprint": "f", "result": {"n": 1}})
    (file,) = (tmp_path / "tasks").iterdir()
    assert json.loads(file.read_text()) == {"fingerprint": "f", "result": {"n": 1}}
    file.write_text('{"fingerprint": "f", "res')
    assert markers.read_markers(str(tmp_path)) == {}


def test_a_task_that_was_done_when_its_worker_died_is_not_done_twice(tmp_path: Path) -> None:
    (first, *_) = chain(tmp_path).tasks
    for attempt in ("first", "first", "second"):
        run_task(str(tmp_path), first.call, attempt)
    assert ran(tmp_path) == ["a", "a"]


def test_a_marker_that_the_driver_cannot_see_is_not_taken_for_done(tmp_path: Path) -> None:
    old = {"attempt": "old", "result": "A"}
    markers.write(str(tmp_path), "a", old)
    with pytest.raises(RunError, match=r"its marker is not visible here; .* all nodes share"):
        markers.wait_for(str(tmp_path), "a", old, seconds=0.6)
    late = threading.Timer(0.7, markers.write, (str(tmp_path), "a", {"attempt": "new", "result": "B"}))
    late.start()  # as on network file systems, where files of other machines appear late
    assert markers.wait_for(str(tmp_path), "a", old, seconds=10)["result"] == "B"
    late.join()
    with pytest.raises(RunError, match="is gone: another command"):
        markers.wait_for(str(tmp_path / "removed"), "a", None)


def test_a_fingerprint_is_of_name_version_and_record() -> None:
    first = Task("a", note, Note("log", "a"), "letters")
    text = json.dumps(["tests.note/1", {"log": "log", "name": "a"}], sort_keys=True)
    assert first.fingerprint == hashlib.sha256(text.encode()).hexdigest()[:16]
    assert replace(first, job=Note("log", "b")).fingerprint != first.fingerprint


def test_moving_a_task_changes_nothing_and_a_new_version_does() -> None:
    def moved(job: Note) -> None: ...

    first = Task("a", note, Note("log", "a"), "letters")
    assert Task("a", task("tests.note", version=1)(moved), first.job, "letters").fingerprint == first.fingerprint
    assert Task("a", task("tests.note", version=2)(moved), first.job, "letters").fingerprint != first.fingerprint


def test_a_task_of_a_script_or_notebook_reaches_a_worker() -> None:
    """Functions of ``__main__`` travel by value, without the names that only their annotations use."""
    source = """
from __future__ import annotations
from dataclasses import dataclass
from nsdflow.engine.plan import Task, task

@dataclass(frozen=True)
class Job:
    sessions: tuple[int, ...]

@task("tests.script", version=1)
def keep(job: Job) -> str:
    return repr(job.sessions)

call = Task("a", keep, Job((1, 2)), "letters").call
"""
    script = {"__name__": "__main__"}
    exec(source, script)
    assert cloudpickle.loads(cloudpickle.dumps(script["call"]))() == "(1, 2)"


def test_a_record_that_would_lose_a_field_is_refused() -> None:
    @dataclass(frozen=True)
    class Longer(Note):
        extra: int = 0

    with pytest.raises(TypeError, match="Longer does not survive JSON"):
        Task("a", note, Longer("log", "a", 3), "letters").fingerprint  # noqa: B018
    with pytest.raises(TypeError, match=r'mark .*unnamed with @task\("name", version=1\)'):
        Task("a", lambda_without_name(), Note("log", "a"), "letters")


def lambda_without_name():
    def unnamed(job: Note) -> None: ...

    return unnamed


def test_plans_load_without_dask() -> None:
    code = "import sys, nsdflow.engine.plan; print([name for name in HEAVY if name in sys.modules])".replace(
        "HEAVY", "('dask', 'torch', 'xarray')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
