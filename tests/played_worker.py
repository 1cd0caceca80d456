"""A worker that speaks the gateway's worker protocol as the SDK does: a result is sent until it is
taken."""

import threading
import time
from collections.abc import Callable
from typing import Any, Self

import httpx

from tests.gateways import picture, success, worker_auth


class PlayedWorker:
    """Takes jobs and answers each with a picture of its own, until it is told to end."""

    def __init__(self, url: str, name: str, work_s: float = 0.05) -> None:
        self.name = name
        self._url = url
        self._work_s = work_s
        self._ended = threading.Event()
        self.runs: list[str] = []
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Its poll may be held for a while yet, and is of no more use."""
        self._ended.set()

    def _run(self) -> None:
        with httpx.Client(
            base_url=self._url, headers=worker_auth(), timeout=20, trust_env=False
        ) as client:
            while not self._ended.is_set():
                job = self._try(lambda: self._take(client))
                if job:
                    self._ended.wait(self._work_s)
                    self.runs.append(job["id"])
                    body = success(picture(seed=len(self.runs)))
                    route = f"/v2/own/job-done/{self.name}/{job['id']}?gpu=x&isStream=false"
                    while not self._ended.is_set():
                        sent = self._try(lambda: client.post(route, json=body))  # noqa: B023
                        if sent is not None and sent.status_code < 500:
                            break

    def _take(self, client: httpx.Client) -> Any:
        answer = client.get(f"/v2/own/job-take/{self.name}?gpu=x&job_in_progress=0")
        return answer.json() if answer.status_code == 200 else None

    def _try(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except httpx.HTTPError:
            time.sleep(0.05)
            return None
