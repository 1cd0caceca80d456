"""The real gateway as a process that can be killed, and workers that speak its protocol as the
SDK does: a result is sent until it is taken."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import httpx

from tests.gateways import WORKER_KEY, picture, success, worker_auth
from tests.integration.worker_process import PROJECT_DIR, free_port, wait_until


class GatewayProcess:
    """`python -m gateway serve` on loopback; `settings` are its variables."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.data_dir = folder / "data"
        self.log_path = folder / "gateway.log"
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("GATEWAY_", "RUNPOD_", "BUCKET_"))
        }
        self._env = clean | {
            "PYTHONPATH": str(PROJECT_DIR), "GATEWAY_LISTEN": f"127.0.0.1:{self.port}",
            "GATEWAY_DATA_DIR": str(self.data_dir), "GATEWAY_WORKER_KEY": WORKER_KEY,
            "GATEWAY_RATE_LIMIT": "100000/minute", **settings,
        }  # fmt: skip
        self.client = httpx.Client(base_url=self.url, timeout=20, trust_env=False)
        self.child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log_path.open("ab") as log:
            self.child = subprocess.Popen(
                [sys.executable, "-m", "gateway", "serve"], cwd=PROJECT_DIR, env=self._env,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        wait_until(self._answers, "the gateway's /health", 30, self.tail)

    def kill(self) -> None:
        assert self.child is not None
        self.child.kill()
        self.child.wait()

    def stop(self) -> int:
        """By SIGTERM; its exit code."""
        assert self.child is not None
        self.child.send_signal(signal.SIGTERM)
        return self.child.wait(30)

    def create(self, **more: Any) -> str:
        body = {"input": {"n": 1}} | more
        answer = self.client.post("/v2/own/run", json=body)
        answer.raise_for_status()
        return str(answer.json()["id"])

    def status(self, job_id: str) -> dict[str, Any]:
        answer = self.client.get(f"/api/queue/status/{job_id}")
        answer.raise_for_status()
        return dict(answer.json())

    def wait_for(self, job_id: str, *wanted: str, timeout_s: float = 60) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            found = self.status(job_id)
            return found if found["status"] in wanted else None

        return dict(wait_until(look, f"{job_id} {wanted}", timeout_s, self.tail))

    def tail(self) -> str:
        return "\n".join(self.log_path.read_text().splitlines()[-40:])

    def _answers(self) -> bool:
        assert self.child is not None
        assert self.child.poll() is None, self.tail()
        with contextlib.suppress(httpx.HTTPError):
            return self.client.get("/health").status_code == 200
        return False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.child is not None and self.child.poll() is None:
            self.kill()
        self.client.close()


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
