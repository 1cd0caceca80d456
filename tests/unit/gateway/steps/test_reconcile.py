"""Each oddity of RunPod's states and of its answers to /status, seen by a whole gateway."""

import base64
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.steps.watch import reason_of_health
from tests.clouds import ShiftedClock, cloud_settings, seen, succeeded
from tests.fakes.runpod_cloud import RunPodCloud
from tests.gateways import TestGateway, picture, running_gateway


def test_a_job_comes_back_with_its_picture(cloud: RunPodCloud, gateway: TestGateway) -> None:
    job_id = gateway.create()
    assert succeeded(gateway, job_id)["backend"] == "runpod"
    (sent,) = cloud.requests("run")
    assert sent.body["input"]["request_id"] == job_id
    assert base64.b64decode(sent.body["input"]["images"][0]["image"]) == picture()
    assert cloud.executions == {job_id: 1}


@pytest.mark.parametrize(
    "oddity",
    [
        {"invisible_s": 1.0},
        {"invisible_s": 1.0, "cold_start_s": 1.5},
        {"late_progress_s": 0.8},
        {"late_progress_s": 0.8, "run_s": 0.7},
    ],
    ids=str,
)
def test_states_that_hide_or_go_backwards_cost_no_second_run(
    cloud: RunPodCloud, gateway: TestGateway, oddity: dict[str, Any]
) -> None:
    cloud.next_job(**oddity)
    job_id = gateway.create()
    assert succeeded(gateway, job_id)["attempts"] == 1
    assert len(cloud.requests("run")) == 1


def test_a_job_that_runpod_runs_twice_has_one_picture(
    cloud: RunPodCloud, gateway: TestGateway
) -> None:
    cloud.next_job(twice=True, run_s=0.3)
    job_id = gateway.create()
    first = succeeded(gateway, job_id)
    cloud.wait_for(lambda: cloud.executions[job_id] == 2, "second run")
    later = gateway.status(job_id)
    assert {**later, "request_id": None} == {**first, "request_id": None}


@pytest.mark.parametrize(
    "oddity",
    [{"no_output": True}, {"raises": True}, {"fails": "comfy_exited"}, {"times_out": True}],
    ids=str,
)
def test_a_try_that_another_may_better_is_made_again(
    cloud: RunPodCloud, gateway: TestGateway, oddity: dict[str, Any]
) -> None:
    cloud.next_job(**oddity)
    job_id = gateway.create()
    assert succeeded(gateway, job_id)["attempts"] == 2
    assert cloud.executions[job_id] == 2


@pytest.mark.parametrize(
    ("oddity", "code", "tries"),
    [
        ({"no_output": True}, "invalid_output", 3),
        ({"raises": True}, "worker_error", 3),
        ({"times_out": True}, "worker_lost", 3),
        ({"fails": "node_failed"}, "node_failed", 1),
    ],
)
def test_a_job_that_goes_on_failing_fails_with_a_code_and_without_a_trace(
    cloud: RunPodCloud, gateway: TestGateway, oddity: dict[str, Any], code: str, tries: int
) -> None:
    for _ in range(tries):
        cloud.next_job(**oddity)
    status = gateway.ended(gateway.create())
    assert (status["status"], status["error"]["code"]) == ("failed", code)
    assert "Traceback" not in status["error"]["message"]
    assert len(cloud.requests("run")) == tries


@pytest.mark.parametrize(
    "faults",
    [
        ["unauthorized", "unauthorized_page"],
        ["forbidden"],
        ["502"] * 4,
        ["cut", "garbage", "524", "500"],
        ["throttled", "throttled_for_1_s", "slow", "lost"],
        ["not_found", "520"],
    ],
    ids=str,
)
def test_trouble_with_the_status_ends_no_job(
    cloud: RunPodCloud, gateway: TestGateway, faults: list[str]
) -> None:
    cloud.fail_next("status", *faults)
    job_id = gateway.create()
    assert succeeded(gateway, job_id)["attempts"] == 1
    assert cloud.executions == {job_id: 1}


def test_a_job_that_runpod_has_forgotten_is_sent_again(cloud: RunPodCloud, tmp_path: Path) -> None:
    clock = ShiftedClock()
    with running_gateway(tmp_path, clock, **cloud_settings(cloud)) as gateway:
        cloud.max_workers = 0
        job_id = gateway.create()
        cloud.wait_for(lambda: cloud.requests("status"), "a look")
        cloud.forget(next(iter(cloud.jobs)))
        cloud.max_workers = 3
        clock.ahead = 70_000
        assert succeeded(gateway, job_id)["attempts"] == 2
        assert cloud.executions == {job_id: 1}


def test_a_job_waits_no_longer_than_its_time_and_is_taken_back(
    cloud: RunPodCloud, tmp_path: Path
) -> None:
    cloud.max_workers = 0
    with running_gateway(tmp_path, **cloud_settings(cloud, gateway_queue_ttl_s=2.0)) as gateway:
        status = gateway.ended(gateway.create())
        assert (status["status"], status["error"]["code"]) == ("failed", "expired")
        (job,) = cloud.jobs.values()
        assert job.status == "CANCELLED"


@pytest.mark.parametrize("max_workers", [0, 3])
def test_a_cancelled_job_is_stopped_at_runpod(
    cloud: RunPodCloud, gateway: TestGateway, max_workers: int
) -> None:
    cloud.max_workers = max_workers
    cloud.next_job(run_s=60)
    job_id = gateway.create()
    cloud.wait_for(lambda: cloud.requests("status"), "a look")
    gateway.client.post(f"/api/queue/cancel/{job_id}")
    assert gateway.ended(job_id)["status"] == "cancelled"
    (job,) = cloud.jobs.values()
    assert job.status == "CANCELLED"


def test_a_cancel_that_meets_trouble_is_made_again(
    cloud: RunPodCloud, gateway: TestGateway
) -> None:
    cloud.next_job(run_s=60)
    job_id = gateway.create()
    cloud.wait_for(lambda: cloud.requests("status"), "a look")
    cloud.fail_next("cancel", "502", "lost", "unauthorized", "not_found", "throttled")
    gateway.client.post(f"/api/queue/cancel/{job_id}")
    assert gateway.ended(job_id)["status"] == "cancelled"
    assert next(iter(cloud.jobs.values())).status == "CANCELLED"


def test_progress_is_shown_and_never_goes_back(cloud: RunPodCloud, gateway: TestGateway) -> None:
    cloud.next_job(run_s=2.5)
    job_id = gateway.create()
    status = seen(gateway, job_id, lambda status: status["status"] == "running")
    assert (status["phase"], status["percent"]) == ("sampling", 40)
    assert succeeded(gateway, job_id)["percent"] == 100


def test_a_person_is_told_that_a_worker_starts(cloud: RunPodCloud, gateway: TestGateway) -> None:
    cloud.max_workers = 0
    job_id = gateway.create()
    assert seen(gateway, job_id, lambda status: status["waiting_for"] == "cold_start")
    cloud.max_workers = 1
    succeeded(gateway, job_id)


def test_a_person_is_told_that_runpod_has_no_workers(cloud: RunPodCloud, tmp_path: Path) -> None:
    clock = ShiftedClock()
    cloud.max_workers = 0
    with running_gateway(tmp_path, clock, **cloud_settings(cloud)) as gateway:
        job_id = gateway.create()
        cloud.wait_for(lambda: cloud.requests("status"), "a look")
        clock.ahead = 30_000
        assert seen(gateway, job_id, lambda status: status["waiting_for"] == "no_workers")


@pytest.mark.parametrize(
    ("workers", "waited_ms", "reason"),
    [
        ({"running": 1, "throttled": 2}, 90_000, None),
        ({"idle": 1}, 0, None),
        ({"ready": 1}, 0, None),
        ({"initializing": 1, "throttled": 3}, 90_000, "cold_start"),
        ({"throttled": 3}, 0, "no_capacity"),
        ({"unhealthy": 1}, 0, "unhealthy_workers"),
        ({"idle": 0, "running": 0}, 5_000, "cold_start"),
        ({"idle": 0, "running": 0}, 20_000, "no_workers"),
        ({}, 20_000, "no_workers"),
        (None, 20_000, "no_workers"),
        ({"running": "many", "idle": -1}, 20_000, "no_workers"),
    ],
)
def test_health_tells_why_jobs_wait(workers: Any, waited_ms: int, reason: str | None) -> None:
    assert reason_of_health({"workers": workers}, waited_ms) == reason


def test_many_jobs_at_once_all_end_well(cloud: RunPodCloud, gateway: TestGateway) -> None:
    began = time.monotonic()
    job_ids = [gateway.create() for _ in range(40)]
    for job_id in job_ids:
        succeeded(gateway, job_id)
    assert cloud.executions == dict.fromkeys(job_ids, 1)
    print(f"40 jobs in {time.monotonic() - began:.1f} s")
