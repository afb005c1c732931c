"""Source, store and runs in buckets, behind a network that spoils answers: a local S3 server.

======================================  ============================================================================
fault                                   outcome
======================================  ============================================================================
one answer in 12 is slow, a 503, a      ingestion, queries, training, its resumption, report and export: the values
reset or a cut in the middle of a body  of a folder, bit for bit
403 on a session that is held out       not an error: the other sessions are taken, and it is asked for a few times
a file of the source fails for good     one line that names it; mended, only what was missing runs
a body that is shorter than it should   one line, never a value
be, and declared so
writing is denied, or fails for good    one line that names what could not be written
an answer to a conditional put is lost  the driver knows its own hold
no credentials                          one line
======================================  ============================================================================
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import boto3
import fsspec
import numpy as np
import pytest
import xarray as xr
from aiobotocore.endpoint import AioEndpoint

import nsdflow
from nsdflow.cluster.connect import connect
from nsdflow.cluster.deadline import DEADLINE
from nsdflow.engine import driver_lock as holds
from nsdflow.engine.driver_lock import holding
from nsdflow.errors import MissingDataError, NsdflowError, RunError, SourceError, StoreError
from nsdflow.fit.state_files import load_state, save_state
from nsdflow.ingestion.check import describe_source
from nsdflow.ingestion.ingest import carry_out, plan_ingest
from nsdflow.ingestion.plan import IngestPlan
from nsdflow.io.read import read_all, read_bytes, read_json
from nsdflow.io.tensors import load_tensors
from nsdflow.io.write import create_text
from nsdflow.monitor.events import emit, read_log
from nsdflow.nsd.source import open_source
from nsdflow.pipelines.gnet import training
from nsdflow.report import write_report
from nsdflow.runs.export import export_maps
from nsdflow.runs.status import read_status
from tests.faults.conftest import INGEST, TRAIN, command
from tests.faults.proxy import FAULTS, Fault, Proxy

NOISE = [Fault(kind, share=0.02) for kind in FAULTS]
#: A subject with one session: each object costs a server in Python several milliseconds.
SMALL = {**INGEST, "subjects": [2]}


async def _short(_: AioEndpoint, seconds: float) -> None:
    """Wait a fortieth of what botocore waits, up to seconds, before it tries again; as often as it would."""
    await asyncio.sleep(seconds / 40)


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    proxy = Proxy(seed=5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AioEndpoint, "_sleep", _short)
        yield proxy
    proxy.close()


@pytest.fixture(scope="module")
def environment(proxy) -> Iterator[dict[str, str]]:
    """The environment of a user's bucket, with few and quick retries, so that persistent failures are reported soon."""
    variables = {
        "AWS_ENDPOINT_URL": proxy.url,
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "2",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NSDFLOW_BUCKET": "mine",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield variables


@pytest.fixture(scope="module")
def bucket(environment, nsd) -> str:
    """Everyone may read NSD; only ``somebody`` reads and writes the other bucket."""
    client = boto3.client("s3")
    for name in ("nsd", "mine"):
        client.create_bucket(Bucket=name)
    for path in nsd.rglob("*"):
        if path.is_file():
            client.put_object(Bucket="nsd", Key=str(path.relative_to(nsd)), Body=path.read_bytes(), ACL="public-read")
    client.close()
    return "s3://nsd"


@pytest.fixture(scope="module")
def client(environment):
    with connect("threads", dashboard=None) as client:
        yield client


@pytest.fixture(scope="module")
def whole(nsd, client, tmp_path_factory) -> tuple[str, Path]:
    """Store and run of the same in a folder."""
    folder = tmp_path_factory.mktemp("folder")
    store = carry_out(plan_ingest(str(nsd), str(folder / "nsd.zarr"), **SMALL), client).url
    nsdflow.run("gnet8j", store=store, runs=str(folder / "runs"), client=client, **TRAIN)
    return store, folder / "runs" / "gnet8j"


@pytest.fixture(scope="module")
def stored(bucket, client, proxy) -> str:
    """A store in a bucket, made while every twelfth answer was spoiled; it did not open before it was complete."""
    url, opened, ran = "s3://mine/nsd.zarr", [], []

    def look(event):
        ran.append(event.get("key"))
        with suppress(MissingDataError):
            opened.append(nsdflow.open_store(url))

    with proxy.spoiled(*NOISE):
        plan = plan_ingest(bucket, url, **SMALL)
        carry_out(plan, client, listen=look)
        assert all(fault.done for fault in proxy.faults), "a kind of fault that never came"
    assert opened == []
    assert sorted(key for key in ran if key) == sorted(task.key for task in plan.tasks)
    return url


def objects(prefix: str) -> dict[str, bytes]:
    """All objects below a URL."""
    system, path = fsspec.url_to_fs(prefix, use_listings_cache=False)
    names = system.find(path)
    return {name.removeprefix(path).lstrip("/"): system.cat_file(name) for name in names}


def files(folder: str) -> dict[str, bytes]:
    """All files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def test_a_store_in_a_bucket_holds_the_bytes_of_one_in_a_folder(stored, whole, proxy):
    here, there = files(whole[0]), objects(stored)
    assert there.keys() == here.keys()
    assert all(there[name] == data for name, data in here.items() if "/c/" in name)
    assert objects(f"{stored}.building") == {}
    with proxy.spoiled(*NOISE):
        remote, local = nsdflow.open_store(stored), nsdflow.open_store(whole[0])
        for query in ({"roi": "V1"}, {"zscore": False, "shared": True}):
            xr.testing.assert_equal(remote.responses(2, **query).compute(), local.responses(2, **query).compute())
        xr.testing.assert_equal(remote.images().compute(), local.images().compute())
    assert plan_ingest("s3://nsd", stored, **SMALL).finished, "the same ingestion again has nothing to do"


@pytest.mark.usefixtures("blank_pictures")
def test_a_run_in_a_bucket_is_that_in_a_folder(stored, whole, client, proxy, tmp_path, monkeypatch):
    """Stopped after an epoch and continued, every twelfth answer spoiled: weights, results, log, report, maps."""
    url = "s3://mine/runs"

    def run():
        return nsdflow.run("gnet8j", store=stored, runs=url, client=client, **TRAIN)

    def interrupt(kind, **fields):
        if kind == "epoch":
            patched.setenv(DEADLINE, "0")
        emit(kind, **fields)

    with proxy.spoiled(*NOISE):
        with monkeypatch.context() as patched:
            patched.setattr(training, "emit", interrupt)
            with pytest.raises(RunError, match="run the same command to continue"):
                run()
        with pytest.raises(MissingDataError, match="has no results yet"):
            nsdflow.open_run(f"{url}/gnet8j")
        assert load_state(f"{url}/gnet8j/checkpoint/joint.pt") is not None
        (status,) = read_status(url)
        assert not status.finished
        assert "1 / 3" in status.describe()
        results = run()
        epochs = [event["epoch"] for event in read_log(f"{url}/gnet8j/log.jsonl") if event["kind"] == "epoch"]
        assert epochs == [1, 2, 3]
        (status,) = read_status(f"{url}/gnet8j")
        assert status.finished
        assert write_report(f"{url}/gnet8j") == f"{url}/gnet8j/report.html"
        maps = export_maps(f"{url}/gnet8j", tmp_path / "maps")
        first, second = load_tensors(f"{url}/gnet8j/model.safetensors"), load_tensors(f"{whole[1]}/model.safetensors")
    assert all(np.array_equal(first[name], second[name]) for name in first.keys() | second.keys())
    reference = nsdflow.open_run(whole[1])
    for group, node in reference.children.items():
        ours, theirs = (tree.to_dataset().drop_vars("seconds", errors="ignore") for tree in (results[group], node))
        xr.testing.assert_equal(ours, theirs)
    assert b"<h1>" in read_bytes(f"{url}/gnet8j/report.html")
    assert len(maps) == len(export_maps(str(whole[1]), tmp_path / "reference"))
    left = {name.split("/")[0] for name in objects(f"{url}/gnet8j")}
    results = {"run.yaml", "results.zarr", "model.safetensors", "README.md", "report.html"}
    assert left == {*results, "log.jsonl", "plan.json", "tasks"}


_watched: list[str] = []
_watching = False


def _audit(event: str, arguments: tuple) -> None:
    if not _watching:
        return
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        _watched.append(str(arguments[0]))
    elif event.startswith(("tempfile.", "os.mkdir")):
        _watched.append(f"{event} {arguments[0]}")


def test_betas_and_images_are_streamed_without_touching_the_disk(bucket, whole, tmp_path):
    """The interpreter reports every file that is opened to be written; the store goes to memory."""
    global _watching
    plan = plan_ingest(bucket, "memory://streamed/nsd.zarr", **SMALL)
    assert next(iter(plan.tasks)).job.subject.source.storage_options["anon"] is True
    sys.addaudithook(_audit)
    _watching = True
    try:
        with (tmp_path / "control").open("w"):
            pass
        for task in plan.tasks:
            task.call()
    finally:
        _watching = False
    assert _watched == [str(tmp_path / "control")]
    assert objects("memory://streamed/nsd.zarr/subj02/betas/c") == files(f"{whole[0]}/subj02/betas/c")


def test_a_session_that_is_held_out_is_no_error(bucket, client, proxy):
    held_out = Fault("403", r"/nsd/.*subj01.*betas_session02")
    with proxy.spoiled(held_out):
        assert "betas_session02.nii.gz is not public" in describe_source(bucket)
        assert 0 < len(held_out.done) <= 4, "a refusal is an answer and is not retried"
        plan = plan_ingest(bucket, "memory://some/nsd.zarr", **INGEST | {"subjects": [1]}, images="none")
        held_out.done.clear()
        assert list(carry_out(plan, client).trials(1)["session"].values) == [1] * 60
        assert held_out.done == []


def test_a_source_that_fails_for_good_is_one_line_and_mended_only_the_rest_runs(bucket, client, proxy, whole):
    url, ran = "s3://mine/later.zarr", []

    def plan():
        return plan_ingest(bucket, url, **SMALL, images="none")

    def listen(event):
        if event["kind"] == "task-done":
            ran.append(event["key"])

    planned = plan()
    with (
        proxy.spoiled(Fault("cut", r"GET .*subj02.*betas_session01\.nii\.gz")),
        pytest.raises(SourceError, match=r"^s3://nsd/.*betas_session01\.nii\.gz: cannot be reached .*network") as error,
    ):
        carry_out(planned, client, listen=listen)
    assert "\n" not in str(error.value)
    again = plan()
    missing = {task.key for task in again.missing()}
    ran.clear()
    carry_out(again, client, listen=listen)
    assert set(ran) == missing
    assert len(missing) < len(planned.tasks)
    assert objects(f"{url}/subj02/betas/c") == files(f"{whole[0]}/subj02/betas/c")


def _ingest_session(bucket: str, store: str) -> None:
    source = open_source(bucket, {"config_kwargs": {"retries": {"max_attempts": 1}}})
    plan = plan_ingest(source, "memory://broken/nsd.zarr", **SMALL, images="none")
    for task in plan.tasks[:2]:
        task.call()


def _query(bucket: str, store: str) -> None:
    nsdflow.open_store(store).responses(2, roi="V1").compute(scheduler="sync")


def _mark(bucket: str, store: str) -> None:
    nsdflow.engine.markers.write("s3://mine/marks", "a", {})


@cache  # planning asks the source some 500 times, and writes nothing
def _plan(bucket: str, url: str) -> IngestPlan:
    return plan_ingest(bucket, url, **SMALL, images="none")


def _write_shards(bucket: str, store: str) -> None:
    _plan(bucket, "s3://mine/denied.zarr").tasks[0].call()


@pytest.mark.parametrize(
    ("do", "fault", "says"),
    [
        (_ingest_session, Fault("short", r"GET .*session01\.nii\.gz"), "(truncated|corrupt|cannot be reached)"),
        (_ingest_session, Fault("503", r"GET .*session01\.nii\.gz"), "cannot be reached .*reduce your request rate"),
        (_query, Fault("reset", r"GET .*betas/c/"), "cannot be reached"),
        (_query, Fault("cut", r"GET .*betas/c/"), "cannot be reached"),
        (_query, Fault("short", r"GET .*betas/c/"), "(damaged|truncated).*ingest again"),
        (_query, Fault("short", r"GET .*nsd\.zarr/zarr\.json"), "(zarr.json is damaged|Expected checksum)"),
        (_query, Fault("403", r"GET .*betas/c/"), "access denied"),
        (_mark, Fault("503", r"PUT .*marks"), "cannot be reached .*what is done stays done"),
        (_mark, Fault("403", r"PUT .*marks"), "access denied"),
        (_write_shards, Fault("403", r"PUT .*denied"), "access denied"),
        (_write_shards, Fault("reset", r"PUT .*denied"), "cannot be reached"),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else getattr(value, "__name__", None),
)
def test_what_stays_broken_is_one_line_and_never_a_value(bucket, stored, proxy, do, fault, says):
    with proxy.spoiled(fault), pytest.raises(NsdflowError, match=rf"^(s3|memory)://\S+: .*{says}") as error:
        do(bucket, stored)
    assert fault.done
    assert "\n" not in str(error.value)
    assert max(Counter(fault.done).values()) <= 10, "too many retries"


def test_one_of_many_creates_an_object(bucket, proxy):
    assert create_text("s3://mine/one", "first")
    assert not create_text("s3://mine/one", "second")
    assert read_bytes("s3://mine/one") == b"first"


def test_small_files_take_few_requests(bucket, proxy):
    source, volume = open_source(bucket), "nsddata/ppdata/subj01/func1pt8mm/roi/Kastner2015.nii.gz"
    urls = [f"s3://mine/few/{name}.json" for name in "ab"]
    for url in urls:
        create_text(url, "{}")

    def methods(read):
        with proxy.spoiled():
            read()
            return sorted(line.partition(" ")[0] for line in proxy.requests)

    assert methods(lambda: read_all(urls)) == ["GET", "GET"]
    assert methods(lambda: read_json(urls[0], "no advice")) == ["GET", "HEAD"], "its size, then its content"
    assert methods(lambda: source.find(volume)) == ["HEAD"], "a file that can be read has no twin to look for"


def test_a_coordinate_takes_few_requests(stored, proxy):
    responses = nsdflow.open_store(stored).responses(2)
    with proxy.spoiled():
        assert responses["ncsnr"].values.any()
        asked = sorted(line.replace("/mine/nsd.zarr/subj02/", "") for line in proxy.requests)
    # its metadata and values, and whether the store has grown meanwhile
    assert asked == ["GET ncsnr/c/0", "GET ncsnr/zarr.json", "GET zarr.json", "HEAD zarr.json"]


def test_one_driver_at_a_time_in_a_bucket(bucket, proxy, monkeypatch):
    target = "s3://mine/held/driver"
    for name, seconds in {"HEARTBEAT_TIMEOUT_S": 1.0, "CHECK_INTERVAL_S": 0.1}.items():
        monkeypatch.setattr(holds, name, seconds)
    lost = Fault("lost", r"PUT .*held", times=1)
    # the file is created, but the answer is lost: the second try finds it
    with proxy.spoiled(lost), holding(target) as hold:
        assert lost.done
        assert hold.number == 1
        with pytest.raises(RunError, match="works on it already"), holding(target):
            pass
    monkeypatch.setattr(holds, "_machine", lambda: "elsewhere")
    create_text(f"{target}.000001.hold", '{"machine": "dead", "pid": 1}')
    with holding(target) as hold:
        assert hold.number == 2
    assert objects("s3://mine/held") == {}


def test_checkpoints_are_whole(bucket, proxy):
    url = "s3://mine/checkpoint/a.pt"
    assert load_state(url) is None
    save_state(url, {"epoch": 1})
    with proxy.spoiled(Fault("503", "PUT .*a.pt")), pytest.raises(StoreError, match="request rate"):
        save_state(url, {"epoch": 2})
    assert load_state(url) == {"epoch": 1}


@pytest.mark.slow
def test_without_credentials_one_line_says_so(bucket, proxy, environment, tmp_path):
    done = command(
        "status", "s3://mine/runs", env={
            name: value for name, value in {**os.environ, **environment, "HOME": str(tmp_path)}.items()
            if name not in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        },
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert "Unable to locate credentials" in done.stderr
    assert "check network, address and credentials" in done.stderr


@pytest.mark.slow
def test_the_commands_with_the_shipped_profile(bucket, environment, whole, tmp_path):
    """``--storage s3`` from the first look to the maps, in worker processes."""
    env, settings = {**os.environ, **environment}, [f"--set={name}={value}" for name, value in TRAIN.items()]
    settings = [line.replace("'", '"') for line in settings]
    for arguments in (
        ["check", bucket],
        ["ingest", "--storage", "s3", "--source", bucket, "--subjects", "2", "--image-size", "67", "--workers", "2"],
        ["run", "gnet8j", "--storage", "s3", "--workers", "1", *settings],
        ["status", "s3://mine/nsdflow/runs"],
        ["report", "s3://mine/nsdflow/runs/gnet8j"],
        ["export", "s3://mine/nsdflow/runs/gnet8j", str(tmp_path / "maps")],
    ):
        done = command(*arguments, env=env)
        assert done.returncode == 0, (arguments, done.stderr)
    run, reference = nsdflow.open_run("s3://mine/nsdflow/runs/gnet8j"), nsdflow.open_run(whole[1])
    xr.testing.assert_equal(run["subj02"]["weights"].variable, reference["subj02"]["weights"].variable)
    assert (tmp_path / "maps" / "subj02_accuracy.nii.gz").exists()
