"""The client against the stand-in for RunPod's cloud, over real connections."""

import asyncio
import base64
import hashlib
import json
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest
import structlog
from structlog.typing import EventDict

from gateway.runpod.client import MOST_REQUEST_BYTES, RunPodClient
from gateway.runpod.errors import (
    Forbidden,
    KeyRefused,
    NotFound,
    RateLimited,
    Rejected,
    RunPodError,
    TooBig,
    Unavailable,
)
from tests.fakes.runpod_cloud import RunPodCloud

JOB = {"input": {"prompt": "a red hat", "request_id": "r-1"}}
BODY = json.dumps(JOB).encode()
Call = Callable[[RunPodClient], Awaitable[Any]]


class Waits:
    """A sleep that takes no time and remembers how long it was to be."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        await asyncio.sleep(0)


@pytest.fixture(scope="module")
def shared() -> Iterator[RunPodCloud]:
    with RunPodCloud() as cloud:
        yield cloud


@pytest.fixture
def cloud(shared: RunPodCloud) -> RunPodCloud:
    shared.clear()
    return shared


def ask(url: str, key: str, call: Call, **options: Any) -> Any:
    async def main() -> Any:
        async with RunPodClient(url, key, **{"sleep": Waits(), **options}) as client:
            return await call(client)

    return asyncio.run(main())


def run(client: RunPodClient) -> Awaitable[str]:
    return client.run("standin", BODY)


def failure(cloud: RunPodCloud, call: Call, **options: Any) -> tuple[RunPodError, list[EventDict]]:
    """The error, and the lines logged."""
    with structlog.testing.capture_logs() as lines, pytest.raises(RunPodError) as caught:
        ask(cloud.url, options.pop("key", cloud.key), call, **options)
    return caught.value, lines


def test_a_job_is_submitted_looked_at_and_seen_through(cloud: RunPodCloud) -> None:
    job_id = ask(cloud.url, cloud.key, run)
    cloud.wait_for(lambda: cloud.jobs[job_id].is_final, "end of the job")
    shown = ask(cloud.url, cloud.key, lambda client: client.status("standin", job_id))
    assert (shown["id"], shown["status"]) == (job_id, "COMPLETED")
    assert shown["output"]["request_id"] == "r-1"
    assert cloud.requests("run")[0].body == JOB


def test_a_waiting_job_is_cancelled(cloud: RunPodCloud) -> None:
    cloud.max_workers = 0
    job_id = ask(cloud.url, cloud.key, run)
    assert ask(cloud.url, cloud.key, lambda client: client.cancel("standin", job_id)) == {
        "id": job_id, "status": "CANCELLED",
    }  # fmt: skip


def test_health_gives_the_counts(cloud: RunPodCloud) -> None:
    cloud.max_workers = 0
    health = ask(cloud.url, cloud.key, lambda client: client.health("standin"))
    assert set(health["workers"].values()) == {0}


@pytest.mark.parametrize("fault", ["unauthorized", "unauthorized_page"])
def test_a_refused_key_is_told_by_the_status_whatever_the_body(
    cloud: RunPodCloud, fault: str
) -> None:
    cloud.fail_next("run", fault)
    error, _ = failure(cloud, run)
    assert isinstance(error, KeyRefused)
    assert error.not_taken
    assert len(cloud.requests("run")) == 1


def test_another_key_is_refused(cloud: RunPodCloud) -> None:
    error, _ = failure(cloud, run, key="rpa_wrong")
    assert isinstance(error, KeyRefused)


def test_a_page_of_the_edge_with_403_is_no_refused_key(cloud: RunPodCloud) -> None:
    cloud.fail_next("status", "forbidden")
    error, _ = failure(cloud, lambda client: client.status("standin", "a-u1"))
    assert isinstance(error, Forbidden)


def test_an_unknown_job_is_not_found_and_not_asked_for_again(cloud: RunPodCloud) -> None:
    error, _ = failure(cloud, lambda client: client.status("standin", "a-u1"))
    assert isinstance(error, NotFound)
    assert len(cloud.requests("status")) == 1


@pytest.mark.parametrize("fault", ["500", "502", "503", "504", "520", "522", "524", "garbage"])
def test_a_get_is_tried_again_after_trouble_at_the_edge(cloud: RunPodCloud, fault: str) -> None:
    cloud.fail_next("health", fault, fault)
    waits = Waits()
    assert "workers" in ask(cloud.url, cloud.key, lambda c: c.health("standin"), sleep=waits)
    assert [request.status for request in cloud.requests("health")][-1] == 200
    assert len(cloud.requests("health")) == 3
    first, second = waits.asked
    assert 0.25 <= first <= 0.5 <= second <= 1.0


@pytest.mark.parametrize("fault", ["cut", "502"])
def test_a_get_is_given_up_after_three_attempts(cloud: RunPodCloud, fault: str) -> None:
    cloud.fail_next("health", *[fault] * 5)
    error, lines = failure(cloud, lambda client: client.health("standin"))
    assert isinstance(error, Unavailable)
    assert [line["attempt"] for line in lines] == [1, 2, 3]


@pytest.mark.parametrize("fault", ["500", "502", "524", "cut", "lost", "garbage"])
def test_a_submit_whose_answer_is_lost_is_not_repeated(cloud: RunPodCloud, fault: str) -> None:
    cloud.fail_next("run", fault)
    error, _ = failure(cloud, run)
    assert isinstance(error, Unavailable)
    assert not error.not_taken
    assert len(cloud.requests("run")) == 1


@pytest.mark.parametrize(
    ("fault", "least", "most"), [("throttled", 0.25, 0.5), ("throttled_for_1_s", 1.0, 1.0)]
)
def test_a_throttled_submit_is_repeated_after_the_wait_asked_for(
    cloud: RunPodCloud, fault: str, least: float, most: float
) -> None:
    cloud.fail_next("run", fault)
    waits = Waits()
    ask(cloud.url, cloud.key, run, sleep=waits)
    assert len(cloud.requests("run")) == 2
    assert least <= waits.asked[0] <= most


def test_a_long_wait_is_left_to_the_caller(cloud: RunPodCloud) -> None:
    answers = iter([httpx.Response(429, headers={"Retry-After": "60"})])
    transport = httpx.MockTransport(lambda request: next(answers))
    error, _ = failure(cloud, run, transport=transport)
    assert isinstance(error, RateLimited)
    assert error.retry_after_s == 60
    assert error.not_taken


def test_a_submit_that_reaches_nobody_is_repeated_and_then_surely_not_taken() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v2"
        with structlog.testing.capture_logs() as lines, pytest.raises(Unavailable) as caught:
            ask(url, "key", run)
    assert caught.value.not_taken
    assert len(lines) == 3


def test_a_request_over_ten_megabytes_is_never_sent(cloud: RunPodCloud) -> None:
    job = {"input": {"image": "A" * MOST_REQUEST_BYTES}}
    error, _ = failure(cloud, lambda client: client.run("standin", json.dumps(job).encode()))
    assert isinstance(error, TooBig)
    assert cloud.requests() == []


def test_a_request_of_just_ten_megabytes_is_taken(cloud: RunPodCloud) -> None:
    frame = len(json.dumps({"input": {"image": ""}}))
    job = {"input": {"image": "A" * (MOST_REQUEST_BYTES - frame)}}
    cloud.execute, paint = lambda job: {"output": {"ok": True}}, cloud.execute
    try:
        assert ask(
            cloud.url, cloud.key, lambda client: client.run("standin", json.dumps(job).encode())
        )
    finally:
        cloud.execute = paint


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b'{"status": "IN_QUEUE"}', b'{"id": 7}', b'{"id": "../x"}',
     b'{"id": ""}', b"[" * 100_000, b"\xff\xfe"],
)  # fmt: skip
def test_an_answer_without_a_usable_id_leaves_open_whether_the_job_was_taken(
    cloud: RunPodCloud, body: bytes
) -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=body))
    error, _ = failure(cloud, run, transport=transport)
    assert isinstance(error, Unavailable)
    assert not error.not_taken


@pytest.mark.parametrize("status", [301, 400, 405, 409, 422])
def test_a_refused_request_is_not_repeated(cloud: RunPodCloud, status: int) -> None:
    answer = httpx.Response(status, headers={"Location": "http://127.0.0.1:1/"}, text="no")
    error, lines = failure(cloud, run, transport=httpx.MockTransport(lambda request: answer))
    assert isinstance(error, Rejected)
    assert len(lines) == 1


@pytest.mark.parametrize(
    ("endpoint", "job"), [("../x", "a"), ("", "a"), ("e", "a/../b"), ("e", "")]
)
def test_no_id_leads_to_another_address(cloud: RunPodCloud, endpoint: str, job: str) -> None:
    error, _ = failure(cloud, lambda client: client.status(endpoint, job))
    assert isinstance(error, NotFound)
    assert cloud.requests() == []


def test_an_endless_answer_is_cut_off(cloud: RunPodCloud) -> None:
    async def forever() -> Any:
        while True:
            yield b" " * 1_000_000

    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=forever()))
    error, _ = failure(cloud, run, transport=transport)
    assert isinstance(error, Unavailable)


def test_a_failed_call_is_logged_whole_without_key_token_or_picture(cloud: RunPodCloud) -> None:
    picture = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40
    as_text = base64.b64encode(picture).decode()
    job = {
        "input": {"prompt": "a hat", "images": [{"name": "a.png", "image": as_text}]},
        "webhook": "https://edit.example.org/api/runpod/webhook/s3cr3t-t0ken",
        "policy": {"ttl": 60_000},
    }
    cloud.fail_next("run", "502")
    _, [line] = failure(cloud, lambda client: client.run("standin", json.dumps(job).encode()))
    digest = hashlib.sha256(picture).hexdigest()
    assert (line["method"], line["url"]) == ("POST", f"{cloud.url}/standin/run")
    assert line["headers"]["authorization"] == "[redacted]"
    assert line["headers"]["content-type"] == "application/json"
    image = line["body"]["input"]["images"][0]
    assert image == {"name": "a.png", "image": f"[{len(picture)} bytes, sha256 {digest}]"}
    assert line["body"]["input"]["prompt"] == "a hat"
    assert line["body"]["policy"] == {"ttl": 60_000}
    assert (line["status"], line["error"]) == (502, "Unavailable")
    assert line["answer_headers"]["content-type"].startswith("text/html")
    assert "<h1>Error 502</h1>" in line["answer_body"]
    written = json.dumps(line)
    assert all(secret not in written for secret in (cloud.key, "s3cr3t-t0ken", as_text[:150]))


def test_a_call_that_is_given_up_is_logged_too(cloud: RunPodCloud) -> None:
    async def give_up(client: RunPodClient) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await client.run("standin", BODY)

    cloud.slow_s = 30
    cloud.fail_next("run", "slow")
    with structlog.testing.capture_logs() as lines:
        ask(cloud.url, cloud.key, give_up)
    assert [line["error"] for line in lines] == ["CancelledError"]


def test_calls_keep_under_the_documented_rates(cloud: RunPodCloud) -> None:
    now, waits = [0.0], Waits()

    async def main(client: RunPodClient) -> None:
        await asyncio.gather(*(client.cancel("standin", "a") for _ in range(30)))

    transport = httpx.MockTransport(lambda request: httpx.Response(200, json={"id": "a"}))
    ask(cloud.url, cloud.key, main, transport=transport, sleep=waits, monotonic=lambda: now[0])
    # All asked at once: the last must wait until its share of the second has come.
    assert max(waits.asked) == pytest.approx(29 / 9, abs=0.01)
    assert max(waits.asked) > 29 / 10
