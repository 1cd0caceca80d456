"""What tests of a gateway with the stand-in for RunPod's cloud have in common."""

import hashlib
import time
from collections.abc import Callable
from typing import Any

import httpx

from gateway.clock import SystemClock
from tests.fakes.runpod_cloud import RunPodCloud
from tests.gateways import TestGateway

LIMIT_S = 40.0


class ShiftedClock(SystemClock):
    """The machine's, set forward by so many milliseconds."""

    def __init__(self) -> None:
        self.ahead = 0

    def now(self) -> int:
        return super().now() + self.ahead


def cloud_settings(cloud: RunPodCloud, **more: Any) -> dict[str, Any]:
    given = {name.lower(): value for name, value in cloud.env().items()}
    return {"gateway_route": "runpod", **given, **more}


def seen(
    gateway: TestGateway, job_id: str, what: Callable[[dict[str, Any]], object]
) -> dict[str, Any]:
    """The job's status, once it is so."""
    deadline = time.monotonic() + LIMIT_S
    while not what(status := gateway.status(job_id)):
        assert time.monotonic() < deadline, status
        time.sleep(0.02)
    return status


def succeeded(gateway: TestGateway, job_id: str) -> dict[str, Any]:
    """The status of a job that has ended with one whole picture."""
    status = gateway.ended(job_id)
    assert status["status"] == "succeeded", status
    answer = gateway.client.get(status["result_url"], follow_redirects=False)
    if answer.status_code == 307:
        answer = httpx.get(answer.headers["location"], trust_env=False)
    assert answer.status_code == 200
    assert hashlib.sha256(answer.content).hexdigest() == status["sha256"]
    assert len(status["results"]) == 1
    return status
