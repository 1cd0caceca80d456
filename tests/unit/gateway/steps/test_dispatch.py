"""Jobs on their way to RunPod, by a whole gateway: trouble, lost answers, bounds, overflow."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.job import JobState
from tests.clouds import ShiftedClock, cloud_settings, seen, succeeded
from tests.fakes.runpod_cloud import RunPodCloud
from tests.gateways import TestGateway, as_text, picture, running_gateway, success


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("unauthorized_page", "key_refused"),
        ("not_found", "no_endpoint"),
    ],
)
def test_a_job_that_runpod_surely_did_not_take_waits_and_is_sent_later(
    cloud: RunPodCloud, gateway: TestGateway, fault: str, reason: str
) -> None:
    cloud.fail_next("run", fault)
    job_id = gateway.create()
    assert seen(gateway, job_id, lambda status: status["waiting_for"] == reason)
    status = succeeded(gateway, job_id)
    assert (status["attempts"], status["waiting_for"]) == (1, None)
    assert cloud.executions == {job_id: 1}


def test_all_who_wait_are_told_that_the_key_is_refused(cloud: RunPodCloud, tmp_path: Path) -> None:
    wrong = {"runpod_api_key": "rpa_wrong"}
    with running_gateway(tmp_path, **cloud_settings(cloud, **wrong)) as gateway:
        for job_id in [gateway.create() for _ in range(3)]:
            seen(gateway, job_id, lambda status: status["waiting_for"] == "key_refused")
        assert gateway.client.post(f"/api/queue/cancel/{job_id}").status_code == 200
        assert gateway.ended(job_id)["status"] == "cancelled"


def test_a_throttled_job_is_sent_a_little_later(cloud: RunPodCloud, gateway: TestGateway) -> None:
    cloud.fail_next("run", "throttled", "throttled_for_1_s", "throttled")
    job_id = gateway.create()
    succeeded(gateway, job_id)
    assert cloud.executions == {job_id: 1}


@pytest.mark.parametrize("fault", ["524", "cut"])
def test_a_job_whose_answer_is_lost_before_it_was_taken_is_sent_again(
    cloud: RunPodCloud, gateway: TestGateway, fault: str
) -> None:
    cloud.fail_next("run", fault)
    job_id = gateway.create()
    assert succeeded(gateway, job_id)["attempts"] == 1
    assert cloud.executions == {job_id: 1}


@pytest.mark.parametrize("fault", ["lost", "garbage"])
def test_a_job_whose_answer_is_lost_after_it_was_taken_has_one_picture(
    cloud: RunPodCloud, gateway: TestGateway, fault: str
) -> None:
    cloud.fail_next("run", fault)
    job_id = gateway.create()
    assert succeeded(gateway, job_id)["attempts"] == 1
    assert cloud.executions[job_id] <= 2


def test_a_slow_answer_is_waited_for_longer_than_a_lease(
    cloud: RunPodCloud, tmp_path: Path
) -> None:
    cloud.slow_s = 3
    cloud.fail_next("run", "slow")
    with running_gateway(tmp_path, **cloud_settings(cloud, gateway_lease_s=1)) as gateway:
        job_id = gateway.create()
        succeeded(gateway, job_id)
    assert len(cloud.requests("run")) == 1


def test_a_job_that_runpod_refuses_fails_with_a_code(cloud: RunPodCloud, tmp_path: Path) -> None:
    cloud.request_limit = 1_000
    with running_gateway(tmp_path, **cloud_settings(cloud)) as gateway:
        status = gateway.ended(gateway.create())
    assert (status["status"], status["error"]["code"]) == ("failed", "backend_rejected")
    assert len(cloud.requests("run")) == 1


def large() -> bytes:
    """A picture of which two do not fit into a request together."""
    return picture(size=(1300, 1300))


def test_pictures_too_large_for_a_request_go_by_signed_address(
    cloud: RunPodCloud, tmp_path: Path
) -> None:
    public = {"gateway_public_url": "https://edit.example.org"}
    cloud.max_workers = 0
    with running_gateway(tmp_path, **cloud_settings(cloud, **public)) as gateway:
        images = [{"name": f"{n}.png", "image": as_text(large())} for n in range(2)]
        gateway.create(images=images)
        cloud.wait_for(lambda: cloud.requests("run"), "submit")
        (sent,) = cloud.requests("run")
        texts = [entry["image"] for entry in sent.body["input"]["images"]]
        address = next(text for text in texts if text.startswith("https://edit.example.org/"))
        inline = next(text for text in texts if text != address)
        assert base64.b64decode(inline) == large()
        path = address.removeprefix("https://edit.example.org")
        assert gateway.client.get(path).content == large()
        assert gateway.client.get(f"{path[:-1]}x").status_code == 404
        assert gateway.client.get("/api/runpod/input/x.y").status_code == 404
        assert len(json.dumps(sent.body)) < 10_000_000


def test_a_signed_address_ends_with_the_job_it_is_for(cloud: RunPodCloud, tmp_path: Path) -> None:
    clock = ShiftedClock()
    public = {"gateway_public_url": "https://edit.example.org", "gateway_queue_ttl_s": 60}
    with running_gateway(tmp_path, clock, **cloud_settings(cloud, **public)) as gateway:
        tokens = gateway.context.cloud.tokens
        gateway.context.objects.put("inputs/a/0.png", b"x")
        path = f"/api/runpod/input/{tokens.sign('inputs/a/0.png', clock.now() + 1000)}"
        assert gateway.client.get(path).content == b"x"
        clock.ahead = 2000
        assert gateway.client.get(path).status_code == 404


def test_pictures_too_large_for_a_request_and_no_way_around_it_fail_with_a_code(
    cloud: RunPodCloud, gateway: TestGateway
) -> None:
    images = [{"name": f"{n}.png", "image": as_text(large())} for n in range(2)]
    status = gateway.ended(gateway.create(images=images))
    assert (status["status"], status["error"]["code"]) == ("failed", "input_too_large")
    assert "GATEWAY_PUBLIC_URL" in status["error"]["message"]
    assert cloud.requests("run") == []


def test_no_more_jobs_are_sent_in_a_day_than_allowed(cloud: RunPodCloud, tmp_path: Path) -> None:
    clock = ShiftedClock()
    bound = {"gateway_runpod_per_day": 2, "gateway_queue_ttl_s": 500_000}
    with running_gateway(tmp_path, clock, **cloud_settings(cloud, **bound)) as gateway:
        jobs = [gateway.create() for _ in range(3)]
        for job_id in jobs[:2]:
            succeeded(gateway, job_id)
        seen(gateway, jobs[2], lambda status: status["waiting_for"] == "day_limit")
        assert len(cloud.requests("run")) == 2
        clock.ahead = 86_400_000
        succeeded(gateway, jobs[2])


@pytest.fixture
def own_first(cloud: RunPodCloud, tmp_path: Path) -> Any:
    own = {"gateway_route": "own-first", "gateway_burst_after_s": 1.0}
    with running_gateway(tmp_path, **cloud_settings(cloud, **own)) as found:
        yield found


def test_what_waits_too_long_for_an_own_gpu_goes_to_runpod_and_to_nobody_else(
    cloud: RunPodCloud, own_first: TestGateway
) -> None:
    cloud.next_job(run_s=1.5)
    taken_id, late_id = own_first.create(), own_first.create()
    (taken,) = own_first.take()
    assert taken["id"] == taken_id
    seen(own_first, late_id, lambda status: status["backend"] == "runpod")
    assert own_first.context.store.take("gpu-2", 9, own_first.context.clock.now(), 0) == []
    assert succeeded(own_first, late_id)["backend"] == "runpod"
    own_first.done(taken_id, success(picture()))
    assert succeeded(own_first, taken_id)["backend"] == "own"
    assert cloud.executions == {late_id: 1}


def test_a_job_that_runpod_does_not_take_comes_back_to_the_own_gpus(
    cloud: RunPodCloud, own_first: TestGateway
) -> None:
    cloud.fail_next("run", *["unauthorized"] * 20)
    job_id = own_first.create()
    cloud.wait_for(lambda: cloud.requests("run"), "submit")
    (taken,) = own_first.take()
    assert taken["id"] == job_id
    own_first.done(job_id, success(picture()))
    assert succeeded(own_first, job_id)["backend"] == "own"
    assert cloud.executions == {}


def test_a_cancel_while_the_job_is_being_sent_stops_it_at_runpod(
    cloud: RunPodCloud, gateway: TestGateway
) -> None:
    cloud.next_job(run_s=60)
    cloud.fail_next("run", "slow")
    job_id = gateway.create()
    store = gateway.context.store
    seen(gateway, job_id, lambda _: store.get(job_id).state is JobState.SENDING)
    gateway.client.post(f"/api/queue/cancel/{job_id}")
    assert gateway.ended(job_id)["status"] == "cancelled"
    (job,) = cloud.jobs.values()
    assert job.status == "CANCELLED"


def test_what_is_written_for_runpod_goes_there_through_the_gateway_unread(
    cloud: RunPodCloud, gateway: TestGateway
) -> None:
    cloud.execute = lambda job: {"output": {"sent": job["input"], "pi": 3}}
    sent = {"anything": [1, None, {"x": "ü"}]}
    answer = gateway.client.post("/v2/runpod/runsync", json={"input": sent}).json()
    assert (answer["status"], answer["output"]) == ("COMPLETED", {"sent": sent, "pi": 3})
    assert cloud.requests("run")[0].body["input"] == sent
    health = gateway.client.get("/v2/runpod/health").json()
    assert (health["jobs"]["completed"], health["workers"]["idle"]) == (1, 3)


def test_a_job_of_runpods_api_may_have_no_output(cloud: RunPodCloud, gateway: TestGateway) -> None:
    cloud.execute = lambda job: {}
    answer = gateway.client.post("/v2/runpod/runsync", json={"input": {"a": 1}}).json()
    assert (answer["status"], answer.get("output")) == ("COMPLETED", None)


def test_without_runpod_there_is_no_such_api(tmp_path: Path) -> None:
    with running_gateway(tmp_path) as gateway:
        assert gateway.client.post("/v2/runpod/run", json={"input": {"a": 1}}).status_code == 404
        assert gateway.client.post("/v2/other/run", json={"input": {"a": 1}}).status_code == 400


def test_a_refused_key_is_told_as_the_back_ends(cloud: RunPodCloud, tmp_path: Path) -> None:
    wrong = {"runpod_api_key": "rpa_wrong"}
    with running_gateway(tmp_path, **cloud_settings(cloud, **wrong)) as gateway:
        answer = gateway.client.get("/v2/runpod/health")
    assert (answer.status_code, answer.json()["code"]) == (503, "backend_key_refused")
