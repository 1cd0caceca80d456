"""A worker as RunPod's SDK plays it, in a process of its own, with faults that a seed draws:
`gpu.py NAME SEED KEY URL...`. What it makes of a job is `paint`'s."""

import contextlib
import json
import random
import sys
import threading
import time
from typing import Any

import httpx

from tests.fakes.runpod_work import paint

# The SDK's; a result that is not taken by then is lost.
_ATTEMPTS = 3
_PING_S = 0.5
_SILENT_S = 5.0
_TROUBLES = (
    "raises", "worthless", "broken off", "silent", "forgets", "is sent twice", "comes again",
)  # fmt: skip
_TROUBLE_RATE = 0.25


class Gpu:
    def __init__(self, name: str, seed: str, key: str, urls: list[str]) -> None:
        self._name, self._draw, self._urls = name, random.Random(f"{seed}{name}"), urls
        self._http = httpx.Client(timeout=20, headers={"Authorization": key}, trust_env=False)
        self._job = ""
        self._stopped: set[str] = set()
        self._earlier: list[tuple[str, str]] = []

    def run(self) -> None:
        for loop in (self._ping, self._hear_stops):
            threading.Thread(target=loop, daemon=True).start()
        while True:
            answer = self._call("GET", f"job-take/{self._name}?gpu=x&job_in_progress=0")
            if answer is None or answer.status_code != 200:
                time.sleep(0.05)
                continue
            with contextlib.suppress(ValueError, KeyError):
                self._work(answer.json())

    def _work(self, job: dict[str, Any]) -> None:
        draw = self._draw
        trouble = draw.choice(_TROUBLES) if draw.random() < _TROUBLE_RATE else ""
        if trouble != "silent":
            self._job = job["id"]
        if draw.random() < 0.3:
            update = {"status": "IN_PROGRESS", "output": {"phase": "sampling", "percent": 40}}
            self._post(job["id"], json.dumps(update), 1)
        time.sleep(_SILENT_S if trouble == "silent" else draw.uniform(0, 0.2))
        if job["id"] not in self._stopped and trouble != "forgets":
            self._answer(job, trouble)
        self._job = ""

    def _answer(self, job: dict[str, Any], trouble: str) -> None:
        whole = json.dumps(paint(job))
        body = {
            "raises": json.dumps({"error": "RuntimeError: broken on purpose"}),
            "worthless": json.dumps({"output": {"ok": True, "images": []}}),
            "broken off": whole[: len(whole) // 2],
        }.get(trouble, whole)
        for _ in range(2 if trouble == "is sent twice" else 1):
            self._post(job["id"], body, _ATTEMPTS)
        if trouble == "comes again" and self._earlier:
            self._post(*self._draw.choice(self._earlier), 1)
        self._earlier.append((job["id"], whole))

    def _post(self, job_id: str, body: str, attempts: int) -> None:
        for _ in range(attempts):
            route = f"job-done/{self._name}/{job_id}?gpu=x&isStream=false"
            answer = self._call("POST", route, content=body)
            if answer is not None and answer.status_code < 400:
                return
            time.sleep(0.2)

    def _ping(self) -> None:
        while True:
            self._call("GET", f"ping/{self._name}?job_id={self._job}&runpod_version=1.12.0")
            time.sleep(_PING_S)

    def _hear_stops(self) -> None:
        while True:
            answer = self._call("GET", f"job-stop/{self._name}?gpu=x")
            if answer is not None and answer.status_code == 200:
                self._stopped.update(answer.json()["jobsToStop"])
            else:
                time.sleep(0.05)

    def _call(self, method: str, route: str, **more: Any) -> httpx.Response | None:
        """Of any of the gateways, as through a load balancer."""
        url = self._urls[0] if len(self._urls) == 1 else random.choice(self._urls)
        try:
            return self._http.request(method, f"{url}/v2/own/{route}", **more)
        except httpx.HTTPError:
            return None


if __name__ == "__main__":
    Gpu(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]).run()
