"""One driver at a time: a second one is refused, a dead one is replaced, and of many at once at most one continues."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import fsspec
import pytest

from nsdflow.engine import driver_lock as module
from nsdflow.engine.driver_lock import Hold, holder, holding
from nsdflow.errors import RunError, StoreError
from nsdflow.io.write import create_text, write_text


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    for name, seconds in {"HEARTBEAT_INTERVAL_S": 0.05, "HEARTBEAT_TIMEOUT_S": 0.6, "CHECK_INTERVAL_S": 0.02}.items():
        monkeypatch.setattr(module, name, seconds)


@pytest.fixture(params=["folder", "object store"])
def target(request, tmp_path) -> str:
    return f"{tmp_path}/runs/one/driver" if request.param == "folder" else f"memory://{uuid.uuid4()}/one/driver"


def files(target: str) -> list[str]:
    system, path = fsspec.url_to_fs(target.rpartition("/")[0])
    return sorted(name.rpartition("/")[2] for name in system.ls(path, detail=False)) if system.exists(path) else []


def leave(target: str, **changes) -> dict:
    """The file of a holder, with ``changes``."""
    record = module._myself() | changes
    assert create_text(f"{target}.000001.hold", json.dumps(record))
    return record


def test_the_second_is_refused_with_one_line_that_says_who_and_what_to_do(target):
    with holding(target):
        assert holder(target).endswith("works on it")
        match = rf"one: a command on .+ \(process {os.getpid()}, since .+\) works"
        with pytest.raises(RunError, match=match) as error, holding(target):
            pass
        assert "\n" not in str(error.value)
        assert "run the same command again" in str(error.value)
    assert files(target) == []
    assert holder(target) is None
    with holding(target):
        pass


def test_what_fails_inside_lets_go(target):
    with pytest.raises(ZeroDivisionError), holding(target):
        raise ZeroDivisionError
    assert files(target) == []


def test_other_targets_in_the_same_folder_are_not_in_the_way(target):
    with holding(target), holding(target + "2"), holding(target.removesuffix("r")):
        assert len(files(target)) == 3


DEAD = """
import os, sys
from nsdflow.engine.driver_lock import holding
with holding(sys.argv[1]):
    print(os.getpid(), flush=True)
    sys.stdin.read()
"""


def test_a_driver_killed_on_this_machine_is_taken_over_from_at_once(tmp_path):
    target = f"{tmp_path}/one/driver"
    driver = subprocess.Popen(
        [sys.executable, "-c", DEAD, target], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    pid = int(driver.stdout.readline())
    with pytest.raises(RunError, match=rf"process {pid}"), holding(target):
        pass
    record = {"pid": pid, "born": module._born(pid)}
    driver.send_signal(signal.SIGKILL)
    told: list[str] = []
    while module._runs(record):
        time.sleep(0.01)  # a zombie counts as dead, although its number still answers
    assert holder(target).endswith("worked on it and died")
    with holding(target, tell=told.append) as hold:
        assert hold.number == 2
        assert files(target) == ["driver.000002.hold"]
    assert told == [f"{tmp_path}/one: taken over from a command that died"]
    driver.communicate()
    assert files(target) == []


def test_a_number_given_to_another_process_is_not_its_former_owner(target):
    leave(target, born="1")
    with holding(target) as hold:
        assert hold.number == 2


def test_on_another_machine_the_count_of_beats_decides(target, monkeypatch):
    before = leave(target, machine="another", host="elsewhere", pid=1)
    stop = threading.Event()

    def beat():
        while not stop.wait(0.1):
            before["beats"] += 1
            write_text(f"{target}.000001.hold", json.dumps(before))

    beating = threading.Thread(target=beat)
    beating.start()
    told: list[str] = []
    with pytest.raises(RunError, match=r"a command on elsewhere \(process 1,"), holding(target, tell=told.append):
        pass
    stop.set()
    beating.join()
    assert holder(target).endswith("holds it")
    start = time.monotonic()
    with holding(target, tell=told.append):
        assert time.monotonic() - start >= 0.6
    assert [line.split(" ")[0] for line in told[:2]] == ["waiting", "waiting"]
    assert "taken over" in told[2]


def test_whoever_holds_beats(target):
    with holding(target) as hold:
        ends = time.monotonic() + 10
        while (record := module._read(hold.url))["beats"] < 3:
            assert time.monotonic() < ends
            time.sleep(0.02)
        assert record["token"] == hold.record["token"]
        hold.check()


@pytest.mark.parametrize("content", ["", '{"host": "a", "pi', "[1]", "\x00\x01"])
def test_a_damaged_file_holds_nothing(target, content):
    create_text(f"{target}.000004.hold", content)
    with holding(target) as hold:
        assert hold.number == 5
    assert files(target) == []


@pytest.mark.parametrize("pid", [None, "12", 0, -1, 1 << 40, [1]])
def test_a_record_of_this_machine_without_a_process_holds_nothing(target, pid):
    """A bit flipped in the name or the value: 0 and less would be groups of processes, which always run."""
    leave(target, pid=pid, beats="x")
    assert holder(target).endswith("died")
    with holding(target) as hold:
        assert hold.number == 2


def test_where_several_begin_again_and_again_the_line_says_so(tmp_path, monkeypatch):
    """Each time a file of another command appears between the look before and the look after."""
    looks = iter(range(100))
    monkeypatch.setattr(module, "_numbers", lambda _: [9] if next(looks) % 2 else [])
    with pytest.raises(RunError, match="one: several commands started at once; run one of them again"):
        module._take(f"{tmp_path}/one/driver", print)
    assert list((tmp_path / "one").iterdir()) == []


def test_no_clock_decides(tmp_path, monkeypatch):
    """Another machine's clock far in the future, and one of this machine that jumps back: heartbeats count alone."""
    target = f"{tmp_path}/one/driver"
    leave(target, machine="another", host="elsewhere", since="2099-01-01T00:00:00+00:00")
    monkeypatch.setattr(time, "time", lambda: 0.0)
    start = time.monotonic()
    with holding(target) as hold:
        assert hold.number == 2
    assert time.monotonic() - start >= 0.6, "as long as without a heartbeat"


def test_one_that_was_taken_over_stops_and_leaves_the_other_alone(target):
    with holding(target) as first:
        system, path = fsspec.url_to_fs(first.url)
        system.rm_file(path)  # as a driver does that considers this one dead
        with holding(target) as second:
            create_text(f"{target}.000007.hold", json.dumps(second.record))
            first.beat()
            with pytest.raises(RunError, match=r"another command took over .* nothing is lost"):
                first.check()


def test_of_many_that_begin_at_once_one_goes_on(tmp_path):
    """Threads claim the lock repeatedly at the same time; they give way, wait and retry."""
    target, inside, most = f"{tmp_path}/one/driver", [], []

    def drive(_):
        try:
            with holding(target):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.01)
                inside.pop()
                return 1
        except RunError:
            return 0

    with ThreadPoolExecutor(8) as pool:
        went_on = sum(pool.map(drive, range(64)))
    assert max(most) == 1
    assert went_on >= 1
    assert files(target) == []


def test_where_nothing_can_be_written_the_line_says_so(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"driver\.000001\.hold: cannot be made"), holding(f"{tmp_path}/file/driver"):
        pass


def test_a_beat_that_cannot_be_written_is_missed_and_no_more(tmp_path, monkeypatch):
    hold = Hold(f"{tmp_path}/gone/driver", 1, module._myself())
    hold.beat()  # the folder was removed
    with pytest.raises(RunError, match="took over"):
        hold.check()


def test_exclusively_means_that_one_of_many_creates(target):
    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(lambda number: create_text(f"{target}.x", str(number)), range(32)))
    if target.startswith("memory"):  # this file system looks before it writes, like one without conditional writes
        assert sum(created) >= 1
    else:
        assert sum(created) == 1
