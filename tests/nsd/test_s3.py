"""A local bucket, read anonymously, with some private objects."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from typing import Any

import boto3
import numpy as np
import pytest
from moto.server import ThreadedMotoServer

from nsdflow.errors import MissingDataError, SourceError
from nsdflow.nsd.betas import read_session, read_session_header
from nsdflow.nsd.design import trial_table
from nsdflow.nsd.images import read_images
from nsdflow.nsd.inventory import take_inventory
from nsdflow.nsd.source import Source, open_source
from nsdflow.nsd.voxels.masks import voxel_set

BUCKET = "natural-scenes"
HELD_OUT = "betas_session03"
AT_ONCE = {"config_kwargs": {"retries": {"max_attempts": 1}, "connect_timeout": 1}}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture(scope="module")
def bucket(server: str, nsd: Any) -> Source:
    """Everyone may list everything, and read all except the third session's betas, as once in NSD's bucket."""
    client = boto3.client(
        "s3", endpoint_url=server, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
    )
    client.create_bucket(Bucket=BUCKET)
    client.put_bucket_policy(
        Bucket=BUCKET,
        Policy=json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": [
                    {
                        "Effect": "Allow",
                        "Principal": "*",
                        "Action": "s3:ListBucket",
                        "Resource": f"arn:aws:s3:::{BUCKET}",
                    }
                ],
            }
        ),
    )
    for path in sorted(nsd.root.rglob("*")):
        if (path.is_file() and path.suffix not in (".nii", ".mat")) or path.name.endswith("expdesign.mat"):
            client.put_object(
                Bucket=BUCKET,
                Key=str(path.relative_to(nsd.root)),
                Body=path.read_bytes(),
                ACL="private" if HELD_OUT in path.name else "public-read",
            )
    client.close()
    return open_source(f"s3://{BUCKET}", {"endpoint_url": server})


def test_reads_what_a_folder_reads(bucket: Source, nsd: Any) -> None:
    local = open_source(nsd.root)
    travelled = pickle.loads(pickle.dumps(bucket))
    for format in ("nii.gz", "hdf5"):
        np.testing.assert_array_equal(
            read_session(travelled, "subj01", 1, [7, 100, 3], format=format),
            read_session(local, "subj01", 1, [7, 100, 3]),
        )
    for space in ("nativesurface", "fsaverage"):
        np.testing.assert_array_equal(
            read_session(bucket, "subj02", 2, space=space), read_session(local, "subj02", 2, space=space)
        )
    assert trial_table(bucket, "subj01", [1, 2]).identical(trial_table(local, "subj01", [1, 2]))
    np.testing.assert_array_equal(read_images(bucket, [16, 2, 3]), nsd.images[[16, 2, 3]])
    np.testing.assert_array_equal(voxel_set(bucket, "subj01", "inflated"), voxel_set(local, "subj01", "inflated"))


def test_held_out_session_is_not_an_error(bucket: Source) -> None:
    inventory = take_inventory(bucket)
    first, second = inventory.subjects
    assert (first.sessions, first.held_out) == ((1, 2), (3,))
    assert (second.sessions, second.held_out) == ((1, 2), ())
    assert inventory.missing == ()


def test_held_out_session_is_not_public(bucket: Source) -> None:
    path = read_session_header(bucket, "subj01", 1).paths[0].replace("session01", "session03")
    assert path.rpartition("/")[2] in bucket.listdir(path.rpartition("/")[0])
    assert not bucket.exists(path)
    with pytest.raises(MissingDataError, match=f"^s3://{BUCKET}/{path}: not public"):
        bucket.head(path, 10)
    with pytest.raises(MissingDataError, match=f"^s3://{BUCKET}/{path}: not public"), bucket.open(path) as file:
        file.read()
    with pytest.raises(MissingDataError, match="no such session, or not public"):
        read_session(bucket, "subj01", 3)


def test_what_is_not_there(bucket: Source) -> None:
    assert bucket.listdir("nothing") == ()
    assert not bucket.exists("nothing/at/all")
    with pytest.raises(MissingDataError, match=f"^s3://{BUCKET}/nothing: no such file"):
        bucket.size("nothing")


def test_no_such_bucket(server: str) -> None:
    with pytest.raises(MissingDataError, match=r"^s3://elsewhere/nsddata_betas/ppdata: no such folder"):
        take_inventory(open_source("s3://elsewhere", {"endpoint_url": server}))


def test_no_network() -> None:
    """Port 9 discards; nothing listens there."""
    source = open_source("s3://elsewhere", {"endpoint_url": "http://127.0.0.1:9", **AT_ONCE})
    for ask in (source.listdir, lambda: source.exists("a"), lambda: source.head("a", 3)):
        with pytest.raises(SourceError, match=r"^s3://elsewhere(/a)?: cannot be reached .*check the network"):
            ask()
