"""A job's road over HTTP: taken by a worker, followed by its caller, ended once."""

import asyncio
import io
import json
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gateway.api import worker
from gateway.clock import SystemClock
from gateway.errors import StoreUnavailable
from tests.gateways import (
    TestGateway,
    auth,
    edit,
    failure,
    picture,
    running_gateway,
    success,
    worker_auth,
)

RESULT = picture(seed=9, size=(80, 60))


class LateClock(SystemClock):
    """The machine's, and `late_ms` more."""

    late_ms = 0

    def now(self) -> int:
        return super().now() + self.late_ms


def run(gateway: TestGateway, **more: Any) -> dict[str, Any]:
    """The status of a job that has just succeeded."""
    job_id = gateway.create(**more)
    (job,) = gateway.take()
    assert job["id"] == job_id
    assert gateway.done(job_id, success(RESULT)) == 200
    return gateway.ended(job_id)


def test_a_result_becomes_a_picture_with_its_figures(gateway: TestGateway) -> None:
    status = run(gateway, seed=7)
    assert (status["status"], status["percent"], status["attempts"]) == ("succeeded", 100, 1)
    assert (status["width"], status["height"], status["seed"]) == (80, 60, 7)
    assert status["error"] is None
    assert status["created_at"] <= status["started_at"] <= status["finished_at"]
    answer = gateway.client.get(status["result_url"])
    assert answer.content == RESULT
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-length"] == str(len(RESULT))
    assert answer.headers["etag"] == f'"{status["sha256"]}"'
    assert "immutable" in answer.headers["cache-control"]
    again = gateway.client.get(
        status["imageUrl"], headers={"If-None-Match": answer.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")
    head = gateway.client.head(status["result_url"])
    assert (head.content, head.headers["content-length"]) == (b"", str(len(RESULT)))


def test_a_picture_can_be_saved_under_a_name(gateway: TestGateway) -> None:
    status = run(gateway)
    for name, said in (("my cat.png", "my cat.png"), ('../a"b\r\nx', "a_b__x"), ("..", "picture")):
        answer = gateway.client.get(status["result_url"], params={"download": name})
        assert answer.headers["content-disposition"] == f'attachment; filename="{said}"'


def test_a_worker_is_given_as_many_jobs_as_it_has_hands_and_no_job_twice(
    gateway: TestGateway,
) -> None:
    made = [gateway.create() for _ in range(3)]
    assert [job["id"] for job in gateway.take(batch=2)] == made[:2]
    assert [job["id"] for job in gateway.take("gpu-2")] == made[2:]


def test_every_step_is_an_event_and_the_stream_can_be_taken_up_again(gateway: TestGateway) -> None:
    job_id = gateway.create()
    gateway.take()
    gateway.done(job_id, {"status": "IN_PROGRESS", "output": {"phase": "execute", "percent": 50}})
    assert gateway.status(job_id)["phase"] == "execute"
    assert gateway.status(job_id)["percent"] == 50
    gateway.done(job_id, success(RESULT))
    gateway.ended(job_id)
    events = gateway.events(job_id)
    assert [event["status"] for _, event in events] == ["queued", "running", "running", "succeeded"]
    numbers = [number for number, _ in events]
    assert numbers == sorted(set(numbers))
    assert events[-1][1]["result_url"] == gateway.status(job_id)["result_url"]
    assert events[1][1]["result_url"] is None
    assert gateway.events(job_id, str(numbers[1])) == events[2:]
    assert gateway.events(job_id, str(numbers[-1])) == []
    assert len(gateway.events(job_id, "999999")) == 4, "no number of ours: all again"
    assert len(gateway.events(job_id, "junk")) == 4


def test_late_progress_does_not_bring_a_finished_job_back(gateway: TestGateway) -> None:
    status = run(gateway)
    gateway.done(status["job_id"], {"status": "IN_PROGRESS", "output": {"phase": "execute"}})
    assert gateway.status(status["job_id"])["status"] == "succeeded"


def test_the_first_result_counts_and_is_never_doubled(gateway: TestGateway, tmp_path: Path) -> None:
    status = run(gateway)
    other = picture(seed=10)
    assert gateway.done(status["job_id"], success(other)) == 200
    assert gateway.done(status["job_id"], success(other), "gpu-2") == 200
    assert gateway.done(status["job_id"], failure("internal_error", True)) == 200
    assert gateway.client.get(status["result_url"]).content == RESULT
    assert len(list((tmp_path / "objects" / "results").rglob("*.png"))) == 1
    assert "gateway_late_results_total 2.0" in gateway.client.get("/metrics").text


def test_a_failure_that_may_pass_is_tried_again_and_another_is_not(gateway: TestGateway) -> None:
    job_id = gateway.create()
    gateway.take()
    gateway.done(job_id, failure("comfy_exited", True))
    waiting = gateway.status(job_id)
    assert (waiting["status"], waiting["attempts"]) == ("queued", 1)
    (again,) = gateway.take("gpu-2")
    assert again["id"] == job_id
    gateway.done(job_id, failure("out_of_memory", False), "gpu-2")
    failed = gateway.ended(job_id)
    assert (failed["ok"], failed["status"]) == (True, "failed")
    assert failed["error"] == {
        "code": "out_of_memory", "message": "so it is", "retryable": False,
    }  # fmt: skip


def test_a_former_holders_failure_does_not_touch_the_next_try(tmp_path: Path) -> None:
    clock = LateClock()
    with running_gateway(tmp_path, clock) as gateway:
        job_id = gateway.create()
        gateway.take("gpu-1")
        clock.late_ms = 31_000
        assert len(gateway.context.store.lose_silent(clock.now(), 9)) <= 1
        clock.late_ms = 40_000
        assert [job["id"] for job in gateway.take("gpu-2")] == [job_id]
        gateway.done(job_id, failure("interrupted", False), "gpu-1")
        assert gateway.status(job_id)["status"] == "running"
        # Its result is as good as any, and the other GPU is freed.
        gateway.done(job_id, success(RESULT), "gpu-1")
        assert gateway.ended(job_id)["status"] == "succeeded"
        assert gateway.stops("gpu-2") == [job_id]


def test_a_silent_worker_loses_its_job_and_a_pinging_one_does_not(tmp_path: Path) -> None:
    clock = LateClock()
    with running_gateway(tmp_path, clock) as gateway:
        job_id = gateway.create()
        gateway.take("gpu-1")
        for late_s in (20, 40, 60):
            clock.late_ms = late_s * 1000
            gateway.ping(job_id)
        assert gateway.status(job_id)["status"] == "running"
        clock.late_ms = 91_000
        assert [job["id"] for job in _take_soon(gateway, clock, "gpu-2")] == [job_id]
        gateway.done(job_id, success(RESULT), "gpu-2")
        assert gateway.ended(job_id)["attempts"] == 2


def _take_soon(gateway: TestGateway, clock: LateClock, worker: str) -> list[dict[str, Any]]:
    """Within the 45 s that a job may be without a holder."""
    gateway.context.store.lose_silent(clock.now(), 9)
    clock.late_ms += 14_000
    return gateway.take(worker)


def test_a_cancelled_job_that_waits_is_gone_at_once(gateway: TestGateway) -> None:
    job_id = gateway.create()
    answer = gateway.client.post(f"/api/queue/cancel/{job_id}").json()
    assert (answer["ok"], answer["status"]) == (True, "cancelled")
    again = gateway.client.post(f"/api/queue/cancel/{job_id}").json()
    assert again["status"] == "cancelled"


def test_the_worker_of_a_cancelled_job_is_told_to_stop(gateway: TestGateway) -> None:
    job_id = gateway.create()
    gateway.take()
    answer = gateway.client.post(f"/api/queue/cancel/{job_id}").json()
    assert answer["status"] == "running"
    told = gateway.client.get("/v2/own/job-stop/gpu-1", headers=worker_auth())
    assert told.json() == {"jobsToStop": [job_id]}
    assert gateway.status(job_id)["status"] == "cancelled"
    # It did not hear it: its next ping tells.
    gateway.ping(job_id)
    assert gateway.stops() == [job_id]
    gateway.done(job_id, success(RESULT))
    assert gateway.status(job_id)["status"] == "cancelled"
    assert gateway.status(job_id)["result_url"] is None


@pytest.mark.parametrize(
    "output",
    [
        None, {}, {"images": []}, {"images": [{"data": "!", "type": "base64"}]}, {"images": "x"},
        {"images": [{"data": "aGVsbG8=", "type": "base64"}]}, {"images": [7]}, [], "text",
    ],
)  # fmt: skip
def test_an_answer_without_a_usable_picture_fails_the_try(tmp_path: Path, output: Any) -> None:
    with running_gateway(tmp_path, gateway_attempts=1) as gateway:
        job_id = gateway.create()
        gateway.take()
        assert gateway.done(job_id, {"output": output} if output is not None else {}) == 200
        ended = gateway.ended(job_id)
        assert (ended["status"], ended["error"]["code"]) == ("failed", "invalid_output")
        assert (ended["error"]["retryable"], ended["attempts"]) == (True, 1)


def test_what_is_no_answer_is_refused_and_the_job_goes_on(gateway: TestGateway) -> None:
    job_id = gateway.create()
    gateway.take()
    for body in (b"", b"{", b"[]", b"\xff", b"7"):
        assert gateway.done(job_id, body) == 400
    assert gateway.done("01a20de0-dd8c-759f-95e2-d908d1701fa1", success(RESULT)) == 404
    assert gateway.done(job_id, success(RESULT)) == 200
    assert gateway.ended(job_id)["status"] == "succeeded"


def test_a_result_for_a_job_that_was_never_begun_is_nothing(gateway: TestGateway) -> None:
    job_id = gateway.create()
    assert gateway.done(job_id, success(RESULT)) == 200
    assert gateway.status(job_id)["status"] == "queued"


def test_a_deleted_job_leaves_no_picture_and_no_text(gateway: TestGateway, tmp_path: Path) -> None:
    status = run(gateway, prompt="a secret wish", request_id="r")
    job_id = status["job_id"]
    answer = gateway.client.delete(f"/api/queue/{job_id}")
    assert answer.json()["deleted"] is True
    left = [path for path in (tmp_path / "objects").rglob("*") if path.is_file()]
    assert left == []
    assert b"a secret wish" not in json.dumps(gateway.status(job_id)).encode()
    gone = gateway.client.get(status["result_url"])
    assert (gone.status_code, gone.json()["code"]) == (410, "result_gone")
    assert gateway.client.delete(f"/api/queue/{job_id}").status_code == 200


def test_a_running_job_is_stopped_before_it_can_be_deleted(gateway: TestGateway) -> None:
    job_id = gateway.create()
    gateway.take()
    answer = gateway.client.delete(f"/api/queue/{job_id}")
    assert (answer.status_code, answer.json()["code"]) == (409, "job_is_open")
    assert gateway.stops() == [job_id]
    assert gateway.client.delete(f"/api/queue/{job_id}").status_code == 200


def test_a_job_is_its_owners_only(keyed: TestGateway) -> None:
    job_id = keyed.create("key-of-ann")
    keyed.take()
    keyed.done(job_id, success(RESULT))
    url = keyed.ended(job_id, "key-of-ann")["result_url"]
    key = url.removeprefix("/api/result/")
    calls = [
        ("GET", f"/api/queue/status/{job_id}"), ("GET", f"/api/queue/events/{job_id}"),
        ("POST", f"/api/queue/cancel/{job_id}"), ("DELETE", f"/api/queue/{job_id}"),
        ("GET", url), ("GET", f"/v2/own/status/{job_id}"), ("POST", f"/v2/own/cancel/{job_id}"),
    ]  # fmt: skip
    for method, path in calls:
        answer = keyed.client.request(method, path, headers=auth("key-of-bob"))
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
    for name in (f"bucket:{key}", f"bucket:inputs/{job_id}/0.png"):
        body = edit(images=[{"image": name}])
        answer = keyed.client.post("/api/queue/create", json=body, headers=auth("key-of-bob"))
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_image")
        answer = keyed.client.post("/api/queue/create", json=body, headers=auth("key-of-ann"))
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "key", ["../../etc/passwd", "results/", "results/x/../../y", "%2e%2e/x", "inputs/x", "%00"]
)
def test_no_address_of_a_result_opens_anything_else(gateway: TestGateway, key: str) -> None:
    assert gateway.client.get(f"/api/result/{key}").status_code == 404


def test_code_for_runpod_runs_on_own_gpus(gateway: TestGateway) -> None:
    sent = {"anything": [1, {"x": "ทดสอบ"}], "images": "unread"}
    made = gateway.client.post("/v2/own/run", json={"input": sent, "policy": {"ttl": 1}}).json()
    assert made["status"] == "IN_QUEUE"
    (job,) = gateway.take()
    assert job == {"id": made["id"], "input": sent}
    route = f"/v2/own/status/{made['id']}"
    gateway.done(job["id"], {"status": "IN_PROGRESS", "output": {"phase": "execute"}})
    assert gateway.client.get(route).json()["status"] == "IN_PROGRESS"
    gateway.done(job["id"], {"output": {"any": "thing", "n": [1, 2]}})
    gateway.ended(job["id"])
    done = gateway.client.get(route).json()
    assert (done["status"], done["output"]) == ("COMPLETED", {"any": "thing", "n": [1, 2]})
    assert done["delayTime"] >= 0
    assert done["executionTime"] >= 0


def test_runpods_other_calls_answer_in_its_shapes(gateway: TestGateway) -> None:
    post, get = gateway.client.post, gateway.client.get
    first, second = (post("/v2/own/run", json={"input": {"n": n}}).json()["id"] for n in (1, 2))
    assert post(f"/v2/own/cancel/{first}").json() == {"id": first, "status": "CANCELLED"}
    assert get(f"/v2/own/status/{first}").json() == {"id": first, "status": "CANCELLED"}
    health = get("/v2/own/health").json()
    assert health["jobs"]["inQueue"] == 1
    assert post("/v2/own/purge-queue").json() == {"removed": 1, "status": "completed"}
    assert get(f"/v2/own/status/{second}").json()["status"] == "CANCELLED"
    third = post("/v2/own/run", json={"input": {"n": 3}}).json()["id"]
    gateway.take()
    gateway.done(third, failure("node_failed", False))
    failed = get(f"/v2/own/status/{third}").json()
    assert (failed["status"], failed["error"]) == ("FAILED", "node_failed: so it is")
    again = post(f"/v2/own/retry/{third}").json()
    assert again["status"] == "IN_QUEUE"
    assert gateway.take()[0]["input"] == {"n": 3}
    waited = post("/v2/own/runsync?wait=1000", json={"input": {"n": 4}}).json()
    assert waited["status"] == "IN_QUEUE"
    for body in ({}, {"input": 7}, [], {"input": {}, "webhook": "http://10.0.0.1/"}):
        assert post("/v2/own/run", json=body).status_code == 400


def test_results_and_uploads_are_swept_when_their_time_is_over(tmp_path: Path) -> None:
    from gateway.steps.sweep import Sweeper

    clock = LateClock()
    with running_gateway(tmp_path, clock) as gateway:
        status = run(gateway)
        upload = {"image": ("a.png", picture(), "image/png")}
        used = gateway.client.post("/api/uploads", files=upload).json()["upload_id"]
        sweeper = Sweeper(gateway.context.store, gateway.context.objects, clock, "results/", 60_000)
        assert (sweeper.results(), sweeper.uploads(), sweeper.orphans()) == (0, 0, 0)
        (tmp_path / "objects" / "inputs" / "01a20de0-dead-759f-95e2-d908d1701fa1").mkdir()
        clock.late_ms = 3_700_000
        assert (sweeper.results(), sweeper.uploads(), sweeper.orphans()) == (1, 1, 1)
        assert gateway.client.get(status["result_url"]).status_code == 410
        refused = gateway.client.post(
            "/api/queue/create", json=edit(images=[{"image": f"upload:{used}"}])
        )
        assert refused.status_code == 400
        assert [p for p in (tmp_path / "objects").rglob("*") if p.is_file()] == []


def test_a_job_whose_pictures_are_gone_fails_and_the_worker_gets_the_next(
    gateway: TestGateway,
) -> None:
    first, second = gateway.create(), gateway.create()
    gateway.context.objects.delete(f"inputs/{first}")
    assert [job["id"] for job in gateway.take(batch=2)] == [second]
    assert gateway.ended(first)["error"]["code"] == "input_gone"


def test_a_job_whose_pictures_can_not_be_read_now_goes_back_and_uses_up_no_try(
    gateway: TestGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = gateway.create()

    def fail(_key: str) -> None:
        raise StoreUnavailable("not now")

    taken = gateway.context.own.take("gpu-1", 1)
    with monkeypatch.context() as patch:
        patch.setattr(gateway.context.objects, "open", fail)
        assert worker._readable(gateway.context, taken) == []
    status = gateway.status(job_id)
    assert (status["status"], status["attempts"], status["started_at"]) == ("queued", 0, None)
    assert [job["id"] for job in gateway.take()] == [job_id]


def test_a_job_that_a_worker_got_in_part_goes_back(gateway: TestGateway) -> None:
    """As when its connection breaks while the pictures travel."""
    job_id = gateway.create()
    ctx = gateway.context

    async def give_half() -> None:
        given = worker._readable(ctx, ctx.own.take("gpu-1", 1))
        pieces = worker._in_threads(ctx, given, chain([b"x" * 600_000], given[0][1]))
        assert await anext(pieces)
        await pieces.aclose()
        await ctx.background.drain(5)

    asyncio.run(give_half())
    assert gateway.status(job_id)["status"] == "queued"


def test_all_pictures_of_a_workflow_are_kept(gateway: TestGateway) -> None:
    job_id = gateway.create()
    gateway.take()
    body = success(RESULT)
    second = success(picture("WEBP", seed=3))["output"]["images"][0]
    body["output"]["images"].append(second)
    gateway.done(job_id, body)
    results = gateway.ended(job_id)["results"]
    assert [entry["content_type"] for entry in results] == ["image/png", "image/webp"]
    with Image.open(io.BytesIO(gateway.client.get(results[1]["url"]).content)) as opened:
        assert opened.format == "WEBP"
