"""Results that the worker has left in the bucket it shares with the gateway."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.clouds import ShiftedClock, cloud_settings, succeeded
from tests.fakes.runpod_cloud import RunPodCloud
from tests.gateways import TestGateway, as_text, picture, running_gateway


@pytest.fixture(scope="module")
def bucket() -> Iterator[dict[str, str]]:
    """The four settings of an S3 server on loopback."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    given = {
        "bucket_endpoint_url": f"http://{host}:{port}", "bucket_name": "pictures",
        "bucket_access_key_id": "key-id", "bucket_secret_access_key": "secret",
    }  # fmt: skip
    client_of(given).create_bucket(Bucket="pictures")
    yield given
    server.stop()


def client_of(given: dict[str, str]) -> Any:
    return boto3.session.Session().client(
        "s3", endpoint_url=given["bucket_endpoint_url"], region_name="us-east-1",
        aws_access_key_id="key-id", aws_secret_access_key="secret",
    )  # fmt: skip


def keys(given: dict[str, str], prefix: str) -> list[str]:
    found = client_of(given).list_objects_v2(Bucket="pictures", Prefix=prefix)
    return [entry["Key"] for entry in found.get("Contents", ())]


@pytest.fixture
def clock() -> ShiftedClock:
    return ShiftedClock()


@pytest.fixture
def gateway(
    cloud: RunPodCloud, bucket: dict[str, str], clock: ShiftedClock, tmp_path: Path
) -> Iterator[TestGateway]:
    with running_gateway(tmp_path, clock, **cloud_settings(cloud), **bucket) as found:
        yield found


def leave(given: dict[str, str], job_id: str) -> None:
    """What the worker does by its default template of keys."""
    client_of(given).put_object(Bucket="pictures", Key=f"{job_id}/edit.png", Body=picture())


def test_a_job_whose_answer_is_lost_is_not_sent_again_when_its_picture_is_there(
    cloud: RunPodCloud, gateway: TestGateway, bucket: dict[str, str]
) -> None:
    cloud.fail_next("run", "500")
    job_id = gateway.create()
    leave(bucket, job_id)
    status = succeeded(gateway, job_id)
    assert len(cloud.requests("run")) == 1
    assert status["attempts"] == 1
    assert keys(bucket, job_id) == []
    assert keys(bucket, "results/" + job_id) == [status["result_key"]]


def test_a_job_that_runpod_has_forgotten_is_found_in_the_bucket(
    cloud: RunPodCloud, gateway: TestGateway, bucket: dict[str, str], clock: ShiftedClock
) -> None:
    cloud.max_workers = 0
    job_id = gateway.create()
    cloud.wait_for(lambda: cloud.requests("status"), "a look")
    leave(bucket, job_id)
    cloud.forget(next(iter(cloud.jobs)))
    clock.ahead = 70_000
    assert succeeded(gateway, job_id)["attempts"] == 1
    assert cloud.executions == {}


def test_pictures_too_large_for_a_request_go_by_the_bucket(
    cloud: RunPodCloud, gateway: TestGateway
) -> None:
    large = as_text(picture(size=(1300, 1300)))
    job_id = gateway.create(images=[{"name": f"{n}.png", "image": large} for n in range(2)])
    succeeded(gateway, job_id)
    (sent,) = cloud.requests("run")
    texts = [entry["image"] for entry in sent.body["input"]["images"]]
    assert sorted(text == large for text in texts) == [False, True]
    (address,) = [text for text in texts if text != large]
    assert "X-Amz-Expires=604800" in address
