"""RunPod's own SDK, and curl as RunPod's documents write it, against a real gateway."""

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.gateway_process import GatewayProcess
from tests.gateways import WORKER_KEY, worker_auth

CLIENT = Path(__file__).parent / "children" / "runpod_own_client.py"
KEY = "key-of-ann"
LARGE_BYTES = 8_000_000


class Echo:
    """A worker that gives back its input; it fails, or waits to be stopped, where that says so."""

    def __init__(self, url: str) -> None:
        self._ended = threading.Event()
        self._url = f"{url}/v2/own"
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def _run(self) -> None:
        with httpx.Client(headers=worker_auth(), timeout=30, trust_env=False) as http:
            while not self._ended.is_set():
                # The gateway ends amid one of its polls.
                with contextlib.suppress(httpx.HTTPError):
                    answer = http.get(f"{self._url}/job-take/echo?gpu=x&job_in_progress=0")
                    if answer.status_code == 200:
                        self._work(http, answer.json())

    def _work(self, http: httpx.Client, job: dict[str, Any]) -> None:
        body: dict[str, Any] = {"output": {"echo": job["input"]}}
        if job["input"].get("fails"):
            body = {"error": "ValueError: as it was told to"}
        if job["input"].get("waits"):
            while http.get(f"{self._url}/job-stop/echo").status_code != 200:
                if self._ended.is_set():
                    break
            return
        http.post(f"{self._url}/job-done/echo/{job['id']}?gpu=x&isStream=false", json=body)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    settings = {"GATEWAY_API_KEYS": f"ann={KEY}", "GATEWAY_WORKER_KEY": WORKER_KEY}
    folder = tmp_path_factory.mktemp("gateway")
    with GatewayProcess(folder, **settings) as found, Echo(found.url):
        yield found


def test_the_sdk_finds_at_the_gateway_what_it_knows_from_runpod(gateway: GatewayProcess) -> None:
    ran = subprocess.run(
        [sys.executable, str(CLIENT), f"{gateway.url}/v2", KEY, "own"],
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-3000:] + gateway.tail()
    seen = json.loads(ran.stdout.splitlines()[-1])
    assert "401" in seen["refused"]
    told = seen["sync"]
    assert told["output"] == told["again"] == {"echo": {"n": 1}}
    assert told["status"] == told["cancel_of_ended"] == "COMPLETED"
    assert told["run_sync"] == {"echo": {"n": 2}}
    assert told["failed"] == [None, "FAILED"]
    assert told["cancelled"] == told["stopped"] == "CANCELLED"
    assert (told["ended"], told["stream"]) == (None, [])
    assert told["health"]["workers"]["ready"] == 1
    assert told["health"]["jobs"]["completed"] >= 2
    assert told["purged"] == {"removed": 0, "status": "completed"}
    assert told["retried"]["status"] == "IN_QUEUE"
    assert seen["async"] == {
        "output": {"echo": {"n": 4}}, "status": "COMPLETED", "failed": [None, "FAILED"],
        "cancelled": "CANCELLED", "health": ["jobs", "workers"],
    }  # fmt: skip


def curl(*arguments: str) -> tuple[int, Any]:
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--write-out", "\n%{http_code}", *arguments],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    body, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(body)


def test_curl_does_too(gateway: GatewayProcess) -> None:
    url = f"{gateway.url}/v2/own"
    auth = ("--header", f"Authorization: Bearer {KEY}")
    as_json = ("--header", "Content-Type: application/json", "--data", '{"input": {"text": "ä"}}')
    status, run = curl("--request", "POST", f"{url}/run", *auth, *as_json)
    assert (status, run["status"]) == (200, "IN_QUEUE")
    status, waited = curl("--request", "POST", f"{url}/runsync?wait=30000", *auth, *as_json)
    assert (status, waited["status"]) == (200, "COMPLETED")
    assert waited["output"] == {"echo": {"text": "ä"}}
    assert waited["executionTime"] >= 0
    status, told = curl(f"{url}/status/{run['id']}", *auth)
    assert (status, told["output"]) == (200, waited["output"])
    assert curl(f"{url}/status/unknown", *auth)[0] == 404
    assert curl(f"{url}/health")[0] == 401
    status, refused = curl("--request", "POST", f"{url}/run", *auth, "--data", "{")
    assert (status, refused["code"]) == (400, "invalid_request")
    assert curl("--request", "POST", f"{url}/retry/{run['id']}", *auth)[0] == 400
    status, purged = curl("--request", "POST", f"{url}/purge-queue", *auth)
    assert (status, purged) == (200, {"removed": 0, "status": "completed"})


def test_an_input_as_large_as_runpods_passes_unread(gateway: GatewayProcess) -> None:
    text = "x" * LARGE_BYTES
    headers = {"Authorization": f"Bearer {KEY}"}
    url = f"{gateway.url}/v2/own/runsync"
    answer = httpx.post(url, json={"input": {"text": text}}, headers=headers, timeout=60)
    assert answer.json()["output"] == {"echo": {"text": text}}
