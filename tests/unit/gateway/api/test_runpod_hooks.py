"""RunPod's hooks at a whole gateway: hints, told early, twice, late, by strangers, of doubles."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.job import JobState
from tests.clouds import cloud_settings, seen, succeeded
from tests.fakes.runpod_cloud import RunPodCloud
from tests.fakes.runpod_work import paint
from tests.gateways import TestGateway, as_text, picture, running_gateway

PUBLIC = "https://edit.example.org"


@pytest.fixture
def cloud() -> Iterator[RunPodCloud]:
    # Nobody is at the public address: the tests bring the hooks.
    with RunPodCloud() as found:
        yield found


@pytest.fixture
def gateway(cloud: RunPodCloud, tmp_path: Path) -> Iterator[TestGateway]:
    given = cloud_settings(cloud, gateway_public_url=PUBLIC)
    with running_gateway(tmp_path, **given) as found:
        yield found


def hook_path(cloud: RunPodCloud, index: int = 0) -> str:
    cloud.wait_for(lambda: len(cloud.requests("run")) > index, "submit")
    return str(cloud.requests("run")[index].body["webhook"]).removeprefix(PUBLIC)


def call(gateway: TestGateway, path: str, body: Any) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = gateway.client.post(path, content=content)
    assert answer.status_code == 200
    assert set(answer.json()) == {"ok", "request_id"}


def test_the_token_is_long_and_stored_only_as_its_hash(
    cloud: RunPodCloud, gateway: TestGateway
) -> None:
    cloud.max_workers = 0
    job_id = gateway.create()
    token = hook_path(cloud).rpartition("/")[2]
    assert len(token) >= 32
    job = gateway.context.store.get(job_id)
    assert token not in repr(job)
    assert len(job.hook_token_hash) == 64


def test_a_hook_has_the_job_looked_at_at_once(cloud: RunPodCloud, gateway: TestGateway) -> None:
    cloud.max_workers = 0
    job_id = gateway.create()
    path = hook_path(cloud)
    store, now = gateway.context.store, gateway.context.clock.now()
    seen(gateway, job_id, lambda _: store.get(job_id).state is JobState.SENT)
    # Nobody is to look by himself for a long time.
    seen(gateway, job_id, lambda _: put_off(store, job_id, now + 3_600_000))
    cloud.max_workers = 3
    (job,) = cloud.jobs.values()
    cloud.wait_for(lambda: job.status == "COMPLETED", "end")
    call(gateway, path, {"id": job.id, "status": "COMPLETED"})
    succeeded(gateway, job_id)


def put_off(store: Any, job_id: str, at: int) -> bool:
    job = store.get(job_id)
    return bool(job.lease_until == 0 and store.release(job, at, at))


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"not json", b'{"id": 7}', b'{"id": "../x", "status": "COMPLETED"}',
        {"id": "somebody-else", "status": "COMPLETED", "output": {"ok": True}},
        {"id": "somebody-else", "status": "FAILED", "error": "x"},
        {"status": "IN_PROGRESS"},
    ],
)  # fmt: skip
def test_what_a_hook_says_is_not_believed(
    cloud: RunPodCloud, gateway: TestGateway, body: Any
) -> None:
    cloud.next_job(run_s=0.5)
    job_id = gateway.create()
    path = hook_path(cloud)
    call(gateway, path, body)
    call(gateway, path, body)
    assert succeeded(gateway, job_id)["attempts"] == 1
    call(gateway, path, body)
    assert cloud.executions == {job_id: 1}


@pytest.mark.parametrize("token", ["x", "a" * 32, "%00", "a.b~c", "a" * 3000])
def test_a_stranger_gets_the_same_answer(gateway: TestGateway, token: str) -> None:
    call(gateway, f"/api/runpod/webhook/{token}", {"id": "a", "status": "COMPLETED"})


def test_the_hook_of_one_job_says_nothing_of_another(
    cloud: RunPodCloud, gateway: TestGateway
) -> None:
    cloud.next_job(run_s=1.5)
    first = gateway.create()
    path = hook_path(cloud)
    second = gateway.create(images=[{"image": as_text(picture(seed=2))}])
    other = succeeded(gateway, second)
    ids = {job.request_id: job.id for job in cloud.jobs.values()}
    call(gateway, path, {"id": ids[second], "status": "COMPLETED"})
    status = succeeded(gateway, first)
    assert status["sha256"] != other["sha256"]
    assert status["attempts"] == 1
    assert cloud.executions == {first: 1, second: 1}


def test_a_hooks_output_counts_where_runpod_has_forgotten_the_job(
    cloud: RunPodCloud, gateway: TestGateway
) -> None:
    cloud.max_workers = 0
    job_id = gateway.create()
    path = hook_path(cloud)
    (job,) = cloud.jobs.values()
    body = {"id": job.id, "status": "COMPLETED", **paint({"id": job.id, **job.body})}
    cloud.forget(job.id)
    call(gateway, path, body)
    assert succeeded(gateway, job_id)["attempts"] == 1
    assert cloud.executions == {}


def test_a_hook_tells_the_id_that_a_lost_answer_did_not(
    cloud: RunPodCloud, gateway: TestGateway
) -> None:
    cloud.fail_next("run", "lost")
    job_id = gateway.create()
    path = hook_path(cloud)
    cloud.wait_for(lambda: cloud.jobs, "the job to be taken")
    (job,) = cloud.jobs.values()
    store = gateway.context.store
    seen(gateway, job_id, lambda _: store.get(job_id).lease_until == 0)
    call(gateway, path, {"id": job.id, "status": "COMPLETED"})
    succeeded(gateway, job_id)
    assert len(cloud.requests("run")) == 1
    assert cloud.executions == {job_id: 1}


def test_the_first_result_of_two_runs_counts_and_the_other_is_stopped(
    cloud: RunPodCloud, gateway: TestGateway
) -> None:
    cloud.fail_next("run", "lost")
    cloud.next_job(cold_start_s=5.0)
    cloud.next_job(run_s=60)
    job_id = gateway.create()
    path = hook_path(cloud, 1)
    assert path == hook_path(cloud, 0)
    first, second = cloud.jobs.values()
    cloud.wait_for(lambda: first.status == "COMPLETED", "end of the first run")
    call(gateway, path, {"id": first.id, "status": "COMPLETED"})
    succeeded(gateway, job_id)
    cloud.wait_for(lambda: second.status == "CANCELLED", "end of the second run")
    assert "gateway_late_results_total 1.0" in gateway.client.get("/metrics").text
