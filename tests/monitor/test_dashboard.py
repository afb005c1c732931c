"""nsdflow's page in the Dask dashboard is served with the right content (tests/browser opens it)."""

from __future__ import annotations

import urllib.request

import pytest

from nsdflow.cluster.connect import connect
from nsdflow.monitor.dashboard import Page, dask_setup, text_table
from nsdflow.monitor.events import Publisher, emit, make_event
from nsdflow.monitor.state import LiveState


def epochs_of(group: str, number: int) -> dict:
    subjects = {"subj01": 0.02 * number, "subj02": 0.01 * number}
    return make_event(
        "epoch", run="gnet8r", group=group, epoch=number, epochs=10, seconds=1.5, loss=2.0 / number,
        holdout_loss=3.0 / number, accuracy=0.015 * number, subjects=subjects,
    )  # fmt: skip


def report(group: str, epochs: int) -> None:
    for number in range(1, epochs + 1):
        event = epochs_of(group, number)
        emit(event.pop("kind"), **{key: value for key, value in event.items() if key != "time"})


def test_curves_bars_and_tables_follow_the_events():
    state = LiveState()
    page = Page(state)
    assert page.curves.data["x"] == []
    for group, epochs in (("V1", 3), ("V2", 2)):
        for number in range(1, epochs + 1):
            state.take(epochs_of(group, number))
    page.update()
    assert page.accuracies.data["name"] == ["gnet8r/V1", "gnet8r/V2"]
    assert page.accuracies.data["x"] == [[1, 2, 3], [1, 2]]
    assert page.curves.data["y"][0] == [2.0, 1.0, 2.0 / 3]
    assert page.curves.data["dash"] == ["solid", "solid", "dashed", "dashed"]
    assert page.subjects.data["x"] == [
        ("subj01", "gnet8r/V1"), ("subj02", "gnet8r/V1"), ("subj01", "gnet8r/V2"), ("subj02", "gnet8r/V2")
    ]  # fmt: skip
    assert len(set(page.subjects.data["color"])) == 2
    assert "<td>3 / 10</td>" in page.trainings.text


def test_before_the_first_epoch_the_page_says_so_and_draws_nothing():
    state = LiveState()
    page = Page(state)
    assert "waiting for the first task" in page.title.text
    state.take(make_event("stage", run="gnet8r", stage="train", total=4, done=0, bytes=0))
    state.take(make_event("activity", run="gnet8r", group="V1", text="reading data", epochs=10))
    page.update()
    assert "gnet8r" in page.title.text
    assert "waiting for the first epoch" in page.title.text
    assert "reading data" in page.trainings.text
    assert not page.plots.visible


def test_one_epoch_is_a_point():
    state = LiveState()
    page = Page(state)
    state.take(epochs_of("V1", 1))
    page.update()
    assert page.plots.visible
    assert "waiting" not in page.title.text
    assert (page.points["accuracy"].data["x"], page.points["loss"].data["y"]) == ([1], [2.0, 3.0])


def test_tables_show_text_as_text():
    assert text_table([]) == ""
    assert (
        text_table([{"a<b": "<script>"}]) == "<table><tr><th>a&lt;b</th></tr><tr><td>&lt;script&gt;</td></tr></table>"
    )


@pytest.fixture
def served():
    """A client whose scheduler has seen two trainings, and the address of its dashboard."""
    with connect("threads") as client:
        with Publisher(client) as publish:
            publish(make_event("stage", stage="train", total=2, done=0, bytes=0))
        for group in ("V1", "V2"):
            client.submit(report, group, 10, key=f"train-{group}").result()
        yield client, f"http://127.0.0.1:{client.cluster.scheduler.http_server.port}"


def test_the_page_is_served_and_linked_from_dasks_own(served):
    client, url = served
    with urllib.request.urlopen(f"{url}/nsdflow") as answer:
        assert b"<title>" in answer.read()
    with urllib.request.urlopen(f"{url}/status") as answer:
        assert b'href="nsdflow"' in answer.read()
    client.run_on_scheduler(dask_setup)  # once more changes nothing
    with urllib.request.urlopen(f"{url}/status") as answer:
        assert answer.read().count(b'href="nsdflow"') == 1
