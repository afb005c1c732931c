"""Events pass from tasks to their listeners, and the log keeps them."""

from __future__ import annotations

import json
import threading
import time

import pytest
from distributed.diagnostics.plugin import SchedulerPlugin

from nsdflow.monitor.events import DRIVER_TOPIC, Publisher, RunLog, emit, make_event, read_log, subscribe


def report(epochs: int) -> int:
    for epoch in range(1, epochs + 1):
        emit("epoch", run="gnet8j", epoch=epoch, epochs=epochs, accuracy={"subj01": 0.5})
    return epochs


def test_every_event_of_a_task_arrives_in_order_with_its_origin(client):
    heard, all_there = [], threading.Event()

    def listen(event):
        heard.append(event)
        if event["epoch"] == event["epochs"]:
            all_there.set()

    with subscribe(client, listen):
        client.submit(report, 5, key="train-V1").result()
        assert all_there.wait(10)
    assert [event["epoch"] for event in heard] == [1, 2, 3, 4, 5]
    assert {(event["kind"], event["task"], event["worker_name"]) for event in heard} == {("epoch", "train-V1", "0")}
    assert heard[0]["accuracy"] == {"subj01": 0.5}
    client.submit(report, 3, key="unheard").result()
    assert len(heard) == 5


def test_outside_a_task_nothing_is_sent_and_work_goes_on(client):
    heard, one_there = [], threading.Event()

    def listen(event):
        heard.append(event)
        one_there.set()

    with subscribe(client, listen):
        assert report(3) == 3
        client.submit(report, 1, key="inside").result()  # events arrive in order, so earlier ones would be here
        assert one_there.wait(10)
    assert [event["task"] for event in heard] == ["inside"]


class Collect(SchedulerPlugin):
    """The events that a driver published, in order, and the number of messages."""

    name = "collect"

    def __init__(self):
        self.events, self.messages = [], 0

    def log_event(self, topic, msg):
        if topic == DRIVER_TOPIC:
            self.events += msg
            self.messages += 1


def test_a_driver_publishes_many_events_in_few_messages_and_none_is_lost(client):
    collect = Collect()
    client.cluster.scheduler.add_plugin(collect)
    with Publisher(client) as publish:
        for number in range(2000):
            publish(make_event("task-done", key=str(number)))
        time.sleep(0.5)
        assert len(collect.events) == 2000  # they arrived before the end
        publish(make_event("task-done", key="2000"))
    assert [event["key"] for event in collect.events] == [str(number) for number in range(2001)]
    assert collect.messages < 20
    with pytest.raises(ZeroDivisionError), Publisher(client) as publish:
        publish(make_event("task-failed", key="last")) or 1 / 0
    ends = time.monotonic() + 10
    while collect.events[-1]["key"] != "last":  # failures are shown too
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_the_log_survives_drivers_that_come_and_go(tmp_path):
    path = tmp_path / "run" / "log.jsonl"
    events = [make_event("note", text=f"line {number}") for number in range(6)]
    with RunLog(path) as first, RunLog(path) as second:  # two drivers on one run folder
        for event in events[:4:2]:
            first(event)
        for event in events[1:4:2]:
            second(event)
    with path.open("a") as torn:
        torn.write('{"kind":"no')  # a third is killed within a line
    with RunLog(path) as log:
        log(events[4])
        log(events[5])
    assert read_log(path) == [events[index] for index in (0, 2, 1, 3, 4, 5)]


def test_many_threads_write_whole_lines(tmp_path):
    path = tmp_path / "log.jsonl"
    text = "x" * 5000
    with RunLog(path) as log:
        threads = [
            threading.Thread(target=lambda: [log(make_event("note", text=text)) for _ in range(50)]) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [json.loads(line)["text"] for line in path.read_text().splitlines()] == [text] * 200


def test_on_an_object_store_the_log_is_there_at_the_end_and_continued():
    url = "memory://run/log.jsonl"
    for number in range(3):
        with RunLog(url) as log:
            log(make_event("note", text=str(number)))
    assert [event["text"] for event in read_log(url)] == ["0", "1", "2"]


def test_what_is_not_json_is_refused_where_it_is_emitted(tmp_path):
    with RunLog(tmp_path / "log.jsonl") as log, pytest.raises(TypeError):
        log(make_event("note", text=object()))


def test_passwords_in_urls_do_not_reach_the_log(tmp_path):
    with RunLog(tmp_path / "log.jsonl") as log:
        log(make_event("note", text="reading https://ann:secret@example.org/nsd failed"))
        log(make_event("task-failed", key="a", stage="b", error="no s3://key:secret@bucket/x"))
    text = (tmp_path / "log.jsonl").read_text()
    assert "secret" not in text
    assert "https://example.org/nsd failed" in text
